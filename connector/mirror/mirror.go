// Package mirror copies topics between Kafka clusters: MirrorMaker 2's source
// connector, under its name, with its settings, its names for topics and its
// offsets. The connector looks at both clusters, creates what is missing on the
// target and deals the partitions out to tasks; a task copies the partitions it was dealt.
//
// A task works in sessions (session.go): it takes a producer id, shuts former owners out of the target, finds out from
// the target's own log how far the copy is, and lets package rawcopy move the batches. Until it ends it
// keeps books of that (package offsetrun). Where MirrorMaker 2 decodes and writes uncompressed, batches keep their codec.
//
// It never touches the worker's internal topics: offsets go through
// connector.Offsets, and the worker cluster's own topics are neither read nor written.
//
// Easy to get wrong: the books are read before the fence, to know whom to fence, and again behind it: until then a former
// owner may have written. And they say who writes before the first batch is sent, or the next owner would not know
// whose tail to count.
package mirror

import (
	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/transform"
)

// Names of settings that are used in more than one place.
const (
	keySourceAlias            = "source.cluster.alias"
	keyTargetAlias            = "target.cluster.alias"
	keyPolicyClass            = "replication.policy.class"
	keyPolicySeparator        = "replication.policy.separator"
	keyInternalSeparator      = "replication.policy.internal.topic.separator.enabled"
	keyTopics                 = "topics"
	keyTopicsExclude          = "topics.exclude"
	keyTopicFilterClass       = "topic.filter.class"
	keyPropertiesExclude      = "config.properties.exclude"
	keyPropertyFilterClass    = "config.property.filter.class"
	keyDefaultsFrom           = "use.defaults.from"
	keyReplicationFactor      = "replication.factor"
	keyOffsetSyncsReplication = "offset-syncs.topic.replication.factor"
	keyGroups                 = "groups"
	keyGroupsExclude          = "groups.exclude"
	keyGroupFilterClass       = "group.filter.class"
	keySyncsLocation          = "offset-syncs.topic.location"
	keyEmitSyncs              = "emit.offset-syncs.enabled"
	keyTaskGroups             = "task.assigned.groups"
	keyTaskPartitions         = "task.assigned.partitions"
	keyTaskIndex              = "task.index"
	keyTaskClass              = "task.class"
)

// Java classes named in configurations.
const (
	sourceClass         = "org.apache.kafka.connect.mirror.MirrorSourceConnector"
	sourceTaskClass     = "org.apache.kafka.connect.mirror.MirrorSourceTask"
	heartbeatClass      = "org.apache.kafka.connect.mirror.MirrorHeartbeatConnector"
	heartbeatTaskClass  = "org.apache.kafka.connect.mirror.MirrorHeartbeatTask"
	checkpointClass     = "org.apache.kafka.connect.mirror.MirrorCheckpointConnector"
	checkpointTaskClass = "org.apache.kafka.connect.mirror.MirrorCheckpointTask"
	groupFilterClass    = "org.apache.kafka.connect.mirror.DefaultGroupFilter"
	topicFilterClass    = "org.apache.kafka.connect.mirror.DefaultTopicFilter"
	propertyFilterClass = "org.apache.kafka.connect.mirror.DefaultConfigPropertyFilter"
)

// consumerLayers are the prefixes of the source consumer's settings from the
// weakest to the strongest, without "source.cluster.", which MirrorMaker restricts to what all
// clients have in common.
var consumerLayers = []string{"consumer.", "source.consumer.", "consumer.override."}

// producerLayers are those of the target producer in the connector's settings.
var producerLayers = []string{"target.cluster.", "producer.", "target.producer.", "producer.override."}

// Source returns MirrorMaker 2's source connector. The version is the one of
// Kafka that it behaves like.
func Source() connector.Plugin {
	return connector.Plugin{
		Class:   sourceClass,
		Aliases: []string{"MirrorSource", "MirrorSourceConnector"},
		Type:    connector.Source,
		Version: "4.3.1",
		Keys:    sourceKeys(),
		// As in Connect: on a source connector consumer.override.* passes every policy.
		Overrides:    []string{"producer"},
		Final:        final,
		Validate:     validateSource,
		CheckOffsets: checkSourceOffsets,
		OffsetsSet:   sourceOffsetsSet,
		OwnOffset:    ownOffset,
		Transforms:   true,
		Fences:       true,
		Extends:      extends,
		NewConnector: func() connector.Connector { return &sourceConnector{} },
		NewTask:      func() connector.Task { return &sourceTask{} },
	}
}

// sourceSettings is what connectors and tasks take from their configuration.
type sourceSettings struct {
	config.Values
	source, target string // aliases
	policy         Policy
	written        map[string]string
}

// parseSource reads what was resolved of a configuration.
func parseSource(s config.Settings) (sourceSettings, error) {
	parsed, err := parseLink(sourceKeys(), s)
	if err != nil {
		return parsed, err
	}
	chain, problems := transform.Parse(parsed.written)
	if len(problems) > 0 {
		return sourceSettings{}, problemError(problems)
	}
	parsed.policy.chain = chain
	return parsed, nil
}

// parseLink reads the configuration of a connector that has keys: what it says of the two clusters and of names
// is the same for all of MirrorMaker's.
func parseLink(keys *config.Def, s config.Settings) (sourceSettings, error) {
	values, problems := keys.Parse(s)
	if len(problems) > 0 {
		return sourceSettings{}, problemError(problems)
	}
	parsed := sourceSettings{Values: values, source: values.String(keySourceAlias), target: values.String(keyTargetAlias), written: s.Written()}
	parsed.policy = newPolicy(policyClasses[values.String(keyPolicyClass)], values.String(keyPolicySeparator),
		values.Bool(keyInternalSeparator), parsed.source)
	return parsed, nil
}

// runsReplication is the replication factor of the topic of offset runs: that of
// offset-syncs if it is written, else that of the copies.
func (s sourceSettings) runsReplication() int16 {
	if n := s.Int(keyOffsetSyncsReplication); n > 0 && s.written[keyOffsetSyncsReplication] != "" {
		return int16(n)
	}
	return int16(s.Int(keyReplicationFactor))
}
