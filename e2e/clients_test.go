package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/e2e/kafka"
)

// transcript is what a client returned, step by step.
type transcript struct {
	// Conflicts counts answers 409, which the client has waited out.
	Conflicts int      `json:"conflicts"`
	Steps     [][2]any `json:"steps"`
}

// client is a program of e2e/clients with a published client of Connect's REST API.
type client struct {
	name string
	// run are the program and its arguments, before the address and the connector's file.
	run func(cache, pins string) []string
}

func python(name string) client {
	return client{name: name, run: func(cache, pins string) []string {
		return []string{filepath.Join(cache, "python", "bin", "python"), filepath.Join(pins, "cycle.py"), name}
	}}
}

// clients are from PyPI, npm and Maven Central.
var clients = []client{
	python("kafka_connect_py"), python("kafka_connect_api"), python("kafkaconnect"),
	{name: "kafka-connect-client (npm)", run: func(_, pins string) []string {
		return []string{"node", filepath.Join(pins, "cycle.js")}
	}},
	{name: "kafka-connect-client (Maven)", run: func(cache, pins string) []string {
		return []string{"java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(cache, "java", "libs", "*"), filepath.Join(pins, "Cycle.java")}
	}},
}

// installed is where `make clients` has put the clients. Without them the test is skipped, but in CI it fails.
func (e *Env) installed() (cache, pins string) {
	e.t.Helper()
	root, err := kafka.Root()
	e.Must(err)
	cache, pins = filepath.Join(root, ".cache", "clients"), filepath.Join(root, "e2e", "clients")
	why, err := os.ReadFile(filepath.Join(cache, "missing"))
	if errors.Is(err, fs.ErrNotExist) {
		why = nil
		if _, err := os.Stat(filepath.Join(cache, "java", "pins")); err != nil {
			why = []byte("no clients in .cache: `make clients` fetches them")
		}
	}
	switch {
	case why == nil:
	case os.Getenv("CI") != "":
		e.t.Fatal(strings.TrimSpace(string(why)))
	default:
		e.t.Skip(strings.TrimSpace(string(why)))
	}
	return cache, pins
}

// cycle lets a client lead a connector through its life on a cluster.
func (e *Env) cycle(c client, system, url string) (transcript, error) {
	cache, pins := e.installed()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, c.name)
	file := filepath.Join(e.Dir, system+"-"+name)
	config := Config{
		"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1",
		"file": file + ".txt", "topic": e.Prefix + "." + system + "-" + name,
		"key.converter": stringConverter, "value.converter": stringConverter,
	}
	// Without auto-creation on the broker, a producer waits for its topic, and a task of Connect cannot be paused meanwhile.
	e.Topic(e.Hub, system+"-"+name, 1)
	if err := os.WriteFile(file+".txt", []byte("one\ntwo\n"), 0o600); err != nil {
		return transcript{}, err
	}
	if err := os.WriteFile(file+".json", []byte(`{"name":"`+name+`","config":`+config.JSON()+`}`), 0o600); err != nil {
		return transcript{}, err
	}
	ctx, cancel := context.WithTimeout(e.Context(), 3*time.Minute)
	defer cancel()
	args := append(c.run(cache, pins), url, file+".json")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = filepath.Join(cache, "node")
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(cache, "node", "node_modules"), "PYTHONDONTWRITEBYTECODE=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		return transcript{}, fmt.Errorf("%s on %s: %w\n%s\n%s", c.name, system, err, out.Bytes(), errs.Bytes())
	}
	var t transcript
	text := strings.ReplaceAll(out.String(), "."+system+"-", ".SYSTEM-")
	text = strings.ReplaceAll(text, "/"+system+"-", "/SYSTEM-")
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("%s on %s: %w: %s", c.name, system, err, text)
	}
	return t, nil
}

// alike takes out of an answer what two clusters cannot have in common.
func alike(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, root := v["commit"]; root {
			v["version"] = "of the worker"
		}
		for k := range v {
			switch k {
			case "worker_id", "workerId", "kafka_cluster_id", "kafkaClusterId", "commit":
				v[k] = "of the cluster"
			default:
				v[k] = alike(v[k])
			}
		}
	case []any:
		for i := range v {
			v[i] = alike(v[i])
		}
	case string:
		if strings.HasPrefix(v, "127.0.0.1:") || strings.Contains(v, "http://127.0.0.1:") {
			return "an address"
		}
	}
	return v
}

// TestClientsOfOthers leads connectors through their lives with clients that others have published, on Kafka Connect and on
// ours: to the clients both are the same, and ours never answers 409.
func TestClientsOfOthers(t *testing.T) {
	e := New(t, 8*time.Minute)
	e.installed()
	p := e.files()
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) { // one after the other: each has Connect rebalance
			theirs, err := e.cycle(c, "java", p.java.URL())
			if err != nil {
				t.Fatal(err)
			}
			ours, err := e.cycle(c, "ours", p.fleet.any().URL())
			if err != nil {
				t.Fatal(err)
			}
			if ours.Conflicts > 0 {
				t.Errorf("%d answers 409", ours.Conflicts)
			}
			if len(ours.Steps) != len(theirs.Steps) {
				t.Fatalf("%d steps, on Connect %d", len(ours.Steps), len(theirs.Steps))
			}
			for i, step := range ours.Steps {
				if diff := cmp.Diff(alike(theirs.Steps[i][1]), alike(step[1])); diff != "" {
					t.Errorf("%s: -Connect, +ours:\n%s", step[0], diff)
				}
			}
			t.Logf("%d steps, %d answers 409 from Connect", len(ours.Steps), theirs.Conflicts)
		})
	}
}

// TestPutLoop is what declarative tools do: PUT what is wanted, read it back, and PUT again only if it differs.
func TestPutLoop(t *testing.T) {
	e := New(t, 3*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1, Properties: e.fileClients()})
	topic := e.Topic(e.Hub, "declared", 1)
	lines := filepath.Join(e.Dir, "lines.txt")
	e.Must(os.WriteFile(lines, []byte("one\n"), 0o600))
	const name = "declared"
	path := "/connectors/" + name
	want := Config{
		"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": lines,
		"topic": topic, "key.converter": stringConverter, "value.converter": stringConverter, "name": name,
	}
	// apply returns how often it had to write.
	apply := func(want Config) (writes int) {
		for range 3 {
			status, text := f.any().Ask(http.MethodGet, path+"/config", "")
			var got Config
			if status == http.StatusOK {
				e.Must(json.Unmarshal([]byte(text), &got))
			}
			if cmp.Equal(got, want) {
				return writes
			}
			writes++
			if status, text = f.any().Ask(http.MethodPut, path+"/config", want.JSON()); status != http.StatusOK && status != http.StatusCreated {
				t.Fatalf("PUT: %d %s", status, text)
			}
		}
		t.Fatal("what is read is never what was written")
		return writes
	}
	for i, step := range []struct {
		config Config
		writes int
	}{{want, 1}, {want, 0}, {want.With(map[string]string{"batch.size": "9"}), 1}, {want, 1}, {want, 0}} {
		if got := apply(step.config); got != step.writes {
			t.Errorf("step %d: %d writes, want %d", i, got, step.writes)
		}
	}
	f.Await(name, "RUNNING", 1, time.Minute)
	f.Do(http.MethodDelete, path, "", http.StatusNoContent)
	e.Until(time.Minute, "deletion", func() string {
		if status, _ := f.any().Ask(http.MethodGet, path, ""); status != http.StatusNotFound {
			return fmt.Sprint(status)
		}
		return ""
	})
}
