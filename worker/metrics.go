package worker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/worker/herder"
)

// collector shows the worker under the names that dashboards for Kafka Connect
// know (JMX's connect-worker-metrics and the like through the usual exporter), and ours besides.
type collector struct{ w *Worker }

var (
	descConnectors   = prometheus.NewDesc("kafka_connect_worker_connector_count", "Connectors that run on this worker.", nil, nil)
	descTasks        = prometheus.NewDesc("kafka_connect_worker_task_count", "Tasks that run on this worker.", nil, nil)
	descAssignedC    = prometheus.NewDesc("kafka_connect_coordinator_assigned_connectors", "Connectors assigned to this worker.", nil, nil)
	descAssignedT    = prometheus.NewDesc("kafka_connect_coordinator_assigned_tasks", "Tasks assigned to this worker.", nil, nil)
	descEpoch        = prometheus.NewDesc("kafka_connect_worker_rebalance_epoch", "Epoch of the leader.", nil, nil)
	descRebalances   = prometheus.NewDesc("kafka_connect_worker_rebalance_completed_rebalances_total", "Assignments written since the topics were made.", nil, nil)
	descRebalancing  = prometheus.NewDesc("kafka_connect_worker_rebalance_rebalancing", "1 while units assigned to this worker wait for their former owner.", nil, nil)
	descStatus       = prometheus.NewDesc("kafka_connect_connector_status", "State of a connector (task is empty) or task assigned to this worker.", []string{"connector", "task", "status"}, nil)
	descByConnector  = prometheus.NewDesc("kafka_connect_worker_connector_total_task_count", "Tasks of the connector on this worker.", []string{"connector"}, nil)
	descLeader       = prometheus.NewDesc("barnabas_leader", "1 on the worker that leads the cluster.", nil, nil)
	descLease        = prometheus.NewDesc("barnabas_lease_remaining_seconds", "How much longer this worker may act for its tasks without reading the config topic to its end again.", nil, nil)
	descMembers      = prometheus.NewDesc("barnabas_members", "Members of the cluster by state.", []string{"state"}, nil)
	descStateByTasks = describeStates()
)

func describeStates() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	for _, state := range []string{stateRunning, stateFailed, "PAUSED", stateUnassigned, stateRestarting} {
		all[state] = prometheus.NewDesc("kafka_connect_worker_connector_"+strings.ToLower(state)+"_task_count",
			"Tasks of the connector on this worker that are "+state+".", []string{"connector"}, nil)
	}
	return all
}

// Describe sends nothing: the collector is unchecked, since its labels depend on
// what is assigned.
func (collector) Describe(chan<- *prometheus.Desc) {}

// collectTimeout bounds a scrape of a worker whose loop is not running yet.
const collectTimeout = time.Second

// Collect reads the machine once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	w := c.w
	gauge(descLease, max(0, time.Until(w.lease.Until()).Seconds()))
	members := map[string]int{"alive": 0, "unready": 0, "gone": 0}
	for _, m := range w.membersWithin(ctx) {
		members[m.State]++
	}
	for state, n := range members {
		gauge(descMembers, float64(n), state)
	}
	_ = w.ask(ctx, func(m *herder.Machine) {
		connectors, tasks := m.Loads()
		epoch, version := m.Epoch()
		_, leads, _ := m.Leader()
		runningC, runningT, waiting := m.Running()
		gauge(descConnectors, float64(runningC))
		gauge(descTasks, float64(runningT))
		gauge(descAssignedC, float64(connectors[w.self.Worker]))
		gauge(descAssignedT, float64(tasks[w.self.Worker]))
		gauge(descEpoch, float64(epoch))
		out <- prometheus.MustNewConstMetric(descRebalances, prometheus.CounterValue, float64(version))
		gauge(descRebalancing, oneIf(waiting))
		gauge(descLeader, oneIf(leads))
		byConnector := map[string]map[string]int{}
		for _, u := range m.Mine() {
			state := w.state(m, u).State
			if u.IsConnector() {
				gauge(descStatus, 1, u.Connector, "", strings.ToLower(state))
				continue
			}
			gauge(descStatus, 1, u.Connector, strconv.Itoa(u.Task), strings.ToLower(state))
			if byConnector[u.Connector] == nil {
				byConnector[u.Connector] = map[string]int{}
			}
			byConnector[u.Connector][state]++
		}
		for name, states := range byConnector {
			total := 0
			for state, n := range states {
				total += n
				if d := descStateByTasks[state]; d != nil {
					gauge(d, float64(n), name)
				}
			}
			gauge(descByConnector, float64(total), name)
		}
	})
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
