package herder

import (
	"maps"
	"strconv"
	"strings"
	"time"
)

// start brings a worker up with nothing but its name: whatever it knew before is
// in the log or gone.
func (w *simWorker) start() {
	s := w.sim
	if w.up && !w.ended && !w.m.leaving {
		return
	}
	if w.up {
		w.crash()
	}
	w.life++
	w.up, w.frozen, w.ended = true, false, false
	w.born, w.drift = s.now, 1+(s.rng.Float64()-0.5)/500
	w.configRead, w.statusRead, w.statusEnded = 0, 0, false
	w.producer, w.lease = -1, 0
	w.runs, w.answers, w.parked = map[RunID]*simRun{}, map[int64]func(Reply){}, nil
	w.heard = map[string]simHeard{}
	timing := DefaultTiming()
	w.m = New(Config{Timing: timing, Self: Join{Instance: w.instance()}})
	s.note("start %v", w.instance())
	w.loop(0, 50*time.Millisecond, func() { w.step(Tick{}) })
	w.loop(0, 80*time.Millisecond, w.read)
	w.loop(0, 500*time.Millisecond, w.askEnd)
	w.loop(100*time.Millisecond, 300*time.Millisecond, w.gossip)
}

func (w *simWorker) instance() Instance { return Instance{w.name, strconv.Itoa(w.life)} }

func (w *simWorker) crash() {
	w.up = false
	w.life++
	w.runs = nil
}

func (w *simWorker) thaw() {
	if !w.frozen || !w.up {
		return
	}
	w.frozen = false
	parked := w.parked
	w.parked = nil
	w.sim.note("thaw %s", w.name)
	for _, f := range parked {
		f()
	}
}

// local is the worker's own monotonic clock.
func (w *simWorker) local() time.Duration {
	return time.Duration(float64(w.sim.now-w.born) * w.drift)
}

// soon runs f after d, in this life only; while frozen it is kept.
func (w *simWorker) soon(d time.Duration, f func()) {
	life := w.life
	w.sim.after(d, func() {
		switch {
		case w.life != life || !w.up || w.ended:
		case w.frozen:
			w.parked = append(w.parked, f)
		default:
			f()
		}
	})
}

func (w *simWorker) loop(first, every time.Duration, f func()) {
	w.soon(first, func() {
		f()
		w.loop(every+w.sim.between(0, every), every, f)
	})
}

// read takes in what has come of both logs, at most a few records at a time.
func (w *simWorker) read() {
	s := w.sim
	if w.cut || s.now < w.stalled {
		return
	}
	if !s.calm && s.chance(0.01) {
		w.stalled = s.now + s.between(0, 6*time.Second)
	}
	for range 1 + s.rng.IntN(60) {
		if w.configRead == len(s.config) {
			break
		}
		r := s.config[w.configRead]
		w.configRead++
		w.step(ConfigRead{Offset: int64(w.configRead - 1), Record: r.record, More: r.more})
	}
	for range 1 + s.rng.IntN(60) {
		if w.statusRead == len(s.status) {
			break
		}
		r := s.status[w.statusRead]
		w.statusRead++
		w.step(StatusRead{Offset: int64(w.statusRead - 1), Record: r})
	}
	if !w.statusEnded && w.statusRead == len(s.status) {
		w.statusEnded = true
		w.step(StatusEnd{})
	}
}

// askEnd asks for the end of the config topic; the answer may be late, and counts
// once it has been read up to.
func (w *simWorker) askEnd() {
	s, sent := w.sim, w.local()
	w.soon(s.between(time.Millisecond, 100*time.Millisecond), func() {
		if w.cut {
			return
		}
		end := len(s.config)
		late := 300 * time.Millisecond
		if !s.calm && s.chance(0.03) {
			late = 8 * time.Second
		}
		w.soon(s.between(time.Millisecond, late), func() { w.awaitEnd(end, sent) })
	})
}

func (w *simWorker) awaitEnd(end int, sent time.Duration) {
	if w.configRead >= end {
		w.step(ConfigEnd{sent})
		return
	}
	w.soon(20*time.Millisecond, func() { w.awaitEnd(end, sent) })
}

// gossip hears of the others, and forgets who has not been heard for a while.
func (w *simWorker) gossip() {
	s := w.sim
	var alive []Instance
	for _, o := range s.workers {
		if o.up && !o.frozen && !o.ended && !w.deaf[o.name] && !s.chance(0.05) {
			w.heard[o.name] = simHeard{strconv.Itoa(o.life), s.now}
		}
		if h, ok := w.heard[o.name]; ok && s.now < h.at+1500*time.Millisecond {
			if cutOff := o.up && o.local() >= o.lease && o.lease > 0; !cutOff {
				alive = append(alive, Instance{o.name, h.incarnation})
			}
		}
	}
	w.step(Gossip{alive})
}

// step feeds the machine and does what it says.
func (w *simWorker) step(e Event) {
	s := w.sim
	if s.err != nil || !w.up || w.ended {
		return
	}
	s.stats.Steps++
	w.m.Step(w.local(), e)
	out := w.m.Ready()
	w.lease = out.Lease
	if out.Fatal != "" {
		w.ended = true
		s.fail("%s: %s", w.name, out.Fatal)
	}
	for _, r := range w.runs {
		s.exclusive(w, r)
	}
	if out.Resign {
		w.producer = -1
	}
	if out.Stand {
		w.stand()
	}
	if out.Write != nil {
		w.write(out.Write)
	}
	for _, r := range out.Announce {
		w.announce(r)
	}
	for _, st := range out.Stop {
		w.stopRun(st)
	}
	for _, st := range out.Start {
		w.startRun(st)
	}
	for _, r := range out.Replies {
		if f := w.answers[r.ID]; f != nil {
			delete(w.answers, r.ID)
			f(r)
		}
	}
	if out.Left {
		s.note("%s has left", w.name)
		w.ended = true
	}
}

func (w *simWorker) stand() {
	s := w.sim
	w.soon(s.between(5*time.Millisecond, 200*time.Millisecond), func() {
		if w.cut || s.chance(0.05) {
			w.step(Stood{})
			return
		}
		s.producer++
		w.producer = s.producer
		s.stats.Leaders++
		s.note("%s takes the transactional id", w.name)
		w.soon(s.between(0, 100*time.Millisecond), func() { w.step(Stood{OK: true}) })
	})
}

// write appends a transaction if the worker still holds the id. Its answer may be
// lost, and it may be on its way while the worker crashes.
func (w *simWorker) write(t *Write) {
	s, producer := w.sim, w.producer
	s.after(s.between(time.Millisecond, 150*time.Millisecond), func() {
		lost := s.chance(0.02)
		if producer != s.producer || producer < 0 || w.cut || !lost && s.chance(0.02) {
			if producer != s.producer {
				s.stats.Fenced++
			}
			s.note("%s is refused to write %d records", w.name, len(t.Records))
			w.soon(0, func() { w.step(Written{ID: t.ID}) })
			return
		}
		for _, r := range t.Records {
			s.note("%s writes %d: %+v", w.name, len(s.config), r)
			s.config = append(s.config, simRecord{r, true})
		}
		last := int64(len(s.config) - 1)
		s.config = append(s.config, simRecord{nil, false})
		w.soon(s.between(0, 100*time.Millisecond), func() {
			w.step(Written{ID: t.ID, OK: !lost, Offset: last})
		})
	})
}

func (w *simWorker) announce(r Record) {
	s := w.sim
	s.after(s.between(time.Millisecond, 200*time.Millisecond), func() {
		if w.cut || s.chance(0.02) {
			return
		}
		s.status = append(s.status, r)
		if _, lease := r.(Lease); !lease {
			s.note("%s announces %+v", w.name, r)
		}
	})
}

// mayWrite says whether a run can still send: that does not need the worker to be
// awake to notice, because the clients check the lease when they write.
func (w *simWorker) mayWrite(r *simRun) bool {
	if !w.up || r.ended {
		return false
	}
	if r.stopping {
		return w.local() < r.deadline
	}
	return w.local() < w.lease
}

func (w *simWorker) startRun(st Start) {
	s := w.sim
	s.stats.Handovers++
	r := &simRun{Start: st, parts: map[int]bool{}}
	for part := range strings.SplitSeq(st.Config["parts"], ",") {
		if p, err := strconv.Atoi(part); err == nil && !st.Unit.IsConnector() {
			r.parts[p] = true
		}
	}
	s.note("%s starts %v gen %d %v", w.name, st.Unit, st.Gen, st.Config)
	for _, o := range w.runs {
		if o.Unit == st.Unit {
			s.fail("%s starts %v while it runs", w.name, st.Unit)
		}
	}
	w.runs[st.Run] = r
	s.exclusive(w, r)
	if !st.Unit.IsConnector() {
		w.loop(0, 400*time.Millisecond, func() { w.produce(r) })
	}
	if st.Unit.IsConnector() {
		w.soon(s.between(10*time.Millisecond, time.Second), func() { w.publish(r) })
	} else if s.chance(0.03) && !s.calm {
		s.stats.Failures++
		w.soon(s.between(0, 2*time.Second), func() { w.endRun(r, true) })
	}
}

// produce sends a request, which arrives a while later: perhaps after the lease, and then perhaps when
// another run writes the partition already. Nothing can call it back, so a plain task's are counted.
func (w *simWorker) produce(r *simRun) {
	s := w.sim
	if !w.mayWrite(r) {
		return
	}
	r.inFlight++
	s.after(s.between(time.Millisecond, 600*time.Millisecond), func() {
		r.inFlight--
		for _, o := range s.workers {
			for _, other := range o.runs {
				if other == r || other.Unit.Connector != r.Unit.Connector || !o.mayWrite(other) {
					continue
				}
				for p := range r.parts {
					if other.parts[p] {
						s.stats.Late++
					}
				}
			}
		}
	})
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

// publish plans the tasks of a connector and gets them to the leader, as long as
// the connector runs.
func (w *simWorker) publish(r *simRun) {
	s := w.sim
	if r.ended || r.stopping {
		return
	}
	again := func() { w.soon(200*time.Millisecond+s.between(0, time.Second), func() { w.publish(r) }) }
	leader := s.leader()
	if leader == nil || leader.frozen || s.chance(0.1) {
		again()
		return
	}
	leader.order(PutTasks{Name: r.Unit.Connector, Gen: r.Gen, Tasks: planParts(r.Config)}, func(re Reply) {
		if re.Err != nil {
			again()
		}
	})
}

// planParts spreads the partitions of a connector over its tasks.
func planParts(config map[string]string) []map[string]string {
	n, _ := strconv.Atoi(config["n"])
	parts, _ := strconv.Atoi(config["partitions"])
	tasks := make([]map[string]string, n)
	for p := range parts {
		t := tasks[p%n]
		if t == nil {
			t = map[string]string{"parts": strconv.Itoa(p)}
		} else {
			t["parts"] += "," + strconv.Itoa(p)
		}
		tasks[p%n] = t
	}
	for i := range tasks {
		if tasks[i] == nil {
			tasks[i] = map[string]string{"parts": "none"}
		}
	}
	return tasks
}

func (s *sim) leader() *simWorker {
	for _, w := range s.workers {
		if w.up && !w.ended {
			if _, self, _ := w.m.Leader(); self {
				return w
			}
		}
	}
	return nil
}

func (w *simWorker) order(o Order, answer func(Reply)) {
	w.orderID++
	id := w.orderID
	w.answers[id] = answer
	w.step(Ordered{ID: id, Order: o})
}

// simClient changes one connector, one order after the other, and knows what must
// be so.
type simClient struct {
	sim  *sim
	name string
	// may are the states the connector can be in: several after an order whose
	// outcome is not known.
	may []simState
	// busy until an answer has come, or can come no more.
	busy time.Duration
}

type simState struct {
	config map[string]string // nil: not there
	target TargetState
}

func (c *simClient) act() {
	s := c.sim
	defer func() { s.after(300*time.Millisecond+s.between(0, 4*time.Second), c.act) }()
	w := s.leader()
	if w == nil || w.frozen || s.now > 35*time.Second || s.now < c.busy {
		return
	}
	c.busy = s.now + 12*time.Second
	s.stats.Orders++
	if c.may == nil {
		c.may = []simState{{}}
	}
	n := 1 + s.rng.IntN(4)
	config := map[string]string{
		"n": strconv.Itoa(n), "partitions": strconv.Itoa(n + s.rng.IntN(5)), "rev": strconv.Itoa(s.seq),
	}
	var o Order
	var change func(simState) simState
	switch s.rng.IntN(8) {
	case 0, 1, 2, 3:
		o = PutConnector{Name: c.name, Config: config}
		change = func(st simState) simState { return simState{config, st.target} }
	case 4:
		o = SetTarget{c.name, []TargetState{Paused, Stopped}[s.rng.IntN(2)]}
		change = func(st simState) simState { return simState{st.config, o.(SetTarget).State} }
	case 5:
		o = SetTarget{c.name, Started}
		change = func(st simState) simState { return simState{st.config, Started} }
	case 6:
		o = RestartConnector{c.name, true, false}
		change = func(st simState) simState { return st }
	case 7:
		o = DeleteConnector{c.name}
		change = func(simState) simState { return simState{} }
	}
	old := c.may
	for _, st := range old { // until the answer comes, both may be so
		c.may = append(c.may, change(st))
	}
	w.order(o, func(r Reply) {
		s.note("%s: %+v: %v", c.name, o, r.Err)
		c.busy = 0
		switch r.Err {
		case nil:
			c.may = nil
			for _, st := range old {
				c.may = append(c.may, change(st))
			}
		case ErrOutcome:
		default:
			c.may = old
		}
	})
}

func (c *simClient) check(m *Machine) {
	config, _, there := m.Connector(c.name)
	for _, st := range c.may {
		target := st.target
		if target == "" {
			target = Started
		}
		if there == (st.config != nil) && maps.Equal(config, st.config) && (!there || m.Target(c.name) == target) {
			return
		}
	}
	if c.may != nil {
		c.sim.fail("%s is %v (%v), which no order made it: %v", c.name, config, m.Target(c.name), c.may)
	}
}
