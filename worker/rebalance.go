package worker

import (
	"math"
	"time"

	"barnabas/worker/task"
)

// rebalances measures how long this worker's units wait for their former owners after assignments. It is the loop's.
type rebalances struct {
	version int64     // of the newest assignment
	began   time.Time // zero: none goes on
	ended   time.Time // of the last
	took    task.Window
}

// observe is called with every change.
func (r *rebalances) observe(version int64, waiting bool, now time.Time) {
	if r.began.IsZero() && (waiting || version != r.version) {
		r.began = now
	}
	r.version = version
	if r.began.IsZero() || waiting {
		return
	}
	ms := float64(now.Sub(r.began)) / float64(time.Millisecond)
	r.took.Add(now, 1, ms, ms)
	r.began, r.ended = time.Time{}, now
}

// sinceLast is +Inf before the first, as in Kafka.
func (r *rebalances) sinceLast(now time.Time) float64 {
	if r.ended.IsZero() {
		return math.Inf(1)
	}
	return float64(now.Sub(r.ended).Milliseconds())
}
