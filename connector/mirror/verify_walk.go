package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"barnabas/connector/rawcopy"
)

// errHoles says that records have been compacted away, so that they cannot be
// compared one after the other.
var errHoles = errors.New("the partition has been compacted")

// walk compares a stretch of a partition: what the source has from one offset to another with what the target
// has from an offset on. As long as both sides go on alike nothing is hashed: batches are compared as they are,
// or record by record. Where they do not, matching finds out what is wrong.
type walk struct {
	v      *verification
	slot   *slot
	pair   pair
	m      *matching
	source *logReader
	target *logReader
	// whole is set if the target is read to its end, and not only until it has all that the source has.
	whole bool
	// given is how long the target may take for what it does not have yet.
	given  time.Time
	save   func() // now and then, while nothing is given up; nil: never
	saved  time.Time
	buf    []byte
	looked bool // at the target's end after the time was up

	run    int   // records of the target in a row that have met nothing
	longer int   // how long a run gets before they are looked for
	hint   int64 // source offset where they may be
	upTo   int64 // source offset to read on to: records of the target were seen there

	zone      *logReader           // of the source, behind the comparison
	behind    map[content]struct{} // what is there
	zoneFor   int64                // the target's end when zone's end was looked at
	newer     int                  // records of the target that are from there
	newerAt   int64                // the first of them
	scrambled bool                 // older ones followed
	futile    int                  // searches that found nothing
}

const (
	// shortRun is how many records in a row may have no counterpart within reach before they are
	// looked for elsewhere; each time it takes twice as many.
	shortRun = 1 << 10
	longRun  = 1 << 15
	// mostFutile is how often all of the source is looked through in vain.
	mostFutile = 3
	// passedBy is how many newer records show that the target has passed the end of the comparison.
	passedBy = 1 << 10
	// waitStep is how often the target's end is looked at while it is behind.
	waitStep = 100 * time.Millisecond
	// saveEvery is how often the state is taken down.
	saveEvery = 2 * time.Second
)

// stretch is what a walk compares: source records from one offset to another, with target records from an offset on.
type stretch struct{ source, to, target int64 }

func (v *verification) newWalk(s *slot, p pair, on stretch, m *matching) *walk {
	w := &walk{
		v: v, slot: s, pair: p, m: m, given: v.given, longer: shortRun, hint: -1, upTo: -1, zoneFor: -1, saved: time.Now(),
		source: newLogReader(v.source, s.source, p.partition, on.source, on.to),
		target: newLogReader(v.target, s.target, p.there(), on.target, p.targetEnd),
	}
	w.source.seen, w.target.seen = p.share.seen, p.share.seen
	w.source.lost = func(int64) { m.early = true }
	w.target.lost = func(int64) { m.late = true }
	return w
}

func (w *walk) close() {
	w.source.close()
	w.target.close()
	if w.zone != nil {
		w.zone.close()
	}
}

// compare does it all.
func (w *walk) compare(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = w.step(ctx); err != nil {
			return err
		}
		if w.source.holes || w.target.holes {
			return errHoles
		}
		if w.save != nil && time.Since(w.saved) > cmp.Or(w.v.o.saveEvery, saveEvery) {
			w.saved = time.Now()
			w.save()
		}
	}
	if w.save != nil {
		w.save()
	}
	if err := w.drain(ctx); err != nil {
		return err
	}
	return w.classify(ctx)
}

// step takes what comes next on the target, and says false when nothing more will.
func (w *walk) step(ctx context.Context) (bool, error) {
	there, err := w.target.fill(ctx)
	if err != nil {
		return false, fmt.Errorf("read the target: %w", err)
	}
	here, err := w.source.fill(ctx)
	if err != nil {
		return false, fmt.Errorf("read the source: %w", err)
	}
	switch {
	case !here && w.m.open.n == 0 && !w.whole:
		return false, nil
	case !there:
		return w.await(ctx, here)
	case here && w.sameBatch():
		return true, nil
	}
	t, err := w.target.record()
	if err != nil || t == nil {
		return true, err
	}
	if here {
		s, err := w.source.record()
		if err != nil || s == nil {
			return true, err
		}
		if w.sameRecords() {
			return true, nil
		}
	}
	return w.odd(ctx, t)
}

// sameBatch says whether the next batches of both sides are the same, and goes
// on behind them. Their payloads are compared, and the CRC of the source's batch holds for it; so does the
// target's then (SamePayload).
func (w *walk) sameBatch() bool {
	s, t := w.source.whole(), w.target.whole()
	if s == nil || t == nil || w.m.digests || !rawcopy.SamePayload(s, t) || s.LogAppendTime() && !t.LogAppendTime() {
		return false
	}
	const header = 61
	if !bytes.Equal(s[header:], t[header:]) || !intact(s) || !intact(t) {
		return false
	}
	if t.LogAppendTime() {
		w.m.ignoreTimestamps()
	}
	w.m.both(int64(s.Count()), s.LastOffset(), t.LastOffset())
	w.source.dropBatch()
	w.target.dropBatch()
	w.run = 0
	return true
}

// sameRecords goes on behind the decoded records of both sides as long as they are the
// same, and says whether there were any.
func (w *walk) sameRecords() bool {
	if w.target.stamps {
		w.m.ignoreTimestamps()
	}
	timeless, n := w.target.stamps, int64(0)
	var source, target int64
	for len(w.source.recs) > 0 && len(w.target.recs) > 0 {
		s, t := &w.source.recs[0], &w.target.recs[0]
		if s.Offset >= w.source.end || t.Offset >= w.target.end || !timeless && s.Timestamp != t.Timestamp || !sameContent(s, t) {
			break
		}
		if w.m.digests {
			var sum sighting
			sum, w.buf = sight(s, w.buf)
			w.m.sum(0, sum, 1)
			w.m.sum(1, sum, 1)
		}
		source, target = s.Offset, t.Offset
		w.source.drop()
		w.target.drop()
		n++
	}
	if n == 0 {
		return false
	}
	w.m.both(n, source, target)
	w.run = 0
	return true
}

// sameContent compares key, value and headers; null is not empty.
func sameContent(a, b *rawcopy.Record) bool {
	if !samePart(a.Key, b.Key) || !samePart(a.Value, b.Value) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i, h := range a.Headers {
		if !samePart(h.Key, b.Headers[i].Key) || !samePart(h.Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

func samePart(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// odd takes a record of the target that is not the one that the source has next.
func (w *walk) odd(ctx context.Context, record *rawcopy.Record) (bool, error) {
	if w.target.stamps {
		w.m.ignoreTimestamps()
	}
	var t sighting
	t, w.buf = sight(record, w.buf)
	ended, err := w.readOn(ctx, t)
	if err != nil {
		return false, fmt.Errorf("read the source: %w", err)
	}
	if ended && !w.m.meets(t) {
		newer, err := w.isNewer(ctx, t)
		if err != nil {
			return false, fmt.Errorf("read the source: %w", err)
		}
		if newer {
			if w.newer++; w.newer == 1 {
				w.newerAt = t.offset
			}
			w.target.drop()
			return w.m.open.n > 0 && w.newer < passedBy, nil
		}
	}
	met, err := w.m.onTarget(t)
	w.target.drop()
	if err != nil {
		return false, err
	}
	w.scrambled = w.scrambled || w.newer > 0
	if met {
		w.run = 0
		if w.m.surplus.n == 0 {
			w.longer = shortRun
		}
		return true, nil
	}
	if w.run++; w.run >= w.longer && !w.m.early && w.futile < mostFutile {
		w.run, w.longer = 0, min(2*w.longer, longRun)
		return true, w.seek(ctx)
	}
	return true, nil
}

// readOn reads the source ahead until t is found, as far as it may. It says
// whether the source has come to its end.
func (w *walk) readOn(ctx context.Context, t sighting) (ended bool, err error) {
	for !w.m.meets(t) {
		if w.m.open.n >= readAhead {
			if w.source.next > w.upTo {
				return false, nil
			}
			w.m.changed()
			w.m.giveUp(min(w.m.open.n, readAhead/2))
		}
		s, ok, err := w.source.sight(ctx, &w.buf)
		if err != nil {
			return false, err
		}
		if !ok {
			return true, nil
		}
		w.m.onSource(s)
	}
	return false, nil
}

// isNewer says whether t is a record that the source has behind the end of the comparison.
func (w *walk) isNewer(ctx context.Context, t sighting) (bool, error) {
	if w.zone == nil {
		w.zone = newLogReader(w.v.source, w.slot.source, w.pair.partition, w.source.end, w.source.end)
		w.behind = map[content]struct{}{}
	}
	if w.zoneFor < w.target.end { // what the target has now was at the source before
		w.zoneFor = w.target.end
		if _, err := w.zone.extend(ctx); err != nil {
			return false, err
		}
	}
	c := w.m.content(t)
	for len(w.behind) < readAhead {
		if _, ok := w.behind[c]; ok {
			return true, nil
		}
		s, ok, err := w.zone.sight(ctx, &w.buf)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, nil
		}
		w.behind[w.m.content(s)] = struct{}{}
	}
	_, ok := w.behind[c]
	return ok, nil
}

// await waits for the target to have more, and says whether it has, or may
// get it still. here says that the source has.
func (w *walk) await(ctx context.Context, here bool) (bool, error) {
	if !here && w.m.open.n == 0 || w.looked {
		return false, nil
	}
	left := time.Until(w.given)
	more, err := w.target.extend(ctx)
	if err != nil {
		return false, fmt.Errorf("read the target: %w", err)
	}
	if more {
		return true, nil
	}
	if left <= 0 {
		w.looked = true
		return false, nil
	}
	return true, sleep(ctx, min(left, waitStep))
}

// drain counts what the target does not have of the source.
func (w *walk) drain(ctx context.Context) error {
	for {
		there, err := w.source.fill(ctx)
		if err != nil {
			return fmt.Errorf("read the source: %w", err)
		}
		if !there {
			return nil
		}
		if b := w.source.whole(); b != nil && w.m.surplus.n == 0 && !w.m.digests && intact(b) {
			w.m.giveUp(w.m.open.n)
			w.m.Source += int64(b.Count())
			w.m.unmet(b.BaseOffset(), b.LastOffset(), int64(b.Count()))
			w.source.dropBatch()
			continue
		}
		s, ok, err := w.source.sight(ctx, &w.buf)
		if err != nil {
			return fmt.Errorf("read the source: %w", err)
		}
		if !ok {
			return nil
		}
		w.m.onSource(s)
		if w.m.open.n >= readAhead {
			w.m.changed()
			w.m.giveUp(min(w.m.open.n, readAhead/2))
		}
	}
}
