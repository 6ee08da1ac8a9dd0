package herder

import (
	"slices"
)

// This file is what the worker reads of its machine, to answer questions. The
// maps returned are the machine's own: they must not be changed, and they are
// replaced rather than changed by later steps.

// Connectors returns the names of all connectors, sorted.
func (m *Machine) Connectors() []string { return sorted(m.connectors) }

// Connector returns a connector's configuration and its revision, which changes
// with every change of the configuration.
func (m *Machine) Connector(name string) (config map[string]string, rev int64, ok bool) {
	c := m.connectors[name]
	if c == nil {
		return nil, 0, false
	}
	return c.config, c.rev, true
}

// Tasks returns the task configurations of a connector.
func (m *Machine) Tasks(name string) []map[string]string {
	if t := m.tasks[name]; t != nil && m.connectors[name] != nil {
		return t.configs
	}
	return nil
}

// Target returns what is wanted of a connector.
func (m *Machine) Target(name string) TargetState { return m.target(name) }

// Settled says whether no task of a connector runs any more: nobody has one, and whoever had one has acknowledged that it
// has stopped, or can be waited for no longer.
func (m *Machine) Settled(name string) bool {
	for _, a := range m.assignments {
		for _, l := range a.Left {
			if units := l.Units[name]; units != "" && units != "c" && !m.over(l.Wait, m.readTime(l.Version)) {
				return false
			}
		}
	}
	for u := range m.owner {
		if u.Connector == name && !u.IsConnector() {
			return false
		}
	}
	return true
}

// Owner returns who has been given a unit.
func (m *Machine) Owner(u Unit) (i Instance, gen int64, ok bool) {
	a := m.assignments[m.owner[u]]
	if a == nil || a.units[u] == nil {
		return Instance{}, 0, false
	}
	return a.Instance, a.units[u].gen, true
}

// Present says whether an instance takes part in the cluster, as far as gossip and the log show.
func (m *Machine) Present(i Instance) bool { return m.present(i) }

// Failed says whether a unit of this worker has FAILED under the generation that it has now, and is not run because of that.
func (m *Machine) Failed(u Unit) bool {
	f, failed := m.failed[u]
	e := m.mine()[u]
	return failed && e != nil && e.gen == f.gen && m.runs[u] == nil
}

// Running returns how many connectors and tasks run here, and whether some that
// should wait for their former owner.
func (m *Machine) Running() (connectors, tasks int, waiting bool) {
	for u := range m.runs {
		if u.IsConnector() {
			connectors++
		} else {
			tasks++
		}
	}
	return connectors, tasks, m.waiting
}

// Mine returns the units that this worker has been given, sorted.
func (m *Machine) Mine() []Unit { return slices.SortedFunc(mapKeys(m.mine()), compareUnits) }

// Leader returns who leads, and whether this worker does and may take orders.
func (m *Machine) Leader() (leader Join, self, ok bool) {
	j, ok := m.joins[m.leader.Worker]
	if !ok || j.Instance != m.leader.Instance || m.resigned {
		return Join{}, false, false
	}
	return j.Join, m.lead.phase == leading, true
}

// Members returns the members that the log knows, in the order in which they
// joined, and whether each is present.
func (m *Machine) Members() (members []Join, present map[string]bool) {
	present = map[string]bool{}
	byRank := map[int64]Join{}
	for _, j := range m.joins {
		byRank[j.rank] = j.Join
	}
	for _, rank := range sorted(byRank) {
		members = append(members, byRank[rank])
		present[byRank[rank].Worker] = m.present(byRank[rank].Instance)
	}
	return members, present
}

// Loads returns how many connectors and tasks each worker has been given.
func (m *Machine) Loads() (connectors, tasks map[string]int) {
	connectors, tasks = map[string]int{}, map[string]int{}
	for u, worker := range m.owner {
		if u.IsConnector() {
			connectors[worker]++
		} else {
			tasks[worker]++
		}
	}
	return connectors, tasks
}

// Drained returns the workers that are to run nothing, sorted. Some may be no members at the moment.
func (m *Machine) Drained() []string { return sorted(m.drains) }

// Epoch returns the leader's epoch and the version of the newest assignment.
func (m *Machine) Epoch() (epoch, version int64) { return m.leader.Epoch, m.version }

// Loaded says whether both topics have been read to their end once.
func (m *Machine) Loaded() bool { return m.loaded && m.statusLoaded }
