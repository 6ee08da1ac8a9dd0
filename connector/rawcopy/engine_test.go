package rawcopy

import (
	"errors"
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

// TestPartitionsThatCameMeanwhileAreAskedForAtOnce: the topic of the books is written to just after the lanes have been asked for.
func TestPartitionsThatCameMeanwhileAreAskedForAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		name        string
		again, more bool
		err         error
		want        time.Duration
	}{
		{"all is known", false, false, nil, lookEvery},
		{"nobody leads one of those that were asked for", true, false, nil, lookSpacing},
		{"others came meanwhile", true, true, nil, 0},
		{"others came, and the cluster does not answer", true, true, errors.New("timeout"), 2 * lookSpacing},
	} {
		l := looking{busy: true, again: tt.again}
		if l.answered(now, tt.err, tt.more); l.busy || l.next.Sub(now) != tt.want {
			t.Errorf("%s: asks again after %v, want %v", tt.name, l.next.Sub(now), tt.want)
		}
	}
}
