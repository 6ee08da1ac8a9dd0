package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// Roles of files and roles that were put over REST are in force together. A name belongs to one of them: what is in a file is
// changed there, by who may write to the machine, and by nobody over REST.

// shownOnly are the keys that the REST API shows of a role besides; written back they count for nothing.
var shownOnly = []string{"version", "created", "modified", "file"}

// DecodeRole reads a role that is put over REST: JSON, by the rules of ParseRole. It may leave out its name, but not have another
// one. What the REST API shows besides may stand in it.
func DecodeRole(name string, text []byte) (Role, error) {
	if !json.Valid(text) {
		return Role{}, errors.New("it is not JSON")
	}
	var root yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return Role{}, fmt.Errorf("not YAML: %w", err) // JSON is, but for some escapes
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return Role{}, errors.New("a role is a mapping of keys")
	}
	fields := root.Content[0]
	named := false
	for i := 0; i+1 < len(fields.Content); {
		key := fields.Content[i].Value
		if slices.Contains(shownOnly, key) {
			fields.Content = slices.Delete(fields.Content, i, i+2)
			continue
		}
		named = named || key == "name" || key == "Name"
		i += 2
	}
	r, err := readRole(fields)
	if err != nil {
		return Role{}, err
	}
	if named && r.Name != name {
		return Role{}, fmt.Errorf("its name is %q, but %q was asked for", r.Name, name)
	}
	r.Name = name
	return r, r.Check()
}

// With returns these roles, of files, together with stored ones, and the stored ones that are not in force because a file
// has a role of that name.
func (rs Roles) With(stored Roles) (all Roles, hidden []Role) {
	merged := slices.Clone(rs.roles)
	for _, r := range stored.roles {
		if _, taken := rs.Lookup(r.Name); taken {
			hidden = append(hidden, r)
			continue
		}
		merged = append(merged, r)
	}
	all, _ = NewRoles(merged...) // no name is there twice
	return all, hidden
}

// Same says whether two are one: no other roles have been read since.
func (rs Roles) Same(o Roles) bool {
	return len(rs.roles) == len(o.roles) && (len(rs.roles) == 0 || &rs.roles[0] == &o.roles[0])
}

// AddsUp tells whether somebody whom a role names may still manage roles on a cluster, if somebody could under roles before. It asks for now, and
// for the time when all roles that end have ended. Whether those users can log in is not known here.
func (rs Roles) AddsUp(before Roles, cluster string, at time.Time) error {
	if before.managed(cluster, at) && !rs.managed(cluster, at) {
		return errors.New("nobody could manage roles any more")
	}
	if before.lasting().managed(cluster, at) && !rs.lasting().managed(cluster, at) {
		return errors.New("nobody could manage roles any more once the roles that expire have ended")
	}
	return nil
}

// lasting are the roles that do not end.
func (rs Roles) lasting() Roles {
	return Roles{slices.DeleteFunc(slices.Clone(rs.roles), func(r Role) bool { return !r.Expires.IsZero() })}
}

// managed tells whether one of the users or groups that roles name may manage roles.
func (rs Roles) managed(cluster string, at time.Time) bool {
	may := func(c Caller) bool {
		return rs.Decide(c, at, "admin:ManageRoles", Resource("connect:cluster", cluster)).Allowed
	}
	for _, r := range rs.roles {
		for _, user := range r.Users { // "*" is asked for as a user whom nothing else names
			if may(Caller{User: user}) {
				return true
			}
		}
		for _, group := range r.Groups {
			if may(Caller{Groups: []string{group}}) {
				return true
			}
		}
	}
	return false
}
