package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/connector"
)

// syncSettings gives the copies the settings of their topics (MirrorSourceConnector.syncTopicConfigs of Kafka 4.3.1).
// MirrorMaker sends all settings of all topics each time, and if one is refused, the topic gets none; here only what
// differs is sent, and what the target does not take is left out.
func (y *syncer) syncSettings(ctx context.Context) error {
	wanted, err := y.wantedSettings(ctx)
	if err != nil {
		return err
	}
	// Where the settings of the target may not be seen, all are sent.
	there, _, err := y.target.settingsOfEach(ctx, slices.Sorted(maps.Keys(wanted)))
	if err != nil {
		return err
	}
	for topic, changes := range wanted {
		if described, ok := there[topic]; ok {
			changes = due(changes, described)
		}
		if changes = y.refused.leaveOut(topic, changes); len(changes) > 0 {
			wanted[topic] = changes
		} else {
			delete(wanted, topic)
		}
	}
	failed, err := y.target.alter(ctx, wanted)
	if err != nil {
		return err
	}
	single := map[string][]change{}
	for topic, err := range failed {
		if faultOfSetting(err) {
			single[topic] = wanted[topic]
			delete(failed, topic)
		}
	}
	refused, more, err := oneByOne(single, func(some map[string][]change) (map[string]error, error) { return y.target.alter(ctx, some) })
	if err != nil {
		return err
	}
	maps.Copy(failed, more)
	y.refused.add(ctx, refused)
	return y.notAltered(ctx, failed)
}

// wantedSettings are the settings that the copies should have, by topic of the target.
func (y *syncer) wantedSettings(ctx context.Context) (map[string][]change, error) {
	settings, failed, err := y.source.settingsOfEach(ctx, slices.Sorted(maps.Keys(y.layout().copied)))
	if err != nil {
		return nil, err
	}
	const key = "sync.topic.configs at the source"
	if len(failed) > 0 {
		names := slices.Sorted(maps.Keys(failed))
		err := failed[names[0]]
		if classify(err) == passing {
			return nil, y.source.wrong("describe the settings of "+names[0], err)
		}
		y.notes.note(ctx, key, connector.Note{
			About: aboutSettings, Text: "settings of topics are not synced: " + y.source.wrong("describe the settings of "+some(names), err).Error(), Degraded: y.asked("sync.topic.configs"),
		})
	} else {
		y.notes.over(key)
	}
	all := map[string][]change{}
	for topic, described := range settings {
		changes, err := y.properties.changes(described)
		if err != nil {
			return nil, &finalError{err}
		}
		all[y.remote(topic)] = changes
	}
	return all, nil
}

// notAltered judges topics whose settings could not be altered for a reason that lies in no setting.
func (y *syncer) notAltered(ctx context.Context, failed map[string]error) error {
	var refused []string
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		switch err := failed[topic]; {
		case is(err, kerr.UnknownTopicOrPartition):
			delete(failed, topic) // deleted meanwhile
		case classify(err) == passing:
			return y.target.wrong("alter the settings of "+topic, err)
		default:
			refused = append(refused, topic)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return y.target.wrong("alter the settings of "+some(refused), failed[refused[0]])
}

// faultOfSetting says that it is for one of its settings that a topic is not created or altered: a value that the cluster
// does not take, or a policy. Those of managed clouds answer any of these.
func faultOfSetting(err error) bool {
	return is(err, kerr.InvalidConfig, kerr.PolicyViolation, kerr.InvalidRequest)
}

// refusal is a setting that a topic could not be given.
type refusal struct {
	change
	err error
}

// oneByOne tries the changes of topics singly, in each request one of each topic. It returns those that were
// refused, and topics that failed for another reason. As long as other changes of a topic have gone through, its
// refused ones are tried again: they may depend on those (local.retention.ms on retention.ms).
func oneByOne(topics map[string][]change, try func(map[string][]change) (map[string]error, error)) (refused map[string][]refusal, failed map[string]error, err error) {
	refused, failed = map[string][]refusal{}, map[string]error{}
	for pending := topics; len(pending) > 0; {
		wrong, err := oneRound(pending, failed, try)
		if err != nil {
			return nil, nil, err
		}
		next := map[string][]change{}
		for topic, changes := range pending {
			list := wrong[topic]
			switch {
			case failed[topic] != nil || len(list) == 0:
			case len(list) == len(changes):
				refused[topic] = list
			default:
				for _, r := range list {
					next[topic] = append(next[topic], r.change)
				}
			}
		}
		pending = next
	}
	return refused, failed, nil
}

// oneRound tries each change once.
func oneRound(topics map[string][]change, failed map[string]error, try func(map[string][]change) (map[string]error, error)) (map[string][]refusal, error) {
	refused := map[string][]refusal{}
	for i := 0; ; i++ {
		request := map[string][]change{}
		for topic, changes := range topics {
			if i < len(changes) && failed[topic] == nil {
				request[topic] = changes[i : i+1]
			}
		}
		if len(request) == 0 {
			return refused, nil
		}
		wrong, err := try(request)
		if err != nil {
			return nil, err
		}
		for topic, err := range wrong {
			if faultOfSetting(err) {
				refused[topic] = append(refused[topic], refusal{topics[topic][i], err})
			} else {
				failed[topic] = err
			}
		}
	}
}

// refusals remembers which settings the target has refused, so that each is asked for and told once: until
// its value changes, or the connector starts anew.
type refusals struct {
	notes *notebook

	mu     sync.Mutex
	values map[string]map[string]string // by setting, by topic of the target
}

func newRefusals(notes *notebook) *refusals {
	return &refusals{notes: notes, values: map[string]map[string]string{}}
}

// String is the value that is to be set.
func (c change) String() string {
	if c.value == nil {
		return "its default"
	}
	return *c.value
}

// leaveOut returns those of a topic's changes that have not been refused, and forgets what was refused and
// is not among them any more.
func (r *refusals) leaveOut(topic string, changes []change) (left []change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := map[string]bool{}
	for _, c := range changes {
		if value, ok := r.values[c.name][topic]; ok && value == c.String() {
			refused[c.name] = true
		} else {
			left = append(left, c)
		}
	}
	for name, topics := range r.values {
		if _, known := topics[topic]; known && !refused[name] {
			if delete(topics, topic); len(topics) == 0 {
				delete(r.values, name)
				r.notes.over("setting " + name)
			}
		}
	}
	return left
}

// add remembers refused settings by topic of the target.
func (r *refusals) add(ctx context.Context, refused map[string][]refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[string]refusal{}
	for _, topic := range slices.Sorted(maps.Keys(refused)) {
		for _, one := range refused[topic] {
			if r.values[one.name] == nil {
				r.values[one.name] = map[string]string{}
			}
			r.values[one.name][topic] = one.String()
			if _, known := last[one.name]; !known {
				last[one.name] = one
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		topics := slices.Sorted(maps.Keys(r.values[name]))
		r.notes.note(ctx, "setting "+name, connector.Note{
			About: aboutSettings, Text: fmt.Sprintf("the target does not take the setting %s=%s, it is left out on %s: %v", name, last[name], some(topics), last[name].err),
		})
	}
}
