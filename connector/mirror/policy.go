package mirror

import (
	"strings"

	"barnabas/connector/transform"
)

// Policy names topics between clusters, as Kafka's ReplicationPolicy of 4.3.1
// does. It has the two that Kafka ships: DefaultReplicationPolicy, which puts
// the source's alias before the name, and IdentityReplicationPolicy, which
// leaves names alone, heartbeats excepted.
type Policy struct {
	identity  bool
	separator string
	// internal is the separator inside the names of MirrorMaker's own topics.
	internal string
	// alias is source.cluster.alias: where IdentityReplicationPolicy says that
	// every topic comes from.
	alias string
	// chain is the connector's transforms: RegexRouter renames copies. Nil: none.
	chain *transform.Chain
}

// The names of the policies in replication.policy.class.
const (
	defaultPolicyClass  = "org.apache.kafka.connect.mirror.DefaultReplicationPolicy"
	identityPolicyClass = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
)

// policyClasses are the accepted values of replication.policy.class: Kafka's
// Java names and, ours besides, the short ones.
var policyClasses = map[string]bool{ // to: is it the identity policy
	defaultPolicyClass:          false,
	"DefaultReplicationPolicy":  false,
	identityPolicyClass:         true,
	"IdentityReplicationPolicy": true,
	"io.strimzi.kafka.connect.mirror.IdentityReplicationPolicy": true, // Strimzi's of the time before Kafka had one
}

const heartbeatsTopic = "heartbeats"

// newPolicy makes a policy. With internalSeparator MirrorMaker's own topics are
// named with separator too, otherwise with a point.
func newPolicy(identity bool, separator string, internalSeparator bool, alias string) Policy {
	p := Policy{identity: identity, separator: separator, internal: ".", alias: alias}
	if internalSeparator {
		p.internal = separator
	}
	return p
}

// FormatRemoteTopic returns what topic of the cluster alias is called on the
// target.
func (p Policy) FormatRemoteTopic(alias, topic string) string {
	return p.plan(alias, topic).Topic
}

// plan is what becomes of the records of topic, its final name included.
func (p Policy) plan(alias, topic string) transform.Plan {
	if !p.identity || looksLikeHeartbeat(topic) {
		topic = alias + p.separator + topic
	}
	return p.chain.For(topic)
}

// TopicSource returns the alias of the cluster that topic was copied from, and
// false if topic is not a copy.
func (p Policy) TopicSource(topic string) (string, bool) {
	if p.identity && !looksLikeHeartbeat(topic) {
		return p.alias, true
	}
	return prefix(topic, p.separator)
}

// prefix is the first part of topic, as Java's Pattern.split gives it: empty
// parts at the end do not count, so that "A." and "." have no prefix; an empty separator splits
// between all characters.
func prefix(topic, separator string) (string, bool) {
	if separator == "" {
		if len(topic) < 2 {
			return "", false
		}
		return topic[:1], true
	}
	first, rest, found := strings.Cut(topic, separator)
	if !found || strings.ReplaceAll(rest, separator, "") == "" {
		return "", false
	}
	return first, true
}

// UpstreamTopic returns the name of topic on the cluster that it was copied
// from, and false if topic is not a copy. With the identity policy any topic may be one,
// so it is its own upstream.
func (p Policy) UpstreamTopic(topic string) (string, bool) {
	if p.identity && !looksLikeHeartbeat(topic) {
		return topic, true
	}
	source, ok := prefix(topic, p.separator)
	if !ok {
		return "", false
	}
	return topic[len(source)+len(p.separator):], true
}

// OriginalTopic follows UpstreamTopic to the end: the name on the cluster where
// topic was written first.
func (p Policy) OriginalTopic(topic string) string {
	for {
		upstream, ok := p.UpstreamTopic(topic)
		if !ok || upstream == topic {
			return topic
		}
		topic = upstream
	}
}

// IsHeartbeatsTopic says whether topic holds heartbeats, its own or copied ones.
func (p Policy) IsHeartbeatsTopic(topic string) bool {
	return p.OriginalTopic(topic) == heartbeatsTopic
}

// IsCheckpointsTopic says whether topic holds MirrorMaker's checkpoints.
func (p Policy) IsCheckpointsTopic(topic string) bool {
	return strings.HasSuffix(topic, p.internal+"checkpoints"+p.internal+"internal")
}

// IsMM2InternalTopic says whether topic is one that MirrorMaker keeps for
// itself. Since Kafka 4.0 a name that merely ends in "internal" is not (KIP-1098).
func (p Policy) IsMM2InternalTopic(topic string) bool {
	return strings.HasPrefix(topic, "mm2") && strings.HasSuffix(topic, p.internal+"internal") || p.IsCheckpointsTopic(topic)
}

// IsInternalTopic says whether topic is never copied: MirrorMaker's own, and
// those whose name begins with "__" or ".".
func (p Policy) IsInternalTopic(topic string) bool {
	return strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, ".") || p.IsMM2InternalTopic(topic)
}

// OffsetSyncsTopic names the topic that maps offsets of this cluster to those of
// the cluster alias.
func (p Policy) OffsetSyncsTopic(alias string) string {
	return "mm2-offset-syncs" + p.internal + alias + p.internal + "internal"
}

// CheckpointsTopic names the topic with the translated group offsets of the
// cluster alias.
func (p Policy) CheckpointsTopic(alias string) string {
	return alias + p.internal + "checkpoints" + p.internal + "internal"
}

// IsCycle says whether topic came, directly or over other clusters, from the
// cluster target, so that copying it there would feed it to itself for ever. Under the
// identity policy names do not tell (MirrorSourceConnector.isCycle).
func (p Policy) IsCycle(topic, target string) bool {
	for {
		source, ok := p.TopicSource(topic)
		if !ok {
			return false
		}
		if source == target {
			return true
		}
		upstream, ok := p.UpstreamTopic(topic)
		if !ok || upstream == topic {
			return false
		}
		topic = upstream
	}
}

// passed says whether topic has been on the policy's own cluster before, by its name: it was
// copied from there, and has come back.
func (p Policy) passed(topic string) bool {
	for {
		source, ok := p.TopicSource(topic)
		if !ok || source == p.alias && !(p.identity && !looksLikeHeartbeat(topic)) {
			return ok
		}
		upstream, ok := p.UpstreamTopic(topic)
		if !ok || upstream == topic {
			return false
		}
		topic = upstream
	}
}

// looksLikeHeartbeat is what makes the identity policy give a topic a prefix.
func looksLikeHeartbeat(topic string) bool { return strings.HasSuffix(topic, heartbeatsTopic) }
