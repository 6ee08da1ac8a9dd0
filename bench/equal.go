package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// seed makes digests comparable within this process.
var seed = maphash.MakeSeed()

// digest is what a partition holds: how many records, and a hash of all of them
// in their order.
type digest struct {
	records int64
	hash    uint64
}

// add takes one more record in: key, value, headers, timestamp, with null kept
// apart from empty.
func (d *digest) add(r *kgo.Record) {
	d.records++
	mix := func(n uint64) { d.hash = (d.hash ^ n) * 0x9e3779b97f4a7c15 }
	field := func(b []byte) {
		size := uint64(len(b))
		if b == nil {
			size = 1 << 63
		}
		mix(size)
		mix(maphash.Bytes(seed, b))
	}
	mix(uint64(r.Timestamp.UnixMilli()))
	field(r.Key)
	field(r.Value)
	for _, h := range r.Headers {
		mix(maphash.String(seed, h.Key))
		field(h.Value)
	}
}

// digests reads as many records of each partition as there are.
func digests(ctx context.Context, b *kafka.Broker, topic string, counts []int64) ([]digest, error) {
	from := map[int32]kgo.Offset{}
	missing := int64(0)
	for p, n := range counts {
		if missing += n; n > 0 {
			from[int32(p)] = kgo.NewOffset().AtStart()
		}
	}
	client, err := b.Client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20),
	)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	defer client.Close()
	all := make([]digest, len(counts))
	for missing > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("read %s, %d records missing: %w", topic, missing, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all[r.Partition].add(r)
			missing--
		})
	}
	return all, nil
}

// compare says how a copy differs from its source: nothing if it does not.
func compare(source, copied []digest) string {
	var fewer, more, other int64
	for p := range source {
		switch n := copied[p].records - source[p].records; {
		case n < 0:
			fewer -= n
		case n > 0:
			more += n
		case copied[p] != source[p]:
			other++
		}
	}
	switch {
	case fewer > 0:
		return fmt.Sprintf("%d records missing", fewer)
	case more > 0:
		return fmt.Sprintf("%d records too many", more)
	case other > 0:
		return fmt.Sprintf("%d partitions differ", other)
	}
	return ""
}

// check compares a finished copy with its source: counts always, and what the
// records are, if it is to be thorough.
func (l *lab) check(ctx context.Context, j job, source []digest, thorough bool) (verdict string, err error) {
	upTo, _, err := ends(ctx, l.targetBroker, j.copy(), j.partitions, true)
	if err != nil {
		return "", err
	}
	counted, err := scan(ctx, l.target, j.copy(), upTo, true)
	if err != nil {
		return "", err
	}
	copied := make([]digest, len(source))
	if thorough {
		if copied, err = digests(ctx, l.target, j.copy(), counted.counts); err != nil {
			return "", err
		}
	} else {
		for p := range source {
			copied[p] = digest{counted.counts[p], source[p].hash}
		}
	}
	if difference := compare(source, copied); difference != "" {
		return "NO: " + difference, nil
	}
	if !thorough {
		return "counted", nil
	}
	return "yes", nil
}

// sequence is a value of 100 bytes for the record with a number, sent at a time.
func sequence(n int, sent int64) []byte {
	value := make([]byte, 100)
	binary.BigEndian.PutUint64(value, uint64(n))
	binary.BigEndian.PutUint64(value[8:], uint64(sent))
	return value
}
