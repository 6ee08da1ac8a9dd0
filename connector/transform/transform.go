// Package transform runs Kafka Connect's transforms and predicates on records that are copied as bytes. It never
// reads a clock, a network or a file, and one Chain may be used by any number of goroutines.
//
// Easy to get wrong: what decides by the topic alone (RegexRouter, TopicNameMatches) is settled once a topic, in
// Chain.For. Only what has to look into a record costs anything when it is copied.
package transform

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/connector/javaregex"
	"barnabas/connector/rawcopy"
)

// Chain is the transforms of a connector, in order. The nil Chain has none.
type Chain struct{ stages []stage }

// stage is one transform with its predicate (Connect's TransformationStage).
type stage struct {
	alias     string
	predicate *predicate
	negate    bool
	route     *router // RegexRouter; apply is nil
	apply     func(*rawcopy.Record) (keep bool, err error)
}

// predicate decides by the topic's name, or by a record.
type predicate struct {
	topic  *regexp.Regexp
	record func(*rawcopy.Record) bool
}

// Plan is what a chain does to the records of one topic.
type Plan struct {
	// Topic is what the topic is called in the end.
	Topic string
	steps []step
}

type step struct {
	alias  string
	test   func(*rawcopy.Record) bool // nil: always
	negate bool
	apply  func(*rawcopy.Record) (keep bool, err error)
}

// For settles what depends on the topic alone. As in Connect the chain sees the name that the copy has: the one that
// the replication policy gives.
func (c *Chain) For(topic string) Plan {
	p := Plan{Topic: topic}
	if c == nil {
		return p
	}
	for _, s := range c.stages {
		next := step{alias: s.alias, negate: s.negate, apply: s.apply}
		if s.predicate != nil {
			if s.predicate.topic != nil {
				if s.predicate.topic.MatchString(p.Topic) == s.negate {
					continue
				}
			} else {
				next.test = s.predicate.record
			}
		}
		if s.route != nil {
			p.Topic = s.route.topic(p.Topic)
			continue
		}
		p.steps = append(p.steps, next)
	}
	return p
}

// Decodes says whether records have to be looked at. Otherwise they may be copied undecoded.
func (p Plan) Decodes() bool { return len(p.steps) > 0 }

// Apply runs the plan on a record, whose slices are replaced and never written to. keep is false if the record is
// filtered out. An error names the transform; the record is then not to be used.
func (p Plan) Apply(r *rawcopy.Record) (keep bool, err error) {
	for _, s := range p.steps {
		if s.test != nil && s.test(r) == s.negate {
			continue
		}
		keep, err := s.apply(r)
		if err != nil {
			return false, fmt.Errorf("transform %s: %w", s.alias, err)
		}
		if !keep {
			return false, nil
		}
	}
	return true, nil
}

// router is RegexRouter: a topic that matches as a whole gets a new name.
type router struct {
	whole, anywhere *regexp.Regexp
	replacement     []part
}

// part of a replacement: text, or a group's number.
type part struct {
	text  string
	group int // -1: text
}

// topic returns the new name: the first thing found, not the whole, is replaced (Matcher.replaceFirst).
func (r *router) topic(name string) string {
	if !r.whole.MatchString(name) {
		return name
	}
	found := r.anywhere.FindStringSubmatchIndex(name)
	if found == nil {
		return name
	}
	var b strings.Builder
	b.WriteString(name[:found[0]])
	for _, p := range r.replacement {
		switch {
		case p.group < 0:
			b.WriteString(p.text)
		case found[2*p.group] >= 0:
			b.WriteString(name[found[2*p.group]:found[2*p.group+1]])
		}
	}
	b.WriteString(name[found[1]:])
	return b.String()
}

func newRouter(pattern, replacement string) (*router, error) {
	whole, anywhere, err := javaregex.Linear(pattern)
	if err != nil {
		return nil, err
	}
	parts, err := parseReplacement(replacement, anywhere)
	return &router{whole, anywhere, parts}, err
}

// parseReplacement reads what Java's Matcher.appendReplacement does. Where Java throws when a topic matches, the
// error comes before anything is copied.
func parseReplacement(text string, re *regexp.Regexp) ([]part, error) {
	var parts []part
	add := func(s string) {
		if n := len(parts); n > 0 && parts[n-1].group < 0 {
			parts[n-1].text += s
			return
		}
		parts = append(parts, part{s, -1})
	}
	for i := 0; i < len(text); {
		switch text[i] {
		case '\\':
			if i+1 == len(text) {
				return nil, fmt.Errorf("character to be escaped is missing")
			}
			add(text[i+1 : i+2])
			i += 2
		case '$':
			group, length, err := groupReference(text[i+1:], re)
			if err != nil {
				return nil, err
			}
			parts = append(parts, part{group: group})
			i += 1 + length
		default:
			add(text[i : i+1])
			i++
		}
	}
	return parts, nil
}

// groupReference reads what follows a dollar.
func groupReference(text string, re *regexp.Regexp) (group, length int, err error) {
	if name, _, closed := strings.Cut(text, "}"); closed && strings.HasPrefix(name, "{") {
		if group = re.SubexpIndex(name[1:]); group < 0 {
			return 0, 0, fmt.Errorf("no group with name {%s}", name[1:])
		}
		return group, len(name) + 1, nil
	}
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, 0, fmt.Errorf("illegal group reference")
	}
	if group = int(text[0] - '0'); group > re.NumSubexp() {
		return 0, 0, fmt.Errorf("no group %d", group)
	}
	for length = 1; length < len(text) && text[length] >= '0' && text[length] <= '9'; length++ {
		more := group*10 + int(text[length]-'0')
		if more > re.NumSubexp() {
			break
		}
		group = more
	}
	return group, length, nil
}

// The classes, by the part of their names behind the package.
const (
	transforms = "org.apache.kafka.connect.transforms."
	predicates = transforms + "predicates."
)

// Parse reads transforms, predicates and what belongs to them out of a connector's settings as they were written. The
// problems are all that Infos does not find: what Connect would find only when it runs, or what this version cannot do.
func Parse(written map[string]string) (*Chain, []config.Problem) {
	var problems []config.Problem
	add := func(key string, err error) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf("Invalid value %s for configuration %s: %s", written[key], key, err)})
	}
	known := map[string]*predicate{}
	for _, alias := range list(written["predicates"]) {
		prefix := "predicates." + alias + "."
		p, key, err := newPredicate(strings.TrimSpace(written[prefix+"type"]), func(key string) string { return strings.TrimSpace(written[prefix+key]) })
		if err != nil {
			add(prefix+key, err)
		}
		known[alias] = p
	}
	c := &Chain{}
	for _, alias := range list(written["transforms"]) {
		prefix := "transforms." + alias + "."
		s, key, err := newStage(strings.TrimSpace(written[prefix+"type"]), func(key string) string { return strings.TrimSpace(written[prefix+key]) })
		if err != nil {
			add(prefix+key, err)
		}
		s.alias, s.negate = alias, strings.EqualFold(strings.TrimSpace(written[prefix+"negate"]), "true")
		if name := written[prefix+"predicate"]; name != "" {
			p, ok := known[name]
			if !ok {
				add(prefix+"predicate", fmt.Errorf("predicates does not have it"))
			}
			if p != nil && p.record != nil && s.route != nil {
				add(prefix+"predicate", fmt.Errorf("RegexRouter cannot depend on single records here, since a partition is copied as a whole: use TopicNameMatches"))
			}
			s.predicate = p
		}
		c.stages = append(c.stages, s)
	}
	for key, value := range written {
		if (strings.HasPrefix(key, "transforms.") || strings.HasPrefix(key, "predicates.")) && config.HasReference(value) {
			add(key, fmt.Errorf("references are not resolved in transforms and predicates"))
		}
	}
	if len(c.stages) == 0 {
		c = nil
	}
	return c, problems
}

func newPredicate(class string, get func(string) string) (*predicate, string, error) {
	switch class {
	case predicates + "TopicNameMatches":
		whole, _, err := javaregex.Linear(get("pattern"))
		return &predicate{topic: whole}, "pattern", err
	case predicates + "HasHeaderKey":
		name := get("name")
		return &predicate{record: func(r *rawcopy.Record) bool {
			return slices.ContainsFunc(r.Headers, func(h rawcopy.Header) bool { return string(h.Key) == name })
		}}, "", nil
	case predicates + "RecordIsTombstone":
		return &predicate{record: func(r *rawcopy.Record) bool { return r.Value == nil }}, "", nil
	}
	return nil, "", nil // Infos says so
}

func newStage(class string, get func(string) string) (stage, string, error) {
	name, key := strings.CutSuffix(strings.TrimPrefix(class, transforms), "$Key")
	switch strings.TrimSuffix(name, "$Value") {
	case "RegexRouter":
		r, err := newRouter(get("regex"), get("replacement"))
		if r == nil {
			return stage{}, "regex", err
		}
		return stage{route: r}, "replacement", err
	case "TimestampRouter":
		return stage{}, "type", fmt.Errorf("TimestampRouter spreads the records of a partition over several topics, and the offsets of a copy are kept for one")
	case "Filter":
		return stage{apply: func(*rawcopy.Record) (bool, error) { return false, nil }}, "", nil
	case "InsertHeader":
		value, err := literal(get("value.literal"))
		header := rawcopy.Header{Key: []byte(get("header")), Value: value}
		return stage{apply: func(r *rawcopy.Record) (bool, error) {
			r.Headers = append(slices.Clip(r.Headers), header)
			return true, nil
		}}, "value.literal", err
	case "DropHeaders":
		return stage{apply: dropHeaders(list(get("headers")))}, "", nil
	case "MaskField":
		m, err := newMask(list(get("fields")), get("replacement"))
		return stage{apply: ofPart(key, m.apply)}, "replacement", err
	case "ReplaceField":
		f := newReplace(list(get("exclude")), list(get("include")), list(get("renames")))
		return stage{apply: ofPart(key, f.apply)}, "", nil
	}
	return stage{apply: func(*rawcopy.Record) (bool, error) { return true, nil }}, "", nil // Infos says so
}

// ofPart has a function work on a record's key or value.
func ofPart(key bool, change func([]byte) ([]byte, error)) func(*rawcopy.Record) (bool, error) {
	return func(r *rawcopy.Record) (bool, error) {
		of := &r.Value
		if key {
			of = &r.Key
		}
		changed, err := change(*of)
		if err != nil {
			return false, err
		}
		*of = changed
		return true, nil
	}
}

func dropHeaders(names []string) func(*rawcopy.Record) (bool, error) {
	dropped := func(h rawcopy.Header) bool { return slices.Contains(names, string(h.Key)) }
	return func(r *rawcopy.Record) (bool, error) {
		if !slices.ContainsFunc(r.Headers, dropped) {
			return true, nil
		}
		left := make([]rawcopy.Header, 0, len(r.Headers)-1)
		for _, h := range r.Headers {
			if !dropped(h) {
				left = append(left, h)
			}
		}
		r.Headers = left
		return true, nil
	}
}

// list reads a LIST as ConfigDef does.
func list(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	items := strings.Split(strings.TrimSpace(text), ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

var (
	integer = regexp.MustCompile(`^[+-]?[0-9]+$`)
	numeric = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)
	dated   = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}|^[0-9]{2}:[0-9]{2}:[0-9]{2}`)
)

// literal is what Connect makes of InsertHeader's value (Values.parseString, then SimpleHeaderConverter): integers without
// leading zeros, null, and text as it is. What it would write otherwise than it was written, in ways that are
// not worth imitating, is refused.
func literal(text string) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		return []byte(text), nil
	case trimmed == "null":
		return nil, nil
	case integer.MatchString(trimmed):
		negative := trimmed[0] == '-'
		digits := strings.TrimLeft(strings.TrimLeft(trimmed, "+-"), "0")
		if digits == "" {
			return []byte("0"), nil
		}
		if negative {
			digits = "-" + digits
		}
		return []byte(digits), nil
	case numeric.MatchString(trimmed):
		return nil, fmt.Errorf("numbers with a point or an exponent are not supported")
	case dated.MatchString(trimmed):
		for _, layout := range []string{"2006-01-02", "2006-01-02T15:04:05.000Z", "15:04:05.000Z"} {
			if _, err := time.Parse(layout, trimmed); err == nil {
				return []byte(trimmed), nil
			}
		}
		return nil, fmt.Errorf("it looks like a date or time, and is none like 2024-01-31, 2024-01-31T12:00:00.000Z or 12:00:00.000Z")
	case trimmed[0] == '[' && trimmed[len(trimmed)-1] == ']', trimmed[0] == '{' && trimmed[len(trimmed)-1] == '}':
		return nil, fmt.Errorf("lists and maps are not supported")
	}
	return []byte(text), nil
}

// double writes a number as Java's Double.toString does.
func double(v float64) string {
	if v == 0 || v >= 1e-3 && v < 1e7 || v <= -1e-3 && v > -1e7 {
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}
