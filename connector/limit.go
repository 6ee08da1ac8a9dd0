package connector

import (
	"context"
	"sync"
	"time"
)

// Limit bounds bytes per second, for everybody who shares it. What is taken is paid for after the fact, by the wait of
// whoever comes next: so requests may be of any size, and the average is exact. A nil Limit bounds nothing.
type Limit struct {
	mu      sync.Mutex
	rate    float64       // bytes per second; 0: no bound
	next    time.Time     // when all that was taken is paid for
	usual   float64       // bytes of a turn, lately: what a turn is expected to take
	changed chan struct{} // closed when the rate changes
}

// slack is for how long a Limit that is not used up remembers it: gaps between requests are made good.
const slack = 250 * time.Millisecond

// longestTurn bounds one wait. A smaller rate lets a request pass after that.
const longestTurn = 30 * time.Second

// NewLimit returns a limit; 0: none, until Set.
func NewLimit(bytesPerSecond float64) *Limit {
	l := &Limit{changed: make(chan struct{})}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate; 0: no bound. Who waits is told.
func (l *Limit) Set(bytesPerSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == bytesPerSecond {
		return
	}
	l.rate, l.next, l.usual = bytesPerSecond, time.Time{}, bytesPerSecond/4
	close(l.changed)
	l.changed = make(chan struct{})
}

// Wait waits for a turn whose size is known afterwards: taken has to be called with it once, whatever comes of it. The error is
// that of ctx; nothing is to be taken then.
func (l *Limit) Wait(ctx context.Context) (taken func(bytes int), _ error) {
	if l == nil {
		return func(int) {}, ctx.Err()
	}
	for {
		l.mu.Lock()
		rate, expected, changed := l.rate, l.usual, l.changed
		if rate == 0 {
			l.mu.Unlock()
			return func(int) {}, ctx.Err()
		}
		now := time.Now()
		from := l.next
		if earliest := now.Add(-slack); from.Before(earliest) {
			from = earliest
		}
		l.next = from.Add(seconds(expected / rate))
		l.mu.Unlock()
		switch again, err := pass(ctx, min(from.Sub(now), longestTurn), changed); {
		case err != nil:
			l.settle(rate, expected, 0)
			return nil, err
		case !again:
			return func(bytes int) { l.settle(rate, expected, float64(bytes)) }, nil
		}
	}
}

// pass waits for d; again is true if changed was closed meanwhile.
func pass(ctx context.Context, d time.Duration, changed <-chan struct{}) (again bool, _ error) {
	if d <= 0 {
		return false, ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-changed:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// settle puts what was really taken in place of what was expected.
func (l *Limit) settle(rate, expected, bytes float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate != rate {
		return // the account was closed when the rate changed
	}
	l.next = l.next.Add(seconds((bytes - expected) / rate))
	l.usual += (bytes - l.usual) / 4
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
