package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
	"barnabas/e2e/load"
	"barnabas/e2e/oracle"
)

// Watch follows copies as they arrive and knows, for each partition, when its
// newest record was made at the source. So it tells how long copying stood still
// without asking the product.
type Watch struct {
	e      *Env
	topics []string

	mu      sync.Mutex
	newest  map[string]time.Time // by "topic/partition"
	arrived map[string]time.Time // when its last record arrived
	longest map[string]time.Duration
	count   int64
}

// Watch begins to follow topics of a cluster, which must exist, until the test ends.
func (e *Env) Watch(b *kafka.Broker, topics ...string) *Watch {
	e.t.Helper()
	client, err := b.Client(kgo.ConsumeTopics(topics...), kgo.FetchMaxWait(100*time.Millisecond))
	e.Must(err)
	w := &Watch{e: e, topics: topics, newest: map[string]time.Time{}, arrived: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(w.see)
		}
	}()
	e.t.Cleanup(func() { cancel(); <-done; client.Close() })
	return w
}

func (w *Watch) see(k *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := fmt.Sprintf("%s/%d", k.Topic, k.Partition)
	if k.Timestamp.After(w.newest[at]) {
		w.newest[at] = k.Timestamp
	}
	now := time.Now()
	if since := now.Sub(w.arrived[at]); w.longest != nil && since > w.longest[at] {
		w.longest[at] = since
	}
	w.arrived[at] = now
	w.count++
}

// Standstills begins to measure how long nothing arrives in each partition; what it returns tells the longest of each since
// then. Partitions must have had a record before.
func (w *Watch) Standstills() (longest func() map[string]time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = map[string]time.Duration{}
	return func() map[string]time.Duration {
		w.mu.Lock()
		defer w.mu.Unlock()
		return maps.Clone(w.longest)
	}
}

// Count is how many records have arrived.
func (w *Watch) Count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Stale lists the partitions, n in all, without a record that was made after t.
func (w *Watch) Stale(n int, t time.Time) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var stale []string
	for at, newest := range w.newest {
		if !newest.After(t) {
			stale = append(stale, at)
		}
	}
	for range n - len(w.newest) {
		stale = append(stale, "one without any record")
	}
	slices.Sort(stale)
	return stale
}

// Fresh waits until each of n partitions has got a record made after t, and
// says how long after t that was.
func (w *Watch) Fresh(n int, t time.Time, limit time.Duration) time.Duration {
	w.e.t.Helper()
	w.e.Until(limit, "copying in all partitions", func() string {
		if stale := w.Stale(n, t); len(stale) > 0 {
			return "nothing new in " + strings.Join(stale, ", ")
		}
		return ""
	})
	return time.Since(t)
}

// Load writes rate records a second, stamped with the time of writing, until
// the returned function is called, which returns when the source has them all.
func (e *Env) Load(topics []string, partitions, rate int) (stop func()) {
	e.t.Helper()
	g, err := load.New(load.Options{Client: Plain(e.Source), Topics: topics, Partitions: partitions, Seed: e.Seed, Now: true})
	e.Must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	over := make(chan error, 1)
	go func() { over <- g.Run(ctx, rate) }()
	stop = sync.OnceFunc(func() {
		e.t.Helper()
		cancel()
		err := <-over
		g.Close()
		if err != nil {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(stop)
	return stop
}

// Write writes n records.
func (e *Env) Write(topics []string, partitions, n int) {
	e.t.Helper()
	g, err := load.New(load.Options{Client: Plain(e.Source), Topics: topics, Partitions: partitions, Seed: e.Seed, Large: true})
	e.Must(err)
	defer g.Close()
	e.Must(g.Write(e.Context(), n))
}

// Copied waits until the copies hold every source record and returns what the
// oracle says. Only then is it called, so that the wait costs little.
func (e *Env) Copied(topics map[string]string, limit time.Duration) oracle.Report {
	e.t.Helper()
	e.Until(limit, "the copy", func() string {
		source, target := e.ends(e.Source, maps.Keys(topics)), e.ends(e.Target, maps.Values(topics))
		var behind []string
		for from, to := range topics {
			for partition, end := range source[from] {
				if target[to][partition] < end {
					behind = append(behind, fmt.Sprintf("%s/%d has %d of %d", to, partition, target[to][partition], end))
				}
			}
		}
		slices.Sort(behind)
		return strings.Join(behind, ", ")
	})
	// With duplicates an end offset says little: the oracle looks again until the
	// last record is there.
	var report oracle.Report
	e.Until(limit, "the whole copy", func() string {
		var err error
		report, err = oracle.Compare(e.Context(), oracle.Options{Source: Plain(e.Source), Target: Plain(e.Target), Topics: topics})
		e.Must(err)
		if report.Missing > 0 && report.Foreign == 0 && report.Disordered == 0 {
			return report.String()
		}
		return ""
	})
	return report
}

// ends are the end offsets of topics.
func (e *Env) ends(b *kafka.Broker, topics func(func(string) bool)) map[string]map[int32]int64 {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	listed, err := admin.ListEndOffsets(e.Context(), slices.Sorted(topics)...)
	e.Must(err)
	ends := map[string]map[int32]int64{}
	for topic, partitions := range listed {
		ends[topic] = map[int32]int64{}
		for p, o := range partitions {
			if o.Err == nil {
				ends[topic][p] = o.Offset
			}
		}
	}
	return ends
}
