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
	if total.Handovers == 0 || total.Fenced == 0 || total.LeaseStops == 0 || total.Orders == 0 {
		t.Errorf("the simulation did not reach everything it is for: %+v", total)
	}
}

// simStats counts what a simulation has been through. Late are requests that were sent under a
// lease and arrived when another run wrote the same partition.
type simStats struct {
	Steps, Crashes, Freezes, Cuts, Splits, Leaders, Fenced, Handovers, LeaseStops, Orders, Failures, Late int
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
	calm     bool // no more faults
}

type simWorker struct {
	sim         *sim
	name        string
	life        int // counts incarnations; events of a former life are dropped
	m           *Machine
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

type simRun struct {
	Start
	parts    map[int]bool // the partitions it writes, for a task
	stopping bool
	deadline time.Duration
	ended    bool
	inFlight int
}

func newSim(seed int64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 7))}
	for i := range 3 + s.rng.IntN(3) {
		w := &simWorker{sim: s, name: "w" + strconv.Itoa(i), deaf: map[string]bool{}}
		s.workers = append(s.workers, w)
	}
	for i := range 1 + s.rng.IntN(4) {
		s.clients = append(s.clients, &simClient{sim: s, name: "c" + strconv.Itoa(i)})
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

func (s *sim) run() error {
	for _, w := range s.workers {
		s.after(s.between(0, 3*time.Second), w.start)
	}
	for _, c := range s.clients {
		s.after(s.between(time.Second, 4*time.Second), c.act)
	}
	s.after(2*time.Second, s.fault)
	s.after(20*time.Second, s.heal)
	const end = 50 * time.Second
	for len(s.queue) > 0 && s.err == nil {
		e := heap.Pop(&s.queue).(simEvent)
		if e.at > end {
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

// exclusive checks that nobody may write what the run of w writes.
func (s *sim) exclusive(w *simWorker, r *simRun) {
	if !w.mayWrite(r) {
		return
	}
	for _, o := range s.workers {
		for _, other := range o.runs {
			if other == r || other.Unit.Connector != r.Unit.Connector || other.Unit.IsConnector() != r.Unit.IsConnector() || !o.mayWrite(other) {
				continue
			}
			if r.Unit.IsConnector() {
				s.fail("two instances of %v: on %s (gen %d) and on %s (gen %d)", r.Unit, w.name, r.Gen, o.name, other.Gen)
			}
			for p := range r.parts {
				if other.parts[p] {
					s.fail("partition %d of %s is written by %v on %s (gen %d) and by %v on %s (gen %d)",
						p, r.Unit.Connector, r.Unit, w.name, r.Gen, other.Unit, o.name, other.Gen)
				}
			}
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
	connectors, tasks := first.Loads()
	for _, loads := range []map[string]int{connectors, tasks} {
		low, high := 1<<30, 0
		for _, w := range s.workers {
			low, high = min(low, loads[w.name]), max(high, loads[w.name])
		}
		if high-low > 1 {
			s.fail("not balanced: %v", loads)
		}
	}
	for _, c := range s.clients {
		c.check(first)
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
