package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/connection"
	"barnabas/k2k"
	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// appPrefix begins the keys of apps, among documents; then the name.
const appPrefix = "app-"

// apps are the replication apps that stand in the config topic.
type apps struct {
	mu  sync.Mutex
	all map[string]appState
}

type appState struct {
	k2k.Record
	rev int64 // offset of the record
}

// apply takes a document of the config topic, if it is an app.
func (a *apps) apply(d herder.Document, offset int64) {
	name, ok := strings.CutPrefix(d.Key, appPrefix)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]appState{}
	}
	record, ok := d.Value.(k2k.Record)
	if !ok {
		delete(a.all, name)
		return
	}
	a.all[name] = appState{record, offset}
}

// get returns what is kept of an app; present is nil if that is nothing.
func (a *apps) get(name string) (present *k2k.Record, rev int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.all[name]
	if !ok {
		return nil, herder.NoDocument
	}
	return &s.Record, s.rev
}

func (a *apps) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.all))
}

func ownApp(r store.OwnRecord, key string) (herder.Record, error) {
	record, err := store.DecodeOwn[k2k.Record](r)
	if err != nil {
		return nil, err
	}
	return herder.Document{Key: key, Value: record}, nil
}

// App is a replication app as the REST API shows it.
type App struct {
	Name string `json:"name"`
	k2k.Spec
	Version  int64             `json:"version"`
	Created  connection.Change `json:"created"`
	Modified connection.Change `json:"modified"`
	// Connectors are those that it consists of; the first one copies.
	Connectors []string `json:"connectors"`
}

func newApp(name string, r k2k.Record) App {
	a := App{Name: name, Spec: r.Spec, Version: r.Version, Created: r.Created, Modified: r.Modified}
	for _, c := range k2k.Compile(name, r.Spec) {
		a.Connectors = append(a.Connectors, c.Name)
	}
	return a
}

// Apps returns all apps, by name.
func (w *Worker) Apps(ctx context.Context) (all []App, err error) {
	err = w.read(ctx, func(*herder.Machine) error {
		for _, name := range w.apps.names() {
			if r, _ := w.apps.get(name); r != nil {
				all = append(all, newApp(name, *r))
			}
		}
		return nil
	})
	return all, err
}

// App returns one app.
func (w *Worker) App(ctx context.Context, name string) (a App, err error) {
	err = w.read(ctx, func(*herder.Machine) error {
		r, _ := w.apps.get(name)
		if r == nil {
			return notFound("App %s not found", name)
		}
		a = newApp(name, *r)
		return nil
	})
	return a, err
}

// AppCondition says of what app a change is meant; the zero value: of any.
type AppCondition struct {
	Absent  bool  // it is not there yet
	Present bool  // it is there
	Version int64 // it is this version; 0: any
}

func (c AppCondition) holds(name string, present *k2k.Record) error {
	switch {
	case c.Absent && present != nil:
		return &Error{ErrConflict, fmt.Sprintf("App %s is there already", name)}
	case (c.Present || c.Version != 0) && present == nil:
		return notFound("App %s not found", name)
	case c.Version != 0 && present.Version != c.Version:
		return &Error{ErrConflict, fmt.Sprintf("App %s is version %d, not %d", name, present.Version, c.Version)}
	}
	return nil
}

// PutApp creates an app or changes it: its connectors are there, and run if it says so, when this returns. The same again changes nothing.
func (w *Worker) PutApp(ctx context.Context, name string, spec k2k.Spec, when AppCondition) (a App, created bool, err error) {
	if err := w.leads(ctx); err != nil {
		return a, false, err
	}
	if err := k2k.CheckName(name); err != nil {
		return a, false, &Error{ErrInvalid, err.Error()}
	}
	if problems := spec.Problems(); len(problems) > 0 {
		return a, false, &Error{ErrInvalid, fmt.Sprintf("App %s is wrong: %s", name, sentences(problems))}
	}
	for _, c := range k2k.Compile(name, spec) {
		written, _ := w.named(c.Name, c.Config)
		if err := w.check(ctx, written); err != nil {
			return a, false, &Error{ErrInvalid, fmt.Sprintf("App %s does not work: %s", name, err)}
		}
	}
	anew, err := w.copiedBefore(ctx, name, spec)
	if err != nil {
		return a, false, err
	}
	created, err = w.changeApp(ctx, name, anew, func(present *k2k.Record) (*k2k.Record, error) {
		if err := when.holds(name, present); err != nil {
			return nil, err
		}
		next, changed := k2k.Put(present, spec, connectionChange(ctx))
		if !changed {
			return present, nil
		}
		return &next, nil
	})
	if err != nil {
		return a, false, err
	}
	if created && !anew {
		if anew, err = w.held(ctx, name, spec); err != nil {
			return a, created, err
		}
	}
	if created && anew {
		if _, err := w.ResetOffsets(ctx, name); err != nil {
			return a, created, offsetsError(err)
		}
		if err := w.SetTarget(ctx, name, TargetState(targetOf[spec.State])); err != nil {
			return a, created, err
		}
	}
	a, err = w.App(ctx, name)
	return a, created, err
}

func sentences(problems []config.Problem) string {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.Key + " " + p.Message
	}
	return strings.Join(texts, "; ")
}

// copiedBefore says whether there are offsets of an app of this name that is there no more, which are not to count for the new one.
func (w *Worker) copiedBefore(ctx context.Context, name string, spec k2k.Spec) (bool, error) {
	if present, _ := w.apps.get(name); present != nil || spec.Start == k2k.Committed {
		return false, nil
	}
	plugin, err := pluginFor(k2k.Compile(name, spec)[0].Config["connector.class"])
	if err != nil {
		return false, err
	}
	saved, err := w.savedOffsets(ctx, plugin, name)
	return len(saved) > 0, err
}

// DeleteApp deletes an app with its connectors. Their offsets stay, for an app of the same name that starts at committed.
func (w *Worker) DeleteApp(ctx context.Context, name string) error {
	_, err := w.changeApp(ctx, name, false, func(present *k2k.Record) (*k2k.Record, error) {
		if present == nil {
			return nil, notFound("App %s not found", name)
		}
		return nil, nil
	})
	return err
}

// SetAppState runs, pauses or stops an app, as a change of it.
func (w *Worker) SetAppState(ctx context.Context, name, state string) (App, error) {
	_, err := w.changeApp(ctx, name, false, func(present *k2k.Record) (*k2k.Record, error) {
		if present == nil {
			return nil, notFound("App %s not found", name)
		}
		spec := present.Spec
		spec.State = state
		next, _ := k2k.Put(present, spec, connectionChange(ctx))
		return &next, nil
	})
	if err != nil {
		return App{}, err
	}
	return w.App(ctx, name)
}

var targetOf = map[string]herder.TargetState{k2k.Running: herder.Started, k2k.Paused: herder.Paused, k2k.Stopped: herder.Stopped}

// changeApp has the leader write what change makes of an app, nil if it is to be there no more, and make its connectors
// what the app says, in one transaction, once for each request. New ones are stopped at first if they are to be held. created says
// that there was no such app.
func (w *Worker) changeApp(ctx context.Context, name string, held bool, change func(present *k2k.Record) (*k2k.Record, error)) (created bool, err error) {
	key := appPrefix + name
	if written, created, err := w.madeBefore(ctx, key); err != nil || written {
		return created, err
	}
	for range connectionAttempts {
		present, rev := w.apps.get(name)
		next, err := change(present)
		if err != nil {
			return false, err
		}
		d := herder.Document{Key: key}
		if next != nil {
			d.Value = *next
		}
		orders, err := w.appOrders(ctx, name, next, held)
		if err != nil {
			return false, err
		}
		if len(orders) == 0 && next != nil && present != nil && next.Version == present.Version {
			return false, nil
		}
		document := herder.PutDocument{Document: d, Expect: rev, Creates: present == nil}
		reply, err := w.order(ctx, herder.Together{Orders: append([]herder.Order{document}, orders...)})
		switch {
		case err != nil:
			return false, err
		case reply.Err == nil:
			return reply.Created, nil
		case !errors.Is(reply.Err, herder.ErrDocument) && !errors.Is(reply.Err, herder.ErrChanged) && !errors.Is(reply.Err, herder.ErrUnknown) && !errors.Is(reply.Err, herder.ErrExists):
			return false, reply.Err
		}
	}
	return false, &Error{ErrUnavailable, fmt.Sprintf("App %s keeps changing; try again.", name)}
}

// held says whether the connector of an app that has just been created still waits for its offsets to be reset: an earlier attempt of
// the same request may not have come so far.
func (w *Worker) held(ctx context.Context, name string, spec k2k.Spec) (held bool, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		held = m.Target(name) == herder.Stopped && spec.State != k2k.Stopped && spec.Start != k2k.Committed
		return nil
	})
	return held, err
}

// appOrders are the orders that make the connectors of an app what it says, next being nil if it goes.
func (w *Worker) appOrders(ctx context.Context, name string, next *k2k.Record, held bool) (orders []herder.Order, err error) {
	wanted := map[string]map[string]string{}
	var names []string
	if next != nil {
		for _, c := range k2k.Compile(name, next.Spec) {
			if wanted[c.Name], err = w.named(c.Name, c.Config); err != nil {
				return nil, err
			}
			names = append(names, c.Name)
		}
	}
	err = w.read(ctx, func(m *herder.Machine) error {
		for _, n := range m.Connectors() {
			written, rev, _ := m.Connector(n)
			if wanted[n] == nil {
				if written[k2k.AppKey] == name {
					orders = append(orders, herder.DeleteConnector{Name: n, Change: changeBy(ctx, "")})
				}
				continue
			}
			if written[k2k.AppKey] != name {
				return &Error{ErrConflict, fmt.Sprintf("There is a connector %s, which does not belong to app %s: delete it, or name the app otherwise", n, name)}
			}
			if !maps.Equal(written, wanted[n]) {
				orders = append(orders, herder.PutConnector{Name: n, Config: wanted[n], Expect: rev, Change: changeBy(ctx, "")})
			}
			if target := targetOf[next.Spec.State]; m.Target(n) != target {
				orders = append(orders, herder.SetTarget{Name: n, State: target})
			}
			delete(wanted, n)
		}
		return nil
	})
	for _, n := range names {
		if wanted[n] == nil {
			continue
		}
		initial := targetOf[next.Spec.State]
		if held && n == name {
			initial = herder.Stopped
		}
		orders = append(orders, herder.PutConnector{Name: n, Config: wanted[n], Create: true, Initial: initial, Change: changeBy(ctx, "")})
	}
	return orders, err
}

// refuseOwned refuses a change of a connector that belongs to an app, and a configuration that says it does.
func (w *Worker) refuseOwned(ctx context.Context, name string, written map[string]string) error {
	return w.read(ctx, func(m *herder.Machine) error {
		present, _, _ := m.Connector(name)
		if app := present[k2k.AppKey]; app != "" {
			if r, _ := w.apps.get(app); r != nil {
				return &Error{ErrConflict, fmt.Sprintf("Connector %s belongs to app %s: change the app", name, app)}
			}
		}
		if written[k2k.AppKey] != "" {
			return &Error{ErrInvalid, fmt.Sprintf("%s cannot be set: connectors of apps are made by /v1/apps", k2k.AppKey)}
		}
		return nil
	})
}

// AppOffset is where an app goes on in a partition.
type AppOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // of the next record
}

// AppOffsets returns where an app goes on: what it has saved.
func (w *Worker) AppOffsets(ctx context.Context, name string) ([]AppOffset, error) {
	if _, err := w.App(ctx, name); err != nil {
		return nil, err
	}
	entries, err := w.Offsets(ctx, name)
	if err != nil {
		return nil, err
	}
	all := []AppOffset{}
	for _, e := range entries {
		var at AppOffset
		if json.Unmarshal(e.Partition, &at) == nil && json.Unmarshal(e.Offset, &at) == nil && at.Topic != "" {
			at.Offset++ // MirrorMaker saves that of the last record copied
			all = append(all, at)
		}
	}
	return all, nil
}

// MoveAppOffsets has an app go on elsewhere. It stands still meanwhile.
func (w *Worker) MoveAppOffsets(ctx context.Context, name string, to []AppOffset) error {
	a, err := w.App(ctx, name)
	if err != nil {
		return err
	}
	alias := k2k.Compile(name, a.Spec)[0].Config["source.cluster.alias"]
	var entries []OffsetEntry
	for _, o := range to {
		if o.Topic == "" || o.Partition < 0 || o.Offset < 0 {
			return &Error{ErrInvalid, fmt.Sprintf("Each offset has a topic, a partition and an offset of 0 or more: not %s-%d at %d", o.Topic, o.Partition, o.Offset)}
		}
		partition, err := json.Marshal(map[string]any{"cluster": alias, "topic": o.Topic, "partition": o.Partition})
		if err != nil {
			return err
		}
		e := OffsetEntry{Partition: partition, Offset: fmt.Appendf(nil, `{"offset":%d}`, o.Offset-1)}
		if o.Offset == 0 { // MirrorMaker saves the offset of the last record copied, and there is none before the first
			if a.Start != k2k.Earliest && a.Start != k2k.Committed {
				return &Error{ErrInvalid, fmt.Sprintf("Offset 0 of %s-%d cannot be gone to while the app starts at %s: change start to earliest first", o.Topic, o.Partition, a.Start)}
			}
			e.Offset = []byte("null")
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return &Error{ErrInvalid, "The request moves no offset"}
	}
	return w.whileStopped(ctx, name, a, func() error {
		_, err := w.AlterOffsets(ctx, name, entries)
		return offsetsError(err)
	})
}

// offsetsError is what Connect answers with 500 as the mistake of the caller that it is.
func offsetsError(err error) error {
	var e *Error
	if errors.As(err, &e) && errors.Is(e.Reason, ErrInternal) {
		return &Error{ErrInvalid, e.Message}
	}
	return err
}

// ResetAppOffsets has an app begin anew, where its start says. It stands still meanwhile.
func (w *Worker) ResetAppOffsets(ctx context.Context, name string) error {
	a, err := w.App(ctx, name)
	if err != nil {
		return err
	}
	return w.whileStopped(ctx, name, a, func() error {
		_, err := w.ResetOffsets(ctx, name)
		return offsetsError(err)
	})
}

// resumeTimeout bounds how long it is tried to start an app again whose offsets have been moved.
const resumeTimeout = 10 * time.Second

// whileStopped does something while the connector of an app is stopped, and has it be again what the app says. It does not go back to
// what was found: after a change of leaders a repeated request finds the connector stopped by its first attempt.
func (w *Worker) whileStopped(ctx context.Context, name string, a App, do func() error) error {
	if err := w.leads(ctx); err != nil {
		return err
	}
	if a.State != k2k.Stopped {
		if err := w.SetTarget(ctx, name, Stopped); err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTimeout)
			defer cancel()
			if err := w.SetTarget(ctx, name, TargetState(targetOf[a.State])); err != nil {
				w.log.Error("an app was stopped to move its offsets and could not be started again: put it anew", "app", name, "err", err)
			}
		}()
	}
	return do()
}
