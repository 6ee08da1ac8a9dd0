package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// keySize is the size of every record's key in bytes.
const keySize = 8

// profile is one kind of data.
type profile struct {
	name, title string
	partitions  int32
	records     int
	value       int  // bytes of a record's value
	noise       bool // all of it random; otherwise half of it
	codec       kgo.CompressionCodec
	batch       int // records of a batch
}

// profiles are the kinds of data that are measured. How many records each has
// keeps MirrorMaker 2 busy for some fifteen seconds on two processors.
// Batches of 16 to 64 KiB are what producers make under load.
func profiles() []profile {
	lz4, zstd, none := kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.NoCompression()
	return []profile{
		{name: "main", title: "1 KiB, lz4", partitions: 12, records: 1_500_000, value: 1024, codec: lz4, batch: 64},
		{name: "small", title: "100 B, zstd", partitions: 12, records: 4_000_000, value: 100, codec: zstd, batch: 500},
		{name: "large", title: "10 KiB, lz4", partitions: 12, records: 150_000, value: 10 << 10, codec: lz4, batch: 8},
		{name: "random", title: "1 KiB, random, uncompressed", partitions: 12, records: 1_000_000, value: 1024, noise: true, codec: none, batch: 64},
		{name: "batch1", title: "1 KiB, lz4, batches of 1", partitions: 12, records: 300_000, value: 1024, codec: lz4, batch: 1},
		{name: "batch5", title: "1 KiB, lz4, batches of 5", partitions: 12, records: 600_000, value: 1024, codec: lz4, batch: 5},
		{name: "wide", title: "1 KiB, lz4, 1,000 partitions", partitions: 1000, records: 1_000_000, value: 1024, codec: lz4, batch: 50},
	}
}

// payload is the bytes of all keys and values.
func (p profile) payload() int64 { return int64(p.records) * int64(keySize+p.value) }

// topic is where the data stands at the source.
func (p profile) topic() string { return "bench-" + p.name }

// counts is how many records each partition has.
func (p profile) counts() []int64 {
	each := make([]int64, p.partitions)
	for n := 0; n < p.records; n += p.batch {
		each[n/p.batch%int(p.partitions)] += int64(min(p.batch, p.records-n))
	}
	return each
}

// overhead is the most that a record takes besides key and value, and
// batchHeader what a batch takes besides its records.
const (
	overhead    = 24
	batchHeader = 61
)

// load writes the data: partition after partition a batch each.
func (p profile) load(ctx context.Context, b *kafka.Broker) error {
	// What fits is one batch and not a record more: the client fills batches up.
	most := batchHeader + p.batch*(overhead+keySize+p.value) + 16
	client, err := b.Client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(p.codec), kgo.ProducerBatchMaxBytes(int32(most)),
		kgo.ProducerLinger(time.Second), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(128<<20),
	)
	if err != nil {
		return fmt.Errorf("load %s: %w", p.name, err)
	}
	defer client.Close()
	var failed atomic.Pointer[error]
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	values := newValues(p)
	for n := range p.records {
		r := &kgo.Record{Topic: p.topic(), Partition: int32(n / p.batch % int(p.partitions)), Value: values.next()}
		r.Key = binary.BigEndian.AppendUint64(nil, uint64(n))
		client.Produce(ctx, r, done)
		if failed.Load() != nil {
			break
		}
	}
	err = client.Flush(ctx)
	if first := failed.Load(); first != nil {
		err = *first
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", p.name, err)
	}
	return nil
}

// values makes values that compress to about a half, or not at all.
type values struct {
	random *rand.Rand
	pool   []byte
	size   int
	noise  int // bytes of each that are random
}

// poolSize is so much more than a compressor's window that pieces of it rarely
// meet in one.
const poolSize = 32 << 20

func newValues(p profile) *values {
	v := &values{random: rand.New(rand.NewPCG(1, uint64(p.value))), pool: make([]byte, poolSize), size: p.value, noise: p.value / 2} //nolint:gosec // no secret
	if p.noise {
		v.noise = p.value
	}
	for i := 0; i < len(v.pool); i += 8 {
		binary.LittleEndian.PutUint64(v.pool[i:], v.random.Uint64())
	}
	return v
}

func (v *values) next() []byte {
	value := make([]byte, v.size)
	from := v.random.IntN(len(v.pool) - v.noise)
	copy(value, v.pool[from:from+v.noise])
	return value
}
