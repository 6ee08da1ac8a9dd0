package transform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// member is one member of an object: what stands in text where.
type member struct{ before, key, colon, value, end int }

// object walks the members of a JSON object that is known to be valid.
type object struct {
	text []byte
	at   int
}

// open returns the object in text, which must be all that there is. purpose is Connect's, for its errors
// (Requirements.requireMap).
func open(text []byte, purpose string) (object, error) {
	found := "null"
	if text != nil {
		if !json.Valid(text) {
			return object{}, errors.New("it is not JSON")
		}
		at := space(text, 0)
		switch text[at] {
		case '{':
			return object{text, at + 1}, nil
		case '[':
			found = "java.util.ArrayList"
		case '"':
			found = "java.lang.String"
		case 't', 'f':
			found = "java.lang.Boolean"
		case 'n':
		default:
			found = "java.lang.Long"
			if bytes.ContainsAny(text, ".eE") {
				found = "java.lang.Double"
			}
		}
	}
	return object{}, fmt.Errorf("Only Map objects supported in absence of schema for [%s], found: %s", purpose, found)
}

// next returns the next member; false: there is none, and at is where the object closes.
func (o *object) next() (m member, ok bool) {
	m.before = o.at
	m.key = space(o.text, o.at)
	if o.text[m.key] == '}' {
		o.at = m.key
		return m, false
	}
	if o.text[m.key] == ',' {
		m.before = m.key + 1
		m.key = space(o.text, m.before)
	}
	m.colon = quoted(o.text, m.key)
	m.value = space(o.text, space(o.text, m.colon)+1)
	m.end = skip(o.text, m.value)
	o.at = m.end
	return m, true
}

// name is the member's name. It is compared, not kept.
func (m member) name(text []byte) []byte {
	raw := text[m.key+1 : m.colon-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	var name string
	_ = json.Unmarshal(text[m.key:m.colon], &name) // valid
	return []byte(name)
}

func space(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') {
		at++
	}
	return at
}

// quoted returns what is behind the string that begins at.
func quoted(text []byte, at int) int {
	for at++; text[at] != '"'; at++ {
		if text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// skip returns what is behind the value that begins at.
func skip(text []byte, at int) int {
	depth := 0
	for {
		switch text[at] {
		case '"':
			at = quoted(text, at)
		case '{', '[':
			depth++
			at++
			if at = space(text, at); text[at] != '}' && text[at] != ']' {
				continue
			}
			depth--
			at++
		default:
			for at < len(text) && !strings.ContainsRune(",:]} \t\r\n", rune(text[at])) {
				at++
			}
		}
		for {
			if depth == 0 {
				return at
			}
			at = space(text, at)
			if c := text[at]; c == '}' || c == ']' {
				depth--
				at++
				continue
			} else if c == ',' || c == ':' {
				at = space(text, at+1)
			}
			break
		}
	}
}

// mask is MaskField.
type mask struct {
	fields []string
	names  [][]byte // as JSON
	custom bool
	text   []byte // replacements, as JSON
	whole  []byte
	wholes error
	point  []byte
	points error
}

func newMask(fields []string, replacement string) (*mask, error) {
	m := &mask{custom: replacement != ""}
	slices.Sort(fields)
	m.fields = slices.Compact(fields)
	for _, f := range m.fields {
		m.names = append(m.names, quote(f))
	}
	m.text = quote(replacement)
	wrong := fmt.Errorf("Unable to convert %s (class java.lang.String) to a number", replacement)
	if n, ok := truncated(replacement); ok {
		m.whole = strconv.AppendInt(nil, n, 10)
	} else {
		m.wholes = wrong
	}
	if f, err := strconv.ParseFloat(strings.TrimSpace(replacement), 64); (err == nil || errors.Is(err, strconv.ErrRange)) && !math.IsNaN(f) && !math.IsInf(f, 0) {
		m.point = []byte(double(f))
	} else {
		m.points = wrong
	}
	return m, nil
}

// quote writes a JSON string.
func quote(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can be
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$`)

// truncated is Java's new BigDecimal(text).longValue(): the low 64 bits of what is before the point.
func truncated(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if !decimal.MatchString(text) || len(text) > 1000 {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, false
	}
	n := new(big.Int).Quo(r.Num(), r.Denom())
	low := new(big.Int).And(new(big.Int).Abs(n), new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	if n.Sign() < 0 {
		low = -low
	}
	return int64(low), true
}

// value is what takes the place of a value, nil: it stays.
func (m *mask) value(v []byte) ([]byte, error) {
	none := func(class string) ([]byte, error) {
		return nil, fmt.Errorf("Cannot mask value of type class %s with custom replacement.", class)
	}
	switch c := v[0]; {
	case c == 'n':
		return nil, nil
	case c == '"':
		return m.text, nil
	case c == '{' && m.custom:
		return none("java.util.HashMap")
	case c == '{':
		return []byte("{}"), nil
	case c == '[' && m.custom:
		return none("java.util.ArrayList")
	case c == '[':
		return []byte("[]"), nil
	case (c == 't' || c == 'f') && m.custom:
		return none("java.lang.Boolean")
	case c == 't' || c == 'f':
		return []byte("false"), nil
	case bytes.ContainsAny(v, ".eE"):
		if m.custom {
			return m.point, m.points
		}
		return []byte("0.0"), nil
	}
	if m.custom {
		return m.whole, m.wholes
	}
	return []byte("0"), nil
}

// apply masks the fields of an object. A field that it does not have becomes null, as in Connect.
func (m *mask) apply(text []byte) ([]byte, error) {
	o, err := open(text, "mask fields")
	if err != nil {
		return nil, err
	}
	var room [64]bool
	seen := room[:]
	if len(m.fields) > len(seen) {
		seen = make([]bool, len(m.fields))
	}
	var out []byte
	done, empty := 0, true
	change := func(upTo int, with []byte, behind int) {
		if out == nil {
			out = make([]byte, 0, len(text)+64)
		}
		out = append(append(out, text[done:upTo]...), with...)
		done = behind
	}
	for {
		f, ok := o.next()
		if !ok {
			break
		}
		empty = false
		at := index(m.fields, f.name(text))
		if at < 0 {
			continue
		}
		seen[at] = true
		with, err := m.value(text[f.value:f.end])
		if err != nil {
			return nil, err
		}
		if with != nil {
			change(f.value, with, f.end)
		}
	}
	for i, name := range m.names {
		if seen[i] {
			continue
		}
		if !empty {
			change(o.at, []byte(","), o.at)
		}
		change(o.at, name, o.at)
		change(o.at, []byte(":null"), o.at)
		empty = false
	}
	if out == nil {
		return text, nil
	}
	return append(out, text[done:]...), nil
}

// index finds a name in a sorted list.
func index(sorted []string, name []byte) int {
	for i, s := range sorted {
		if s == string(name) {
			return i
		}
	}
	return -1
}

// replace is ReplaceField.
type replace struct {
	exclude, include []string
	from, to         []string
	names            [][]byte // to, as JSON
}

func newReplace(exclude, include, renames []string) *replace {
	f := &replace{exclude: exclude, include: include}
	for _, r := range renames {
		from, to, _ := strings.Cut(r, ":")
		f.from, f.to, f.names = append(f.from, from), append(f.to, to), append(f.names, quote(to))
	}
	return f
}

// renamed is the index of a name's new one; -1: it stays. Of two for one name the last counts.
func (f *replace) renamed(name []byte) int {
	for i := range slices.Backward(f.from) {
		if f.from[i] == string(name) {
			return i
		}
	}
	return -1
}

func (f *replace) keeps(name []byte) bool {
	return index(f.exclude, name) < 0 && (len(f.include) == 0 || index(f.include, name) >= 0)
}

// apply drops and renames the fields of an object. Null stays. Where a new name is one that another field has,
// the one that stands last in the object is kept; in Connect it is the last in the order of a hash map.
func (f *replace) apply(text []byte) ([]byte, error) {
	if text == nil || string(bytes.TrimSpace(text)) == "null" {
		return text, nil
	}
	o, err := open(text, "field replacement")
	if err != nil {
		return nil, err
	}
	first := o
	last := f.lastOf(o)
	var out []byte
	begin := first.at
	changed, kept := false, 0
	for {
		m, ok := o.next()
		if !ok {
			break
		}
		name := m.name(text)
		keep, to := f.keeps(name), f.renamed(name)
		if keep && last != nil {
			final := name
			if to >= 0 {
				final = []byte(f.to[to])
			}
			if at := index(f.to, final); at >= 0 && last[at] != m.key {
				keep = false
			}
		}
		if !changed && keep && to < 0 {
			kept++
			begin = m.end
			continue
		}
		if !changed {
			changed, out = true, append(make([]byte, 0, len(text)+32), text[:begin]...)
		}
		if !keep {
			continue
		}
		if kept > 0 {
			out = append(out, ',')
		}
		kept++
		out = append(out, text[m.before:m.key]...)
		if to >= 0 {
			out = append(append(out, f.names[to]...), text[m.colon:m.end]...)
			continue
		}
		out = append(out, text[m.key:m.end]...)
	}
	if !changed {
		return text, nil
	}
	return append(out, text[o.at:]...), nil
}

// lastOf says where the last member stands that ends up with each of the new names; nil if nothing is renamed.
func (f *replace) lastOf(o object) []int {
	if len(f.to) == 0 {
		return nil
	}
	last := make([]int, len(f.to))
	for {
		m, ok := o.next()
		if !ok {
			return last
		}
		name := m.name(o.text)
		if !f.keeps(name) {
			continue
		}
		if to := f.renamed(name); to >= 0 {
			name = []byte(f.to[to])
		}
		if at := index(f.to, name); at >= 0 {
			last[at] = m.key
		}
	}
}
