package e2e

import (
	"net/http"
	"testing"
	"time"

	"barnabas/e2e/oracle"
)

// copying sets up one connector of a fleet on topics with partitions, under
// users of its own, waits until it runs, and returns which topic becomes which.
func copying(e *Env, f *Fleet, name string, partitions int32, tasks int) map[string]string {
	e.t.Helper()
	topic := e.Topic(e.Source, name, partitions)
	copied := "src." + topic
	source, target := e.User(e.Source, name+"-ro", ReadTopics(topic)...), e.User(e.Target, name+"-rw", WriteTopics(copied)...)
	f.Create(e.Prefix+"-"+name, e.Mirror(source, target, topic, tasks))
	f.Await(e.Prefix+"-"+name, "RUNNING", tasks, 30*time.Second)
	return map[string]string{topic: copied}
}

// names are the source topics, or the copies, of a map of topics.
func names(topics map[string]string) (sources, copies []string) {
	for from, to := range topics {
		sources, copies = append(sources, from), append(copies, to)
	}
	return sources, copies
}

func TestKilledWorkersTasksRunAgainElsewhere(t *testing.T) {
	e := New(t, 3*time.Minute)
	const partitions, rate = 6, 2000
	f := e.Fleet(FleetOptions{Size: 3})
	topics := copying(e, f, "orders", partitions, 3)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)

	crashes := 0
	for _, victim := range []struct {
		what string
		kill func() *Worker
	}{
		{"the leader", f.Leader},
		{"a task's worker that does not lead", func() *Worker {
			leads := f.Leader()
			for _, id := range f.Owners(connector) {
				if id != leads.ID {
					return f.ByID(id)
				}
			}
			t.Fatal("the leader has all tasks")
			return nil
		}},
	} {
		// On a busy machine one of two may be late.
		for attempt := range 2 {
			w := victim.kill()
			w.Kill()
			killed := time.Now()
			crashes++
			took := watch.Fresh(partitions, killed, 30*time.Second)
			t.Logf("kill -9 of %s: every partition copies again after %s", victim.what, took)
			f.Await(connector, "RUNNING", 3, 10*time.Second)
			if next := f.Leader(); next == w {
				t.Errorf("%s leads although it is dead", w.ID)
			}
			w.Start()
			f.Await(connector, "RUNNING", 3, 30*time.Second)
			if took < 5*time.Second {
				break
			}
			if attempt > 0 {
				t.Errorf("kill -9 of %s: every partition copies again after %s, want under 5s", victim.what, took)
			}
		}
	}
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	for _, again := range report.Again {
		t.Log(again)
	}
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
	// The tasks are fenced and reconciled: what was copied since the last flush is found in the target.
	if report.Duplicates > 0 {
		t.Errorf("%d duplicates after %d crashes, want none", report.Duplicates, crashes)
	}
	f.Pages(connector)
}

func TestFrozenWorkerStopsByItselfWhenItWakes(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate = 4, 500
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, 2)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)

	frozen := f.ByID(f.Owners(connector)[connector+"-0"])
	frozen.Freeze()
	since := time.Now()
	took := watch.Fresh(partitions, since, 30*time.Second)
	t.Logf("SIGSTOP: every partition copies again after %s", took)
	e.Pass(time.Until(since.Add(30 * time.Second)))
	other := f.Workers[0]
	if other == frozen {
		other = f.Workers[1]
	}
	var before Status
	e.Until(10*time.Second, "all tasks elsewhere", func() string {
		if status, answer := other.Ask(http.MethodGet, "/connectors/"+connector+"/status", ""); status != 200 || unmarshal(answer, &before) != nil {
			return answer
		}
		for _, task := range before.Tasks {
			if task.Worker != other.ID || task.State != "RUNNING" {
				return task.State + " on " + task.Worker
			}
		}
		return ""
	})
	compare := oracle.Options{Source: Plain(e.Source), Target: Plain(e.Target), Topics: topics}
	asleep, err := oracle.Compare(t.Context(), compare)
	e.Must(err)
	frozen.Thaw()
	woken := time.Now()
	e.Must(frozen.healthy(t.Context()))
	t.Logf("awake: healthy again after %s", time.Since(woken))
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	f.Await(connector, "RUNNING", 2, 30*time.Second)
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Logf("%s; of these duplicates %d came before waking", report, asleep.Duplicates)
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
	if report.Duplicates > 0 {
		t.Errorf("%d duplicates, %d of them since the worker woke: it was fenced, there should be none", report.Duplicates, report.Duplicates-asleep.Duplicates)
	}
}

func TestSecondRunGoesOnWhereTheFirstStopped(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate = 4, 1000
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, 2)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)

	for _, w := range f.Workers {
		w.Stop()
	}
	f.Start()
	f.Await(connector, "RUNNING", 2, 30*time.Second)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	report, err := oracle.Compare(t.Context(), oracle.Options{Source: Plain(e.Source), Target: Plain(e.Target), Topics: topics})
	e.Must(err)
	if report.Duplicates > 0 || report.Foreign > 0 || report.Disordered > 0 {
		t.Errorf("after an orderly stop and a second run: %s", report)
	}

	// Until now it was catching up, without a flush; in step, there is one a second.
	e.Pass(3 * time.Second)
	for _, w := range f.Workers {
		w.Kill()
	}
	f.Start()
	f.Await(connector, "RUNNING", 2, 30*time.Second)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	stop()
	report = e.Copied(topics, 30*time.Second)
	t.Logf("after kill -9 of all workers: %s", report)
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
	if report.Duplicates > 0 {
		t.Errorf("%d duplicates after kill -9, want none", report.Duplicates)
	}
}
