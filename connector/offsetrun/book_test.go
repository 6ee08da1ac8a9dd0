package offsetrun

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// topicModel is a partition of the topic: the newest record of each key, as a compacted log shows it.
type topicModel struct {
	leaves map[Key]*leaf
	offset int64
	bytes  int
}

func newTopicModel() *topicModel { return &topicModel{leaves: map[Key]*leaf{}} }

func (m *topicModel) write(t *testing.T, records ...Record) {
	t.Helper()
	for _, r := range records {
		k, err := decodeKey(r.Key)
		if err != nil {
			t.Fatal(err)
		}
		if m.leaves[k.Key] == nil {
			m.leaves[k.Key] = &leaf{}
		}
		m.leaves[k.Key].put(k, found{bytes.Clone(r.Value), m.offset})
		m.offset++
		m.bytes += len(r.Key) + len(r.Value)
	}
}

func (m *topicModel) book(t *testing.T, k Key) *Book {
	t.Helper()
	b, err := m.leaves[k].book(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var someKey = Key{Owner: "cluster-mirror", Topic: "orders", Partition: 3}

func someState() State {
	return State{
		TargetTopic: "a.orders", SourceTopicID: [16]byte{1, 2}, TargetTopicID: [16]byte{3}, Next: 125, TargetNext: 75, Saved: 100, Mode: "fenced", Clean: true,
		Writers: []Writer{{"id-1", 5}, {"", 17}, {"id-2", 6}},
	}
}

func TestBookIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	b := NewBook(someKey)
	b.State = someState()
	b.Map.Append(100, 50, 10)
	b.Map.Append(112, 60, 5)
	b.AddGap(Gap{From: 110, To: 112, Cause: "retention", At: time.Date(2026, 11, 23, 6, 0, 0, 5_000_000, time.UTC)})
	m := newTopicModel()
	m.write(t, b.Flush().Records...)
	got := m.book(t, someKey)
	if diff := cmp.Diff(b.State, got.State); diff != "" {
		t.Errorf("state (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(b.Gaps, got.Gaps); diff != "" || got.Gaps[0].Topic != "orders" || got.Gaps[0].Partition != 3 {
		t.Errorf("gaps (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(b.Map.Runs(), got.Map.Runs()); diff != "" {
		t.Errorf("runs (-written +read):\n%s", diff)
	}
	if target, match := got.Map.Translate(125); target != 65 || match != Next {
		t.Errorf("a group at State.Next: %d %v, want 65: all before has been dealt with", target, match)
	}
	if diff := cmp.Diff([]byte(nil), b.Key.state(), cmpopts.EquateEmpty()); diff == "" {
		t.Error("no key")
	}
}

func TestOnlyTheNewestGapsAreKept(t *testing.T) {
	t.Parallel()
	b, m := NewBook(someKey), newTopicModel()
	for i := range int64(3 * MaxGaps) {
		b.AddGap(Gap{From: i, To: i + 1, Cause: "retention"})
		if i%10 == 0 {
			f := b.Flush()
			m.write(t, f.Records...)
			b.Saved(f)
		}
	}
	m.write(t, b.Flush().Records...)
	got := m.book(t, someKey)
	if n := len(got.Gaps); n != MaxGaps || got.Gaps[n-1].Number != 3*MaxGaps-1 || got.Gaps[0].Number != 2*MaxGaps {
		t.Errorf("%d gaps from number %d to %d", n, got.Gaps[0].Number, got.Gaps[n-1].Number)
	}
	if n := len(m.leaves[someKey].gaps); n != MaxGaps {
		t.Errorf("%d keys of gaps in the topic", n)
	}
	got.AddGap(Gap{From: 1})
	if n := got.Gaps[len(got.Gaps)-1].Number; n != 3*MaxGaps {
		t.Errorf("the next gap has number %d", n)
	}
}

func TestResetHoldsUntilTheNextState(t *testing.T) {
	t.Parallel()
	b, m := NewBook(someKey), newTopicModel()
	b.State.Next = 70
	m.write(t, b.Flush().Records...)
	m.write(t, ResetRecord(someKey, 40))
	got := m.book(t, someKey)
	if got.Reset == nil || *got.Reset != 40 || got.State.Next != 70 {
		t.Fatalf("reset %v of %+v, want 40", got.Reset, got.State)
	}
	got.State.Next = 41
	f := got.Flush()
	m.write(t, f.Records...)
	got.Saved(f)
	if again := m.book(t, someKey); again.Reset != nil || got.Reset != nil {
		t.Errorf("a reset %v behind the state that followed it", again.Reset)
	}
	m.write(t, ResetRecord(someKey, NoOffset))
	if got := m.book(t, someKey); got.Reset == nil || *got.Reset != NoOffset {
		t.Errorf("reset %v, want it deleted", got.Reset)
	}
	alone := newTopicModel()
	alone.write(t, ResetRecord(someKey, 7))
	if got := alone.book(t, someKey); got.Reset == nil || *got.Reset != 7 {
		t.Errorf("reset without a state: %v, want 7", got.Reset)
	}
}

func TestForgetLeavesNothing(t *testing.T) {
	t.Parallel()
	b, m := NewBook(someKey), newTopicModel()
	for i := range int64(3 * segmentRuns) {
		b.Map.Append(2*i, i, 1)
	}
	b.AddGap(Gap{})
	f := b.Flush()
	m.write(t, f.Records...)
	b.Saved(f)
	m.write(t, b.Forget()...)
	if !m.leaves[someKey].empty() {
		t.Error("something is left")
	}
	for n, f := range m.leaves[someKey].segments {
		if f.value != nil {
			t.Errorf("segment %d is left", n)
		}
	}
}

// A writer may die in the middle of a flush, and the acknowledgement may be lost: whatever prefix of it stands,
// and however often it is repeated, a reader finds a map that is right.
func TestEveryPrefixOfAFlushIsReadable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b, m, tr := NewBook(someKey), newTopicModel(), &truth{targets: map[int64]int64{}}
		source, target, oldest := int64(0), int64(0), 0
		for range 60 {
			for range rng.IntN(3 * segmentRuns) {
				count := 1 + rng.Int64N(2)
				b.Map.Append(source, target, count)
				for k := range count {
					tr.sources = append(tr.sources, source+k)
					tr.targets[source+k] = target + k
				}
				source, target = source+count+1, target+count
				b.State.Next = source
			}
			if rng.IntN(10) == 0 {
				b.Map.Trim(source / 4)
			}
			f := b.Flush()
			stands := len(f.Records)
			if rng.IntN(3) == 0 {
				stands = rng.IntN(stands + 1)
			}
			m.write(t, f.Records[:stands]...)
			if stands == len(f.Records) && rng.IntN(3) > 0 {
				b.Saved(f)
			}
			if m.leaves[someKey] == nil {
				continue
			}
			read := m.book(t, someKey)
			tr.upTo = read.State.Next
			end, _, _ := read.Map.End()
			for range 50 {
				if offset := rng.Int64N(source + 1); offset < end {
					tr.check(t, &read.Map, offset)
				}
			}
			if rng.IntN(8) == 0 && stands == len(f.Records) { // another owner goes on
				b = read
			}
		}
		live := 0
		for _, f := range m.leaves[someKey].segments {
			if f.value != nil {
				live++
			}
		}
		f := b.Flush()
		m.write(t, f.Records...)
		b.Saved(f)
		oldest = live
		if live = 0; oldest > 4*maxSegments {
			t.Errorf("seed %d: %d segments stand in the topic", seed, oldest)
		}
		for _, f := range m.leaves[someKey].segments {
			if f.value != nil {
				live++
			}
		}
		if live != len(b.Map.closed) {
			t.Errorf("seed %d: %d segments stand in the topic after a whole flush, and the map has %d", seed, live, len(b.Map.closed))
		}
	}
}

func TestMissingSegmentIsThinnedOut(t *testing.T) {
	t.Parallel()
	b, m := NewBook(someKey), newTopicModel()
	tr := &truth{targets: map[int64]int64{}}
	for i := range int64(4 * segmentRuns) {
		b.Map.Append(2*i, i, 1)
		tr.sources = append(tr.sources, 2*i)
		tr.targets[2*i] = i
	}
	b.State.Next = 8 * segmentRuns
	tr.upTo = b.State.Next
	m.write(t, b.Flush().Records...)
	m.leaves[someKey].segments[1] = found{[]byte{1, 200}, 0}
	read := m.book(t, someKey)
	counts := map[Match]int{}
	for offset := range b.State.Next {
		counts[tr.check(t, &read.Map, offset)]++
	}
	if counts[Before] == 0 || counts[Exact] != 3*segmentRuns {
		t.Errorf("%v, want one segment's offsets thinned out", counts)
	}
}

func TestRecordsOfOtherVersions(t *testing.T) {
	t.Parallel()
	if _, err := decodeKey([]byte{2, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("key of version 2: %v", err)
	}
	for _, key := range [][]byte{nil, {0}, {1}, []byte(`["a",{}]`), append(someKey.state(), 0), append(someKey.encode(), 'z')} {
		if _, err := decodeKey(key); err == nil {
			t.Errorf("key %q passes", key)
		}
	}
	b := NewBook(someKey)
	b.State = someState()
	value := b.encodeState()
	value[0] = 2
	l := &leaf{state: found{value, 1}}
	if _, err := l.book(someKey); !errors.Is(err, ErrVersion) {
		t.Errorf("state of version 2: %v, want ErrVersion: not a book that knows nothing", err)
	}
	l.state.value = b.encodeState()[:20]
	if _, err := l.book(someKey); !errors.Is(err, ErrMalformed) {
		t.Errorf("half a state: %v, want ErrMalformed", err)
	}
	// What a later build adds to the end is passed over.
	l.state.value = append(b.encodeState(), "more"...)
	if got, err := l.book(someKey); err != nil || cmp.Diff(b.State, got.State) != "" {
		t.Errorf("state with more behind: %v, %v", got, err)
	}
}

func TestPartitionOf(t *testing.T) {
	t.Parallel()
	seen := map[int32]int{}
	for i := range int32(1000) {
		seen[PartitionOf(Key{"owner", "topic", i}, 10)]++
	}
	if len(seen) != 10 {
		t.Errorf("1000 keys in %d of 10 partitions", len(seen))
	}
	if got := PartitionOf(someKey, 1); got != 0 {
		t.Errorf("of one partition: %d", got)
	}
}

func TestTopicName(t *testing.T) {
	t.Parallel()
	if got := TopicName("a", "."); got != "mm2-offset-runs.a.internal" {
		t.Error(got)
	}
}

// What the runs of a compacted topic cost: short ones, with holes. The bytes are those of one copy in the topic
// after compaction, and those written on the way with a flush for every 5000 records.
func TestSizeOnACompactedTopic(t *testing.T) {
	t.Parallel()
	for _, kept := range []int{90, 50, 20} {
		rng := rand.New(rand.NewPCG(uint64(kept), 5))
		b, m := NewBook(someKey), newTopicModel()
		b.State = someState()
		const records = 20_000 // within the bound in all three
		target := int64(0)
		for source := int64(0); target < records; source++ {
			if rng.IntN(100) < kept {
				b.Map.Append(source, target, 1)
				if target++; target%5000 == 0 {
					b.State.Next = source + 1
					f := b.Flush()
					m.write(t, f.Records...)
					b.Saved(f)
				}
			}
		}
		stands := 0
		for n, f := range m.leaves[someKey].segments {
			stands += len(f.value) + len(someKey.segment(n))
		}
		stands += len(m.leaves[someKey].state.value) + len(someKey.state())
		t.Logf("%d %% of the offsets left: %d records in %d runs, %.2f bytes a record in the topic, %.2f written", kept, records, b.Map.Len(), float64(stands)/records, float64(m.bytes)/records)
		if float64(stands)/records > 1.5 {
			t.Errorf("%d bytes for %d records", stands, records)
		}
	}
	b := NewBook(someKey)
	b.State = someState()
	b.Map.Append(1e9, 1e9, 1e6)
	if n := len(b.encodeState()); n > 120 {
		t.Errorf("the state of an unbroken copy has %d bytes", n)
	}
}

func FuzzKey(f *testing.F) {
	f.Add(someKey.state())
	f.Add(someKey.segment(300))
	f.Add(someKey.gap(5))
	f.Add(someKey.reset())
	f.Fuzz(func(t *testing.T, key []byte) {
		k, err := decodeKey(key)
		if err != nil {
			return
		}
		again := map[byte][]byte{kindState: k.state(), kindSegment: k.segment(k.number), kindGap: append(k.encode(), kindGap), kindReset: k.reset()}[k.kind]
		if got, err := decodeKey(again); k.kind != kindGap && (err != nil || got != k) {
			t.Errorf("%x: %+v, read again %+v, %v", key, k, got, err)
		}
	})
}

func FuzzState(f *testing.F) {
	b := NewBook(someKey)
	b.State = someState()
	f.Add(b.encodeState())
	for i := range int64(3*segmentRuns + 7) {
		b.Map.Append(i*3, i*2, 1+i%2)
	}
	f.Add(b.encodeState())
	b.Map.Append(1<<62, 1<<61, 1<<40)
	f.Add(b.encodeState())
	f.Fuzz(func(t *testing.T, value []byte) {
		read, err := (&leaf{state: found{value, 1}}).book(someKey)
		if err != nil {
			return
		}
		before := Run{}
		for _, r := range read.Map.Runs() {
			if r.Count <= 0 || r.Source < before.sourceEnd() || r.Target < before.targetEnd() || r.sourceEnd() < 0 || r.targetEnd() < 0 {
				t.Fatalf("run %+v behind %+v", r, before)
			}
			before = r
		}
		read.Map.Translate(before.Source)
		again, err := (&leaf{state: found{read.encodeState(), 1}}).book(someKey)
		if err != nil || cmp.Diff(read.State, again.State, cmpopts.EquateEmpty()) != "" || cmp.Diff(read.Map.Runs(), again.Map.Runs(), cmpopts.EquateEmpty()) != "" {
			t.Errorf("written and read again: %v\n%+v\n%+v", err, read, again)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add(encodeGap(Gap{From: 1, To: 2, Cause: "c", At: time.Now()}))
	f.Add(encodeReset(5))
	var m Map
	for i := range int64(segmentRuns + 1) {
		m.Append(i*20, i*30, 1+i%20)
	}
	f.Add(encodeSegment(m.closed[0].runs))
	f.Fuzz(func(t *testing.T, value []byte) {
		if g, err := decodeGap(someKey, value); err == nil {
			if again, err := decodeGap(someKey, encodeGap(g)); err != nil || fmt.Sprint(again) != fmt.Sprint(g) {
				t.Errorf("gap %+v, again %+v, %v", g, again, err)
			}
		}
		if next, err := decodeReset(value); err == nil && next < NoOffset {
			t.Errorf("reset to %d", next)
		}
		if runs, err := decodeSegment(value); err == nil {
			again, _, err := decodeRuns(encodeRuns(nil, runs))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(runs) {
				t.Errorf("runs %v, again %v, %v", runs, again, err)
			}
		}
	})
}

// TestHopsAreKeptAndOlderStatesHaveNone reads back what a state says about how its source is filled, and a state without it.
func TestHopsAreKeptAndOlderStatesHaveNone(t *testing.T) {
	t.Parallel()
	book := NewBook(Key{"g-m", "orders", 0})
	book.State.SourceCluster, book.State.Marked = "A", true
	book.State.Upstream = []Hop{{Cluster: "C", Topic: [16]byte{1}, Into: [16]byte{2}, Marked: true}, {Topic: [16]byte{3}, Into: [16]byte{1}}}
	value := book.encodeState()
	read := NewBook(book.Key)
	if _, err := read.decodeState(value); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(book.State, read.State); diff != "" {
		t.Error(diff)
	}
	whole := len(value)
	book.State.SourceCluster, book.State.Marked, book.State.Upstream = "", false, nil
	older := book.encodeState()
	older = older[:len(older)-2] // the length of the cluster's id, and the number of hops
	if _, err := read.decodeState(older); err != nil || read.State.Upstream != nil || read.State.SourceCluster != "" || read.State.Marked {
		t.Errorf("%+v, %v", read.State, err)
	}
	for n := range whole {
		_, _ = NewBook(book.Key).decodeState(value[:n]) // it must not panic
	}
}
