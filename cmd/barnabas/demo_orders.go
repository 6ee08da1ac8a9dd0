package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
)

// orders writes orders to the source: a load at first, then a stream.
type orders struct {
	client  *kgo.Client
	topic   string
	written atomic.Int64
	failed  atomic.Pointer[error]
}

// newOrders makes the topic and the client.
func newOrders(ctx context.Context, c *demoClusters, topic string, partitions int32) (*orders, error) {
	client, err := c.prodAdmin.client(ctx, c.prod, clientconfig.Producer, kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return nil, err
	}
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 3, nil, topic); err != nil {
		client.Close()
		return nil, fmt.Errorf("create topic %s: %w", topic, err)
	}
	return &orders{client: client, topic: topic}, nil
}

// maxAhead is how many orders wait for the broker at once.
const maxAhead = 20_000

// load writes n orders and tells how far it is.
func (o *orders) load(ctx context.Context, n int64, tell func(n, of int64)) error {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		o.write(ctx, rng, i)
		if i%maxAhead == maxAhead-1 {
			if err := o.flush(ctx); err != nil {
				return err
			}
			tell(i+1, n)
		}
	}
	return o.flush(ctx)
}

// stream writes perSecond orders a second until ctx ends; what it has begun to
// write is written then.
func (o *orders) stream(ctx context.Context, perSecond int) error {
	rng := rand.New(rand.NewPCG(3, 4))
	const slice = 20 * time.Millisecond
	ticker := time.NewTicker(slice)
	defer ticker.Stop()
	begin := time.Now()
	var n int64
	for {
		select {
		case <-ctx.Done():
			bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return o.flush(bound)
		case <-ticker.C:
		}
		for due := int64(time.Since(begin).Seconds() * float64(perSecond)); n < due; n++ {
			o.write(context.WithoutCancel(ctx), rng, n)
		}
	}
}

func (o *orders) flush(ctx context.Context) error {
	if err := o.client.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", o.topic, err)
	}
	if err := o.failed.Load(); err != nil {
		return fmt.Errorf("write to %s: %w", o.topic, *err)
	}
	return nil
}

var (
	shops  = []string{"Aachen", "Bergamo", "Cork", "Delft", "Évora", "Faro"}
	states = []string{"placed", "paid", "packed", "shipped"}
)

// write writes one order: most are small, some have no value (a cancelled order, for
// compaction) or no key, some have a header twice, as real topics have.
func (o *orders) write(ctx context.Context, rng *rand.Rand, i int64) {
	r := &kgo.Record{
		Topic: o.topic,
		Key:   fmt.Appendf(nil, "order-%07d", rng.Int64N(1_000_000)),
		Value: fmt.Appendf(nil, `{"order":%d,"shop":%q,"state":%q,"cents":%d,"at":"%s"}`, i, shops[rng.IntN(len(shops))],
			states[rng.IntN(len(states))], rng.IntN(100_000), time.Now().Format(time.RFC3339Nano)),
		Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "%016x", rng.Uint64())}},
	}
	switch rng.IntN(100) {
	case 0:
		r.Value = nil
	case 1:
		r.Key = nil
	case 2:
		r.Headers = append(r.Headers, r.Headers[0], kgo.RecordHeader{Key: "empty"})
	}
	o.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			o.failed.CompareAndSwap(nil, &err)
			return
		}
		o.written.Add(1)
	})
}
