// Package herder is the brain of a worker: it decides who leads, who runs what, and what may start and
// must stop. It is one state machine, Step and Ready, with no clock, goroutine, lock, logger, client or
// randomness in it, so that a simulator can run thousands of clusters from a seed.
//
// The log is the truth. Every decision is a record in the config topic, which all workers
// read in one order; only the leader writes there, fenced by its transactional id. The
// status topic carries what is not a decision: joins, signs of life, acknowledgements.
// Gossip only makes things fast.
//
// Easy to get wrong:
//   - A worker may act for its tasks until its lease runs out: Timing.Lease after the moment at which it
//     asked for the end of the config topic, once it has read up to the answer.
//   - Whoever takes a unit over waits for the former owner's acknowledgement, or for Lease + Margin counted
//     from its own reading of the assignment. The former owner, if it lives, must therefore stop
//     by the lease it had before it read that assignment, and not by a later one.
//   - A run is named by unit and generation. A task whose configuration changes gets a new generation
//     in the same transaction, so a partition never has two readers. The one exception is grow.go's: a change
//     that takes nothing from any task.
package herder

import (
	"cmp"
	"fmt"
	"maps"
	"time"
)

// Config is what a machine knows of itself.
type Config struct {
	Self   Join // At is left to the worker
	Timing Timing
	// Fences says whether the task with this configuration can shut its former owners out by itself. nil: none can.
	Fences func(task map[string]string) bool
	// Extends says whether a running task takes its new configuration without a restart, because it only adds
	// work that no other task of its connector has. nil: none does.
	Extends func(old, new map[string]string) bool
	// LeaseForAll ends runs that hold a fence, too, when the lease runs out (lease.enforce=all).
	LeaseForAll bool
	// Versions is how many versions of each connector's configuration are kept; 0: none. Conceal returns what may be kept
	// of a configuration, and the keys that may not, sorted. nil: all may.
	Versions int
	Conceal  func(config map[string]string) (kept map[string]string, hidden []string)
	// Uses names the documents that a connector's configuration uses, by their keys and in order. nil: none.
	Uses func(config map[string]string) []string
	// MaxRecord bounds the text of an assignment record, in bytes; larger assignments take several records. 0: 900,000.
	MaxRecord int
}

// Machine is the state of one worker's herder. It is not safe for concurrent
// use: one goroutine owns it.
type Machine struct {
	self      Instance
	join      Join
	timing    Timing
	fences    func(task map[string]string) bool
	extends   func(old, new map[string]string) bool
	strict    bool // LeaseForAll
	maxRecord int
	now       time.Duration // of the current step; monotonic, zero when the process started

	versions int
	conceal  func(config map[string]string) (kept map[string]string, hidden []string)
	uses     func(config map[string]string) []string

	// What the config topic says.
	loaded      bool // read to its end once
	torn        bool // in the middle of a transaction
	connectors  map[string]*connectorState
	targets     map[string]TargetState
	tasks       map[string]*taskState
	histories   map[string][]*Version // by connector, the oldest first
	documents   map[string]documentState
	done        done
	leader      Leader
	assignments map[string]*assigned    // by worker
	owner       map[Unit]string         // worker, the reverse of assignments
	drains      map[string]bool         // workers that are to run nothing
	version     int64                   // highest assignment version read
	readAt      map[int64]time.Duration // when each recent version was read
	loadedAt    time.Duration

	// What the status topic says.
	statusLoaded bool
	joins        map[string]joined
	acks         map[Instance]Ack
	beats        map[string]time.Duration // by worker, when read
	weights      map[Unit]int64           // of those that weigh more than 1
	rates        map[string]Load          // by worker, the newest
	leaderSeen   time.Duration            // last sign of the leader
	resigned     bool                     // the leader has resigned

	alive     map[string]string // worker → incarnation, as gossip sees it
	everAlive map[Instance]bool

	leaseUntil time.Duration
	runs       map[Unit]*run
	nextRun    RunID
	failed     map[Unit]failure
	needAck    int64 // somebody waits for our acknowledgement up to here
	shown      map[Unit]string
	announced  announcements
	leaving    bool
	left       bool
	fatal      string

	lead leadership

	// changed, waiting and early keep ticks cheap: runs are looked at again only when something
	// has happened, or a start waits for a lease, or a run that started early does.
	changed, waiting, early, hadLease bool

	out Ready
}

type connectorState struct {
	config map[string]string
	rev    int64 // offset of its record
}

type taskState struct {
	pending map[int]map[string]string // written, not yet committed
	configs []map[string]string
	version int64 // changes with every commit, in this process
}

type joined struct {
	Join
	rank int64 // offset of the record
}

// assigned is what one worker has to run.
type assigned struct {
	Assignment
	units map[Unit]*entry
	// before are the units that the same instance had, until all records of this assignment are read.
	before map[Unit]*entry
}

// entry is one unit of an assignment.
type entry struct {
	gen   int64
	after []Wait
	// readAt is when this worker read it: from then on it waits for a lease.
	readAt time.Duration
}

// failure remembers a run that FAILED: it is not started again by itself.
type failure struct {
	gen    int64
	rev    int64
	config map[string]string // of a task
}

// New returns a machine that has read nothing yet.
func New(c Config) *Machine {
	c.Self.Updates = true
	return &Machine{
		self:        c.Self.Instance,
		join:        c.Self,
		timing:      c.Timing,
		fences:      c.Fences,
		extends:     c.Extends,
		strict:      c.LeaseForAll,
		maxRecord:   cmp.Or(c.MaxRecord, defaultMaxRecord),
		versions:    c.Versions,
		conceal:     c.Conceal,
		uses:        c.Uses,
		documents:   map[string]documentState{},
		histories:   map[string][]*Version{},
		done:        newDone(),
		connectors:  map[string]*connectorState{},
		targets:     map[string]TargetState{},
		tasks:       map[string]*taskState{},
		assignments: map[string]*assigned{},
		owner:       map[Unit]string{},
		drains:      map[string]bool{},
		readAt:      map[int64]time.Duration{},
		joins:       map[string]joined{},
		acks:        map[Instance]Ack{},
		beats:       map[string]time.Duration{},
		weights:     map[Unit]int64{},
		rates:       map[string]Load{},
		alive:       map[string]string{},
		everAlive:   map[Instance]bool{},
		runs:        map[Unit]*run{},
		failed:      map[Unit]failure{},
		shown:       map[Unit]string{},
	}
}

// An Event is something that has happened.
type Event interface{ event() }

type (
	// Tick tells that time has passed.
	Tick struct{}
	// ConfigRead is the next record of the config topic. More says that the
	// transaction it belongs to goes on, so nothing may be concluded yet.
	ConfigRead struct {
		Offset int64
		Record Record
		More   bool
	}
	// ConfigEnd tells that the config topic has been read up to the end that was
	// asked for at SentAt.
	ConfigEnd struct{ SentAt time.Duration }
	// StatusRead is the next of our records in the status topic.
	StatusRead struct {
		Offset int64
		Record Record
	}
	// StatusEnd tells that the status topic has been read to its end for the first
	// time.
	StatusEnd struct{}
	// Gossip is who is alive: instances that gossip sees and that do not say of
	// themselves that they are cut off from Kafka.
	Gossip struct{ Alive []Instance }
	// Refused tells that the leader's address refuses connections.
	Refused struct{}
	// Stood is the outcome of Ready.Stand: whether this worker holds the
	// transactional id now.
	Stood struct{ OK bool }
	// Written is the outcome of Ready.Write.
	Written struct {
		ID     int64
		OK     bool
		Offset int64 // of the last record, if OK
	}
	// RunEnded tells that a run has ended and sends nothing more; Failed says that it
	// ended by itself, with an error.
	RunEnded struct {
		Run    RunID
		Failed bool
	}
	// Fenced tells whether a run holds a fence: Kafka itself then keeps it and its
	// former owners apart, and it and its successor.
	Fenced struct {
		Run  RunID
		Held bool
	}
	// Restart restarts a unit that this worker runs.
	Restart struct{ Unit Unit }
	// Ordered is a request for a change that only the leader can make. Request, if not empty, names it wherever and
	// however often it is ordered (see once.go).
	Ordered struct {
		ID      int64
		Request string
		Order   Order
	}
	// Leave asks for an orderly end.
	Leave struct{}
)

func (Tick) event()       {}
func (ConfigRead) event() {}
func (ConfigEnd) event()  {}
func (StatusRead) event() {}
func (StatusEnd) event()  {}
func (Gossip) event()     {}
func (Refused) event()    {}
func (Stood) event()      {}
func (Written) event()    {}
func (RunEnded) event()   {}
func (Fenced) event()     {}
func (Restart) event()    {}
func (Ordered) event()    {}
func (Leave) event()      {}

// Ready is what is to be done since the last call of Ready. Stops come before
// starts; a Write is done before the next one is given.
type Ready struct {
	// Stand: take the transactional id and report with Stood.
	Stand bool
	// Resign: give the transactional id up; nothing more may be written with it.
	Resign bool
	// Write, if not nil, is to be appended to the config topic as one transaction,
	// and reported with Written.
	Write *Write
	// Announce is to be appended to the status topic. Nobody waits for the outcome.
	Announce []Record
	Stop     []Stop
	Start    []Start
	// Update names runs whose configuration has grown: they take the new one and go on.
	Update []Update
	// Clear names runs that were started early and whose former owners are over now.
	Clear []RunID
	// Idle are units that this worker owns and does not run, with the state to show.
	Idle    []Idle
	Replies []Reply
	// Lease is until when runs may act that hold no fence and are not being stopped.
	Lease time.Duration
	// Left tells that the orderly end is complete; Fatal, if not empty, why this
	// worker has to end at once.
	Left  bool
	Fatal string
}

// Write is one transaction.
type Write struct {
	ID      int64
	Records []Record
}

// RunID names a run within one process.
type RunID int64

// Start tells to run a unit.
type Start struct {
	Run    RunID
	Unit   Unit
	Gen    int64
	Config map[string]string // of the connector or of the task
	Tasks  []map[string]string
	// Early: former owners may still act. The run may act only under a fence, until it is named in Ready.Clear.
	Early bool
}

// Stop tells to end a run: orderly until Deadline, and without sending anything
// more from then on. It may come again with an earlier deadline.
type Stop struct {
	Run      RunID
	Unit     Unit
	Deadline time.Duration
	Reason   string
}

// Idle is a unit's state while it is not run.
type Idle struct {
	Unit  Unit
	State string
}

// Step takes one event in, at the monotonic time now.
func (m *Machine) Step(now time.Duration, e Event) {
	m.now = max(m.now, now)
	switch e := e.(type) {
	case Tick, Refused:
		_, refused := e.(Refused)
		m.lead.refused = m.lead.refused || refused
	case ConfigRead:
		m.applyConfig(e)
	case ConfigEnd:
		if !m.loaded {
			m.loaded, m.loadedAt = true, m.now
		}
		m.leaseUntil = max(m.leaseUntil, e.SentAt+m.timing.Lease)
	case StatusRead:
		m.applyStatus(e)
	case StatusEnd:
		m.statusLoaded = true
	case Gossip:
		m.applyGossip(e)
	case Stood:
		m.stood(e)
	case Written:
		m.written(e)
	case RunEnded:
		m.runEnded(e)
	case Fenced:
		m.fenced(e)
	case Restart:
		m.restart(e.Unit)
	case Ordered:
		m.ordered(e)
	case Leave:
		m.leaving = true
	default:
		panic(fmt.Sprintf("herder: unknown event %T", e))
	}
	if m.torn || !m.loaded || !m.statusLoaded {
		return
	}
	switch e.(type) {
	case Tick, ConfigEnd:
	default:
		m.changed = true
	}
	m.runAll()
	m.announce()
	m.stand()
	m.leadOn()
}

// Ready returns what is to be done and forgets it.
func (m *Machine) Ready() Ready {
	out := m.out
	out.Lease = m.leaseUntil
	out.Left = m.left
	out.Fatal = m.fatal
	m.out = Ready{}
	return out
}

func (m *Machine) applyGossip(e Gossip) {
	m.lead.dirty = true
	m.alive = make(map[string]string, len(e.Alive))
	for _, i := range e.Alive {
		m.alive[i.Worker] = i.Incarnation
		m.everAlive[i] = true
	}
}

func (m *Machine) applyConfig(e ConfigRead) {
	m.torn = e.More
	switch r := e.Record.(type) {
	case nil: // the end of a transaction, or a record that is not ours to read
	case ConnectorConfig:
		if r.Config == nil {
			delete(m.connectors, r.Name)
			delete(m.tasks, r.Name)
			break
		}
		m.connectors[r.Name] = &connectorState{config: r.Config, rev: e.Offset}
	case TaskConfig:
		t := m.taskState(r.Unit.Connector)
		if r.Unit.Task < 0 || r.Unit.Task > maxTasks {
			break
		}
		t.pending[r.Unit.Task] = r.Config
	case Commit:
		m.commit(r)
	case Target:
		if r.State == "" {
			delete(m.targets, r.Name)
			break
		}
		m.targets[r.Name] = r.State
	case RestartRequest:
		if m.loaded {
			m.restartOwned(r)
		}
	case SessionKey, TaskCount, LoggerLevel:
	case History:
		m.applyHistory(r)
	case Document:
		m.applyDocument(r, e.Offset)
	case Done:
		m.done.apply(r)
	case Leader:
		m.applyLeader(r)
	case Assignment:
		m.applyAssignment(r)
	case Drain:
		m.lead.dirty = true
		if m.drains[r.Worker] = r.On; !r.On {
			delete(m.drains, r.Worker)
		}
	}
	m.lead.read = max(m.lead.read, e.Offset)
}

func (m *Machine) taskState(name string) *taskState {
	t := m.tasks[name]
	if t == nil {
		t = &taskState{pending: map[int]map[string]string{}}
		m.tasks[name] = t
	}
	return t
}

// commit makes pending task configurations valid. If one is missing (compaction met a half-written set, as
// Kafka's KafkaConfigBackingStore allows for) there are no tasks until the connector
// publishes again.
func (m *Machine) commit(r Commit) {
	t := m.taskState(r.Name)
	var configs []map[string]string
	for i := range min(max(r.Tasks, 0), maxTasks) {
		c := t.pending[i]
		if c == nil && i < len(t.configs) {
			c = t.configs[i]
		}
		if c == nil {
			configs = nil
			break
		}
		configs = append(configs, c)
	}
	t.configs = configs
	t.version++
	t.pending = map[int]map[string]string{}
}

// forgetAcks drops what instances that are no members any more have promised,
// unless somebody waits for it.
func (m *Machine) forgetAcks() {
	if len(m.acks) <= 64+2*len(m.joins) {
		return
	}
	awaited := map[Instance]bool{}
	for _, a := range m.assignments {
		for _, r := range a.Runs {
			for _, w := range r.After {
				awaited[w.Instance] = true
			}
		}
		for _, l := range a.Left {
			awaited[l.Instance] = true
		}
	}
	maps.DeleteFunc(m.acks, func(i Instance, _ Ack) bool { return !awaited[i] && m.joins[i.Worker].Instance != i })
}

func (m *Machine) applyStatus(e StatusRead) {
	switch e.Record.(type) {
	case Lease, Load: // neither changes who is there
	default:
		m.lead.dirty = true
	}
	switch r := e.Record.(type) {
	case Join:
		old, known := m.joins[r.Worker]
		if known && old.Instance == r.Instance {
			break // written twice: the first one gives the rank
		}
		if m.statusLoaded && r.Worker == m.self.Worker && known && old.Instance == m.self {
			m.fatal = fmt.Sprintf("another process has joined the cluster as worker %q: "+
				"give each worker a rest.advertised.host.name and rest.advertised.port of its own", r.Worker)
		}
		m.joins[r.Worker] = joined{r, e.Offset}
		delete(m.lead.gone, r.Instance)
	case Depart:
		delete(m.joins, r.Worker)
		delete(m.rates, r.Worker)
	case Load:
		m.applyLoad(r)
	case Lease:
		if r.Epoch >= m.leader.Epoch {
			m.leaderSeen = m.now
			m.resigned = r.Resigned
			m.lead.refused = false
		}
	case Ack:
		if old, ok := m.acks[r.Instance]; ok && old.Version > r.Version {
			r.Version = old.Version
		}
		m.acks[r.Instance] = r
		m.forgetAcks()
		if r.Gone && m.joins[r.Worker].Instance == r.Instance {
			delete(m.joins, r.Worker)
		}
	case Beat:
		if m.joins[r.Worker].Instance == r.Instance {
			m.beats[r.Worker] = m.now
		}
	}
}
