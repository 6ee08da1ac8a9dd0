package connection

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"barnabas/config"
)

// Use is a connection that a configuration names.
type Use struct {
	Key     string // of the setting
	Name    Name
	Version int64
}

// Lookup finds the present version of a connection.
type Lookup func(Name) (Version, bool)

// Error says which connections of a configuration cannot be had, and why.
type Error struct{ Problems []config.Problem }

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Message
	}
	return strings.Join(texts, "; ")
}

// Expand returns written with what its connections stand for: below SourceKey and TargetKey the settings of the connection that
// is named there, and in place of ${connection:ENV/NAME:setting} one setting that is no secret; ${connection:ENV/NAME} stands
// for its bootstrap.servers. References to secrets are left as they are written. Uses are in the order of keys and names. Without
// connections written itself is returned. The error is an *Error.
func Expand(written map[string]string, lookup Lookup) (expanded map[string]string, uses []Use, _ error) {
	var problems []config.Problem
	fail := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	added := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(written)) {
		value := written[key]
		for _, side := range []string{SourceKey, TargetKey} {
			switch {
			case strings.HasPrefix(key, side+"."):
				fail(key, "%s cannot be set: what begins so comes from the connection that %s names", key, side)
			case key == side && strings.TrimSpace(value) != "":
				v, name, err := find(value, lookup)
				if err != nil {
					fail(key, "%s: %s", key, err)
					continue
				}
				uses = append(uses, Use{key, name, v.Number})
				for k, s := range v.Spec.Config {
					added[side+"."+k] = s
				}
				added[side+"."+PrefixKey] = v.Spec.Prefix()
				if len(v.Spec.Hosts) > 0 {
					added[side+"."+HostsKey] = strings.Join(v.Spec.Hosts, ",")
				}
			}
		}
		if !refersTo(value, Provider) {
			continue
		}
		text, used, err := substitute(value, lookup)
		if err != nil {
			fail(key, "%q names %s", key, err)
			continue
		}
		for _, u := range used {
			u.Key = key
			uses = append(uses, u)
		}
		added[key] = text
	}
	if problems != nil {
		return nil, nil, &Error{problems}
	}
	if len(added) == 0 {
		return written, nil, nil
	}
	expanded = maps.Clone(written)
	maps.Copy(expanded, added)
	return expanded, slices.Compact(uses), nil
}

func find(text string, lookup Lookup) (Version, Name, error) {
	name, err := ParseName(text)
	if err != nil {
		return Version{}, name, err
	}
	v, ok := lookup(name)
	if !ok || v.Spec == nil {
		return v, name, fmt.Errorf("there is no connection %s", name)
	}
	return v, name, nil
}

// substitute replaces the references to settings of connections in a value.
func substitute(value string, lookup Lookup) (string, []Use, error) {
	var out strings.Builder
	var uses []Use
	rest := 0
	for _, m := range config.ReferencePattern.FindAllStringSubmatchIndex(value, -1) {
		group := func(a, b int) string {
			for _, n := range []int{a, b} {
				if m[2*n] >= 0 {
					return value[m[2*n]:m[2*n+1]]
				}
			}
			return ""
		}
		if group(1, 4) != Provider {
			continue
		}
		ref := value[m[0]:m[1]]
		name, setting := group(2, 5), group(3, 6)
		if name == "" {
			name, setting = setting, "bootstrap.servers"
		}
		v, at, err := find(name, lookup)
		if err != nil {
			return "", nil, fmt.Errorf("%s, and %w", ref, err)
		}
		text, ok := v.Spec.Config[setting]
		switch {
		case !ok:
			err = fmt.Errorf("%s, and connection %s has no setting %q", ref, at, setting)
			if near := config.Nearest(setting, slices.Sorted(maps.Keys(v.Spec.Config))); near != "" {
				err = fmt.Errorf("%w; it has %q", err, near)
			}
			return "", nil, err
		case config.HasReference(text):
			return "", nil, fmt.Errorf("%s, which is a secret of connection %s and is not given out alone: use it whole, with %s=%s or %s=%s", ref, at, SourceKey, at, TargetKey, at)
		}
		uses = append(uses, Use{Name: at, Version: v.Number})
		out.WriteString(value[rest:m[0]])
		out.WriteString(text)
		rest = m[1]
	}
	out.WriteString(value[rest:])
	return out.String(), uses, nil
}

// Names are the connections that a configuration names, whether they are there or not, each once and in order.
func Names(written map[string]string) (names []Name) {
	add := func(text string) {
		if n, err := ParseName(text); err == nil {
			names = append(names, n)
		}
	}
	for key, value := range written {
		if key == SourceKey || key == TargetKey {
			add(value)
		}
		for _, m := range config.ReferencePattern.FindAllStringSubmatch(value, -1) {
			if m[1] == Provider || m[4] == Provider {
				add(cmp.Or(m[2]+m[5], m[3]+m[6]))
			}
		}
	}
	slices.SortFunc(names, func(a, b Name) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(names)
}
