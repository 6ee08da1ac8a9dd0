package rawcopy

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A transaction that cannot begin since the last one's markers are being written is
// no trouble: the same is sent again soon, without end, in the order that it has.
func TestBatchesWaitBrieflyForTheLastTransaction(t *testing.T) {
	t.Parallel()
	id, now := "t", time.UnixMilli(1_700_000_000_000)
	f := NewFlow(FlowOptions{RequestBytes: 1 << 20, InFlight: 5, TransactionalID: &id, Jitter: func() float64 { return 0.5 }})
	f.Begin(Identity{ID: 7})
	at := Partition{"a", 0}
	for token := range int64(2) {
		encoded, err := Encode([]Record{{Value: []byte("v")}}, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		f.Enqueue(at, [16]byte{1}, encoded[0].Batch, token)
	}
	f.TargetLeaders([]Leader{{Partition: at, TopicID: [16]byte{1}, Broker: 3}}, now)
	answer := func(s *Send, code int16) {
		resp := kmsg.NewPtrProduceResponse()
		topic, p := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
		topic.Topic, p.ErrorCode = at.Topic, code
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		f.Sent(s, resp, nil, now)
	}
	for attempt := range 50 {
		ready := f.Ready(now)
		if len(ready.Send) != 1 || len(ready.Events) != 0 {
			t.Fatalf("attempt %d: %d requests and events %v, want one request and nothing to tell", attempt, len(ready.Send), ready.Events)
		}
		if b := Batch(ready.Send[0].Request.Topics[0].Partitions[0].Records); b.BaseSequence() != 0 {
			t.Fatalf("attempt %d: sequence number %d, want 0", attempt, b.BaseSequence())
		}
		answer(ready.Send[0], kerr.ConcurrentTransactions.Code)
		wake := f.Ready(now).Wake
		if pause := wake.Sub(now); pause <= 0 || pause > 30*time.Millisecond {
			t.Fatalf("attempt %d: sent again after %v, want at once, nearly", attempt, pause)
		}
		now = wake
	}
	ready := f.Ready(now)
	for token := range int64(2) {
		if len(ready.Send) != 1 {
			t.Fatalf("%d requests", len(ready.Send))
		}
		answer(ready.Send[0], 0)
		ready = f.Ready(now)
		if events := ready.Events; len(events) != 1 || events[0].Kind != Acknowledged || events[0].Token != token {
			t.Fatalf("events %v, want the acknowledgement of %d", events, token)
		}
	}
}

func TestTinyBatchesOfSeveralCodecsAreCoalesced(t *testing.T) {
	t.Parallel()
	f := NewFlow(FlowOptions{Jitter: func() float64 { return 0.5 }})
	f.Add(LaneConfig{Source: Partition{"a", 0}, Target: Partition{"b", 0}, Codec: -1, Limits: Limits{MaxBytes: 1 << 20, Codecs: 0x1f}})
	l := f.lanes[0]
	for i := range int64(30) {
		encoded, err := Encode([]Record{{Offset: i, Value: []byte("v")}}, []int8{0, 4, 3, 1, 2}[i%5], 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		it := f.item()
		it.batch, it.first, it.upTo, it.count = encoded[0].Batch, i, i+1, 1
		l.push(it)
	}
	f.coalesce(l)
	if len(l.queue) != 1 || l.queue[0].job == nil {
		t.Fatalf("%d wait, want one job", len(l.queue))
	}
	l.queue[0].job.Run()
	f.Done(l.queue[0].job, time.UnixMilli(0))
	if len(l.queue) != 1 || l.queue[0].count != 30 || l.queue[0].upTo != 30 || l.queue[0].batch.Codec() != 4 {
		t.Fatalf("%d wait, the first with %d records up to %d and codec %d, want all 30 in one of codec 4", len(l.queue), l.queue[0].count, l.queue[0].upTo, l.queue[0].batch.Codec())
	}
}

// A broker says where a partition ends before it reads, so that what it answers with may end behind that.
func TestBatchBehindTheReportedEndIsDamagedOnlyIfItsCRCSaysSo(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		f := NewFlow(FlowOptions{Jitter: func() float64 { return 0.5 }})
		f.Add(LaneConfig{Source: Partition{"a", 0}, Target: Partition{"b", 0}, Codec: -1, Limits: Limits{MaxBytes: 1 << 20, Codecs: 0x1f}})
		l := f.lanes[0]
		encoded, err := Encode([]Record{{Offset: 0, Value: []byte("v")}, {Offset: 1, Value: []byte("w")}}, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b := encoded[0].Batch
		b.setBaseOffset(0)
		if damaged {
			b[atLastOffsetDelta+3] ^= 0x40
		}
		f.take(l, b, 1, &pin{refs: 1})
		if taken := len(l.queue) == 1 && l.fetchAt == 2; taken == damaged {
			t.Errorf("damaged %v: %d batches wait, fetching at %d", damaged, len(l.queue), l.fetchAt)
		}
	}
}
