package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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

// Format writes what was written, whatever the verb; but what looks like a secret written out
// is Hidden, which without the key only its form can tell: print Settings where there is a choice.
func (s Setting) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redact("", s.Written)) }

// LogValue is what Format writes.
func (s Setting) LogValue() slog.Value { return slog.StringValue(Redact("", s.Written)) }

// MarshalJSON encodes what Format writes.
func (s Setting) MarshalJSON() ([]byte, error) { return json.Marshal(Redact("", s.Written)) }

// Format writes the settings as written, whatever the verb, with what looks like
// a literal secret Hidden, also by the name of its key.
func (s Settings) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.shown()) }

// LogValue is what Format writes, one attribute a key.
func (s Settings) LogValue() slog.Value {
	shown := s.shown()
	attrs := make([]slog.Attr, 0, len(s))
	for _, k := range slices.Sorted(maps.Keys(shown)) {
		attrs = append(attrs, slog.String(k, shown[k]))
	}
	return slog.GroupValue(attrs...)
}

// MarshalJSON encodes what Format writes, as one object.
func (s Settings) MarshalJSON() ([]byte, error) { return json.Marshal(s.shown()) }

func (s Settings) shown() map[string]string {
	shown := make(map[string]string, len(s))
	for k, v := range s {
		shown[k] = Redact(k, v.Written)
	}
	return shown
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
