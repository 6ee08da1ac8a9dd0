package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// runsWhere says what is wrong unless all tasks of a connector run, none of them on not.
func runsWhere(t *testing.T, w *member, name string, tasks int, not string) string {
	t.Helper()
	s, err := w.Status(t.Context(), name)
	if err != nil {
		return err.Error()
	}
	if len(s.Tasks) != tasks || s.Connector.State != "RUNNING" || s.Connector.WorkerID == not {
		return fmt.Sprintf("%+v", s)
	}
	for _, task := range s.Tasks {
		if task.State != "RUNNING" || task.WorkerID == not {
			return fmt.Sprintf("%+v", task)
		}
	}
	return ""
}

func TestADrainedWorkerRunsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.join("a:1", nil)
	c.allAlive(a, 1)
	b := c.join("b:1", nil)
	c.allAlive(a, 2)
	idle := map[string]string{"connector.class": "test.Idle", "tasks.max": "4"}
	c.create("x", idle)
	c.running(a, "x", 4)
	drain := func(id string, on bool) {
		t.Helper()
		c.leads(func(w *member) error { return w.Drain(t.Context(), id, on) })
	}
	counts := func(id string) (m Member) {
		for _, m := range b.Members() {
			if m.ID == id {
				return m
			}
		}
		return m
	}
	drain("a:1", true)
	c.eventually(func() string { return runsWhere(t, b, "x", 4, "a:1") })
	if m := counts("a:1"); !m.Drained || m.Connectors+m.Tasks > 0 {
		t.Errorf("a is %+v", m)
	}
	c.create("y", idle)
	c.eventually(func() string { return runsWhere(t, b, "y", 4, "a:1") })

	// Also after a restart.
	a.stop()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
	a.done <- nil // for the clean-up
	c.workers = c.workers[1:]
	again := c.join("a:1", nil)
	c.allAlive(b, 2)
	c.create("z", idle)
	c.eventually(func() string { return runsWhere(t, again, "z", 4, "a:1") })

	// With nobody left to take it, what runs goes on, and what is new says why it does not.
	drain("b:1", true)
	c.create("w", idle)
	c.eventually(func() string {
		s, err := again.Status(t.Context(), "w")
		if err != nil || s.Connector.State != "UNASSIGNED" || !strings.Contains(s.Connector.Trace, "drained") {
			return fmt.Sprintf("%+v, %v", s, err)
		}
		return ""
	})
	if wrong := runsWhere(t, b, "x", 4, "a:1"); wrong != "" {
		t.Error(wrong)
	}

	drain("b:1", false)
	drain("a:1", false)
	c.eventually(func() string {
		if m := counts("a:1"); m.Drained || m.Tasks < 6 {
			return fmt.Sprintf("a is %+v", m)
		}
		return runsWhere(t, again, "w", 4, "")
	})
	c.leads(func(w *member) error {
		err := w.Drain(t.Context(), "nobody:1", true)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return fmt.Errorf("a worker that is not there: %w", err)
	})
}
