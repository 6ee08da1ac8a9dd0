package herder

import (
	"container/heap"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	simSeeds = flag.Int("sim.seeds", 200, "how many clusters to simulate")
	simSeed  = flag.Int64("sim.seed", 0, "simulate this one seed alone, and tell what happens")
)

// TestSimulation runs clusters through crashes, freezes, partitions, lost and late messages and worker
// clusters that are out of reach, and checks after every step that no two runs may
// write the same partition, and in the end that everything runs and nothing that
// was acknowledged is lost.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		s := newSim(*simSeed)
		s.tell = t.Logf
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v", *simSeed, err)
		}
		return
	}
	t.Parallel()
	var total simStats
	first := time.Now().UnixNano() & (1<<40 - 1)
	t.Logf("seeds %d to %d (replay one with -sim.seed=N)", first, first+int64(*simSeeds)-1)
	for i := range *simSeeds {
		s := newSim(first + int64(i))
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v\n%s", s.seed, err, strings.Join(s.trail, "\n"))
		}
		total.add(s.stats)
	}
	t.Logf("%d clusters: %+v", *simSeeds, total)
	if total.Handovers == 0 || total.Fenced == 0 || total.LeaseStops == 0 || total.Orders == 0 ||
		total.Early == 0 || total.Refused == 0 || total.PastLease == 0 || total.Updates == 0 || total.Grown == 0 ||
		total.Drains == 0 || total.Parts == 0 {
		t.Errorf("the simulation did not reach everything it is for: %+v", total)
	}
}

// simStats counts what a simulation has been through. Late are requests that were sent under a
// lease and arrived when another run wrote the same partition. Refused are those that a fence kept
// out, PastLease those that a fenced run sent after its worker's lease. Updates are configurations that reached a run,
// Grown those that it took without a new fence. Drains are workers drained or undrained, Parts the further records of
// assignments that took several.
type simStats struct {
	Steps, Crashes, Freezes, Cuts, Splits, Leaders, Fenced, Handovers, LeaseStops, Orders, Failures, Late int
	Early, Refused, PastLease, Updates, Grown, Drains, Parts                                              int
}

func (a *simStats) add(b simStats) {
	a.Steps += b.Steps
	a.Crashes += b.Crashes
	a.Freezes += b.Freezes
	a.Cuts += b.Cuts
	a.Splits += b.Splits
	a.Leaders += b.Leaders
	a.Fenced += b.Fenced
	a.Handovers += b.Handovers
	a.LeaseStops += b.LeaseStops
	a.Orders += b.Orders
	a.Failures += b.Failures
	a.Late += b.Late
	a.Early += b.Early
	a.Refused += b.Refused
	a.PastLease += b.PastLease
	a.Updates += b.Updates
	a.Grown += b.Grown
	a.Drains += b.Drains
	a.Parts += b.Parts
}

type simRecord struct {
	record Record
	more   bool
}

// sim is one simulated world.
type sim struct {
	seed  int64
	rng   *rand.Rand
	now   time.Duration // the world's time
	queue simQueue
	seq   int
	tell  func(string, ...any)
	trail []string
	stats simStats
	err   error

	config   []simRecord
	status   []Record
	producer int // epoch of the transactional id
	workers  []*simWorker
	clients  []*simClient
	calm     bool          // no more faults
	quiet    time.Duration // no more orders from here on
	fences   map[simPart]*simRun
	ids      map[Unit]*simRun // who holds the transactional id of a task

	operator  *simOperator
	maxRecord int  // of assignments
	weighted  bool // tasks are said to weigh
	weights   map[Unit]int64
	atRest    int64 // the assignment version when nothing went wrong any more
}

type simWorker struct {
	sim         *sim
	name        string
	life        int // counts incarnations; events of a former life are dropped
	m           *Machine
	told        map[string]map[int]int64 // weights of its tasks
	up, frozen  bool
	born        time.Duration
	drift       float64
	cut         bool // from Kafka
	deaf        map[string]bool
	heard       map[string]simHeard
	configRead  int
	statusRead  int
	statusEnded bool
	producer    int
	strict      bool // lease.enforce=all
	lease       time.Duration
	runs        map[RunID]*simRun
	stalled     time.Duration // reads nothing before
	parked      []func()      // what came while frozen
	orderID     int64
	answers     map[int64]func(Reply)
	ended       bool
}

type simHeard struct {
	incarnation string
	at          time.Duration
}

func newSim(seed int64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 7)), fences: map[simPart]*simRun{}, ids: map[Unit]*simRun{}}
	s.quiet = 8*time.Second + time.Duration(s.rng.Int64N(int64(27*time.Second)))
	for i := range 3 + s.rng.IntN(3) {
		w := &simWorker{sim: s, name: "w" + strconv.Itoa(i), deaf: map[string]bool{}, strict: s.chance(0.3)}
		s.workers = append(s.workers, w)
	}
	s.operator = &simOperator{sim: s, may: map[string][2]bool{}}
	s.weighted, s.weights = s.chance(0.3), map[Unit]int64{}
	if s.chance(0.5) {
		s.maxRecord = 150
	}
	for i := range 1 + s.rng.IntN(4) {
		s.clients = append(s.clients, &simClient{sim: s, name: "c" + strconv.Itoa(i), class: simClasses[s.rng.IntN(len(simClasses))]})
	}
	return s
}

func (s *sim) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs ", s.now.Seconds()) + fmt.Sprintf(format, args...)
	if s.tell != nil {
		s.tell("%s", line)
	}
	s.trail = append(s.trail, line)
	if len(s.trail) > 120 {
		s.trail = slices.Delete(s.trail, 0, 40)
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("at %.3fs: %s", s.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + d, s.seq, f})
}

// between returns a random duration, mostly near low, sometimes near high.
func (s *sim) between(low, high time.Duration) time.Duration {
	x := s.rng.Float64()
	return low + time.Duration(x*x*x*float64(high-low))
}

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// simEnd is when the world is looked at.
const simEnd = 50 * time.Second

// ending says whether nothing more goes wrong, so that everything can be as it should be in the end.
func (s *sim) ending() bool { return s.now > simEnd-10*time.Second }

func (s *sim) run() error {
	for _, w := range s.workers {
		s.after(s.between(0, 3*time.Second), w.start)
	}
	for _, c := range s.clients {
		s.after(s.between(time.Second, 4*time.Second), c.act)
	}
	if s.chance(0.5) {
		s.after(s.between(3*time.Second, 10*time.Second), s.operator.act)
	}
	s.after(simEnd-2*time.Second, func() { s.atRest = s.workers[0].m.version })
	s.after(2*time.Second, s.fault)
	s.after(20*time.Second, s.heal)
	for len(s.queue) > 0 && s.err == nil {
		e := heap.Pop(&s.queue).(simEvent)
		if e.at > simEnd {
			break
		}
		s.now = e.at
		e.f()
	}
	if s.err == nil {
		s.converged()
	}
	return s.err
}

// fault does one bad thing, and lets it pass after a while.
func (s *sim) fault() {
	if s.calm {
		return
	}
	w := s.workers[s.rng.IntN(len(s.workers))]
	back := s.between(200*time.Millisecond, 9*time.Second)
	switch s.rng.IntN(6) {
	case 0, 1:
		s.stats.Crashes++
		s.note("crash %s for %v", w.name, back)
		w.crash()
		s.after(back, w.start)
	case 2:
		s.stats.Freezes++
		s.note("freeze %s for %v", w.name, back)
		w.frozen = true
		s.after(back, w.thaw)
	case 3:
		s.stats.Cuts++
		s.note("cut %s from kafka for %v", w.name, back)
		w.cut = true
		s.after(back, func() { w.cut = false })
	case 4:
		s.stats.Splits++
		o := s.workers[s.rng.IntN(len(s.workers))]
		s.note("split %s and %s for %v", w.name, o.name, back)
		w.deaf[o.name], o.deaf[w.name] = true, true
		s.after(back, func() { delete(w.deaf, o.name); delete(o.deaf, w.name) })
	case 5:
		if w.up && !w.frozen {
			s.note("leave %s for %v", w.name, back)
			w.step(Leave{})
			s.after(back, w.start)
		}
	}
	s.after(s.between(100*time.Millisecond, 5*time.Second), s.fault)
}

func (s *sim) heal() {
	s.calm = true
	s.note("heal")
	for _, w := range s.workers {
		w.cut = false
		clear(w.deaf)
		if w.frozen {
			w.thaw()
		}
		if !w.up || w.ended || w.m.leaving {
			w.start()
		}
	}
}

// converged checks the end: one leader, everything runs once, and every worker
// says the same.
func (s *sim) converged() {
	leaders, first := 0, s.workers[0].m
	for _, w := range s.workers {
		if w.m.fatal != "" {
			s.fail("%s ended: %s", w.name, w.m.fatal)
			return
		}
		if _, self, _ := w.m.Leader(); self {
			leaders++
		}
		if !maps.Equal(w.m.owner, first.owner) || w.m.leader != first.leader {
			s.fail("%s and %s do not agree: %v, %v", w.name, s.workers[0].name, w.m.owner, first.owner)
		}
	}
	if leaders != 1 {
		s.fail("%d leaders", leaders)
	}
	running := map[Unit]int{}
	for _, w := range s.workers {
		for _, r := range w.runs {
			running[r.Unit]++
			if w.m.runs[r.Unit] == nil {
				s.fail("%s runs %v and does not know", w.name, r.Unit)
			}
			if t := first.Tasks(r.Unit.Connector); !r.Unit.IsConnector() && !maps.Equal(r.parts, simParts(t[r.Unit.Task])) {
				s.fail("%v on %s has partitions %v, want %v", r.Unit, w.name, r.parts, t[r.Unit.Task])
			}
			for p := range r.parts {
				if !w.acts(r, p) || !w.maySave(r) {
					s.fail("%v runs on %s and does not act: %+v", r.Unit, w.name, r)
				}
			}
		}
	}
	for _, name := range first.Connectors() {
		tasks := first.Tasks(name)
		for t := ConnectorUnit; t < len(tasks); t++ {
			u, want := Unit{name, t}, 1
			i, _, _ := first.Owner(u)
			for _, w := range s.workers {
				if _, failed := w.m.failed[u]; failed && w.name == i.Worker {
					want = 0
				}
			}
			if first.Target(name) != Started {
				want = 0
			}
			if running[u] != want {
				s.fail("%v runs %d times, want %d (owner %v)", u, running[u], want, i)
			}
			delete(running, u)
		}
	}
	if len(running) > 0 {
		s.fail("running but not there: %v", running)
	}
	for _, w := range s.workers {
		if w.m.lead.phase == leading { // what tasks weigh is only what it has heard itself
			s.balanced(w.m)
		}
	}
	if first.version != s.atRest {
		s.fail("it does not come to rest: assignment %d became %d", s.atRest, first.version)
	}
	s.operator.check(first)
	for _, c := range s.clients {
		c.check(first)
	}
}

// balanced checks that workers that are not drained have about the same.
func (s *sim) balanced(m *Machine) {
	var balance [2]struct{ low, high, heaviest, total int64 }
	n := int64(0)
	for _, w := range s.workers {
		if m.drains[w.name] {
			continue
		}
		var load [2]int64
		for u, owner := range m.owner {
			kind := min(u.Task, 0) + 1
			if owner == w.name {
				load[kind] += m.weight(u)
				balance[kind].total += m.weight(u)
			}
			balance[kind].heaviest = max(balance[kind].heaviest, m.weight(u))
		}
		for kind := range balance {
			b := &balance[kind]
			if b.low = min(b.low, load[kind]); n == 0 {
				b.low = load[kind]
			}
			b.high = max(b.high, load[kind])
		}
		n++
	}
	for _, b := range balance {
		most := max(1, b.heaviest)
		if b.heaviest > 1 { // measured weights are left alone within a quarter of the mean
			most = max(most, b.total/(4*n)+1)
		}
		if b.high-b.low > most {
			s.fail("not balanced: %+v, of %d workers", b, n)
		}
	}
}

type simEvent struct {
	at  time.Duration
	seq int
	f   func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
