package rest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const literalPolicy = "connector.secrets.literal.policy"

// literal is a mirror's configuration with a password written out.
func (c *cluster) literal(more map[string]string) map[string]string {
	written := c.mirror(more)
	written["source.cluster.ssl.keystore.password"] = "hunter2"
	return written
}

func TestWrittenOutSecretsAreNamedBesideTheAnswer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	_, follower := c.roles()
	text := toJSON(t, map[string]any{"name": "m", "config": c.literal(nil)})
	for _, row := range []struct {
		method, path, body string
		status             int
		warns              bool
	}{
		{"POST", "/connectors", text, 201, true}, // forwarded
		{"PUT", "/connectors/m/config", toJSON(t, c.literal(map[string]string{"tasks.max": "2"})), 200, true},
		{"PATCH", "/connectors/m/config", `{"tasks.max":"3"}`, 200, true},
		{"PUT", "/connector-plugins/MirrorSource/config/validate", toJSON(t, c.literal(map[string]string{"name": "v"})), 200, true},
		{"PUT", "/connectors/m/config", toJSON(t, c.literal(map[string]string{literalPolicy: "allow"})), 200, false},
		{"PUT", "/connectors/m/config", toJSON(t, c.mirror(nil)), 200, false},
		{"PUT", "/connectors/m/config", toJSON(t, c.literal(map[string]string{literalPolicy: "deny"})), 400, false},
		{"PUT", "/connectors/m/config", toJSON(t, c.mirror(map[string]string{literalPolicy: "perhaps"})), 400, false},
	} {
		got := ask(t, follower.url, row.method, row.path, map[string]string{"Content-Type": jsonType}, &row.body)
		warning := warningOf(got.header)
		if got.status != row.status || strings.Contains(warning, "source.cluster.ssl.keystore.password") != row.warns || strings.Contains(warning, "hunter2") {
			t.Errorf("%s %s: %d %s, warning %q", row.method, row.path, got.status, got.body, warning)
		}
		if row.status == http.StatusBadRequest && !strings.Contains(string(got.body), literalPolicy) {
			t.Errorf("%s %s: the answer does not name the setting: %s", row.method, row.path, got.body)
		}
	}
	var told []string
	client, err := NewClient(ClientOptions{URLs: []string{follower.url}, Warn: func(text string) { told = append(told, text) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutConfig(t.Context(), "m", c.literal(nil)); err != nil || len(told) != 1 || !strings.Contains(told[0], "keystore.password") {
		t.Errorf("the client is told %q, %v", told, err)
	}
}

func TestWrittenOutSecretsCanBeDenied(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, map[string]string{literalPolicy: "deny"})
	for name, row := range map[string]struct {
		config map[string]string
		want   string // in the answer; empty: created
	}{
		"literal":      {c.literal(nil), "source.cluster.ssl.keystore.password holds a literal secret"},
		"laxer itself": {c.literal(map[string]string{literalPolicy: "allow"}), "a connector may be stricter, not laxer"},
		"JAAS": {
			c.mirror(map[string]string{"source.cluster.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="hunter2";`}),
			"source.cluster.sasl.jaas.config holds a literal secret",
		},
		"none": {c.mirror(nil), ""},
	} {
		body := toJSON(t, map[string]any{"name": strings.ReplaceAll(name, " ", "-"), "config": row.config})
		got := ask(t, c.nodes[0].url, "POST", "/connectors", map[string]string{"Content-Type": jsonType}, &body)
		var e errorBody
		_ = json.Unmarshal([]byte(got.body), &e)
		if (row.want == "") != (got.status == http.StatusCreated) || !strings.Contains(e.Message, row.want) || strings.Contains(e.Message, "hunter2") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}
