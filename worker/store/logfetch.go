package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file fetches records and applies them.

// Bounds of a fetch: one is under way per broker, and its answer is held until it is applied.
const (
	fetchWait           = time.Second // the broker holds a fetch that finds nothing
	leastWait           = 10 * time.Millisecond
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 4 << 20
)

// fetcher is the fetching from one broker.
type fetcher struct {
	busy    bool
	fails   int
	retryAt time.Time
}

// startFetches sends a fetch to every broker that leads a partition and has none
// under way.
func (l *Log) startFetches(ctx context.Context, now time.Time) (next time.Time) {
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	ready := map[int32][]*partition{}
	until := map[int32]time.Time{} // when a partition of the broker is to be asked for again
	for _, p := range l.parts {
		switch {
		case p.leader < 0:
		case p.resolving:
			until[p.leader] = now
		case p.retryAt.After(now):
			later(p.retryAt)
			if t, ok := until[p.leader]; !ok || p.retryAt.Before(t) {
				until[p.leader] = p.retryAt
			}
		default:
			ready[p.leader] = append(ready[p.leader], p)
		}
	}
	for broker, parts := range ready {
		f := l.fetchers[broker]
		if f == nil {
			f = &fetcher{}
			l.fetchers[broker] = f
		}
		switch {
		case f.busy:
		case f.retryAt.After(now):
			later(f.retryAt)
		default:
			wait := fetchWait
			if t, ok := until[broker]; ok {
				wait = min(wait, max(t.Sub(now), leastWait))
			}
			l.fetch(ctx, broker, f, parts, wait)
		}
	}
	return next
}

// sent is what a fetch asked of a partition: an answer counts only if that still
// holds.
type sent struct {
	p        *partition
	epoch    int32
	position int64
}

// fetch asks broker for parts, and has it wait for records that long: while it does, it is asked for nothing else.
func (l *Log) fetch(ctx context.Context, broker int32, f *fetcher, parts []*partition, wait time.Duration) {
	f.busy = true
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(wait / time.Millisecond)
	req.MinBytes = 1
	req.MaxBytes = fetchBytes
	req.SessionEpoch = -1 // no session
	if l.options.ReadCommitted {
		req.IsolationLevel = 1
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = l.options.Topic, l.topicID
	asked := make(map[int32]sent, len(parts))
	for _, p := range parts {
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = p.id, p.position, fetchPartitionBytes
		fp.CurrentLeaderEpoch, fp.LastFetchedEpoch = p.epoch, p.last
		topic.Partitions = append(topic.Partitions, fp)
		if !p.confirmed {
			req.MaxWaitMillis = 0
		}
		asked[p.id] = sent{p, p.epoch, p.position}
	}
	req.Topics = append(req.Topics, topic)
	l.send(ctx, fetchWait+l.options.RequestTimeout, func(asking context.Context) func() error {
		resp, err := l.client.Broker(int(broker)).Request(asking, req)
		return func() error {
			f.busy = false
			fetched, _ := resp.(*kmsg.FetchResponse)
			if err == nil && fetched != nil {
				err = kerr.ErrorForCode(fetched.ErrorCode)
			}
			about := fmt.Sprintf("broker %d", broker)
			if err != nil {
				f.retryAt = time.Now().Add(backoff(f.fails, 100*time.Millisecond, 2*time.Second))
				f.fails++
				l.describe.stale = true
				l.trouble[about] = err
				l.forgetFetchers()
				return nil
			}
			f.fails = 0
			delete(l.trouble, about)
			return l.fetched(ctx, broker, asked, fetched)
		}
	})
}

// forgetFetchers drops brokers that lead nothing any more, with their trouble.
func (l *Log) forgetFetchers() {
	for broker, f := range l.fetchers {
		leads := false
		for _, p := range l.parts {
			leads = leads || p.leader == broker
		}
		if !leads {
			delete(l.trouble, fmt.Sprintf("broker %d", broker))
			if !f.busy {
				delete(l.fetchers, broker)
			}
		}
	}
}

func (l *Log) fetched(ctx context.Context, broker int32, asked map[int32]sent, resp *kmsg.FetchResponse) error {
	for _, topic := range resp.Topics {
		for i := range topic.Partitions {
			rp := &topic.Partitions[i]
			s, ok := asked[rp.Partition]
			// The leader may have changed while the broker held the fetch; then somebody else has
			// been asked, from the same position.
			if !ok || s.p.leader != broker || s.p.epoch != s.epoch || s.p.position != s.position || s.p.resolving {
				continue
			}
			err := l.fetchedPartition(s.p, rp)
			about := fmt.Sprintf("partition %d", s.p.id)
			switch {
			case fatal(err):
				return fmt.Errorf("partition %d: %w", s.p.id, err)
			case errors.Is(err, kerr.OffsetOutOfRange):
				l.resolve(ctx, s.p)
			case err != nil:
				l.trouble[about] = err
				l.describe.stale = true
				s.p.retryAt = time.Now().Add(backoff(s.p.fails, 100*time.Millisecond, 2*time.Second))
				s.p.fails++
			default:
				delete(l.trouble, about)
				s.p.fails = 0
			}
		}
	}
	return nil
}

// fetchedPartition applies what was fetched and moves the position behind it.
func (l *Log) fetchedPartition(p *partition, rp *kmsg.FetchResponseTopicPartition) error {
	if rp.ErrorCode == 0 && rp.DivergingEpoch.Epoch >= 0 {
		return fmt.Errorf("%w: read up to offset %d in epoch %d, and epoch %d ends at %d",
			ErrTruncated, p.position, p.last, rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset)
	}
	isolation := kgo.ReadUncommitted()
	if l.options.ReadCommitted {
		isolation = kgo.ReadCommitted()
	}
	// The position that comes back lies behind aborted records, markers and batches that
	// compaction has emptied.
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true,
		Offset:             p.position,
		IsolationLevel:     isolation,
		Topic:              l.options.Topic,
		Partition:          p.id,
	}, rp, l.decompressor, nil)
	if rp.ErrorCode != 0 {
		return got.Err
	}
	p.fresh, p.confirmed = false, true
	for _, r := range got.Records {
		l.apply(p, r)
	}
	before := p.position
	p.position = max(p.position, next)
	p.last = lastEpoch(rp.RecordBatches, p.position, p.last)
	if got.Err == nil && len(rp.RecordBatches) > 0 && p.position == before {
		return fmt.Errorf("%d bytes at offset %d hold no whole batch", len(rp.RecordBatches), before)
	}
	return got.Err
}

func (l *Log) apply(p *partition, r *kgo.Record) {
	record := Record{Partition: p.id, Offset: r.Offset, Timestamp: r.Timestamp}
	switch {
	case r.Attrs.IsControl():
		if len(r.Key) < 4 || binary.BigEndian.Uint16(r.Key[2:]) > 1 {
			return // neither abort (0) nor commit (1)
		}
		delete(p.open, r.ProducerID)
		record.Marker = true
	case r.Attrs.IsTransactional():
		p.open[r.ProducerID] = true
		fallthrough
	default:
		record.Key, record.Value = r.Key, r.Value
	}
	record.More = len(p.open) > 0
	l.options.Apply(record)
}

// lastEpoch finds the leader epoch of the last whole batch below position.
func lastEpoch(batches []byte, position int64, epoch int32) int32 {
	const header = 27 // up to and with the last offset delta of a batch of magic 2
	for len(batches) >= header && batches[16] == 2 {
		base := int64(binary.BigEndian.Uint64(batches))
		size := 12 + int64(int32(binary.BigEndian.Uint32(batches[8:])))
		if size < header || size > int64(len(batches)) || base+int64(int32(binary.BigEndian.Uint32(batches[23:]))) >= position {
			break
		}
		epoch = int32(binary.BigEndian.Uint32(batches[12:]))
		batches = batches[size:]
	}
	return epoch
}

// resolve finds out why a position is out of range: a log that does not begin at 0 is
// read from where it begins; a log that was being read must not move away.
func (l *Log) resolve(ctx context.Context, p *partition) {
	p.resolving = true
	broker, asked := p.leader, []*partition{p}
	request := func(timestamp int64) *kmsg.ListOffsetsRequest { return l.listRequest(asked, timestamp, false) }
	earliest, latest := request(-2), request(-1)
	l.send(ctx, 2*l.options.RequestTimeout, func(asking context.Context) func() error {
		starts, err := l.list(asking, broker, earliest)
		var ends map[int32]int64
		if err == nil {
			ends, err = l.list(asking, broker, latest)
		}
		return func() error {
			p.resolving = false
			start, end := starts[p.id], ends[p.id]
			switch {
			case err != nil:
				l.describe.stale = true
			case p.fresh:
				p.position = start
				return nil
			case p.position < start:
				return fmt.Errorf("partition %d: %w: the next was offset %d, and it begins at %d", p.id, ErrOverrun, p.position, start)
			case p.position > end:
				return fmt.Errorf("partition %d: %w: the next was offset %d, and it ends at %d", p.id, ErrTruncated, p.position, end)
			default:
				// The broker does not know the epoch of what we read last; it forgets epochs
				// with the records that are deleted.
				p.last = -1
				err = kerr.OffsetOutOfRange
			}
			l.trouble[fmt.Sprintf("partition %d", p.id)] = err
			p.retryAt = time.Now().Add(backoff(p.fails, 100*time.Millisecond, 2*time.Second))
			p.fails++
			return nil
		}
	})
}
