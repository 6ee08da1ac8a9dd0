package rawcopy

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Aborter knows which transactions of a fetch response were aborted: a broker sends their records also to those
// who read committed ones only, with a list (CompletedFetch in Kafka's consumer). Its zero value knows
// none. It allocates nothing once it has grown.
type Aborter struct {
	begins []aborted          // not reached yet, by offset, the next one last
	live   map[int64]struct{} // producers whose transaction at this point of the log was aborted
}

type aborted struct{ first, producer int64 }

// Begin forgets all and takes the list of the next fetch response, in any order.
func (a *Aborter) Begin(list []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	a.begins = a.begins[:0]
	clear(a.live)
	for _, t := range list {
		a.begins = append(a.begins, aborted{t.FirstOffset, t.ProducerID})
	}
	slices.SortFunc(a.begins, func(x, y aborted) int { return cmp.Compare(y.first, x.first) })
}

// aborts says whether b is of an aborted transaction.
func (a *Aborter) aborts(b Batch) bool {
	if len(a.begins) == 0 && len(a.live) == 0 {
		return false
	}
	producer, last := b.ProducerID(), b.LastOffset()
	if producer < 0 {
		return false
	}
	// A damaged header must not make transactions live that are further on in the log: what is
	// committed until then would be skipped.
	if n := len(a.begins); n > 0 && a.begins[n-1].first <= last && b.intact() {
		a.reach(last)
	}
	if b.Control() {
		if _, live := a.live[producer]; live && b.abortMarker() && b.intact() {
			delete(a.live, producer)
		}
		return false
	}
	_, live := a.live[producer]
	return live && b.Transactional()
}

// reach makes those transactions live that begin up to an offset.
func (a *Aborter) reach(last int64) {
	for n := len(a.begins) - 1; n >= 0 && a.begins[n].first <= last; n-- {
		if a.live == nil {
			a.live = map[int64]struct{}{}
		}
		a.live[a.begins[n].producer] = struct{}{}
		a.begins = a.begins[:n]
	}
}

// abortMarker says whether a control batch ends an aborted transaction: its
// first record's key is a version and the type 0 (ControlRecordType).
func (b Batch) abortMarker() bool {
	r := reader{rest: b[atRecords:]}
	r.varint() // length
	r.byte()   // attributes
	r.varint() // timestamp
	r.varint() // offset
	key := r.bytes(r.varint())
	return !r.bad && len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 0
}
