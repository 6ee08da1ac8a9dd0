package rawcopy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/txn"
	"barnabas/e2e/kafka"
)

// rawLog is a real broker whose logs are read and written batch by batch.
type rawLog struct {
	t        *testing.T
	ctx      context.Context
	broker   *kafka.Broker // of all tests
	prefix   string        // of this test's topics
	client   *kgo.Client
	topics   map[string]kadm.TopicID
	producer Stamp
}

var shared struct {
	once   sync.Once
	broker *kafka.Broker
	dir    string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.broker != nil {
		shared.broker.Kill()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// startRawLog returns the broker, or skips the test where there is none.
func startRawLog(t *testing.T) *rawLog {
	t.Helper()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if shared.dir, shared.err = os.MkdirTemp("", "rawlog"); shared.err == nil {
			shared.broker, shared.err = kafka.Start(ctx, kafka.Spec{Name: "rawlog", Dir: shared.dir, Properties: map[string]string{"log.cleaner.backoff.ms": "200"}})
		}
	})
	broker, err := shared.broker, shared.err
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	client, err := broker.Client(kgo.MetadataMinAge(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, client)
	if err = errors.Join(err, kerr.ErrorForCode(resp.ErrorCode)); err != nil {
		t.Fatal(err)
	}
	return &rawLog{t: t, ctx: ctx, broker: broker, prefix: t.Name() + "-", client: client, topics: map[string]kadm.TopicID{}, producer: Stamp{ProducerID: resp.ProducerID, Epoch: resp.ProducerEpoch}}
}

// topic makes a topic of one partition.
func (l *rawLog) topic(name string, settings map[string]*string) string {
	l.t.Helper()
	return l.topicOf(name, 1, settings)
}

// full is the name that a topic has at the broker.
func (l *rawLog) full(topic string) string { return l.prefix + topic }

func (l *rawLog) topicOf(name string, partitions int32, settings map[string]*string) string {
	l.t.Helper()
	forever := "-1" // the vectors' timestamps are old
	settings = maps.Clone(settings)
	if settings == nil {
		settings = map[string]*string{}
	}
	settings["retention.ms"] = &forever
	made, err := kadm.NewClient(l.client).CreateTopic(l.ctx, partitions, 1, settings, l.full(name))
	if err != nil {
		l.t.Fatal(err)
	}
	l.topics[name] = made.ID
	for { // its leaders come up later
		listed, err := kadm.NewClient(l.client).ListEndOffsets(l.ctx, l.full(name))
		if err == nil {
			err = listed.Error()
		}
		if err == nil {
			return name
		}
		if l.ctx.Err() != nil {
			l.t.Fatal(err)
		}
	}
}

// fetch returns the batches of a topic as a consumer gets them that reads committed ones, once all
// transactions are over.
func (l *rawLog) fetch(topic string, offset int64) *kmsg.FetchResponseTopicPartition {
	l.t.Helper()
	return l.fetchFrom(topic, 0, offset)
}

func (l *rawLog) fetchFrom(topic string, partition int32, offset int64) *kmsg.FetchResponseTopicPartition {
	l.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MaxBytes, req.IsolationLevel = -1, 1000, 16<<20, 1
	rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	rt.Topic, rt.TopicID = l.full(topic), l.topics[topic]
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LogStartOffset = partition, offset, 16<<20, -1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	for {
		resp, err := l.client.Broker(1).Request(l.ctx, req)
		if err != nil {
			l.t.Fatal(err)
		}
		got := resp.(*kmsg.FetchResponse)
		if len(got.Topics) == 1 {
			if p := &got.Topics[0].Partitions[0]; p.ErrorCode == 0 && p.LastStableOffset == p.HighWatermark {
				return p
			}
		}
		if l.ctx.Err() != nil {
			l.t.Fatalf("%+v", got)
		}
	}
}

// append writes one batch as it is.
func (l *rawLog) append(topic string, b Batch) error {
	l.t.Helper()
	return l.appendTo(topic, 0, b)
}

func (l *rawLog) appendTo(topic string, partition int32, b Batch) error {
	l.t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rt.TopicID, rp.Partition, rp.Records = l.full(topic), l.topics[topic], partition, b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := l.client.Broker(1).Request(l.ctx, req)
	if err != nil {
		l.t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// stamp makes b the next batch of the producer's.
func (l *rawLog) stamp(b Batch) Batch {
	Rewrite(b, l.producer)
	l.producer.BaseSequence += b.Count()
	return b
}

// consume reads a topic to its end with another library.
func (l *rawLog) consume(topic string) []Record {
	l.t.Helper()
	ends, err := kadm.NewClient(l.client).ListEndOffsets(l.ctx, l.full(topic))
	if err != nil {
		l.t.Fatal(err)
	}
	end, _ := ends.Lookup(l.full(topic), 0)
	client, err := l.broker.Client(kgo.ConsumeTopics(l.full(topic)), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	var all []Record
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(l.ctx)
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if r.Attrs.IsControl() {
				return
			}
			o := Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				o.Headers = append(o.Headers, Header{[]byte(h.Key), h.Value})
			}
			all = append(all, o)
		})
	}
	return all
}

// write has a real producer write the vectors' records, once in each codec, then
// in transactions of which every other one is aborted.
func (l *rawLog) write(topic string) {
	l.t.Helper()
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, codec := range codecs {
		l.produce(topic, []kgo.Opt{kgo.ProducerBatchCompression(codec)}, func(*kgo.Client, func()) {})
		l.produce(topic, []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.TransactionalID(fmt.Sprint(l.full(topic), i))}, func(client *kgo.Client, write func()) {
			for n := range 4 {
				if err := client.BeginTransaction(); err != nil {
					l.t.Fatal(err)
				}
				write()
				if err := txn.End(l.ctx, client, kgo.TransactionEndTry(n%2 == 0)); err != nil {
					l.t.Fatal(err)
				}
			}
		})
	}
}

func (l *rawLog) produce(topic string, opts []kgo.Opt, transactions func(*kgo.Client, func())) {
	l.t.Helper()
	client, err := l.broker.Client(append(opts, kgo.DefaultProduceTopic(l.full(topic)))...)
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	written := false
	write := func() {
		written = true
		var records []*kgo.Record
		for _, r := range vectorRecords("magic2-none") {
			o := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
			for _, h := range r.Headers {
				o.Headers = append(o.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
			}
			records = append(records, o)
		}
		if err := client.ProduceSync(l.ctx, records...).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
	if transactions(client, write); !written {
		write()
	}
}

// copyRaw copies what is raw, decodes what has to be, and counts by reason.
func (l *rawLog) copyRaw(source, target string, limits Limits) (reasons [Reasons]int) {
	l.t.Helper()
	limits.MaxBytes, limits.Codecs = 1<<20, 0x1f
	a := &Aborter{}
	for next := int64(0); ; {
		fetched := l.fetch(source, next)
		if fetched.HighWatermark == next {
			return reasons
		}
		a.Begin(fetched.AbortedTransactions)
		for rest := fetched.RecordBatches; ; {
			b, more, err := Split(rest)
			if err != nil {
				l.t.Fatal(err)
			}
			if len(b) == 0 {
				break
			}
			rest = more
			verdict, reason := Judge(b, next, a, limits)
			reasons[reason]++
			next = b.LastOffset() + 1
			l.copy(target, b, verdict)
		}
	}
}

// copy copies one batch.
func (l *rawLog) copy(target string, b Batch, verdict Verdict) {
	l.t.Helper()
	switch verdict {
	case Raw:
		whole := slices.Clone(b)
		if err := l.append(target, l.stamp(b)); err != nil {
			l.t.Fatal(err)
		}
		if last := lastBatch(l.t, l.fetch(target, 0).RecordBatches); !SamePayload(whole, last) {
			l.t.Errorf("%d records with codec %d are not the same at the target", b.Count(), b.Codec())
		}
	case Recode:
		records, err := Decode(b, 0, much, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		encoded, err := Encode(records, b.Codec(), 20_000)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, e := range encoded {
			if err := l.append(target, l.stamp(e.Batch)); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

func lastBatch(t *testing.T, raw []byte) (last Batch) {
	t.Helper()
	for {
		b, rest, err := Split(raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return last
		}
		last, raw = b, rest
	}
}

// TestRealBrokerTakesCopies needs a real broker: it takes raw and encoded batches, its consumers read
// the same records, and it refuses what was damaged on the way.
func TestRealBrokerTakesCopies(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	appendTime := "LogAppendTime"
	for _, row := range []struct {
		name     string
		settings map[string]*string
		limits   Limits
		reasons  [Reasons]int
	}{
		{"raw", nil, Limits{}, [Reasons]int{reasonNone: 15, reasonControl: 20, reasonAborted: 10}},
		{"encoded", nil, Limits{Transform: true}, [Reasons]int{reasonTransform: 15, reasonControl: 20, reasonAborted: 10}},
		{"appended", map[string]*string{"message.timestamp.type": &appendTime}, Limits{KeepAppendTime: true}, [Reasons]int{reasonLogAppendTime: 15, reasonControl: 20, reasonAborted: 10}},
	} {
		source, target := l.topic(row.name+"-source", row.settings), l.topic(row.name+"-target", nil)
		l.write(source)
		l.producer.BaseSequence = 0 // of this partition
		got := l.copyRaw(source, target, row.limits)
		for reason, want := range row.reasons {
			// A producer that is held up may cut a batch in two; markers are as many as transactions.
			if got[reason] < want || got[reason] > want && (want == 0 || Reason(reason) == reasonControl) {
				t.Errorf("%s: by reason %v, want %v", row.name, got, row.reasons)
				break
			}
		}
		want := l.consume(source)
		for i := range want {
			want[i].Offset = int64(i)
		}
		if len(want) != 15*40 {
			t.Fatalf("%s: %d records at the source", row.name, len(want))
		}
		if d := difference(want, l.consume(target)); d != "" {
			t.Errorf("%s: %s", row.name, d)
		}
	}
	b := lastBatch(t, l.fetch("raw-target", 0).RecordBatches)
	for _, at := range []int{atLastOffsetDelta + 3, atMaxTimestamp + 7, atCount + 3, atRecords, len(b) - 1} {
		damaged := slices.Clone(b)
		damaged[at] ^= 4
		Rewrite(damaged, Stamp{ProducerID: -1, Epoch: -1, BaseSequence: -1})
		if err := l.append("raw-target", damaged); !errors.Is(err, kerr.CorruptMessage) {
			t.Errorf("byte %d is damaged: the broker says %v", at, err)
		}
	}
}
