package rest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/worker"
)

func TestHistoryKeepsWhoChangedWhatAndRollsBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, map[string]string{"config.history.versions": "4"})
	_, follower := c.roles()
	client, ctx := follower.client, t.Context() // every change is forwarded
	const password = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"geheim\";"
	heartbeat := map[string]string{
		"connector.class": "MirrorHeartbeat", "source.cluster.alias": "A", "target.cluster.alias": "B",
		"source.cluster.bootstrap.servers": c.bootstrap(), "target.cluster.bootstrap.servers": c.bootstrap(),
		"heartbeats.topic.replication.factor": "1", "source.cluster.sasl.jaas.config": password,
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.Create(ctx, "h", heartbeat, ""))
	three, five, other := "3", "5", "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"anders\";"
	must(client.PatchConfig(ctx, "h", map[string]*string{"emit.heartbeats.interval.seconds": &three}))
	must(client.PatchConfig(ctx, "h", map[string]*string{"emit.heartbeats.interval.seconds": &five, "source.cluster.sasl.jaas.config": &other}))
	must(client.PatchConfig(ctx, "h", map[string]*string{"emit.heartbeats.interval.seconds": &five})) // no change
	hidden := "[hidden]"
	want := worker.ConfigDiff{From: 2, To: 3, Changes: []worker.ConfigChange{
		{Key: "emit.heartbeats.interval.seconds", Before: &three, After: &five},
		{Key: "source.cluster.sasl.jaas.config", Before: &hidden, After: &hidden},
	}}
	eventually(t, func() string { // the worker that is asked may read the change after the leader
		d, err := client.Diff(ctx, "h", 0, 0)
		if err != nil {
			return err.Error()
		}
		return cmp.Diff(want, d)
	})
	info, err := client.Rollback(ctx, "h", 1)
	must(info, err)
	if got := info.Config; got["emit.heartbeats.interval.seconds"] != "" || got["source.cluster.sasl.jaas.config"] != other {
		t.Errorf("rolled back to %v; want the first version with the present password", got)
	}
	must(nil, client.Delete(ctx, "h"))
	eventually(t, func() string {
		h, err := client.History(ctx, "h")
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, v := range h.Versions {
			got = append(got, fmt.Sprintf("%d %s %s %s %v%d", v.Version, v.What, v.User, v.Address, v.Changed, v.From))
			if v.At.IsZero() || v.Config != nil {
				t.Errorf("version %+v", v)
			}
		}
		// The first has made room.
		const key, jaas = "emit.heartbeats.interval.seconds", "source.cluster.sasl.jaas.config"
		want := []string{
			"5 deleted anonymous 127.0.0.1 []0", "4 rolled back anonymous 127.0.0.1 [" + key + "]1",
			"3 patched anonymous 127.0.0.1 [" + key + " " + jaas + "]0", "2 patched anonymous 127.0.0.1 [" + key + "]0",
		}
		return cmp.Diff(want, got)
	})
	v, err := client.ConfigVersion(ctx, "h", 3)
	if err != nil || v.Config["emit.heartbeats.interval.seconds"] != "5" || v.Config["source.cluster.sasl.jaas.config"] != hidden || !slices.Equal(v.Hidden, []string{"source.cluster.sasl.jaas.config"}) {
		t.Errorf("version 3: %+v, %v", v, err)
	}
	status := func(err error, want int) {
		t.Helper()
		var s *StatusError
		if !errors.As(err, &s) || s.Status != want {
			t.Errorf("got %v, want status %d", err, want)
		}
	}
	_, err = client.Rollback(ctx, "h", 3) // its password is gone with the connector
	status(err, http.StatusBadRequest)
	_, err = client.Rollback(ctx, "h", 5)
	status(err, http.StatusBadRequest)
	_, err = client.Rollback(ctx, "h", 1)
	status(err, http.StatusNotFound)
	_, err = client.Rollback(ctx, "h", 0)
	status(err, http.StatusBadRequest)
	_, err = client.History(ctx, "nobody")
	status(err, http.StatusNotFound)
	_, err = client.Diff(ctx, "h", -1, 0)
	status(err, http.StatusBadRequest)
	_, err = client.ConfigVersion(ctx, "h", 77)
	status(err, http.StatusNotFound)
}

func TestSummaryAndStatusShowWhatHasFailed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, map[string]string{"auto.restart.max.restarts": "0"})
	client, ctx := c.nodes[1].client, t.Context()
	good := c.mirror(nil)
	if _, err := client.Create(ctx, "good", good, ""); err != nil {
		t.Fatal(err)
	}
	bad := c.mirror(map[string]string{"source.cluster.security.protocol": "SASL_PLAINTEXT", "source.cluster.sasl.mechanism": "PLAIN", "source.cluster.sasl.jaas.config": "${file:/nowhere:x}"})
	_, err := client.Create(ctx, "bad", bad, "")
	if err == nil {
		t.Fatal("a reference to nothing was accepted")
	}
	c.nodes[0].waitFor("good", "RUNNING", 2)
	eventually(t, func() string {
		d, err := client.Detail(ctx, "good")
		if err != nil {
			return err.Error()
		}
		for _, task := range d.Tasks {
			if task.LastProgress == nil || task.LagRecords != 0 || task.State != "RUNNING" || task.Restarts != nil {
				return toJSON(t, d)
			}
		}
		if d.State != "RUNNING" || len(d.Tasks) != 2 || d.Connector.State != "RUNNING" {
			return toJSON(t, d)
		}
		all, err := client.Summaries(ctx)
		if err != nil || len(all) != 1 || all[0].State != "RUNNING" || all[0].Tasks["RUNNING"] != 2 || all[0].Failed != nil {
			return fmt.Sprintf("%+v, %v", all, err)
		}
		return ""
	})
}

func TestASummaryNamesFailedTasks(t *testing.T) {
	t.Parallel()
	got := summarize(worker.ConnectorStatus{
		Name: "x", Type: "source", Connector: worker.InstanceState{State: "RUNNING", WorkerID: "a:1"},
		Tasks: []worker.TaskState{{ID: 0, State: "RUNNING", WorkerID: "a:1"}, {ID: 1, State: "FAILED", WorkerID: "b:1", Trace: "no rights"}},
	}, map[int]worker.RestartState{1: {Held: "final"}})
	want := Summary{
		Name: "x", Type: "source", State: "FAILED", Reason: "task 1: no rights", Tasks: map[string]int{"RUNNING": 1, "FAILED": 1},
		Failed: []FailedUnit{{Task: 1, WorkerID: "b:1", Trace: "no rights", Held: "final"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
