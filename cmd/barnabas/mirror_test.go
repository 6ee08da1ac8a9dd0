package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/mirror/dedicated"
	"barnabas/rest"
)

// startMirror runs the links of a file for the length of a test.
func startMirror(t *testing.T, settings map[string]string) *mirrorMaker {
	t.Helper()
	file, problems, _ := dedicated.Parse(settings)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m := &mirrorMaker{
		cli: &cli{}, file: file, path: "mm2.properties", id: processID(),
		log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if err := m.prepare(t.Context(), file.Links()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- m.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
	return m
}

func mirrorFile(source, target string) map[string]string {
	return map[string]string{
		"clusters": "A, B", "A.bootstrap.servers": source, "B.bootstrap.servers": target, "A->B.enabled": "true", "A->B.topics": "orders",
		"replication.factor": "1", "offset.storage.replication.factor": "1", "config.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"offset.storage.partitions": "1", "status.storage.partitions": "1", "A->B.offset-syncs.topic.replication.factor": "1",
		"heartbeats.topic.replication.factor": "1", "checkpoints.topic.replication.factor": "1",
	}
}

// ask asks the internal REST API.
func ask(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestTheInternalRESTShowsLinksAndChangesNothing(t *testing.T) {
	t.Parallel()
	source, target := startKafka(t), startKafka(t)
	if err := writeRecords(source, "orders", []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	settings := mirrorFile(source, target)
	settings["dedicated.mode.enable.internal.rest"], settings["listeners"] = "true", "http://127.0.0.1:0"
	m := startMirror(t, settings)
	link := m.api.url + "/A/B"
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{link}})
	if err != nil {
		t.Fatal(err)
	}
	if err := waitForState(client, "MirrorSourceConnector", "RUNNING"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		method, url string
		status      int
		has         string
	}{
		{http.MethodGet, link + "/connectors", 200, "MirrorSourceConnector"},
		{http.MethodGet, link + "/connectors", 200, "MirrorCheckpointConnector"},
		{http.MethodGet, link + "/connectors", 200, "MirrorHeartbeatConnector"},
		{http.MethodGet, link + "/v1/workers", 200, m.api.address},
		{http.MethodGet, m.api.url + "/metrics", 200, `link="A->B"`},
		{http.MethodGet, link + "/connectors/MirrorSourceConnector", 404, ""}, // its configuration
		{http.MethodPut, link + "/connectors/MirrorSourceConnector/pause", 404, ""},
		{http.MethodDelete, link + "/connectors/MirrorSourceConnector", 404, ""},
		{http.MethodPost, link + "/connectors/MirrorSourceConnector/tasks", 400, "missing required signature"},
		{http.MethodGet, m.api.url + "/A/C/connectors", 404, ""},
	} {
		if status, body := ask(t, row.method, row.url); status != row.status || !strings.Contains(body, row.has) {
			t.Errorf("%s %s: %d %.300s, want %d with %q", row.method, row.url, status, body, row.status, row.has)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // the other link, for its heartbeats
		status, body := ask(t, http.MethodGet, m.api.url+"/health")
		if status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(body)
		}
	}
	back, err := rest.NewClient(rest.ClientOptions{URLs: []string{m.api.url + "/B/A"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := waitForState(back, "MirrorHeartbeatConnector", "RUNNING"); err != nil {
		t.Fatal(err)
	}
	if status, body := ask(t, http.MethodGet, m.api.url+"/B/A/connectors"); status != 200 || strings.Contains(body, "MirrorSource") || strings.Contains(body, "Checkpoint") {
		t.Errorf("the other link: %d %s", status, body)
	}
}

func TestALinkThatFailsAloneIsTriedAgain(t *testing.T) {
	t.Parallel()
	failed := make(chan error)
	m := &mirrorMaker{links: make([]*mirrorLink, 2)}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- m.allFailed(ctx, failed) }()
	failed <- errors.New("A->B: no")
	select {
	case err := <-over:
		t.Fatalf("one of two failed, and it ended: %v", err)
	default:
	}
	failed <- errors.New("B->A: neither")
	if err := <-over; fmt.Sprint(err) != "A->B: no\nB->A: neither" {
		t.Errorf("ended with %v", err)
	}
}

func TestAChainOfLinksRunsInOneProcess(t *testing.T) {
	t.Parallel()
	a, b, c := startKafka(t), startKafka(t), startKafka(t)
	settings := mirrorFile(a, b)
	settings["clusters"], settings["C.bootstrap.servers"] = "A, B, C", c
	settings["emit.heartbeats.enabled"] = "false" // or all six pairs have a worker
	settings["B->C.enabled"], settings["B->C.topics"] = "true", `.*orders`
	m := startMirror(t, settings)
	if len(m.links) != 2 {
		t.Fatalf("%d links", len(m.links))
	}
	if err := writeRecords(a, "orders", []string{"x", "y", "z"}); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(c, ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), "B.A.orders")
		if end, ok := ends.Lookup("B.A.orders", 0); err == nil && ok && end.Offset == 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("B.A.orders has not come to the end of the chain: %v %v", ends, err)
		}
	}
}
