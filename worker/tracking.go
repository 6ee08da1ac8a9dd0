package worker

import (
	"context"
	"time"

	"barnabas/worker/herder"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// This file tracks which topics connectors use (KIP-558): records of the status topic, one for each connector and topic, written when
// the first record is written to it, and again when that has been reset and one more is written.

// wrote is called when a run has written to a topic.
func (w *Worker) wrote(r task.Run, topic string) {
	if !w.o.File.TopicTracking || w.topics.statuses.UsesTopic(r.Connector, topic) {
		return
	}
	w.writer.put(store.TopicStatus{Topic: topic, Connector: r.Connector, Task: r.Task, Discovered: time.Now().UnixMilli()}.Entry())
}

// ActiveTopics returns the topics that a connector has written to since they were reset. As in Kafka Connect, a connector
// that is not there has none.
func (w *Worker) ActiveTopics(ctx context.Context, name string) ([]string, error) {
	if !w.o.File.TopicTracking {
		return nil, &Error{ErrForbidden, "Topic tracking is disabled."}
	}
	used, err := w.trackedTopics(ctx, name)
	if err != nil {
		return nil, err
	}
	topics := make([]string, len(used))
	for i, t := range used {
		topics[i] = t.Topic
	}
	return topics, nil
}

func (w *Worker) trackedTopics(ctx context.Context, name string) ([]store.TopicStatus, error) {
	if err := w.read(ctx, func(*herder.Machine) error { return nil }); err != nil {
		return nil, err
	}
	if err := w.topics.status.ReadToEnd(ctx); err != nil {
		return nil, &Error{ErrUnavailable, "The status topic cannot be read to its end: " + err.Error()}
	}
	return w.topics.statuses.Topics(name), nil
}

// ResetTopics forgets which topics a connector has written to. It returns when that can be seen.
func (w *Worker) ResetTopics(ctx context.Context, name string) error {
	switch {
	case !w.o.File.TopicTracking:
		return &Error{ErrForbidden, "Topic tracking is disabled."}
	case !w.o.File.TopicTrackingReset:
		return &Error{ErrForbidden, "Topic tracking reset is disabled."}
	}
	used, err := w.trackedTopics(ctx, name)
	if err != nil || len(used) == 0 {
		return err
	}
	entries := make([]store.Entry, len(used))
	for i, t := range used {
		entries[i] = store.TopicStatus{Topic: t.Topic, Connector: name, Deleted: true}.Entry()
	}
	if err := w.topics.statusAppender.Append(ctx, entries); err != nil {
		return &Error{ErrUnavailable, "The status topic cannot be written: " + err.Error()}
	}
	_, err = w.trackedTopics(ctx, name)
	return err
}
