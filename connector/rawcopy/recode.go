package rawcopy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Job is batches of one partition that have to be decoded and encoded anew. Run
// it on any goroutine, and hand it to Done.
type Job struct {
	lane      *lane
	batches   []Batch
	firsts    []int64 // the first offset wanted of each
	pins      []*pin
	codec     int8
	max       int
	spans     []Span // the source's offsets, if batches were encoded by us
	single    bool
	mark      *Mark // nil: records stay as they are, or have it already
	size      int64
	started   bool
	abandoned bool

	tolerate bool      // records that cannot be transformed are left out
	leftOut  []failure // those
	broken   *failure  // what the job ends before: it could not be transformed

	encoded []Encoded
	left    int // records that have come round
	failed  int // index of the batch that could not be decoded; what came before is encoded
	err     error
}

const (
	// jobBytes bounds the batches of one job, compressed.
	jobBytes = 512 << 10
	// jobsPerLane may be on the way at once.
	jobsPerLane = 2
	// bomb is how many bytes a batch may become when it is decompressed.
	bomb = 256 << 20
	// Batches are coalesced when more than tinyCount wait that are smaller than
	// tinyBytes on average, until they are larger than roomyBytes.
	tinyCount  = 8
	tinyBytes  = 4 << 10
	roomyBytes = 8 << 10
	// coalescedBytes is how large a coalesced batch gets.
	coalescedBytes = 256 << 10
)

// recode queues b to be decoded from offset from on and encoded again.
func (f *Flow) recode(l *lane, b Batch, from int64, p *pin) {
	p.refs++
	if n := len(l.queue); n > 0 {
		it := l.queue[n-1]
		if j := it.job; j != nil && !j.started && !j.single && j.size+int64(len(b)) <= jobBytes && j.codec == l.codecOf(b) {
			j.add(b, from, p)
			l.queued += int64(len(b))
			it.upTo = b.LastOffset() + 1
			return
		}
	}
	j := &Job{lane: l, codec: l.codecOf(b), max: l.encodeMax(), mark: l.Limits.Mark, tolerate: f.o.Tolerate}
	j.add(b, from, p)
	it := f.item()
	it.job, it.first, it.upTo = j, from, b.LastOffset()+1
	l.push(it)
	f.jobs(l)
}

func (j *Job) add(b Batch, from int64, p *pin) {
	j.batches, j.firsts = append(j.batches, b), append(j.firsts, from)
	if p != nil {
		j.pins = append(j.pins, p)
	}
	j.size += int64(len(b))
}

// codecOf is what a re-encoded batch is compressed with. A codec that the target does not
// take, or that we do not know, becomes lz4.
func (l *lane) codecOf(b Batch) int8 {
	codec := b.Codec()
	if l.Codec >= 0 {
		codec = l.Codec
	}
	if codec > 4 || l.Limits.Codecs&(1<<codec) == 0 {
		codec = 3
	}
	return codec
}

// encodeMax is how large re-encoded batches may get.
func (l *lane) encodeMax() int { return min(coalescedBytes, int(l.Limits.MaxBytes)) }

// jobs gives out the jobs of a lane.
func (f *Flow) jobs(l *lane) {
	if l.decoding >= jobsPerLane {
		return
	}
	for _, it := range l.queue {
		if it.job == nil || it.job.started {
			continue
		}
		it.job.started = true
		l.decoding++
		f.out.Decode = append(f.out.Decode, it.job)
		if l.decoding >= jobsPerLane {
			return
		}
	}
}

// coalesce turns tiny batches that wait into a job.
func (f *Flow) coalesce(l *lane) {
	if l.internal || len(l.queue) <= tinyCount {
		return
	}
	least := int64(tinyBytes)
	if l.lastReason == reasonCoalesced {
		least = roomyBytes
	}
	if l.queued/int64(len(l.queue)) >= least {
		return
	}
	from := 0
	for from < len(l.queue) && (l.queue[from].seq >= 0 || l.queue[from].job != nil || l.queue[from].decoded) {
		from++
	}
	j := &Job{lane: l, max: l.encodeMax()}
	to := from
	for to < len(l.queue) && j.size < jobBytes {
		it := l.queue[to]
		if it.job != nil || it.decoded || it.seq >= 0 {
			break
		}
		// Producers of one partition may differ in their codecs: what is compressed stays so.
		if to == from || j.codec == 0 {
			j.codec = l.codecOf(it.batch)
		}
		it.batch.setBaseOffset(it.first) // it may have been stamped before
		j.add(it.batch, it.first, it.pin)
		to++
	}
	if to-from <= tinyCount {
		return
	}
	l.decisions[reasonCoalesced] += int64(to - from)
	l.lastReason = reasonCoalesced
	whole := f.item()
	whole.job, whole.first, whole.upTo = j, l.queue[from].first, l.queue[to-1].upTo
	for _, it := range l.queue[from:to] { // its hold on the response is the job's now
		*it = item{}
		f.spare = append(f.spare, it)
	}
	rest := append(l.queue[:from:from], whole)
	l.queue = append(rest, l.queue[to:]...)
}

// split puts a job in the place of the lane's head, which the target refused.
func (f *Flow) split(l *lane, head *item) {
	j := &Job{lane: l, codec: l.codecOf(head.batch), max: l.encodeMax(), single: head.decoded, spans: head.spans}
	if isError(kerr.ErrorForCode(head.code), kerr.MessageTooLarge, kerr.RecordListTooLarge) {
		j.max = min(j.max, len(head.batch)/2)
	}
	first := head.first
	if j.spans != nil {
		first = 0
	}
	head.batch.setBaseOffset(first)
	j.add(head.batch, first, head.pin)
	whole := f.item()
	whole.job, whole.first, whole.upTo = j, head.first, head.upTo
	*head = item{}
	l.queue[0] = whole
	f.jobs(l)
}

// recoder is what jobs decode with, one after the other. What they encode is a copy.
type recoder struct {
	Decoder
	records []Record
}

// keepRecords bounds the records for which a recoder keeps room.
const keepRecords = 1 << 15

var recoders = sync.Pool{New: func() any { return new(recoder) }}

func (r *recoder) release(records []Record) {
	r.Reset()
	clear(records)
	if r.records = records[:0]; cap(records) > keepRecords {
		r.records = nil
	}
	recoders.Put(r)
}

// Run decodes and encodes.
func (j *Job) Run() {
	j.failed = -1
	r := recoders.Get().(*recoder)
	records := r.records
	defer func() { r.release(records) }()
	for i, b := range j.batches {
		n := len(records)
		var err error
		if records, err = r.Decode(b, j.firsts[i], bomb, records); err != nil {
			j.failed, j.err, records = i, err, records[:n]
			break
		}
	}
	if j.spans != nil {
		renumber(records, j.spans)
	} else if j.lane.Transform != nil {
		records = j.transform(records)
	}
	records, j.left = j.mark.Apply(records)
	if j.single {
		for i := range records {
			j.encode(records[i : i+1])
		}
		return
	}
	j.encode(records)
}

// failure is a record that could not be transformed.
type failure struct {
	offset int64
	err    error
}

// transform has each record transformed, and returns those that are to be copied. Where errors are not tolerated it ends
// at the first.
func (j *Job) transform(records []Record) []Record {
	kept := 0
	for i := range records {
		r := records[i]
		keep, err := j.lane.Transform(&r)
		if err != nil {
			f := failure{records[i].Offset, err}
			if !j.tolerate {
				j.broken = &f
				break
			}
			j.leftOut = append(j.leftOut, f)
		} else if keep {
			records[kept] = r
			kept++
		}
	}
	clear(records[kept:])
	return records[:kept]
}

func (j *Job) encode(records []Record) {
	if len(records) == 0 {
		return
	}
	encoded, err := Encode(records, j.codec, j.max)
	if err != nil && j.err == nil {
		j.failed, j.err = 0, err
		return
	}
	j.encoded = append(j.encoded, encoded...)
}

// renumber gives records that were encoded before the offsets they have at the
// source.
func renumber(records []Record, spans []Span) {
	i := 0
	for _, s := range spans {
		for n := range s.Count {
			if i < len(records) {
				records[i].Offset = s.Source + n
				i++
			}
		}
	}
}

// Done takes a job that has been run.
func (f *Flow) Done(j *Job, now time.Time) {
	f.now = now
	l := j.lane
	l.decoding--
	if j.abandoned {
		f.jobs(l)
		return
	}
	at := -1
	for i, it := range l.queue {
		if it.job == j {
			at = i
		}
	}
	if at < 0 {
		return
	}
	l.cameBack += int64(j.left)
	whole := l.queue[at]
	p := &pin{}
	parts := make([]*item, 0, len(j.encoded))
	for _, e := range j.encoded {
		it := f.item()
		it.batch, it.count, it.first, it.upTo, it.spans = e.Batch, e.Batch.Count(), e.Spans[0].Source, e.UpTo, e.Spans
		it.decoded, it.single, it.pin = true, j.single, p
		p.refs++
		p.bytes += int64(len(e.Batch))
		parts = append(parts, it)
	}
	f.held += p.bytes
	if p.refs == 0 {
		f.held -= p.bytes
	}
	first, upTo := whole.first, whole.upTo
	if j.err != nil && j.spans == nil {
		first = j.firsts[j.failed]
	}
	if j.broken != nil {
		first = j.broken.offset
	}
	if j.err != nil || j.broken != nil {
		upTo = first
	}
	for _, left := range j.leftOut {
		if left.offset >= upTo {
			break // seen again
		}
		l.refused++
		f.emit(Event{Kind: Refused, Source: l.Source, Target: l.Target, From: left.offset, To: left.offset + 1, Cause: "not transformed", Err: left.err})
	}
	l.queued -= j.size
	for _, old := range j.pins {
		f.unpin(old)
	}
	j.pins = nil
	for _, it := range parts {
		l.queued += it.size()
	}
	tail := append(parts, l.queue[at+1:]...)
	l.queue = append(l.queue[:at:at], tail...)
	*whole = item{}
	if n := len(parts); n > 0 && (j.err == nil || j.broken != nil) {
		parts[n-1].upTo = upTo
	} else if n == 0 {
		f.passedAt(l, at, upTo)
	}
	switch {
	case j.broken != nil:
		f.drop(l, at+len(parts))
		f.refetch(l)
		f.park(l, first, "transform", fmt.Errorf("it cannot be transformed: %w", j.broken.err))
	case j.err != nil:
		f.undecodable(l, j, at+len(parts), first)
	}
	f.ready(l)
}

// passedAt notes that nothing was left to copy of what stood at an index of the
// queue.
func (f *Flow) passedAt(l *lane, at int, upTo int64) {
	switch {
	case at > 0:
		l.queue[at-1].upTo = max(l.queue[at-1].upTo, upTo)
	case len(l.flying) > 0:
		last := l.flying[len(l.flying)-1]
		last.upTo = max(last.upTo, upTo)
	default:
		l.copied = max(l.copied, upTo)
	}
}

// undecodable drops what stands in the queue from an index on, because the
// batch at offset at, in front of it, could not be decoded.
func (f *Flow) undecodable(l *lane, j *Job, from int, at int64) {
	upTo := at + 1
	if j.spans == nil {
		upTo = j.batches[j.failed].LastOffset() + 1
	}
	if j.spans != nil || !errors.Is(j.err, ErrCorrupt) { // it was ours, or will not get better
		l.corrupt, l.corruptAt = retryCorrupt, at
	}
	f.drop(l, from)
	f.damaged(l, at, upTo, j.err)
}

// drop forgets what stands in the queue from an index on.
func (f *Flow) drop(l *lane, from int) {
	for _, it := range l.queue[from:] {
		l.queued -= it.size()
		f.release(it)
	}
	clear(l.queue[from:])
	l.queue = l.queue[:from]
}

// setBaseOffset gives a batch back the offset that it has at the source; the
// CRC does not cover it.
func (b Batch) setBaseOffset(at int64) { binary.BigEndian.PutUint64(b, uint64(at)) }
