package access

import "strings"

// Pattern is a resource of a statement: service:type:id, with "*" for any run of
// characters in each part. A pattern that ends earlier, with "*", stands for all
// that follows: "*" is everything, "k2k:*" everything of k2k.
//
// In the id, whose segments are divided by "/", a "*" stays within its segment, unless it
// is the whole of the last one: "prod/*" is all of prod, "team/*" all paths below
// team, and "prod*" nothing below prod.
type Pattern string

// Matches tells whether a pattern matches a resource. If wide, "*" reaches over
// every "/": a deny that can be read so or so is meant to deny.
func (p Pattern) Matches(resource string, wide bool) bool {
	parts, of := strings.SplitN(string(p), ":", 3), strings.SplitN(resource, ":", 3)
	if len(of) != 3 {
		return false
	}
	for i, part := range parts {
		last := i == len(parts)-1
		switch {
		case last && part == "*":
			return true // the rest
		case i < 2 && (last || !Match(part, of[i])):
			return false
		case i == 2:
			return matchesID(part, of[2], wide)
		}
	}
	return false
}

func matchesID(pattern, id string, wide bool) bool {
	if wide {
		return Match(pattern, id)
	}
	for {
		segment, rest, more := strings.Cut(pattern, "/")
		head, tail, deeper := strings.Cut(id, "/")
		switch {
		case segment == "*" && !more:
			return id != ""
		case !Match(segment, head) || more != deeper:
			return false
		case !more:
			return true
		}
		pattern, id = rest, tail
	}
}

// Match tells whether a text matches a pattern, in which "*" stands for any
// run of characters.
func Match(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(text, part) // the first place leaves most to the others
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// overlap tells whether there is a text that matches both patterns.
func overlap(a, b string) bool {
	// reach[j] says whether the part of a that has been looked at and b[:j] have a text in common.
	reach := make([]bool, len(b)+1)
	reach[0] = true
	for j := 0; j < len(b) && b[j] == '*'; j++ {
		reach[j+1] = true
	}
	for i := range len(a) {
		next := make([]bool, len(b)+1)
		for j := range next {
			switch {
			case a[i] == '*':
				next[j] = reach[j] || j > 0 && next[j-1]
			case j > 0 && b[j-1] == '*':
				next[j] = next[j-1] || reach[j]
			case j > 0:
				next[j] = reach[j-1] && a[i] == b[j-1]
			}
		}
		reach = next
	}
	return reach[len(b)]
}
