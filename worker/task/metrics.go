package task

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/connector"
)

// errRevoked is what a run meets that registers metrics after it was given up.
var errRevoked = errors.New("the run was given up; its metrics are its successor's")

// registrations are the metrics of one run. A run that does not return is given up while it still holds
// them; without revoke the next run of the same task on this worker could not register its own, which have the same
// names and labels.
type registrations struct {
	to prometheus.Registerer

	mu      sync.Mutex
	held    []prometheus.Collector
	revoked bool
}

// Register implements prometheus.Registerer.
func (r *registrations) Register(c prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked {
		return errRevoked
	}
	if err := r.to.Register(c); err != nil {
		return err
	}
	r.held = append(r.held, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *registrations) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer. It does not touch what a
// successor has registered under the same names.
func (r *registrations) Unregister(c prometheus.Collector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, held := range r.held {
		if held == c {
			r.held = append(r.held[:i], r.held[i+1:]...)
			return r.to.Unregister(c)
		}
	}
	return false
}

// revoke takes everything back, for good.
func (r *registrations) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = true
	for _, c := range r.held {
		r.to.Unregister(c)
	}
	r.held = nil
}

var (
	descLagRecords = replicationDesc("lag_records", "Records of the source partition that are not copied yet.", "topic", "partition")
	descLagBytes   = replicationDesc("lag_bytes", "Bytes of the source partition that are not copied yet, possibly estimated.", "topic", "partition")
	descLagSeconds = replicationDesc("lag_seconds", "Age of the oldest record that is not copied yet, at most.", "topic", "partition")
	descBatches    = replicationDesc("batches_total", "Batches by what was done with them: raw, decoded or skipped, and why.", "decision")
	descGaps       = replicationDesc("gaps_total", "Entries of the gap ledger: ranges of source offsets that the copy lacks.", "topic", "partition", "cause")
	descLost       = replicationDesc("lost_records_total", "Source offsets within the gaps of the copy.", "topic", "partition", "cause")
	descDegraded   = replicationDesc("degraded", "1 while a partition of the task is in trouble, has lost records or has stopped.")
	descDelivery   = replicationDesc("delivery", "1 for the way in which the task writes: plain, fenced or transactional.", "delivery")
	descNotes      = prometheus.NewDesc("barnabas_replication_notes", "What a connector and its tasks here cannot do or leave out at present, by what it is about.",
		[]string{"connector", "about"}, nil)
	// descConsumerLag is the name under which dashboards know the lag of a consumer, as Kafka's is through
	// the usual exporter.
	descConsumerLag = prometheus.NewDesc("kafka_consumer_fetch_manager_records_lag",
		"Records of the source partition that are not copied yet, by the client that reads it.", []string{"clientid", "topic", "partition"}, nil)
)

func replicationDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("barnabas_replication_"+name, help, append([]string{"connector", "task"}, labels...), nil)
}

// Collect sends the metrics of the running tasks, as of their newest reports. Only what such a task copies
// has series: they end with its run.
func (t *Runner) Collect(out chan<- prometheus.Metric) { t.CollectWith(out, nil) }

// CollectWith is Collect with the tasks that are paused; one that still runs here on its way there is shown as it runs.
func (t *Runner) CollectWith(out chan<- prometheus.Metric, paused []Run) {
	s := series{out: out, sent: map[sent]bool{}}
	t.collectStarts(&s)
	t.collectRuns(&s)
	for _, r := range paused {
		collectPaused(&s, r)
	}
	for _, r := range t.reporting() {
		r.mu.Lock()
		p := r.progress
		r.mu.Unlock()
		s.task(r.Run, p)
		r.tally.collect(&s, r.Run, p)
	}
	for name, notes := range t.allNotes() {
		count := map[string]int{}
		for _, n := range notes {
			count[n.About]++
		}
		for about, n := range count {
			s.send(descNotes, prometheus.GaugeValue, float64(n), name, about)
		}
	}
}

// allNotes are the notes of the connectors and tasks that run here.
func (t *Runner) allNotes() map[string][]connector.Note {
	all := map[string][]connector.Note{}
	t.mu.Lock()
	for _, r := range t.runs {
		all[r.Connector] = nil
	}
	t.mu.Unlock()
	for name := range all {
		notes := t.Notes(name)
		for _, p := range t.Progress(name) {
			notes = append(notes, p.Notes...)
		}
		all[name] = notes
	}
	return all
}

// reporting returns the tasks that run and have reported, the newest runs first: one that was given up may
// not have ended when its successor runs.
func (t *Runner) reporting() []*running {
	t.mu.Lock()
	defer t.mu.Unlock()
	var runs []*running
	for _, r := range t.runs {
		r.mu.Lock()
		reported := Reported(r.progress)
		r.mu.Unlock()
		if r.Task >= 0 && reported {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b *running) int { return cmp.Compare(b.ID, a.ID) })
	seen := map[string]bool{}
	return slices.DeleteFunc(runs, func(r *running) bool {
		again := seen[r.String()]
		seen[r.String()] = true
		return again
	})
}

// Reported tells whether p is a report, or what a run has before its first.
func Reported(p connector.Progress) bool { return p.Delivery != "" || len(p.Partitions) > 0 }

// series sends metrics, each once: one that came twice would make the whole answer to a scrape an error. Two
// connectors that give their consumers one client.id and read one topic have such a one.
type series struct {
	out  chan<- prometheus.Metric
	sent map[sent]bool
}

// sent identifies a series.
type sent struct {
	desc   *prometheus.Desc
	labels string
}

func (s *series) send(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\ufffd") // a label must be; a client.id need not
	}
	key := sent{d, strings.Join(labels, "\x00")}
	if !s.sent[key] {
		s.sent[key] = true
		s.out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
}

// task sends the gauges of one task. What is unknown has none.
func (s *series) task(r Run, p connector.Progress) {
	task := strconv.Itoa(r.Task)
	degraded := 0.0
	for _, part := range p.Partitions {
		partition := strconv.Itoa(int(part.Partition))
		for d, v := range map[*prometheus.Desc]float64{
			descLagRecords: float64(part.LagRecords), descLagBytes: float64(part.LagBytes), descLagSeconds: part.LagSeconds,
		} {
			if v >= 0 {
				s.send(d, prometheus.GaugeValue, v, r.Connector, task, part.Topic, partition)
			}
		}
		if part.State != "" && part.State != stateRunning {
			degraded = 1
		}
	}
	s.send(descDegraded, prometheus.GaugeValue, degraded, r.Connector, task)
	if p.Delivery != "" {
		s.send(descDelivery, prometheus.GaugeValue, 1, r.Connector, task, string(p.Delivery))
	}
}

// stateRunning is the state of a partition in good order.
const stateRunning = "RUNNING"
