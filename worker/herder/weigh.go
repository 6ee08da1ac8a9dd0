package herder

import "maps"

// This file is about what tasks weigh. Their workers measure it and tell it in Load records; it only decides who runs what,
// so nothing rests on it being right or the same everywhere.
//
// Three things keep tasks from wandering with every change of their rates: weights are coarse and change only when
// a rate is well beyond a step (Weigh); the leader leaves alone what is even enough (slack); and it looks only
// some time after weights have changed (Timing.Weigh).

// Weigh turns a task's measured throughput into its weight in the balance: 1 up to 1 MiB/s, and twice as
// much for each four times more. before is what it weighed until now, 0 if that is not known: it goes on weighing that
// as long as its rate is less than half as much again beyond the step.
func Weigh(bytesPerSecond float64, before int64) int64 {
	const margin = 1.5
	low, high := weight(bytesPerSecond/margin), weight(bytesPerSecond*margin)
	if before >= low && before <= high {
		return before
	}
	return weight(bytesPerSecond)
}

func weight(bytesPerSecond float64) int64 {
	weight := int64(1)
	for rate := float64(1 << 20); rate < bytesPerSecond && weight < maxWeight; rate *= 4 {
		weight *= 2
	}
	return weight
}

// maxWeight bounds what a foreign or broken record can make a task weigh.
const maxWeight = 1 << 10

// applyLoad takes what a worker says its tasks weigh. What it says nothing of, since it has only just begun, weighs what
// it did; what has moved since is its new owner's to tell.
func (m *Machine) applyLoad(r Load) {
	a := m.assignments[r.Worker]
	if a == nil || a.Instance != r.Instance {
		return
	}
	changed := false
	for name, tasks := range r.Weights {
		for task, said := range tasks {
			u := Unit{name, task}
			if u.IsConnector() || a.units[u] == nil {
				continue
			}
			now := min(max(said, 1), maxWeight)
			changed = changed || now != m.weight(u)
			if m.weights[u] = now; now == 1 {
				delete(m.weights, u)
			}
		}
	}
	if changed {
		m.checkIn(m.timing.Weigh)
	}
	if len(m.weights) > len(m.owner) { // some of it is gone
		maps.DeleteFunc(m.weights, func(u Unit, _ int64) bool { return m.owner[u] == "" })
	}
}

// weight is what a unit weighs: a connector instance copies nothing.
func (m *Machine) weight(u Unit) int64 {
	if u.IsConnector() {
		return 1
	}
	return max(1, m.weights[u])
}
