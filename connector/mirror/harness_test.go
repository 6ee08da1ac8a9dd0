package mirror

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// rig is two clusters in this process and as much of an engine as a connector
// and its tasks need.
type rig struct {
	t              *testing.T
	source, target *kfake.Cluster
	sourceOpts     []kgo.Opt // of the connector's own clients
	internal       connector.Internal
	config         map[string]string
	maxTasks       int
	gate           *connector.Gate
	every          time.Duration // of saving offsets

	mu       sync.Mutex
	offsets  map[string]string
	saves    int
	tasks    []map[string]string
	running  map[int]*runningTask
	starts   map[int]int // of each task
	progress map[int]connector.Progress
	failures []error // of tasks
	log      bytes.Buffer
}

type runningTask struct {
	config map[string]string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newRig(t *testing.T, sourceOpts ...kfake.Opt) *rig {
	t.Helper()
	r := &rig{
		t: t, maxTasks: 2, gate: connector.NewGate(64 << 20), every: 50 * time.Millisecond,
		source: fake(t, sourceOpts...), target: fake(t),
		offsets: map[string]string{}, running: map[int]*runningTask{}, starts: map[int]int{}, progress: map[int]connector.Progress{},
	}
	r.config = map[string]string{
		"name": "m", "connector.class": "MirrorSource", keySourceAlias: "A", keyTargetAlias: "B", keyReplicationFactor: "1",
		keyTopics: "orders.*", "source.cluster.sasl.jaas.config": "password=${file:/etc/k/c:pw}", "admin.timeout.ms": "10000",
	}
	return r
}

func fake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// clients is what the engine hands to a connector or task.
func (r *rig) clients(ctx context.Context) connector.Clients {
	return connector.Clients{
		Open: func(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
			cluster, opts := r.target, []kgo.Opt(nil)
			if role == connector.SourceConsumer || role == connector.SourceAdmin {
				cluster, opts = r.source, r.sourceOpts
			}
			opts = append([]kgo.Opt{
				kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(10 * time.Millisecond), kgo.FetchMaxWait(50 * time.Millisecond),
				kgo.ProducerBatchCompression(kgo.NoCompression()),
			}, opts...)
			client, err := kgo.NewClient(append(opts, extra...)...)
			if err == nil {
				context.AfterFunc(ctx, client.Close)
			}
			return client, err
		},
		Principal: func(role connector.Role) string { return "User:" + string(role) },
	}
}

func (r *rig) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(writer{r}, nil))
}

type writer struct{ r *rig }

func (w writer) Write(b []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(b)
}

// run runs the connector and its tasks until stop is called, which returns the
// connector's error after all has ended.
func (r *rig) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	clientsCtx, closeClients := context.WithCancel(context.Background())
	r.setTasksRunning(r.tasks) // those that stand in the config topic
	done := make(chan error, 1)
	go func() {
		done <- (&sourceConnector{every: 20 * time.Millisecond}).Run(ctx, r.context(clientsCtx))
	}()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
			r.setTasksRunning(nil)
			closeClients()
		})
		return err
	}
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

// context is what the connector gets; its clients live as long as ctx.
func (r *rig) context(ctx context.Context) connector.Context {
	return connector.Context{
		Name: "m", Settings: config.Literal(r.config), MaxTasks: r.maxTasks, Log: r.logger(), Metrics: prometheus.NewRegistry(),
		Clients: r.clients(ctx), Tasks: locked(r, func() []map[string]string { return r.tasks }), Started: func() {}, Internal: r.internal,
		SetTasks: func(_ context.Context, tasks []map[string]string) error { r.setTasks(tasks); return nil },
	}
}

func (r *rig) setTasks(tasks []map[string]string) {
	r.mu.Lock()
	r.tasks = tasks
	r.mu.Unlock()
	r.setTasksRunning(tasks)
}

// setTasksRunning stops and starts the tasks that have changed.
func (r *rig) setTasksRunning(tasks []map[string]string) {
	r.mu.Lock()
	var stopped []*runningTask
	for i, task := range r.running {
		if i >= len(tasks) || !maps.Equal(tasks[i], task.config) {
			stopped = append(stopped, task)
			delete(r.running, i)
		}
	}
	r.mu.Unlock()
	for _, task := range stopped {
		task.cancel()
		<-task.done
	}
	for i, c := range tasks {
		r.mu.Lock()
		_, runs := r.running[i]
		r.mu.Unlock()
		if !runs {
			r.startTask(i, c)
		}
	}
}

func (r *rig) startTask(i int, c map[string]string) {
	ctx, cancel := context.WithCancel(context.Background())
	clientsCtx, closeClients := context.WithCancel(context.Background())
	task := &runningTask{config: c, cancel: cancel, done: make(chan struct{})}
	r.mu.Lock()
	r.running[i] = task
	r.starts[i]++
	r.mu.Unlock()
	go func() {
		defer close(task.done)
		defer closeClients()
		task.err = (&sourceTask{}).Run(ctx, r.taskContext(clientsCtx, i, c))
		if task.err != nil {
			r.mu.Lock()
			r.failures = append(r.failures, task.err)
			r.mu.Unlock()
		}
	}()
}

// taskContext is what task i gets; its clients live as long as ctx.
func (r *rig) taskContext(ctx context.Context, i int, c map[string]string) connector.TaskContext {
	return connector.TaskContext{
		Connector: "m", Task: i, Settings: config.Literal(c), Log: r.logger(), Metrics: prometheus.NewRegistry(), Clients: r.clients(ctx),
		Offsets: connector.Offsets{Load: r.load, Save: r.save, Interval: r.every}, Gate: r.gate, Delivery: connector.Plain, Started: func() {},
		Report: func(p connector.Progress) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.progress[i] = p
		},
	}
}

func (r *rig) load(_ context.Context, keys [][]byte) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if v, ok := r.offsets[string(k)]; ok {
			values[i] = []byte(v)
		}
	}
	return values, nil
}

func (r *rig) save(_ context.Context, offsets []connector.Offset) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saves++
	for _, o := range offsets {
		r.offsets[string(o.Partition)] = string(o.Offset)
	}
	return nil
}

// locked reads the rig's state.
func locked[T any](r *rig, read func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return read()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("ended before: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// copied is what must be equal at both ends.
type copied struct {
	Key, Value []byte
	Headers    []kgo.RecordHeader
	At         int64
}

// read returns all records of a topic, partition by partition.
func read(t *testing.T, c *kfake.Cluster, topic string) map[int32][]copied {
	t.Helper()
	all := map[int32][]copied{}
	info := c.TopicInfo(topic)
	if info == nil {
		return all
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var want, got int64
	for _, p := range c.PartitionInfos(topic) {
		want += p.HighWatermark - p.LogStartOffset
	}
	for got < want {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %s: %v (%d of %d)", topic, err, got, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got++
			all[r.Partition] = append(all[r.Partition], copied{r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()})
		})
	}
	return all
}

// write produces records to their partitions.
func write(t *testing.T, c *kfake.Cluster, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered makes n records for partition p of topic, from number first on.
func numbered(topic string, p int32, first, n int) []*kgo.Record {
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: p, Key: fmt.Appendf(nil, "k%d", first+i), Value: fmt.Appendf(nil, "%s-%d-%d", topic, p, first+i),
			Timestamp: time.UnixMilli(1_700_000_000_000 + int64(first+i)),
		})
	}
	return records
}

func end(c *kfake.Cluster, topic string) (n int64) {
	for _, p := range c.PartitionInfos(topic) {
		n += p.HighWatermark
	}
	return n
}

// waitEqual waits until the copy has as many records and compares them.
func (r *rig) waitEqual(topic, remote string) {
	r.t.Helper()
	eventually(r.t, remote+" has as many records as "+topic, func() bool { return end(r.target, remote) >= end(r.source, topic) })
	if diff := cmp.Diff(read(r.t, r.source, topic), read(r.t, r.target, remote)); diff != "" {
		r.t.Errorf("%s and %s differ:\n%s", topic, remote, diff)
	}
}

func (r *rig) createTopic(c *kfake.Cluster, topic string, partitions int32, configs map[string]string) {
	r.t.Helper()
	if err := c.CreateTopic(topic, partitions, configs); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) logged() string { return locked(r, func() string { return r.log.String() }) }

func (r *rig) failed() []error { return locked(r, func() []error { return slices.Clone(r.failures) }) }
