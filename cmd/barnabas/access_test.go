package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAccessScripts runs the command line against a worker that asks for a login, holds users to roles and has an audit trail.
// The password of each user is the name.
func TestAccessScripts(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	users := write("users.properties", "ann=ann\nbob=bob\nroot=root\n")
	login := write("login.conf", `KafkaConnect { `+propertyLoginModule+` required file="`+users+`"; };`)
	write("roles/admin.yaml", "name: admin\nusers: [root]\npolicy:\n  - {effect: allow, action: '*', resource: '*'}\n")
	write("roles/team.yaml", "Name: team\nUsers: ann\nPolicy:\n  - Effect: Allow\n    Actions: [connect:List*, connect:Get*, connect:PauseConnector]\n    Resources: 'connect:connector:team-*'\n")
	n := startTestNode(t, kafka, map[string]string{
		"rest.extension.classes":          "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
		"java.security.auth.login.config": login, "access.roles.dir": filepath.Join(dir, "roles"), "audit.key": "of tests",
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/access",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			e.Setenv("BARNABAS_URL", n.url)
			e.Setenv("KAFKA", kafka)
			e.Setenv("ROLES", filepath.Join(dir, "roles"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "expand": expand, "until": until},
	})
}
