package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Fields is a source partition, or a source offset, taken apart. The fields stand in the order in which a Java HashMap has
// them, which is the order in which Kafka Connect writes and shows them. nil stands for null.
type Fields []Field

// Field is one of them. Value is a string, bool, int64, float64 or nil.
type Field struct {
	Name  string
	Value any
}

// OffsetChange is what a user wants an offset to be; a nil Offset deletes it.
type OffsetChange struct{ Partition, Offset Fields }

// ErrNotFields says that something is no JSON object; any other error of ParseFields is about what stands in the object, in
// the words of Connect's OffsetUtils.
var ErrNotFields = errors.New("it is not a JSON object")

// ParseFields reads a JSON object of plain values. Whole numbers become int64; of two equal fields the last one counts.
func ParseFields(raw []byte) (Fields, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	begin, err := d.Token()
	switch {
	case err != nil:
		return nil, ErrNotFields
	case begin == nil:
		return nil, nil
	case begin != json.Delim('{'):
		return nil, ErrNotFields
	}
	fields, wrong := Fields{}, map[string]error{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, ErrNotFields
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, ErrNotFields
		}
		f := Field{Name: name.(string)} // the decoder lets nothing else be a name
		f.Value, wrong[f.Name] = plainValue(f.Name, value)
		if i := fields.index(f.Name); i >= 0 {
			fields[i] = f
		} else {
			fields = append(fields, f)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, ErrNotFields
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrNotFields
	}
	fields.sort()
	for _, f := range fields {
		if wrong[f.Name] != nil {
			return fields, wrong[f.Name]
		}
	}
	return fields, nil
}

// plainValue reads a value of a field, or refuses it as OffsetUtils.validateFormat does.
func plainValue(name string, raw json.RawMessage) (any, error) {
	kind := ""
	switch raw[0] {
	case '{':
		kind = "MAP"
	case '[':
		kind = "ARRAY"
	default:
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, ErrNotFields
		}
		n, isNumber := v.(json.Number)
		if !isNumber {
			return v, nil
		}
		if !strings.ContainsAny(n.String(), ".eE") {
			if whole, err := n.Int64(); err == nil {
				return whole, nil
			}
			kind = "null" // a BigInteger
			break
		}
		f, err := n.Float64()
		if err != nil {
			f = math.Inf(1)
		}
		return f, nil
	}
	return nil, fmt.Errorf("Offsets may only contain primitive types as values, but field %s contains %s", name, kind)
}

func (f Fields) index(name string) int {
	return slices.IndexFunc(f, func(field Field) bool { return field.Name == name })
}

// Get returns a field's value.
func (f Fields) Get(name string) (value any, ok bool) {
	if i := f.index(name); i >= 0 {
		return f[i].Value, true
	}
	return nil, false
}

// sort puts fields in the order of the buckets of a java.util.HashMap of as many.
func (f Fields) sort() {
	buckets := uint32(16)
	for float64(len(f)) > 0.75*float64(buckets) {
		buckets *= 2
	}
	slices.SortStableFunc(f, func(a, b Field) int {
		return int(javaHash(a.Name)&(buckets-1)) - int(javaHash(b.Name)&(buckets-1))
	})
}

// javaHash is how HashMap sees a string: String.hashCode with its upper half mixed in.
func javaHash(s string) uint32 {
	var h uint32
	for _, unit := range utf16.Encode([]rune(s)) {
		h = 31*h + uint32(unit)
	}
	return h ^ h>>16
}

// String is how Java prints a map: {cluster=A, partition=0}.
func (f Fields) String() string {
	if f == nil {
		return "null"
	}
	parts := make([]string, len(f))
	for i, field := range f {
		parts[i] = field.Name + "=" + JavaText(field.Value)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// JavaText is how Java prints a value of a field.
func JavaText(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".eEIN") {
			text += ".0"
		}
		return text
	}
	return fmt.Sprint(value)
}

// JSON is how Connect's JsonConverter writes the fields, byte for byte: compaction compares bytes.
func (f Fields) JSON() []byte {
	if f == nil {
		return []byte("null")
	}
	b := []byte{'{'}
	for i, field := range f {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJava(b, field.Name), ':')
		if text, ok := field.Value.(string); ok {
			b = appendJava(b, text)
			continue
		}
		b = append(b, JavaText(field.Value)...)
	}
	return append(b, '}')
}

// appendJava writes a JSON string as Jackson does: only what must be is escaped, hexadecimals in capitals.
func appendJava(b []byte, s string) []byte {
	const short, letters = "\b\t\n\f\r", "btnfr"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 && strings.IndexByte(short, c) >= 0:
			b = append(b, '\\', letters[strings.IndexByte(short, c)])
		case c < 0x20:
			b = fmt.Appendf(b, `\u%04X`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
