package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// This file writes JSON as Jackson does below Connect's JsonConverter, and reads
// it as leniently. encoding/json cannot write it: it escapes <, >, & and U+2028,
// which Jackson does not, and not the code points above U+FFFF, which Jackson does.

const upperHex = "0123456789ABCDEF"

// appendString appends s as a JSON string in Jackson's spelling. Bytes that are not UTF-8
// become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r < 0x20:
			b = appendEscape(b, uint16(r))
		case r > 0xFFFF:
			// Jackson's UTF-8 generator writes surrogate pairs as two escapes.
			r -= 0x10000
			b = appendEscape(b, uint16(0xD800+r>>10))
			b = appendEscape(b, uint16(0xDC00+r&0x3FF))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

func appendEscape(b []byte, u uint16) []byte {
	return append(b, '\\', 'u', upperHex[u>>12], upperHex[u>>8&15], upperHex[u>>4&15], upperHex[u&15])
}

// object builds a JSON object field by field, in the order of the calls.
type object []byte

func (o object) name(name string) object {
	if len(o) == 0 {
		o = append(o, '{')
	} else {
		o = append(o, ',')
	}
	return append(appendString(o, name), ':')
}

func (o object) text(name, value string) object { return appendString(o.name(name), value) }

// optional writes nil as null: Connect writes absent optional fields, too.
func (o object) optional(name string, value *string) object {
	if value == nil {
		return append(o.name(name), "null"...)
	}
	return o.text(name, *value)
}

func (o object) number(name string, value int64) object {
	return strconv.AppendInt(o.name(name), value, 10)
}

func (o object) boolean(name string, value bool) object {
	return strconv.AppendBool(o.name(name), value)
}

func (o object) raw(name string, value []byte) object { return append(o.name(name), value...) }

func (o object) bytes() []byte {
	if len(o) == 0 {
		return []byte("{}")
	}
	return append(o, '}')
}

// properties is the value of connector and task records. Connect writes the
// properties in the order of a Java map, which means nothing; here they are sorted.
func properties(config map[string]string) []byte {
	var inner object
	for _, name := range slices.Sorted(maps.Keys(config)) {
		inner = inner.text(name, config[name])
	}
	return object(nil).raw("properties", inner.bytes()).bytes()
}

// fields is a JSON object that has been read. Its methods' errors name the field and
// the kind of JSON found there, never a value, which may be a secret.
type fields map[string]json.RawMessage

// parseFields reads value as an object. Null and nothing at all give nil fields: Connect takes
// them for a tombstone. What follows the first JSON value is ignored, as Jackson does.
func parseFields(value []byte) (fields, error) {
	if len(value) == 0 {
		return nil, nil
	}
	var raw json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&raw); err != nil {
		return nil, fmt.Errorf("the value is not JSON")
	}
	switch raw[0] {
	case 'n':
		return nil, nil
	case '{':
	default:
		return nil, fmt.Errorf("the value is %s, not an object", kind(raw))
	}
	f := fields{}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("the value is not JSON")
	}
	return f, nil
}

// kind says what a piece of JSON is, for messages.
func kind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "missing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

func (f fields) wrong(name, want string) error {
	return fmt.Errorf("field %q is %s, not %s", name, kind(f[name]), want)
}

// text returns the string called name.
func (f fields) text(name string) (string, error) {
	v, err := f.optional(name)
	if err == nil && v == nil {
		err = f.wrong(name, "a string")
	}
	if err != nil {
		return "", err
	}
	return *v, nil
}

// optional returns the string called name, or nil if it is missing or null.
func (f fields) optional(name string) (*string, error) {
	raw := f[name]
	if len(raw) == 0 || raw[0] == 'n' {
		return nil, nil
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return nil, f.wrong(name, "a string")
	}
	return &s, nil
}

// integer returns the whole number called name.
func (f fields) integer(name string, bits int) (int64, error) {
	n, err := strconv.ParseInt(string(f[name]), 10, bits)
	if err != nil {
		return 0, f.wrong(name, fmt.Sprintf("a whole number of %d bits", bits))
	}
	return n, nil
}

// boolean returns the boolean called name, and false for anything else, as
// Connect does in restart requests.
func (f fields) boolean(name string) bool { return string(f[name]) == "true" }

// stringMap returns the object called name. Null entries are left out; numbers and
// booleans keep their spelling, since Java would take them until somebody looks.
func (f fields) stringMap(name string) (map[string]string, error) {
	raw := f[name]
	inner := fields{}
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &inner) != nil {
		return nil, f.wrong(name, "an object")
	}
	m := make(map[string]string, len(inner))
	for k, v := range inner {
		switch kind(v) {
		case "null":
		case "a string":
			s, err := inner.text(k)
			if err != nil {
				return nil, err
			}
			m[k] = s
		case "a number", "a boolean":
			m[k] = string(v)
		default:
			return nil, fmt.Errorf("in field %q: %w", name, inner.wrong(k, "a string"))
		}
	}
	return m, nil
}
