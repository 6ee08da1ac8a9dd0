package herder

import (
	"maps"
	"slices"
	"time"
)

// run is a unit at work on this worker.
type run struct {
	id       RunID
	gen      int64
	rev      int64 // of the connector's configuration, for a connector unit
	stopping bool
	deadline time.Duration
	again    bool // restart once it has ended
	early    bool // a former owner may still act
	fenced   bool // it holds a fence
	// config is what a task's run knows of its configuration, as of version of its connector's tasks.
	config  map[string]string
	version int64
}

// announcements remembers what was announced last, and when, to announce it
// again if it is not read back.
type announcements struct {
	join, beat, gone time.Duration
	ack              time.Duration
	ackVersion       int64
}

// due says whether an announcement made at *last has to be made (again) and
// notes the time if so. Zero means never made.
func (m *Machine) due(last *time.Duration, every time.Duration) bool {
	if *last != 0 && m.now < *last+every {
		return false
	}
	*last = max(m.now, 1)
	return true
}

// mine returns this instance's entries. Those of a former incarnation are not
// ours to run: the leader gives them anew.
func (m *Machine) mine() map[Unit]*entry {
	if a := m.assignments[m.self.Worker]; a != nil && a.Instance == m.self {
		return a.units
	}
	return nil
}

// runAll compares what runs with what should, and says what to stop and start.
func (m *Machine) runAll() {
	lease := m.now < m.leaseUntil
	if !m.changed && !m.waiting && !m.early && lease == m.hadLease {
		return
	}
	m.changed, m.waiting, m.hadLease = false, false, lease
	mine := m.mine()
	m.clear(mine)
	for _, u := range m.runningUnits() {
		r, e := m.runs[u], mine[u]
		switch {
		case !lease && !m.outlives(r):
			m.stop(u, r, m.now, "the lease has run out: the config topic could not be read to its end in time")
		case m.leaving:
			m.stop(u, r, m.now+m.timing.Grace, "the worker is leaving")
		case e == nil || e.gen != r.gen:
			m.stop(u, r, m.now+m.timing.Grace, "revoked")
		case m.target(u.Connector) != Started:
			m.stop(u, r, m.now+m.timing.Grace, "the connector is "+string(m.target(u.Connector)))
		case u.IsConnector() && m.rev(u.Connector) != r.rev:
			m.stop(u, r, m.now+m.timing.Grace, "the configuration has changed")
		case r.again:
			m.stop(u, r, m.now+m.timing.Grace, "restart")
		default:
			m.update(u, r)
		}
	}
	if !lease || m.leaving {
		return
	}
	for _, u := range slices.SortedFunc(mapKeys(mine), compareUnits) {
		if m.runs[u] == nil {
			m.startOrIdle(u, mine[u])
		}
	}
	notMine := func(u Unit) bool { return mine[u] == nil }
	maps.DeleteFunc(m.shown, func(u Unit, _ string) bool { return notMine(u) })
	maps.DeleteFunc(m.failed, func(u Unit, _ failure) bool { return notMine(u) })
}

func (m *Machine) startOrIdle(u Unit, e *entry) {
	c := m.connectors[u.Connector]
	if c == nil {
		return
	}
	if target := m.target(u.Connector); target != Started {
		delete(m.failed, u) // it is shown as what is wanted, so it starts when that changes
		if m.shown[u] != string(target) {
			m.shown[u] = string(target)
			m.out.Idle = append(m.out.Idle, Idle{u, string(target)})
		}
		return
	}
	delete(m.shown, u)
	start := Start{Unit: u, Gen: e.gen, Config: c.config}
	if t := m.tasks[u.Connector]; t != nil {
		start.Tasks = t.configs
	}
	if !u.IsConnector() {
		if u.Task >= len(start.Tasks) {
			return
		}
		start.Config, start.Tasks = start.Tasks[u.Task], nil
	}
	if f, ok := m.failed[u]; ok && f.gen == e.gen && (f.rev == c.rev || !u.IsConnector()) && (u.IsConnector() || maps.Equal(f.config, start.Config)) {
		return
	}
	if !m.allOver(e) {
		if !m.mayStartEarly(&start, e) {
			m.waiting = true
			return
		}
		start.Early, m.early = true, true
	}
	delete(m.failed, u)
	m.nextRun++
	start.Run = m.nextRun
	r := &run{id: m.nextRun, gen: e.gen, rev: c.rev, early: start.Early}
	if !u.IsConnector() {
		r.config, r.version = start.Config, m.tasks[u.Connector].version
	}
	m.runs[u] = r
	m.out.Start = append(m.out.Start, start)
}

// over says whether what w waits for has happened, or must have by now: w's
// instance had acknowledged, or its lease has run out since readAt.
func (m *Machine) over(w Wait, readAt time.Duration) bool {
	if w.Instance == m.self {
		return m.clearOf(w.Version)
	}
	if a, ok := m.acks[w.Instance]; ok && (a.Gone || a.Version >= w.Version) {
		return true
	}
	return m.now >= readAt+m.timing.Lease+m.timing.Margin
}

// clearOf says whether this worker has stopped everything that assignments up to
// version took from it.
func (m *Machine) clearOf(version int64) bool {
	if version > m.version {
		return false
	}
	mine := m.mine()
	for u, r := range m.runs {
		if e := mine[u]; e == nil || e.gen != r.gen {
			return false
		}
	}
	return true
}

// stop asks for the end of a run, at the latest when the lease ends that is
// known now. A later reading of the log must not extend it: whoever takes the
// unit over counts from when it was taken away.
func (m *Machine) stop(u Unit, r *run, deadline time.Duration, reason string) {
	if m.now < m.leaseUntil || !m.outlives(r) {
		deadline = min(deadline, m.leaseUntil)
	}
	if r.stopping && deadline >= r.deadline {
		return
	}
	r.stopping, r.deadline = true, deadline
	m.out.Stop = append(m.out.Stop, Stop{Run: r.id, Unit: u, Deadline: deadline, Reason: reason})
}

func (m *Machine) runEnded(e RunEnded) {
	for u, r := range m.runs {
		if r.id != e.Run {
			continue
		}
		delete(m.runs, u)
		if e.Failed && !r.again {
			m.failed[u] = failure{gen: r.gen, rev: r.rev, config: r.config}
		}
		return
	}
}

// restart ends a run so that it starts again, or lets one that FAILED start.
func (m *Machine) restart(u Unit) {
	delete(m.failed, u)
	if r := m.runs[u]; r != nil {
		r.again = true
	}
}

func (m *Machine) restartOwned(r RestartRequest) {
	for u := range m.mine() {
		if u.Connector != r.Name || !u.IsConnector() && !r.IncludeTasks {
			continue
		}
		if _, failed := m.failed[u]; failed || !r.OnlyFailed {
			m.restart(u)
		}
	}
}

func (m *Machine) runningUnits() []Unit { return slices.SortedFunc(mapKeys(m.runs), compareUnits) }

// announce writes to the status topic what the others have to know of this
// worker, again if it is not read back.
func (m *Machine) announce() {
	if m.leaving {
		m.announceEnd()
		return
	}
	if m.joins[m.self.Worker].Instance != m.self {
		if m.due(&m.announced.join, m.timing.Retry) {
			m.out.Announce = append(m.out.Announce, m.join)
		}
		return
	}
	if m.needAck > m.acks[m.self].Version && m.clearOf(m.needAck) &&
		(m.announced.ackVersion != m.version || m.due(&m.announced.ack, m.timing.Retry)) {
		m.announced.ack, m.announced.ackVersion = max(m.now, 1), m.version
		m.out.Announce = append(m.out.Announce, Ack{Instance: m.self, Version: m.version})
	}
	if l := m.leader.Instance; l != (Instance{}) && l != m.self && m.alive[l.Worker] != l.Incarnation &&
		m.due(&m.announced.beat, m.timing.Renew) {
		m.out.Announce = append(m.out.Announce, Beat{m.self})
	}
}

// announceEnd says good-bye once nothing runs any more.
func (m *Machine) announceEnd() {
	m.left = m.acks[m.self].Gone
	if len(m.runs) == 0 && !m.left && m.due(&m.announced.gone, m.timing.Retry) {
		m.out.Announce = append(m.out.Announce, Ack{Instance: m.self, Version: m.version, Gone: true}, Depart{m.self.Worker})
	}
}

func (m *Machine) rev(name string) int64 {
	if c := m.connectors[name]; c != nil {
		return c.rev
	}
	return -1
}

// target returns what is wanted of a connector; nothing written means STARTED.
func (m *Machine) target(name string) TargetState {
	if t, ok := m.targets[name]; ok {
		return t
	}
	return Started
}
