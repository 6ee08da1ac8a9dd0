package task

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

// manager is a provider that can be down.
type manager struct {
	mu    sync.Mutex
	down  bool
	value string
	ttl   time.Duration
	reads int
}

func (m *manager) Read(_ context.Context, _ string, keys []string) (configprovider.Data, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.down {
		return configprovider.Data{}, &configprovider.UnavailableError{Err: errors.New("the manager cannot be reached")}
	}
	d := configprovider.Data{Values: map[string]config.Secret{}, TTL: m.ttl}
	for _, k := range keys {
		d.Values[k] = config.NewSecret(m.value)
	}
	return d, nil
}

func (m *manager) set(down bool, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down, m.value = down, value
}

// managed is a runner whose secrets come from m, with one run that is started.
func managed(t *testing.T, m *manager) (r *Runner, ended <-chan ending, running, waiting chan string) {
	t.Helper()
	running, waiting = make(chan string, 10), make(chan string, 10)
	r, ended, _ = runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		running <- "task"
		<-ctx.Done()
		return nil
	})
	resolver, err := configprovider.New(t.Context(), map[string]string{"config.providers": "m", "config.providers.m.class": "manager"}, []configprovider.Kind{{
		Name: "manager", Open: func(config.Settings) (configprovider.Provider, error) { return m, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.o.Resolve = resolver.Resolve
	r.o.Hooks.Waiting = func(_ Run, reason string) { waiting <- reason }
	ctx, cancel := context.WithCancel(t.Context())
	rotated := make(chan error, 1)
	go func() { rotated <- r.Rotate(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-rotated
	})
	r.Start(Run{ID: 1, Connector: "x", Config: map[string]string{"topics": "${m:orders:password}", "config.action.reload": "none"}})
	return r, ended, running, waiting
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("no %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestARunWaitsForAProviderThatIsDown(t *testing.T) {
	t.Parallel()
	m := &manager{down: true, ttl: time.Second}
	r, ended, running, waiting := managed(t, m)
	if reason := wait(t, waiting, "waiting"); !strings.Contains(reason, "${m:orders:password}") || !strings.Contains(reason, "cannot be reached") {
		t.Errorf("it waits for %q", reason)
	}
	notes := r.Progress("x")[0].Notes
	if len(notes) != 1 || !notes[0].Degraded || !strings.HasPrefix(notes[0].Text, "not started yet: ") {
		t.Errorf("notes: %v", notes)
	}
	eventually(t, "second try", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.reads > 1 })
	m.set(false, "first")
	wait(t, running, "start")
	if notes := r.Progress("x")[0].Notes; len(notes) > 0 {
		t.Errorf("notes of what runs: %v", notes)
	}

	// Down again: what runs goes on, and it is said that its secret cannot be read.
	m.set(true, "")
	state := func() (of Reference) {
		for _, one := range r.References() {
			of = one
		}
		return of
	}
	eventually(t, "unreadable reference", func() bool {
		return state().State == "unreadable" && strings.Contains(state().Reason, "cannot be reached")
	})
	m.set(false, "first")
	eventually(t, "readable reference", func() bool { return state().State == "current" })
	select {
	case e := <-ended:
		t.Fatalf("the run ended: %v", e.err)
	default:
	}
}

func TestARunThatWaitsForAProviderCanBeStopped(t *testing.T) {
	t.Parallel()
	r, ended, _, waiting := managed(t, &manager{down: true})
	wait(t, waiting, "waiting")
	r.Stop(1, time.Now().Add(time.Minute), "the test says so")
	if e := wait(t, ended, "end"); e.err != nil {
		t.Errorf("it ended with %v", e.err)
	}
}

func TestWhatAProviderSaysHasChangedIsReadAtOnce(t *testing.T) {
	t.Parallel()
	m := &manager{value: "first"} // no time to live: nobody reads it again by himself
	r, _, running, _ := managed(t, m)
	wait(t, running, "start")
	m.set(false, "second")
	r.Reread("m", "another")
	r.Reread("m", "orders")
	eventually(t, "new value in the book", func() bool {
		r.rotor.mu.Lock()
		defer r.rotor.mu.Unlock()
		return r.rotor.book["${m:orders:password}"].newest.value.Equal(config.NewSecret("second"))
	})
}

// A provider that watches gives a long time to live. What could not be read meanwhile is read again long before that.
func TestWhatCouldNotBeReadIsReadAgainBeforeItsTimeToLiveIsOver(t *testing.T) {
	t.Parallel()
	m := &manager{value: "first", ttl: time.Hour}
	r, _, running, _ := managed(t, m)
	wait(t, running, "start")
	m.set(true, "")
	r.Reread("m", "orders")
	state := func() string { return r.References()[0].State }
	eventually(t, "unreadable reference", func() bool { return state() == "unreadable" })
	m.set(false, "second")
	eventually(t, "new value in the book", func() bool {
		r.rotor.mu.Lock()
		defer r.rotor.mu.Unlock()
		return r.rotor.book["${m:orders:password}"].newest.value.Equal(config.NewSecret("second"))
	})
}
