package worker

import (
	"fmt"
	"testing"

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
