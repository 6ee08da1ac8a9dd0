package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/rawcopy"
	"barnabas/e2e/kafka"
)

// twoBrokers are real clusters to compare.
type twoBrokers struct {
	source, target openClient
}

// startTwoBrokers starts them, or skips the test where Kafka is not installed.
func startTwoBrokers(t testing.TB) twoBrokers {
	t.Helper()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var opens [2]openClient
	for i, name := range []string{"source", "target"} {
		b, err := kafka.Start(ctx, kafka.Spec{Name: name, Dir: t.TempDir(), Properties: map[string]string{"log.cleaner.backoff.ms": "100"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Kill)
		opens[i] = func(extra ...kgo.Opt) (*kgo.Client, error) {
			return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(b.Address(kafka.Plain), ",")...)}, extra...)...)
		}
	}
	return twoBrokers{opens[0], opens[1]}
}

// makeTopic makes a topic and returns when it has leaders.
func makeTopic(t testing.TB, open openClient, topic string, partitions int32, settings map[string]*string) {
	t.Helper()
	cl, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, partitions, 1, settings, topic); err != nil {
		t.Fatal(err)
	}
	for {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err == nil && ends.Error() == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err, ends.Error())
		}
	}
}

// copyRaw copies committed batches from offset to offset as a raw copy does.
func copyRaw(t testing.TB, b twoBrokers, topic, remote string, partition int32, from int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var clients [2]*kgo.Client
	var ids [2][16]byte
	var leaders [2]int
	for i, side := range []struct {
		open  openClient
		topic string
	}{{b.source, topic}, {b.target, remote}} {
		cl, err := side.open()
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		m, err := kadm.NewClient(cl).Metadata(ctx, side.topic)
		if err != nil {
			t.Fatal(err)
		}
		clients[i], ids[i], leaders[i] = cl, m.Topics[side.topic].ID, int(m.Topics[side.topic].Partitions[partition].Leader)
	}
	for {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxBytes, req.IsolationLevel = -1, 1<<20, 1
		rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		rt.Topic, rt.TopicID = topic, ids[0]
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LogStartOffset = partition, from, 1<<20, -1, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := clients[0].Broker(leaders[0]).Request(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		fetched := resp.(*kmsg.FetchResponse)
		if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil || len(fetched.Topics) == 0 {
			t.Fatal(err, fetched)
		}
		got := fetched.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
			t.Fatal(err)
		}
		rest := got.RecordBatches
		var aborter rawcopy.Aborter
		aborter.Begin(got.AbortedTransactions)
		for {
			var batch rawcopy.Batch
			if batch, rest, err = rawcopy.Split(rest); err != nil {
				t.Fatal(err)
			}
			if len(batch) == 0 {
				break
			}
			verdict, _ := rawcopy.Judge(batch, from, &aborter, rawcopy.Limits{Codecs: 0x1f})
			from = batch.LastOffset() + 1
			if verdict == rawcopy.Skip {
				continue
			}
			rawcopy.Rewrite(batch, rawcopy.Stamp{ProducerID: -1, Epoch: -1, BaseSequence: -1})
			produceBatch(ctx, t, clients[1].Broker(leaders[1]), remote, ids[1], partition, batch)
		}
		if from >= got.LastStableOffset {
			return
		}
	}
}

func produceBatch(ctx context.Context, t testing.TB, broker *kgo.Broker, topic string, id [16]byte, partition int32, batch rawcopy.Batch) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rt.TopicID, rp.Partition, rp.Records = topic, id, partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := broker.Request(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkVerify compares 1 GB in records of 1 KiB, compressed with lz4, in 4 partitions.
func BenchmarkVerify(b *testing.B) {
	const partitions, records, size = 4, 1_000_000, 1024
	k := startTwoBrokers(b)
	makeTopic(b, k.source, "big", partitions, nil)
	makeTopic(b, k.target, "A.big", partitions, nil)
	makeTopic(b, k.target, "A.again", partitions, nil)
	cl, err := k.source(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(50*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	rng, filler := rand.New(rand.NewPCG(1, 2)), []byte(strings.Repeat("barnabas ", size)[:size/2])
	for i := range records {
		value := make([]byte, size/2, size)
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		cl.Produce(b.Context(), &kgo.Record{Topic: "big", Partition: int32(i % partitions), Key: fmt.Appendf(nil, "k%d", i), Value: append(value, filler...)}, nil)
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	cl.Close()
	for p := range int32(partitions) {
		copyRaw(b, k, "big", "A.big", p, 0)
	}
	for b.Loop() {
		started := time.Now()
		r, err := Verify(b.Context(), VerifyOptions{Config: verifySettings("big"), Source: k.source, Target: k.target})
		if err != nil || !r.Equal || r.Totals.Source != records {
			b.Fatal(err, r)
		}
		b.ReportMetric(2*records*size/1e6/time.Since(started).Seconds(), "MB/s")
	}
}
