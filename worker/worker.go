// Package worker is one member of the cluster: it turns the decisions of worker/herder into deeds, and what
// happens (records read, members come and gone, runs ended, time) into the herder's
// events.
//
// One goroutine, loop, owns the machine. Everything else reaches it through
// events or through ask. Nothing here decides what runs where.
//
// Easy to get wrong: the lease counts from the moment the end of the config topic
// was asked for, on the monotonic clock; times passed around must keep their
// monotonic reading.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/audit"
	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
	"barnabas/worker/gossip"
	"barnabas/worker/herder"
	"barnabas/worker/registry"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// Options is what a worker needs. All fields are needed unless they say otherwise.
type Options struct {
	// File is the worker file, checked and resolved.
	File config.Worker
	// Resolver resolves the references of connector configurations.
	Resolver *configprovider.Resolver
	// Secrets is the secret registry, whose provider the Resolver may have; nil: there is none.
	Secrets *registry.Registry
	// URL is the advertised REST address, empty if there is no REST API. ID tells the workers of the cluster apart:
	// the address's host and port, as in Kafka Connect, where there is one.
	URL             string
	ID              string
	Version, Commit string
	Log             *slog.Logger
	Metrics         prometheus.Registerer
	// Publish sends task configurations to the worker at url. nil, or no URL of that worker: they go
	// through the status topic.
	Publish func(ctx context.Context, url, connector string, generation int64, tasks []map[string]string) error
	// Event takes what this worker does by itself, for the audit trail. It must not block. nil: nobody wants to know.
	Event func(audit.Entry)
	// SetLevel sets the level of a logger, and of those below it, for all workers did so (KIP-976); nil: nobody follows.
	SetLevel func(logger, level string)
	// Dialer opens all TCP connections to Kafka; nil: the network's. The demo pulls
	// the plug of a worker with it.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// Crash, when it is closed, ends the worker without a good-bye to anybody, as kill -9 would. nil: never.
	Crash <-chan struct{}
}

// Worker is one member of the cluster.
type Worker struct {
	o      Options
	log    *slog.Logger
	self   herder.Instance
	base   time.Time // zero of the machine's clock
	policy clientconfig.Policy

	// Owned by loop.
	machine    *herder.Machine
	answers    map[int64]func(herder.Reply)
	nextOrder  int64
	keyOrdered bool // a session key is being written
	swept      sweep
	rebalances rebalances
	left       bool // the orderly end is complete
	fatal      string
	ledEpoch   int64 // the epoch in which it leads; 0: it does not

	events  chan herder.Event
	asks    chan func(*herder.Machine)
	looping atomic.Bool   // loop has begun
	over    chan struct{} // closed when the loop has ended, or will never begin
	close   func()        // closes over; may be called again

	lease     task.Lease
	runner    *task.Runner
	own       *task.OwnClients
	gossip    *gossip.Cluster
	topics    *topics
	plans     plans
	restarts  *restarts
	writer    *statusWriter
	leader    *leaderWriter
	clusterID atomic.Pointer[string]
	waiting   atomic.Pointer[string] // what a starting worker waits for
	key       atomic.Pointer[store.SessionKeyRecord]
	caughtUp  atomic.Bool // the config topic has been read to its end once
	fencing   fencing
	describer func() ([]kgo.Opt, error) // of the client that describes internal topics

	connections connections
	apps        apps
	roles       roles
	divided     time.Time // when quotas were divided; owned by loop
}

// New checks the options. It opens nothing.
func New(o Options) (*Worker, error) {
	policy, err := clientconfig.ParsePolicy(o.File.OverridePolicy, o.File.OverrideAllowlist)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		o: o, log: o.Log, policy: policy, base: time.Now(),
		// The start time: a later process of the same name must have a larger incarnation.
		self:    herder.Instance{Worker: o.ID, Incarnation: strconv.FormatInt(time.Now().UnixMicro(), 10)},
		answers: map[int64]func(herder.Reply){},
		// Enough that a burst of records does not stop their readers; they wait when it is full.
		events: make(chan herder.Event, 1024),
		asks:   make(chan func(*herder.Machine)),
		over:   make(chan struct{}),

		restarts: newRestarts(),
	}
	none := ""
	w.close = sync.OnceFunc(func() { close(w.over) })
	w.clusterID.Store(&none)
	w.wait("to start")
	if w.gossip, err = gossip.New(w.gossipOptions()); err != nil {
		return nil, err
	}
	w.writer = newStatusWriter(w)
	timing := herder.DefaultTiming()
	timing.Lease = w.o.File.Lease
	timing.Grace = w.o.File.TaskStopTimeout
	timing.Delay = w.o.File.RebalanceDelay
	w.lease.Length = w.o.File.Lease
	w.machine = herder.New(herder.Config{
		Timing: timing, Fences: fences, Extends: extends, LeaseForAll: w.o.File.LeaseForAll,
		Versions: w.o.File.HistoryVersions, Conceal: conceal, Uses: usesDocuments,
		Self: herder.Join{
			Instance: w.self, URL: w.o.URL, Version: w.o.Version, Labels: w.o.File.Labels, At: time.Now().UnixMilli(),
		},
	})
	w.own = task.NewOwnClients(w.o.Resolver.Resolve, w.o.Dialer, w.log)
	w.describer = sync.OnceValues(func() ([]kgo.Opt, error) { return w.workerClient("setup") })
	w.runner = task.NewRunner(task.Options{
		Worker: w.o.File.Settings, Plugin: pluginFor, Offsets: w.offsets, Publish: w.publish, Rates: w.rates, Policy: w.policy,
		Resolve: w.o.Resolver.Resolve, Connections: task.Connections{Expand: w.expand, Revision: w.connections.newest, Limits: w.connections.limits},
		Gate: connector.NewGate(gateBytes), Lease: &w.lease, Log: w.log, Metrics: w.o.Metrics, Dialer: w.o.Dialer,
		Internal: w.internal, Group: w.o.File.GroupID, ExactlyOnce: w.o.File.ExactlyOnceSource == exactlyOnceEnabled,
		GapPolicy: w.o.File.GapPolicy, LeaseForAll: w.o.File.LeaseForAll, LeaveTopics: !w.o.File.TopicCreation,
		Hooks: task.Hooks{Waiting: w.waitingFor, Running: w.running, Fenced: w.fenced, Wrote: w.wrote, Rotated: w.rotated, Restart: w.reload, Ended: w.ended},
	})
	return w, nil
}

func (w *Worker) wait(reason string) { w.waiting.Store(&reason) }

func (w *Worker) now() time.Duration { return time.Since(w.base) }

// at turns a time of the machine into one with a monotonic reading.
func (w *Worker) at(d time.Duration) time.Time { return w.base.Add(d) }

// leaveTimeout bounds an orderly end beyond the time that tasks have to stop.
const leaveTimeout = 10 * time.Second

// Run joins the cluster and works until ctx ends. Then it stops its tasks, hands them over, says good-bye and
// returns nil. It returns an error if the worker cannot work or must not.
func (w *Worker) Run(ctx context.Context) error {
	defer w.close() // where the loop never began
	if err := w.o.Metrics.Register(collector{w}); err != nil {
		return fmt.Errorf("register the worker's metrics: %w", err)
	}
	if err := w.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// The parts outlive ctx: an orderly end needs them.
	parts, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	g, parts := errgroup.WithContext(parts)
	g.Go(func() error { return w.topics.run(parts) })
	g.Go(func() error { return w.writer.run(parts) })
	g.Go(func() error { return w.leader.run(parts) })
	g.Go(func() error { return w.gossip.Run(parts) })
	g.Go(func() error { return w.runner.Rotate(parts) })
	g.Go(func() error { return w.own.Run(parts) })
	g.Go(func() error {
		return w.o.Resolver.Run(parts, w.log, func(provider, path string) {
			w.runner.Reread(provider, path)
			w.own.Look()
		})
	})
	if w.o.Secrets.Opened() {
		g.Go(func() error { return w.o.Secrets.Run(parts) })
	}
	g.Go(func() error { return w.listen(parts) })
	g.Go(func() error {
		w.awaitGossip(parts)
		err := w.loop(ctx, parts)
		w.close() // nobody waits for the loop any more, or the parts could not end
		if errors.Is(err, errCrash) {
			stop(errOver) // nobody hears of it from us
			w.stopAll()
			err = nil
		}
		w.runner.Wait()
		stop(errOver)
		return err
	})
	if err := g.Wait(); err != nil && !errors.Is(context.Cause(parts), errOver) {
		return err
	}
	return nil
}

var (
	// errOver ends the parts of a worker whose loop has ended well.
	errOver = errors.New("the worker has ended")
	// errCrash ends the loop as Options.Crash asks.
	errCrash = errors.New("crash")
)

// prepare waits for the worker cluster's Kafka and checks the internal topics.
func (w *Worker) prepare(ctx context.Context) error {
	w.wait("for the Kafka cluster at " + strings.Join(w.o.File.BootstrapServers, ","))
	t, err := newTopics(ctx, w)
	if err != nil {
		return err
	}
	w.topics = t
	if err := w.connectSecrets(ctx); err != nil {
		return err
	}
	w.wait("to have read the internal topics to their end")
	return nil
}

// internal names what connectors must leave alone.
func (w *Worker) internal() connector.Internal {
	f := w.o.File
	topics := []string{f.ConfigTopic.Name, f.OffsetTopic.Name, f.StatusTopic.Name}
	if w.o.Secrets.Opened() {
		topics = append(topics, w.o.Secrets.Topic())
	}
	return connector.Internal{ClusterID: *w.clusterID.Load(), Topics: topics}
}

// gateBytes bounds what all tasks of a worker hold between fetch and
// acknowledgement, whatever the number of partitions.
const gateBytes = 64 << 20

// tick is how often the machine is told that time has passed: fine enough for
// its shortest wait.
const tick = 50 * time.Millisecond

// loop owns the machine. ctx ending starts the orderly end.
func (w *Worker) loop(ctx, parts context.Context) error {
	w.looping.Store(true)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	asked := ctx.Done()
	var giveUp <-chan time.Time
	for {
		select {
		case e := <-w.events:
			if p, ok := e.(passed); ok {
				close(p.done)
				continue
			}
			w.step(e)
		case f := <-w.asks:
			f(w.machine)
		case <-ticker.C:
			w.step(herder.Tick{})
			w.keepSessionKey()
			w.recordFencing()
			w.adoptPlans()
			w.forgetStatuses()
			w.bookFailures()
			w.divideQuotas()
			w.restartDue()
		case <-w.gossip.Changed():
			w.step(w.heard())
		case <-asked:
			asked = nil
			w.log.Info("leaving the cluster")
			giveUp = time.After(w.o.File.TaskStopTimeout + leaveTimeout)
			w.step(herder.Leave{})
		case <-giveUp:
			w.log.Warn("could not say good-bye to the cluster; the others take over when this worker's lease has run out")
			w.stopAll()
			return nil
		case <-w.o.Crash:
			return errCrash
		case <-parts.Done():
			w.stopAll()
			return nil // the part that failed says why
		}
		switch {
		case w.fatal != "":
			w.stopAll()
			return errors.New(w.fatal)
		case w.left:
			w.log.Info("left the cluster")
			return nil
		}
	}
}

// stopAll ends all runs at once: this worker has no right to them any more.
func (w *Worker) stopAll() { w.runner.StopAll("the worker ends") }

// step feeds the machine and does what it says.
func (w *Worker) step(e herder.Event) {
	w.machine.Step(w.now(), e)
	out := w.machine.Ready()
	w.lease.Renew(w.at(out.Lease))
	// Not ready well before the lease is over, so that the others can begin to take
	// over: they have to wait for a whole lease from then on.
	w.gossip.SetReady(w.now() < out.Lease-w.o.File.Lease/2)
	w.left, w.fatal = out.Left, out.Fatal
	w.leadership()
	_, version := w.machine.Epoch()
	_, _, waiting := w.machine.Running()
	w.rebalances.observe(version, waiting, w.at(w.now()))
	if out.Resign {
		w.leader.resign()
	}
	if out.Stand {
		w.log.Info("standing for leader")
		w.leader.stand()
	}
	if out.Write != nil {
		w.leader.write(out.Write)
	}
	for _, r := range out.Announce {
		w.writer.announce(r)
	}
	for _, s := range out.Stop {
		w.runner.Stop(int64(s.Run), w.at(s.Deadline), s.Reason)
	}
	for _, s := range out.Start {
		if record, changed := w.restarts.starting(s.Unit); changed {
			w.writeRestarts(record)
		}
		w.runner.Start(task.Run{
			ID: int64(s.Run), Connector: s.Unit.Connector, Task: s.Unit.Task, Generation: s.Gen, Config: s.Config, Tasks: s.Tasks,
			Early: s.Early,
		})
	}
	for _, u := range out.Update {
		w.runner.Update(int64(u.Run), u.Config)
	}
	for _, id := range out.Clear {
		w.runner.Clear(int64(id))
	}
	for _, i := range out.Idle {
		w.idle(i)
	}
	for _, r := range out.Replies {
		if answer := w.answers[r.ID]; answer != nil {
			delete(w.answers, r.ID)
			answer(r)
		}
	}
}

// tell brings an event to the loop, unless the worker is over.
func (w *Worker) tell(e herder.Event) {
	select {
	case w.events <- e:
	case <-w.over:
	}
}

// ask runs f in the loop, where it may read the machine.
func (w *Worker) ask(ctx context.Context, f func(*herder.Machine)) error {
	done := make(chan struct{})
	select {
	case w.asks <- func(m *herder.Machine) { f(m); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return &Error{ErrUnavailable, "This worker is not ready: it waits " + *w.waiting.Load() + "."}
	case <-w.over:
		return &Error{ErrUnavailable, "This worker has ended."}
	}
}

// read runs f in the loop once the internal topics have been read.
func (w *Worker) read(ctx context.Context, f func(*herder.Machine) error) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	var err error
	if askErr := w.ask(ctx, func(m *herder.Machine) {
		if !m.Loaded() {
			err = &Error{ErrUnavailable, "This worker is not ready: it waits " + *w.waiting.Load() + "."}
			return
		}
		err = f(m)
	}); askErr != nil {
		return askErr
	}
	return err
}
