package task

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"barnabas/connector"
)

// ErrLease is the error of everything that a run tries to send when it may not
// act any more.
var ErrLease = errors.New("the run may not act any more: its lease has ended")

// Lease is until when the runs of a worker may act, unless they are being
// stopped. The zero Lease has run out.
type Lease struct {
	until atomic.Pointer[time.Time]
}

// Renew sets the end of the lease. until must carry a monotonic reading.
func (l *Lease) Renew(until time.Time) { l.until.Store(&until) }

// Until returns the end of the lease.
func (l *Lease) Until() time.Time {
	if t := l.until.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// guard holds a run to its lease: it knows until when the run may act, refuses
// writes after that, and then closes the run's connections.
type guard struct {
	lease   *Lease
	expired chan struct{}

	mu       sync.Mutex
	deadline time.Time // of a run that is being stopped; zero while it is not
	moved    chan struct{}
	conns    map[net.Conn]struct{}
}

func newGuard(l *Lease) *guard {
	return &guard{lease: l, expired: make(chan struct{}), moved: make(chan struct{}, 1), conns: map[net.Conn]struct{}{}}
}

// end sets the time after which the run must not act. An earlier one stays.
func (g *guard) end(deadline time.Time) {
	g.mu.Lock()
	if g.deadline.IsZero() || deadline.Before(g.deadline) {
		g.deadline = deadline
	}
	g.mu.Unlock()
	select {
	case g.moved <- struct{}{}:
	default:
	}
}

// until is when the run's right to act ends, as far as is known.
func (g *guard) until() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.deadline.IsZero() {
		return g.deadline
	}
	return g.lease.Until()
}

func (g *guard) valid() bool { return time.Now().Before(g.until()) }

// watch waits until the run may not act any more, then cuts its connections.
func (g *guard) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		rest := time.Until(g.until())
		if rest <= 0 {
			break
		}
		timer.Reset(rest)
		select {
		case <-timer.C: // the lease may have been renewed meanwhile
		case <-g.moved:
		}
	}
	close(g.expired)
	g.mu.Lock()
	// A lease that ran out ends this run for good: a renewed one is for the next.
	g.deadline = time.Now()
	conns := make([]net.Conn, 0, len(g.conns))
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// dialer wraps dial so that the connections it makes obey the guard.
func (g *guard) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !g.valid() {
			return nil, ErrLease
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		gc := &guardedConn{Conn: c, guard: g}
		g.mu.Lock()
		g.conns[gc] = struct{}{}
		g.mu.Unlock()
		if !g.valid() { // it ended while we dialed, perhaps after watch had looked
			gc.Close()
			return nil, ErrLease
		}
		return gc, nil
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// guardedConn refuses to write once its run may not act any more.
type guardedConn struct {
	net.Conn
	guard *guard
}

func (c *guardedConn) Write(b []byte) (int, error) {
	if !c.guard.valid() {
		c.Close()
		return 0, ErrLease
	}
	return c.Conn.Write(b)
}

func (c *guardedConn) Close() error {
	c.guard.mu.Lock()
	delete(c.guard.conns, c)
	c.guard.mu.Unlock()
	return c.Conn.Close()
}

// offsets lets a run save offsets only while it may act: those of a run that has
// been replaced are older than its successor's.
func (g *guard) offsets(o connector.Offsets) connector.Offsets {
	save := o.Save
	o.Save = func(ctx context.Context, offsets []connector.Offset) error {
		until := g.until()
		if !time.Now().Before(until) {
			return ErrLease
		}
		ctx, cancel := context.WithDeadlineCause(ctx, until, ErrLease)
		defer cancel()
		return save(ctx, offsets)
	}
	return o
}

func dedup(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
