package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAppenderWritesWhereJavaWould(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "status", 5)
	a := appender(t, client, "status")
	all := []Entry{{Key: []byte("status-task-a-0"), Value: []byte("{}")}, {Key: []byte("barnabas-lease"), Value: []byte("{}"), Pinned: true}}
	want := map[string]int32{"barnabas-lease": 0, "status-task-a-0": 0}
	for _, v := range vectors(t) {
		all = append(all, Entry{Key: []byte(v.Key), Value: v.value()})
		want[v.Key] = int32(v.PartitionOf5)
	}
	delete(want, "status-task-a-0") // no vector
	if err := a.Append(t.Context(), append(all, Entry{Key: []byte("status-task-a-0")})); err != nil {
		t.Fatal(err)
	}
	r := read(t, client, "status", nil)
	r.freshly()
	r.mu.Lock()
	defer r.mu.Unlock()
	tombstone := false
	for _, rec := range r.records {
		if p, ok := want[string(rec.Key)]; ok && p != rec.Partition {
			t.Errorf("%s stands in partition %d, want %d", rec.Key, rec.Partition, p)
		}
		if string(rec.Key) == "status-task-a-0" {
			tombstone = rec.Value == nil // the later one of the two
		}
	}
	if !tombstone {
		t.Error("the tombstone does not come last")
	}
	if len(r.records) != len(all)+1 {
		t.Errorf("%d records, want %d", len(r.records), len(all)+1)
	}
}

func TestAppendDoesNotOutliveItsContext(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "status", 1)
	a := appender(t, client, "status")
	write(t, a, "warm")
	held := make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		held <- struct{}{}
		return nil, nil, true // in flight, and never answered
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Append(ctx, entries("a")) }()
	<-held
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	case <-time.After(soon):
		t.Fatal("Append outlived its context")
	}
}

func TestAppendAfterTheEndFails(t *testing.T) {
	t.Parallel()
	_, client := brokers(t, kfake.SeedTopics(1, "status"))
	a := NewAppender(AppenderOptions{Client: client, Topic: "status"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Append(t.Context(), entries("a")); err == nil {
		t.Error("an append after the end of Run was taken")
	}
}
