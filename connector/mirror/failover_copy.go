package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topics looks which topics are copied, whether the target has them, and whether their replicas there are in sync.
func (f *failover) topics(ctx context.Context) error {
	source, err := f.source.metadata(ctx, nil)
	if err != nil {
		return err
	}
	if f.o.Internal.ClusterID != "" && source.clusterID == f.o.Internal.ClusterID {
		f.filter.reserved = map[string]bool{}
		for _, t := range f.o.Internal.Topics {
			f.filter.reserved[t] = true
		}
	}
	c := newFinding(CheckTopics)
	f.left = map[string]bool{}
	for _, p := range f.o.Live {
		if p.Partition < 0 {
			f.left[p.Topic] = true
			c.add(Failed, "%s is not copied: %s", p.Topic, p.Reason)
		}
	}
	wanted := map[string]int32{}
	for topic, n := range source.topics {
		copies, err := f.filter.Copies(topic)
		if err != nil {
			return &finalError{err}
		}
		if copies && !f.left[topic] {
			wanted[topic] = n
		}
	}
	if len(wanted) == 0 {
		c.add(Failed, "the source has no topic that the connector copies and may see")
	}
	var copies []string
	for topic := range wanted {
		copies = append(copies, f.remote(topic))
	}
	target, err := f.partitionsOf(ctx, copies)
	if err != nil {
		return err
	}
	f.wanted, f.there = wanted, map[string]int32{}
	health := newFinding(CheckTargetHealth)
	for _, topic := range slices.Sorted(maps.Keys(wanted)) {
		copied, ok := target[f.remote(topic)]
		f.there[f.remote(topic)] = int32(len(copied))
		switch {
		case !ok:
			c.add(Failed, "the target has no topic %s", f.remote(topic))
		case int32(len(copied)) < wanted[topic]:
			c.add(Failed, "%s has %d partitions, and %s at the source %d", f.remote(topic), len(copied), topic, wanted[topic])
		}
		for _, p := range copied {
			switch {
			case p.Leader < 0:
				health.add(Failed, "%s-%d has no leader", f.remote(topic), p.Partition)
			case len(p.ISR) < len(p.Replicas):
				health.add(Todo, "%s-%d has %d of %d replicas in sync", f.remote(topic), p.Partition, len(p.ISR), len(p.Replicas))
			}
		}
	}
	f.found(c, "the target has all of %d topics with all their partitions", len(wanted))
	f.found(health, "every partition of the target has a leader, and all its replicas are in sync")
	return nil
}

// partitionsOf describes the partitions of topics that are there.
func (f *failover) partitionsOf(ctx context.Context, topics []string) (map[string][]kmsg.MetadataResponseTopicPartition, error) {
	found := map[string][]kmsg.MetadataResponseTopicPartition{}
	for batch := range slices.Chunk(topics, batchSize) {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = false
		for _, name := range batch {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &name
			req.Topics = append(req.Topics, t)
		}
		resp, err := request[*kmsg.MetadataResponse](ctx, f.target, req)
		if err != nil {
			return nil, f.target.wrong("look up topics", err)
		}
		for _, t := range resp.Topics {
			switch err := kerr.ErrorForCode(t.ErrorCode); {
			case t.Topic == nil || is(err, kerr.UnknownTopicOrPartition):
			case err != nil:
				return nil, f.target.wrong("look up topic "+*t.Topic, err)
			default:
				found[*t.Topic] = t.Partitions
			}
		}
	}
	return found, nil
}

// copied compares the ends of the source with how far the copy is, and looks whether the source is still written to. How far the
// copy is is read first: what is written in between counts as not copied, and nothing is called safe that is not.
func (f *failover) copied(ctx context.Context) error {
	if f.wanted == nil {
		return fmt.Errorf("the topics of both clusters could not be compared")
	}
	var partitions []partition
	for _, topic := range slices.Sorted(maps.Keys(f.wanted)) {
		for id := range f.wanted[topic] {
			partitions = append(partitions, partition{topic, id})
		}
	}
	began, _, err := f.source.offsets(ctx, partitions, atEnd, false)
	if err != nil {
		return err
	}
	watched := time.Now()
	if err := sleep(ctx, f.o.Watch); err != nil {
		return err
	}
	if err := f.translator.Read(ctx); err != nil {
		return err
	}
	if err := f.translator.choose(ctx, partitions); err != nil {
		return err
	}
	committed := readsCommitted(f.s.written)
	ends, failed, err := f.source.offsets(ctx, partitions, atEnd, committed)
	if err != nil {
		return err
	}
	starts, _, err := f.source.offsets(ctx, partitions, atStart, false)
	if err != nil {
		return err
	}
	f.starts, f.books = starts, f.translator.known.books
	f.judgeCopies(partitions, starts, ends, failed)
	now := ends
	if committed {
		if now, _, err = f.source.offsets(ctx, partitions, atEnd, false); err != nil {
			return err
		}
	}
	f.producers(ctx, partitions, began, now, time.Since(watched))
	return nil
}

// position is the next offset of p to copy; false: nobody knows it.
func (f *failover) position(p partition, live map[partition]int64) (int64, bool) {
	at, known := live[p]
	for _, book := range f.translator.known.books[p] {
		if !known || book.State.Next > at {
			at, known = book.State.Next, true
		}
	}
	return at, known
}

func (f *failover) judgeCopies(partitions []partition, starts, ends map[partition]int64, failed map[partition]error) {
	live := map[partition]int64{}
	for _, p := range f.o.Live {
		if p.Partition >= 0 && p.CopiedOffset >= 0 {
			live[partition{p.Topic, p.Partition}] = p.CopiedOffset
		}
	}
	lag, loss := newFinding(CheckLag), newFinding(CheckLoss)
	byTopic, worst := map[string]*TopicLoss{}, int64(0)
	of := func(topic string) *TopicLoss {
		if byTopic[topic] == nil {
			byTopic[topic] = &TopicLoss{Topic: topic}
		}
		return byTopic[topic]
	}
	for _, p := range partitions {
		end, ok := ends[p]
		at, known := f.position(p, live)
		switch {
		case !ok:
			of(p.topic).Unknown++
			lag.add(Unclear, "%s: the source does not tell its end: %v", p, failed[p])
			continue
		case f.translator.known.unfit[p] != "":
			of(p.topic).Unknown++
			lag.add(Failed, "%s: %s", p, f.translator.known.unfit[p])
			continue
		case !known && end == starts[p]:
			at = end // it is empty
		case !known:
			of(p.topic).Unknown++
			lag.add(Unclear, "%s: neither a task nor offset runs tell how far it is copied", p)
			continue
		}
		behind := max(0, end-max(at, starts[p]))
		worst = max(worst, behind)
		if behind > 0 {
			of(p.topic).Records += behind
			of(p.topic).Partitions++
		}
		if behind > f.o.MaxLag {
			lag.add(Failed, "%s is %d records behind, more than %d", p, behind, f.o.MaxLag)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(byTopic)) {
		l := *byTopic[topic]
		f.plan.Loss = append(f.plan.Loss, l)
		if l.Unknown > 0 {
			loss.add(Unclear, "%s: it is not known what %d of its partitions would lose", topic, l.Unknown)
		}
		if l.Records > 0 {
			loss.add(Todo, "%s: %d records of %d partitions are not copied yet and would be lost", topic, l.Records, l.Partitions)
		}
	}
	f.found(lag, "no partition is more than %d records behind", worst)
	f.found(loss, "nothing would be lost: all %d partitions are copied to their ends", len(partitions))
}

// producers looks who still writes to the source: logs that have grown while they were watched, idempotent producers that
// have written lately, and open transactions (DescribeProducers, KIP-664).
func (f *failover) producers(ctx context.Context, partitions []partition, began, now map[partition]int64, took time.Duration) {
	c := newFinding(CheckProducers)
	grown, records := map[string]bool{}, int64(0)
	for p, end := range now {
		if at, ok := began[p]; ok && end > at {
			grown[p.topic] = true
			records += end - at
		}
	}
	if len(grown) > 0 {
		c.add(Todo, "%s grew by %d records within %s: stop their producers", some(slices.Sorted(maps.Keys(grown))), records, took.Round(time.Millisecond))
	}
	req := kmsg.NewPtrDescribeProducersRequest()
	for _, p := range partitions {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != p.topic {
			t := kmsg.NewDescribeProducersRequestTopic()
			t.Topic = p.topic
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, p.id)
	}
	resp, err := request[*kmsg.DescribeProducersResponse](ctx, f.source, req)
	if err != nil {
		c.add(Unclear, "only growth was looked for: %v", f.source.wrong("describe producers", err))
		f.found(c, "")
		return
	}
	f.lately(c, resp)
	f.found(c, "no log of the source has grown for %s, and no producer has written within %s", took.Round(time.Millisecond), f.o.Recent)
}

// lately judges the producers that brokers remember.
func (f *failover) lately(c *finding, resp *kmsg.DescribeProducersResponse) {
	since := time.Now().Add(-f.o.Recent)
	seen, refused := map[string]map[int64]bool{}, map[string]error{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				refused[t.Topic] = err
				continue
			}
			for _, a := range p.ActiveProducers {
				if a.CurrentTxnStartOffset >= 0 {
					c.add(Todo, "%s-%d: producer %d has an open transaction since offset %d", t.Topic, p.Partition, a.ProducerID, a.CurrentTxnStartOffset)
				}
				if time.UnixMilli(a.LastTimestamp).After(since) {
					if seen[t.Topic] == nil {
						seen[t.Topic] = map[int64]bool{}
					}
					seen[t.Topic][a.ProducerID] = true
				}
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(seen)) {
		c.add(Todo, "%s: %d producers have written within %s", topic, len(seen[topic]), f.o.Recent)
	}
	if len(refused) > 0 {
		names := slices.Sorted(maps.Keys(refused))
		c.add(Unclear, "producers of %s are not told: %v", some(names), refused[names[0]])
	}
}
