package config

import (
	"maps"
	"strings"
)

// Setting is one value of a resolved configuration.
type Setting struct {
	// Written is the value as its author wrote it, references intact. It is what errors, logs and
	// REST answers show.
	Written string
	// Value is what Written resolved to: the same text where it held no reference.
	Value Secret
}

// Settings is a configuration whose secret references have been resolved. It
// lives in the memory of the connector, task or worker that it was resolved
// for, and nowhere else.
type Settings map[string]Setting

// Literal returns settings without references: each value is what was written.
func Literal(written map[string]string) Settings {
	s := make(Settings, len(written))
	for k, v := range written {
		s[k] = Setting{Written: v, Value: NewSecret(v)}
	}
	return s
}

// Written returns the configuration as its author wrote it.
func (s Settings) Written() map[string]string {
	w := make(map[string]string, len(s))
	for k, v := range s {
		w[k] = v.Written
	}
	return w
}

// Sub returns the settings whose key begins with prefix, without it.
func (s Settings) Sub(prefix string) Settings {
	sub := Settings{}
	for k, v := range s {
		if rest, ok := strings.CutPrefix(k, prefix); ok && rest != "" {
			sub[rest] = v
		}
	}
	return sub
}

// Merge returns s with the settings of each of over laid on top, in order.
func (s Settings) Merge(over ...Settings) Settings {
	m := maps.Clone(s)
	if m == nil {
		m = Settings{}
	}
	for _, o := range over {
		maps.Copy(m, o)
	}
	return m
}
