package herder

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
)

// candidate is a worker that units can be given to.
type candidate struct {
	worker string
	labels map[string]string
	// drained: nothing is given to it, and what it has goes elsewhere if that is possible.
	drained bool
}

// demand is a unit to be placed.
type demand struct {
	unit Unit
	// placement are the rules for labels, as written; see ParsePlacement.
	placement string
	// weight is the unit's share of work, at least 1.
	weight int64
	// owner is who has the unit now, or empty.
	owner string
}

// nobody is the place of a unit that no candidate will do for.
const nobody = -1

// assign places units on workers: a unit stays where it is as long as that worker lives, is eligible, is not drained and
// not overloaded. What only drained workers could run stays with the one that runs it, and is not
// given to another. Loads end within one unit's weight of each other wherever labels allow, or
// within slack if they were before, and no more units move than that takes. It is a function of its arguments:
// demands must be sorted by unit, candidates by worker. It returns an index of candidates for each demand, or nobody.
func assign(candidates []candidate, demands []demand) []int {
	places := make([]int, len(demands))
	// Connectors plan and tasks copy: each kind is balanced by itself, as Kafka does.
	for _, connectors := range []bool{true, false} {
		kind := make([]int, 0, len(demands))
		for i := range demands {
			if demands[i].unit.IsConnector() == connectors {
				kind = append(kind, i)
			}
		}
		b := newBalance(candidates, demands, places)
		rest := kind[:0]
		for _, i := range kind {
			if w, ok := b.index[demands[i].owner]; ok && b.mayStay(w, demands[i].placement) {
				b.put(w, i)
			} else {
				rest = append(rest, i)
			}
		}
		for _, i := range rest {
			if places[i] = b.fits(demands[i].placement).lightest(b.load); places[i] != nobody {
				b.put(places[i], i)
			}
		}
		b.even()
	}
	return places
}

// class are the units of one worker that are alike in all that matters for the balance.
type class struct {
	placement string
	weight    int64
}

type balance struct {
	candidates []candidate
	demands    []demand
	places     []int
	index      map[string]int
	load       []int64
	total      int64
	first      int64 // the weight of the first unit
	mixed      bool  // not all weigh the same
	classes    []map[class][]int
	eligible   map[string]*eligible
}

// eligible are the workers that fulfil the rules of a placement.
type eligible struct {
	matches []bool // by labels alone
	given   []bool // and not drained: may be given units
	queue   queue  // of those, the lightest first
}

func newBalance(candidates []candidate, demands []demand, places []int) *balance {
	b := &balance{
		candidates: candidates,
		demands:    demands,
		places:     places,
		index:      make(map[string]int, len(candidates)),
		load:       make([]int64, len(candidates)),
		classes:    make([]map[class][]int, len(candidates)),
		eligible:   map[string]*eligible{},
	}
	for i, c := range candidates {
		b.index[c.worker] = i
		b.classes[i] = map[class][]int{}
	}
	return b
}

func (b *balance) fits(placement string) *eligible {
	if e := b.eligible[placement]; e != nil {
		return e
	}
	e := &eligible{matches: make([]bool, len(b.candidates)), given: make([]bool, len(b.candidates))}
	b.eligible[placement] = e
	rules, err := ParsePlacement(placement)
	if err != nil {
		return e // nobody fulfils what cannot be read
	}
	for i, c := range b.candidates {
		e.matches[i] = rules.Matches(c.labels)
		if e.given[i] = e.matches[i] && !c.drained; e.given[i] {
			e.queue.slots = append(e.queue.slots, slot{b.load[i], i})
		}
	}
	heap.Init(&e.queue)
	return e
}

// mayStay says whether a unit may stay on the worker that has it.
func (b *balance) mayStay(worker int, placement string) bool {
	e := b.fits(placement)
	return e.given[worker] || e.matches[worker] && e.queue.Len() == 0
}

func (b *balance) put(worker, i int) {
	d := &b.demands[i]
	if b.first == 0 {
		b.first = d.weight
	}
	b.mixed = b.mixed || d.weight != b.first
	b.total += d.weight
	b.shift(worker, i, d.weight)
}

// shift adds a unit to a worker.
func (b *balance) shift(worker, i int, weight int64) {
	c := class{b.demands[i].placement, weight}
	b.places[i] = worker
	b.load[worker] += weight
	b.classes[worker][c] = append(b.classes[worker][c], i)
}

// slack is the difference between two workers' loads that is left alone. Where all units weigh the same there is none: they
// are spread evenly. Where weights were measured, a quarter of the mean load is even enough, since
// measured weights change, and each move costs its task a moment.
func (b *balance) slack() int64 {
	if !b.mixed {
		return 0
	}
	return (b.total + 4*int64(len(b.load)) - 1) / (4 * int64(len(b.load)))
}

// even moves units from the heaviest workers to lighter ones while that brings
// the two closer together: if it is needed at all, then as far as it goes.
func (b *balance) even() {
	if len(b.load) == 0 || !b.pass(b.slack()) {
		return
	}
	for b.pass(0) { // a worker that has given units away may take others
	}
}

// pass evens out once and says whether a unit was moved. Differences up to slack count as even.
func (b *balance) pass(slack int64) (moved bool) {
	heavy := queue{heaviest: true}
	for w, c := range b.candidates {
		if !c.drained { // what is still there has nowhere to go
			heavy.slots = append(heavy.slots, slot{b.load[w], w})
		}
	}
	heap.Init(&heavy)
	for {
		from := heavy.first(b.load)
		if from == nobody {
			return moved
		}
		c, to := b.best(from, slack)
		if to == nobody {
			heap.Pop(&heavy)
			continue
		}
		moved = true
		units := b.classes[from][c]
		last := len(units) - 1 // those placed in this round go first
		b.classes[from][c] = units[:last]
		b.load[from] -= c.weight
		b.shift(to, units[last], c.weight)
		for _, e := range b.eligible {
			if e.given[from] {
				heap.Push(&e.queue, slot{b.load[from], from})
			}
		}
		heap.Push(&heavy, slot{b.load[to], to})
	}
}

// best returns the kind of unit whose move from a worker evens out most, and where to. A difference of exactly the
// unit's weight is left alone: moving would only swap the two.
func (b *balance) best(from int, slack int64) (best class, to int) {
	to = nobody
	gain := int64(0)
	for c, units := range b.classes[from] {
		if len(units) == 0 {
			continue
		}
		light := b.fits(c.placement).lightest(b.load)
		if light == nobody || light == from {
			continue
		}
		gap := b.load[from] - b.load[light]
		if gap <= slack || c.weight >= gap {
			continue
		}
		g := min(c.weight, gap-c.weight)
		if g < gain || g == gain && to != nobody && compareClasses(c, best) > 0 {
			continue
		}
		gain, best, to = g, c, light
	}
	return best, to
}

func compareClasses(a, b class) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.placement, b.placement))
}

func (e *eligible) lightest(load []int64) int { return e.queue.first(load) }

type slot struct {
	load   int64
	worker int
}

// queue is a heap of workers, the lightest first or the heaviest, ties by worker. Its entries may be out of date, if there is
// another that is not: one that comes up too early is corrected then.
type queue struct {
	slots    []slot
	heaviest bool
}

// first returns the worker that comes first by load as it is now, or nobody.
func (q *queue) first(load []int64) int {
	for len(q.slots) > 0 {
		top := &q.slots[0]
		if top.load == load[top.worker] {
			return top.worker
		}
		top.load = load[top.worker]
		heap.Fix(q, 0)
	}
	return nobody
}

func (q *queue) Len() int { return len(q.slots) }
func (q *queue) Less(i, j int) bool {
	a, b := q.slots[i], q.slots[j]
	if a.load != b.load {
		return (a.load < b.load) != q.heaviest
	}
	return a.worker < b.worker
}
func (q *queue) Swap(i, j int) { q.slots[i], q.slots[j] = q.slots[j], q.slots[i] }
func (q *queue) Push(x any)    { q.slots = append(q.slots, x.(slot)) }
func (q *queue) Pop() any {
	last := len(q.slots) - 1
	x := q.slots[last]
	q.slots = q.slots[:last]
	return x
}

// sorted returns the keys of m in order, so that walking a map is deterministic.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
