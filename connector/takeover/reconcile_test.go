package takeover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
	"barnabas/connector/txn"
)

// pair is a topic and its copy, on the same cluster.
type pair struct {
	t              *testing.T
	client         *kgo.Client
	source, target string
	owner          *writer
}

// onBoth runs a test on the fake cluster and on real Kafka.
func onBoth(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Helper()
	onBothWith(t, nil, test)
}

// onBothWith gives the topics settings, which begin with "source." or "target.".
func onBothWith(t *testing.T, settings map[string]string, test func(t *testing.T, p *pair)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		test(t, newPair(t, client, settings))
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		test(t, newPair(t, connect(t, realKafka(t)), settings))
	})
}

func newPair(t *testing.T, client *kgo.Client, settings map[string]string) *pair {
	t.Helper()
	of := func(side string) map[string]string {
		these := map[string]string{}
		for k, v := range settings {
			if name, ok := strings.CutPrefix(k, side); ok {
				these[name] = v
			}
		}
		return these
	}
	p := &pair{t: t, client: client, source: topic(t, client, "source", 1, of("source.")), target: topic(t, client, "target", 1, of("target."))}
	p.owner = takeID(t, client, "owner of "+p.target)
	return p
}

// reconcile is Reconcile from the beginning, or from where set says.
func (p *pair) reconcile(set func(*Tail)) Outcome {
	p.t.Helper()
	tail := Tail{Source: Partition{Topic: p.source}, Target: Partition{Topic: p.target}, Writers: []int64{p.owner.ProducerID}}
	if set != nil {
		set(&tail)
	}
	begin := time.Now()
	out, err := Reconcile(p.t.Context(), p.client, p.client, tail)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("in %s: %+v", time.Since(begin), out)
	return out
}

// expect compares an outcome, but for the text of Why.
func (p *pair) expect(got, want Outcome) {
	p.t.Helper()
	want.Why = got.Why
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("(-want +got):\n%s", diff)
	}
}

func numbered(from, count int) []rawcopy.Record {
	var all []rawcopy.Record
	for i := range count {
		n := from + i
		r := rawcopy.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "key %d", n), Value: fmt.Appendf(nil, "value %d %s", n, strings.Repeat("x", 100))}
		if n%3 == 0 {
			r.Headers = []rawcopy.Header{{Key: []byte("h"), Value: fmt.Append(nil, n)}}
		}
		if n%5 == 0 {
			r.Key = nil
		}
		all = append(all, r)
	}
	return all
}

// fill writes one batch to the source and returns it as it was written.
func (p *pair) fill(codec int8, records []rawcopy.Record) rawcopy.Batch {
	p.t.Helper()
	b := encoded(records, codec)
	if _, err := produce(p.t, p.client, p.source, 0, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// copy writes a batch to the target as the owner, plainly.
func (p *pair) copy(b rawcopy.Batch) { p.t.Helper(); p.copyAs(p.owner, b) }

func (p *pair) copyAs(w *writer, b rawcopy.Batch) {
	p.t.Helper()
	b = slices.Clone(b)
	rawcopy.Rewrite(b, rawcopy.Stamp{ProducerID: w.ProducerID, Epoch: w.Epoch, BaseSequence: w.next[0]})
	if _, err := produce(p.t, p.client, p.target, 0, b); err != nil {
		p.t.Fatal(err)
	}
	w.next[0] += b.Count()
}

// foreign writes a record to the target that is nobody's copy.
func (p *pair) foreign() {
	p.t.Helper()
	if _, err := produce(p.t, p.client, p.target, 0, encoded(numbered(1000, 1), 0)); err != nil {
		p.t.Fatal(err)
	}
}

func TestRawCopiesAreFound(t *testing.T) {
	t.Parallel()
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, p *pair) {
				for i := range 20 {
					b := p.fill(int8(codec), numbered(5*i, 5))
					if i < 13 {
						p.copy(b)
					}
				}
				p.expect(p.reconcile(nil), Outcome{Next: 65, TargetNext: 65, Records: 65, Exact: true, Runs: []offsetrun.Run{{Count: 65}}})
				out := p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 40, 40 })
				p.expect(out, Outcome{Next: 65, TargetNext: 65, Records: 25, Exact: true, Runs: []offsetrun.Run{{Source: 40, Target: 40, Count: 25}}})
			})
		})
	}
}

// What cannot be decompressed can be compared all the same: raw copies are told by their headers.
func TestRawCopiesAreNotDecompressed(t *testing.T) {
	t.Parallel()
	var source, target memory
	stamp := rawcopy.Stamp{ProducerID: owner}
	for i := range 10 {
		b := batchOf(0, 0, 1, 1, 1, fmt.Appendf(nil, "no zstd %d", i))
		b[22] |= 4
		rewritten := slices.Clone(b)
		rawcopy.Rewrite(rewritten, stamp) // patches the CRC, which is wrong by the bit set above in both
		source.copied(b, rawcopy.Stamp{ProducerID: -1})
		target.copied(rewritten, stamp)
	}
	out := reconcileMemory(t, &source, &target, Tail{Writers: []int64{owner}}, 3)
	if !out.Exact || out.Next != 10 {
		t.Errorf("%+v, want all 10 found", out)
	}
}

func TestDecodedCopiesAreFoundInOtherBatches(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		all := numbered(0, 45)
		for i := range 25 {
			p.fill(0, all[i:i+1]) // tiny ones, coalesced below
		}
		big := p.fill(1, all[25:35])
		p.fill(3, all[35:45])
		p.copy(encoded(all[0:20], 3))
		p.copy(encoded(all[20:25], 0))
		p.copy(big)
		p.copy(encoded(all[35:39], 4)) // split, and the rest is missing
		p.expect(p.reconcile(nil), Outcome{Next: 39, TargetNext: 39, Records: 39, Exact: true, Runs: []offsetrun.Run{{Count: 39}}})
		p.copy(encoded(all[39:40], 4))
		out := p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 39, 39 }) // within a batch of the source
		p.expect(out, Outcome{Next: 40, TargetNext: 40, Records: 1, Exact: true, Runs: []offsetrun.Run{{Source: 39, Target: 39, Count: 1}}})
		out = p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 10, 10 }) // and of the target
		p.expect(out, Outcome{Next: 40, TargetNext: 40, Records: 30, Exact: true, Runs: []offsetrun.Run{{Source: 10, Target: 10, Count: 30}}})
	})
}

func TestNothingWasCopiedSinceTheLastState(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		p.copy(p.fill(0, numbered(0, 5)))
		p.fill(0, numbered(5, 5))
		// The fence itself leaves a marker.
		if _, err := Fence(t.Context(), FenceOptions{Target: p.client, TransactionalID: "owner of " + p.target, Expect: p.owner.ProducerID, Partitions: map[string][]int32{p.target: {0}}}); err != nil {
			t.Fatal(err)
		}
		out := p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 5, 5 })
		p.expect(out, Outcome{Next: 5, TargetNext: 6, Exact: true})
	})
}

func TestForeignRecordsAreNamedAndPassedOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		for i := range 4 {
			p.copy(p.fill(3, numbered(5*i, 5)))
			if i < 2 {
				p.foreign()
			}
		}
		second := takeID(t, p.client, "second owner of "+p.target)
		p.copyAs(second, p.fill(3, numbered(20, 2)))
		out := p.reconcile(func(tail *Tail) { tail.Writers = append(tail.Writers, second.ProducerID) })
		p.expect(out, Outcome{Next: 22, TargetNext: 24, Records: 22, Foreign: 2, Exact: true, Runs: []offsetrun.Run{
			{Count: 5}, {Source: 5, Target: 6, Count: 5}, {Source: 10, Target: 12, Count: 12},
		}})
		if !strings.Contains(out.Why, "2 records of other producers (ids -1)") {
			t.Errorf("why: %q, want the foreign records named", out.Why)
		}
	})
}

func TestWhatDoesNotFitEndsInAtLeastOnce(t *testing.T) {
	t.Parallel()
	change := func(do func(*rawcopy.Record)) func(*pair, []rawcopy.Record) {
		return func(p *pair, records []rawcopy.Record) {
			changed := slices.Clone(records)
			do(&changed[2])
			p.copy(encoded(changed, 3))
		}
	}
	for name, test := range map[string]struct {
		second func(*pair, []rawcopy.Record)
		next   int64
		why    string
	}{
		"another value":     {change(func(r *rawcopy.Record) { r.Value = []byte("other") }), 7, "source offset 7: its value is another"},
		"another key":       {change(func(r *rawcopy.Record) { r.Key = []byte("other") }), 7, "source offset 7: its key is another"},
		"an empty key":      {func(p *pair, r []rawcopy.Record) { r[0].Key = []byte{}; p.copy(encoded(r, 0)) }, 5, "source offset 5: its key is another"},
		"another time":      {change(func(r *rawcopy.Record) { r.Timestamp++ }), 7, "its timestamp is"},
		"another header":    {change(func(r *rawcopy.Record) { r.Headers = []rawcopy.Header{{Key: []byte("h")}} }), 7, "headers"},
		"a record left out": {func(p *pair, r []rawcopy.Record) { p.copy(encoded(append(slices.Clone(r[:1]), r[2:]...), 3)) }, 6, "source offset 6"},
		"a record more":     {func(p *pair, r []rawcopy.Record) { p.copy(encoded(r, 3)); p.copy(encoded(numbered(500, 1), 0)) }, 10, "the source ends at offset 10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, p *pair) {
				p.copy(p.fill(3, numbered(0, 5)))
				second := numbered(5, 5)
				p.fill(3, second)
				test.second(p, second)
				out := p.reconcile(nil)
				if out.Exact || out.Next != test.next || out.Records != test.next || !strings.Contains(out.Why, test.why) {
					t.Errorf("%+v, want at least once from %d: %s", out, test.next, test.why)
				}
			})
		})
	}
}

func deleteBefore(p *pair, topic string, offset int64) {
	p.t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, At: offset})
	deleted, err := kadm.NewClient(p.client).DeleteRecords(p.t.Context(), offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestTargetThatLostItsTail(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		for i := range 4 {
			p.copy(p.fill(0, numbered(5*i, 5)))
		}
		out := p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 30, 30 })
		if out.Exact || out.Next != 30 || out.TargetNext != 20 || !strings.Contains(out.Why, "truncated: it ends at offset 20, and had 30") {
			t.Errorf("truncated: %+v", out)
		}
		deleteBefore(p, p.target, 12)
		out = p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 5, 5 })
		if out.Exact || out.Next != 5 || !strings.Contains(out.Why, "the target begins at offset 12") {
			t.Errorf("deleted from the beginning: %+v", out)
		}
	})
}

func TestSourceThatLostWhatWasCopied(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		for i := range 4 {
			p.copy(p.fill(2, numbered(5*i, 5)))
		}
		p.fill(2, numbered(20, 5))
		deleteBefore(p, p.source, 12)
		out := p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 5, 5 })
		p.expect(out, Outcome{Next: 20, TargetNext: 20, Records: 8, Exact: true, Runs: []offsetrun.Run{{Source: 12, Target: 12, Count: 8}}, Gone: Gone{From: 5, To: 12, Copied: 7}})
		deleteBefore(p, p.source, 22) // the whole tail, and two that were never copied
		out = p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 5, 5 })
		if out.Exact || out.Next != 5 || out.Gone.To != 22 || !strings.Contains(out.Why, "the source begins at offset 22") {
			t.Errorf("nothing left to compare: %+v", out)
		}
		out = p.reconcile(func(tail *Tail) { tail.SourceFrom, tail.TargetFrom = 50, 5 })
		if out.Exact || out.Next != 50 || !strings.Contains(out.Why, "the source was truncated: it ends at offset 25, and had 50") {
			t.Errorf("source truncated: %+v", out)
		}
	})
}

// Records that are the same in every byte, of which some are deleted: nothing may be skipped that was not copied.
func TestTwinsAtTheSourceAreNeverSkipped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		twin := []rawcopy.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("twin")}}
		for i := range 30 {
			if b := p.fill(0, twin); i < 15 {
				p.copy(b)
			}
		}
		deleteBefore(p, p.source, 10)
		out := p.reconcile(nil)
		if out.Exact || out.Next > 15 {
			t.Errorf("%+v, want at least once from 15 or before", out)
		}
	})
}

func TestTransactionalSource(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		producer, err := kgo.NewClient(p.seeds(), kgo.TransactionalID("source of "+p.source), kgo.DefaultProduceTopic(p.source))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(producer.Close)
		write := func(value string, end kgo.TransactionEndTry) {
			t.Helper()
			if err := producer.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := producer.ProduceSync(t.Context(), &kgo.Record{Value: []byte(value)}, &kgo.Record{Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := txn.End(t.Context(), producer, end); err != nil {
				t.Fatal(err)
			}
		}
		write("committed", kgo.TryCommit)   // 0 1, marker 2
		write("aborted", kgo.TryAbort)      // 3 4, marker 5
		write("committed 2", kgo.TryCommit) // 6 7, marker 8
		write("committed 3", kgo.TryCommit) // 9 10, marker 11
		for _, b := range p.batches(p.source) {
			if value := records(t, b); !b.Control() && string(value[0].Value) != "aborted" && string(value[0].Value) != "committed 3" {
				p.copy(b)
			}
		}
		out := p.reconcile(func(tail *Tail) { tail.Committed = true })
		p.expect(out, Outcome{Next: 8, TargetNext: 4, Records: 4, Exact: true, Runs: []offsetrun.Run{{Count: 2}, {Source: 6, Target: 2, Count: 2}}})
		out = p.reconcile(nil) // the same copy, said to be of everything
		if out.Exact || out.Next != 2 {
			t.Errorf("read uncommitted: %+v, want at least once from 2", out)
		}
	})
}

// seeds is the client's cluster, for another client.
func (p *pair) seeds() kgo.Opt {
	seeds, _ := p.client.OptValue(kgo.SeedBrokers).([]string)
	return kgo.SeedBrokers(seeds...)
}

// batches reads a topic.
func (p *pair) batches(topic string) []rawcopy.Batch {
	p.t.Helper()
	end, err := offsetAt(p.t.Context(), p.client, Partition{Topic: topic}, atEnd)
	if err != nil {
		p.t.Fatal(err)
	}
	f := newFollower(p.client, Partition{Topic: topic}, false, 0, end)
	go f.run(p.t.Context())
	var all []rawcopy.Batch
	for c := range f.chunks {
		if c.err != nil {
			p.t.Fatal(c.err)
		}
		all = append(all, c.batches...)
	}
	return all
}

func records(t *testing.T, b rawcopy.Batch) []rawcopy.Record {
	t.Helper()
	all, err := rawcopy.Decode(b, 0, bomb, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a transactional owner left behind counts if it was committed, also where somebody else's open transaction
// keeps it from those who read committed.
func TestTransactionalLeftoversAtTheTarget(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *pair) {
		var all []rawcopy.Batch
		for i := range 6 {
			all = append(all, p.fill(3, numbered(5*i, 5)))
		}
		address := p.seeds()
		begin := func(id string) *kgo.Client {
			c, err := kgo.NewClient(address, kgo.TransactionalID(id+p.target), kgo.DefaultProduceTopic(p.target))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			if err := c.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			return c
		}
		stranger := begin("somebody else of ")
		if err := stranger.ProduceSync(t.Context(), &kgo.Record{Value: []byte("open")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		former := begin("transactional owner of ")
		send := func(batches []rawcopy.Batch, end kgo.TransactionEndTry) {
			t.Helper()
			for _, b := range batches {
				for _, r := range records(t, b) {
					record := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
					for _, h := range r.Headers {
						record.Headers = append(record.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
					}
					if err := former.ProduceSync(t.Context(), record).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := txn.End(t.Context(), former, end); err != nil {
				t.Fatal(err)
			}
		}
		send(all[0:2], kgo.TryCommit)
		if err := former.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		send(all[2:4], kgo.TryAbort)
		if err := former.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		send(all[2:3], kgo.TryCommit)
		pid, _, err := former.ProducerID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Which is what waits for its markers.
		if fenced, err := Fence(t.Context(), FenceOptions{Target: p.client, TransactionalID: "transactional owner of " + p.target, Expect: pid, Partitions: map[string][]int32{p.target: {0}}}); err != nil || !fenced.Expected {
			t.Fatal(fenced, err)
		}
		out := p.reconcile(func(tail *Tail) { tail.Writers = []int64{pid} })
		if !out.Exact || out.Next != 15 || out.Records != 15 || out.Aborted != 10 || out.Foreign != 1 {
			t.Errorf("%+v, want 15 records found, 10 aborted, 1 foreign", out)
		}
	})
}

func TestTargetWithAppendTimes(t *testing.T) {
	t.Parallel()
	onBothWith(t, map[string]string{"target.message.timestamp.type": "LogAppendTime"}, func(t *testing.T, p *pair) {
		old := numbered(0, 12)
		for i := range old {
			old[i].Timestamp -= 3_600_000
		}
		p.copy(p.fill(3, old[0:5]))
		p.fill(0, old[5:8])
		p.fill(0, old[8:12])
		p.copy(encoded(old[5:10], 3))
		p.expect(p.reconcile(nil), Outcome{Next: 10, TargetNext: 10, Records: 10, Exact: true, Runs: []offsetrun.Run{{Count: 10}}})
	})
}

func TestSourceWithAppendTimes(t *testing.T) {
	t.Parallel()
	onBothWith(t, map[string]string{"source.message.timestamp.type": "LogAppendTime"}, func(t *testing.T, p *pair) {
		old := numbered(0, 8)
		for i := range old {
			old[i].Timestamp -= 3_600_000
		}
		p.fill(3, old[0:5])
		p.fill(0, old[5:8])
		read := p.batches(p.source)
		p.copy(read[0])                             // raw: the times are the producer's
		p.copy(encoded(records(t, read[1])[:2], 3)) // decoded: they are the source's
		p.expect(p.reconcile(nil), Outcome{Next: 7, TargetNext: 7, Records: 7, Exact: true, Runs: []offsetrun.Run{{Count: 7}}})
	})
}

func TestCompactedSource(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"source.cleanup.policy": "compact", "source.min.cleanable.dirty.ratio": "0.01", "source.max.compaction.lag.ms": "100",
		"source.segment.ms": "100", "source.delete.retention.ms": "0",
	}
	p := newPair(t, connect(t, realKafka(t)), settings)
	key := func(i int) []byte { return fmt.Appendf(nil, "key %d", i%7) }
	all := numbered(0, 60)
	for i := range all {
		all[i].Key, all[i].Headers = key(i), nil
	}
	for i := 0; i < 60; i += 6 {
		p.fill(3, all[i:i+6])
	}
	// The first 24 are copied whole, from before compaction; then the cleaner runs, and 18 more
	// are copied of what it has left.
	read := p.batches(p.source)
	for _, b := range read[:4] {
		p.copy(b)
	}
	deadline := time.Now().Add(soon)
	var left []rawcopy.Record
	for rolled := 60; ; rolled++ { // a new record rolls the segment
		r := numbered(rolled, 1)
		r[0].Key = []byte("roll")
		p.fill(0, r)
		left = nil
		for _, b := range p.batches(p.source) {
			left = append(left, records(t, b)...)
		}
		if left[0].Offset > 30 {
			break
		}
		if time.Now().After(deadline) {
			t.Skip("the cleaner does not run")
		}
	}
	copied := int64(0)
	for _, r := range left[:3] {
		p.copy(encoded([]rawcopy.Record{r}, 0))
		copied = r.Offset + 1
	}
	out := p.reconcile(nil)
	if !out.Exact || out.Next != copied || out.Records != 3 {
		t.Errorf("%+v, want to go on at %d", out, copied)
	}
}
