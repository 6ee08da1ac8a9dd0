package worker

import (
	"fmt"
	"testing"
)

// Without a REST API the plan of a connector whose worker does not lead reaches the leader through the status topic, again and
// again, and is taken away when it is carried out.
func TestPlansReachTheLeaderWithoutREST(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.noREST = true
	a, b := c.join("a", nil), c.join("b", nil)
	c.allAlive(a, 2)
	c.allAlive(b, 2)
	names := []string{"w", "x", "y", "z"}
	for _, name := range names {
		c.create(name, map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	}
	leader := ""
	for _, m := range a.Members() {
		if m.Leader {
			leader = m.ID
		}
	}
	elsewhere := 0
	for _, name := range names {
		c.running(a, name, 2)
		if s, err := a.Status(t.Context(), name); err == nil && s.Connector.WorkerID != leader {
			elsewhere++
		}
	}
	if elsewhere == 0 {
		t.Fatalf("all connectors are on the leader %s: this shows nothing", leader)
	}
	for _, name := range names { // more tasks: a second plan of a connector that has one
		c.leads(func(w *member) error {
			_, _, err := w.Put(t.Context(), name, map[string]string{"connector.class": "test.Idle", "tasks.max": "5"})
			return err
		})
		c.running(b, name, 5)
	}
	c.eventually(func() string {
		for _, w := range []*member{a, b} {
			w.plans.mu.Lock()
			left := len(w.plans.waiting)
			w.plans.mu.Unlock()
			if left > 0 {
				return fmt.Sprintf("%s still holds %d plans", w.ID(), left)
			}
		}
		return ""
	})
}
