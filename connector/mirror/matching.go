package mirror

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"barnabas/connector/rawcopy"
)

// Bounds of what one comparison of a partition remembers. A record takes about 200 bytes.
const (
	// readAhead is how far the source is read ahead of the target to find a record.
	readAhead = 1 << 16
	// maxSurplus is how many records of the target may be without a counterpart at a time.
	maxSurplus = 1 << 17
	// maxEarly is how many records are kept that may be older than what the source still has.
	maxEarly = 1 << 16
	// maxSpans is how many stretches of missing records are told apart.
	maxSpans = 1 << 16
)

// digest identifies the key, value and headers of a record.
type digest [16]byte

// sighting is a record of one side.
type sighting struct {
	offset int64
	sum    digest
	at     int64  // timestamp
	id     uint64 // of the key alone
}

// sight digests a record: each part with its length, so that no two different records
// look alike; null is not empty.
func sight(r *rawcopy.Record, buf []byte) (sighting, []byte) {
	buf = appendPart(buf[:0], r.Key)
	id := sha256.Sum256(buf)
	buf = appendPart(buf, r.Value)
	for _, h := range r.Headers {
		buf = appendPart(appendPart(buf, h.Key), h.Value)
	}
	sum := sha256.Sum256(buf)
	return sighting{offset: r.Offset, sum: digest(sum[:16]), at: r.Timestamp, id: binary.BigEndian.Uint64(id[:])}, buf
}

func appendPart(buf, part []byte) []byte {
	n := int64(len(part))
	if part == nil {
		n = -1
	}
	return append(binary.BigEndian.AppendUint64(buf, uint64(n)), part...)
}

// content is what two records have in common that are the same.
type content struct {
	sum digest
	at  int64 // 0 where timestamps are not compared
}

// mark is where a content was seen on one side, by offset, oldest first.
type mark struct {
	first int64
	more  []int64
	id    uint64
	near  int64 // the newest source offset that had been met then
	early bool  // the source may have lost it before the comparison
}

func (m mark) count() int64 { return 1 + int64(len(m.more)) }

func (m mark) newest() int64 {
	if len(m.more) == 0 {
		return m.first
	}
	return m.more[len(m.more)-1]
}

func (m mark) offsets() []int64 { return append([]int64{m.first}, m.more...) }

// shelf keeps records of one side that have met nothing on the other.
type shelf struct {
	marks map[content]mark
	n     int
	early int // of these
}

// put adds a sighting.
func (s *shelf) put(c content, offset int64, rest mark) {
	e, ok := s.marks[c]
	if ok {
		e.more = append(e.more, offset)
	} else {
		e = rest
		e.first = offset
	}
	s.marks[c] = e
	s.n++
	if e.early {
		s.early++
	}
}

// take removes the oldest sighting of a content that is behind after, or else the
// oldest, and returns its offset.
func (s *shelf) take(c content, after int64) (offset int64, ok bool) {
	e, ok := s.marks[c]
	if !ok {
		return 0, false
	}
	s.n--
	if e.early {
		s.early--
	}
	offset = e.first
	if i, _ := slices.BinarySearch(e.more, after+1); offset <= after && i < len(e.more) {
		offset = e.more[i]
		e.more = slices.Delete(e.more, i, i+1)
		s.marks[c] = e
		return offset, true
	}
	if len(e.more) == 0 {
		delete(s.marks, c)
		return offset, true
	}
	e.first, e.more = e.more[0], e.more[1:]
	s.marks[c] = e
	return offset, true
}

func (s *shelf) remove(c content) {
	e := s.marks[c]
	s.n -= int(e.count())
	if e.early {
		s.early -= int(e.count())
	}
	delete(s.marks, c)
}

// placed is a record on a shelf.
type placed struct {
	offset int64
	content
	mark
}

// ordered lists what is on the shelf, by offset.
func (s *shelf) ordered() []placed {
	all := make([]placed, 0, s.n)
	for c, m := range s.marks {
		all = append(all, placed{m.first, c, m})
		for _, at := range m.more {
			all = append(all, placed{at, c, m})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.offset, b.offset) })
	return all
}

// matching pairs the records of both sides by content. Each record of the target uses up one of the source. It is
// told about the source ahead of the target, and about each side in its order. It is pure.
type matching struct {
	tally
	open    shelf // of the source, not met on the target yet
	surplus shelf // of the target, with nothing open on the source
	missing spans // of the source, given up
	// The newest source offset that a record read from the target has met, and the
	// other way round. Both only grow where the order is kept.
	lastSource, lastTarget int64
	// early is set while records of the target may be such as the source has
	// lost: from where it lost some until the next match.
	early bool
	// late is set while records of the source may be such as the target has lost, and goneBefore says below
	// which offset they may be.
	late       bool
	goneBefore int64
	timeless   bool // timestamps are not compared: the target gives its own
	digests    bool // wanted
	sums       [2]total
}

func newMatching(sourceGone, targetGone bool) *matching {
	return &matching{
		open: shelf{marks: map[content]mark{}}, surplus: shelf{marks: map[content]mark{}},
		lastSource: -1, lastTarget: -1, early: sourceGone, late: targetGone,
	}
}

func (m *matching) content(s sighting) content {
	if m.timeless {
		return content{sum: s.sum}
	}
	return content{s.sum, s.at}
}

// ignoreTimestamps is called when the target turns out to give records its own
// time of append.
func (m *matching) ignoreTimestamps() {
	if m.timeless {
		return
	}
	m.timeless = true
	for _, s := range []*shelf{&m.open, &m.surplus} {
		all := s.ordered()
		s.marks, s.n, s.early = map[content]mark{}, 0, 0
		for _, p := range all {
			p.more = nil
			s.put(content{sum: p.sum}, p.offset, p.mark)
		}
	}
}

// both counts records that stand next on both sides and are the same; the last ones
// have these offsets.
func (m *matching) both(n, source, target int64) {
	m.Source += n
	m.Target += n
	m.met(source, target)
}

// met notes a pair.
func (m *matching) met(source, target int64) {
	m.Matched = true
	m.early = false
	if m.late {
		m.late, m.goneBefore = false, source
	}
	m.lastSource, m.lastTarget = max(m.lastSource, source), max(m.lastTarget, target)
}

// meets says whether a record of the source is open that t can be, in order.
func (m *matching) meets(t sighting) bool {
	e, ok := m.open.marks[m.content(t)]
	return ok && e.newest() > m.lastSource
}

func (m *matching) onSource(s sighting) {
	m.Source++
	m.sum(0, s, 1)
	if at, ok := m.surplus.take(m.content(s), m.lastTarget); ok { // the target has been read further
		m.pair(s.offset, at)
		return
	}
	m.open.put(m.content(s), s.offset, mark{id: s.id})
}

// pair notes a pair that may be out of order.
func (m *matching) pair(source, target int64) {
	if source < m.lastSource || target < m.lastTarget {
		m.OutOfOrder++
		m.note(Difference{Kind: kindOrder, Source: &source, Target: &target, Records: 1})
	}
	m.met(source, target)
}

// onTarget says whether t met a record of the source. It fails if too many of
// the target have not.
func (m *matching) onTarget(t sighting) (bool, error) {
	m.Target++
	m.sum(1, t, 1)
	if at, ok := m.open.take(m.content(t), m.lastSource); ok {
		m.pair(at, t.offset)
		return true, nil
	}
	m.surplus.put(m.content(t), t.offset, mark{id: t.id, near: m.lastSource, early: m.early})
	switch {
	case m.early && m.surplus.n > maxEarly:
		m.expire(maxEarly / 2)
	case m.surplus.n > maxSurplus:
		return false, fmt.Errorf("more than %d records of the target have no counterpart on the source: is it the right topic?", maxSurplus)
	}
	return false, nil
}

// expire gives the oldest n records of the target up, which are older than what the
// source has.
func (m *matching) expire(n int) {
	for _, p := range m.surplus.ordered()[:n] {
		if p.early {
			m.surplus.take(p.content, p.offset-1)
			m.Expired++
			m.sum(1, sighting{sum: p.sum, at: p.at}, -1)
		}
	}
}

// unmet counts records of the source, at offsets from first on, that are not looked for on the target any more.
func (m *matching) unmet(first, last, n int64) {
	if m.late || last < m.goneBefore {
		m.Gone += n
		return
	}
	m.Missing += n
	m.missing.add(span{first, last, n})
}

// giveUp takes the oldest n records of the source from the shelf: they are missing, unless the target
// has lost as old ones.
func (m *matching) giveUp(n int) {
	for _, p := range m.open.ordered()[:n] {
		m.open.take(p.content, p.offset-1)
		m.unmet(p.offset, p.offset, 1)
	}
}

// giveUpPassed does that to all that the target has left behind, and says how many
// those were.
func (m *matching) giveUpPassed() int {
	n, _ := slices.BinarySearchFunc(m.open.ordered(), m.lastSource, func(p placed, at int64) int { return cmp.Compare(p.offset, at) })
	m.giveUp(n)
	return n
}

// changed finds records with the same key, and timestamp, on both shelves: they
// differ in value or headers. It says how many there were.
func (m *matching) changed() int {
	if m.open.n == 0 || m.surplus.n == 0 {
		return 0
	}
	type identity struct {
		id uint64
		at int64
	}
	targets := map[identity][]placed{}
	for _, p := range m.surplus.ordered() {
		targets[identity{p.id, p.at}] = append(targets[identity{p.id, p.at}], p)
	}
	n := 0
	for _, s := range m.open.ordered() {
		who := identity{s.id, s.at}
		if len(targets[who]) == 0 || s.offset < m.goneBefore {
			continue
		}
		t := targets[who][0]
		targets[who] = targets[who][1:]
		m.open.take(s.content, s.offset-1)
		m.surplus.take(t.content, t.offset-1)
		m.Different++
		m.note(Difference{Kind: kindDifferent, Source: &s.offset, Target: &t.offset, Records: 1})
		n++
	}
	return n
}

// again takes a record of the source once more: what is left of it on the target is there
// more often than on the source, unless this one was missing: then it was far from its place. It says whether there was
// something.
func (m *matching) again(s sighting) bool {
	c := m.content(s)
	if _, ok := m.surplus.marks[c]; !ok {
		return false
	}
	if m.missing.remove(s.offset) {
		m.Missing--
		at, _ := m.surplus.take(c, -1)
		m.OutOfOrder++
		m.note(Difference{Kind: kindOrder, Source: &s.offset, Target: &at, Records: 1})
		return true
	}
	e := m.surplus.marks[c]
	m.surplus.remove(c)
	m.sum(1, s, -e.count())
	m.Doubled += e.count()
	for _, at := range e.offsets() {
		m.note(Difference{Kind: kindDoubled, Source: &s.offset, Target: &at, Records: 1})
	}
	return true
}

// doubtful says whether there are records of the target of which it matters what
// they are.
func (m *matching) doubtful() bool { return m.surplus.n > m.surplus.early }

// conclude counts what has found no counterpart. Nothing can be matched any more then.
func (m *matching) conclude() {
	m.changed()
	for _, p := range m.surplus.ordered() {
		if p.early {
			m.Expired++
			m.sum(1, sighting{sum: p.sum, at: p.at}, -1)
			continue
		}
		m.Extra++
		m.note(Difference{Kind: kindExtra, Target: &p.offset, Records: 1})
	}
	m.giveUp(m.open.n)
	m.surplus = shelf{marks: map[content]mark{}}
	for _, s := range m.missing.list {
		m.note(Difference{Kind: kindMissing, Source: &s.first, Records: s.records})
	}
	m.sort()
}

// sum adds to the digest of a side.
func (m *matching) sum(side int, s sighting, times int64) {
	if m.digests {
		m.sums[side].add(s, times)
	}
}

// total is a sum of digests, the same for any order: with timestamps and without.
type total [2][2]uint64

func (t *total) add(s sighting, times int64) {
	stamped := sha256.Sum256(binary.BigEndian.AppendUint64(s.sum[:len(s.sum):len(s.sum)], uint64(s.at)))
	for i, sum := range [2]digest{digest(stamped[:16]), s.sum} {
		t[i][0] += binary.BigEndian.Uint64(sum[:8]) * uint64(times)
		t[i][1] += binary.BigEndian.Uint64(sum[8:]) * uint64(times)
	}
}

func (t total) text(timeless bool) string {
	sum := t[0]
	if timeless {
		sum = t[1]
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, sum[0]), sum[1]))
}

// span is a stretch of a partition in which some records, or all, are missing.
type span struct{ first, last, records int64 }

// spans are such stretches, by offset.
type spans struct{ list []span }

func (s *spans) add(n span) {
	i, _ := slices.BinarySearchFunc(s.list, n.first, func(s span, at int64) int { return cmp.Compare(s.first, at) })
	if i > 0 && (s.list[i-1].last+1 >= n.first || i == len(s.list) && i >= maxSpans) { // or else nothing is told apart in the end
		before := &s.list[i-1]
		before.last, before.records = max(before.last, n.last), before.records+n.records
		return
	}
	s.list = slices.Insert(s.list, i, n)
}

// remove takes one offset out, and says whether it was there.
func (s *spans) remove(at int64) bool {
	i, found := slices.BinarySearchFunc(s.list, at, func(s span, at int64) int { return cmp.Compare(s.first, at) })
	if !found {
		i--
	}
	if i < 0 || s.list[i].last < at {
		return false
	}
	e := s.list[i]
	whole := e.records == e.last-e.first+1
	switch {
	case e.records == 1:
		s.list = slices.Delete(s.list, i, i+1)
	case !whole || len(s.list) >= maxSpans:
		s.list[i].records--
	case at == e.first:
		s.list[i] = span{at + 1, e.last, e.records - 1}
	case at == e.last:
		s.list[i] = span{e.first, at - 1, e.records - 1}
	default:
		s.list[i] = span{e.first, at - 1, at - e.first}
		s.list = slices.Insert(s.list, i+1, span{at + 1, e.last, e.last - at})
	}
	return true
}

// nears lists where, on the source, the doubtful records of the target came up.
func (m *matching) nears() []int64 {
	at := map[int64]bool{}
	for _, e := range m.surplus.marks {
		if !e.early {
			at[e.near] = true
		}
	}
	return slices.Sorted(maps.Keys(at))
}
