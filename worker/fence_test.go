package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/connector"
)

// fencingPlugin is idle, with tasks that say that they hold a fence.
func fencingPlugin() connector.Plugin {
	p := idlePlugin()
	p.Class, p.Fences = "test.Fencing", true
	p.NewTask = func() connector.Task { return fencingTask{} }
	return p
}

// fencingRun is what a test sees of a run of a fencing task.
type fencingRun struct {
	connector.TaskContext
	early bool // it was not clear when it began to act
	over  <-chan struct{}
}

// fencingRuns are the runs of each test, by the connector's name.
var fencingRuns sync.Map

type fencingTask struct{}

func (fencingTask) Run(ctx context.Context, tc connector.TaskContext) error {
	if err := tc.Confirm(ctx); err != nil {
		return err
	}
	tc.Fenced()
	tc.Started()
	run := fencingRun{TaskContext: tc, early: true, over: ctx.Done()}
	select {
	case <-tc.Clear:
		run.early = false
	default:
	}
	runs, _ := fencingRuns.LoadOrStore(tc.Connector, make(chan fencingRun, 64))
	runs.(chan fencingRun) <- run
	<-ctx.Done()
	return nil
}

func (c *cluster) nextRun(name string) fencingRun {
	c.t.Helper()
	runs, _ := fencingRuns.LoadOrStore(name, make(chan fencingRun, 64))
	select {
	case r := <-runs.(chan fencingRun):
		return r
	case <-time.After(30 * time.Second):
		c.t.Fatalf("no run of %s", name)
		panic("unreachable")
	}
}

func TestAKilledWorkersFencingTasksStartElsewhereBeforeItsLeaseIsOver(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"leader", "follower"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.crash = map[string]chan struct{}{"a:1": make(chan struct{}), "b:1": make(chan struct{}), "c:1": make(chan struct{})}
			more := map[string]string{"worker.lease.ms": "10000"}
			for id := range c.crash {
				c.join(id, more)
			}
			for _, w := range c.workers {
				c.allAlive(w, 3)
			}
			name := "fence-" + victim
			c.create(name, map[string]string{"connector.class": "test.Fencing", "tasks.max": "3"})
			for range 3 {
				if r := c.nextRun(name); r.early {
					t.Error("a task that nobody ran before was started early")
				}
			}
			dead, left := c.one(victim == "leader")
			c.running(left, name, 3)
			began := time.Now()
			close(c.crash[dead.ID()])
			c.eventually(func() string {
				for _, m := range left.Members() {
					if m.ID == dead.ID() && m.State == "alive" {
						return "the dead is still alive: " + fmt.Sprint(m)
					}
				}
				return ""
			})
			lost := time.Since(began)
			r := c.nextRun(name)
			t.Logf("gossip lost the worker after %v, its task ran elsewhere after %v", lost, time.Since(began))
			if !r.early {
				t.Fatalf("the task of the killed worker waited until %v after the kill", time.Since(began))
			}
			select {
			case <-r.Clear:
			case <-time.After(30 * time.Second):
				t.Error("it is never told that the killed worker's lease is over")
			}
			if waited := time.Since(began); waited < 9*time.Second {
				t.Errorf("clear %v after the kill: the lease was not over", waited)
			}
		})
	}
}

// one returns a worker that leads or does not, and another one that lives on.
func (c *cluster) one(leads bool) (it, other *member) {
	c.t.Helper()
	c.eventually(func() string {
		it, other = nil, nil
		for _, w := range c.workers {
			if (w.leads(c.t.Context()) == nil) == leads {
				it = w
			} else {
				other = w
			}
		}
		if it == nil || other == nil {
			return "no such worker"
		}
		return ""
	})
	return it, other
}

func TestAFencedTaskGoesOnWithoutTheWorkersCluster(t *testing.T) {
	t.Parallel()
	for enforce, stops := range map[string]bool{"plain": false, "all": true} {
		t.Run(enforce, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			w := c.join("a:1", map[string]string{"worker.lease.ms": "1000", "lease.enforce": enforce})
			name := "outage-" + enforce
			c.create(name, map[string]string{"connector.class": "test.Fencing"})
			r := c.nextRun(name)
			w.kill()
			c.eventually(func() string {
				if rest := time.Until(w.lease.Until()); rest > -500*time.Millisecond {
					return fmt.Sprintf("the lease lasts another %v", rest)
				}
				return ""
			})
			if stops {
				select {
				case <-r.over:
				case <-time.After(20 * time.Second):
					t.Error("the task goes on")
				}
				return
			}
			select {
			case <-r.over:
				t.Error("the task was stopped although it holds a fence")
			default:
			}
			if err := r.Offsets.Save(t.Context(), nil); err == nil {
				t.Error("it saves offsets past the lease")
			}
		})
	}
}

func TestExactlyOnceIsJudgedAsInConnect(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	off := c.member("a:1", map[string]string{"connector.client.config.override.policy": "None"})
	on := c.member("b:1", map[string]string{"connector.client.config.override.policy": "None", "exactly.once.source.support": "ENABLED"})
	mirror := map[string]string{
		"name": "m", "connector.class": "MirrorSource", "source.cluster.alias": "A", "source.cluster.bootstrap.servers": "localhost:1",
	}
	const (
		committed = "consumer.isolation.level"
		disabled  = "This worker does not have exactly-once source support enabled."
	)
	for name, tt := range map[string]struct {
		w      *member
		more   map[string]string
		errors map[string]string // by key
	}{
		"requested":            {off, map[string]string{"exactly.once.support": "requested"}, nil},
		"disabled":             {off, map[string]string{"exactly.once.support": "required", committed: "read_committed"}, map[string]string{"exactly.once.support": disabled}},
		"disabled and aborted": {off, map[string]string{"exactly.once.support": "required"}, map[string]string{"exactly.once.support": "MirrorSourceConnector can only provide"}},
		"enabled":              {on, map[string]string{"exactly.once.support": "Required", committed: "read_committed"}, nil},
		"boundary": {
			on,
			map[string]string{"transaction.boundary": "connector"},
			map[string]string{"transaction.boundary": "The connector does not support connector-defined transaction boundaries with the given configuration."},
		},
		"interval": {
			on,
			map[string]string{"transaction.boundary": "INTERVAL", "transaction.boundary.interval.ms": "-1"},
			map[string]string{"transaction.boundary.interval.ms": "Value must be at least 0"},
		},
		"offsets topic": {off, map[string]string{"offsets.storage.topic": ""}, map[string]string{"offsets.storage.topic": "String must be non-empty"}},
		"gaps":          {off, map[string]string{"gap.policy": "ignore"}, map[string]string{"gap.policy": "String must be one of: stop, record"}},
		"gaps stop":     {off, map[string]string{"gap.policy": "stop"}, nil},
		"overrides":     {off, map[string]string{"consumer.override.a": "b"}, nil},
		"overrides of clients for offsets": {
			on, map[string]string{"consumer.override.a": "b"}, map[string]string{"consumer.override.a": "The 'None' policy does not allow"},
		},
		"overrides of clients for a topic of offsets": {
			off, map[string]string{"admin.override.a": "b", "offsets.storage.topic": "o"}, map[string]string{"admin.override.a": "The 'None' policy does not allow"},
		},
	} {
		written := map[string]string{}
		for _, m := range []map[string]string{mirror, tt.more} {
			for k, v := range m {
				written[k] = v
			}
		}
		infos, err := tt.w.Validate(t.Context(), "MirrorSource", written)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := map[string]error{}
		for _, i := range infos.Configs {
			for _, e := range i.Value.Errors {
				found[i.Value.Name] = errors.Join(found[i.Value.Name], errors.New(e))
			}
		}
		if len(found) != len(tt.errors) || infos.ErrorCount != len(tt.errors) {
			t.Errorf("%s: %d errors: %v, want %v", name, infos.ErrorCount, found, tt.errors)
		}
		for key, want := range tt.errors {
			if found[key] == nil || !strings.Contains(found[key].Error(), want) {
				t.Errorf("%s: %s: %v, want %q", name, key, found[key], want)
			}
		}
	}
}
