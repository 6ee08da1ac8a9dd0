package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
	"barnabas/rest"
)

// numbers writes records to one partition of a topic: their values are the numbers from first to before end.
func (e *Env) numbers(b *kafka.Broker, topic string, partition int32, first, end int, more ...func(*kgo.Record)) {
	e.t.Helper()
	client, err := b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16<<20), kgo.MetadataMinAge(10*time.Millisecond), kgo.UnknownTopicRetries(-1))
	e.Must(err)
	defer client.Close()
	var records []*kgo.Record
	for i := first; i < end; i++ {
		r := &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}
		for _, change := range more {
			change(r)
		}
		records = append(records, r)
	}
	e.Must(client.ProduceSync(e.Context(), records...).FirstErr())
}

// values reads what a partition holds, as a consumer of committed records sees it.
func (e *Env) values(b *kafka.Broker, topic string, partition int32) (all []string) {
	e.t.Helper()
	e.Until(2*time.Minute, "the values of "+topic, func() string {
		var err error
		if all, err = readValues(e.Context(), b, topic, partition); err != nil {
			return err.Error()
		}
		return ""
	})
	return all
}

func readValues(ctx context.Context, b *kafka.Broker, topic string, partition int32) (all []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	admin, err := b.Admin()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	end, ok := ends.Lookup(topic, partition)
	if !ok || end.Err != nil {
		return nil, nil
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	start, _ := starts.Lookup(topic, partition)
	client, err := b.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(start.Offset)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxPartitionBytes(32<<20))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for next := start.Offset; next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next = r.Offset + 1; !r.Attrs.IsControl() {
				all = append(all, string(r.Value))
			}
		})
	}
	return all, nil
}

// span is the values of numbers.
func span(first, end int) (all []string) {
	for i := first; i < end; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// holds waits until a partition of the target holds these values and no others.
func (e *Env) holds(topic string, partition int32, want ...[]string) {
	e.t.Helper()
	all := slices.Concat(want...)
	e.Until(30*time.Second, fmt.Sprintf("%s-%d", topic, partition), func() string {
		got := e.values(e.Target, topic, partition)
		if slices.Equal(got, all) {
			return ""
		}
		at := 0
		for at < min(len(got), len(all)) && got[at] == all[at] {
			at++
		}
		return fmt.Sprintf("%d records, want %d; from %d on %.100v, want %.100v", len(got), len(all), at, got[at:], all[at:])
	})
}

// Replication reads GET /v1/replication/{connector}.
func (f *Fleet) Replication(name string) (r rest.Replication) {
	f.e.t.Helper()
	f.e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/v1/replication/"+name, "", http.StatusOK)), &r))
	return r
}

// replicates waits for a status of a replication with these words in its reason.
func (f *Fleet) replicates(name, status string, words ...string) (r rest.Replication) {
	f.e.t.Helper()
	f.e.Until(30*time.Second, fmt.Sprintf("replication %s: %s %q", name, status, words), func() string {
		r = f.Replication(name)
		for _, word := range words {
			if !strings.Contains(r.Reason, word) {
				return fmt.Sprintf("%s: %s", r.Status, r.Reason)
			}
		}
		if r.Status != status {
			return fmt.Sprintf("%s: %s", r.Status, r.Reason)
		}
		return ""
	})
	return r
}

// ledger waits until the gap ledger of a connector has these entries, each as "topic-partition from-to cause"; the
// cause may be the beginning of one.
func (f *Fleet) ledger(name string, want ...string) {
	f.e.t.Helper()
	f.e.Until(30*time.Second, fmt.Sprintf("ledger of %s: %q", name, want), func() string {
		var gaps rest.Gaps
		answer := f.Do(http.MethodGet, "/v1/replication/"+name+"/gaps", "", http.StatusOK)
		f.e.Must(json.Unmarshal([]byte(answer), &gaps))
		var got []string
		for _, g := range gaps.Gaps {
			got = append(got, fmt.Sprintf("%s-%d %d-%d %s", g.Topic, g.Partition, g.From, g.To, g.Cause))
		}
		if !gaps.Complete || !slices.EqualFunc(got, want, strings.HasPrefix) {
			return fmt.Sprintf("%q; complete: %t %s", got, gaps.Complete, gaps.Reason)
		}
		return ""
	})
}

// mirror makes a connector of a topic under users of its own; its copies have the alias before their names.
func (f *Fleet) mirror(name, alias, topic string, more Config, tasks int) (connector string) {
	e := f.e
	e.t.Helper()
	connector = e.Prefix + "-" + name
	source, target := e.User(e.Source, name+"-ro", ReadTopics(topic+"*")...), e.User(e.Target, name+"-rw", WriteTopics(alias+"."+topic+"*")...)
	f.Create(connector, e.Mirror(source, target, topic, tasks).With(map[string]string{"source.cluster.alias": alias}).With(more))
	f.Await(connector, "RUNNING", tasks, 30*time.Second)
	return connector
}

// act pauses, resumes or stops a connector, and waits until it is done.
func (f *Fleet) act(connector, action, state string, tasks int) {
	f.e.t.Helper()
	f.Do(http.MethodPut, "/connectors/"+connector+"/"+action, "", map[string]int{"stop": http.StatusNoContent}[action]+map[string]int{"pause": http.StatusAccepted, "resume": http.StatusAccepted}[action])
	f.Await(connector, state, tasks, 30*time.Second)
}

// stopped waits until tasks of a connector have stopped so many times: its status says STOPPED while the last one saves
// its offsets still, as Kafka Connect's does.
func (f *Fleet) stopped(connector string, times int) {
	e := f.e
	e.t.Helper()
	e.Until(30*time.Second, "a stopped task of "+connector, func() string {
		var n int
		for _, w := range f.Workers {
			log, err := os.ReadFile(w.Log())
			if err != nil {
				return err.Error()
			}
			n += strings.Count(string(log), "msg=stopped connector="+connector+" task=")
		}
		if n < times {
			return fmt.Sprintf("%d of %d stops", n, times)
		}
		return ""
	})
}

// forget deletes the records of a partition before an offset.
func (e *Env) forget(b *kafka.Broker, topic string, before int64) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, before, -1)
	deleted, err := admin.DeleteRecords(e.Context(), offsets)
	e.Must(err)
	e.Must(deleted.Error())
}

// anew deletes a topic and makes it again; the product may be faster.
func (e *Env) anew(b *kafka.Broker, topic string) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	_, err = admin.DeleteTopic(e.Context(), topic)
	e.Must(err)
	e.Until(20*time.Second, "a new "+topic, func() string {
		_, err := admin.CreateTopic(e.Context(), 1, 1, nil, topic)
		if err != nil && !strings.Contains(err.Error(), "already exists") {
			return err.Error()
		}
		return ""
	})
}

// verifies runs barnabas verify on a connector.
func (f *Fleet) verifies(connector string, code int) {
	f.e.t.Helper()
	if out, got := f.e.run([]string{"BARNABAS_URL=" + f.Workers[0].URL()}, "verify", connector, "--wait", "2s"); got != code {
		f.e.t.Errorf("verify %s: exit code %d, want %d\n%s", connector, got, code, out)
	}
}

func TestRetentionOvertakesAPausedCopy(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	e.numbers(e.Source, topic, 0, 0, 100)
	record, stop := f.mirror("record", "rec", topic, nil, 1), f.mirror("stop", "stp", topic, Config{"gap.policy": "stop"}, 1)
	for _, c := range []string{"rec.", "stp."} {
		e.holds(c+topic, 0, span(0, 100))
	}
	for _, c := range []string{record, stop} {
		f.replicates(c, "RUNNING")
		f.act(c, "pause", "PAUSED", 1)
	}
	e.numbers(e.Source, topic, 0, 100, 200)
	e.forget(e.Source, topic, 150)
	f.act(record, "resume", "RUNNING", 1)
	f.Do(http.MethodPut, "/connectors/"+stop+"/resume", "", http.StatusAccepted)

	e.holds("rec."+topic, 0, span(0, 100), span(150, 200))
	f.replicates(record, "DEGRADED", "offsets 100 to 149", "retention")
	f.ledger(record, topic+"-0 100-150 retention")
	f.verifies(record, 0)

	r := f.replicates(stop, "FAILED", "offsets 100 to 149")
	if p := r.Tasks[0].Partitions; len(p) != 1 || p[0].State != "STOPPED" || !strings.Contains(p[0].Reason, "gap.policy is stop") {
		t.Errorf("%+v", p)
	}
	f.ledger(stop, topic+"-0 100-150 retention")
	e.holds("stp."+topic, 0, span(0, 100))
	f.verifies(stop, 3)
	// Whoever has seen it lets it go on.
	var config Config
	e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/connectors/"+stop+"/config", "", http.StatusOK)), &config))
	f.Do(http.MethodPut, "/connectors/"+stop+"/config", config.With(map[string]string{"gap.policy": "record"}).JSON(), http.StatusOK)
	e.holds("stp."+topic, 0, span(0, 100), span(150, 200))
	f.replicates(stop, "DEGRADED", "offsets 100 to 149")
	f.verifies(stop, 0)
	// The ledger outlives the task.
	f.act(record, "stop", "STOPPED", 0)
	f.act(record, "resume", "RUNNING", 1)
	f.ledger(record, topic+"-0 100-150 retention")
	f.replicates(record, "DEGRADED", "offsets 100 to 149")
}

func TestRecreatedTopicsStop(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topics := map[string]string{}
	for _, name := range []string{"source", "target", "still", "asleep"} {
		topics[name] = e.Topic(e.Source, name, 1)
		e.numbers(e.Source, topics[name], 0, 0, 100)
	}
	all := slices.Sorted(maps.Values(topics))
	connector := f.mirror("orders", "src", e.Prefix, Config{"topics": strings.Join(all, ",")}, 1)
	for _, topic := range all {
		e.holds("src."+topic, 0, span(0, 100))
	}
	f.replicates(connector, "RUNNING")
	e.anew(e.Source, topics["source"])
	e.numbers(e.Source, topics["source"], 0, 1000, 1010)
	f.replicates(connector, "STOPPED", topics["source"], "made anew")
	f.ledger(connector, topics["source"]+"-0 100-100 source recreated")
	e.anew(e.Target, "src."+topics["target"])
	f.replicates(connector, "STOPPED", "1 more")
	f.ledger(connector, topics["source"]+"-0 100-100 source recreated", topics["target"]+"-0 100-100 target recreated")

	// The others go on; what is made anew meanwhile is noticed when the connector comes back.
	e.numbers(e.Source, topics["still"], 0, 100, 110)
	e.holds("src."+topics["still"], 0, span(0, 110))
	f.act(connector, "stop", "STOPPED", 0)
	e.anew(e.Source, topics["asleep"])
	f.act(connector, "resume", "RUNNING", 1)
	f.replicates(connector, "STOPPED", "2 more")
	f.ledger(connector, topics["source"]+"-0 100-100 source recreated", topics["target"]+"-0 100-100 target recreated", topics["asleep"]+"-0 100-100 source recreated")
	e.holds("src."+topics["source"], 0, span(0, 100))
	e.holds("src."+topics["target"], 0)
	f.verifies(connector, 3)

	// Reset, the new ones are copied.
	f.act(connector, "stop", "STOPPED", 0)
	for _, topic := range all {
		f.setOffset(connector, "src", topic, -1)
	}
	f.act(connector, "resume", "RUNNING", 1)
	e.holds("src."+topics["source"], 0, span(0, 100), span(1000, 1010))
	e.holds("src."+topics["target"], 0, span(0, 100))
	e.holds("src."+topics["asleep"], 0, span(0, 100))
	e.holds("src."+topics["still"], 0, span(0, 110), span(0, 110))
	f.replicates(connector, "DEGRADED", "by hand")
}

// setOffset writes into the worker's offset topic what Kafka Connect would: the last copied offset of a
// partition, or a tombstone.
func (f *Fleet) setOffset(connector, alias, topic string, next int64) {
	e := f.e
	e.t.Helper()
	r := &kgo.Record{Topic: f.Group + "-offset", Key: fmt.Appendf(nil, `[%q,{"cluster":%q,"partition":0,"topic":%q}]`, connector, alias, topic)}
	if next >= 0 {
		r.Value = fmt.Appendf(nil, `{"offset":%d}`, next-1)
	}
	client, err := e.Hub.Client()
	e.Must(err)
	defer client.Close()
	e.Must(client.ProduceSync(e.Context(), r).FirstErr())
}

func TestOffsetsSetByHand(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	e.numbers(e.Source, topic, 0, 0, 100)
	connector := f.mirror("orders", "src", topic, nil, 1)
	copied := "src." + topic
	want := [][]string{span(0, 100)}
	e.holds(copied, 0, want...)
	var entries []string
	for stops, hand := range []struct {
		next  int64 // -1: a tombstone
		again []string
		entry string
	}{
		{40, span(40, 100), "40-100 offset set by hand"},
		{-1, span(0, 100), "100-100 offset deleted by hand"},
		{160, span(160, 200), "100-160 offset set by hand"},
	} {
		f.act(connector, "stop", "STOPPED", 0)
		f.stopped(connector, stops+1)
		if hand.next == 160 {
			e.numbers(e.Source, topic, 0, 100, 200)
		}
		f.setOffset(connector, "src", topic, hand.next)
		f.act(connector, "resume", "RUNNING", 1)
		want = append(want, hand.again)
		entries = append(entries, topic+"-0 "+hand.entry)
		e.holds(copied, 0, want...)
		f.ledger(connector, entries...)
		f.replicates(connector, "DEGRADED", "by hand")
	}
	// And it goes on from there, also after a stop in which nobody touches anything.
	f.act(connector, "stop", "STOPPED", 0)
	e.numbers(e.Source, topic, 0, 200, 210)
	f.act(connector, "resume", "RUNNING", 1)
	e.holds(copied, 0, append(want, span(200, 210))...)
	f.ledger(connector, entries...)
}

// The copy goes on where a request has set the offset, also when the task was killed between its last flush and its
// last save, and also in transactions.
func TestOffsetsSetByRequest(t *testing.T) {
	t.Parallel()
	for _, support := range []string{"disabled", "enabled"} {
		t.Run(support, func(t *testing.T) {
			t.Parallel()
			e := New(t, 2*time.Minute)
			// It saves at its end, and never before.
			f := e.Fleet(FleetOptions{Size: 1, Properties: map[string]string{"exactly.once.source.support": support, "offset.flush.interval.ms": "3600000"}})
			topic := e.Topic(e.Source, "orders", 1)
			e.numbers(e.Source, topic, 0, 0, 100)
			copied := "src." + topic
			// A name that its user may write to.
			connector := f.mirror("orders", "src", topic, Config{"offsets.storage.topic": copied + ".offsets"}, 1)
			want := [][]string{span(0, 100)}
			e.holds(copied, 0, want...)
			set := func(method, body string, again []string) {
				t.Helper()
				f.act(connector, "stop", "STOPPED", 0)
				f.Do(method, "/connectors/"+connector+"/offsets", body, http.StatusOK) // waits for the task's end
				f.act(connector, "resume", "RUNNING", 1)
				want = append(want, again)
				e.holds(copied, 0, want...)
			}
			last := func(offset int) string {
				return fmt.Sprintf(`{"offsets":[{"partition":{"topic":%q,"partition":0,"cluster":"src"},"offset":{"offset":%d}}]}`, topic, offset)
			}
			set(http.MethodPatch, last(39), span(40, 100))
			set(http.MethodDelete, "", span(0, 100))
			e.numbers(e.Source, topic, 0, 100, 200)
			want = append(want, span(100, 200))
			e.holds(copied, 0, want...)
			f.Workers[0].Kill()
			f.Workers[0].Start()
			f.Await(connector, "RUNNING", 1, 30*time.Second)
			set(http.MethodPatch, last(149), span(150, 200)) // between what was saved and what the books say
		})
	}
}

func TestStartPositions(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	e.numbers(e.Source, topic, 0, 0, 60, func(r *kgo.Record) {
		n, _ := strconv.Atoi(string(r.Value))
		r.Timestamp = begin.Add(time.Duration(n) * time.Second)
	})
	for _, row := range []struct {
		alias string
		more  Config
		from  int
	}{
		{"fst", Config{"start.position": "earliest"}, 0},
		{"lat", Config{"start.position": "latest"}, 60},
		{"tim", Config{"start.position": begin.Add(20 * time.Second).UTC().Format(time.RFC3339)}, 20},
		{"off", Config{"start.position": "latest", "start.offsets": topic + "-0:37"}, 37},
		{"rst", Config{"source.consumer.auto.offset.reset": "latest"}, 60},
	} {
		connector := f.mirror(row.alias, row.alias, topic, row.more, 1)
		e.Until(20*time.Second, connector+" has begun", func() string {
			r := f.Replication(connector)
			if len(r.Tasks) == 1 && len(r.Tasks[0].Partitions) == 1 && r.Tasks[0].Partitions[0].CopiedOffset >= int64(row.from) {
				return ""
			}
			return fmt.Sprintf("%+v", r)
		})
		defer e.holds(row.alias+"."+topic, 0, span(row.from, 70))
		defer f.ledger(connector)
	}
	e.numbers(e.Source, topic, 0, 60, 70)
}
