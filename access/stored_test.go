package access

import (
	"strings"
	"testing"
)

func TestRolesArePutAsJSON(t *testing.T) {
	t.Parallel()
	const policy = `"policy": [{"Effect": "Allow", "Actions": "k2k:*", "Resources": "k2k:app:a"}]`
	for text, want := range map[string]string{
		`{"Users": "u", ` + policy + `}`: "",
		`{"name": "r", "users": ["u"], ` + policy + `, "version": 3, "created": {"at": "x"}, "modified": {}, "file": ""}`: "",
		"{\n\t\"users\": [\n\t\t\"u\"\n\t],\n\t" + policy + "\n}":                                                         "",
		`{"name": "other", ` + policy + `}`:                                                                               `its name is "other", but "r" was asked for`,
		`{"name": null, ` + policy + `}`:                                                                                  `its name is "", but "r" was asked for`,
		`{"users": "u"}`:                                                                                                  "role r has no policy",
		"users: u":                                                                                                        "it is not JSON",
		`"r"`:                                                                                                             "a role is a mapping",
		``:                                                                                                                "it is not JSON",
		"{\n\"users\": \"u\",\n\"permit\": 1}":                                                                            `line 3: a role has no key "permit"`,
		`{"Name": "r", "name": "x", ` + policy + `}`:                                                                      "there twice",
		`{"policy": [{"effect": "allow", "action": "k2k:Gt", "resource": "*"}]}`:  `role r, statement 1: there is no action "k2k:Gt"`,
		`{"expires": "2027-01-01T00:00:00Z", ` + policy + `}`:                     "expires, but gives no reason",
		`{"expires": "2027-01-01T00:00:00+02:00", "reason": "x", ` + policy + `}`: "",
	} {
		r, err := DecodeRole("r", []byte(text))
		switch {
		case want == "" && (err != nil || r.Name != "r" || len(r.Policy) != 1):
			t.Errorf("%s: %+v, %v", text, r, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestFilesWinOverStoredRoles(t *testing.T) {
	t.Parallel()
	files := roles(t, "name: a\nusers: u\npolicy: [{effect: deny, action: '*', resource: '*'}]")
	stored := roles(t, "name: a\nusers: u\npolicy: [{effect: allow, action: '*', resource: '*'}]", "name: b\nusers: v\npolicy: [{effect: allow, action: '*', resource: '*'}]")
	all, hidden := files.With(stored)
	if len(all.All()) != 2 || len(hidden) != 1 || hidden[0].Name != "a" {
		t.Errorf("%+v, hidden %+v", all, hidden)
	}
	if all.Decide(Caller{User: "u"}, now, "k2k:GetApp", "k2k:app:x").Allowed || !all.Decide(Caller{User: "v"}, now, "k2k:GetApp", "k2k:app:x").Allowed {
		t.Error("the file does not win, or the other role is not in force")
	}
	if again, _ := files.With(stored); !files.Same(files) || again.Same(files) || files.Same(stored) {
		t.Error("other roles are the same")
	}
}

// TestTheLastAdministratorStays changes roles from one set to another.
func TestTheLastAdministratorStays(t *testing.T) {
	t.Parallel()
	const (
		admin  = "name: admin\nusers: root\npolicy: [{effect: allow, action: 'admin:*', resource: 'connect:cluster:g'}]"
		group  = "name: admins\ngroups: ops\npolicy: [{effect: allow, action: '*', resource: '*'}]"
		all    = "name: all\nusers: '*'\npolicy: [{effect: allow, action: 'admin:ManageRoles', resource: '*'}]"
		none   = "name: none\nusers: '*'\npolicy: [{effect: deny, action: 'admin:*', resource: '*'}]"
		other  = "name: other\nusers: root\npolicy: [{effect: allow, action: '*', resource: 'connect:cluster:other'}]"
		reader = "name: reader\nusers: bob\npolicy: [{effect: allow, action: 'admin:Get*', resource: '*'}]"
		ends   = "name: ends\nusers: bob\nexpires: 2027-01-01T00:00:00Z\nreason: outage\npolicy: [{effect: allow, action: '*', resource: '*'}]"
		bound  = "name: bound\npolicy: [{effect: allow, action: '*', resource: '*'}]"
	)
	for _, row := range []struct {
		what          string
		before, after []string
		want          string
	}{
		{"none before", nil, []string{reader}, ""},
		{"the last one goes", []string{admin, reader}, []string{reader}, "nobody could manage roles any more"},
		{"another stays", []string{admin, group}, []string{group}, ""},
		{"everybody stays", []string{admin, all}, []string{all}, ""},
		{"a deny", []string{admin}, []string{admin, none}, "nobody could manage roles any more"},
		{"a deny of users leaves groups", []string{admin, group}, []string{admin, group, none}, ""},
		{"of another cluster", []string{admin}, []string{other}, "nobody could manage roles any more"},
		{"bound to nobody", []string{admin}, []string{bound}, "nobody could manage roles any more"},
		{"who stays goes later", []string{admin, ends}, []string{ends}, "once the roles that expire have ended"},
		{"who is there for a while", []string{ends}, []string{ends, reader}, ""},
	} {
		err := roles(t, row.after...).AddsUp(roles(t, row.before...), "g", now)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, err, row.want)
		}
	}
}
