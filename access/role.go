package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Effect is what a statement does with what it matches.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Statement allows or denies actions on resources. Both may hold "*".
type Statement struct {
	Effect    Effect   `json:"effect"`
	Actions   []string `json:"action"`
	Resources []string `json:"resource"`
}

// Role is a policy, and whom it is bound to.
type Role struct {
	Name   string   `json:"name"`
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Expires is when the role ends by itself; zero is never. Then Reason says why it was granted.
	Expires time.Time   `json:"expires,omitzero"`
	Reason  string      `json:"reason,omitempty"`
	Policy  []Statement `json:"policy"`
	// Source is the file that the role was read from.
	Source string `json:"-"`
}

var roleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ParseRole reads one role from YAML or JSON. Keys are accepted in small letters and with a capital, action and
// resource also in the plural, and both as one text or a list. What is not understood is an error, which says where:
// a deny that is misspelt would not deny.
func ParseRole(text []byte) (Role, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	if err := d.Decode(&root); errors.Is(err, io.EOF) {
		return Role{}, errors.New("there is no role in it")
	} else if err != nil {
		return Role{}, fmt.Errorf("not YAML: %w", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Role{}, errors.New("there is more than one document in it; a role is one file")
	}
	r, err := readRole(root.Content[0])
	if err != nil {
		return Role{}, err
	}
	return r, r.Check()
}

// readRole reads what stands in a role, and does not check it.
func readRole(n *yaml.Node) (r Role, err error) {
	err = fields(n, "a role", map[string]func(*yaml.Node) error{
		"name":   func(n *yaml.Node) error { return n.Decode(&r.Name) },
		"users":  func(n *yaml.Node) (err error) { r.Users, err = list(n); return err },
		"groups": func(n *yaml.Node) (err error) { r.Groups, err = list(n); return err },
		"reason": func(n *yaml.Node) error { return n.Decode(&r.Reason) },
		"expires": func(n *yaml.Node) (err error) {
			if r.Expires, err = time.Parse(time.RFC3339, n.Value); err != nil {
				return fmt.Errorf("expires is %q, not a time such as 2027-01-01T00:00:00Z", n.Value)
			}
			r.Expires = r.Expires.UTC()
			return nil
		},
		"policy": func(n *yaml.Node) error {
			if n.Kind != yaml.SequenceNode {
				return errors.New("policy is a list of statements")
			}
			for _, item := range n.Content {
				s, err := parseStatement(item)
				if err != nil {
					return fmt.Errorf("line %d: statement %d: %w", item.Line, len(r.Policy)+1, err)
				}
				r.Policy = append(r.Policy, s)
			}
			return nil
		},
	})
	return r, err
}

// Check tells what is wrong with a role.
func (r Role) Check() error {
	switch {
	case r.Name == "":
		return errors.New("the role has no name")
	case !roleName.MatchString(r.Name):
		return fmt.Errorf("the name %q is not one of letters, digits, '.', '_' and '-'", r.Name)
	case len(r.Policy) == 0:
		return fmt.Errorf("role %s has no policy", r.Name)
	case !r.Expires.IsZero() && strings.TrimSpace(r.Reason) == "":
		return fmt.Errorf("role %s expires, but gives no reason", r.Name)
	}
	for i, s := range r.Policy {
		if err := s.check(); err != nil {
			return fmt.Errorf("role %s, statement %d: %w", r.Name, i+1, err)
		}
	}
	return nil
}

func parseStatement(n *yaml.Node) (s Statement, err error) {
	actions := func(n *yaml.Node) (err error) { s.Actions, err = list(n); return err }
	resources := func(n *yaml.Node) (err error) { s.Resources, err = list(n); return err }
	err = fields(n, "a statement", map[string]func(*yaml.Node) error{
		"effect":   func(n *yaml.Node) error { s.Effect = Effect(strings.ToLower(n.Value)); return nil },
		"action":   actions,
		"actions":  actions,
		"resource": resources, "resources": resources,
	})
	return s, err
}

func (s Statement) check() error {
	switch {
	case s.Effect != Allow && s.Effect != Deny:
		return fmt.Errorf("effect is %q, not allow or deny", s.Effect)
	case len(s.Actions) == 0:
		return errors.New("it names no action")
	case len(s.Resources) == 0:
		return errors.New("it names no resource")
	}
	meant := map[string]bool{} // the types of resources that the actions are on
	for _, p := range s.Actions {
		some := false
		for _, a := range actions {
			if Match(p, a.Name) {
				some, meant[a.Type] = true, true
				if a.Type == "environments:kafka-connection" {
					meant["environments:environment"] = true
				}
			}
		}
		if !some {
			return fmt.Errorf("there is no action %q%s", p, nearest(p))
		}
	}
	useful := false
	for _, p := range s.Resources {
		of, err := s.typesOf(p)
		if err != nil {
			return err
		}
		useful = useful || slices.ContainsFunc(of, func(t string) bool { return meant[t] })
	}
	if !useful {
		return fmt.Errorf("%s is on %s, which %s is not", strings.Join(s.Actions, ", "), forms(meant), strings.Join(s.Resources, ", "))
	}
	return nil
}

// typesOf returns the types of resources that a pattern can match.
func (s Statement) typesOf(pattern string) (of []string, err error) {
	parts := strings.SplitN(pattern, ":", 3)
	last := parts[len(parts)-1]
	if len(parts) < 3 && last != "*" {
		return nil, fmt.Errorf("the resource %q is not service:type:id", pattern)
	}
	tooShort := ""
	for name, t := range types {
		service, kind, _ := strings.Cut(name, ":")
		if !Match(parts[0], service) || len(parts) > 1 && !Match(parts[1], kind) {
			continue
		}
		if len(parts) == 3 && t.segments > 0 {
			n, open := strings.Count(parts[2], "/")+1, parts[2] == "*" || strings.HasSuffix(parts[2], "/*")
			wide := s.Effect == Deny && strings.Contains(parts[2], "*")
			if n > t.segments || n < t.segments && !open && !wide {
				tooShort = t.form
				continue
			}
		}
		of = append(of, name)
	}
	switch {
	case len(of) > 0:
		return of, nil
	case tooShort != "":
		return nil, fmt.Errorf("the resource %q matches nothing: they are %s", pattern, tooShort)
	}
	return nil, fmt.Errorf("there are no resources like %q; there are %s", pattern, forms(nil))
}

// forms tells how resources are written: those of some types, or all.
func forms(of map[string]bool) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if of == nil || of[name] {
			all = append(all, types[name].form)
		}
	}
	return strings.Join(all, " or ")
}

// nearest proposes an action for one that there is not.
func nearest(p string) string {
	for _, a := range Actions() {
		if _, name, _ := strings.Cut(a.Name, ":"); strings.EqualFold(a.Name, p) || strings.HasSuffix(strings.ToLower(p), ":"+strings.ToLower(name)) || strings.EqualFold(name, p) {
			return fmt.Sprintf("; there is %s", a.Name)
		}
	}
	service, _, _ := strings.Cut(p, ":")
	var others []string
	for _, a := range Actions() {
		if strings.HasPrefix(a.Name, service+":") {
			others = append(others, a.Name)
		}
	}
	if len(others) == 0 {
		return "; actions begin with k2k:, kubernetes:, environments:, connect:, secrets:, audit: or admin:"
	}
	return "; there are " + strings.Join(others, ", ")
}

// fields reads a mapping whose keys may begin with a capital. Unknown and repeated keys are errors.
func fields(n *yaml.Node, what string, known map[string]func(*yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is a mapping of keys", n.Line, what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		name := strings.ToLower(key.Value)
		read, ok := known[name]
		if !ok {
			return fmt.Errorf("line %d: %s has no key %q; it has %s", key.Line, what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if one := strings.TrimSuffix(name, "s"); seen[one] {
			return fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
		} else {
			seen[one] = true
		}
		if err := read(n.Content[i+1]); err != nil {
			return fmt.Errorf("line %d: %w", n.Content[i+1].Line, err)
		}
	}
	return nil
}

// list reads a text or a list of texts.
func list(n *yaml.Node) ([]string, error) {
	texts := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		texts = n.Content
	}
	all := make([]string, 0, len(texts))
	for _, t := range texts {
		if t.Kind != yaml.ScalarNode || t.Tag == "!!null" || strings.TrimSpace(t.Value) == "" {
			return nil, fmt.Errorf("line %d: a text, or a list of texts, belongs here", t.Line)
		}
		all = append(all, strings.TrimSpace(t.Value))
	}
	return all, nil
}

// YAML is a role as a file has it, which ParseRole reads.
func (r Role) YAML() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return nil, err
	}
	plain(&n)
	return yaml.Marshal(&n)
}

// plain has a node written as a person would write it, not as JSON.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}
