package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// The ceilings run as processes of their own, so that what they use can be told
// apart: the bare loop moves batches and keeps no offsets, the bare fetch only
// reads them.

// Bounds of the bare loop.
const (
	loopQueue    = 32 << 20 // bytes fetched and not yet acknowledged
	loopRequest  = 4 << 20  // bytes of a produce request
	loopInFlight = 5        // produce requests; a broker keeps the order of one connection
)

// pipe takes batches from source to target, in order for each partition.
type pipe struct {
	source, target *kgo.Broker
	topic, copy    string

	mu      sync.Mutex
	changed *sync.Cond
	queues  [][]batch // by partition
	turn    int       // the partition that goes first into the next request
	waiting int       // bytes in queues
	held    int       // bytes in queues and in flight
	ended   bool
}

// bareLoop copies until ctx ends.
func bareLoop(ctx context.Context, sourceAddress, targetAddress, topic, copied string, partitions int) error {
	from, source, err := connect(ctx, sourceAddress)
	if err != nil {
		return err
	}
	defer from.Close()
	to, target, err := connect(ctx, targetAddress)
	if err != nil {
		return err
	}
	defer to.Close()
	p := &pipe{source: source, target: target, topic: topic, copy: copied, queues: make([][]batch, partitions)}
	p.changed = sync.NewCond(&p.mu)
	g, working := errgroup.WithContext(ctx)
	stop := context.AfterFunc(working, func() {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	g.Go(func() error { return p.fetch(working) })
	g.Go(func() error { return p.send(working, g) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("bare loop: %w", err)
	}
	return nil
}

// fetch fills the queues, and waits while there is enough in them.
func (p *pipe) fetch(ctx context.Context) error {
	r := newReader(p.source, p.topic, make([]int64, len(p.queues)))
	for ctx.Err() == nil {
		_, err := r.read(ctx, func(partition int32, b batch) {
			bare(b)
			p.mu.Lock()
			p.queues[partition] = append(p.queues[partition], b)
			p.waiting += len(b)
			p.held += len(b)
			p.mu.Unlock()
		})
		if err != nil {
			return err
		}
		p.changed.Broadcast()
		p.mu.Lock()
		for p.held > loopQueue && !p.ended {
			p.changed.Wait()
		}
		p.mu.Unlock()
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bare takes the producer's mark off a batch: base offset 0, no producer id,
// epoch and sequence.
func bare(b batch) {
	clear(b[:8])
	for i := atProducer; i < atCount; i++ {
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// produceByName is a produce request that names its topic, and tells when it has
// been put into its connection: kgo does so in a goroutine of each request,
// so that the next one must wait for that or the order is lost. Being of
// another type it also keeps its own Acks.
type produceByName struct {
	*kmsg.ProduceRequest
	written func()
}

func (produceByName) MaxVersion() int16 { return 12 }

// AppendTo implements kmsg.Request.
func (p produceByName) AppendTo(to []byte) []byte {
	to = p.ProduceRequest.AppendTo(to)
	p.written()
	return to
}

// send empties the queues: requests with one batch of a partition each, several
// on the way.
func (p *pipe) send(ctx context.Context, g *errgroup.Group) error {
	places := make(chan struct{}, loopInFlight)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		req, size := p.next()
		if req == nil {
			return nil
		}
		written := make(chan struct{})
		once := sync.OnceFunc(func() { close(written) })
		g.Go(func() error {
			defer once()
			answer, err := p.target.Request(ctx, produceByName{req, once})
			if err != nil {
				return fmt.Errorf("produce: %w", err)
			}
			p.mu.Lock()
			p.held -= size
			p.mu.Unlock()
			p.changed.Broadcast()
			<-places
			return produced(answer.(*kmsg.ProduceResponse))
		})
		<-written
	}
}

// next waits for batches and makes a request of them; nil at the end.
func (p *pipe) next() (*kmsg.ProduceRequest, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.waiting == 0 && !p.ended {
		p.changed.Wait()
	}
	if p.ended {
		return nil, 0
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 120_000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = p.copy
	size := 0
	for range p.queues {
		at := p.turn
		queue := p.queues[at]
		if len(queue) > 0 {
			if size > 0 && size+len(queue[0]) > loopRequest {
				break
			}
			of := kmsg.NewProduceRequestTopicPartition()
			of.Partition, of.Records = int32(at), queue[0]
			topic.Partitions = append(topic.Partitions, of)
			size += len(queue[0])
			queue[0] = nil
			p.queues[at] = queue[1:]
		}
		p.turn = (p.turn + 1) % len(p.queues)
	}
	p.waiting -= size
	req.Topics = append(req.Topics, topic)
	return req, size
}

func produced(res *kmsg.ProduceResponse) error {
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("produce %s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// fetchReport is what the bare fetch prints.
type fetchReport struct {
	Bytes, Batches, Records int64
	Seconds, CPUSeconds     float64
}

// bareFetch reads a topic from its beginning to its end, some times over.
func bareFetch(ctx context.Context, out io.Writer, address, topic string, partitions, times int) error {
	client, broker, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer client.Close()
	upTo, _, err := ends(ctx, broker, topic, int32(partitions), false)
	if err != nil {
		return err
	}
	var report fetchReport
	begin, used := time.Now(), ownCPU()
	for range times {
		r := newReader(broker, topic, make([]int64, partitions))
		for behind(r.next, upTo) {
			_, err := r.read(ctx, func(_ int32, b batch) {
				report.Bytes += int64(len(b))
				report.Batches++
				report.Records += b.count()
			})
			if err != nil {
				return err
			}
		}
	}
	report.Seconds, report.CPUSeconds = time.Since(begin).Seconds(), (ownCPU() - used).Seconds()
	return json.NewEncoder(out).Encode(report)
}
