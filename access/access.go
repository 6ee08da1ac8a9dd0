// Package access decides who may do what: roles, which are bound to users and
// groups, and statements in them, which allow or deny actions on resources. It is
// one pure function, [Roles.Decide], and what reads roles for it.
//
// A deny wins over every allow, and what no statement matches is denied. An
// allow is read as narrowly as it can be, a deny as widely: see [Pattern].
//
// Easy to get wrong: "*" in a pattern of an allow does not reach over a "/", so
// that "prod*" never becomes "prod/anything"; only a last part that is "*" alone does.
package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Caller is who asks, as the authenticator has established.
type Caller struct {
	// User is the name; empty if nobody had to log in.
	User   string
	Groups []string
	// How says how the user was authenticated: "basic", "mtls", "oidc", "none".
	How string
	// Address is where the request came from, as host:port.
	Address string
}

// Roles are roles in force together. They do not change: a reload makes new ones.
type Roles struct{ roles []Role }

// NewRoles returns roles in force together. Two of one name are an error.
func NewRoles(roles ...Role) (Roles, error) {
	sorted := slices.SortedFunc(slices.Values(roles), func(a, b Role) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			return Roles{}, fmt.Errorf("role %s is there twice: in %s and in %s", sorted[i].Name, sorted[i-1].from(), sorted[i].from())
		}
	}
	return Roles{sorted}, nil
}

// All returns the roles, sorted by name.
func (rs Roles) All() []Role { return slices.Clone(rs.roles) }

// Lookup returns a role by its name.
func (rs Roles) Lookup(name string) (Role, bool) {
	i, found := slices.BinarySearchFunc(rs.roles, name, func(r Role, name string) int { return cmp.Compare(r.Name, name) })
	if !found {
		return Role{}, false
	}
	return rs.roles[i], true
}

// Of returns the roles that are bound to a caller and have not expired at a time, sorted by name.
func (rs Roles) Of(c Caller, at time.Time) []Role {
	var bound []Role
	for _, r := range rs.roles {
		if r.binds(c) && (r.Expires.IsZero() || at.Before(r.Expires)) {
			bound = append(bound, r)
		}
	}
	return bound
}

// Decision is the answer to one question, and why it is so.
type Decision struct {
	Allowed  bool
	Action   string
	Resource string
	// Rule names the statement that decided, as "role NAME, statement 2 (deny k2k:* on k2k:app:prod-*)"; empty if none matched.
	Rule string
}

// Reason says the decision in a sentence without the name of the caller.
func (d Decision) Reason() string {
	switch {
	case d.Rule == "":
		return fmt.Sprintf("no statement allows %s on %s", d.Action, d.Resource)
	case d.Allowed:
		return "allowed by " + d.Rule
	}
	return "denied by " + d.Rule
}

// Decide answers whether a caller may do an action on a resource at a time. An
// action or a resource that there is not is denied.
func (rs Roles) Decide(c Caller, at time.Time, action, resource string) Decision {
	d := Decision{Action: action, Resource: resource}
	a, known := actions[action]
	if !known || a.checkResource(resource) != nil {
		return d
	}
	for _, role := range rs.Of(c, at) {
		for i, s := range role.Policy {
			if !s.decides(a, resource) {
				continue
			}
			if s.Effect == Deny {
				d.Allowed, d.Rule = false, role.rule(i)
				return d
			}
			if !d.Allowed {
				d.Allowed, d.Rule = true, role.rule(i)
			}
		}
	}
	return d
}

// DecideList answers whether a caller may ask for a list of resources, which holds only what the caller may see: there
// is something that the caller may list. Pattern is the whole of what is asked for, as "k2k:app:*".
func (rs Roles) DecideList(c Caller, at time.Time, action, pattern string) Decision {
	d := Decision{Action: action, Resource: pattern}
	a, known := actions[action]
	if !known {
		return d
	}
	for _, role := range rs.Of(c, at) {
		for i, s := range role.Policy {
			switch {
			case s.Effect == Allow && s.mayMeet(a, pattern) && d.Rule == "":
				d.Allowed, d.Rule = true, role.rule(i)
			case s.Effect == Deny && s.covers(a, pattern):
				d.Allowed, d.Rule = false, role.rule(i)
				return d
			}
		}
	}
	return d
}

// binds tells whether a role is bound to a caller.
func (r Role) binds(c Caller) bool {
	for _, user := range r.Users {
		if c.User != "" && (user == c.User || user == "*") {
			return true
		}
	}
	for _, group := range r.Groups {
		if slices.Contains(c.Groups, group) {
			return true
		}
	}
	return false
}

func (r Role) from() string { return cmp.Or(r.Source, "REST") }

// rule names a statement of a role.
func (r Role) rule(i int) string {
	s := r.Policy[i]
	return fmt.Sprintf("role %s, statement %d (%s %s on %s)", r.Name, i+1, s.Effect, strings.Join(s.Actions, ", "), strings.Join(s.Resources, ", "))
}

// decides tells whether a statement says something about an action on a resource.
func (s Statement) decides(a Action, resource string) bool {
	if !s.names(a) {
		return false
	}
	return slices.ContainsFunc(s.Resources, func(p string) bool {
		return slices.ContainsFunc(a.governs(resource), func(r string) bool { return Pattern(p).Matches(r, s.Effect == Deny) })
	})
}

// names tells whether a statement names an action, or one that includes it. Whom something is denied to, it denies only by name.
func (s Statement) names(a Action) bool {
	return slices.ContainsFunc(s.Actions, func(p string) bool {
		return Match(p, a.Name) || s.Effect == Allow && slices.ContainsFunc(a.includedIn, func(wider string) bool { return Match(p, wider) })
	})
}

// mayMeet tells whether a statement matches something that a pattern matches.
func (s Statement) mayMeet(a Action, pattern string) bool {
	return s.names(a) && slices.ContainsFunc(s.Resources, func(p string) bool {
		return slices.ContainsFunc(a.governs(pattern), func(r string) bool { return overlap(p, r) })
	})
}

// covers tells whether a statement matches all that a pattern matches.
func (s Statement) covers(a Action, pattern string) bool {
	return s.names(a) && slices.ContainsFunc(s.Resources, func(p string) bool {
		// What matches the pattern as a text matches all that it stands for.
		return slices.ContainsFunc(a.governs(pattern), func(r string) bool { return Match(p, r) })
	})
}
