package rest

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"barnabas/worker"
)

// What any worker has acknowledged, all others tell: two clients that talk to different workers see one cluster.
func TestNoWorkerAnswersWithWhatWasBefore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader, follower := c.roles()
	ctx := t.Context()
	file := func(version int) map[string]string {
		return map[string]string{"connector.class": "FileStreamSource", "topic": "t1", "file": t.TempDir() + "/none", "batch.size": strconv.Itoa(version)}
	}
	if _, err := leader.client.Create(ctx, "f", file(1), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	for version := 2; version < 60; version++ {
		by := c.nodes[version%len(c.nodes)]
		if _, err := by.client.PutConfig(ctx, "f", file(version)); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.nodes {
			got, err := n.client.Config(ctx, "f")
			if err != nil || got["batch.size"] != strconv.Itoa(version) {
				t.Fatalf("%s has version %s of %d, %v", n.id, got["batch.size"], version, err)
			}
		}
	}
	if err := follower.client.Delete(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if names, err := n.client.Connectors(ctx); err != nil || len(names) != 0 {
			t.Errorf("%s lists %q after the deletion, %v", n.id, names, err)
		}
	}
}

// Without Kafka a worker tells what it knows, and that it may be old.
func TestWithoutKafkaAnswersMayBeOldAndSaySo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	cfg := map[string]string{"connector.class": "FileStreamSource", "topic": "t1", "file": t.TempDir() + "/none"}
	if _, err := n.client.Create(t.Context(), "f", cfg, worker.Stopped); err != nil {
		t.Fatal(err)
	}
	c.kafka.Close()
	for _, path := range []string{"/connectors/f/config", "/connectors/f/status", "/connectors", "/v1/connectors"} {
		a := ask(t, n.url, "GET", path, nil, nil)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get(headerWarning), "110 ") {
			t.Errorf("%s: %d %s, Warning %q", path, a.status, a.body, a.header.Get(headerWarning))
		}
	}
	n.server.o.ForwardTimeout = -attemptTimeout + time.Second // a second in all
	for _, row := range [][2]string{{"PUT", "/connectors/f/pause"}, {"DELETE", "/connectors/f"}, {"PUT", "/connectors/f/config"}, {"POST", "/connectors/f/restart?includeTasks=true"}} {
		body := toJSON(t, cfg)
		a := ask(t, n.url, row[0], row[1], map[string]string{"Content-Type": jsonType}, &body)
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "message") {
			t.Errorf("%s %s: %d %s, want 503 with a reason", row[0], row[1], a.status, a.body)
		}
	}
}

// A request that meets a worker that starts waits for it.
func TestRequestsWaitForAWorkerThatStarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0)
	n := c.join() // it has not read anything yet
	if a := ask(t, n.url, "GET", "/connectors", nil, nil); a.status != http.StatusOK || a.body != "[]" {
		t.Errorf("answered %d %s, want what there is once it has started", a.status, a.body)
	}
	body := `{"name":"f","config":{"connector.class":"FileStreamSource","topic":"t1","file":"/none"},"initial_state":"STOPPED"}`
	late := c.join()
	if a := ask(t, late.url, "POST", "/connectors", map[string]string{"Content-Type": jsonType}, &body); a.status != http.StatusCreated {
		t.Errorf("answered %d %s, want 201", a.status, a.body)
	}
}

// Who forwards to a worker that starts is told at once: it tries elsewhere.
func TestAStartingWorkerKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Worker: newWorker(t), ForwardTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	a := send(t, "PUT", server.URL+"/connectors/x/pause", "", map[string]string{headerForwarded: "w:1"})
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
}
