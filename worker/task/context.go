package task

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
)

// engineKeys are the settings of connectors that the engine reads itself. Those of Kafka's are
// SourceConnectorConfig's; the plugin's own definition has them too, for validation.
var engineKeys = config.NewDef(
	config.Key{Name: keyBoundary, Default: new("poll"), Checks: []config.Check{checkBoundary}},
	config.Key{Name: keyBoundaryInterval, Type: config.Long, Checks: []config.Check{config.OrNull(config.AtLeast(0))}},
	config.Key{Name: keyOffsetsTopic, Checks: []config.Check{config.NonEmpty}},
	config.Key{Name: keyGapPolicy, Checks: []config.Check{config.OrNull(config.OneOf("stop", "record"))}},
)

const (
	keyBoundary         = "transaction.boundary"
	keyBoundaryInterval = "transaction.boundary.interval.ms"
	keyOffsetsTopic     = "offsets.storage.topic"
	keyGapPolicy        = "gap.policy"
)

// checkBoundary refuses transaction.boundary=connector, too: no plugin here
// defines boundaries of its own.
func checkBoundary(v config.Value) string {
	if b := strings.ToLower(v.Text()); b == "poll" || b == "interval" {
		return ""
	}
	return v.Invalid("the connector's tasks end transactions by poll or by interval")
}

// taskContext is what a task gets, but for its log, its clients and Started.
func (t *Runner) taskContext(run *running, plugin connector.Plugin, settings config.Settings) (connector.TaskContext, error) {
	values, problems := engineKeys.Parse(settings)
	if len(problems) > 0 {
		return connector.TaskContext{}, &FinalError{errors.New(problems[0].Message)}
	}
	offsets := t.o.Offsets(run.Connector)
	delivery := connector.Plain
	switch {
	case plugin.Fences && t.o.ExactlyOnce:
		delivery = connector.Transactional
	case plugin.Fences:
		delivery = connector.Fenced
	}
	read, write := t.limits(run)
	with := run.secrets.snapshot().run // with what connections bring in, unlike settings
	owner := clientconfig.Owner(t.o.Group, with, run.Connector)
	return connector.TaskContext{
		Connector: run.Connector, Task: run.Task, Settings: settings, Metrics: run.metrics, Offsets: run.effort.saving(run.guard.offsets(offsets)), Gate: t.o.Gate, ReadLimit: read, WriteLimit: write,
		Delivery: delivery, TransactionalID: owner + "-" + strconv.Itoa(run.Task), Owner: owner, Boundary: boundary(values, offsets.Interval),
		OffsetsTopic: t.offsetsTopic(plugin, values.String(keyOffsetsTopic)), Internal: t.o.Internal(),
		GapPolicy: cmp.Or(values.String(keyGapPolicy), t.o.GapPolicy, "record"),
		Group:     clientconfig.Group(t.o.Worker, with, run.Connector), Converters: converters(t.o.Worker),
		Updates: run.updates, LeaveTopics: t.o.LeaveTopics,
		Clear: run.guard.clear, Fenced: func() { t.fenced(run, true) },
		Confirm: func(ctx context.Context) error {
			t.fenced(run, false)
			return run.guard.confirm(ctx)
		},
		Wrote: func(topic string) { t.o.Hooks.Wrote(run.Run, topic) },
		Report: func(p connector.Progress) {
			records, batches, flying := run.tally.add(p)
			if p.Sink != nil {
				run.effort.sank(*p.Sink, p.Errors)
			} else {
				run.effort.moved(records, batches, flying, p.Errors)
			}
			run.mu.Lock()
			before := run.progress
			run.progress = p
			run.note(p, time.Now())
			run.mu.Unlock()
			for _, topic := range writtenTo(before, p) {
				t.o.Hooks.Wrote(run.Run, topic)
			}
		},
	}, nil
}

// writtenTo are the topics of the target to which a task has written between two reports.
func writtenTo(before, now connector.Progress) (topics []string) {
	type place struct {
		topic string
		id    int32
	}
	had := make(map[place]int64, len(before.Partitions))
	for _, p := range before.Partitions {
		had[place{p.Topic, p.Partition}] = p.Records
	}
	told := map[string]bool{}
	for _, p := range now.Partitions {
		if p.TargetTopic != "" && p.Records > had[place{p.Topic, p.Partition}] && !told[p.TargetTopic] {
			told[p.TargetTopic] = true
			topics = append(topics, p.TargetTopic)
		}
	}
	return topics
}

// converters are the settings of the worker's converters.
func converters(worker config.Settings) config.Settings {
	own := config.Settings{}
	for key, s := range worker {
		for _, kind := range []string{"key.converter", "value.converter", "header.converter"} {
			if key == kind || strings.HasPrefix(key, kind+".") {
				own[key] = s
			}
		}
	}
	return own
}

// offsetsTopic is where the tasks of a plugin keep source offsets in their
// transactions: what the connector says, or the name of the worker's topic (KIP-618).
func (t *Runner) offsetsTopic(plugin connector.Plugin, written string) string {
	if !plugin.Fences || !t.o.ExactlyOnce {
		return ""
	}
	return cmp.Or(written, t.o.Worker["offset.storage.topic"].Written)
}

func (t *Runner) fenced(run *running, held bool) {
	run.guard.fence(held)
	t.o.Hooks.Fenced(run.Run, held)
}

// boundary reads when transactions end (KIP-618). flush is what Kafka takes for an
// interval that is not said.
func boundary(v config.Values, flush time.Duration) connector.Boundary {
	switch {
	case !strings.EqualFold(v.String(keyBoundary), "interval"):
		return connector.Boundary{}
	case v.Null(keyBoundaryInterval):
		return connector.Boundary{Interval: flush}
	}
	return connector.Boundary{Interval: v.Duration(keyBoundaryInterval)}
}
