package mirror

import (
	"fmt"

	"barnabas/connector/offsetrun"
)

// Translation says where a group goes on at the target that has read a partition of the source up to Offset.
type Translation struct {
	Topic       string `json:"topic"` // at the source
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"` // what the group has committed at the source: the next that it reads
	Metadata    string `json:"metadata,omitempty"`
	TargetTopic string `json:"target_topic"`
	// TargetOffset is the same position in the copy; -1: it cannot be said.
	TargetOffset int64    `json:"target_offset"`
	Accuracy     Accuracy `json:"accuracy"`
	// Reason says why TargetOffset is -1, or why it is not exact; empty if it is.
	Reason string `json:"reason,omitempty"`
}

// Accuracy is how well a translation is known. None is ever ahead of the truth: a group that goes on there
// leaves out nothing.
type Accuracy string

// The accuracies.
const (
	// Exact is the copy of the record that the group reads next, or of the one that follows where that has none (a
	// marker of a transaction, or compacted away), or the end of the copy if the group has read all of it.
	Exact Accuracy = "exact"
	// Ahead is the end of the copy, since the group has read more than is copied. It becomes exact as the copy goes on.
	Ahead Accuracy = "ahead"
	// Thinned is a place before: the copy has had so many gaps that of the older ones only some are still known.
	Thinned Accuracy = "thinned"
	// Sampled is what MirrorMaker would say out of its offset-syncs.
	Sampled Accuracy = "sampled"
	// Unknown is no place at all; Reason says why.
	Unknown Accuracy = "unknown"
)

const notThere = int64(-1)

// place is a Translation's answer.
type place struct {
	target   int64
	accuracy Accuracy
	reason   string
}

// history is what is known of the copies of partitions. To translate is a function of it.
type history struct {
	// books of each partition, the one that was written last first. A partition has several where connectors of different names
	// have copied it one after the other.
	books map[partition][]*offsetrun.Book
	// unfit says of partitions that have books why none of them tells of what is there.
	unfit map[partition]string
	syncs map[partition]*syncHistory
}

// translate finds where a group goes on that has read p up to upstream: exactly out of the offset runs where our tasks keep
// them, and as MirrorMaker does out of offset-syncs for what was copied before.
func (h *history) translate(p partition, upstream int64) place {
	if why := h.unfit[p]; why != "" {
		return place{notThere, Unknown, why}
	}
	reason := "nothing of it has been copied by this link: neither offset runs nor offset-syncs are there"
	for i, book := range h.books[p] {
		found := byRuns(book, upstream)
		if found.target >= 0 {
			return found
		}
		if i == 0 {
			reason = found.reason
		}
	}
	if s := h.syncs[p]; s != nil {
		if at := s.translate(upstream); at >= 0 {
			return place{at, Sampled, "only sampled offset-syncs tell of it"}
		} else if len(h.books[p]) == 0 {
			reason = fmt.Sprintf("offset %d is before the oldest offset-sync that can be used, %d", upstream, s.oldest().Upstream)
		}
	}
	return place{notThere, Unknown, reason}
}

// byRuns translates with a book of offset runs.
func byRuns(b *offsetrun.Book, upstream int64) place {
	at, match := b.Map.Translate(upstream)
	switch match {
	case offsetrun.Exact, offsetrun.Next:
		return place{at, Exact, ""}
	case offsetrun.Before:
		return place{at, Thinned, "the copy has had so many gaps that only some of the older ones are still known"}
	}
	source, target, runs := b.Map.End()
	switch {
	case runs && upstream >= source:
		// The group has read all that is copied, and goes on behind it whatever comes.
		return place{target, Ahead, fmt.Sprintf("the group is at %d, the copy at %d", upstream, b.State.Next)}
	case runs:
		first := b.Map.First()
		if first.Target == 0 {
			return place{0, Exact, ""} // nothing stands before it
		}
		return place{notThere, Unknown, fmt.Sprintf("offset %d is before %d, from where on the offset runs tell of the copy", upstream, first.Source)}
	case upstream > b.State.Next:
		return place{b.State.TargetNext, Ahead, fmt.Sprintf("the group is at %d, the copy at %d", upstream, b.State.Next)}
	case upstream == b.State.Next || b.State.TargetNext == 0:
		// Nothing of the source is there yet, and what comes stands behind TargetNext.
		return place{b.State.TargetNext, Exact, ""}
	}
	return place{notThere, Unknown, fmt.Sprintf("offset %d is before %d, where the copy began", upstream, b.State.Next)}
}

// syncHistory is what OffsetSyncStore of Kafka 4.3.1 keeps of the offset-syncs of one partition: 64 places, the first for the
// newest. A sync at place j is at most 2^j-2^i before the one at place i, and at least 2^(i-2), unless it is the same one. So the
// known places become sparser with their distance from the end. Which of two that would do is kept follows Kafka as
// well: a translation must not depend on who made it.
type syncHistory [syncPlaces]*OffsetSync

const syncPlaces = 64

// newSyncHistory returns a history of one sync.
func newSyncHistory(s OffsetSync) *syncHistory {
	h := &syncHistory{}
	h.reset(&s)
	return h
}

func (h *syncHistory) reset(s *OffsetSync) {
	for i := range h {
		h[i] = s
	}
}

// add takes a newer sync. only makes it the only one: so it is while the topic is read for the first time, if it is not known
// which checkpoints were made of older ones; translating with those could lead back.
func (h *syncHistory) add(s OffsetSync, only bool) {
	if only || s.Upstream < h[0].Upstream {
		h.reset(&s)
		return
	}
	before := *h
	h[0] = &s
	candidate, from := &s, 0
	for place := 1; place < syncPlaces; place++ {
		for {
			old := before[from]
			apart := farEnough(h[place-1], old, place-1)
			fits := nearEnough(h[place-1], old, place-1, place) && apart && (place+1 >= syncPlaces || farEnough(old, h[place+1], place))
			if fits {
				candidate = old
			}
			passed := !apart || from+1 < syncPlaces && old == before[from+1]
			if fits || passed {
				from++
			}
			if !passed || from >= place {
				break
			}
		}
		if nearEnough(h[place-1], h[place], place-1, place) {
			return // and so are all behind it
		}
		h[place] = candidate
	}
}

// nearEnough is the upper bound of the distance between the syncs at the places i < j. Sums beyond an int64 are no bound.
func nearEnough(newer, older *OffsetSync, i, j int) bool {
	bound := older.Upstream + int64(1)<<j - int64(1)<<i
	return newer == older || bound < 0 || newer.Upstream <= bound
}

// farEnough is the lower bound of the distance from the sync at place i.
func farEnough(newer, older *OffsetSync, i int) bool {
	bound := older.Upstream + int64(1)<<max(i-2, 0)
	return newer == older || bound >= 0 && newer.Upstream >= bound
}

// translate returns the target offset, or -1 if upstream is before all syncs. Behind a sync it is one more than that of
// the sync: what follows it in the copy is not known.
func (h *syncHistory) translate(upstream int64) int64 {
	for _, s := range h {
		switch {
		case s.Upstream == upstream:
			return s.Downstream
		case s.Upstream < upstream:
			return s.Downstream + 1
		}
	}
	return notThere
}

func (h *syncHistory) oldest() *OffsetSync { return h[syncPlaces-1] }
