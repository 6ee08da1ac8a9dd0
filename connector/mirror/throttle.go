package mirror

import (
	"sync"
	"time"
)

// throttle lets each message pass once in a while, so that a trouble that lasts
// does not fill the log.
type throttle struct {
	every time.Duration

	mu   sync.Mutex
	last map[string]time.Time // at most maxThrottled
}

// maxThrottled bounds the memory of a throttle; beyond it, it forgets.
const maxThrottled = 1000

func newThrottle(every time.Duration) *throttle {
	return &throttle{every: every, last: map[string]time.Time{}}
}

// allow says whether the message called key may be logged.
func (t *throttle) allow(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if at, ok := t.last[key]; ok && now.Sub(at) < t.every {
		return false
	}
	if len(t.last) >= maxThrottled {
		clear(t.last)
	}
	t.last[key] = now
	return true
}
