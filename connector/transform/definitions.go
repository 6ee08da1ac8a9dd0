package transform

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
	"barnabas/connector/javaregex"
	"barnabas/connector/versionrange"
)

// Class is a transform or predicate that a chain may have.
type Class struct {
	Name    string // Java's
	Type    string // "transformation" or "predicate", as in GET /connector-plugins
	Version string
	// Keys defines its own settings, without what every transform has.
	Keys *config.Def
}

// Classes lists what there is, by name.
func Classes() []Class {
	var all []Class
	for _, name := range slices.Sorted(maps.Keys(definitions())) {
		if name == refused {
			continue
		}
		c := Class{Name: name, Type: "transformation", Version: kafkaVersion, Keys: config.NewDef()}
		if strings.HasPrefix(name, predicates) {
			c.Type = "predicate"
		}
		var keys []config.Key
		for _, k := range definitions()[name] {
			if local := k.Name[strings.Index(k.Name, ".X.")+3:]; !common[local] {
				k.Name, k.Group, k.DisplayName = local, "", local
				keys = append(keys, k)
			}
		}
		c.Keys = config.NewDef(keys...)
		all = append(all, c)
	}
	return all
}

// refused is known, so that it is refused with its reason (newStage).
const refused = transforms + "TimestampRouter"

// kafkaVersion is the version of all classes.
const kafkaVersion = "4.3.1"

// common are the keys that each alias has.
var common = map[string]bool{"type": true, "predicate": true, "negate": true, "plugin.version": true}

// recorded is what Kafka Connect 4.3.1 answers to the validation of a connector with one transform or predicate that is
// called X, by its class (testdata/Record.java).
//
//go:embed definitions.json
var recorded []byte

var definitions = sync.OnceValue(func() map[string][]config.Key {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(recorded, &raw); err != nil {
		panic(fmt.Sprintf("transform: embedded definitions: %v", err))
	}
	all := map[string][]config.Key{}
	for class, infos := range raw {
		d, err := config.DefFromInfos(infos)
		if err != nil {
			panic(fmt.Sprintf("transform: embedded definitions of %s: %v", class, err))
		}
		keys := d.Keys()
		for i, k := range keys {
			local := k.Name[strings.Index(k.Name, ".X.")+3:]
			if check := checks[local]; check != nil {
				keys[i].Checks = []config.Check{func(v config.Value) string {
					v.Name = local // as Connect, whose checks do not know the prefix
					return check(v)
				}}
			}
		}
		all[class] = keys
	}
	return all
})

// checks are Kafka's validators, which a recorded answer does not show.
var checks = map[string]config.Check{
	"header": config.NonNull, "value.literal": config.NonNull, "name": config.NonEmpty,
	"headers": config.Items(false, false), "fields": config.Items(false, false),
	"replacement": config.NonEmpty, "renames": pairs, "regex": javaRegex, "pattern": javaRegex,
}

// javaRegex is Kafka's RegexValidator; TopicNameMatches wants some text besides.
func javaRegex(v config.Value) string {
	if v.Null() {
		return ""
	}
	if v.Text() == "" && v.Name == "pattern" {
		return v.Invalid("String must be non-empty")
	}
	if _, _, err := javaregex.Linear(v.Text()); err != nil {
		return v.Invalid("Invalid regex: " + err.Error())
	}
	return ""
}

// pairs is ReplaceField's check of renames.
func pairs(v config.Value) string {
	for _, item := range v.Items() {
		from, to, found := strings.Cut(item, ":")
		if !found || from == "" || strings.TrimRight(to, ":") == "" || strings.Contains(strings.TrimRight(to, ":"), ":") {
			return v.Invalid("Invalid rename mapping: " + item)
		}
	}
	return ""
}

// Infos describes and judges the keys of all transforms and predicates in written, as Connect's validate does
// (ConnectorConfig.enrich). problems found elsewhere are added at their keys.
func Infos(written map[string]string, problems ...config.Problem) config.Infos {
	var keys []config.Key
	seen := func(kind string) (distinct []string) {
		for _, alias := range list(written[kind]) {
			if !slices.Contains(distinct, alias) { // that it stands there twice is said by the list's own check
				distinct = append(distinct, alias)
			}
		}
		return distinct
	}
	for _, alias := range seen("transforms") {
		k, p := enrich("transforms", alias, written)
		keys, problems = append(keys, k...), append(problems, p...)
	}
	for _, alias := range seen("predicates") {
		k, p := enrich("predicates", alias, written)
		keys, problems = append(keys, k...), append(problems, p...)
	}
	return config.NewDef(keys...).Infos("", config.Literal(written), problems...)
}

// enrich gives the keys of one alias.
func enrich(kind, alias string, written map[string]string) ([]config.Key, []config.Problem) {
	key := kind + "." + alias + ".type"
	class, typed := written[key]
	var problems []config.Problem
	add := func(format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	template, word, any := definitions()[class], "Transformation", transforms+"Filter"
	if kind == "predicates" {
		word, any = "Predicate", predicates+"RecordIsTombstone"
	}
	isPredicate := strings.HasPrefix(class, predicates)
	abstract := class == transforms+"MaskField" || class == transforms+"ReplaceField"
	switch {
	case !typed:
	case template != nil && isPredicate != (kind == "predicates"):
		add("Class class %s does not implement the %s interface", class, word)
		template = nil
	case template == nil && abstract:
		add("This class is abstract and cannot be created. Did you mean %s$Key, %s$Value?", class, class)
	case template == nil:
		add("Invalid value %s for configuration %s: Class %s could not be found.", class, key, class)
	}
	if _, named := written[kind+"."+alias+".predicate"]; kind == "transforms" && !named {
		if _, negated := written["transforms."+alias+".negate"]; negated {
			add("Config 'transforms.%s.negate' was provided but there is no config 'transforms.%s.predicate' defining a predicate to be negated.", alias, alias)
		}
	}
	if version, wanted := written[kind+"."+alias+".plugin.version"]; wanted && template != nil {
		if wrong, _ := versionrange.Check(class, version, kafkaVersion); wrong != "" {
			add("%s", wrong)
			problems = append(problems, config.Problem{Key: kind + "." + alias + ".plugin.version", Message: wrong})
		}
	}
	unknown := template == nil
	if unknown {
		template = definitions()[any]
	}
	names := strings.NewReplacer(kind+".X.", kind+"."+alias+".", "'X'", "'"+alias+"'", ": X", ": "+alias, "for X", "for "+alias)
	keys := make([]config.Key, 0, len(template))
	for _, k := range template {
		k.Name, k.Group, k.Documentation, k.DisplayName = names.Replace(k.Name), names.Replace(k.Group), names.Replace(k.Documentation), names.Replace(k.DisplayName)
		version := strings.HasSuffix(k.Name, ".plugin.version")
		if !typed && k.Name != key && !version {
			continue
		}
		if version && !unknown {
			k.Recommended = []string{kafkaVersion}
		}
		if k.Name == key {
			k.Recommended = classNames(kind == "predicates")
		} else if unknown && definitions()[strings.TrimSuffix(any, lastOf(any))+class] == nil && version {
			k.Default = nil
		}
		keys = append(keys, k)
	}
	return keys, problems
}

// lastOf is a class's simple name. Connect finds a version by it, though not the class.
func lastOf(class string) string { return class[strings.LastIndexByte(class, '.')+1:] }

func classNames(ofPredicates bool) []string {
	var names []string
	for name := range definitions() {
		if strings.HasPrefix(name, predicates) == ofPredicates && name != refused {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
