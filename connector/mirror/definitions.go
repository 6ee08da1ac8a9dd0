package mirror

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
)

// recordedSource is what Kafka Connect 4.3.1 answers to the validation of a
// MirrorSourceConnector, without values: names, types, defaults, documentation.
//
//go:embed mirrorsource.json
var recordedSource []byte

// sourceKeys defines the settings of the source connector, the common ones of
// every source connector included.
var sourceKeys = sync.OnceValue(func() *config.Def { return define(recordedSource) })

// define makes the definitions out of a recorded answer and the validators of the keys that it has.
func define(recorded []byte) *config.Def {
	d, err := config.DefFromInfos(recorded)
	if err != nil {
		panic(fmt.Sprintf("mirror: embedded definitions: %v", err))
	}
	for name, check := range sourceChecks {
		if _, ok := d.Key(name); ok {
			d.Check(name, check)
		}
	}
	return d
}

// sourceChecks are Kafka's validators, which a recorded answer does not show
// (ConnectorConfig, SourceConnectorConfig, MirrorConnectorConfig, MirrorSourceConfig, MirrorCheckpointConfig).
var sourceChecks = map[string]config.Check{
	"name":                                         config.NonEmptyWithoutControlChars,
	"tasks.max":                                    config.AtLeast(1),
	"transforms":                                   config.Aliases,
	"predicates":                                   config.Aliases,
	"topic.creation.groups":                        config.Aliases,
	"config.action.reload":                         config.OneOf("none", "restart"),
	"errors.tolerance":                             config.OneOf("none", "all"),
	"exactly.once.support":                         config.OneOfFold("REQUIRED", "REQUESTED"),
	"transaction.boundary":                         config.OneOfFold("INTERVAL", "POLL", "CONNECTOR"),
	"transaction.boundary.interval.ms":             config.OrNull(config.AtLeast(0)),
	"offsets.storage.topic":                        config.NonEmpty,
	keyPolicyClass:                                 oneOfClasses(slices.Sorted(maps.Keys(policyClasses))...),
	keyTopicFilterClass:                            oneOfClasses(topicFilterClass, "DefaultTopicFilter"),
	keyPropertyFilterClass:                         oneOfClasses(propertyFilterClass, "DefaultConfigPropertyFilter"),
	"metric.reporters":                             config.Items(true, false),
	"security.protocol":                            config.OneOfFold("SASL_SSL", "PLAINTEXT", "SSL", "SASL_PLAINTEXT"),
	"config.providers":                             config.Items(true, false),
	"ssl.cipher.suites":                            config.Items(true, false),
	"ssl.enabled.protocols":                        config.Items(true, false),
	keyTopics:                                      config.Items(true, false),
	keyTopicsExclude:                               config.Items(true, false),
	keyPropertiesExclude:                           config.Items(true, false),
	keyGroups:                                      config.Items(true, false),
	keyGroupsExclude:                               config.Items(true, false),
	keyGroupFilterClass:                            oneOfClasses(groupFilterClass, "DefaultGroupFilter"),
	"offset-syncs.topic.location":                  config.OneOf("source", "target"),
	"metric.names.formats":                         config.ItemsOf(false, "legacy", "new"),
	"sasl.oauthbearer.assertion.algorithm":         config.OneOfFold("ES256", "RS256"),
	"sasl.login.refresh.window.factor":             config.Between(0.5, 1.0),
	"sasl.login.refresh.window.jitter":             config.Between(0.0, 0.25),
	"sasl.login.refresh.min.period.seconds":        config.Between(0, 900),
	"sasl.login.refresh.buffer.seconds":            config.Between(0, 3600),
	"sasl.oauthbearer.assertion.claim.exp.seconds": config.Between(0, 86400),
	"sasl.oauthbearer.assertion.claim.nbf.seconds": config.Between(0, 3600),
	"sasl.oauthbearer.expected.audience":           config.Items(true, false),
}

// oneOfClasses refuses a class that is not here in the words in which Kafka
// refuses one that is not on its class path.
func oneOfClasses(classes ...string) config.Check {
	return func(v config.Value) string {
		if v.Null() || slices.Contains(classes, v.Text()) {
			return ""
		}
		return v.Invalid("Class " + v.Shown() + " could not be found.")
	}
}

// validateSource reports what single keys cannot
// (MirrorSourceConnector.validate), and regexes that cannot be used, which Kafka reports only
// by a connector that fails.
func validateSource(written map[string]string) []config.Problem {
	var problems []config.Problem
	add := func(key, message string) {
		problems = append(problems, config.Problem{Key: key, Message: message})
	}
	if strings.EqualFold(written["exactly.once.support"], "required") && !readsCommitted(written) {
		add("exactly.once.support", "MirrorSourceConnector can only provide exactly-once guarantees when its source consumer is configured with "+
			"isolation.level set to 'read_committed'; otherwise, records from aborted and uncommitted transactions will be replicated from the "+
			"source cluster to the target cluster.")
	}
	if written["emit.offset-syncs.enabled"] == "false" && slices.ContainsFunc(slices.Collect(maps.Keys(written)), func(key string) bool {
		return strings.HasPrefix(key, "offset-syncs-") || strings.HasPrefix(key, "offset-syncs.topic.")
	}) {
		add("emit.offset-syncs.enabled", "MirrorSourceConnector can't setup offset-syncs feature while emit.offset-syncs.enabled set to false")
	}
	values, wrong := sourceKeys().Parse(config.Literal(written))
	for _, key := range []string{keyTopics, keyTopicsExclude, keyPropertiesExclude} {
		if config.HasReference(written[key]) || slices.ContainsFunc(wrong, func(p config.Problem) bool { return p.Key == key }) {
			continue
		}
		if _, err := newPatterns(key, values.List(key)); err != nil {
			add(key, err.Error())
		}
	}
	if v := written[keyDefaultsFrom]; v != "" && v != "source" && v != "target" && !config.HasReference(v) {
		add(keyDefaultsFrom, "Invalid value "+v+" for configuration "+keyDefaultsFrom+": String must be one of: source, target")
	}
	if v := written[keyStartPosition]; v != "" && !config.HasReference(v) {
		if _, _, err := parseStart(v); err != nil {
			add(keyStartPosition, err.Error())
		}
	}
	if v := written[keyDeletionPolicy]; v != "" && !config.HasReference(v) {
		if err := checkDeletionPolicy(v); err != nil {
			add(keyDeletionPolicy, err.Error())
		}
	}
	if v := written[keyProvenance]; v != "" && v != "true" && v != "false" && !config.HasReference(v) {
		add(keyProvenance, "Invalid value "+v+" for configuration "+keyProvenance+": Expected value to be either true or false")
	}
	if v := written[keyStartOffsets]; v != "" && !config.HasReference(v) {
		if _, _, err := startOffset(v, partition{id: -1}); err != nil {
			add(keyStartOffsets, err.Error())
		}
	}
	return problems
}

// readsCommitted says whether the source consumer sees only committed records.
// Where Kafka compares only the MirrorMaker layers, ours has consumer.override too.
func readsCommitted(written map[string]string) bool {
	level := ""
	for _, prefix := range consumerLayers {
		if v, ok := written[prefix+"isolation.level"]; ok {
			level = v
		}
	}
	return level == "read_committed"
}
