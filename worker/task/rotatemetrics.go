package task

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRotations = prometheus.NewDesc("barnabas_secret_rotations_total",
		"Changes of the secrets of a running connector (task is empty) or task: done, or failed, which leaves the old value in use.",
		[]string{"connector", "task", "outcome"}, nil)
	descRotationFailed = prometheus.NewDesc("barnabas_secret_rotation_failed",
		"1 while a connector (task is empty) or task uses an old secret because the new one does not work.", []string{"connector", "task"}, nil)
	descUnreadable = prometheus.NewDesc("barnabas_secret_references_unreadable",
		"References in use on this worker that their provider could not read again.", nil, nil)
)

// collectRotations sends what became of changes, of the newest run of each unit.
func (t *Runner) collectRotations(s *series) {
	runs := t.all()
	for i := len(runs) - 1; i >= 0; i-- {
		r, task := runs[i], ""
		if r.Task >= 0 {
			task = strconv.Itoa(r.Task)
		}
		r.secrets.mu.Lock()
		done, failed, trouble := r.secrets.done, r.secrets.failed, 0.0
		if r.secrets.trouble != nil {
			trouble = 1
		}
		r.secrets.mu.Unlock()
		s.send(descRotations, prometheus.CounterValue, float64(done), r.Connector, task, "done")
		s.send(descRotations, prometheus.CounterValue, float64(failed), r.Connector, task, "failed")
		s.send(descRotationFailed, prometheus.GaugeValue, trouble, r.Connector, task)
	}
	t.rotor.mu.Lock()
	unreadable := 0
	for _, e := range t.rotor.book {
		if e.failing != "" {
			unreadable++
		}
	}
	t.rotor.mu.Unlock()
	s.send(descUnreadable, prometheus.GaugeValue, float64(unreadable))
}
