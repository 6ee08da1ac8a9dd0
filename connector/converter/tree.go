package converter

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON, as Jackson's StreamReadConstraints do.
const maxDepth = 1000

// number is a JSON number as written.
type number string

// object is a JSON object in the order of its text.
type object struct {
	names  []string
	fields map[string]any
}

func (o *object) get(name string) (any, bool) {
	v, ok := o.fields[name]
	return v, ok
}

// missing is what Jackson reads out of no text at all.
type missing struct{}

// parse reads the first JSON value of b as Jackson does: what follows it is not looked at, and zeros may lead a number.
// It gives nil, bool, number, string, []any, *object, or missing.
func parse(b []byte) (any, error) {
	p := &parser{in: b}
	p.space()
	if p.at == len(p.in) {
		return missing{}, nil
	}
	return p.value(0)
}

type parser struct {
	in []byte
	at int
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("JSON at byte %d: %s", p.at, what)
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, p.fail("it is nested too deeply")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.string()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	}
	for word, v := range map[string]any{"true": true, "false": false, "null": nil} {
		if end := p.at + len(word); end <= len(p.in) && string(p.in[p.at:end]) == word && (end == len(p.in) || !letter(p.in[end])) {
			p.at = end
			return v, nil
		}
	}
	return nil, p.fail("a value is expected")
}

func letter(c byte) bool {
	return c == '_' || c == '$' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

func (p *parser) object(depth int) (any, error) {
	o := &object{fields: map[string]any{}}
	p.at++
	p.space()
	if p.peek() == '}' {
		p.at++
		return o, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, p.fail("a name is expected")
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		p.space()
		if p.peek() != ':' {
			return nil, p.fail("a colon is expected")
		}
		p.at++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if _, twice := o.fields[name]; !twice {
			o.names = append(o.names, name)
		}
		o.fields[name] = v // of two of one name the last counts
		p.space()
		switch p.peek() {
		case ',':
			p.at++
		case '}':
			p.at++
			return o, nil
		default:
			return nil, p.fail("a comma or the object's end is expected")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	list := []any{}
	p.at++
	p.space()
	if p.peek() == ']' {
		p.at++
		return list, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.space()
		switch p.peek() {
		case ',':
			p.at++
		case ']':
			p.at++
			return list, nil
		default:
			return nil, p.fail("a comma or the array's end is expected")
		}
	}
}

func (p *parser) digits() bool {
	from := p.at
	for '0' <= p.peek() && p.peek() <= '9' {
		p.at++
	}
	return p.at > from
}

// maxNumber is how many characters a number may have, as in Jackson.
const maxNumber = 1000

func (p *parser) number() (any, error) {
	from := p.at
	if p.peek() == '-' {
		p.at++
	}
	if !p.digits() {
		return nil, p.fail("a digit is expected")
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return nil, p.fail("a digit is expected")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return nil, p.fail("a digit is expected")
		}
	}
	if letter(p.peek()) || p.at-from > maxNumber {
		return nil, p.fail("this is no number")
	}
	return number(p.in[from:p.at]), nil
}

var errEnd = errors.New("JSON ends within a text")

func (p *parser) string() (string, error) {
	p.at++
	var out []byte
	for {
		if p.at >= len(p.in) {
			return "", errEnd
		}
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			return string(out), nil
		case c == '\\':
			p.at++
			var err error
			if out, err = p.escape(out); err != nil {
				return "", err
			}
		case c < ' ':
			return "", p.fail("control characters must be escaped")
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.at++
		default:
			r, size := utf8.DecodeRune(p.in[p.at:])
			if r == utf8.RuneError && size == 1 {
				return "", p.fail("this is not UTF-8")
			}
			out = append(out, p.in[p.at:p.at+size]...)
			p.at += size
		}
	}
}

// escape reads what follows a backslash. Half a surrogate pair, which Java keeps and then writes as a question mark, becomes one.
func (p *parser) escape(out []byte) ([]byte, error) {
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		r, ok := p.hex()
		if !ok {
			return nil, p.fail("four hexadecimal digits are expected")
		}
		if !utf16.IsSurrogate(r) {
			return utf8.AppendRune(out, r), nil
		}
		if before := p.at; p.peek() == '\\' && p.at+1 < len(p.in) && p.in[p.at+1] == 'u' {
			p.at += 2
			if low, ok := p.hex(); ok {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return utf8.AppendRune(out, pair), nil
				}
			}
			p.at = before
		}
		return append(out, '?'), nil
	}
	p.at--
	return nil, p.fail("no such escape")
}

func (p *parser) hex() (rune, bool) {
	if p.at+4 > len(p.in) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 4
	return rune(n), true
}
