package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connection"
	"barnabas/connector"
	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// connectionPrefix begins the keys of connections, among documents; then ENV/NAME.
const connectionPrefix = "connection-"

// connections are the Kafka connections that stand in the config topic. Records come in from its reader; everybody else asks.
type connections struct {
	mu       sync.Mutex
	all      map[connection.Name]connectionState
	revision int64 // of all: the offset of the newest record
	quotas   map[connection.Name]*quota
}

type connectionState struct {
	connection.Record
	rev int64 // offset of the record
}

// apply takes a document of the config topic, if it is a connection.
func (c *connections) apply(d herder.Document, offset int64) {
	text, ok := strings.CutPrefix(d.Key, connectionPrefix)
	if !ok {
		return
	}
	name, err := connection.ParseName(text)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[connection.Name]connectionState{}
	}
	c.revision = offset + 1
	record, ok := d.Value.(connection.Record)
	if !ok {
		delete(c.all, name)
		return
	}
	c.all[name] = connectionState{record, offset}
	if q, v := c.quotas[name], (connection.Quota{}); q != nil {
		if present, ok := record.Present(); ok {
			v = present.Spec.Quota
		}
		q.spec = v
		q.set()
	}
}

// get returns what is kept of a connection; rev is herder.NoDocument if that is nothing.
func (c *connections) get(name connection.Name) (connection.Record, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.all[name]
	if !ok {
		return connection.Record{}, herder.NoDocument
	}
	return s.Record, s.rev
}

// lookup is connection.Lookup.
func (c *connections) lookup(name connection.Name) (connection.Version, bool) {
	r, _ := c.get(name)
	return r.Present()
}

func (c *connections) newest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

func (c *connections) names() []connection.Name {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.all), func(a, b connection.Name) int { return strings.Compare(a.String(), b.String()) })
}

// ownDocument reads a document's record.
func ownDocument(r store.OwnRecord, key string) (herder.Record, error) {
	d := herder.Document{Key: key}
	if r.Value == nil {
		return d, nil
	}
	switch {
	case strings.HasPrefix(key, appPrefix):
		return ownApp(r, key)
	case strings.HasPrefix(key, rolePrefix):
		return ownRole(r, key)
	case !strings.HasPrefix(key, connectionPrefix):
		return nil, nil // of a newer version
	}
	record, err := store.DecodeOwn[connection.Record](r)
	if err != nil {
		return nil, err
	}
	d.Value = record
	if v, ok := record.Present(); ok {
		d.Placement = v.Spec.Placement
	}
	return d, nil
}

// usesDocuments names the documents that a connector's configuration uses.
func usesDocuments(written map[string]string) (keys []string) {
	for _, name := range connection.Names(written) {
		keys = append(keys, connectionPrefix+name.String())
	}
	return keys
}

// expand puts the connections that a configuration names into it.
func (w *Worker) expand(written map[string]string) (map[string]string, []connection.Use, error) {
	return connection.Expand(written, w.connections.lookup)
}

// judgeConnections reports what is wrong with the connections that a configuration names, and returns what it stands for.
func (w *Worker) judgeConnections(plugin connector.Plugin, written map[string]string) (map[string]string, []config.Problem) {
	expanded, _, err := w.expand(written)
	var failed *connection.Error
	if errors.As(err, &failed) {
		return written, failed.Problems
	}
	problems := clientconfig.Contradictions(written)
	for key, useless := range map[string]bool{
		connection.SourceKey: plugin.Converts && plugin.Type == connector.Source,
		connection.TargetKey: plugin.Converts && plugin.Type == connector.Sink,
	} {
		if useless && strings.TrimSpace(written[key]) != "" {
			problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf("%s cannot be set: this connector has no clients there", key)})
		}
	}
	return expanded, problems
}

// Connection is a Kafka connection as the REST API shows it.
type Connection struct {
	Environment string `json:"environment"`
	Name        string `json:"name"`
	connection.Spec
	Version  int64             `json:"version"`
	Created  connection.Change `json:"created"`
	Modified connection.Change `json:"modified"`
	// UsedBy are the connectors that name it.
	UsedBy []string `json:"used_by"`
}

// ConnectionVersion is one version of a connection.
type ConnectionVersion = connection.Version

func (w *Worker) described(m *herder.Machine, name connection.Name) (Connection, bool) {
	r, _ := w.connections.get(name)
	v, ok := r.Present()
	if !ok {
		return Connection{}, false
	}
	configs := map[string]map[string]string{}
	for _, n := range m.Connectors() {
		configs[n], _, _ = m.Connector(n)
	}
	return Connection{
		Environment: name.Env, Name: name.Name, Spec: *v.Spec, Version: v.Number, Created: r.Created, Modified: v.Change, UsedBy: usersOf(name, configs),
	}, true
}

// usersOf are the connectors that name a connection.
func usersOf(name connection.Name, configs map[string]map[string]string) []string {
	users := []string{}
	for _, n := range slices.Sorted(maps.Keys(configs)) {
		if slices.Contains(connection.Names(configs[n]), name) {
			users = append(users, n)
		}
	}
	return users
}

// Connections returns all connections, by environment and name.
func (w *Worker) Connections(ctx context.Context) (all []Connection, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		users := map[connection.Name][]string{}
		for _, n := range m.Connectors() {
			c, _, _ := m.Connector(n)
			for _, name := range connection.Names(c) {
				users[name] = append(users[name], n)
			}
		}
		for _, name := range w.connections.names() {
			r, _ := w.connections.get(name)
			if v, ok := r.Present(); ok {
				used := users[name]
				if used == nil {
					used = []string{}
				}
				all = append(all, Connection{
					Environment: name.Env, Name: name.Name, Spec: *v.Spec, Version: v.Number, Created: r.Created, Modified: v.Change, UsedBy: used,
				})
			}
		}
		return nil
	})
	return all, err
}

// Connection returns one connection.
func (w *Worker) Connection(ctx context.Context, name connection.Name) (c Connection, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		var ok bool
		if c, ok = w.described(m, name); !ok {
			return notFound("Connection %s not found", name)
		}
		return nil
	})
	return c, err
}

// ConnectionHistory returns the versions of a connection that are kept, the newest first; a deleted one has them, too.
func (w *Worker) ConnectionHistory(ctx context.Context, name connection.Name) (all []ConnectionVersion, err error) {
	err = w.read(ctx, func(*herder.Machine) error {
		r, _ := w.connections.get(name)
		if len(r.Versions) == 0 {
			return notFound("Connection %s not found", name)
		}
		all = slices.Clone(r.Versions)
		slices.Reverse(all)
		return nil
	})
	return all, err
}

// maxConnections bounds the connections, deleted ones included.
const maxConnections = 10000

// PutConnection creates a connection or makes another version of it. The same again makes none.
func (w *Worker) PutConnection(ctx context.Context, name connection.Name, spec connection.Spec) (c Connection, created bool, err error) {
	problems := append(spec.Problems(), clientconfig.ConnectionProblems(spec.Config)...)
	if len(problems) > 0 {
		texts := make([]string, len(problems))
		for i, p := range problems {
			texts[i] = p.Key + " " + p.Message
		}
		return c, false, &Error{ErrInvalid, fmt.Sprintf("Connection %s is wrong: %s", name, strings.Join(texts, "; "))}
	}
	by := connectionChange(ctx)
	created, err = w.changeConnection(ctx, name, nil, func(r connection.Record) (connection.Record, error) {
		if len(r.Versions) == 0 && len(w.connections.names()) >= maxConnections {
			return r, &Error{ErrConflict, fmt.Sprintf("There are %d connections already, deleted ones included: no more are kept", maxConnections)}
		}
		next, _ := r.Put(spec, by, w.o.File.HistoryVersions)
		return next, nil
	})
	if err != nil {
		return c, false, err
	}
	c, err = w.Connection(ctx, name)
	return c, created, err
}

// DeleteConnection deletes a connection. One that a connector names is not: ErrConflict.
func (w *Worker) DeleteConnection(ctx context.Context, name connection.Name) error {
	by := connectionChange(ctx)
	unused := func(configs map[string]map[string]string) error {
		if users := usersOf(name, configs); len(users) > 0 {
			return &Error{ErrConflict, fmt.Sprintf("Connection %s is in use by the connectors %s: change or delete those first", name, strings.Join(users, ", "))}
		}
		return nil
	}
	_, err := w.changeConnection(ctx, name, unused, func(r connection.Record) (connection.Record, error) {
		if _, ok := r.Present(); !ok {
			return r, notFound("Connection %s not found", name)
		}
		return r.Delete(by, w.o.File.HistoryVersions), nil
	})
	return err
}

// RollbackConnection makes an earlier version the present one, as a new version. A deleted connection is there again.
func (w *Worker) RollbackConnection(ctx context.Context, name connection.Name, number int64) (c Connection, err error) {
	by := connectionChange(ctx)
	_, err = w.changeConnection(ctx, name, nil, func(r connection.Record) (connection.Record, error) {
		if len(r.Versions) == 0 {
			return r, notFound("Connection %s not found", name)
		}
		next, err := r.RollBack(number, by, w.o.File.HistoryVersions)
		switch {
		case errors.Is(err, connection.ErrVersion):
			err = notFound("Version %d of connection %s not found", number, name)
		case errors.Is(err, connection.ErrDeleted):
			err = &Error{ErrInvalid, fmt.Sprintf("Version %d is the deletion of connection %s: there is nothing to roll back to.", number, name)}
		}
		return next, err
	})
	if err != nil {
		return c, err
	}
	return w.Connection(ctx, name)
}

func connectionChange(ctx context.Context) connection.Change {
	a := authorOf(ctx)
	return connection.Change{By: a.User, Address: a.Address, At: time.Now().UTC().Truncate(time.Millisecond)}
}

// connectionAttempts bounds how often a change is made anew because another one was faster.
const connectionAttempts = 10

// changeConnection has the leader write what change makes of the record of a connection, once for each request. An unchanged record is
// not written. created says that there was no such connection.
func (w *Worker) changeConnection(ctx context.Context, name connection.Name, permit func(map[string]map[string]string) error, change func(connection.Record) (connection.Record, error)) (created bool, err error) {
	key := connectionPrefix + name.String()
	if written, created, err := w.madeBefore(ctx, key); err != nil || written {
		return created, err
	}
	return w.changeDocument(ctx, "Connection "+name.String(), func() (*herder.PutDocument, error) {
		before, rev := w.connections.get(name)
		after, err := change(before)
		if err != nil || newest(after) == newest(before) {
			return nil, err
		}
		d := herder.Document{Key: key, Value: after}
		v, is := after.Present()
		if is {
			d.Placement = v.Spec.Placement
		}
		_, was := before.Present()
		return &herder.PutDocument{Document: d, Expect: rev, Creates: is && !was, Permit: permit}, nil
	})
}

// changeDocument has the leader write a document, as change makes it of what is there; nil: nothing is to be written. Where another
// change was faster, change is asked again. what names it for people.
func (w *Worker) changeDocument(ctx context.Context, what string, change func() (*herder.PutDocument, error)) (created bool, err error) {
	for range connectionAttempts {
		order, err := change()
		if err != nil || order == nil {
			return false, err
		}
		reply, err := w.order(ctx, *order)
		switch {
		case err != nil:
			return false, err
		case reply.Err == nil:
			return reply.Created, nil
		case !errors.Is(reply.Err, herder.ErrDocument):
			return false, reply.Err
		}
	}
	return false, &Error{ErrUnavailable, what + " keeps changing; try again."}
}

func newest(r connection.Record) int64 {
	if len(r.Versions) == 0 {
		return 0
	}
	return r.Versions[len(r.Versions)-1].Number
}

// ConnectionUse tells that a connector or task on a worker uses a version of a connection.
type ConnectionUse struct {
	Connection string `json:"connection"`
	Version    int64  `json:"version"`
	Connector  string `json:"connector"`
	Task       int    `json:"task"`
	WorkerID   string `json:"worker_id"`
}

// ConnectionUses are the connections that what runs on this worker uses.
func (w *Worker) ConnectionUses() []ConnectionUse {
	all := []ConnectionUse{}
	for _, u := range w.runner.ConnectionUses() {
		all = append(all, ConnectionUse{u.Connection, u.Version, u.Connector, u.Task, w.ID()})
	}
	slices.SortFunc(all, func(a, b ConnectionUse) int {
		return cmp.Or(strings.Compare(a.Connection, b.Connection), strings.Compare(a.Connector, b.Connector), cmp.Compare(a.Task, b.Task))
	})
	return all
}

// resolve resolves a configuration: its connections, then its references.
func (w *Worker) resolve(ctx context.Context, written map[string]string) (config.Settings, []configprovider.Use, error) {
	expanded, _, err := w.expand(written)
	if err != nil {
		return nil, nil, err
	}
	return w.o.Resolver.Resolve(ctx, expanded)
}

// resolveOwn resolves the settings that a configuration has itself. What its connections bring in may be resolvable on other
// workers only, and is for those to check who wrote them.
func (w *Worker) resolveOwn(ctx context.Context, written, expanded map[string]string) (config.Settings, error) {
	text := make(map[string]string, len(written))
	for key := range written {
		if value := expanded[key]; len(connection.Names(map[string]string{key: value})) == 0 || key == connection.SourceKey || key == connection.TargetKey {
			text[key] = value // not what names a connection that is not there
		}
	}
	settings, _, err := w.o.Resolver.Resolve(ctx, text)
	if err != nil {
		return nil, err
	}
	own := config.Literal(written)
	for key, s := range settings {
		own[key] = config.Setting{Written: written[key], Value: s.Value}
	}
	return own, nil
}
