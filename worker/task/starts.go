package task

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/clientconfig"
)

// starts counts how runs of one kind of unit began.
type starts struct{ attempts, succeeded, failed int64 }

// startsOf returns the count that r belongs to. t.mu is held.
func (t *Runner) startsOf(r Run) *starts {
	if r.Task < 0 {
		return &t.starts[0]
	}
	return &t.starts[1]
}

// hasStarted notes that a run is RUNNING.
func (t *Runner) hasStarted(run *running) {
	run.effort.running()
	t.mu.Lock()
	defer t.mu.Unlock()
	run.started = true
	t.startsOf(run.Run).succeeded++
}

var startDescs = describeStarts()

func describeStarts() (all [2]map[string]*prometheus.Desc) {
	for i, unit := range []string{"connector", "task"} {
		all[i] = map[string]*prometheus.Desc{}
		for name, help := range map[string]string{
			"attempts_total":     "Starts of a " + unit + " on this worker.",
			"success_total":      "Starts of a " + unit + " on this worker that succeeded.",
			"failure_total":      "Starts of a " + unit + " on this worker that failed.",
			"success_percentage": "Share of the starts of a " + unit + " that succeeded, 0 to 1 as in Kafka.",
			"failure_percentage": "Share of the starts of a " + unit + " that failed, 0 to 1 as in Kafka.",
		} {
			all[i][name] = prometheus.NewDesc("kafka_connect_worker_"+unit+"_startup_"+name, help, nil, nil)
		}
	}
	return all
}

func (t *Runner) collectStarts(s *series) {
	t.mu.Lock()
	both := t.starts
	t.mu.Unlock()
	for i, n := range both {
		s.send(startDescs[i]["attempts_total"], prometheus.CounterValue, float64(n.attempts))
		s.send(startDescs[i]["success_total"], prometheus.CounterValue, float64(n.succeeded))
		s.send(startDescs[i]["failure_total"], prometheus.CounterValue, float64(n.failed))
		over := max(1, float64(n.succeeded+n.failed))
		s.send(startDescs[i]["success_percentage"], prometheus.GaugeValue, float64(n.succeeded)/over)
		s.send(startDescs[i]["failure_percentage"], prometheus.GaugeValue, float64(n.failed)/over)
	}
}

// counts returns what counts the bytes of a client of the run. Clients that are opened again and again go on with one count.
func (r *running) counts(kind clientconfig.Kind, clientID string) *traffic {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.clients {
		if t.kind == kind && t.clientID == clientID {
			return t
		}
	}
	t := &traffic{kind: kind, clientID: clientID}
	r.clients = append(r.clients, t)
	return t
}

// collectRuns sends what there is of every run, whether it reports or not: of two runs of a task that of the
// newest, since one that was given up may not have ended when its successor runs.
func (t *Runner) collectRuns(s *series) {
	t.mu.Lock()
	newest := map[string]*running{}
	var clients []*traffic
	for _, r := range t.runs {
		if other := newest[r.String()]; r.Task >= 0 && (other == nil || other.ID < r.ID) {
			newest[r.String()] = r
		}
		r.mu.Lock()
		clients = append(clients, r.clients...)
		r.mu.Unlock()
	}
	t.mu.Unlock()
	now := time.Now()
	for _, r := range newest {
		r.effort.collect(s, r.Run, now)
	}
	t.collectRotations(s)
	collectTraffic(s, clients)
}
