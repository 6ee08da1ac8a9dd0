package mirror

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// differences compares the topics to be copied with those of the target: which
// are missing there, and which have too few partitions. A target with more partitions
// than the source keeps them. remote names a topic on the target.
func differences(source, target map[string]int32, remote func(string) string) (missing []string, short map[string]int32) {
	short = map[string]int32{}
	for _, topic := range slices.Sorted(maps.Keys(source)) {
		switch there, ok := target[remote(topic)]; {
		case !ok:
			missing = append(missing, topic)
		case there < source[topic]:
			short[remote(topic)] = source[topic]
		}
	}
	return missing, short
}

// ready lists the partitions that can be copied: those that are on both sides.
func ready(source, target map[string]int32, remote func(string) string) []partition {
	var partitions []partition
	for _, topic := range slices.Sorted(maps.Keys(source)) {
		for id := range min(source[topic], target[remote(topic)]) {
			partitions = append(partitions, partition{topic, id})
		}
	}
	return partitions
}

// propertyFilter decides which settings of a topic are copied
// (DefaultConfigPropertyFilter).
type propertyFilter struct {
	exclude patterns
	// sourceDefaults is use.defaults.from=source: what has its default value at
	// the source is set at the target too, to that value.
	sourceDefaults bool
}

// copies says whether s has a meaning on the target at all
// (MirrorSourceConnector.targetConfig).
func (f propertyFilter) copies(s setting) (bool, error) {
	if s.readOnly || s.sensitive || s.value == nil || s.source == kmsg.ConfigSourceStaticBrokerConfig {
		return false, nil
	}
	excluded, err := f.exclude.match(s.name)
	return !excluded, err
}

func isDefault(s setting) bool { return s.source == kmsg.ConfigSourceDefaultConfig }

// initial returns the settings of a topic created on the target for one that
// has settings on the source.
func (f propertyFilter) initial(settings []setting) (map[string]string, error) {
	set := map[string]string{}
	for _, s := range settings {
		copied, err := f.copies(s)
		if err != nil {
			return nil, err
		}
		if copied && (!isDefault(s) || f.sourceDefaults) {
			set[s.name] = *s.value
		}
	}
	return set, nil
}

// change sets a setting of a topic, or resets it to its default if value is
// nil.
type change struct {
	name  string
	value *string
}

// changes returns what makes a topic of the target have the settings of its
// source. What is a default there is reset, so a setting that only the target
// has does not survive; an excluded one does.
func (f propertyFilter) changes(settings []setting) ([]change, error) {
	var list []change
	for _, s := range settings {
		copied, err := f.copies(s)
		switch {
		case err != nil:
			return nil, err
		case !copied:
		case isDefault(s) && !f.sourceDefaults:
			list = append(list, change{s.name, nil})
		default:
			list = append(list, change{s.name, s.value})
		}
	}
	return list, nil
}

// due returns those of changes that a topic does not have yet, as its settings there say.
func due(changes []change, there []setting) []change {
	own := map[string]*string{} // what is set on the topic itself
	for _, s := range there {
		if s.source == kmsg.ConfigSourceDynamicTopicConfig {
			own[s.name] = s.value
		}
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c change) bool {
		value, set := own[c.name]
		if c.value == nil {
			return !set
		}
		return set && value != nil && *value == *c.value
	})
}
