// Package filestream has Kafka's two file connectors: one writes the lines of a file to a topic, the other the values of records
// to a file, as lines (FileStreamSourceConnector, FileStreamSinkConnector). They are there for tests, demonstrations and small
// jobs; Kafka says so of its own.
//
// Easy to get wrong: the source knows its file by its name alone and goes on reading what it has opened. A file
// that was replaced is read again when the task starts again, from the position that it had in the former one.
package filestream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/sink"
)

// Kafka's names.
const (
	sourceClass     = "org.apache.kafka.connect.file.FileStreamSourceConnector"
	sourceTaskClass = "org.apache.kafka.connect.file.FileStreamSourceTask"
	sinkClass       = "org.apache.kafka.connect.file.FileStreamSinkConnector"
	sinkTaskClass   = "org.apache.kafka.connect.file.FileStreamSinkTask"

	keyFile      = "file"
	keyTopic     = "topic"
	keyBatch     = "batch.size"
	keyTaskClass = "task.class"
)

// What Kafka Connect 4.3.1 answers to the validation of its connectors, without values.
var (
	//go:embed source.json
	recordedSource []byte
	//go:embed sink.json
	recordedSink []byte
)

var (
	sourceKeys = sync.OnceValue(func() *config.Def { return define(recordedSource) })
	sinkKeys   = sync.OnceValue(func() *config.Def { return define(recordedSink) })
)

func define(recorded []byte) *config.Def {
	d, err := config.DefFromInfos(recorded)
	if err != nil {
		panic(fmt.Sprintf("filestream: embedded definitions: %v", err))
	}
	for name, check := range checks {
		if _, ok := d.Key(name); ok {
			d.Check(name, check)
		}
	}
	return d
}

// checks are Kafka's validators, which a recorded answer does not show (ConnectorConfig, SourceConnectorConfig,
// SinkConnectorConfig, FileStreamSourceConnector).
var checks = map[string]config.Check{
	"name":                             config.NonEmptyWithoutControlChars,
	"tasks.max":                        config.AtLeast(1),
	"transforms":                       config.Aliases,
	"predicates":                       config.Aliases,
	"config.action.reload":             config.OneOf("none", "restart"),
	"errors.tolerance":                 config.OneOf("none", "all"),
	"topic.creation.groups":            config.Aliases,
	"exactly.once.support":             config.OneOfFold("REQUESTED", "REQUIRED"),
	"transaction.boundary":             config.OneOfFold("POLL", "INTERVAL", "CONNECTOR"),
	"transaction.boundary.interval.ms": config.OrNull(config.AtLeast(0)),
	"offsets.storage.topic":            config.NonEmpty,
	sink.KeyTopics:                     config.Items(true, false),
	sink.KeyRegex:                      sink.CheckRegex,
	keyTopic:                           config.NonEmpty,
}

// Source returns Kafka's FileStreamSourceConnector.
func Source() connector.Plugin {
	return connector.Plugin{
		Class: sourceClass, Aliases: []string{"FileStreamSource", "FileStreamSourceConnector"},
		Type: connector.Source, Version: "4.3.1", Keys: sourceKeys(), Overrides: []string{"producer"}, Converts: true,
		Fences: true, CheckOffsets: checkOffsets,
		Validate: validateSource,
		NewConnector: func() connector.Connector {
			return planner{keys: sourceKeys(), tasks: func(settings config.Settings, _ int) []map[string]string { return repeat(settings, sourceTaskClass, 1) }}
		},
		NewTask: func() connector.Task { return sourceTask{} },
	}
}

// Sink returns Kafka's FileStreamSinkConnector.
func Sink() connector.Plugin {
	return connector.Plugin{
		Class: sinkClass, Aliases: []string{"FileStreamSink", "FileStreamSinkConnector"},
		Type: connector.Sink, Version: "4.3.1", Keys: sinkKeys(), Overrides: []string{"consumer", "producer", "admin"}, Converts: true,
		Validate: sink.Validate,
		NewConnector: func() connector.Connector {
			return planner{keys: sinkKeys(), tasks: func(settings config.Settings, most int) []map[string]string {
				return repeat(settings, sinkTaskClass, most)
			}}
		},
		NewTask: func() connector.Task { return sinkTask{} },
	}
}

// validateSource refuses what cannot be exactly once.
func validateSource(written map[string]string) []config.Problem {
	const support, offsets = "exactly.once.support", "offsets.storage.topic"
	if !strings.EqualFold(written[support], "required") {
		return nil
	}
	var problems []config.Problem
	if strings.TrimSpace(written[keyFile]) == "" {
		problems = append(problems, config.Problem{Key: support, Message: "The connector does not support exactly-once semantics with the provided configuration."})
	}
	if strings.TrimSpace(written[offsets]) != "" {
		problems = append(problems, config.Problem{Key: offsets, Message: errOwnTopic.Error()})
	}
	return problems
}

// errOwnTopic is of a transactional task with an offset topic of its connector's own.
var errOwnTopic = errors.New("a file source keeps its offsets in the workers' offset topic, which is where its transactions can reach them: leave offsets.storage.topic out")

// planner plans tasks that depend on the configuration alone.
type planner struct {
	keys  *config.Def
	tasks func(settings config.Settings, most int) []map[string]string
}

// Run publishes the tasks.
func (p planner) Run(ctx context.Context, cc connector.Context) error {
	if _, err := parse(p.keys, cc.Settings); err != nil {
		return err
	}
	cc.Started()
	tasks := p.tasks(cc.Settings, cc.MaxTasks)
	same := len(tasks) == len(cc.Tasks)
	for i := range tasks {
		same = same && maps.Equal(tasks[i], cc.Tasks[i])
	}
	if !same {
		if err := cc.SetTasks(ctx, tasks); err != nil && ctx.Err() == nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// repeat gives n tasks the configuration of their connector.
func repeat(settings config.Settings, class string, n int) []map[string]string {
	task := maps.Clone(settings.Written())
	task[keyTaskClass] = class
	tasks := make([]map[string]string, n)
	for i := range tasks {
		tasks[i] = task
	}
	return tasks
}

func parse(keys *config.Def, settings config.Settings) (config.Values, error) {
	values, problems := keys.Parse(settings)
	if len(problems) > 0 {
		return values, errors.New(problems[0].Message)
	}
	return values, nil
}

// partition is the source partition under which the position in a file is kept. Standard input has the name null.
func partition(values config.Values) []byte {
	if values.Null(keyFile) {
		return []byte(`{"filename":null}`)
	}
	return append(append([]byte(`{"filename":`), converter.Quote(values.String(keyFile))...), '}')
}
