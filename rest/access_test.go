package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/access"
	"barnabas/audit"
	"barnabas/config"
	"barnabas/rest/auth"
	"barnabas/worker"
)

// usersOf are the users of guarded clusters; the password of each is the name.
var usersOf = []string{"root", "ann", "bob", "eve", "auditor"}

// guardedCluster starts workers that ask for a login, hold callers to roles, and have an audit trail.
func guardedCluster(t *testing.T, workers int, change func(*Options), texts ...string) *cluster {
	t.Helper()
	roles := rolesOf(t, texts...)
	path := filepath.Join(t.TempDir(), "users")
	var lines strings.Builder
	for _, user := range usersOf {
		fmt.Fprintf(&lines, "%s=%s\n", user, user)
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return newClusterOf(t, workers, func(o *Options) {
		var err error
		if o.Passwords, err = auth.New(auth.Options{Files: []auth.File{{Path: path, Format: auth.Properties}}}); err != nil {
			t.Fatal(err)
		}
		o.Roles, o.Group, o.AuditRequired = func() access.Roles { return roles }, "g", true
		client, err := o.Worker.KafkaClient("audit")
		if err != nil {
			t.Fatal(err)
		}
		trail, err := audit.Open(audit.Options{Client: client, Topic: "_audit", Cluster: "g", Worker: o.Worker.ID(), Replication: 1, Key: config.NewSecret("k")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- trail.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-over })
		o.Trail = trail
		if change != nil {
			change(o)
		}
	})
}

func rolesOf(t *testing.T, texts ...string) access.Roles {
	t.Helper()
	all := make([]access.Role, 0, len(texts))
	for _, text := range texts {
		r, err := access.ParseRole([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	roles, err := access.NewRoles(all...)
	if err != nil {
		t.Fatal(err)
	}
	return roles
}

const rootRole = `{name: root, users: root, policy: [{effect: allow, action: "*", resource: "*"}]}`

// as returns a client of a user.
func (n *node) as(user string) *Client {
	n.t.Helper()
	c, err := NewClient(ClientOptions{URLs: []string{n.url}, Retry: -1, User: user, Password: config.NewSecret(user)})
	if err != nil {
		n.t.Fatal(err)
	}
	c.http.Transport = &described{t: n.t, next: c.http.Transport}
	return c
}

// asked sends a request of a user, and returns the answer's status and body.
func (n *node) asked(user, method, path, body string) received {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.SetBasicAuth(user, user)
	header := map[string]string{"Authorization": req.Header.Get("Authorization")}
	if body == "" {
		return ask(n.t, n.url, method, path, header, nil)
	}
	header["Content-Type"] = jsonType
	return ask(n.t, n.url, method, path, header, &body)
}

func refusal(err error) int {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status
	}
	return 0
}

// TestEveryRouteHasAPermission also finds permissions of routes that there are not, and actions.
func TestEveryRouteHasAPermission(t *testing.T) {
	t.Parallel()
	s := &Server{o: Options{Gatherer: prometheus.NewRegistry(), Loggers: &Loggers{}}}
	left := map[string]bool{}
	for name := range permissions {
		left[name] = true
	}
	for _, rt := range connectRoutes(s) {
		name := rt.method + " " + rt.path
		if permissions[name] == nil {
			t.Errorf("%s has no permission", name)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("%s has a permission, and is not served", name)
	}
}

// TestWithoutARoleNothingIsAllowed asks every route as somebody who has logged in, and has no role.
func TestWithoutARoleNothingIsAllowed(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole)
	n := c.nodes[0]
	if _, err := n.as("root").Create(t.Context(), "m", c.mirror(nil), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	open := []string{"GET /", "GET /health", "GET /metrics", "GET /openapi.json", "GET /v1/whoami"}
	for _, rt := range connectRoutes(n.server) {
		path := strings.NewReplacer(":connector", "m", ":task", "0", ":plugin", "MirrorSource", ":worker", "x", ":logger", "root",
			":env", "prod", ":name", "a", ":path", "p", ":key", "k", ":version", "1", ":role", "root").Replace(rt.path)
		body := ""
		if rt.body {
			body = `{"name": "m", "config": {"name": "m"}, "level": "INFO", "version": 1, "reference": "${file:a:b}"}`
		}
		want := http.StatusForbidden
		switch name := rt.method + " " + rt.path; {
		case slices.Contains(open, name):
			want = http.StatusOK
		case rt.signed: // the signature is missing
			want = http.StatusBadRequest
			if rt.path == "/connectors/:connector/tasks" {
				want = http.StatusInternalServerError // and the body
			}
		case name == "GET /v1/can":
			want = http.StatusBadRequest // it was asked nothing
		}
		if a := n.asked("eve", rt.method, path, body); a.status != want {
			t.Errorf("%s %s: %d %s, want %d", rt.method, path, a.status, a.body, want)
		}
		if a := ask(t, n.url, rt.method, path, nil, nil); !rt.signed && a.status != http.StatusUnauthorized {
			t.Errorf("%s %s without a login: %d %s", rt.method, path, a.status, a.body)
		}
	}
}

// TestAConnectorIsNamedAsItIsMade has somebody try to name another connector than the roles see.
func TestAConnectorIsNamedAsItIsMade(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole,
		`{name: team, users: ann, policy: [{effect: allow, action: "connect:*", resource: "connect:connector:*"}, {effect: deny, action: "connect:*", resource: "connect:connector:prod"}]}`)
	n := c.nodes[0]
	for _, body := range []string{
		`{"name": "prod", "config": {"connector.class": "MirrorSource"}}`,
		`{"name": " prod\t", "config": {"connector.class": "MirrorSource"}}`,
		"\ufeff" + `{"name": "prod", "config": {"connector.class": "MirrorSource"}}`,
		`{"name": "mine", "name": "prod", "config": {"connector.class": "MirrorSource"}}`,
		`{"NAME": "mine", "name": "prod", "config": {"connector.class": "MirrorSource"}}`,
		`{"name": "prod", "NAME": "mine", "config": {"connector.class": "MirrorSource"}}`,
		`{"name": "mine", "config": {"name": "prod", "connector.class": "MirrorSource"}}`,
		`{"config": {"name": "prod", "connector.class": "MirrorSource"}}`,
		`{"name": null, "config": {"name": "prod", "connector.class": "MirrorSource"}}`,
	} {
		if a := n.asked("ann", "POST", "/connectors", body); a.status < 400 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for _, path := range []string{"/connectors/prod/config", "/connectors/%70rod/config", "//connectors//prod/config", "/connectors/x/../prod/config", "/connectors/prod/config/"} {
		if a := n.asked("ann", "PUT", path, `{"connector.class": "MirrorSource"}`); a.status < 400 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if names, err := n.as("root").Connectors(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("%v %v", names, err)
	}
}

// TestListsHoldWhatTheCallerMaySee lists connectors in all ways.
func TestListsHoldWhatTheCallerMaySee(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole,
		`{name: team, users: ann, policy: [{effect: allow, action: "connect:ListConnectors", resource: "*"}, {effect: allow, action: "connect:GetConnector*", resource: "connect:connector:team-*"}]}`,
		`{name: names, users: bob, policy: [{effect: allow, action: "connect:ListConnectors", resource: "connect:connector:team-*"}]}`)
	n := c.nodes[0]
	for _, name := range []string{"team-a", "team-b", "other"} {
		if _, err := n.as("root").Create(t.Context(), name, c.mirror(map[string]string{"topics": "none"}), worker.Stopped); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		if a := n.asked("root", "GET", "/connectors?expand=status", ""); strings.Count(a.body, "STOPPED") != 3 {
			return a.body
		}
		return ""
	})
	team := regexp.MustCompile(`"(team-a|team-b|other)":\{|"name":"(team-a|team-b|other)"`)
	for _, row := range []struct{ user, path, want string }{
		{"root", "/connectors", `["other","team-a","team-b"]`},
		{"ann", "/connectors", `["other","team-a","team-b"]`},
		{"ann", "/connectors?expand=info", "team-a team-b"},
		{"ann", "/connectors?expand=status", "team-a team-b"},
		{"ann", "/connectors?expand=status&expand=info", "team-a team-b"},
		{"ann", "/v1/connectors", "team-a team-b"},
		{"bob", "/connectors", `["team-a","team-b"]`},
		{"bob", "/connectors?expand=info", ""},
		{"bob", "/v1/connectors", ""},
	} {
		a := n.asked(row.user, "GET", row.path, "")
		got := a.body
		if !strings.HasPrefix(row.want, "[") {
			found := map[string]bool{}
			for _, m := range team.FindAllStringSubmatch(a.body, -1) {
				found[m[1]+m[2]] = true
			}
			var names []string
			for name := range found {
				names = append(names, name)
			}
			slices.Sort(names)
			got = strings.Join(names, " ")
		}
		if a.status != 200 || got != row.want {
			t.Errorf("%s %s: %d %s, want %s", row.user, row.path, a.status, a.body, row.want)
		}
	}
	if a := n.asked("eve", "GET", "/connectors", ""); a.status != 403 || !strings.Contains(a.body, "User eve may not do that: no statement allows connect:ListConnectors on connect:connector:*.") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestCallersAreToldWhatTheyMay asks who one is, what one may and why, and what the roles are.
func TestCallersAreToldWhatTheyMay(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole,
		`{name: team, users: ann, policy: [{effect: allow, action: "connect:PauseConnector", resource: "connect:connector:*"}, {effect: deny, action: "connect:*", resource: "connect:connector:prod"}]}`,
		`{name: past, users: ann, expires: "2020-01-01T00:00:00Z", reason: outage, policy: [{effect: allow, action: "*", resource: "*"}]}`)
	n := c.nodes[0]
	who, err := n.as("ann").Whoami(t.Context())
	if err != nil || who.User != "ann" || !slices.Equal(who.Roles, []string{"team"}) {
		t.Errorf("%+v %v", who, err)
	}
	for resource, want := range map[string]Permission{
		"connect:connector:a":    {Allowed: true, Rule: "role team, statement 1 (allow connect:PauseConnector on connect:connector:*)", Reason: "allowed by role team, statement 1 (allow connect:PauseConnector on connect:connector:*)"},
		"connect:connector:prod": {Rule: "role team, statement 2 (deny connect:* on connect:connector:prod)", Reason: "denied by role team, statement 2 (deny connect:* on connect:connector:prod)"},
	} {
		want.Action, want.Resource = "connect:PauseConnector", resource
		if p, err := n.as("ann").Can(t.Context(), "connect:PauseConnector", resource); err != nil || p != want {
			t.Errorf("%+v %v, want %+v", p, err, want)
		}
	}
	for _, resource := range []string{"k2k:app:a", "nothing"} {
		if _, err := n.as("ann").Can(t.Context(), "connect:PauseConnector", resource); refusal(err) != 400 {
			t.Errorf("%s: %v", resource, err)
		}
	}
	if roles, err := n.as("root").Roles(t.Context()); err != nil || len(roles) != 3 {
		t.Errorf("%+v %v", roles, err)
	}
	if role, err := n.as("root").Role(t.Context(), "past"); err != nil || role.Reason != "outage" {
		t.Errorf("%+v %v", role, err)
	}
	if _, err := n.as("root").Role(t.Context(), "none"); refusal(err) != 404 {
		t.Error(err)
	}
	if _, err := n.as("ann").Roles(t.Context()); refusal(err) != 403 {
		t.Error(err)
	}
}

// modelled is a statement of the model: an action of a set, on names of a set.
type modelled struct {
	allow  bool
	action string // of Connect, or "" for all
	prefix string // of names
}

// TestRandomRequestsAgainstAModel has random users do random things while their roles change, and holds each answer against the rules
// as the model reads them.
func TestRandomRequestsAgainstAModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	kinds := map[string]struct{ method, path, body string }{
		"GetConnector":          {"GET", "/connectors/%s", ""},
		"GetConnectorConfig":    {"GET", "/connectors/%s/config", ""},
		"GetConnectorStatus":    {"GET", "/connectors/%s/status", ""},
		"GetConnectorTasks":     {"GET", "/connectors/%s/tasks", ""},
		"GetConnectorTopics":    {"GET", "/connectors/%s/topics", ""},
		"GetConnectorHistory":   {"GET", "/v1/connectors/%s/history", ""},
		"PauseConnector":        {"PUT", "/connectors/%s/pause", ""},
		"StopConnector":         {"PUT", "/connectors/%s/stop", ""},
		"ResetConnectorTopics":  {"PUT", "/connectors/%s/topics/reset", ""},
		"UpdateConnectorConfig": {"PATCH", "/connectors/%s/config", `{"topics": "none"}`},
	}
	actions := []string{}
	for action := range kinds {
		actions = append(actions, action)
	}
	slices.Sort(actions)
	names := []string{"a", "a-1", "a-2", "b", "b-1"}
	users := []string{"ann", "bob", "eve"}
	rules := map[string][]modelled{}
	c := guardedCluster(t, 2, func(o *Options) { o.Trail = nil }, rootRole)
	// grant puts another role in the place of a user's, and waits until all workers have read it.
	grant := func(user string) {
		t.Helper()
		var policy []string
		rules[user] = nil
		for range 2 + rng.IntN(5) {
			m := modelled{allow: rng.IntN(3) > 0, prefix: []string{"", "a", "a-", "b-", "a-1"}[rng.IntN(5)]}
			action := "*"
			if rng.IntN(3) > 0 {
				m.action = actions[rng.IntN(len(actions))]
				action = m.action
			}
			rules[user] = append(rules[user], m)
			policy = append(policy, fmt.Sprintf(`{"effect": %q, "action": %q, "resource": %q}`, map[bool]string{true: "allow", false: "deny"}[m.allow], "connect:"+action, "connect:connector:"+m.prefix+"*"))
		}
		put := c.nodes[rng.IntN(len(c.nodes))].asked("root", "PUT", "/v1/roles/of-"+user, fmt.Sprintf(`{"users": %q, "policy": [%s]}`, user, strings.Join(policy, ", ")))
		var stored Role
		if err := json.Unmarshal([]byte(put.body), &stored); err != nil || put.status/100 != 2 {
			t.Fatalf("a role of %s: %d %s", user, put.status, put.body)
		}
		eventually(t, func() string {
			for _, n := range c.nodes {
				if known, err := n.as("root").Role(t.Context(), "of-"+user); err != nil || known.Version != stored.Version {
					return fmt.Sprint(known, err)
				}
			}
			return ""
		})
	}
	for _, user := range users {
		grant(user)
	}
	for _, name := range names {
		if _, err := c.nodes[0].as("root").Create(t.Context(), name, c.mirror(map[string]string{"topics": "none"}), worker.Stopped); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		for _, n := range c.nodes {
			if known, err := n.as("root").Connectors(t.Context()); err != nil || len(known) != len(names) {
				return fmt.Sprint(known, err)
			}
		}
		return ""
	})
	may := func(user, action, name string) bool {
		allowed := false
		for _, m := range rules[user] {
			if (m.action == "" || m.action == action) && strings.HasPrefix(name, m.prefix) {
				if !m.allow {
					return false
				}
				allowed = true
			}
		}
		return allowed
	}
	for i := range 10_000 {
		if i%500 == 499 { // while it goes on
			grant(users[rng.IntN(len(users))])
		}
		user, action, name := users[rng.IntN(len(users))], actions[rng.IntN(len(actions))], names[rng.IntN(len(names))]
		n, k := c.nodes[rng.IntN(len(c.nodes))], kinds[action]
		a := n.asked(user, k.method, fmt.Sprintf(k.path, name), k.body)
		if got := a.status != http.StatusForbidden; got != may(user, action, name) || a.status == http.StatusUnauthorized {
			t.Fatalf("%s, %s of %s: %d %s, want allowed %v by %+v", user, action, name, a.status, a.body, !got, rules[user])
		}
	}
}
