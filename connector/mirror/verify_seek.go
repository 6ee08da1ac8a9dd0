package mirror

import (
	"context"
	"fmt"
)

const (
	// seekStep is how many offsets are looked through first; then twice as many, and so on.
	seekStep = readAhead
	// nearBy is how many offsets more than there are doubled records are looked through before the place
	// where they came up: a copy that goes on after a crash repeats what it was at.
	nearBy = 4096
)

// scan reads the source once more, from one offset to before another, until
// found says that it is enough.
func (w *walk) scan(ctx context.Context, from, to int64, found func(sighting) bool) error {
	from, to = max(from, w.pair.sourceStart), min(to, max(w.source.end, w.pair.sourceEnd))
	if from >= to {
		return nil
	}
	r := newLogReader(w.v.source, w.slot.source, w.pair.partition, from, to)
	defer r.close()
	for {
		s, ok, err := r.sight(ctx, &w.buf)
		if err != nil {
			return fmt.Errorf("read the source again: %w", err)
		}
		if !ok || found(s) {
			return nil
		}
	}
}

// recall takes the records of the source in a range once more, for those of the
// target that have no counterpart. It says whether there was one.
func (w *walk) recall(ctx context.Context, from, to int64) (bool, error) {
	any := false
	err := w.scan(ctx, from, to, func(s sighting) bool {
		if w.m.again(s) {
			any, w.hint = true, s.offset+1
		}
		return !w.m.doubtful()
	})
	return any, err
}

// seek looks for the records of the target that have met nothing for a while: behind, where the target would have
// begun again, and ahead, where it would have left something out; near first.
func (w *walk) seek(ctx context.Context) error {
	if w.m.changed()+w.m.giveUpPassed() > 0 {
		return nil
	}
	count := int64(w.m.surplus.n)
	if w.hint >= 0 {
		if any, err := w.recall(ctx, w.hint, w.hint+2*count+nearBy); any || err != nil {
			return err
		}
	}
	// What is open is ahead already, and has no match.
	back, ahead := w.source.next, w.source.next
	for step := int64(seekStep); back > w.pair.sourceStart || ahead < w.source.end; step *= 2 {
		any, err := w.recall(ctx, back-step, back)
		if any || err != nil {
			return err
		}
		back -= step
		err = w.scan(ctx, ahead, min(ahead+step, w.source.end), func(s sighting) bool {
			if _, ok := w.m.surplus.marks[w.m.content(s)]; ok {
				any, w.upTo = true, s.offset
			}
			return any
		})
		if any || err != nil {
			return err
		}
		ahead += step
	}
	w.futile++
	return nil
}

// classify reads the source once more, as far as needed, to tell records that
// the target has twice from such as the source never had.
func (w *walk) classify(ctx context.Context) error {
	if !w.m.doubtful() {
		return nil
	}
	nears := w.m.nears()
	for len(nears) > 0 && w.m.doubtful() {
		n := 1
		for n < len(nears) && nears[n]-nears[n-1] < 2*nearBy {
			n++
		}
		if _, err := w.recall(ctx, nears[0]-4*int64(w.m.surplus.n)-nearBy, nears[n-1]+1); err != nil {
			return err
		}
		nears = nears[n:]
	}
	if !w.m.doubtful() {
		return nil
	}
	_, err := w.recall(ctx, w.pair.sourceStart, w.pair.sourceEnd)
	return err
}
