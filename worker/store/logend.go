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

// This file asks for the end of the log and tells when it has been reached.

// ends are the questions for the end of the log.
type ends struct {
	asking   [2]*round // being asked: for the interval, for ReadToEnd
	answered []*round  // not yet reached
	joining  []*waiter // who waits for a question to be asked
	fails    int
	after    time.Time // when the next question of the interval is due
	retryAt  time.Time // no question before that
	told     time.Time // the latest that CaughtUp was called with; zero before the first time
}

// maxAnswered bounds the answers that wait to be reached: while a long log is read, more of them tell
// nothing.
const maxAnswered = 8

// round is one question for the end of all partitions.
type round struct {
	sentAt  time.Time // before the first request was sent
	open    int       // requests without an answer
	ends    map[int32]int64
	err     error
	waiters []*waiter
}

// startRounds asks for the end when the interval is over or somebody waits.
func (l *Log) startRounds(ctx context.Context, now time.Time) time.Time {
	e := &l.ends
	for _, p := range l.parts {
		if p.leader < 0 {
			return time.Time{}
		}
	}
	if len(l.parts) == 0 {
		return time.Time{}
	}
	if e.retryAt.After(now) {
		return e.retryAt
	}
	// For ReadToEnd, the end is the high watermark: a transaction is acknowledged before its
	// marker stands in the partition, so the last stable offset may still lie before it.
	if len(e.joining) > 0 && e.asking[1] == nil {
		r := &round{waiters: e.joining}
		e.joining = nil
		l.ask(ctx, r, 1, false)
	}
	waiting := 0 // of the interval's own: those of ReadToEnd may wait for an open transaction
	for _, r := range e.answered {
		if len(r.waiters) == 0 {
			waiting++
		}
	}
	due := l.options.Interval > 0 || e.told.IsZero() && waiting == 0
	if !due || e.asking[0] != nil || waiting >= maxAnswered {
		return time.Time{}
	}
	if e.after.After(now) {
		return e.after
	}
	if l.options.Interval > 0 {
		e.after = now.Add(l.options.Interval)
	}
	l.ask(ctx, &round{}, 0, l.options.ReadCommitted)
	return e.after
}

// ask sends the question to every broker that leads a partition. Each is asked for its ends, and then
// for the topic's id: a broker knows of a recreated topic before it has its log, so if the id is ours
// after the answer, the answer was about our topic. (ListOffsets names topics only by name.)
func (l *Log) ask(ctx context.Context, r *round, slot int, committed bool) {
	byBroker := map[int32][]*partition{}
	from := map[int32]int64{}
	for _, p := range l.parts {
		byBroker[p.leader] = append(byBroker[p.leader], p)
		from[p.id] = p.position
	}
	l.ends.asking[slot] = r
	r.open, r.ends, r.sentAt = len(byBroker), map[int32]int64{}, time.Now()
	for broker, parts := range byBroker {
		req := l.listRequest(parts, -1, committed)
		l.send(ctx, l.options.RequestTimeout, func(asking context.Context) func() error {
			ends, err := l.list(asking, broker, req)
			var meta kmsg.Response
			if err == nil {
				meta, err = l.client.Broker(int(broker)).Request(asking, l.metadataRequest())
			}
			return func() error {
				described, _ := meta.(*kmsg.MetadataResponse)
				if err == nil && described != nil {
					err = l.confirm(described)
				}
				if fatal(err) {
					return err
				}
				for _, p := range parts {
					// Behind where we were when we asked: a leader that lags behind.
					if err == nil && ends[p.id] < from[p.id] && !l.parts[p.id].fresh {
						err = fmt.Errorf("partition %d was read up to offset %d, and broker %d says that it ends at %d", p.id, from[p.id], broker, ends[p.id])
					}
					r.ends[p.id] = ends[p.id]
				}
				r.err = errors.Join(r.err, err)
				if r.open--; r.open == 0 {
					l.answer(r, slot)
				}
				return nil
			}
		})
	}
}

// confirm fails if the topic is not what it was when the question was asked.
func (l *Log) confirm(resp *kmsg.MetadataResponse) error {
	changed, err := l.learn(resp)
	if err == nil && changed {
		err = errors.New("partitions or leaders have changed")
	}
	return err
}

// answer takes a round whose answers are all there.
func (l *Log) answer(r *round, slot int) {
	e := &l.ends
	e.asking[slot] = nil
	if r.err == nil {
		e.fails = 0
		delete(l.trouble, "end")
		e.answered = append(e.answered, r)
		return
	}
	l.trouble["end"] = r.err
	l.describe.stale = true
	e.retryAt = time.Now().Add(backoff(e.fails, 50*time.Millisecond, 400*time.Millisecond))
	e.fails++
	for _, w := range r.waiters {
		if w.ctx.Err() == nil {
			e.joining = append(e.joining, w)
		}
	}
}

// reach tells who is to know that an end has been reached.
func (l *Log) reach() {
	e := &l.ends
	sentAt := e.told
	e.answered = slices.DeleteFunc(e.answered, func(r *round) bool {
		if l.reached(r) {
			if r.sentAt.After(sentAt) {
				sentAt = r.sentAt
			}
			for _, w := range r.waiters {
				close(w.done)
			}
			return true
		}
		// Nobody waits any more.
		return len(r.waiters) > 0 && !slices.ContainsFunc(r.waiters, func(w *waiter) bool { return w.ctx.Err() == nil })
	})
	if !sentAt.After(e.told) {
		return
	}
	e.told = sentAt
	if l.options.CaughtUp != nil {
		l.options.CaughtUp(sentAt)
	}
}

func (l *Log) reached(r *round) bool {
	for _, p := range l.parts {
		end, asked := r.ends[p.id]
		if !asked || !p.confirmed || p.position < end {
			return false
		}
	}
	return true
}

// listRequest asks for an offset of each partition: -1 is the end, -2 the
// beginning.
func (l *Log) listRequest(parts []*partition, timestamp int64, committed bool) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.TimeoutMillis = 0 // for tiered logs, which ours are not; kgo would wait as long for a dead connection
	if committed {
		req.IsolationLevel = 1
	}
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = l.options.Topic
	for _, p := range parts {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.id, timestamp, p.epoch
		topic.Partitions = append(topic.Partitions, rp)
	}
	req.Topics = append(req.Topics, topic)
	return req
}

// list sends a listRequest; unless every partition has an answer, it is an error.
func (l *Log) list(ctx context.Context, broker int32, req *kmsg.ListOffsetsRequest) (map[int32]int64, error) {
	resp, err := l.client.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", broker, err)
	}
	listed, ok := resp.(*kmsg.ListOffsetsResponse)
	if !ok {
		return nil, fmt.Errorf("broker %d: answered with %T", broker, resp)
	}
	offsets := map[int32]int64{}
	for _, topic := range listed.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("partition %d: %w", p.Partition, err)
			}
			offsets[p.Partition] = p.Offset
		}
	}
	for _, p := range req.Topics[0].Partitions {
		if offset, ok := offsets[p.Partition]; !ok || offset < 0 {
			return nil, fmt.Errorf("broker %d: no offset of partition %d in the answer", broker, p.Partition)
		}
	}
	return offsets, nil
}
