package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

// plugin is a task that does what its test says.
type plugin func(ctx context.Context, tc connector.TaskContext) error

func (p plugin) Run(ctx context.Context, tc connector.TaskContext) error { return p(ctx, tc) }

type ending struct {
	run Run
	err error
}

// runner returns a runner whose only plugin is p, and where its endings appear.
func runner(t *testing.T, lease *Lease, p plugin) (*Runner, <-chan ending, *bytes.Buffer) {
	t.Helper()
	ended := make(chan ending, 4)
	var log bytes.Buffer
	var mu sync.Mutex
	r := NewRunner(Options{
		Plugin: func(string) (connector.Plugin, error) {
			return connector.Plugin{Keys: config.NewDef(), Fences: true, NewTask: func() connector.Task { return p }}, nil
		},
		Resolve: func(_ context.Context, written map[string]string) (config.Settings, []configprovider.Use, error) {
			if written["broken"] != "" {
				return nil, nil, errors.New("no such key")
			}
			return config.Literal(written), nil, nil
		},
		Offsets: func(string) connector.Offsets {
			return connector.Offsets{Save: func(ctx context.Context, _ []connector.Offset) error { return ctx.Err() }}
		},
		Policy: clientconfig.Policy{}, Gate: connector.NewGate(1 << 20), Lease: lease,
		Log:      slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)),
		Metrics:  prometheus.NewRegistry(),
		Internal: func() connector.Internal { return connector.Internal{} },
		Group:    "g", GapPolicy: "stop",
		Hooks: Hooks{
			Wrote:   func(Run, string) {},
			Restart: func(Run) {},
			Running: func(Run) {}, Fenced: func(Run, bool) {},
			Ended: func(r Run, err error) { ended <- ending{r, err} },
		},
	})
	t.Cleanup(func() {
		r.StopAll("the test is over")
		r.Wait()
	})
	return r, ended, &log
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// leased returns a lease that lasts longer than the test.
func leased() *Lease {
	l := new(Lease)
	l.Renew(time.Now().Add(time.Hour))
	return l
}

func TestAStoppedRunEndsInGoodOrder(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	r, ended, _ := runner(t, leased(), func(ctx context.Context, _ connector.TaskContext) error {
		close(started)
		<-ctx.Done()
		return nil
	})
	r.Start(Run{ID: 1, Connector: "x"})
	wait(t, started, "start")
	r.Stop(1, time.Now().Add(time.Minute), "test")
	if e := wait(t, ended, "end"); e.err != nil || e.run.ID != 1 {
		t.Errorf("ended with %+v", e)
	}
	r.Stop(1, time.Now(), "again") // harmless
}

func TestARunWhoseLeaseRunsOutIsToldAndDoesNotFail(t *testing.T) {
	t.Parallel()
	lease := new(Lease)
	lease.Renew(time.Now().Add(50 * time.Millisecond))
	r, ended, _ := runner(t, lease, func(ctx context.Context, _ connector.TaskContext) error {
		<-ctx.Done()
		return errors.New("could not save offsets")
	})
	r.Start(Run{ID: 1, Connector: "x"})
	if e := wait(t, ended, "end"); e.err != nil {
		t.Errorf("ended with %v", e.err)
	}
}

func TestARunThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config map[string]string
		run    plugin
		want   string
	}{
		"error":     {nil, func(context.Context, connector.TaskContext) error { return errors.New("boom") }, "boom"},
		"end":       {nil, func(context.Context, connector.TaskContext) error { return nil }, "ended by itself"},
		"panic":     {nil, func(context.Context, connector.TaskContext) error { panic("s3cret") }, "panic in x-0"},
		"reference": {map[string]string{"broken": "yes"}, nil, "resolve the configuration: no such key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ended, log := runner(t, leased(), tt.run)
			r.Start(Run{ID: 1, Connector: "x", Config: tt.config})
			e := wait(t, ended, "end")
			r.Wait()
			if e.err == nil || !strings.Contains(e.err.Error(), tt.want) {
				t.Errorf("ended with %v, want %q", e.err, tt.want)
			}
			if all := log.String() + e.err.Error(); strings.Contains(all, "s3cret") {
				t.Errorf("the panic's value shows in %q", all)
			}
		})
	}
}

// TestNothingIsSentPastTheLease is the frozen worker that wakes up: nobody has
// had time to stop its tasks, and still nothing leaves.
func TestNothingIsSentPastTheLease(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lease := leased()
	g := newGuard(lease)
	close(g.clear)
	dial := g.dialer(new(net.Dialer).DialContext)
	conn, err := dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("in time")); err != nil {
		t.Fatal(err)
	}
	lease.Renew(time.Now().Add(-time.Millisecond))
	if n, err := conn.Write([]byte("too late")); n != 0 || !errors.Is(err, ErrLease) {
		t.Errorf("a write past the lease: %d, %v", n, err)
	}
	if _, err := dial(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, ErrLease) {
		t.Errorf("a connection past the lease: %v", err)
	}
	save := g.offsets(connector.Offsets{Save: func(context.Context, []connector.Offset) error { return nil }}).Save
	if err := save(t.Context(), nil); !errors.Is(err, ErrLease) {
		t.Errorf("offsets past the lease: %v", err)
	}
}

func TestARenewedLeaseDoesNotSaveARunThatIsBeingStopped(t *testing.T) {
	t.Parallel()
	lease := leased()
	g := newGuard(lease)
	g.end(time.Now().Add(-time.Millisecond))
	lease.Renew(time.Now().Add(time.Hour))
	if g.valid() {
		t.Error("it may still act")
	}
	g.end(time.Now().Add(time.Hour))
	if g.valid() {
		t.Error("a later deadline has replaced an earlier one")
	}
}

func TestAPluginThatDoesNotReturnLosesItsConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	stuck, free := make(chan *guard, 1), make(chan struct{})
	lease := leased()
	var r *Runner
	r, ended, _ := runner(t, lease, func(context.Context, connector.TaskContext) error {
		r.mu.Lock()
		g := r.runs[1].guard
		r.mu.Unlock()
		stuck <- g
		<-free
		return nil
	})
	r.Start(Run{ID: 1, Connector: "x"})
	g := wait(t, stuck, "start")
	conn, err := g.dialer(new(net.Dialer).DialContext)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	r.Stop(1, time.Now(), "revoked")
	if err := wait(t, read, "end of the connection"); err == nil {
		t.Error("the connection is still open")
	}
	if e := wait(t, ended, "end"); e.err != nil {
		t.Errorf("ended with %v", e.err)
	}
	close(free)
}

func TestIdentityNamesPrincipalAndReferences(t *testing.T) {
	t.Parallel()
	got := identity(clientconfig.Report{Principal: "User:o", References: map[string][]string{"a": {"${file:/f:b}", "${file:/f:a}"}, "b": {"${file:/f:a}"}}})
	if want := "User:o (credentials from ${file:/f:a}, ${file:/f:b})"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := fmt.Sprint(Run{Connector: "x", Task: -1}, Run{Connector: "x", Task: 2}); got != "x x-2" {
		t.Errorf("runs are called %q", got)
	}
}

func TestARunIsGivenTheNewestConfigurationAlone(t *testing.T) {
	t.Parallel()
	told := make(chan struct{})
	got := make(chan map[string]string)
	r, _, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		<-told
		for {
			select {
			case c := <-tc.Updates:
				got <- c
			case <-ctx.Done():
				return nil
			}
		}
	})
	r.Start(Run{ID: 1, Connector: "x"})
	r.Update(2, map[string]string{"n": "of a run that is over"})
	r.Update(1, map[string]string{"n": "1"})
	r.Update(1, map[string]string{"n": "2"})
	close(told)
	if c := wait(t, got, "update"); c["n"] != "2" {
		t.Errorf("got %v", c)
	}
	r.Update(1, map[string]string{"n": "3"})
	if c := wait(t, got, "update"); c["n"] != "3" {
		t.Errorf("got %v", c)
	}
}
