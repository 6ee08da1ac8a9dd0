package herder

import (
	"maps"
	"slices"
	"strconv"
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
	timing.Weigh = 5 * time.Second
	w.told = nil
	w.m = New(Config{
		Timing: timing, Self: Join{Instance: w.instance()}, Fences: simFences, Extends: simExtends, LeaseForAll: w.strict,
		MaxRecord: s.maxRecord,
	})
	s.note("start %v", w.instance())
	w.loop(0, 50*time.Millisecond, func() { w.step(Tick{}) })
	w.loop(0, 80*time.Millisecond, w.read)
	w.loop(0, 500*time.Millisecond, w.askEnd)
	w.loop(100*time.Millisecond, 300*time.Millisecond, w.gossip)
	if s.weighted {
		w.loop(time.Second, 3*time.Second, w.weigh)
	}
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
		if o.up && !o.frozen && !o.ended && !w.deaf[o.name] && (s.ending() || !s.chance(0.05)) { // a worker lost at the very end is not back in time
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
	for _, u := range out.Update {
		w.updateRun(u)
	}
	for _, id := range out.Clear {
		w.clearRun(id)
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
		lost := !s.calm && s.chance(0.02) // a leader that is refused at the very end is replaced too late to be seen
		if producer != s.producer || producer < 0 || w.cut || !s.calm && !lost && s.chance(0.02) {
			if producer != s.producer {
				s.stats.Fenced++
			}
			s.note("%s is refused to write %d records", w.name, len(t.Records))
			w.soon(0, func() { w.step(Written{ID: t.ID}) })
			return
		}
		for _, r := range t.Records {
			s.note("%s writes %d: %+v", w.name, len(s.config), r)
			if a, ok := r.(Assignment); ok && a.Part > 0 {
				s.stats.Parts++
			}
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
	leader.order("", PutTasks{Name: r.Unit.Connector, Gen: r.Gen, Tasks: planParts(r.Config)}, func(re Reply) {
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
			t = map[string]string{"parts": strconv.Itoa(p), "class": config["class"]}
		} else {
			t["parts"] += "," + strconv.Itoa(p)
		}
		tasks[p%n] = t
	}
	for i := range tasks {
		if tasks[i] == nil {
			tasks[i] = map[string]string{"parts": "none", "class": config["class"]}
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

func (w *simWorker) order(request string, o Order, answer func(Reply)) {
	w.orderID++
	id := w.orderID
	w.answers[id] = answer
	w.step(Ordered{ID: id, Request: request, Order: o})
}

// simClient changes one connector, one order after the other, and knows what must
// be so.
type simClient struct {
	sim   *sim
	name  string
	class string // of its connector: one of simClasses
	// may are the states the connector can be in: several after an order whose
	// outcome is not known.
	may []simState
	// busy until an answer has come, or can come no more.
	busy time.Duration
	// done are requests that have been performed; last is the newest one, if its outcome is not known.
	done []simRequest
	last *simRequest
}

// simRequest is an order that may be given again under its name.
type simRequest struct {
	name   string
	order  Order
	old    []simState // that it was given in
	change func(simState) simState
	again  bool // it has been given before
}

type simState struct {
	config map[string]string // nil: not there
	target TargetState
}

func (c *simClient) act() {
	s := c.sim
	defer func() { s.after(300*time.Millisecond+s.between(0, 4*time.Second), c.act) }()
	w := s.leader()
	if w == nil || w.frozen || s.now > s.quiet || s.now < c.busy {
		return
	}
	c.busy = s.now + 12*time.Second
	s.stats.Orders++
	if c.may == nil {
		c.may = []simState{{}}
	}
	switch {
	case c.last != nil && s.rng.IntN(2) == 0: // by now it has been performed, or never will be but so
		c.give(w, *c.last)
		return
	case len(c.done) > 0 && s.rng.IntN(5) == 0: // its answer was lost, and came late; others have made changes since
		again := c.done[s.rng.IntN(len(c.done))]
		again.again, again.old, again.change = true, c.may, func(st simState) simState { return st }
		c.give(w, again)
		return
	}
	n := 1 + s.rng.IntN(4)
	config := map[string]string{
		"n": strconv.Itoa(n), "partitions": strconv.Itoa(n + s.rng.IntN(5)), "rev": strconv.Itoa(s.seq), "class": c.class,
	}
	var o Order
	var change func(simState) simState
	switch s.rng.IntN(11) {
	case 8, 9, 10: // partitions are added; tasks, too, now and then
		last := c.may[len(c.may)-1].config
		if last == nil {
			break
		}
		tasks, _ := strconv.Atoi(last["n"])
		parts, _ := strconv.Atoi(last["partitions"])
		config["n"], config["partitions"] = strconv.Itoa(tasks), strconv.Itoa(parts+1+s.rng.IntN(4))
		o = PutConnector{Name: c.name, Config: config}
		change = func(st simState) simState { return simState{config, st.target} }
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
		o = DeleteConnector{Name: c.name}
		change = func(simState) simState { return simState{} }
	}
	if o == nil {
		c.busy = 0
		return
	}
	c.give(w, simRequest{name: c.name + "-" + strconv.Itoa(s.stats.Orders), order: o, old: c.may, change: change})
}

// give orders a request, for the first time or again.
func (c *simClient) give(w *simWorker, r simRequest) {
	for _, st := range r.old { // until the answer comes, both may be so
		c.may = append(c.may, r.change(st))
	}
	_, restart := r.order.(RestartConnector) // is not made once
	again := r.again
	if r.again = true; !restart {
		c.last = &r
	}
	w.order(r.name, r.order, func(re Reply) {
		c.sim.note("%s: %s %+v: %v", c.name, r.name, r.order, re.Err)
		c.busy = 0
		switch re.Err {
		case nil:
			if c.may = nil; !restart && !again {
				c.done = append(c.done, r)
			}
			for _, st := range r.old {
				c.may = append(c.may, r.change(st))
			}
			c.last = nil
		case ErrOutcome:
		default:
			// Who does not lead, or not any more, does not know what became of it before.
			if !again {
				c.may, c.last = r.old, nil
			}
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

// weigh tells what this worker's tasks weigh: now and then one changes, until the world comes to rest.
func (w *simWorker) weigh() {
	s := w.sim
	load := Load{Instance: w.instance(), Weights: map[string]map[int]int64{}}
	for _, id := range slices.Sorted(maps.Keys(w.runs)) {
		u := w.runs[id].Unit
		if u.IsConnector() {
			continue
		}
		if s.weights[u] == 0 || s.now < s.quiet && s.chance(0.1) {
			s.weights[u] = 1 << s.rng.IntN(5)
		}
		if load.Weights[u.Connector] == nil {
			load.Weights[u.Connector] = map[int]int64{}
		}
		load.Weights[u.Connector][u.Task] = s.weights[u]
	}
	if s.now < s.quiet || !maps.EqualFunc(load.Weights, w.told, maps.Equal[map[int]int64, map[int]int64]) {
		w.announce(load)
		w.told = load.Weights
	}
}
