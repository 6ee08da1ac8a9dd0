package takeover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/rawcopy"
)

// Bounds of a follower: it holds two chunks, of which one is on its way.
const (
	chunkBytes     = 1 << 20 // a larger batch comes alone and whole
	fetchWait      = 200 * time.Millisecond
	requestTimeout = 10 * time.Second
	// stall bounds how long a follower gets nothing, of records that there must be, or errors that should
	// pass.
	stall = 30 * time.Second
)

// Partition names one partition of a topic.
type Partition struct {
	Topic string
	ID    int32
}

// String gives Kafka's spelling.
func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.ID) }

// follower reads a partition's batches in order, one fetch ahead of who takes them.
type follower struct {
	client    *kgo.Client
	partition Partition
	committed bool
	position  int64 // the next offset to fetch; of the goroutine of run
	end       int64 // nothing is fetched from here on; -1: no end
	chunks    chan chunk
	left      []rawcopy.Batch // of the last chunk taken
}

// chunk is what a fetch brought.
type chunk struct {
	batches []rawcopy.Batch
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
	high    int64 // what could be read up to when the broker answered
	next    int64 // the next offset to fetch
	err     error
}

func newFollower(client *kgo.Client, p Partition, committed bool, from, end int64) *follower {
	return &follower{client: client, partition: p, committed: committed, position: from, end: end, chunks: make(chan chunk)}
}

// run fetches until ctx ends, the end is reached or an error does not pass; the error is the last chunk.
func (f *follower) run(ctx context.Context) {
	defer close(f.chunks)
	pause, since, fresh := firstPause, time.Now(), false
	for f.end < 0 || f.position < f.end {
		c := f.fetch(ctx, fresh)
		if ctx.Err() != nil {
			return
		}
		fresh = c.err != nil && passes(c.err)
		stalled := time.Since(since) > stall
		switch {
		case len(c.batches) > 0:
			pause, since = firstPause, time.Now()
		case c.err == nil && f.end >= 0 && stalled:
			c.err = fmt.Errorf("fetch %s: nothing comes from offset %d on, and it ended at %d", f.partition, f.position, f.end)
		case c.err == nil || fresh && !stalled:
			if !rest(ctx, pause) {
				return
			}
			if pause = min(2*pause, maxPause); fresh {
				continue
			}
			if f.end < 0 {
				since = time.Now()
			}
		}
		select {
		case f.chunks <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// passes says whether an error may be over the next time: what Kafka calls retriable, and what is no answer.
func passes(err error) bool {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Retriable && !errors.Is(ke, kerr.OffsetOutOfRange) && !errors.Is(ke, kerr.CorruptMessage)
	}
	return !errors.Is(err, kgo.ErrClientClosed) && !errors.Is(err, rawcopy.ErrCorrupt) && !errors.Is(err, errNoSuchPartition)
}

var errNoSuchPartition = errors.New("there is no such partition")

// rest waits for about d; false: ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(time.Duration(float64(d) * (0.5 + rand.Float64()))) //nolint:gosec // jitter
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetch gets the next chunk. fresh: the leader as it was known did not answer well.
func (f *follower) fetch(ctx context.Context, fresh bool) chunk {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	at, err := lead(ctx, f.client, f.partition, fresh)
	if err != nil {
		return chunk{err: err}
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = int32(fetchWait/time.Millisecond), 1, chunkBytes, -1
	if f.committed {
		req.IsolationLevel = 1
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = f.partition.Topic, at.topicID
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = f.partition.ID, f.position, chunkBytes, at.epoch
	topic.Partitions = append(topic.Partitions, fp)
	req.Topics = append(req.Topics, topic)
	raw, err := f.client.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return chunk{err: fmt.Errorf("fetch %s at %d: %w", f.partition, f.position, err)}
	}
	c, err := f.take(raw.(*kmsg.FetchResponse)) //nolint:forcetypeassert // kgo answers in kind
	if err != nil {
		c.err = fmt.Errorf("fetch %s at %d: %w", f.partition, f.position, err)
	}
	return c
}

// take cuts a response into batches and moves the position behind them. If the rest cannot be cut, the batches
// before come first, and the error with the next fetch.
func (f *follower) take(resp *kmsg.FetchResponse) (chunk, error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return chunk{}, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return chunk{}, errors.New("the answer is not about the partition")
	}
	rp := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		return chunk{}, err
	}
	c := chunk{aborted: rp.AbortedTransactions, high: rp.HighWatermark}
	if f.committed {
		c.high = rp.LastStableOffset
	}
	rest := rp.RecordBatches
	for {
		b, more, err := rawcopy.Split(rest)
		if err != nil && len(c.batches) == 0 {
			return chunk{}, err
		}
		if err != nil || b == nil {
			break
		}
		rest = more
		if b.LastOffset() < f.position {
			continue // a fetch from the middle of a compressed set of old format
		}
		f.position = b.LastOffset() + 1
		c.batches = append(c.batches, b)
	}
	if len(c.batches) == 0 && len(rp.RecordBatches) > 0 {
		return chunk{}, fmt.Errorf("%d bytes hold no whole batch", len(rp.RecordBatches))
	}
	c.next = f.position
	return c, nil
}

// place is who leads a partition.
type place struct {
	leader, epoch int32
	topicID       [16]byte
}

// lead finds the leader, from the client's memory unless fresh.
func lead(ctx context.Context, client *kgo.Client, p Partition, fresh bool) (place, error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(p.Topic)
	req.Topics = append(req.Topics, topic)
	age := time.Minute
	if fresh {
		age = time.Nanosecond
	}
	resp, err := client.RequestCachedMetadata(ctx, req, age)
	if err != nil {
		return place{}, fmt.Errorf("leader of %s: %w", p, err)
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return place{}, fmt.Errorf("leader of %s: %w", p, err)
		}
		for _, tp := range t.Partitions {
			if tp.Partition != p.ID {
				continue
			}
			if tp.Leader < 0 {
				return place{}, fmt.Errorf("leader of %s: %w", p, kerr.LeaderNotAvailable)
			}
			return place{tp.Leader, tp.LeaderEpoch, t.TopicID}, nil
		}
	}
	return place{}, fmt.Errorf("leader of %s: %w", p, errNoSuchPartition)
}

// The timestamps that stand for the beginning and the end of a log.
const (
	atStart = -2
	atEnd   = -1
)

// offsetAt asks where a partition's log begins or ends, committed or not, until ctx ends.
func offsetAt(ctx context.Context, client *kgo.Client, p Partition, timestamp int64) (int64, error) {
	pause, fresh := firstPause, false
	for {
		offset, err := listOffset(ctx, client, p, timestamp, fresh)
		if err == nil || !passes(err) {
			return offset, err
		}
		if !rest(ctx, pause) {
			return -1, fmt.Errorf("%w (%w)", err, ctx.Err())
		}
		pause, fresh = min(2*pause, maxPause), true
	}
}

func listOffset(ctx context.Context, client *kgo.Client, p Partition, timestamp int64, fresh bool) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	at, err := lead(ctx, client, p, fresh)
	if err != nil {
		return -1, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = p.Topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.ID, timestamp, at.epoch
	topic.Partitions = append(topic.Partitions, rp)
	req.Topics = append(req.Topics, topic)
	raw, err := client.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return -1, fmt.Errorf("list offsets of %s: %w", p, err)
	}
	resp := raw.(*kmsg.ListOffsetsResponse) //nolint:forcetypeassert // kgo answers in kind
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, fmt.Errorf("list offsets of %s: the answer is not about the partition", p)
	}
	listed := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(listed.ErrorCode); err != nil {
		return -1, fmt.Errorf("list offsets of %s: %w", p, err)
	}
	return listed.Offset, nil
}
