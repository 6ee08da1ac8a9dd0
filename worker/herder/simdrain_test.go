package herder

import "time"

// simOperator drains workers and takes that back, one order after the other. One worker is never drained, so that
// everything can run.
type simOperator struct {
	sim *sim
	// may are the states that a worker can be in: both after an order whose outcome is not known.
	may  map[string][2]bool // whether it can be undrained, drained
	busy time.Duration
}

func (o *simOperator) act() {
	s := o.sim
	defer func() { s.after(s.between(time.Second, 12*time.Second), o.act) }()
	l := s.leader()
	if l == nil || l.frozen || s.now > s.quiet || s.now < o.busy {
		return
	}
	o.busy = s.now + 12*time.Second
	worker, on := s.workers[1+s.rng.IntN(len(s.workers)-1)].name, s.chance(0.6)
	old, known := o.may[worker]
	if !known {
		old = [2]bool{true, false}
	}
	both := old
	wanted := [2]bool{!on, on}
	both[0], both[1] = old[0] || !on, old[1] || on
	o.may[worker] = both
	l.order("", SetDrain{Worker: worker, On: on}, func(r Reply) {
		s.note("drain %s: %v: %v", worker, on, r.Err)
		o.busy = 0
		switch r.Err {
		case nil:
			s.stats.Drains++
			o.may[worker] = wanted
		case ErrOutcome:
		default:
			o.may[worker] = old
		}
	})
}

// check looks at the end: what was ordered holds, and the drained run nothing.
func (o *simOperator) check(m *Machine) {
	drained := map[string]bool{}
	for _, worker := range m.Drained() {
		drained[worker] = true
	}
	for worker, may := range o.may {
		if drained[worker] && !may[1] || !drained[worker] && !may[0] {
			o.sim.fail("%s is drained: %v, which no order made it", worker, drained[worker])
		}
	}
	for u, worker := range m.owner {
		if drained[worker] {
			o.sim.fail("%v is with %s, which is drained", u, worker)
		}
	}
}
