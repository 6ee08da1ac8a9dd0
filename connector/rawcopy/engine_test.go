package rawcopy

import (
	"testing"
	"time"
)

// TestEngineRestsWhileMetadataIsOnItsWay: a broker that makes a thousand logs takes seconds to answer.
func TestEngineRestsWhileMetadataIsOnItsWay(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, soon := now.Add(-time.Second), now.Add(40*time.Millisecond)
	for _, tt := range []struct {
		name           string
		source, target looking
		ready          Ready
		want           time.Duration
	}{
		{"both on their way", looking{busy: true, next: past}, looking{busy: true, next: past}, Ready{}, lookEvery},
		{"one on its way", looking{busy: true, next: past}, looking{next: soon}, Ready{}, 40 * time.Millisecond},
		{"one due", looking{next: past}, looking{next: soon}, Ready{}, 0},
		{"the flow wakes first", looking{next: soon}, looking{busy: true, next: past}, Ready{Wake: now.Add(time.Millisecond)}, time.Millisecond},
		{"starved", looking{busy: true}, looking{busy: true}, Ready{Starved: true}, starved},
	} {
		e := &Engine{looking: [2]looking{tt.source, tt.target}}
		if got := e.wake(&tt.ready, now); got != tt.want {
			t.Errorf("%s: wakes in %v, want %v", tt.name, got, tt.want)
		}
	}
}
