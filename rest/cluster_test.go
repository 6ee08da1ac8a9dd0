package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/e2e/answers"
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
	eventually(t, func() string { // the lead may pass on meanwhile, on a busy machine
		_, follower := c.roles()
		if a := ask(t, follower.url, "PUT", "/connectors/m/stop?forward=false", nil, nil); a.status != 409 {
			return fmt.Sprintf("forward=false on a follower: %d %s", a.status, a.body)
		}
		return ""
	})
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

// The answers to the first attempts are lost, and other clients do something in between.
func TestARepeatedRequestIsPerformedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	w := c.nodes[0].worker
	once := func(name string) context.Context { return worker.WithRequest(t.Context(), name) }
	file := func(version string) map[string]string {
		return map[string]string{"connector.class": "FileStreamSource", "topic": "t1", "file": "/none", "batch.size": version}
	}
	for attempt := range 2 {
		if _, err := w.Create(once("create"), "m", file("1"), worker.Stopped); err != nil {
			t.Errorf("create, attempt %d: %v", attempt, err)
		}
	}
	if _, err := w.Create(once("of another client"), "m", file("1"), worker.Stopped); !errors.Is(err, worker.ErrConflict) {
		t.Errorf("another creation: %v", err)
	}
	for attempt := range 2 {
		if info, _, err := w.Put(once("put"), "m", file("2")); err != nil || info.Config["batch.size"] != "2" {
			t.Errorf("put, attempt %d: %v %v", attempt, info, err)
		}
		if _, _, err := w.Put(t.Context(), "m", file("3")); err != nil {
			t.Error(err)
		}
	}
	for attempt := range 2 {
		if err := w.Delete(once("delete"), "m"); err != nil {
			t.Errorf("delete, attempt %d: %v", attempt, err)
		}
		if _, created, err := w.Put(t.Context(), "m", file("4")); err != nil || created != (attempt == 0) {
			t.Errorf("created %v, %v", created, err)
		}
	}
	if err := w.Delete(t.Context(), "m"); err != nil {
		t.Error(err)
	}
	if info, created, err := w.Put(once("put"), "m", file("2")); err != nil || created || info.Config["batch.size"] != "2" {
		t.Errorf("put after the deletion: %v %v %v, want what it answered first", info, created, err)
	}
	if _, err := w.Connector(t.Context(), "m"); !errors.Is(err, worker.ErrNotFound) {
		t.Errorf("a request that was performed before the deletion is performed again: %v", err)
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

// waitForLevel waits until a logger has a level, and says since when.
func (n *node) waitForLevel(name, want string) {
	n.t.Helper()
	eventually(n.t, func() string {
		level, err := n.client.Logger(n.t.Context(), name)
		if err != nil || level.Level != want || level.LastModified == nil {
			return fmt.Sprintf("%s: %+v %v, want %s", n.id, level, err, want)
		}
		return ""
	})
}

func TestLogLevelOnAllWorkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	if err := c.nodes[0].client.SetLoggerEverywhere(t.Context(), "worker", "debug"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		n.waitForLevel("worker", "DEBUG")
	}
	if got := c.records("logger-cluster-worker"); !slices.Equal(got, []string{`{"level":"debug"}`}) {
		t.Errorf("recorded %q, want the level as it was written", got)
	}
	// Who comes later has the levels of its own settings, as in Connect.
	late := c.join()
	eventually(t, func() string {
		if h := late.worker.Health(); !h.Healthy {
			return h.Message
		}
		return ""
	})
	if _, err := late.client.Logger(t.Context(), "worker"); !IsNotFound(err) {
		t.Errorf("a worker that came later has the level, too: %v", err)
	}
	if changed, err := c.nodes[0].client.SetLogger(t.Context(), "worker", "WARN"); err != nil || !slices.Equal(changed, []string{"worker"}) {
		t.Errorf("%v %v", changed, err)
	}
	if level, err := c.nodes[1].client.Logger(t.Context(), "worker"); err != nil || level.Level != "DEBUG" {
		t.Errorf("set on one, the other has %+v %v", level, err)
	}
}

// The leader is asked on its main listener, which serves that to other workers alone.
func TestLogLevelOnAllWorkersWithAdminListeners(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, map[string]string{"admin.listeners": "http://127.0.0.1:1"})
	leader, follower := c.roles()
	set := func(base, level string, header map[string]string) received {
		return send(t, "PUT", base+"/admin/loggers/worker?scope=cluster", `{"level":"`+level+`"}`, header)
	}
	for _, n := range c.nodes {
		for name, header := range map[string]map[string]string{"nobody": nil, "who says it is a worker": {headerForwarded: follower.id}} {
			if a := set(n.url, "TRACE", header); a.status != http.StatusNotFound {
				t.Errorf("%s on a main listener: %d %s, want 404", name, a.status, a.body)
			}
		}
	}
	if a := set(follower.admin, "DEBUG", nil); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, n := range []*node{leader, follower} {
		n.client = testClient(t, n.admin)
		n.waitForLevel("worker", "DEBUG")
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
	v, err := answers.Ordered(a.body)
	if err != nil {
		t.Fatal(err)
	}
	connector := v.(answers.Object).Fields["connector"].(answers.Object)
	if diff := cmp.Diff([]string{"state", "worker_id", "version", "trace"}, connector.Keys); diff != "" {
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
	for _, name := range []string{plugins[len(plugins)-1].Class, "MirrorSourceConnector", "MirrorSource"} {
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

func TestTransformsAreDescribedInGroupsOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	validate := func(class, more string) worker.ConfigInfos {
		body := `{"connector.class":"` + class + `","name":"m","source.cluster.alias":"A","transforms":"X",` + more + `}`
		a := ask(t, c.nodes[0].url, "PUT", "/connector-plugins/"+class+"/config/validate", map[string]string{"Content-Type": jsonType}, &body)
		var infos worker.ConfigInfos
		if err := json.Unmarshal([]byte(a.body), &infos); err != nil {
			t.Fatal(err, a.body)
		}
		return infos
	}
	const mask = `"transforms.X.type":"org.apache.kafka.connect.transforms.MaskField$Value"`
	for _, row := range []struct {
		class, more, key string
		errors           int
	}{
		{"MirrorSource", mask + `,"transforms.X.fields":"card"`, "", 0},
		{"MirrorSource", mask, "transforms.X.fields", 2},
		{"MirrorSource", `"transforms.X.type":"org.apache.kafka.connect.transforms.TimestampRouter"`, "transforms.X.type", 1},
		{"MirrorHeartbeat", mask + `,"transforms.X.fields":"card"`, "transforms", 1},
	} {
		infos := validate(row.class, row.more)
		if !slices.Contains(infos.Groups, "Transforms: X") {
			t.Errorf("%s %s: groups %q", row.class, row.more, infos.Groups)
		}
		for _, info := range infos.Configs {
			if n := len(info.Value.Errors); info.Value.Name == row.key && n != row.errors || strings.HasPrefix(info.Value.Name, "transforms") && info.Value.Name != row.key && n > 0 {
				t.Errorf("%s %s: errors of %s: %q", row.class, row.more, info.Value.Name, info.Value.Errors)
			}
		}
	}
}
