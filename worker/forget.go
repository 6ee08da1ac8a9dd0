package worker

import (
	"context"
	"time"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// sweepAgain is how long after a change of the assignment the statuses are
// swept once more: a worker that was just told to stop may still report.
const sweepAgain = 2 * time.Second

// sweep remembers what has been swept.
type sweep struct {
	version int64     // of the assignment
	again   time.Time // zero: not again
}

// forgetStatuses has the leader write tombstones for the statuses of connectors
// and tasks that are no more, as Connect does when it destroys them. It is called
// in the loop, and looks only after the assignment has changed.
func (w *Worker) forgetStatuses() {
	_, leads, _ := w.machine.Leader()
	if !leads {
		w.swept = sweep{}
		return
	}
	now := time.Now()
	_, version := w.machine.Epoch()
	switch {
	case version != w.swept.version:
		w.swept = sweep{version: version, again: now.Add(sweepAgain)}
	case !w.swept.again.IsZero() && now.After(w.swept.again):
		w.swept.again = time.Time{}
	default:
		return
	}
	for _, u := range w.restarts.known() {
		_, _, exists := w.machine.Connector(u.Connector)
		if !exists || u.Task >= len(w.machine.Tasks(u.Connector)) && !u.IsConnector() {
			w.writer.put(store.Entry{Key: []byte(restartsKey(u)), Pinned: true})
		}
	}
	for _, name := range w.topics.statuses.Connectors() {
		_, _, exists := w.machine.Connector(name)
		tasks := len(w.machine.Tasks(name))
		for task := range w.topics.statuses.Tasks(name) {
			if !exists || task >= tasks {
				w.writer.put(store.TaskStatus{Connector: name, Task: task}.Entry())
			}
		}
		if exists {
			continue
		}
		w.writer.put(store.ConnectorStatus{Connector: name}.Entry())
	}
	for _, name := range w.topics.statuses.TopicUsers() {
		if _, _, exists := w.machine.Connector(name); exists {
			continue
		}
		for _, t := range w.topics.statuses.Topics(name) {
			w.writer.put(store.TopicStatus{Connector: name, Topic: t.Topic, Deleted: true}.Entry())
		}
	}
}

// gainsay puts a status back that has just been deleted, or overwritten by another run, if it was this worker's
// own and still holds. It is deleted when the leader sweeps the statuses of a
// deleted connector while one of the same name is created and started here: the
// tombstone, on its way already, is written after the new status. It is overwritten by a former owner whose write
// was late: workers do not wait for each other's statuses. Without this the topic, and with it every worker that
// starts later, and Kafka Connect after a hand-back, would show what the former owner said.
func (w *Worker) gainsay(decoded any) {
	var unit herder.Unit
	var status *store.Status
	switch r := decoded.(type) {
	case store.ConnectorStatus:
		unit, status = herder.Unit{Connector: r.Connector, Task: herder.ConnectorUnit}, r.Status
	case store.TaskStatus:
		unit, status = herder.Unit{Connector: r.Connector, Task: r.Task}, r.Status
	default:
		return
	}
	said := w.writer.saidOf(func(u herder.Unit) bool {
		return u == unit || status == nil && unit.IsConnector() && u.Connector == unit.Connector // and with it those of its tasks
	})
	if own := said[unit]; status != nil && (own == nil || status.WorkerID == own.WorkerID && status.Generation >= own.Generation) {
		return // not ours, or our own words
	}
	if len(said) == 0 {
		return
	}
	// An error means that the worker is over, and says nothing any more.
	_ = w.ask(context.Background(), func(m *herder.Machine) {
		for u, last := range said {
			owner, generation, ok := m.Owner(u)
			if ok && owner == w.self && last.Generation == int32(generation) {
				w.writer.put(statusEntry(u, last))
			} else {
				w.writer.forget(u)
			}
		}
	})
}
