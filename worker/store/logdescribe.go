package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file finds out which topic a Log reads: its id, its partitions, who leads them.

// partition is where a Log stands in one partition.
type partition struct {
	id       int32
	leader   int32 // -1 while unknown
	epoch    int32 // of the leader; -1 if the brokers do not say
	position int64 // the next offset to read: all below has been applied
	fresh    bool  // nothing has been fetched, so position may be anywhere
	// confirmed says that this leader, in this epoch, has let us fetch at position: it has what we have
	// read. Until then, where it says that the log ends means nothing.
	confirmed bool
	last      int32 // epoch of the last batch below position; -1 if unknown

	open map[int64]bool // producers in the middle of a transaction, as read

	resolving bool // OFFSET_OUT_OF_RANGE is being looked into
	fails     int
	retryAt   time.Time
}

// describer is when to ask for the topic's metadata.
type describer struct {
	stale bool // there is something to learn
	busy  bool
	fails int
	after time.Time
}

func (l *Log) startDescribe(ctx context.Context, now time.Time) time.Time {
	d := &l.describe
	if !d.stale || d.busy {
		return time.Time{}
	}
	if d.after.After(now) {
		return d.after
	}
	d.busy = true
	l.send(ctx, l.options.RequestTimeout, func(asking context.Context) func() error {
		resp, err := l.metadataRequest().RequestWith(asking, l.client)
		return func() error {
			d.busy = false
			if err == nil {
				_, err = l.learn(resp)
			}
			if fatal(err) {
				return err
			}
			if err == nil && slices.ContainsFunc(l.parts, func(p *partition) bool { return p.leader < 0 }) {
				err = errors.New("not every partition has a leader")
			}
			if err != nil {
				l.trouble["metadata"] = err
				d.after = time.Now().Add(backoff(d.fails, 100*time.Millisecond, 2*time.Second))
				d.fails++
				return nil
			}
			delete(l.trouble, "metadata")
			d.stale, d.fails = false, 0
			// What made us ask must not make us ask again at once.
			d.after = time.Now().Add(backoff(0, 100*time.Millisecond, time.Second))
			return nil
		}
	})
	return time.Time{}
}

func (l *Log) metadataRequest() *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(l.options.Topic)
	req.Topics = append(req.Topics, topic)
	return req
}

// learn takes metadata in. changed says that partitions or leaders are not what
// they were.
func (l *Log) learn(resp *kmsg.MetadataResponse) (changed bool, err error) {
	if len(resp.Topics) != 1 {
		return false, fmt.Errorf("%d topics in the answer", len(resp.Topics))
	}
	topic := resp.Topics[0]
	if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
		return false, err
	}
	var none [16]byte // from brokers before Kafka 2.8
	switch {
	case l.topicID == none:
		l.topicID = topic.TopicID
	case topic.TopicID != none && topic.TopicID != l.topicID:
		return false, fmt.Errorf("%w: its id was %x and is %x", ErrRecreated, l.topicID, topic.TopicID)
	}
	for _, tp := range topic.Partitions {
		if tp.Partition < 0 || int(tp.Partition) >= len(topic.Partitions) {
			return false, fmt.Errorf("partition %d of %d in the answer", tp.Partition, len(topic.Partitions))
		}
	}
	if len(topic.Partitions) < len(l.parts) {
		return false, fmt.Errorf("%w: it had %d partitions and has %d", ErrRecreated, len(l.parts), len(topic.Partitions))
	}
	for id := len(l.parts); id < len(topic.Partitions); id++ {
		l.parts = append(l.parts, &partition{id: int32(id), leader: -1, epoch: -1, fresh: true, last: -1, open: map[int64]bool{}})
		changed = true
	}
	for _, tp := range topic.Partitions {
		p := l.parts[tp.Partition]
		leader := tp.Leader
		if tp.ErrorCode != 0 && !errors.Is(kerr.ErrorForCode(tp.ErrorCode), kerr.ReplicaNotAvailable) {
			leader = -1
		}
		// A broker that is behind must not lead us back to a former leader.
		if tp.LeaderEpoch < p.epoch || leader == p.leader && tp.LeaderEpoch == p.epoch {
			continue
		}
		p.leader, p.epoch, changed = leader, tp.LeaderEpoch, true
		p.confirmed, p.retryAt = false, time.Time{}
	}
	l.forgetFetchers()
	return changed, nil
}

// fatal says whether the log cannot be followed any further.
func fatal(err error) bool {
	return errors.Is(err, ErrRecreated) || errors.Is(err, ErrTruncated) || errors.Is(err, ErrOverrun)
}
