package herder

import (
	"testing"
	"time"
)

// TestATaskHasAsLongToFinishAsIsGranted: task.shutdown.graceful.timeout.ms, but no longer than the lease that is known when it is told.
func TestATaskHasAsLongToFinishAsIsGranted(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{0, time.Second, time.Hour} {
		f := newFollower(t, Config{Fences: mirrors})
		f.timing.Grace, f.waits = grace, nil
		if out := f.assigned(2, "0"); len(out.Start) != 1 {
			t.Fatalf("%+v", out)
		}
		f.later(time.Second, true)
		out := f.assigned(3, "")
		if want := min(f.now+grace, f.now+f.timing.Lease); len(out.Stop) != 1 || out.Stop[0].Deadline != want {
			t.Errorf("granted %v at %v: %+v, want the end at %v", grace, f.now, out.Stop, want)
		}
	}
}
