package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// tail reads partition 0 of a topic that a connector keeps beside the copies, to its end, and again from there when asked
// again. It is not safe for concurrent use.
type tail struct {
	cluster  *cluster
	topic    string
	id       [16]byte
	position int64 // all below has been read
	// forget is called when the topic is another one than before: what was read says nothing any more.
	forget func()

	decompressor kgo.Decompressor
}

// errNoTopic says that there is nothing to read.
var errNoTopic = errors.New("there is no such topic")

// Bounds of a tail's requests.
const (
	tailWait  = 500 * time.Millisecond
	tailBytes = 4 << 20
)

// read calls take for every record that was committed before the call and not read yet. What passes is for the caller to
// try again: what was read is not read twice.
func (t *tail) read(ctx context.Context, take func(*kgo.Record)) error {
	topics, err := t.cluster.describe(ctx, []string{t.topic})
	if err != nil {
		return err
	}
	found, ok := topics[t.topic]
	if !ok {
		return fmt.Errorf("read %s on the %s cluster: %w", t.topic, t.cluster.side.cluster, errNoTopic)
	}
	if t.id != found.id {
		if t.id != [16]byte{} && t.forget != nil {
			t.forget()
		}
		t.id, t.position = found.id, 0
	}
	at := partition{topic: t.topic}
	ends, failed, err := t.cluster.offsets(ctx, []partition{at}, atEnd, true)
	if err == nil {
		err = failed[at]
	}
	if err != nil {
		return t.cluster.wrong("read "+t.topic, err)
	}
	for t.position < ends[at] {
		if err := t.fetch(ctx, found.leaders[0], take); err != nil {
			return t.cluster.wrong("read "+t.topic, err)
		}
	}
	return nil
}

// fetch sends one fetch.
func (t *tail) fetch(ctx context.Context, leader int32, take func(*kgo.Record)) error {
	if t.decompressor == nil {
		t.decompressor = kgo.DefaultDecompressor()
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(tailWait/time.Millisecond), 1, tailBytes
	req.SessionEpoch, req.IsolationLevel = -1, 1
	topic, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, topic.TopicID = t.topic, t.id
	p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = t.position, tailBytes, -1
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)

	ctx, cancel := t.cluster.dials.context(ctx, t.cluster.timeout)
	defer cancel()
	answer, err := t.cluster.client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return fmt.Errorf("answer of type %T", answer)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("an answer about %d topics", len(resp.Topics))
	}
	return t.take(ctx, &resp.Topics[0].Partitions[0], take)
}

// take hands on what was fetched.
func (t *tail) take(ctx context.Context, r *kmsg.FetchResponseTopicPartition, take func(*kgo.Record)) error {
	switch err := kerr.ErrorForCode(r.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange): // the log begins behind 0, or was cut
		at := partition{topic: t.topic}
		starts, failed, err := t.cluster.offsets(ctx, []partition{at}, atStart, false)
		if err == nil {
			err = failed[at]
		}
		if err == nil {
			t.position = starts[at]
		}
		return err
	case err != nil:
		return err
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: t.position, IsolationLevel: kgo.ReadCommitted(), Topic: t.topic,
	}, r, t.decompressor, nil)
	for _, rec := range got.Records {
		take(rec)
	}
	stuck := len(r.RecordBatches) > 0 && next <= t.position
	t.position = max(t.position, next)
	if got.Err == nil && stuck {
		return fmt.Errorf("%d bytes at offset %d hold no whole batch", len(r.RecordBatches), t.position)
	}
	return got.Err
}
