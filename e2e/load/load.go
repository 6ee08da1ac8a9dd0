// Package load fills topics with records of every kind that a copy could get
// wrong: all codecs, sizes from nothing to hundreds of kilobytes, null and empty
// keys and values, headers with the same name, times in no order. The same seed
// makes the same records.
package load

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say what to write.
type Options struct {
	// Client are the options of the clients: where and as whom.
	Client []kgo.Opt
	// Topics and the partitions of each are written in turn.
	Topics     []string
	Partitions int
	Seed       uint64
	// Large allows values of up to 300 kB: one in 2,000.
	Large bool
	// Now gives records the time of writing, so that a copy shows how old it
	// is; otherwise times are as odd as everything else.
	Now bool
	// Linger is how long a client waits for a batch to fill; 0 is 5 ms. 1 ns makes
	// batches of single records at low rates.
	Linger time.Duration
}

// Generator writes records.
type Generator struct {
	o       Options
	random  *rand.Rand
	noise   []byte // values are pieces of it
	clients []*kgo.Client
	next    uint64
	failed  atomic.Pointer[error]
	acked   atomic.Int64
}

// codecs are those of Kafka; each has a client of its own.
var codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}

// New makes a generator. Close it.
func New(o Options) (*Generator, error) {
	g := &Generator{o: o, random: rand.New(rand.NewPCG(o.Seed, 0)), noise: make([]byte, 1<<20)} //nolint:gosec // no secret
	// Half noise, half zeros: codecs have something to do and batches still vary.
	for i := 0; i < len(g.noise); i += 16 {
		binary.LittleEndian.PutUint64(g.noise[i:], g.random.Uint64())
	}
	for _, codec := range codecs {
		opts := append([]kgo.Opt{
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(cmp.Or(o.Linger, 5*time.Millisecond)),
			kgo.ProducerBatchMaxBytes(900 << 10), kgo.MaxBufferedRecords(50_000), kgo.MaxBufferedBytes(32 << 20), kgo.ClientID("load"),
		}, o.Client...)
		client, err := kgo.NewClient(opts...)
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("load: %w", err)
		}
		g.clients = append(g.clients, client)
	}
	return g, nil
}

// Close ends the clients.
func (g *Generator) Close() {
	for _, c := range g.clients {
		c.Close()
	}
}

// Acked is how many records the brokers have taken.
func (g *Generator) Acked() int64 { return g.acked.Load() }

// Write writes n records and returns when the brokers have them all.
func (g *Generator) Write(ctx context.Context, n int) error {
	for range n {
		g.produce(ctx)
	}
	return g.flush(ctx)
}

// Run writes rate records a second until ctx ends, and returns when the brokers
// have them all. A broker that is away for less than a minute is waited for.
func (g *Generator) Run(ctx context.Context, rate int) error {
	// A client without a producer id gives up when its broker goes away.
	for _, c := range g.clients {
		if _, _, err := c.ProducerID(ctx); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin, written := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			return g.flush(end)
		case <-tick.C:
		}
		due := int(time.Since(begin).Seconds() * float64(rate))
		// After a pause of this process there is no burst.
		for written = max(written, due-rate); written < due; written++ {
			g.produce(context.WithoutCancel(ctx))
		}
	}
}

// produce hands one record to the client of its codec. Each partition changes
// the codec every hundred records.
func (g *Generator) produce(ctx context.Context) {
	n := g.next
	g.next++
	places := uint64(len(g.o.Topics) * g.o.Partitions)
	at := n % places
	k := g.record(n)
	k.Topic, k.Partition = g.o.Topics[at/uint64(g.o.Partitions)], int32(at%uint64(g.o.Partitions))
	client := g.clients[(at+n/places/100)%uint64(len(g.clients))]
	client.Produce(ctx, k, func(_ *kgo.Record, err error) {
		if err != nil {
			g.failed.CompareAndSwap(nil, &err)
			return
		}
		g.acked.Add(1)
	})
}

// record makes the record with a number: every one is different.
func (g *Generator) record(n uint64) *kgo.Record {
	k := &kgo.Record{Timestamp: time.Now()}
	if !g.o.Now {
		// A day in steps of a millisecond, back and forth.
		k.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(n^0x2aa)%86_400_000)
	}
	switch g.random.IntN(10) {
	case 0: // no key
	case 1:
		k.Key = []byte{}
	default:
		k.Key = fmt.Appendf(nil, "key-%d", n%5000)
	}
	size := 20 + g.random.IntN(200)
	switch r := g.random.IntN(2000); {
	case r == 0 && g.o.Large:
		size = g.random.IntN(300_000)
	case r < 20:
		size = g.random.IntN(10_000)
	}
	from := g.random.IntN(len(g.noise) - size)
	switch g.random.IntN(20) {
	case 0: // no value
	case 1:
		k.Value = []byte{}
	default:
		k.Value = g.noise[from : from+size]
	}
	// The number makes each record differ from all others.
	number := binary.BigEndian.AppendUint64(nil, n)
	k.Headers = []kgo.RecordHeader{{Key: "n", Value: number}}
	switch g.random.IntN(10) {
	case 0:
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: "n", Value: number}, kgo.RecordHeader{Key: "n"}, kgo.RecordHeader{Key: "", Value: []byte{}})
	case 1:
		k.Headers = append([]kgo.RecordHeader{{Key: "trace", Value: k.Key}, {Key: "ünï", Value: []byte{0xff}}}, k.Headers...)
	}
	return k
}

// flush waits until the brokers have everything.
func (g *Generator) flush(ctx context.Context) error {
	var group sync.WaitGroup
	errs := make([]error, len(g.clients))
	for i, c := range g.clients {
		group.Go(func() { errs[i] = c.Flush(ctx) })
	}
	group.Wait()
	if failed := g.failed.Load(); failed != nil {
		return fmt.Errorf("load: %w", *failed)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}
