package access

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// roles parses roles, each a YAML text.
func roles(t *testing.T, texts ...string) Roles {
	t.Helper()
	var all []Role
	for _, text := range texts {
		r, err := ParseRole([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		all = append(all, r)
	}
	rs, err := NewRoles(all...)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// usual are the five roles that most organisations have.
var usual = []string{`
name: admin
users: [root]
policy:
  - effect: allow
    action: "*"
    resource: "*"
`, `
name: prod-to-staging-operator
users: [operator]
policy:
  - effect: allow
    action: [k2k:*]
    resource: k2k:app:staging-*
  - effect: allow
    action: kubernetes:DeployApps
    resource: kubernetes:namespace:staging/*
  - effect: allow
    action: environments:UseKafkaConnection
    resource: [environments:kafka-connection:prod/orders-ro, environments:environment:staging]
`, `
name: observer
groups: [everyone]
policy:
  - effect: allow
    action: [k2k:GetApp, k2k:ListApps, environments:List*, environments:GetEnvironmentDetails, environments:AccessEnvironment, connect:Get*, connect:List*]
    resource: "*"
`, `
Name: on-call
Users: oncall
Policy:
  - Effect: Allow
    Actions: [k2k:ManageOffsets, k2k:GetApp, k2k:ListApps]
    Resources: k2k:app:critical-*
`, `
name: payments
groups: payments
policy:
  - effect: allow
    action: k2k:*
    resource: k2k:app:payments-copy
  - effect: allow
    action: kubernetes:DeployApps
    resource: kubernetes:namespace:staging/incluster/payments
  - effect: allow
    action: environments:GetKafkaConnectionDetails
    resource: environments:kafka-connection:*/payments-*
`}

// TestUsualRoles asks for every operation as each of them.
func TestUsualRoles(t *testing.T) {
	t.Parallel()
	rs := roles(t, usual...)
	callers := map[string]Caller{
		"root": {User: "root"}, "operator": {User: "operator"}, "observer": {User: "olga", Groups: []string{"everyone"}}, "oncall": {User: "oncall"},
		"payments": {User: "pat", Groups: []string{"payments"}}, "nobody": {User: "nobody"}, "anonymous": {},
	}
	apps := map[string]App{
		"staging-orders":  {"staging-orders", "staging/incluster/data", "prod/orders-ro", "staging/orders-rw"},
		"staging-secrets": {"staging-secrets", "staging/incluster/data", "prod/secrets-ro", "staging/orders-rw"},
		"critical-pay":    {"critical-pay", "prod/incluster/data", "prod/orders-ro", "prod/orders-rw"},
		"payments-copy":   {"payments-copy", "staging/incluster/payments", "prod/payments-ro", "staging/payments-rw"},
	}
	all := []Operation{CreateApp, UpdateApp, UpsertApp, DeleteApp, ManageOffsets, GetApp, ListApps}
	// What each may do; "all" are all operations.
	want := map[string]map[string]string{
		"root":      {"staging-orders": "all", "staging-secrets": "all", "critical-pay": "all", "payments-copy": "all"},
		"operator":  {"staging-orders": "all", "staging-secrets": "delete, manage offsets, get, list"},
		"observer":  {"staging-orders": "get, list", "staging-secrets": "get, list", "critical-pay": "get, list", "payments-copy": "get, list"},
		"oncall":    {"critical-pay": "manage offsets, get, list"},
		"payments":  {"payments-copy": "all"},
		"nobody":    {},
		"anonymous": {},
	}
	for name, caller := range callers {
		for app, about := range apps {
			var may []string
			for _, o := range all {
				if rs.DecideAll(caller, now, o.Needs(about)).Allowed {
					may = append(may, string(o))
				}
			}
			got := strings.Join(may, ", ")
			if len(may) == len(all) {
				got = "all"
			}
			if got != want[name][app] {
				t.Errorf("%s may %q with %s, want %q", name, got, app, want[name][app])
			}
		}
	}
}

// TestEveryCellOfTheOperations takes each right away from somebody who has exactly those that an operation needs.
func TestEveryCellOfTheOperations(t *testing.T) {
	t.Parallel()
	app := App{"orders", "staging/incluster/data", "prod/ro", "staging/rw"}
	rights := map[string][2]string{ // of the table's columns, for each operation its own on the app
		"namespace": {"kubernetes:DeployApps", "kubernetes:namespace:staging/incluster/data"},
		"source":    {"environments:UseKafkaConnection", "environments:kafka-connection:prod/ro"},
		"target":    {"environments:UseKafkaConnection", "environments:kafka-connection:staging/rw"},
	}
	for _, row := range []struct {
		o       Operation
		app     []string
		columns []string
	}{
		{CreateApp, []string{"k2k:CreateApp", "k2k:UpsertApp"}, []string{"namespace", "source", "target"}},
		{UpdateApp, []string{"k2k:UpdateApp", "k2k:UpsertApp"}, []string{"namespace", "source", "target"}},
		{UpsertApp, []string{"k2k:UpsertApp"}, []string{"namespace", "source", "target"}},
		{DeleteApp, []string{"k2k:DeleteApp"}, nil},
		{ManageOffsets, []string{"k2k:ManageOffsets"}, nil},
		{GetApp, []string{"k2k:GetApp"}, nil},
		{ListApps, []string{"k2k:ListApps"}, nil},
	} {
		for _, action := range row.app {
			grants := map[string][2]string{"app": {action, "k2k:app:orders"}}
			for _, c := range row.columns {
				grants[c] = rights[c]
			}
			for _, without := range []string{"nothing", "app", "namespace", "source", "target"} {
				var policy []Statement
				for c, g := range grants {
					if c != without {
						policy = append(policy, Statement{Allow, []string{g[0]}, []string{g[1]}})
					}
				}
				if len(policy) == 0 {
					continue
				}
				rs, err := NewRoles(Role{Name: "r", Users: []string{"u"}, Policy: policy})
				if err != nil {
					t.Fatal(err)
				}
				_, needed := grants[without]
				d := rs.DecideAll(Caller{User: "u"}, now, row.o.Needs(app))
				if d.Allowed == needed {
					t.Errorf("%s with %s, without %s: %+v", row.o, action, without, d)
				}
				if needed && !strings.Contains(d.Reason(), "no statement allows") {
					t.Errorf("%s without %s: %s", row.o, without, d.Reason())
				}
			}
		}
	}
	if rs := roles(t, usual[0]); rs.DecideAll(Caller{User: "root"}, now, Operation("fly").Needs(app)).Allowed {
		t.Error("an operation that there is not is allowed")
	}
}

// TestDecisions are single questions.
func TestDecisions(t *testing.T) {
	t.Parallel()
	statement := func(effect, action, resource string) string {
		return fmt.Sprintf("name: %s-%d\nusers: u\npolicy: [{effect: %s, action: %q, resource: %q}]", effect, len(action+resource), effect, action, resource)
	}
	allow := func(action, resource string) string { return statement("allow", action, resource) }
	deny := func(action, resource string) string { return statement("deny", action, resource) }
	const connection = "environments:kafka-connection:"
	for _, c := range []struct {
		what             string
		roles            []string
		action, resource string
		want             bool
	}{
		{"by name", []string{allow("k2k:GetApp", "k2k:app:a")}, "k2k:GetApp", "k2k:app:a", true},
		{"another", []string{allow("k2k:GetApp", "k2k:app:a")}, "k2k:GetApp", "k2k:app:b", false},
		{"names are exact", []string{allow("k2k:GetApp", "k2k:app:a")}, "k2k:GetApp", "k2k:app:A", false},
		{"another action", []string{allow("k2k:GetApp", "k2k:app:a")}, "k2k:DeleteApp", "k2k:app:a", false},
		{"an action that there is not", []string{allow("*", "*")}, "k2k:FlyApp", "k2k:app:a", false},
		{"a resource of another kind", []string{allow("*", "*")}, "k2k:GetApp", "connect:connector:a", false},
		{"a connection without a name", []string{allow("*", "*")}, "environments:UseKafkaConnection", connection + "prod", false},
		{"inside", []string{allow("k2k:GetApp", "k2k:app:a*z")}, "k2k:GetApp", "k2k:app:abcz", true},
		{"a whole part", []string{allow("k2k:GetApp", "k2k:*:a")}, "k2k:GetApp", "k2k:app:a", true},
		{"all parts", []string{allow("*:*", "*:*:*")}, "k2k:GetApp", "k2k:app:a", true},
		{"deny wins", []string{allow("*", "*"), deny("k2k:DeleteApp", "k2k:app:prod-*")}, "k2k:DeleteApp", "k2k:app:prod-a", false},
		{"deny elsewhere", []string{allow("*", "*"), deny("k2k:DeleteApp", "k2k:app:prod-*")}, "k2k:DeleteApp", "k2k:app:a", true},
		{"the environment covers its connections", []string{allow("environments:UseKafkaConnection", "environments:environment:prod")}, "environments:UseKafkaConnection", connection + "prod/x", true},
		{"but not those of another", []string{allow("environments:UseKafkaConnection", "environments:environment:prod")}, "environments:UseKafkaConnection", connection + "staging/x", false},
		{"denied on the environment", []string{allow("*", "*"), deny("environments:UseKafkaConnection", "environments:environment:prod")}, "environments:UseKafkaConnection", connection + "prod/x", false},
		{"details include use", []string{allow("environments:GetKafkaConnectionDetails", connection+"prod/x")}, "environments:UseKafkaConnection", connection + "prod/x", true},
		{"use does not include details", []string{allow("environments:UseKafkaConnection", connection+"prod/x")}, "environments:GetKafkaConnectionDetails", connection + "prod/x", false},
		{"details denied, use allowed", []string{allow("environments:UseKafkaConnection", connection+"prod/x"), deny("environments:GetKafkaConnectionDetails", connection+"prod/x")}, "environments:UseKafkaConnection", connection + "prod/x", true},
		{"an allow stays within a segment", []string{allow("environments:UseKafkaConnection", connection+"p*/x")}, "environments:UseKafkaConnection", connection + "prod/x", true},
		{"a deny reaches over segments", []string{allow("*", "*"), deny("environments:UseKafkaConnection", connection+"prod*")}, "environments:UseKafkaConnection", connection + "prod/x", false},
		{"a last star is all that follows", []string{allow("secrets:ReadSecret", "secrets:secret:team/*")}, "secrets:ReadSecret", "secrets:secret:team/a/b", true},
		{"a star in the middle is one segment", []string{allow("secrets:ReadSecret", "secrets:secret:*/b")}, "secrets:ReadSecret", "secrets:secret:team/a/b", false},
		{"a connector with a colon", []string{allow("connect:GetConnector", "connect:connector:a:*")}, "connect:GetConnector", "connect:connector:a:b", true},
	} {
		d := roles(t, c.roles...).Decide(Caller{User: "u"}, now, c.action, c.resource)
		if d.Allowed != c.want {
			t.Errorf("%s: %v, %s", c.what, d.Allowed, d.Reason())
		}
		if d.Allowed && d.Rule == "" {
			t.Errorf("%s: allowed by nothing", c.what)
		}
	}
}

func TestRolesEndByThemselves(t *testing.T) {
	t.Parallel()
	rs := roles(t, "name: glass\nusers: u\nexpires: 2026-11-23T12:00:00Z\nreason: an incident\npolicy: [{effect: allow, action: '*', resource: '*'}]")
	for at, want := range map[time.Time]bool{now.Add(-time.Second): true, now: false, now.Add(time.Hour): false} {
		if d := rs.Decide(Caller{User: "u"}, at, "k2k:GetApp", "k2k:app:a"); d.Allowed != want {
			t.Errorf("at %s: %v", at, d)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	rs := roles(t, usual...)
	for _, c := range []struct {
		user            string
		action, pattern string
		want            bool
	}{
		{"root", "k2k:ListApps", "k2k:app:*", true},
		{"operator", "k2k:ListApps", "k2k:app:*", true},
		{"oncall", "k2k:ListApps", "k2k:app:*", true},
		{"oncall", "environments:ListKafkaConnections", "environments:kafka-connection:prod/*", false},
		{"nobody", "k2k:ListApps", "k2k:app:*", false},
		{"root", "k2k:ListAll", "k2k:app:*", false},
	} {
		if d := rs.DecideList(Caller{User: c.user}, now, c.action, c.pattern); d.Allowed != c.want {
			t.Errorf("%s %s on %s: %s", c.user, c.action, c.pattern, d.Reason())
		}
	}
	denied := roles(t, usual[0], "name: not\nusers: root\npolicy: [{effect: deny, action: 'k2k:List*', resource: 'k2k:*'}]")
	if d := denied.DecideList(Caller{User: "root"}, now, "k2k:ListApps", "k2k:app:*"); d.Allowed || !strings.Contains(d.Rule, "role not, statement 1 (deny") {
		t.Errorf("%+v", d)
	}
	some := roles(t, usual[0], "name: not\nusers: root\npolicy: [{effect: deny, action: 'k2k:List*', resource: 'k2k:app:secret-*'}]")
	if d := some.DecideList(Caller{User: "root"}, now, "k2k:ListApps", "k2k:app:*"); !d.Allowed {
		t.Errorf("%+v", d)
	}
}

func TestBrokenRolesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	const head = "name: r\nusers: u\n"
	for text, want := range map[string]string{
		"":                               "there is no role in it",
		"a: [":                           "not YAML",
		"- a":                            "a role is a mapping",
		head:                             "role r has no policy",
		"users: u\npolicy: []":           "the role has no name",
		"name: a b\npolicy: []":          `the name "a b" is not one of`,
		head + "rights: []":              `line 3: a role has no key "rights"`,
		head + "Users: v":                `line 3: the key "Users" is there twice`,
		head + "policy: {}":              "policy is a list of statements",
		head + "policy: [a]":             "statement 1",
		head + "expires: tomorrow":       `line 3: expires is "tomorrow", not a time such as`,
		head + "users: [[a]]":            "there twice",
		"name: r\nusers: [[a]]":          "a text, or a list of texts",
		"name: r\nusers: null":           "a text, or a list of texts",
		head + "policy: []\n---\na: b":   "more than one document",
		head + "policy: [{effect: may}]": `effect is "may", not allow or deny`,
		head + "policy: [{effect: deny, action: 'k2k:getapp', resource: '*'}]":                                        `there is no action "k2k:getapp"; there is k2k:GetApp`,
		head + "policy: [{effect: deny, action: 'k2k:Fly', resource: '*'}]":                                           "there are k2k:CreateApp, k2k:DeleteApp",
		head + "policy: [{effect: deny, action: 'topics:Touch', resource: '*'}]":                                      "actions begin with k2k:",
		head + "policy: [{effect: deny, action: 'k2k:*', resource: 'k2k:apps:a'}]":                                    `there are no resources like "k2k:apps:a"`,
		head + "policy: [{effect: deny, action: 'k2k:*', resource: 'k2k:app'}]":                                       `"k2k:app" is not service:type:id`,
		head + "policy: [{effect: allow, action: 'environments:*', resource: 'environments:kafka-connection:prod'}]":  `matches nothing: they are environments:kafka-connection:ENVIRONMENT/CONNECTION`,
		head + "policy: [{effect: allow, action: 'environments:*', resource: 'environments:kafka-connection:prod*'}]": `matches nothing`,
		head + "policy: [{effect: allow, action: 'k2k:GetApp', resource: 'connect:connector:a'}]":                     "k2k:GetApp is on k2k:app:NAME, which connect:connector:a is not",
		head + "policy: [{effect: allow, effect: deny, action: 'k2k:GetApp', resource: 'k2k:app:a'}]":                 "there twice",
		head + "policy: [{effect: allow, action: 'k2k:GetApp', actions: 'k2k:*', resource: 'k2k:app:a'}]":             "there twice",
		head + "expires: 2027-01-01T00:00:00Z\npolicy: [{effect: allow, action: '*', resource: '*'}]":                 "expires, but gives no reason",
	} {
		if r, err := ParseRole([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %+v, want %q", text, err, r, want)
		}
	}
}

// TestRolesAreWrittenAsTheyAreRead goes there and back.
func TestRolesAreWrittenAsTheyAreRead(t *testing.T) {
	t.Parallel()
	for _, text := range append(usual, "name: glass\nusers: u\nexpires: 2026-11-23T12:00:00Z\nreason: an incident\npolicy: [{effect: deny, action: '*', resource: '*'}]") {
		r := roles(t, text).All()[0]
		written, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRole(written)
		if diff := cmp.Diff(r, again); err != nil || diff != "" {
			t.Errorf("%v\n%s\n%s", err, diff, written)
		}
	}
}

// TestPatternsMatchAsExpressions compares patterns with regular expressions.
func TestPatternsMatchAsExpressions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab/]{0,6}`)
		pattern := rapid.StringMatching(`[ab/*]{0,6}`)
		p, q, s := pattern.Draw(t, "p"), pattern.Draw(t, "q"), text.Draw(t, "s")
		expression := func(p string) *regexp.Regexp {
			return regexp.MustCompile("^" + strings.ReplaceAll(p, "*", ".*") + "$")
		}
		if got, want := Match(p, s), expression(p).MatchString(s); got != want {
			t.Fatalf("%q matches %q: %v", p, s, got)
		}
		if Match(p, s) && Match(q, s) && !(overlap(p, q) && overlap(q, p)) {
			t.Fatalf("%q and %q both match %q, and do not overlap", p, q, s)
		}
		if overlap(p, q) {
			common := false
			for n := range 1 << 12 { // all texts of up to 6 of two letters and the divider, in base 3
				var b strings.Builder
				for k := n; k > 0; k /= 4 {
					if k%4 > 0 {
						b.WriteByte("ab/"[k%4-1])
					}
				}
				if s := b.String(); Match(p, s) && Match(q, s) {
					common = true
					break
				}
			}
			if !common && len(strings.ReplaceAll(p+q, "*", "")) <= 6 {
				t.Fatalf("%q and %q overlap in nothing", p, q)
			}
		}
		if r := "t:t:" + s; Pattern("t:t:"+p).Matches(r, false) && !Pattern("t:t:"+p).Matches(r, true) {
			t.Fatalf("%q matches %q narrowly, and not widely", p, r)
		}
	})
}

func FuzzParseRole(f *testing.F) {
	for _, text := range usual {
		f.Add([]byte(text))
	}
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRole(text)
		if err != nil {
			return
		}
		written, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseRole(written); err != nil || cmp.Diff(r, again) != "" {
			t.Fatalf("%v: %s", err, written)
		}
	})
}
