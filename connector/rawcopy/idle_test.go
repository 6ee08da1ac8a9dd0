package rawcopy

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that does not know a producer takes any sequence number. So behind its first batch, and the first one after
// a long silence, nothing may be on the way.
func TestFirstBatchAfterALongSilenceGoesAlone(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(vectorTime)
	f := NewFlow(FlowOptions{
		FetchBytes: 1 << 20, FetchPartitionBytes: 1 << 20, MinBytes: 1, MaxWait: time.Second, RequestBytes: 1 << 20, InFlight: 5, Timeout: time.Second,
		Jitter: func() float64 { return 0.5 },
	})
	f.Allow(8 << 20)
	f.Begin(Identity{ID: 7})
	source, target := Partition{"t", 0}, Partition{"B.t", 0}
	f.Add(LaneConfig{Source: source, Target: target, Codec: -1, Limits: Limits{MaxBytes: 1 << 20, Codecs: 0x1f}})
	f.SourceLeaders([]Leader{{Partition: source, TopicID: [16]byte{1}, Broker: 1}}, now)
	f.TargetLeaders([]Leader{{Partition: target, TopicID: [16]byte{2}, Broker: 1}}, now)
	offset := int64(0)
	var fetch *Fetch
	next := func() []*Send {
		ready := f.Ready(now)
		if len(ready.Fetch) > 0 {
			fetch = ready.Fetch[0]
		}
		return ready.Send
	}
	// fetched brings n batches of one record.
	fetched := func(n int) {
		r := kmsg.NewFetchResponseTopicPartition()
		r.DivergingEpoch.Epoch, r.DivergingEpoch.EndOffset, r.PreferredReadReplica = -1, -1, -1
		for range n {
			b := written(t, int(offset), 1, codecNone)
			b.setBaseOffset(offset)
			r.RecordBatches = append(r.RecordBatches, b...)
			offset++
		}
		r.HighWatermark, r.LastStableOffset = offset, offset
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = "t", append(topic.Partitions, r)
		resp := kmsg.NewPtrFetchResponse()
		resp.Topics = append(resp.Topics, topic)
		f.Fetched(fetch, resp, nil, now)
	}
	acknowledge := func(sends []*Send) {
		for _, s := range sends {
			r := kmsg.NewProduceResponseTopicPartition()
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.Partitions = "B.t", append(topic.Partitions, r)
			resp := kmsg.NewPtrProduceResponse()
			resp.Topics = append(resp.Topics, topic)
			f.Sent(s, resp, nil, now)
		}
	}
	next()
	for _, step := range []struct {
		what    string
		silence time.Duration
		first   int
	}{{"the first of all", 0, 1}, {"soon after", time.Second, 3}, {"after an hour", time.Hour, 1}} {
		now = now.Add(step.silence)
		fetched(3)
		sends := next()
		if len(sends) != step.first {
			t.Errorf("%s: %d batches are sent at once, want %d", step.what, len(sends), step.first)
		}
		for sent := len(sends); sent < 3; sent += len(sends) {
			acknowledge(sends)
			if sends = next(); len(sends) == 0 {
				t.Fatalf("%s: %d of 3 batches are sent", step.what, sent)
			}
		}
		acknowledge(sends)
		next()
	}
}
