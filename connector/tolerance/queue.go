package tolerance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// Keys of the dead letter queue.
const (
	KeyTopic       = "errors.deadletterqueue.topic.name"
	keyReplication = "errors.deadletterqueue.topic.replication.factor"
	keyContext     = "errors.deadletterqueue.context.headers.enable"
)

// headerPrefix begins the headers of DeadLetterQueueReporter.
const headerPrefix = "__connect.errors."

// Queue is a dead letter queue: a topic for the records of a sink that failed, as they were read.
type Queue struct {
	topic     string
	context   bool // add headers that tell what happened
	connector string
	task      int
	client    *kgo.Client

	mu              sync.Mutex
	letters, failed int64
	err             error // of the first letter that was not written: it is lost for good
}

// adminTimeout bounds the creation of the topic.
const adminTimeout = 30 * time.Second

// OpenQueue makes the dead letter queue that the settings ask for, with its topic if there is none. It returns nil if they
// ask for none.
func OpenQueue(ctx context.Context, values config.Values, tc connector.TaskContext) (*Queue, error) {
	topic := strings.TrimSpace(values.String(KeyTopic))
	if topic == "" {
		return nil, nil
	}
	q := &Queue{topic: topic, context: values.Bool(keyContext), connector: tc.Connector, task: tc.Task}
	admin, err := tc.Clients.Open(ctx, connector.RecordAdmin)
	if err != nil {
		return nil, err
	}
	if err := EnsureTopic(ctx, admin, topic, 1, int16(values.Int(keyReplication))); err != nil {
		return nil, fmt.Errorf("Could not initialize dead letter queue with topic=%s: %w", topic, err) // Connect's words
	}
	q.client, err = tc.Clients.Open(ctx, connector.RecordProducer, kgo.ClientID(fmt.Sprintf("connector-dlq-producer-%s-%d", tc.Connector, tc.Task)))
	return q, err
}

// EnsureTopic creates a topic unless it is there.
func EnsureTopic(ctx context.Context, client *kgo.Client, topic string, partitions int32, replication int16) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("list topic %s: %w", topic, err)
	}
	if topics.Has(topic) {
		return nil
	}
	if _, err := admin.CreateTopic(ctx, partitions, replication, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// put sends a letter. How it went is told by flush.
func (q *Queue) put(ctx context.Context, f Failure) {
	q.mu.Lock()
	q.letters++
	q.mu.Unlock()
	// Connect's clients choose the partition anew: the queue has one.
	letter := &kgo.Record{Topic: q.topic, Key: f.Record.Key, Value: f.Record.Value, Timestamp: f.Record.Timestamp, Headers: slices.Clone(f.Record.Headers)}
	if q.context {
		letter.Headers = append(letter.Headers, q.headers(f)...)
	}
	q.client.Produce(ctx, letter, func(_ *kgo.Record, err error) {
		if err == nil {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.failed++
		if q.err == nil {
			q.err = err
		}
	})
}

// headers are those of DeadLetterQueueReporter.populateContextHeaders, in its order. Where Java gives a stack trace there
// is what it would begin with.
func (q *Queue) headers(f Failure) []kgo.RecordHeader {
	var headers []kgo.RecordHeader
	add := func(name, value string) {
		headers = append(headers, kgo.RecordHeader{Key: headerPrefix + name, Value: []byte(value)})
	}
	add("topic", f.Record.Topic)
	add("partition", strconv.Itoa(int(f.Record.Partition)))
	add("offset", strconv.FormatInt(f.Record.Offset, 10))
	add("connector.name", q.connector)
	add("task.id", strconv.Itoa(q.task))
	add("stage", string(f.Stage))
	add("class.name", f.Class)
	add("exception.class.name", f.Exception)
	add("exception.message", f.Message)
	add("exception.stacktrace", f.Exception+": "+f.Err.Error()+"\n")
	return headers
}

// flush waits for all letters.
func (q *Queue) flush(ctx context.Context) error {
	if err := q.client.Flush(ctx); err != nil {
		return fmt.Errorf("write to the dead letter queue %s: %w", q.topic, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return fmt.Errorf("write to the dead letter queue %s: %w", q.topic, q.err)
	}
	return nil
}

func (q *Queue) counts() (letters, failed int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.letters, q.failed
}
