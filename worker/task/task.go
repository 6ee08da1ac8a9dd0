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
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
	"barnabas/connector/creation"
	reports "barnabas/connector/reporter"
)

// Options is what a Runner needs. All fields are needed unless they say otherwise.
type Options struct {
	// Worker holds the worker's own settings: the lowest layer of the clients'.
	Worker config.Settings
	// Plugin finds a plugin by connector.class.
	Plugin func(class string) (connector.Plugin, error)
	// Resolve resolves the references of a configuration (configprovider.Resolver).
	Resolve func(ctx context.Context, written map[string]string) (config.Settings, []configprovider.Use, error)
	// Connections puts the connections that a configuration names into it; the zero value leaves it as it is.
	Connections Connections
	// Offsets gives a connector's source offsets.
	Offsets func(connector string) connector.Offsets
	// Publish brings task configurations into the config topic. generation names
	// the run of the connector that planned them.
	Publish func(ctx context.Context, name string, generation int64, tasks []map[string]string) error
	// Rates returns what the partitions of a connector carry, wherever its tasks run (connector.Context.Rates).
	Rates   func(ctx context.Context, connector string) (map[string]int64, error)
	Policy  clientconfig.Policy
	Gate    *connector.Gate
	Lease   *Lease
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Dialer opens TCP connections for the tasks; nil: the network's.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// Internal names the topics that no connector may touch.
	Internal func() connector.Internal
	// Group is group.id, which transactional ids begin with.
	Group string
	// ExactlyOnce wants source tasks to write in transactions (exactly.once.source.support=enabled).
	ExactlyOnce bool
	// GapPolicy is gap.policy, for connectors that have none of their own.
	GapPolicy string
	// LeaveTopics: topic.creation.* of connectors count for nothing (topic.creation.enable=false).
	LeaveTopics bool
	// LeaseForAll ends tasks when the lease runs out even if they hold a fence (lease.enforce=all).
	LeaseForAll bool
	Hooks       Hooks
}

// Hooks tell the worker what happens to a run. They are called from the run's
// goroutine and must not block for long.
type Hooks struct {
	// Waiting: the run has not begun, and waits until a provider of secrets can be asked. reason holds no value.
	Waiting func(r Run, reason string)
	// Running: the plugin has started.
	Running func(Run)
	// Fenced: the run holds a fence that keeps it and its former owners apart, or does not any more.
	Fenced func(r Run, held bool)
	// Wrote: the run has written to a topic; it comes again as long as it writes.
	Wrote func(r Run, topic string)
	// Rotated: clients of the run use another version of a secret, or could not. nil: nobody wants to know.
	Rotated func(Run, Change)
	// Restart: a setting of the run has a new value that clients cannot take while they run (config.action.reload=restart).
	Restart func(Run)
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
	// Early: former owners may still act. Clear tells when they cannot any more.
	Early bool
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
	// starts counts those of connectors and of tasks.
	starts [2]starts
	// failed holds the last reports of tasks that have failed here, until they run again.
	failed map[string]failure
	rotor  *rotor
}

// failure is what a failed task has reported.
type failure struct {
	Run
	progress connector.Progress
}

// maxFailures bounds the reports of failed tasks: those of connectors that are deleted are not asked for again.
const maxFailures = 1024

// running is one run at work.
type running struct {
	Run
	guard  *guard
	cancel context.CancelFunc // the orderly end
	// metrics of the run; given back at its end.
	metrics *registrations
	reason  string // why it was stopped
	started bool   // it has been RUNNING; Runner.mu guards it
	// updates holds the newest configuration that the run was told while it ran.
	updates chan map[string]string
	secrets *secrets

	tally  tally
	effort effort

	mu       sync.Mutex
	clients  []*traffic
	progress connector.Progress
	// records is what the newest report says that was copied; moved is when a report last said more, or that nothing is left to copy.
	records int64
	moved   time.Time
	notes   []connector.Note // of a connector
}

// NewRunner returns a runner; nothing runs before Start.
func NewRunner(o Options) *Runner {
	return &Runner{o: o, runs: map[int64]*running{}, failed: map[string]failure{}, rotor: newRotor()}
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
	run := &running{Run: r, guard: newGuard(t.o.Lease), cancel: cancel, metrics: &registrations{to: t.o.Metrics}, updates: make(chan map[string]string, 1)}
	run.secrets = newSecrets(r.Config, t.o.Worker)
	run.guard.strict = t.o.LeaseForAll
	run.effort.began = time.Now()
	if !r.Early {
		close(run.guard.clear)
	}
	t.mu.Lock()
	t.runs[r.ID] = run
	t.startsOf(r).attempts++
	delete(t.failed, r.String())
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

// Update tells a run of a task its new configuration, which only adds to the one it has.
func (t *Runner) Update(id int64, config map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	run := t.runs[id]
	if run == nil {
		return
	}
	select {
	case <-run.updates: // not taken yet, and out of date
	default:
	}
	run.updates <- config // has room: t.mu is held by whoever sends
}

// Clear tells an early run, once, that no former owner of its work can act without a
// fence, or save offsets, any more.
func (t *Runner) Clear(id int64) {
	t.mu.Lock()
	run := t.runs[id]
	t.mu.Unlock()
	if run != nil {
		close(run.guard.clear)
	}
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

// Progress returns the newest report of each running task of a connector, and
// the last one of each that has failed here: it says why, partition by partition.
func (t *Runner) Progress(name string) map[int]connector.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[int]connector.Progress{}
	for _, f := range t.failed {
		if f.Connector == name {
			all[f.Task] = f.progress
		}
	}
	for _, r := range t.runs {
		if r.Connector == name && r.Task >= 0 {
			r.mu.Lock()
			p := r.progress
			r.mu.Unlock()
			p.Notes = slices.Concat(p.Notes, r.secrets.notes())
			all[r.Task] = p
		}
	}
	return all
}

// Notes returns what a connector that runs here says of itself.
func (t *Runner) Notes(name string) []connector.Note {
	t.mu.Lock()
	defer t.mu.Unlock()
	var newest *running // one that was given up may not have ended when its successor runs
	for _, r := range t.runs {
		if r.Connector == name && r.Task < 0 && (newest == nil || r.ID > newest.ID) {
			newest = r
		}
	}
	if newest == nil {
		return nil
	}
	newest.mu.Lock()
	defer newest.mu.Unlock()
	return slices.Concat(newest.notes, newest.secrets.notes())
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

// Rates returns the bytes per second of the partitions that running tasks copy, by connector and by topic and partition.
func (t *Runner) Rates() map[string]map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]map[string]float64{}
	for _, r := range t.runs {
		if r.Task < 0 {
			continue
		}
		if all[r.Connector] == nil {
			all[r.Connector] = map[string]float64{}
		}
		r.mu.Lock()
		for _, p := range r.progress.Partitions {
			all[r.Connector][p.Topic+"-"+strconv.Itoa(int(p.Partition))] = p.BytesPerSec
		}
		r.mu.Unlock()
	}
	return all
}

// life is a run from beginning to end.
func (t *Runner) life(ctx context.Context, run *running) {
	log := t.logOf(run)
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
	if !run.started && reason == "" && ctx.Err() == nil {
		t.startsOf(run.Run).failed++
	}
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
	err = t.judged(run.Run, err)
	if err != nil && run.Task >= 0 {
		t.remember(run)
	}
	t.o.Hooks.Ended(run.Run, err)
}

// remember keeps the last report of a task that has failed, unless it runs again already.
func (t *Runner) remember(run *running) {
	run.mu.Lock()
	progress := run.progress
	run.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.runs {
		if r.String() == run.String() {
			return
		}
	}
	if len(t.failed) >= maxFailures {
		clear(t.failed)
	}
	t.failed[run.String()] = failure{run.Run, progress}
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
	settings, err := t.resolve(ctx, run)
	if err != nil {
		return err
	}
	plugin, err := t.o.Plugin(run.Config["connector.class"])
	if err != nil {
		return &FinalError{err}
	}
	if problems := t.o.Policy.Check(plugin.Overrides, run.Config); len(problems) > 0 {
		return &FinalError{errors.New(problems[0].Message)}
	}
	clients := &clients{runner: t, run: run, log: log}
	defer clients.close()
	started := sync.OnceFunc(func() {
		if !t.has(run) {
			return // given up: its successor's state counts
		}
		log.Info("running", "generation", run.Generation)
		t.hasStarted(run)
		t.o.Hooks.Running(run.Run)
	})
	if run.Task < 0 {
		values, problems := plugin.Keys.Parse(settings)
		if len(problems) > 0 {
			return &FinalError{errors.New(problems[0].Message)}
		}
		if plugin.Type == connector.Source && !t.o.LeaveTopics {
			if _, err := creation.Parse(settings); err != nil { // Connect finds it when the connector starts, and not before
				return &FinalError{err}
			}
		}
		return plugin.NewConnector().Run(ctx, connector.Context{
			Name: run.Connector, Settings: settings, MaxTasks: values.Int("tasks.max"), Log: log, Metrics: run.metrics,
			Clients: clients.api(), Tasks: run.Tasks, Started: started, Internal: t.o.Internal(),
			OffsetsTopic: t.offsetsTopic(plugin, run.Config[keyOffsetsTopic]), Offsets: run.guard.offsets(t.o.Offsets(run.Connector)),
			Report: func(notes []connector.Note) {
				run.mu.Lock()
				defer run.mu.Unlock()
				run.notes = notes
			},
			SetTasks: func(ctx context.Context, tasks []map[string]string) error {
				if err := tooMany(ctx, run.Connector, len(tasks), values, log); err != nil {
					return err
				}
				return t.o.Publish(ctx, run.Connector, run.Generation, tasks)
			},
			Rates: func(ctx context.Context) (map[string]int64, error) { return t.o.Rates(ctx, run.Connector) },
		})
	}
	tc, err := t.taskContext(run, plugin, settings)
	if err != nil {
		return err
	}
	tc.Log, tc.Clients, tc.Started = log, clients.api(), started
	if !plugin.Converts {
		return reported(ctx, tc, plugin.NewTask())
	}
	return plugin.NewTask().Run(ctx, tc)
}

// reported runs a task that copies batches, and writes the reports that its connector wants of it (reporter.*). One that converts records
// reports about each itself.
func reported(ctx context.Context, tc connector.TaskContext, task connector.Task) error {
	out, err := reports.Open(ctx, tc)
	if err != nil {
		return err
	}
	if out == nil {
		return task.Run(ctx, tc)
	}
	ranges := reports.NewRanges(out, tc.Offsets.Interval)
	var mu sync.Mutex
	show := tc.Report
	tc.Report = func(p connector.Progress) {
		show(p)
		mu.Lock()
		defer mu.Unlock()
		ranges.Progress(ctx, p)
	}
	err = task.Run(ctx, tc)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
	defer cancel()
	if err != nil && ctx.Err() == nil {
		ranges.TaskFailed(last, err)
	}
	out.Close(last)
	return err
}

// reportTimeout bounds how long the end of a task waits for its reports.
const reportTimeout = 5 * time.Second

// identity says, for an error, whom a client authenticates as and where its
// credentials come from.
func identity(r clientconfig.Report) string { return r.Identity() }
