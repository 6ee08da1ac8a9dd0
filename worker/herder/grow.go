package herder

import "maps"

// This file is about tasks that are given more while they run: a new topic must not make all others of a task wait.
//
// A task that is extended keeps its generation, so its run goes on and takes the new configuration (Ready.Update). That is safe
// because of what the leader makes sure of first: the change takes nothing from any task, so nothing moves between two that
// run; and nobody that the connector's tasks were taken from before may still act. What is added then has no owner but
// the one it is added to. A run that has not heard of it, or a worker that dies before it did, changes nothing:
// whoever runs this generation or the next one starts with what the log says.

// Update tells a run of a task its new configuration, which only adds to the one before. One that comes when the run
// has ended is meant for nobody.
type Update struct {
	Run    RunID
	Unit   Unit
	Config map[string]string
}

// grows says whether the running tasks of a connector may take o without a restart.
func (d *draft) grows(o PutTasks, have []map[string]string) bool {
	m := d.m
	if m.extends == nil || len(have) == 0 || len(o.Tasks) < len(have) {
		return false
	}
	for i, c := range have {
		worker := m.owner[Unit{o.Name, i}]
		a := m.assignments[worker]
		switch {
		case a == nil || !m.allOver(a.units[Unit{o.Name, i}]):
			return false
		case maps.Equal(c, o.Tasks[i]):
		case !m.joins[worker].Updates || !m.extends(c, o.Tasks[i]):
			return false
		}
	}
	for _, a := range m.assignments {
		for _, l := range a.Left {
			if units := l.Units[o.Name]; units != "" && units != "c" && !m.over(l.Wait, m.readTime(l.Version)) {
				return false
			}
		}
	}
	return true
}

// update tells a run of its task's new configuration.
func (m *Machine) update(u Unit, r *run) {
	t := m.tasks[u.Connector]
	if u.IsConnector() || r.stopping || t == nil || t.version == r.version || u.Task >= len(t.configs) {
		return
	}
	old, config := r.config, t.configs[u.Task]
	r.version = t.version
	switch {
	case maps.Equal(old, config):
	case m.extends != nil && m.extends(old, config):
		r.config = config
		m.out.Update = append(m.out.Update, Update{Run: r.id, Unit: u, Config: config})
	default: // no leader of ours does that under the same generation
		r.again = true
		m.stop(u, r, m.now+m.timing.Grace, "the task's configuration has changed")
	}
}
