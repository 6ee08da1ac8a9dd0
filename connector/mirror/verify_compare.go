package mirror

import (
	"context"
	"errors"
	"fmt"
)

// compare compares one partition, and goes on from what the state has of it.
func (v *verification) compare(ctx context.Context, s *slot, p pair) PartitionVerdict {
	defer p.share.done()
	verdict := PartitionVerdict{
		Topic: p.topic, TargetTopic: p.copy, Partition: p.id, Method: MethodRecords, Timestamps: true,
		SourceStart: p.sourceStart, SourceEnd: p.sourceEnd, Compared: p.sourceEnd - p.sourceStart,
	}
	begun, err := v.state.begun(v, p), errHoles
	if !p.compacted && !begun.compacted() {
		err = v.bySequence(ctx, s, p, begun, &verdict)
	}
	if errors.Is(err, errHoles) {
		err = v.byKey(ctx, s, p, begun, &verdict)
	}
	if err != nil {
		verdict.Error = err.Error()
	}
	return verdict
}

// bySequence compares records in their order, all of them or some ranges.
func (v *verification) bySequence(ctx context.Context, s *slot, p pair, begun *savedPartition, verdict *PartitionVerdict) error {
	if v.sampling() {
		return v.byRange(ctx, s, p, begun, verdict)
	}
	m := newMatching(p.sourceStart > 0, p.targetStart > 0)
	on := stretch{p.sourceStart, p.sourceEnd, p.targetStart}
	if begun != nil {
		on = stretch{max(begun.Next, p.sourceStart), p.sourceEnd, max(begun.TargetNext, p.targetStart)}
		m = begun.matching(on)
		verdict.SourceStart = begun.SourceStart
		verdict.Compared = p.sourceEnd - begun.SourceStart
		p.share.seen(on.source - p.sourceStart + on.target - p.targetStart)
	}
	m.digests = v.o.Digests
	w := v.newWalk(s, p, on, m)
	defer w.close()
	w.whole = true
	if v.state != nil {
		w.save = func() { v.state.put(w, verdict.SourceStart) }
	}
	err := w.compare(ctx)
	if errors.Is(err, errHoles) {
		return err
	}
	m.conclude()
	m.tell(verdict)
	verdict.Timestamps = !m.timeless
	if m.digests {
		verdict.SourceDigest, verdict.TargetDigest = m.sums[0].text(m.timeless), m.sums[1].text(m.timeless)
	}
	return err
}

// byRange compares ranges of records.
func (v *verification) byRange(ctx context.Context, s *slot, p pair, begun *savedPartition, verdict *PartitionVerdict) error {
	done := sampled{Ranges: sampleRanges(p, v.o.Sample, v.o.Seed), SourceEnd: p.sourceEnd}
	if begun != nil {
		done = begun.Sampled
		done.Tally = done.Tally.clone()
		done.Tally.Resumed = done.Tally.Source
	}
	f := &finder{v: v, slot: s, pair: p}
	verdict.Method, verdict.SourceEnd, verdict.Compared = MethodRanges, done.SourceEnd, 0
	for _, r := range done.Ranges {
		verdict.Compared += r.To - r.From
	}
	for done.Done < len(done.Ranges) {
		timeless, err := v.oneRange(ctx, f, done.Ranges[done.Done], &done.Tally)
		if err != nil {
			done.Tally.tell(verdict)
			return fmt.Errorf("offsets %d to %d: %w", done.Ranges[done.Done].From, done.Ranges[done.Done].To, err)
		}
		done.Done++
		done.Timeless = done.Timeless || timeless
		v.state.putSampled(v, p, done)
	}
	done.Tally.tell(verdict)
	verdict.Timestamps = !done.Timeless
	return nil
}

// oneRange compares the records of one range with what the target has from where
// they begin there.
func (v *verification) oneRange(ctx context.Context, f *finder, r offsetRange, into *tally) (timeless bool, err error) {
	p := f.pair
	if r.From = max(r.From, p.sourceStart); r.From >= r.To {
		return false, nil // expired meanwhile
	}
	at, err := f.find(ctx, r)
	if err != nil {
		return false, err
	}
	m := newMatching(true, p.targetStart > 0 && !f.known)
	p.share = &share{v: v}
	w := v.newWalk(f.slot, p, stretch{r.From, r.To, at}, m)
	defer w.close()
	if err := w.compare(ctx); err != nil {
		return false, err
	}
	m.conclude()
	// Records in front of the first one of the range belong to what precedes it.
	m.Target -= m.Expired
	m.Expired = 0
	into.add(m.tally)
	return m.timeless, nil
}
