package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
)

// kind is a way to replicate.
type kind string

const (
	rawFetch    kind = "raw fetch alone"
	rawLoop     kind = "bare raw loop"
	mm2Defaults kind = "MirrorMaker 2, defaults"
	mm2Tuned    kind = "MirrorMaker 2, tuned"
	mm2Once     kind = "MirrorMaker 2, exactly once"
	ours        kind = "barnabas"
	oursOnce    kind = "barnabas, exactly once"
)

// once says whether records are written in transactions.
func (k kind) once() bool { return k == mm2Once || k == oursOnce }

func (k kind) java() bool { return strings.HasPrefix(string(k), "MirrorMaker") }

// patience is how long a replicator may take to end when asked to.
const patience = 30 * time.Second

// job is what a replicator has to do.
type job struct {
	kind       kind
	alias      string // of the source; copies are named after it
	topic      string
	partitions int32
	dir        string
	rest       string // address of the worker's REST API
	gossip     string
}

// job makes a job with names of its own.
func (l *lab) job(k kind, topic string, partitions int32) (job, error) {
	alias := l.alias()
	dir, err := l.folder(alias)
	if err != nil {
		return job{}, err
	}
	addresses, err := kafka.FreePorts(2)
	if err != nil {
		return job{}, err
	}
	return job{kind: k, alias: alias, topic: topic, partitions: partitions, dir: dir, rest: addresses[0], gossip: addresses[1]}, nil
}

// copy is the topic on the target.
func (j job) copy() string { return j.alias + "." + j.topic }

// running is a replicator that has been started.
type running struct {
	job
	begin  time.Time
	proc   *process.Process
	failed <-chan error // one error if it could not be told what to do
}

// start starts a replicator and returns at once. One that has been started
// before in the same folder finds its work by itself.
func (l *lab) start(ctx context.Context, j job, again bool) (running, error) {
	r := running{job: j, begin: time.Now()}
	failed := make(chan error, 1)
	r.failed = failed
	var err error
	switch {
	case j.kind.java():
		r.proc, err = kafka.StartMirrorMaker(kafka.MirrorMakerSpec{Name: j.alias, Dir: j.dir, Properties: l.mirrorMaker(j)})
	case j.kind == rawLoop:
		if err := l.create(ctx, l.targetClient, j.copy(), j.partitions); err != nil {
			return r, err
		}
		r.begin = time.Now()
		r.proc, err = process.Start(process.Spec{
			Name: string(j.kind), Path: l.self, Dir: j.dir, Log: filepath.Join(j.dir, "loop.log"), Env: l.environment(j),
			Args: []string{"loop", l.source.Bootstrap(), l.target.Bootstrap(), j.topic, j.copy(), strconv.Itoa(int(j.partitions))},
		})
	default:
		if err := l.worker(j); err != nil {
			return r, err
		}
		r.begin = time.Now()
		r.proc, err = process.Start(process.Spec{
			Name: string(j.kind), Path: l.binary, Dir: j.dir, Log: filepath.Join(j.dir, "worker.log"), Env: l.environment(j),
			Args: []string{"worker", filepath.Join(j.dir, "worker.properties"), "--log-format", "text"},
		})
		if err == nil && !again {
			go func() {
				if err := l.post(ctx, j); err != nil && ctx.Err() == nil {
					failed <- err
				}
			}()
		}
	}
	return r, err
}

// environment is that of the product and of the bare loop.
func (l *lab) environment(j job) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + j.dir}
	if l.pprof != "" {
		name := strings.Map(func(c rune) rune {
			if c == ' ' || c == ',' {
				return '-'
			}
			return c
		}, string(j.kind))
		env = append(env, profileTo+"="+filepath.Join(l.pprof, j.topic+"-"+j.alias+"-"+name+".pprof"))
	}
	return env
}

// profile begins or ends the processor profile of a process that can give one.
func (l *lab) profile(r running) {
	if l.pprof != "" && !r.kind.java() {
		_ = syscall.Kill(r.proc.PID(), syscall.SIGUSR1)
	}
}

// kill ends a replicator whose work is of no more use.
func (r running) kill() {
	if r.proc != nil {
		r.proc.Kill()
	}
}

// ended is the error of a replicator that is not there any more, nil if it is.
func (r running) ended() error {
	select {
	case err := <-r.failed:
		return fmt.Errorf("%w\n%s", err, r.proc.Tail(15))
	case <-r.proc.Done():
		return fmt.Errorf("%s ended: %w\n%s", r.kind, errors.Join(r.proc.Err(), errGone), r.proc.Tail(15))
	default:
		return nil
	}
}

var errGone = errors.New("it was to go on")

// mirrorMaker is mm2.properties: from source to target and not back, everything
// else at its default but what a single broker makes necessary.
func (l *lab) mirrorMaker(j job) map[string]string {
	a, b := j.alias, j.alias+"b"
	p := map[string]string{
		"clusters": a + "," + b, a + ".bootstrap.servers": l.source.Bootstrap(), b + ".bootstrap.servers": l.target.Bootstrap(),
		a + "->" + b + ".enabled": "true", a + "->" + b + ".topics": j.topic, b + "->" + a + ".enabled": "false",
	}
	for _, topic := range []string{"", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic.", "offset.storage.", "status.storage.", "config.storage."} {
		p[topic+"replication.factor"] = "1"
	}
	switch j.kind {
	case mm2Tuned:
		maps.Copy(p, map[string]string{
			"tasks.max": "4",
			// Fetches and batches are made larger, and the copy is compressed.
			a + ".consumer.fetch.min.bytes": "100000", a + ".consumer.fetch.max.wait.ms": "100", a + ".consumer.max.partition.fetch.bytes": "8388608",
			a + ".consumer.max.poll.records": "5000", a + ".consumer.receive.buffer.bytes": "1048576",
			b + ".producer.batch.size": "524288", b + ".producer.linger.ms": "50", b + ".producer.compression.type": "lz4",
			b + ".producer.buffer.memory": "134217728", b + ".producer.max.request.size": "8388608", b + ".producer.send.buffer.bytes": "1048576",
		})
	case mm2Once:
		p[b+".exactly.once.source.support"] = "enabled"
		p["dedicated.mode.enable.internal.rest"], p["listeners"] = "true", "http://"+j.rest
		p[a+".consumer.isolation.level"] = "read_committed"
	}
	return p
}

// worker writes the worker file. The internal topics are on the target, as
// MirrorMaker 2's are.
func (l *lab) worker(j job) error {
	const converter = "org.apache.kafka.connect.converters.ByteArrayConverter"
	p := map[string]string{
		"bootstrap.servers": l.target.Bootstrap(), "group.id": j.alias, "listeners": "http://" + j.rest, "rest.advertised.host.name": "127.0.0.1",
		"key.converter": converter, "value.converter": converter, "gossip.bind": j.gossip,
	}
	for _, topic := range []string{"config", "offset", "status"} {
		p[topic+".storage.topic"] = j.alias + "-" + topic
		p[topic+".storage.replication.factor"] = "1"
	}
	if j.kind == oursOnce {
		p["exactly.once.source.support"] = "enabled"
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		text.WriteString(k + "=" + p[k] + "\n")
	}
	if err := os.WriteFile(filepath.Join(j.dir, "worker.properties"), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("worker file: %w", err)
	}
	return nil
}

// connectorName is how the product's connector is called.
const connectorName = "bench"

// post makes the connector as soon as the worker takes it.
func (l *lab) post(ctx context.Context, j job) error {
	settings := map[string]string{
		"connector.class":      "org.apache.kafka.connect.mirror.MirrorSourceConnector",
		"source.cluster.alias": j.alias, "target.cluster.alias": j.alias + "b",
		"source.cluster.bootstrap.servers": l.source.Bootstrap(), "target.cluster.bootstrap.servers": l.target.Bootstrap(),
		"topics": j.topic, "replication.factor": "1", "offset-syncs.topic.replication.factor": "1",
	}
	body, err := json.Marshal(map[string]any{"name": connectorName, "config": settings})
	if err != nil {
		return fmt.Errorf("post connector: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		status, answer, err := request(ctx, http.MethodPost, "http://"+j.rest+"/connectors", body)
		if err == nil && status == http.StatusCreated {
			return nil
		}
		if err == nil && status >= 400 && status < 500 {
			return fmt.Errorf("post connector: %d %s", status, answer)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("post connector: %d %s: %w", status, answer, errors.Join(err, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func request(ctx context.Context, method, url string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it is only read
	answer, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	return res.StatusCode, answer, err
}

// modes asks the product how its tasks deliver and how their batches move: what it
// says of itself, so that a row tells what was measured.
func (r running) modes(ctx context.Context) string {
	if r.kind != ours && r.kind != oursOnce {
		return ""
	}
	status, answer, err := request(ctx, http.MethodGet, "http://"+r.rest+"/v1/replication/"+connectorName, nil)
	var body any
	if err != nil || status != http.StatusOK || json.Unmarshal(answer, &body) != nil {
		return ""
	}
	var found []string
	words(body, &found)
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ", ")
}

// words collects what stands under "delivery" and "mode", at any depth.
func words(body any, found *[]string) {
	switch b := body.(type) {
	case []any:
		for _, v := range b {
			words(v, found)
		}
	case map[string]any:
		for k, v := range b {
			if word, ok := v.(string); ok && word != "" && (k == "delivery" || k == "mode") {
				*found = append(*found, word)
			}
			words(v, found)
		}
	}
}
