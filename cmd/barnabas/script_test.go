package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/rest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"barnabas": main})
}

// TestScripts runs the command line as a person does, against one worker over
// two embedded clusters that all scripts share: each has its own connectors and topics.
func TestScripts(t *testing.T) {
	t.Parallel()
	source, target := startKafka(t), startKafka(t)
	n := startTestNode(t, target)
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{n.url}})
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each command takes a second to end
			e.Setenv("BARNABAS_URL", n.url)
			e.Setenv("WORKER", n.worker.ID())
			e.Setenv("SOURCE", source)
			e.Setenv("TARGET", target)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"expand": expand,
			"exits":  exits,
			"until":  until,
			// metric REGEXP: waits until a line of the worker's metrics matches.
			"metric": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := regexp.Compile("(?m)" + args[0])
				ts.Check(err)
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
					text, err := client.Metrics(context.Background())
					if err == nil && want.MatchString(text) {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("no metric %s: %v\n%s", args[0], err, text)
					}
				}
			},
			// records CLUSTER TOPIC VALUE...: writes records, whose keys and timestamps are their numbers.
			"records": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeRecords(ts.Getenv(args[0]), args[1], args[2:]))
			},
			// commit CLUSTER GROUP TOPIC OFFSET: a group without members has read partition 0 up to the offset.
			"commit": func(ts *testscript.TestScript, _ bool, args []string) {
				at, err := strconv.ParseInt(args[3], 10, 64)
				ts.Check(err)
				ts.Check(commitOffset(ts.Getenv(args[0]), args[1], args[2], at))
			},
			// trim CLUSTER TOPIC OFFSET: deletes what partition 0 has before the offset, as retention does.
			"trim": func(ts *testscript.TestScript, _ bool, args []string) {
				to, err := strconv.ParseInt(args[2], 10, 64)
				ts.Check(err)
				ts.Check(trim(ts.Getenv(args[0]), args[1], to))
			},
			// state CONNECTOR STATE: waits until the connector and its tasks are in a state.
			"state": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(waitForState(client, args[0], args[1]))
			},
		},
	})
}

// expand FILE: replaces $VARIABLES in a file of the script.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// exits CODE COMMAND ARGS...: the command ends with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%q ended with %d, want %d", args[1:], got, want)
	}
}

// until REGEXP COMMAND ARGS...: runs the command until its output, or what it warns of, matches.
func until(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")+ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q does not write %s: %v", args[1:], args[0], err)
		}
	}
}

func startKafka(t *testing.T) (bootstrap string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return strings.Join(c.ListenAddrs(), ",")
}

// startTestNode runs a worker for the length of a test; more are settings of its file.
func startTestNode(t *testing.T, bootstrap string, more ...map[string]string) *node {
	t.Helper()
	written := map[string]string{
		"bootstrap.servers": bootstrap, "group.id": "scripts", "listeners": "http://127.0.0.1:0", "gossip.bind": "127.0.0.1:0",
		"config.storage.topic": "configs", "offset.storage.topic": "offsets", "status.storage.topic": "status",
		"config.storage.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"offset.storage.partitions": "1", "status.storage.partitions": "1",
	}
	for _, m := range more {
		maps.Copy(written, m)
	}
	resolver, err := configprovider.New(t.Context(), written, configprovider.Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	levels, err := newLogLevels("INFO")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(&levelHandler{next: slog.NewTextHandler(t.Output(), nil), levels: levels, name: rootLogger})
	n, err := newNode(nodeOptions{Settings: config.Literal(written), Resolver: resolver, Log: log, Levels: levels})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- n.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("the worker ended: %v", err)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		h := n.worker.Health()
		if h.Healthy {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("the worker does not become healthy: %+v", h)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func waitForState(client *rest.Client, name, state string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		s, err := client.Status(ctx, name)
		there := err == nil && s.Connector.State == state && (state == "STOPPED" || len(s.Tasks) > 0)
		for _, t := range s.Tasks {
			there = there && t.State == state
		}
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not become %s: %+v %v", name, state, s, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func writeRecords(bootstrap, topic string, values []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, _ = kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, topic) // it may be there
	for i, v := range values {
		r := &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte(v), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

func commitOffset(bootstrap, group, topic string, at int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...))
	if err != nil {
		return err
	}
	defer cl.Close()
	return kadm.NewClient(cl).CommitAllOffsets(ctx, group, kadm.OffsetsFromRecords(kgo.Record{Topic: topic, Offset: at - 1}))
}

func trim(bootstrap, topic string, to int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...))
	if err != nil {
		return err
	}
	defer cl.Close()
	deleted, err := kadm.NewClient(cl).DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, At: to, LeaderEpoch: -1}}})
	if err != nil {
		return err
	}
	return deleted.Error()
}
