package herder

import (
	"cmp"
	"maps"
	"slices"
)

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
	m.rates[r.Worker] = r
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

// Same says whether a worker that has told b need not tell l.
func (l Load) Same(b Load) bool {
	return maps.EqualFunc(l.Weights, b.Weights, maps.Equal[map[int]int64, map[int]int64]) &&
		maps.EqualFunc(l.Rates, b.Rates, maps.Equal[map[string]int64, map[string]int64])
}

// LeastRate is the bytes per second from which on a partition's rate is told: below, a partition is no matter for the balance.
const LeastRate = 1 << 20

// maxRates bounds the partitions in one Load record: at LeastRate each they are a gigabit per second.
const maxRates = 128

// Rates returns which rates of partitions are told, by connector and partition. before are those that were told last: what is
// within a quarter of that is not told anew.
func Rates(measured map[string]map[string]float64, before map[string]map[string]int64) map[string]map[string]int64 {
	type rate struct {
		connector, partition string
		bytes                float64
	}
	var all []rate
	for name, partitions := range measured {
		for partition, bytes := range partitions {
			if bytes >= LeastRate {
				all = append(all, rate{name, partition, bytes})
			}
		}
	}
	slices.SortFunc(all, func(a, b rate) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.connector, b.connector), cmp.Compare(a.partition, b.partition))
	})
	told := map[string]map[string]int64{}
	for _, r := range all[:min(len(all), maxRates)] {
		if told[r.connector] == nil {
			told[r.connector] = map[string]int64{}
		}
		was := before[r.connector][r.partition]
		if now := int64(r.bytes); now < was*3/4 || now > was*5/4 {
			was = now
		}
		told[r.connector][r.partition] = was
	}
	return told
}

// Rates returns what the partitions of a connector carry in bytes per second, as the workers that run its tasks have told; those
// that carry less than LeastRate are left out.
func (m *Machine) Rates(connector string) map[string]int64 {
	rates := map[string]int64{}
	for _, l := range m.rates {
		if !m.present(l.Instance) {
			continue
		}
		for partition, bytes := range l.Rates[connector] {
			rates[partition] = max(rates[partition], bytes) // one that has just moved may be told by two
		}
	}
	return rates
}
