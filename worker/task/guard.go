package task

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	// Length is how long the lease lasts from when it was asked for.
	Length time.Duration
	until  atomic.Pointer[time.Time]
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
	lease *Lease
	// strict holds the run to the lease even under a fence (lease.enforce=all).
	strict  bool
	expired chan struct{}
	clear   chan struct{} // closed when no former owner can save offsets any more

	mu       sync.Mutex
	fenced   bool      // a fence bounds what the run can do, not the lease
	deadline time.Time // of a run that is being stopped; zero while it is not
	leased   time.Time // the end of the lease when the run was first told to stop
	moved    chan struct{}
	conns    map[net.Conn]struct{}
}

func newGuard(l *Lease) *guard {
	return &guard{
		lease: l, expired: make(chan struct{}), clear: make(chan struct{}), moved: make(chan struct{}, 1), conns: map[net.Conn]struct{}{},
	}
}

// end sets the time after which the run must not act. An earlier one stays.
func (g *guard) end(deadline time.Time) {
	g.mu.Lock()
	if g.deadline.IsZero() {
		g.leased = g.lease.Until()
	}
	if g.deadline.IsZero() || deadline.Before(g.deadline) {
		g.deadline = deadline
	}
	g.mu.Unlock()
	g.look()
}

// fence says whether the run holds a fence.
func (g *guard) fence(held bool) {
	g.mu.Lock()
	g.fenced = held
	g.mu.Unlock()
	g.look()
}

// look has watch look again.
func (g *guard) look() {
	select {
	case g.moved <- struct{}{}:
	default:
	}
}

// forever is later than anything here lasts.
const forever = 100 * 365 * 24 * time.Hour

// until is when the run's right to act ends, as far as is known.
func (g *guard) until() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.deadline.IsZero():
		return g.deadline
	case g.fenced && !g.strict:
		return time.Now().Add(forever)
	}
	return g.lease.Until()
}

// saving is when the run's right to save offsets ends. No fence keeps an old
// offset out of the worker's topic, so that is never later than the lease.
func (g *guard) saving() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.deadline.IsZero():
		return g.lease.Until()
	case g.leased.Before(g.deadline):
		return g.leased
	}
	return g.deadline
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

// offsets lets a run save offsets only while it may: those of a run that has been replaced are older than
// its successor's. So a save waits until no former owner can save any more, and is
// refused when the run's own lease is over.
func (g *guard) offsets(o connector.Offsets) connector.Offsets {
	save := o.Save
	o.Save = func(ctx context.Context, offsets []connector.Offset) error {
		select {
		case <-g.clear:
		case <-g.expired:
			return ErrLease
		case <-ctx.Done():
			return fmt.Errorf("offsets are not saved while a former owner may save its own: %w", context.Cause(ctx))
		}
		until := g.saving()
		if !time.Now().Before(until) {
			return ErrLease
		}
		ctx, cancel := context.WithDeadlineCause(ctx, until, ErrLease)
		defer cancel()
		return save(ctx, offsets)
	}
	return o
}

// confirmTick is how often confirm looks at the lease, which is renewed about
// every half second.
const confirmTick = 20 * time.Millisecond

// confirm returns nil when the lease has been renewed by a reading of the config topic that was asked for after the
// call, and the run has not been told to stop: then it was still its owner's.
func (g *guard) confirm(ctx context.Context) error {
	since := time.Now()
	ticker := time.NewTicker(confirmTick)
	defer ticker.Stop()
	for {
		if g.lease.Until().Add(-g.lease.Length).After(since) {
			return context.Cause(ctx)
		}
		select {
		case <-ticker.C:
		case <-g.expired:
			return ErrLease
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
