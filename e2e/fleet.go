package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
	"barnabas/e2e/proxy"
)

// Fleet are the workers of one cluster, each a process.
type Fleet struct {
	e       *Env
	Group   string
	Workers []*Worker
	o       FleetOptions
	secret  string // of the gossip, by reference
}

// FleetOptions say how workers are set up.
type FleetOptions struct {
	Size int
	// Group is the group.id after the test's prefix; empty is "workers". Two
	// fleets of one group share the internal topics.
	Group string
	// Properties are added to every worker file; an empty value takes a key out.
	Properties map[string]string
	// Env is the whole environment of the workers, besides PATH.
	Env []string
	// GossipProxy puts a proxy before every worker's gossip and captures what
	// passes. Gossip is then not encrypted, so that secrets in it could be seen.
	GossipProxy bool
	LogLevel    string
	// HTTPS has the workers listen with it. Settings of listeners.https. are to be
	// in Properties, and Env.Client has to trust them.
	HTTPS bool
}

// Worker is one of them.
type Worker struct {
	fleet *Fleet
	Name  string
	// ID is worker_id in statuses: host and port of the REST API.
	ID string
	// File is the worker file.
	File   string
	gossip string // where its gossip listens
	proxy  *proxy.Gossip
	proc   *process.Process
}

// Fleet prepares workers and starts all of them at once. They end with the test.
func (e *Env) Fleet(o FleetOptions) *Fleet {
	e.t.Helper()
	f := e.Prepare(o)
	f.Start()
	return f
}

// Prepare writes the worker files and starts nothing.
func (e *Env) Prepare(o FleetOptions) *Fleet {
	e.t.Helper()
	f := &Fleet{e: e, o: o, Group: e.Prefix + "-workers"}
	if o.Group != "" {
		f.Group = e.Prefix + "-" + o.Group
	}
	var key [32]byte
	_, _ = rand.Read(key[:])
	value := base64.StdEncoding.EncodeToString(key[:])
	e.Leak.Watch("gossip secret", value)
	f.secret = "${file:" + e.Secret(f.Group+"-gossip.properties", "secret="+value+"\n") + ":secret}"
	for range o.Size {
		f.add()
	}
	for _, w := range f.Workers {
		w.write()
	}
	e.fleets = append(e.fleets, f)
	e.t.Cleanup(f.kill)
	return f
}

// add makes one more worker, whose file is not yet written.
func (f *Fleet) add() *Worker {
	e := f.e
	addresses, err := kafka.FreePorts(2)
	e.Must(err)
	w := &Worker{fleet: f, Name: f.Group + "-" + string('a'+rune(len(f.Workers))), ID: addresses[0], gossip: addresses[1]}
	if f.o.GossipProxy {
		w.proxy, err = proxy.ListenGossip("127.0.0.1:0", w.gossip, func(packet []byte) { e.Leak.Scan("gossip", w.Name, packet) })
		e.Must(err)
	}
	w.File = filepath.Join(e.Dir, w.Name+".properties")
	f.Workers = append(f.Workers, w)
	return w
}

// Add writes the file of one more worker of the fleet and starts it.
func (f *Fleet) Add() *Worker {
	f.e.t.Helper()
	w := f.add()
	w.write()
	w.Start()
	return w
}

// write writes the worker file: as for Kafka Connect, and the gossip.
func (w *Worker) write() {
	f, e := w.fleet, w.fleet.e
	p := map[string]string{
		"bootstrap.servers": e.Hub.Address(Client), "group.id": f.Group,
		"listeners": w.URL(), "rest.advertised.host.name": "127.0.0.1",
		"key.converter":             "org.apache.kafka.connect.converters.ByteArrayConverter",
		"value.converter":           "org.apache.kafka.connect.converters.ByteArrayConverter",
		"offset.flush.interval.ms":  "1000",
		"offset.storage.partitions": "5",
		"config.providers":          "file", "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
		"gossip.bind": w.gossip, "gossip.secret": f.secret,
	}
	for _, topic := range []string{"config", "offset", "status"} {
		p[topic+".storage.topic"] = f.Group + "-" + topic
		p[topic+".storage.replication.factor"] = "1"
	}
	var join []string
	for _, other := range f.Workers {
		join = append(join, other.Gossip())
	}
	p["gossip.join"] = strings.Join(join, ",")
	if w.proxy != nil {
		p["gossip.advertise"] = w.Gossip()
		delete(p, "gossip.secret")
	}
	maps.Copy(p, e.worker().Settings(""))
	maps.Copy(p, f.o.Properties)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		if p[k] != "" {
			text.WriteString(k + "=" + strings.ReplaceAll(p[k], `\`, `\\`) + "\n")
		}
	}
	e.Must(os.WriteFile(w.File, []byte(text.String()), 0o600))
}

// worker is the identity of the workers themselves on the hub, a super user.
func (e *Env) worker() Identity {
	i := Identity{Name: "worker", File: filepath.Join(e.Dir, "secrets", "worker.properties")}
	if _, err := os.Stat(i.File); err == nil {
		return i
	}
	// One user for all tests, who may run at once: the first sets the password.
	workerPassword.once.Do(func() {
		workerPassword.value = e.Leak.Plant("worker")
		workerPassword.err = e.Hub.AddUser(e.Context(), i.Name, workerPassword.value)
	})
	e.Must(workerPassword.err)
	e.Leak.Watch("worker", workerPassword.value)
	e.Secret("worker.properties", "password="+workerPassword.value+"\n")
	return i
}

// Start starts all workers of the fleet at once and waits until they are healthy.
func (f *Fleet) Start() {
	f.e.t.Helper()
	for _, w := range f.Workers {
		w.launch()
	}
	var g errgroup.Group
	for _, w := range f.Workers {
		g.Go(func() error { return w.healthy(f.e.Context()) })
	}
	f.e.Must(g.Wait())
}

// kill ends what is left of the fleet, and shows the logs of a failed test.
func (f *Fleet) kill() {
	for _, w := range f.Workers {
		if w.Running() {
			w.proc.Kill()
		}
		if w.proxy != nil {
			w.proxy.Close()
		}
		if f.e.t.Failed() && w.proc != nil {
			f.e.t.Logf("log of %s (%s):\n%s", w.Name, w.ID, w.proc.Tail(60))
		}
	}
}

// Alive are the workers whose process runs.
func (f *Fleet) Alive() []*Worker {
	return slices.DeleteFunc(slices.Clone(f.Workers), func(w *Worker) bool { return !w.Running() })
}

// ByID is the worker with a worker_id.
func (f *Fleet) ByID(id string) *Worker {
	f.e.t.Helper()
	for _, w := range f.Workers {
		if w.ID == id {
			return w
		}
	}
	f.e.t.Fatalf("no worker %q", id)
	return nil
}

// Gossip is the address that others reach the worker's gossip at.
func (w *Worker) Gossip() string {
	if w.proxy != nil {
		return w.proxy.Address()
	}
	return w.gossip
}

// Caller is how another worker's gossip proxy knows this worker.
func (w *Worker) Caller() proxy.Caller {
	return proxy.Caller{PID: w.proc.PID(), UDP: w.gossip}
}

// URL is the address of the REST API.
func (w *Worker) URL() string {
	if w.fleet.o.HTTPS {
		return "https://" + w.ID
	}
	return "http://" + w.ID
}

// Log is the file with the worker's output.
func (w *Worker) Log() string { return filepath.Join(w.fleet.e.Dir, w.Name+".log") }

// Running says whether the process has been started and has not ended.
func (w *Worker) Running() bool { return w.proc != nil && w.proc.Running() }

// Start starts the worker, for the first time or again, and waits until it is
// healthy.
func (w *Worker) Start() {
	w.fleet.e.t.Helper()
	w.launch()
	w.fleet.e.Must(w.healthy(w.fleet.e.Context()))
}

// launch starts the process and waits for nothing.
func (w *Worker) launch() {
	w.fleet.e.t.Helper()
	w.fleet.e.Must(w.spawn())
}

// spawn is launch for any goroutine.
func (w *Worker) spawn() error {
	e := w.fleet.e
	path, err := binary()
	if err != nil {
		return err
	}
	args := []string{"worker", w.File, "--log-format", "text"}
	if w.fleet.o.LogLevel != "" {
		args = append(args, "--log-level", w.fleet.o.LogLevel)
	}
	w.proc, err = process.Start(process.Spec{
		Name: w.Name, Path: path, Args: args, Log: w.Log(), Dir: e.Dir,
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Dir}, w.fleet.o.Env...),
	})
	return err
}

// healthy waits until the worker says that it does its job.
func (w *Worker) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		status, body, err := w.fleet.e.ask(ctx, http.MethodGet, w.URL()+"/health", "")
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-w.proc.Done():
			return fmt.Errorf("%s ended: %w\n%s", w.Name, w.proc.Err(), w.proc.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s is not healthy: %v %s", w.Name, err, body)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the worker with SIGKILL.
func (w *Worker) Kill() { w.proc.Kill() }

// Stop ends the worker with SIGTERM and waits.
func (w *Worker) Stop() {
	w.fleet.e.t.Helper()
	w.fleet.e.Must(w.proc.Stop(30 * time.Second))
}

// Freeze stops the worker's clockwork (SIGSTOP).
func (w *Worker) Freeze() {
	w.fleet.e.t.Helper()
	w.fleet.e.Must(w.proc.Freeze(w.fleet.e.Context()))
}

// Thaw lets it run on (SIGCONT).
func (w *Worker) Thaw() {
	w.fleet.e.t.Helper()
	w.fleet.e.Must(w.proc.Thaw())
}
