package worker

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"barnabas/worker/herder"
)

// orderTimeout bounds how long an order waits for a leader and for its records to
// be read back: longer than a change of leaders, shorter than the patience of
// REST clients.
const orderTimeout = 30 * time.Second

// requestKey is the key of a context's request.
type requestKey struct{}

// WithRequest names the request that ctx belongs to. One change of a connector that is ordered under this name is made once, however often
// and of whichever leader it is ordered. A request does not order the same change of a connector twice.
func WithRequest(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, requestKey{}, name)
}

func newRequest() string {
	var b [16]byte
	_, _ = crand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}

// order has the leader make a change. It waits through changes of leaders; that
// another worker leads is an *ElsewhereError.
func (w *Worker) order(ctx context.Context, o herder.Order) (herder.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	request, _ := ctx.Value(requestKey{}).(string)
	if request == "" {
		request = newRequest()
	}
	confirmed := false // what this worker knows is not older than the order
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		reply, err := w.orderOnce(ctx, request, o)
		if err != nil && ctx.Err() == nil {
			return reply, err
		}
		if err == nil && !errors.Is(reply.Err, herder.ErrNotLeader) && !errors.Is(reply.Err, herder.ErrOutcome) {
			if reply.Err == nil || confirmed {
				return reply, nil
			}
			// What is written proves that this worker leads. A refusal does not: it may be of a leader that was replaced while it slept.
			if confirmed = w.Fresh(ctx) == nil; confirmed {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return reply, &Error{ErrUnavailable, "The cluster has no leader that can write to the config topic; try again."}
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func (w *Worker) orderOnce(ctx context.Context, request string, o herder.Order) (herder.Reply, error) {
	answer := make(chan herder.Reply, 1)
	var elsewhere *ElsewhereError
	err := w.ask(ctx, func(m *herder.Machine) {
		leader, self, ok := m.Leader()
		switch {
		case !m.Loaded() || !ok:
			answer <- herder.Reply{Err: herder.ErrNotLeader}
		case leader.Instance != w.self:
			elsewhere = &ElsewhereError{leader.URL}
		case !self:
			answer <- herder.Reply{Err: herder.ErrNotLeader}
		default:
			w.giveFor(request, o, func(r herder.Reply) { answer <- r })
		}
	})
	if err != nil {
		return herder.Reply{}, err
	}
	if elsewhere != nil {
		return herder.Reply{}, elsewhere
	}
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return herder.Reply{Err: herder.ErrOutcome}, nil
	}
}

// madeBefore tells whether ctx's request has written a document already, maybe at a leader before this one, and whether what the document
// describes was made by that. Other workers than the leader are told where it is.
func (w *Worker) madeBefore(ctx context.Context, key string) (written, created bool, err error) {
	if err := w.leads(ctx); err != nil {
		return false, false, err
	}
	request, _ := ctx.Value(requestKey{}).(string)
	err = w.read(ctx, func(m *herder.Machine) error {
		written, created = m.Wrote(request, key)
		return nil
	})
	return written, created, err
}

// Create creates a connector. initial is its target state; empty means STARTED.
func (w *Worker) Create(ctx context.Context, name string, config map[string]string, initial TargetState) (ConnectorInfo, error) {
	config, err := w.named(name, config)
	if err != nil {
		return ConnectorInfo{}, err
	}
	if err := w.leads(ctx); err != nil {
		return ConnectorInfo{}, err
	}
	if err := w.refuseOwned(ctx, name, config); err != nil {
		return ConnectorInfo{}, err
	}
	if err := w.check(ctx, config); err != nil {
		return ConnectorInfo{}, err
	}
	reply, err := w.order(ctx, herder.PutConnector{Name: name, Config: config, Create: true, Initial: herder.TargetState(initial), Change: changeBy(ctx, "")})
	if err == nil && errors.Is(reply.Err, herder.ErrExists) {
		err = &Error{ErrConflict, fmt.Sprintf("Connector %s already exists", name)}
	}
	if err != nil {
		return ConnectorInfo{}, err
	}
	// Tasks come later: Connect's answer to a creation has none.
	return ConnectorInfo{Name: name, Config: config, Tasks: []TaskID{}, Type: w.typeOf(config)}, nil
}

// Put creates a connector or replaces its configuration.
func (w *Worker) Put(ctx context.Context, name string, config map[string]string) (info ConnectorInfo, created bool, err error) {
	if config, err = w.named(name, config); err != nil {
		return info, false, err
	}
	if err := w.leads(ctx); err != nil {
		return info, false, err
	}
	return w.put(ctx, name, config, 0, changeBy(ctx, ""))
}

func (w *Worker) put(ctx context.Context, name string, config map[string]string, expect int64, change herder.Change) (info ConnectorInfo, created bool, err error) {
	if err := w.refuseOwned(ctx, name, config); err != nil {
		return info, false, err
	}
	if err := w.check(ctx, config); err != nil {
		return info, false, err
	}
	reply, err := w.order(ctx, herder.PutConnector{Name: name, Config: config, Expect: expect, Change: change})
	if err == nil {
		err = reply.Err
	}
	if err != nil {
		return info, false, err
	}
	if reply.Created {
		return ConnectorInfo{Name: name, Config: config, Tasks: []TaskID{}, Type: w.typeOf(config)}, true, nil
	}
	info, err = w.Connector(ctx, name)
	if errors.Is(err, ErrNotFound) { // deleted since
		info, err = ConnectorInfo{Name: name, Tasks: []TaskID{}, Type: w.typeOf(config)}, nil
	}
	info.Config = config // whatever it has been changed to since
	return info, false, err
}

// Patch changes single settings of a connector; nil removes one (KIP-477).
func (w *Worker) Patch(ctx context.Context, name string, patch map[string]*string) (ConnectorInfo, error) {
	if err := w.leadsNow(ctx); err != nil {
		return ConnectorInfo{}, err
	}
	for range 10 {
		var config map[string]string
		var rev int64
		err := w.read(ctx, func(m *herder.Machine) error {
			have, r, ok := m.Connector(name)
			if !ok {
				return notFound("Connector %s not found", name)
			}
			config, rev = maps.Clone(have), r
			return nil
		})
		if err != nil {
			return ConnectorInfo{}, err
		}
		for k, v := range patch {
			if v == nil {
				delete(config, k)
				continue
			}
			config[k] = *v
		}
		if config, err = w.named(name, config); err != nil {
			return ConnectorInfo{}, err
		}
		info, _, err := w.put(ctx, name, config, rev, changeBy(ctx, herder.Patched))
		if !errors.Is(err, herder.ErrChanged) {
			return info, err
		}
	}
	return ConnectorInfo{}, &Error{ErrUnavailable, fmt.Sprintf("The configuration of connector %s keeps changing; try again.", name)}
}

// Delete deletes a connector. Its offsets stay, as in Kafka Connect.
func (w *Worker) Delete(ctx context.Context, name string) error {
	if err := w.leads(ctx); err != nil {
		return err
	}
	if err := w.refuseOwned(ctx, name, nil); err != nil {
		return err
	}
	return w.change(ctx, herder.DeleteConnector{Name: name, Change: changeBy(ctx, "")}, "Connector %s not found", name)
}

// SetTarget pauses, resumes or stops a connector.
func (w *Worker) SetTarget(ctx context.Context, name string, state TargetState) error {
	return w.change(ctx, herder.SetTarget{Name: name, State: herder.TargetState(state)}, "Unknown connector %s", name)
}

// Drain has a worker give away what it runs and get nothing, also after a restart, until that is taken back (on is false). What
// it runs stops there in good order before it starts elsewhere. A worker that has left can only be undrained.
func (w *Worker) Drain(ctx context.Context, worker string, on bool) error {
	reply, err := w.order(ctx, herder.SetDrain{Worker: worker, On: on, At: time.Now().UnixMilli()})
	if err == nil && errors.Is(reply.Err, herder.ErrNoWorker) {
		return notFound("Worker %s not found", worker)
	}
	if err == nil {
		err = reply.Err
	}
	return err
}

func (w *Worker) change(ctx context.Context, o herder.Order, unknown, name string) error {
	reply, err := w.order(ctx, o)
	if err == nil && errors.Is(reply.Err, herder.ErrUnknown) {
		return notFound(unknown, name)
	}
	if err == nil {
		err = reply.Err
	}
	return err
}

// RestartFlagged restarts a connector and, if told so, its tasks (KIP-745). The
// answer shows what is restarted as RESTARTING.
func (w *Worker) RestartFlagged(ctx context.Context, name string, includeTasks, onlyFailed bool) (status ConnectorStatus, err error) {
	if err := w.leadsNow(ctx); err != nil {
		return status, err
	}
	if err := w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Unknown connector: %s", name)
		}
		status, err = w.status(m, name)
		return err
	}); err != nil {
		return status, err
	}
	if !onlyFailed || status.Connector.State == stateFailed {
		status.Connector.State, status.Connector.Trace = stateRestarting, ""
	}
	for i := range status.Tasks {
		if t := &status.Tasks[i]; includeTasks && (!onlyFailed || t.State == stateFailed) {
			t.State, t.Trace = stateRestarting, ""
		}
	}
	return status, w.change(ctx, herder.RestartConnector{Name: name, IncludeTasks: includeTasks, OnlyFailed: onlyFailed}, "Unknown connector: %s", name)
}

// Restart restarts the connector instance alone. Its owner does that.
func (w *Worker) Restart(ctx context.Context, name string) error {
	return w.restart(ctx, herder.Unit{Connector: name, Task: herder.ConnectorUnit})
}

// RestartTask restarts one task. Its owner does that.
func (w *Worker) RestartTask(ctx context.Context, id TaskID) error {
	return w.restart(ctx, herder.Unit{Connector: id.Connector, Task: id.Task})
}

// restart waits until the unit has an owner: somebody who asks right after a
// change of members must not be told to come back.
func (w *Worker) restart(ctx context.Context, u herder.Unit) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for {
		done := false
		err := w.read(ctx, func(m *herder.Machine) error {
			if _, _, ok := m.Connector(u.Connector); !ok {
				return notFound("Unknown connector: %s", u.Connector)
			}
			if !u.IsConnector() && u.Task >= len(m.Tasks(u.Connector)) {
				return notFound("Unknown task: %s-%d", u.Connector, u.Task)
			}
			owner, _, ok := m.Owner(u)
			if !ok {
				return nil
			}
			if owner == w.self {
				w.step(herder.Restart{Unit: u})
				done = true
				return nil
			}
			joins, present := m.Members()
			for _, j := range joins {
				if j.Instance == owner && present[j.Worker] {
					return &ElsewhereError{j.URL}
				}
			}
			return nil
		})
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return &Error{ErrUnavailable, fmt.Sprintf("%s is not assigned to a worker at the moment; try again.", u)}
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// PublishTasks writes the task configurations that a connector instance has
// planned. generation is that of its run, or 0 from Connect's own workers.
func (w *Worker) PublishTasks(ctx context.Context, name string, generation int64, tasks []map[string]string) error {
	reply, err := w.order(ctx, herder.PutTasks{Name: name, Gen: generation, Tasks: tasks})
	switch {
	case err != nil:
		return err
	case errors.Is(reply.Err, herder.ErrUnknown):
		return notFound("Connector %s not found", name)
	case reply.Err != nil:
		return &Error{ErrConflict, reply.Err.Error()}
	}
	return nil
}

// publish brings task configurations to the leader, wherever it is, for a
// connector that runs here. It goes on until that is done or ctx ends: a
// connector instance that has been replaced is stopped by its owner soon.
func (w *Worker) publish(ctx context.Context, name string, generation int64, tasks []map[string]string) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := w.PublishTasks(ctx, name, generation, tasks)
		var elsewhere *ElsewhereError
		if errors.As(err, &elsewhere) {
			if elsewhere.URL == "" || w.o.Publish == nil {
				err = w.propose(ctx, name, generation, tasks)
			} else {
				err = w.o.Publish(ctx, elsewhere.URL, name, generation, tasks)
			}
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		w.log.Debug("task configurations not taken yet", "connector", name, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// leadsNow is leads for what is decided from what the leader knows: it has to know all that was acknowledged before.
func (w *Worker) leadsNow(ctx context.Context) error {
	if err := w.leads(ctx); err != nil {
		return err
	}
	if err := w.Fresh(ctx); err != nil {
		return &Error{ErrUnavailable, "The leader cannot read the config topic to its end at the moment; try again."}
	}
	return nil
}

// leads returns nil on the leader and an *ElsewhereError on any other worker, so
// that a request is validated where it is performed.
func (w *Worker) leads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for {
		var elsewhere *ElsewhereError
		ready := false
		err := w.ask(ctx, func(m *herder.Machine) {
			leader, self, ok := m.Leader()
			ready = m.Loaded() && ok && self
			if m.Loaded() && ok && leader.Instance != w.self {
				elsewhere = &ElsewhereError{leader.URL}
			}
		})
		switch {
		case err != nil:
			return err
		case elsewhere != nil:
			return elsewhere
		case ready:
			return nil
		}
		select {
		case <-ctx.Done():
			return &Error{ErrUnavailable, "The cluster has no leader at the moment; try again."}
		case <-time.After(50 * time.Millisecond):
		}
	}
}
