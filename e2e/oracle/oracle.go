// Package oracle compares a copy with its source, record by record: key,
// value, headers in their order, timestamp, partition, and the order of records.
// It reads both clusters with its own plain consumers and uses nothing of the
// product.
//
// Easy to get wrong: after a crash a copy holds records twice, in runs that
// begin again at an earlier record. Those are counted, and are no difference;
// a record that is missing, foreign, or came before one that precedes it is.
package oracle

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Report says how a copy compares with its source.
type Report struct {
	// Source and Target count the records of each side.
	Source, Target int64
	// Missing are source records that the target never got.
	Missing int64
	// Duplicates are target records beyond the first copy of each.
	Duplicates int64
	// Foreign are target records that equal no source record of their partition.
	Foreign int64
	// Disordered are the target records that came before one that precedes them at
	// the source had come.
	Disordered int64
	// Rewinds count the places where the copy began again at an earlier record.
	Rewinds int64
	// Again describes the first few rewinds.
	Again []string
	// Turns are the first few rewinds and disordered records.
	Turns []Turn
	// First describes the first few differences.
	First []string
}

// Turn is a place in the target where something else stands than the next record.
type Turn struct {
	Topic     string // of the target
	Partition int32
	// Target is the offset of the place, Source that of the record that stands there.
	Target, Source int64
	// Back is by how many records the copy began again; negative: how many it left out.
	Back int
}

// Equal says whether the target holds every source record exactly once, in
// order, and nothing else.
func (r Report) Equal() bool { return r.Complete() && r.Duplicates == 0 }

// Complete says whether the target holds every source record in order and
// nothing else; some it may hold more than once.
func (r Report) Complete() bool { return r.Missing == 0 && r.Foreign == 0 && r.Disordered == 0 }

// String is one line.
func (r Report) String() string {
	s := fmt.Sprintf("%d records at the source, %d at the target: %d missing, %d duplicate in %d runs, %d foreign, %d disordered",
		r.Source, r.Target, r.Missing, r.Duplicates, r.Rewinds, r.Foreign, r.Disordered)
	if len(r.First) > 0 {
		s += "\n" + strings.Join(r.First, "\n")
	}
	return s
}

// Options are the two sides: how to reach them, and which topic became which.
type Options struct {
	Source, Target []kgo.Opt
	// Topics maps each source topic to its copy.
	Topics map[string]string
	// Committed leaves records of aborted transactions in the target out.
	Committed bool
}

// Compare reads both sides up to their present ends and compares them. While
// records still come the target's end is asked for first: some are missing then,
// but none is foreign.
func Compare(ctx context.Context, o Options) (Report, error) {
	there, err := bounds(ctx, o.Target, slices.Sorted(maps.Values(o.Topics)), o.Committed)
	if err != nil {
		return Report{}, err
	}
	here, err := bounds(ctx, o.Source, slices.Sorted(maps.Keys(o.Topics)), false)
	if err != nil {
		return Report{}, err
	}
	var source, target map[place]sequence
	g, reading := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		source, err = read(reading, o.Source, here, false)
		return err
	})
	g.Go(func() (err error) {
		target, err = read(reading, o.Target, there, o.Committed)
		return err
	})
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	var r Report
	for _, at := range slices.SortedFunc(maps.Keys(source), place.compare) {
		there := place{o.Topics[at.topic], at.partition}
		r.compare(there, source[at], target[there])
		delete(target, there)
	}
	for at, s := range target {
		// A partition that the source does not have.
		r.compare(at, sequence{}, s)
	}
	return r, nil
}

// place is a partition.
type place struct {
	topic     string
	partition int32
}

func (p place) compare(q place) int {
	if c := strings.Compare(p.topic, q.topic); c != 0 {
		return c
	}
	return int(p.partition) - int(q.partition)
}

// sequence are the records of a partition: a hash and an offset for each.
type sequence struct {
	hashes  []uint64
	offsets []int64
}

// compare walks the target's records of a partition along the source's.
func (r *Report) compare(at place, source, target sequence) {
	r.Source += int64(len(source.hashes))
	r.Target += int64(len(target.hashes))
	// Indexes at the source, ascending: not needed, and so not made, for a copy
	// without a difference.
	where := sync.OnceValue(func() map[uint64][]int {
		where := map[uint64][]int{}
		for i, h := range source.hashes {
			where[h] = append(where[h], i)
		}
		return where
	})
	covered := make([]bool, len(source.hashes))
	next, furthest := 0, 0 // the index expected next; the first not reached yet
	for i, h := range target.hashes {
		index := -1
		if next < len(source.hashes) && source.hashes[next] == h {
			index = next
		} else if same := where()[h]; len(same) > 0 {
			index = nearest(same, furthest)
			if index < next {
				r.Rewinds++
				r.turn(at, target.offsets[i], source.offsets[index], next-index)
				if len(r.Again) < 20 {
					r.Again = append(r.Again, fmt.Sprintf("%s/%d: target offset %d begins again at source offset %d, %d records back",
						at.topic, at.partition, target.offsets[i], source.offsets[index], next-index))
				}
			}
		}
		switch {
		case index < 0:
			r.Foreign++
			r.tell("%s/%d: target offset %d equals no source record", at.topic, at.partition, target.offsets[i])
			continue
		case index > furthest:
			r.Disordered++
			r.turn(at, target.offsets[i], source.offsets[index], furthest-index)
			r.tell("%s/%d: target offset %d is source offset %d, but source offset %d had not come",
				at.topic, at.partition, target.offsets[i], source.offsets[index], source.offsets[furthest])
		}
		if covered[index] {
			r.Duplicates++
		}
		covered[index] = true
		next = index + 1
		furthest = max(furthest, next)
	}
	for i, there := range covered {
		if !there {
			r.Missing++
			r.tell("%s/%d: source offset %d is missing", at.topic, at.partition, source.offsets[i])
		}
	}
}

// nearest picks, of the source indexes that a target record equals, the last
// one before limit: where a copy that began again would be. If there is none, it
// is the first after.
func nearest(same []int, limit int) int {
	i, found := slices.BinarySearch(same, limit)
	if found || i == 0 {
		return same[i]
	}
	return same[i-1]
}

func (r *Report) turn(at place, target, source int64, back int) {
	if len(r.Turns) < 20 {
		r.Turns = append(r.Turns, Turn{Topic: at.topic, Partition: at.partition, Target: target, Source: source, Back: back})
	}
}

func (r *Report) tell(format string, args ...any) {
	if len(r.First) < 10 {
		r.First = append(r.First, fmt.Sprintf(format, args...))
	}
}

// seed is one for the process: hashes of the two sides are compared.
var seed = maphash.MakeSeed()

// hash is of everything that a copy must keep. Lengths go in, with null as -1.
func hash(k *kgo.Record) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var number [8]byte
	write := func(n int64) {
		binary.BigEndian.PutUint64(number[:], uint64(n))
		_, _ = h.Write(number[:])
	}
	field := func(b []byte) {
		if b == nil {
			write(-1)
			return
		}
		write(int64(len(b)))
		_, _ = h.Write(b)
	}
	write(k.Timestamp.UnixMilli())
	field(k.Key)
	field(k.Value)
	write(int64(len(k.Headers)))
	for _, header := range k.Headers {
		field([]byte(header.Key))
		field(header.Value)
	}
	return h.Sum64()
}

// stall is how long a reader waits for the next record.
const stall = 30 * time.Second

// span are the offsets that a partition holds: from the first to before end.
type span struct{ start, end int64 }

// bounds returns the spans of topics as they are at present; committed leaves
// out what open transactions hold back.
func bounds(ctx context.Context, opts []kgo.Opt, topics []string, committed bool) (map[place]span, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", topics, err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", topics, err)
	}
	list := admin.ListEndOffsets
	if committed {
		list = admin.ListCommittedOffsets
	}
	ends, err := list(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", topics, err)
	}
	spans := map[place]span{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		spans[place{end.Topic, end.Partition}] = span{start.Offset, end.Offset}
	})
	return spans, nil
}

// read reads what lies in the spans, aborted records among it unless only
// committed ones are wanted, and returns a sequence for each partition.
func read(ctx context.Context, opts []kgo.Opt, spans map[place]span, committed bool) (map[place]sequence, error) {
	out := map[place]sequence{}
	left := map[place]int64{}
	from := map[string]map[int32]kgo.Offset{}
	for at, s := range spans {
		out[at] = sequence{}
		if s.end > s.start {
			left[at] = s.end
			if from[at.topic] == nil {
				from[at.topic] = map[int32]kgo.Offset{}
			}
			from[at.topic][at.partition] = kgo.NewOffset().At(s.start)
		}
	}
	if len(left) == 0 {
		return out, nil
	}
	level := kgo.ReadUncommitted()
	if committed {
		level = kgo.ReadCommitted() // control records tell where aborted ones end
	}
	client, err := kgo.NewClient(append(slices.Clone(opts), kgo.ConsumePartitions(from), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(level), kgo.FetchMaxPartitionBytes(4<<20), kgo.FetchMaxWait(200*time.Millisecond))...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer client.Close()
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, stall)
		fetches := client.PollFetches(poll)
		err := fetches.Err0()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read: nothing for %s, up to %v is awaited: %w", stall, left, err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			at := place{k.Topic, k.Partition}
			end, reading := left[at]
			if !reading || k.Offset >= end {
				return // written after the end was asked for
			}
			if !k.Attrs.IsControl() {
				s := out[at]
				s.hashes, s.offsets = append(s.hashes, hash(k)), append(s.offsets, k.Offset)
				out[at] = s
			}
			if k.Offset+1 >= end {
				delete(left, at)
				client.PauseFetchPartitions(map[string][]int32{at.topic: {at.partition}})
			}
		})
	}
	return out, nil
}
