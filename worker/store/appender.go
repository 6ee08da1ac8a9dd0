package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// AppenderOptions says where an Appender writes.
type AppenderOptions struct {
	Client []kgo.Opt // brokers and security
	Topic  string
	// Timeout bounds one Append. Default 30 s.
	Timeout time.Duration
}

// Appender writes the offset or the status topic with one idempotent producer, so
// that two entries of one key keep their order.
type Appender struct {
	options AppenderOptions
	ready   chan struct{} // closed once client is set
	ended   chan struct{} // closed once client is closed
	client  *kgo.Client
}

// NewAppender returns an appender that writes once Run is called.
func NewAppender(o AppenderOptions) *Appender {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return &Appender{options: o, ready: make(chan struct{}), ended: make(chan struct{})}
}

// Run keeps the producer until ctx ends. It is called once. Appends that are under way when
// ctx ends fail, so end their callers first.
func (a *Appender) Run(ctx context.Context) error {
	defer close(a.ended)
	client, err := kgo.NewClient(append(slices.Clone(a.options.Client),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(partitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
		kgo.MetadataMinAge(metadataAge),
		kgo.RecordDeliveryTimeout(a.options.Timeout),
	)...)
	if err != nil {
		return fmt.Errorf("producer for %s: %w", a.options.Topic, err)
	}
	a.client = client
	close(a.ready)
	<-ctx.Done()
	client.Close()
	return nil
}

// Append writes entries and returns when all of them are durable. After an error
// any of them may have been written or not. Those of one partition keep their order.
func (a *Appender) Append(ctx context.Context, entries []Entry) error {
	ctx, cancel := context.WithTimeout(ctx, a.options.Timeout)
	defer cancel()
	select {
	case <-a.ready:
	case <-a.ended:
		return fmt.Errorf("append to %s: the producer has ended", a.options.Topic)
	case <-ctx.Done():
		return fmt.Errorf("append to %s: %w", a.options.Topic, ctx.Err())
	}
	records := make([]*kgo.Record, len(entries))
	for i, e := range entries {
		records[i] = &kgo.Record{Topic: a.options.Topic, Key: e.Key, Value: e.Value, Partition: -1}
		if e.Pinned {
			records[i].Partition = e.Partition
		}
	}
	if err := produce(ctx, a.client, records); err != nil {
		return fmt.Errorf("append to %s: %w", a.options.Topic, err)
	}
	return nil
}

// produce writes records and waits for all of them, no longer than ctx: kgo itself does not give up a
// record that is in flight.
func produce(ctx context.Context, client *kgo.Client, records []*kgo.Record) error {
	outcomes := make(chan error, len(records))
	for _, r := range records {
		client.Produce(ctx, r, func(_ *kgo.Record, err error) { outcomes <- err })
	}
	var first error
	for range records {
		select {
		case err := <-outcomes:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			if first == nil {
				first = ctx.Err()
			}
			return first
		}
	}
	return first
}

// partitioner puts a record where Java's producer would (murmur2 of the key), unless
// its partition is set.
func partitioner() kgo.Partitioner {
	keyed := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		p := keyed.ForTopic(topic)
		return func(r *kgo.Record, n int) int {
			if r.Partition >= 0 {
				return int(r.Partition)
			}
			return p.Partition(r, n)
		}
	})
}
