package offsetrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/txn"
	"barnabas/e2e/kafka"
)

// soon bounds every wait of a test.
const soon = 60 * time.Second

// shared is one real broker for all tests of the package.
var shared struct {
	once   sync.Once
	dir    string
	broker *kafka.Broker
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

func realKafka(t *testing.T) *kafka.Broker {
	t.Helper()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
		defer cancel()
		if shared.dir, shared.err = os.MkdirTemp("", "offsetrun"); shared.err == nil {
			shared.broker, shared.err = kafka.Start(ctx, kafka.Spec{Name: "target", Dir: shared.dir, Properties: map[string]string{"log.cleaner.backoff.ms": "200"}})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker
}

// target is a cluster with the topic on it.
type target struct {
	t      *testing.T
	seeds  kgo.Opt
	client *kgo.Client
	fake   *kfake.Cluster // nil: real
	topic  Topic
}

// onBoth runs a test on the fake cluster, of three brokers, and on real Kafka.
func onBoth(t *testing.T, partitions int32, test func(t *testing.T, c *target)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		test(t, newTarget(t, cluster, kgo.SeedBrokers(cluster.ListenAddrs()...), partitions))
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		test(t, newTarget(t, nil, kgo.SeedBrokers(realKafka(t).Bootstrap()), partitions))
	})
}

var made atomic.Int64 // topics

func newTarget(t *testing.T, fake *kfake.Cluster, seeds kgo.Opt, partitions int32) *target {
	t.Helper()
	c := &target{t: t, seeds: seeds, fake: fake}
	c.client = c.connect()
	var err error
	// A test may run several times on the same broker.
	name := TopicName(fmt.Sprint(strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()), "-", made.Add(1)), ".")
	if c.topic, err = Ensure(t.Context(), c.client, TopicOptions{Name: name, Partitions: partitions, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *target) connect(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{c.seeds, kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// write writes records of k with client.
func (c *target) write(client *kgo.Client, k Key, records ...Record) {
	c.t.Helper()
	var all []*kgo.Record
	for _, r := range records {
		all = append(all, &kgo.Record{Topic: c.topic.Name, Partition: PartitionOf(k, c.topic.Partitions), Key: r.Key, Value: r.Value})
	}
	if err := client.ProduceSync(c.t.Context(), all...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

func bookAt(k Key, next int64) *Book {
	b := NewBook(k)
	b.State.Next = next
	b.Map.Append(0, 0, next)
	return b
}

func (c *target) reader() *Reader {
	return NewReader(ReaderOptions{Client: c.client, Topic: c.topic.Name})
}

func (c *target) read(r *Reader) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	defer cancel()
	begin := time.Now()
	if err := r.Read(ctx); err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("read in %s", time.Since(begin))
}

// nexts are State.Next of all books.
func (c *target) nexts(r *Reader) map[Key]int64 {
	c.t.Helper()
	all := map[Key]int64{}
	for _, k := range r.Keys() {
		b, err := r.Book(k)
		if err != nil {
			c.t.Fatal(err)
		}
		if b != nil {
			all[k] = b.State.Next
		}
	}
	return all
}

func (c *target) expect(r *Reader, want map[Key]int64) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.nexts(r)); diff != "" {
		c.t.Errorf("(-want +got):\n%s", diff)
	}
}

// readUntil reads again until the markers of transactions stand, which takes a moment after their end.
func (c *target) readUntil(r *Reader, want map[Key]int64) {
	c.t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); {
		if c.read(r); cmp.Equal(want, c.nexts(r)) {
			return
		}
	}
	c.expect(r, want)
}

func keyOf(partition int32) Key { return Key{"owner", "topic", partition} }

func TestReaderReadsOnWhereItWas(t *testing.T) {
	t.Parallel()
	onBoth(t, 3, func(t *testing.T, c *target) {
		r := c.reader()
		c.read(r)
		c.expect(r, map[Key]int64{})
		want := map[Key]int64{}
		for p := range int32(20) {
			c.write(c.client, keyOf(p), bookAt(keyOf(p), 10).Flush().Records...)
			want[keyOf(p)] = 10
		}
		c.read(r)
		c.expect(r, want)
		b, err := r.Book(keyOf(5))
		if err != nil {
			t.Fatal(err)
		}
		b.State.Next = 11
		c.write(c.client, keyOf(5), b.Flush().Records...)
		c.write(c.client, keyOf(6), bookAt(keyOf(6), 1).Forget()...)
		want[keyOf(5)] = 11
		delete(want, keyOf(6))
		begin := time.Now()
		c.read(r)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the second reading took %s", took)
		}
		c.expect(r, want)
		one := NewReader(ReaderOptions{Client: c.client, Topic: c.topic.Name, Partitions: []int32{PartitionOf(keyOf(5), 3)}, Keep: func(k Key) bool { return k == keyOf(5) }})
		c.read(one)
		c.expect(one, map[Key]int64{keyOf(5): 11})
	})
}

// What a transaction has written counts once it is committed, and then at once: also if another one, of another
// task, is open before it. Markers at the end are no reason to wait.
func TestReaderAndTransactions(t *testing.T) {
	t.Parallel()
	onBoth(t, 1, func(t *testing.T, c *target) {
		begin := func(id string) *kgo.Client {
			t.Helper()
			client := c.connect(kgo.TransactionalID(id + c.topic.Name))
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			return client
		}
		end := func(client *kgo.Client, how kgo.TransactionEndTry) {
			t.Helper()
			if err := txn.End(t.Context(), client, how); err != nil {
				t.Fatal(err)
			}
		}
		aborted := begin("aborted ")
		c.write(aborted, keyOf(1), bookAt(keyOf(1), 1).Flush().Records...)
		end(aborted, kgo.TryAbort)
		r := c.reader()
		c.read(r)
		c.expect(r, map[Key]int64{})

		open, done, undone := begin("open "), begin("done "), begin("undone ")
		c.write(open, keyOf(2), bookAt(keyOf(2), 2).Flush().Records...)
		c.write(done, keyOf(3), bookAt(keyOf(3), 3).Flush().Records...)
		c.write(undone, keyOf(4), bookAt(keyOf(4), 4).Flush().Records...)
		c.write(c.client, keyOf(5), bookAt(keyOf(5), 5).Flush().Records...)
		end(done, kgo.TryCommit)
		end(undone, kgo.TryAbort)
		c.readUntil(r, map[Key]int64{keyOf(3): 3, keyOf(5): 5})
		end(open, kgo.TryCommit)
		c.readUntil(r, map[Key]int64{keyOf(2): 2, keyOf(3): 3, keyOf(5): 5})
		fresh := c.reader()
		c.read(fresh)
		c.expect(fresh, map[Key]int64{keyOf(2): 2, keyOf(3): 3, keyOf(5): 5})
	})
}

func TestReaderOfATopicThatBeginsLater(t *testing.T) {
	t.Parallel()
	onBoth(t, 1, func(t *testing.T, c *target) {
		r := c.reader()
		for i := range int64(5) {
			c.write(c.client, keyOf(1), bookAt(keyOf(1), i).Flush().Records...)
		}
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: c.topic.Name, At: 3})
		if c.fake == nil { // a compacted topic has no other way
			alter(t, c, "cleanup.policy", "delete")
		}
		for deadline := time.Now().Add(soon); ; {
			deleted, err := kadm.NewClient(c.client).DeleteRecords(t.Context(), offsets)
			if err == nil {
				err = deleted.Error()
			}
			if err == nil {
				break
			}
			// The controller has taken the new policy; the broker that leads hears of it a little later.
			if !errors.Is(err, kerr.PolicyViolation) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		c.read(r)
		c.expect(r, map[Key]int64{keyOf(1): 4})
	})
}

func alter(t *testing.T, c *target, key, value string) {
	t.Helper()
	altered, err := kadm.NewClient(c.client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: key, Value: &value}}, c.topic.Name)
	if err == nil {
		_, err = altered.On(c.topic.Name, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestReaderOfARecreatedTopic(t *testing.T) {
	t.Parallel()
	onBoth(t, 2, func(t *testing.T, c *target) {
		r := c.reader()
		for p := range int32(4) {
			c.write(c.client, keyOf(p), bookAt(keyOf(p), 10).Flush().Records...)
		}
		c.read(r)
		if _, err := kadm.NewClient(c.client).DeleteTopic(t.Context(), c.topic.Name); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(soon)
		for {
			again, err := Ensure(t.Context(), c.client, TopicOptions{Name: c.topic.Name, Partitions: 2, ReplicationFactor: 1})
			if err == nil && again.ID != c.topic.ID {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("not recreated: %v", err)
			}
		}
		writer := c.connect()
		c.write(writer, keyOf(1), bookAt(keyOf(1), 3).Flush().Records...)
		c.read(r)
		c.expect(r, map[Key]int64{keyOf(1): 3})
	})
}

func TestReaderTriesAgainWhatPasses(t *testing.T) {
	t.Parallel()
	for _, failure := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.LeaderNotAvailable, kerr.OffsetNotAvailable, kerr.UnknownTopicID} {
		for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
			t.Run(key.Name()+" "+failure.Message, func(t *testing.T) {
				t.Parallel()
				cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cluster.Close)
				c := newTarget(t, cluster, kgo.SeedBrokers(cluster.ListenAddrs()...), 1)
				c.write(c.client, keyOf(1), bookAt(keyOf(1), 9).Flush().Records...)
				fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: c.topic.Name, Err: failure, Count: 2})
				r := c.reader()
				c.read(r)
				c.expect(r, map[Key]int64{keyOf(1): 9})
				if fault.Hits() < 2 {
					t.Errorf("%d failures were met", fault.Hits())
				}
			})
		}
	}
}

func TestReaderGivesUp(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c := newTarget(t, cluster, kgo.SeedBrokers(cluster.ListenAddrs()...), 1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	missing := NewReader(ReaderOptions{Client: c.client, Topic: "missing"})
	if err := missing.Read(ctx); !errors.Is(err, kerr.UnknownTopicOrPartition) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a topic that is not there: %v", err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: c.topic.Name, Err: kerr.TopicAuthorizationFailed, Count: -1})
	begin := time.Now()
	if err := c.reader().Read(t.Context()); !errors.Is(err, kerr.TopicAuthorizationFailed) || time.Since(begin) > 5*time.Second {
		t.Errorf("no right to read: %v after %s", err, time.Since(begin))
	}
}

// Others' records and those of later versions of the key are passed over, and counted.
func TestReaderPassesOverWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	onBoth(t, 1, func(t *testing.T, c *target) {
		later := append([]byte{version + 1}, "key"...)
		c.write(c.client, keyOf(1), Record{[]byte(`["x"]`), []byte("y")}, Record{later, nil})
		c.write(c.client, keyOf(1), bookAt(keyOf(1), 9).Flush().Records...)
		r := c.reader()
		c.read(r)
		c.expect(r, map[Key]int64{keyOf(1): 9})
		if r.Skipped() != 2 {
			t.Errorf("%d passed over, want 2", r.Skipped())
		}
	})
}

// After the topic was given more partitions, the newer of two states counts.
func TestReaderOfATopicThatGrew(t *testing.T) {
	t.Parallel()
	onBoth(t, 1, func(t *testing.T, c *target) {
		moving := keyOf(0)
		for PartitionOf(moving, 4) == 0 {
			moving.Partition++
		}
		b := bookAt(moving, 5)
		c.write(c.client, moving, b.Flush().Records...)
		if _, err := kadm.NewClient(c.client).UpdatePartitions(t.Context(), 4, c.topic.Name); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(soon)
		for c.topic.Partitions != 4 {
			var err error
			if c.topic, err = Ensure(t.Context(), c.client, TopicOptions{Name: c.topic.Name}); err != nil || time.Now().After(deadline) {
				t.Fatalf("%+v, %v", c.topic, err)
			}
		}
		b.State.Next = 6
		c.write(c.connect(), moving, b.Flush().Records...)
		r := c.reader()
		c.read(r)
		c.expect(r, map[Key]int64{moving: 6})
	})
}

// The topic as the log cleaner leaves it says the same.
func TestReaderOfACompactedTopic(t *testing.T) {
	t.Parallel()
	c := newTarget(t, nil, kgo.SeedBrokers(realKafka(t).Bootstrap()), 1)
	for key, value := range map[string]string{"segment.ms": "100", "max.compaction.lag.ms": "100", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0"} {
		alter(t, c, key, value)
	}
	b := NewBook(keyOf(1))
	deadline := time.Now().Add(soon)
	admin := kadm.NewClient(c.client)
	for source, round := int64(0), 0; ; round++ {
		for range 150 {
			b.Map.Append(source, source/2, 1)
			source += 2
		}
		b.State.Next = source
		f := b.Flush()
		c.write(c.client, b.Key, f.Records...)
		b.Saved(f)
		r := c.reader()
		c.read(r)
		read, err := r.Book(b.Key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b.Map.Runs(), read.Map.Runs()); diff != "" || read.State.Next != source {
			t.Fatalf("round %d: next %d, want %d (-want +got):\n%s", round, read.State.Next, source, diff)
		}
		described, err := admin.DescribeAllLogDirs(t.Context(), kadm.TopicsSet{c.topic.Name: {0: {}}})
		if err != nil {
			t.Fatal(err)
		}
		size := int64(0)
		for _, dirs := range described {
			dirs.EachPartition(func(d kadm.DescribedLogDirPartition) { size = d.Size })
		}
		if round > 20 && size < int64(round)*400 {
			t.Logf("after %d rounds the topic has %d bytes", round, size)
			return
		}
		if time.Now().After(deadline) {
			t.Skipf("the cleaner does not run: %d bytes after %d rounds", size, round)
		}
	}
}

func TestEnsureMakesACompactedTopicOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, 2, func(t *testing.T, c *target) {
		var wait sync.WaitGroup
		name := c.topic.Name + "-2"
		for range 4 {
			wait.Go(func() {
				made, err := Ensure(t.Context(), c.connect(), TopicOptions{Name: name, Partitions: 2, ReplicationFactor: 1})
				if err != nil || made.Partitions != 2 || made.ID == [16]byte{} {
					t.Errorf("Ensure: %+v, %v", made, err)
				}
			})
		}
		wait.Wait()
		described, err := kadm.NewClient(c.client).DescribeTopicConfigs(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, config := range described[0].Configs {
			if config.Key == "cleanup.policy" && config.MaybeValue() != "compact" {
				t.Errorf("cleanup.policy is %s", config.MaybeValue())
			}
		}
		if _, err := kadm.NewClient(c.client).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("delete")}, name+"-old"); err != nil {
			t.Fatal(err)
		}
		_, err = Ensure(t.Context(), c.client, TopicOptions{Name: name + "-old"})
		if err == nil || !strings.Contains(err.Error(), "cleanup.policy is delete") {
			t.Errorf("a topic with retention: %v", err)
		}
	})
}
