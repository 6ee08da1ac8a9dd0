package takeover

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/rawcopy"
)

// side is a log that is followed batch by batch, or record by record where batches do not fit. Either whole is
// set, or records are, or it has to be advanced.
type side struct {
	client   *kgo.Client
	start    func(context.Context, *follower) // runs a follower
	follower *follower
	cancel   context.CancelFunc

	whole      rawcopy.Batch
	records    []rawcopy.Record
	room       []rawcopy.Record // memory of records
	producer   int64            // of the batch
	appendTime bool             // its timestamps are its broker's
	from       int64            // records below are not wanted
}

// follow begins to read, in place of what was read before.
func (s *side) follow(ctx context.Context, f *follower) {
	if s.cancel != nil {
		s.cancel()
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.follower = f
	s.start(ctx, f)
}

// next returns the next batch; nil: there is none at the moment. fetched is the chunk it begins, if any.
func (s *side) next(ctx context.Context) (b rawcopy.Batch, fetched *chunk, err error) {
	f := s.follower
	if len(f.left) == 0 {
		select {
		case c, ok := <-f.chunks:
			if !ok {
				return nil, nil, errors.Join(ctx.Err(), errEnded)
			}
			if c.err != nil {
				return nil, nil, c.err
			}
			fetched, f.left = &c, c.batches
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("read %s: %w", f.partition, ctx.Err())
		}
	}
	if len(f.left) > 0 {
		b, f.left = f.left[0], f.left[1:]
	}
	return b, fetched, nil
}

var errEnded = errors.New("the log is no longer read")

// open decodes the whole batch, if there is one.
func (s *side) open() error {
	if s.whole == nil {
		return nil
	}
	records, err := rawcopy.Decode(s.whole, s.from, bomb, s.room[:0])
	if err != nil {
		return doubtf("the batch at offset %d cannot be read: %v", s.whole.BaseOffset(), err)
	}
	if len(records) == 0 {
		return doubtf("the batch at offset %d holds no record", s.whole.BaseOffset())
	}
	s.whole, s.records, s.room = nil, records, records
	return nil
}

// drop takes the first record away.
func (s *side) drop() { s.records = s.records[1:] }

// sourceSide is the side of the source: it passes over what is not copied.
type sourceSide struct {
	side

	tail    Tail
	want    int64 // the next source offset that may have a record
	hole    int64 // offsets since the last match that have none any more
	gone    Gone  // deleted from the log's beginning; taken away by who reads it
	aborter *rawcopy.Aborter
	waiting time.Time // since when the source has shown nothing
	ended   bool      // it was waited for in vain
	// patience is how long it is waited for.
	patience time.Duration
}

// anything lets every batch pass raw that can.
var anything = rawcopy.Limits{MaxBytes: math.MaxInt32, Codecs: 0xff}

// head finds the next batch or record that is to be copied. false: the source has none.
func (s *sourceSide) head(ctx context.Context) (bool, error) {
	for {
		if len(s.records) > 0 {
			s.skipTo(s.records[0].Offset)
			return true, nil
		}
		if s.whole != nil || s.ended {
			return !s.ended, nil
		}
		if s.follower == nil {
			if s.aborter = nil; s.tail.Committed {
				s.aborter = &rawcopy.Aborter{}
			}
			s.follow(ctx, newFollower(s.client, s.tail.Source, s.tail.Committed, s.want, -1))
		}
		b, fetched, err := s.next(ctx)
		if err != nil {
			if err = s.failed(ctx, err); err != nil {
				return false, err
			}
			continue
		}
		if fetched != nil && s.aborter != nil {
			s.aborter.Begin(fetched.aborted)
		}
		if b == nil {
			if s.waiting.IsZero() {
				s.waiting = time.Now()
			}
			s.ended = fetched.next >= fetched.high && time.Since(s.waiting) >= s.patience
			continue
		}
		s.waiting = time.Time{}
		if err := s.look(b); err != nil {
			return false, err
		}
	}
}

// look decides what a batch of the source is.
func (s *sourceSide) look(b rawcopy.Batch) error {
	s.skipTo(b.BaseOffset())
	limits := anything
	limits.Mark, limits.Transform = s.tail.Mark, s.tail.Transform != nil
	verdict, _ := rawcopy.Judge(b, s.want, s.aborter, limits)
	s.appendTime = b.LogAppendTime()
	switch verdict {
	case rawcopy.Skip:
		if b.Count() == 0 && !b.Control() {
			s.skipTo(b.LastOffset() + 1) // compaction has emptied it
		}
		s.want = max(s.want, b.LastOffset()+1)
	case rawcopy.Raw:
		s.whole, s.from = b, s.want
	default:
		records, err := rawcopy.Decode(b, s.want, bomb, s.room[:0])
		if err != nil {
			return doubtf("the source's batch at offset %d cannot be read: %v", b.BaseOffset(), err)
		}
		left := 0
		s.room = records
		if s.records, left = s.tail.Mark.Apply(s.transformed(records)); len(s.records) > 0 {
			break
		}
		if left > 0 { // they are there, and have no copy
			s.want = max(s.want, b.LastOffset()+1)
		}
		s.skipTo(b.LastOffset() + 1)
	}
	return nil
}

// transformed gives what the copy made of records. Those that it left out are as good as deleted.
func (s *sourceSide) transformed(records []rawcopy.Record) []rawcopy.Record {
	if s.tail.Transform == nil {
		return records
	}
	kept := records[:0]
	for i := range records {
		if keep, err := s.tail.Transform(&records[i]); keep && err == nil {
			kept = append(kept, records[i])
		}
	}
	return kept
}

// skipTo notes that there is nothing before an offset.
func (s *sourceSide) skipTo(offset int64) {
	if offset > s.want {
		s.hole += offset - s.want
		s.want = offset
	}
}

// passed notes that everything before an offset is in the copy.
func (s *sourceSide) passed(offset int64) { s.want, s.hole = offset, 0 }

// failed goes on behind what is deleted, or says what an error means.
func (s *sourceSide) failed(ctx context.Context, err error) error {
	if !outOfRange(err) {
		return unreadable("source", err)
	}
	start, err := offsetAt(ctx, s.client, s.tail.Source, atStart)
	if err != nil {
		return err
	}
	if start <= s.want {
		end, err := offsetAt(ctx, s.client, s.tail.Source, atEnd)
		if err != nil {
			return err
		}
		return doubtf("the source was truncated: it ends at offset %d, and had %d", end, s.want)
	}
	s.gone = Gone{From: s.want, To: start}
	s.skipTo(start)
	s.follower = nil
	return nil
}

func outOfRange(err error) bool { return errors.Is(err, kerr.OffsetOutOfRange) }

// unreadable is a doubt if the bytes are at fault, and otherwise the error.
func unreadable(which string, err error) error {
	if errors.Is(err, rawcopy.ErrCorrupt) || errors.Is(err, kerr.CorruptMessage) {
		return doubtf("the %s cannot be read: %v", which, err)
	}
	return err
}

// differ says in what target is not a copy of source; "" if it is one.
func differ(source, target *rawcopy.Record, appendTime bool) string {
	same := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	switch {
	case !same(source.Key, target.Key):
		return "its key is another"
	case !same(source.Value, target.Value):
		return "its value is another"
	case !appendTime && source.Timestamp != target.Timestamp:
		return fmt.Sprintf("its timestamp is %d, and not %d", source.Timestamp, target.Timestamp)
	case len(source.Headers) != len(target.Headers):
		return fmt.Sprintf("it has %d headers, and not %d", len(source.Headers), len(target.Headers))
	}
	for i, h := range source.Headers {
		if !same(h.Key, target.Headers[i].Key) || !same(h.Value, target.Headers[i].Value) {
			return "its headers are others"
		}
	}
	return ""
}

var seed = maphash.MakeSeed()

// hash is the same for records that differ finds alike.
func hash(r *rawcopy.Record, appendTime bool) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	number := func(n int64) { _, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	field := func(b []byte) {
		n := int64(len(b))
		if b == nil {
			n = -1
		}
		number(n)
		_, _ = h.Write(b)
	}
	if !appendTime {
		number(r.Timestamp)
	}
	field(r.Key)
	field(r.Value)
	for _, header := range r.Headers {
		field(header.Key)
		field(header.Value)
	}
	return h.Sum64()
}

// marker is the end of a transaction.
type marker struct {
	offset    int64
	committed bool
}

// committed says how the transaction of a batch of ours ended. A broker tells aborted transactions only up to
// the last stable offset, which somebody else's open transaction may hold back, so the markers are read.
func (r *reconciler) committed(ctx context.Context, b rawcopy.Batch) (bool, error) {
	if !r.marked {
		if err := r.readMarkers(ctx, b.BaseOffset()); err != nil {
			return false, err
		}
		r.marked = true
	}
	all := r.markers[b.ProducerID()]
	for len(all) > 0 && all[0].offset < b.BaseOffset() {
		all = all[1:]
	}
	if r.markers[b.ProducerID()] = all; len(all) == 0 {
		return false, doubtf("target offset %d is in a transaction of the copy (producer id %d) that has no end", b.BaseOffset(), b.ProducerID())
	}
	return all[0].committed, nil
}

// readMarkers reads the tail for markers.
func (r *reconciler) readMarkers(ctx context.Context, from int64) error {
	reading := side{client: r.target.client, start: r.target.start}
	reading.follow(ctx, newFollower(r.target.client, r.tail.Target, false, from, r.out.TargetNext))
	defer reading.cancel()
	for at := from; at < r.out.TargetNext; {
		b, _, err := reading.next(ctx)
		if err != nil {
			return r.targetFailed(ctx, err)
		}
		if b == nil {
			continue
		}
		at = b.LastOffset() + 1
		if !b.Control() {
			continue
		}
		records, err := rawcopy.Decode(b, 0, bomb, nil)
		if err != nil || len(records) != 1 || len(records[0].Key) < 4 {
			continue // nothing of ours, then, or emptied: the transaction has no end
		}
		// ControlRecordType: 0 abort, 1 commit; the key is a version and the type.
		if kind := binary.BigEndian.Uint16(records[0].Key[2:]); kind < 2 {
			r.markers[b.ProducerID()] = append(r.markers[b.ProducerID()], marker{b.BaseOffset(), kind == 1})
		}
	}
	return nil
}
