package bundle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"barnabas/config"
)

// harmless are names of Kafka's client settings whose values hold no secret, without the prefixes that connectors put
// before them.
var harmless = []string{
	"acks", "alias", "allow.auto.create.topics", "auto.offset.reset", "bootstrap.servers", "client.dns.lookup", "client.id", "client.rack",
	"compression.type", "connector.class", "group.id", "group.instance.id", "group.protocol", "isolation.level", "key.converter",
	"header.converter", "value.converter", "name", "partition.assignment.strategy", "partitioner.class", "predicate", "predicates", "sasl.kerberos.service.name",
	"sasl.mechanism", "security.protocol", "ssl.cipher.suites", "ssl.enabled.protocols", "ssl.endpoint.identification.algorithm",
	"ssl.keystore.location", "ssl.keystore.type", "ssl.protocol", "ssl.truststore.location", "ssl.truststore.type",
	"tasks.max", "topics", "topics.regex", "transactional.id", "transforms", "type",
}

// shown is a configuration as a bundle may hold it, and the keys whose values it may not, sorted. types are those of the
// connector's own settings, as far as they are known. A value is shown if it refers to secrets and says nothing else, if
// it is a number or a truth value, or if its setting is known and is none for a secret.
func shown(written map[string]string, types map[string]config.Type) (map[string]string, []string) {
	all := map[string]string{}
	var hidden []string
	for _, key := range slices.Sorted(maps.Keys(written)) {
		value := written[key]
		switch typ, known := types[key]; {
		case value == "" || config.OnlyReferences(value) && config.HasReference(value):
			all[key] = value
		case config.LiteralSecret(key, value, typ == config.Password):
			all[key], hidden = config.Hidden, append(hidden, key)
		case known && typ != config.Password || isPlain(value) || isHarmless(key):
			all[key] = value
		case strings.HasSuffix(key, "sasl.jaas.config"):
			module, _, _ := strings.Cut(strings.TrimSpace(value), " ")
			all[key], hidden = module+" "+config.Hidden, append(hidden, key)
		default:
			all[key], hidden = config.Hidden, append(hidden, key)
		}
	}
	return all, hidden
}

// isPlain says that a value is a truth value or a number too short for a secret.
func isPlain(value string) bool {
	if _, err := strconv.ParseFloat(value, 64); err == nil {
		return len(value) < 13 // milliseconds since 1970 have 13 digits, and account numbers more
	}
	return value == "true" || value == "false"
}

func isHarmless(key string) bool {
	return slices.ContainsFunc(harmless, func(name string) bool { return key == name || strings.HasSuffix(key, "."+name) })
}

// shortest is the length below which a text that was left out is not looked for elsewhere: shorter ones would be found
// in words that have nothing to do with it.
const shortest = 4

// hide has everything else in the bundle say nothing of value, nor of what stands in quotes in it.
func (b *writer) hide(value string) {
	b.hidden[value] = true
	for part := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune("\"'=; \t\n", r) }) {
		if !config.OnlyReferences(part) && !ordinary[strings.ToLower(part)] && !strings.HasPrefix(part, "org.apache.kafka.") {
			b.hidden[part] = true
		}
	}
}

// ordinary are the words of a JAAS entry that are no secrets.
var ordinary = map[string]bool{"required": true, "requisite": true, "sufficient": true, "optional": true, "username": true, "password": true, "true": true, "false": true}

// texts are what is looked for in the files, the longest first, as JSON writes it between quotes: with and without
// escapes for HTML.
func (b *writer) texts() [][]byte {
	all := map[string]bool{}
	for value := range b.hidden {
		if len(value) < shortest || value == "null" {
			continue
		}
		if quoted, err := json.Marshal(value); err == nil {
			all[string(quoted[1:len(quoted)-1])] = true
		}
		if quoted, err := encode(value); err == nil {
			all[strings.Trim(strings.TrimSuffix(string(quoted), "\n"), `"`)] = true
		}
	}
	sorted := slices.SortedFunc(maps.Keys(all), func(x, y string) int { return cmp.Or(len(y)-len(x), strings.Compare(x, y)) })
	var texts [][]byte
	for _, text := range sorted {
		texts = append(texts, []byte(text))
	}
	return texts
}

// scrub puts config.Hidden in the place of texts, and counts the places.
func scrub(text []byte, texts [][]byte) ([]byte, int) {
	count := 0
	for _, t := range texts {
		if n := bytes.Count(text, t); n > 0 {
			text, count = bytes.ReplaceAll(text, t, []byte(config.Hidden)), count+n
		}
	}
	return text, count
}
