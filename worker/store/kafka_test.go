package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/txn"
)

// soon bounds every wait of a test; nothing takes that long unless it is broken.
const soon = 20 * time.Second

// brokers starts a cluster for one test.
func brokers(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []kgo.Opt) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
}

func admin(t *testing.T, client []kgo.Opt) *kadm.Client {
	t.Helper()
	c, err := kadm.NewOptClient(client...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// create makes a topic of n partitions, compacted.
func create(t *testing.T, client []kgo.Opt, topic string, n int32) {
	t.Helper()
	if _, err := admin(t, client).CreateTopic(t.Context(), n, 1, map[string]*string{"cleanup.policy": new("compact")}, topic); err != nil {
		t.Fatal(err)
	}
}

// reader is what a log has told.
type reader struct {
	t   *testing.T
	log *Log

	mu       sync.Mutex
	records  []Record
	caughtUp []time.Time
	read     []int // how many records had been applied at each caughtUp
	trouble  error
	ended    bool
	err      error
	changed  chan struct{} // closed and replaced at every change
}

// read starts a log and stops it when the test ends. set may change its options.
func read(t *testing.T, client []kgo.Opt, topic string, set func(*LogOptions)) *reader {
	t.Helper()
	r := &reader{t: t, changed: make(chan struct{})}
	o := LogOptions{
		Client: client, Topic: topic, ReadCommitted: true, Interval: 20 * time.Millisecond,
		Apply: func(rec Record) { r.change(func() { r.records = append(r.records, rec) }) },
		CaughtUp: func(sentAt time.Time) {
			r.change(func() { r.caughtUp, r.read = append(r.caughtUp, sentAt), append(r.read, len(r.records)) })
		},
		Trouble: func(err error) { r.change(func() { r.trouble = err }) },
	}
	if set != nil {
		set(&o)
	}
	r.log = NewLog(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := r.log.Run(ctx)
		r.change(func() { r.ended, r.err = true, err })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *reader) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits for condition, which may look at the reader's fields.
func (r *reader) until(what string, condition func() bool) {
	r.t.Helper()
	deadline := time.After(soon)
	for {
		r.mu.Lock()
		ok, changed := condition(), r.changed
		state := fmt.Sprintf("%d records, caught up %d times, trouble %v, ended %v with %v", len(r.records), len(r.caughtUp), r.trouble, r.ended, r.err)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.t.Fatalf("waited in vain until %s: %s", what, state)
		}
	}
}

// freshly waits until the log has caught up with a question sent from now on.
func (r *reader) freshly() {
	r.t.Helper()
	now := time.Now()
	r.until("caught up again", func() bool { return len(r.caughtUp) > 0 && r.caughtUp[len(r.caughtUp)-1].After(now) })
}

// keys are the keys of the records read, with markers as "|" and "+" where the transaction goes on.
func (r *reader) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := []string{}
	for _, rec := range r.records {
		k := string(rec.Key)
		if rec.Marker {
			k = "|"
		}
		if rec.More {
			k += "+"
		}
		keys = append(keys, k)
	}
	return keys
}

// appender runs an Appender until the test ends.
func appender(t *testing.T, client []kgo.Opt, topic string) *Appender {
	t.Helper()
	a := NewAppender(AppenderOptions{Client: client, Topic: topic, Timeout: soon})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("appender: %v", err)
		}
	})
	return a
}

func entries(keys ...string) []Entry {
	var all []Entry
	for _, k := range keys {
		all = append(all, Entry{Key: []byte(k), Value: []byte("value of " + k)})
	}
	return all
}

func write(t *testing.T, a *Appender, keys ...string) {
	t.Helper()
	if err := a.Append(t.Context(), entries(keys...)); err != nil {
		t.Fatal(err)
	}
}

// transactional is a foreign transactional producer in the middle of a transaction that
// has written keys.
func transactional(t *testing.T, client []kgo.Opt, topic, id string, keys ...string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Key: []byte(k), Value: []byte(k)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func end(t *testing.T, c *kgo.Client, commit kgo.TransactionEndTry) {
	t.Helper()
	if err := txn.End(t.Context(), c, commit); err != nil {
		t.Fatal(err)
	}
}
