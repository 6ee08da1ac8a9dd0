package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/rawcopy"
	"barnabas/connector/transform"
)

// verifySide is one of the two clusters that are compared.
type verifySide struct {
	// plan is what copies of this side's records go through; nil: nothing.
	plan      func(topic string) transform.Plan
	name      string // in errors
	client    *kgo.Client
	committed bool // only committed records are looked at
	pace      *pace
	bytes     *atomic.Int64
	cluster   string        // its id
	mark      *rawcopy.Mark // what the copy leaves on this side's records; nil: nothing

	mu     sync.Mutex
	topics map[string]*topicPlace
}

// topicPlace is where a topic's partitions are.
type topicPlace struct {
	id      [16]byte
	leaders map[int32]int32
}

// verifyTimeout bounds one request with its retries.
const verifyTimeout = 30 * time.Second

// place asks for a topic. One that is not there is no error: it has no id and
// no leaders.
func (s *verifySide) place(ctx context.Context, topic string, again bool) (*topicPlace, error) {
	s.mu.Lock()
	known := s.topics[topic]
	s.mu.Unlock()
	if known != nil && !again {
		return known, nil
	}
	if err := s.locate(ctx, []string{topic}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[topic], nil
}

// locate asks where topics are.
func (s *verifySide) locate(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("look up topics: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if resp.ClusterID != nil {
		s.cluster = *resp.ClusterID
	}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && classify(err) != passing {
			return fmt.Errorf("look up topic %s: %w", *t.Topic, err)
		}
		place := &topicPlace{id: t.TopicID, leaders: map[int32]int32{}}
		for _, p := range t.Partitions {
			place.leaders[p.Partition] = p.Leader
		}
		s.topics[*t.Topic] = place
	}
	return nil
}

// offset asks for the offset at a timestamp, atStart or atEnd. What is not
// there, or has no such record, ends at -1.
func (s *verifySide) offset(ctx context.Context, at partition, timestamp int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	if s.committed {
		req.IsolationLevel = 1
	}
	t, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	t.Topic, p.Partition, p.Timestamp, p.CurrentLeaderEpoch = at.topic, at.id, timestamp, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return 0, fmt.Errorf("ask for an offset: %w", err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, nil
	}
	answer := resp.Topics[0].Partitions[0]
	err = kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return -1, nil
	}
	return answer.Offset, err
}

// fetch asks for the records of a partition from an offset on, at most about
// ask bytes. It tries again for a while.
func (s *verifySide) fetch(ctx context.Context, client *kgo.Client, at partition, from int64, ask int32) (*kmsg.FetchResponseTopicPartition, error) {
	const patience = time.Minute
	giveUp := time.Now().Add(patience)
	for failures := 0; ; {
		if err := s.pace.reserve(ctx, int64(ask)); err != nil {
			return nil, err
		}
		p, err := s.fetchOnce(ctx, client, at, from, ask, failures > 0)
		got := int64(0)
		if p != nil {
			got = int64(len(p.RecordBatches))
		}
		s.bytes.Add(got)
		s.pace.correct(got - int64(ask))
		if err == nil || errors.Is(err, kerr.OffsetOutOfRange) || classify(err) != passing || time.Now().After(giveUp) {
			return p, err
		}
		failures++
		if err := sleep(ctx, backoff(failures, 100*time.Millisecond, 5*time.Second)); err != nil {
			return nil, err
		}
	}
}

func (s *verifySide) fetchOnce(ctx context.Context, client *kgo.Client, at partition, from int64, ask int32, again bool) (*kmsg.FetchResponseTopicPartition, error) {
	place, err := s.place(ctx, at.topic, again)
	if err != nil {
		return nil, err
	}
	leader, ok := place.leaders[at.id]
	if !ok || leader < 0 {
		return nil, kerr.LeaderNotAvailable
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 250, 1, ask
	if s.committed {
		req.IsolationLevel = 1
	}
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, t.TopicID = at.topic, place.id
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.LogStartOffset = at.id, from, ask, -1, -1, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer, err := client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("answer of type %T", answer)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, kerr.UnknownTopicOrPartition
	}
	got := &resp.Topics[0].Partitions[0]
	return got, kerr.ErrorForCode(got.ErrorCode)
}

// pace keeps both sides together within some bytes a second. Nil keeps nothing.
type pace struct {
	perSecond int64
	mu        sync.Mutex
	free      time.Time // when all that was reserved has been used up
}

// reserve waits until n bytes may come.
func (p *pace) reserve(ctx context.Context, n int64) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(p.takes(n))
	p.mu.Unlock()
	return sleep(ctx, wait)
}

// correct says by how much what came differs from what was reserved.
func (p *pace) correct(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = p.free.Add(p.takes(n))
}

func (p *pace) takes(n int64) time.Duration {
	return time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second))
}

// ask is how much may be fetched at once, so that the pace is even.
func (p *pace) ask(most int32) int32 {
	if p == nil {
		return most
	}
	return int32(min(int64(most), max(64<<10, p.perSecond/10)))
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// transformOf is what the records of a topic went through before they were written to the other side; nil: nothing.
func (s *verifySide) transformOf(topic string) func(*rawcopy.Record) (bool, error) {
	if s.plan == nil {
		return nil
	}
	if plan := s.plan(topic); plan.Decodes() {
		return plan.Apply
	}
	return nil
}
