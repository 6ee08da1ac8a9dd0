package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

// idle is a connector whose tasks do nothing but run.
type idle struct{}

func idlePlugin() connector.Plugin {
	return connector.Plugin{
		Class: "test.Idle", Type: connector.Source, Version: "1", Keys: config.NewDef(
			config.Key{Name: "name", Type: config.String}, config.Key{Name: "connector.class", Type: config.String},
			config.Key{Name: "tasks.max", Type: config.Int, Default: new("1")},
			config.Key{Name: "secret", Type: config.Password, Default: new("")}),
		OwnOffset:    func(p connector.Fields) bool { _, own := p.Get("own"); return own },
		Final:        func(err error) bool { return errors.Is(err, errFinal) },
		NewConnector: func() connector.Connector { return idle{} },
		NewTask:      func() connector.Task { return idleTask{} },
	}
}

func (idle) Run(ctx context.Context, cc connector.Context) error {
	cc.Started()
	var tasks []map[string]string
	for i := range cc.MaxTasks {
		c := cc.Settings.Written()
		c["share"] = fmt.Sprint(i)
		tasks = append(tasks, c)
	}
	if err := cc.SetTasks(ctx, tasks); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

type idleTask struct{}

func (idleTask) Run(ctx context.Context, tc connector.TaskContext) error {
	switch tc.Settings["fail"].Written {
	case "yes":
		return errors.New("asked to fail")
	case "final":
		return errFinal
	}
	if n, err := strconv.Atoi(tc.Settings["sick"].Written); err == nil && sick[n].Load() {
		return errors.New("sick")
	}
	tc.Started()
	<-ctx.Done()
	return nil
}

func TestMain(m *testing.M) {
	plugins = append(plugins, idlePlugin(), fencingPlugin(), stuckPlugin())
	m.Run()
}

// cluster is a worker cluster over an embedded Kafka.
type cluster struct {
	t       *testing.T
	kafka   *kfake.Cluster
	workers []*member
	crash   map[string]chan struct{} // by worker: closing it is a kill -9
	noREST  bool                     // the workers cannot send each other requests
}

type member struct {
	*Worker
	mu     sync.Mutex
	events []audit.Entry
	stop   context.CancelFunc
	kill   func()
	done   chan error
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &cluster{t: t, kafka: k}
}

// join starts a worker; id is only a name: nothing listens there.
func (c *cluster) join(id string, more map[string]string) *member {
	c.t.Helper()
	m := c.member(id, more)
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	c.workers = append(c.workers, m)
	go func() { m.done <- m.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		select {
		case err := <-m.done:
			if err != nil {
				c.t.Errorf("%s ended: %v", id, err)
			}
		case <-time.After(30 * time.Second):
			c.t.Errorf("%s does not end", id)
		}
	})
	return m
}

// member makes a worker that does not run yet.
func (c *cluster) member(id string, more map[string]string) *member {
	c.t.Helper()
	written := map[string]string{
		"bootstrap.servers": strings.Join(c.kafka.ListenAddrs(), ","), "group.id": "g",
		"config.storage.topic": "configs", "offset.storage.topic": "offsets", "status.storage.topic": "statuses",
		"config.storage.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"gossip.bind": "127.0.0.1:0",
	}
	for k, v := range more {
		written[k] = v
	}
	file, problems, _ := config.ParseWorker(config.Literal(written))
	if len(problems) > 0 {
		c.t.Fatal(problems)
	}
	resolver, err := configprovider.New(c.t.Context(), written, configprovider.Kinds(nil))
	if err != nil {
		c.t.Fatal(err)
	}
	m := &member{done: make(chan error, 1)}
	dialer, kill := plug()
	m.kill = kill
	byID := func(url string) *Worker {
		for _, w := range slices.Backward(c.workers) { // the last process of that name
			if "http://"+w.ID() == url {
				return w.Worker
			}
		}
		return nil
	}
	o := Options{
		File: file, Resolver: resolver, ID: id, URL: "http://" + id, Version: "test", Dialer: dialer, Crash: c.crash[id],
		Log: slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("worker", id), Metrics: prometheus.NewRegistry(),
		Event: func(e audit.Entry) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events = append(m.events, e)
		},
		Publish: func(ctx context.Context, url, name string, generation int64, tasks []map[string]string) error {
			if w := byID(url); w != nil {
				return w.PublishTasks(ctx, name, generation, tasks)
			}
			return errors.New("nobody there")
		},
	}
	if c.noREST {
		o.URL, o.Publish = "", nil
	}
	if m.Worker, err = New(o); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// plug returns a dialer whose connections can all be cut at once and for good.
func plug() (dial func(ctx context.Context, network, address string) (net.Conn, error), pull func()) {
	ctx, cancel := context.WithCancel(context.Background())
	return func(c context.Context, network, address string) (net.Conn, error) {
		if ctx.Err() != nil {
			return nil, errors.New("unplugged")
		}
		conn, err := new(net.Dialer).DialContext(c, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, err
	}, cancel
}

// eventually waits until f returns "", and otherwise fails with what it said last.
func (c *cluster) eventually(f func() string) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		said := f()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal(said)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-c.t.Context().Done():
			c.t.Fatal(said)
		}
	}
}

func (c *cluster) running(w *member, name string, tasks int) {
	c.t.Helper()
	c.eventually(func() string {
		s, err := w.Status(c.t.Context(), name)
		if err != nil {
			return err.Error()
		}
		n := 0
		for _, t := range s.Tasks {
			if t.State == "RUNNING" {
				n++
			}
		}
		if s.Connector.State != "RUNNING" || n != tasks || len(s.Tasks) != tasks {
			return fmt.Sprintf("want %d running tasks, have %+v", tasks, s)
		}
		return ""
	})
}

// create creates a connector at whichever worker leads.
func (c *cluster) create(name string, cfg map[string]string) {
	c.t.Helper()
	c.eventually(func() string {
		for _, w := range c.workers {
			_, err := w.Create(c.t.Context(), name, cfg, "")
			var elsewhere *ElsewhereError
			if err == nil {
				return ""
			}
			if !errors.As(err, &elsewhere) {
				return err.Error()
			}
		}
		return "nobody leads"
	})
}

func TestOneWorkerRunsAConnector(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "3"})
	c.running(w, "x", 3)
}

func TestTasksSpreadAndMoveWhenAWorkerDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b, d := c.join("a:1", nil), c.join("b:1", nil), c.join("c:1", nil)
	for _, w := range []*member{a, b, d} {
		c.allAlive(w, 3)
	}
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "6"})
	for _, w := range []*member{a, b, d} {
		c.running(w, "x", 6)
	}
	for _, m := range a.Members() {
		if m.Tasks != 2 {
			t.Errorf("%s has %d tasks of 6, want 2", m.ID, m.Tasks)
		}
	}
	started := time.Now()
	b.stop()
	c.eventually(func() string {
		s, err := a.Status(t.Context(), "x")
		if err != nil {
			return err.Error()
		}
		for _, task := range s.Tasks {
			if task.State != "RUNNING" || task.WorkerID == "b:1" {
				return fmt.Sprintf("%+v", s)
			}
		}
		return ""
	})
	t.Logf("after a graceful stop all ran again in %v", time.Since(started))
}

// at returns the worker that a connector's task runs on, once it runs.
func (c *cluster) at(w *member, name string, task int) string {
	c.t.Helper()
	var worker string
	c.eventually(func() string {
		s, err := w.Status(c.t.Context(), name)
		if err != nil {
			return err.Error()
		}
		if task >= len(s.Tasks) || s.Tasks[task].State != "RUNNING" {
			return fmt.Sprintf("task %d does not run: %+v", task, s)
		}
		worker = s.Tasks[task].WorkerID
		return ""
	})
	return worker
}

func (c *cluster) allAlive(w *member, n int) {
	c.t.Helper()
	c.eventually(func() string {
		alive := 0
		for _, m := range w.Members() {
			if m.State == "alive" {
				alive++
			}
		}
		if alive != n {
			return fmt.Sprintf("want %d members alive: %+v", n, w.Members())
		}
		return ""
	})
}

// leads runs f against the leader, wherever it is.
func (c *cluster) leads(f func(w *member) error) {
	c.t.Helper()
	c.eventually(func() string {
		said := "no workers"
		for _, w := range c.workers {
			err := f(w)
			if err == nil {
				return ""
			}
			said = err.Error()
		}
		return said
	})
}

func TestAnUnpluggedWorkersTasksRunElsewhereAndStopThere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.join("a:1", nil), c.join("b:1", nil)
	c.allAlive(a, 2)
	c.allAlive(b, 2)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "4"})
	c.running(a, "x", 4)
	// Cut off from Kafka, but alive in gossip: only its own word tells the others.
	started := time.Now()
	b.kill()
	c.eventually(func() string {
		s, err := a.Status(t.Context(), "x")
		if err != nil {
			return err.Error()
		}
		for _, task := range s.Tasks {
			if task.State != "RUNNING" || task.WorkerID != "a:1" {
				return fmt.Sprintf("%+v", s)
			}
		}
		return ""
	})
	t.Logf("all ran on the other worker %v after the cut", time.Since(started))
	c.eventually(func() string {
		if h := b.Health(); h.Status != "unhealthy" {
			return fmt.Sprintf("a worker that cannot read its topics says %+v", h)
		}
		if n := len(b.runner.Progress("x")); n > 0 {
			return fmt.Sprintf("%d tasks still run on it", n)
		}
		return ""
	})
}

func TestPauseResumeStopAndDelete(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	c.running(w, "x", 2)
	for _, step := range []struct {
		target TargetState
		state  string
		tasks  int
	}{{Paused, "PAUSED", 2}, {Started, "RUNNING", 2}, {Stopped, "STOPPED", 0}, {Started, "RUNNING", 2}} {
		if err := w.SetTarget(t.Context(), "x", step.target); err != nil {
			t.Fatal(err)
		}
		c.eventually(func() string {
			s, err := w.Status(t.Context(), "x")
			if err != nil {
				return err.Error()
			}
			ok := s.Connector.State == step.state && len(s.Tasks) == step.tasks
			for _, task := range s.Tasks {
				ok = ok && task.State == step.state
			}
			if !ok {
				return fmt.Sprintf("after %s: %+v", step.target, s)
			}
			return ""
		})
	}
	if err := w.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Status(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted connector has the status %v", err)
	}
	if err := w.SetTarget(t.Context(), "x", Paused); !errors.Is(err, ErrNotFound) {
		t.Errorf("pausing a deleted connector: %v", err)
	}
	c.create("x", map[string]string{"connector.class": "test.Idle"})
	c.running(w, "x", 1)
}

func TestAFailedTaskStaysFailedUntilItIsRestarted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "fail": "yes", "auto.restart.enabled": "false"})
	failed := func() string {
		s, err := w.Status(t.Context(), "x")
		if err != nil {
			return err.Error()
		}
		if len(s.Tasks) != 1 || s.Tasks[0].State != "FAILED" || s.Tasks[0].Trace != "asked to fail" || s.Connector.State != "RUNNING" {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	}
	c.eventually(failed)
	if err := w.RestartTask(t.Context(), TaskID{"x", 0}); err != nil {
		t.Fatal(err)
	}
	if err := w.RestartTask(t.Context(), TaskID{"x", 7}); !errors.Is(err, ErrNotFound) {
		t.Errorf("restarting a task that is not there: %v", err)
	}
	c.eventually(failed)
	no := "no"
	if _, err := w.Patch(t.Context(), "x", map[string]*string{"fail": &no}); err != nil {
		t.Fatal(err)
	}
	c.running(w, "x", 1)
	s, err := w.RestartFlagged(t.Context(), "x", true, false)
	if err != nil || s.Connector.State != "RESTARTING" || s.Tasks[0].State != "RESTARTING" {
		t.Errorf("restart with tasks: %+v, %v", s, err)
	}
	c.running(w, "x", 1)
}

func TestWrongConfigurationsAreRefusedInConnectsWords(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", map[string]string{"connector.client.config.override.policy": "None"})
	c.create("x", map[string]string{"connector.class": "test.Idle"})
	for _, tt := range []struct {
		name   string
		config map[string]string
		reason error
		want   string
	}{
		{"none", map[string]string{}, ErrInvalid, "contains no connector type"},
		{"class", map[string]string{"connector.class": "nope"}, ErrInvalid, "Failed to find any class that implements Connector and which name matches nope"},
		{"number", map[string]string{"connector.class": "test.Idle", "tasks.max": "abc"}, ErrInvalid, "Invalid value abc for configuration tasks.max: Not a number of type INT"},
		{"reference", map[string]string{"connector.class": "test.Idle", "secret": "${nope:x}"}, ErrInvalid, "${nope:x}"},
		{"name", map[string]string{"connector.class": "test.Idle", "name": "other"}, ErrInvalid, "other"},
		{"x", map[string]string{"connector.class": "test.Idle"}, ErrConflict, "Connector x already exists"},
	} {
		_, err := w.Create(t.Context(), tt.name, tt.config, "")
		if !errors.Is(err, tt.reason) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %v: %s", tt.name, err, tt.reason, tt.want)
		}
	}
}

func TestAGroupOfKafkaConnectIsNotJoined(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	plain, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	admin := kadm.NewClient(plain)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.GroupProtocol("connect"),
		kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c.eventually(func() string {
		groups, err := admin.DescribeGroups(t.Context(), "g")
		if err != nil || len(groups["g"].Members) == 0 {
			return fmt.Sprintf("the group has no members: %+v %v", groups, err)
		}
		return ""
	})
	w := c.member("a:1", nil)
	err = w.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `1 workers of Kafka Connect are members of the group "g"`) {
		t.Errorf("a worker beside Kafka Connect ended with %v", err)
	}
}

func TestAClusterThatStartsAgainKnowsEverything(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.join("a:1", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	c.create("paused", map[string]string{"connector.class": "test.Idle"})
	c.leads(func(w *member) error { return w.SetTarget(t.Context(), "paused", Paused) })
	c.running(a, "x", 2)
	a.stop()
	<-a.done
	a.done <- nil
	b := c.join("b:1", nil)
	c.running(b, "x", 2)
	c.eventually(func() string {
		s, err := b.Status(t.Context(), "paused")
		if err != nil || s.Connector.State != "PAUSED" || s.Connector.WorkerID != "b:1" {
			return fmt.Sprintf("%+v %v", s, err)
		}
		return ""
	})
	if at := c.at(b, "x", 0); at != "b:1" {
		t.Errorf("x-0 runs on %s", at)
	}
}

func TestTasksRunOnlyWhereTheirPlacementAllows(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.join("a:1", map[string]string{"worker.labels": "tier=pci,zone=x"})
	c.allAlive(a, 1)
	c.join("b:1", map[string]string{"worker.labels": "zone=y"})
	c.allAlive(a, 2)
	placed := func(rules string) map[string]string {
		return map[string]string{"connector.class": "test.Idle", "tasks.max": "4", "tasks.placement": rules}
	}
	c.create("x", placed("tier=pci"))
	c.running(a, "x", 4)
	for task := range 4 {
		if at := c.at(a, "x", task); at != "a:1" {
			t.Errorf("task %d runs at %s", task, at)
		}
	}
	where := func(rules, want, trace string) {
		t.Helper()
		if _, _, err := a.Put(t.Context(), "x", placed(rules)); err != nil {
			t.Fatal(err)
		}
		c.eventually(func() string {
			s, err := a.Status(t.Context(), "x")
			if err != nil {
				return err.Error()
			}
			for _, task := range s.Tasks {
				if task.State != "RUNNING" && trace == "" || task.WorkerID != want && trace == "" || !strings.Contains(task.Trace, trace) {
					return fmt.Sprintf("%s: %+v", rules, task)
				}
			}
			return ""
		})
	}
	where("tier!=pci", "b:1", "")
	where("zone=y|z, tier!=gold", "b:1", "")
	where("zone=none", "", "No worker of the cluster satisfies tasks.placement=zone=none")
	where("zone=x", "a:1", "")
	if _, _, err := a.Put(t.Context(), "x", placed("pci")); err == nil || !strings.Contains(err.Error(), `"pci" is not a rule for labels`) {
		t.Errorf("a rule that is none: %v", err)
	}
}
