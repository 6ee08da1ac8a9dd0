package task

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

func TestTasksAreCountedAsConnectCountsThem(t *testing.T) {
	t.Parallel()
	r, report, start := reporter(t)
	start(Run{ID: 1, Connector: "A->B.m", Task: 0})
	report(1, connector.Progress{Partitions: []connector.PartitionProgress{
		{Topic: "o", Records: 100, InFlight: 7, Decisions: map[string]int64{"raw": 4, "decoded: codec": 1, "skipped: control": 9}},
		{Topic: "p", Records: 10, InFlight: 3},
	}})
	const label = `{connector="A->B.m",task=0} `
	has := func(prefix string, want ...string) {
		t.Helper()
		lines := scrape(t, r, prefix)
		for _, w := range want {
			name, value, _ := strings.Cut(w, " ")
			if !slices.Contains(lines, name+label+value) {
				t.Errorf("no %s%s in %q", prefix, w, lines)
			}
		}
	}
	has("kafka_connect_source_task_source_record_", "write_total 110", "poll_total 120", "active_count 10", "active_count_max 10", "active_count_avg 10")
	has("kafka_connect_connector_task_", "batch_size_avg 22", "offset_commit_success_percentage 0", "offset_commit_avg_time_ms NaN", "running_ratio 0", "pause_ratio 0")
	has("kafka_connect_task_error_", "total_record_failures 0", "last_error_timestamp 0")

	// A partition has gone with three records on their way, copying of the other has begun anew.
	report(1, connector.Progress{
		Partitions: []connector.PartitionProgress{{Topic: "o", Records: 5, InFlight: 0}},
		Errors:     connector.Errors{Failures: 3, Skipped: 2, Retries: 4, Letters: 2, LettersFailed: 1, Last: time.UnixMilli(1234)},
	})
	has("kafka_connect_source_task_source_record_", "write_total 115", "poll_total 120", "active_count 0", "active_count_max 10", "active_count_avg 5")
	has("kafka_connect_task_error_", "total_record_failures 3", "total_record_errors 7", "total_records_skipped 2", "total_retries 4",
		"total_errors_logged 3", "deadletterqueue_produce_requests 2", "deadletterqueue_produce_failures 1", "last_error_timestamp 1234")
}

func TestSavedOffsetsAreMeasured(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	fail := errors.New("no")
	r, _, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		for range 3 {
			if err := tc.Offsets.Save(ctx, nil); err != nil {
				return err
			}
		}
		canceled, cancel := context.WithCancelCause(ctx)
		cancel(fail)
		if err := tc.Offsets.Save(canceled, nil); err == nil {
			return errors.New("saved")
		}
		tc.Started()
		told <- ""
		<-ctx.Done()
		return nil
	})
	r.Start(Run{ID: 1, Connector: "m"})
	wait(t, told, "its offsets")
	values := map[string]string{}
	for _, line := range scrape(t, r, "kafka_connect_") {
		name, value, _ := strings.Cut(line, " ")
		values[name] = value
	}
	for name, want := range map[string]string{
		"connector_task_offset_commit_success_percentage{connector=m,task=0}": "0.75",
		"connector_task_offset_commit_failure_percentage{connector=m,task=0}": "0.25",
		"worker_task_startup_attempts_total{}":                                "1",
		"worker_task_startup_success_total{}":                                 "1",
		"worker_task_startup_failure_total{}":                                 "0",
		"worker_task_startup_success_percentage{}":                            "1",
		"worker_connector_startup_attempts_total{}":                           "0",
	} {
		if values[name] != want {
			t.Errorf("%s is %s, want %s", name, values[name], want)
		}
	}
	if v := values["connector_task_running_ratio{connector=m,task=0}"]; v == "0" || v == "" {
		t.Errorf("running ratio %s", v)
	}
}

func TestStartsThatFailAreCounted(t *testing.T) {
	t.Parallel()
	r, ended, _ := runner(t, leased(), func(context.Context, connector.TaskContext) error { return errors.New("no") })
	r.Start(Run{ID: 1, Connector: "m"})
	wait(t, ended, "end")
	want := []string{"attempts_total{} 1", "failure_percentage{} 1", "failure_total{} 1", "success_percentage{} 0", "success_total{} 0"}
	if diff := cmp.Diff(want, scrape(t, r, "kafka_connect_worker_task_startup_")); diff != "" {
		t.Error(diff)
	}
}

func TestAPausedTaskThatStillRunsHasOneSeries(t *testing.T) {
	t.Parallel()
	r, report, start := reporter(t)
	start(Run{ID: 1, Connector: "m"})
	report(1, connector.Progress{})
	paused := collectWith{r, []Run{{Connector: "m"}, {Connector: "m", Task: 1}}}
	want := []string{"{connector=m,task=0} 0", "{connector=m,task=1} 1"}
	if diff := cmp.Diff(want, scrape(t, paused, "kafka_connect_connector_task_pause_ratio")); diff != "" {
		t.Error(diff)
	}
}

type collectWith struct {
	r    *Runner
	with []Run
}

func (c collectWith) Collect(out chan<- prometheus.Metric) { c.r.CollectWith(out, c.with) }

var brokerOne = kgo.BrokerMetadata{NodeID: 1}

func TestTheTrafficOfClientsIsCounted(t *testing.T) {
	t.Parallel()
	r, report, start := reporter(t)
	start(Run{ID: 1, Connector: "m"})
	report(1, connector.Progress{}) // its client is open, and has nobody to talk to
	run := r.runs[1]
	client := run.counts("consumer", "connector-consumer-m-0|replication-consumer")
	if len(run.clients) != 1 || client != run.clients[0] {
		t.Fatalf("a client that is opened again is counted apart: %v", run.clients)
	}
	other := run.counts("admin", "a")
	for _, c := range []*traffic{client, other} {
		c.OnBrokerConnect(brokerOne, 0, nil, nil)
		c.OnBrokerConnect(brokerOne, 0, nil, nil)
		c.OnBrokerConnect(brokerOne, 0, nil, errors.New("refused"))
		c.OnBrokerDisconnect(brokerOne, nil)
		c.OnBrokerWrite(brokerOne, 0, 5, 0, 0, nil)
		c.OnBrokerRead(brokerOne, 0, 7, 0, 0, nil)
	}
	want := []string{
		`connection_count{clientid="connector-consumer-m-0|replication-consumer"} 1`,
		`connection_creation_total{clientid="connector-consumer-m-0|replication-consumer"} 2`,
		`incoming_byte_total{clientid="connector-consumer-m-0|replication-consumer"} 7`,
		`outgoing_byte_total{clientid="connector-consumer-m-0|replication-consumer"} 5`,
	}
	got := slices.DeleteFunc(scrape(t, r, "kafka_consumer_"), func(line string) bool { return strings.HasPrefix(line, "fetch") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := scrape(t, r, "kafka_admin_client_connection_count"); !slices.Equal(got, []string{"{clientid=a} 1"}) {
		t.Errorf("admin: %q", got)
	}
}

func TestNamesAreQuotedAsJMXDoes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"orders-1.x_y %": "orders-1.x_y %", "A->B.m": `"A->B.m"`, `a"b*?\`: `"a\"b\*\?\\"`, "é": `"é"`, "a\nb": `"a\nb"`, "": "",
	} {
		if got := Quoted(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestAWindowForgets(t *testing.T) {
	t.Parallel()
	var w Window
	start := time.Unix(1000, 0)
	w.Add(start, 2, 10, 8)
	w.Add(start.Add(40*time.Second), 1, 20, 20)
	if average, greatest := w.Summary(start.Add(50 * time.Second)); average != 10 || greatest != 20 {
		t.Errorf("two samples: average %v, greatest %v", average, greatest)
	}
	if rate := w.rate(start.Add(50 * time.Second)); rate != 0.6 {
		t.Errorf("rate %v", rate)
	}
	if average, _ := w.Summary(start.Add(75 * time.Second)); average != 20 {
		t.Errorf("the older sample is still there: %v", average)
	}
	if average, _ := w.Summary(start.Add(time.Hour)); !math.IsNaN(average) {
		t.Errorf("after an hour: %v", average)
	}
}

func TestBatchesAndTheirRecordsMayComeApart(t *testing.T) {
	t.Parallel()
	e := effort{began: time.Now()}
	e.moved(0, 2, 6, connector.Errors{}) // two batches are on their way
	e.moved(6, 0, 0, connector.Errors{}) // and acknowledged
	if got := e.values(time.Now())[familyTask+"batch_size_avg"]; got != 3 {
		t.Errorf("records in a batch: %v", got)
	}
}
