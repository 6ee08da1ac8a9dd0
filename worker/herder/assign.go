package herder

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"
)

// candidate is a worker that units can be given to.
type candidate struct {
	worker string
	labels map[string]string
}

// demand is a unit to be placed.
type demand struct {
	unit Unit
	// placement is what labels a worker must have ("tier=pci,zone=a"), or empty.
	placement string
	// weight is the unit's share of work, at least 1.
	weight int64
}

// assign places units on workers: a unit stays where it is as long as that worker lives, is eligible and
// not overloaded. Loads of workers end within one unit's weight of each other wherever
// labels allow, and no more units move than that takes. It is a function of its
// arguments: demands must be sorted by unit, candidates by worker. Units that no
// worker is eligible for are left out.
func assign(candidates []candidate, demands []demand, previous map[Unit]string) map[Unit]string {
	placed := make(map[Unit]string, len(demands))
	// Connectors plan and tasks copy: each kind is balanced by itself, as Kafka does.
	for _, connectors := range []bool{true, false} {
		kind := make([]demand, 0, len(demands))
		for _, d := range demands {
			if d.unit.IsConnector() == connectors {
				kind = append(kind, d)
			}
		}
		b := newBalance(candidates)
		for _, d := range kind {
			if i, ok := b.index[previous[d.unit]]; ok && b.eligible(d.placement)[i] {
				b.put(i, d)
			}
		}
		for _, d := range kind {
			if i, ok := b.index[previous[d.unit]]; ok && b.eligible(d.placement)[i] {
				continue
			}
			if i := b.lightest(d.placement); i >= 0 {
				b.put(i, d)
			}
		}
		b.even()
		for i, units := range b.units {
			for _, d := range units {
				placed[d.unit] = candidates[i].worker
			}
		}
	}
	return placed
}

type balance struct {
	candidates []candidate
	index      map[string]int
	load       []int64
	units      [][]demand
	fits       map[string][]bool
	queues     map[string]*queue
}

func newBalance(candidates []candidate) *balance {
	b := &balance{
		candidates: candidates,
		index:      make(map[string]int, len(candidates)),
		load:       make([]int64, len(candidates)),
		units:      make([][]demand, len(candidates)),
		fits:       map[string][]bool{},
		queues:     map[string]*queue{},
	}
	for i, c := range candidates {
		b.index[c.worker] = i
	}
	return b
}

func (b *balance) eligible(placement string) []bool {
	if fits, ok := b.fits[placement]; ok {
		return fits
	}
	fits := make([]bool, len(b.candidates))
	for i, c := range b.candidates {
		fits[i] = matches(c.labels, placement)
	}
	b.fits[placement] = fits
	return fits
}

// matches says whether labels hold every "key=value" of placement.
func matches(labels map[string]string, placement string) bool {
	for want := range strings.SplitSeq(placement, ",") {
		if want = strings.TrimSpace(want); want == "" {
			continue
		}
		key, value, _ := strings.Cut(want, "=")
		if have, ok := labels[strings.TrimSpace(key)]; !ok || have != strings.TrimSpace(value) {
			return false
		}
	}
	return true
}

func (b *balance) put(i int, d demand) {
	b.load[i] += d.weight
	b.units[i] = append(b.units[i], d)
}

// lightest returns the eligible worker with the least load, or -1. Each
// placement has a queue whose entries may be out of date: loads only grow while
// units are placed, so an entry that is too light is corrected when it comes up.
func (b *balance) lightest(placement string) int {
	q := b.queues[placement]
	if q == nil {
		q = &queue{}
		for i, fits := range b.eligible(placement) {
			if fits {
				*q = append(*q, slot{b.load[i], i})
			}
		}
		heap.Init(q)
		b.queues[placement] = q
	}
	for q.Len() > 0 {
		if top := &(*q)[0]; top.load != b.load[top.worker] {
			top.load = b.load[top.worker]
			heap.Fix(q, 0)
			continue
		}
		return (*q)[0].worker
	}
	return -1
}

// even moves units from the heaviest workers to lighter ones while that brings
// the two closer together.
func (b *balance) even() {
	order := make([]int, len(b.candidates))
	for i := range order {
		order[i] = i
	}
	stuck := make([]bool, len(order)) // nothing on this worker can move anywhere lighter
	for {
		slices.SortFunc(order, func(x, y int) int {
			return cmp.Or(cmp.Compare(b.load[x], b.load[y]), x-y)
		})
		moved := false
		for h := len(order) - 1; h > 0 && !moved; h-- {
			heavy := order[h]
			if stuck[heavy] {
				continue
			}
			for _, light := range order[:h] {
				if moved = b.move(heavy, light); moved {
					break
				}
			}
			stuck[heavy] = !moved
		}
		if !moved {
			return
		}
	}
}

// move shifts one unit from heavy to light if that makes them more even. A gap of exactly
// the unit's weight is left alone: moving would only swap the two. The last unit that fits is taken, so
// that the units placed in this round go first.
func (b *balance) move(heavy, light int) bool {
	gap := b.load[heavy] - b.load[light]
	if gap <= 1 {
		return false
	}
	for k := len(b.units[heavy]) - 1; k >= 0; k-- {
		d := b.units[heavy][k]
		if d.weight < gap && b.eligible(d.placement)[light] {
			b.units[heavy] = slices.Delete(b.units[heavy], k, k+1)
			b.load[heavy] -= d.weight
			b.put(light, d)
			return true
		}
	}
	return false
}

type slot struct {
	load   int64
	worker int
}

// queue is a heap of slots, lightest first, ties by worker.
type queue []slot

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].load < q[j].load || q[i].load == q[j].load && q[i].worker < q[j].worker
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(slot)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// sorted returns the keys of m in order, so that walking a map is deterministic.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
