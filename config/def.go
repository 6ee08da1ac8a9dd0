package config

import (
	"fmt"
	"slices"
)

// Def is an ordered set of key definitions, like Kafka's ConfigDef: it parses
// settings to typed values, reports everything that is wrong with them in
// Kafka's words, and describes itself as Connect's config/validate does.
//
// Keys that it does not define are allowed, as in Kafka.
type Def struct {
	keys   []Key
	index  map[string]int
	groups []string
}

// Type is the type of a setting, with the names of Kafka's ConfigDef.Type.
type Type string

// The types of Kafka 4.3.1.
const (
	Boolean  Type = "BOOLEAN"
	String   Type = "STRING"
	Int      Type = "INT"
	Short    Type = "SHORT"
	Long     Type = "LONG"
	Double   Type = "DOUBLE"
	List     Type = "LIST"
	Class    Type = "CLASS" // any text: what classes exist is for a Check to say
	Password Type = "PASSWORD"
)

// Importance says how likely one is to need a key.
type Importance string

// The importances of Kafka's ConfigDef.
const (
	High   Importance = "HIGH"
	Medium Importance = "MEDIUM"
	Low    Importance = "LOW"
)

// Width is how wide a form should show a value.
type Width string

// The widths of Kafka's ConfigDef.
const (
	WidthNone   Width = "NONE"
	WidthShort  Width = "SHORT"
	WidthMedium Width = "MEDIUM"
	WidthLong   Width = "LONG"
)

// Key defines one setting.
type Key struct {
	Name string
	Type Type // empty: STRING
	// Required keys have no default. Default, in the form in which it would be written, counts only
	// for the others; nil is Kafka's null.
	Required bool
	Default  *string
	// Checks judge the parsed value in order, until one objects. They also judge the default.
	Checks        []Check
	Importance    Importance // empty: LOW
	Documentation string
	Group         string // empty: none (null in JSON)
	Order         int    // within Group; -1 without one in Kafka
	Width         Width  // empty: NONE
	DisplayName   string // empty: Name
	Dependents    []string
	// Recommended values and whether the key is to be hidden in forms, where
	// Kafka has a Recommender.
	Recommended []string
	Invisible   bool
}

// Check judges a value. It returns "" if the value is right, and otherwise the
// whole message, made with Value.Invalid where Kafka's is. A message that shows
// a value shows what was written, never what that resolved to.
type Check func(v Value) (message string)

// Problem is one thing wrong with one key of a configuration. Message never
// holds a resolved value.
type Problem struct {
	Key     string
	Message string
}

// NewDef returns the definition of keys, in that order. A later key replaces an
// earlier one of the same name.
func NewDef(keys ...Key) *Def {
	d := &Def{index: make(map[string]int, len(keys))}
	for _, k := range keys {
		d.define(k)
	}
	return d
}

// Merge returns one definition of all keys of defs. A key defined twice keeps its
// place and takes the later definition, as when Connect lays a connector's keys over the common ones.
func Merge(defs ...*Def) *Def {
	m := NewDef()
	for _, d := range defs {
		for _, k := range d.keys {
			m.define(k)
		}
	}
	m.groups = nil
	for _, d := range defs {
		m.addGroups(d.groups...)
	}
	return m
}

func (d *Def) define(k Key) {
	if k.Type == "" {
		k.Type = String
	}
	if k.Importance == "" {
		k.Importance = Low
	}
	if k.Width == "" {
		k.Width = WidthNone
	}
	if k.DisplayName == "" {
		k.DisplayName = k.Name
	}
	k.Checks = slices.Clone(k.Checks)
	if i, ok := d.index[k.Name]; ok {
		d.keys[i] = k
	} else {
		d.index[k.Name] = len(d.keys)
		d.keys = append(d.keys, k)
	}
	if k.Group != "" {
		d.addGroups(k.Group)
	}
}

func (d *Def) addGroups(groups ...string) {
	for _, g := range groups {
		if !slices.Contains(d.groups, g) {
			d.groups = append(d.groups, g)
		}
	}
}

// Check adds checks to the key called name and returns d, for chaining while a
// definition is being built. It panics if d does not define the key.
func (d *Def) Check(name string, checks ...Check) *Def {
	i, ok := d.index[name]
	if !ok {
		panic(fmt.Sprintf("config: check on %q, which the definition does not have", name))
	}
	d.keys[i].Checks = append(d.keys[i].Checks, checks...)
	return d
}

// Key returns the definition of the key called name.
func (d *Def) Key(name string) (Key, bool) {
	i, ok := d.index[name]
	if !ok {
		return Key{}, false
	}
	return d.keys[i], true
}

// Keys returns the definitions in order.
func (d *Def) Keys() []Key { return slices.Clone(d.keys) }

// Names returns the names of the keys in order.
func (d *Def) Names() []string {
	names := make([]string, len(d.keys))
	for i, k := range d.keys {
		names[i] = k.Name
	}
	return names
}

// Parse gives the typed values of s, defaults filled in, and all that is wrong
// with it, in the order of the definition, one problem a key. A key with a
// problem is null in the values.
func (d *Def) Parse(s Settings) (Values, []Problem) {
	values := Values{m: make(map[string]Value, len(d.keys))}
	var problems []Problem
	for _, k := range d.keys {
		v, messages := k.parse(s)
		if items := distinct(v.Items()); len(messages) > 0 && len(items) < len(v.Items()) {
			v.parsed = newParsed(items)
			messages = k.check(v)
		}
		if len(messages) > 0 {
			// The second message only repeats that a value that could not be parsed is null.
			problems = append(problems, Problem{Key: k.Name, Message: messages[0]})
			v.parsed = nil
		}
		values.m[k.Name] = v
	}
	return values, problems
}

// parse gives the value of k in s with Kafka's messages for it: that of the
// type, and then that of the first check to object, which sees null where the
// value had no type (ConfigDef.parseForValidate; so "tasks.max=abc" is two errors).
func (k Key) parse(s Settings) (Value, []string) {
	setting, set := s[k.Name]
	v := Value{Name: k.Name, kind: k.Type, setting: setting, set: set}
	var messages []string
	switch {
	case set:
		parsed, detail := parseType(setting.Value.Reveal(), k.Type)
		v.parsed = newParsed(parsed)
		if detail != "" {
			messages = append(messages, invalid(k.Name, setting.Written, detail))
		}
	case k.Required:
		messages = append(messages, fmt.Sprintf("Missing required configuration %q which has no default value.", k.Name))
	case k.Default != nil:
		parsed, detail := parseType(*k.Default, k.Type)
		if detail != "" {
			panic(fmt.Sprintf("config: default of %s: %s", k.Name, detail))
		}
		v.parsed = newParsed(parsed)
	}
	return v, append(messages, k.check(v)...)
}

// check gives the message of the first check that objects to v, if any does.
func (k Key) check(v Value) []string {
	for _, check := range k.Checks {
		if m := check(v); m != "" {
			return []string{m}
		}
	}
	return nil
}
