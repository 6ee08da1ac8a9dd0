package offsetrun

import (
	"fmt"
	"slices"
	"sort"
)

// Bounds of a Map. At most MaxRuns runs of a partition are kept, in memory and in the topic: some 30 KB
// where runs are short. The newest exactRuns or more are never thinned.
const (
	segmentRuns   = 256 // of a segment; the state carries up to as many more
	maxSegments   = 64
	exactSegments = 16
	exactRuns     = exactSegments * segmentRuns

	MaxRuns = (maxSegments + 1) * segmentRuns
)

// Run maps Count consecutive source offsets to as many consecutive target offsets.
type Run struct{ Source, Target, Count int64 }

func (r Run) sourceEnd() int64 { return r.Source + r.Count }
func (r Run) targetEnd() int64 { return r.Target + r.Count }

// stretch is a run as it is kept. loose says that runs before it were thinned out, so that the space
// between its predecessor and itself says nothing.
type stretch struct {
	Run
	loose bool
}

// segment is a full list of stretches, encoded: they are many, and looked at seldom.
type segment struct {
	number      uint64 // its key in the topic, never used again
	runs        []byte
	count       int
	first, last Run
	offered     bool // it may stand in the topic
	saved       bool // it does
}

// Match says what Translate knows.
type Match uint8

// What Translate knows of an offset.
const (
	// Unknown: it lies before the first run or behind what was copied.
	Unknown Match = iota
	// Exact: the record was copied to that target offset.
	Exact
	// Next: there is no copy of it (a control record, compacted away, left out); the copy goes on at that
	// target offset. To begin there leaves out nothing and repeats nothing.
	Next
	// Before: the runs around it were thinned out; to begin at that target offset leaves out nothing, and
	// repeats some.
	Before
)

// String names the match.
func (m Match) String() string {
	if int(m) < 4 {
		return [...]string{"unknown", "exact", "next", "before"}[m]
	}
	return fmt.Sprintf("match %d", uint8(m))
}

// Map is the map from source to target offsets of one partition, both of them rising. The zero Map is empty.
//
// Of more than MaxRuns runs it thins out old ones: where two of the older segments become one, of every two
// neighbours the longer stays. Which segments is decided so that the space between known places grows
// with their distance from the end.
type Map struct {
	closed []segment // oldest first
	open   []stretch
	upTo   int64    // source offsets below have been copied or left out
	number uint64   // of the next segment
	gone   []uint64 // segments that may stand in the topic and are no longer part of the map
}

// Append adds a run. A run that continues the last one is merged with it. One that goes back, at the
// source (copied again) or at the target (truncated, recreated), replaces what was known from there on.
func (m *Map) Append(source, target, count int64) {
	if count <= 0 || source < 0 || target < 0 {
		return
	}
	m.cut(source, target)
	m.upTo = source + count
	if n := len(m.open); n > 0 {
		last := &m.open[n-1]
		if last.sourceEnd() == source && last.targetEnd() == target {
			last.Count += count
			return
		}
	}
	if len(m.open) == segmentRuns {
		m.seal()
	}
	m.open = append(m.open, stretch{Run: Run{source, target, count}})
}

// Advance says that the source's offsets below next have been dealt with, copied or not.
func (m *Map) Advance(next int64) { m.upTo = max(m.upTo, next) }

// End returns what follows the last run: the source offset and the target offset behind it. ok is false if
// there is none.
func (m *Map) End() (source, target int64, ok bool) {
	last, ok := m.last()
	return last.sourceEnd(), last.targetEnd(), ok
}

// First returns the first run; the zero Run if there is none.
func (m *Map) First() Run {
	if len(m.closed) > 0 {
		return m.closed[0].first
	}
	if len(m.open) > 0 {
		return m.open[0].Run
	}
	return Run{}
}

func (m *Map) last() (Run, bool) {
	if n := len(m.open); n > 0 {
		return m.open[n-1].Run, true
	}
	if n := len(m.closed); n > 0 {
		return m.closed[n-1].last, true
	}
	return Run{}, false
}

// Len is the number of runs.
func (m *Map) Len() int {
	n := len(m.open)
	for _, s := range m.closed {
		n += s.count
	}
	return n
}

// Runs returns all runs in order.
func (m *Map) Runs() []Run {
	all := make([]Run, 0, m.Len())
	for _, s := range m.closed {
		for _, r := range s.stretches() {
			all = append(all, r.Run)
		}
	}
	for _, r := range m.open {
		all = append(all, r.Run)
	}
	return all
}

// Translate finds a source offset in the target: a group that has read up to it at the source goes on at
// the target's offset. target is -1 if it is Unknown.
func (m *Map) Translate(source int64) (target int64, match Match) {
	// The last segment that begins at or before source, or the open runs.
	at := sort.Search(len(m.closed), func(i int) bool { return m.closed[i].first.Source > source }) - 1
	runs := m.open
	if at >= 0 && (len(m.open) == 0 || m.open[0].Source > source) {
		runs = m.closed[at].stretches()
		switch { // and what follows
		case at+1 < len(m.closed):
			runs = append(runs, m.closed[at+1].stretches()[0])
		case len(m.open) > 0:
			runs = append(runs, m.open[0])
		}
	}
	i := sort.Search(len(runs), func(i int) bool { return runs[i].Source > source }) - 1
	if i < 0 {
		return -1, Unknown
	}
	r := runs[i]
	switch {
	case source < r.sourceEnd():
		return r.Target + source - r.Source, Exact
	case i+1 < len(runs) && runs[i+1].loose:
		return r.targetEnd(), Before
	case i+1 < len(runs):
		return runs[i+1].Target, Next
	case source <= m.upTo:
		return r.targetEnd(), Next
	default:
		return -1, Unknown
	}
}

// Trim drops what lies wholly below the source's log start, where no group can be.
func (m *Map) Trim(logStart int64) {
	n := 0
	for n < len(m.closed) && m.closed[n].last.sourceEnd() <= logStart {
		m.drop(m.closed[n])
		n++
	}
	m.closed = slices.Delete(m.closed, 0, n)
	if len(m.closed) > 0 {
		return
	}
	n = 0
	for n+1 < len(m.open) && m.open[n].sourceEnd() <= logStart { // the last tells the end
		n++
	}
	m.open = slices.Delete(m.open, 0, n)
}

// cut removes what is at or behind source at the source, or target at the target.
func (m *Map) cut(source, target int64) {
	for {
		last, ok := m.last()
		if !ok || last.sourceEnd() <= source && last.targetEnd() <= target {
			return
		}
		if len(m.open) == 0 {
			s := m.closed[len(m.closed)-1]
			m.closed = m.closed[:len(m.closed)-1]
			m.drop(s)
			m.open = s.stretches()
		}
		r := &m.open[len(m.open)-1]
		if keep := min(source-r.Source, target-r.Target); keep > 0 {
			r.Count = min(r.Count, keep)
			return
		}
		m.open = m.open[:len(m.open)-1]
	}
}

// drop notes that a segment is no longer part of the map.
func (m *Map) drop(s segment) {
	if s.offered || s.saved {
		m.gone = append(m.gone, s.number)
	}
}

// seal closes the open runs to a segment, and thins if there are too many.
func (m *Map) seal() {
	m.closed = append(m.closed, m.segment(m.open))
	m.open = m.open[:0]
	if len(m.closed) <= maxSegments {
		return
	}
	end := m.closed[len(m.closed)-1].last.sourceEnd()
	best, bestCost := 0, 0.0
	for i := range len(m.closed) - exactSegments - 1 {
		a, b := m.closed[i], m.closed[i+1]
		cost := float64(b.last.sourceEnd()-a.first.Source) / float64(end-a.first.Source)
		if i == 0 || cost < bestCost {
			best, bestCost = i, cost
		}
	}
	a, b := m.closed[best], m.closed[best+1]
	m.drop(a)
	m.drop(b)
	m.closed[best] = m.segment(thin(append(a.stretches(), b.stretches()...)))
	m.closed = slices.Delete(m.closed, best+1, best+2)
}

func (m *Map) segment(runs []stretch) segment {
	s := newSegment(m.number, runs)
	m.number++
	return s
}

func newSegment(number uint64, runs []stretch) segment {
	return segment{number: number, runs: encodeRuns(nil, runs), count: len(runs), first: runs[0].Run, last: runs[len(runs)-1].Run}
}

func (s *segment) stretches() []stretch {
	runs, _, err := decodeRuns(s.runs)
	if err != nil {
		panic(fmt.Sprintf("offsetrun: own encoding: %v", err))
	}
	return runs
}

// thin keeps the longest of every two neighbours, of three at the beginning if they do not come out even. The
// last one stays, since what follows it is in another segment, which may be written already and says that
// nothing is missing before it.
func thin(runs []stretch) []stretch {
	last := len(runs) - 1
	kept := make([]stretch, 0, len(runs)/2+1)
	loose := false // the one before was left out
	for i, size := 0, 2+last%2; i < last; size = 2 {
		best := i
		size = min(size, last-i)
		for k := i + 1; k < i+size; k++ {
			if runs[k].Count > runs[best].Count {
				best = k
			}
		}
		r := runs[best]
		r.loose = r.loose || loose || best > i
		kept = append(kept, r)
		i += size
		loose = best < i-1
	}
	r := runs[last]
	r.loose = r.loose || loose
	return append(kept, r)
}
