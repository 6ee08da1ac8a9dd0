package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"
)

func unmarshal(text string, into any) error { return json.Unmarshal([]byte(text), into) }

// still waits until nothing has arrived for a second.
func (w *Watch) still(limit time.Duration) {
	w.e.t.Helper()
	count, since := w.Count(), time.Now()
	w.e.Until(limit, "standstill", func() string {
		if now := w.Count(); now != count {
			count, since = now, time.Now()
		}
		if time.Since(since) < time.Second {
			return fmt.Sprintf("%d records", count)
		}
		return ""
	})
}

func TestOrdersUnderLoadLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate = 4, 500
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, 2)
	name := e.Prefix + "-orders"
	path := "/connectors/" + name
	var config Config
	e.Must(unmarshal(f.Do(http.MethodGet, path+"/config", "", http.StatusOK), &config))
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	fresh := func(what string) {
		t.Helper()
		t.Logf("%s: every partition copies after %s", what, watch.Fresh(partitions, time.Now(), 20*time.Second))
	}
	fresh("created")

	f.Do(http.MethodPut, path+"/pause", "", http.StatusAccepted)
	f.Await(name, "PAUSED", 2, 10*time.Second)
	watch.still(10 * time.Second)
	f.Do(http.MethodPut, path+"/resume", "", http.StatusAccepted)
	f.Await(name, "RUNNING", 2, 10*time.Second)
	fresh("resumed")

	f.Do(http.MethodPut, path+"/stop", "", http.StatusNoContent)
	f.Await(name, "STOPPED", 0, 10*time.Second)
	watch.still(10 * time.Second)
	f.Do(http.MethodPut, path+"/resume", "", http.StatusAccepted)
	f.Await(name, "RUNNING", 2, 10*time.Second)
	fresh("resumed after stop")

	f.Do(http.MethodPost, path+"/restart", "", http.StatusNoContent)
	f.Await(name, "RUNNING", 2, 10*time.Second)
	f.Do(http.MethodPost, path+"/restart?includeTasks=true", "", http.StatusAccepted)
	f.Await(name, "RUNNING", 2, 10*time.Second)
	fresh("restarted with tasks")
	f.Do(http.MethodPost, path+"/tasks/0/restart", "", http.StatusNoContent)
	f.Await(name, "RUNNING", 2, 10*time.Second)
	fresh("task restarted")

	f.Do(http.MethodPut, path+"/config", config.With(map[string]string{"tasks.max": "4"}).JSON(), http.StatusOK)
	f.Await(name, "RUNNING", 4, 20*time.Second)
	fresh("changed to four tasks")

	f.Do(http.MethodDelete, path, "", http.StatusNoContent)
	e.Until(10*time.Second, "deletion", func() string {
		if _, ok := f.Status(name); ok {
			return "still there"
		}
		return ""
	})
	watch.still(10 * time.Second)
	f.Create(name, config)
	f.Await(name, "RUNNING", 2, 20*time.Second)
	fresh("created again")

	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	f.Pages(name)
}

func TestOnlyAsManyTasksMoveAsBalanceNeeds(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate, tasks = 6, 500, 6
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, tasks)
	name := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	balanced := func(workers int) map[string]string {
		t.Helper()
		var owners map[string]string
		e.Until(30*time.Second, fmt.Sprintf("%d tasks balanced over %d workers", tasks, workers), func() string {
			f.Await(name, "RUNNING", tasks, 30*time.Second)
			owners = f.Owners(name)
			load := map[string]int{}
			for _, w := range owners {
				load[w]++
			}
			for _, n := range load {
				if n != tasks/workers || len(load) != workers {
					return fmt.Sprint(load)
				}
			}
			return ""
		})
		return owners
	}
	moved := func(before, after map[string]string) int {
		n := 0
		for task, w := range after {
			if before[task] != w {
				n++
			}
		}
		return n
	}

	two := balanced(2)
	added := f.Add()
	three := balanced(3)
	if n := moved(two, three); n != tasks/3 {
		t.Errorf("a third worker: %d tasks moved, want %d\n%v\n%v", n, tasks/3, two, three)
	}
	watch.Fresh(partitions, time.Now(), 20*time.Second)

	begin := time.Now()
	added.Stop()
	again := balanced(2)
	t.Logf("orderly stop: balanced again after %s", time.Since(begin))
	if n := moved(three, again); n != tasks/3 {
		t.Errorf("the third worker gone: %d tasks moved, want %d\n%v\n%v", n, tasks/3, three, again)
	}
	kept := maps.Clone(three)
	maps.DeleteFunc(kept, func(_, w string) bool { return w == added.ID })
	for task, w := range kept {
		if again[task] != w {
			t.Errorf("task %s moved from %s to %s without need", task, w, again[task])
		}
	}
	watch.Fresh(partitions, time.Now(), 20*time.Second)
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
}
