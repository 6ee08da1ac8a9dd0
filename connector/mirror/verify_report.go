package mirror

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Equal      bool               `json:"equal"` // nothing missing, different, extra, out of order or unread
	Totals     VerifyCounts       `json:"totals"`
	Partitions []PartitionVerdict `json:"partitions"`
	// Committed says that only committed records of the source were compared (isolation.level of the mirror's
	// consumer). Of the target only those are in any case.
	Committed bool `json:"committed_only"`
	// Sample is the part of the records that was compared, and Seed what it was chosen with, unless all were.
	Sample   float64   `json:"sample,omitempty"`
	Seed     uint64    `json:"seed,omitempty"`
	Started  time.Time `json:"started"`
	Duration float64   `json:"duration_seconds"`
	Bytes    int64     `json:"bytes_read"`    // of both sides, as the brokers sent them
	Rate     float64   `json:"mb_per_second"` // of these
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
	Expired    int64 `json:"expired"`        // on the target, and older than what the source still has: not comparable
	Gone       int64 `json:"gone"`           // on the source, and older than what the target still has: not comparable
	// Of compacted topics.
	Keys       int64 `json:"keys,omitempty"`       // that were compared
	Superseded int64 `json:"superseded,omitempty"` // keys that got newer records meanwhile: not comparable
	Tombstones int64 `json:"tombstones,omitempty"` // keys whose deletion one side has forgotten, as it may
	Unkeyed    int64 `json:"unkeyed,omitempty"`    // records without a key, which compaction may drop: not compared
	// Resumed are the records of the source that an earlier run had compared.
	Resumed int64 `json:"resumed_records,omitempty"`
}

func (c *VerifyCounts) add(o VerifyCounts) {
	for _, n := range []struct {
		to   *int64
		more int64
	}{
		{&c.Source, o.Source},
		{&c.Target, o.Target},
		{&c.Missing, o.Missing},
		{&c.Different, o.Different},
		{&c.Extra, o.Extra},
		{&c.Doubled, o.Doubled},
		{&c.OutOfOrder, o.OutOfOrder},
		{&c.Expired, o.Expired},
		{&c.Gone, o.Gone},
		{&c.Keys, o.Keys},
		{&c.Superseded, o.Superseded},
		{&c.Tombstones, o.Tombstones},
		{&c.Unkeyed, o.Unkeyed},
		{&c.Resumed, o.Resumed},
	} {
		*n.to += n.more
	}
}

// How a partition was compared.
const (
	// MethodRecords: each record, in its order.
	MethodRecords = "records"
	// MethodKeys: of a compacted topic, the newest record of each key.
	MethodKeys = "newest-per-key"
	// MethodRanges: the records of some ranges of offsets.
	MethodRanges = "sampled-ranges"
	// MethodSomeKeys: of a compacted topic, the newest record of some keys.
	MethodSomeKeys = "sampled-keys"
)

// PartitionVerdict is the comparison of one partition. Offsets are nil where
// there is no such record.
type PartitionVerdict struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	Method      string `json:"method"`
	VerifyCounts
	// Timestamps is false if they were not compared, as the target gives records
	// its own time of append.
	Timestamps  bool  `json:"timestamps_compared"`
	SourceStart int64 `json:"source_start_offset"` // of what was compared; before it there was nothing any more
	SourceEnd   int64 `json:"source_end_offset"`   // when the comparison began
	// Compared is how many of the offsets from SourceStart to SourceEnd were compared.
	Compared        int64        `json:"compared_offsets"`
	FirstMissing    *int64       `json:"first_missing_source_offset,omitempty"`
	FirstDifferent  *int64       `json:"first_different_source_offset,omitempty"`
	FirstDoubled    *int64       `json:"first_doubled_target_offset,omitempty"`
	FirstExtra      *int64       `json:"first_extra_target_offset,omitempty"`
	FirstOutOfOrder *int64       `json:"first_out_of_order_target_offset,omitempty"`
	Differences     []Difference `json:"differences,omitempty"` // the first few of each kind
	// Digests of the records of each side, whatever their order, on the target without the doubled ones, if
	// they were asked for. They are equal exactly if nothing is missing, different or extra.
	SourceDigest string `json:"source_digest,omitempty"`
	TargetDigest string `json:"target_digest,omitempty"`
	Error        string `json:"error,omitempty"` // why it could not be compared to the end
}

// Differs says whether the target lacks something, has something else, or has it in another order.
func (c VerifyCounts) Differs() bool {
	return c.Missing != 0 || c.Different != 0 || c.Extra != 0 || c.OutOfOrder != 0
}

// Equal says whether the target holds what the source holds, in its order.
func (v PartitionVerdict) Equal() bool {
	return v.Error == "" && !v.Differs()
}

// Difference is a stretch of records that are alike in what is wrong with them.
type Difference struct {
	Kind    string `json:"kind"`                    // missing, different, extra, doubled or out-of-order
	Source  *int64 `json:"source_offset,omitempty"` // of the first one
	Target  *int64 `json:"target_offset,omitempty"`
	Records int64  `json:"records"`
}

const (
	kindMissing   = "missing"
	kindDifferent = "different"
	kindExtra     = "extra"
	kindDoubled   = "doubled"
	kindOrder     = "out-of-order"
)

// maxDifferences is how many of each kind a verdict names.
const maxDifferences = 10

// named is the offset that a verdict names.
func (d Difference) named() int64 {
	if d.Kind == kindMissing || d.Kind == kindDifferent {
		return *d.Source
	}
	return *d.Target
}

// place orders differences.
func (d Difference) place() int64 {
	if d.Source != nil {
		return *d.Source
	}
	return *d.Target
}

// continues says whether the record of next comes right behind those of d.
func (d Difference) continues(next Difference) bool {
	behind := func(a, b *int64) bool {
		if a == nil || b == nil {
			return a == b
		}
		return *a+d.Records == *b
	}
	return behind(d.Source, next.Source) && behind(d.Target, next.Target)
}

// tally is what has been found out for good about a partition.
type tally struct {
	VerifyCounts
	Differences []Difference
	First       map[string]int64 // of each kind of difference: the place in the verdict
	Matched     bool             // anything at all
}

// note names a difference, if there is room. It is told of the differences of
// a kind in their order, more or less.
func (t *tally) note(d Difference) {
	t.first(d.Kind, d.named())
	kind := 0
	for i := len(t.Differences) - 1; i >= 0; i-- {
		have := &t.Differences[i]
		if have.Kind != d.Kind {
			continue
		}
		if kind == 0 && have.continues(d) {
			have.Records += d.Records
			return
		}
		kind++
	}
	if kind < maxDifferences {
		t.Differences = append(t.Differences, d)
	}
}

func (t *tally) first(kind string, at int64) {
	if t.First == nil {
		t.First = map[string]int64{}
	}
	if have, ok := t.First[kind]; !ok || at < have {
		t.First[kind] = at
	}
}

// clone returns a copy that does not change with t.
func (t *tally) clone() tally {
	c := *t
	c.Differences, c.First = slices.Clone(t.Differences), maps.Clone(t.First)
	return c
}

func (t *tally) sort() {
	slices.SortStableFunc(t.Differences, func(a, b Difference) int { return cmp.Compare(a.place(), b.place()) })
}

// add takes in what was found in another part of the partition.
func (t *tally) add(o tally) {
	t.VerifyCounts.add(o.VerifyCounts)
	t.Matched = t.Matched || o.Matched
	for kind, at := range o.First {
		t.first(kind, at)
	}
	for _, d := range o.Differences {
		t.note(d)
	}
}

// tell writes the tally into a verdict.
func (t *tally) tell(v *PartitionVerdict) {
	v.VerifyCounts, v.Differences = t.VerifyCounts, t.Differences
	for kind, first := range map[string]**int64{
		kindMissing: &v.FirstMissing, kindDifferent: &v.FirstDifferent, kindExtra: &v.FirstExtra, kindDoubled: &v.FirstDoubled, kindOrder: &v.FirstOutOfOrder,
	} {
		if at, ok := t.First[kind]; ok {
			*first = &at
		}
	}
	if t.Source > 0 && t.Gone > 0 && !t.Matched && v.Error == "" {
		v.Error = "nothing can be compared: all that the target had has expired there"
	}
}
