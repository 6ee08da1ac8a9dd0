package worker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// sick makes tasks of test.Idle fail that have the setting sick with a number of this table.
var sick [8]atomic.Bool

var errFinal = errors.New("wrong for ever")

func TestAFailedTaskIsRestartedUntilItHeals(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	sick[0].Store(true)
	c.create("x", map[string]string{"connector.class": "test.Idle", "sick": "0", "auto.restart.backoff.initial.ms": "50", "auto.restart.backoff.max.ms": "200"})
	c.eventually(func() string {
		all, err := w.Restarts(t.Context(), "x")
		if err != nil {
			return err.Error()
		}
		s := all[0]
		if s.Attempt < 3 || s.Total < 3 || len(s.Failures) < 4 || s.Failures[0].Restarted == nil || s.Failures[0].Reason != "sick" || s.Failures[0].WorkerID != "a:1" {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	sick[0].Store(false)
	c.running(w, "x", 1)
	all, err := w.Restarts(t.Context(), "x")
	if s := all[0]; err != nil || s.Next != nil || s.Held != "" {
		t.Errorf("what runs is to be restarted: %+v, %v", s, err)
	}
	// The books outlive the worker.
	total := all[0].Total
	b := c.join("b:1", nil)
	c.eventually(func() string {
		all, err := b.Restarts(t.Context(), "x")
		if err != nil || all[0].Total != total {
			return fmt.Sprintf("another worker knows %+v, %v", all, err)
		}
		return ""
	})
	c.leads(func(w *member) error { return w.Delete(t.Context(), "x") })
	c.eventually(func() string {
		if left := w.restarts.known(); len(left) > 0 {
			return fmt.Sprintf("books of what is deleted: %v", left)
		}
		return ""
	})
}

func TestWhatNoRestartMendsIsNotRestarted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", map[string]string{"auto.restart.backoff.initial.ms": "20", "auto.restart.backoff.max.ms": "60000"})
	sick[1].Store(true)
	for name, more := range map[string]map[string]string{
		heldFinal:     {"fail": "final"},
		heldDisabled:  {"sick": "1", "auto.restart.enabled": "false"},
		heldExhausted: {"sick": "1", "auto.restart.max.restarts": "2"},
	} {
		more["connector.class"] = "test.Idle"
		c.create(name, more)
	}
	attempts := map[string]int{heldFinal: 0, heldDisabled: 0, heldExhausted: 2}
	for name, want := range attempts {
		c.eventually(func() string {
			all, err := w.Restarts(t.Context(), name)
			if err != nil || all[0].Held != name || all[0].Attempt != want || all[0].Next != nil || len(all[0].Failures) != want+1 {
				return fmt.Sprintf("%s: %+v, %v", name, all, err)
			}
			s, err := w.Status(t.Context(), name)
			if err != nil || s.Tasks[0].State != "FAILED" {
				return fmt.Sprintf("%s: %+v, %v", name, s, err)
			}
			return ""
		})
	}
	// Somebody restarts it: it has all its restarts again.
	if err := w.RestartTask(t.Context(), TaskID{heldExhausted, 0}); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		all, err := w.Restarts(t.Context(), heldExhausted)
		if err != nil || all[0].Total != 4 || all[0].Held != heldExhausted {
			return fmt.Sprintf("%+v, %v", all, err)
		}
		return ""
	})
	_, err := w.Validate(t.Context(), "test.Idle", map[string]string{"connector.class": "test.Idle", "auto.restart.max.restarts": "-2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(t.Context(), "wrong", map[string]string{"connector.class": "test.Idle", "auto.restart.max.restarts": "-2"}, ""); err == nil ||
		!strings.Contains(err.Error(), "auto.restart.max.restarts") {
		t.Errorf("a wrong setting: %v", err)
	}
}

func TestAPausedFailureStartsWhenItIsResumed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	sick[2].Store(true)
	c.create("x", map[string]string{"connector.class": "test.Idle", "sick": "2", "auto.restart.enabled": "false"})
	state := func(want string) {
		t.Helper()
		c.eventually(func() string {
			s, err := w.Status(t.Context(), "x")
			if err != nil || len(s.Tasks) != 1 || s.Tasks[0].State != want {
				return fmt.Sprintf("want %s: %+v, %v", want, s, err)
			}
			return ""
		})
	}
	state("FAILED")
	if err := w.SetTarget(t.Context(), "x", Paused); err != nil {
		t.Fatal(err)
	}
	state("PAUSED")
	sick[2].Store(false)
	if err := w.SetTarget(t.Context(), "x", Started); err != nil {
		t.Fatal(err)
	}
	state("RUNNING")
}

func TestRestartsAreCountedInARow(t *testing.T) {
	t.Parallel()
	r := newRestarts()
	u := herder.Unit{Connector: "x", Task: 3}
	policy := config.AutoRestart{Enabled: true, Max: 3, First: time.Second, Longest: 5 * time.Second}
	now := time.UnixMilli(1_800_000_000_000)
	fail := func(attempt int, wait time.Duration) {
		t.Helper()
		record := r.failed(u, 1, Failure{At: now, Reason: "r"}, policy, now)
		if record.Attempt != attempt || (record.Next == nil) != (wait == 0) {
			t.Fatalf("attempt %d, next %v; want %d, %v", record.Attempt, record.Next, attempt, wait)
		}
		if wait > 0 {
			if got := record.Next.Sub(now); got < wait*9/10-time.Millisecond || got > wait*11/10+time.Millisecond {
				t.Errorf("it waits %v, want about %v", got, wait)
			}
			now = record.Next.Add(time.Millisecond)
			if due := r.dueBy(now); len(due) != 1 || due[u] != 1 {
				t.Fatalf("due: %v", due)
			}
			r.restarted(u, true, now)
			r.running(u, now)
		}
	}
	fail(0, time.Second)
	fail(1, 2*time.Second)
	fail(2, 4*time.Second)
	now = now.Add(policy.Longest) // it has worked
	fail(0, time.Second)
	fail(1, 2*time.Second)
	fail(2, 4*time.Second)
	fail(3, 0)
	if s, _ := r.of(u); s.Held != heldExhausted || s.Total != 6 || len(s.Failures) != 7 {
		t.Errorf("%+v", s)
	}
	if record, changed := r.starting(u); !changed || record.Attempt != 0 || record.Held != "" {
		t.Errorf("started by somebody: %+v", record)
	}
	for range 2 * maxFailuresKept {
		r.failed(u, 1, Failure{At: now, Reason: strings.Repeat("é", maxReasonBytes)}, policy, now)
	}
	if s, _ := r.of(u); len(s.Failures) != maxFailuresKept {
		t.Errorf("%d failures are kept", len(s.Failures))
	}
	if s := short(strings.Repeat("é", maxReasonBytes)); len(s) > maxReasonBytes+3 || strings.ToValidUTF8(s, "") != s {
		t.Errorf("%d bytes are kept of a reason", len(s))
	}
}

func TestBooksOfRestartsGoOnAtTheNextOwner(t *testing.T) {
	t.Parallel()
	old, next := newRestarts(), newRestarts()
	u := herder.Unit{Connector: "x", Task: 0}
	policy := config.AutoRestart{Enabled: true, Max: -1, First: time.Hour, Longest: 9 * time.Hour}
	now := time.UnixMilli(1_800_000_000_000).UTC()
	old.failed(u, 1, Failure{At: now, WorkerID: "a:1", Reason: "r"}, policy, now)
	old.restarted(u, true, now)
	record := old.failed(u, 1, Failure{At: now, WorkerID: "a:1", Reason: "r"}, policy, now)
	e, err := store.EncodeOwn(restartsKey(u), record)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.apply(store.OwnRecord{Key: string(e.Key), Value: e.Value}); err != nil {
		t.Fatal(err)
	}
	was, _ := old.of(u)
	is, _ := next.of(u)
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if got, changed := next.starting(u); !changed || got.Attempt != 1 || got.Next != nil {
		t.Errorf("the next owner begins with %+v", got)
	}
	if err := next.apply(store.OwnRecord{Key: string(e.Key)}); err != nil || len(next.known()) > 0 {
		t.Errorf("after the tombstone %v, %v", next.known(), err)
	}
}
