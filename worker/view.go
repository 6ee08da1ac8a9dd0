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
			h = Health{Status: "unhealthy", Message: "Worker cannot read the config topic to its end; its tasks are stopped until it can."}
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
		for _, j := range joins {
			member := Member{
				ID: j.Worker, URL: j.URL, Gossip: j.Gossip, Version: j.Version, Labels: j.Labels, State: "gone",
				Leader: j.Instance == leader.Instance, Self: j.Instance == w.self,
				Connectors: connectors[j.Worker], Tasks: tasks[j.Worker], Joined: time.UnixMilli(j.At).UTC(),
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
func (w *Worker) Replication(ctx context.Context, name string) (r Replication, err error) {
	progress := w.runner.Progress(name)
	r = Replication{Connector: name, Tasks: []TaskReplication{}}
	err = w.read(ctx, func(m *herder.Machine) error {
		if _, _, ok := m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		for i := range m.Tasks(name) {
			u := herder.Unit{Connector: name, Task: i}
			if owner, _, ok := m.Owner(u); !ok || owner != w.self {
				continue
			}
			p := progress[i]
			t := TaskReplication{Task: i, WorkerID: w.self.Worker, State: w.state(m, u).State, Delivery: p.Delivery, Partitions: p.Partitions}
			if t.Partitions == nil {
				t.Partitions = []connector.PartitionProgress{}
			}
			r.Tasks = append(r.Tasks, t)
		}
		return nil
	})
	return r, err
}

func notFound(format string, args ...any) error {
	return &Error{Reason: ErrNotFound, Message: fmt.Sprintf(format, args...)}
}
