package txn_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"barnabas/connector/txn"
)

// The first records of a topic are acknowledged while kgo still partitions the others, and so has not stored
// yet that it knows the topic: EndTransaction would take it that there is nothing to commit.
func TestACommitOfATopicsFirstRecordsCommitsThem(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]kfake.Opt{
		"transaction.version 2": nil,
		"Kafka 3.5":             {kfake.MaxVersions(kversion.V3_5_0())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.SeedTopics(1, "new"))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			seeds := kgo.SeedBrokers(cluster.ListenAddrs()...)
			// kgo partitions "slow" while it holds what it holds; then it finds no partition for it.
			partitioning, partitioned := make(chan struct{}), make(chan struct{})
			client, err := kgo.NewClient(seeds, kgo.TransactionalID("id"), kgo.ProducerLinger(0),
				kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
					return func(r *kgo.Record, _ int) int {
						if string(r.Value) != "slow" {
							return 0
						}
						close(partitioning)
						<-partitioned
						return -1
					}
				})))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			acknowledged, refused := make(chan error, 1), make(chan error, 1)
			client.Produce(t.Context(), &kgo.Record{Topic: "new", Value: []byte("first")}, func(_ *kgo.Record, err error) { acknowledged <- err })
			client.Produce(t.Context(), &kgo.Record{Topic: "new", Value: []byte("slow")}, func(_ *kgo.Record, err error) { refused <- err })
			<-partitioning
			if err := <-acknowledged; err != nil {
				t.Fatal(err)
			}
			committed := make(chan error, 1)
			go func() { committed <- txn.End(t.Context(), client, kgo.TryCommit) }()
			select {
			case err := <-committed:
				t.Errorf("the commit has ended before the client knew the topic")
				committed <- err
			case <-time.After(100 * time.Millisecond): // time to go wrong in
			}
			close(partitioned)
			if err := <-refused; err == nil {
				t.Error("a record without a partition was written")
			}
			if err := <-committed; err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"first"}, readCommitted(t, seeds)); diff != "" {
				t.Errorf("what was committed (-want +got):\n%s", diff)
			}
		})
	}
}

// readCommitted reads what stands before the last stable offset of "new".
func readCommitted(t *testing.T, seeds kgo.Opt) []string {
	t.Helper()
	reader, err := kgo.NewClient(seeds, kgo.ConsumeTopics("new"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ends, err := kadm.NewClient(reader).ListEndOffsets(t.Context(), "new")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("new", 0)
	if stable, err := kadm.NewClient(reader).ListCommittedOffsets(t.Context(), "new"); err != nil {
		t.Fatal(err)
	} else if s, _ := stable.Lookup("new", 0); s.Offset != end.Offset {
		t.Fatalf("a transaction is still open: stable up to %d of %d", s.Offset, end.Offset)
	}
	var values []string
	for next := int64(0); next < end.Offset; {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	return values
}
