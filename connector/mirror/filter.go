package mirror

import (
	"fmt"
	"strings"

	"barnabas/connector/javaregex"
)

// patterns is a comma list of Java regexes, of which a name must match one as a
// whole (MirrorUtils.compilePatternList). No pattern matches nothing.
type patterns struct {
	key string // whose value it is, for errors
	any *javaregex.Regex
}

// newPatterns compiles list, the value of key. As in Kafka the list is joined
// to one regex, so that an inline flag also acts on what follows it.
func newPatterns(key string, list []string) (patterns, error) {
	p := patterns{key: key}
	if len(list) == 0 {
		return p, nil
	}
	m, err := javaregex.Compile(strings.Join(list, "|"))
	if err != nil {
		return p, fmt.Errorf("%s: %w", key, err)
	}
	p.any = m
	return p, nil
}

// match says whether name matches one of the patterns.
func (p patterns) match(name string) (bool, error) {
	if p.any == nil {
		return false, nil
	}
	ok, err := p.any.Match(name)
	if err != nil {
		return false, fmt.Errorf("%s: matching %q: %w", p.key, name, err)
	}
	return ok, nil
}

// TopicFilter decides which topics of the source are copied, as
// MirrorSourceConnector.shouldReplicateTopic and DefaultTopicFilter do.
type TopicFilter struct {
	include, exclude patterns
	policy           Policy
	target           string // target.cluster.alias
	heartbeats       bool   // copy heartbeats topics whatever the patterns say
	// reserved are topics that are never read, whatever the patterns say: the
	// worker cluster's own, if the source is that cluster.
	reserved map[string]bool
}

// Copies says whether topic of the source is copied. The error is that of a
// regex that takes too long.
func (f TopicFilter) Copies(topic string) (bool, error) {
	if f.policy.IsInternalTopic(topic) || f.reserved[topic] || f.policy.IsCycle(topic, f.target) {
		return false, nil
	}
	if f.policy.IsHeartbeatsTopic(topic) {
		// Two opposite links that call the same clusters by different names do not see the circle in IsCycle, and
		// MirrorMaker makes topics of ever longer names.
		if f.policy.passed(topic) {
			return false, nil
		}
		if f.heartbeats {
			return true, nil
		}
	}
	included, err := f.include.match(topic)
	if err != nil || !included {
		return false, err
	}
	excluded, err := f.exclude.match(topic)
	return !excluded, err
}
