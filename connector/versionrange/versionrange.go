// Package versionrange reads what Kafka Connect takes for the version of a plugin (connector.plugin.version and the like, KIP-891):
// a version, "latest", or ranges as Maven writes them, [4.0,5.0).
//
// Easy to get wrong: a plain version is that version and no other, not at least it as in Maven.
package versionrange

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of versions. The zero value has all: it is that of "latest".
type Set struct{ ranges []interval }

// interval is one range; a nil end is open.
type interval struct {
	from, to         *string
	withFrom, withTo bool
}

// Parse reads a setting. The errors are those of Maven's VersionRange, word for word.
func Parse(text string) (Set, error) {
	if text == "latest" {
		return Set{}, nil
	}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "[") && !strings.HasPrefix(text, "(") {
		text = "[" + text + "]"
	}
	var s Set
	rest := text
	for strings.HasPrefix(rest, "[") || strings.HasPrefix(rest, "(") {
		end := strings.IndexAny(rest, ")]")
		if end < 0 {
			return Set{}, errors.New("Unbounded range: " + text)
		}
		next, err := parseInterval(rest[:end+1])
		if err != nil {
			return Set{}, err
		}
		if n := len(s.ranges); n > 0 && s.ranges[n-1].to != nil && (next.from == nil || Compare(*next.from, *s.ranges[n-1].to) < 0) {
			return Set{}, errors.New("Ranges overlap: " + text)
		}
		s.ranges = append(s.ranges, next)
		rest = strings.TrimSpace(rest[end+1:])
		if more, ok := strings.CutPrefix(rest, ","); ok {
			rest = strings.TrimSpace(more)
		}
	}
	if rest != "" {
		return Set{}, errors.New("Only fully-qualified sets allowed in multiple set scenario: " + text)
	}
	return s, nil
}

// parseInterval reads one range with its brackets.
func parseInterval(text string) (interval, error) {
	i := interval{withFrom: text[0] == '[', withTo: strings.HasSuffix(text, "]")}
	inner := strings.TrimSpace(text[1 : len(text)-1])
	from, to, pair := strings.Cut(inner, ",")
	if !pair {
		if !i.withFrom || !i.withTo {
			return i, errors.New("Single version must be surrounded by []: " + text)
		}
		i.from, i.to = &inner, &inner
		return i, nil
	}
	if from = strings.TrimSpace(from); from != "" {
		i.from = &from
	}
	if to = strings.TrimSpace(to); to != "" {
		i.to = &to
	}
	if i.from != nil && i.to != nil {
		if c := Compare(*i.to, *i.from); c < 0 || c == 0 && (!i.withFrom || !i.withTo) {
			return i, errors.New("Range defies version ordering: " + text)
		}
	}
	return i, nil
}

// Contains says whether a version is in the set.
func (s Set) Contains(version string) bool {
	return s.ranges == nil || slices.ContainsFunc(s.ranges, func(i interval) bool {
		if i.from != nil {
			if c := Compare(version, *i.from); c < 0 || c == 0 && !i.withFrom {
				return false
			}
		}
		if i.to != nil {
			if c := Compare(version, *i.to); c > 0 || c == 0 && !i.withTo {
				return false
			}
		}
		return true
	})
}

// String is the set as Maven writes it.
func (s Set) String() string {
	all := make([]string, len(s.ranges))
	for n, i := range s.ranges {
		from, to, open, shut := "", "", "(", ")"
		if i.from != nil {
			from = *i.from
		}
		if i.to != nil {
			to = *i.to
		}
		if i.withFrom {
			open = "["
		}
		if i.withTo {
			shut = "]"
		}
		all[n] = open + from + "," + to + shut
	}
	return strings.Join(all, ",")
}

// Check says what is wrong with a setting that wants a version of a plugin of which there are some. The words are
// Connect's (VersionedPluginLoadingException); malformed tells a setting that is no version at all.
func Check(class, wanted string, available ...string) (message string, malformed bool) {
	set, err := Parse(wanted)
	if err != nil {
		return err.Error(), true
	}
	if slices.ContainsFunc(available, set.Contains) {
		return "", false
	}
	return fmt.Sprintf("Plugin %s not found that matches the version range %s, available versions: [%s]", class, set, strings.Join(available, ", ")), false
}

// Compare orders versions as Maven's ComparableVersion does, for those that are made of numbers and one qualifier.
func Compare(a, b string) int {
	one, other := tokens(a), tokens(b)
	for i := range max(len(one), len(other)) {
		var x, y token
		if i < len(one) {
			x = one[i]
		}
		if i < len(other) {
			y = other[i]
		}
		if c := x.compare(y); c != 0 {
			return c
		}
	}
	return 0
}

// token is a number or a word of a version. The zero value stands for what is missing.
type token struct {
	number string // without leading zeros; empty: none, or 0
	word   string
}

// qualifiers are the words whose order is known; "" is the release.
var qualifiers = []string{"alpha", "beta", "milestone", "rc", "snapshot", "", "sp"}

// synonyms are other words for them.
var synonyms = map[string]string{"a": "alpha", "b": "beta", "m": "milestone", "cr": "rc", "ga": "", "final": "", "release": ""}

func (t token) compare(o token) int {
	if t.number != "" || o.number != "" {
		switch {
		case t.word != "":
			return -1 // a word is less than a number
		case o.word != "":
			return 1
		}
		return cmp.Or(cmp.Compare(len(t.number), len(o.number)), cmp.Compare(t.number, o.number))
	}
	return cmp.Or(cmp.Compare(rank(t.word), rank(o.word)), cmp.Compare(t.word, o.word))
}

// rank puts unknown words last.
func rank(word string) int {
	if i := slices.Index(qualifiers, word); i >= 0 {
		return i
	}
	return len(qualifiers)
}

// tokens cuts a version at points, hyphens, and where digits and letters meet.
func tokens(version string) []token {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	var all []token
	for _, part := range strings.FieldsFunc(strings.ToLower(version), func(r rune) bool { return r == '.' || r == '-' || r == '_' }) {
		for part != "" {
			n := 1
			for n < len(part) && digit(part[n]) == digit(part[0]) {
				n++
			}
			piece := part[:n]
			part = part[n:]
			if digit(piece[0]) {
				all = append(all, token{number: strings.TrimLeft(piece, "0")})
				continue
			}
			// a, b and m are words of their own only before a number: alpha1 is a1.
			known, ok := synonyms[piece]
			if _, err := strconv.Atoi(part[:min(1, len(part))]); ok && (len(piece) > 1 || err == nil) {
				piece = known
			}
			all = append(all, token{word: piece})
		}
	}
	return all
}
