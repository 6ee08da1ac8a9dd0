package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// stream writes numbers to partition 0 of a topic until it is told to stop; it returns how many then.
func (e *Env) stream(topic string) (stop func() int) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	written := make(chan int, 1)
	go func() {
		n := 0
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			e.numbers(e.Source, topic, 0, n, n+20)
			n += 20
			<-tick.C
		}
		written <- n
	}()
	return func() int {
		cancel()
		return <-written
	}
}

// raw reads a topic's records, those of aborted transactions too if committed is false.
func (e *Env) raw(b *kafka.Broker, topic string, committed bool) (all []*kgo.Record) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	ends, err := admin.ListEndOffsets(e.Context(), topic)
	e.Must(err)
	level := kgo.ReadUncommitted()
	if committed {
		level = kgo.ReadCommitted()
	}
	client, err := b.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	e.Must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(e.Context(), 30*time.Second)
	defer cancel()
	left := map[int32]int64{}
	for p, o := range ends[topic] {
		if o.Offset > 0 {
			left[p] = o.Offset
		}
	}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		e.Must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return all
}

// lastOffset is the last copied offset of partition 0 in records of Kafka Connect's offset topic.
func lastOffset(records []*kgo.Record, connector string) int64 {
	last := int64(-1)
	for _, r := range records {
		if strings.HasPrefix(string(r.Key), `["`+connector+`",`) {
			var value struct{ Offset int64 }
			if json.Unmarshal(r.Value, &value) == nil {
				last = value.Offset
			}
		}
	}
	return last
}

func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2, Properties: map[string]string{"exactly.once.source.support": "enabled"}})
	topic := e.Topic(e.Source, "orders", 1)
	copied, offsets := "src."+topic, "src."+topic+".offsets"
	connector := f.mirror("orders", "src", topic, Config{"offsets.storage.topic": offsets, "transaction.boundary": "interval", "transaction.boundary.interval.ms": "200"}, 1)
	stop := e.stream(topic)
	// copies waits until much more is copied.
	copies := func() {
		t.Helper()
		from := len(e.values(e.Target, copied, 0))
		e.Until(30*time.Second, "more", func() string {
			if n := len(e.values(e.Target, copied, 0)); n < from+200 {
				return fmt.Sprintf("%d records, %d before", n, from)
			}
			return ""
		})
	}
	copies()
	if task := f.Replication(connector).Tasks[0]; task.Delivery != "transactional" || task.Why != "" {
		t.Errorf("delivery %q because of %q", task.Delivery, task.Why)
	}
	owner := func() *Worker { return f.ByID(f.Owners(connector)[connector+"-0"]) }

	killed := owner()
	killed.Kill()
	copies()
	killed.Start()
	// A zombie wakes up while its successor is at work.
	frozen := owner()
	frozen.Freeze()
	e.Until(60*time.Second, "a successor", func() string {
		for _, w := range f.Workers {
			if w != frozen {
				_, answer := w.Ask(http.MethodGet, "/connectors/"+connector+"/status", "")
				var s Status
				if unmarshal(answer, &s) == nil && len(s.Tasks) == 1 && s.Tasks[0].Worker == w.ID && s.Tasks[0].State == "RUNNING" {
					return ""
				}
			}
		}
		return "none"
	})
	copies()
	frozen.Thaw()
	copies()
	written := stop()
	e.holds(copied, 0, span(0, written))
	f.Await(connector, "RUNNING", 1, 30*time.Second)
	f.ledger(connector)
	f.verifies(connector, 0)

	// Each transaction has the offset of its last record.
	e.Until(20*time.Second, "the offset in "+offsets, func() string {
		if last := lastOffset(e.raw(e.Target, offsets, true), connector); last != int64(written-1) {
			return fmt.Sprintf("%d, want %d", last, written-1)
		}
		return ""
	})
	e.transactions(copied, offsets)
	e.Until(20*time.Second, "the offset in the worker's topic", func() string {
		if last := lastOffset(e.raw(e.Hub, f.Group+"-offset", true), connector); last != int64(written-1) {
			return fmt.Sprintf("%d, want %d", last, written-1)
		}
		return ""
	})

	// An orderly stop leaves nothing open, and the next run goes on behind it.
	f.act(connector, "stop", "STOPPED", 0)
	e.numbers(e.Source, topic, 0, written, written+50)
	f.act(connector, "resume", "RUNNING", 1)
	e.holds(copied, 0, span(0, written+50))
	f.Pages(connector)
}

// transactions looks whether the committed transactions of a copy have brought the source offset of their last record
// along. Every transaction has an epoch of its own (transaction.version 2).
func (e *Env) transactions(copied, offsets string) {
	e.t.Helper()
	type transaction struct {
		id    int64
		epoch int16
	}
	last := map[transaction]int64{}
	for _, r := range e.raw(e.Target, copied, true) {
		n, err := strconv.ParseInt(string(r.Value), 10, 64)
		e.Must(err)
		last[transaction{r.ProducerID, r.ProducerEpoch}] = n
	}
	told := map[transaction]int64{}
	for _, r := range e.raw(e.Target, offsets, true) {
		var value struct{ Offset int64 }
		e.Must(json.Unmarshal(r.Value, &value))
		told[transaction{r.ProducerID, r.ProducerEpoch}] = value.Offset
	}
	for of, n := range last {
		if at, ok := told[of]; !ok || at != n {
			e.t.Errorf("transaction %+v ends with record %d; its offset is %d (%t)", of, n, at, ok)
		}
	}
	aborted := len(e.raw(e.Target, copied, false)) - len(e.raw(e.Target, copied, true))
	e.t.Logf("%d transactions with offsets; %d records of aborted ones", len(last), aborted)
}
