package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connection"
	"barnabas/connector"
)

// This file brings the connections that a run's configuration names into its clients, at its start and when they change. A
// change is proved like that of a secret: fresh connections log in with what the new version says, and only then the run's clients
// use it. What they cannot take while they run, other brokers, mechanisms or settings that are neither TLS nor SASL, starts
// the run again.

// Connections are those that configurations may name.
type Connections struct {
	// Expand puts them into a configuration (connection.Expand).
	Expand func(written map[string]string) (map[string]string, []connection.Use, error)
	// Revision changes with every change of any of them.
	Revision func() int64
	// Limits are what tasks may read and write under one of them on this worker; nil: all that they can.
	Limits func(connection.Name) (read, write *connector.Limit)
}

// limits are those of the source and of the target of a run.
func (t *Runner) limits(run *running) (read, write *connector.Limit) {
	if t.o.Connections.Limits == nil {
		return nil, nil
	}
	run.secrets.mu.Lock()
	defer run.secrets.mu.Unlock()
	for _, u := range run.secrets.connections {
		switch u.Key {
		case connection.SourceKey:
			read, _ = t.o.Connections.Limits(u.Name)
		case connection.TargetKey:
			_, write = t.o.Connections.Limits(u.Name)
		}
	}
	return read, write
}

// expand is what a configuration stands for.
func (c Connections) expand(written map[string]string) (map[string]string, []connection.Use, error) {
	if c.Expand == nil {
		return written, nil, nil
	}
	return c.Expand(written)
}

func (c Connections) revision() int64 {
	if c.Revision == nil {
		return 0
	}
	return c.Revision()
}

// plain are the settings of a run as its plugin sees them: with its configuration as it is written, and without what
// connections stand for, which must not get into the configurations of tasks.
func (s *secrets) plain(of config.Settings) config.Settings {
	if len(s.connections) == 0 {
		return of
	}
	own := make(config.Settings, len(s.config))
	for key, written := range s.config {
		own[key] = config.Setting{Written: written, Value: of[key].Value}
	}
	return own
}

// expand takes what the configuration stands for now. s.mu is held, or nobody else has s.
func (s *secrets) expand(runs map[string]string, uses []connection.Use, revision int64) {
	s.runs, s.connections, s.revision = runs, uses, revision
}

func referencesIn(of ...map[string]string) (refs []string) {
	for _, written := range of {
		for _, value := range written {
			for _, ref := range configprovider.References(value) {
				refs = append(refs, ref.String())
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// moved says whether connections may have changed since the run took them. s.mu is held.
func (t *Runner) moved(s *secrets) bool {
	return len(s.connections) > 0 && s.reload() && s.revision != t.o.Connections.revision()
}

// reconnect has a run use the present versions of its connections, if they work. What it says of those that do not is
// in the trouble of the run: then it returns false.
func (t *Runner) reconnect(ctx context.Context, run *running) bool {
	s := run.secrets
	revision := t.o.Connections.revision()
	runs, uses, err := t.o.Connections.expand(s.config)
	s.mu.Lock()
	before := s.connections
	if err == nil && maps.Equal(runs, s.runs) {
		s.connections, s.revision = uses, revision
		s.mu.Unlock()
		return true
	}
	clients := slices.Clone(s.clients)
	s.mu.Unlock()
	var next resolved
	if err == nil {
		next, err = t.resolveAll(ctx, runs, s.worker)
	}
	if err == nil {
		err = t.proveAll(ctx, run, clients, next.now)
	}
	if err == nil {
		err = t.adopt(ctx, run, next, uses, revision)
	}
	if err != nil {
		if ctx.Err() == nil {
			t.refused(run, changedUses(before, uses, "still in use"), err)
		}
		return false
	}
	return true
}

// changedUses names the connections whose version differs, with both versions.
func changedUses(before, after []connection.Use, former string) (names []string) {
	had := map[connection.Name]int64{}
	for _, u := range before {
		had[u.Name] = u.Version
	}
	for _, u := range after {
		if had[u.Name] != u.Version {
			names = append(names, fmt.Sprintf("connection %s version %d (%s: version %d)", u.Name, u.Version, former, had[u.Name]))
		}
	}
	if names == nil { // one that cannot be had at all
		for name := range had {
			names = append(names, "connection "+name.String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// refused notes that connections cannot be used as they are now.
func (t *Runner) refused(run *running, names []string, why error) {
	s := run.secrets
	text := strings.Join(names, ", ") + ": " + why.Error()
	now := time.Now()
	s.mu.Lock()
	before := s.trouble
	s.trouble = before.again(names, text, now)
	s.failed++
	s.tell()
	s.mu.Unlock()
	if before == nil || before.text != text {
		t.logOf(run).Warn("a changed connection cannot be used; the former version stays in use", "connections", strings.Join(names, ", "), "err", why)
	}
}

// adopt has the clients of a run use what was proved. What they cannot take has the run started again.
func (t *Runner) adopt(ctx context.Context, run *running, next resolved, uses []connection.Use, revision int64) error {
	s := run.secrets
	s.mu.Lock()
	old, roles, restart, err := run.adopt(next.now)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	names := changedUses(s.connections, uses, "before")
	for ref, u := range next.uses {
		if had := s.uses[ref]; had != nil && had.version == u.version {
			u.since = had.since
		}
	}
	s.expand(next.runs, uses, revision)
	s.values, s.now, s.uses = next.values, next.now, next.uses
	s.stampFiles(s.files(), time.Now())
	s.done++
	s.tell()
	t.rotor.know(s, next.ttls, next.at)
	s.mu.Unlock()
	for _, name := range names {
		t.logOf(run).Info("connection changed", "connection", name, "clients", strings.Join(roles, " "), "restart", restart)
	}
	if restart != "" {
		t.o.Hooks.Restart(run.Run)
		return nil
	}
	t.retireAll(ctx, run, old)
	return nil
}

// adopt has the run's clients log in as settings say, and returns the connections that were made otherwise, and why the
// run has to be started again if it has. secrets.mu is held.
func (r *running) adopt(next layers) (old [][]*retiringConn, roles []string, restart string, _ error) {
	s := r.secrets
	for _, c := range s.clients {
		built, _, err := r.build(c.role, next)
		if err != nil {
			return nil, nil, "", fmt.Errorf("settings of the %s client: %w", c.role, err)
		}
		if built.SameCredentials(c.now) {
			continue
		}
		if err := c.base.Adopt(built); err != nil {
			restart = err.Error()
			continue
		}
		c.now = built
		old = append(old, c.conns.list())
		roles = append(roles, string(c.role))
	}
	if keys := notLive(s.now, next); len(keys) > 0 && restart == "" {
		restart = strings.Join(keys, ", ") + " cannot change in what runs"
	}
	return old, roles, restart, nil
}

// retireAll closes connections that were made with former credentials.
func (t *Runner) retireAll(ctx context.Context, run *running, old [][]*retiringConn) {
	var g sync.WaitGroup
	for _, conns := range old {
		g.Go(func() {
			if cut := retire(ctx, conns); cut > 0 {
				t.logOf(run).Info("connections under an old secret did not come to rest and were cut", "connections", cut)
			}
		})
	}
	g.Wait()
}

// resolved is a configuration with its values.
type resolved struct {
	runs   map[string]string
	now    layers
	values map[string]config.Secret
	uses   map[string]*use
	ttls   map[string]time.Duration
	at     time.Time
}

// resolveAll resolves a run's configuration, with what there is of the worker's for its clients.
func (t *Runner) resolveAll(ctx context.Context, runs, worker map[string]string) (resolved, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	written := maps.Clone(runs)
	if written == nil {
		written = map[string]string{}
	}
	for key, value := range worker {
		written[workerKey+key] = value
	}
	for _, ref := range referencesIn(runs, worker) {
		written[referenceKey+ref] = ref
	}
	r := resolved{
		runs: runs, now: layers{config.Settings{}, maps.Clone(t.o.Worker)}, values: map[string]config.Secret{}, uses: map[string]*use{},
		ttls: map[string]time.Duration{}, at: time.Now(),
	}
	all, uses, err := t.o.Resolve(ctx, written)
	if err != nil {
		return r, fmt.Errorf("resolve the configuration: %w", inConfiguration(err))
	}
	for key, setting := range all {
		if ref, ok := strings.CutPrefix(key, referenceKey); ok {
			r.values[ref], r.uses[ref] = setting.Value, &use{since: r.at, resolved: r.at}
		} else if of, ok := strings.CutPrefix(key, workerKey); ok {
			r.now.worker[of] = setting
		} else {
			r.now.run[key] = setting
		}
	}
	for _, u := range uses {
		if r.uses[u.Reference] != nil {
			r.uses[u.Reference].version = u.Version
			r.ttls[u.Reference] = u.TTL
		}
	}
	return r, nil
}

// ConnectionUse tells that what runs here uses a version of a connection.
type ConnectionUse struct {
	Connection string `json:"connection"`
	Version    int64  `json:"version"`
	Connector  string `json:"connector"`
	Task       int    `json:"task"` // -1: the connector itself
}

// ConnectionUses are the connections that what runs here uses, and in which version.
func (t *Runner) ConnectionUses() (all []ConnectionUse) {
	for _, run := range t.all() {
		run.secrets.mu.Lock()
		for _, u := range run.secrets.connections {
			one := ConnectionUse{u.Name.String(), u.Version, run.Connector, run.Task}
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
		run.secrets.mu.Unlock()
	}
	return all
}
