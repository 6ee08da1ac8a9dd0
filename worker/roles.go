package worker

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"barnabas/access"
	"barnabas/connection"
	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// rolePrefix begins the keys of roles, among documents; then the name.
const rolePrefix = "role-"

// roles are those that were put over REST and stand in the config topic; others are in files (access.Directory).
type roles struct {
	mu  sync.Mutex
	all map[string]roleState
	now atomic.Pointer[access.Roles] // each request looks at them
}

type roleState struct {
	StoredRole
	rev int64 // offset of the record
}

// StoredRole is a role that was put over REST.
type StoredRole struct {
	Role     access.Role       `json:"role"`
	Version  int64             `json:"version"`
	Created  connection.Change `json:"created"`
	Modified connection.Change `json:"modified"`
}

// apply takes a document of the config topic, if it is a role.
func (r *roles) apply(d herder.Document, offset int64) {
	name, ok := strings.CutPrefix(d.Key, rolePrefix)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]roleState{}
	}
	if stored, ok := d.Value.(StoredRole); ok {
		r.all[name] = roleState{stored, offset}
	} else {
		delete(r.all, name)
	}
	now := rolesOf(r.all, access.Role{})
	r.now.Store(&now)
}

// rolesOf are the roles in force, with one more, or in the place of the one of that name; without a policy it is left out.
func rolesOf(all map[string]roleState, other access.Role) access.Roles {
	var list []access.Role
	for name, s := range all {
		if name != other.Name {
			list = append(list, s.Role)
		}
	}
	if len(other.Policy) > 0 {
		list = append(list, other)
	}
	roles, _ := access.NewRoles(list...) // no name is there twice
	return roles
}

// get returns what is kept of a role; present is nil if that is nothing.
func (r *roles) get(name string) (present *StoredRole, rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.all[name]
	if !ok {
		return nil, herder.NoDocument
	}
	return &s.StoredRole, s.rev
}

// with returns the roles as they would be with one more, changed, or (without a policy) gone.
func (r *roles) with(role access.Role) access.Roles {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rolesOf(r.all, role)
}

func ownRole(r store.OwnRecord, key string) (herder.Record, error) {
	stored, err := store.DecodeOwn[StoredRole](r)
	if err != nil {
		return nil, err
	}
	stored.Role.Name = strings.TrimPrefix(key, rolePrefix)
	return herder.Document{Key: key, Value: stored}, nil
}

// Roles returns the roles that were put over REST, as this worker has read them.
func (w *Worker) Roles() access.Roles {
	if now := w.roles.now.Load(); now != nil {
		return *now
	}
	return access.Roles{}
}

// StoredRoles returns the same with their versions, by name.
func (w *Worker) StoredRoles() map[string]StoredRole {
	w.roles.mu.Lock()
	defer w.roles.mu.Unlock()
	all := make(map[string]StoredRole, len(w.roles.all))
	for name, s := range w.roles.all {
		all[name] = s.StoredRole
	}
	return all
}

// maxRoles bounds the roles that were put over REST: each request looks at all of them.
const maxRoles = 1000

// PutRole creates a role or changes it. The same again changes nothing. permit, unless nil, is asked about all of them as they would be.
func (w *Worker) PutRole(ctx context.Context, role access.Role, permit func(access.Roles) error) (stored StoredRole, created bool, err error) {
	if err := role.Check(); err != nil {
		return stored, false, &Error{ErrInvalid, fmt.Sprintf("The role is wrong: %s.", err)}
	}
	if err := w.leads(ctx); err != nil { // permit is to see the newest
		return stored, false, err
	}
	created, err = w.changeRole(ctx, role.Name, permit, func(present *StoredRole) (*StoredRole, error) {
		by := connectionChange(ctx)
		switch {
		case present == nil && len(w.StoredRoles()) >= maxRoles:
			return nil, &Error{ErrConflict, fmt.Sprintf("There are %d roles already: no more are kept", maxRoles)}
		case present == nil:
			return &StoredRole{Role: role, Version: 1, Created: by, Modified: by}, nil
		case reflect.DeepEqual(present.Role, role):
			return present, nil
		}
		return &StoredRole{Role: role, Version: present.Version + 1, Created: present.Created, Modified: by}, nil
	})
	if err != nil {
		return stored, false, err
	}
	present, _ := w.roles.get(role.Name)
	if present == nil {
		return stored, false, notFound("Role %s not found", role.Name) // deleted meanwhile
	}
	return *present, created, nil
}

// DeleteRole deletes a role that was put over REST.
func (w *Worker) DeleteRole(ctx context.Context, name string, permit func(access.Roles) error) error {
	if err := w.leads(ctx); err != nil {
		return err
	}
	_, err := w.changeRole(ctx, name, permit, func(present *StoredRole) (*StoredRole, error) {
		if present == nil {
			return nil, notFound("Role %s not found", name)
		}
		return nil, nil
	})
	return err
}

// changeRole has the leader write what change makes of a role, nil if it is to be there no more, once for each request.
func (w *Worker) changeRole(ctx context.Context, name string, permit func(access.Roles) error, change func(present *StoredRole) (*StoredRole, error)) (created bool, err error) {
	key := rolePrefix + name
	if written, created, err := w.madeBefore(ctx, key); err != nil || written {
		return created, err
	}
	return w.changeDocument(ctx, "Role "+name, func() (*herder.PutDocument, error) {
		present, rev := w.roles.get(name)
		next, err := change(present)
		if err != nil || next == present {
			return nil, err
		}
		d := herder.Document{Key: key}
		after := access.Role{Name: name}
		if next != nil {
			d.Value, after = *next, next.Role
		}
		if permit != nil {
			if err := permit(w.roles.with(after)); err != nil {
				return nil, err
			}
		}
		return &herder.PutDocument{Document: d, Expect: rev, Creates: present == nil}, nil
	})
}
