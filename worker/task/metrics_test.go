package task

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSuccessorRegistersItsMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metric := func() prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "barnabas_test", ConstLabels: prometheus.Labels{"task": "0"}})
	}
	stuck, next := &registrations{to: registry}, &registrations{to: registry}
	first := metric()
	if err := stuck.Register(first); err != nil {
		t.Fatal(err)
	}
	if err := next.Register(metric()); err == nil {
		t.Fatal("two runs hold the same metrics")
	}
	stuck.revoke()
	if err := next.Register(metric()); err != nil {
		t.Fatalf("the successor of a run that was given up: %v", err)
	}
	if stuck.Unregister(first) {
		t.Error("the run that was given up took its successor's metrics away")
	}
	if err := stuck.Register(metric()); !errors.Is(err, errRevoked) {
		t.Errorf("the run that was given up registers again: %v", err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 1 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
}
