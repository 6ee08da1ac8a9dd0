package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// telling has events run; end ends them in good order.
func telling(t *testing.T, e *Events) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, trail *Trail, q Query) []Found {
	t.Helper()
	found, _, err := trail.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEventsAreWrittenBesideWhatPeopleDo(t *testing.T) {
	t.Parallel()
	trail := open(t, broker(t), "a")
	e := NewEvents(trail, slog.New(slog.DiscardHandler))
	end := telling(t, e)
	if err := trail.Write(t.Context(), Entry{User: "ann", Action: "connect:PauseConnector", Resource: "connect:connector:a", Outcome: Done}); err != nil {
		t.Fatal(err)
	}
	use := &Use{Task: 1, Generation: 7, Topics: []string{"orders"}, Clients: []Client{{
		Role: "source consumer", Cluster: "prod:9092", Principal: "User:orders-ro", Credentials: []Credential{{"${file:/etc/k:password}", "3"}},
	}}}
	e.Tell(Entry{Action: Began, Resource: "connect:connector:a", Outcome: Done, Use: use})
	e.Tell(Entry{Action: Ended, Resource: "connect:connector:a", Outcome: Done})
	end() // writes what is left
	if found := read(t, trail, Query{}); len(found) != 3 {
		t.Errorf("%d entries", len(found))
	}
	if found := read(t, trail, Query{Kind: People}); len(found) != 1 || found[0].User != "ann" || found[0].Kind != "" {
		t.Errorf("of people: %+v", found)
	}
	found := read(t, trail, Query{Kind: Machine})
	if len(found) != 2 || found[0].Action != Ended || found[1].Action != Began || found[1].Use.Clients[0].Credentials[0] != use.Clients[0].Credentials[0] || found[1].Worker != "a" {
		t.Errorf("of machines: %+v", found)
	}
	report, err := trail.Verify(t.Context(), nil)
	if err != nil || !report.Whole() {
		t.Errorf("%+v %v", report, err)
	}
}

// TestEventsThatAreLostAreCounted: nobody waits for a topic that cannot be written, and the trail says that something is missing.
func TestEventsThatAreLostAreCounted(t *testing.T) {
	t.Parallel()
	k := broker(t)
	trail := open(t, k, "a")
	tried := make(chan struct{}, 100)
	var down atomic.Bool
	down.Store(true)
	k.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if !down.Load() {
			return nil, nil, false
		}
		select {
		case tried <- struct{}{}:
		default:
		}
		return nil, errors.New("down"), true
	})
	e := NewEvents(trail, slog.New(slog.DiscardHandler))
	e.queue = make(chan Entry, 2)
	for range 5 {
		e.Tell(Entry{Action: Began, Resource: "connect:connector:a", Outcome: Done})
	}
	if n := e.Lost(); n != 3 {
		t.Errorf("%d lost", n)
	}
	end := telling(t, e)
	<-tried // one is taken, and cannot be written
	down.Store(false)
	deadline := time.After(time.Minute)
	for len(e.queue) > 0 || e.lost.Load() > 0 {
		select {
		case <-deadline:
			t.Fatal("the events are not written")
		case <-time.After(10 * time.Millisecond):
		}
	}
	end()
	found := read(t, trail, Query{Kind: Machine})
	if len(found) != 3 || found[2].Action != EventsLost || found[2].Reason != "3 events of this worker were lost: they could not be written soon enough" || found[0].Action != Began {
		t.Errorf("%+v", found)
	}
	if e.Lost() != 3 {
		t.Errorf("%d lost", e.Lost())
	}
}
