package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"barnabas/config"
)

// maxName bounds a path of a reference.
const maxName = 2048

// Name checks a path of a reference that becomes part of a request: nothing in it may lead to another place than it names.
func Name(path string) error {
	switch {
	case path == "":
		return errors.New("that names no secret")
	case len(path) > maxName || !utf8.ValidString(path):
		return errors.New("that is no name of a secret")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`%?#\`, r) }) {
		return errors.New(`a name of a secret has no control character, %, ?, # or \`)
	}
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return errors.New("a name of a secret has no empty part, . or ..")
		}
	}
	return nil
}

// Escape makes a checked name part of a path of a URL; slashes stay.
func Escape(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// Pinned splits options off a path: "orders?version=3", as the Java providers have it. Options that are not known are
// an error.
func Pinned(path string, known ...string) (name string, options map[string]string, _ error) {
	name, query, _ := strings.Cut(path, "?")
	if query == "" {
		return name, nil, nil
	}
	options = map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" || !slices.Contains(known, key) || Name(value) != nil {
			return "", nil, fmt.Errorf("behind the ? there may be %s", strings.Join(known, "=…, ")+"=…")
		}
		options[key] = value
	}
	return name, options, nil
}

// Allowed is what references may read: prefixes of paths, on whole parts, separated by commas (allowed.paths). None allows
// everything that the provider's identity may read.
type Allowed []string

// AllowedOf reads allowed.paths.
func (p *Params) Allowed() Allowed {
	var a Allowed
	for path := range strings.SplitSeq(p.Text(ParamAllowed), ",") {
		if path = strings.Trim(strings.TrimSpace(path), "/"); path != "" {
			a = append(a, path)
		}
	}
	return a
}

// Check says whether a path may be read.
func (a Allowed) Check(path string) error {
	path = strings.Trim(path, "/")
	if a == nil || slices.ContainsFunc(a, func(root string) bool { return path == root || strings.HasPrefix(path, root+"/") }) {
		return nil
	}
	return errors.New("that path is outside allowed.paths of the provider")
}

// maxNames bounds the names for a hint.
const maxNames = 1000

// Fields reads the values of a JSON object: texts as they are, anything else as its JSON. ok is false if it is no object.
func Fields(text []byte) (values map[string]config.Secret, names []string, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil || fields == nil {
		return nil, nil, false
	}
	values = make(map[string]config.Secret, len(fields))
	for name, raw := range fields {
		if string(raw) == "null" {
			continue
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		values[name] = config.NewSecret(s)
		if len(names) < maxNames && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) && len(name) <= 64 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return values, names, true
}
