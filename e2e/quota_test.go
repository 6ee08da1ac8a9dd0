package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

const quotaRecord = 10_000 // bytes of a record, and they do not compress

// fill writes records of quotaRecord bytes.
func (e *Env) fill(b *kafka.Broker, topic string, partitions int32, n int) {
	e.t.Helper()
	cl, err := kgo.NewClient(append(Plain(b), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20), kgo.DefaultProduceTopic(topic))...)
	e.Must(err)
	defer cl.Close()
	value := make([]byte, quotaRecord)
	for i := range n {
		_, _ = rand.Read(value)
		cl.Produce(e.Context(), &kgo.Record{Partition: int32(i) % partitions, Value: slices.Clone(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				e.t.Error(err)
			}
		})
	}
	e.Must(cl.Flush(e.Context()))
}

func (e *Env) records(b *kafka.Broker, topic string) (n int64) {
	e.t.Helper()
	for _, end := range e.ends(b, slices.Values([]string{topic}))[topic] {
		n += end
	}
	return n
}

// A quota holds for all tasks together, on all workers, and changes while they run; another app goes at full speed meanwhile.
// E2E_QUOTA_SECONDS is for how long it is measured.
func TestAQuotaHoldsWhileOthersRunFree(t *testing.T) {
	t.Parallel()
	window := time.Duration(setting(t, "E2E_QUOTA_SECONDS", 6)) * time.Second
	const rate = 2_000_000
	e := New(t, 4*time.Minute+2*window)
	f := e.Fleet(FleetOptions{Size: 2})
	slow, free := e.Topic(e.Source, "slow", 4), e.Topic(e.Source, "free", 4)
	e.fill(e.Source, slow, 4, int(window.Seconds()+15)*rate/quotaRecord)
	e.fill(e.Source, free, 4, 5000)
	reader := e.User(e.Source, "ro", append(ReadTopics(slow), ReadTopics(free)...)...)
	writer := e.User(e.Target, "rw", append(WriteTopics("copy."+slow), WriteTopics("copy."+free)...)...)
	source, unbound, target := e.Prefix+"/slow", e.Prefix+"/free", e.Prefix+"/rw"
	bound := func(bytes int) {
		f.Connection(source, e.Source.Address(Client), reader, map[string]any{"quota": map[string]any{"read_bytes_per_second": bytes}})
	}
	bound(rate)
	f.Connection(unbound, e.Source.Address(Client), reader, nil)
	f.Connection(target, e.Target.Address(Client), writer, nil)
	app := func(name, source, topic string) {
		spec, err := json.Marshal(map[string]any{"source": source, "target": target, "topics": []string{topic}, "replicas": 4, "naming": map[string]any{"policy": "prefix", "prefix": "copy."}})
		e.Must(err)
		f.Do(http.MethodPut, "/v1/apps/"+e.Prefix+"-"+name, string(spec), http.StatusCreated)
	}
	app("slow", source, slow)
	f.Await(e.Prefix+"-slow", "RUNNING", 4, time.Minute)
	e.Until(time.Minute, "the first copies", func() string {
		if n := e.records(e.Target, "copy."+slow); n < rate/quotaRecord {
			return fmt.Sprint(n)
		}
		return ""
	})
	app("free", unbound, free)
	e.Pass(2 * time.Second) // each worker has taken its part of the quota
	before, began := e.records(e.Target, "copy."+slow), time.Now()
	e.Pass(window)
	copied, took := e.records(e.Target, "copy."+slow)-before, time.Since(began)
	got := float64(copied*quotaRecord) / took.Seconds()
	t.Logf("%.0f bytes a second in %s, of %d", got, took, rate)
	// A fetch of a worker's more or less, and what overhead batches have.
	if slop := 1.05 + float64(4<<20)/(rate*took.Seconds()); got > rate*slop {
		t.Errorf("%.0f bytes a second, under a quota of %d", got, rate)
	}
	if report := e.Copied(map[string]string{free: "copy." + free}, time.Minute); !report.Equal() {
		t.Errorf("the free app: %s", report)
	}
	bound(0)
	e.Until(time.Minute, "the rest, without a quota", func() string {
		if n, all := e.records(e.Target, "copy."+slow), e.records(e.Source, slow); n < all {
			return fmt.Sprintf("%d of %d", n, all)
		}
		return ""
	})
}
