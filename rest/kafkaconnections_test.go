package rest

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	kafka "barnabas/connection"
	"barnabas/worker"
)

func TestConnectionsLiveTheirLives(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	_, follower := c.roles()
	client, ctx := follower.client, t.Context() // every change is forwarded
	status := func(what string, err error, want int, text string) {
		t.Helper()
		if !HasStatus(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want %d %s", what, err, want, text)
		}
	}
	name := kafka.Name{Env: "prod", Name: "orders"}
	_, err := client.KafkaConnection(ctx, name)
	status("get none", err, http.StatusNotFound, "Connection prod/orders not found")
	literal := `org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="geheim";`
	_, err = client.PutKafkaConnection(ctx, name, kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap(), "sasl.jaas.config": literal}})
	status("literal secret", err, http.StatusBadRequest, "sasl.jaas.config holds a secret that is written out")
	if strings.Contains(err.Error(), "geheim") {
		t.Errorf("the refusal shows the secret: %v", err)
	}
	_, err = client.PutKafkaConnection(ctx, name, kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap(), "security.protocl": "SSL"}})
	status("mistyped key", err, http.StatusBadRequest, `did you mean "security.protocol"?`)
	spec := kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap()}, Description: "orders", Scope: kafka.Scope{Read: []string{"orders-*"}}}
	first, err := client.PutKafkaConnection(ctx, name, spec)
	if err != nil || first.Version != 1 || first.Modified.By != worker.Anonymous || first.UsedBy == nil {
		t.Fatalf("created %+v, %v", first, err)
	}
	again, err := client.PutKafkaConnection(ctx, name, spec)
	if err != nil || cmp.Diff(first, again) != "" {
		t.Errorf("the same again: %s, %v", cmp.Diff(first, again), err)
	}
	spec.Description = "all orders"
	if second, err := client.PutKafkaConnection(ctx, name, spec); err != nil || second.Version != 2 || second.Created != first.Created {
		t.Errorf("changed %+v, %v", second, err)
	}
	heartbeat := map[string]string{
		"connector.class": "MirrorHeartbeat", "source.cluster.alias": "A", "target.cluster.alias": "B", "heartbeats.topic.replication.factor": "1",
		"source.connection": "prod/orders", "target.connection": "prod/order",
	}
	_, err = client.Create(ctx, "h", heartbeat, "")
	status("unknown connection", err, http.StatusBadRequest, "target.connection: there is no connection prod/order")
	heartbeat["target.connection"] = "prod/orders"
	heartbeat["target.cluster.bootstrap.servers"] = "evil:9092"
	_, err = client.Create(ctx, "h", heartbeat, "")
	status("another address", err, http.StatusBadRequest, "target.cluster.bootstrap.servers cannot be set beside target.connection=prod/orders")
	delete(heartbeat, "target.cluster.bootstrap.servers")
	if _, err := client.Create(ctx, "h", heartbeat, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		info, err := client.Connector(ctx, "h")
		if err != nil || len(info.Tasks) != 1 {
			return "no task yet"
		}
		uses, err := client.KafkaConnectionUses(ctx, name)
		if err != nil || len(uses.Uses) != 2 || uses.Uses[1].Version != 2 {
			return "not in use yet"
		}
		return ""
	})
	tasks, err := client.Tasks(ctx, "h")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range tasks[0].Config {
		if strings.HasPrefix(key, "source.connection.") || strings.HasPrefix(key, "target.connection.") || strings.Contains(value, c.bootstrap()) {
			t.Errorf("the configuration of the task has %s=%s of the connection", key, value)
		}
	}
	status("delete in use", client.DeleteKafkaConnection(ctx, name), http.StatusConflict, "in use by the connectors h")
	if back, err := client.RollbackKafkaConnection(ctx, name, 1); err != nil || back.Version != 3 || back.Description != "orders" || cmp.Diff([]string{"h"}, back.UsedBy) != "" {
		t.Errorf("rolled back to %+v, %v", back, err)
	}
	if err := client.Delete(ctx, "h"); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteKafkaConnection(ctx, name); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		all, err := client.KafkaConnections(ctx)
		if err != nil || len(all) != 0 {
			return "still listed"
		}
		return ""
	})
	status("delete again", client.DeleteKafkaConnection(ctx, name), http.StatusNotFound, "not found")
	h, err := client.KafkaConnectionHistory(ctx, name)
	if err != nil || len(h.Versions) != 4 || h.Versions[0].What != "deleted" || h.Versions[1].From != 1 || h.Versions[1].Address == "" {
		t.Errorf("history %+v, %v", h, err)
	}
	_, err = client.RollbackKafkaConnection(ctx, name, 4)
	status("roll back to the deletion", err, http.StatusBadRequest, "nothing to roll back to")
	_, err = client.RollbackKafkaConnection(ctx, name, 9)
	status("roll back to nothing", err, http.StatusNotFound, "Version 9")
	if back, err := client.RollbackKafkaConnection(ctx, name, 2); err != nil || back.Version != 5 || back.Description != "all orders" {
		t.Errorf("brought back %+v, %v", back, err)
	}
}

// TestAChangedConnectionReachesWhatRuns changes what a connection says of its cluster while a connector runs with it.
func TestAChangedConnectionReachesWhatRuns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	client, ctx := c.nodes[0].client, t.Context()
	name := kafka.Name{Env: "prod", Name: "orders"}
	put := func(config map[string]string) {
		t.Helper()
		config["bootstrap.servers"] = c.bootstrap()
		if _, err := client.PutKafkaConnection(ctx, name, kafka.Spec{Config: config}); err != nil {
			t.Fatal(err)
		}
	}
	put(map[string]string{})
	if _, err := client.Create(ctx, "h", map[string]string{
		"connector.class": "MirrorHeartbeat", "source.cluster.alias": "A", "target.cluster.alias": "B", "heartbeats.topic.replication.factor": "1",
		"source.connection": "prod/orders", "target.connection": "prod/orders",
	}, ""); err != nil {
		t.Fatal(err)
	}
	runs := func(version int64) {
		t.Helper()
		eventually(t, func() string {
			uses, err := client.KafkaConnectionUses(ctx, name)
			if err != nil {
				return err.Error()
			}
			var got []int64
			for _, u := range uses.Uses {
				got = append(got, u.Version)
			}
			st, err := client.Status(ctx, "h")
			if err != nil || len(st.Tasks) != 1 || st.Tasks[0].State != "RUNNING" || st.Connector.State != "RUNNING" {
				return "not running"
			}
			return cmp.Diff([]int64{version, version}, got)
		})
	}
	runs(1)
	put(map[string]string{"client.id": "other"}) // starts what runs again
	eventually(t, func() string {                // what starts with a version that cannot be resolved fails: this has to be over
		a := ask(t, c.nodes[0].url, "GET", "/metrics", nil, nil)
		for _, of := range []string{"connector", "task"} {
			if !strings.Contains(a.body, "kafka_connect_worker_"+of+"_startup_success_total 2\n") {
				return "the " + of + " has not started again"
			}
		}
		return ""
	})
	runs(2)
	put(map[string]string{"client.id": "other", "ssl.truststore.type": "${file:" + filepath.Join(t.TempDir(), "none") + ":x}"})
	eventually(t, func() string { // what cannot be resolved is not used
		r, err := client.Replication(ctx, "h")
		if err != nil {
			return err.Error()
		}
		for _, n := range r.Notes {
			if n.About == "secret-rotation" && strings.Contains(n.Text, "connection prod/orders version 3 (still in use: version 2)") {
				return ""
			}
		}
		return "no note of the failure"
	})
	runs(2)
	put(map[string]string{"client.id": "other"}) // a version without the fault
	runs(4)
}
