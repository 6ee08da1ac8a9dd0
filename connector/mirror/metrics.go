package mirror

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/connector/rawcopy"
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
	bytes   int64 // of batches, as they are stored: MirrorMaker counts those of values
	age     samples
	latency samples
	rates   [2]sample // the newest first
	moved   time.Time

	delay rawcopy.Spread // from timestamp to acknowledgement, of all

	paceAt                 time.Time
	paceFrom               [2]int64
	paceRecords, paceBytes float64
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

// observed counts what the target has acknowledged since the last time.
func (s *laneStats) observed(records, bytes int64, age, latency rawcopy.Spread) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age.addSpread(age, now)
	s.latency.addSpread(latency, now)
	s.delay.Count += latency.Count
	s.delay.Sum += latency.Sum
	for i, n := range latency.Buckets {
		s.delay.Buckets[i] += n
	}
	if records > 0 || s.moved.IsZero() {
		s.moved = now
	}
	s.records += records
	s.bytes += bytes
	w := roll(&s.rates, now)
	w.count += records
	w.bytes += bytes
	if seconds := now.Sub(s.paceAt).Seconds(); seconds >= 0.5 {
		if !s.paceAt.IsZero() {
			s.paceRecords, s.paceBytes = float64(s.records-s.paceFrom[0])/seconds, float64(s.bytes-s.paceFrom[1])/seconds
		}
		s.paceAt, s.paceFrom = now, [2]int64{s.records, s.bytes}
	}
}

// pace returns records and bytes per second lately.
func (s *laneStats) pace() (records, bytes float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paceRecords, s.paceBytes
}

// movedAt is when something was acknowledged last.
func (s *laneStats) movedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

// addSpread adds what was measured since the last time.
func (s *samples) addSpread(v rawcopy.Spread, now time.Time) {
	if v.Count == 0 {
		return
	}
	s.last = v.Last
	w := roll(&s.recent, now)
	if w.count == 0 {
		w.smallest, w.greatest = v.Min, v.Max
	}
	w.count += v.Count
	w.sum += v.Sum
	w.smallest, w.greatest = min(w.smallest, v.Min), max(w.greatest, v.Max)
}

// taskMetrics shows the lanes of a task under the names that MirrorMaker's
// metrics have in Prometheus. The topic label is the target's name.
type taskMetrics struct {
	lanes          func() []*lane
	source, target string
	descs          map[string]*prometheus.Desc
	delay          *prometheus.Desc
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
func newTaskMetrics(connector string, task int, s sourceSettings, lanes func() []*lane) *taskMetrics {
	m := &taskMetrics{lanes: lanes, source: s.source, target: s.target, descs: map[string]*prometheus.Desc{}}
	m.delay = prometheus.NewDesc("barnabas_replication_latency_seconds", "Time from a batch's timestamp to its acknowledgement by the target cluster, by batches.",
		[]string{"source", "target"}, prometheus.Labels{"connector": connector, "task": strconv.Itoa(task)})
	for name, help := range metricHelp {
		m.descs[name] = prometheus.NewDesc("kafka_connect_mirror_mirrorsourceconnector_"+name, help,
			[]string{"source", "target", "topic", "partition"}, prometheus.Labels{"connector": connector, "task": strconv.Itoa(task)})
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *taskMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.delay
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *taskMetrics) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	ch <- m.latency()
	for _, l := range m.lanes() {
		for name, v := range l.stats.values(now) {
			kind := prometheus.GaugeValue
			if name == "record_count" || name == "byte_count" {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(m.descs[name], kind, v, m.source, m.target, l.stats.target, l.stats.id)
		}
	}
}

// latency is the histogram of all lanes.
func (m *taskMetrics) latency() prometheus.Metric {
	var sum rawcopy.Spread
	for _, l := range m.lanes() {
		l.stats.mu.Lock()
		sum.Count += l.stats.delay.Count
		sum.Sum += l.stats.delay.Sum
		for i, n := range l.stats.delay.Buckets {
			sum.Buckets[i] += n
		}
		l.stats.mu.Unlock()
	}
	buckets, below := map[float64]uint64{}, int64(0)
	for i, bound := range rawcopy.SpreadBounds {
		below += sum.Buckets[i]
		buckets[bound/1000] = uint64(below)
	}
	return prometheus.MustNewConstHistogram(m.delay, uint64(sum.Count), sum.Sum/1000, buckets, m.source, m.target)
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
