package connector

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Gate bounds the bytes that all tasks of a worker hold between fetch and
// acknowledgement. It is first come, first served, so no task starves another.
type Gate struct {
	limit int64
	sem   *semaphore.Weighted
}

// NewGate returns a gate for limit bytes.
func NewGate(limit int64) *Gate {
	return &Gate{limit: limit, sem: semaphore.NewWeighted(limit)}
}

// Enter waits until n more bytes may be held. A request above the limit is
// counted as the whole gate, so that one huge response can pass alone. The
// returned function gives the bytes back; it must be called once.
func (g *Gate) Enter(ctx context.Context, n int64) (leave func(), err error) {
	n = min(n, g.limit)
	if err := g.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { g.sem.Release(n) }, nil
}
