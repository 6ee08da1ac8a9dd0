package herder

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is about assignments as they stand in the log: what was given at once is packed together, and what is too
// large for one record is spread over several.

// defaultMaxRecord bounds the text of an assignment record. Brokers refuse batches over about 1 MiB
// (message.max.bytes), and our client more than 1,000,012 bytes; the rest is for key, envelope and headers.
const defaultMaxRecord = 900_000

// records says in how many records the assignment stands.
func (a *assigned) records() int {
	if a == nil {
		return 0
	}
	return max(a.Records, 1)
}

// applyAssignment takes in a record of an assignment. The first of several replaces what was; the others add to it.
func (m *Machine) applyAssignment(r Assignment) {
	if r.Part > 0 {
		m.applyPart(r)
		return
	}
	old := m.assignments[r.Worker]
	if old != nil {
		for u := range old.units {
			if m.owner[u] == r.Worker {
				delete(m.owner, u)
			}
		}
	}
	if r.Incarnation == "" {
		delete(m.assignments, r.Worker)
		return
	}
	if r.Version > m.version {
		m.version = r.Version
		m.readAt[r.Version] = m.now
		m.forgetReads()
	}
	a := &assigned{Assignment: r, units: map[Unit]*entry{}}
	if old != nil && old.Incarnation == r.Incarnation {
		a.before = old.units
	}
	m.assignments[r.Worker] = a
	m.take(a, r)
}

// applyPart takes in a further record of an assignment. One that belongs to no assignment that stands is left over from
// one that did: compaction takes the records of a transaction away one by one.
func (m *Machine) applyPart(r Assignment) {
	a := m.assignments[r.Worker]
	if a == nil || r.Instance != a.Instance || r.Version != a.Version || r.Part >= a.Records {
		return
	}
	a.Runs = append(slices.Clip(a.Runs), r.Runs...)
	a.Left = append(slices.Clip(a.Left), r.Left...)
	m.take(a, r)
}

// take adds the units of one record to its assignment.
func (m *Machine) take(a *assigned, r Assignment) {
	for _, run := range r.Runs {
		units, err := unpackUnits(run.Units)
		if err != nil {
			continue // a record that no leader of ours wrote; the worker reports it when it decodes
		}
		for _, u := range units {
			e := &entry{gen: run.Gen, after: run.After, readAt: m.now}
			if was := a.before[u]; was != nil && was.gen == run.Gen {
				e.readAt = was.readAt
			}
			a.units[u] = e
			m.owner[u] = r.Worker
		}
		for _, w := range run.After {
			if w.Instance == m.self {
				m.needAck = max(m.needAck, w.Version)
			}
		}
	}
	if r.Part == a.records()-1 {
		a.before = nil
	}
}

// forgetReads drops the reading times of versions whose leases have long run
// out, so that the map stays small.
func (m *Machine) forgetReads() {
	if len(m.readAt) > 1024 {
		maps.DeleteFunc(m.readAt, func(_ int64, at time.Duration) bool {
			return m.now >= at+m.timing.Lease+m.timing.Margin
		})
	}
}

// split spreads an assignment over as many records as it takes, and deletes those that stand in the log beyond
// them: had is how many there are. The tombstone of a worker deletes all of them. No record's text is
// longer than limit, unless a single entry is.
func split(a Assignment, had, limit int) []Record {
	s := pages{blank: a, limit: limit}
	s.blank.Runs, s.blank.Left = []Run{}, nil
	s.next()
	for _, l := range a.Left {
		s.pack(l.Units, waitSize(l.Wait), func(part *Assignment) map[string]string {
			part.Left = append(part.Left, Left{l.Wait, map[string]string{}})
			return part.Left[len(part.Left)-1].Units
		})
	}
	for _, r := range a.Runs {
		head := 64
		for _, w := range r.After {
			head += waitSize(w)
		}
		s.pack(r.Units, head, func(part *Assignment) map[string]string {
			part.Runs = append(part.Runs, Run{Gen: r.Gen, Units: map[string]string{}, After: r.After})
			return part.Runs[len(part.Runs)-1].Units
		})
	}
	records := make([]Record, 0, max(had, len(s.parts)))
	for i, part := range s.parts {
		if part.Part = i; len(s.parts) > 1 {
			part.Records = len(s.parts)
		}
		records = append(records, *part)
	}
	for i := len(s.parts); i < had; i++ {
		records = append(records, Assignment{Instance: Instance{Worker: a.Worker}, Part: i})
	}
	return records
}

// pages fills records one after the other.
type pages struct {
	blank Assignment
	parts []*Assignment
	size  int // of the last of them, at most
	limit int
}

func (s *pages) next() {
	part := s.blank
	s.parts, s.size = append(s.parts, &part), 0
}

// pack adds units that belong together. begin begins such a group in a record, which takes head bytes.
func (s *pages) pack(units map[string]string, head int, begin func(*Assignment) map[string]string) {
	var group map[string]string
	for _, name := range sorted(units) {
		for _, text := range chunks(units[name], s.limit/8) {
			cost := textSize(name) + textSize(text) + 2
			full := s.size+cost > s.limit
			if group == nil || full || group[name] != "" {
				if s.size > 0 && s.size+head+cost > s.limit {
					s.next()
				}
				group = begin(s.parts[len(s.parts)-1])
				s.size += head
			}
			group[name] = text
			s.size += cost
		}
	}
}

// chunks cuts the packed units of a connector that would not leave room for anything else.
func chunks(units string, long int) []string {
	var cut []string
	for len(units) > long {
		i := strings.LastIndexByte(units[:long], ',')
		if i < 0 {
			break
		}
		cut, units = append(cut, units[:i]), units[i+1:]
	}
	return append(cut, units)
}

// textSize bounds what a text takes in JSON, with its quotes and what separates it from the next.
func textSize(text string) int {
	n := 4
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c >= 0x7f || strings.IndexByte(`"\<>&`, c) >= 0:
			n += 6
		default:
			n++
		}
	}
	return n
}

func waitSize(w Wait) int { return textSize(w.Worker) + textSize(w.Incarnation) + 96 }

// waits answers for whom a unit has to wait. It looks at whole connectors: when the tasks of a connector
// change, partitions move between them, so a task waits for every task of its
// connector that was taken from somebody, not only for the one with its number.
type waits map[Unit][]Wait

// manyDead is how many workers have to be gone at once for their units to wait for all of them. Each unit of
// its own would wait for other ones, and the list of them, repeated for each unit, would be most of what is
// written. It costs nothing: the dead acknowledge nothing, and their leases are waited for side by side.
const manyDead = 8

// newWaits takes what workers have left; present says whether an instance takes part.
func newWaits(left map[string][]Left, present func(Instance) bool) waits {
	w := waits{}
	var dead []Wait
	for _, worker := range sorted(left) {
		for _, l := range left[worker] {
			kinds := map[Unit]bool{}
			units, err := unpackUnits(l.Units)
			if err != nil {
				continue
			}
			for _, u := range units {
				kinds[Unit{u.Connector, min(u.Task, 0)}] = true
			}
			for k := range kinds {
				if !slices.Contains(w[k], l.Wait) {
					w[k] = append(w[k], l.Wait)
				}
			}
			if !present(l.Instance) && !slices.Contains(dead, l.Wait) {
				dead = append(dead, l.Wait)
			}
		}
	}
	var lists numbers
	shared := map[int][]Wait{}
	for k, list := range w {
		living := slices.DeleteFunc(slices.Clone(list), func(l Wait) bool { return !present(l.Instance) })
		if len(dead) > manyDead && len(living) < len(list) {
			if list = dead; len(living) > 0 {
				list = append(living, dead...)
			}
		}
		number := lists.of(list)
		if shared[number] == nil {
			shared[number] = list
		}
		w[k] = shared[number]
	}
	return w
}

func (w waits) of(u Unit) []Wait { return w[Unit{u.Connector, min(u.Task, 0)}] }

// groupRuns packs entries that were given at once and wait for the same.
func groupRuns(entries map[Unit]*entry) []Run {
	type key struct {
		gen   int64
		after int
	}
	type group struct {
		run   Run
		units []Unit
	}
	var groups []*group
	byKey := map[key]*group{}
	var lists numbers
	for _, u := range slices.SortedFunc(mapKeys(entries), compareUnits) {
		e := entries[u]
		k := key{e.gen, lists.of(e.after)}
		g := byKey[k]
		if g == nil {
			g = &group{run: Run{Gen: e.gen, After: e.after}}
			byKey[k] = g
			groups = append(groups, g)
		}
		g.units = append(g.units, u)
	}
	runs := make([]Run, len(groups))
	for i, g := range groups {
		g.run.Units = packUnits(g.units)
		runs[i] = g.run
	}
	return runs
}

// numbers gives equal lists of waits the same number. Most lists are shared: those are recognised without being read.
type numbers struct {
	byList map[list]int
	byText map[string]int
}

type list struct {
	first  *Wait
	length int
}

func (n *numbers) of(waits []Wait) int {
	if len(waits) == 0 {
		return 0
	}
	if n.byList == nil {
		n.byList, n.byText = map[list]int{}, map[string]int{}
	}
	l := list{&waits[0], len(waits)}
	if number := n.byList[l]; number > 0 {
		return number
	}
	var text []byte
	for _, w := range waits {
		text = strconv.AppendQuote(text, w.Worker)
		text = strconv.AppendQuote(text, w.Incarnation)
		text = strconv.AppendInt(text, w.Version, 10)
	}
	number := n.byText[string(text)]
	if number == 0 {
		number = len(n.byText) + 1
		n.byText[string(text)] = number
	}
	n.byList[l] = number
	return number
}
