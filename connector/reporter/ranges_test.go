package reporter

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// cluster starts a cluster in memory and a reporter on it.
func cluster(t *testing.T, settings map[string]string) (*Reporter, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	open := func(_ context.Context, _ connector.Role, opts ...kgo.Opt) (*kgo.Client, error) {
		client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, opts...)...)
		if err == nil {
			t.Cleanup(client.Close)
		}
		return client, err
	}
	r, err := Open(t.Context(), connector.TaskContext{
		Connector: "x", Task: 3, Settings: config.Literal(settings), Log: slog.New(slog.DiscardHandler),
		Clients: connector.Clients{Open: open, Principal: func(connector.Role) string { return "User:r" }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

// reports reads n reports of a topic.
func reports(t *testing.T, c *kfake.Cluster, topic string, n int) (values []report, records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d reports: %v", len(records), n, err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			var v report
			if err := json.Unmarshal(k.Value, &v); err != nil {
				t.Fatalf("report %q: %v", k.Value, err)
			}
			values, records = append(values, v), append(records, k)
		})
	}
	return values, records
}

func TestAConnectorWithoutSettingsReportsNothing(t *testing.T) {
	t.Parallel()
	r, err := Open(t.Context(), connector.TaskContext{Settings: config.Literal(map[string]string{"name": "x"})})
	if r != nil || err != nil {
		t.Fatalf("%v, %v", r, err)
	}
	r.Succeeded(t.Context(), &kgo.Record{})
	r.Failed(t.Context(), &kgo.Record{}, "", errors.New("x"))
	r.Close(t.Context())
	NewRanges(nil, 0).Progress(t.Context(), connector.Progress{Partitions: []connector.PartitionProgress{{}}})
}

func TestRecordsAreReported(t *testing.T) {
	t.Parallel()
	r, c := cluster(t, map[string]string{Prefix + "result.topic.replication.factor": "1", Prefix + "error.topic.replication.factor": "1", Prefix + "result.topic.key.format": "string"})
	record := &kgo.Record{Topic: "orders", Partition: 2, Offset: 7, Key: []byte(`k"`), Timestamp: time.UnixMilli(5)}
	r.Succeeded(t.Context(), record)
	r.Failed(t.Context(), record, "some.Exception", errors.New("boom"))
	well, wellRecords := reports(t, c, "x-success", 1)
	if want := (report{Connector: "x", Task: 3, Result: "success", Topic: "orders", Partition: 2, Offset: 7, Timestamp: 5}); well[0] != want {
		t.Errorf("success %+v, want %+v", well[0], want)
	}
	if string(wellRecords[0].Key) != `k"` {
		t.Errorf("key %q", wellRecords[0].Key)
	}
	ill, illRecords := reports(t, c, "x-error", 1)
	if want := (report{Connector: "x", Task: 3, Result: "error", Topic: "orders", Partition: 2, Offset: 7, Timestamp: 5, Exception: "some.Exception", Error: "boom"}); ill[0] != want {
		t.Errorf("error %+v, want %+v", ill[0], want)
	}
	if string(illRecords[0].Key) != `"k\""` || len(illRecords[0].Headers) != 6 || string(illRecords[0].Headers[4].Value) != "boom" {
		t.Errorf("key %q, headers %v", illRecords[0].Key, illRecords[0].Headers)
	}
}

func TestCopiesAreReportedByRange(t *testing.T) {
	t.Parallel()
	r, c := cluster(t, map[string]string{Prefix + "result.topic.replication.factor": "1", Prefix + "error.topic.replication.factor": "1"})
	ranges := NewRanges(r, 0)
	at := func(copied, records int64, gaps ...connector.Gap) connector.Progress {
		return connector.Progress{Partitions: []connector.PartitionProgress{{Topic: "orders", Partition: 1, CopiedOffset: copied, Records: records}}, Gaps: gaps}
	}
	old := connector.Gap{Topic: "orders", From: 0, To: 5, Cause: "retention", At: time.UnixMilli(1)}
	fresh := connector.Gap{Topic: "orders", Partition: 1, From: 20, To: 30, Cause: "retention", At: time.UnixMilli(2)}
	ranges.Progress(t.Context(), at(10, 4, old)) // 6 to 9 by this run
	ranges.Progress(t.Context(), at(10, 4, old))
	ranges.Progress(t.Context(), at(20, 14, old, fresh))
	ranges.Progress(t.Context(), at(20, 14, old, fresh))
	ranges.TaskFailed(t.Context(), errors.New("the end"))
	well, _ := reports(t, c, "x-success", 2)
	if *well[0].From != 6 || well[0].Offset != 9 || *well[1].From != 10 || well[1].Offset != 19 {
		t.Errorf("success %+v", well)
	}
	ill, _ := reports(t, c, "x-error", 2)
	if *ill[0].From != 20 || ill[0].Offset != 29 || ill[1].Error != "the end" || ill[1].Partition != -1 {
		t.Errorf("errors %+v", ill)
	}
}
