package mirror

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// This file is about partitions that carry more than a task's share of the whole connector: one such partition gets a task of its
// own, so that those beside it neither wait for it nor hold it up. It keeps the task that it has, and the others go: only the
// tasks that give or get one restart, for a fraction of a second.

// Bounds of what is hot.
const (
	// hotFloor is the bytes per second below which no partition is worth a move.
	hotFloor = 4 << 20
	// hotInterval is how often rates are looked at. A partition is hot after hotLooks looks in a row that say so,
	// and is no more after coldLooks that say that: a move costs a restart, and rates come and go.
	hotInterval = 10 * time.Second
	hotLooks    = 3
	coldLooks   = 30
)

// hot are the partitions of a connector that have a task of their own.
type hot struct {
	found   map[partition]bool
	turning map[partition]int // how many looks in a row say otherwise
	// changed says that the plan does not follow found yet.
	changed bool
}

// newHot reads from a plan which partitions were hot when it was made. Tasks have as many partitions as others or one more, but
// for those: one that is alone while another task has three or more is.
func newHot(tasks [][]partition) hot {
	h := hot{found: map[partition]bool{}, turning: map[partition]int{}}
	if slices.ContainsFunc(tasks, func(t []partition) bool { return len(t) > 2 }) {
		for _, t := range tasks {
			if len(t) == 1 {
				h.found[t[0]] = true
			}
		}
	}
	return h
}

// look takes in what the partitions of the tasks carry, and returns those that have become hot and those that are no more.
func (h *hot) look(tasks [][]partition, rates map[partition]int64) (hotter, colder []partition) {
	total, there := int64(0), map[partition]bool{}
	for _, task := range tasks {
		for _, p := range task {
			total += rates[p]
			there[p] = true
		}
	}
	gone := func(p partition, _ bool) bool { return !there[p] }
	maps.DeleteFunc(h.found, gone)
	maps.DeleteFunc(h.turning, func(p partition, _ int) bool { return !there[p] })
	share := total / int64(max(len(tasks), 1))
	for _, task := range tasks {
		carried := int64(0)
		for _, p := range task {
			carried += rates[p]
		}
		for _, p := range task {
			rate, looks, turns := rates[p], hotLooks, false
			if h.found[p] {
				looks, turns = coldLooks, rate < share/2
			} else {
				// Idle ones beside it are no reason to restart anything.
				turns = rate >= hotFloor && rate >= share && carried-rate >= rate/8
			}
			if !turns {
				delete(h.turning, p)
				continue
			}
			if h.turning[p]++; h.turning[p] < looks {
				continue
			}
			if h.found[p] {
				colder = append(colder, p)
			} else {
				hotter = append(hotter, p)
			}
		}
	}
	// One task has to be left for the others.
	slices.SortFunc(hotter, func(a, b partition) int { return cmp.Or(cmp.Compare(rates[b], rates[a]), a.compare(b)) })
	hotter = hotter[:min(len(hotter), max(0, len(tasks)-1-len(h.found)))]
	for _, p := range slices.Concat(hotter, colder) {
		delete(h.turning, p)
		h.changed = true
		if h.found[p] {
			delete(h.found, p)
		} else {
			h.found[p] = true
		}
	}
	return hotter, colder
}

// assignHot deals want out as assign does, but for hot partitions: each has a task of its own, the one that it is in already
// wherever that can be. It depends on nothing but its arguments.
func assignHot(current [][]partition, want []partition, most int, hot map[partition]bool) [][]partition {
	want = slices.Clone(want)
	slices.SortFunc(want, partition.compare)
	want = slices.Compact(want)
	n := min(most, len(want))
	var alone, rest []partition
	for _, p := range want {
		if hot[p] && len(alone) < n-1 {
			alone = append(alone, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(alone) == 0 {
		return assign(current, want, most)
	}
	tasks := make([][]partition, n)
	var homeless []partition
	for _, p := range alone {
		home := slices.IndexFunc(current, func(t []partition) bool { return slices.Contains(t, p) })
		if home < 0 || home >= n || tasks[home] != nil {
			homeless = append(homeless, p)
			continue
		}
		tasks[home] = []partition{p}
	}
	for _, p := range homeless { // where the fewest others have to go
		home := -1
		for i := range tasks {
			if tasks[i] == nil && (home < 0 || held(current, i) < held(current, home)) {
				home = i
			}
		}
		tasks[home] = []partition{p}
	}
	var free []int
	var had [][]partition
	for i := range tasks {
		if tasks[i] != nil {
			continue
		}
		free = append(free, i)
		if i < len(current) {
			had = append(had, current[i])
		} else {
			had = append(had, nil)
		}
	}
	for i, t := range assign(had, rest, len(free)) {
		tasks[free[i]] = t
	}
	return tasks
}

func held(tasks [][]partition, i int) int {
	if i >= len(tasks) {
		return 0
	}
	return len(tasks[i])
}

// weigh looks at what the partitions carry, and says whether the plan has to change because of it.
func (p *planner) weigh(ctx context.Context) bool {
	if p.Rates == nil || p.wanted == nil {
		return false
	}
	told, err := p.Rates(ctx)
	if err != nil {
		return false // the worker ends
	}
	rates := map[partition]int64{}
	for name, bytes := range told {
		if of, err := parsePartition(name); err == nil {
			rates[of] = bytes
		}
	}
	hotter, colder := p.hot.look(assigned(p.published), rates)
	for _, of := range hotter {
		p.Log.InfoContext(ctx, "a partition carries more than a task's share: it gets a task of its own", "topic", of.topic, "partition", of.id, "bytes_per_second", rates[of])
	}
	for _, of := range colder {
		p.Log.InfoContext(ctx, "a partition carries no more than others: it shares a task again", "topic", of.topic, "partition", of.id, "bytes_per_second", rates[of])
	}
	return p.hot.changed
}
