package javaregex

import "strings"

// asciiSet is a set of ASCII characters.
type asciiSet [2]uint64

func (s asciiSet) has(c byte) bool { return c < 128 && s[c/64]&(1<<(c%64)) != 0 }

func (s *asciiSet) add(low, high rune) {
	for c := max(0, low); c <= min(127, high); c++ {
		s[c/64] |= 1 << (c % 64)
	}
}

func (s asciiSet) union(o asciiSet) asciiSet     { return asciiSet{s[0] | o[0], s[1] | o[1]} }
func (s asciiSet) intersect(o asciiSet) asciiSet { return asciiSet{s[0] & o[0], s[1] & o[1]} }
func (s asciiSet) complement() asciiSet          { return asciiSet{^s[0], ^s[1]} }

func setOf(ranges string) asciiSet {
	var s asciiSet
	for i := 0; i+1 < len(ranges); i += 2 {
		s.add(rune(ranges[i]), rune(ranges[i+1]))
	}
	return s
}

var (
	lower = setOf("az")
	upper = setOf("AZ")
	digit = setOf("09")
	alpha = lower.union(upper)
	punct = setOf("!/:@[`{~")
	// classes are the classes of one letter.
	classes = map[byte]asciiSet{
		'd': digit,
		'w': alpha.union(digit).union(setOf("__")),
		's': setOf("  \t\r"),
		'h': setOf("  \t\t"),
		'v': setOf("\n\r"),
	}
	// properties are the names in \p{…}, without the prefixes Is, java, general_category= and script=.
	// What they hold beyond ASCII does not matter for names.
	properties = map[string]asciiSet{
		"Lower": lower, "Upper": upper, "ASCII": setOf("\x00\x7f"), "Alpha": alpha, "Digit": digit, "Alnum": alpha.union(digit),
		"Punct": punct, "Graph": setOf("!~"), "Print": setOf(" ~"), "Blank": setOf("  \t\t"), "Cntrl": setOf("\x00\x1f\x7f\x7f"),
		"XDigit": setOf("09afAF"), "Space": setOf("  \t\r"),
		"L": alpha, "Ll": lower, "Lu": upper, "Lt": {}, "Lm": {}, "Lo": {}, "N": digit, "Nd": digit, "LC": alpha,
		"Alphabetic": alpha, "Letter": alpha, "Lowercase": lower, "Uppercase": upper, "White_Space": setOf("  \t\r"),
		"LowerCase": lower, "UpperCase": upper, "LetterOrDigit": alpha.union(digit), "Whitespace": setOf("  \t\r\x1c\x1f"), "Latin": alpha, "LATIN": alpha,
	}
)

// classEscape reads an escape that stands for several characters, the
// backslash already read; ok is false if there is none.
func (p *javaParser) classEscape() (s asciiSet, ok bool, err error) {
	if p.at >= len(p.in) {
		return s, false, nil
	}
	c := p.in[p.at]
	if set, found := classes[c|0x20]; found {
		p.at++
		if c < 'a' {
			set = set.complement()
		}
		return set, true, nil
	}
	if c != 'p' && c != 'P' {
		return s, false, nil
	}
	p.at++
	var name string
	if p.take("{") {
		var closed bool
		name, _, closed = strings.Cut(p.rest(), "}")
		if !closed {
			return s, false, p.wrong("unclosed character property")
		}
		p.at += len(name) + 1
	} else if p.at < len(p.in) {
		name = p.in[p.at : p.at+1]
		p.at++
	}
	for _, prefix := range []string{"java", "Is", "general_category=", "gc=", "script=", "sc="} {
		name = strings.TrimPrefix(name, prefix)
	}
	set, found := properties[name]
	if !found {
		return s, false, p.wrong("unknown or unsupported character property {%s}", name)
	}
	if c == 'P' {
		set = set.complement()
	}
	return set, true, nil
}

// class reads a class, its opening bracket already read: a union of
// characters, ranges and classes, intersected by &&, and last of all negated.
func (p *javaParser) class(depth int) (asciiSet, error) {
	if depth > maxNesting {
		return asciiSet{}, p.wrong("nested too deeply")
	}
	negated := p.take("^")
	var result, part asciiSet
	intersecting, any := false, false // of part: it holds something
	fold := func() {
		switch {
		case !any: // an empty side of && says nothing
		case intersecting:
			result = result.intersect(part)
		default:
			result = part
			intersecting = true
		}
		part, any = asciiSet{}, false
	}
	for first := true; ; first = false {
		switch {
		case p.at >= len(p.in):
			return result, p.wrong("unclosed character class")
		case !first && p.take("]"):
			fold()
			if negated {
				result = result.complement()
			}
			return result, nil
		case p.take("&&"):
			fold()
		case p.take("["):
			nested, err := p.class(depth + 1)
			if err != nil {
				return result, err
			}
			part, any = part.union(nested), true
		default:
			members, err := p.classMember()
			if err != nil {
				return result, err
			}
			part, any = part.union(members), true
		}
	}
}

// classMember reads a character, a range or an escape inside a class.
func (p *javaParser) classMember() (asciiSet, error) {
	var s asciiSet
	if p.take(`\Q`) {
		literal, _, ended := strings.Cut(p.rest(), `\E`)
		p.at += len(literal)
		if ended {
			p.at += len(`\E`)
		}
		for _, r := range literal {
			s.add(r, r)
		}
		return s, nil
	}
	if strings.HasPrefix(p.rest(), `\`) {
		p.at++
		set, ok, err := p.classEscape()
		if ok || err != nil {
			return set, err
		}
		p.at--
	}
	low, err := p.classRune()
	if err != nil {
		return s, err
	}
	high := low
	// A "-" before the end, or before a nested class, stands for itself.
	if rest := p.rest(); len(rest) >= 2 && rest[0] == '-' && rest[1] != ']' && rest[1] != '[' {
		p.at++
		if high, err = p.classRune(); err != nil {
			return s, err
		}
		if high < low {
			return s, p.wrong("illegal character range")
		}
	}
	s.add(low, high)
	return s, nil
}

// classRune reads one character inside a class.
func (p *javaParser) classRune() (rune, error) {
	if p.take(`\`) {
		return p.charEscape()
	}
	return p.rune(), nil
}
