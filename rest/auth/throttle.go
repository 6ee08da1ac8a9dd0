package auth

import (
	"context"
	"sync"
	"time"
)

// throttle slows down logins from addresses that fail. The first few failures
// cost nothing, for people mistype; then each is answered later than the one before, and
// while several wait, further ones are not looked at. A caller who does not wait for the answer gains nothing: the place is
// held for as long.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex
	callers map[string]*failures
}

// failures are those of one address.
type failures struct {
	level   float64 // falls by one every forgetEvery
	last    time.Time
	waiting int
}

const (
	freeFailures = 3
	firstWait    = 100 * time.Millisecond
	longestWait  = 3 * time.Second
	maxLevel     = 12 // forgotten after two minutes
	forgetEvery  = 10 * time.Second
	maxWaiting   = 8
	maxCallers   = 10_000 // some MiB; more at once are an attack from everywhere, which the hashing bounds
)

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, callers: map[string]*failures{}}
}

// admits says whether a login from an address is looked at.
func (t *throttle) admits(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.callers[address]
	return f == nil || f.waiting < maxWaiting
}

// failed counts a failure and waits for as long as it costs, or until ctx ends.
func (t *throttle) failed(ctx context.Context, address string) {
	wait := t.count(address)
	if wait == 0 {
		return
	}
	over := make(chan struct{})
	time.AfterFunc(wait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f := t.callers[address]; f != nil {
			f.waiting--
		}
		close(over)
	})
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// count counts a failure; with a wait, the address has one more waiting.
func (t *throttle) count(address string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	f := t.callers[address]
	if f == nil {
		t.makeRoom(now)
		f = &failures{last: now}
		t.callers[address] = f
	}
	f.level = min(maxLevel, f.decayed(now)+1)
	f.last = now
	over := int(f.level) - freeFailures
	if over <= 0 {
		return 0
	}
	f.waiting++
	return min(longestWait, firstWait<<(over-1))
}

func (f *failures) decayed(now time.Time) float64 {
	return max(0, f.level-float64(now.Sub(f.last))/float64(forgetEvery))
}

// makeRoom forgets addresses that have not failed for long, and if these are few any
// others that have nobody waiting: many at once, so that it seldom has to look through all.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.callers) < maxCallers {
		return
	}
	for address, f := range t.callers {
		if f.waiting == 0 && f.decayed(now) == 0 {
			delete(t.callers, address)
		}
	}
	for address, f := range t.callers {
		if len(t.callers) < maxCallers*3/4 {
			return
		}
		if f.waiting == 0 {
			delete(t.callers, address)
		}
	}
}
