package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	kafka "barnabas/connection"
	"barnabas/k2k"
	"barnabas/worker"
)

// appCluster is a cluster of workers with two connections to their own Kafka.
func appCluster(t *testing.T, workers int) (*cluster, *Client) {
	t.Helper()
	c := newCluster(t, workers)
	client := c.nodes[len(c.nodes)-1].client
	for _, name := range []string{"ro", "rw"} {
		if _, err := client.PutKafkaConnection(t.Context(), kafka.Name{Env: "prod", Name: name}, kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap()}}); err != nil {
			t.Fatal(err)
		}
	}
	return c, client
}

func (c *cluster) write(topic string, n int) {
	c.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.ListenAddrs()...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(c.t.Context(), 1, 1, nil, topic); err != nil && !strings.Contains(err.Error(), "EXISTS") {
		c.t.Fatal(err)
	}
	for range n {
		if err := cl.ProduceSync(c.t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// end is the end of the first partition of a topic, -1 if there is no such topic.
func (c *cluster) end(topic string) int64 {
	c.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.ListenAddrs()...))
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(c.t.Context(), topic)
	if o, ok := ends.Lookup(topic, 0); err == nil && ok && o.Err == nil {
		return o.Offset
	}
	return -1
}

// The answers to the first attempts are lost, and other clients do something in between.
func TestARepeatedRequestChangesAppsAndConnectionsOnce(t *testing.T) {
	t.Parallel()
	c, _ := appCluster(t, 1)
	w := c.nodes[0].worker
	once := func(name string) context.Context { return worker.WithRequest(t.Context(), name) }
	name := kafka.Name{Env: "prod", Name: "more"}
	connection := kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap()}}
	other := kafka.Spec{Config: map[string]string{"bootstrap.servers": c.bootstrap(), "client.id": "other"}}
	for attempt := range 2 {
		if _, created, err := w.PutConnection(once("put"), name, connection); err != nil || !created {
			t.Errorf("put a connection, attempt %d: created %v, %v", attempt, created, err)
		}
		if now, created, err := w.PutConnection(t.Context(), name, other); err != nil || created || now.Version != 2 {
			t.Errorf("another put of a connection: created %v, version %d, %v", created, now.Version, err)
		}
	}
	for attempt := range 2 {
		if err := w.DeleteConnection(once("delete"), name); err != nil {
			t.Errorf("delete a connection, attempt %d: %v", attempt, err)
		}
		if _, created, err := w.PutConnection(t.Context(), name, connection); err != nil || created != (attempt == 0) {
			t.Errorf("put it again: created %v, %v", created, err)
		}
	}

	spec := k2k.Spec{Source: "prod/ro", Target: "prod/rw", Topics: []string{"orders-*"}, State: k2k.Stopped, Start: k2k.Earliest, Replicas: 1, Naming: k2k.Naming{Policy: k2k.Prefix, Prefix: "copy."}}
	changed := spec
	changed.Replicas = 2
	for attempt := range 2 {
		if _, created, err := w.PutApp(once("create"), "orders", spec, worker.AppCondition{Absent: true}); err != nil || !created {
			t.Errorf("create an app, attempt %d: created %v, %v", attempt, created, err)
		}
		if a, created, err := w.PutApp(once("change"), "orders", changed, worker.AppCondition{Version: 1}); err != nil || created || a.Version != 2 {
			t.Errorf("change an app, attempt %d: created %v, version %d, %v", attempt, created, a.Version, err)
		}
	}
	for attempt := range 2 {
		if err := w.DeleteApp(once("delete"), "orders"); err != nil {
			t.Errorf("delete an app, attempt %d: %v", attempt, err)
		}
		if _, created, err := w.PutApp(t.Context(), "orders", spec, worker.AppCondition{}); err != nil || created != (attempt == 0) {
			t.Errorf("put it again: created %v, %v", created, err)
		}
	}
}

func TestAppsLiveTheirLives(t *testing.T) {
	t.Parallel()
	c, client := appCluster(t, 2)
	ctx := t.Context()
	status := func(what string, err error, want int, text string) {
		t.Helper()
		if !HasStatus(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want %d %s", what, err, want, text)
		}
	}
	c.write("orders-eu", 5)
	spec := k2k.Spec{Source: "prod/ro", Target: "prod/rw", Topics: []string{"orders-*"}, Naming: k2k.Naming{Policy: k2k.Prefix, Prefix: "copy."}}
	_, err := client.PutApp(ctx, "orders", spec, worker.AppCondition{Present: true})
	status("update what is not there", err, http.StatusNotFound, "App orders not found")
	wrong := spec
	wrong.Source = "prod/none"
	_, err = client.PutApp(ctx, "orders", wrong, worker.AppCondition{})
	status("unknown connection", err, http.StatusBadRequest, "there is no connection prod/none")
	if _, err := client.PutApp(ctx, "orders", spec, worker.AppCondition{Absent: true}); err != nil {
		t.Fatal(err)
	}
	_, err = client.PutApp(ctx, "orders", spec, worker.AppCondition{Absent: true})
	status("create it again", err, http.StatusConflict, "App orders is there already")
	copied := func(topic string, n int64) {
		t.Helper()
		eventually(t, func() string {
			if got := c.end(topic); got != n {
				return topic + " is not there yet"
			}
			return ""
		})
	}
	copied("copy.orders-eu", 5)
	c.write("orders-us", 3) // a new topic that matches
	copied("copy.orders-us", 3)
	eventually(t, func() string {
		a, err := client.App(ctx, "orders")
		if err != nil || a.Status == nil || a.Status.State != "RUNNING" || !strings.HasPrefix(a.Status.Says, "copies 2 topics, 2 partitions, of orders-* from prod/ro to prod/rw, all that is there") {
			return "status not in order"
		}
		return ""
	})

	// Its connector is there for all to see, and changed through the app only.
	names, err := client.Connectors(ctx)
	if diff := cmp.Diff([]string{"orders"}, names); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	status("delete the connector", client.Delete(ctx, "orders"), http.StatusConflict, "belongs to app orders")
	one := "1"
	_, err = client.PatchConfig(ctx, "orders", map[string]*string{"tasks.max": &one})
	status("change the connector", err, http.StatusConflict, "belongs to app orders")
	_, err = client.Create(ctx, "other", map[string]string{"connector.class": "MirrorHeartbeat", k2k.AppKey: "orders"}, "")
	status("smuggle a connector in", err, http.StatusBadRequest, "k2k.app cannot be set")
	status("delete its connection", client.DeleteKafkaConnection(ctx, kafka.Name{Env: "prod", Name: "ro"}), http.StatusConflict, "in use by the connectors orders")

	// Scaled, paused, resumed.
	a, err := client.App(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	a.Spec.Replicas = 2
	if a, err = client.PutApp(ctx, "orders", a.Spec, worker.AppCondition{Version: a.Version}); err != nil || a.Version != 2 {
		t.Errorf("scaled %+v, %v", a, err)
	}
	_, err = client.PutApp(ctx, "orders", spec, worker.AppCondition{Version: 1})
	status("change an older version", err, http.StatusConflict, "App orders is version 2, not 1")
	tasks := func(n int, state string) {
		t.Helper()
		eventually(t, func() string {
			st, err := client.Status(ctx, "orders")
			if err != nil || len(st.Tasks) != n || st.Connector.State != state {
				return "not there yet"
			}
			for _, task := range st.Tasks {
				if task.State != state {
					return "task not there yet"
				}
			}
			return ""
		})
	}
	tasks(2, "RUNNING")
	if a, err = client.SetAppState(ctx, "orders", "pause"); err != nil || a.State != k2k.Paused || a.Version != 3 {
		t.Errorf("paused %+v, %v", a, err)
	}
	tasks(2, "PAUSED")
	if a, err := client.App(ctx, "orders"); err != nil || a.Status == nil || !strings.HasPrefix(a.Status.Says, "paused") {
		t.Errorf("%+v, %v", a.Status, err)
	}
	if _, err = client.SetAppState(ctx, "orders", "resume"); err != nil {
		t.Fatal(err)
	}
	tasks(2, "RUNNING")

	// Offsets, seen, moved and reset.
	eventually(t, func() string {
		o, err := client.AppOffsets(ctx, "orders")
		if err != nil {
			return err.Error()
		}
		return cmp.Diff([]worker.AppOffset{{Topic: "orders-eu", Partition: 0, Offset: 5}, {Topic: "orders-us", Partition: 0, Offset: 3}}, o.Offsets)
	})
	_, err = client.MoveAppOffsets(ctx, "orders", AppOffsets{[]worker.AppOffset{{Topic: "orders-eu", Partition: 0, Offset: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	copied("copy.orders-eu", 8)
	if err := client.ResetAppOffsets(ctx, "orders"); err != nil {
		t.Fatal(err)
	}
	copied("copy.orders-eu", 13)
	copied("copy.orders-us", 6)
	tasks(2, "RUNNING")

	// Deleted, and made anew: earliest copies all again, committed goes on.
	again := func(start string, eu int64) {
		t.Helper()
		eventually(t, func() string { // what it has copied is saved
			o, err := client.AppOffsets(ctx, "orders")
			if err != nil || len(o.Offsets) != 2 {
				return "offsets not saved"
			}
			return ""
		})
		if err := client.DeleteApp(ctx, "orders"); err != nil {
			t.Fatal(err)
		}
		if names, err := client.Connectors(ctx); err != nil || len(names) != 0 {
			t.Errorf("connectors %v, %v", names, err)
		}
		spec.Start = start
		if _, err := client.PutApp(ctx, "orders", spec, worker.AppCondition{Absent: true}); err != nil {
			t.Fatal(err)
		}
		c.write("orders-eu", 1)
		copied("copy.orders-eu", eu)
		tasks(1, "RUNNING")
	}
	again(k2k.Committed, 14)
	again(k2k.Earliest, 14+7)
	status("delete none", client.DeleteApp(ctx, "none"), http.StatusNotFound, "App none not found")
}
