package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestRollingRestartUnderLoad restarts all workers in good order, one after another and the leader last, while records
// come in, as an upgrade does. Nothing is lost or doubled, and no partition stands still for a second.
func TestRollingRestartUnderLoad(t *testing.T) {
	e := New(t, 4*time.Minute)
	const partitions, tasks, rate = 6, 3, 2000
	f := e.Fleet(FleetOptions{Size: 3})
	topics := copying(e, f, "orders", partitions, tasks)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)

	const bound = time.Second
	for roll := 1; ; roll++ { // on a busy machine one of three may be late
		longest := e.roll(f, watch, connector, partitions, tasks)
		t.Logf("roll %d: longest standstill of a partition %s", roll, longest.Round(time.Millisecond))
		if longest < bound {
			break
		}
		if roll == 3 {
			t.Errorf("a partition stood still for %s, want less than %s", longest, bound)
			break
		}
	}
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Equal() {
		t.Errorf("not an equal copy: %s", report)
	}
}

// roll restarts each worker of f once, the leader last, and returns the longest standstill of a partition.
func (e *Env) roll(f *Fleet, watch *Watch, connector string, partitions, tasks int) (longest time.Duration) {
	e.t.Helper()
	leader := f.Leader()
	order := append(slices.DeleteFunc(slices.Clone(f.Workers), func(w *Worker) bool { return w == leader }), leader)
	for _, w := range order {
		standstills := watch.Standstills()
		began := time.Now()
		w.Stop()
		ended := time.Since(began)
		watch.Fresh(partitions, time.Now(), 30*time.Second)
		leaving := most(standstills())

		standstills = watch.Standstills()
		w.Start()
		e.Until(30*time.Second, "three workers that share the tasks", func() string {
			owners := map[string]bool{}
			for _, id := range f.Owners(connector) {
				owners[id] = true
			}
			if len(owners) < len(f.Workers) {
				return fmt.Sprint(owners)
			}
			return ""
		})
		f.Await(connector, "RUNNING", tasks, 30*time.Second)
		watch.Fresh(partitions, time.Now(), 30*time.Second)
		coming := most(standstills())
		e.t.Logf("a worker (leader: %v) was gone after %s; longest standstill of a partition %s when it left, %s when it came back",
			w == leader, ended.Round(time.Millisecond), leaving.Round(time.Millisecond), coming.Round(time.Millisecond))
		longest = max(longest, leaving, coming)
	}
	return longest
}

// most is the longest of some standstills.
func most(standstills map[string]time.Duration) (longest time.Duration) {
	for _, d := range standstills {
		longest = max(longest, d)
	}
	return longest
}
