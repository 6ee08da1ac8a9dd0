// Package creation says how the topics of source connectors are made: topic.creation.* (KIP-158), as SourceConnectorConfig,
// TopicCreationConfig and TopicCreationGroup of Kafka Connect 4.3.1 read them.
//
// Easy to get wrong: of the groups that a topic matches the first counts, and what it does not say of partitions and
// replication the default group says; of other settings nothing is taken over. What stands below topic.creation.NAME of a
// group that is not listed counts for nothing.
package creation

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/connector/javaregex"
)

// Prefix begins all settings.
const Prefix = "topic.creation."

// Topic is how a topic is made.
type Topic struct {
	Partitions  int32 // -1: as the brokers make them
	Replication int16 // likewise
	Configs     map[string]*string
}

// Groups are the groups of a connector, in their order, the default group last. The nil Groups makes no topics: it is
// left to the brokers.
type Groups struct{ all []group }

type group struct {
	Topic
	include, exclude *javaregex.Regex // nil: nothing
}

// Written says whether a connector has settings of topics, right or wrong.
func Written[V any](settings map[string]V) bool {
	for key := range settings {
		if strings.HasPrefix(key, Prefix) {
			return true
		}
	}
	return false
}

// Parse reads a connector's settings; nil without any. The error is Connect's.
func Parse(settings config.Settings) (*Groups, error) {
	if !Written(settings) {
		return nil, nil
	}
	listed, _ := config.NewDef(config.Key{Name: Prefix + "groups", Type: config.List, Default: new("")}).Parse(settings)
	names := slices.DeleteFunc(listed.List(Prefix+"groups"), func(name string) bool { return name == "default" }) // it always is there
	basic, err := parse(settings, "default", nil)
	if err != nil {
		return nil, err
	}
	var g Groups
	for _, name := range names {
		next, err := parse(settings, name, &basic.Topic)
		if err != nil {
			return nil, err
		}
		g.all = append(g.all, next)
	}
	g.all = append(g.all, basic)
	return &g, nil
}

// parse reads one group. basic is nil for the default group, which has every topic.
func parse(settings config.Settings, name string, basic *Topic) (group, error) {
	prefix := Prefix + name + "."
	number := func(key string, kind config.Type, otherwise func(*Topic) int, detail string) config.Key {
		k := config.Key{Name: prefix + key, Type: kind, Required: basic == nil, Checks: []config.Check{func(v config.Value) string {
			if n, ok := v.Number(); ok && n != -1 && n < 1 {
				v.Name = key // as Connect, whose check does not know the prefix
				return v.Invalid(detail)
			}
			return ""
		}}}
		if basic != nil {
			k.Default = new(fmt.Sprint(otherwise(basic)))
		}
		return k
	}
	const include, exclude, factor, partitions = "include", "exclude", "replication.factor", "partitions"
	def := config.NewDef(
		config.Key{Name: prefix + include, Type: config.List, Default: new("")}, config.Key{Name: prefix + exclude, Type: config.List, Default: new("")},
		number(factor, config.Short, func(t *Topic) int { return int(t.Replication) },
			"Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or -1 to use the broker's default"),
		number(partitions, config.Int, func(t *Topic) int { return int(t.Partitions) }, "Number of partitions must be positive, or -1 to use the broker's default"),
	)
	values, problems := def.Parse(settings)
	if len(problems) > 0 {
		return group{}, errors.New(problems[0].Message)
	}
	g := group{Topic: Topic{Partitions: int32(values.Int(prefix + partitions)), Replication: int16(values.Int(prefix + factor)), Configs: map[string]*string{}}}
	var err error
	if basic != nil { // Connect does not look at those of the default group
		if g.include, err = compile(include, values.List(prefix+include)); err == nil {
			g.exclude, err = compile(exclude, values.List(prefix+exclude))
		}
	}
	if err != nil {
		return group{}, err
	}
	for key, s := range settings.Sub(prefix) {
		if _, known := def.Key(prefix + key); !known {
			v, _ := config.NewDef(config.Key{Name: key}).Parse(config.Settings{key: s})
			g.Configs[key] = new(v.String(key))
		}
	}
	return g, nil
}

// compile makes one pattern of a list, as TopicCreationGroup does.
func compile(key string, patterns []string) (*javaregex.Regex, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	regex, err := javaregex.Compile(strings.Join(patterns, "|"))
	if err != nil {
		detail := err.Error()
		if inner := errors.Unwrap(err); inner != nil {
			detail = inner.Error()
		}
		return nil, fmt.Errorf("Invalid value [%s] for configuration %s: Syntax error in regular expression: %s",
			strings.Join(patterns, ", "), key, strings.ToUpper(detail[:1])+detail[1:]) // as Java writes it
	}
	return regex, nil
}

// For says how a topic is made.
func (g *Groups) For(topic string) (Topic, error) {
	for i, candidate := range g.all {
		if i == len(g.all)-1 {
			return candidate.Topic, nil
		}
		included, err := match(candidate.include, topic)
		if err != nil {
			return Topic{}, err
		}
		excluded, err := match(candidate.exclude, topic)
		if err != nil {
			return Topic{}, err
		}
		if included && !excluded {
			return candidate.Topic, nil
		}
	}
	return Topic{}, errors.New("no groups of topics")
}

func match(r *javaregex.Regex, topic string) (bool, error) {
	if r == nil {
		return false, nil
	}
	return r.Match(topic)
}
