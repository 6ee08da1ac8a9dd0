// Package offsetrun keeps the exact map from a partition's source offsets to the offsets of its copy, and
// with it how far the copy is, who wrote it and what it lost: all that a new owner needs to go on.
//
// A copied batch keeps its records side by side, so the map is a list of runs (source, target, count), and
// an unbroken copy is one run. It stands in a compacted topic on the target cluster, beside MirrorMaker 2's
// offset-syncs, whose samples it does not need. What is known of one source partition is a Book: its State
// record, rewritten at every flush, carries the newest runs; full segments of older runs are records of
// their own, written once.
//
// Everything but Reader and Ensure is a function of values. The records of a Flush are written by the owner
// of the copy with the producer that writes the copy, so that an owner that was fenced off can write none.
//
// Easy to get wrong: the order of a Flush's records. New segments come before the state that names them,
// and tombstones of old ones after it, so that a reader that finds only some of them still finds a whole map.
package offsetrun

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Key names a source partition and who copies it.
type Key struct {
	Owner     string // group.id + "-" + the connector's name
	Topic     string // at the source
	Partition int32
}

// String is for messages.
func (k Key) String() string { return fmt.Sprintf("%s: %s-%d", k.Owner, k.Topic, k.Partition) }

// Compare orders keys by owner, topic and partition.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Owner, o.Owner); c != 0 {
		return c
	}
	if c := strings.Compare(k.Topic, o.Topic); c != 0 {
		return c
	}
	return int(k.Partition) - int(o.Partition)
}

// PartitionOf says in which of n partitions of the topic all records of k stand: Kafka's default
// partitioner (murmur2) over the part of the records' keys that they share.
func PartitionOf(k Key, n int32) int32 {
	shared := &kgo.Record{Key: k.encode()}
	return int32(kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(shared, int(n)))
}

// TopicName names the topic for copies from the cluster sourceAlias, as MirrorMaker 2 names its
// mm2-offset-syncs. separator is "." unless replication.policy.internal.topic.separator.enabled has it
// be the policy's. MirrorMaker 2 takes the topic for one of its own and does not copy it.
func TopicName(sourceAlias, separator string) string {
	return "mm2-offset-runs" + separator + sourceAlias + separator + "internal"
}

// Writer is somebody who has written to the target partition.
type Writer struct {
	TransactionalID string // empty: a producer that cannot be fenced
	ProducerID      int64
}

// State is how far the copy of a partition is.
type State struct {
	TargetTopic string
	// SourceTopicID and TargetTopicID are zero if they are not known.
	SourceTopicID, TargetTopicID [16]byte
	// Next is the source offset to copy next.
	Next int64
	// TargetNext is where the next record of ours will stand, or later: the tail that
	// the state does not know of begins here.
	TargetNext int64
	// Saved is the next offset that is known to stand in the worker's offset topic; -1: none.
	Saved int64
	// Mode is how the writer writes: "plain", "fenced", "transactional".
	Mode string
	// Clean says that the last writer stopped in good order: nothing of it can follow.
	Clean bool
	// Writers are all that may have written behind TargetNext. The last is the newest; the
	// others are not known to be fenced.
	Writers []Writer
	// SourceCluster is the id of the cluster that the partition is copied from; empty: not known.
	SourceCluster string
	// Marked says that the copy leaves a mark on its records, by which it knows those that have come round.
	Marked bool
	// Upstream is by which copies the source's topic is filled in turn, as far as its writer knows them: at most MaxHops.
	Upstream []Hop
}

// Hop is a copy from one topic to another. Together hops tell whether topics run in a circle.
type Hop struct {
	Cluster     string // where Topic is; empty: not known
	Topic, Into [16]byte
	Marked      bool
}

// MaxHops bounds State.Upstream.
const MaxHops = 16

// Gap is a stretch of source offsets that is not in the copy and should be: an entry of the ledger.
type Gap struct {
	Topic     string // at the source
	Partition int32
	From, To  int64 // To is not part of it
	Cause     string
	At        time.Time // to the millisecond
	// Number counts the gaps of a partition from 0. Only the last MaxGaps are kept, the
	// number of the last one tells how many there have been.
	Number int64
}

// MaxGaps is how many gaps of a partition are kept. A copy that cannot keep up with retention has a gap
// every few minutes; the topic must not grow with them.
const MaxGaps = 128

// Record is a record of the topic. Value is nil for a tombstone.
type Record struct{ Key, Value []byte }

// Book is what is known of one source partition. It is not safe for concurrent use.
type Book struct {
	Key   Key
	State State
	Map   Map
	// Gaps are the newest gaps, oldest first.
	Gaps []Gap
	// Reset is an offset that somebody has set by hand since State was written (NoOffset:
	// deleted); nil if nobody has. Flush supersedes it.
	Reset *int64

	revision  int64 // of the state, to tell two of them apart; see Reader
	gaps      int64 // how many there have been
	savedGaps int64 // those below stand in the topic
}

// NoOffset is a Reset that deletes the offset: the copy begins anew.
const NoOffset = -1

// NewBook returns a book of a partition of which nothing is known.
func NewBook(k Key) *Book { return &Book{Key: k, State: State{Saved: -1}} }

// AddGap enters a gap in the ledger. Topic, Partition and Number are filled in.
func (b *Book) AddGap(g Gap) {
	g.Topic, g.Partition, g.Number = b.Key.Topic, b.Key.Partition, b.gaps
	g.At = g.At.Truncate(time.Millisecond)
	b.gaps++
	b.Gaps = append(b.Gaps, g)
	if n := len(b.Gaps) - MaxGaps; n > 0 {
		b.Gaps = slices.Delete(b.Gaps, 0, n)
	}
}

// Flush is what is to be written so that the topic says what a Book says.
type Flush struct {
	// Records are to be written in this order to partition PartitionOf of the topic.
	Records []Record

	segments, gone []uint64
	gaps           int64
}

// Flush returns what of the book does not stand in the topic: at least the state. What a former flush had
// and Saved has not heard of is in it again.
func (b *Book) Flush() Flush {
	f := Flush{gaps: b.gaps}
	b.Map.Advance(b.State.Next)
	for i := range b.Map.closed {
		s := &b.Map.closed[i]
		if !s.saved {
			s.offered = true
			f.segments = append(f.segments, s.number)
			f.Records = append(f.Records, Record{b.Key.segment(s.number), encodeSegment(s.runs)})
		}
	}
	for _, g := range b.Gaps {
		if g.Number >= b.savedGaps {
			f.Records = append(f.Records, Record{b.Key.gap(g.Number), encodeGap(g)})
		}
	}
	b.revision++
	f.Records = append(f.Records, Record{b.Key.state(), b.encodeState()})
	for _, n := range b.Map.gone {
		f.gone = append(f.gone, n)
		f.Records = append(f.Records, Record{b.Key.segment(n), nil})
	}
	if b.Reset != nil {
		f.Records = append(f.Records, Record{b.Key.reset(), nil})
	}
	return f
}

// Saved says that all records of f are acknowledged (and committed, if they were written in a transaction).
func (b *Book) Saved(f Flush) {
	for i := range b.Map.closed {
		if s := &b.Map.closed[i]; slices.Contains(f.segments, s.number) {
			s.saved = true
		}
	}
	b.Map.gone = slices.DeleteFunc(b.Map.gone, func(n uint64) bool { return slices.Contains(f.gone, n) })
	b.savedGaps = max(b.savedGaps, f.gaps)
	b.Reset = nil
}

// Forget returns the tombstones of everything that is kept of the book, its gaps included.
func (b *Book) Forget() []Record {
	var all []Record
	for _, g := range b.Gaps {
		all = append(all, Record{b.Key.gap(g.Number), nil})
	}
	// The state goes before the segments it names.
	all = append(all, Record{b.Key.state(), nil}, Record{b.Key.reset(), nil})
	for _, s := range b.Map.closed {
		all = append(all, Record{b.Key.segment(s.number), nil})
	}
	for _, n := range b.Map.gone {
		all = append(all, Record{b.Key.segment(n), nil})
	}
	return all
}

// ResetRecord is the record that tells the next owner that the offset of k was set by hand to next
// (NoOffset: deleted). It holds until the next state is written.
func ResetRecord(k Key, next int64) Record {
	return Record{k.reset(), encodeReset(next)}
}
