package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const txnID = "connect-cluster-test"

func leader(t *testing.T, client []kgo.Opt) *Leader {
	t.Helper()
	l := NewLeader(LeaderOptions{Client: client, Topic: "log", TransactionalID: txnID})
	t.Cleanup(l.Resign)
	return l
}

func take(t *testing.T, l *Leader) {
	t.Helper()
	if err := l.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, l *Leader, keys ...string) int64 {
	t.Helper()
	last, err := l.Append(t.Context(), entries(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// generations are the brokers that a transaction can meet: with KIP-890's second part
// (transaction.version 2), where every transaction has an epoch of its own, and without.
var generations = map[string][]kfake.Opt{
	"newest":    nil,
	"Kafka 3.5": {kfake.MaxVersions(kversion.V3_5_0())},
}

func TestOlderLeaderIsRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := brokers(t, opts...)
			create(t, client, "log", 1)
			older, newer := leader(t, client), leader(t, client)
			take(t, older)
			if last := commit(t, older, "a", "b"); last != 1 {
				t.Errorf("the last offset is %d, want 1", last)
			}
			take(t, newer)
			commit(t, newer, "c")
			_, err := older.Append(t.Context(), entries("zombie"))
			if !errors.Is(err, ErrFenced) || errors.Is(err, ErrUnknown) {
				t.Errorf("the older leader: got %v, want it fenced and nothing written", err)
			}
			// It does not come back by itself, however often it tries.
			for range 3 {
				if _, err := older.Append(t.Context(), entries("zombie")); !errors.Is(err, ErrNotTaken) {
					t.Errorf("the older leader again: got %v, want %v", err, ErrNotTaken)
				}
			}
			if older.Taken() {
				t.Error("the older leader takes itself for the leader")
			}
			commit(t, newer, "d")
			take(t, older)
			commit(t, older, "e")
			r := read(t, client, "log", nil)
			r.freshly()
			if diff := cmp.Diff([]string{"a+", "b+", "|", "c+", "|", "d+", "|", "e+", "|"}, r.keys()); diff != "" {
				t.Errorf("the log (-want +got):\n%s", diff)
			}
		})
	}
}

// The older leader has written into an open transaction when it is fenced: what it wrote is
// aborted, and its commit fails.
func TestOpenTransactionOfAnOlderLeaderIsAborted(t *testing.T) {
	t.Parallel()
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, client := brokers(t, opts...)
			create(t, client, "log", 1)
			older, newer := leader(t, client), leader(t, client)
			take(t, older)
			take(t, newer) // so that it must take the id back below
			take(t, older)
			// The commit is held until the newer leader has taken the id.
			held, taken := make(chan struct{}), make(chan struct{})
			cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.DropControl()
				close(held)
				cluster.SleepControl(func() { <-taken })
				return nil, nil, false
			})
			done := make(chan error, 1)
			go func() {
				_, err := older.Append(t.Context(), entries("zombie"))
				done <- err
			}()
			<-held
			take(t, newer)
			close(taken)
			if err := <-done; !errors.Is(err, ErrFenced) || !errors.Is(err, ErrUnknown) {
				t.Errorf("the older leader's commit: got %v, want %v and %v", err, ErrFenced, ErrUnknown)
			}
			commit(t, newer, "a")
			r := read(t, client, "log", nil)
			r.freshly()
			if diff := cmp.Diff([]string{"|", "a+", "|"}, r.keys()); diff != "" {
				t.Errorf("the log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedEntryDoesNotCostTheLead(t *testing.T) {
	t.Parallel()
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := brokers(t, opts...)
			create(t, client, "log", 1)
			l := leader(t, client)
			take(t, l)
			huge := append(entries("first"), Entry{Key: []byte("huge"), Value: make([]byte, 2<<20)})
			_, err := l.Append(t.Context(), huge)
			if !errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrFenced) {
				t.Errorf("got %v, want %v and nothing else", err, kerr.MessageTooLarge)
			}
			if !l.Taken() {
				t.Error("the lead is lost")
			}
			commit(t, l, "a")
			r := read(t, client, "log", nil)
			r.freshly()
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, rec := range r.records {
				if k := string(rec.Key); k == "first" || k == "huge" {
					t.Errorf("%s of a failed transaction can be read", k)
				}
			}
		})
	}
}

func TestCommitWithoutAnAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "log", 1)
	l := leader(t, client)
	take(t, l)
	var commits atomic.Int64
	cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		commits.Add(1)
		return nil, nil, true // never answered
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := l.Append(ctx, entries("a"))
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want %v alone", err, ErrUnknown)
	}
	if commits.Load() == 0 {
		t.Error("no commit was sent, so this shows nothing")
	}
	if l.Taken() {
		t.Error("the leader goes on although it cannot know what it has written")
	}
}

func TestAppendThatCannotWriteSaysSo(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "log", 1)
	l := leader(t, client)
	if _, err := l.Append(t.Context(), entries("a")); !errors.Is(err, ErrNotTaken) {
		t.Errorf("before Take: got %v, want %v", err, ErrNotTaken)
	}
	take(t, l)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	_, err := l.Append(t.Context(), entries("a"))
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want %v alone: no commit was sent", err, kerr.TopicAuthorizationFailed)
	}
	if l.Taken() {
		t.Error("the leader goes on without the right to write")
	}
	l.Resign()
	if _, err := l.Append(t.Context(), entries("a")); !errors.Is(err, ErrNotTaken) {
		t.Errorf("after Resign: got %v, want %v", err, ErrNotTaken)
	}
}

func TestTakeGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "log", 1)
	cluster.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, nil, true
	})
	l := leader(t, client)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Take(ctx); !errors.Is(err, context.DeadlineExceeded) || l.Taken() {
		t.Errorf("got %v, taken %v, want a timeout", err, l.Taken())
	}
}
