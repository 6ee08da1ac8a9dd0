package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/worker"
)

// cluster is a cluster of real workers with their REST servers, over an
// embedded Kafka that holds the topic t1.
type cluster struct {
	t        *testing.T
	kafka    *kfake.Cluster
	settings []map[string]string
	rest     func(*Options) // changes the options of REST servers; may be nil
	nodes    []*node
}

// node is one worker.
type node struct {
	t      *testing.T
	url    string
	admin  string // the URL of its admin listener, if it has one of its own
	id     string
	worker *worker.Worker
	server *Server
	levels *fakeLevels
	client *Client
	stop   func()
}

// newCluster starts workers; settings are more of their worker file.
func newCluster(t *testing.T, workers int, settings ...map[string]string) *cluster {
	t.Helper()
	return newClusterOf(t, workers, nil, settings...)
}

func newClusterOf(t *testing.T, workers int, rest func(*Options), settings ...map[string]string) *cluster {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "t1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := &cluster{t: t, kafka: k, settings: settings, rest: rest}
	// The first one leads before the others come. Two that stand for leader at once would make it change hands when a test thinks that
	// it is settled.
	for i := range workers {
		c.join()
		eventually(t, c.ready)
		if i == 0 {
			c.roles()
		}
	}
	return c
}

// ready says what is wrong unless all workers are healthy and know each other.
func (c *cluster) ready() string {
	for _, n := range c.nodes {
		members := n.worker.Members()
		if h := n.worker.Health(); !h.Healthy || len(members) < len(c.nodes) {
			return "not ready: " + h.Message
		}
		for _, m := range members {
			if m.State != stateAlive {
				return m.ID + " is " + m.State
			}
		}
	}
	return ""
}

func (c *cluster) bootstrap() string { return strings.Join(c.kafka.ListenAddrs(), ",") }

// join starts one more worker.
func (c *cluster) join() *node {
	c.t.Helper()
	l := listen(c.t)
	n := &node{t: c.t, id: l.Addr().String(), url: "http://" + l.Addr().String(), levels: newFakeLevels()}
	written := map[string]string{
		"bootstrap.servers": c.bootstrap(), "group.id": "g", "gossip.bind": "127.0.0.1:0",
		"config.storage.topic": "configs", "offset.storage.topic": "offsets", "status.storage.topic": "statuses",
		"config.storage.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1",
	}
	for _, more := range c.settings {
		maps.Copy(written, more)
	}
	file, problems, _ := config.ParseWorker(config.Literal(written))
	if len(problems) > 0 {
		c.t.Fatal(problems)
	}
	resolver, err := configprovider.New(c.t.Context(), written, append(configprovider.Kinds(nil), slowKind))
	if err != nil {
		c.t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("worker", n.id)
	var sessionKey func() ([]byte, string, bool)
	n.worker, err = worker.New(worker.Options{
		File: file, Resolver: resolver, ID: n.id, URL: n.url, Version: "4.3.1", Log: log, Metrics: registry,
		Publish:  Publisher(nil, func() ([]byte, string, bool) { return sessionKey() }),
		SetLevel: func(logger, level string) { n.levels.loggers().SetLevel(logger, strings.ToUpper(level)) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	sessionKey = n.worker.SessionKey
	var admin []net.Listener
	if !file.AdminOnListeners {
		admin = []net.Listener{}
		for range file.AdminListeners { // their ports do not count
			admin = append(admin, listen(c.t))
			n.admin = "http://" + admin[0].Addr().String()
		}
	}
	o := Options{
		Worker: n.worker, Listeners: []net.Listener{l}, AdminListeners: admin, Log: log, Metrics: registry, Gatherer: registry, Loggers: n.levels.loggers(),
	}
	if c.rest != nil {
		c.rest(&o)
	}
	n.server, err = New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	n.client = testClient(c.t, n.url)
	n.stop = sync.OnceFunc(startAll(c.t, n.worker.Run, n.server.Run))
	c.t.Cleanup(n.stop)
	c.nodes = append(c.nodes, n)
	return n
}

// startAll starts functions, the later ones to end first, and returns what ends them and waits.
func startAll(t *testing.T, runs ...func(context.Context) error) (stop func()) {
	var stops []func()
	for _, run := range runs {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		stops = append(stops, func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
	return func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// testClient returns a client whose answers are all checked against openapi.yaml.
func testClient(t *testing.T, urls ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{URLs: urls, Retry: -1})
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport = &described{t: t, next: c.http.Transport}
	return c
}

// roles returns a worker that leads, and one that does not, as soon as all agree on that.
func (c *cluster) roles() (leader, follower *node) {
	c.t.Helper()
	eventually(c.t, func() string {
		led := map[string]int{}
		for _, n := range c.nodes {
			for _, m := range n.worker.Members() {
				if m.Leader {
					led[m.ID]++
				}
			}
		}
		for _, n := range c.nodes {
			if led[n.id] == len(c.nodes) && len(led) == 1 {
				leader = n
			} else {
				follower = n
			}
		}
		if leader == nil {
			return fmt.Sprint("no agreement: ", led)
		}
		return ""
	})
	return leader, follower
}

// mirror is a configuration that copies t1 within the embedded Kafka.
func (c *cluster) mirror(more map[string]string) map[string]string {
	cfg := map[string]string{
		"connector.class": "MirrorSource", "source.cluster.alias": "A", "target.cluster.alias": "B", "topics": "t1", "tasks.max": "2",
		"source.cluster.bootstrap.servers": c.bootstrap(), "target.cluster.bootstrap.servers": c.bootstrap(),
		"replication.factor": "1", "offset-syncs.topic.replication.factor": "1",
	}
	maps.Copy(cfg, more)
	return cfg
}

// waitFor waits until a connector has so many tasks and all are in a state.
func (n *node) waitFor(name, state string, tasks int) worker.ConnectorStatus {
	n.t.Helper()
	var status worker.ConnectorStatus
	eventually(n.t, func() string {
		var err error
		if status, err = n.client.Status(n.t.Context(), name); err != nil {
			return err.Error()
		}
		all := status.Connector.State == state && len(status.Tasks) == tasks
		for _, task := range status.Tasks {
			all = all && task.State == state
		}
		if !all {
			return "not " + state + ": " + toJSON(n.t, status)
		}
		return ""
	})
	return status
}

// eventually waits until f returns "", and otherwise fails with what it said last.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		said := f()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(said)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(said)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// reply of a server, read to its end.
type received struct {
	status int
	header http.Header
	body   string
}

// ask sends a request with the path as it is written, and checks the answer
// against openapi.yaml.
func ask(t *testing.T, base, method, path string, header map[string]string, body *string) received {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	target, query, _ := strings.Cut(path, "?")
	u.Opaque, u.RawQuery = "//"+u.Host+target, query
	var reader io.Reader
	if body != nil {
		reader = strings.NewReader(*body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.URL = u
	for k, v := range header {
		req.Header.Set(k, v)
	}
	client := &http.Client{Transport: &described{t: t, next: http.DefaultTransport}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return received{res.StatusCode, res.Header, string(bytes.TrimSpace(b))}
}

// fakeLevels stands for the process' logger.
type fakeLevels struct {
	mu     sync.Mutex
	levels map[string]LoggerLevel
}

func newFakeLevels() *fakeLevels {
	return &fakeLevels{levels: map[string]LoggerLevel{"root": {Level: "INFO"}}}
}

func (f *fakeLevels) loggers() *Loggers {
	return &Loggers{
		Levels: func() map[string]LoggerLevel {
			f.mu.Lock()
			defer f.mu.Unlock()
			return maps.Clone(f.levels)
		},
		SetLevel: func(name, level string) []string {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.levels[name].Level == level {
				return nil
			}
			now := time.Now().UnixMilli()
			f.levels[name] = LoggerLevel{Level: level, LastModified: &now}
			return []string{name}
		},
	}
}
