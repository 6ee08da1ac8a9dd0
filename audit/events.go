package audit

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Events writes down what a worker does by itself. Nobody waits for it: what cannot be written soon enough is lost, counted,
// and the count is written down.
type Events struct {
	trail *Trail
	log   *slog.Logger
	queue chan Entry
	lost  atomic.Int64
	total atomic.Int64 // lost since the beginning
}

const (
	// maxEvents is how many events wait at most.
	maxEvents = 4096
	// The wait until an event that could not be written is tried again.
	firstEvent, lastEvent = time.Second, 15 * time.Second
	// lastWords bounds how long the end of a worker waits for its events to be written.
	lastWords = 3 * time.Second
)

// NewEvents returns events that are written to a trail. They have to Run.
func NewEvents(trail *Trail, log *slog.Logger) *Events {
	return &Events{trail: trail, log: log, queue: make(chan Entry, maxEvents)}
}

// Tell notes an event. It never blocks.
func (e *Events) Tell(event Entry) {
	event.Kind = Machine
	if event.At.IsZero() {
		event.At = time.Now()
	}
	select {
	case e.queue <- event:
	default:
		e.lose(1)
	}
}

func (e *Events) lose(n int64) {
	e.lost.Add(n)
	e.total.Add(n)
}

// Lost is how many events were lost since the worker was started; of none that are nil.
func (e *Events) Lost() int64 {
	if e == nil {
		return 0
	}
	return e.total.Load()
}

// Run writes events until ctx ends, and then, for a moment, those that are left.
func (e *Events) Run(ctx context.Context) error {
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, stop) })()
	for {
		select {
		case event := <-e.queue:
			e.write(writing, event)
		case <-ctx.Done():
			for len(e.queue) > 0 && writing.Err() == nil {
				e.write(writing, <-e.queue)
			}
			if n := e.lost.Load() + int64(len(e.queue)); n > 0 {
				e.log.Error("events are missing in the audit trail", "events", n)
			}
			return nil
		}
	}
}

// write writes an event, and before it how many were lost. It tries until ctx ends.
func (e *Events) write(ctx context.Context, event Entry) {
	wait, told := firstEvent, time.Time{}
	for {
		err := e.tellLost(ctx, event)
		if err == nil {
			err = e.trail.Write(ctx, event)
		}
		if err == nil {
			return
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			e.log.Error("events cannot be written to the audit trail, trying again", "err", err)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
			wait = min(2*wait, lastEvent)
		case <-ctx.Done():
			timer.Stop()
			e.lose(1)
			return
		}
	}
}

// tellLost writes that events were lost, if any were.
func (e *Events) tellLost(ctx context.Context, of Entry) error {
	n := e.lost.Load()
	if n == 0 {
		return nil
	}
	err := e.trail.Write(ctx, Entry{
		Kind: Machine, Action: EventsLost, Resource: of.Resource, Outcome: Failed,
		Reason: fmt.Sprintf("%d events of this worker were lost: they could not be written soon enough", n),
	})
	if err == nil {
		e.lost.Add(-n)
	}
	return err
}
