package offsetrun

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// leaf is what one partition of the topic holds of one key: the newest value of each record, undecoded.
type leaf struct {
	state, reset   found
	segments, gaps map[uint64]found
}

// found is a value and the offset it stood at; a nil value is a tombstone, or nothing was found.
type found struct {
	value  []byte
	offset int64
}

// put notes a record. Records may come twice, and in any order.
func (l *leaf) put(k recordKey, f found) {
	switch k.kind {
	case kindState:
		l.state = newer(l.state, f)
	case kindReset:
		l.reset = newer(l.reset, f)
	case kindSegment:
		putNumbered(&l.segments, k.number, f)
	case kindGap:
		putNumbered(&l.gaps, k.number, f)
	}
}

func newer(a, b found) found {
	if b.offset >= a.offset {
		return b
	}
	return a
}

func putNumbered(all *map[uint64]found, number uint64, f found) {
	if *all == nil {
		*all = map[uint64]found{}
	}
	(*all)[number] = newer((*all)[number], f)
}

// empty says whether everything that was put was taken away again. Segments alone tell nothing.
func (l *leaf) empty() bool {
	for _, f := range l.gaps {
		if f.value != nil {
			return false
		}
	}
	return l.state.value == nil && l.reset.value == nil
}

// with returns l as it is once others are put on top.
func (l *leaf) with(o *leaf) *leaf {
	if o == nil {
		return l
	}
	merged := leaf{state: newer(l.state, o.state), reset: newer(l.reset, o.reset), segments: maps.Clone(l.segments), gaps: maps.Clone(l.gaps)}
	for n, f := range o.segments {
		putNumbered(&merged.segments, n, f)
	}
	for n, f := range o.gaps {
		putNumbered(&merged.gaps, n, f)
	}
	return &merged
}

// book reads what the leaf says. A segment that is named and cannot be had leaves a thinned stretch in the
// map; everything else that cannot be read is an error, since to go on without it is to copy anew.
func (l *leaf) book(k Key) (*Book, error) {
	b := NewBook(k)
	if l.state.value != nil {
		numbers, err := b.decodeState(l.state.value)
		if err != nil {
			return nil, fmt.Errorf("state of %s: %w", k, err)
		}
		if err := b.join(numbers, l.segments); err != nil {
			return nil, fmt.Errorf("offset runs of %s: %w", k, err)
		}
		b.Map.Advance(b.State.Next)
	}
	if l.reset.value != nil && (l.state.value == nil || l.reset.offset > l.state.offset) {
		next, err := decodeReset(l.reset.value)
		if err != nil {
			return nil, fmt.Errorf("reset of %s: %w", k, err)
		}
		b.Reset = &next
	}
	for slot, f := range l.gaps {
		if f.value == nil {
			continue
		}
		g, err := decodeGap(k, f.value)
		if err != nil {
			return nil, fmt.Errorf("gap %d of %s: %w", slot, k, err)
		}
		b.Gaps = append(b.Gaps, g)
		b.gaps = max(b.gaps, g.Number+1)
	}
	slices.SortFunc(b.Gaps, func(x, y Gap) int { return int(min(max(x.Number-y.Number, -1), 1)) })
	b.savedGaps = b.gaps
	return b, nil
}

// join puts the segments before the open runs, and notes those that nothing names for removal.
func (b *Book) join(numbers []uint64, segments map[uint64]found) error {
	end := Run{}
	missing := false
	for _, n := range numbers {
		runs, err := decodeSegment(segments[n].value)
		if errors.Is(err, ErrVersion) {
			return fmt.Errorf("segment %d: %w", n, err)
		}
		if err != nil || runs[0].Source < end.sourceEnd() || runs[0].Target < end.targetEnd() {
			missing = true
			continue
		}
		runs[0].loose = runs[0].loose || missing
		missing = false
		s := newSegment(n, runs)
		s.offered, s.saved = true, true
		b.Map.closed = append(b.Map.closed, s)
		end = s.last
	}
	if len(b.Map.open) > 0 {
		first := &b.Map.open[0]
		if first.Source < end.sourceEnd() || first.Target < end.targetEnd() {
			return fmt.Errorf("%w: runs begin at %d -> %d, and the segments before end at %d -> %d", ErrMalformed,
				first.Source, first.Target, end.sourceEnd(), end.targetEnd())
		}
		first.loose = first.loose || missing
	}
	for _, n := range slices.Sorted(maps.Keys(segments)) {
		b.Map.number = max(b.Map.number, n+1)
		if segments[n].value != nil && !slices.ContainsFunc(b.Map.closed, func(s segment) bool { return s.number == n }) {
			b.Map.gone = append(b.Map.gone, n)
		}
	}
	return nil
}
