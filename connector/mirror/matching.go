package mirror

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Equal      bool               `json:"equal"` // nothing missing, different, extra, out of order or unread
	Totals     VerifyCounts       `json:"totals"`
	Partitions []PartitionVerdict `json:"partitions"`
}

// VerifyCounts count records. A record is its key, value, headers in their
// order, and timestamp.
type VerifyCounts struct {
	Source     int64 `json:"source_records"`
	Target     int64 `json:"target_records"` // without those newer than the comparison
	Missing    int64 `json:"missing"`        // only on the source
	Different  int64 `json:"different"`      // same key and timestamp on both, another value or headers
	Extra      int64 `json:"extra"`          // only on the target
	Doubled    int64 `json:"doubled"`        // again on the target, as at-least-once allows
	OutOfOrder int64 `json:"out_of_order"`   // before a record on the target that it follows on the source
	Expired    int64 `json:"expired"`        // on the target, and older than what the source still has
}

// PartitionVerdict is the comparison of one partition. Offsets are nil where
// there is no such record.
type PartitionVerdict struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	VerifyCounts
	SourceEnd      int64  `json:"source_end_offset"` // when the comparison began
	FirstMissing   *int64 `json:"first_missing_source_offset,omitempty"`
	FirstDifferent *int64 `json:"first_different_source_offset,omitempty"`
	FirstDoubled   *int64 `json:"first_doubled_target_offset,omitempty"`
	FirstExtra     *int64 `json:"first_extra_target_offset,omitempty"`
	// Digests of the records of each side, whatever their order, on the target without the doubled ones. They
	// are equal exactly if nothing is missing, different or extra.
	SourceDigest string `json:"source_digest"`
	TargetDigest string `json:"target_digest"`
	Error        string `json:"error,omitempty"` // why it could not be compared to the end
}

// Equal says whether the target holds what the source holds, in its order.
func (v PartitionVerdict) Equal() bool {
	return v.Error == "" && v.Missing == 0 && v.Different == 0 && v.Extra == 0 && v.OutOfOrder == 0
}

func (c *VerifyCounts) add(o VerifyCounts) {
	c.Source += o.Source
	c.Target += o.Target
	c.Missing += o.Missing
	c.Different += o.Different
	c.Extra += o.Extra
	c.Doubled += o.Doubled
	c.OutOfOrder += o.OutOfOrder
	c.Expired += o.Expired
}

// Bounds of what one comparison of a partition remembers.
const (
	// readAhead is how far the source is read ahead of the target to find a record.
	readAhead = 1 << 16
	// maxUnmatched is how many records of one side without a counterpart are told apart.
	maxUnmatched = 1 << 20
)

// digest identifies the content of a record.
type digest [16]byte

// sighting is a record of one side.
type sighting struct {
	offset int64
	sum    digest
	id     uint64 // of key and timestamp alone
}

// sight digests a record: each part with its length, so that no two different records
// look alike; null is not empty.
func sight(r *kgo.Record, buf []byte) (sighting, []byte) {
	part := func(b []byte) {
		n := int64(len(b))
		if b == nil {
			n = -1
		}
		buf = append(binary.BigEndian.AppendUint64(buf, uint64(n)), b...)
	}
	buf = binary.BigEndian.AppendUint64(buf[:0], uint64(r.Timestamp.UnixMilli()))
	part(r.Key)
	id := sha256.Sum256(buf)
	part(r.Value)
	for _, h := range r.Headers {
		part([]byte(h.Key))
		part(h.Value)
	}
	sum := sha256.Sum256(buf)
	return sighting{offset: r.Offset, sum: digest(sum[:16]), id: binary.BigEndian.Uint64(id[:])}, buf
}

// mark is where a content was seen on one side, by offset, oldest first.
type mark struct {
	first int64
	more  []int64
	id    uint64
	early bool // before the first match
}

func (m mark) count() int64 { return 1 + int64(len(m.more)) }

func (m mark) newest() int64 {
	if len(m.more) == 0 {
		return m.first
	}
	return m.more[len(m.more)-1]
}

// matching pairs the records of both sides by content. Each record of the target uses up one of the source. It is
// told about the source ahead of the target.
type matching struct {
	counts  VerifyCounts
	open    map[digest]mark // on the source, not met on the target yet
	unkept  int64           // more of these than are kept
	surplus map[digest]mark // on the target, with nothing open on the source
	doubled []mark
	// The newest source offset that a record read from the target has met, and the
	// other way round. Both only grow where the order is kept.
	lastSource, lastTarget int64
	oldGone                bool // the source has lost its oldest records
	sums                   [2]total
}

func newMatching(oldGone bool) *matching {
	return &matching{open: map[digest]mark{}, surplus: map[digest]mark{}, lastSource: -1, lastTarget: -1, oldGone: oldGone}
}

// total is a sum of digests, the same for any order.
type total [2]uint64

func (t *total) add(d digest, times int64) {
	t[0] += binary.BigEndian.Uint64(d[:8]) * uint64(times)
	t[1] += binary.BigEndian.Uint64(d[8:]) * uint64(times)
}

func (t total) String() string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t[0]), t[1]))
}

// meets says whether a record of the source is open that t can be, in order.
func (m *matching) meets(t sighting) bool {
	e, ok := m.open[t.sum]
	return ok && e.newest() > m.lastSource
}

func (m *matching) onSource(s sighting) {
	m.counts.Source++
	m.sums[0].add(s.sum, 1)
	if at, ok := take(m.surplus, s.sum, m.lastTarget); ok { // the target has been read further
		if at < m.lastTarget {
			m.counts.OutOfOrder++
		}
		m.lastTarget = max(m.lastTarget, at)
		return
	}
	if !put(m.open, s) {
		m.unkept++
	}
}

func (m *matching) onTarget(t sighting) error {
	m.counts.Target++
	m.sums[1].add(t.sum, 1)
	if at, ok := take(m.open, t.sum, m.lastSource); ok {
		if at < m.lastSource {
			m.counts.OutOfOrder++
		}
		m.lastSource = max(m.lastSource, at)
		return nil
	}
	if !put(m.surplus, t) {
		return fmt.Errorf("more than %d records of the target have no counterpart on the source: is it the right topic?", maxUnmatched)
	}
	if e := m.surplus[t.sum]; m.lastSource < 0 && m.lastTarget < 0 && m.oldGone {
		e.early = true
		m.surplus[t.sum] = e
	}
	return nil
}

// newer takes a record of the source from after the comparison's end.
func (m *matching) newer(s sighting) {
	if _, ok := take(m.surplus, s.sum, -1); ok {
		m.counts.Target--
		m.sums[1].add(s.sum, -1)
	}
}

// again takes a record of the source: what is left of it on the target is there
// more often than on the source.
func (m *matching) again(s sighting) {
	e, ok := m.surplus[s.sum]
	if !ok {
		return
	}
	delete(m.surplus, s.sum)
	m.sums[1].add(s.sum, -e.count())
	m.doubled = append(m.doubled, e)
}

// conclude counts what has found no counterpart.
func (m *matching) conclude(v *PartitionVerdict) {
	for _, e := range m.doubled {
		m.counts.Doubled += e.count()
		earliest(&v.FirstDoubled, e.first)
	}
	extra := map[uint64]int64{}
	for sum, e := range m.surplus {
		if e.early {
			m.counts.Expired += e.count()
			m.sums[1].add(sum, -e.count())
			continue
		}
		m.counts.Extra += e.count()
		extra[e.id] += e.count()
		earliest(&v.FirstExtra, e.first)
	}
	m.counts.Missing = m.unkept
	for _, e := range m.open {
		changed := min(extra[e.id], e.count())
		extra[e.id] -= changed
		m.counts.Extra -= changed
		m.counts.Different += changed
		m.counts.Missing += e.count() - changed
		if changed > 0 {
			earliest(&v.FirstDifferent, e.first)
		} else {
			earliest(&v.FirstMissing, e.first)
		}
	}
	if m.counts.Extra == 0 {
		v.FirstExtra = nil
	}
	v.VerifyCounts = m.counts
	v.SourceDigest, v.TargetDigest = m.sums[0].String(), m.sums[1].String()
}

func earliest(have **int64, offset int64) {
	if *have == nil || offset < **have {
		*have = &offset
	}
}

// put adds a sighting, unless there are too many.
func put(marks map[digest]mark, s sighting) bool {
	e, ok := marks[s.sum]
	if ok {
		e.more = append(e.more, s.offset)
	} else {
		e = mark{first: s.offset, id: s.id}
	}
	if !ok && len(marks) >= maxUnmatched || len(e.more) > maxUnmatched {
		return false
	}
	marks[s.sum] = e
	return true
}

// take removes the oldest sighting of a content that is behind after, or else the
// oldest, and returns its offset.
func take(marks map[digest]mark, sum digest, after int64) (offset int64, ok bool) {
	e, ok := marks[sum]
	if !ok {
		return 0, false
	}
	offset = e.first
	if i, _ := slices.BinarySearch(e.more, after+1); offset <= after && i < len(e.more) {
		offset = e.more[i]
		e.more = slices.Delete(e.more, i, i+1)
		marks[sum] = e
		return offset, true
	}
	if len(e.more) == 0 {
		delete(marks, sum)
		return offset, true
	}
	e.first, e.more = e.more[0], e.more[1:]
	marks[sum] = e
	return offset, true
}
