package configprovider

import (
	"maps"
	"slices"

	"barnabas/config"
)

// Reference is one secret reference in a value: ${provider:key} or
// ${provider:path:key} as in Kafka, or the same between $< and >, which shells
// and templates leave alone.
//
// It is split at the first and the second colon, so that a key may hold more of
// them (Kafka's ConfigTransformer, whose pattern is in package config). There is no escape, as in Kafka, and
// no nesting: what begins in a reference belongs to it. A text that has to look like a
// reference can be had through one, since what it resolves to is not looked at again.
type Reference struct {
	Provider string
	Path     string // empty in ${provider:key}
	Key      string

	start   int // in the value
	written string
}

// String returns the reference as it was written.
func (r Reference) String() string { return r.written }

// References returns the references in value, in order.
func References(value string) []Reference {
	var refs []Reference
	for _, m := range config.ReferencePattern.FindAllStringSubmatchIndex(value, -1) {
		group := func(n int) string {
			if m[2*n] < 0 {
				return ""
			}
			return value[m[2*n]:m[2*n+1]]
		}
		ref := Reference{Provider: group(1), Path: group(2), Key: group(3), start: m[0], written: value[m[0]:m[1]]}
		if m[2] < 0 {
			ref.Provider, ref.Path, ref.Key = group(4), group(5), group(6)
		}
		refs = append(refs, ref)
	}
	return refs
}

// Literals names the keys of a configuration that hold a secret written out
// rather than referred to, in order: keys that def types PASSWORD, keys whose name says so, and JAAS entries
// or URLs with a password in them. It never tells the values. def may be nil.
func Literals(def *config.Def, written map[string]string) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(written)) {
		password := false
		if def != nil {
			k, _ := def.Key(key)
			password = k.Type == config.Password
		}
		if config.LiteralSecret(key, written[key], password) {
			keys = append(keys, key)
		}
	}
	return keys
}
