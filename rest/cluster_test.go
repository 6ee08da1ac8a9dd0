package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/worker"
)

func TestAnyWorkerTakesAnyRequest(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader, follower := c.roles()
	ctx := t.Context()

	body := toJSON(t, map[string]any{"name": "m", "config": c.mirror(nil)})
	a := ask(t, follower.url, "POST", "/connectors", map[string]string{"Content-Type": jsonType, headerRequestID: "create-1"}, &body)
	if a.status != 201 || a.header.Get("Location") != follower.url+"/connectors/m" || a.header.Get(headerRequestID) != "create-1" {
		t.Fatalf("creation: %d %v %s", a.status, a.header, a.body)
	}
	follower.waitFor("m", "RUNNING", 2)
	leader.waitFor("m", "RUNNING", 2)

	if _, err := follower.client.Create(ctx, "m", c.mirror(nil), ""); !IsConflict(err) || err.Error() != "Connector m already exists" {
		t.Errorf("second creation: %v", err)
	}
	if info, err := follower.client.PatchConfig(ctx, "m", map[string]*string{"tasks.max": new("3")}); err != nil || info.Config["tasks.max"] != "3" {
		t.Errorf("patch: %v %v", info, err)
	}
	follower.waitFor("m", "RUNNING", 3)
	for _, n := range c.nodes { // one of them owns the connector, another one the task
		if err := n.client.Restart(ctx, "m"); err != nil {
			t.Errorf("restart at %s: %v", n.id, err)
		}
		if err := n.client.RestartTask(ctx, worker.TaskID{Connector: "m", Task: 1}); err != nil {
			t.Errorf("restart of a task at %s: %v", n.id, err)
		}
		if _, err := n.client.RestartFlagged(ctx, "m", true, false); err != nil {
			t.Errorf("restart with flags at %s: %v", n.id, err)
		}
	}
	follower.waitFor("m", "RUNNING", 3)
	if err := follower.client.Pause(ctx, "m"); err != nil {
		t.Error(err)
	}
	leader.waitFor("m", "PAUSED", 3)
	if err := follower.client.Stop(ctx, "m"); err != nil {
		t.Error(err)
	}
	follower.waitFor("m", "STOPPED", 0)
	if err := follower.client.RestartTask(ctx, worker.TaskID{Connector: "m", Task: 0}); !IsConflict(err) {
		t.Errorf("restart of a stopped connector's task: %v", err)
	}
	if a := ask(t, follower.url, "DELETE", "/connectors/m?forward=false", nil, nil); a.status != 409 {
		t.Errorf("forward=false on a follower: %d %s", a.status, a.body)
	}
	if err := follower.client.Delete(ctx, "m"); err != nil {
		t.Error(err)
	}
	eventually(t, func() string {
		if _, err := follower.client.Connector(ctx, "m"); !IsNotFound(err) {
			return "still there"
		}
		return ""
	})
}

// TestNoWriteFailsWhileTheLeaderLeaves sends writes to a follower, one after the
// other, while the leader is stopped and another worker takes over.
func TestNoWriteFailsWhileTheLeaderLeaves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader, follower := c.roles()
	stopped := make(chan struct{})
	for i := 0; ; i++ {
		if i == 3 {
			go func() {
				leader.stop()
				close(stopped)
			}()
		}
		cfg := c.mirror(map[string]string{"topics": "none", "x": fmt.Sprint(i)})
		info, err := follower.client.PutConfig(t.Context(), fmt.Sprint("m", i%2), cfg)
		if err != nil || info.Config["x"] != fmt.Sprint(i) {
			t.Fatalf("write %d: %v %v", i, info, err)
		}
		select {
		case <-stopped:
			if i > 5 {
				return
			}
		default:
		}
	}
}

func TestRepeatedCreationIsOneIfItIsTheSame(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	if _, err := n.client.Create(t.Context(), "m", c.mirror(nil), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	conflict := answerTo(fail(http.StatusConflict, "Connector m already exists"))
	for _, row := range []struct {
		about  string
		config map[string]string
		known  bool
		want   int
	}{
		{"the same, new", c.mirror(nil), false, http.StatusCreated},
		{"the same, which was there before", c.mirror(nil), true, http.StatusConflict},
		{"another configuration", c.mirror(map[string]string{"topics": "t2"}), false, http.StatusConflict},
	} {
		r := &request{body: []byte(toJSON(t, map[string]any{"name": "m", "config": row.config}))}
		if got := n.server.settleCreate(t.Context(), r, row.known, conflict); got.status != row.want {
			t.Errorf("%s: %d, want %d", row.about, got.status, row.want)
		}
	}
	if got := settleDelete(t.Context(), nil, true, answer{status: 404}); got.status != 204 {
		t.Errorf("deletion of what was there: %d", got.status)
	}
	if got := settleDelete(t.Context(), nil, false, answer{status: 404}); got.status != 404 {
		t.Errorf("deletion of what was not there: %d", got.status)
	}
}

func TestMembersAreListed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n := c.nodes[0]
	members, err := n.client.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{c.nodes[0].id, c.nodes[1].id}
	slices.Sort(want)
	var ids []string
	leaders := 0
	for _, m := range members {
		ids = append(ids, m.ID)
		if m.Leader {
			leaders++
		}
		if m.Self != (m.ID == n.id) || m.URL != "http://"+m.ID {
			t.Errorf("member %+v as seen by %s", m, n.id)
		}
	}
	if diff := cmp.Diff(want, ids); diff != "" || leaders != 1 {
		t.Errorf("%d leaders, ids %s", leaders, diff)
	}
	one, err := n.client.Worker(t.Context(), c.nodes[1].id)
	if err != nil || one.ID != c.nodes[1].id {
		t.Errorf("%+v %v", one, err)
	}
	if _, err := n.client.Worker(t.Context(), "nobody:1"); !IsNotFound(err) || err.Error() != "Worker nobody:1 not found" {
		t.Errorf("%v", err)
	}
}

func TestReplicationIsMergedFromAllWorkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n, ctx := c.nodes[0], t.Context()
	if _, err := n.client.PutConfig(ctx, "m", c.mirror(map[string]string{"tasks.max": "4"})); err != nil {
		t.Fatal(err)
	}
	n.waitFor("m", "RUNNING", 4)
	eventually(t, func() string {
		r, err := n.client.Replication(ctx, "m")
		if err != nil || len(r.Missing) > 0 || len(r.Tasks) != 4 {
			return "not whole: " + toJSON(t, r)
		}
		workers, partitions := map[string]int{}, 0
		for i, task := range r.Tasks {
			if task.Task != i {
				return "not in order: " + toJSON(t, r)
			}
			workers[task.WorkerID]++
			partitions += len(task.Partitions)
		}
		if len(workers) != 2 || partitions != 4 {
			return "not of two workers and four partitions: " + toJSON(t, r)
		}
		here, err := n.client.LocalReplication(ctx, "m")
		if err != nil || len(here.Tasks) != workers[n.id] {
			return "the tasks of this worker: " + toJSON(t, here)
		}
		return ""
	})
	if _, err := n.client.Replication(ctx, "nope"); !IsNotFound(err) {
		t.Errorf("of an unknown connector: %v", err)
	}
}

func TestWorkerThatDoesNotAnswerIsMissing(t *testing.T) {
	t.Parallel()
	reports := []worker.TaskReplication{
		{Task: 1, WorkerID: "b:1", State: "RUNNING"}, {Task: 0, WorkerID: "a:1", State: "RUNNING"}, {Task: 1, WorkerID: "a:1", State: "STOPPED"},
	}
	status := worker.ConnectorStatus{Name: "m", Tasks: []worker.TaskState{
		{ID: 0, WorkerID: "a:1", State: "RUNNING"}, {ID: 1, WorkerID: "b:1", State: "RUNNING"}, {ID: 2, WorkerID: "c:1", State: "UNASSIGNED"},
	}}
	got := tidy(Replication{Replication: worker.Replication{Connector: "m", Tasks: merge(status, reports)}})
	var lines []string
	for _, task := range got.Tasks {
		lines = append(lines, task.WorkerID+" "+task.State)
	}
	if diff := cmp.Diff([]string{"a:1 RUNNING", "b:1 RUNNING", "c:1 UNASSIGNED"}, lines); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(toJSON(t, got), "null") {
		t.Errorf("a list is null: %s", toJSON(t, got))
	}
}

func TestLogLevelOnAllWorkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	if err := c.nodes[0].client.SetLoggerEverywhere(t.Context(), "worker", "debug"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if level, err := n.client.Logger(t.Context(), "worker"); err != nil || level.Level != "DEBUG" || level.LastModified == nil {
			t.Errorf("%s: %+v %v", n.id, level, err)
		}
	}
	if changed, err := c.nodes[0].client.SetLogger(t.Context(), "worker", "WARN"); err != nil || !slices.Equal(changed, []string{"worker"}) {
		t.Errorf("%v %v", changed, err)
	}
	if level, err := c.nodes[1].client.Logger(t.Context(), "worker"); err != nil || level.Level != "DEBUG" {
		t.Errorf("set on one, the other has %+v %v", level, err)
	}
}

// TestFailedConnectorShowsItsTrace checks the place of trace, too: Jackson puts it last.
func TestFailedConnectorShowsItsTrace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	cfg := c.mirror(map[string]string{"source.cluster.security.protocol": "SASL_PLAINTEXT", "source.cluster.sasl.mechanism": "PLAIN"})
	if _, err := n.client.Create(t.Context(), "m", cfg, ""); err != nil {
		t.Fatal(err)
	}
	n.waitFor("m", "FAILED", 0)
	a := ask(t, n.url, "GET", "/connectors/m/status", nil, nil)
	v, err := ordered(a.body)
	if err != nil {
		t.Fatal(err)
	}
	connector := v.(object).fields["connector"].(object)
	if diff := cmp.Diff([]string{"state", "worker_id", "version", "trace"}, connector.keys); diff != "" {
		t.Errorf("%s\n%s", diff, a.body)
	}
}

func TestEverythingElseOfOneWorker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n, ctx := c.nodes[0], t.Context()
	if info, err := n.client.Server(ctx); err != nil || info.Version != "4.3.1" || info.KafkaClusterID == "" {
		t.Errorf("%+v %v", info, err)
	}
	if h, err := n.client.Health(ctx); err != nil || !h.Healthy {
		t.Errorf("%+v %v", h, err)
	}
	if _, err := n.client.Create(ctx, "m", c.mirror(nil), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	if all, err := n.client.Expanded(ctx); err != nil || all["m"].Info == nil || all["m"].Status == nil {
		t.Errorf("%+v %v", all, err)
	}
	if names, err := n.client.Connectors(ctx); err != nil || !slices.Equal(names, []string{"m"}) {
		t.Errorf("%v %v", names, err)
	}
	if cfg, err := n.client.Config(ctx, "m"); err != nil || cfg["topics"] != "t1" {
		t.Errorf("%v %v", cfg, err)
	}
	if err := n.client.Resume(ctx, "m"); err != nil {
		t.Error(err)
	}
	n.waitFor("m", "RUNNING", 2)
	if tasks, err := n.client.Tasks(ctx, "m"); err != nil || len(tasks) != 2 || tasks[1].ID.Task != 1 {
		t.Errorf("%v %v", tasks, err)
	}
	if state, err := n.client.TaskStatus(ctx, worker.TaskID{Connector: "m", Task: 1}); err != nil || state.State != "RUNNING" {
		t.Errorf("%v %v", state, err)
	}
	if offsets, err := n.client.Offsets(ctx, "m"); err != nil || offsets == nil {
		t.Errorf("%v %v", offsets, err)
	}
	plugins, err := n.client.Plugins(ctx)
	if err != nil || len(plugins) == 0 {
		t.Fatalf("%v %v", plugins, err)
	}
	for _, name := range []string{plugins[0].Class, "MirrorSourceConnector", "MirrorSource"} {
		if keys, err := n.client.PluginConfig(ctx, name); err != nil || len(keys) < 100 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	infos, err := n.client.Validate(ctx, map[string]string{"connector.class": "MirrorSource", "tasks.max": "abc"})
	if err != nil || infos.ErrorCount < 2 {
		t.Errorf("%d errors, %v", infos.ErrorCount, err)
	}
	if levels, err := n.client.Loggers(ctx); err != nil || levels["root"].Level != "INFO" {
		t.Errorf("%v %v", levels, err)
	}
	text, err := n.client.Metrics(ctx)
	if err != nil || !strings.Contains(text, `barnabas_rest_requests_total{code="200",method="GET",route="/connectors/{connector}/config"} 1`) {
		t.Errorf("%v\n%s", err, text)
	}
	a := ask(t, n.url, "GET", "/openapi.json", map[string]string{"Accept": "text/html"}, nil)
	var doc struct{ OpenAPI string }
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || doc.OpenAPI == "" || a.status != http.StatusOK {
		t.Errorf("%v %d %.100s", err, a.status, a.body)
	}
}

func TestNullValuesAreErrorsOfValidate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	body := `{"connector.class":"MirrorSource","topics":null,"foo":null,"bar":null}`
	a := ask(t, c.nodes[0].url, "PUT", "/connector-plugins/MirrorSource/config/validate", map[string]string{"Content-Type": jsonType}, &body)
	var infos worker.ConfigInfos
	if err := json.Unmarshal([]byte(a.body), &infos); err != nil {
		t.Fatal(err)
	}
	var nulls []string
	for _, info := range infos.Configs {
		if slices.Contains(info.Value.Errors, nullValue) {
			nulls = append(nulls, info.Value.Name)
		}
	}
	if diff := cmp.Diff([]string{"bar", "foo", "topics"}, nulls); diff != "" {
		t.Errorf("%s\n%.300s", diff, a.body)
	}
}
