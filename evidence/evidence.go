// Package evidence writes what an auditor asks for: each point proven, with how it was shown, or listed as unproven, with the step
// that would prove it. Judge is a function of the facts that Gather has asked a cluster for; neither
// holds a secret, since the cluster gives none away.
package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/rest"
	"barnabas/worker"
)

// Facts are what a report rests on. What could not be had is named in Missing.
type Facts struct {
	At          time.Time
	Setups      []worker.Setup // of each worker that answered
	Workers     []worker.Member
	References  rest.SecretReferences
	Connections []worker.Connection
	Connectors  []Connector
	Verified    *audit.Report // nil: there is no trail
	Entries     []audit.Found // of people, the newest; see entriesRead
	Leaks       []string      // ways in which a canary was shown by the redaction of this program
	Missing     []string
}

// Connector is what is known of one connector.
type Connector struct {
	Name, Type, Class string
	Config            map[string]string
	// Literals are the keys whose values are, or hold, secrets that are written out.
	Literals []string
	Targets  []string // topics that its tasks write
	Gaps     int
	Versions int // of its configuration that are kept
}

// Report is the answer to an audit.
type Report struct {
	Written  time.Time `json:"written"`
	Cluster  string    `json:"cluster"` // group.id
	Sections []Section `json:"sections"`
	Proven   int       `json:"proven"`
	Unproven int       `json:"unproven"`
}

// Section is one subject.
type Section struct {
	Title  string  `json:"title"`
	Points []Point `json:"points"`
}

// Point is one claim. Shown says how it was proven; Step is what would prove one that is not.
type Point struct {
	Claim  string `json:"claim"`
	Proven bool   `json:"proven"`
	Shown  string `json:"shown,omitempty"`
	Step   string `json:"step,omitempty"`
}

func proven(shown, claim string, args ...any) Point {
	return Point{Claim: fmt.Sprintf(claim, args...), Proven: true, Shown: shown}
}

func unproven(step, claim string, args ...any) Point {
	return Point{Claim: fmt.Sprintf(claim, args...), Step: step}
}

// claim is proven if is, by what shows it; otherwise step would prove it.
func claim(is bool, shown, step, text string, args ...any) Point {
	if is {
		return proven(shown, text, args...)
	}
	return unproven(step, text, args...)
}

// Judge writes the report.
func Judge(f Facts) Report {
	r := Report{Written: f.At.UTC()}
	if len(f.Setups) > 0 {
		r.Cluster = f.Setups[0].Cluster
	}
	r.Sections = []Section{
		{"Completeness of this report", f.completeness()},
		{"Principals", f.principals()},
		{"Listeners", f.listeners()},
		{"Durable copies", f.copies()},
		{"Privileged operations", f.operations()},
		{"Redaction", f.redaction()},
		{"Migrations and their way back", f.migrations()},
	}
	for _, s := range r.Sections {
		for _, p := range s.Points {
			if p.Proven {
				r.Proven++
			} else {
				r.Unproven++
			}
		}
	}
	return r
}

func (f Facts) completeness() (points []Point) {
	answered := map[string]bool{}
	for _, s := range f.Setups {
		answered[s.Worker] = true
	}
	for _, m := range f.Workers {
		points = append(points, claim(answered[m.ID], "GET /v1/setup of that worker", "have the worker answer, or remove it from the cluster, and ask again", "worker %s is part of this report", m.ID))
	}
	for _, missing := range f.Missing {
		points = append(points, unproven("grant admin:GetEvidence, admin:GetWorkers, audit:Read, secrets:GetSecretReferences and the right to see all connectors and connections, have all workers answer, and ask again", "%s", missing))
	}
	return points
}

// access is a principal at a cluster, and what it is used by and logs in with.
type access struct {
	cluster, principal string
}

type login struct {
	users, roles, references map[string]bool
	since                    time.Time // of the oldest version in use
	states                   map[string]bool
}

// logins are the principals of connectors by what they log in as, where.
func (f Facts) logins() map[access]*login {
	all := map[access]*login{}
	for _, r := range f.References.References {
		if r.Connector == "" {
			continue // of the workers: Setups tell
		}
		for _, c := range r.Clients {
			at := access{c.Cluster, c.Principal}
			l := all[at]
			if l == nil {
				l = &login{users: map[string]bool{}, roles: map[string]bool{}, references: map[string]bool{}, states: map[string]bool{}, since: r.Since}
				all[at] = l
			}
			l.users[r.Connector], l.roles[c.Role], l.references[r.Reference.Reference] = true, true, true
			if r.State != "current" {
				l.states[r.Reference.Reference+" is "+r.State] = true
			}
			if r.Since.Before(l.since) {
				l.since = r.Since
			}
		}
	}
	return all
}

// owned are the connections by which a connector reaches clusters.
func (f Facts) owned(connector, cluster string) (all []worker.Connection) {
	for _, c := range f.Connections {
		if slices.Contains(c.UsedBy, connector) && c.Config["bootstrap.servers"] == cluster {
			all = append(all, c)
		}
	}
	return all
}

func (f Facts) principals() (points []Point) {
	logins := f.logins()
	order := slices.SortedFunc(maps.Keys(logins), func(a, b access) int {
		return cmp.Or(strings.Compare(a.cluster, b.cluster), strings.Compare(a.principal, b.principal))
	})
	for _, at := range order {
		l := logins[at]
		users, refs := names(l.users), strings.Join(names(l.references), ", ")
		who := fmt.Sprintf("%s at %s, a service account used by %s (%s)", at.principal, at.cluster, strings.Join(users, ", "), strings.Join(names(l.roles), ", "))
		var owners, scopes []string
		maxAge := 0
		covered := len(users) > 0
		for _, user := range users {
			owned := f.owned(user, at.cluster)
			covered = covered && len(owned) > 0
			for _, c := range owned {
				covered = covered && c.Owner.Team != ""
				owners = append(owners, fmt.Sprintf("%s (%s)", c.Owner.Team, cmp.Or(c.Owner.Contact, "no contact")))
				if len(c.Scope.Read)+len(c.Scope.Write) > 0 {
					scopes = append(scopes, fmt.Sprintf("reads %s, writes %s", orNothing(c.Scope.Read), orNothing(c.Scope.Write)))
				}
				if days := c.Rotation.MaxAgeDays; days > 0 && (maxAge == 0 || days < maxAge) {
					maxAge = days
				}
			}
		}
		points = append(points, claim(covered, "its connections name "+strings.Join(unique(owners), ", "), "reach that cluster by a connection that names its owner (barnabas connections apply)", "%s has an owner", who))
		points = append(points, claim(len(scopes) > 0 && covered, "its connections say: "+strings.Join(unique(scopes), "; ")+"; barnabas connections check compares that with its ACLs", "give the connection a scope, and run barnabas connections check", "%s has a scope", at.principal))
		age := f.At.Sub(l.since)
		points = append(points, claim(maxAge > 0 && age <= time.Duration(maxAge)*24*time.Hour && len(l.states) == 0,
			fmt.Sprintf("the versions in use are in use since %s, the policy allows %d days", l.since.UTC().Format(time.RFC3339), maxAge),
			ageStep(maxAge, age, names(l.states)), "credentials of %s (%s) are within their rotation policy", at.principal, refs))
		points = append(points, proven("its clients log in by references alone, which the workers watch",
			"%s is revoked by a new value of %s, in use without a restart (barnabas secrets rotate); barnabas secrets prove-revoked then shows that brokers refuse the old one", at.principal, refs))
	}
	for _, c := range f.Connectors {
		if len(c.Literals) > 0 {
			points = append(points, unproven("replace "+strings.Join(c.Literals, ", ")+" by references", "connector %s logs in by references alone", c.Name))
		}
	}
	for _, s := range f.Setups {
		points = append(points, claim(!s.Kafka.Literal, "GET /v1/setup: the worker's file names "+cmp.Or(strings.Join(s.Kafka.References, ", "), "no secret"),
			"put references in the place of what is written out in the worker's file", "worker %s is %s at %s, apart from all connectors, and its file holds no secret of it", s.Worker, s.Kafka.Principal, s.Kafka.BootstrapServers))
	}
	return points
}

func ageStep(maxAge int, age time.Duration, states []string) string {
	switch {
	case len(states) > 0:
		return "mend what " + strings.Join(states, ", ") + " says (barnabas secrets references)"
	case maxAge == 0:
		return "give the connection a rotation policy (rotation.max_age_days)"
	}
	return fmt.Sprintf("rotate: they are in use for %d days, and the policy allows %d", int(age.Hours()/24), maxAge)
}

func (f Facts) listeners() (points []Point) {
	for _, s := range f.Setups {
		admin := false
		for _, l := range s.Listeners {
			admin = admin || l.Purpose == worker.ForAdmins
			what := map[string]string{
				worker.ForClients: "clients of the REST API, and the other workers", worker.ForAdmins: "the administration of loggers", worker.ForGossip: "the gossip of the workers",
			}[l.Purpose]
			shown := "TLS"
			switch {
			case l.Purpose == worker.ForGossip && l.Encrypted:
				shown = "encrypted and authenticated with gossip.secret"
			case !l.Encrypted:
				shown = "only this machine reaches it"
			}
			step := "listen with https, or on loopback"
			if l.Purpose == worker.ForGossip {
				step = "set gossip.secret"
			}
			points = append(points, claim(l.Encrypted || l.Loopback, shown, step, "worker %s: %s is for %s, and nobody between reads along", s.Worker, l.Address, what))
		}
		points = append(points, claim(len(s.Authentication) > 0, strings.Join(s.Authentication, ", "), "set rest.authentication", "worker %s asks callers of the REST API who they are", s.Worker))
		points = append(points, claim(admin, "admin.listeners", "set admin.listeners", "worker %s: administration has a listener of its own", s.Worker))
		points = append(points, claim(len(s.Authentication) > 0 || s.Roles, "requests between workers are signed with the session key, by "+cmp.Or(strings.Join(s.Authentication, ", "), "nobody else"), "set rest.authentication", "worker %s: internal requests are told from those of clients", s.Worker))
	}
	return points
}

func (f Facts) copies() (points []Point) {
	if len(f.Setups) > 0 {
		for _, t := range f.Setups[0].Topics {
			if t.Error != "" {
				points = append(points, unproven("grant the workers' principal Describe and DescribeConfigs on it: "+t.Error, "internal topic %s (%s) has a known retention", t.Name, t.Holds))
				continue
			}
			points = append(points, proven("described by the worker: cleanup.policy="+t.Cleanup+", "+retention(t)+fmt.Sprintf(", %d replicas", t.Replication), "internal topic %s holds %s", t.Name, t.Holds))
		}
	}
	for _, c := range f.Connectors {
		for _, topic := range c.Targets {
			points = append(points, unproven("kafka-configs.sh --describe --topic "+topic+" at the target shows its retention", "connector %s: topic %s holds a copy of the source's records, of the source's class; its retention is the target's", c.Name, topic))
		}
		for _, key := range []string{"errors.deadletterqueue.topic.name", "reporter.error.topic.name", "reporter.result.topic.name"} {
			if topic := c.Config[key]; topic != "" {
				points = append(points, unproven("kafka-configs.sh --describe --topic "+topic+" shows its retention", "connector %s: topic %s (%s) holds records that failed, or reports of them, of the source's class", c.Name, topic, key))
			}
		}
	}
	points = append(points, unproven("look where the standard error of the workers goes, and how long that keeps it", "logs of the workers hold no secret and no payload (see Redaction); who keeps them, and how long, is outside of this cluster"))
	return points
}

func retention(t worker.SetupTopic) string {
	switch {
	case !strings.Contains(t.Cleanup, "delete"):
		return "the newest record of each key is kept"
	case t.RetentionMs < 0:
		return "nothing is deleted"
	}
	return "kept for " + (time.Duration(t.RetentionMs) * time.Millisecond).String()
}

func (f Facts) operations() (points []Point) {
	for _, s := range f.Setups {
		points = append(points, claim(s.AuditTopic != "" && s.AuditRequired, "audit.required, topic "+s.AuditTopic, "set audit.topic, and leave audit.required at true", "worker %s performs nothing privileged that cannot be audited", s.Worker))
		points = append(points, claim(s.Roles, "access.roles.dir", "set access.roles.dir", "worker %s: roles say who may do what, and what no statement allows is denied", s.Worker))
		points = append(points, claim(s.AuditCodes, "audit.key", "set audit.key: without it, a whole chain that somebody has put in would not show", "worker %s signs what it writes to the trail", s.Worker))
	}
	if f.Verified == nil {
		return append(points, unproven("set audit.topic", "the audit trail is whole"))
	}
	v := f.Verified
	head := "none"
	if v.Head != nil {
		head = v.Head.String()
	}
	points = append(points, claim(v.Whole(), fmt.Sprintf("%d records in %d chains verified; head %s", v.Records, v.Chains, head), "barnabas audit verify tells what is wrong", "the audit trail is whole: nothing was removed, changed or put in before its head"))
	counts := map[string]map[audit.Outcome]int{}
	for _, e := range f.Entries {
		if e.Outcome == audit.Attempted {
			continue
		}
		if counts[e.Action] == nil {
			counts[e.Action] = map[audit.Outcome]int{}
		}
		counts[e.Action][e.Outcome]++
	}
	for _, action := range slices.Sorted(maps.Keys(counts)) {
		var parts []string
		for _, outcome := range slices.Sorted(maps.Keys(counts[action])) {
			parts = append(parts, fmt.Sprintf("%d %s", counts[action][outcome], outcome))
		}
		points = append(points, proven("barnabas audit --action "+action, "%s: %s, each with who, how, from where, when and by which rule", action, strings.Join(parts, ", ")))
	}
	return points
}

func (f Facts) redaction() []Point {
	points := []Point{claim(len(f.Leaks) == 0, "a canary was written as text, JSON and log lines, and through the redaction of configurations: it was nowhere in what came out",
		"this program shows secrets: "+strings.Join(f.Leaks, ", "), "the type that holds resolved secrets shows them to nobody")}
	for _, s := range f.Setups {
		points = append(points, claim(s.Literals == "deny", "connector.secrets.literal.policy=deny", "set connector.secrets.literal.policy=deny", "worker %s refuses configurations with secrets written out", s.Worker))
	}
	clean := !slices.ContainsFunc(f.Connectors, func(c Connector) bool { return len(c.Literals) > 0 })
	return append(points, claim(clean, fmt.Sprintf("the configurations of all %d connectors were looked through", len(f.Connectors)), "replace what is written out by references (see Principals)", "no configuration in the config topic holds a secret"))
}

func (f Facts) migrations() (points []Point) {
	for _, c := range f.Connectors {
		points = append(points, claim(c.Versions > 1, fmt.Sprintf("%d versions are kept: barnabas connectors rollback %s VERSION", c.Versions, c.Name),
			"change it once with config.history.versions above 1: then the version before is kept", "connector %s can be taken back to a former configuration", c.Name))
		if c.Type != "source" || len(c.Targets) == 0 {
			continue
		}
		points = append(points, claim(c.Gaps == 0, "its gap ledger is empty", "barnabas replication "+c.Name+" gaps tells what is missing", "connector %s has lost nothing that it knows of", c.Name))
		points = append(points, unproven("barnabas verify "+c.Name, "the copy of connector %s is equal to its source", c.Name))
	}
	return points
}

func names(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func unique(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

func orNothing(patterns []string) string { return cmp.Or(strings.Join(patterns, " "), "nothing") }

// literals are the keys of a configuration that hold secrets which are written out.
func literals(written map[string]string, types map[string]config.Type) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(written)) {
		if config.LiteralSecret(key, written[key], types[key] == config.Password) {
			keys = append(keys, key)
		}
	}
	return keys
}
