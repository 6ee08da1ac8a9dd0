package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/access"
	"barnabas/audit"
)

// TestRolesArePutOverREST has an administrator grant and take away what somebody may do, on a cluster of two.
func TestRolesArePutOverREST(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 2, nil, rootRole)
	leader, follower := c.roles()
	const path = "/v1/roles/team"
	role := func(resource string) string {
		return `{"users": "ann", "policy": [{"effect": "allow", "action": ["connect:GetConnectorConfig", "connect:ListConnectors"], "resource": "connect:connector:` + resource + `"}]}`
	}
	may := func(resource string, want bool) {
		t.Helper()
		for _, n := range []*node{leader, follower} {
			eventually(t, func() string {
				p, err := n.as("ann").Can(t.Context(), "connect:GetConnectorConfig", "connect:connector:"+resource)
				if err != nil || p.Allowed != want {
					return fmt.Sprintf("%s: %+v %v, want %v", resource, p, err, want)
				}
				return ""
			})
		}
	}
	may("a", false)
	if a := follower.asked("ann", "PUT", path, role("*")); a.status != 403 || !strings.Contains(a.body, "admin:ManageRoles on connect:cluster:g") {
		t.Errorf("who may not: %d %s", a.status, a.body)
	}
	for i, row := range []struct {
		body          string
		status        int
		version, says string
	}{
		{role("a"), 201, `"version":1`, ""},
		{role("a"), 200, `"version":1`, ""},
		{role("b"), 200, `"version":2`, ""},
		{`{"users": "ann", "policy": [{"effect": "allow", "action": "connect:Gett", "resource": "*"}]}`, 400, "", `Role team is wrong: role team, statement 1: there is no action \"connect:Gett\"`},
		{`{"users": "ann", "permit": []}`, 400, "", `a role has no key \"permit\"`},
		{`{"users": "*", "policy": [{"effect": "deny", "action": "admin:*", "resource": "*"}]}`, 409, "", "nobody could manage roles any more (admin:ManageRoles on connect:cluster:g)"},
	} {
		a := follower.asked("root", "PUT", path, row.body)
		if a.status != row.status || !strings.Contains(a.body, row.version) || !strings.Contains(a.body, row.says) {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
		if row.status == 201 {
			may("a", true)
		}
	}
	may("a", false)
	may("b", true)
	if a := leader.asked("root", "PUT", "/v1/roles/root", role("a")); a.status != 409 || !strings.Contains(a.body, "Role root is in a file of the workers") {
		t.Errorf("a role of a file: %d %s", a.status, a.body)
	}
	shown, err := leader.as("root").Role(t.Context(), "team")
	if err != nil || shown.Version != 2 || shown.File != "" || shown.Created.By != "root" || shown.Modified.By != "root" {
		t.Errorf("%+v %v", shown, err)
	}
	all, err := follower.as("root").Roles(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("%+v %v", all, err)
	}

	// For a night of trouble, and only for that.
	night := access.Role{Name: "night", Users: []string{"ann"}, Reason: "outage", Expires: time.Now().Add(-time.Minute), Policy: []access.Statement{{Effect: access.Allow, Actions: []string{"connect:*"}, Resources: []string{"*"}}}}
	if _, err := follower.as("root").PutRole(t.Context(), night); err != nil {
		t.Fatal(err)
	}
	may("c", false)
	night.Expires = time.Now().Add(time.Hour)
	if _, err := follower.as("root").PutRole(t.Context(), night); err != nil {
		t.Fatal(err)
	}
	may("c", true)
	for _, name := range []string{"night", "team"} {
		if err := follower.as("root").DeleteRole(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	may("b", false)
	may("c", false)
	if err := follower.as("root").DeleteRole(t.Context(), "team"); refusal(err) != 404 {
		t.Errorf("twice: %v", err)
	}
	page, err := leader.as("root").Audit(t.Context(), audit.Query{Action: "admin:ManageRoles", Outcome: audit.Done})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range slices.Backward(page.Entries) {
		told = append(told, fmt.Sprint(e.User, " ", strings.Join(e.Changed, " ")))
	}
	want := []string{"root name policy users", "root ", "root policy", "root expires name policy reason users", "root expires", "root ", "root "}
	if !slices.Equal(told, want) {
		t.Errorf("the trail tells %q, want %q", told, want)
	}
}

// TestWithoutADirectoryThereAreNoRolesToPut: nobody would be the first who may manage them.
func TestWithoutADirectoryThereAreNoRolesToPut(t *testing.T) {
	t.Parallel()
	n := newClusterOf(t, 1, nil).nodes[0]
	if a := n.asked("root", "PUT", "/v1/roles/team", `{"users": "ann", "policy": [{"effect": "allow", "action": "*", "resource": "*"}]}`); a.status != 409 || !strings.Contains(a.body, "Set access.roles.dir") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
