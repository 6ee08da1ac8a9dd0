package converter

import (
	"bytes"
	"encoding/base64"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"barnabas/config"
)

// newJSON makes Kafka's JsonConverter.
func newJSON(v config.Values) (*Converter, error) {
	j := &jsonReader{schemas: v.Bool("schemas.enable"), defaults: v.Bool("replace.null.with.default")}
	if content := v.String("schema.content"); j.schemas && content != "" {
		node, err := parse([]byte(content))
		if err != nil {
			return nil, err
		}
		if j.schema, err = j.schemaOf(node); err != nil {
			return nil, err
		}
	}
	return &Converter{encode: j.encode, decode: j.decode}, nil
}

type jsonReader struct {
	schemas  bool
	defaults bool    // replace.null.with.default
	schema   *schema // schema.content, of values that come without one
}

func (j *jsonReader) encode(text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	var b bytes.Buffer
	if j.schemas {
		b.WriteString(`{"schema":{"type":"string","optional":false},"payload":`)
	}
	b.Write(Quote(*text))
	if j.schemas {
		b.WriteByte('}')
	}
	return b.Bytes(), nil
}

// Quote writes a JSON text as Jackson does: control characters, quotes, backslashes and what UTF-16 needs two units for are escaped.
func Quote(text string) []byte {
	const hex = "0123456789ABCDEF"
	out := []byte{'"'}
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', byte(c))
		case c > 0xffff:
			for _, u := range utf16.AppendRune(nil, c) {
				out = append(out, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
			}
		case c >= ' ':
			out = utf8.AppendRune(out, c)
		default:
			if i := strings.IndexByte("\b\t\n\f\r", byte(c)); i >= 0 {
				out = append(out, '\\', "btnfr"[i])
				continue
			}
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(out, '"')
}

func (j *jsonReader) decode(b []byte) (any, error) {
	if b == nil {
		return nil, nil
	}
	node, err := parse(b)
	if err != nil {
		return nil, &Error{Message: "Converting byte[] to Kafka Connect data failed due to serialization error: ", Cause: err}
	}
	switch {
	case !j.schemas:
		return j.convert(nil, node, true)
	case j.schema != nil:
		return j.convert(j.schema, node, true)
	}
	o, _ := node.(*object)
	if o == nil || len(o.names) != 2 {
		return nil, errEnvelope
	}
	of, ok := o.get("schema")
	payload, too := o.get("payload")
	if !ok || !too {
		return nil, errEnvelope
	}
	s, err := j.schemaOf(of)
	if err != nil {
		return nil, err
	}
	return j.convert(s, payload, true)
}

var errEnvelope = wrong(`JsonConverter with schemas.enable requires "schema" and "payload" fields and may not contain additional fields. ` +
	`If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter configuration.`)

// convert is JsonConverter.convertToConnect. there is false for a field that the text does not have.
func (j *jsonReader) convert(s *schema, node any, there bool) (any, error) {
	if _, none := node.(missing); none {
		node = nil
	}
	if s == nil {
		return j.schemaless(node)
	}
	if !there || node == nil {
		switch {
		case s.defaultValue != nil && j.defaults:
			return s.defaultValue, nil
		case s.optional:
			return nil, nil
		}
		return nil, wrong("Invalid null value for required %s field", types[s.kind])
	}
	if read := logical[s.name]; read != nil {
		return read(s, node)
	}
	switch s.kind {
	case "boolean":
		b, _ := node.(bool)
		return b, nil
	case "int8":
		return int8(integer(node, 32)), nil
	case "int16":
		return int16(integer(node, 32)), nil
	case "int32":
		return int32(integer(node, 32)), nil
	case "int64":
		return integer(node, 64), nil
	case "float":
		return float32(float(node)), nil
	case "double":
		return float(node), nil
	case "string":
		if text, ok := node.(string); ok {
			return text, nil
		}
		return nil, nil
	case "bytes":
		text, ok := node.(string)
		if !ok {
			return nil, nil
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, &Error{Message: "Invalid bytes field", Cause: err}
		}
		return b, nil
	case "array":
		return j.list(s, node)
	case "map":
		return j.mapOf(s, node)
	default:
		return j.structOf(s, node)
	}
}

func (j *jsonReader) schemaless(node any) (any, error) {
	switch n := node.(type) {
	case number:
		if strings.ContainsAny(string(n), ".eE") {
			return float(n), nil
		}
		return integer(n, 64), nil
	case []any:
		return j.list(nil, n)
	case *object:
		return j.mapOf(nil, n)
	}
	return node, nil
}

func (j *jsonReader) list(s *schema, node any) (any, error) {
	var elem *schema
	if s != nil {
		elem = s.elem
	}
	var nodes []any
	switch n := node.(type) { // Java iterates over what is no array, too
	case []any:
		nodes = n
	case *object:
		for _, name := range n.names {
			nodes = append(nodes, n.fields[name])
		}
	}
	list := []any{}
	for _, n := range nodes {
		v, err := j.convert(elem, n, true)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (j *jsonReader) mapOf(s *schema, node any) (any, error) {
	m := &hashMap{}
	if s == nil || s.key.kind == "string" {
		o, ok := node.(*object)
		if !ok {
			return nil, wrong("Maps with string fields should be encoded as JSON objects, but found %s", nodeType(node))
		}
		var elem *schema
		if s != nil {
			elem = s.elem
		}
		for _, name := range o.names {
			v, err := j.convert(elem, o.fields[name], true)
			if err != nil {
				return nil, err
			}
			m.put(name, v)
		}
		return m, nil
	}
	list, ok := node.([]any)
	if !ok {
		return nil, wrong("Maps with non-string fields should be encoded as JSON array of tuples, but found %s", nodeType(node))
	}
	for _, entry := range list {
		pair, ok := entry.([]any)
		switch {
		case !ok:
			return nil, wrong("Found invalid map entry instead of array tuple: %s", nodeType(entry))
		case len(pair) != 2:
			return nil, wrong("Found invalid map entry, expected length 2 but found :%d", len(pair))
		}
		k, err := j.convert(s.key, pair[0], true)
		if err != nil {
			return nil, err
		}
		v, err := j.convert(s.elem, pair[1], true)
		if err != nil {
			return nil, err
		}
		m.put(k, v)
	}
	return m, nil
}

func (j *jsonReader) structOf(s *schema, node any) (any, error) {
	o, ok := node.(*object)
	if !ok {
		return nil, wrong("Structs should be encoded as JSON objects, but found %s", nodeType(node))
	}
	out := &structure{}
	for _, f := range s.fields {
		n, there := o.get(f.name)
		v, err := j.convert(f.schema, n, there)
		if err != nil {
			return nil, err
		}
		if v == nil && !f.schema.optional {
			return nil, wrong("Invalid value: null used for required field: \"%s\", schema type: %s", f.name, types[f.schema.kind])
		}
		out.names = append(out.names, f.name)
		out.values = append(out.values, v)
	}
	return out, nil
}

func nodeType(node any) string {
	switch node.(type) {
	case nil:
		return "NULL"
	case bool:
		return "BOOLEAN"
	case number:
		return "NUMBER"
	case string:
		return "STRING"
	case []any:
		return "ARRAY"
	}
	return "OBJECT"
}

// integer is JsonNode.intValue (32 bits) or longValue: what is no number is 0, and too large ones lose their upper bits.
func integer(node any, bits int) int64 {
	n, ok := node.(number)
	if !ok {
		return 0
	}
	if v, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return truncate(v, bits)
	}
	if i, ok := new(big.Int).SetString(string(n), 10); ok {
		return truncate(lower(i), bits)
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil { // too large: its lower bits are zeros
		return 0
	}
	i, _ := big.NewFloat(f).Int(nil)
	return truncate(lower(i), bits)
}

// lower is BigInteger.longValue.
func lower(i *big.Int) int64 {
	var m big.Int
	m.And(i, new(big.Int).SetUint64(math.MaxUint64)) // two's complement
	return int64(m.Uint64())
}

func truncate(v int64, bits int) int64 {
	if bits == 32 {
		return int64(int32(v))
	}
	return v
}

func float(node any) float64 {
	n, ok := node.(number)
	if !ok {
		return 0
	}
	f, _ := strconv.ParseFloat(string(n), 64) // out of range is infinite, as in Java
	return f
}

// logical reads Connect's logical types.
var logical = map[string]func(*schema, any) (any, error){
	"org.apache.kafka.connect.data.Decimal":   readDecimal,
	"org.apache.kafka.connect.data.Date":      readDate("Date", 24*time.Hour, "should be integer"),
	"org.apache.kafka.connect.data.Time":      readDate("Time", time.Millisecond, "should be integer"),
	"org.apache.kafka.connect.data.Timestamp": readDate("Timestamp", time.Millisecond, "should be integral"),
}

func readDate(name string, unit time.Duration, should string) func(*schema, any) (any, error) {
	return func(_ *schema, node any) (any, error) {
		n, ok := node.(number)
		v, err := strconv.ParseInt(string(n), 10, 64)
		if !ok || err != nil || name != "Timestamp" && v != int64(int32(v)) {
			return nil, wrong("Invalid type for %s, underlying representation %s but was %s", name, should, nodeType(node))
		}
		return date(time.UnixMilli(v * unit.Milliseconds())), nil
	}
}

func readDecimal(s *schema, node any) (any, error) {
	switch n := node.(type) {
	case number:
		return parseDecimal(string(n))
	case string:
		b, err := base64.StdEncoding.DecodeString(n)
		if err != nil || len(b) == 0 {
			return nil, wrong("Invalid bytes for Decimal field")
		}
		scale, err := s.scale()
		if err != nil {
			return nil, err
		}
		i := new(big.Int).SetBytes(b)
		if b[0]&0x80 != 0 {
			i.Sub(i, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		return decimal{i, scale}, nil
	}
	return nil, wrong("Invalid type for Decimal, underlying representation should be numeric or bytes but was %s", nodeType(node))
}

func parseDecimal(n string) (any, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(n), "e")
	var e int64
	if exponent != "" {
		var err error
		if e, err = strconv.ParseInt(exponent, 10, 32); err != nil {
			return nil, wrong("Invalid bytes for Decimal field")
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	i, ok := new(big.Int).SetString(whole+fraction, 10)
	scale := int64(len(fraction)) - e
	if !ok || scale != int64(int32(scale)) {
		return nil, wrong("Invalid bytes for Decimal field")
	}
	return decimal{i, int32(scale)}, nil
}
