package rest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/connector"
	"barnabas/worker"
)

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
		if r.Status != stateRunning || r.Reason != "" || r.Totals.Partitions != 4 {
			return "not running as a whole: " + toJSON(t, r)
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

func TestGapsAreMergedFromAllWorkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n, ctx := c.nodes[0], t.Context()
	if _, err := n.client.PutConfig(ctx, "m", c.mirror(map[string]string{"tasks.max": "4"})); err != nil {
		t.Fatal(err)
	}
	n.waitFor("m", "RUNNING", 4)
	eventually(t, func() string {
		all, err := n.client.Gaps(ctx, "m")
		here, hereErr := n.client.LocalGaps(ctx, "m")
		if err != nil || hereErr != nil || !all.Complete || len(here.Tasks) == 0 || len(here.Tasks) == 4 {
			return "not whole: " + toJSON(t, all) + toJSON(t, here)
		}
		if diff := cmp.Diff([]int{0, 1, 2, 3}, all.Tasks); diff != "" {
			return diff
		}
		return ""
	})
	if _, err := n.client.Gaps(ctx, "nope"); !IsNotFound(err) {
		t.Errorf("of an unknown connector: %v", err)
	}
	if _, err := n.client.LocalGaps(ctx, "nope"); !IsNotFound(err) {
		t.Errorf("of an unknown connector, here: %v", err)
	}
}

// unreachable is a transport of a network that is cut.
type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("cut") }

func TestWorkerThatDoesNotAnswerIsTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n, ctx := c.nodes[0], t.Context()
	if _, err := n.client.PutConfig(ctx, "m", c.mirror(map[string]string{"tasks.max": "4"})); err != nil {
		t.Fatal(err)
	}
	n.waitFor("m", "RUNNING", 4)
	n.server.peers = &http.Client{Transport: unreachable{}}
	eventually(t, func() string {
		r, err := n.client.Replication(ctx, "m")
		if err != nil || len(r.Tasks) != 4 || len(r.Missing) != 1 || r.Missing[0].WorkerID != c.nodes[1].id || r.Status != stateDegraded ||
			!strings.HasPrefix(r.Reason, "no answer from "+c.nodes[1].id) {
			return "replication: " + toJSON(t, r)
		}
		g, err := n.client.Gaps(ctx, "m")
		if err != nil || g.Complete || len(g.Missing) != 1 || !strings.HasPrefix(g.Reason, "no answer from "+c.nodes[1].id) ||
			len(g.Tasks) == 0 || len(g.Tasks) == 4 {
			return "gaps: " + toJSON(t, g)
		}
		return ""
	})
}

func TestReportOfTheOwnerWins(t *testing.T) {
	t.Parallel()
	reports := []worker.TaskReplication{
		{Task: 1, WorkerID: "b:1", State: "RUNNING"}, {Task: 0, WorkerID: "a:1", State: "RUNNING"}, {Task: 1, WorkerID: "a:1", State: "STOPPED"},
	}
	status := worker.ConnectorStatus{Name: "m", Tasks: []worker.TaskState{
		{ID: 0, WorkerID: "a:1", State: "RUNNING"}, {ID: 1, WorkerID: "b:1", State: "RUNNING"}, {ID: 2, WorkerID: "c:1", State: "UNASSIGNED"},
	}}
	got := newReplication("m", status.Connector, merge(status, reports), nil)
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

func TestStatusIsTheWorst(t *testing.T) {
	t.Parallel()
	running := worker.InstanceState{State: "RUNNING"}
	partition := func(id int32, state, reason string) connector.PartitionProgress {
		return connector.PartitionProgress{Topic: "o", Partition: id, State: state, Reason: reason}
	}
	task := func(id int, state, trace string, partitions ...connector.PartitionProgress) worker.TaskReplication {
		return worker.TaskReplication{Task: id, State: state, Trace: trace, Partitions: partitions}
	}
	fine := partition(0, "RUNNING", "decoded: compacted")
	for _, row := range []struct {
		about          string
		instance       worker.InstanceState
		tasks          []worker.TaskReplication
		missing        []MissingWorker
		status, reason string
	}{
		{"all run", running, []worker.TaskReplication{task(0, "RUNNING", "", fine)}, nil, "RUNNING", ""},
		{"no tasks", running, nil, nil, "RUNNING", ""},
		{"one worker's own tasks", worker.InstanceState{}, []worker.TaskReplication{task(0, "RUNNING", "", fine)}, nil, "RUNNING", ""},
		{"paused", worker.InstanceState{State: "PAUSED"}, []worker.TaskReplication{task(0, "PAUSED", "")}, nil, "PAUSED", "the connector is paused"},
		{"stopped by hand", worker.InstanceState{State: "STOPPED"}, nil, nil, "STOPPED", "the connector is stopped"},
		{"the connector failed", worker.InstanceState{State: "FAILED", Trace: "no such cluster\n\tat x"}, nil, nil, "FAILED", "the connector: no such cluster"},
		{"not started", running, []worker.TaskReplication{task(0, "RUNNING", "", fine), task(1, "UNASSIGNED", "")}, nil, "UNASSIGNED", "task 1 is unassigned"},
		{
			"degraded", running,
			[]worker.TaskReplication{task(0, "RUNNING", "", fine, partition(1, "DEGRADED", "lost 5 to 9"), partition(2, "DEGRADED", "slow"))},
			nil,
			"DEGRADED", "o-1: lost 5 to 9 (and 1 more)",
		},
		{"no answer", running, []worker.TaskReplication{task(0, "RUNNING", "")}, []MissingWorker{{"b:1", "cut"}}, "DEGRADED", "no answer from b:1: cut"},
		{
			"a stopped partition is worse", running,
			[]worker.TaskReplication{task(0, "RUNNING", "", partition(1, "DEGRADED", "slow"), partition(2, "STOPPED", "refused"))},
			[]MissingWorker{{"b:1", "cut"}},
			"STOPPED", "o-2: refused",
		},
		{
			"a failed task is the worst", running,
			[]worker.TaskReplication{task(0, "RUNNING", "", partition(2, "STOPPED", "refused")), task(1, "FAILED", "no rights")},
			nil,
			"FAILED", "task 1: no rights",
		},
	} {
		status, reason := judge(row.instance, row.tasks, row.missing)
		if status != row.status || reason != row.reason {
			t.Errorf("%s: %s (%s), want %s (%s)", row.about, status, reason, row.status, row.reason)
		}
	}
}

func TestNotesOfTheConnectorAreShownAndCanDegrade(t *testing.T) {
	t.Parallel()
	early, late := time.UnixMilli(1000), time.UnixMilli(2000)
	mild := connector.Note{About: "topic-settings", Text: "left out", Since: late}
	bad := connector.Note{About: "topic-deleted", Text: "deleted", Since: early, Degraded: true}
	for _, row := range []struct {
		about          string
		instance       worker.InstanceState
		notes          []connector.Note
		status, reason string
	}{
		{"without notes", worker.InstanceState{State: "RUNNING"}, nil, "RUNNING", ""},
		{"one that changes nothing", worker.InstanceState{State: "RUNNING"}, []connector.Note{mild}, "RUNNING", ""},
		{"one that degrades", worker.InstanceState{State: "RUNNING"}, []connector.Note{mild, bad}, "DEGRADED", "deleted"},
		{"worse than that", worker.InstanceState{State: "FAILED", Trace: "x"}, []connector.Note{bad}, "FAILED", "the connector: x"},
	} {
		got := newReplication("m", row.instance, nil, nil).with(row.notes)
		if got.Status != row.status || got.Reason != row.reason || len(got.Notes) != len(row.notes) {
			t.Errorf("%s: %s (%s) %v, want %s (%s)", row.about, got.Status, got.Reason, got.Notes, row.status, row.reason)
		}
		if len(got.Notes) == 2 && got.Notes[0] != bad {
			t.Errorf("%s: the oldest note is not the first: %v", row.about, got.Notes)
		}
	}
}

func TestTotalsSayWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	known := connector.PartitionProgress{
		LagRecords: 5, LagBytes: 500, LagBytesExact: true, LagSeconds: 2, RecordsPerSec: 1, BytesPerSec: 100, Decisions: map[string]int64{"raw": 3},
	}
	estimated := connector.PartitionProgress{LagRecords: 1, LagBytes: 90, LagSeconds: 7, Decisions: map[string]int64{"raw": 1, "skipped: control": 2}}
	unknown := connector.PartitionProgress{LagRecords: -1, LagBytes: -1, LagSeconds: -1, BytesPerSec: 1}
	for _, row := range []struct {
		about string
		of    []connector.PartitionProgress
		want  Totals
	}{
		{"nothing", nil, Totals{LagRecords: -1, LagBytes: -1, LagSeconds: -1, Decisions: map[string]int64{}}},
		{"unknown", []connector.PartitionProgress{unknown}, Totals{
			Partitions: 1, LagUnknown: 1, LagRecords: -1, LagBytes: -1, LagSeconds: -1, BytesPerSec: 1, Decisions: map[string]int64{},
		}},
		{"exact", []connector.PartitionProgress{known, known}, Totals{
			Partitions: 2, LagRecords: 10, LagBytes: 1000, LagBytesExact: true, LagSeconds: 2, RecordsPerSec: 2, BytesPerSec: 200, Decisions: map[string]int64{"raw": 6},
		}},
		{"estimated", []connector.PartitionProgress{known, estimated}, Totals{
			Partitions: 2, LagRecords: 6, LagBytes: 590, LagSeconds: 7, RecordsPerSec: 1, BytesPerSec: 100, Decisions: map[string]int64{"raw": 4, "skipped: control": 2},
		}},
		{"in part", []connector.PartitionProgress{unknown, known}, Totals{
			Partitions: 2, LagUnknown: 1, LagRecords: 5, LagBytes: 500, LagSeconds: 2, RecordsPerSec: 1, BytesPerSec: 101, Decisions: map[string]int64{"raw": 3},
		}},
	} {
		if diff := cmp.Diff(row.want, totals([]worker.TaskReplication{{Partitions: row.of}})); diff != "" {
			t.Errorf("%s: %s", row.about, diff)
		}
	}
}

func TestLedgersAreMergedByTime(t *testing.T) {
	t.Parallel()
	gap := func(topic string, from, to, second int64) connector.Gap {
		return connector.Gap{Topic: topic, From: from, To: to, Cause: "retention", At: time.Unix(second, 0).UTC()}
	}
	here := newGaps("m", []worker.TaskGaps{
		{Task: 2, Known: true, Gaps: []connector.Gap{gap("o", 9, 12, 30), gap("o", 1, 1, 10)}},
		{Task: 0, Known: true},
		{Task: 3},
	})
	if here.Complete || here.Reason != "task 3 has not told its ledger yet" {
		t.Errorf("of this worker: %s", toJSON(t, here))
	}
	there := newGaps("m", []worker.TaskGaps{{Task: 1, Known: true, Gaps: []connector.Gap{gap("p", 0, 5, 20)}}, {Task: 2, Known: true, Gaps: []connector.Gap{gap("o", 1, 1, 10)}}})
	status := worker.ConnectorStatus{Name: "m", Tasks: []worker.TaskState{
		{ID: 0, WorkerID: "a:1", State: "RUNNING"}, {ID: 1, WorkerID: "c:1", State: "UNASSIGNED"}, {ID: 2, WorkerID: "a:1", State: "RUNNING"},
	}}
	said := map[string]Gaps{"a:1": here, "b:1": there}
	want := Gaps{Connector: "m", Complete: true, Tasks: []int{0, 1, 2}, Gaps: []Gap{
		{2, gap("o", 1, 1, 10), 0}, {1, gap("p", 0, 5, 20), 5}, {2, gap("o", 9, 12, 30), 3},
	}}
	if diff := cmp.Diff(want, mergeGaps(status, said, nil)); diff != "" {
		t.Error(diff)
	}

	for _, row := range []struct {
		about   string
		tasks   []worker.TaskState
		missing []MissingWorker
		reason  string
	}{
		{"a task that does not run", []worker.TaskState{{ID: 3, WorkerID: "a:1", State: "PAUSED"}}, nil, "task 3 is paused and has not told its ledger"},
		{"no tasks", nil, nil, "the connector has no tasks, and only running tasks tell their ledgers"},
		{"no answer", []worker.TaskState{{ID: 4, WorkerID: "d:1", State: "RUNNING"}}, []MissingWorker{{"d:1", "cut"}}, "no answer from d:1: cut"},
	} {
		got := mergeGaps(worker.ConnectorStatus{Name: "m", Tasks: row.tasks}, said, row.missing)
		want := Gaps{Connector: "m", Reason: row.reason, Missing: row.missing, Tasks: []int{}, Gaps: []Gap{}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", row.about, diff)
		}
	}
}

// TestReplicationAnswersAreDescribed has answers with everything in them checked against openapi.yaml.
func TestReplicationAnswersAreDescribed(t *testing.T) {
	t.Parallel()
	gaps := newGaps("m", []worker.TaskGaps{
		{Task: 0, Known: true, Gaps: []connector.Gap{{Topic: "o", Partition: 1, From: 2, To: 5, Cause: "refused", Detail: "MESSAGE_TOO_LARGE", At: time.Unix(1, 5)}}}, {Task: 1},
	})
	gaps.Missing = []MissingWorker{{"b:1", "cut"}}
	note := connector.Note{About: "topic-deleted", Topic: "o", Text: "deleted", Since: time.UnixMilli(1000), Degraded: true}
	replication := newReplication("m", worker.InstanceState{State: "FAILED", Trace: "x"}, []worker.TaskReplication{{
		WorkerID: "a:1", State: "FAILED", Trace: "x", Delivery: connector.Plain, Why: "no right to use a transactional id",
		Partitions: []connector.PartitionProgress{{Topic: "o", State: "DEGRADED", Reason: "slow", Mode: "raw", Decisions: map[string]int64{"raw": 1}}},
	}}, gaps.Missing).with([]connector.Note{note})
	s, err := newServer(Options{}, func(*Server) []route {
		answerWith := func(v any) handler {
			return func(context.Context, *request) (answer, error) { return ok(v) }
		}
		return []route{
			{method: "GET", path: "/v1/replication/:connector", handle: answerWith(replication)},
			{method: "GET", path: "/v1/replication/:connector/gaps", handle: answerWith(gaps)},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	client := testClient(t, server.URL)
	gotReplication, err := client.Replication(t.Context(), "m")
	if diff := cmp.Diff(replication, gotReplication); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	gotGaps, err := client.Gaps(t.Context(), "m")
	if diff := cmp.Diff(gaps, gotGaps); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
