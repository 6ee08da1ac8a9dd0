package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
)

// fitTarget creates what is missing on the target and returns what it has then.
func (p *planner) fitTarget(ctx context.Context, wanted map[string]int32) (view, error) {
	there, err := p.targetTopics(ctx, wanted)
	if err != nil {
		return there, err
	}
	p.reserveTarget(ctx, wanted, there)
	p.tellWider(ctx, wanted, there)
	missing, short := differences(wanted, there.topics, p.remote)
	failed := there.refused
	missing = slices.DeleteFunc(missing, func(topic string) bool { return failed[p.remote(topic)] != nil })
	if len(missing) == 0 && len(short) == 0 {
		p.tellRefused(ctx, failed)
		return there, nil
	}
	if len(missing) > 0 {
		if err := p.createTopics(ctx, missing, wanted, there.brokers, failed); err != nil {
			return there, err
		}
	}
	if len(short) > 0 {
		notGrown, err := p.target.grow(ctx, short)
		if err != nil {
			return there, err
		}
		maps.Copy(failed, notGrown)
		for _, topic := range slices.Sorted(maps.Keys(short)) {
			if failed[topic] == nil {
				p.Log.InfoContext(ctx, "partitions added on the target", "topic", topic, "partitions", short[topic])
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		if len(failed) == len(wanted) && classify(failed[topic]) == identity && len(there.topics) == 0 {
			return there, p.target.refusal("create topic or partitions of "+topic, failed[topic]) // nothing can be copied at all
		}
	}
	p.tellRefused(ctx, failed)
	return p.made(ctx, wanted, failed)
}

// tellRefused notes what the target does not take, by its topics. The others go on, and it is tried again.
func (p *planner) tellRefused(ctx context.Context, failed map[string]error) {
	for topic, err := range failed {
		if classify(err) == identity {
			err = p.target.refusal("look up, create or enlarge it", err)
		}
		p.untaken[topic] = true
		p.notes.note(ctx, aboutTarget+topic, connector.Note{
			About: aboutTarget, Topic: topic, Degraded: true, Text: fmt.Sprintf("%s is not copied, or not all of its partitions: the target does not take it: %v", topic, err),
		})
	}
	for topic := range p.untaken {
		if failed[topic] == nil {
			delete(p.untaken, topic)
			p.notes.over(aboutTarget + topic)
		}
	}
}

// made returns what the target has once it shows what was made: the broker that answers may hear of it
// a moment later. What is not there after about a second waits for the next look.
func (p *planner) made(ctx context.Context, wanted map[string]int32, failed map[string]error) (view, error) {
	for attempt := 1; ; attempt++ {
		there, err := p.targetTopics(ctx, wanted)
		if err != nil {
			return there, err
		}
		missing, short := differences(wanted, there.topics, p.remote)
		missing = slices.DeleteFunc(missing, func(topic string) bool { return failed[p.remote(topic)] != nil })
		maps.DeleteFunc(short, func(topic string, _ int32) bool { return failed[topic] != nil })
		if len(missing)+len(short) == 0 || attempt > 6 {
			return there, nil
		}
		if err := sleep(ctx, backoff(attempt, 20*time.Millisecond, 320*time.Millisecond)); err != nil {
			return there, err
		}
	}
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
		if len(v.refused) == len(wanted) {
			return v, p.target.refusal("describe topic "+topic, v.refused[topic])
		}
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

// tellWider says, once of each, which copies have more partitions than their topics. They keep them: Kafka takes none
// back, and the partitions beyond stay empty.
func (p *planner) tellWider(ctx context.Context, wanted map[string]int32, there view) {
	for _, topic := range slices.Sorted(maps.Keys(wanted)) {
		have := there.topics[p.remote(topic)]
		if have <= wanted[topic] {
			delete(p.wider, topic)
		} else if !p.wider[topic] {
			p.wider[topic] = true
			p.Log.InfoContext(ctx, "the copy of a topic has more partitions than the topic: those beyond stay empty", "topic", topic, "partitions", wanted[topic],
				"copy", p.remote(topic), "there", have)
		}
	}
}

// createTopics creates the copies of topics.
func (p *planner) createTopics(ctx context.Context, topics []string, wanted map[string]int32, brokers int, failed map[string]error) error {
	settings, unseen, err := p.source.settingsOfEach(ctx, topics)
	if err != nil {
		return err
	}
	var list []newTopic
	for _, topic := range topics {
		if err := unseen[topic]; err != nil {
			if err = p.source.wrong("describe the settings of "+topic, err); len(unseen) == len(wanted) || classify(err) == passing {
				return err
			}
			failed[p.remote(topic)] = &finalError{err} // not the target's refusal
			continue
		}
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
	notCreated, err := p.createAsTaken(ctx, list, int16(replicas))
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

// createAsTaken creates topics. One that the target does not take for some of its settings is created without
// these: MirrorMaker does not create it, and never copies it.
func (p *planner) createAsTaken(ctx context.Context, list []newTopic, replicas int16) (failed map[string]error, err error) {
	failed, err = p.target.create(ctx, list, replicas)
	if err != nil {
		return nil, err
	}
	topics, single := map[string]newTopic{}, map[string][]change{}
	for _, t := range list {
		if faultOfSetting(failed[t.name]) && len(t.settings) > 0 {
			topics[t.name] = t
			for _, name := range slices.Sorted(maps.Keys(t.settings)) {
				value := t.settings[name]
				single[t.name] = append(single[t.name], change{name, &value})
			}
		}
	}
	if len(topics) == 0 {
		return failed, nil
	}
	return failed, p.createWithout(ctx, topics, single, replicas, failed)
}

// createWithout creates topics, whose failure is in failed, without those of their settings that the target refuses.
func (p *planner) createWithout(ctx context.Context, topics map[string]newTopic, settings map[string][]change, replicas int16, failed map[string]error) error {
	refused, other, err := oneByOne(settings, func(some map[string][]change) (map[string]error, error) {
		return p.target.wouldCreate(ctx, with(topics, some), replicas)
	})
	if err != nil {
		return err
	}
	maps.Copy(failed, other)
	again := map[string][]change{}
	for name, changes := range settings {
		if other[name] == nil {
			again[name] = slices.DeleteFunc(changes, func(c change) bool {
				return slices.ContainsFunc(refused[name], func(r refusal) bool { return r.name == c.name })
			})
		}
	}
	// What is taken singly may be refused together: then the sync of settings finds out how far it can go.
	for len(again) > 0 {
		still, err := p.target.create(ctx, with(topics, again), replicas)
		if err != nil {
			return err
		}
		next := map[string][]change{}
		for name, changes := range again {
			delete(failed, name)
			switch err := still[name]; {
			case err == nil:
			case faultOfSetting(err) && len(changes) > 0:
				next[name] = nil
			default: // it is not for the settings
				failed[name] = err
				delete(refused, name)
			}
		}
		again = next
	}
	p.refused.add(ctx, refused)
	return nil
}

// with gives topics these settings.
func with(topics map[string]newTopic, settings map[string][]change) []newTopic {
	var list []newTopic
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		t := topics[name]
		t.settings = map[string]string{}
		for _, c := range settings[name] {
			t.settings[c.name] = *c.value
		}
		list = append(list, t)
	}
	return list
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

// makeBooks creates what the tasks write to besides the copies: the offset runs,
// the dead letter queue. Without the right to create them tasks do without, or fail with the reason.
func (p *planner) makeBooks(ctx context.Context) error {
	if p.kept {
		return nil
	}
	runs := offsetrun.TopicOptions{
		Name: offsetrun.TopicName(p.s.source, p.s.policy.internal), Partitions: runsPartitions, ReplicationFactor: p.s.runsReplication(),
	}
	bounded, cancel := context.WithTimeout(ctx, p.target.timeout)
	defer cancel()
	_, err := offsetrun.Ensure(bounded, p.target.client, runs)
	if err == nil {
		err = p.makeDeadLetters(bounded)
	}
	if err == nil {
		err = p.makeOffsets(bounded)
	}
	if err != nil && classify(err) == passing && !is(err, kerr.InvalidReplicationFactor) {
		return p.target.wrong("create topics for offsets and errors", err)
	}
	if p.kept = true; err != nil {
		p.Log.WarnContext(ctx, "topics for offsets and errors cannot be created: the copy is at least once", "err", err,
			slog.String("principal", p.Clients.Principal(connector.TargetAdmin)))
	}
	return nil
}

// makeOffsets creates the topic for source offsets of transactional tasks, with as
// many partitions as Kafka Connect gives it.
func (p *planner) makeOffsets(ctx context.Context) error {
	const partitions = 25
	if p.OffsetsTopic == "" {
		return nil
	}
	v, err := p.target.metadata(ctx, []string{})
	if err != nil || sharesOffsets(p.Internal, v.clusterID, p.OffsetsTopic) {
		return err
	}
	compact := map[string]string{"cleanup.policy": "compact"}
	failed, err := p.target.create(ctx, []newTopic{{p.OffsetsTopic, partitions, compact}}, p.s.runsReplication())
	if err == nil {
		err = failed[p.OffsetsTopic]
	}
	return err
}

// makeDeadLetters creates the topic for pointers to records that the target
// refuses.
func (p *planner) makeDeadLetters(ctx context.Context) error {
	name := p.Settings[keyDeadLetters].Written
	if name == "" {
		return nil
	}
	replicas := p.s.runsReplication()
	if written := p.Settings["errors.deadletterqueue.topic.replication.factor"].Written; written != "" {
		n, err := strconv.ParseInt(written, 10, 16)
		if err != nil {
			return &finalError{fmt.Errorf("errors.deadletterqueue.topic.replication.factor: %q is no number", written)}
		}
		replicas = int16(n)
	}
	failed, err := p.target.create(ctx, []newTopic{{name, 1, nil}}, replicas)
	if err == nil {
		err = failed[name]
	}
	return err
}
