package takeover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// Tail is what is to be found out: the part of a copy that is behind the last pair of offsets on record.
type Tail struct {
	Source, Target Partition
	// SourceFrom is the first source offset that is not known to be copied, TargetFrom where its copy stands
	// or anything behind.
	SourceFrom, TargetFrom int64
	// TargetEnd is where the target's log ends, looked up since the former owner was fenced; 0: it is looked up.
	TargetEnd int64
	// Committed says that the source is read committed (isolation.level): aborted transactions are not copied.
	Committed bool
	// Mark is what the copy leaves on its records; nil: nothing.
	Mark *rawcopy.Mark
	// Transform, if there is one, is what the copy's records went through (rawcopy.LaneConfig); records that it does not
	// keep, or fails for, are not in the copy.
	Transform func(*rawcopy.Record) (keep bool, err error)
	// Writers are the producer ids of all that may have written the tail. What others have written is foreign.
	Writers []int64
}

// Outcome is how far the copy is.
type Outcome struct {
	// Next is the source offset to copy next, and TargetNext where the target's log ends.
	Next, TargetNext int64
	// Runs map what was found. They go to offsetrun.Map.Append.
	Runs []offsetrun.Run
	// Records is how many were found, the sum of Runs.
	Records int64
	// Foreign is how many records of other producers stand in the tail, Aborted how many of the former
	// owners' own belong to transactions that were aborted.
	Foreign, Aborted int64
	// Gone is what the source has no longer.
	Gone Gone
	// Exact says that going on at Next copies nothing twice and leaves nothing out. Otherwise nothing is left
	// out, but records from Next on may stand in the target already.
	Exact bool
	// Why says what stood in the way of exactness, or, if nothing did, what else was found. May be empty.
	Why string
}

// Gone is a stretch of the source that was deleted before it could be compared; From is To if there is none.
type Gone struct {
	From, To int64
	// Copied is how many of its records the target has. If that is less than To - From, the others are lost,
	// or compaction had removed them before.
	Copied int64
}

// patience is how long the source may take to show records that were copied: a new leader shows them late.
const patience = 2 * time.Second

// bomb is how many bytes a batch may become when it is decompressed.
const bomb = 256 << 20

// Reconcile reads the tail of the target, to which nobody but the caller may write for the former owners any more,
// and follows it at the source. Where both have the same batches, headers suffice. ctx bounds it; it holds a
// few MiB. An error says that source or target could not be read.
//
// A record that is gone from the source (compaction, retention) can stand in the target. So between two source
// records with free offsets between them, the target may have as many records that are like nothing at the
// source. If one of these is the same as the record after them, it could be either, and what is sure ends there;
// unless the tail ends with it, and it is the same in every byte, time included: then it counts as that record.
func Reconcile(ctx context.Context, source, target *kgo.Client, tail Tail) (Outcome, error) {
	r := newReconciler(source, target, tail)
	return r.run(ctx)
}

func newReconciler(source, target *kgo.Client, tail Tail) *reconciler {
	r := &reconciler{
		tail: tail, markers: map[int64][]marker{}, suspects: map[uint64]suspect{}, foreign: map[int64]int64{}, suspected: -1,
		out: Outcome{Next: tail.SourceFrom, TargetNext: tail.TargetEnd},
	}
	follow := func(ctx context.Context, f *follower) { r.running.Go(func() { f.run(ctx) }) }
	r.source = sourceSide{side: side{client: source, start: follow}, tail: tail, want: tail.SourceFrom, patience: patience}
	r.target = side{client: target, start: follow}
	return r
}

func (r *reconciler) run(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer r.running.Wait()
	defer cancel()
	err := r.align(ctx)
	var d doubt
	switch {
	case errors.As(err, &d):
		r.out.Why = string(d)
		r.goBack()
	case err != nil:
		return Outcome{}, fmt.Errorf("reconcile %s with %s: %w", r.tail.Target, r.tail.Source, err)
	default:
		r.out.Exact = true
	}
	r.tell()
	return r.out, nil
}

// doubt is why the tail does not tell how far the copy is.
type doubt string

func (d doubt) Error() string { return string(d) }

func doubtf(format string, args ...any) error { return doubt(fmt.Sprintf(format, args...)) }

type reconciler struct {
	tail    Tail
	running sync.WaitGroup // goroutines of followers
	out     Outcome

	source  sourceSide
	target  side
	at      int64 // position in the target: all below has been looked at
	foreign map[int64]int64
	markers map[int64][]marker // by producer, of the whole tail
	marked  bool               // markers have been read

	// ordinal counts the target's records of ours; spent are those since the last match that are
	// like nothing at the source.
	ordinal, spent int64
	suspects       map[uint64]suspect // by hash of the record
	suspected      int64              // ordinal up to which there may be a suspect
	goneOpen       bool               // nothing behind out.Gone has matched yet
}

// suspect is a source record with free offsets before it that was found in the target: a second one like it, up
// to the ordinal until, may be the right one.
type suspect struct {
	source, until int64
	before        int64 // Next before it
}

func (r *reconciler) align(ctx context.Context) error {
	if r.out.TargetNext <= 0 {
		end, err := offsetAt(ctx, r.target.client, r.tail.Target, atEnd)
		if err != nil {
			return err
		}
		r.out.TargetNext = end
	}
	if r.at = r.tail.TargetFrom; r.out.TargetNext < r.at {
		return doubtf("the target was truncated: it ends at offset %d, and had %d", r.out.TargetNext, r.at)
	}
	for {
		more, err := r.ours(ctx)
		if err != nil || !more {
			if err == nil && r.goneOpen {
				err = doubtf("the source begins at offset %d: offsets from %d on are deleted and cannot be compared", r.out.Gone.To, r.out.Gone.From)
			}
			return err
		}
		if err := r.step(ctx); err != nil {
			return err
		}
	}
}

// step takes the next record or batch of ours at the target, and what is like it at the source.
func (r *reconciler) step(ctx context.Context) error {
	there, err := r.source.head(ctx)
	if err != nil {
		return err
	}
	if r.source.gone.To > 0 {
		r.out.Gone, r.goneOpen, r.source.gone = r.source.gone, true, Gone{}
	}
	s, t := &r.source, &r.target
	if there && s.whole != nil && t.whole != nil && s.hole == 0 && r.ordinal > r.suspected && rawcopy.SamePayload(s.whole, t.whole) {
		r.matched(s.whole.BaseOffset(), t.whole.BaseOffset(), int64(t.whole.Count()))
		s.whole, t.whole = nil, nil
		return nil
	}
	if err := t.open(); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	record, anyTime := &t.records[0], s.appendTime || t.appendTime
	if r.ordinal <= r.suspected {
		if twin, ok := r.suspects[hash(record, anyTime)]; ok && r.ordinal <= twin.until {
			return doubtf("source offset %d could be target offset %d or one before it, since offsets before it are deleted", twin.source, record.Offset)
		}
	}
	why := fmt.Sprintf("anything: the source ends at offset %d", s.want)
	if there {
		if why = differ(&s.records[0], record, anyTime); why == "" {
			r.matchedRecord(record, anyTime)
			return nil
		}
		why = fmt.Sprintf("source offset %d: %s", s.records[0].Offset, why)
	}
	if r.spent < s.hole { // the copy of a record that is gone
		r.spent++
		r.ordinal++
		t.drop()
		return nil
	}
	return doubtf("target offset %d, written by the copy (producer id %d), is not the copy of %s", record.Offset, t.producer, why)
}

// matchedRecord takes the first records of both sides, which are alike.
func (r *reconciler) matchedRecord(record *rawcopy.Record, anyTime bool) {
	source := r.source.records[0].Offset
	free := r.source.hole - r.spent
	if free > 0 {
		r.suspects[hash(record, anyTime)] = suspect{source: source, until: r.ordinal + free, before: r.out.Next}
		r.suspected = max(r.suspected, r.ordinal+free)
	} else if r.ordinal > r.suspected {
		clear(r.suspects)
	}
	r.matched(source, record.Offset, 1)
	r.source.drop()
	r.target.drop()
}

// matched notes that count records at source and target are the same.
func (r *reconciler) matched(source, target, count int64) {
	if r.goneOpen {
		r.goneOpen = false
		r.out.Gone.Copied = min(r.spent, r.out.Gone.To-r.out.Gone.From)
	}
	r.spent = 0
	r.ordinal += count
	r.source.passed(source + count)
	r.out.Records += count
	r.out.Next = source + count
	if n := len(r.out.Runs); n > 0 {
		last := &r.out.Runs[n-1]
		if last.Source+last.Count == source && last.Target+last.Count == target {
			last.Count += count
			return
		}
	}
	r.out.Runs = append(r.out.Runs, offsetrun.Run{Source: source, Target: target, Count: count})
}

// goBack takes back what is not sure once there is a doubt: matches from the first one on that another record
// of the target may have a better claim to.
func (r *reconciler) goBack() {
	first := suspect{source: math.MaxInt64}
	for _, s := range r.suspects {
		if s.until >= r.ordinal && s.source < first.source {
			first = s
		}
	}
	if first.source == math.MaxInt64 {
		return
	}
	var runs []offsetrun.Run
	r.out.Records = 0
	for _, run := range r.out.Runs {
		if run.Count = min(run.Count, first.source-run.Source); run.Count > 0 {
			runs = append(runs, run)
			r.out.Records += run.Count
		}
	}
	r.out.Runs, r.out.Next = runs, first.before
}

// ours makes the target's head the next batch or record that a former owner wrote and that counts. false: the
// tail is at its end.
func (r *reconciler) ours(ctx context.Context) (bool, error) {
	t := &r.target
	for {
		if t.whole != nil || len(t.records) > 0 {
			return true, nil
		}
		if r.at >= r.out.TargetNext {
			return false, nil
		}
		if t.follower == nil {
			t.follow(ctx, newFollower(t.client, r.tail.Target, false, r.at, r.out.TargetNext))
		}
		b, _, err := t.next(ctx)
		if err != nil {
			return false, r.targetFailed(ctx, err)
		}
		if b == nil { // the high watermark is late
			continue
		}
		if err := r.look(ctx, b); err != nil {
			return false, err
		}
	}
}

// look decides what a batch of the target is.
func (r *reconciler) look(ctx context.Context, b rawcopy.Batch) error {
	if base := b.BaseOffset(); base > r.at {
		return doubtf("the target was compacted: it has nothing between offsets %d and %d", r.at, base)
	}
	from := r.at
	r.at = b.LastOffset() + 1
	switch {
	case b.Control():
		return nil
	case !slices.Contains(r.tail.Writers, b.ProducerID()) || b.ProducerID() < 0:
		r.out.Foreign += int64(b.Count())
		r.foreign[b.ProducerID()] += int64(b.Count())
		return nil
	case b.Transactional():
		committed, err := r.committed(ctx, b)
		if err != nil {
			return err
		}
		if !committed {
			r.out.Aborted += int64(b.Count())
			return nil
		}
	}
	if int64(b.Count()) != int64(b.LastOffsetDelta())+1 {
		return doubtf("the target was compacted: of %d records at offset %d there are %d", b.LastOffsetDelta()+1, b.BaseOffset(), b.Count())
	}
	t := &r.target
	t.whole, t.producer, t.appendTime, t.from = b, b.ProducerID(), b.LogAppendTime(), from
	if b.BaseOffset() < from {
		return t.open()
	}
	return nil
}

// targetFailed says what an error of the target means for the tail.
func (r *reconciler) targetFailed(ctx context.Context, err error) error {
	if !outOfRange(err) {
		return unreadable("target", err)
	}
	start, lookup := offsetAt(ctx, r.target.client, r.tail.Target, atStart)
	if lookup != nil {
		return lookup
	}
	return doubtf("the target begins at offset %d: what was copied to offsets from %d on is deleted", start, r.at)
}

// tell adds to Why what was passed over.
func (r *reconciler) tell() {
	if r.out.Foreign == 0 {
		return
	}
	ids := slices.Sorted(maps.Keys(r.foreign))
	const named = 5
	more := ""
	if len(ids) > named {
		ids, more = ids[:named], ", …"
	}
	who := strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ", "), "[]")
	text := fmt.Sprintf("%d records of other producers (ids %s%s) stand among the copies", r.out.Foreign, who, more)
	if r.out.Why != "" {
		text = r.out.Why + "; " + text
	}
	r.out.Why = text
}
