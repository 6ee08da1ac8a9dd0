// Package task is the runtime of connectors and tasks on one worker: it resolves a configuration, makes
// clients under the connector's own identity, runs the plugin, and sees to it that
// nothing is sent once the run may not act any more.
//
// It decides nothing about who runs what: the worker says Start and Stop, and is
// told through Hooks what became of it.
//
// Easy to get wrong: a worker that was frozen wakes up in the middle of its tasks, long after its lease. So the
// lease is not only watched by a timer: every connection of a run checks it before
// each write.
package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
)

// Options is what a Runner needs. All fields are needed unless they say otherwise.
type Options struct {
	// Worker holds the worker's own settings: the lowest layer of the clients'.
	Worker config.Settings
	// Plugin finds a plugin by connector.class.
	Plugin func(class string) (connector.Plugin, error)
	// Resolve resolves the references of a configuration.
	Resolve func(ctx context.Context, written map[string]string) (config.Settings, error)
	// Offsets gives a connector's source offsets.
	Offsets func(connector string) connector.Offsets
	// Publish brings task configurations into the config topic. generation names
	// the run of the connector that planned them.
	Publish func(ctx context.Context, name string, generation int64, tasks []map[string]string) error
	Policy  clientconfig.Policy
	Gate    *connector.Gate
	Lease   *Lease
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Dialer opens TCP connections for the tasks; nil: the network's.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// Internal names the topics that no connector may touch.
	Internal func() connector.Internal
	Hooks    Hooks
}

// Hooks tell the worker what happens to a run. They are called from the run's
// goroutine and must not block for long.
type Hooks struct {
	// Running: the plugin has started.
	Running func(Run)
	// Ended: the run is over and sends nothing more. err is why it FAILED, or nil.
	Ended func(r Run, err error)
}

// Run names one run of a unit.
type Run struct {
	ID         int64 // within this process
	Connector  string
	Task       int // -1: the connector itself
	Generation int64
	Config     map[string]string   // as written
	Tasks      []map[string]string // of the connector, as they stand
}

func (r Run) String() string {
	if r.Task < 0 {
		return r.Connector
	}
	return fmt.Sprintf("%s-%d", r.Connector, r.Task)
}

// Runner runs the units that the worker gives it.
type Runner struct {
	o  Options
	wg sync.WaitGroup

	mu   sync.Mutex
	runs map[int64]*running
}

// running is one run at work.
type running struct {
	Run
	guard  *guard
	cancel context.CancelFunc // the orderly end
	// metrics of the run; given back at its end.
	metrics *registrations
	reason  string // why it was stopped

	mu       sync.Mutex
	progress connector.Progress
}

// NewRunner returns a runner; nothing runs before Start.
func NewRunner(o Options) *Runner {
	return &Runner{o: o, runs: map[int64]*running{}}
}

// resolveTimeout bounds the look-up of a run's secrets. A provider that is slow
// delays this run and nothing else.
const resolveTimeout = 30 * time.Second

// afterlife is how long a plugin may take to return once its clients have been
// closed under it. Then it is reported as ended all the same: it can send nothing.
const afterlife = 5 * time.Second

// Start runs r until Stop, or until the lease runs out.
func (t *Runner) Start(r Run) {
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Run: r, guard: newGuard(t.o.Lease), cancel: cancel, metrics: &registrations{to: t.o.Metrics}}
	t.mu.Lock()
	t.runs[r.ID] = run
	t.mu.Unlock()
	t.wg.Go(func() {
		defer cancel()
		t.life(ctx, run)
	})
}

// Stop asks a run to end in good order, and cuts its connections at deadline. It
// may be called again with an earlier deadline.
func (t *Runner) Stop(id int64, deadline time.Time, reason string) {
	t.mu.Lock()
	run := t.runs[id]
	if run != nil && run.reason == "" {
		run.reason = reason
	}
	t.mu.Unlock()
	if run == nil {
		return
	}
	run.guard.end(deadline)
	run.cancel()
}

// StopAll ends all runs at once.
func (t *Runner) StopAll(reason string) {
	t.mu.Lock()
	ids := slices.Collect(maps.Keys(t.runs))
	t.mu.Unlock()
	now := time.Now()
	for _, id := range ids {
		t.Stop(id, now, reason)
	}
}

// Wait waits for the end of all runs.
func (t *Runner) Wait() { t.wg.Wait() }

// Progress returns the newest report of each running task of a connector.
func (t *Runner) Progress(name string) map[int]connector.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[int]connector.Progress{}
	for _, r := range t.runs {
		if r.Connector == name && r.Task >= 0 {
			r.mu.Lock()
			all[r.Task] = r.progress
			r.mu.Unlock()
		}
	}
	return all
}

// Throughput returns the bytes per second that each running task copies, by
// connector and task.
func (t *Runner) Throughput() map[string]map[int]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]map[int]float64{}
	for _, r := range t.runs {
		if r.Task < 0 {
			continue
		}
		if all[r.Connector] == nil {
			all[r.Connector] = map[int]float64{}
		}
		r.mu.Lock()
		for _, p := range r.progress.Partitions {
			all[r.Connector][r.Task] += p.BytesPerSec
		}
		r.mu.Unlock()
	}
	return all
}

// life is a run from beginning to end.
func (t *Runner) life(ctx context.Context, run *running) {
	log := t.o.Log.With("connector", run.Connector)
	if run.Task >= 0 {
		log = log.With("task", run.Task)
	}
	over := make(chan error, 1)
	watched := make(chan struct{})
	go func() { // owned by this function: waited for below, or given up after its clients are dead
		over <- t.work(ctx, run, log)
	}()
	go func() {
		defer close(watched)
		run.guard.watch()
	}()
	var err error
	select {
	case err = <-over:
	case <-run.guard.expired:
		t.mu.Lock()
		if run.reason == "" {
			run.reason = "its lease has run out"
		}
		t.mu.Unlock()
		run.cancel()
		select {
		case err = <-over:
		case <-time.After(afterlife):
			log.Error("the plugin did not return; its clients are closed, it is left behind", "reason", run.reason)
		}
	}
	run.metrics.revoke()
	run.guard.end(time.Now()) // closes what the plugin left open
	<-watched
	t.mu.Lock()
	reason := run.reason
	delete(t.runs, run.ID)
	t.mu.Unlock()
	switch {
	case reason != "" && err != nil:
		log.Info("stopped, not in good order", "reason", reason, "err", err)
		err = nil // an error on the way out is no failure
	case reason != "":
		log.Info("stopped", "reason", reason)
	case ctx.Err() != nil:
		err = nil
	case err == nil && run.Task >= 0:
		err = errors.New("the task ended by itself")
	}
	t.o.Hooks.Ended(run.Run, err)
}

// work resolves, makes the plugin and runs it. A panic fails this run, not the
// worker.
func (t *Runner) work(ctx context.Context, run *running, log *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// The panic's value may hold a secret (a formatted setting); its stack does not.
			log.Error("panic", "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in %s: see the worker's log", run)
		}
	}()
	settings, err := t.settings(ctx, run.Config)
	if err != nil {
		return err
	}
	plugin, err := t.o.Plugin(run.Config["connector.class"])
	if err != nil {
		return err
	}
	if problems := t.o.Policy.Check(plugin.Overrides, run.Config); len(problems) > 0 {
		return errors.New(problems[0].Message)
	}
	clients := &clients{runner: t, run: run, settings: settings, log: log}
	defer clients.close()
	started := sync.OnceFunc(func() {
		log.Info("running", "generation", run.Generation)
		t.o.Hooks.Running(run.Run)
	})
	if run.Task < 0 {
		values, problems := plugin.Keys.Parse(settings)
		if len(problems) > 0 {
			return errors.New(problems[0].Message)
		}
		return plugin.NewConnector().Run(ctx, connector.Context{
			Name: run.Connector, Settings: settings, MaxTasks: values.Int("tasks.max"), Log: log, Metrics: run.metrics,
			Clients: clients.api(), Tasks: run.Tasks, Started: started, Internal: t.o.Internal(),
			SetTasks: func(ctx context.Context, tasks []map[string]string) error {
				return t.o.Publish(ctx, run.Connector, run.Generation, tasks)
			},
		})
	}
	return plugin.NewTask().Run(ctx, connector.TaskContext{
		Connector: run.Connector, Task: run.Task, Settings: settings, Log: log, Metrics: run.metrics,
		Clients: clients.api(), Offsets: run.guard.offsets(t.o.Offsets(run.Connector)), Gate: t.o.Gate,
		Delivery: connector.Plain, Started: started,
		Report: func(p connector.Progress) {
			run.mu.Lock()
			run.progress = p
			run.mu.Unlock()
		},
	})
}

func (t *Runner) settings(ctx context.Context, written map[string]string) (config.Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	settings, err := t.o.Resolve(ctx, written)
	if err != nil {
		return nil, fmt.Errorf("resolve the configuration: %w", err)
	}
	return settings, nil
}

// identity says, for an error, whom a client authenticates as and where its
// credentials come from.
func identity(r clientconfig.Report) string {
	var refs []string
	for _, of := range r.References {
		refs = append(refs, of...)
	}
	if len(refs) == 0 {
		return r.Principal
	}
	return fmt.Sprintf("%s (credentials from %s)", r.Principal, strings.Join(dedup(refs), ", "))
}
