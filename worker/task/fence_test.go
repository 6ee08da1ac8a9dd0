package task

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"barnabas/connector"
)

// pipe returns a connection that obeys g, to somebody who takes whatever comes.
func pipe(t *testing.T, g *guard) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	conn, err := g.dialer(func(context.Context, string, string) (net.Conn, error) { return near, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// saver returns a save that obeys g and otherwise works.
func saver(g *guard) func(context.Context, []connector.Offset) error {
	return g.offsets(connector.Offsets{Save: func(context.Context, []connector.Offset) error { return nil }}).Save
}

func TestAFenceOutlivesTheLease(t *testing.T) {
	t.Parallel()
	lease := leased()
	g := newGuard(lease)
	close(g.clear)
	conn := pipe(t, g)
	g.fence(true)
	watched := make(chan struct{})
	go func() { defer close(watched); g.watch() }()
	lease.Renew(time.Now().Add(-time.Second))
	if _, err := conn.Write([]byte("fenced")); err != nil {
		t.Errorf("under a fence, past the lease: %v", err)
	}
	if err := saver(g)(t.Context(), nil); !errors.Is(err, ErrLease) {
		t.Errorf("offsets under a fence, past the lease: %v", err)
	}
	g.fence(false)
	wait(t, watched, "end of a run without fence and lease")
	if _, err := conn.Write([]byte("bare")); err == nil {
		t.Error("it writes without a fence, past the lease")
	}
	g.fence(true)
	if g.valid() {
		t.Error("a fence has revived a run whose time was over")
	}
}

func TestLeaseEnforceAllHoldsFencedRunsToTheLease(t *testing.T) {
	t.Parallel()
	lease := leased()
	g := newGuard(lease)
	g.strict = true
	g.fence(true)
	lease.Renew(time.Now().Add(-time.Second))
	if g.valid() {
		t.Error("it may act past the lease")
	}
}

func TestAFencedRunThatIsStoppedPastTheLeaseSavesNothing(t *testing.T) {
	t.Parallel()
	lease := new(Lease)
	lease.Renew(time.Now().Add(-time.Second))
	g := newGuard(lease)
	close(g.clear)
	g.fence(true)
	g.end(time.Now().Add(time.Hour)) // revoked: it may still finish what is on the way
	lease.Renew(time.Now().Add(time.Hour))
	if !g.valid() {
		t.Error("it may not finish")
	}
	if err := saver(g)(t.Context(), nil); !errors.Is(err, ErrLease) {
		t.Errorf("offsets of a run that was stopped after its lease: %v", err)
	}
}

func TestAnEarlyRunSavesNothingBeforeItIsClear(t *testing.T) {
	t.Parallel()
	saved := make(chan error, 1)
	r, ended, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		saved <- tc.Offsets.Save(short, nil)
		saved <- tc.Offsets.Save(ctx, nil)
		<-tc.Clear
		<-ctx.Done()
		return nil
	})
	r.Start(Run{ID: 1, Connector: "x", Early: true})
	if err := wait(t, saved, "answer"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "former owner") {
		t.Errorf("saving early: %v", err)
	}
	r.Clear(1)
	if err := wait(t, saved, "answer"); err != nil {
		t.Errorf("saving when it is clear: %v", err)
	}
	r.Clear(7) // nobody
	r.Stop(1, time.Now().Add(time.Minute), "test")
	wait(t, ended, "end")
}

func TestConfirmWaitsForAReadingThatWasAskedForLater(t *testing.T) {
	t.Parallel()
	lease := leased()
	lease.Length = time.Hour
	called, confirmed := make(chan struct{}), make(chan error, 1)
	held := make(chan bool, 8)
	r, ended, _ := runner(t, lease, func(ctx context.Context, tc connector.TaskContext) error {
		tc.Fenced()
		close(called)
		confirmed <- tc.Confirm(ctx)
		<-ctx.Done()
		confirmed <- tc.Confirm(ctx)
		return nil
	})
	r.o.Hooks.Fenced = func(_ Run, h bool) { held <- h }
	r.Start(Run{ID: 1, Connector: "x"})
	wait(t, called, "call")
	if !wait(t, held, "fence") || wait(t, held, "loss of the fence") {
		t.Error("Fenced and Confirm do not tell that the fence is held and then not")
	}
	// A renewal on the strength of an older question says nothing.
	lease.Renew(time.Now().Add(time.Hour - time.Minute))
	select {
	case err := <-confirmed:
		t.Fatalf("confirmed by an old reading: %v", err)
	case <-time.After(5 * confirmTick):
	}
	lease.Renew(time.Now().Add(time.Hour))
	if err := wait(t, confirmed, "confirmation"); err != nil {
		t.Errorf("confirm: %v", err)
	}
	r.Stop(1, time.Now().Add(time.Minute), "revoked")
	lease.Renew(time.Now().Add(2 * time.Hour))
	if err := wait(t, confirmed, "answer"); err == nil {
		t.Error("a run that is being stopped is confirmed")
	}
	wait(t, ended, "end")
}

func TestATaskIsToldHowToWrite(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config      map[string]string
		exactlyOnce bool
		delivery    connector.Delivery
		boundary    connector.Boundary
		topic, gaps string
		err         string
	}{
		"defaults":      {nil, false, connector.Fenced, connector.Boundary{}, "", "stop", ""},
		"exactly once":  {nil, true, connector.Transactional, connector.Boundary{}, "", "stop", ""},
		"offsets topic": {map[string]string{"offsets.storage.topic": "o", "gap.policy": "record"}, true, connector.Transactional, connector.Boundary{}, "o", "record", ""},
		"interval of the worker": {
			map[string]string{"transaction.boundary": "Interval"}, true, connector.Transactional, connector.Boundary{Interval: time.Minute}, "", "stop", "",
		},
		"interval": {
			map[string]string{"transaction.boundary": "interval", "transaction.boundary.interval.ms": "250"},
			true,
			connector.Transactional,
			connector.Boundary{Interval: 250 * time.Millisecond},
			"", "stop", "",
		},
		"interval that does not count": {
			map[string]string{"transaction.boundary": "poll", "transaction.boundary.interval.ms": "250"},
			true,
			connector.Transactional,
			connector.Boundary{},
			"", "stop", "",
		},
		"boundaries of its own": {map[string]string{"transaction.boundary": "connector"}, true, "", connector.Boundary{}, "", "", "by poll or by interval"},
		"wrong policy":          {map[string]string{"gap.policy": "panic"}, false, "", connector.Boundary{}, "", "", "must be one of: stop, record"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan connector.TaskContext, 1)
			r, ended, _ := runner(t, leased(), func(_ context.Context, tc connector.TaskContext) error {
				got <- tc
				return errors.New("seen")
			})
			r.o.ExactlyOnce = tt.exactlyOnce
			offsets := r.o.Offsets
			r.o.Offsets = func(name string) connector.Offsets {
				o := offsets(name)
				o.Interval = time.Minute
				return o
			}
			r.Start(Run{ID: 1, Connector: "x", Task: 3, Config: tt.config})
			if e := wait(t, ended, "end"); tt.err != "" {
				if e.err == nil || !strings.Contains(e.err.Error(), tt.err) {
					t.Errorf("ended with %v, want %q", e.err, tt.err)
				}
				return
			}
			tc := wait(t, got, "context")
			if tc.Delivery != tt.delivery || tc.Boundary != tt.boundary || tc.OffsetsTopic != tt.topic || tc.GapPolicy != tt.gaps {
				t.Errorf("delivery %v, boundary %v, offsets topic %q, gaps %q", tc.Delivery, tc.Boundary, tc.OffsetsTopic, tc.GapPolicy)
			}
			if tc.TransactionalID != "g-x-3" || tc.Owner != "g-x" {
				t.Errorf("transactional id %q of %q", tc.TransactionalID, tc.Owner)
			}
		})
	}
}
