package converter

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// structure is Connect's Struct.
type structure struct {
	names  []string
	values []any
}

// date is Java's java.util.Date.
type date time.Time

// hashMap is Java's HashMap, which gives its entries in an order of its own: that of its buckets.
type hashMap struct {
	keys, values []any       // in the order of their coming
	at           map[any]int // of the keys that can be compared
}

func (m *hashMap) put(key, value any) {
	switch key.(type) {
	case string, bool, int8, int16, int32, int64, float32, float64:
		if i, ok := m.at[key]; ok {
			m.values[i] = value
			return
		}
		if m.at == nil {
			m.at = map[any]int{}
		}
		m.at[key] = len(m.keys)
	}
	m.keys, m.values = append(m.keys, key), append(m.values, value)
}

// Text is value as Java's String.valueOf writes it, but for bytes, of which Java writes an address: they are given as
// they are, and in base64 within something else.
func Text(value any) []byte {
	if b, ok := value.([]byte); ok {
		return b
	}
	return appendText(nil, value)
}

func appendText(out []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(out, "null"...)
	case string:
		return append(out, v...)
	case bool:
		return strconv.AppendBool(out, v)
	case int8:
		return strconv.AppendInt(out, int64(v), 10)
	case int16:
		return strconv.AppendInt(out, int64(v), 10)
	case int32:
		return strconv.AppendInt(out, int64(v), 10)
	case int64:
		return strconv.AppendInt(out, v, 10)
	case float32:
		return append(out, javaFloat(float64(v), 32)...)
	case float64:
		return append(out, javaFloat(v, 64)...)
	case []byte:
		return base64.StdEncoding.AppendEncode(out, v)
	case []any:
		out = append(out, '[')
		for i, e := range v {
			if i > 0 {
				out = append(out, ", "...)
			}
			out = appendText(out, e)
		}
		return append(out, ']')
	case *hashMap:
		out = append(out, '{')
		for i, n := range v.order() {
			if i > 0 {
				out = append(out, ", "...)
			}
			out = append(appendText(out, v.keys[n]), '=')
			out = appendText(out, v.values[n])
		}
		return append(out, '}')
	case *structure:
		out = append(out, "Struct{"...)
		first := true
		for i, e := range v.values {
			if e == nil {
				continue
			}
			if !first {
				out = append(out, ',')
			}
			first = false
			out = append(append(out, v.names[i]...), '=')
			out = appendText(out, e)
		}
		return append(out, '}')
	case decimal:
		return append(out, v.text()...)
	case date:
		return time.Time(v).AppendFormat(out, "Mon Jan 02 15:04:05 MST 2006")
	}
	panic(fmt.Sprintf("converter: a %T is none of Connect's values", value))
}

// order is that in which Java's HashMap gives its entries: by bucket, and in a bucket as they came.
func (m *hashMap) order() []int {
	size := 16
	for float64(len(m.keys)) > 0.75*float64(size) {
		size *= 2
	}
	buckets := make([][]int, size)
	for i, k := range m.keys {
		h := uint32(hashOf(k))
		at := (h ^ h>>16) & uint32(size-1)
		buckets[at] = append(buckets[at], i)
	}
	order := make([]int, 0, len(m.keys))
	for _, b := range buckets {
		order = append(order, b...)
	}
	return order
}

// hashOf is hashCode of what can be a map's key. Lists, maps and structures as keys are rare enough to stay in the order of their coming.
func hashOf(v any) int32 {
	switch k := v.(type) {
	case string:
		return javaHash(k)
	case bool:
		if k {
			return 1231
		}
		return 1237
	case int8:
		return int32(k)
	case int16:
		return int32(k)
	case int32:
		return k
	case int64:
		return int32(k ^ int64(uint64(k)>>32))
	case float32:
		return int32(math.Float32bits(k))
	case float64:
		b := math.Float64bits(k)
		return int32(b ^ b>>32)
	}
	return 0
}

// javaFloat is Java's Double.toString and Float.toString, of Java 19 and later where they differ from earlier ones.
func javaFloat(f float64, bits int) string {
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0 || abs >= 1e-3 && abs < 1e7:
		s := strconv.FormatFloat(f, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, bits), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// text is BigDecimal.toString.
func (d decimal) text() string {
	digits, sign := d.unscaled.String(), ""
	if strings.HasPrefix(digits, "-") {
		digits, sign = digits[1:], "-"
	}
	if d.scale == 0 {
		return sign + digits
	}
	adjusted := -int64(d.scale) + int64(len(digits)-1)
	if d.scale > 0 && adjusted >= -6 {
		if pad := int(d.scale) - len(digits); pad >= 0 {
			return sign + "0." + strings.Repeat("0", pad) + digits
		}
		at := len(digits) - int(d.scale)
		return sign + digits[:at] + "." + digits[at:]
	}
	out := sign + digits[:1]
	if len(digits) > 1 {
		out += "." + digits[1:]
	}
	if adjusted != 0 {
		out += "E" + fmt.Sprintf("%+d", adjusted)
	}
	return out
}
