package main

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"barnabas/rest"
)

// exposed are the series of a worker, by name.
type exposed map[string][]exposedSeries

type exposedSeries struct {
	labels map[string]string
	value  float64
}

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelPart  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// parseExposed reads Prometheus' text format, and the type of each family.
func parseExposed(t *testing.T, text string) (all exposed, types map[string]string) {
	t.Helper()
	all, types = exposed{}, map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if words := strings.Fields(line); len(words) == 4 && words[0] == "#" && words[1] == "TYPE" {
			types[words[2]] = words[3]
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := seriesLine.FindStringSubmatch(line)
		if parts == nil {
			t.Fatalf("not a series: %s", line)
		}
		v, err := strconv.ParseFloat(parts[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		s := exposedSeries{labels: map[string]string{}, value: v}
		for _, l := range labelPart.FindAllStringSubmatch(parts[2], -1) {
			s.labels[l[1]] = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(l[2])
		}
		all[parts[1]] = append(all[parts[1]], s)
	}
	return all, types
}

// only returns the value of the one series with these labels (name, value, …).
func (e exposed) only(name string, labels ...string) (v float64, ok bool) {
	n := 0
	for _, s := range e[name] {
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && s.labels[labels[i]] == labels[i+1]
		}
		if fits {
			v = s.value
			n++
		}
	}
	return v, n == 1
}

// workedNode runs a worker that has copied, has a gap, and translates a group's offsets.
type workedNode struct {
	client *rest.Client
	began  time.Time
}

const (
	mirrorName     = "A->B.MirrorSourceConnector"
	checkpointName = "A->B.MirrorCheckpointConnector"
	sinkName       = "orders-file"
)

func startWorkedNode(t *testing.T) *workedNode {
	t.Helper()
	source, target := startKafka(t), startKafka(t)
	if err := writeRecords(source, "orders", []string{"one", "two", "three"}); err != nil {
		t.Fatal(err)
	}
	if err := commitOffset(source, "billing", "orders", 2); err != nil {
		t.Fatal(err)
	}
	n := startTestNode(t, target)
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{n.url}})
	if err != nil {
		t.Fatal(err)
	}
	w := &workedNode{client: client, began: time.Now()}
	common := map[string]string{
		"tasks.max": "1", "source.cluster.alias": "A", "target.cluster.alias": "B",
		"source.cluster.bootstrap.servers": source, "target.cluster.bootstrap.servers": target,
		"replication.factor": "1", "offset-syncs.topic.replication.factor": "1", "checkpoints.topic.replication.factor": "1",
	}
	w.create(t, mirrorName, common, map[string]string{"connector.class": "MirrorSource", "topics": "orders"})
	w.eventually(t, "three records are copied", func(all exposed) bool {
		v, _ := all.only("kafka_connect_mirror_mirrorsourceconnector_record_count", "topic", "A.orders")
		return v == 3
	})
	w.create(t, checkpointName, common, map[string]string{
		"connector.class": "MirrorCheckpoint", "groups": "billing", "emit.checkpoints.interval.seconds": "1", "refresh.groups.interval.seconds": "1",
	})
	if err := waitForState(client, checkpointName, "RUNNING"); err != nil {
		t.Fatal(err)
	}
	// What the source deletes before it is copied is a gap.
	if err := client.Stop(t.Context(), mirrorName); err != nil {
		t.Fatal(err)
	}
	if err := waitForState(client, mirrorName, "STOPPED"); err != nil {
		t.Fatal(err)
	}
	if err := writeRecords(source, "orders", []string{"four", "five", "six", "seven"}); err != nil {
		t.Fatal(err)
	}
	if err := trim(source, "orders", 5); err != nil {
		t.Fatal(err)
	}
	if err := client.Resume(t.Context(), mirrorName); err != nil {
		t.Fatal(err)
	}
	w.create(t, sinkName, map[string]string{
		"connector.class": "FileStreamSink", "tasks.max": "1", "topics": "A.orders", "file": filepath.Join(t.TempDir(), "orders"),
		"key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.storage.StringConverter",
	})
	return w
}

func (w *workedNode) create(t *testing.T, name string, settings ...map[string]string) {
	t.Helper()
	all := map[string]string{}
	for _, s := range settings {
		for k, v := range s {
			all[k] = v
		}
	}
	if _, err := w.client.Create(t.Context(), name, all, ""); err != nil {
		t.Fatal(err)
	}
	if err := waitForState(w.client, name, "RUNNING"); err != nil {
		t.Fatal(err)
	}
}

func (w *workedNode) scrape(t *testing.T) (all exposed, types map[string]string) {
	t.Helper()
	text, err := w.client.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return parseExposed(t, text)
}

// eventually waits until the metrics are as they should be.
func (w *workedNode) eventually(t *testing.T, what string, fits func(exposed) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		text, err := w.client.Metrics(t.Context())
		if err == nil {
			if all, _ := parseExposed(t, text); fits(all) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s: %v\n%s", what, err, text)
		}
	}
}

// TestMetricsAreRight drives a mirror and a checkpoint connector and compares values with what was done, in Kafka's units.
func TestMetricsAreRight(t *testing.T) {
	t.Parallel()
	w := startWorkedNode(t)
	mirror, checkpoint := strconv.Quote(mirrorName), strconv.Quote(checkpointName)
	type row struct {
		name   string
		value  float64
		labels []string
	}
	rows := []row{ // four and five were deleted before they were copied; what is copied counts since the task was started again
		{"kafka_connect_mirror_mirrorsourceconnector_record_count", 2, []string{"source", "A", "target", "B", "topic", "A.orders", "partition", "0"}},
		{"kafka_connect_source_task_source_record_write_total", 2, []string{"connector", mirror, "task", "0"}},
		{"kafka_connect_source_task_source_record_poll_total", 2, []string{"connector", mirror, "task", "0"}},
		{"kafka_connect_source_task_source_record_active_count", 0, []string{"connector", mirror, "task", "0"}},
		{"kafka_consumer_fetch_manager_records_lag", 0, []string{"clientid", `"connector-consumer-` + mirrorName + `-0|replication-consumer"`, "topic", "orders", "partition", "0"}},
		{"barnabas_replication_lag_records", 0, []string{"connector", mirrorName, "topic", "orders"}},
		{"barnabas_replication_gaps_total", 1, []string{"connector", mirrorName, "topic", "orders", "cause", "retention"}},
		{"barnabas_replication_lost_records_total", 2, []string{"connector", mirrorName, "topic", "orders", "cause", "retention"}},
		{"kafka_connect_sink_task_sink_record_read_total", 5, []string{"connector", sinkName, "task", "0"}},
		{"kafka_connect_sink_task_sink_record_send_total", 5, []string{"connector", sinkName, "task", "0"}},
		{"kafka_connect_sink_task_sink_record_active_count", 0, []string{"connector", sinkName, "task", "0"}}, // committed
		{"kafka_connect_sink_task_partition_count", 1, []string{"connector", sinkName, "task", "0"}},
		{"kafka_connect_sink_task_offset_commit_skip_total", 0, []string{"connector", sinkName, "task", "0"}},
		{"kafka_connect_connector_task_offset_commit_success_percentage", 1, []string{"connector", sinkName}},
		{"kafka_connect_worker_connector_count", 3, nil},
		{"kafka_connect_worker_task_count", 3, nil},
		{"kafka_connect_coordinator_assigned_connectors", 3, nil},
		{"kafka_connect_worker_connector_startup_success_total", 4, nil}, // one of them was stopped and resumed
		{"kafka_connect_worker_task_startup_success_total", 4, nil},
		{"kafka_connect_connector_status", 1, []string{"connector", mirror, "task", "", "status", "running"}},
		{"kafka_connect_connector_task_offset_commit_success_percentage", 1, []string{"connector", mirror}},
		{"kafka_connect_connector_task_status", 1, []string{"connector", checkpoint, "task", "0", "status", "running"}},
		{"barnabas_leader", 1, nil},
		{"barnabas_members", 1, []string{"state", "alive"}},
	}
	w.eventually(t, "counts", func(all exposed) bool {
		for _, r := range rows {
			if v, ok := all.only(r.name, r.labels...); !ok || v != r.value {
				return false
			}
		}
		if len(all["kafka_connect_source_task_source_record_poll_total"]) != 1 { // a sink polls nothing, in these terms
			return false
		}
		done, okDone := all.only("kafka_connect_sink_task_offset_commit_completion_total", "connector", sinkName)
		took, okTook := all.only("kafka_connect_sink_task_put_batch_max_time_ms", "connector", sinkName)
		if !okDone || !okTook || done < 1 || took <= 0 {
			return false
		}
		v, ok := all.only("kafka_connect_connector_task_batch_size_avg", "connector", mirror)
		return ok && v >= 1 && v <= 2
	})
	all, _ := w.scrape(t)
	// Ages are in ms from the timestamps that writeRecords gives.
	newest, oldest := float64(time.Now().UnixMilli()-1_700_000_000_000), float64(w.began.UnixMilli()-1_700_000_000_000-10)
	for _, r := range []struct {
		name     string
		from, to float64
	}{
		{"kafka_connect_mirror_mirrorsourceconnector_record_age_ms", oldest, newest},
		{"kafka_connect_mirror_mirrorsourceconnector_record_age_ms_avg", oldest, newest},
		{"kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_min", oldest, newest},
		{"kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_max", oldest, newest},
		{"kafka_connect_mirror_mirrorsourceconnector_byte_count", 20, 1000},
		{"kafka_connect_mirror_mirrorsourceconnector_record_rate", 2. / 120, 2. / 30},
		{"kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms_max", 0.001, newest - oldest},
		{"barnabas_replication_latency_seconds_sum", 2 * oldest / 1000, 2 * newest / 1000},
	} {
		if v, ok := all.only(r.name); !ok || !(v >= r.from && v <= r.to) {
			t.Errorf("%s is %v (the only one: %t), want it from %v to %v", r.name, v, ok, r.from, r.to)
		}
	}
	for _, name := range []string{"running_ratio", "offset_commit_avg_time_ms", "offset_commit_max_time_ms"} {
		v, ok := all.only("kafka_connect_connector_task_"+name, "connector", mirror)
		if most := map[bool]float64{true: 1, false: newest - oldest}[name == "running_ratio"]; !ok || !(v > 0 && v <= most) {
			t.Errorf("%s is %v, want it above 0 and at most %v", name, v, most)
		}
	}
	for name, client := range map[string]string{
		"kafka_consumer_incoming_byte_total": `"connector-consumer-` + mirrorName + `-0|replication-consumer"`,
		"kafka_producer_outgoing_byte_total": `"connector-producer-` + mirrorName + `-0|target-producer"`,
	} {
		// Two batches of a record went each way, and little else.
		if v, ok := all.only(name, "clientid", client); !ok || v < 146 || v > 100_000 {
			t.Errorf("%s of %s is %v", name, client, v)
		}
	}
}
