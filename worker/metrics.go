package worker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/worker/herder"
	"barnabas/worker/task"
)

// collector shows the worker under the names that dashboards for Kafka Connect
// know (JMX's connect-worker-metrics and the like through the usual exporter), and ours besides, among them those of
// its running tasks.
type collector struct{ w *Worker }

var (
	descConnectors   = prometheus.NewDesc("kafka_connect_worker_connector_count", "Connectors that run on this worker.", nil, nil)
	descTasks        = prometheus.NewDesc("kafka_connect_worker_task_count", "Tasks that run on this worker.", nil, nil)
	descAssignedC    = prometheus.NewDesc("kafka_connect_coordinator_assigned_connectors", "Connectors assigned to this worker.", nil, nil)
	descAssignedT    = prometheus.NewDesc("kafka_connect_coordinator_assigned_tasks", "Tasks assigned to this worker.", nil, nil)
	descEpoch        = prometheus.NewDesc("kafka_connect_worker_rebalance_epoch", "Epoch of the leader.", nil, nil)
	descRebalances   = prometheus.NewDesc("kafka_connect_worker_rebalance_completed_rebalances_total", "Assignments written since the topics were made.", nil, nil)
	descSinceLast    = prometheus.NewDesc("kafka_connect_worker_rebalance_time_since_last_rebalance_ms", "Time since the last assignment was taken up.", nil, nil)
	descRebalanceAvg = prometheus.NewDesc("kafka_connect_worker_rebalance_rebalance_avg_time_ms", "Average time lately until all units of an assignment could start here.", nil, nil)
	descRebalanceMax = prometheus.NewDesc("kafka_connect_worker_rebalance_rebalance_max_time_ms", "Greatest time lately until all units of an assignment could start here.", nil, nil)
	descLeaderName   = prometheus.NewDesc("kafka_connect_worker_rebalance_leader_name", "1 for the worker that leads.", []string{"leader_name"}, nil)
	descRebalancing  = prometheus.NewDesc("kafka_connect_worker_rebalance_rebalancing", "1 while units assigned to this worker wait for their former owner.", nil, nil)
	descStatus       = prometheus.NewDesc("kafka_connect_connector_status", "State of a connector (task is empty) or task assigned to this worker.", []string{"connector", "task", "status"}, nil)
	descTaskStatus   = prometheus.NewDesc("kafka_connect_connector_task_status", "State of a task assigned to this worker.", []string{"connector", "task", "status"}, nil)
	descClass        = prometheus.NewDesc("kafka_connect_connector_connector_class", "Class of a connector assigned to this worker.", []string{"connector", "connector_class"}, nil)
	descType         = prometheus.NewDesc("kafka_connect_connector_connector_type", "Type of a connector assigned to this worker.", []string{"connector", "connector_type"}, nil)
	descVersion      = prometheus.NewDesc("kafka_connect_connector_connector_version", "Version of a connector assigned to this worker.", []string{"connector", "connector_version"}, nil)
	descByConnector  = prometheus.NewDesc("kafka_connect_worker_connector_total_task_count", "Tasks of the connector on this worker.", []string{"connector"}, nil)
	descRestarts     = prometheus.NewDesc("barnabas_auto_restarts_total", "Restarts of a connector (task is empty) or task by itself since it was created.", []string{"connector", "task"}, nil)
	descRestartIn    = prometheus.NewDesc("barnabas_auto_restart_in_seconds", "How long until a connector or task that has failed is restarted by itself.", []string{"connector", "task"}, nil)
	descRestartHeld  = prometheus.NewDesc("barnabas_auto_restart_held", "1 while a connector or task has failed and is not restarted by itself, and why: final, disabled or exhausted.", []string{"connector", "task", "reason"}, nil)
	descLeader       = prometheus.NewDesc("barnabas_leader", "1 on the worker that leads the cluster.", nil, nil)
	descLease        = prometheus.NewDesc("barnabas_lease_remaining_seconds", "How much longer this worker may act for its tasks without reading the config topic to its end again.", nil, nil)
	descMembers      = prometheus.NewDesc("barnabas_members", "Members of the cluster by state.", []string{"state"}, nil)
	descStateByTasks = describeStates()
)

func describeStates() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	for _, state := range []string{stateRunning, stateFailed, string(Paused), stateUnassigned, stateRestarting, stateDestroyed} {
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
	var paused []task.Run
	defer func() { w.runner.CollectWith(out, paused) }()
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
		c.rebalances(m, gauge)
		paused = c.units(m, gauge)
		c.restarts(m, out)
	})
}

// rebalances sends what is known of assignments.
func (c collector) rebalances(m *herder.Machine, gauge func(*prometheus.Desc, float64, ...string)) {
	r, now := &c.w.rebalances, time.Now()
	average, greatest := r.took.Summary(now)
	gauge(descRebalanceAvg, average)
	gauge(descRebalanceMax, greatest)
	gauge(descSinceLast, r.sinceLast(now))
	if leader, _, ok := m.Leader(); ok {
		gauge(descLeaderName, 1, leader.Worker)
	}
}

// units sends what is known of the connectors and tasks that this worker has been given, and returns the tasks that are paused.
func (c collector) units(m *herder.Machine, gauge func(*prometheus.Desc, float64, ...string)) (paused []task.Run) {
	byConnector := map[string]map[string]int{}
	for _, u := range m.Mine() {
		state, name := c.w.state(m, u).State, task.Quoted(u.Connector)
		if u.IsConnector() {
			gauge(descStatus, 1, name, "", strings.ToLower(state))
			written, _, _ := m.Connector(u.Connector)
			if p, err := pluginFor(written["connector.class"]); err == nil {
				gauge(descClass, 1, name, p.Class)
				gauge(descType, 1, name, string(p.Type))
				gauge(descVersion, 1, name, p.Version)
			}
			continue
		}
		number := strconv.Itoa(u.Task)
		gauge(descStatus, 1, name, number, strings.ToLower(state))
		gauge(descTaskStatus, 1, name, number, strings.ToLower(state))
		if state == string(Paused) {
			paused = append(paused, task.Run{Connector: u.Connector, Task: u.Task})
		}
		if byConnector[name] == nil {
			byConnector[name] = map[string]int{}
		}
		byConnector[name][state]++
	}
	for name, states := range byConnector {
		total := 0
		for _, n := range states {
			total += n
		}
		for state, d := range descStateByTasks {
			gauge(d, float64(states[state]), name)
		}
		gauge(descByConnector, float64(total), name)
	}
	return paused
}

// restarts sends what is known of the restarts by themselves of what this worker has been given, and has ever failed.
func (c collector) restarts(m *herder.Machine, out chan<- prometheus.Metric) {
	for _, u := range m.Mine() {
		s, known := c.w.restarts.of(u)
		if !known {
			continue
		}
		name, number := task.Quoted(u.Connector), ""
		if !u.IsConnector() {
			number = strconv.Itoa(u.Task)
		}
		out <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(s.Total), name, number)
		if s.Held != "" {
			out <- prometheus.MustNewConstMetric(descRestartHeld, prometheus.GaugeValue, 1, name, number, s.Held)
		}
		if s.Next != nil {
			out <- prometheus.MustNewConstMetric(descRestartIn, prometheus.GaugeValue, max(0, time.Until(*s.Next).Seconds()), name, number)
		}
	}
}

// stateDestroyed is a state of tasks in Kafka, which none has here: the metric that dashboards ask for is 0.
const stateDestroyed = "DESTROYED"

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
