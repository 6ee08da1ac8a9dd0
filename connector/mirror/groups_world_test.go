package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/txn"
	"barnabas/e2e/kafka"
)

// world is two clusters with a source connector and a checkpoint connector between them.
type world struct {
	t                  *testing.T
	source, target     *cluster
	copier, pointer    *rig
	sourceAt, targetAt []string
}

// onWorlds runs a test in this process's clusters and between real ones.
func onWorlds(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		test(newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs()))
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		test(realWorld(t))
	})
}

// realWorld has real clusters, or skips the test where Kafka is not installed.
func realWorld(t *testing.T) *world {
	t.Helper()
	return worldOf(t, kafka.Spec{})
}

// worldOf is realWorld with brokers that are as spec says.
func worldOf(t *testing.T, spec kafka.Spec) *world {
	t.Helper()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var at [2][]string
	for i, name := range []string{"source", "target"} {
		spec.Name, spec.Dir, spec.Properties = name, t.TempDir(), map[string]string{
			"log.cleaner.backoff.ms": "100", "group.initial.rebalance.delay.ms": "0", "group.consumer.min.heartbeat.interval.ms": "100",
			"group.consumer.heartbeat.interval.ms": "200",
		}
		b, err := kafka.Start(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Kill)
		at[i] = strings.Split(b.Address(kafka.Plain), ",")
	}
	return newWorld(t, at[0], at[1])
}

func newWorld(t *testing.T, source, target []string) *world {
	t.Helper()
	w := &world{t: t, sourceAt: source, targetAt: target, copier: newRigAt(t, source, target)}
	w.pointer = newRigAt(t, source, target)
	p := w.pointer
	p.connector, p.task = &checkpointConnector{first: 20 * time.Millisecond}, &checkpointTask{first: 20 * time.Millisecond}
	delete(p.config, keyReplicationFactor)
	maps.Copy(p.config, map[string]string{
		"connector.class": checkpointClass, keyCheckpointsReplicas: "1", "emit.checkpoints.interval.seconds": "0",
		"sync.group.offsets.interval.seconds": "0", "refresh.groups.interval.seconds": "1",
	})
	w.copier.config[keyOffsetSyncsReplication] = "1"
	w.source, w.target = w.cluster(source, "source"), w.cluster(target, "target")
	return w
}

func (w *world) cluster(at []string, name string) *cluster {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(at...), byTopicName(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	return &cluster{
		side: side{cluster: name, alias: name}, client: client, timeout: 20 * time.Second, dials: &dials{},
		refusal: func(doing string, err error) error { return fmt.Errorf("%s: %w", doing, err) },
	}
}

func (w *world) openSource(extra ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.sourceAt...)}, extra...)...)
}

func (w *world) openTarget(extra ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.targetAt...)}, extra...)...)
}

// commit commits offsets of a group without members.
func (w *world) commit(c *cluster, group string, offsets map[partition]int64) {
	w.t.Helper()
	all := map[partition]committed{}
	for p, at := range offsets {
		all[p] = committed{at, "of " + group}
	}
	eventually(w.t, "offsets of "+group+" are committed", func() bool {
		err := c.commitOffsets(w.t.Context(), group, all)
		if err != nil && classify(err) != passing {
			w.t.Fatal(err)
		}
		return err == nil
	})
}

// at is what groups have committed.
func (w *world) at(c *cluster, groups ...string) map[string]map[partition]committed {
	w.t.Helper()
	var all map[string]map[partition]committed
	eventually(w.t, "what groups have committed", func() bool {
		found, failed, err := c.groupOffsets(w.t.Context(), groups)
		all = found
		return err == nil && len(failed) == 0
	})
	return all
}

// write writes records numbered from first on, so that no two have the same value.
func (w *world) write(p partition, first, n int) {
	w.t.Helper()
	if err := w.source.client.ProduceSync(w.t.Context(), numbered(p.topic, p.id, first, n)...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// writeTransactions writes transactions of a few records each, every third aborted, so that there are markers between.
func (w *world) writeTransactions(p partition, first, transactions, each int) {
	w.t.Helper()
	client, err := w.openSource(kgo.TransactionalID(fmt.Sprintf("tx-%s-%d", p, first)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	for i := range transactions {
		if err := client.BeginTransaction(); err != nil {
			w.t.Fatal(err)
		}
		if err := client.ProduceSync(w.t.Context(), numbered(p.topic, p.id, first+i*each, each)...).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		if err := txn.End(w.t.Context(), client, i%3 != 2); err != nil {
			w.t.Fatal(err)
		}
	}
}

// stored is a record as it stands in a partition.
type stored struct {
	offset int64
	value  string
}

// records reads a topic, markers left out; end is the log's end.
func (w *world) records(c *cluster, topic string) (all map[partition][]stored, end map[partition]int64) {
	w.t.Helper()
	topics, err := c.describe(w.t.Context(), []string{topic})
	if err != nil {
		w.t.Fatal(err)
	}
	all = map[partition][]stored{}
	var partitions []partition
	from := map[string]map[int32]kgo.Offset{topic: {}}
	for id := range topics[topic].partitions {
		partitions = append(partitions, partition{topic, id})
		from[topic][id] = kgo.NewOffset().AtStart()
	}
	end, failed, err := c.offsets(w.t.Context(), partitions, atEnd, false)
	if err != nil || len(failed) > 0 {
		w.t.Fatal(err, failed)
	}
	open := w.openTarget
	if c == w.source {
		open = w.openSource
	}
	client, err := open(kgo.ConsumePartitions(from), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	last := map[partition]int64{}
	for slices.ContainsFunc(partitions, func(p partition) bool { return end[p] > 0 && last[p] < end[p]-1 }) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if err := fetches.Err0(); errors.Is(err, context.DeadlineExceeded) {
			break // what is missing was compacted away, or is a marker that has been
		} else if err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := partition{topic, r.Partition}
			last[p] = r.Offset
			if !r.Attrs.IsControl() {
				all[p] = append(all[p], stored{r.Offset, string(r.Value)})
			}
		})
	}
	return all, end
}

// oracle knows by reading both ends where a group that has read a partition up to an offset has to go on.
type oracle struct {
	source, target map[partition][]stored
	end            map[partition]int64 // of the target's logs
	there          map[string]bool     // values that stand at the target
}

// oracleOf reads topics and their copies.
func (w *world) oracleOf(topics ...string) *oracle { return w.oracleOfCopies("A", topics...) }

// oracleOfCopies does for copies named after alias.
func (w *world) oracleOfCopies(alias string, topics ...string) *oracle {
	w.t.Helper()
	o := &oracle{source: map[partition][]stored{}, target: map[partition][]stored{}, end: map[partition]int64{}, there: map[string]bool{}}
	for _, topic := range topics {
		source, _ := w.records(w.source, topic)
		target, end := w.records(w.target, alias+"."+topic)
		maps.Copy(o.source, source)
		for p, records := range target {
			o.target[partition{topic, p.id}] = records
			for _, r := range records {
				o.there[r.value] = true
			}
		}
		for p, at := range end {
			o.end[partition{topic, p.id}] = at
		}
	}
	return o
}

// wrong says what is wrong with a group that has read p up to from going on at to; empty: nothing. It must read the same record next,
// of those that are at both ends.
func (o *oracle) wrong(p partition, from, to int64) string {
	next := func(records []stored, at int64) string {
		for _, r := range records {
			if r.offset >= at && o.there[r.value] {
				return r.value
			}
		}
		return "the end"
	}
	want, got := next(o.source[p], from), next(o.target[p], to)
	switch {
	case to > o.end[p]:
		return fmt.Sprintf("%s: %d is %d, behind the log's end %d", p, from, to, o.end[p])
	case want != got:
		return fmt.Sprintf("%s: %d is %d: it goes on with %s at the source and with %s at the target", p, from, to, want, got)
	}
	return ""
}

// pointed reads the checkpoints that stand, by group and partition of the source.
func (w *world) pointed() map[string]map[partition]Checkpoint { return w.pointedFrom("A") }

func (w *world) pointedFrom(alias string) map[string]map[partition]Checkpoint {
	w.t.Helper()
	all := map[string]map[partition]Checkpoint{}
	log := tail{cluster: w.target, topic: alias + ".checkpoints.internal"}
	err := log.read(w.t.Context(), func(r *kgo.Record) {
		k, err := DecodeCheckpoint(r.Key, r.Value)
		if err != nil || len(r.Headers) > 0 {
			w.t.Errorf("checkpoint at %d: %+v, error %v", r.Offset, r, err)
		}
		if all[k.Group] == nil {
			all[k.Group] = map[partition]Checkpoint{}
		}
		all[k.Group][partition{strings.TrimPrefix(k.Topic, alias+"."), k.Partition}] = k
	})
	if err != nil && !errors.Is(err, errNoTopic) && classify(err) != passing {
		w.t.Fatal(err)
	}
	return all
}

// copied waits until the books say that everything is copied up to the source's ends.
func (w *world) copied(topics ...string) {
	w.t.Helper()
	tr := w.translator()
	eventually(w.t, "everything is copied", func() bool {
		if err := tr.Read(w.t.Context()); err != nil {
			return false
		}
		for _, topic := range topics {
			found, err := w.source.describe(w.t.Context(), []string{topic})
			if err != nil {
				return false
			}
			var partitions []partition
			for id := range found[topic].partitions {
				partitions = append(partitions, partition{topic, id})
			}
			ends, _, err := w.source.offsets(w.t.Context(), partitions, atEnd, false)
			if err != nil || tr.choose(w.t.Context(), partitions) != nil {
				return false
			}
			for p, end := range ends {
				if end > 0 && (len(tr.known.books[p]) == 0 || tr.known.books[p][0].State.Next < end) {
					return false
				}
			}
		}
		return true
	})
}

// translator is one with the checkpoint connector's settings.
func (w *world) translator() *Translator {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	tr, err := OpenTranslator(w.t.Context(), w.pointer.context(ctx).Settings, w.pointer.clients(ctx), w.pointer.logger())
	if err != nil {
		w.t.Fatal(err)
	}
	return tr
}

// agree waits until checkpoints of all groups are there and right.
func (w *world) agree(o *oracle, groups map[string]map[partition]int64) {
	w.t.Helper()
	var missing string
	defer func() {
		if w.t.Failed() && missing != "" {
			w.t.Log(missing)
		}
	}()
	eventually(w.t, "checkpoints of all groups", func() bool {
		all := w.pointed()
		for g, offsets := range groups {
			for p, at := range offsets {
				if k, ok := all[g][p]; !ok || k.Upstream != at {
					missing = fmt.Sprintf("group %s, %s at %d: %+v", g, p, at, k)
					return false
				}
			}
		}
		return true
	})
	all := w.pointed()
	for g, offsets := range groups {
		for p, at := range offsets {
			k := all[g][p]
			if why := o.wrong(p, at, k.Downstream); why != "" || k.Metadata != "of "+g {
				w.t.Errorf("group %s: %+v: %s", g, k, why)
			}
		}
	}
}

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
