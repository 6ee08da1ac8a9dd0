package main

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/e2e/kafka"
)

// brokerID is the id of the only broker of each cluster.
const brokerID = 1

// batch is a whole record batch as it stands in a log.
type batch []byte

// Positions of fields in a batch of version 2.
const (
	atLength     = 8
	atCRC        = 17
	atAttributes = 21
	atLastDelta  = 23
	atProducer   = 43
	atCount      = 57
)

func (b batch) last() int64 {
	return int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[atLastDelta:]))
}
func (b batch) count() int64  { return int64(binary.BigEndian.Uint32(b[atCount:])) }
func (b batch) control() bool { return b[atAttributes+1]&0x20 != 0 }

// split cuts the first whole batch off; it is nil when none is left.
func split(records []byte) (batch, []byte) {
	if len(records) < batchHeader {
		return nil, nil
	}
	size := int64(binary.BigEndian.Uint32(records[atLength:])) + atLength + 4
	if size < batchHeader || size > int64(len(records)) {
		return nil, nil
	}
	return batch(records[:size]), records[size:]
}

// fetchByName is a fetch that names its topic: versions from 13 on want ids.
type fetchByName struct{ *kmsg.FetchRequest }

func (fetchByName) MaxVersion() int16 { return 12 }

// reader fetches batches of one topic from a broker, within a fetch session.
type reader struct {
	broker         *kgo.Broker
	topic          string
	next           []int64 // by partition
	committed      bool    // read_committed
	wait           int32   // milliseconds
	most, mostEach int32   // bytes of a fetch, and of one partition in it

	session, epoch int32
	moved          []int32 // partitions whose next the broker does not know
}

// connect returns a client and the only broker of its cluster.
func connect(ctx context.Context, address string) (*kgo.Client, *kgo.Broker, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ClientID("bench"), kgo.BrokerMaxReadBytes(256<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	// A broker must have been heard of before it can be asked by its id.
	if _, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client); err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return client, client.Broker(brokerID), nil
}

// newReader reads the partitions of a topic, the first at next[0], and so on.
func newReader(broker *kgo.Broker, topic string, next []int64) *reader {
	r := &reader{broker: broker, topic: topic, next: next, wait: 500, most: 4 << 20, mostEach: 1 << 20}
	r.reset()
	return r
}

// reset begins a new session.
func (r *reader) reset() {
	r.session, r.epoch, r.moved = 0, 0, r.moved[:0]
	for p := range r.next {
		r.moved = append(r.moved, int32(p))
	}
}

// read fetches once and hands over whole batches, in order for each partition.
// It returns the size of the response's batches in bytes.
func (r *reader) read(ctx context.Context, each func(partition int32, b batch)) (int, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = r.wait, 1, r.most
	req.SessionID, req.SessionEpoch = r.session, r.epoch
	if r.committed {
		req.IsolationLevel = 1
	}
	if len(r.moved) > 0 {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = r.topic
		for _, p := range r.moved {
			of := kmsg.NewFetchRequestTopicPartition()
			of.Partition, of.FetchOffset, of.PartitionMaxBytes = p, r.next[p], r.mostEach
			topic.Partitions = append(topic.Partitions, of)
		}
		req.Topics = append(req.Topics, topic)
	}
	answer, err := r.broker.Request(ctx, fetchByName{req})
	if err != nil {
		return 0, fmt.Errorf("fetch %s: %w", r.topic, err)
	}
	res := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
		if r.session == 0 {
			return 0, fmt.Errorf("fetch %s: %w", r.topic, err)
		}
		r.reset() // the broker has forgotten the session
		return 0, nil
	}
	r.session, r.moved = res.SessionID, r.moved[:0]
	r.epoch++
	size := 0
	for _, t := range res.Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			err := kerr.ErrorForCode(p.ErrorCode)
			if kerr.IsRetriable(err) { // nobody leads it yet
				r.moved = append(r.moved, p.Partition)
				if err := rest(ctx, lookForLast); err != nil {
					return size, err
				}
				continue
			}
			if err != nil {
				return size, fmt.Errorf("fetch %s-%d at %d: %w", r.topic, p.Partition, r.next[p.Partition], err)
			}
			size += len(p.RecordBatches)
			r.take(p, each)
		}
	}
	return size, nil
}

func (r *reader) take(p *kmsg.FetchResponseTopicPartition, each func(int32, batch)) {
	before := r.next[p.Partition]
	for b, rest := split(p.RecordBatches); b != nil; b, rest = split(rest) {
		if b.last() < r.next[p.Partition] {
			continue
		}
		r.next[p.Partition] = b.last() + 1
		each(p.Partition, b)
	}
	if r.next[p.Partition] != before {
		r.moved = append(r.moved, p.Partition)
	}
}

// ends asks for the offsets at the end of a topic's partitions; a partition that
// is not there, or not led yet, has 0, and it says how many those are. With
// committed it is the last stable offset.
func ends(ctx context.Context, broker *kgo.Broker, topic string, partitions int32, committed bool) (all []int64, missing int, err error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	if committed {
		req.IsolationLevel = 1
	}
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic = topic
	for p := range partitions {
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = p, -1
		of.Partitions = append(of.Partitions, one)
	}
	req.Topics = append(req.Topics, of)
	answer, err := broker.RetriableRequest(ctx, req)
	if err != nil {
		return nil, 0, fmt.Errorf("ends of %s: %w", topic, err)
	}
	all, missing = make([]int64, partitions), int(partitions)
	for _, t := range answer.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.Partition < partitions {
				all[p.Partition] = max(0, p.Offset)
				missing--
			}
		}
	}
	return all, missing, nil
}

// scanned is what the headers of a topic's batches tell.
type scanned struct {
	counts  []int64 // records by partition, without control records
	batches int64
}

// scan reads the headers of a topic from its beginning to the given ends.
func scan(ctx context.Context, b *kafka.Broker, topic string, upTo []int64, committed bool) (scanned, error) {
	client, broker, err := connect(ctx, b.Bootstrap())
	if err != nil {
		return scanned{}, err
	}
	defer client.Close()
	r := newReader(broker, topic, make([]int64, len(upTo)))
	r.committed, r.most = committed, 16<<20
	s := scanned{counts: make([]int64, len(upTo))}
	for behind(r.next, upTo) {
		_, err := r.read(ctx, func(p int32, b batch) {
			if !b.control() {
				s.counts[p] += b.count()
				s.batches++
			}
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func behind(next, upTo []int64) bool {
	for p := range next {
		if next[p] < upTo[p] {
			return true
		}
	}
	return false
}
