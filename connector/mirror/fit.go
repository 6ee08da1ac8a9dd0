package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/connector"
)

// fitTarget creates what is missing on the target and returns the partitions
// that it has then.
func (p *planner) fitTarget(ctx context.Context, wanted map[string]int32) (map[string]int32, error) {
	there, err := p.targetTopics(ctx, wanted)
	if err != nil {
		return nil, err
	}
	p.reserveTarget(ctx, wanted, there)
	missing, short := differences(wanted, there.topics, p.remote)
	if len(missing) == 0 && len(short) == 0 {
		return there.topics, nil
	}
	failed := map[string]error{}
	if len(missing) > 0 {
		if err := p.createTopics(ctx, missing, wanted, there.brokers, failed); err != nil {
			return nil, err
		}
	}
	if len(short) > 0 {
		notGrown, err := p.target.grow(ctx, short)
		if err != nil {
			return nil, err
		}
		maps.Copy(failed, notGrown)
		for _, topic := range slices.Sorted(maps.Keys(short)) {
			if failed[topic] == nil {
				p.Log.InfoContext(ctx, "partitions added on the target", "topic", topic, "partitions", short[topic])
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		err := failed[topic]
		if classify(err) == identity {
			return nil, p.target.refusal("create topic or partitions of "+topic, err)
		}
		if p.warn.allow("create " + topic) {
			p.Log.WarnContext(ctx, "topic is not copied: the target does not take it", "topic", topic, "err", err)
		}
	}
	after, err := p.targetTopics(ctx, wanted)
	return after.topics, err
}

// targetTopics asks the target for the topics that wanted becomes there.
func (p *planner) targetTopics(ctx context.Context, wanted map[string]int32) (view, error) {
	names := []string{}
	for topic := range wanted {
		names = append(names, p.remote(topic))
	}
	slices.Sort(names)
	if len(names) > 1000 {
		names = nil // one question for all is cheaper
	}
	v, err := p.target.metadata(ctx, names)
	if err != nil {
		return v, err
	}
	for _, topic := range slices.Sorted(maps.Keys(v.refused)) {
		return v, p.target.refusal("describe topic "+topic, v.refused[topic])
	}
	return v, nil
}

// reserveTarget drops from wanted what would land in an internal topic of the
// worker cluster.
func (p *planner) reserveTarget(ctx context.Context, wanted map[string]int32, there view) {
	if there.clusterID == "" || there.clusterID != p.Internal.ClusterID {
		return
	}
	for topic := range wanted {
		if slices.Contains(p.Internal.Topics, p.remote(topic)) {
			delete(wanted, topic)
			if !p.overlooked {
				p.overlooked = true
				p.Log.WarnContext(ctx, "topic is not copied: on the target its name is that of the workers' internal topic", "topic", topic)
			}
		}
	}
}

// createTopics creates the copies of topics.
func (p *planner) createTopics(ctx context.Context, topics []string, wanted map[string]int32, brokers int, failed map[string]error) error {
	settings, err := p.source.settings(ctx, topics)
	if err != nil {
		return err
	}
	var list []newTopic
	for _, topic := range topics {
		described, ok := settings[topic]
		if !ok {
			continue // deleted meanwhile
		}
		initial, err := p.properties.initial(described)
		if err != nil {
			return &finalError{err}
		}
		list = append(list, newTopic{p.remote(topic), wanted[topic], initial})
	}
	replicas := p.s.Int(keyReplicationFactor)
	notCreated, err := p.target.create(ctx, list, int16(replicas))
	if err != nil {
		return err
	}
	few := false
	for _, t := range list {
		switch err := notCreated[t.name]; {
		case err == nil:
			p.Log.InfoContext(ctx, "topic created on the target", "topic", t.name, "partitions", t.partitions)
		case errors.Is(err, kerr.InvalidReplicationFactor):
			few = true
		}
	}
	maps.Copy(failed, notCreated)
	return p.tooFewBrokers(few, replicas, brokers)
}

// tooFewBrokers fails the connector if the target has had too few brokers for
// a while. MirrorMaker only logs it, and nothing is ever copied.
func (p *planner) tooFewBrokers(few bool, replicas, brokers int) error {
	if !few {
		p.fewSince = time.Time{}
		return nil
	}
	err := &replicationError{replicas: replicas, brokers: brokers, alias: p.s.target}
	if p.fewSince.IsZero() {
		p.fewSince = time.Now()
	}
	if time.Since(p.fewSince) < min(brokerPatience, 10*p.watch) {
		return err
	}
	return &finalError{err}
}

// replicationError says that the target cannot hold as many replicas as asked
// for.
type replicationError struct {
	replicas, brokers int
	alias             string
}

func (e *replicationError) Error() string {
	return fmt.Sprintf("replication.factor is %d, and the target cluster %q has %d brokers: set replication.factor to %d or less",
		e.replicas, e.alias, e.brokers, e.brokers)
}

// syncSettings gives the copies the settings of their topics.
func (p *planner) syncSettings(ctx context.Context) error {
	settings, err := p.source.settings(ctx, slices.Sorted(maps.Keys(p.copied)))
	if err != nil {
		return err
	}
	all := map[string][]change{}
	for topic, described := range settings {
		changes, err := p.properties.changes(described)
		if err != nil {
			return &finalError{err}
		}
		if len(changes) > 0 {
			all[p.remote(topic)] = changes
		}
	}
	failed, err := p.target.alter(ctx, all)
	if err != nil {
		return err
	}
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		if p.warn.allow("settings of " + topic) {
			p.Log.WarnContext(ctx, "settings of a topic are not copied: the target does not take them", "topic", topic, "err", failed[topic],
				slog.String("principal", p.Clients.Principal(connector.TargetAdmin)))
		}
	}
	return nil
}
