package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/rawcopy"
)

const (
	// verifyFetch is how many bytes of a partition are asked for at once. A reader holds up to
	// three answers: the one that is read, the next, and one on its way.
	verifyFetch = 2 << 20
	// verifyDecoded bounds what a batch may become when it is decompressed.
	verifyDecoded = 256 << 20
	// verifyRetries is how often a damaged batch is fetched again.
	verifyRetries = 3
	// idleTime is how long a partition may yield nothing before its end is looked
	// at again, and the second time what is left holds no records.
	idleTime = 5 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logReader reads one partition up to an offset, batch by batch or record by record. While one answer
// is read the next is fetched.
type logReader struct {
	side   *verifySide
	client *kgo.Client
	at     partition
	next   int64          // nothing before it is still to be read
	end    int64          // where to end; may grow
	seen   func(n int64)  // hears of offsets that were read; nil: nobody
	lost   func(to int64) // hears that retention has overtaken the reader
	holes  bool           // compaction has been here
	// transform is what the copy's records went through; nil: nothing.
	transform func(*rawcopy.Record) (bool, error)
	rest      []byte           // of the answer
	batch     rawcopy.Batch    // the next one, unless it has been decoded
	stamps    bool             // the broker gave the batch its timestamps
	last      int64            // its last offset
	recs      []rawcopy.Record // the next ones, decoded

	buf     []rawcopy.Record
	decoder rawcopy.Decoder
	aborter rawcopy.Aborter
	told    int64 // up to where seen has been told
	fetchAt int64 // behind the answer that is read
	ask     int32
	coming  chan fetched
	stop    context.CancelFunc
	damaged int
	idle    time.Time // since when nothing comes
	idled   int
}

// fetched is an answer, or why there is none.
type fetched struct {
	from int64
	part *kmsg.FetchResponseTopicPartition
	err  error
}

// transformed gives what the copy made of records, without those that it left out.
func (r *logReader) transformed(records []rawcopy.Record) []rawcopy.Record {
	if r.transform == nil {
		return records
	}
	kept := records[:0]
	for i := range records {
		record := records[i]
		keep, err := r.transform(&record)
		if err != nil { // it is not in the copy, and that is to be told
			record, keep = records[i], true
		}
		if keep {
			kept = append(kept, record)
		}
	}
	return kept
}

func newLogReader(side *verifySide, client *kgo.Client, at partition, from, to int64) *logReader {
	return &logReader{
		side: side, client: client, at: at, next: from, end: to, told: from, fetchAt: from, last: from - 1, ask: side.pace.ask(verifyFetch),
		seen: func(int64) {}, lost: func(int64) {}, transform: side.transformOf(at.topic),
	}
}

// close ends what is on the way.
func (r *logReader) close() {
	r.tell()
	r.abandon()
}

func (r *logReader) abandon() {
	if r.coming != nil {
		r.stop()
		<-r.coming
		r.coming = nil
	}
}

// tell reports progress.
func (r *logReader) tell() {
	if at := min(r.next, r.end); at > r.told {
		r.seen(at - r.told)
		r.told = at
	}
}

// fill makes sure that there is a batch or a record to look at, and says false
// at the end.
func (r *logReader) fill(ctx context.Context) (bool, error) {
	for {
		switch {
		case len(r.recs) > 0:
			return r.recs[0].Offset < r.end, nil
		case r.batch != nil:
			return max(r.next, r.batch.BaseOffset()) < r.end, nil
		case r.next >= r.end:
			r.tell()
			return false, nil
		}
		b, rest, err := rawcopy.Split(r.rest)
		if err != nil {
			if err := r.again(err); err != nil {
				return false, err
			}
			continue
		}
		if len(b) == 0 {
			if err := r.fetch(ctx); err != nil {
				return false, err
			}
			continue
		}
		r.rest = rest
		r.take(b)
	}
}

// take judges the next batch.
func (r *logReader) take(b rawcopy.Batch) {
	aborter := &r.aborter
	if !r.side.committed {
		aborter = nil
	}
	verdict, reason := rawcopy.Judge(b, r.next, aborter, rawcopy.Limits{Codecs: 0x1f})
	if b.Magic() == 2 && !b.Control() && int64(b.Count()) != int64(b.LastOffsetDelta())+1 && reason.String() != "before-start" {
		r.holes = true
	}
	if verdict == rawcopy.Skip {
		r.pass(b.LastOffset() + 1)
		return
	}
	r.batch, r.stamps, r.last = b, b.LogAppendTime(), b.LastOffset()
}

func (r *logReader) pass(next int64) { r.next = max(r.next, next) }

// whole returns the next batch if all of it is still to be read, and can be
// compared as it is.
func (r *logReader) whole() rawcopy.Batch {
	if r.batch == nil || r.transform != nil || r.batch.Magic() != 2 || r.batch.BaseOffset() < r.next || r.last >= r.end {
		return nil
	}
	return r.batch
}

// dropBatch goes on behind the batch.
func (r *logReader) dropBatch() {
	r.batch = nil
	r.pass(r.last + 1)
}

// record returns the next record. fill has said that there is something; nil means
// that there was nothing in it after all.
func (r *logReader) record() (*rawcopy.Record, error) {
	if len(r.recs) == 0 && r.batch != nil {
		r.decoder.Reset()
		records, err := r.decoder.Decode(r.batch, r.next, verifyDecoded, r.buf[:0])
		if err != nil {
			return nil, r.again(err)
		}
		r.damaged = 0
		r.batch, r.buf = nil, records
		if r.recs, _ = r.side.mark.Apply(r.transformed(records)); len(r.recs) == 0 {
			r.pass(r.last + 1)
		}
	}
	if len(r.recs) == 0 || r.recs[0].Offset >= r.end {
		return nil, nil
	}
	return &r.recs[0], nil
}

// drop goes on behind the record.
func (r *logReader) drop() {
	r.next = r.recs[0].Offset + 1
	if r.recs = r.recs[1:]; len(r.recs) == 0 {
		r.pass(r.last + 1)
	}
}

// sight digests the next record and goes on behind it. It says false at the end.
func (r *logReader) sight(ctx context.Context, buf *[]byte) (s sighting, ok bool, err error) {
	for {
		if ok, err = r.fill(ctx); !ok || err != nil {
			return s, false, err
		}
		record, err := r.record()
		if err != nil {
			return s, false, err
		}
		if record != nil {
			s, *buf = sight(record, *buf)
			r.drop()
			return s, true, nil
		}
	}
}

// intact says whether a batch is what its CRC was made of.
func intact(b rawcopy.Batch) bool { return crc32.Checksum(b[21:], castagnoli) == b.CRC() }

// again has what comes next fetched once more, as it is damaged.
func (r *logReader) again(err error) error {
	if r.damaged++; r.damaged > verifyRetries || !errors.Is(err, rawcopy.ErrCorrupt) {
		return fmt.Errorf("the batch of %s at offset %d cannot be read: %w", r.at, r.next, err)
	}
	r.jump(r.next)
	return nil
}

// jump goes on at an offset.
func (r *logReader) jump(to int64) {
	r.abandon()
	r.rest, r.batch, r.recs = nil, nil, nil
	r.next, r.fetchAt, r.last = to, to, to-1
}

// fetch brings the next answer, and begins with the one after it.
func (r *logReader) fetch(ctx context.Context) error {
	r.tell()
	if r.coming == nil {
		r.begin(ctx, r.next)
	}
	answer := <-r.coming // ends with ctx
	r.coming = nil
	r.stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if answer.err != nil {
		return r.refused(ctx, answer.err)
	}
	r.rest = answer.part.RecordBatches
	r.aborter.Begin(answer.part.AbortedTransactions)
	if len(r.rest) == 0 {
		return r.nothing(ctx)
	}
	r.idle, r.idled = time.Time{}, 0
	for rest := r.rest; ; {
		b, more, err := rawcopy.Split(rest)
		if err != nil || len(b) == 0 {
			break
		}
		r.fetchAt, rest = max(r.fetchAt, b.LastOffset()+1), more
	}
	if r.fetchAt == answer.from { // not even one batch
		if r.ask > 1<<29 {
			return fmt.Errorf("%s: there is no whole batch at offset %d", r.at, r.next)
		}
		r.ask, r.rest = r.ask*2, nil
		return nil
	}
	if r.fetchAt < r.end {
		r.begin(ctx, r.fetchAt)
	}
	return nil
}

// begin asks for what is at an offset.
func (r *logReader) begin(ctx context.Context, from int64) {
	ctx, r.stop = context.WithCancel(ctx)
	r.coming, r.fetchAt = make(chan fetched, 1), from
	go func(coming chan<- fetched) { // abandon and fetch wait for it
		part, err := r.side.fetch(ctx, r.client, r.at, from, r.ask)
		coming <- fetched{from, part, err}
	}(r.coming)
}

// nothing decides what it means that no records come.
func (r *logReader) nothing(ctx context.Context) error {
	switch {
	case r.idle.IsZero():
		r.idle = time.Now()
		return nil
	case time.Since(r.idle) < idleTime:
		return nil
	}
	r.idle = time.Time{}
	end, err := r.side.offset(ctx, r.at, atEnd)
	if err != nil {
		return fmt.Errorf("at offset %d of %d: %w", r.next, r.end, err)
	}
	if end < r.end {
		return r.shorter(end)
	}
	if r.idled++; r.idled >= 2 {
		r.jump(r.end)
	}
	return nil
}

func (r *logReader) shorter(end int64) error {
	return fmt.Errorf("%s ends at offset %d, and ended at %d before: it was made anew, or has lost its newest records", r.at, end, r.end)
}

// refused deals with the error of a fetch. Retention may have overtaken it.
func (r *logReader) refused(ctx context.Context, err error) error {
	if !errors.Is(err, kerr.OffsetOutOfRange) {
		return fmt.Errorf("fetch %s at offset %d: %w", r.at, r.next, err)
	}
	start, err := r.side.offset(ctx, r.at, atStart)
	if err != nil {
		return err
	}
	if start > r.next {
		r.jump(min(start, r.end))
		r.lost(start)
		return nil
	}
	end, err := r.side.offset(ctx, r.at, atEnd)
	if err != nil {
		return err
	}
	if end < r.end {
		return r.shorter(end)
	}
	return r.wait(ctx)
}

// wait is for a moment of disagreement between brokers.
func (r *logReader) wait(ctx context.Context) error {
	if r.damaged++; r.damaged > verifyRetries {
		return fmt.Errorf("fetch %s at offset %d: %w", r.at, r.next, kerr.OffsetOutOfRange)
	}
	return sleep(ctx, time.Second)
}

// extend lets the reader go on to where the partition ends by now, and says
// whether that is further than before.
func (r *logReader) extend(ctx context.Context) (bool, error) {
	end, err := r.side.offset(ctx, r.at, atEnd)
	if err != nil || end <= r.end {
		return false, err
	}
	r.end = end
	return true, nil
}
