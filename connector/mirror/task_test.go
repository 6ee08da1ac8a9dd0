package mirror

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
	"barnabas/connector/txn"
)

func TestProduceErrorsAreRetriedInOrder(t *testing.T) {
	t.Parallel()
	for _, cause := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.UnknownServerError,
		kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.KafkaStorageError, kerr.OutOfOrderSequenceNumber, kerr.CorruptMessage,
	} {
		t.Run(cause.Message, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.createTopic(r.source, "orders", 2, nil)
			r.createTopic(r.target, "A.orders", 2, nil)
			write(t, r.source, numbered("orders", 0, 0, 1000)...)
			write(t, r.source, numbered("orders", 1, 0, 1000)...)
			h := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{0}, Err: cause, Count: 5})
			defer h.Remove()
			stop := r.run()
			r.waitEqual("orders", "A.orders")
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Errorf("connector: %v, tasks: %v", err, r.failed())
			}
			if h.Hits() == 0 {
				t.Error("nothing was injected")
			}
		})
	}
}

func TestOnePartitionsTroubleDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.maxTasks = 1
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	write(t, r.source, numbered("orders", 0, 0, 20)...)
	write(t, r.source, numbered("orders", 1, 0, 20)...)
	h := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{0}, Err: kerr.MessageTooLarge, Count: -1})
	r.run()
	eventually(t, "partition 1 is copied", func() bool { return end(r.target, "A.orders") == 20 })
	eventually(t, "the report says where partition 0 stopped", func() bool {
		return strings.Contains(r.reason("orders", 0), "record orders-0@0: the target does not take it: MESSAGE_TOO_LARGE")
	})
	write(t, r.source, numbered("orders", 1, 20, 5)...)
	eventually(t, "partition 1 goes on", func() bool { return end(r.target, "A.orders") == 25 })
	if len(r.failed()) > 0 {
		t.Fatalf("the task failed: %v", r.failed())
	}

	h.Remove()
	r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{1}, Err: kerr.InvalidRecord, Count: -1})
	write(t, r.source, numbered("orders", 1, 25, 1)...)
	eventually(t, "no partition is left and the task fails", func() bool { return len(r.failed()) == 1 })
	for _, want := range []string{"record orders-0@0", "record orders-1@25"} {
		if text := r.failed()[0].Error(); !strings.Contains(text, want) {
			t.Errorf("error lacks %q: %s", want, text)
		}
	}
}

func (r *rig) reason(topic string, id int32) string {
	return r.partitionProgress(topic, id).Reason
}

func (r *rig) partitionProgress(topic string, id int32) connector.PartitionProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.progress {
		for _, part := range p.Partitions {
			if part.Topic == topic && part.Partition == id {
				return part
			}
		}
	}
	return connector.PartitionProgress{CopiedOffset: -1, LagRecords: -1} // none yet
}

func TestUnauthorisedTargetFailsTheTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.target, "A.orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 1)...)
	r.config["producer.override.sasl.jaas.config"] = "password=$<env:PW>"
	r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.run()
	eventually(t, "the task fails", func() bool { return len(r.failed()) == 1 })
	for _, want := range []string{"record orders-0@0", `target cluster "B" refuses User:target-producer`, "producer.override.sasl.jaas.config", "$<env:PW>", "TOPIC_AUTHORIZATION_FAILED"} {
		if text := r.failed()[0].Error(); !strings.Contains(text, want) {
			t.Errorf("error lacks %q: %s", want, text)
		}
	}
}

func TestStopFlushesAndSaves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.every = time.Hour // only the end saves
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 2000)...)
	stop := r.run()
	eventually(t, "something is copied", func() bool { return end(r.target, "A.orders") > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	copied := end(r.target, "A.orders")
	want := map[string]string{`{"cluster":"A","partition":0,"topic":"orders"}`: fmt.Sprintf(`{"offset":%d}`, copied-1)}
	if diff := cmp.Diff(want, r.offsets); diff != "" {
		t.Errorf("%d records are on the target:\n%s", copied, diff)
	}
}

func TestClosedClientsEndTheTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.target, "A.orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 100)...)
	held := make(chan struct{})
	defer close(held)
	r.target.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.target.KeepControl()
		if t := req.(*kmsg.ProduceRequest).Topics[0]; t.Topic != "A.orders" && t.TopicID != r.target.TopicInfo("A.orders").TopicID {
			return nil, nil, false
		}
		r.target.SleepControl(func() { <-held })
		return nil, nil, false
	})
	r.config[keyTaskPartitions] = "orders-0"
	ctx, cancel := context.WithCancel(t.Context())
	clientsCtx, closeClients := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&sourceTask{}).Run(ctx, r.taskContext(clientsCtx, 0, r.config)) }()
	eventually(t, "records are on the way", func() bool { return r.partitionProgress("orders", 0).InFlight > 0 })
	cancel()
	closeClients() // the engine's patience is over
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the task has not ended")
	}
	if len(r.offsets) > 0 {
		t.Errorf("saved %v, and nothing was acknowledged", r.offsets)
	}
	if log := r.logged(); !strings.Contains(log, "stopped with records on the way") {
		t.Errorf("log: %s", log)
	}
}

func TestOffsetsThatTheSourceHasNot(t *testing.T) {
	t.Parallel()
	key := `{"cluster":"A","partition":0,"topic":"orders"}`
	for name, c := range map[string]struct {
		saved, reset string
		deleted      int64 // below which records are gone
		first        string
		note         string
		fails        bool
	}{
		"retention overtook the copy":  {saved: `{"offset":4}`, deleted: 20, first: "orders-0-20", note: "offsets 5 to 19"},
		"truncated: from the start":    {saved: `{"offset":500}`, first: "orders-0-0", note: "truncated or made anew"},
		"latest skips":                 {reset: "latest", first: "orders-0-50"},
		"latest with an offset":        {saved: `{"offset":9}`, reset: "latest", first: "orders-0-10"},
		"none without an offset fails": {reset: "none", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.createTopic(r.source, "orders", 1, nil)
			r.createTopic(r.target, "A.orders", 1, nil)
			write(t, r.source, numbered("orders", 0, 0, 50)...)
			if c.deleted > 0 {
				if err := r.source.DeleteRecords("orders", 0, c.deleted); err != nil {
					t.Fatal(err)
				}
			}
			if c.saved != "" {
				r.offsets[key] = c.saved
			}
			switch c.reset { // as package clientconfig compiles it
			case "latest":
				r.sourceOpts = []kgo.Opt{kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd())}
			case "none":
				r.sourceOpts = []kgo.Opt{kgo.ConsumeResetOffset(kgo.NoResetOffset())}
			}
			r.run()
			if c.fails {
				eventually(t, "the task fails", func() bool { return len(r.failed()) == 1 })
				if text := r.failed()[0].Error(); !strings.Contains(text, "auto.offset.reset is none") {
					t.Error(text)
				}
				return
			}
			eventually(t, "the task runs", func() bool { return r.partitionProgress("orders", 0).CopiedOffset >= 0 })
			write(t, r.source, numbered("orders", 0, 50, 1)...)
			eventually(t, "something is copied", func() bool { return end(r.target, "A.orders") > 0 })
			if first := string(read(t, r.target, "A.orders")[0][0].Value); first != c.first {
				t.Errorf("the copy begins with %s, want %s", first, c.first)
			}
			if got := r.reason("orders", 0); !strings.Contains(got, c.note) || c.note == "" && got != "" && got != "decoded: resume" {
				t.Errorf("reason %q, want %q", got, c.note)
			}
		})
	}
}

func TestRecreatedTargetTopicStopsTheCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config["refresh.topics.interval.seconds"] = "1"
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.run()
	r.waitEqual("orders", "A.orders")
	if err := r.target.DeleteTopic("A.orders"); err != nil {
		t.Fatal(err)
	}
	write(t, r.source, numbered("orders", 0, 10, 10)...)
	eventually(t, "the task says that the topic is another", func() bool { return len(r.failed()) > 0 })
	if text := r.failed()[0].Error(); !strings.Contains(text, "topic A.orders of the target was deleted and made anew") {
		t.Error(text)
	}
	eventually(t, "the topic is made again", func() bool { return r.target.TopicInfo("A.orders") != nil })
	if n := end(r.target, "A.orders"); n != 0 {
		t.Errorf("%d records were written to the new topic", n)
	}
}

func TestProgressAndMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.target, "A.orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.config[keyTaskPartitions] = "orders-0"
	ctx, cancel := context.WithCancel(t.Context())
	registry := prometheus.NewRegistry()
	tc := r.taskContext(t.Context(), 0, r.config)
	tc.Metrics = registry
	done := make(chan error, 1)
	go func() { done <- (&sourceTask{}).Run(ctx, tc) }()
	want := connector.PartitionProgress{
		Topic: "orders", TargetTopic: "A.orders", SourceEndOffset: 10, CopiedOffset: 10, TargetEndOffset: 10, Records: 10, Mode: "raw", State: "RUNNING", LagBytesExact: true,
	}
	eventually(t, "the report shows all copied", func() bool {
		got := r.partitionProgress("orders", 0)
		got.RecordsPerSec, got.BytesPerSec = 0, 0
		got.Decisions, got.Bytes, got.LagSeconds = nil, 0, 0
		return cmp.Equal(got, want)
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		if f.GetName() == "barnabas_replication_latency_seconds" {
			if h := m.GetHistogram(); h.GetSampleCount() == 0 || len(h.GetBucket()) < 10 {
				t.Errorf("latency: %v", h)
			}
			continue
		}
		labels := ""
		for _, l := range m.GetLabel() {
			labels += l.GetName() + "=" + l.GetValue() + " "
		}
		if labels != "connector=m partition=0 source=A target=B task=0 topic=A.orders " {
			t.Errorf("%s has labels %s", f.GetName(), labels)
		}
		values[strings.TrimPrefix(f.GetName(), "kafka_connect_mirror_mirrorsourceconnector_")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	if len(values) != 12 || values["record_count"] != 10 || values["byte_count"] < 100 || values["replication_latency_ms_max"] <= 0 {
		t.Errorf("metrics: %v", values)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if families, _ := registry.Gather(); len(families) != 0 {
		t.Error("the metrics are still registered")
	}
}

func TestASmallGateDoesNotStopTheCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.gate = connector.NewGate(10_000)
	r.createTopic(r.source, "orders", 4, nil)
	for p := range int32(4) {
		write(t, r.source, numbered("orders", p, 0, 300)...)
	}
	r.run()
	r.waitEqual("orders", "A.orders")
}

func TestSourceBrokerComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	write(t, r.source, numbered("orders", 0, 0, 100)...)
	h := r.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata, kmsg.ListOffsets, kmsg.Fetch}, Err: kerr.LeaderNotAvailable, Count: 30})
	defer h.Remove()
	r.run()
	r.waitEqual("orders", "A.orders")
	if len(r.failed()) > 0 {
		t.Error(r.failed())
	}
}

func TestOnlyCommittedRecordsAreCopiedIfAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.config["source.consumer.isolation.level"] = "read_committed"
	r.sourceOpts = []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.source.ListenAddrs()...), kgo.TransactionalID("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := txn.End(t.Context(), client, end); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	// Three records and three markers: the copy is at the end, without lag.
	eventually(t, "no lag", func() bool {
		p := r.partitionProgress("orders", 0)
		return p.CopiedOffset == 6 && p.LagRecords == 0
	})
	var values []string
	for _, c := range read(t, r.target, "A.orders")[0] {
		values = append(values, string(c.Value))
	}
	if diff := cmp.Diff([]string{"0", "2"}, values); diff != "" {
		t.Error(diff)
	}
}

func TestFetchingPausesForASlowPartitionAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	for p := range int32(2) {
		for i := range 10 {
			write(t, r.source, numbered("orders", p, i*200, 200)...)
		}
	}
	h := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{0}, Err: kerr.NotEnoughReplicas, Count: -1})
	r.config[keyTaskPartitions] = "orders-0,orders-1"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&sourceTask{}).Run(ctx, r.taskContext(t.Context(), 0, r.config)) }()
	eventually(t, "partition 1 is copied", func() bool { return end(r.target, "A.orders") == 2000 })
	h.Remove()
	r.waitEqual("orders", "A.orders")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCopiesKeepTheirCodecUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]byte{"": 2 /* snappy, as the source */, "gzip": 1} {
		t.Run("compression.type="+setting, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			if setting != "" {
				r.config["producer.compression.type"] = setting
				r.targetOpts = []kgo.Opt{kgo.ProducerBatchCompression(kgo.GzipCompression())}
			}
			r.createTopic(r.source, "orders", 1, nil)
			r.createTopic(r.target, "A.orders", 1, nil)
			records := numbered("orders", 0, 0, 100)
			for _, record := range records {
				record.Value = make([]byte, 1000)
			}
			write(t, r.source, records...)
			var mu sync.Mutex
			codecs := map[byte]int{}
			r.target.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				r.target.KeepControl()
				mu.Lock()
				defer mu.Unlock()
				for _, topic := range req.(*kmsg.ProduceRequest).Topics {
					if topic.Topic != "A.orders" && topic.TopicID != r.target.TopicInfo("A.orders").TopicID {
						continue
					}
					for _, p := range topic.Partitions {
						codecs[p.Records[22]&7]++
					}
				}
				return nil, nil, false
			})
			r.run()
			r.waitEqual("orders", "A.orders")
			mu.Lock()
			defer mu.Unlock()
			if len(codecs) != 1 || codecs[want] == 0 {
				t.Errorf("batches by codec: %v, want %d only", codecs, want)
			}
		})
	}
}

func TestAFencedSessionIsRenewedWithoutATrace(t *testing.T) {
	before := idRefresh
	idRefresh = 300 * time.Millisecond
	t.Cleanup(func() { idRefresh = before })
	r := newRig(t)
	r.maxTasks = 1
	r.createTopic(r.source, "orders", 2, nil)
	stop := r.run()
	for i := range 40 {
		write(t, r.source, numbered("orders", int32(i%2), i*10, 10)...)
	}
	eventually(t, "there were several sessions", func() bool { return strings.Count(r.logged(), "msg=copying") >= 3 })
	r.waitEqual("orders", "A.orders")
	if err := stop(); err != nil || len(r.failed()) > 0 {
		t.Errorf("connector: %v, tasks: %v", err, r.failed())
	}
}
