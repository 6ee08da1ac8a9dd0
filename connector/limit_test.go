package connector

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// take has n share a limit for a time, each request taking what size says, and a moment besides.
func take(l *Limit, n int, d time.Duration, size func() int) (total int64) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var sum atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for {
				taken, err := l.Wait(ctx)
				if err != nil {
					return
				}
				time.Sleep(time.Millisecond) // the request
				bytes := size()
				taken(bytes)
				sum.Add(int64(bytes))
			}
		})
	}
	all.Wait()
	return sum.Load()
}

func TestLimitHoldsWithinFivePercent(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		n    int
		rate float64
		size func() int
	}{
		{"one", 1, 5e6, func() int { return 1 << 20 }},
		{"many at once", 16, 5e6, func() int { return 1 << 20 }},
		{"sizes of all kinds", 8, 5e6, func() int { return rand.IntN(2 << 20) }},
		{"slower than a request a second", 2, 2e5, func() int { return 100 << 10 }},
		{"small requests", 4, 1e6, func() int { return 500 + rand.IntN(5000) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			const window = 30 * time.Second
			got := float64(take(NewLimit(row.rate), row.n, window, row.size)) / window.Seconds()
			if got < row.rate*0.95 || got > row.rate*1.05 {
				t.Errorf("%s: %.0f bytes a second, want %.0f", row.name, got, row.rate)
			}
		})
	}
}

func TestALimitChangesWhileItIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimit(1000)
		taken, _ := l.Wait(t.Context())
		taken(20000) // 20 s of it
		passed := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			_, _ = l.Wait(t.Context())
			passed <- time.Since(began)
		}()
		time.Sleep(time.Second)
		l.Set(1e6)
		if took := <-passed; took > 1100*time.Millisecond {
			t.Errorf("waited %s after the limit was raised", took)
		}
		l.Set(0)
		for range 1000 {
			taken, err := l.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			taken(1 << 30)
		}
		var none *Limit
		if taken, err := none.Wait(t.Context()); err != nil || taken == nil {
			t.Error("no limit is one")
		}
	})
}

func TestIdleRequestsCostNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimit(1000)
		for range 50 {
			taken, _ := l.Wait(t.Context())
			taken(0)
		}
		began := time.Now()
		for range 100 {
			taken, _ := l.Wait(t.Context())
			taken(0)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("100 empty answers took %s", took)
		}
	})
}
