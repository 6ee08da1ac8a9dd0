package task

import (
	"context"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/connector"
)

// Window is what happened lately. Kafka's averages, maxima and rates look back on two samples of 30 s, and so do these.
type Window struct {
	recent [2]windowSample // the newest first
}

type windowSample struct {
	since         time.Time
	count, failed int64
	sum, greatest float64
}

const sampleLength = 30 * time.Second

func (w *Window) roll(now time.Time) *windowSample {
	if now.Sub(w.recent[0].since) >= sampleLength {
		w.recent[1] = w.recent[0]
		if now.Sub(w.recent[1].since) >= 2*sampleLength {
			w.recent[1] = windowSample{}
		}
		w.recent[0] = windowSample{since: now}
	}
	return &w.recent[0]
}

// Add counts n things that amount to sum, the greatest of which is greatest. Things and what they amount to may come apart:
// batches are counted when they are fetched, their records when they are acknowledged.
func (w *Window) Add(now time.Time, n int64, sum, greatest float64) {
	if n <= 0 && sum == 0 {
		return
	}
	s := w.roll(now)
	s.greatest = max(s.greatest, greatest)
	s.count += n
	s.sum += sum
}

// Summary returns the average and the greatest, NaN if nothing has happened lately, as in Kafka.
func (w *Window) Summary(now time.Time) (average, greatest float64) {
	w.roll(now)
	count, sum := int64(0), 0.0
	for _, s := range w.recent {
		count, sum, greatest = count+s.count, sum+s.sum, max(greatest, s.greatest)
	}
	if count == 0 {
		return math.NaN(), math.NaN()
	}
	return sum / float64(count), greatest
}

// rate returns the sum per second. As in Kafka it is over at least one whole sample, so that what comes
// first does not look like a flood.
func (w *Window) rate(now time.Time) float64 {
	w.roll(now)
	since := w.recent[0].since
	if !w.recent[1].since.IsZero() {
		since = w.recent[1].since
	}
	return (w.recent[0].sum + w.recent[1].sum) / max(now.Sub(since), sampleLength).Seconds()
}

// shares returns which shares succeeded and failed, both 0 if nothing has happened lately, as in Kafka (Frequencies).
func (w *Window) shares(now time.Time) (succeeded, failed float64) {
	w.roll(now)
	count, bad := w.recent[0].count+w.recent[1].count, w.recent[0].failed+w.recent[1].failed
	if count == 0 {
		return 0, 0
	}
	return float64(count-bad) / float64(count), float64(bad) / float64(count)
}

// effort is what the run of a task did, in the terms of Connect's connector-task-metrics and source-task-metrics.
type effort struct {
	mu      sync.Mutex
	began   time.Time
	ran     time.Time // since when it is RUNNING; zero: it is not
	saves   Window    // of offsets, in ms
	batches Window    // counted; their records are the sum
	written Window    // records
	polled  Window    // records
	active  Window    // records that are on their way, at each report

	writtenTotal, polledTotal, flying int64
	reported                          bool
	errors                            connector.Errors
	sunk                              *connector.Sunk // of a sink; polled are the records that it has read, written those that it was handed
	puts, done                        Window          // in ms; commits that succeeded
}

// saving measures the saving of offsets. Connect's tasks count a commit of transactional ones, too; here the
// books in a transaction are the task's own affair, and what is measured is the saving beside it.
func (e *effort) saving(o connector.Offsets) connector.Offsets {
	save := o.Save
	o.Save = func(ctx context.Context, offsets []connector.Offset) error {
		began := time.Now()
		err := save(ctx, offsets)
		now := time.Now()
		took := float64(now.Sub(began)) / float64(time.Millisecond)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.saves.Add(now, 1, took, took)
		if err != nil {
			e.saves.roll(now).failed++
		}
		return err
	}
	return o
}

func (e *effort) running() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ran = time.Now()
}

// moved takes in what a report tells beyond the one before it.
func (e *effort) moved(written, batches, flying int64, errors connector.Errors) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reported = true
	e.writtenTotal += written
	// What is on its way and leaves with its partition was polled all the same.
	polled := max(0, e.writtenTotal+flying-e.polledTotal)
	e.polledTotal += polled
	e.flying, e.errors = flying, errors
	e.written.Add(now, written, float64(written), 0)
	e.polled.Add(now, polled, float64(polled), 0)
	e.batches.Add(now, batches, float64(written), 0)
	e.active.Add(now, 1, float64(flying), float64(flying))
}

// sank takes in what the report of a sink tells beyond the one before it.
func (e *effort) sank(sunk connector.Sunk, errors connector.Errors) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	before := connector.Sunk{}
	if e.sunk != nil {
		before = *e.sunk
	}
	e.reported, e.errors, e.sunk = true, errors, &sunk
	read, put := sunk.Read-before.Read, sunk.Put-before.Put
	e.polled.Add(now, read, float64(read), 0)
	e.written.Add(now, put, float64(put), 0)
	e.active.Add(now, 1, float64(sunk.Active), float64(sunk.Active))
	e.batches.Add(now, sunk.Puts.Count, float64(put), 0)
	e.puts.Add(now, sunk.Puts.Count, milliseconds(sunk.Puts.Sum), milliseconds(sunk.Puts.Max))
	e.saves.Add(now, sunk.Saves.Count, milliseconds(sunk.Saves.Sum), milliseconds(sunk.Saves.Max))
	e.saves.roll(now).failed += sunk.Saves.Failed
	done := sunk.Done - before.Done
	e.done.Add(now, done, float64(done), 0)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

const (
	familyTask   = "kafka_connect_connector_task_"
	familySource = "kafka_connect_source_task_"
	familySink   = "kafka_connect_sink_task_"
	familyError  = "kafka_connect_task_error_"
)

// effortHelp has the metrics of each task.
var effortHelp = map[string]string{
	familyTask + "running_ratio":                    "Share of the present run's time in which the task was RUNNING.",
	familyTask + "pause_ratio":                      "1 while the task is paused, else 0.",
	familyTask + "offset_commit_avg_time_ms":        "Average time lately to save offsets.",
	familyTask + "offset_commit_max_time_ms":        "Greatest time lately to save offsets.",
	familyTask + "offset_commit_success_percentage": "Share of the savings of offsets lately that succeeded, 0 to 1 as in Kafka.",
	familyTask + "offset_commit_failure_percentage": "Share of the savings of offsets lately that failed, 0 to 1 as in Kafka.",
	familyTask + "batch_size_avg":                   "Average number of records in the batches copied lately.",

	familySource + "source_record_poll_total":       "Records fetched and sent to the target by this run.",
	familySource + "source_record_poll_rate":        "The same per second, lately.",
	familySource + "source_record_write_total":      "Records that the target has acknowledged to this run.",
	familySource + "source_record_write_rate":       "The same per second, lately.",
	familySource + "source_record_active_count":     "Records sent to the target and not yet acknowledged.",
	familySource + "source_record_active_count_max": "The greatest number lately of records sent and not yet acknowledged.",
	familySource + "source_record_active_count_avg": "The average number lately of records sent and not yet acknowledged.",

	familySink + "sink_record_read_total":         "Records read by this run, those included that could not be converted.",
	familySink + "sink_record_read_rate":          "The same per second, lately.",
	familySink + "sink_record_send_total":         "Records handed to the sink by this run.",
	familySink + "sink_record_send_rate":          "The same per second, lately.",
	familySink + "sink_record_active_count":       "Records read whose offsets are not committed yet.",
	familySink + "sink_record_active_count_max":   "The greatest number lately of records read whose offsets were not committed yet.",
	familySink + "sink_record_active_count_avg":   "The average number lately of records read whose offsets were not committed yet.",
	familySink + "partition_count":                "Partitions that the task reads.",
	familySink + "offset_commit_seq_no":           "Number of the latest commit of offsets of this run.",
	familySink + "offset_commit_completion_total": "Commits of offsets of this run that succeeded.",
	familySink + "offset_commit_completion_rate":  "The same per second, lately.",
	familySink + "offset_commit_skip_total":       "Always 0: no commit is answered when another one is under way.",
	familySink + "offset_commit_skip_rate":        "Always 0.",
	familySink + "put_batch_avg_time_ms":          "Average time lately to hand a batch to the sink.",
	familySink + "put_batch_max_time_ms":          "Greatest time lately to hand a batch to the sink.",

	familyError + "total_record_errors":              "Attempts with records that failed, those included that were repeated.",
	familyError + "total_record_failures":            "Records that the target does not take.",
	familyError + "total_records_skipped":            "Records left out because the target does not take them (errors.tolerance=all).",
	familyError + "total_retries":                    "Times that a partition was in trouble and tried again.",
	familyError + "total_errors_logged":              "Records whose failure was logged.",
	familyError + "deadletterqueue_produce_requests": "Pointers to records for the dead letter queue, those included that could not be written.",
	familyError + "deadletterqueue_produce_failures": "Pointers to records that could not be written to the dead letter queue.",
	familyError + "last_error_timestamp":             "When a record last failed, in ms since 1970; 0: never.",
}

var effortDescs = describeEffort()

func describeEffort() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	for name, help := range effortHelp {
		all[name] = prometheus.NewDesc(name, help, []string{"connector", "task"}, nil)
	}
	return all
}

// values gives every metric of the run.
func (e *effort) values(now time.Time) map[string]float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := map[string]float64{familyTask + "running_ratio": 0, familyTask + "pause_ratio": 0}
	if whole := now.Sub(e.began); !e.ran.IsZero() && whole > 0 {
		v[familyTask+"running_ratio"] = float64(now.Sub(e.ran)) / float64(whole)
	}
	v[familyTask+"offset_commit_avg_time_ms"], v[familyTask+"offset_commit_max_time_ms"] = e.saves.Summary(now)
	v[familyTask+"offset_commit_success_percentage"], v[familyTask+"offset_commit_failure_percentage"] = e.saves.shares(now)
	if !e.reported {
		return v
	}
	v[familyTask+"batch_size_avg"], _ = e.batches.Summary(now)
	if e.sunk != nil {
		e.sinkValues(v, now)
	} else {
		v[familySource+"source_record_poll_total"], v[familySource+"source_record_poll_rate"] = float64(e.polledTotal), e.polled.rate(now)
		v[familySource+"source_record_write_total"], v[familySource+"source_record_write_rate"] = float64(e.writtenTotal), e.written.rate(now)
		v[familySource+"source_record_active_count"] = float64(e.flying)
		v[familySource+"source_record_active_count_avg"], v[familySource+"source_record_active_count_max"] = e.active.Summary(now)
	}
	v[familyError+"total_record_errors"] = float64(e.errors.Failures + e.errors.Retries)
	v[familyError+"total_record_failures"] = float64(e.errors.Failures)
	v[familyError+"total_records_skipped"] = float64(e.errors.Skipped)
	v[familyError+"total_retries"] = float64(e.errors.Retries)
	v[familyError+"total_errors_logged"] = float64(e.errors.Failures)
	v[familyError+"deadletterqueue_produce_requests"] = float64(e.errors.Letters)
	v[familyError+"deadletterqueue_produce_failures"] = float64(e.errors.LettersFailed)
	v[familyError+"last_error_timestamp"] = 0
	if !e.errors.Last.IsZero() {
		v[familyError+"last_error_timestamp"] = float64(e.errors.Last.UnixMilli())
	}
	return v
}

// sinkValues adds the metrics that only sinks have. e.mu is held.
func (e *effort) sinkValues(v map[string]float64, now time.Time) {
	v[familySink+"sink_record_read_total"], v[familySink+"sink_record_read_rate"] = float64(e.sunk.Read), e.polled.rate(now)
	v[familySink+"sink_record_send_total"], v[familySink+"sink_record_send_rate"] = float64(e.sunk.Put), e.written.rate(now)
	v[familySink+"sink_record_active_count"] = float64(e.sunk.Active)
	v[familySink+"sink_record_active_count_avg"], v[familySink+"sink_record_active_count_max"] = e.active.Summary(now)
	v[familySink+"partition_count"] = float64(e.sunk.Assigned)
	v[familySink+"offset_commit_seq_no"] = float64(e.sunk.Commits)
	v[familySink+"offset_commit_completion_total"], v[familySink+"offset_commit_completion_rate"] = float64(e.sunk.Done), e.done.rate(now)
	v[familySink+"offset_commit_skip_total"], v[familySink+"offset_commit_skip_rate"] = 0, 0
	v[familySink+"put_batch_avg_time_ms"], v[familySink+"put_batch_max_time_ms"] = e.puts.Summary(now)
}

// collect sends the metrics of a run.
func (e *effort) collect(s *series, r Run, now time.Time) {
	task := strconv.Itoa(r.Task)
	for name, v := range e.values(now) {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		s.send(effortDescs[name], kind, v, Quoted(r.Connector), task)
	}
}

// collectPaused sends the metrics of a task that does not run because it is paused.
func collectPaused(s *series, r Run) {
	s.send(effortDescs[familyTask+"running_ratio"], prometheus.GaugeValue, 0, Quoted(r.Connector), strconv.Itoa(r.Task))
	s.send(effortDescs[familyTask+"pause_ratio"], prometheus.GaugeValue, 1, Quoted(r.Connector), strconv.Itoa(r.Task))
}

var (
	// plainTag is what JMX takes without quotes (Sanitizer.jmxSanitize).
	plainTag = regexp.MustCompile(`^[0-9A-Za-z_%. \t-]*$`)
	quoteTag = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `*`, `\*`, `?`, `\?`, "\n", `\n`)
)

// Quoted is a name as it stands in the kafka_ metrics that come out of Kafka through the JMX exporter: in
// quotes if it has characters that JMX wants quoted, such as those of A->B.MirrorSourceConnector. Dashboards count on it.
func Quoted(name string) string {
	if plainTag.MatchString(name) {
		return name
	}
	return `"` + quoteTag.Replace(name) + `"`
}
