// Package tolerance decides what becomes of records that cannot be converted or written: Kafka Connect's errors.*, with its
// log lines and its dead letter queue (RetryWithToleranceOperator, LogReporter, DeadLetterQueueReporter).
//
// Easy to get wrong: a record is reported first, and then the task fails or goes on. So with errors.tolerance=none the
// record that a task dies of is in the queue, too, once for each time that it died.
package tolerance

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// Stage is where in a task's work a record failed (Kafka's enum Stage).
type Stage string

// The stages.
const (
	KeyConverter    Stage = "KEY_CONVERTER"
	ValueConverter  Stage = "VALUE_CONVERTER"
	HeaderConverter Stage = "HEADER_CONVERTER"
	TaskPut         Stage = "TASK_PUT"
	KafkaProduce    Stage = "KAFKA_PRODUCE"
)

// Failure is a record that failed.
type Failure struct {
	Stage Stage
	// Class is the Java class that was at work, Exception that of what it threw.
	Class, Exception string
	Message          string // of the exception
	Err              error
	// Record is what a sink has read, nil of a source. Where names the record of a source, for the log.
	Record *kgo.Record
	Where  string
}

// Keys of the settings.
const (
	keyTolerance   = "errors.tolerance"
	keyLog         = "errors.log.enable"
	keyLogMessages = "errors.log.include.messages"
)

// Handler handles the failures of one task. It is for one goroutine, but for Counts.
type Handler struct {
	all, log, messages bool
	name               string // of the task, x-0
	out                *slog.Logger
	queue              *Queue

	mu     sync.Mutex
	counts connector.Errors
}

// New returns the handler of a task whose definition has the keys errors.*. queue is nil if there is none.
func New(values config.Values, tc connector.TaskContext, queue *Queue) *Handler {
	return &Handler{
		all: values.String(keyTolerance) == "all", log: values.Bool(keyLog), messages: values.Bool(keyLogMessages),
		name: fmt.Sprintf("%s-%d", tc.Connector, tc.Task), out: tc.Log, queue: queue,
	}
}

// Failed reports a failure. It returns nil if the record is to be left out, and otherwise why the task fails.
func (h *Handler) Failed(ctx context.Context, f Failure) error {
	h.mu.Lock()
	h.counts.Failures++
	h.counts.Last = time.Now()
	h.mu.Unlock()
	if h.log {
		h.out.ErrorContext(ctx, h.line(f), "err", f.Err)
	}
	if h.queue != nil {
		h.queue.put(ctx, f)
	}
	if !h.all {
		return fmt.Errorf("Tolerance exceeded in error handler: %w", f.Err) // Connect's words
	}
	h.mu.Lock()
	h.counts.Skipped++
	h.mu.Unlock()
	return nil
}

// Counts returns what has been counted.
func (h *Handler) Counts() connector.Errors {
	h.mu.Lock()
	counts := h.counts
	h.mu.Unlock()
	if h.queue != nil {
		counts.Letters, counts.LettersFailed = h.queue.counts()
	}
	return counts
}

// Flush waits until what was reported stands in the dead letter queue. Connect does not wait for it, and goes on
// without the record.
func (h *Handler) Flush(ctx context.Context) error {
	if h.queue == nil {
		return nil
	}
	return h.queue.flush(ctx)
}

// line is what LogReporter writes.
func (h *Handler) line(f Failure) string {
	text := fmt.Sprintf("Error encountered in task %s. Executing stage '%s' with class '%s'", h.name, f.Stage, f.Class)
	if h.messages {
		switch r := f.Record; {
		case r != nil:
			text += fmt.Sprintf(", where consumed record is {topic='%s', partition=%d, offset=%d", r.Topic, r.Partition, r.Offset)
			kind := map[int8]string{0: "CreateTime", 1: "LogAppendTime"}[r.Attrs.TimestampType()]
			if kind != "" {
				text += fmt.Sprintf(", timestamp=%d, timestampType=%s", r.Timestamp.UnixMilli(), kind)
			}
			text += "}"
		default:
			text += ", where source record is = " + f.Where
		}
	}
	return text + "."
}
