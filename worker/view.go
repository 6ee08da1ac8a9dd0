package worker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/connector"
	"barnabas/worker/herder"
	"barnabas/worker/task"
)

// ID returns the worker's id: the host and port of its advertised REST address,
// as in Connect's worker_id.
func (w *Worker) ID() string { return w.self.Worker }

// ServerInfo returns the answer to GET /.
func (w *Worker) ServerInfo() ServerInfo {
	return ServerInfo{Version: w.o.Version, Commit: w.o.Commit, KafkaClusterID: *w.clusterID.Load()}
}

// Health says whether this worker does its job. It is healthy while it can read the config topic to its end
// and knows a leader (KIP-1017 asks for the former).
func (w *Worker) Health() Health {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	h := Health{Status: "starting", Message: *w.waiting.Load()}
	if !w.looping.Load() {
		return h // nobody would answer
	}
	err := w.ask(ctx, func(m *herder.Machine) {
		_, _, leads := m.Leader()
		switch {
		case !m.Loaded():
		case !time.Now().Before(w.lease.Until()):
			h = Health{Status: "unhealthy", Message: "Worker cannot read the config topic to its end; until it can, its tasks are stopped, except those under a fence (lease.enforce)."}
		case !leads:
			h = Health{Status: "unhealthy", Message: "The cluster has no leader at the moment."}
		default:
			h = Health{Healthy: true, Status: "healthy", Message: "Worker has completed startup and is ready to handle requests."}
		}
	})
	if err != nil {
		h = Health{Status: "unhealthy", Message: err.Error()}
	}
	return h
}

const healthTimeout = 5 * time.Second

// Connectors returns the names of all connectors, sorted.
func (w *Worker) Connectors(ctx context.Context) (names []string, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		names = m.Connectors()
		return nil
	})
	return names, err
}

// Connector returns a connector's description.
func (w *Worker) Connector(ctx context.Context, name string) (info ConnectorInfo, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		info, err = w.info(m, name)
		return err
	})
	return info, err
}

func (w *Worker) info(m *herder.Machine, name string) (ConnectorInfo, error) {
	config, _, ok := m.Connector(name)
	if !ok {
		return ConnectorInfo{}, notFound("Connector %s not found", name)
	}
	info := ConnectorInfo{Name: name, Config: config, Tasks: []TaskID{}, Type: w.typeOf(config)}
	for i := range m.Tasks(name) {
		info.Tasks = append(info.Tasks, TaskID{name, i})
	}
	return info, nil
}

// typeOf returns the type of a configuration's plugin; what cannot be found counts as
// a source, so that its connector can still be looked at and deleted.
func (w *Worker) typeOf(config map[string]string) connector.Type {
	if p, err := pluginFor(config["connector.class"]); err == nil {
		return p.Type
	}
	return connector.Source
}

// Status returns the state of a connector and its tasks: what its present owner
// has last said. An owner that has not said anything yet makes it UNASSIGNED.
func (w *Worker) Status(ctx context.Context, name string) (status ConnectorStatus, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		status, err = w.status(m, name)
		return err
	})
	return status, err
}

func (w *Worker) status(m *herder.Machine, name string) (ConnectorStatus, error) {
	config, _, ok := m.Connector(name)
	if !ok {
		return ConnectorStatus{}, notFound("No status found for connector %s", name)
	}
	s := ConnectorStatus{Name: name, Type: w.typeOf(config), Tasks: []TaskState{}}
	s.Connector = w.state(m, herder.Unit{Connector: name, Task: herder.ConnectorUnit})
	for i := range m.Tasks(name) {
		st := w.state(m, herder.Unit{Connector: name, Task: i})
		s.Tasks = append(s.Tasks, TaskState{ID: i, State: st.State, WorkerID: st.WorkerID, Trace: st.Trace, Version: st.Version})
	}
	return s, nil
}

// TaskConfigs returns the tasks of a connector with their configurations,
// references as written.
func (w *Worker) TaskConfigs(ctx context.Context, name string) (tasks []TaskInfo, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		tasks = []TaskInfo{}
		for i, c := range m.Tasks(name) {
			tasks = append(tasks, TaskInfo{TaskID{name, i}, c})
		}
		return nil
	})
	return tasks, err
}

// Members returns the members of the cluster as this worker sees them, by id.
func (w *Worker) Members() []Member {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	return w.membersWithin(ctx)
}

func (w *Worker) membersWithin(ctx context.Context) (members []Member) {
	heard := w.gossip.Members()
	_ = w.ask(ctx, func(m *herder.Machine) {
		joins, present := m.Members()
		connectors, tasks := m.Loads()
		leader, _, _ := m.Leader()
		drained := m.Drained()
		for _, j := range joins {
			member := Member{
				ID: j.Worker, URL: j.URL, Gossip: j.Gossip, Version: j.Version, Labels: j.Labels, State: "gone",
				Leader: j.Instance == leader.Instance, Self: j.Instance == w.self,
				Connectors: connectors[j.Worker], Tasks: tasks[j.Worker], Joined: time.UnixMilli(j.At).UTC(),
				Drained: slices.Contains(drained, j.Worker),
			}
			if member.Labels == nil {
				member.Labels = map[string]string{}
			}
			for _, h := range heard {
				if h.ID == j.Worker && strconv.FormatInt(h.Incarnation, 10) == j.Incarnation {
					member.State, member.Load = "unready", h.Load
				}
			}
			if present[j.Worker] {
				member.State = "alive"
			}
			members = append(members, member)
		}
	})
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return members
}

// Replication returns the progress of the tasks of a connector that run on this
// worker.
func (w *Worker) Replication(ctx context.Context, name string) (tasks []TaskReplication, err error) {
	moved := w.runner.LastProgress(name)
	err = w.reports(ctx, name, func(u herder.Unit, st InstanceState, p connector.Progress) {
		t := TaskReplication{
			Task: u.Task, WorkerID: w.self.Worker, State: st.State, Trace: st.Trace, Delivery: p.Delivery, Why: p.Why,
			Partitions: slices.Clone(p.Partitions),
		}
		if at, ok := moved[u.Task]; ok {
			at = at.UTC().Round(time.Millisecond)
			t.LastProgress = &at
		}
		for i := range t.Partitions {
			if t.Partitions[i].State == "" {
				t.Partitions[i].State = stateRunning
			}
		}
		tasks = append(tasks, t)
	})
	return tasks, err
}

// Notes returns what a connector says of itself, and its tasks, as far as this worker runs them.
func (w *Worker) Notes(ctx context.Context, name string) (notes []connector.Note, err error) {
	progress := w.runner.Progress(name)
	err = w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		if owner, _, ok := m.Owner(herder.Unit{Connector: name, Task: herder.ConnectorUnit}); ok && owner == w.self {
			notes = w.runner.Notes(name)
		}
		for i := range m.Tasks(name) {
			if owner, _, ok := m.Owner(herder.Unit{Connector: name, Task: i}); ok && owner == w.self {
				notes = append(notes, progress[i].Notes...)
			}
		}
		return nil
	})
	return notes, err
}

// Gaps returns the gap ledgers of the tasks of a connector that run on this worker.
func (w *Worker) Gaps(ctx context.Context, name string) (tasks []TaskGaps, err error) {
	err = w.reports(ctx, name, func(u herder.Unit, _ InstanceState, p connector.Progress) {
		gaps := slices.Clone(p.Gaps)
		for i, g := range gaps {
			if cause, detail := task.Cause(g.Cause); g.Detail == "" {
				gaps[i].Cause, gaps[i].Detail = cause, detail
			}
		}
		tasks = append(tasks, TaskGaps{Task: u.Task, Known: task.Reported(p), Gaps: gaps})
	})
	return tasks, err
}

// reports calls do for each task of a connector that is this worker's, with its
// newest report.
func (w *Worker) reports(ctx context.Context, name string, do func(u herder.Unit, st InstanceState, p connector.Progress)) error {
	progress := w.runner.Progress(name)
	return w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		for i := range m.Tasks(name) {
			u := herder.Unit{Connector: name, Task: i}
			if owner, _, ok := m.Owner(u); ok && owner == w.self {
				do(u, w.state(m, u), progress[i])
			}
		}
		return nil
	})
}

func notFound(format string, args ...any) error {
	return &Error{Reason: ErrNotFound, Message: fmt.Sprintf(format, args...)}
}
