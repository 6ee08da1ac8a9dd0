package worker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics returns the worker's series that begin with kafka_connect_, as name{label=value,…} value.
func (m *member) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	registry, ok := m.o.Metrics.(*prometheus.Registry)
	if !ok {
		t.Fatal("no registry")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if name, ok := strings.CutPrefix(f.GetName(), "kafka_connect_"); ok {
				all[fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))] = s.GetGauge().GetValue() + s.GetCounter().GetValue()
			}
		}
	}
	return all
}

// show waits until the worker's metrics are as wanted.
func (c *cluster) show(w *member, want map[string]float64) {
	c.t.Helper()
	c.eventually(func() string {
		all := w.metrics(c.t)
		for name, v := range want {
			if got, ok := all[name]; !ok || got != v {
				return fmt.Sprintf("%s is %v (%t), want %v", name, got, ok, v)
			}
		}
		return ""
	})
}

func TestMetricsFollowWhatHappensToConnectors(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("A->B.x", map[string]string{"connector.class": "test.Idle", "tasks.max": "2"})
	c.create("y", map[string]string{"connector.class": "test.Idle", "fail": "yes"})
	const name = `"A->B.x"`
	c.show(w, map[string]float64{
		"worker_connector_count{}": 2, "worker_task_count{}": 2, "coordinator_assigned_connectors{}": 2, "coordinator_assigned_tasks{}": 3,
		"worker_connector_total_task_count{connector=" + name + "}": 2, "worker_connector_running_task_count{connector=" + name + "}": 2,
		"worker_connector_failed_task_count{connector=" + name + "}": 0, "worker_connector_paused_task_count{connector=" + name + "}": 0,
		"worker_connector_destroyed_task_count{connector=" + name + "}": 0, "worker_connector_failed_task_count{connector=y}": 1,
		"connector_status{connector=" + name + ",status=running,task=}":               1,
		"connector_status{connector=" + name + ",status=running,task=1}":              1,
		"connector_task_status{connector=" + name + ",status=running,task=1}":         1,
		"connector_task_status{connector=y,status=failed,task=0}":                     1,
		"connector_connector_class{connector=" + name + ",connector_class=test.Idle}": 1,
		"connector_connector_type{connector=y,connector_type=source}":                 1,
		"connector_connector_version{connector=y,connector_version=1}":                1,
		"worker_connector_startup_attempts_total{}":                                   2,
		"worker_connector_startup_success_total{}":                                    2,
		"worker_task_startup_attempts_total{}":                                        3,
		"worker_task_startup_success_total{}":                                         2,
		"worker_task_startup_failure_total{}":                                         1,
		"connector_task_pause_ratio{connector=" + name + ",task=0}":                   0,
		"worker_rebalance_rebalancing{}":                                              0,
		"worker_rebalance_leader_name{leader_name=a:1}":                               1,
	})
	all := w.metrics(t)
	if v := all["connector_task_running_ratio{connector="+name+",task=0}"]; v <= 0 || v > 1 {
		t.Errorf("running ratio %v", v)
	}
	for _, m := range []string{"rebalance_avg_time_ms", "rebalance_max_time_ms", "time_since_last_rebalance_ms"} {
		if v, ok := all["worker_rebalance_"+m+"{}"]; !ok || !(v >= 0 && v < 60_000) {
			t.Errorf("%s is %v", m, v)
		}
	}
	if err := w.SetTarget(t.Context(), "A->B.x", Paused); err != nil {
		t.Fatal(err)
	}
	c.show(w, map[string]float64{
		"connector_task_pause_ratio{connector=" + name + ",task=0}": 1, "connector_task_running_ratio{connector=" + name + ",task=0}": 0,
		"worker_connector_paused_task_count{connector=" + name + "}": 2, "worker_connector_running_task_count{connector=" + name + "}": 0,
		"connector_task_status{connector=" + name + ",status=paused,task=0}": 1, "worker_task_count{}": 0,
	})
	if err := w.Delete(t.Context(), "A->B.x"); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		for series := range w.metrics(t) {
			if strings.Contains(series, name) {
				return "a deleted connector has " + series
			}
		}
		return ""
	})
}

func TestRebalancesAreMeasuredFromAssignmentToTheEndOfWaiting(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	var r rebalances
	r.observe(0, false, at(0))
	if got := r.sinceLast(at(1)); !math.IsInf(got, 1) {
		t.Errorf("before the first: %v", got)
	}
	r.observe(1, true, at(1))
	r.observe(1, true, at(2))
	r.observe(2, true, at(3)) // another assignment while units wait
	r.observe(2, false, at(5))
	r.observe(2, false, at(6))
	r.observe(3, false, at(7)) // nothing to wait for
	average, greatest := r.took.Summary(at(8))
	if got := []float64{average, greatest, r.sinceLast(at(10))}; !slices.Equal(got, []float64{2000, 4000, 3000}) {
		t.Errorf("average, greatest, since the last: %v", got)
	}
}
