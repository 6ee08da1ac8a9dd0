package offsetrun

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is the topic as Ensure found or made it.
type Topic struct {
	Name       string
	ID         [16]byte
	Partitions int32
}

// TopicOptions says how to make the topic.
type TopicOptions struct {
	Name string
	// Partitions and ReplicationFactor count only when it is created. -1 leaves the
	// factor to the broker; 0 partitions are 1.
	Partitions        int32
	ReplicationFactor int16
}

// settings keep the part that is not compacted yet small: it is read at every take-over.
var settings = map[string]*string{
	"cleanup.policy":            kadm.StringPtr("compact"),
	"segment.bytes":             kadm.StringPtr("8388608"),
	"min.cleanable.dirty.ratio": kadm.StringPtr("0.1"),
}

// Ensure creates the topic if it is missing and waits until the brokers know it; ctx bounds it, or 30 s. A
// topic that is there must be compacted (which is not checked where the right to look is missing):
// retention would delete what is known of partitions that rest.
func Ensure(ctx context.Context, client *kgo.Client, o TopicOptions) (Topic, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	admin := kadm.NewClient(client)
	tried, created := false, false // to create it
	for {
		t, err := describe(ctx, client, o.Name)
		switch {
		case err == nil && !slices.ContainsFunc(t.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Leader < 0 }):
			if !created {
				err = compacted(ctx, admin, o.Name)
			}
			if err == nil {
				return Topic{o.Name, t.TopicID, int32(len(t.Partitions))}, nil
			}
			if !errors.Is(err, kerr.UnknownTopicOrPartition) { // somebody else has created it this moment
				return Topic{}, err
			}
		case !tried && errors.Is(err, kerr.UnknownTopicOrPartition):
			_, err := admin.CreateTopic(ctx, max(o.Partitions, 1), o.ReplicationFactor, settings, o.Name)
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return Topic{}, fmt.Errorf("create %s: %w", o.Name, err)
			}
			tried, created = true, err == nil
		case err != nil && !passes(err):
			return Topic{}, fmt.Errorf("offset runs in %s: %w", o.Name, err)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Topic{}, fmt.Errorf("offset runs in %s: %w", o.Name, errors.Join(err, ctx.Err()))
		}
	}
}

func compacted(ctx context.Context, admin *kadm.Client, topic string) error {
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil //nolint:nilerr // no right to look; the topic may still be right
	}
	for _, r := range described {
		if errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("settings of %s: %w", topic, r.Err)
		}
		for _, c := range r.Configs {
			if c.Key == "cleanup.policy" && c.Value != nil && (!strings.Contains(*c.Value, "compact") || strings.Contains(*c.Value, "delete")) {
				return fmt.Errorf("offset runs in %s: its cleanup.policy is %s: it has to be compact, or what is known of partitions at rest is deleted", topic, *c.Value)
			}
		}
	}
	return nil
}
