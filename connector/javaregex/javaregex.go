// Package javaregex matches names against regexes in the syntax of java.util.regex.Pattern, which is what configurations
// of Kafka hold. A Regex never matches a part: the whole name, or not at all; Linear is for those who want parts.
//
// Easy to get wrong: the same text can mean something else to Go, without an error. So a pattern is read here and
// written anew, and what cannot be is refused.
package javaregex

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// Regex is a compiled Java regex that matches whole names.
//
// Names of topics and of their settings are ASCII, so a class (like [a-z&&[^b]], or \h) becomes the list of its ASCII
// members, which every engine reads alike.
type Regex struct {
	// quick is Go's engine, in linear time. It is nil where the regex needs
	// backtracking (lookaround, back references, possessive quantifiers).
	quick *regexp.Regexp
	slow  *regexp2.Regexp
}

// matchTimeout bounds one match of a regex that backtracks, so that a bad one
// cannot stall the worker.
const matchTimeout = 100 * time.Millisecond

// Compile reads a regex in the syntax of java.util.regex.Pattern.
func Compile(pattern string) (*Regex, error) {
	p := &javaParser{in: pattern}
	if err := p.regex(0); err != nil {
		return nil, fmt.Errorf("regex %q: %w", pattern, err)
	}
	whole := `\A(?:` + p.out.String() + `)\z`
	if !p.backtracks {
		if re, err := regexp.Compile(whole); err == nil {
			return &Regex{quick: re}, nil
		}
		// Over one of Go's limits (1,000 repetitions).
	}
	re, err := regexp2.Compile(whole, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("regex %q: it cannot be used here: %w", pattern, err)
	}
	re.MatchTimeout = matchTimeout
	return &Regex{slow: re}, nil
}

// Match says whether name as a whole matches. The error is that it took too
// long.
func (r *Regex) Match(name string) (bool, error) {
	if r.quick != nil {
		return r.quick.MatchString(name), nil
	}
	return r.slow.MatchString(name)
}

// Linear reads a regex that takes linear time: whole matches a name as a whole (Matcher.matches), anywhere finds a part of
// it (Matcher.find). One that needs backtracking is refused.
func Linear(pattern string) (whole, anywhere *regexp.Regexp, err error) {
	p := &javaParser{in: pattern}
	if err := p.regex(0); err != nil {
		return nil, nil, fmt.Errorf("regex %q: %w", pattern, err)
	}
	if p.backtracks {
		return nil, nil, fmt.Errorf("regex %q: lookaround, back references, atomic groups and possessive quantifiers are not supported here", pattern)
	}
	if whole, err = regexp.Compile(`\A(?:` + p.out.String() + `)\z`); err != nil {
		return nil, nil, fmt.Errorf("regex %q: it cannot be used here: %w", pattern, err)
	}
	if anywhere, err = regexp.Compile(p.out.String()); err != nil {
		return nil, nil, fmt.Errorf("regex %q: it cannot be used here: %w", pattern, err)
	}
	return whole, anywhere, nil
}

// maxNesting bounds the depth of groups and classes, so that no pattern can
// exhaust the stack.
const maxNesting = 100

// javaParser rewrites one Java regex.
type javaParser struct {
	in         string
	at         int
	out        strings.Builder
	backtracks bool
}

// rest is what has not been read.
func (p *javaParser) rest() string { return p.in[p.at:] }

// take reads text if it comes next.
func (p *javaParser) take(text string) bool {
	if strings.HasPrefix(p.rest(), text) {
		p.at += len(text)
		return true
	}
	return false
}

// rune reads one character; there must be one.
func (p *javaParser) rune() rune {
	r, size := utf8.DecodeRuneInString(p.rest())
	p.at += size
	return r
}

func (p *javaParser) wrong(format string, args ...any) error {
	return fmt.Errorf(format+" near index %d", append(args, p.at)...)
}

// regex reads alternatives to the end, or to the end of a group.
func (p *javaParser) regex(depth int) error {
	if depth > maxNesting {
		return p.wrong("nested too deeply")
	}
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ')':
			if depth == 0 {
				return p.wrong("unmatched closing ')'")
			}
			return nil
		case '|':
			p.at++
			p.out.WriteByte('|')
			continue
		}
		start := p.out.Len()
		quantifiable, err := p.atom(depth)
		if err != nil {
			return err
		}
		if err := p.quantifier(start, quantifiable); err != nil {
			return err
		}
	}
	if depth > 0 {
		return p.wrong("unclosed group")
	}
	return nil
}

// atom reads one thing that a quantifier may follow. It returns false if it was
// nothing (a flag, an empty quotation).
func (p *javaParser) atom(depth int) (bool, error) {
	switch c := p.in[p.at]; c {
	case '(':
		p.at++
		return p.group(depth)
	case '[':
		p.at++
		set, err := p.class(depth)
		p.set(set)
		return true, err
	case '\\':
		p.at++
		return p.escape()
	case '*', '+', '?':
		return false, p.wrong("dangling meta character '%c' (any name is .*)", c)
	case '{':
		return false, p.wrong("illegal repetition")
	case '.', '^', '$':
		p.at++
		p.out.WriteByte(c)
		return true, nil
	default:
		p.out.WriteString(regexp.QuoteMeta(string(p.rune())))
		return true, nil
	}
}

// quantifier reads what may follow the atom that was written from start on.
func (p *javaParser) quantifier(start int, quantifiable bool) error {
	if p.at >= len(p.in) {
		return nil
	}
	var q string
	switch c := p.in[p.at]; c {
	case '*', '+', '?':
		q = string(c)
	case '{':
		end := strings.IndexByte(p.rest(), '}')
		if end < 0 || !counted.MatchString(p.rest()[:end+1]) {
			return p.wrong("illegal or unclosed repetition (a comma separates patterns)")
		}
		q = p.rest()[:end+1]
	default:
		return nil
	}
	if !quantifiable {
		return p.wrong("dangling meta character '%c'", q[0])
	}
	p.at += len(q)
	switch {
	case p.take("?"):
		p.out.WriteString(q + "?")
	case p.take("+"):
		// Possessive: an atomic group does the same.
		p.backtracks = true
		written := p.out.String()
		p.out.Reset()
		p.out.WriteString(written[:start] + "(?>" + written[start:] + q + ")")
	default:
		p.out.WriteString(q)
	}
	if p.at < len(p.in) && strings.IndexByte("*+?", p.in[p.at]) >= 0 {
		return p.wrong("dangling meta character '%c'", p.in[p.at])
	}
	return nil
}

var counted = regexp.MustCompile(`^\{\d{1,4}(,\d{0,4})?\}$`)

// group reads a group, its opening parenthesis already read.
func (p *javaParser) group(depth int) (bool, error) {
	opening := "("
	if p.take("?") {
		for _, kind := range []struct {
			text       string
			backtracks bool
		}{{":", false}, {"=", true}, {"!", true}, {"<=", true}, {"<!", true}, {">", true}} {
			if p.take(kind.text) {
				opening = "(?" + kind.text
				p.backtracks = p.backtracks || kind.backtracks
				return true, p.groupRest(opening, depth)
			}
		}
		if p.take("<") {
			name, err := p.groupName()
			if err != nil {
				return false, err
			}
			return true, p.groupRest("(?<"+name+">", depth)
		}
		flags, closed, err := p.flags()
		if err != nil {
			return false, err
		}
		if closed {
			if flags != "" {
				p.out.WriteString("(?" + flags + ")")
			}
			return false, nil
		}
		opening = "(?" + flags + ":"
	}
	return true, p.groupRest(opening, depth)
}

func (p *javaParser) groupRest(opening string, depth int) error {
	p.out.WriteString(opening)
	if err := p.regex(depth + 1); err != nil {
		return err
	}
	if !p.take(")") {
		return p.wrong("unclosed group")
	}
	p.out.WriteByte(')')
	return nil
}

var groupName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]*>`)

func (p *javaParser) groupName() (string, error) {
	name := groupName.FindString(p.rest())
	if name == "" {
		return "", p.wrong("a group's name begins with a letter and ends with '>'")
	}
	p.at += len(name)
	return strings.TrimSuffix(name, ">"), nil
}

// flags reads inline flags up to ")" (closed) or ":". Those that make no
// difference for ASCII names in one line are dropped.
func (p *javaParser) flags() (flags string, closed bool, err error) {
	on, off, minus := "", "", false
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch c {
		case ')', ':':
			if off != "" {
				off = "-" + off
			}
			return on + off, c == ')', nil
		case '-':
			minus = true
		case 'i', 's', 'm':
			if minus {
				off += string(c)
			} else {
				on += string(c)
			}
		case 'd', 'u', 'U':
		case 'x':
			p.at--
			return "", false, p.wrong("the flag x (comments) is not supported")
		default:
			p.at--
			return "", false, p.wrong("unknown inline modifier")
		}
	}
	return "", false, p.wrong("unclosed group")
}

// escape reads what follows a backslash outside of a class.
func (p *javaParser) escape() (bool, error) {
	if p.at >= len(p.in) {
		return false, p.wrong("a backslash at the end")
	}
	if set, ok, err := p.classEscape(); ok || err != nil {
		p.set(set)
		return true, err
	}
	switch c := p.in[p.at]; c {
	case 'Q':
		p.at++
		literal, after, ended := strings.Cut(p.rest(), `\E`)
		p.at += len(literal)
		if ended {
			p.at = len(p.in) - len(after)
		}
		// A quantifier binds to the last character alone, in Go as in Java.
		p.out.WriteString(regexp.QuoteMeta(literal))
		return literal != "", nil
	case 'E':
		p.at++
		return false, nil
	case 'b', 'B', 'A', 'z':
		p.at++
		p.out.WriteString(`\` + string(c))
		return true, nil
	case 'Z':
		p.at++
		p.out.WriteString(`\z`)
		return true, nil
	case 'k':
		p.at++
		if !p.take("<") {
			return false, p.wrong("\\k is followed by '<'")
		}
		name, err := p.groupName()
		p.backtracks = true
		p.out.WriteString(`\k<` + name + `>`)
		return true, err
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		p.at++
		p.backtracks = true
		p.out.WriteString(`(?:\` + string(c) + `)`)
		return true, nil
	case 'R', 'X', 'G':
		return false, p.wrong("\\%c is not supported", c)
	}
	r, err := p.charEscape()
	p.out.WriteString(regexp.QuoteMeta(string(r)))
	return true, err
}

// charEscape reads an escape that stands for one character, the backslash
// already read.
func (p *javaParser) charEscape() (rune, error) {
	if p.at >= len(p.in) {
		return 0, p.wrong("a backslash at the end")
	}
	c := p.in[p.at]
	p.at++
	if r, ok := map[byte]rune{'t': '\t', 'n': '\n', 'r': '\r', 'f': '\f', 'a': '\a', 'e': 0x1b}[c]; ok {
		return r, nil
	}
	switch {
	case c == '0':
		return p.digits(octal, 8)
	case c == 'x' && strings.HasPrefix(p.rest(), "{"):
		return p.digits(bracedHex, 16)
	case c == 'x':
		return p.digits(hex2, 16)
	case c == 'u':
		return p.digits(hex4, 16)
	case c == 'c' && p.at < len(p.in):
		p.at++
		return rune(p.in[p.at-1] ^ 64), nil
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		p.at--
		return 0, p.wrong("illegal or unsupported escape sequence")
	default:
		p.at--
		return p.rune(), nil
	}
}

var (
	octal     = regexp.MustCompile(`^[0-3]?[0-7]{1,2}`)
	hex2      = regexp.MustCompile(`^[0-9a-fA-F]{2}`)
	hex4      = regexp.MustCompile(`^[0-9a-fA-F]{4}`)
	bracedHex = regexp.MustCompile(`^\{[0-9a-fA-F]{1,6}\}`)
)

func (p *javaParser) digits(form *regexp.Regexp, base int) (rune, error) {
	text := form.FindString(p.rest())
	n, err := strconv.ParseInt(strings.Trim(text, "{}"), base, 32)
	if err != nil {
		return 0, p.wrong("illegal escape sequence")
	}
	p.at += len(text)
	return rune(n), nil
}

// set writes a class: its ASCII members, one by one.
func (p *javaParser) set(s asciiSet) {
	p.out.WriteByte('[')
	empty := true
	for c := range 128 {
		if s.has(byte(c)) {
			empty = false
			fmt.Fprintf(&p.out, `\x%02x`, c)
		}
	}
	if empty {
		p.out.WriteString(`^\x00-\x7f`) // no name has anything else
	}
	p.out.WriteByte(']')
}
