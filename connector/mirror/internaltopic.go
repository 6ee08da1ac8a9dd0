package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// keptTopic is a topic that a connector keeps for itself: one partition, compacted
// (MirrorUtils.createSinglePartitionCompactedTopic).
type keptTopic struct {
	name     string
	replicas int16
	key      string // where the number of replicas comes from, for errors
}

// ensure creates the topic if it is missing. Without the right to create it, it is enough that it is there;
// MirrorMaker does not look, and its task then fails for another reason.
func (t keptTopic) ensure(ctx context.Context, c *cluster, log *slog.Logger) error {
	seen, err := c.metadata(ctx, []string{t.name})
	if err != nil || seen.topics[t.name] > 0 {
		return err
	}
	failed, err := c.create(ctx, []newTopic{{t.name, 1, map[string]string{"cleanup.policy": "compact"}}}, t.replicas)
	if err == nil {
		err = failed[t.name]
	}
	switch {
	case err == nil:
		log.InfoContext(ctx, "topic created on the "+c.side.cluster, "topic", t.name, "partitions", 1)
		return nil
	case classify(err) == identity:
		if refused := seen.refused[t.name]; refused != nil {
			return c.refusal("describe topic "+t.name, refused)
		}
		return c.refusal("create topic "+t.name, err)
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return &fewBrokersError{topic: t, brokers: seen.brokers, cluster: c}
	}
	return c.wrong("create topic "+t.name, err)
}

// fewBrokersError says that a cluster cannot hold as many replicas as asked for.
type fewBrokersError struct {
	topic   keptTopic
	brokers int
	cluster *cluster
}

func (e *fewBrokersError) Error() string {
	return fmt.Sprintf("create topic %s: %s is %d, and the %s cluster %q has %d brokers: set it to %d or less",
		e.topic.name, e.topic.key, e.topic.replicas, e.cluster.side.cluster, e.cluster.alias, e.brokers, e.brokers)
}

// steady does one thing after the other, each again until it succeeds or fails for good.
type steady struct {
	log  *slog.Logger
	warn *throttle
	// trying is called, if it is not nil, when something is tried again: whoever waits knows that we are up.
	trying func()
	first  time.Duration // pause after the first failure
	since  time.Time     // of the first of failures in a row for too few brokers
}

// do does it. It returns nil if ctx ended.
func (s *steady) do(ctx context.Context, doing string, it func() error) error {
	for failures := 1; ; failures++ {
		err := it()
		if err == nil || ctx.Err() != nil {
			s.since = time.Time{}
			return nil
		}
		var few *fewBrokersError
		switch {
		case errors.As(err, &few):
			if s.since.IsZero() {
				s.since = time.Now()
			}
			if time.Since(s.since) >= min(brokerPatience, 100*s.first) {
				return &finalError{err}
			}
		case classify(err) != passing:
			return err
		}
		if s.trying != nil {
			s.trying()
		}
		if s.warn.allow(doing) {
			s.log.WarnContext(ctx, "waiting to "+doing, "err", err)
		}
		if sleep(ctx, backoff(failures, s.first, longestWait)) != nil {
			return nil
		}
	}
}

// toPartitions makes a producer write each record to the partition that it names.
func toPartitions() kgo.Opt { return kgo.RecordPartitioner(kgo.ManualPartitioner()) }

// produce writes records and waits until all are acknowledged.
func (c *cluster) produce(ctx context.Context, doing string, records []*kgo.Record) error {
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	if err := c.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return c.wrong(doing, err)
	}
	return nil
}
