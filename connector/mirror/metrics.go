package mirror

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// metricsWindow is what rates, minima, maxima and averages look back on: Kafka's
// metrics keep two samples of 30 s.
const metricsWindow = 30 * time.Second

// laneStats counts what a lane copies.
type laneStats struct {
	target string // topic
	id     string

	mu      sync.Mutex
	records int64
	bytes   int64 // of values, as MirrorMaker counts them
	age     samples
	latency samples
	rates   [2]sample // the newest first
}

// samples is a gauge with its recent minimum, maximum and average.
type samples struct {
	last   float64
	recent [2]sample // the newest first
}

// sample is what happened in one window.
type sample struct {
	since                   time.Time
	count, bytes            int64
	sum, smallest, greatest float64
}

// roll starts a window if the newest is over.
func roll(recent *[2]sample, now time.Time) *sample {
	if now.Sub(recent[0].since) >= metricsWindow {
		recent[1] = recent[0]
		if now.Sub(recent[1].since) >= 2*metricsWindow {
			recent[1] = sample{}
		}
		recent[0] = sample{since: now}
	}
	return &recent[0]
}

func (s *samples) add(v float64, now time.Time) {
	s.last = v
	w := roll(&s.recent, now)
	if w.count == 0 {
		w.smallest, w.greatest = v, v
	}
	w.count++
	w.sum += v
	w.smallest, w.greatest = min(w.smallest, v), max(w.greatest, v)
}

// summary is NaN where nothing has happened lately, as in Kafka.
func (s *samples) summary() (smallest, greatest, average float64) {
	smallest, greatest, average = math.NaN(), math.NaN(), math.NaN()
	count, sum := int64(0), 0.0
	for _, w := range s.recent {
		if w.count == 0 {
			continue
		}
		if count == 0 {
			smallest, greatest = w.smallest, w.greatest
		}
		count += w.count
		sum += w.sum
		smallest, greatest = min(smallest, w.smallest), max(greatest, w.greatest)
	}
	if count > 0 {
		average = sum / float64(count)
	}
	return smallest, greatest, average
}

// fetched notes the age of records on their arrival.
func (s *laneStats) fetched(records []*kgo.Record, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.age.add(float64(now.Sub(r.Timestamp).Milliseconds()), now)
	}
}

// acknowledged counts records that the target has.
func (s *laneStats) acknowledged(records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := int64(0)
	for _, r := range records {
		bytes += int64(len(r.Value))
		s.latency.add(float64(now.Sub(r.Timestamp).Milliseconds()), now)
	}
	s.records += int64(len(records))
	s.bytes += bytes
	w := roll(&s.rates, now)
	w.count += int64(len(records))
	w.bytes += bytes
}

func (s *laneStats) counts() (records, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records, s.bytes
}

// taskMetrics shows the lanes of a task under the names that MirrorMaker's
// metrics have in Prometheus. The topic label is the target's name.
type taskMetrics struct {
	lanes          []*lane
	source, target string
	descs          map[string]*prometheus.Desc
}

// metricHelp has the metrics and their descriptions.
var metricHelp = map[string]string{
	"record_count":               "Number of source records replicated to the target cluster.",
	"record_rate":                "Records replicated to the target cluster per second.",
	"byte_count":                 "Number of bytes replicated to the target cluster.",
	"byte_rate":                  "Bytes replicated to the target cluster per second.",
	"record_age_ms":              "Age of the latest source record when it was fetched.",
	"record_age_ms_min":          "Smallest age of recent source records when they were fetched.",
	"record_age_ms_max":          "Greatest age of recent source records when they were fetched.",
	"record_age_ms_avg":          "Average age of recent source records when they were fetched.",
	"replication_latency_ms":     "Time from the timestamp of the latest record to its acknowledgement by the target cluster.",
	"replication_latency_ms_min": "Smallest recent time from a record's timestamp to its acknowledgement.",
	"replication_latency_ms_max": "Greatest recent time from a record's timestamp to its acknowledgement.",
	"replication_latency_ms_avg": "Average recent time from a record's timestamp to its acknowledgement.",
}

// newTaskMetrics makes the collector of one task. The constant labels keep the
// tasks of a worker apart, whose partitions differ anyway.
func newTaskMetrics(connector string, task int, s sourceSettings, lanes []*lane) *taskMetrics {
	m := &taskMetrics{lanes: lanes, source: s.source, target: s.target, descs: map[string]*prometheus.Desc{}}
	for name, help := range metricHelp {
		m.descs[name] = prometheus.NewDesc("kafka_connect_mirror_mirrorsourceconnector_"+name, help,
			[]string{"source", "target", "topic", "partition"}, prometheus.Labels{"connector": connector, "task": strconv.Itoa(task)})
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *taskMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *taskMetrics) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, l := range m.lanes {
		for name, v := range l.stats.values(now) {
			kind := prometheus.GaugeValue
			if name == "record_count" || name == "byte_count" {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(m.descs[name], kind, v, m.source, m.target, l.stats.target, l.stats.id)
		}
	}
}

// values gives every metric of the lane.
func (s *laneStats) values(now time.Time) map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, recent := range []*[2]sample{&s.age.recent, &s.latency.recent, &s.rates} {
		roll(recent, now)
	}
	v := map[string]float64{
		"record_count": float64(s.records), "byte_count": float64(s.bytes),
		"record_age_ms": s.age.last, "replication_latency_ms": s.latency.last,
	}
	v["record_age_ms_min"], v["record_age_ms_max"], v["record_age_ms_avg"] = s.age.summary()
	v["replication_latency_ms_min"], v["replication_latency_ms_max"], v["replication_latency_ms_avg"] = s.latency.summary()
	since, count, bytes := s.rates[0].since, s.rates[0].count, s.rates[0].bytes
	if !s.rates[1].since.IsZero() {
		since, count, bytes = s.rates[1].since, count+s.rates[1].count, bytes+s.rates[1].bytes
	}
	// As in Kafka a rate is over at least one window, so that the first
	// records do not look like a flood.
	seconds := max(now.Sub(since), metricsWindow).Seconds()
	v["record_rate"], v["byte_rate"] = float64(count)/seconds, float64(bytes)/seconds
	return v
}
