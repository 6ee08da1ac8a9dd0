// Package mirror copies topics between Kafka clusters: MirrorMaker 2's source
// connector, under its name, with its settings, its names for topics and its
// offsets. The connector looks at both clusters, creates what is missing on the
// target and deals the partitions out to tasks; a task copies the partitions it was dealt.
//
// Where MirrorMaker 2 writes copies uncompressed unless told otherwise, they are written with lz4.
//
// It never touches the worker's internal topics: offsets go through
// connector.Offsets, and the worker cluster's own topics are neither read nor written.
//
// Easy to get wrong: an offset is saved only when everything before it has been
// acknowledged by the target, and the next part of a partition is handed to the producer only when the part before is
// acknowledged. Otherwise a refused record would be overtaken by its successors.
package mirror

import (
	"barnabas/config"
	"barnabas/connector"
)

// Names of settings that are used in more than one place.
const (
	keySourceAlias         = "source.cluster.alias"
	keyTargetAlias         = "target.cluster.alias"
	keyPolicyClass         = "replication.policy.class"
	keyPolicySeparator     = "replication.policy.separator"
	keyInternalSeparator   = "replication.policy.internal.topic.separator.enabled"
	keyTopics              = "topics"
	keyTopicsExclude       = "topics.exclude"
	keyTopicFilterClass    = "topic.filter.class"
	keyPropertiesExclude   = "config.properties.exclude"
	keyPropertyFilterClass = "config.property.filter.class"
	keyDefaultsFrom        = "use.defaults.from"
	keyReplicationFactor   = "replication.factor"
	keyTaskPartitions      = "task.assigned.partitions"
	keyTaskIndex           = "task.index"
	keyTaskClass           = "task.class"
)

// Java classes named in configurations.
const (
	sourceClass         = "org.apache.kafka.connect.mirror.MirrorSourceConnector"
	sourceTaskClass     = "org.apache.kafka.connect.mirror.MirrorSourceTask"
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
		Validate:     validateSource,
		NewConnector: func() connector.Connector { return &sourceConnector{} },
		NewTask:      func() connector.Task { return &sourceTask{} },
	}
}

// sourceSettings is what connector and tasks take from their configuration.
type sourceSettings struct {
	config.Values
	source, target string // aliases
	policy         Policy
}

// parseSource reads what was resolved of a configuration.
func parseSource(s config.Settings) (sourceSettings, error) {
	values, problems := sourceKeys().Parse(s)
	if len(problems) > 0 {
		return sourceSettings{}, problemError(problems)
	}
	parsed := sourceSettings{Values: values, source: values.String(keySourceAlias), target: values.String(keyTargetAlias)}
	parsed.policy = newPolicy(policyClasses[values.String(keyPolicyClass)], values.String(keyPolicySeparator),
		values.Bool(keyInternalSeparator), parsed.source)
	return parsed, nil
}
