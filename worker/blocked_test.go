package worker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"barnabas/connector"
)

// stuckPlugin has connectors and tasks that do not care for the end of their context, until a test lets them go.
func stuckPlugin() connector.Plugin {
	p := idlePlugin()
	p.Class = "test.Stuck"
	p.NewConnector = func() connector.Connector { return stuck{} }
	p.NewTask = func() connector.Task { return stuckTask{} }
	return p
}

// letGo are channels by the connector's name; what is stuck waits until its channel is closed.
var letGo sync.Map

type (
	stuck     struct{}
	stuckTask struct{}
)

func waitForever(name string) {
	if c, ok := letGo.Load(name); ok {
		<-c.(chan struct{})
	}
}

func (stuck) Run(ctx context.Context, cc connector.Context) error {
	if cc.Settings["where"].Written == "connector" {
		waitForever(cc.Settings["name"].Written)
		return nil
	}
	return idle{}.Run(ctx, cc)
}

func (stuckTask) Run(_ context.Context, tc connector.TaskContext) error {
	tc.Started()
	waitForever(tc.Settings["name"].Written)
	return nil
}

// A connector that hangs, in its plan or in a task, takes orders and is deleted, and nobody else notices. In Kafka Connect 4.3.1
// a connector that hangs in its start makes requests of the whole cluster 500.
func TestAConnectorThatHangsHindersNobody(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"connector", "task"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			name := "stuck-" + where
			free := make(chan struct{})
			letGo.Store(name, free)
			w := c.join("a:1", map[string]string{"task.shutdown.graceful.timeout.ms": "1000"})
			t.Cleanup(func() { close(free) }) // before the worker ends
			config := map[string]string{"connector.class": "test.Stuck", "where": where}
			c.create(name, config)
			if where == "task" {
				c.running(w, name, 1)
			}
			within := func(what string, f func(ctx context.Context) error) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if err := f(ctx); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			other := func(i int) {
				t.Helper()
				beside := fmt.Sprintf("beside-%d", i)
				c.create(beside, map[string]string{"connector.class": "test.Idle"})
				c.running(w, beside, 1)
				within("pause another", func(ctx context.Context) error { return w.SetTarget(ctx, beside, Paused) })
				within("resume another", func(ctx context.Context) error { return w.SetTarget(ctx, beside, Started) })
				c.running(w, beside, 1)
				within("restart another", func(ctx context.Context) error { return w.Restart(ctx, beside) })
				within("delete another", func(ctx context.Context) error { return w.Delete(ctx, beside) })
			}
			other(0)
			for i, step := range []struct {
				what string
				do   func(ctx context.Context) error
			}{
				{"status", func(ctx context.Context) error { _, err := w.Status(ctx, name); return err }},
				{"pause", func(ctx context.Context) error { return w.SetTarget(ctx, name, Paused) }},
				{"resume", func(ctx context.Context) error { return w.SetTarget(ctx, name, Started) }},
				{"restart", func(ctx context.Context) error { return w.Restart(ctx, name) }},
				{"put", func(ctx context.Context) error { _, _, err := w.Put(ctx, name, config); return err }},
				{"stop", func(ctx context.Context) error { return w.SetTarget(ctx, name, Stopped) }},
				{"delete", func(ctx context.Context) error { return w.Delete(ctx, name) }},
			} {
				within(step.what, step.do)
				if i%3 == 2 {
					other(i)
				}
			}
			within("health", func(context.Context) error {
				if h := w.Health(); !h.Healthy {
					return fmt.Errorf("%+v", h)
				}
				return nil
			})
		})
	}
}
