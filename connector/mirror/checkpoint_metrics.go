package mirror

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/connector/rawcopy"
)

// checkpointMetrics shows how long checkpoints took to be written, under the names that MirrorMaker's metrics have in
// Prometheus (MirrorCheckpointMetrics).
type checkpointMetrics struct {
	source, target string
	descs          map[string]*prometheus.Desc

	mu      sync.Mutex
	latency map[checkpointPlace]*samples
}

// checkpointPlace is what a checkpoint is about.
type checkpointPlace struct {
	group string
	partition
}

// checkpointHelp has the metrics and their descriptions.
var checkpointHelp = map[string]string{
	"checkpoint_latency_ms":     "Time from the making of the group's latest checkpoint to its acknowledgement by the target cluster.",
	"checkpoint_latency_ms_min": "Smallest recent time from the making of a checkpoint to its acknowledgement.",
	"checkpoint_latency_ms_max": "Greatest recent time from the making of a checkpoint to its acknowledgement.",
	"checkpoint_latency_ms_avg": "Average recent time from the making of a checkpoint to its acknowledgement.",
}

// newCheckpointMetrics makes the collector of one task.
func newCheckpointMetrics(connector string, task int, s sourceSettings) *checkpointMetrics {
	m := &checkpointMetrics{source: s.source, target: s.target, descs: map[string]*prometheus.Desc{}, latency: map[checkpointPlace]*samples{}}
	for name, help := range checkpointHelp {
		m.descs[name] = prometheus.NewDesc("kafka_connect_mirror_mirrorcheckpointconnector_"+name, help,
			[]string{"source", "target", "group", "topic", "partition"}, prometheus.Labels{"connector": connector, "task": strconv.Itoa(task)})
	}
	return m
}

// written counts a checkpoint that was acknowledged at now.
func (m *checkpointMetrics) written(k Checkpoint, made, now time.Time) {
	took := float64(now.Sub(made)) / float64(time.Millisecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	at := checkpointPlace{k.Group, partition{k.Topic, k.Partition}}
	s := m.latency[at]
	if s == nil {
		s = &samples{}
		m.latency[at] = s
	}
	s.addSpread(rawcopy.Spread{Count: 1, Sum: took, Min: took, Max: took, Last: took}, now)
}

// Describe implements prometheus.Collector.
func (m *checkpointMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *checkpointMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for at, s := range m.latency {
		roll(&s.recent, now)
		v := map[string]float64{"checkpoint_latency_ms": s.last}
		v["checkpoint_latency_ms_min"], v["checkpoint_latency_ms_max"], v["checkpoint_latency_ms_avg"] = s.summary()
		for name, value := range v {
			ch <- prometheus.MustNewConstMetric(m.descs[name], prometheus.GaugeValue, value,
				m.source, m.target, at.group, at.topic, strconv.Itoa(int(at.id)))
		}
	}
}
