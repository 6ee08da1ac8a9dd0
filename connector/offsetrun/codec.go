package offsetrun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// This file is the format of the topic's records. Keys and values begin with a version; what is added to a
// value goes to its end, which older builds skip, so that a rolling upgrade needs no new version.
//
//	key      version, owner, topic, partition, kind, number of the segment or slot of the gap
//	state    version, flags, mode, target topic, topic ids, offsets, writers, revision, count of gaps,
//	         number of the next segment, numbers of the segments, runs, source cluster, hops
//	segment  version, runs
//	gap      version, number, from, to, time, cause
//	reset    version, next offset
//
// Numbers are varints (as in encoding/binary), strings have their length before them. Runs have a short
// form of their own, since on a compacted topic there are many: see encodeRuns.

// ErrVersion says that a newer build wrote a record in a way that this one cannot read.
var ErrVersion = errors.New("the record was written by a newer version")

// ErrMalformed says that a record is not one of ours, or damaged.
var ErrMalformed = errors.New("malformed record")

const version = 1

// The kinds of records.
const (
	kindState   = 's'
	kindSegment = 'r'
	kindGap     = 'g'
	kindReset   = 'x'
)

func (k Key) encode() []byte {
	b := appendString([]byte{version}, k.Owner)
	b = appendString(b, k.Topic)
	return binary.AppendUvarint(b, uint64(uint32(k.Partition)))
}

func (k Key) state() []byte { return append(k.encode(), kindState) }
func (k Key) reset() []byte { return append(k.encode(), kindReset) }
func (k Key) segment(n uint64) []byte {
	return binary.AppendUvarint(append(k.encode(), kindSegment), n)
}

func (k Key) gap(n int64) []byte {
	return binary.AppendUvarint(append(k.encode(), kindGap), uint64(n%MaxGaps))
}

// recordKey is a record's key taken apart.
type recordKey struct {
	Key
	kind   byte
	number uint64
}

func decodeKey(b []byte) (recordKey, error) {
	d := newDecoder(b)
	k := recordKey{Key: Key{Owner: d.string(), Topic: d.string(), Partition: int32(d.number(math.MaxInt32))}, kind: d.byte()}
	switch k.kind {
	case kindSegment, kindGap:
		k.number = d.number(math.MaxInt64)
	case kindState, kindReset:
	default:
		d.fail("a key of kind %d", k.kind)
	}
	if len(d.b) > 0 {
		d.fail("%d bytes behind a key", len(d.b))
	}
	return k, d.err
}

const (
	flagClean  = 1
	flagMarked = 2
)

func (b *Book) encodeState() []byte {
	s := b.State
	flags := byte(0)
	if s.Clean {
		flags |= flagClean
	}
	if s.Marked {
		flags |= flagMarked
	}
	v := appendString([]byte{version, flags}, s.Mode)
	v = appendString(v, s.TargetTopic)
	v = append(v, s.SourceTopicID[:]...)
	v = append(v, s.TargetTopicID[:]...)
	for _, n := range []int64{s.Next, s.TargetNext, s.Saved} {
		v = binary.AppendVarint(v, n)
	}
	v = binary.AppendUvarint(v, uint64(len(s.Writers)))
	for _, w := range s.Writers {
		v = binary.AppendVarint(appendString(v, w.TransactionalID), w.ProducerID)
	}
	v = binary.AppendUvarint(v, uint64(b.revision))
	v = binary.AppendUvarint(v, uint64(b.gaps))
	v = binary.AppendUvarint(v, b.Map.number)
	v = binary.AppendUvarint(v, uint64(len(b.Map.closed)))
	before := uint64(0)
	for _, c := range b.Map.closed {
		v = binary.AppendVarint(v, int64(c.number-before))
		before = c.number
	}
	v = appendString(encodeRuns(v, b.Map.open), s.SourceCluster)
	v = binary.AppendUvarint(v, uint64(len(s.Upstream)))
	for _, h := range s.Upstream {
		v = appendString(append(append(v, h.Topic[:]...), h.Into[:]...), h.Cluster)
		marked := byte(0)
		if h.Marked {
			marked = flagMarked
		}
		v = append(v, marked)
	}
	return v
}

// decodeState reads a state into b and returns the numbers of its segments.
func (b *Book) decodeState(value []byte) (segments []uint64, err error) {
	d := newDecoder(value)
	flags := d.byte()
	b.State.Clean, b.State.Marked = flags&flagClean != 0, flags&flagMarked != 0
	b.State.Mode, b.State.TargetTopic = d.string(), d.string()
	copy(b.State.SourceTopicID[:], d.bytes(16))
	copy(b.State.TargetTopicID[:], d.bytes(16))
	b.State.Next, b.State.TargetNext, b.State.Saved = d.varint(), d.varint(), d.varint()
	b.State.Writers = nil
	for n := d.count(2); n > 0; n-- {
		b.State.Writers = append(b.State.Writers, Writer{d.string(), d.varint()})
	}
	b.revision = int64(d.number(math.MaxInt64))
	b.gaps = int64(d.number(math.MaxInt64))
	b.Map.number = d.number(math.MaxInt64)
	before := uint64(0)
	for n := d.count(1); n > 0; n-- {
		before += uint64(d.varint())
		segments = append(segments, before)
	}
	if len(segments) > maxSegments {
		d.fail("%d segments", len(segments))
	}
	b.Map.open = d.runs()
	b.State.SourceCluster, b.State.Upstream = "", nil
	if d.err == nil && len(d.b) > 0 { // older builds end here
		b.State.SourceCluster, b.State.Upstream = d.string(), d.hops()
	}
	return segments, d.err
}

func (d *decoder) hops() (hops []Hop) {
	for n := d.count(34); n > 0 && d.err == nil; n-- {
		var h Hop
		copy(h.Topic[:], d.bytes(16))
		copy(h.Into[:], d.bytes(16))
		h.Cluster, h.Marked = d.string(), d.byte()&flagMarked != 0
		hops = append(hops, h)
	}
	return hops
}

func encodeSegment(runs []byte) []byte { return append([]byte{version}, runs...) }

func decodeSegment(value []byte) ([]stretch, error) {
	d := newDecoder(value)
	runs := d.runs()
	if len(runs) == 0 {
		d.fail("a segment without runs")
	}
	return runs, d.err
}

func encodeGap(g Gap) []byte {
	v := []byte{version}
	for _, n := range []int64{g.Number, g.From, g.To, g.At.UnixMilli()} {
		v = binary.AppendVarint(v, n)
	}
	return appendString(v, g.Cause)
}

func decodeGap(k Key, value []byte) (Gap, error) {
	d := newDecoder(value)
	g := Gap{Topic: k.Topic, Partition: k.Partition, Number: d.varint(), From: d.varint(), To: d.varint(), At: time.UnixMilli(d.varint()).UTC(), Cause: d.string()}
	if g.Number < 0 {
		d.fail("gap number %d", g.Number)
	}
	return g, d.err
}

func encodeReset(next int64) []byte { return binary.AppendVarint([]byte{version}, next) }

func decodeReset(value []byte) (int64, error) {
	d := newDecoder(value)
	return max(d.varint(), NoOffset), d.err
}

// Halves of the first byte of a run. Each run is written as its distance from the end of the one before.
const (
	longCount  = 15 // upper half: the count is 15 and what follows; otherwise it is the half itself, 1 to 14
	longGap    = 14 // lower half: the source's gap is 14 and what follows
	generalGap = 15 // lower half: the source's gap follows, then the target's, doubled, plus 1 if loose
)

// encodeRuns appends runs: their number, where the first one begins, and then mostly one byte each. On a compacted
// topic a run is a few records, the gap before it as well, and at the target there is none.
func encodeRuns(v []byte, runs []stretch) []byte {
	v = binary.AppendUvarint(v, uint64(len(runs)))
	if len(runs) == 0 {
		return v
	}
	before := Run{Source: runs[0].Source, Target: runs[0].Target}
	v = binary.AppendUvarint(v, uint64(before.Source))
	v = binary.AppendUvarint(v, uint64(before.Target))
	for _, r := range runs {
		gap, targetGap := uint64(r.Source-before.sourceEnd()), uint64(r.Target-before.targetEnd())
		head := byte(min(r.Count, longCount)) << 4
		switch {
		case targetGap != 0 || r.loose:
			head |= generalGap
		case gap >= longGap:
			head |= longGap
		default:
			head |= byte(gap)
		}
		v = append(v, head)
		if r.Count >= longCount {
			v = binary.AppendUvarint(v, uint64(r.Count-longCount))
		}
		switch head & 15 {
		case generalGap:
			v = binary.AppendUvarint(v, gap)
			targetGap <<= 1
			if r.loose {
				targetGap |= 1
			}
			v = binary.AppendUvarint(v, targetGap)
		case longGap:
			v = binary.AppendUvarint(v, gap-longGap)
		}
		before = r.Run
	}
	return v
}

// decodeRuns reads what encodeRuns wrote, and returns the rest.
func decodeRuns(v []byte) ([]stretch, []byte, error) {
	d := decoder{b: v}
	runs := d.runs()
	return runs, d.b, d.err
}

func (d *decoder) runs() []stretch {
	n := d.count(1)
	if n == 0 || d.err != nil {
		return nil
	}
	if n > segmentRuns {
		d.fail("%d runs", n)
		return nil
	}
	source, target := d.number(math.MaxInt64), d.number(math.MaxInt64)
	runs := make([]stretch, 0, n)
	for ; n > 0 && d.err == nil; n-- {
		head := d.byte()
		count, gap, targetGap, loose := uint64(head>>4), uint64(head&15), uint64(0), false
		if count == longCount {
			count += d.number(math.MaxInt64 - longCount)
		}
		switch gap {
		case generalGap:
			gap = d.number(math.MaxInt64)
			t := d.uvarint()
			targetGap, loose = t>>1, t&1 == 1
		case longGap:
			gap += d.number(math.MaxInt64 - longGap)
		}
		source, target = d.sum(source, gap), d.sum(target, targetGap)
		runs = append(runs, stretch{Run{int64(source), int64(target), int64(count)}, loose})
		source, target = d.sum(source, count), d.sum(target, count)
		if count == 0 {
			d.fail("an empty run")
		}
	}
	if d.err != nil {
		return nil
	}
	return runs
}

// decoder reads a value from its beginning; after the first error everything is zero.
type decoder struct {
	b   []byte
	err error
}

// newDecoder reads and checks the version.
func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if v := d.byte(); d.err == nil && v != version {
		d.b, d.err = nil, fmt.Errorf("version %d: %w", v, ErrVersion)
		if v == 0 {
			d.err = fmt.Errorf("%w: version 0", ErrMalformed)
		}
	}
	return d
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.b, d.err = nil, fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) bytes(n int) []byte {
	if len(d.b) < n {
		d.fail("it ends early")
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail("no number where one is due")
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail("no number where one is due")
		return 0
	}
	d.b = d.b[size:]
	return n
}

// number is a uvarint of at most highest.
func (d *decoder) number(highest uint64) uint64 {
	n := d.uvarint()
	if n > highest {
		d.fail("%d is too large", n)
		return 0
	}
	return n
}

// count is how many things follow that take at least size bytes each.
func (d *decoder) count(size int) int {
	return int(d.number(uint64(len(d.b) / size)))
}

// sum adds two offsets.
func (d *decoder) sum(a, b uint64) uint64 {
	if a+b > math.MaxInt64 || a+b < a {
		d.fail("an offset is too large")
		return 0
	}
	return a + b
}

func (d *decoder) string() string {
	return string(d.bytes(d.count(1)))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
