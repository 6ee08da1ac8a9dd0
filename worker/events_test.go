package worker

import (
	"fmt"
	"strings"
	"testing"
)

// did is what a worker has told of itself, an event a line.
func (m *member) did() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for _, e := range m.events {
		line := e.Action + " " + e.Resource + " " + string(e.Outcome)
		if e.Use != nil {
			line += fmt.Sprintf(" task %d of generation %d", e.Use.Task, e.Use.Generation)
		}
		if e.Reason != "" {
			line += ": " + e.Reason
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestAWorkerTellsWhatItDoes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.join("a:1", nil)
	c.allAlive(a, 1)
	b := c.join("b:1", nil)
	c.allAlive(a, 2)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	c.running(a, "x", 2)
	told := func(wanted ...string) {
		t.Helper()
		c.eventually(func() string {
			all := a.did() + "\n--\n" + b.did()
			for _, want := range wanted {
				if !strings.Contains(all, want) {
					return fmt.Sprintf("no %q in\n%s", want, all)
				}
			}
			return ""
		})
	}
	told("machine:TookLead connect:cluster:g done: epoch 1", "machine:Began connect:connector:x done task -1 of", "machine:Began connect:connector:x done task 0 of", "machine:Began connect:connector:x done task 1 of")
	if strings.Contains(b.did(), "Lead") {
		t.Errorf("b has told of leading:\n%s", b.did())
	}
	a.stop()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
	a.done <- nil // for the clean-up
	c.workers = c.workers[1:]
	told("machine:EndedLead connect:cluster:g done: epoch 1", "machine:TookLead connect:cluster:g done: epoch 2", "machine:Ended connect:connector:x done task")
}
