package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// choose lists the topics to compare.
func (v *verification) choose(ctx context.Context, settings sourceSettings) ([]string, error) {
	if len(v.o.Topics) > 0 {
		return v.o.Topics, nil
	}
	filter, err := verifyFilter(settings)
	if err != nil {
		return nil, err
	}
	all, err := kadm.NewClient(v.source.client).ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the source's topics: %w", err)
	}
	var topics []string
	for _, topic := range all.Names() {
		copied, err := filter.Copies(topic)
		if err != nil {
			return nil, err
		}
		if copied {
			topics = append(topics, topic)
		}
	}
	if len(topics) == 0 {
		return nil, errors.New("the mirror's settings match no topic of the source that this client may see")
	}
	return topics, nil
}

// plan finds the partitions to compare. The end of the source is read before
// that of the target, so that what was copied by then is there.
func (v *verification) plan(ctx context.Context, settings sourceSettings) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	topics, err := v.choose(ctx, settings)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, topic := range topics {
		names[topic] = settings.policy.FormatRemoteTopic(settings.source, topic)
	}
	for _, topic := range topics {
		if v.sampling() && v.source.transformOf(topic) != nil {
			return fmt.Errorf("the records of %s are transformed: what of them is in a sample cannot be looked up in the copy, so verify it whole", topic)
		}
	}
	copies := slices.Sorted(maps.Values(names))
	source, target := kadm.NewClient(v.source.client), kadm.NewClient(v.target.client)
	ends := source.ListEndOffsets
	if v.source.committed {
		ends = source.ListCommittedOffsets
	}
	var offsets [4]kadm.ListedOffsets
	for i, step := range []struct {
		doing  string
		list   func(context.Context, ...string) (kadm.ListedOffsets, error)
		topics []string
	}{
		{"read the source's first offsets", source.ListStartOffsets, topics},
		{"read the source's end offsets", ends, topics},
		{"read the target's first offsets", target.ListStartOffsets, copies},
		{"read the target's end offsets", target.ListCommittedOffsets, copies},
	} {
		if offsets[i], err = step.list(ctx, step.topics...); err != nil {
			return fmt.Errorf("%s: %w", step.doing, err)
		}
		if err := offsets[i].Error(); err != nil && i < 2 {
			return fmt.Errorf("%s: %w", step.doing, err)
		}
	}
	compacted := [2]map[string]bool{compactedTopics(ctx, source, topics), compactedTopics(ctx, target, copies)}
	for _, end := range offsets[1].Offsets().Sorted() {
		v.add(partition{end.Topic, end.Partition}, names[end.Topic], offsets, compacted)
	}
	for topic, remote := range names { // records in partitions that the source does not have are foreign
		for id := range offsets[3][remote] {
			if _, ok := offsets[1].Lookup(topic, id); !ok && id >= 0 {
				v.add(partition{topic, id}, remote, offsets, compacted)
			}
		}
	}
	slices.SortFunc(v.pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id))
	})
	if err := v.source.locate(ctx, topics); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return wrap("target", v.target.locate(ctx, copies))
}

// add adds a pair to the plan: the offsets are those of the source's starts and ends, and of the target's.
func (v *verification) add(at partition, remote string, offsets [4]kadm.ListedOffsets, compacted [2]map[string]bool) {
	p := pair{partition: at, copy: remote, compacted: compacted[0][at.topic] || compacted[1][remote]}
	for i, to := range []*int64{&p.sourceStart, &p.sourceEnd, &p.targetStart, &p.targetEnd} {
		topic := at.topic
		if i >= 2 {
			topic = remote
		}
		if o, ok := offsets[i].Lookup(topic, at.id); ok && o.Err == nil {
			*to = max(0, o.Offset)
		}
	}
	if p.sourceEnd == 0 && p.targetEnd == p.targetStart {
		if _, ok := offsets[1].Lookup(at.topic, at.id); !ok {
			return // nothing but a partition more on the target
		}
	}
	v.total += p.offsets()
	p.share = &share{v: v, left: p.offsets()}
	v.pairs = append(v.pairs, p)
}

// verifyFilter picks the topics that the mirror copies.
func verifyFilter(s sourceSettings) (TopicFilter, error) {
	include, err := newPatterns(keyTopics, s.List(keyTopics))
	if err != nil {
		return TopicFilter{}, err
	}
	exclude, err := newPatterns(keyTopicsExclude, s.List(keyTopicsExclude))
	return TopicFilter{
		include: include, exclude: exclude, policy: s.policy, target: s.target, heartbeats: s.Bool("heartbeats.replication.enabled"),
	}, err
}

// compactedTopics says which topics have cleanup.policy compact. It takes the right to describe their settings; without
// it compaction is noticed by the holes that it leaves.
func compactedTopics(ctx context.Context, client *kadm.Client, topics []string) map[string]bool {
	compacted := map[string]bool{}
	described, err := client.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return compacted
	}
	for _, topic := range described {
		for _, s := range topic.Configs {
			if topic.Err == nil && s.Key == "cleanup.policy" && strings.Contains(s.MaybeValue(), "compact") {
				compacted[topic.Name] = true
			}
		}
	}
	return compacted
}
