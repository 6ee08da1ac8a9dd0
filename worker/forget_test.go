package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"barnabas/worker/store"
)

func TestStatusesOfWhatIsGoneAreDeleted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "3"})
	c.running(w, "x", 3)
	if _, _, err := w.Put(t.Context(), "x", map[string]string{"connector.class": "test.Idle", "tasks.max": "1"}); err != nil {
		t.Fatal(err)
	}
	c.running(w, "x", 1)
	c.eventually(func() string {
		if left := w.topics.statuses.Tasks("x"); len(left) != 1 {
			return fmt.Sprintf("statuses of tasks that are no more: %v", left)
		}
		return ""
	})
	if err := w.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if left := w.topics.statuses.Connectors(); len(left) > 0 {
			return fmt.Sprintf("statuses of connectors that are no more: %v", left)
		}
		return ""
	})
}

func TestDeletedStatusOfWhatRunsIsWrittenAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	c.running(w, "x", 2)
	// As by a leader that swept an earlier connector of the name.
	for _, e := range []store.Entry{
		store.TaskStatus{Connector: "x", Task: 1}.Entry(), store.TaskStatus{Connector: "x", Task: 0}.Entry(), store.ConnectorStatus{Connector: "x"}.Entry(),
	} {
		if err := w.topics.statusAppender.Append(t.Context(), []store.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually(func() string {
		if err := w.topics.status.ReadToEnd(t.Context()); err != nil {
			return err.Error()
		}
		if _, ok := w.topics.statuses.Connector("x"); !ok {
			return "the connector has no status"
		}
		return ""
	})
	c.running(w, "x", 2)
}

func TestALateStatusOfAFormerOwnerIsNotBelieved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "1"})
	c.running(w, "x", 1)
	trace := "late"
	late := &store.Status{State: "FAILED", WorkerID: "gone:1", Generation: 0, Trace: &trace}
	if err := w.topics.statusAppender.Append(t.Context(), []store.Entry{
		store.TaskStatus{Connector: "x", Task: 0, Status: late}.Entry(), store.ConnectorStatus{Connector: "x", Status: late}.Entry(),
	}); err != nil {
		t.Fatal(err)
	}
	// The topic says it again, for workers that start later and for Kafka Connect; meanwhile nobody is told the late one.
	c.eventually(func() string {
		s, err := w.Status(t.Context(), "x")
		if err != nil || s.Connector.State != "RUNNING" || s.Tasks[0].State != "RUNNING" || s.Tasks[0].Trace != "" {
			t.Fatalf("got %+v, %v; want it to be running throughout", s, err)
		}
		connector, _ := w.topics.statuses.Connector("x")
		task, _ := w.topics.statuses.Task("x", 0)
		if err := w.topics.status.ReadToEnd(t.Context()); err != nil {
			return err.Error()
		}
		if connector.State != "RUNNING" || task.State != "RUNNING" {
			return fmt.Sprintf("the topic says %+v and %+v", connector, task)
		}
		return ""
	})
}

func TestALostWorkersUnitsAreShownAsLostAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.crash = map[string]chan struct{}{"b:1": make(chan struct{})}
	// What it ran waits for its return, which is the longest that it can be shown.
	delay := map[string]string{"scheduled.rebalance.max.delay.ms": "600000"}
	a := c.join("a:1", delay)
	c.allAlive(a, 1)
	c.join("b:1", delay)
	c.allAlive(a, 2)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "4"})
	c.running(a, "x", 4)
	close(c.crash["b:1"])
	c.eventually(func() string {
		for _, m := range a.Members() {
			if m.ID == "b:1" && m.State == "alive" {
				return "b:1 is alive"
			}
		}
		return ""
	})
	s, err := a.Status(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, task := range s.Tasks {
		switch {
		case task.WorkerID == "b:1" && task.State == "UNASSIGNED" && strings.Contains(task.Trace, "b:1 is lost"):
			lost++
		case task.WorkerID == "a:1" && task.State == "RUNNING":
		default:
			t.Errorf("task %+v", task)
		}
	}
	if lost != 2 {
		t.Errorf("%d tasks are shown as lost, want 2: %+v", lost, s)
	}
}

// TestAWorkerEndsWhileItIsGainsaid has somebody overwrite a status all the time, also after the loop has ended.
func TestAWorkerEndsWhileItIsGainsaid(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	other := c.join("b:1", nil)
	for i := range 3 {
		w := c.join(fmt.Sprintf("a:%d", i+1), nil)
		c.allAlive(other, 2)
		name := fmt.Sprintf("x%d", i)
		c.create(name, map[string]string{"connector.class": "test.Idle", "tasks.max": "4"})
		c.running(w, name, 4)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			var all []store.Entry
			for task := range 4 {
				all = append(all, store.TaskStatus{Connector: name, Task: task}.Entry())
			}
			for ctx.Err() == nil {
				_ = other.topics.statusAppender.Append(ctx, all)
			}
		}()
		w.stop()
		select {
		case err := <-w.done:
			w.done <- err // for the clean-up
		case <-time.After(30 * time.Second):
			t.Error("it does not end")
		}
		cancel()
		<-over
		if err := other.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}
