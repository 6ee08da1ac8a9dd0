package mirror

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"barnabas/connector"
)

func TestRecordsAreCopiedUnchanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 3, nil)
	at := time.UnixMilli(1_700_000_000_123)
	write(t, r.source,
		&kgo.Record{Topic: "orders", Partition: 0, Key: []byte("k"), Value: []byte("v"), Timestamp: at, Headers: []kgo.RecordHeader{
			{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "", Value: nil}, {Key: "empty", Value: []byte{}},
		}},
		&kgo.Record{Topic: "orders", Partition: 0, Key: nil, Value: []byte("no key"), Timestamp: at.Add(-time.Hour)},
		&kgo.Record{Topic: "orders", Partition: 1, Key: []byte("tombstone"), Value: nil, Timestamp: time.UnixMilli(0)},
		&kgo.Record{Topic: "orders", Partition: 2, Key: []byte{}, Value: []byte{}, Timestamp: at},
	)
	write(t, r.source, numbered("orders", 1, 0, 3000)...)
	stop := r.run()
	r.waitEqual("orders", "A.orders")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		`{"cluster":"A","partition":0,"topic":"orders"}`: `{"offset":1}`,
		`{"cluster":"A","partition":1,"topic":"orders"}`: `{"offset":3000}`,
		`{"cluster":"A","partition":2,"topic":"orders"}`: `{"offset":0}`,
	}
	if diff := cmp.Diff(want, locked(r, func() map[string]string { return r.offsets })); diff != "" {
		t.Errorf("saved offsets:\n%s", diff)
	}
}

func TestNewTopicsAndPartitionsAreFollowed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.maxTasks = 3
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.source, "other", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.run()
	r.waitEqual("orders", "A.orders")

	client, err := kgo.NewClient(kgo.SeedBrokers(r.source.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).UpdatePartitions(t.Context(), 4, "orders"); err != nil {
		t.Fatal(err)
	}
	r.createTopic(r.source, "orders-new", 1, nil)
	eventually(t, "the copies have the partitions", func() bool {
		return len(r.target.PartitionInfos("A.orders")) == 4 && len(r.target.PartitionInfos("A.orders-new")) == 1
	})
	write(t, r.source, numbered("orders", 3, 0, 10)...)
	write(t, r.source, numbered("orders-new", 0, 0, 10)...)
	r.waitEqual("orders", "A.orders")
	r.waitEqual("orders-new", "A.orders-new")
	if r.target.TopicInfo("A.other") != nil {
		t.Error("a topic that does not match was copied")
	}
}

func TestUnchangedTasksAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	r.run()
	eventually(t, "two tasks", func() bool { return locked(r, func() int { return len(r.tasks) }) == 2 })
	first := locked(r, func() map[string]string { return r.tasks[1] })
	r.createTopic(r.source, "orders-new", 1, nil)
	eventually(t, "the new topic has a task", func() bool {
		return strings.Contains(locked(r, func() string { return r.tasks[0][keyTaskPartitions] }), "orders-new-0")
	})
	if diff := cmp.Diff(first, locked(r, func() map[string]string { return r.tasks[1] })); diff != "" {
		t.Errorf("task 1 has changed:\n%s", diff)
	}
	if n := locked(r, func() int { return r.starts[1] }); n != 1 {
		t.Errorf("task 1 started %d times", n)
	}
}

func TestCopyGoesOnBehindSavedOffsets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 100)...)
	stop := r.run()
	r.waitEqual("orders", "A.orders")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	write(t, r.source, numbered("orders", 0, 100, 100)...)
	r.run()
	r.waitEqual("orders", "A.orders")
	if n := end(r.target, "A.orders"); n != 200 {
		t.Errorf("%d records, want 200: some are doubled", n)
	}
}

func TestTopicsAreCreatedLikeTheirSource(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 5, map[string]string{"cleanup.policy": "compact", "retention.ms": "123456", "min.insync.replicas": "1"})
	r.run()
	eventually(t, "the copy is there", func() bool { return len(r.target.PartitionInfos("A.orders")) == 5 })
	configs := r.target.TopicInfo("A.orders").Configs
	value := func(key string) string {
		if v, ok := configs[key]; ok && v != nil {
			return *v
		}
		return "default"
	}
	if value("cleanup.policy") != "compact" || value("retention.ms") != "123456" || value("min.insync.replicas") != "default" {
		t.Errorf("cleanup.policy=%s retention.ms=%s min.insync.replicas=%s", value("cleanup.policy"), value("retention.ms"), value("min.insync.replicas"))
	}
}

func TestCyclesAndInternalTopicsAreNotCopied(t *testing.T) {
	t.Parallel()
	r := newRig(t, kfake.ClusterID("the-workers-cluster"))
	r.config[keyTopics] = ".*"
	r.internal = connector.Internal{ClusterID: "the-workers-cluster", Topics: []string{"connect-configs", "connect-offsets"}}
	for _, topic := range []string{"orders", "B.orders", "C.B.orders", "connect-configs", "mm2-offset-syncs.B.internal", "__x", "last"} {
		r.createTopic(r.source, topic, 1, nil)
	}
	r.run()
	eventually(t, "tasks for the two topics", func() bool { return locked(r, func() int { return len(r.tasks) }) == 2 })
	got := locked(r, func() string { return r.tasks[0][keyTaskPartitions] + " " + r.tasks[1][keyTaskPartitions] })
	if got != "last-0 orders-0" {
		t.Errorf("tasks copy %q", got)
	}
}

func TestTooHighReplicationFactorSaysWhatToSet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	delete(r.config, keyReplicationFactor)
	r.createTopic(r.source, "orders", 1, nil)
	err := r.runToFailure()
	if err == nil || !strings.Contains(err.Error(), `replication.factor is 2, and the target cluster "B" has 1 brokers: set replication.factor to 1`) {
		t.Fatalf("got %v", err)
	}
}

func TestWrongPasswordNamesPrincipalAndReference(t *testing.T) {
	t.Parallel()
	r := newRig(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "admin", "right"))
	r.sourceOpts = []kgo.Opt{kgo.SASL(scram.Auth{User: "admin", Pass: "wr0ng-canary"}.AsSha256Mechanism())}
	began := time.Now()
	check := func(who string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("the %s did not fail", who)
		}
		for _, want := range []string{`source cluster "A"`, "User:source-", "source.cluster.sasl.jaas.config", "${file:/etc/k/c:pw}", "SASL_AUTHENTICATION_FAILED"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the %s's error lacks %q: %v", who, want, err)
			}
		}
		if strings.Contains(err.Error(), "canary") {
			t.Error("the error holds the password")
		}
	}
	check("connector", r.runToFailure())
	r.config[keyTaskPartitions] = "orders-0"
	r.startTask(0, r.config)
	eventually(t, "the task fails", func() bool { return len(r.failed()) == 1 })
	check("task", r.failed()[0])
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// runToFailure runs the connector until it fails by itself.
func (r *rig) runToFailure() error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- (&sourceConnector{every: 20 * time.Millisecond}).Run(r.t.Context(), r.context(r.t.Context()))
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the connector has not failed within 20 s")
		return nil
	}
}

func TestTopicSettingsAreSynced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, map[string]string{"retention.ms": "111"})
	r.createTopic(r.target, "A.orders", 1, map[string]string{"retention.ms": "222", "cleanup.policy": "compact", "min.insync.replicas": "1"})
	r.run()
	value := func(key string) string {
		if v, ok := r.target.TopicInfo("A.orders").Configs[key]; ok && v != nil {
			return *v
		}
		return "default"
	}
	eventually(t, "the source's retention is taken over", func() bool { return value("retention.ms") == "111" })
	if value("cleanup.policy") != "default" || value("min.insync.replicas") != "1" {
		t.Errorf("cleanup.policy=%s (is to be reset) min.insync.replicas=%s (is to be left)", value("cleanup.policy"), value("min.insync.replicas"))
	}
}

func TestTopicThatMayNotBeSeenFailsTheConnector(t *testing.T) {
	t.Parallel()
	r := newRig(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("SCRAM-SHA-256", "admin", "a"), kfake.User("SCRAM-SHA-256", "ro", "r"))
	r.sourceOpts = []kgo.Opt{kgo.SASL(scram.Auth{User: "ro", Pass: "r"}.AsSha256Mechanism())}
	r.createTopic(r.source, "orders", 1, nil)
	r.config[keyTopics] = "orders"
	err := r.runToFailure()
	if err == nil || !strings.Contains(err.Error(), "describe topic orders") || !strings.Contains(err.Error(), "User:source-admin") {
		t.Fatalf("got %v", err)
	}
}

func TestDisabledConnectorHasNoTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.config["enabled"] = "false"
	r.tasks = []map[string]string{{keyTaskPartitions: "orders-0"}}
	published := make(chan int, 1)
	cc := r.context(t.Context())
	cc.SetTasks = func(_ context.Context, tasks []map[string]string) error { published <- len(tasks); return nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&sourceConnector{}).Run(ctx, cc) }()
	if n := <-published; n != 0 {
		t.Errorf("%d tasks", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestSourceThatIsDownIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config["admin.timeout.ms"] = "300"
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 3)...)
	lost := errors.New("no route")
	broken := atomic.Bool{}
	broken.Store(true)
	r.sourceOpts = []kgo.Opt{kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if broken.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: lost}
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	})}
	r.run()
	eventually(t, "a warning with the reason", func() bool { return strings.Contains(r.logged(), "no route") })
	broken.Store(false)
	r.waitEqual("orders", "A.orders")
}

func TestWiderCopyKeepsItsPartitionsAndIsToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config["refresh.topics.interval.seconds"] = "1"
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 5, nil)
	write(t, r.source, numbered("orders", 1, 0, 10)...)
	r.run()
	eventually(t, "the records are copied", func() bool { return end(r.target, "A.orders") == 10 })
	r.createTopic(r.source, "orders-new", 1, nil)
	eventually(t, "another plan", func() bool { return r.target.TopicInfo("A.orders-new") != nil })
	if n := len(r.target.PartitionInfos("A.orders")); n != 5 {
		t.Errorf("the copy has %d partitions", n)
	}
	if n := strings.Count(r.logged(), "the copy of a topic has more partitions than the topic"); n != 1 {
		t.Errorf("told %d times:\n%s", n, r.logged())
	}
}
