package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const cleanupPolicy = "cleanup.policy"

// Topic is an internal topic as it should be.
type Topic struct {
	Name   string
	Prefix string // of the worker's settings for it: "config.storage."
	// Partitions and ReplicationFactor count only when the topic is created; -1
	// leaves them to the broker.
	Partitions        int32
	ReplicationFactor int16
	Settings          map[string]string // besides cleanup.policy, when it is created
}

// ConfigTopic is the topic of config.storage.topic: always one partition, because the order of its
// records means something.
func ConfigTopic(name string, replicationFactor int16, settings map[string]string) Topic {
	return Topic{name, "config.storage.", 1, replicationFactor, TopicSettings(settings, "config.storage.")}
}

// OffsetTopic is the topic of offset.storage.topic (Connect's default: 25 partitions).
func OffsetTopic(name string, partitions int32, replicationFactor int16, settings map[string]string) Topic {
	return Topic{name, "offset.storage.", partitions, replicationFactor, TopicSettings(settings, "offset.storage.")}
}

// StatusTopic is the topic of status.storage.topic (Connect's default: 5 partitions).
func StatusTopic(name string, partitions int32, replicationFactor int16, settings map[string]string) Topic {
	return Topic{name, "status.storage.", partitions, replicationFactor, TopicSettings(settings, "status.storage.")}
}

// TopicSettings gives the topic settings among a worker's: those that begin with prefix, without it. As in
// Connect's DistributedConfig, cleanup.policy cannot be set.
func TopicSettings(worker map[string]string, prefix string) map[string]string {
	settings := map[string]string{}
	for key, value := range worker {
		name, ok := strings.CutPrefix(key, prefix)
		if ok && !slices.Contains([]string{"topic", "partitions", "replication.factor", cleanupPolicy}, name) {
			settings[name] = value
		}
	}
	return settings
}

// EnsureOptions says how to reach the brokers and how long to try.
type EnsureOptions struct {
	Client []kgo.Opt // brokers and security
	// Timeout bounds everything. Default 60 s, Kafka's default.api.timeout.ms.
	Timeout time.Duration
}

// Ensure creates the topics that are missing, waits until they can be used, and checks those that were
// there. Several workers may do so at once. Warnings are what could not be checked.
func Ensure(ctx context.Context, o EnsureOptions, topics ...Topic) (warnings []string, err error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	// Metadata is asked for to see what has just changed, so kgo must not answer from memory.
	client, err := kgo.NewClient(append(slices.Clone(o.Client), kgo.MetadataMinAge(metadataAge))...)
	if err != nil {
		return nil, fmt.Errorf("internal topics: %w", err)
	}
	defer client.Close()
	seeds, _ := client.OptValue(kgo.SeedBrokers).([]string)
	// At once, so that a topic that has to wait costs the others no time.
	problems := make([]error, len(topics))
	unchecked := make([]string, len(topics))
	var all sync.WaitGroup
	for i, t := range topics {
		all.Go(func() {
			e := &ensurer{admin: kadm.NewClient(client), bootstrap: strings.Join(seeds, ",")}
			if err := e.ensure(ctx, t); err != nil {
				problems[i] = fmt.Errorf("internal topic %s (%stopic): %w", t.Name, t.Prefix, err)
			}
			unchecked[i] = e.warning
		})
	}
	all.Wait()
	return slices.DeleteFunc(unchecked, func(s string) bool { return s == "" }), errors.Join(problems...)
}

// ensurer is the work on one topic.
type ensurer struct {
	admin     *kadm.Client
	bootstrap string
	warning   string
}

// metadataAge is how soon kgo may ask for metadata again. With its default of 5 s, a moved leader would
// cost a writer that long.
const metadataAge = 100 * time.Millisecond

// callTimeout bounds one request of Ensure.
const callTimeout = 10 * time.Second

// ensure tries until the topic is as it should be, something is wrong for good, or
// ctx ends.
func (e *ensurer) ensure(ctx context.Context, t Topic) error {
	created := false
	for attempt := 0; ; attempt++ {
		done, err := e.try(ctx, t, &created)
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up: %w", err)
		case <-time.After(backoff(attempt, 100*time.Millisecond, 2*time.Second)):
		}
	}
}

// try looks once, and creates the topic if it is missing. Done false means try again; err says why.
func (e *ensurer) try(ctx context.Context, t Topic, created *bool) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	meta, err := e.admin.Metadata(ctx, t.Name)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return true, fmt.Errorf("the worker's principal may not describe it: grant DESCRIBE, READ and WRITE on the topic: %w", err)
	case err != nil:
		return !retryable(err), fmt.Errorf("describe: %w", err)
	}
	detail := meta.Topics[t.Name]
	switch err := detail.Err; {
	case errors.Is(err, kerr.UnknownTopicOrPartition) && *created:
		return false, fmt.Errorf("created, but the brokers do not show it yet")
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		done, err := e.create(ctx, t, len(meta.Brokers))
		*created = err == nil
		return done, err
	case err != nil:
		return !retryable(err), fmt.Errorf("describe: %w", err)
	}
	for _, p := range detail.Partitions.Sorted() {
		if p.Err != nil || p.Leader < 0 {
			return false, fmt.Errorf("partition %d has no leader", p.Partition)
		}
	}
	if *created {
		return true, nil
	}
	return e.check(ctx, t, len(detail.Partitions))
}

func (e *ensurer) create(ctx context.Context, t Topic, brokers int) (done bool, err error) {
	configs := map[string]*string{cleanupPolicy: new("compact")}
	for name, value := range t.Settings {
		configs[name] = &value
	}
	_, err = e.admin.CreateTopic(ctx, t.Partitions, t.ReplicationFactor, configs, t.Name)
	switch {
	case err == nil:
		return false, nil // now wait until it shows
	case errors.Is(err, kerr.TopicAlreadyExists):
		// Another worker was faster. It is checked like any topic that was there.
		return false, err
	case errors.Is(err, kerr.InvalidReplicationFactor):
		// As Connect does, wait for brokers that are still starting.
		return false, fmt.Errorf("%sreplication.factor=%d needs %d brokers and %d are up: start more, or set it to %d (or -1 for the brokers' default): %w",
			t.Prefix, t.ReplicationFactor, t.ReplicationFactor, brokers, brokers, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return true, fmt.Errorf("it does not exist and the worker's principal may not create it: grant CREATE on the topic, or create it: %s: %w",
			e.creation(t, t.Name), err)
	}
	return !retryable(err), fmt.Errorf("create: %w", err)
}

// check holds an existing topic against what is needed. Connect's TopicAdmin.verifyTopicCleanupPolicyOnlyCompact
// and KafkaConfigBackingStore.start are the models.
func (e *ensurer) check(ctx context.Context, t Topic, partitions int) (done bool, err error) {
	if t.Prefix == "config.storage." && partitions != 1 {
		return true, fmt.Errorf("it has %d partitions and must have exactly 1, because the order of its records counts; partitions cannot be taken away, so set config.storage.topic to another one: %s",
			partitions, e.creation(t, t.Name+"-1"))
	}
	policies, err := e.policies(ctx, t.Name)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.UnsupportedVersion):
		e.warning = fmt.Sprintf("internal topic %s: cannot check that cleanup.policy is compact (grant DESCRIBE_CONFIGS on the topic): %v", t.Name, err)
		return true, nil
	case err != nil:
		return !retryable(err), fmt.Errorf("describe its settings: %w", err)
	case len(policies) == 0:
		e.warning = fmt.Sprintf("internal topic %s: the brokers do not say its cleanup.policy, which must be compact", t.Name)
		return true, nil
	case !slices.Equal(policies, []string{"compact"}):
		return true, fmt.Errorf("it has cleanup.policy=%s and must have compact alone, or its records will be deleted in time: kafka-configs --bootstrap-server %s --entity-type topics --entity-name %s --alter --add-config cleanup.policy=compact",
			strings.Join(policies, ","), e.bootstrap, t.Name)
	}
	return true, nil
}

// policies returns the set of cleanup policies of a topic, sorted.
func (e *ensurer) policies(ctx context.Context, topic string) ([]string, error) {
	configs, err := e.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	config, err := configs.On(topic, nil)
	if err != nil {
		return nil, err
	}
	if config.Err != nil {
		return nil, config.Err
	}
	set := map[string]bool{}
	for _, c := range config.Configs {
		if c.Key != cleanupPolicy || c.Value == nil {
			continue
		}
		for p := range strings.SplitSeq(strings.ToLower(*c.Value), ",") {
			if p = strings.TrimSpace(p); p != "" {
				set[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set)), nil
}

// creation is the command that makes the topic by hand.
func (e *ensurer) creation(t Topic, name string) string {
	command := fmt.Sprintf("kafka-topics --bootstrap-server %s --create --topic %s --config cleanup.policy=compact", e.bootstrap, name)
	if t.Partitions > 0 {
		command += fmt.Sprintf(" --partitions %d", t.Partitions)
	}
	if t.ReplicationFactor > 0 {
		command += fmt.Sprintf(" --replication-factor %d", t.ReplicationFactor)
	}
	return command
}

// retryable says whether a request that failed may succeed later: Kafka says so, or
// it was no answer of Kafka's.
func retryable(err error) bool {
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		return ke.Retriable
	}
	if _, ok := errors.AsType[*kadm.AuthError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // refused, reset: brokers that are still starting
		return true
	}
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok { // the same; or TLS against plain text, which the last error will tell
		return true
	}
	return kgo.IsRetryableBrokerErr(err) || errors.Is(err, context.DeadlineExceeded)
}

// backoff is how long to wait after the given number of failures in a row: it doubles from first up to
// limit and varies by half, so that workers do not come back all at once.
func backoff(failures int, first, limit time.Duration) time.Duration {
	d := limit
	if failures < 16 {
		d = min(limit, first<<failures)
	}
	return d/2 + rand.N(d)
}
