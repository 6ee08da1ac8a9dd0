package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ask performs one request. Whatever is answered is searched for secrets.
func (e *Env) ask(ctx context.Context, method, url, body string) (status int, answer string, err error) {
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.DefaultClient
	if e.Client != nil {
		client = e.Client
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	var head bytes.Buffer
	_ = res.Header.Write(&head)
	e.Leak.Scan("answer", method+" "+url, append(head.Bytes(), text...))
	return res.StatusCode, string(text), err
}

// Ask performs a request on a worker and fails the test if there is no answer.
func (w *Worker) Ask(method, path, body string) (status int, answer string) {
	e := w.fleet.e
	e.t.Helper()
	status, answer, err := e.ask(e.Context(), method, w.URL()+path, body)
	e.Must(err)
	return status, answer
}

// Do performs a request on any worker that is alive and fails the test unless
// the status is as wanted.
func (f *Fleet) Do(method, path, body string, want int) string {
	f.e.t.Helper()
	status, answer := f.any().Ask(method, path, body)
	if status != want {
		f.e.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, status, answer, want)
	}
	return answer
}

// any is a worker that is alive; not the first, so that requests are forwarded
// as often as not.
func (f *Fleet) any() *Worker {
	f.e.t.Helper()
	alive := f.Alive()
	if len(alive) == 0 {
		f.e.t.Fatal("no worker is alive")
	}
	return alive[len(alive)-1]
}

// Config is a connector's configuration.
type Config map[string]string

// With returns a copy with more or other settings; an empty value takes one
// out.
func (c Config) With(more map[string]string) Config {
	c = maps.Clone(c)
	for k, v := range more {
		c[k] = v
		if v == "" {
			delete(c, k)
		}
	}
	return c
}

// JSON is the configuration as a request body.
func (c Config) JSON() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings
	}
	return string(text)
}

// Mirror is the configuration of a MirrorSource connector under two identities,
// with the default policy and the source alias "src".
func (e *Env) Mirror(source, target Identity, topics string, tasks int) Config {
	c := Config{
		"connector.class":      "org.apache.kafka.connect.mirror.MirrorSourceConnector",
		"source.cluster.alias": "src", "target.cluster.alias": "tgt",
		"source.cluster.bootstrap.servers": e.Source.Address(Client), "target.cluster.bootstrap.servers": e.Target.Address(Client),
		"topics": topics, "tasks.max": fmt.Sprint(tasks), "replication.factor": "1",
		"emit.offset-syncs.enabled": "false", "refresh.topics.interval.seconds": "5",
		"sync.topic.acls.enabled": "false",
	}
	for _, side := range []struct {
		prefix string
		who    Identity
	}{{"source.cluster.", source}, {"target.cluster.", target}} {
		maps.Copy(c, side.who.Settings(side.prefix))
	}
	// The workers' own producer and admin settings stay below these.
	maps.Copy(c, target.Settings("producer.override."))
	maps.Copy(c, target.Settings("admin.override."))
	return c
}

// Create makes a connector.
func (f *Fleet) Create(name string, c Config) {
	f.e.t.Helper()
	f.Do(http.MethodPost, "/connectors", `{"name":"`+name+`","config":`+c.JSON()+`}`, http.StatusCreated)
}

// Status is a connector's status as Connect tells it.
type Status struct {
	Name      string       `json:"name"`
	Connector TaskStatus   `json:"connector"`
	Tasks     []TaskStatus `json:"tasks"`
}

// TaskStatus is where a task, or a connector, is and how it is.
type TaskStatus struct {
	ID     int    `json:"id"`
	State  string `json:"state"`
	Worker string `json:"worker_id"`
	Trace  string `json:"trace"`
}

// Status reads a connector's status; ok is false if there is no such connector.
func (f *Fleet) Status(name string) (s Status, ok bool) {
	f.e.t.Helper()
	status, answer := f.any().Ask(http.MethodGet, "/connectors/"+name+"/status", "")
	if status == http.StatusNotFound {
		return s, false
	}
	if status != http.StatusOK {
		f.e.t.Fatalf("status of %s: %d %s", name, status, answer)
	}
	f.e.Must(json.Unmarshal([]byte(answer), &s))
	return s, true
}

// Await waits until a connector and its tasks, n of them, are in a state, on
// workers that are alive.
func (f *Fleet) Await(name, state string, n int, limit time.Duration) time.Duration {
	f.e.t.Helper()
	return f.e.Until(limit, fmt.Sprintf("%s with %d tasks %s", name, n, state), func() string {
		s, ok := f.Status(name)
		if !ok {
			return "no such connector"
		}
		alive := map[string]bool{}
		for _, w := range f.Alive() {
			alive[w.ID] = true
		}
		for _, t := range append([]TaskStatus{s.Connector}, s.Tasks...) {
			if t.State != state || !alive[t.Worker] {
				return fmt.Sprintf("%+v", s)
			}
		}
		if len(s.Tasks) != n {
			return fmt.Sprintf("%d tasks: %+v", len(s.Tasks), s)
		}
		return ""
	})
}

// Owners maps each task of the connectors, as name-number, to its worker_id.
func (f *Fleet) Owners(connectors ...string) map[string]string {
	f.e.t.Helper()
	owners := map[string]string{}
	for _, name := range connectors {
		s, _ := f.Status(name)
		for _, t := range s.Tasks {
			owners[fmt.Sprintf("%s-%d", name, t.ID)] = t.Worker
		}
	}
	return owners
}

// Member is a line of GET /v1/workers.
type Member struct {
	ID     string `json:"id"`
	Leader bool   `json:"leader"`
	State  string `json:"state"`
	Tasks  int    `json:"tasks"`
}

// Members are the workers as one of them sees the cluster.
func (w *Worker) Members() []Member {
	w.fleet.e.t.Helper()
	_, answer := w.Ask(http.MethodGet, "/v1/workers", "")
	var members []Member
	if err := json.Unmarshal([]byte(answer), &members); err != nil {
		var wrapped struct {
			Workers []Member `json:"workers"`
		}
		w.fleet.e.Must(json.Unmarshal([]byte(answer), &wrapped))
		return wrapped.Workers
	}
	return members
}

// Leader waits until a worker that is alive leads.
func (f *Fleet) Leader() *Worker {
	f.e.t.Helper()
	var leader *Worker
	f.e.Until(30*time.Second, "a leader", func() string {
		members := f.any().Members()
		i := slices.IndexFunc(members, func(m Member) bool { return m.Leader })
		if i < 0 {
			return fmt.Sprintf("none in %+v", members)
		}
		if leader = f.ByID(members[i].ID); !leader.Running() {
			return leader.ID + " is dead"
		}
		return ""
	})
	return leader
}
