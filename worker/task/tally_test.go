package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"barnabas/config"
	"barnabas/connector"
)

// scrape returns the series of a collector as "name{label=value,…} value", without what begins otherwise.
func scrape(t *testing.T, c interface {
	Collect(chan<- prometheus.Metric)
}, prefix string,
) []string {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(unchecked{c.Collect}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := m.GetGauge().GetValue()
			if m.GetCounter() != nil {
				v = m.GetCounter().GetValue()
			}
			if strings.HasPrefix(f.GetName(), prefix) {
				lines = append(lines, fmt.Sprintf("%s{%s} %v", strings.TrimPrefix(f.GetName(), prefix), strings.Join(labels, ","), v))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// unchecked is a collector like the worker's, which is checked when it is gathered.
type unchecked struct {
	collect func(chan<- prometheus.Metric)
}

func (unchecked) Describe(chan<- *prometheus.Desc)       {}
func (u unchecked) Collect(out chan<- prometheus.Metric) { u.collect(out) }

// reporter starts a task that reports what it is told, and returns how to tell it.
func reporter(t *testing.T) (r *Runner, report func(run int64, p connector.Progress), start func(Run)) {
	t.Helper()
	reports := map[int64]chan connector.Progress{}
	done := make(chan struct{})
	r, _, _ = runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		if _, err := tc.Clients.Open(ctx, connector.SourceConsumer); err != nil {
			return err
		}
		mine := reports[int64(tc.Settings["run"].Written[0]-'0')]
		for {
			select {
			case p := <-mine:
				tc.Report(p)
				done <- struct{}{}
			case <-ctx.Done():
				return nil
			}
		}
	})
	r.o.Worker = config.Literal(map[string]string{"bootstrap.servers": "127.0.0.1:1"})
	for id := range int64(4) {
		reports[id] = make(chan connector.Progress)
	}
	report = func(run int64, p connector.Progress) {
		t.Helper()
		select {
		case reports[run] <- p:
			<-done
		case <-time.After(20 * time.Second):
			t.Fatal("the task takes no report")
		}
	}
	start = func(run Run) {
		written := map[string]string{"run": fmt.Sprint(run.ID), "source.cluster.bootstrap.servers": "127.0.0.1:1"}
		maps.Copy(written, run.Config)
		run.Config = written
		r.Start(run)
	}
	return r, report, start
}

func at(second int64) time.Time { return time.Unix(second, 0) }

func TestMetricsAreOfTheNewestReport(t *testing.T) {
	t.Parallel()
	r, report, start := reporter(t)
	start(Run{ID: 1, Connector: "x", Task: 0})
	start(Run{ID: 2, Connector: "x", Task: 1})
	if got := scrape(t, r, "barnabas_replication_"); got != nil {
		t.Errorf("before the first report: %q", got)
	}
	report(1, connector.Progress{
		Delivery: connector.Fenced,
		Partitions: []connector.PartitionProgress{
			{Topic: "o", Partition: 0, LagRecords: 9, LagBytes: 900, LagSeconds: 1.5, State: "RUNNING", Decisions: map[string]int64{"raw": 3, "skipped: control": 1}},
			{Topic: "o", Partition: 1, LagRecords: -1, LagBytes: -1, LagSeconds: -1, State: "STOPPED", Decisions: map[string]int64{"raw": 2}},
		},
		Gaps: []connector.Gap{
			{Topic: "o", Partition: 1, From: 5, To: 9, Cause: "retention", At: at(1)},
			{Topic: "o", Partition: 1, From: 9, To: 10, Cause: "refused by the target: MESSAGE_TOO_LARGE", At: at(2)},
			{Topic: "gone", Partition: 0, From: 0, To: 1, Cause: "retention", At: at(2)}, // not of this task any more
		},
	})
	report(2, connector.Progress{Delivery: connector.Plain, Partitions: []connector.PartitionProgress{{Topic: "p", State: "RUNNING"}}})
	want := []string{
		`batches_total{connector=x,decision=raw,task=0} 5`,
		`batches_total{connector=x,decision=skipped: control,task=0} 1`,
		`degraded{connector=x,task=0} 1`,
		`degraded{connector=x,task=1} 0`,
		`delivery{connector=x,delivery=fenced,task=0} 1`,
		`delivery{connector=x,delivery=plain,task=1} 1`,
		`gaps_total{cause=refused by the target,connector=x,partition=1,task=0,topic=o} 1`,
		`gaps_total{cause=retention,connector=x,partition=1,task=0,topic=o} 1`,
		`lag_bytes{connector=x,partition=0,task=0,topic=o} 900`,
		`lag_bytes{connector=x,partition=0,task=1,topic=p} 0`,
		`lag_records{connector=x,partition=0,task=0,topic=o} 9`,
		`lag_records{connector=x,partition=0,task=1,topic=p} 0`,
		`lag_seconds{connector=x,partition=0,task=0,topic=o} 1.5`,
		`lag_seconds{connector=x,partition=0,task=1,topic=p} 0`,
		`lost_records_total{cause=refused by the target,connector=x,partition=1,task=0,topic=o} 1`,
		`lost_records_total{cause=retention,connector=x,partition=1,task=0,topic=o} 4`,
	}
	if diff := cmp.Diff(want, scrape(t, r, "barnabas_replication_")); diff != "" {
		t.Error(diff)
	}
	want = []string{
		`{clientid="connector-consumer-x-0|replication-consumer",partition=0,topic=o} 9`,
		`{clientid="connector-consumer-x-1|replication-consumer",partition=0,topic=p} 0`,
	}
	if diff := cmp.Diff(want, scrape(t, r, "kafka_consumer_fetch_manager_records_lag")); diff != "" {
		t.Error(diff)
	}

	// A run that has ended has none, and one that was given up gives way to its successor.
	r.Stop(2, time.Now().Add(time.Minute), "test")
	start(Run{ID: 3, Connector: "x", Task: 0})
	report(3, connector.Progress{Partitions: []connector.PartitionProgress{{Topic: "o", LagRecords: 1, LagBytes: -1, LagSeconds: -1, State: "RUNNING"}}})
	want = []string{`degraded{connector=x,task=0} 0`, `lag_records{connector=x,partition=0,task=0,topic=o} 1`}
	deadline := time.Now().Add(20 * time.Second)
	for {
		diff := cmp.Diff(want, scrape(t, r, "barnabas_replication_"))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(diff)
		}
		time.Sleep(10 * time.Millisecond) // until run 2 has ended
	}
}

func TestCountersDoNotGoBackWithinARun(t *testing.T) {
	t.Parallel()
	partition := func(id int32, raw int64) connector.PartitionProgress {
		return connector.PartitionProgress{Topic: "o", Partition: id, LagRecords: -1, LagBytes: -1, LagSeconds: -1, Decisions: map[string]int64{"raw": raw}}
	}
	gap := func(from, to, second int64) connector.Gap {
		return connector.Gap{Topic: "o", From: from, To: to, Cause: "retention", At: at(second)}
	}
	var c tally
	for _, step := range []struct {
		about              string
		report             connector.Progress
		raw, gaps, records float64
	}{
		{"first", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 5), partition(1, 7)}, Gaps: []connector.Gap{gap(1, 3, 1)}}, 12, 1, 2},
		{"a partition leaves", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 6)}, Gaps: []connector.Gap{gap(1, 3, 1)}}, 13, 1, 2},
		{"copying begins anew", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 2)}, Gaps: []connector.Gap{gap(1, 3, 1)}}, 15, 1, 2},
		{"a gap grows", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 2)}, Gaps: []connector.Gap{gap(1, 4, 1)}}, 15, 1, 3},
		{"the ledger drops its oldest entry", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 2)}, Gaps: []connector.Gap{gap(10, 20, 2)}}, 15, 2, 13},
		{"the ledger was read again", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 2)}, Gaps: []connector.Gap{{
			Topic: "o", From: 10, To: 20, Cause: "retention", At: at(2).Add(300 * time.Microsecond),
		}}}, 15, 2, 13},
		{"the topic was made anew", connector.Progress{Partitions: []connector.PartitionProgress{partition(0, 2)}, Gaps: []connector.Gap{
			gap(10, 20, 2), {Topic: "o", From: 20, To: 20, Cause: "retention", At: at(3)},
		}}, 15, 3, 13},
	} {
		c.add(step.report)
		counters := collected{&c, step.report}
		want := []string{
			fmt.Sprintf("batches_total{connector=x,decision=raw,task=0} %v", step.raw),
			fmt.Sprintf("gaps_total{cause=retention,connector=x,partition=0,task=0,topic=o} %v", step.gaps),
			fmt.Sprintf("lost_records_total{cause=retention,connector=x,partition=0,task=0,topic=o} %v", step.records),
		}
		if diff := cmp.Diff(want, scrape(t, counters, "barnabas_replication_")); diff != "" {
			t.Errorf("%s: %s", step.about, diff)
		}
	}
}

// collected is the counters of one task.
type collected struct {
	*tally
	report connector.Progress
}

func (c collected) Collect(out chan<- prometheus.Metric) {
	c.collect(&series{out: out, sent: map[sent]bool{}}, Run{Connector: "x"}, c.report)
}

// TestOneClientIDOfTwoConnectorsDoesNotSpoilTheScrape: a series that came twice would make the answer an error, and no
// metric of the worker would be seen any more.
func TestOneClientIDOfTwoConnectorsDoesNotSpoilTheScrape(t *testing.T) {
	t.Parallel()
	r, report, start := reporter(t)
	p := connector.Progress{Partitions: []connector.PartitionProgress{{Topic: "o", LagRecords: 4, LagBytes: -1, LagSeconds: -1}}}
	for i, name := range []string{"x", "y"} {
		start(Run{ID: int64(i + 1), Connector: name, Config: map[string]string{"source.cluster.client.id": "mirror\xff"}})
		report(int64(i+1), p)
	}
	if diff := cmp.Diff([]string{"{clientid=\"mirror\ufffd\",partition=0,topic=o} 4"}, scrape(t, r, "kafka_consumer_fetch_manager_records_lag")); diff != "" {
		t.Error(diff)
	}
}
