package herder

import "slices"

// This file is about runs that can fence: tasks that shut their former owners out of the target with Kafka's own
// means, each at its start, for every writer on record. So the leader does not fence before it hands tasks
// out, as KIP-618's does.
//
// Such a run may start early, while a former owner that seems dead may still act: the fence separates the two.
// And it may go on when the lease runs out: the fence of its successor ends it. Only
// what no fence protects still waits for leases: saving offsets, and acting without a fence.

// mayStartEarly says whether a unit may start although it is not known that its
// former owners are over. Where one of them lives, it is better to wait until it has stopped in good order.
func (m *Machine) mayStartEarly(s *Start, e *entry) bool {
	if s.Unit.IsConnector() || m.fences == nil || !m.fences(s.Config) {
		return false
	}
	return !slices.ContainsFunc(e.after, func(w Wait) bool { return !m.over(w, e.readAt) && !m.lost(w.Instance) })
}

// allOver says whether everything that a unit waits for has happened.
func (m *Machine) allOver(e *entry) bool {
	return !slices.ContainsFunc(e.after, func(w Wait) bool { return !m.over(w, e.readAt) })
}

// lost says whether an instance is most likely dead, or cut off: gossip has lost it, or shows another process in its
// place, or never showed it. It may live all the same: nothing may rest on this but Kafka's fence.
func (m *Machine) lost(i Instance) bool {
	switch {
	case i == m.self || m.alive[i.Worker] == i.Incarnation:
		return false
	case m.joins[i.Worker].Instance != i:
		return true
	case m.present(i): // it writes beats: only gossip does not reach it
		return false
	}
	return m.everAlive[i] || m.now >= m.loadedAt+m.timing.Settle
}

// clear tells of runs that started early and whose former owners are over now.
func (m *Machine) clear(mine map[Unit]*entry) {
	if !m.early {
		return
	}
	m.early = false
	for _, u := range m.runningUnits() {
		r, e := m.runs[u], mine[u]
		switch {
		case !r.early || e == nil || e.gen != r.gen:
		case m.allOver(e):
			r.early = false
			m.out.Clear = append(m.out.Clear, r.id)
		default:
			m.early = true
		}
	}
}

// outlives says whether a run may go on when the lease has run out.
func (m *Machine) outlives(r *run) bool { return r.fenced && !m.strict }

func (m *Machine) fenced(e Fenced) {
	for _, r := range m.runs {
		if r.id == e.Run {
			r.fenced = e.Held
		}
	}
}
