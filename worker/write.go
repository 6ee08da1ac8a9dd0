package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/worker/herder"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// The states that Kafka Connect knows.
const (
	stateUnassigned = "UNASSIGNED"
	stateRunning    = "RUNNING"
	stateFailed     = "FAILED"
	stateRestarting = "RESTARTING"
)

// leaderWriter does what the herder says about the transactional id, one thing
// after the other, off the loop.
type leaderWriter struct {
	w      *Worker
	leader *store.Leader
	jobs   chan func(context.Context)
}

func newLeaderWriter(w *Worker, l *store.Leader) *leaderWriter {
	// The herder has at most a stand, a write and a resignation under way; the rest is
	// slack for a slow broker.
	return &leaderWriter{w: w, leader: l, jobs: make(chan func(context.Context), 64)}
}

func (l *leaderWriter) run(ctx context.Context) error {
	defer l.leader.Resign()
	for {
		select {
		case job := <-l.jobs:
			job(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *leaderWriter) stand() {
	l.jobs <- func(ctx context.Context) {
		err := l.leader.Take(ctx)
		if err != nil {
			l.w.log.Warn("could not take the lead", "err", err)
		}
		l.w.tell(herder.Stood{OK: err == nil})
	}
}

func (l *leaderWriter) resign() {
	l.jobs <- func(context.Context) { l.leader.Resign() }
}

func (l *leaderWriter) write(t *herder.Write) {
	l.jobs <- func(ctx context.Context) {
		last, err := l.append(ctx, t)
		switch {
		case err == nil:
			l.w.gossip.Hint(last)
		case errors.Is(err, store.ErrFenced):
			l.w.log.Info("another worker has taken the lead", "err", err)
		default:
			l.w.log.Warn("could not write to the config topic", "err", err)
		}
		l.w.tell(herder.Written{ID: t.ID, OK: err == nil, Offset: last})
	}
}

func (l *leaderWriter) append(ctx context.Context, t *herder.Write) (int64, error) {
	entries := make([]store.Entry, 0, len(t.Records))
	for _, r := range t.Records {
		e, err := entry(r)
		if err != nil {
			return 0, err
		}
		entries = append(entries, e)
	}
	return l.leader.Append(ctx, entries)
}

// statusWriter writes statuses and announcements to the status topic. Of several
// entries of one key only the newest is written, so what waits is bounded by the
// number of units and members, however long the topic is out of reach.
type statusWriter struct {
	w *Worker

	mu      sync.Mutex
	waiting map[string]store.Entry
	order   []string
	said    map[herder.Unit]*store.Status // the newest of each unit, until it is deleted
	more    chan struct{}
}

func newStatusWriter(w *Worker) *statusWriter {
	return &statusWriter{w: w, waiting: map[string]store.Entry{}, said: map[herder.Unit]*store.Status{}, more: make(chan struct{}, 1)}
}

func (s *statusWriter) put(e store.Entry) {
	s.mu.Lock()
	key := string(e.Key)
	if _, ok := s.waiting[key]; !ok {
		s.order = append(s.order, key)
	}
	s.waiting[key] = e
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *statusWriter) take() []store.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]store.Entry, 0, len(s.order))
	for _, key := range s.order {
		entries = append(entries, s.waiting[key])
	}
	clear(s.waiting)
	s.order = nil
	return entries
}

// putBack keeps what could not be written, unless there is something newer.
func (s *statusWriter) putBack(entries []store.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if _, ok := s.waiting[string(e.Key)]; !ok {
			s.waiting[string(e.Key)] = e
			s.order = append(s.order, string(e.Key))
		}
	}
}

func (s *statusWriter) run(ctx context.Context) error {
	for {
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil
		}
		for entries := s.take(); len(entries) > 0 && ctx.Err() == nil; entries = s.take() {
			if err := s.w.topics.statusAppender.Append(ctx, entries); err != nil && ctx.Err() == nil {
				s.w.log.Warn("could not write to the status topic", "err", err)
				s.putBack(entries)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		}
	}
}

// announce writes one of the herder's records.
func (s *statusWriter) announce(r herder.Record) {
	if j, ok := r.(herder.Join); ok {
		j.Gossip = s.w.gossipAddress()
		r = j
	}
	e, err := entry(r)
	if err != nil {
		s.w.log.Error("an announcement cannot be written", "err", err)
		return
	}
	s.put(e)
}

// state writes the state of a unit.
func (s *statusWriter) state(u herder.Unit, state, trace string, generation int64, version string) {
	st := &store.Status{State: state, WorkerID: s.w.self.Worker, Generation: int32(generation)}
	if trace != "" {
		st.Trace = &trace
	}
	if version != "" {
		st.Version = &version
	}
	s.mu.Lock()
	late := s.said[u] != nil && s.said[u].Generation > st.Generation
	if !late {
		s.said[u] = st
	}
	s.mu.Unlock()
	if late {
		return // of a run that a newer one has followed here
	}
	s.put(statusEntry(u, st))
}

func statusEntry(u herder.Unit, st *store.Status) store.Entry {
	if u.IsConnector() {
		return store.ConnectorStatus{Connector: u.Connector, Status: st}.Entry()
	}
	return store.TaskStatus{Connector: u.Connector, Task: u.Task, Status: st}.Entry()
}

// saidOf returns what this worker last wrote of the units that are wanted.
func (s *statusWriter) saidOf(wanted func(herder.Unit) bool) map[herder.Unit]*store.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[herder.Unit]*store.Status{}
	for u, st := range s.said {
		if wanted(u) {
			found[u] = st
		}
	}
	return found
}

func (s *statusWriter) forget(u herder.Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.said, u)
}

func unitOf(r task.Run) herder.Unit { return herder.Unit{Connector: r.Connector, Task: r.Task} }

func versionOf(config map[string]string) string {
	p, err := pluginFor(config["connector.class"])
	if err != nil {
		return ""
	}
	return p.Version
}

// waitingFor is called when a run has to wait for its secrets before it can begin. It is no failure, and nothing restarts it.
func (w *Worker) waitingFor(r task.Run, reason string) {
	w.writer.state(unitOf(r), stateUnassigned, reason, r.Generation, versionOf(r.Config))
}

// running is called when a plugin has started.
func (w *Worker) running(r task.Run) {
	w.restarts.running(unitOf(r), time.Now())
	w.writer.state(unitOf(r), stateRunning, "", r.Generation, versionOf(r.Config))
	w.runEvent(r, audit.Began, nil, "")
}

// rotated is called when the clients of a run use another version of a secret, or could not.
func (w *Worker) rotated(r task.Run, c task.Change) { w.runEvent(r, audit.Rotated, c.Err, c.Text) }

// fenced is called when a run holds a fence, or does not any more.
func (w *Worker) fenced(r task.Run, held bool) {
	w.tell(herder.Fenced{Run: herder.RunID(r.ID), Held: held})
	if held {
		w.runEvent(r, audit.Fenced, nil, "former writers can write no more")
	}
}

// ended is called when a run is over.
func (w *Worker) ended(r task.Run, err error) {
	if err != nil {
		w.log.Error("failed", "connector", r.Connector, "task", r.Task, "err", err)
		w.writer.state(unitOf(r), stateFailed, err.Error(), r.Generation, versionOf(r.Config))
		w.restarts.note(r, err, time.Now())
	}
	w.runEvent(r, audit.Ended, err, "")
	w.tell(herder.RunEnded{Run: herder.RunID(r.ID), Failed: err != nil})
}

// idle writes the state of a unit that this worker owns and does not run. It is
// called in the loop.
func (w *Worker) idle(i herder.Idle) {
	config, _, _ := w.machine.Connector(i.Unit.Connector)
	_, generation, _ := w.machine.Owner(i.Unit)
	w.writer.state(i.Unit, i.State, "", generation, versionOf(config))
}

// state returns what is known of a unit: what its present owner has said of it,
// under its present generation. Anything else is news of a run that is over. A unit of a
// worker that is gone is UNASSIGNED, with that worker's id and a trace, whatever it has last said.
func (w *Worker) state(m *herder.Machine, u herder.Unit) InstanceState {
	owner, generation, ok := m.Owner(u)
	if !ok {
		return w.unowned(m, u)
	}
	if owner != w.self && !m.Present(owner) {
		return InstanceState{State: stateUnassigned, WorkerID: owner.Worker, Trace: lostTrace(owner.Worker)}
	}
	st, ok := w.topics.statuses.SaidBy(owner.Worker, int32(generation), u.Connector, u.Task)
	if !ok {
		return InstanceState{State: stateUnassigned, WorkerID: owner.Worker}
	}
	s := InstanceState{State: st.State, WorkerID: st.WorkerID, Version: st.Version}
	if st.Trace != nil {
		s.Trace = *st.Trace
	}
	return s
}

// unowned is the state of a unit that has been given to nobody: it names the worker that had it last, and says why nobody has it.
func (w *Worker) unowned(m *herder.Machine, u herder.Unit) InstanceState {
	s := InstanceState{State: stateUnassigned, Trace: m.Unplaced(u)}
	last, ok := w.topics.statuses.Connector(u.Connector)
	if !u.IsConnector() {
		last, ok = w.topics.statuses.Task(u.Connector, u.Task)
	}
	if ok {
		s.WorkerID = last.WorkerID
		if s.Trace == "" {
			s.Trace = "No worker is there to run it."
		}
	}
	return s
}

func lostTrace(worker string) string {
	return fmt.Sprintf("The worker %s is lost: it is not in the cluster any more. What it ran starts on another worker, or there when it is back.", worker)
}

// SessionKey returns the key that requests between workers are signed with
// (KIP-507), as it stands in the config topic, and the algorithm that this worker signs with.
func (w *Worker) SessionKey() (key []byte, algorithm string, ok bool) {
	k := w.key.Load()
	if k == nil {
		return nil, "", false
	}
	return []byte(k.Key.Reveal()), cmp.Or(w.o.File.SignatureAlgorithm, k.Algorithm), true
}

// keepSessionKey has the leader write a session key when there is none or it is
// too old. It is called in the loop.
func (w *Worker) keepSessionKey() {
	_, leads, _ := w.machine.Leader()
	k := w.key.Load()
	if !leads || w.keyOrdered || k != nil && time.Since(time.UnixMilli(k.Created)) < w.o.File.SessionKeyTTL {
		return
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return
	}
	w.keyOrdered = true
	w.give(herder.PutRecord{Record: herder.SessionKey{
		Value: store.SessionKeyRecord{Key: config.NewSecret(string(raw)), Algorithm: "HmacSHA256", Created: time.Now().UnixMilli()},
	}}, func(herder.Reply) { w.keyOrdered = false })
}

// give hands an order to the machine. It and answer are called in the loop.
func (w *Worker) give(o herder.Order, answer func(herder.Reply)) { w.giveFor("", o, answer) }

// giveFor is give for a request that may be ordered again.
func (w *Worker) giveFor(request string, o herder.Order, answer func(herder.Reply)) {
	w.nextOrder++
	w.answers[w.nextOrder] = answer
	w.step(herder.Ordered{ID: w.nextOrder, Request: request, Order: o})
}
