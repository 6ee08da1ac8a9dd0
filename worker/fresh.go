package worker

import (
	"context"
	"errors"
	"time"

	"barnabas/worker/herder"
)

// How long Fresh waits. An open transaction of a leader that has just been lost keeps the end of the log out of reach until the next one
// takes the lead, which is a matter of seconds; the lease is renewed meanwhile. Who has no lease cannot read the log at
// all, or has just been woken; then it takes one question to know which.
const (
	freshPatience = 8 * time.Second
	stalePatience = time.Second
)

// ErrStale says that what this worker knows may be old.
var ErrStale = errors.New("this worker cannot read the config topic to its end at the moment")

// passed is an event that only tells that those before it have been taken in.
type passed struct {
	herder.Tick
	done chan struct{}
}

// Fresh waits until all that any worker has acknowledged before the call is known to this one, so that an answer that is read after it is
// not older than the question. It is ErrStale if that takes too long: then the worker can only tell what it knows. Many calls share
// one question to the brokers.
func (w *Worker) Fresh(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, freshPatience)
	defer cancel()
	var err error
	for last := false; !last; last = last || !time.Now().Before(w.lease.Until()) {
		patience := max(0, time.Until(w.lease.Until())) + stalePatience
		attempt, cancel := context.WithTimeout(bounded, patience)
		err = w.topics.config.ReadToEnd(attempt)
		cancel()
		last = err == nil || bounded.Err() != nil
	}
	if err == nil {
		p := passed{done: make(chan struct{})}
		w.tell(p)
		select {
		case <-p.done:
			return nil
		case <-w.over:
		case <-bounded.Done():
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return ErrStale
}
