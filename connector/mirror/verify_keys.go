package mirror

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"barnabas/connector/rawcopy"
)

// keysAtOnce is how many keys are remembered at a time, of all partitions that are compared together. A key
// takes about 100 bytes.
const keysAtOnce = 1 << 20

// keyWalk compares a compacted partition: of each key the newest record that the source has before its end with the newest one
// of the target. Both are read in whole; where there are more keys than can be remembered, several times, a part of the keys each
// time. Of older records of a key nothing is compared, nor the order of keys, nor is a record found that is there twice: each
// side is compacted when it likes.
type keyWalk struct {
	v     *verification
	slot  *slot
	pair  pair
	seed  maphash.Seed
	limit int
	tally
	timeless bool
	first    bool // the first pass, which counts records
	// The keys of this pass are those whose hashes are from low to high.
	low, high uint64
	keys      map[uint64]keyPair
	buf       []byte
}

// keyPair are the newest records of a key.
type keyPair struct{ source, target keyRecord }

// keyRecord is what is remembered of a record.
type keyRecord struct {
	sum    uint64 // of value and headers
	at     int64  // timestamp
	offset int64  // plus one: 0 is no record
	tomb   bool
	stamps bool // the broker gave the timestamp
}

// byKey compares the newest records per key.
func (v *verification) byKey(ctx context.Context, s *slot, p pair, begun *savedPartition, verdict *PartitionVerdict) error {
	w := &keyWalk{v: v, slot: s, pair: p, seed: maphash.MakeSeed(), limit: max(1, v.keysAtOnce()/v.parallel()), first: true}
	verdict.Method = MethodKeys
	last := uint64(math.MaxUint64)
	if v.sampling() {
		verdict.Method = MethodSomeKeys
		last = uint64(v.o.Sample * math.MaxUint64)
	}
	if begun.keysOf(p) {
		w.tally, w.timeless = begun.Tally.clone(), begun.Timeless
		w.Resumed = w.Source
	} else if err := w.passes(ctx, last); err != nil {
		w.tell(verdict)
		return err
	}
	w.sort()
	w.tell(verdict)
	verdict.Timestamps = !w.timeless
	v.state.putKeys(w, verdict.Method)
	return nil
}

func (v *verification) keysAtOnce() int { return cmp.Or(v.o.keys, keysAtOnce) }

// passes compares all keys whose hashes are at most last.
func (w *keyWalk) passes(ctx context.Context, last uint64) error {
	for low := uint64(0); ; {
		w.low, w.high, w.keys = low, last, map[uint64]keyPair{}
		if !w.first {
			w.pair.share.more(w.pair.offsets())
		}
		if err := w.pass(ctx); err != nil {
			return err
		}
		w.first = false
		if w.high == last {
			return nil
		}
		low = w.high + 1
	}
}

// pass compares the keys of one pass.
func (w *keyWalk) pass(ctx context.Context) error {
	p := w.pair
	source := newLogReader(w.v.source, w.slot.source, p.partition, p.sourceStart, p.sourceEnd)
	defer source.close()
	target := newLogReader(w.v.target, w.slot.target, p.there(), p.targetStart, p.targetEnd)
	defer target.close()
	source.seen, target.seen = p.share.seen, p.share.seen
	if err := w.read(ctx, source, &w.Source, func(k *keyPair) *keyRecord { return &k.source }); err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	for looked := false; ; {
		if err := w.read(ctx, target, &w.Target, func(k *keyPair) *keyRecord { return &k.target }); err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		if looked || len(w.unequal()) == 0 {
			break
		}
		more, err := target.extend(ctx)
		if err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		if left := time.Until(w.v.given); !more && left <= 0 {
			looked = true
		} else if !more {
			if err := sleep(ctx, min(left, waitStep)); err != nil {
				return err
			}
		}
	}
	w.Keys += int64(len(w.keys))
	return w.settle(ctx)
}

// read takes the records of one side.
func (w *keyWalk) read(ctx context.Context, r *logReader, count *int64, side func(*keyPair) *keyRecord) error {
	for {
		there, err := r.fill(ctx)
		if err != nil || !there {
			return err
		}
		record, err := r.record()
		if err != nil {
			return err
		}
		if record == nil {
			continue
		}
		w.take(record, r.stamps, count, side)
		r.drop()
	}
}

func (w *keyWalk) take(record *rawcopy.Record, stamps bool, count *int64, side func(*keyPair) *keyRecord) {
	if w.first {
		*count++
		if record.Key == nil {
			w.Unkeyed++
		}
	}
	hash := w.hash(record.Key)
	if record.Key == nil || hash < w.low || hash > w.high {
		return
	}
	pair, known := w.keys[hash]
	if !known && len(w.keys) >= w.limit {
		if w.narrow(); hash > w.high {
			return
		}
	}
	w.buf = appendPart(w.buf[:0], record.Value)
	for _, h := range record.Headers {
		w.buf = appendPart(appendPart(w.buf, h.Key), h.Value)
	}
	*side(&pair) = keyRecord{sum: maphash.Bytes(w.seed, w.buf), at: record.Timestamp, offset: record.Offset + 1, tomb: record.Value == nil, stamps: stamps}
	w.keys[hash] = pair
}

func (w *keyWalk) hash(key []byte) uint64 { return maphash.Bytes(w.seed, key) }

// narrow leaves the upper part of the keys to the next pass.
func (w *keyWalk) narrow() {
	for w.low < w.high && len(w.keys) >= w.limit {
		w.high = w.low + (w.high-w.low)/2
		for hash := range w.keys {
			if hash > w.high {
				delete(w.keys, hash)
			}
		}
	}
}

// same says whether a key has the same newest record on both sides, or has none
// that counts.
func (k keyPair) same() bool {
	switch {
	case k.source.offset == 0:
		return k.target.tomb
	case k.target.offset == 0:
		return k.source.tomb
	}
	return k.source.sum == k.target.sum && (k.source.at == k.target.at || k.target.stamps)
}

// unequal lists the keys that are not the same.
func (w *keyWalk) unequal() map[uint64]bool {
	keys := map[uint64]bool{}
	for hash, k := range w.keys {
		if !k.same() {
			keys[hash] = true
		}
	}
	return keys
}

// settle counts what is not the same. A key that got a newer record behind the end of the comparison says
// nothing: the newer one may have had the older one compacted away, on either side.
func (w *keyWalk) settle(ctx context.Context) error {
	unequal := w.unequal()
	if len(unequal) > 0 {
		newer := newLogReader(w.v.source, w.slot.source, w.pair.partition, w.pair.sourceEnd, w.pair.sourceEnd)
		defer newer.close()
		if _, err := newer.extend(ctx); err != nil {
			return fmt.Errorf("read the source's end: %w", err)
		}
		for len(unequal) > 0 {
			there, err := newer.fill(ctx)
			if err != nil {
				return fmt.Errorf("read the source's newer records: %w", err)
			}
			if !there {
				break
			}
			record, err := newer.record()
			if err != nil {
				return fmt.Errorf("read the source's newer records: %w", err)
			}
			if record == nil {
				continue
			}
			if hash := w.hash(record.Key); record.Key != nil && unequal[hash] {
				w.Superseded++
				delete(unequal, hash)
			}
			newer.drop()
		}
	}
	var wrong []keyPair
	for hash, k := range w.keys {
		w.Matched = w.Matched || k.source.offset > 0 && k.target.offset > 0
		w.timeless = w.timeless || k.target.stamps
		switch {
		case unequal[hash]:
			wrong = append(wrong, k)
		case k.same() && (k.source.offset == 0 || k.target.offset == 0):
			w.Tombstones++
		}
	}
	slices.SortFunc(wrong, func(a, b keyPair) int { return cmp.Compare(a.offset(), b.offset()) })
	for _, k := range wrong {
		w.count(k)
	}
	return nil
}

func (k keyPair) offset() int64 { return cmp.Or(k.source.offset, k.target.offset) }

// count counts a key that is not the same. What one side has of a key that the other does not know may have expired
// there, if records do.
func (w *keyWalk) count(k keyPair) {
	source, target := k.source.offset-1, k.target.offset-1
	switch {
	case k.target.offset == 0 && w.pair.targetStart > 0:
		w.Gone++
	case k.target.offset == 0:
		w.Missing++
		w.note(Difference{Kind: kindMissing, Source: &source, Records: 1})
	case k.source.offset == 0 && w.pair.sourceStart > 0:
		w.Expired++
	case k.source.offset == 0:
		w.Extra++
		w.note(Difference{Kind: kindExtra, Target: &target, Records: 1})
	default:
		w.Different++
		w.note(Difference{Kind: kindDifferent, Source: &source, Target: &target, Records: 1})
	}
}
