package mirror

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/config"
	"barnabas/connector"
)

// rig is two clusters in this process and as much of an engine as a connector
// and its tasks need.
type rig struct {
	t              *testing.T
	source, target *kfake.Cluster
	sourceAt       []string // addresses, in place of those of source and target
	targetAt       []string
	sourceOpts     []kgo.Opt // of the connector's own clients
	targetOpts     []kgo.Opt
	internal       connector.Internal
	config         map[string]string
	maxTasks       int
	gate           *connector.Gate
	delivery       connector.Delivery
	every          time.Duration // of saving offsets
	connector      connector.Connector
	task           connector.Task

	mu       sync.Mutex
	offsets  map[string]string
	saves    int
	tasks    []map[string]string
	rates    map[string]int64 // of partitions, as the connector is told
	running  map[int]*runningTask
	starts   map[int]int // of each task
	progress map[int]connector.Progress
	failures []error              // of tasks
	metrics  *prometheus.Registry // of the task that was started last
	notes    []connector.Note
	log      bytes.Buffer
}

type runningTask struct {
	config  map[string]string
	updates chan map[string]string
	cancel  context.CancelFunc
	kill    context.CancelFunc // closes its clients
	done    chan struct{}
	err     error
}

func newRig(t *testing.T, sourceOpts ...kfake.Opt) *rig {
	t.Helper()
	source, target := fake(t, sourceOpts...), fake(t)
	r := newRigAt(t, source.ListenAddrs(), target.ListenAddrs())
	r.source, r.target = source, target
	return r
}

// newRigAt is a rig of clusters that are elsewhere.
func newRigAt(t *testing.T, source, target []string) *rig {
	t.Helper()
	r := &rig{
		t: t, maxTasks: 2, gate: connector.NewGate(64 << 20), every: 50 * time.Millisecond, delivery: connector.Fenced,
		sourceAt: source, targetAt: target, connector: &sourceConnector{every: 20 * time.Millisecond}, task: &sourceTask{},
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
			at, opts := r.targetAt, r.targetOpts
			if role == connector.SourceConsumer || role == connector.SourceAdmin || role == connector.SourceProducer {
				at, opts = r.sourceAt, r.sourceOpts
			}
			opts = append([]kgo.Opt{
				kgo.SeedBrokers(at...), kgo.MetadataMinAge(10 * time.Millisecond), kgo.FetchMaxWait(50 * time.Millisecond),
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
	if os.Getenv("RIGLOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
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
		done <- r.connector.Run(ctx, r.context(clientsCtx))
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
		Rates:    r.rated,
		Offsets:  connector.Offsets{Load: r.load, Save: r.save, Interval: r.every},
		Report: func(notes []connector.Note) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notes = notes
		},
	}
}

func (r *rig) setTasks(tasks []map[string]string) {
	r.mu.Lock()
	r.tasks = tasks
	r.mu.Unlock()
	r.setTasksRunning(tasks)
}

// setTasksRunning stops and starts the tasks that have changed, and updates those that have grown.
func (r *rig) setTasksRunning(tasks []map[string]string) {
	r.mu.Lock()
	var stopped []*runningTask
	for i, task := range r.running {
		if i < len(tasks) && extends(task.config, tasks[i]) {
			task.update(tasks[i])
			continue
		}
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

// update hands a task that runs more to do.
func (task *runningTask) update(c map[string]string) {
	select {
	case <-task.updates:
	default:
	}
	task.config = c
	task.updates <- c
}

func (r *rig) startTask(i int, c map[string]string) *runningTask {
	ctx, cancel := context.WithCancel(context.Background())
	clientsCtx, closeClients := context.WithCancel(context.Background())
	task := &runningTask{config: c, cancel: cancel, kill: closeClients, done: make(chan struct{}), updates: make(chan map[string]string, 1)}
	r.mu.Lock()
	r.running[i] = task
	r.starts[i]++
	r.mu.Unlock()
	go func() {
		defer close(task.done)
		defer closeClients()
		tc := r.taskContext(clientsCtx, i, c)
		tc.Updates = task.updates
		task.err = r.task.Run(ctx, tc)
		if task.err != nil {
			r.mu.Lock()
			r.failures = append(r.failures, task.err)
			r.mu.Unlock()
		}
	}()
	return task
}

// taskContext is what task i gets; its clients live as long as ctx.
func (r *rig) taskContext(ctx context.Context, i int, c map[string]string) connector.TaskContext {
	clear := make(chan struct{})
	close(clear)
	registry := prometheus.NewRegistry()
	r.mu.Lock()
	r.metrics = registry
	r.mu.Unlock()
	return connector.TaskContext{
		Connector: "m", Task: i, Settings: config.Literal(c), Log: r.logger(), Metrics: registry, Clients: r.clients(ctx),
		Offsets: connector.Offsets{Load: r.load, Save: r.save, Interval: r.every}, Gate: r.gate, Delivery: r.delivery, Started: func() {},
		TransactionalID: "g-m-" + strconv.Itoa(i), Owner: "g-m", Clear: clear, GapPolicy: "record", Fenced: func() {},
		Confirm: func(context.Context) error { return nil },
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
		if o.Offset == nil {
			delete(r.offsets, string(o.Partition))
			continue
		}
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
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
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
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Millisecond), kgo.KeepControlRecords())
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
			if got++; r.Attrs.IsControl() {
				return // of a fence
			}
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

// nothingTask does nothing.
type nothingTask struct{}

func (nothingTask) Run(ctx context.Context, _ connector.TaskContext) error {
	<-ctx.Done()
	return nil
}

// refuseReplicas has a cluster refuse topics of more than one replica, as real ones of one broker do.
func refuseReplicas(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		create, ok := req.(*kmsg.CreateTopicsRequest)
		if !ok || len(create.Topics) == 0 || create.Topics[0].ReplicationFactor < 2 {
			return nil, nil, false
		}
		resp := create.ResponseKind().(*kmsg.CreateTopicsResponse) //nolint:forcetypeassert // it is
		for _, topic := range create.Topics {
			t := kmsg.NewCreateTopicsResponseTopic()
			t.Topic, t.ErrorCode = topic.Topic, kerr.InvalidReplicationFactor.Code
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
}
