package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/worker/herder"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// This file restarts connectors and tasks that have FAILED (auto.restart.*), as Strimzi's operator does it for Kafka
// Connect from outside. The owner restarts its own units, under the generation that they have: to the cluster it is the
// same as a restart that a user has asked for. What it did and why stands in the status topic, under a key of ours that
// Connect skips, so that whoever owns the unit next goes on counting.

// restartRecord is a record of the status topic: a unit's failures and what came of them.
type restartRecord struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"` // -1: the connector itself
	RestartState
}

// RestartState is what is known of the failures of a connector or task, and its restarts by itself.
type RestartState struct {
	// Attempt counts the restarts since it last worked for auto.restart.backoff.max.ms, or was started by somebody.
	Attempt int   `json:"attempt"`
	Total   int64 `json:"total"` // restarts since it was created
	// Next is when it is restarted; nil: it is not going to be.
	Next *time.Time `json:"next,omitempty"`
	// Held says why one that has FAILED is not restarted: final (no restart mends its error), disabled
	// (auto.restart.enabled) or exhausted (auto.restart.max.restarts).
	Held string `json:"held,omitempty"`
	// Failures are the newest, the oldest first.
	Failures []Failure `json:"failures"`
}

// Failure is one end of a run with an error.
type Failure struct {
	At       time.Time `json:"at"`
	WorkerID string    `json:"worker_id"`
	Reason   string    `json:"reason"`
	Final    bool      `json:"final,omitempty"`
	// Restarted is when it was restarted by itself after this.
	Restarted *time.Time `json:"restarted,omitempty"`
}

// Why a failed unit is not restarted.
const (
	heldFinal     = "final"
	heldDisabled  = "disabled"
	heldExhausted = "exhausted"
)

// Bounds of one record: a task that fails again and again has the same reason each time.
const (
	maxFailuresKept = 10
	maxReasonBytes  = 600
)

// restarts is what the status topic says of failures, and what this worker is going to do.
type restarts struct {
	mu     sync.Mutex
	states map[string]restartRecord // by key
	due    map[herder.Unit]dueRestart
	began  map[herder.Unit]time.Time // RUNNING here since
	ended  []endedRun                // with an error, and not in the books yet
}

// endedRun is a run that has FAILED.
type endedRun struct {
	task.Run
	err error
	at  time.Time
}

// dueRestart is a restart that this worker is going to do.
type dueRestart struct {
	at         time.Time
	generation int64
}

func newRestarts() *restarts {
	return &restarts{states: map[string]restartRecord{}, due: map[herder.Unit]dueRestart{}, began: map[herder.Unit]time.Time{}}
}

func restartsKey(u herder.Unit) string {
	return restartsPrefix + u.Connector + "-" + strconv.Itoa(u.Task)
}

// apply takes a record of the topic. What this worker has just written itself is newer than what it reads.
func (r *restarts) apply(o store.OwnRecord) error {
	if o.Value == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.states, o.Key)
		return nil
	}
	record, err := store.DecodeOwn[restartRecord](o)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u := herder.Unit{Connector: record.Connector, Task: record.Task}
	_, pending := r.due[u]
	if mine := r.states[o.Key]; pending && mine.latest().After(record.latest()) {
		return nil
	}
	r.states[o.Key] = record
	return nil
}

func (r restartRecord) latest() time.Time {
	if n := len(r.Failures); n > 0 {
		return r.Failures[n-1].At
	}
	return time.Time{}
}

// of returns what is known of a unit.
func (r *restarts) of(u herder.Unit) (RestartState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	record, ok := r.states[restartsKey(u)]
	return record.RestartState, ok
}

// known returns all units of which something is known.
func (r *restarts) known() []herder.Unit {
	r.mu.Lock()
	defer r.mu.Unlock()
	units := make([]herder.Unit, 0, len(r.states))
	for _, s := range r.states {
		units = append(units, herder.Unit{Connector: s.Connector, Task: s.Task})
	}
	return units
}

func (r *restarts) running(u herder.Unit, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began[u] = now
}

// failed notes a failure and plans the restart, if there is to be one.
func (r *restarts) failed(u herder.Unit, generation int64, f Failure, policy config.AutoRestart, now time.Time) restartRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	record, known := r.states[restartsKey(u)]
	if !known {
		record = restartRecord{Connector: u.Connector, Task: u.Task}
	}
	if began, ran := r.began[u]; ran && now.Sub(began) >= policy.Longest {
		record.Attempt = 0
	}
	delete(r.began, u)
	delete(r.due, u)
	record.Next, record.Held = nil, ""
	switch {
	case f.Final:
		record.Held = heldFinal
	case !policy.Enabled:
		record.Held = heldDisabled
	case policy.Max >= 0 && record.Attempt >= policy.Max:
		record.Held = heldExhausted
	default:
		wait := restartWait(record.Attempt, policy)
		next := now.Add(wait)
		r.due[u] = dueRestart{next, generation}
		next = next.UTC().Round(time.Millisecond) // without the monotonic reading
		record.Next = &next
	}
	record.Failures = append(append([]Failure(nil), record.Failures...), f)
	if more := len(record.Failures) - maxFailuresKept; more > 0 {
		record.Failures = record.Failures[more:]
	}
	r.states[restartsKey(u)] = record
	return record
}

// restartWait doubles from restart to restart, with a jitter of 10 %, so that what failed together does not come back
// together.
func restartWait(attempt int, p config.AutoRestart) time.Duration {
	wait := min(p.First, p.Longest)
	for range min(attempt, 30) {
		wait = min(2*wait, p.Longest)
	}
	return wait - wait/10 + rand.N(wait/5+1)
}

// dueBy returns what is to be restarted by now, and forgets that.
func (r *restarts) dueBy(now time.Time) map[herder.Unit]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all map[herder.Unit]int64
	for u, d := range r.due {
		if now.Before(d.at) {
			continue
		}
		if all == nil {
			all = map[herder.Unit]int64{}
		}
		all[u] = d.generation
		delete(r.due, u)
	}
	return all
}

// restarted notes what became of a restart that was due: it is done, or needless by now.
func (r *restarts) restarted(u herder.Unit, done bool, now time.Time) (restartRecord, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	record, known := r.states[restartsKey(u)]
	if !known {
		return record, false
	}
	record.Next = nil
	if n := len(record.Failures); done && n > 0 {
		record.Attempt++
		record.Total++
		record.Failures = append([]Failure(nil), record.Failures...)
		now = now.UTC().Round(time.Millisecond)
		record.Failures[n-1].Restarted = &now
	}
	r.states[restartsKey(u)] = record
	return record, true
}

// starting notes that a unit is started. If nobody here planned that, a user has asked for it, or its
// configuration has changed: then a failure is the first again. One that comes from another worker goes on
// counting. changed says that there is something to write.
func (r *restarts) starting(u herder.Unit) (record restartRecord, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	record, known := r.states[restartsKey(u)]
	_, planned := r.due[u]
	delete(r.due, u)
	if !known || record.Next == nil && record.Held == "" {
		return record, false
	}
	if planned || record.Held != "" {
		record.Attempt = 0
	}
	record.Next, record.Held = nil, ""
	r.states[restartsKey(u)] = record
	return record, true
}

// restartKeys are the settings of a connector that go before the worker's.
var restartKeys = config.NewDef(
	config.Key{Name: "auto.restart.enabled", Type: config.Boolean},
	config.Key{Name: "auto.restart.max.restarts", Type: config.Int, Checks: []config.Check{config.OrNull(config.AtLeast(-1))}},
	config.Key{Name: "auto.restart.backoff.initial.ms", Type: config.Long, Checks: []config.Check{config.OrNull(config.Between(1, 86_400_000))}},
	config.Key{Name: "auto.restart.backoff.max.ms", Type: config.Long, Checks: []config.Check{config.OrNull(config.Between(1, 86_400_000))}},
)

// autoRestart returns what a connector's configuration, as written, and the worker's file say.
func (w *Worker) autoRestart(written map[string]string) config.AutoRestart {
	p := w.o.File.AutoRestart
	v, problems := restartKeys.Parse(config.Literal(written))
	if len(problems) > 0 {
		return p // it was not checked here, but by Kafka Connect, which has no such settings
	}
	if !v.Null("auto.restart.enabled") {
		p.Enabled = v.Bool("auto.restart.enabled")
	}
	if !v.Null("auto.restart.max.restarts") {
		p.Max = v.Int("auto.restart.max.restarts")
	}
	if !v.Null("auto.restart.backoff.initial.ms") {
		p.First = v.Duration("auto.restart.backoff.initial.ms")
	}
	if !v.Null("auto.restart.backoff.max.ms") {
		p.Longest = v.Duration("auto.restart.backoff.max.ms")
	}
	return p
}

// note takes a failure down for the loop. It is called in the run's goroutine, which must not wait for the loop.
func (r *restarts) note(run task.Run, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, endedRun{run, err, now})
}

func (r *restarts) takeEnded() []endedRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.ended
	r.ended = nil
	return taken
}

// bookFailures takes failures to the books. It is called in the loop.
func (w *Worker) bookFailures() {
	for _, e := range w.restarts.takeEnded() {
		written, _, exists := w.machine.Connector(e.Connector)
		owner, generation, _ := w.machine.Owner(unitOf(e.Run))
		if !exists || owner != w.self || generation != e.Generation {
			continue // it is not this worker's any more, or was replaced
		}
		var final *task.FinalError
		f := Failure{At: e.at.UTC().Round(time.Millisecond), WorkerID: w.self.Worker, Reason: short(e.err.Error()), Final: errors.As(e.err, &final)}
		record := w.restarts.failed(unitOf(e.Run), e.Generation, f, w.autoRestart(written), e.at)
		w.writeRestarts(record)
		if record.Next != nil {
			w.log.Info("will be restarted", "connector", e.Connector, "task", e.Task, "at", *record.Next, "restarts", record.Attempt)
		}
	}
}

// short cuts a reason down to what a record may hold of it.
func short(reason string) string {
	if len(reason) <= maxReasonBytes {
		return reason
	}
	cut := maxReasonBytes
	for cut > 0 && reason[cut]&0xc0 == 0x80 { // not within a character
		cut--
	}
	return reason[:cut] + "…"
}

func (w *Worker) writeRestarts(record restartRecord) {
	key := restartsKey(herder.Unit{Connector: record.Connector, Task: record.Task})
	e, err := store.EncodeOwn(key, record)
	if err != nil {
		w.log.Error("the restarts of a unit cannot be written", "connector", record.Connector, "task", record.Task, "err", err)
		return
	}
	e.Pinned = true
	w.writer.put(e)
}

// restartDue restarts what is due and still FAILED. It is called in the loop.
func (w *Worker) restartDue() {
	now := time.Now()
	for u, generation := range w.restarts.dueBy(now) {
		owner, present, ok := w.machine.Owner(u)
		if !ok || owner != w.self {
			continue // its new owner has the books
		}
		again := present == generation && w.machine.Failed(u) && w.machine.Target(u.Connector) == herder.Started
		record, known := w.restarts.restarted(u, again, now)
		if known {
			w.writeRestarts(record)
		}
		if !again {
			continue
		}
		w.log.Info("restarting what has failed", "connector", u.Connector, "task", u.Task, "restarts", record.Attempt)
		written, _, _ := w.machine.Connector(u.Connector)
		w.writer.state(u, stateRestarting, "", generation, versionOf(written))
		w.step(herder.Restart{Unit: u})
	}
}

// Restarts returns what is known of the failures and restarts of a connector, -1, and its tasks, by number.
// Units that have not failed are left out.
func (w *Worker) Restarts(ctx context.Context, name string) (all map[int]RestartState, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		all = map[int]RestartState{}
		for i := herder.ConnectorUnit; i < len(m.Tasks(name)); i++ {
			if s, known := w.restarts.of(herder.Unit{Connector: name, Task: i}); known {
				all[i] = s
			}
		}
		return nil
	})
	return all, err
}
