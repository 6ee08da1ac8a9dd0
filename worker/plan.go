package worker

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// This file brings the tasks that the owner of a connector has planned to the leader through the status topic: the
// way for workers without a REST API. Where Kafka's dedicated MirrorMaker has none, its workers cannot tell each other, and
// new topics are not copied (KIP-710).
//
// The owner writes its plan, the leader makes it an order like any other, and when the owner reads the tasks back in the config
// topic it takes the plan away. A plan that was left behind names a run that is over by then, and is refused.

// planned is a record of the status topic.
type planned struct {
	Generation int64 `json:"gen"`
	// Tasks is the gzipped JSON of the configurations: they differ in little but their partitions.
	Tasks []byte `json:"tasks"`
}

// Bounds of a plan: what one record may hold, and what it may unpack to.
const (
	maxPlanRecord = 900 << 10
	maxPlanBytes  = 256 << 20
)

// plans are those that have been read and not been looked at by this worker as a leader.
type plans struct {
	mu      sync.Mutex
	waiting map[string]planned // by connector
}

// apply takes a record of the topic.
func (p *plans) apply(connector string, r store.OwnRecord) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Value == nil {
		delete(p.waiting, connector)
		return nil
	}
	plan, err := store.DecodeOwn[planned](r)
	if err != nil {
		return err
	}
	if p.waiting == nil {
		p.waiting = map[string]planned{}
	}
	p.waiting[connector] = plan
	return nil
}

// take returns the plans and forgets them.
func (p *plans) take() map[string]planned {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.waiting
	p.waiting = nil
	return taken
}

// adoptPlans makes orders of the plans that stand in the topic, if this worker leads. It is called in the loop.
func (w *Worker) adoptPlans() {
	if _, leads, ok := w.machine.Leader(); !ok || !leads || !w.machine.Loaded() {
		return
	}
	taken := w.plans.take()
	for _, connector := range slices.Sorted(maps.Keys(taken)) {
		plan := taken[connector]
		tasks, err := unpackTasks(plan.Tasks)
		if err != nil {
			w.log.Error("a plan of tasks cannot be read", "connector", connector, "err", err)
			continue
		}
		// The owner looks for the outcome in the config topic, and writes again if there is none.
		w.give(herder.PutTasks{Name: connector, Gen: plan.Generation, Tasks: tasks}, func(r herder.Reply) {
			if r.Err != nil {
				w.log.Debug("a plan of tasks was refused", "connector", connector, "err", r.Err)
			}
		})
	}
}

// proposeTimeout is how long one attempt waits for the leader.
const proposeTimeout = 5 * time.Second

// propose writes the tasks that a connector instance of this worker has planned, and waits until they are what the
// config topic says.
func (w *Worker) propose(ctx context.Context, connector string, generation int64, tasks []map[string]string) error {
	packed, err := packTasks(tasks)
	if err != nil {
		return err
	}
	key := plannedPrefix + connector
	e, err := store.EncodeOwn(key, planned{generation, packed})
	if err != nil {
		return err
	}
	if len(e.Value) > maxPlanRecord {
		return fmt.Errorf("the plan of %d tasks has %d bytes, too many for one record of the status topic: give the workers a REST API", len(tasks), len(e.Value))
	}
	e.Pinned = true // one order, with all records of ours
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	w.writer.put(e)
	for {
		stands := false
		if err := w.read(ctx, func(m *herder.Machine) error {
			stands = slices.EqualFunc(m.Tasks(connector), tasks, maps.Equal[map[string]string, map[string]string])
			return nil
		}); err != nil {
			return err
		}
		if stands {
			w.writer.put(store.Entry{Key: []byte(key), Pinned: true})
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return &Error{ErrUnavailable, "The leader has not taken the tasks of " + connector + " from the status topic yet."}
		}
	}
}

func packTasks(tasks []map[string]string) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(tasks); err != nil {
		return nil, fmt.Errorf("pack the plan of %d tasks: %w", len(tasks), err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack the plan of %d tasks: %w", len(tasks), err)
	}
	return b.Bytes(), nil
}

func unpackTasks(packed []byte) ([]map[string]string, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack a plan: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxPlanBytes+1))
	if err != nil {
		return nil, fmt.Errorf("unpack a plan: %w", err)
	}
	if len(text) > maxPlanBytes {
		return nil, errors.New("unpack a plan: it is too large")
	}
	var tasks []map[string]string
	if err := json.Unmarshal(text, &tasks); err != nil {
		return nil, fmt.Errorf("unpack a plan: %w", err)
	}
	return tasks, nil
}
