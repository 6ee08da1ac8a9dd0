package herder

import (
	"strconv"
	"strings"
	"time"
)

// The kinds of tasks: plain ones cannot fence; fencing ones can; denied ones could, but the target does not let
// them, which they find out when they try.
const (
	simPlain   = "plain"
	simFencing = "fencing"
	simDenied  = "denied"
)

var simClasses = []string{simPlain, simFencing, simFencing, simDenied}

func simFences(task map[string]string) bool { return task["class"] != simPlain }

// simExtends says whether a task is given more partitions and nothing else.
func simExtends(old, new map[string]string) bool {
	before, after := simParts(old), simParts(new)
	for p := range before {
		if !after[p] {
			return false
		}
	}
	return old["class"] == new["class"] && len(after) > len(before)
}

func simParts(config map[string]string) map[int]bool {
	parts := map[int]bool{}
	for part := range strings.SplitSeq(config["parts"], ",") {
		if p, err := strconv.Atoi(part); err == nil {
			parts[p] = true
		}
	}
	return parts
}

// simPart is a partition of the target. The world knows of each who fenced the
// others out last: Kafka refuses the writes of everybody else who holds a fence.
type simPart struct {
	connector string
	partition int
}

type simRun struct {
	Start
	w        *simWorker
	class    string
	parts    map[int]bool // the partitions it writes, for a task
	clear    bool
	tried    bool // to fence, and is denied
	holds    bool // a fence, as far as it knows
	stopping bool
	deadline time.Duration
	leased   time.Duration // the end of the lease when it was told to stop
	ended    bool
	inFlight int
}

func (r *simRun) part(p int) simPart { return simPart{r.Unit.Connector, p} }

// mayWrite says whether a run can still send: that does not need the worker to be
// awake to notice, because the clients check the lease when they write.
func (w *simWorker) mayWrite(r *simRun) bool {
	switch {
	case !w.up || r.ended:
		return false
	case r.stopping:
		return w.local() < r.deadline
	case r.holds && !w.strict:
		return true
	}
	return w.local() < w.lease
}

// acts says whether what a run sends to one of its partitions can get there.
func (w *simWorker) acts(r *simRun, p int) bool {
	if !r.parts[p] || !w.mayWrite(r) {
		return false
	}
	switch r.class {
	case simFencing:
		return r.holds && w.sim.fences[r.part(p)] == r
	case simDenied:
		return r.tried && r.clear
	}
	return true
}

// maySave says whether a run can save offsets, which no fence protects.
func (w *simWorker) maySave(r *simRun) bool {
	switch {
	case !w.up || r.ended || !r.clear || r.Unit.IsConnector():
		return false
	case r.stopping:
		return w.local() < min(r.deadline, r.leased)
	}
	return w.local() < w.lease
}

// exclusive checks that nobody else may do what the run of w may.
func (s *sim) exclusive(w *simWorker, r *simRun) {
	if !w.mayWrite(r) && !w.maySave(r) {
		return
	}
	for _, o := range s.workers {
		for _, other := range o.runs {
			if other == r || other.Unit.Connector != r.Unit.Connector || other.Unit.IsConnector() != r.Unit.IsConnector() {
				continue
			}
			if r.Unit.IsConnector() && w.mayWrite(r) && o.mayWrite(other) {
				s.fail("two instances of %v: on %s (gen %d) and on %s (gen %d)", r.Unit, w.name, r.Gen, o.name, other.Gen)
			}
			for p := range r.parts {
				if w.acts(r, p) && o.acts(other, p) {
					s.fail("partition %d of %s is written by %v on %s (gen %d) and by %v on %s (gen %d)",
						p, r.Unit.Connector, r.Unit, w.name, r.Gen, other.Unit, o.name, other.Gen)
				}
				if other.parts[p] && w.maySave(r) && o.maySave(other) {
					s.fail("offsets of partition %d of %s are saved by %v on %s (gen %d) and by %v on %s (gen %d)",
						p, r.Unit.Connector, r.Unit, w.name, r.Gen, other.Unit, o.name, other.Gen)
				}
			}
		}
	}
}

func (w *simWorker) startRun(st Start) {
	s := w.sim
	s.stats.Handovers++
	r := &simRun{Start: st, w: w, class: st.Config["class"], parts: map[int]bool{}, clear: !st.Early}
	if !st.Unit.IsConnector() {
		r.parts = simParts(st.Config)
	}
	s.note("%s starts %v gen %d %v, early: %v", w.name, st.Unit, st.Gen, st.Config, st.Early)
	for _, o := range w.runs {
		if o.Unit == st.Unit {
			s.fail("%s starts %v while it runs", w.name, st.Unit)
		}
	}
	if st.Early {
		s.stats.Early++
		if !simFences(st.Config) || st.Unit.IsConnector() {
			s.fail("%s starts %v early, which cannot fence", w.name, st.Unit)
		}
	}
	w.runs[st.Run] = r
	s.exclusive(w, r)
	if st.Unit.IsConnector() {
		w.soon(s.between(10*time.Millisecond, time.Second), func() { w.publish(r) })
		return
	}
	if simFences(st.Config) {
		w.fence(r)
	}
	w.loop(0, 400*time.Millisecond, func() { w.produce(r) })
	if s.chance(0.03) && !s.calm {
		s.stats.Failures++
		w.soon(s.between(0, 2*time.Second), func() { w.endRun(r, true) })
	}
}

// updateRun hears that a run's task has more partitions. What the books say of them takes a while to read; the run
// makes sure that it is still the owner, and then writes itself into them.
func (w *simWorker) updateRun(u Update) {
	s, r := w.sim, w.runs[u.Run]
	if r == nil || r.stopping || r.Unit != u.Unit || !simExtends(r.Config, u.Config) {
		s.fail("%s: update of %v, which does not run so: %+v", w.name, u.Unit, r)
		return
	}
	s.stats.Updates++
	s.note("%s: %v gen %d is given %v", w.name, r.Unit, r.Gen, u.Config)
	r.Config = u.Config
	w.soon(s.between(0, 2*time.Second), func() { w.grow(r, w.local()) })
}

// grow takes in what a run was given. A partition that another run may still write needs a fence: the run
// begins anew with all that it has.
func (w *simWorker) grow(r *simRun, since time.Duration) {
	s := w.sim
	if r.ended || r.stopping || len(r.parts) == len(simParts(r.Config)) {
		return
	}
	again := func() { w.soon(20*time.Millisecond, func() { w.grow(r, since) }) }
	if r.class != simFencing {
		if w.mayWrite(r) {
			s.stats.Grown++
			r.parts = simParts(r.Config)
			s.exclusive(w, r)
		}
		return
	}
	if !r.holds || w.lease-DefaultTiming().Lease <= since || w.local() >= w.lease {
		again()
		return
	}
	for p := range simParts(r.Config) {
		if o := s.fences[r.part(p)]; o != nil && o != r && !o.ended {
			r.parts, r.holds = simParts(r.Config), false
			w.step(Fenced{r.Run, false})
			w.confirm(r, w.local())
			return
		}
	}
	// The writing into the books arrives a while later, and is refused if the task was fenced meanwhile.
	s.after(s.between(time.Millisecond, 600*time.Millisecond), func() {
		if s.ids[r.Unit] != r || r.ended {
			s.stats.Refused++
			return
		}
		for p := range simParts(r.Config) {
			o := s.fences[r.part(p)]
			if o != nil && o != r && o.Unit != r.Unit && !o.ended && o.w.acts(o, p) {
				s.fail("%v gen %d writes itself into the book of partition %d, which %v gen %d writes on %s", r.Unit, r.Gen, p, o.Unit, o.Gen, o.w.name)
			}
			s.fences[r.part(p)] = r
		}
		w.soon(0, func() {
			if !r.ended && !r.stopping {
				s.stats.Grown++
				r.parts = simParts(r.Config)
				s.exclusive(w, r)
			}
		})
	})
}

// clearRun hears that no former owner acts without a fence, or saves offsets.
func (w *simWorker) clearRun(id RunID) {
	r := w.runs[id]
	if r == nil || r.clear {
		w.sim.fail("%s: run %d is called clear", w.name, id)
		return
	}
	w.sim.note("%s: %v gen %d is clear", w.name, r.Unit, r.Gen)
	r.clear = true
	w.sim.exclusive(w, r)
}

// fence shuts everybody else out of the partitions of a run. The request goes out under the lease and arrives
// whatever has become of the worker by then; its answer may find the worker frozen.
func (w *simWorker) fence(r *simRun) {
	s := w.sim
	if r.ended || r.stopping || w.local() >= w.lease {
		return
	}
	if r.class == simFencing { // whoever fences anew begins with all that it was given
		r.parts = simParts(r.Config)
	}
	s.after(s.between(5*time.Millisecond, 2*time.Second), func() {
		if r.class == simDenied {
			w.soon(0, func() { r.tried = true; s.exclusive(w, r) })
			return
		}
		s.ids[r.Unit] = r
		for p := range r.parts {
			s.fences[r.part(p)] = r
		}
		w.soon(s.between(0, 200*time.Millisecond), func() {
			if r.ended || r.stopping {
				return
			}
			s.note("%s: %v gen %d holds a fence", w.name, r.Unit, r.Gen)
			r.holds = true
			w.step(Fenced{r.Run, true})
			s.exclusive(w, r)
		})
	})
}

// fenced is what a run does that somebody else has fenced: it fences again only when its worker has
// heard from the log since that the work is still its own.
func (w *simWorker) fenced(r *simRun) {
	w.sim.note("%s: %v gen %d is fenced", w.name, r.Unit, r.Gen)
	r.holds = false
	w.step(Fenced{r.Run, false})
	if w.local() >= w.lease {
		w.endRun(r, false) // the guard does that
		return
	}
	w.confirm(r, w.local())
}

func (w *simWorker) confirm(r *simRun, since time.Duration) {
	if r.ended || r.stopping {
		return
	}
	if w.lease-DefaultTiming().Lease > since {
		w.fence(r)
		return
	}
	w.soon(20*time.Millisecond, func() { w.confirm(r, since) })
}

// produce sends a request, which arrives a while later: perhaps after the lease, and then perhaps when
// another run writes the partition already. Nothing can call it back, so a plain task's are counted.
func (w *simWorker) produce(r *simRun) {
	s := w.sim
	if !w.mayWrite(r) || r.class == simFencing && !r.holds || r.class == simDenied && !(r.tried && r.clear) {
		return
	}
	if r.holds && w.local() >= w.lease {
		s.stats.PastLease++
	}
	r.inFlight++
	s.after(s.between(time.Millisecond, 600*time.Millisecond), func() {
		r.inFlight--
		refused := false
		for p := range r.parts {
			if r.class == simFencing && s.fences[r.part(p)] != r {
				refused = true
				continue
			}
			s.late(r, p)
		}
		if refused {
			s.stats.Refused++
			w.soon(0, func() {
				if r.holds && !r.ended && !r.stopping {
					w.fenced(r)
				}
			})
		}
	})
}

// late counts a write that arrives when another run writes the partition.
func (s *sim) late(r *simRun, p int) {
	for _, o := range s.workers {
		for _, other := range o.runs {
			if other == r || other.Unit.Connector != r.Unit.Connector || !o.acts(other, p) {
				continue
			}
			if s.stats.Late++; r.class == simFencing {
				s.fail("a fence let %v write partition %d, which %v writes on %s", r.Unit, p, other.Unit, o.name)
			}
		}
	}
}

func (w *simWorker) stopRun(st Stop) {
	r := w.runs[st.Run]
	if r == nil {
		return
	}
	if strings.HasPrefix(st.Reason, "the lease") {
		w.sim.stats.LeaseStops++
	}
	w.sim.note("%s stops %v gen %d until %v (now %v): %s", w.name, r.Unit, r.Gen, st.Deadline, w.local(), st.Reason)
	if !r.stopping {
		r.leased = w.lease
	}
	r.stopping, r.deadline = true, st.Deadline
	rest := max(0, st.Deadline-w.local())
	if !w.sim.chance(0.2) { // one of five takes all the time there is
		rest = w.sim.between(0, min(rest, time.Second))
	}
	w.soon(rest, func() { w.endRun(r, false) })
}

// endRun ends a run. In good order that is when nothing is in flight any more.
func (w *simWorker) endRun(r *simRun, failed bool) {
	if r.ended || failed && r.stopping {
		return
	}
	if r.inFlight > 0 && r.stopping && w.local() < r.deadline {
		w.soon(20*time.Millisecond, func() { w.endRun(r, failed) })
		return
	}
	r.ended = true
	delete(w.runs, r.Run)
	w.step(RunEnded{r.Run, failed})
}
