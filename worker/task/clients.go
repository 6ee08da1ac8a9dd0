package task

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
)

// clients makes and closes the Kafka clients of one run.
type clients struct {
	runner *Runner
	run    *running
	log    *slog.Logger

	mu   sync.Mutex
	told map[connector.Role]bool
}

func (c *clients) api() connector.Clients {
	return connector.Clients{Open: c.open, Principal: c.principal}
}

// replicationConsumer is how MirrorMaker 2 ends the client.id of the consumer that reads what is copied
// (MirrorSourceTaskConfig). Dashboards find its lag by it.
const replicationConsumer = "replication-consumer"

// build makes what a client for role needs, out of settings of the run and the worker.
func (r *running) build(role connector.Role, from layers) (_ *clientconfig.Client, clientID string, _ error) {
	settings := clientconfig.Layers(role, from.worker, from.run)
	if _, ok := settings["client.id"]; !ok {
		kind := string(clientconfig.RoleKind(role))
		if kind == string(clientconfig.Admin) {
			kind = "adminclient"
		}
		id := fmt.Sprintf("connector-%s-%s-%d", kind, r.Connector, max(r.Task, 0))
		switch role {
		case connector.RecordProducer, connector.RecordConsumer, connector.RecordAdmin: // as in Kafka Connect
		case connector.SourceConsumer:
			id += "|" + replicationConsumer
		default:
			id += "|" + string(role)
		}
		settings = settings.Merge(config.Literal(map[string]string{"client.id": id}))
	}
	built, err := clientconfig.Build(settings, clientconfig.RoleKind(role))
	return built, settings["client.id"].Written, err
}

func (c *clients) open(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
	s := c.run.secrets
	s.mu.Lock() // until the client is known: a change of its credentials would miss it
	defer s.mu.Unlock()
	built, clientID, err := c.run.build(role, s.now)
	if err != nil {
		return nil, fmt.Errorf("settings of the %s client: %w", role, err)
	}
	if role == connector.SourceConsumer || role == connector.RecordConsumer {
		c.run.tally.consumes(clientID)
	}
	c.tell(role, built.Report.For(role))
	dial := built.Dial
	if c.runner.o.Dialer != nil {
		dial = built.DialWith(c.runner.o.Dialer)
	}
	counted := c.run.counts(clientconfig.RoleKind(role), clientID)
	opened := &openClient{role: role, id: clientID, base: built, now: built, conns: new(connections)}
	opts := append(built.Opts, kgo.WithHooks(counted, closedHook{s, opened}), kgo.Dialer(opened.conns.dialer(c.run.guard.dialer(dial))), kgo.WithLogger(KafkaLog(c.log.With("client", string(role)))))
	if role == connector.RecordConsumer {
		member, err := clientconfig.GroupOptions(s.now.worker, s.now.run, c.run.Connector)
		if err != nil {
			return nil, fmt.Errorf("settings of the %s client: %w", role, err)
		}
		opts = append(opts, member...)
	}
	if opened.client, err = kgo.NewClient(append(opts, extra...)...); err != nil {
		return nil, fmt.Errorf("make the %s client: %w", role, err)
	}
	s.clients = append(s.clients, opened)
	return opened.client, nil
}

// closedHook forgets a client that the plugin has closed.
type closedHook struct {
	of     *secrets
	client *openClient
}

// OnClientClosed implements kgo.HookClientClosed.
func (h closedHook) OnClientClosed(*kgo.Client) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.clients = slices.DeleteFunc(h.of.clients, func(c *openClient) bool { return c == h.client })
}

// tell logs once what of a client's settings was not taken as written.
func (c *clients) tell(role connector.Role, r clientconfig.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[role] {
		return
	}
	if c.told == nil {
		c.told = map[connector.Role]bool{}
	}
	c.told[role] = true
	for _, u := range r.Unknown {
		c.log.Warn("unknown client setting", "client", string(role), "key", u.Key, "nearest", u.Nearest)
	}
	for _, a := range r.Adapted {
		c.log.Info("client setting adapted", "client", string(role), "key", a.Key, "reason", a.Message)
	}
	for _, m := range r.Meaningless {
		c.log.Info("client setting without meaning here", "client", string(role), "key", m.Key, "reason", m.Message)
	}
}

func (c *clients) principal(role connector.Role) string {
	built, _, err := c.run.build(role, c.run.secrets.snapshot())
	if err != nil {
		return "an unknown principal"
	}
	return identity(built.Report)
}

// close closes every client of the run. Its connections have been cut if its time
// was over, so this cannot hang on a broker.
func (c *clients) close() {
	s := c.run.secrets
	s.mu.Lock()
	opened := slices.Clone(s.clients)
	s.mu.Unlock()
	for _, o := range opened {
		o.client.Close()
	}
}
