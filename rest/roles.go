package rest

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"barnabas/access"
	kafka "barnabas/connection"
	"barnabas/worker"
)

// Roles are in files of each worker, and in the config topic, where PUT writes them. Those in files are changed there. Without a directory of
// roles (access.roles.dir) there are none at all: somebody has to be the first who may manage the others.

const roleRoute = "/v1/roles/:role"

func roleRoutes(s *Server) []route {
	return []route{
		{method: "GET", path: "/v1/roles", handle: s.listRoles},
		{method: "GET", path: roleRoute, handle: s.getRole},
		{method: "PUT", path: roleRoute, handle: s.putRole, body: true, known: s.roleInPath, settle: settlePutRole},
		{method: "DELETE", path: roleRoute, handle: s.deleteRole, known: s.roleInPath, settle: settleDelete},
	}
}

// Role is a role as the API shows it.
type Role struct {
	access.Role
	// File is the name of the file that the role is in, on the worker that is asked; empty: it was put over REST, and has
	// the others.
	File     string        `json:"file,omitempty"`
	Version  int64         `json:"version,omitempty"`
	Created  *kafka.Change `json:"created,omitempty"`
	Modified *kafka.Change `json:"modified,omitempty"`
}

func storedRole(r worker.StoredRole) Role {
	return Role{Role: r.Role, Version: r.Version, Created: &r.Created, Modified: &r.Modified}
}

// mergedRoles are all roles in force, and what they were made of.
type mergedRoles struct{ files, stored, all access.Roles }

// roles returns all roles in force. Where a file has a role of a name, the stored one of that name counts for nothing.
func (s *Server) roles() access.Roles {
	files := s.o.Roles()
	if s.w == nil {
		return files
	}
	stored := s.w.Roles()
	if m := s.merged.Load(); m != nil && m.files.Same(files) && m.stored.Same(stored) {
		return m.all
	}
	all, hidden := files.With(stored)
	s.merged.Store(&mergedRoles{files, stored, all})
	for _, r := range hidden {
		s.log.Warn("a role that was put over REST is not in force: there is a file with a role of that name", "role", r.Name)
	}
	return all
}

// keepsManagers refuses roles under which nobody could manage roles any more.
func (s *Server) keepsManagers(stored access.Roles) error {
	all, _ := s.o.Roles().With(stored)
	if err := all.AddsUp(s.roles(), s.o.Group, time.Now()); err != nil {
		return fail(http.StatusConflict, "Nothing was changed: %s (admin:ManageRoles on connect:cluster:%s).", err, s.o.Group)
	}
	return nil
}

// shown are all roles in force as the API shows them, by name.
func (s *Server) shown() []Role {
	stored := s.w.StoredRoles()
	all := []Role{}
	for _, r := range s.roles().All() {
		if r.Source != "" {
			all = append(all, Role{Role: r, File: filepath.Base(r.Source)})
		} else if kept, ok := stored[r.Name]; ok {
			all = append(all, storedRole(kept))
		} else {
			all = append(all, Role{Role: r})
		}
	}
	return all
}

// listRoles shows the roles in force, those that have expired included.
func (s *Server) listRoles(context.Context, *request) (answer, error) {
	if s.o.Roles == nil {
		return ok([]Role{})
	}
	a, err := ok(s.shown())
	if s.o.RolesBroken != nil {
		if broken := s.o.RolesBroken(); broken != nil {
			a.advice = "these are the roles as they were before a mistake: " + broken.Error()
		}
	}
	return a, err
}

func (s *Server) getRole(_ context.Context, r *request) (answer, error) {
	if s.o.Roles != nil {
		all := s.shown()
		if i := slices.IndexFunc(all, func(role Role) bool { return role.Name == r.param("role") }); i >= 0 {
			return ok(all[i])
		}
	}
	return answer{}, noRole(r)
}

func noRole(r *request) error {
	return fail(http.StatusNotFound, "There is no role %s.", r.param("role"))
}

// changeable says why a role cannot be changed here; nil: it can be.
func (s *Server) changeable(r *request) error {
	if s.o.Roles == nil {
		return fail(http.StatusConflict, "There are no roles here. Set access.roles.dir, with a role in it for who may manage the others; then roles can be put over REST.")
	}
	if role, inFile := s.o.Roles().Lookup(r.param("role")); inFile {
		return fail(http.StatusConflict, "Role %s is in a file of the workers, %s in access.roles.dir: change it there.", role.Name, filepath.Base(role.Source))
	}
	return nil
}

func (s *Server) putRole(ctx context.Context, r *request) (answer, error) {
	role, err := access.DecodeRole(r.param("role"), r.body)
	if err != nil {
		return answer{}, fail(http.StatusBadRequest, "Role %s is wrong: %s.", r.param("role"), strings.TrimSuffix(err.Error(), "."))
	}
	if err := s.changeable(r); err != nil {
		return answer{}, err
	}
	stored, created, err := s.w.PutRole(ctx, role, s.keepsManagers)
	if err != nil {
		return answer{}, err
	}
	if !created {
		return ok(storedRole(stored))
	}
	a, err := reply(http.StatusCreated, storedRole(stored))
	a.location = rolePath(role.Name)
	return a, err
}

func (s *Server) deleteRole(ctx context.Context, r *request) (answer, error) {
	if err := s.changeable(r); err != nil {
		return answer{}, err
	}
	if err := s.w.DeleteRole(ctx, r.param("role"), s.keepsManagers); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

func (s *Server) roleInPath(_ context.Context, r *request) bool {
	_, there := s.w.Roles().Lookup(r.param("role"))
	return there
}

func settlePutRole(_ context.Context, r *request, known bool, a answer) answer {
	if a.status == http.StatusOK && !known {
		a.status, a.location = http.StatusCreated, rolePath(r.param("role"))
	}
	return a
}

func rolePath(name string) string { return "/v1/roles/" + url.PathEscape(name) }

// Roles returns the roles in force.
func (c *Client) Roles(ctx context.Context) (roles []Role, err error) {
	return roles, c.call(ctx, "GET", "/v1/roles", nil, &roles)
}

// Role returns one role.
func (c *Client) Role(ctx context.Context, name string) (role Role, err error) {
	return role, c.call(ctx, "GET", rolePath(name), nil, &role)
}

// PutRole creates or changes a role that is in no file.
func (c *Client) PutRole(ctx context.Context, role access.Role) (stored Role, err error) {
	return stored, c.call(ctx, "PUT", rolePath(role.Name), role, &stored)
}

// DeleteRole deletes a role that is in no file.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", rolePath(name), nil, nil)
}
