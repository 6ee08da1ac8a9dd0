package rest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"barnabas/worker"
)

// TestOnlyConnectionsThatOneMayUseAreUsed has somebody with every right on connectors, and one connection, look for a way to another one.
func TestOnlyConnectionsThatOneMayUseAreUsed(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 2, nil, rootRole,
		`{name: team, users: ann, policy: [{effect: allow, action: "connect:*", resource: "*"}, {effect: allow, action: [environments:UseKafkaConnection, environments:ListKafkaConnections], resource: "environments:kafka-connection:prod/mine"}]}`,
		`{name: details, users: bob, policy: [{effect: allow, action: "connect:*", resource: "*"}, {effect: allow, action: environments:GetKafkaConnectionDetails, resource: "environments:environment:prod"}]}`)
	_, n := c.roles()
	spec := `{"config": {"bootstrap.servers": "` + c.bootstrap() + `"}, "owner": {"team": "t", "contact": "c"}, "scope": {"read": ["*"], "write": ["*"]}}`
	for _, name := range []string{"mine", "other"} {
		if a := n.asked("root", "PUT", "/v1/connections/prod/"+name, spec); a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	config := func(source string) string {
		return `{"connector.class": "MirrorSource", "source.cluster.alias": "A", "target.cluster.alias": "B", "topics": "none", "source.connection": "` + source + `", "target.connection": "prod/mine"}`
	}
	const other = `"topics": "${connection:prod/other:bootstrap.servers}"`
	body := config("prod/mine")
	if a := n.asked("ann", "PUT", "/connectors/m/config", body); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, err := n.as("root").Create(t.Context(), "theirs", map[string]string{
		"connector.class": "MirrorSource", "source.cluster.alias": "A", "target.cluster.alias": "B", "topics": "none", "source.connection": "prod/other", "target.connection": "prod/mine",
	}, worker.Stopped); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if names, err := n.as("root").Connectors(t.Context()); err != nil || len(names) != 2 {
			return "not there yet"
		}
		return ""
	})
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/connectors", `{"name": "x", "config": ` + config("prod/other") + `}`},
		{"POST", "/connectors", `{"name": "x", "config": ` + config(" prod/other ") + `}`},
		{"PUT", "/connectors/x/config", config("prod/other")},
		{"PUT", "/connectors/m/config", config("prod/other")},
		{"PUT", "/connectors/m/config", strings.Replace(body, `"topics": "none"`, other, 1)},
		{"PUT", "/connectors/m/config", strings.Replace(body, `"topics": "none"`, strings.NewReplacer("${", "$<", "}", ">").Replace(other), 1)},
		{"PATCH", "/connectors/m/config", `{"source.connection": "prod/other"}`},
		{"PATCH", "/connectors/m/config", `{"source.connection": "prod/mine", ` + other + `}`},
		{"PATCH", "/connectors/theirs/config", `{"topics": ".*"}`},
		{"POST", "/v1/connectors/theirs/rollback", `{"version": 1}`},
		{"PUT", "/connector-plugins/MirrorSource/config/validate", config("prod/other")},
	} {
		a := n.asked("ann", row.method, row.path, row.body)
		if a.status != http.StatusForbidden || !strings.Contains(a.body, "no statement allows environments:UseKafkaConnection on environments:kafka-connection:prod/other") {
			t.Errorf("%s %s %s: %d %s", row.method, row.path, row.body, a.status, a.body)
		}
	}
	for _, path := range []string{"/v1/connections/prod/mine", "/v1/connections/prod/mine/history", "/v1/connections/prod/other"} {
		if a := n.asked("ann", "GET", path, ""); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := n.asked("ann", "GET", "/v1/connections", ""); a.status != 200 || !strings.Contains(a.body, `"mine"`) || strings.Contains(a.body, `"other"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := n.asked("ann", "GET", "/v1/connections/staging", ""); a.status != http.StatusForbidden {
		t.Errorf("%d %s", a.status, a.body)
	}
	// To see a connection, by its environment here, includes the right to use it.
	for _, row := range []struct {
		method, path, body string
		want               []int
	}{
		{"GET", "/v1/connections/prod/other", "", []int{200}},
		{"PATCH", "/connectors/theirs/config", `{"topics": "some"}`, []int{200}},
		{"DELETE", "/v1/connections/prod/other", "", []int{403}},
		{"PUT", "/v1/connections/prod/new", spec, []int{403}},
	} {
		if a := n.asked("bob", row.method, row.path, row.body); !slices.Contains(row.want, a.status) {
			t.Errorf("%s %s: %d %s", row.method, row.path, a.status, a.body)
		}
	}
}
