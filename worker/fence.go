package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"barnabas/connector"
	"barnabas/worker/herder"
)

// fencing remembers of which connectors the tasks have changed since the last round of fencing was recorded, as
// Kafka Connect does (KafkaConfigBackingStore, KIP-618).
//
// In Connect such a round is needed before tasks of an exactly-once source start: the leader shuts out the producers
// of the tasks before, and records how many tasks there are now, so that a later round knows how many to shut out. Here tasks shut out
// every former writer themselves (see herder/DESIGN.md), and what is left of a round is its record: a Connect that the cluster is
// handed back to reads it.
type fencing struct {
	mu      sync.Mutex
	pending map[string]bool // by connector; true while a record is being written
	looked  time.Time       // when recordFencing last looked
}

func (f *fencing) committed(connector string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil {
		f.pending = map[string]bool{}
	}
	f.pending[connector] = false
}

func (f *fencing) counted(connector string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, connector)
}

func (f *fencing) isPending(connector string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, pending := f.pending[connector]
	return pending
}

// forget is called when a connector is deleted.
func (f *fencing) forget(connector string) { f.counted(connector) }

// take returns the connectors whose rounds are pending and not being recorded, and marks them.
func (f *fencing) take(wanted func(connector string) bool) (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, writing := range f.pending {
		if !writing && wanted(name) {
			f.pending[name] = true
			names = append(names, name)
		}
	}
	return names
}

// giveBack lets a round be recorded again.
func (f *fencing) giveBack(connector string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, pending := f.pending[connector]; pending {
		f.pending[connector] = false
	}
}

// Fence performs a round of fencing for a source connector (Herder.fenceZombieSourceTasks): the leader does.
func (w *Worker) Fence(ctx context.Context, name string) error {
	if err := w.leadsNow(ctx); err != nil {
		return err
	}
	if err := w.read(ctx, func(m *herder.Machine) error {
		config, _, ok := m.Connector(name)
		switch {
		case !ok:
			return notFound("Connector %s not found", name)
		case w.typeOf(config) != connector.Source:
			return &Error{ErrInvalid, fmt.Sprintf("Connector %s is not a source connector", name)}
		}
		return nil
	}); err != nil || !w.fencing.isPending(name) {
		return err
	}
	return w.change(ctx, herder.PutTaskCount{Name: name}, "Connector %s not found", name)
}

// fencingInterval is how often the leader looks for rounds to record: nobody waits for them.
const fencingInterval = time.Second

// recordFencing has the leader record the rounds of connectors whose tasks start, where Connect would perform
// them: with exactly-once support alone. It is called in the loop.
func (w *Worker) recordFencing() {
	_, leads, ok := w.machine.Leader()
	if !ok || !leads || !w.machine.Loaded() || w.o.File.ExactlyOnceSource != exactlyOnceEnabled {
		return
	}
	if time.Since(w.fencing.looked) < fencingInterval {
		return
	}
	w.fencing.looked = time.Now()
	for _, name := range w.fencing.take(func(name string) bool {
		config, _, ok := w.machine.Connector(name)
		return ok && len(w.machine.Tasks(name)) > 0 && w.typeOf(config) == connector.Source
	}) {
		w.give(herder.PutTaskCount{Name: name}, func(herder.Reply) { w.fencing.giveBack(name) })
	}
}
