package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"barnabas/access"
	"barnabas/audit"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/rest"
	"barnabas/worker"
	"barnabas/worker/registry"
)

func (c *cli) workerCommand() *cobra.Command {
	var level, format string
	cmd := &cobra.Command{
		Use: "worker [FILE]", Short: "Run one worker of a cluster", Args: cobra.MaximumNArgs(1),
		Long: `Run one worker of a cluster. FILE is a connect-distributed.properties of Kafka
Connect, taken as it is. Variables of the environment that begin with CONNECT_
override it, as the usual Connect images have them (CONNECT_GROUP_ID is
group.id; one underscore is a dot, two are a dash, three an underscore), and
can stand for it.

SIGTERM and SIGINT end it in good order: tasks are stopped, their offsets saved,
and handed over to the other workers. A second signal ends it at once.`,
		Example: "  barnabas worker connect-distributed.properties\n  CONNECT_BOOTSTRAP_SERVERS=kafka:9092 CONNECT_GROUP_ID=mirror … barnabas worker",
		RunE: func(cmd *cobra.Command, args []string) error {
			levels, err := newLogLevels(level)
			if err != nil {
				return err
			}
			log, err := newLogger(c.stderr, format, levels)
			if err != nil {
				return err
			}
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			secrets := registry.New()
			settings, resolver, err := c.workerSettings(cmd.Context(), file, secrets)
			if err != nil {
				return err
			}
			n, err := newNode(nodeOptions{Settings: settings, Resolver: resolver, Secrets: secrets, Source: file, Log: log, Levels: levels, Environ: c.environ})
			if err != nil {
				return err
			}
			defer n.close()
			return n.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&level, "log-level", "INFO", "ERROR, WARN, INFO, DEBUG or TRACE; changed later with \"barnabas loggers set\"")
	cmd.Flags().StringVar(&format, "log-format", "auto", "text, json, or auto: text on a terminal")
	return cmd
}

// workerSettings reads the settings of a worker: those of file, if there is one, and over
// them the environment's. References are resolved. secrets becomes the secret registry if the worker has one.
func (c *cli) workerSettings(ctx context.Context, file string, secrets *registry.Registry) (config.Settings, *configprovider.Resolver, error) {
	fromEnvironment := config.FromEnvironment(c.environ)
	written := map[string]string{}
	if file != "" {
		var err error
		if written, err = config.ReadFile(file); err != nil {
			return nil, nil, err
		}
	} else if len(fromEnvironment) == 0 {
		return nil, nil, usagef("name a worker file, or set CONNECT_BOOTSTRAP_SERVERS, CONNECT_GROUP_ID and so on")
	}
	maps.Copy(written, fromEnvironment)
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	resolver, err := configprovider.New(ctx, written, append(providerKinds(c.environ), secrets.Kind()))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", cmp.Or(file, "environment"), err)
	}
	settings, _, err := resolver.Resolve(ctx, written)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", cmp.Or(file, "environment"), err)
	}
	return settings, resolver, nil
}

// resolveTimeout bounds how long the secrets of the worker's own file may take.
const resolveTimeout = 30 * time.Second

// nodeOptions is what a node is made of.
type nodeOptions struct {
	Settings config.Settings // of the worker, resolved
	Resolver *configprovider.Resolver
	Secrets  *registry.Registry // may be nil
	Source   string             // the file that they come from, for errors; empty: the environment
	Log      *slog.Logger
	Levels   *logLevels
	// Environ is where the JAAS file may be named that a JVM would read.
	Environ []string
	// Dialer opens connections to Kafka; nil: the network's.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// Crash, when it is closed, ends the worker as kill -9 would; nil: never.
	Crash <-chan struct{}
	// Wrap, unless nil, is put around each listener.
	Wrap func(net.Listener) net.Listener
}

// node is a worker with its REST API.
type node struct {
	o         nodeOptions
	file      config.Worker
	listeners []net.Listener
	admin     []net.Listener
	secure    *listenerTLS
	metrics   *prometheus.Registry
	logins    logins
	worker    *worker.Worker
	server    *rest.Server
	roles     *access.Directory // nil: there are none
	trail     *audit.Trail      // nil: nothing is audited
	events    *audit.Events     // of the worker itself; nil likewise
	url       string
}

// newNode checks the settings and opens the listeners, so that their ports are
// known.
func newNode(o nodeOptions) (n *node, err error) {
	file, problems, warnings := config.ParseWorker(o.Settings)
	warn(o.Log, warnings) // first: an unknown key explains a missing one
	if len(problems) > 0 {
		return nil, problemsError(cmp.Or(o.Source, "environment"), problems)
	}
	n = &node{o: o, file: file, metrics: prometheus.NewRegistry()}
	if n.logins, err = newLogins(file, o.Environ, o.Log.With(logAttr, "rest"), n.metrics); err != nil {
		return nil, n.wrong(err)
	}
	if dir := file.AccessRolesDir; dir != "" {
		if !n.logins.asked() {
			return nil, n.wrong(errors.New("access.roles.dir is set, and nobody has to say who they are: set rest.authentication"))
		}
		if n.roles, err = access.OpenDirectory(dir, o.Log.With(logAttr, "access")); err != nil {
			return nil, n.wrong(err)
		}
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.listeners, n.secure, err = openListeners("listeners", file.Listeners, file, n.o.Log); err != nil {
		return n, n.wrong(err)
	}
	if n.logins.certificates != nil && (n.secure.server == nil || !n.secure.server.AsksForCertificates()) {
		return n, n.wrong(errNoCertificates)
	}
	if !file.AdminOnListeners {
		n.admin = []net.Listener{} // not nil: nowhere else
		admin, _, err := openListeners("admin.listeners", file.AdminListeners, file, n.o.Log)
		if err != nil {
			return n, n.wrong(err)
		}
		n.admin = append(n.admin, admin...)
	}
	n.url = advertisedURL(file, n.listeners)
	if o.Wrap != nil {
		for i, l := range n.listeners {
			n.listeners[i] = o.Wrap(l)
		}
	}
	n.warnOpen()
	return n, n.assemble()
}

// wrong says where the settings come from that an error is about.
func (n *node) wrong(err error) error {
	return fmt.Errorf("%s: %w", cmp.Or(n.o.Source, "environment"), err)
}

// assemble makes the worker and its REST server.
func (n *node) assemble() error {
	peer := n.secure.peer(n.file)
	metrics := n.metrics
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var w *worker.Worker
	w, err := worker.New(worker.Options{
		File: n.file, Resolver: n.o.Resolver, Secrets: n.o.Secrets, URL: n.url, ID: strings.SplitN(n.url, "://", 2)[1], Version: version, Commit: commit,
		Log: n.o.Log.With(logAttr, "worker"), Metrics: metrics, Dialer: n.o.Dialer, Crash: n.o.Crash,
		Publish:  rest.Publisher(peer, func() ([]byte, string, bool) { return w.SessionKey() }),
		Event:    n.tell(),
		SetLevel: func(logger, level string) { n.o.Levels.api().SetLevel(logger, level) },
	})
	if err != nil {
		return err
	}
	n.worker = w
	if n.file.Audited {
		if n.trail, err = n.openTrail(); err != nil {
			return err
		}
		n.events = audit.NewEvents(n.trail, n.o.Log.With(logAttr, "audit"))
	}
	metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "barnabas_audit_events_lost_total", Help: "Events of this worker that could not be written to the audit trail soon enough.",
	}, func() float64 { return float64(n.events.Lost()) }))
	if n.roles != nil && n.trail != nil {
		n.roles.Changed = n.auditRoles
	}
	var roles func() access.Roles
	var broken func() error
	if n.roles != nil {
		roles, broken = n.roles.Roles, n.roles.Err
		metrics.MustRegister(n.roles)
	}
	n.server, err = rest.New(rest.Options{
		Roles: roles, RolesBroken: broken, Group: n.file.GroupID, Trail: n.trail, AuditRequired: n.file.AuditRequired,
		Worker: w, Listeners: n.listeners, AdminListeners: n.admin, Log: n.o.Log.With(logAttr, "rest"), Metrics: metrics, Gatherer: metrics,
		PeerTLS: peer, Loggers: n.o.Levels.api(), AllowOrigin: n.file.AllowOrigin, AllowMethods: n.file.AllowMethods,
		ResponseHeaders: n.file.ResponseHeaders, Passwords: n.logins.passwords, Tokens: n.logins.tokens, Certificates: n.logins.certificates, MaxRequestBytes: n.file.MaxRequestBytes,
		Signatures: n.file.SignaturesAccepted, MaxConnections: n.file.MaxConnections, MaxConnectionsOfAddress: n.file.MaxConnectionsOfAddress,
	})
	return err
}

func (n *node) openTrail() (*audit.Trail, error) {
	client, err := n.worker.KafkaClient("audit")
	if err != nil {
		return nil, err
	}
	return audit.Open(audit.Options{
		Client: client, Topic: n.file.AuditTopic, Cluster: n.file.GroupID, Worker: n.worker.ID(), Replication: int16(n.file.ConfigTopic.ReplicationFactor),
		Key: n.file.AuditKey, Log: n.o.Log.With(logAttr, "audit"),
	})
}

// auditRoles writes to the audit trail how the roles have changed: who changed the files, the file system knows.
func (n *node) auditRoles(ctx context.Context, changes []access.Change) {
	for _, c := range changes {
		e := audit.Entry{
			How: "file", Action: "admin:ManageRoles", Resource: access.Resource("connect:cluster", n.file.GroupID), Outcome: audit.Done, Reason: c.String() + ", in " + c.Role.Source,
		}
		if err := n.trail.Write(ctx, e); err != nil {
			n.o.Log.Error("audit trail: an entry is missing", logAttr, "audit", "change", c.String(), "err", err)
		}
	}
}

// close closes the listeners of a node that does not run.
func (n *node) close() {
	for _, l := range append(slices.Clone(n.listeners), n.admin...) {
		l.Close()
	}
}

// stopSlack is what an orderly end may take beyond the time that tasks have to
// stop: saying good-bye, and finishing requests.
const stopSlack = 20 * time.Second

// run works until ctx ends, then ends in good order, within a bound.
func (n *node) run(ctx context.Context) error {
	n.o.Log.Info("starting", "version", version, "commit", commit, "go", runtime.Version(), "worker", n.worker.ID(), "group", n.file.GroupID, "url", n.url)
	return orderly(ctx, n.o.Log, n.file.TaskStopTimeout+stopSlack, func(ctx context.Context) error {
		if n.trail == nil {
			return n.serve(ctx)
		}
		// The trail outlives what is told to it, and the end of the worker is told too.
		trail, endTrail := context.WithCancel(context.WithoutCancel(ctx))
		defer endTrail()
		events, endEvents := context.WithCancel(trail)
		defer endEvents()
		var telling, following errgroup.Group
		following.Go(func() error { return n.trail.Run(trail) })
		telling.Go(func() error { return n.events.Run(events) })
		err := n.serve(ctx)
		endEvents()
		err = errors.Join(err, telling.Wait())
		endTrail()
		return errors.Join(err, following.Wait())
	})
}

// serve runs the worker, its REST API and its roles, until ctx ends or the worker has.
func (n *node) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Go(func() error {
		defer cancel() // a worker that has ended serves nothing
		return n.worker.Run(ctx)
	})
	g.Go(func() error { return n.server.Run(ctx) })
	if n.roles != nil {
		g.Go(func() error { return n.roles.Run(ctx) })
	}
	return g.Wait()
}

// tell is what takes the worker's events; nil where nothing is audited.
func (n *node) tell() func(audit.Entry) {
	if !n.file.Audited {
		return nil
	}
	return func(e audit.Entry) { n.events.Tell(e) } // made after the worker, whose clients it uses
}

// orderly runs until ctx ends, and then gives run as long as bound to end in good order.
func orderly(ctx context.Context, log *slog.Logger, bound time.Duration, run func(context.Context) error) error {
	over := make(chan error, 1)
	go func() { over <- run(ctx) }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping in good order")
	select {
	case err := <-over:
		log.Info("stopped")
		return err
	case <-time.After(bound):
		return fmt.Errorf("the worker did not end within %s; it is left to the others", bound)
	}
}

// warn tells what is odd about a file.
func warn(log *slog.Logger, warnings []config.Warning) {
	for _, w := range warnings {
		if w.Unknown {
			log.Warn("unknown setting", "key", w.Key, "hint", w.Message)
			continue
		}
		log.Info("setting noted", "key", w.Key, "reason", w.Message)
	}
}

// problemsError is one line with everything that is wrong with a file.
func problemsError(source string, problems []config.Problem) error {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.Message
		if !strings.Contains(p.Message, p.Key) {
			texts[i] = p.Key + ": " + p.Message
		}
	}
	if len(texts) == 1 {
		return fmt.Errorf("%s: %s", source, texts[0])
	}
	return fmt.Errorf("%s: %d settings are wrong: %s", source, len(texts), strings.Join(texts, "; "))
}

// advertisedURL is where other workers reach this one.
func advertisedURL(file config.Worker, opened []net.Listener) string {
	a := file.Advertised()
	if a.Port == 0 {
		for i, l := range file.Listeners {
			if l.Scheme == a.Scheme {
				_, port, _ := net.SplitHostPort(opened[i].Addr().String())
				a.Port, _ = strconv.Atoi(port)
				break
			}
		}
	}
	if ip := net.ParseIP(a.Host); a.Host == "" || ip != nil && ip.IsUnspecified() {
		a.Host = ownHost()
	}
	return a.Scheme + "://" + a.Address()
}

// ownHost is how others most likely reach this machine: its name, if that leads to
// more than the machine itself, or else its first address.
func ownHost() string {
	name, _ := os.Hostname()
	if ips, err := net.LookupIP(name); err == nil && slices.ContainsFunc(ips, func(ip net.IP) bool { return !ip.IsLoopback() }) {
		return name
	}
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return "localhost"
}
