package connection

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Binding is an ACL of the cluster.
type Binding struct {
	Right
	Principal string `json:"principal"`
	Host      string `json:"host"`
	Deny      bool   `json:"deny"`
}

func (b Binding) String() string {
	verb := "ALLOW"
	if b.Deny {
		verb = "DENY"
	}
	text := fmt.Sprintf("%s %s to %s", verb, b.Right, b.Principal)
	if b.Host != "*" {
		text += " from " + b.Host
	}
	return text
}

// Seen is what is known of the rights of a principal.
type Seen struct {
	// Principal is whom the brokers see.
	Principal string
	// Listed says that Bindings are all of the cluster: it may list them.
	Listed   bool
	Bindings []Binding
	// Topics, Cluster are the operations that the brokers say the principal has, on each topic that it may see; nil Cluster: they
	// do not say.
	Topics  map[string][]string
	Cluster []string
	// Open says that the cluster has no authorizer: everybody may do everything.
	Open bool
}

// States of a need.
const (
	Present = "present"
	Missing = "missing"
	Unknown = "unknown"
)

// Finding is what is found of a need.
type Finding struct {
	Need
	State string `json:"state"`
	// By are the ACLs that grant it, or what else tells.
	By []string `json:"by"`
	// Note says more: why it is missing, or for what only.
	Note string `json:"note,omitempty"`
}

// Excess is a right beyond the scope.
type Excess struct {
	Right
	By string `json:"by"`
	// Remove is the command that takes it away; empty if it is no ACL of the principal's own.
	Remove string `json:"remove,omitempty"`
}

// Judgement is how the rights of a principal compare with what a scope asks for.
type Judgement struct {
	Needs     []Finding `json:"needs"`
	Overbroad []Excess  `json:"overbroad"`
}

// Judge compares.
func Judge(needs []Need, seen Seen, bootstrap string) Judgement {
	j := Judgement{Needs: []Finding{}, Overbroad: []Excess{}}
	for _, n := range needs {
		j.Needs = append(j.Needs, seen.find(n))
	}
	if seen.Open {
		j.Overbroad = append(j.Overbroad, Excess{Right: Right{Resource{Cluster, "kafka-cluster", false}, "ALL"}, By: "the cluster has no authorizer: everybody may do everything"})
		return j
	}
	for _, b := range seen.Bindings {
		if b.Deny || justified(b.Right, needs) || b.Type == Cluster && slices.Contains(harmless, b.Operation) {
			continue
		}
		e := Excess{Right: b.Right, By: b.String()}
		if b.Principal == seen.Principal {
			e.Remove = aclCommand("--remove --force --allow-principal", b.Principal, bootstrap, b.Resource, []string{b.Operation})
		}
		j.Overbroad = append(j.Overbroad, e)
	}
	j.Overbroad = append(j.Overbroad, seen.unlisted(needs)...)
	slices.SortStableFunc(j.Overbroad, func(a, b Excess) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name), strings.Compare(a.Operation, b.Operation))
	})
	return j
}

// find says what is known of one need.
func (s Seen) find(n Need) Finding {
	f := Finding{Need: n, State: Missing, By: []string{}}
	if s.Open {
		f.State, f.By = Present, append(f.By, "the cluster has no authorizer")
		return f
	}
	var parts []string
	for _, b := range s.Bindings {
		switch {
		case b.Deny && b.overlaps(n.Resource) && (b.Operation == n.Operation || b.Operation == "ALL"):
			f.State, f.By, f.Note = Missing, []string{b.String()}, "denied, which wins over what is allowed"
			return f
		case b.Deny || !grants(b.Operation, n.Operation):
		case b.covers(n.Resource):
			f.By = append(f.By, b.String())
			if b.Host == "*" {
				f.State, f.Note = Present, ""
			} else if f.State != Present {
				f.State, f.Note = Present, "from some hosts only"
			}
		case n.covers(b.Resource):
			parts = append(parts, b.Name)
		}
	}
	if f.State == Present {
		return f
	}
	has, lacks := s.topics(n)
	switch {
	case len(has) > 0 && len(lacks) == 0 && (!s.Listed || parts == nil):
		f.State = Present
		f.By = append(f.By, "the brokers say so for "+some(has))
		if s.Listed {
			f.Note = "no ACL of the principal grants it: it is a super user, or allow.everyone.if.no.acl.found is set"
		} else if n.Prefix || n.all() {
			f.Note = "ACLs may not be listed: what holds for topics that are there may not hold for others"
		}
	case parts != nil:
		f.Note = "only for " + some(parts)
	case len(lacks) > 0:
		f.Note = "the brokers say that it lacks for " + some(lacks)
	case !s.Listed:
		f.State, f.Note = Unknown, "ACLs may not be listed, and nothing is there to ask about"
	case n.Type != Topic && slices.Contains(s.Cluster, "CLUSTER_ACTION"):
		f.State, f.By = Present, append(f.By, "the brokers say that the principal is a super user")
	}
	return f
}

// topics are those that a need is about, with and without the right, as the brokers say.
func (s Seen) topics(n Need) (has, lacks []string) {
	if n.Type != Topic {
		return nil, nil
	}
	for name, operations := range s.Topics {
		if !n.covers(Resource{Topic, name, false}) {
			continue
		}
		if slices.Contains(operations, n.Operation) {
			has = append(has, name)
		} else {
			lacks = append(lacks, name)
		}
	}
	slices.Sort(has)
	slices.Sort(lacks)
	return has, lacks
}

// justified says whether a right is no more than the needs.
func justified(r Right, needs []Need) bool {
	return slices.ContainsFunc(needs, func(n Need) bool {
		return n.covers(r.Resource) && grants(n.Operation, r.Operation)
	})
}

// harmless are rights to the cluster that tell little and change nothing, and that writers had to have before Kafka 2.8.
var harmless = []string{"DESCRIBE", "IDEMPOTENT_WRITE"}

// unlisted are rights beyond the needs that the brokers tell of and no listed ACL explains.
func (s Seen) unlisted(needs []Need) (all []Excess) {
	explained := func(r Right) bool {
		return slices.ContainsFunc(s.Bindings, func(b Binding) bool { return !b.Deny && b.covers(r.Resource) && grants(b.Operation, r.Operation) })
	}
	cluster := Resource{Cluster, "kafka-cluster", false}
	for _, o := range s.Cluster {
		if r := (Right{cluster, o}); !slices.Contains(harmless, o) && !explained(r) {
			all = append(all, Excess{Right: r, By: "the brokers say so: a super user, or an ACL that may not be seen"})
		}
	}
	for name, operations := range s.Topics {
		for _, o := range operations {
			if r := (Right{Resource{Topic, name, false}, o}); !justified(r, needs) && !explained(r) {
				all = append(all, Excess{Right: r, By: "the brokers say so"})
			}
		}
	}
	return all
}

// some are a few of many names.
func some(names []string) string {
	const few = 5
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
