// Package reporter tells in topics what became of a connector's records, as Confluent's Connect Reporter does: one report for
// each record that was written (reporter.result.topic.*) and for each that was not (reporter.error.topic.*), under an identity of its
// own (reporter.bootstrap.servers, reporter.admin.*, reporter.producer.*).
//
// Easy to get wrong: reports never hold up or fail the work that they are about. What cannot be written in time is
// dropped, and the task's log says how many.
package reporter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/tolerance"
)

// Prefix begins the settings. A connector that has none of them reports nothing.
const Prefix = "reporter."

// Keys are the settings, with Confluent's names and defaults. Those of the clients follow reporter.admin. and reporter.producer.
var Keys = config.NewDef(
	config.Key{Name: Prefix + "bootstrap.servers", Type: config.List, Documentation: "The Kafka cluster that reports are written to; by default the workers'."},
	config.Key{Name: keyTopic(results), Default: new("${connector}-success"), Documentation: "The topic of reports about records that were written. Empty: none."},
	config.Key{Name: keyPartitions(results), Type: config.Int, Default: new("1"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: keyReplication(results), Type: config.Short, Default: new("3"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: keyFormat(results, "key"), Default: new("json"), Checks: []config.Check{config.OneOf("json", "string")}},
	config.Key{Name: keyFormat(results, "value"), Default: new("json"), Checks: []config.Check{config.OneOf("json", "string")}},
	config.Key{Name: keyTopic(failures), Default: new("${connector}-error"), Documentation: "The topic of reports about records that were not written. Empty: none."},
	config.Key{Name: keyPartitions(failures), Type: config.Int, Default: new("1"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: keyReplication(failures), Type: config.Short, Default: new("3"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: keyFormat(failures, "key"), Default: new("json"), Checks: []config.Check{config.OneOf("json", "string")}},
	config.Key{Name: keyFormat(failures, "value"), Default: new("json"), Checks: []config.Check{config.OneOf("json", "string")}},
)

// The two kinds of reports.
const (
	results  = "result"
	failures = "error"
)

func keyTopic(kind string) string        { return Prefix + kind + ".topic.name" }
func keyPartitions(kind string) string   { return Prefix + kind + ".topic.partitions" }
func keyReplication(kind string) string  { return Prefix + kind + ".topic.replication.factor" }
func keyFormat(kind, part string) string { return Prefix + kind + ".topic." + part + ".format" }

// Reporter writes the reports of one task. A nil Reporter writes none. It may be used by several goroutines.
type Reporter struct {
	connector string
	task      int
	results   *kind // nil: none are wanted
	failures  *kind
	client    *kgo.Client
	log       *slog.Logger

	mu      sync.Mutex
	dropped int64
	warned  time.Time
}

type kind struct {
	topic      string
	key, value string // formats
}

// deliveryTimeout is how long a report may wait for its cluster.
const deliveryTimeout = 30 * time.Second

// Open returns the reporter that a connector's settings ask for, with its topics made, or nil if they ask for none.
func Open(ctx context.Context, tc connector.TaskContext) (*Reporter, error) {
	if len(tc.Settings.Sub(Prefix)) == 0 {
		return nil, nil
	}
	values, problems := Keys.Parse(tc.Settings)
	if len(problems) > 0 {
		return nil, errors.New(problems[0].Message)
	}
	r := &Reporter{connector: tc.Connector, task: tc.Task, log: tc.Log}
	admin, err := tc.Clients.Open(ctx, connector.ReportAdmin)
	if err != nil {
		return nil, err
	}
	for name, to := range map[string]**kind{results: &r.results, failures: &r.failures} {
		topic := strings.ReplaceAll(strings.TrimSpace(values.String(keyTopic(name))), "${connector}", tc.Connector)
		if topic == "" {
			continue
		}
		*to = &kind{topic, values.String(keyFormat(name, "key")), values.String(keyFormat(name, "value"))}
		err := tolerance.EnsureTopic(ctx, admin, topic, int32(values.Int(keyPartitions(name))), int16(values.Int(keyReplication(name))))
		if err != nil {
			return nil, fmt.Errorf("topic of reports, as %s: %w", tc.Clients.Principal(connector.ReportAdmin), err)
		}
	}
	r.client, err = tc.Clients.Open(ctx, connector.ReportProducer, kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.ClientID(fmt.Sprintf("connector-reporter-producer-%s-%d", tc.Connector, tc.Task)))
	return r, err
}

// report is the value of a report in JSON.
type report struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
	Result    string `json:"result"` // success or error
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	// From is the first record, if the report is about several.
	From      *int64 `json:"from,omitempty"`
	Timestamp int64  `json:"timestamp"` // of the record, ms
	Exception string `json:"exception,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (r report) sentence() string {
	text := fmt.Sprintf("%s: record of topic %s, partition %d, offset %d, by %s-%d", r.Result, r.Topic, r.Partition, r.Offset, r.Connector, r.Task)
	if r.Error != "" {
		text += ": " + r.Error
	}
	return text
}

// Succeeded reports that a record was written. Of a sink it is the one that was read, of a source the one that Kafka has.
func (r *Reporter) Succeeded(ctx context.Context, record *kgo.Record) {
	if r == nil || r.results == nil {
		return
	}
	r.write(ctx, r.results, record, report{Result: "success"})
}

// Failed reports that a record was not written. exception is the Java class of the error.
func (r *Reporter) Failed(ctx context.Context, record *kgo.Record, exception string, err error) {
	if r == nil || r.failures == nil {
		return
	}
	r.write(ctx, r.failures, record, report{Result: "error", Exception: exception, Error: err.Error()})
}

// write sends a report without waiting for it.
func (r *Reporter) write(ctx context.Context, to *kind, about *kgo.Record, rep report) {
	rep.Connector, rep.Task = r.connector, r.task
	rep.Topic, rep.Partition, rep.Offset, rep.Timestamp = about.Topic, about.Partition, about.Offset, about.Timestamp.UnixMilli()
	out := &kgo.Record{Topic: to.topic, Key: about.Key}
	if to.key == "json" && about.Key != nil {
		out.Key, _ = json.Marshal(converter.DecodeUTF8(about.Key)) // a text always can be
	}
	out.Value = []byte(rep.sentence())
	if to.value == "json" {
		out.Value, _ = json.Marshal(rep) // texts and numbers always can be
	}
	header := func(name, value string) {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	header("input_record_topic", rep.Topic)
	header("input_record_partition", strconv.Itoa(int(rep.Partition)))
	header("input_record_offset", strconv.FormatInt(rep.Offset, 10))
	header("input_record_timestamp", strconv.FormatInt(rep.Timestamp, 10))
	if rep.Error != "" {
		header("error_message", rep.Error)
		header("exception", cmp.Or(rep.Exception, "none"))
	}
	r.client.TryProduce(context.WithoutCancel(ctx), out, func(_ *kgo.Record, err error) {
		if err != nil {
			r.drop(err)
		}
	})
}

// drop counts a report that is lost, and says so once in a while.
func (r *Reporter) drop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped++
	if now := time.Now(); now.Sub(r.warned) > time.Minute {
		r.warned = now
		r.log.Warn("reports of records are not written", "dropped", r.dropped, "err", err)
	}
}

// Close waits for the reports that are on their way, as long as ctx lasts.
func (r *Reporter) Close(ctx context.Context) {
	if r == nil {
		return
	}
	if err := r.client.Flush(ctx); err != nil {
		r.log.Warn("reports of records may be lost", "err", err)
	}
}
