package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/clientconfig"
	"barnabas/connector"
)

// This file shows and sets the offsets of sinks. They are those of the sink's consumer group, seen in the form of Connect's
// SinkUtils and under the connector's own identity.

// Fields of a sink's offsets.
const (
	fieldKafkaTopic     = "kafka_topic"
	fieldKafkaPartition = "kafka_partition"
	fieldKafkaOffset    = "kafka_offset"
)

// sinkTimeout bounds questions about a group.
const sinkTimeout = 30 * time.Second

// sinkGroup opens an admin client under the identity of a sink, and names its group.
func (w *Worker) sinkGroup(ctx context.Context, name string, written map[string]string) (admin *kadm.Client, group string, closeAll func(), err error) {
	settings, _, err := w.resolve(ctx, written)
	if err != nil {
		return nil, "", nil, err
	}
	clients, closeAll := clientconfig.Clients(w.o.File.Settings, settings, w.o.Dialer)
	client, err := clients.Open(ctx, connector.RecordAdmin)
	if err != nil {
		closeAll()
		return nil, "", nil, err
	}
	return kadm.NewClient(client), clientconfig.Group(w.o.File.Settings, settings, name), closeAll, nil
}

// sinkOffsets returns the offsets of a sink's group.
func (w *Worker) sinkOffsets(ctx context.Context, name string, written map[string]string) ([]OffsetEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	refused := func(err error) error {
		return &Error{ErrInternal, fmt.Sprintf("Failed to retrieve consumer group offsets for sink connector %s: %v", name, err)}
	}
	admin, group, closeAll, err := w.sinkGroup(ctx, name, written)
	if err != nil {
		return nil, refused(err)
	}
	defer closeAll()
	offsets, err := admin.FetchOffsets(ctx, group)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, refused(err)
	}
	entries := []OffsetEntry{}
	for _, o := range offsets.Sorted() {
		if o.At < 0 {
			continue
		}
		topic, err := json.Marshal(o.Topic)
		if err != nil {
			return nil, refused(err)
		}
		entries = append(entries, OffsetEntry{
			Partition: json.RawMessage(fmt.Sprintf(`{%q:%d,%q:%s}`, fieldKafkaPartition, o.Partition, fieldKafkaTopic, topic)),
			Offset:    json.RawMessage(fmt.Sprintf(`{%q:%d}`, fieldKafkaOffset, o.At)),
		})
	}
	return entries, nil
}

// sinkChange is what the offset of a partition is to be; nil: none.
type sinkChange struct {
	topic     string
	partition int32
	offset    *int64
}

// parseSinkOffsets is SinkUtils.parseSinkConnectorOffsets, in its words.
func parseSinkOffsets(entries []OffsetEntry) ([]sinkChange, error) {
	invalid := func(format string, args ...any) error { return &Error{ErrInvalid, fmt.Sprintf(format, args...)} }
	var changes []sinkChange
	for _, e := range entries {
		var partition, offset map[string]json.RawMessage
		if json.Unmarshal(e.Partition, &partition) != nil || partition == nil {
			return nil, invalid("The partition for a sink connector offset cannot be null or missing")
		}
		topic, hasTopic := partition[fieldKafkaTopic]
		number, hasNumber := partition[fieldKafkaPartition]
		switch {
		case !hasTopic || !hasNumber:
			return nil, invalid("The partition for a sink connector offset must contain the keys '%s' and '%s'", fieldKafkaTopic, fieldKafkaPartition)
		case string(topic) == "null":
			return nil, invalid("Kafka topic names must be valid strings and may not be null")
		case string(number) == "null":
			return nil, invalid("Kafka partitions must be valid numbers and may not be null")
		}
		p, err := strconv.ParseInt(plain(number), 10, 32)
		if err != nil {
			return nil, invalid("Failed to parse the following Kafka partition value in the provided offsets: '%s'. Partition values for sink connectors need to be integers.", plain(number))
		}
		c := sinkChange{topic: plain(topic), partition: int32(p)}
		if json.Unmarshal(e.Offset, &offset) == nil && offset != nil {
			text, has := offset[fieldKafkaOffset]
			if !has {
				return nil, invalid("The offset for a sink connector should either be null or contain the key '%s'", fieldKafkaOffset)
			}
			n, err := strconv.ParseInt(plain(text), 10, 64)
			if err != nil {
				return nil, invalid("Failed to parse the following Kafka offset value in the provided offsets: '%s'. Offset values for sink connectors need to be integers.", plain(text))
			}
			c.offset = &n
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// plain is a JSON value as Java's String.valueOf gives it.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil && strings.HasPrefix(string(raw), `"`) {
		return text
	}
	return string(raw)
}

// setSinkOffsets sets offsets of a stopped sink (KIP-875). The answer is Connect's message.
func (w *Worker) setSinkOffsets(ctx context.Context, name string, written map[string]string, entries []OffsetEntry) (string, error) {
	changes, err := parseSinkOffsets(entries)
	if err != nil {
		return "", err
	}
	err = w.changeGroup(ctx, name, written, "alter", func(ctx context.Context, admin *kadm.Client, group string) error {
		var set kadm.Offsets
		var remove kadm.TopicsSet
		for _, c := range changes {
			if c.offset == nil {
				remove.Add(c.topic, c.partition)
				continue
			}
			set.AddOffset(c.topic, c.partition, *c.offset, -1)
		}
		if len(set) > 0 {
			answer, err := admin.CommitOffsets(ctx, group, set)
			if err == nil {
				err = answer.Error()
			}
			if err != nil {
				return err
			}
		}
		if len(remove) > 0 {
			answer, err := admin.DeleteOffsets(ctx, group, remove)
			if err == nil {
				err = answer.Error()
			}
			return err
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return "The offsets for this connector have been altered successfully", nil
}

// resetSinkOffsets deletes the group of a stopped sink: it begins anew.
func (w *Worker) resetSinkOffsets(ctx context.Context, name string, written map[string]string) (string, error) {
	err := w.changeGroup(ctx, name, written, "reset", func(ctx context.Context, admin *kadm.Client, group string) error {
		answer, err := admin.DeleteGroups(ctx, group)
		if err == nil {
			err = answer.Error()
		}
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return "The offsets for this connector have been reset successfully", nil
}

// changeGroup does something to a sink's group, which must have no members.
func (w *Worker) changeGroup(ctx context.Context, name string, written map[string]string, verb string, change func(context.Context, *kadm.Client, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	admin, group, closeAll, err := w.sinkGroup(ctx, name, written)
	if err == nil {
		defer closeAll()
		err = change(ctx, admin, group)
	}
	inUse := []error{kerr.UnknownMemberID, kerr.GroupSubscribedToTopic, kerr.NonEmptyGroup}
	switch {
	case err == nil:
		return nil
	case slices.ContainsFunc(inUse, func(one error) bool { return errors.Is(err, one) }):
		return &Error{ErrInternal, fmt.Sprintf("Failed to %[2]s consumer group offsets for connector %[1]s either because its tasks haven't stopped completely yet or the connector was "+
			"resumed before the request to %[2]s its offsets could be successfully completed. If the connector is in a stopped state, this operation can be safely retried. "+
			"If it doesn't eventually succeed, the Connect cluster may need to be restarted to get rid of the zombie sink tasks.", name, verb)}
	}
	return &Error{ErrInternal, fmt.Sprintf("Failed to %s consumer group offsets for connector %s: %v", verb, name, err)}
}
