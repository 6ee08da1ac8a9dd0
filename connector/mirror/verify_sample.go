package mirror

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Sampled says what a sample proves. Of a partition that is compared by ranges, that each record of the ranges is at the
// target, the same and in order, and that there is nothing foreign and nothing twice between the
// first and the last record of a range there. It says nothing of what is outside: records missing there, foreign ones, or
// those of a range once more in another place. A fault that touches a part f of the partition's offsets in one piece is found
// for certain if it is longer than the distance of two ranges, and otherwise with about the probability that the
// sample's part gives; n single faults in independent places with 1-(1-part)^n.
// A compacted partition is read in whole, and the newest records of some keys are compared: a wrong key is found with a probability
// of part.
//
// ParseSample reads "10%" or "1/10".
func ParseSample(text string) (float64, error) {
	part, err := math.NaN(), error(nil)
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		part, err = strconv.ParseFloat(percent, 64)
		part /= 100
	} else if of, ok := strings.CutPrefix(text, "1/"); ok {
		part, err = strconv.ParseFloat(of, 64)
		part = 1 / part
	}
	if err != nil || !(part > 0 && part <= 1) {
		return 0, fmt.Errorf("a sample is a percentage like 10%% or a part like 1/10, not %q", text)
	}
	return part, nil
}

const (
	// sampleRangesPer is how many ranges a partition's sample is cut into, if they get long enough.
	sampleRangesPer = 64
	shortestRange   = 100
	longestRange    = 100_000
	// probes is how many records of a range are looked for on the target.
	probes = 512
	// slack is how far from where it should be a range is looked for first.
	slack = 2 * probes
)

// offsetRange are offsets of the source.
type offsetRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"` // not in it
}

// sampled is how far the comparison of a partition by ranges is.
type sampled struct {
	Ranges    []offsetRange `json:"ranges,omitempty"`
	Done      int           `json:"done,omitempty"`
	SourceEnd int64         `json:"source_end,omitempty"`
	Timeless  bool          `json:"timeless,omitempty"`
	Tally     tally         `json:"tally,omitzero"`
}

// sampleRanges cuts a partition into pieces of the same length and picks a range in each, at the
// start of the first and at the end of the last.
func sampleRanges(p pair, part float64, seed uint64) []offsetRange {
	n := p.sourceEnd - p.sourceStart
	want := int64(math.Ceil(float64(n) * part))
	if want == 0 {
		return nil
	}
	length := min(max(want/sampleRangesPer, shortestRange), longestRange)
	count := max(1, want/length)
	if count*length*10 >= n*9 {
		return []offsetRange{{p.sourceStart, p.sourceEnd}}
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(p.String()))
	random := rand.New(rand.NewPCG(seed, name.Sum64())) //nolint:gosec // chooses a sample
	ranges := make([]offsetRange, count)
	for i := range count {
		piece := offsetRange{p.sourceStart + n*i/count, p.sourceStart + n*(i+1)/count}
		from := piece.From + random.Int64N(piece.To-piece.From-length+1)
		switch {
		case count > 1 && i == 0:
			from = piece.From
		case count > 1 && i == count-1:
			from = piece.To - length
		}
		ranges[i] = offsetRange{from, from + length}
	}
	return ranges
}

// finder finds ranges of the source on the target.
type finder struct {
	v     *verification
	slot  *slot
	pair  pair
	shift int64 // what the target's offset was more than the source's, the last time
	known bool
	vain  int // how often all of the target was looked through in vain
	buf   []byte
}

// find returns where the target's records of a range begin, or the target's end if there are none.
func (f *finder) find(ctx context.Context, r offsetRange) (int64, error) {
	wanted, stamp, err := f.probe(ctx, r)
	if err != nil || len(wanted) == 0 {
		return f.pair.targetEnd, err
	}
	for _, at := range f.guesses(ctx, r, stamp) {
		if found, err := f.look(ctx, wanted, at-slack, at+slack); found >= 0 || err != nil {
			return f.earliest(ctx, wanted, found, err)
		}
	}
	if f.vain < mostFutile {
		middle := f.guesses(ctx, r, -1)[0]
		low, high := middle, middle
		for step := int64(seekStep); low > f.pair.targetStart || high < f.pair.targetEnd; step *= 2 {
			for _, part := range []offsetRange{{low - step, low}, {high, high + step}} {
				if found, err := f.look(ctx, wanted, part.From, part.To); found >= 0 || err != nil {
					return f.earliest(ctx, wanted, found, err)
				}
			}
			low, high = low-step, high+step
		}
		f.vain++
	}
	return f.pair.targetEnd, nil
}

// wantedRecords are records of the source, by content, or else by key and timestamp, as they may have been changed.
type wantedRecords map[any]int64

type keyAt struct {
	id uint64
	at int64
}

func (w wantedRecords) add(s sighting) {
	for _, as := range []any{s.sum, keyAt{s.id, s.at}} {
		if _, ok := w[as]; !ok {
			w[as] = s.offset
		}
	}
}

func (w wantedRecords) find(s sighting) (int64, bool) {
	at, ok := w[s.sum]
	if !ok {
		at, ok = w[keyAt{s.id, s.at}]
	}
	return at, ok
}

// probe reads the first records of a range.
func (f *finder) probe(ctx context.Context, r offsetRange) (wanted wantedRecords, stamp int64, err error) {
	wanted, stamp = wantedRecords{}, -1
	source := newLogReader(f.v.source, f.slot.source, f.pair.partition, r.From, r.To)
	defer source.close()
	for range probes {
		s, ok, err := source.sight(ctx, &f.buf)
		if err != nil {
			return nil, 0, fmt.Errorf("read the source: %w", err)
		}
		if !ok {
			break
		}
		if len(wanted) == 0 {
			stamp = s.at
		}
		wanted.add(s)
	}
	return wanted, stamp, nil
}

// guesses says where on the target a range may be: as far off as the last one was, or as the ends are, or the
// starts, or what has its timestamp.
func (f *finder) guesses(ctx context.Context, r offsetRange, stamp int64) []int64 {
	var all []int64
	if f.known {
		all = append(all, r.From+f.shift)
	}
	all = append(all, f.pair.targetEnd-(f.pair.sourceEnd-r.From), f.pair.targetStart+r.From-f.pair.sourceStart)
	if stamp >= 0 {
		if at, err := f.v.target.offset(ctx, f.pair.there(), stamp); err == nil && at >= 0 {
			all = append(all, at)
		}
	}
	return all
}

// look returns the offset of the first record in a part of the target that is wanted, or -1.
func (f *finder) look(ctx context.Context, wanted wantedRecords, from, to int64) (int64, error) {
	from, to = max(from, f.pair.targetStart), min(to, f.pair.targetEnd)
	if from >= to {
		return -1, nil
	}
	target := newLogReader(f.v.target, f.slot.target, f.pair.there(), from, to)
	defer target.close()
	for {
		s, ok, err := target.sight(ctx, &f.buf)
		if err != nil {
			return -1, fmt.Errorf("read the target: %w", err)
		}
		if !ok {
			return -1, nil
		}
		if at, ok := wanted.find(s); ok {
			f.shift, f.known = s.offset-at, true
			return s.offset, nil
		}
	}
}

// earliest goes back from where a wanted record was found, as long as there are others in front of it.
func (f *finder) earliest(ctx context.Context, wanted wantedRecords, at int64, err error) (int64, error) {
	for err == nil {
		var before int64
		if before, err = f.look(ctx, wanted, at-slack, at); before < 0 {
			break
		}
		at = before
	}
	return at, err
}
