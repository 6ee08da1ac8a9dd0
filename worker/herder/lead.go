package herder

import (
	"maps"
	"slices"
	"time"
)

type phase int

const (
	following phase = iota
	standing        // taking the transactional id
	elected         // holding it; its own Leader record is not read back yet
	leading
)

// leadership is the part of a machine that only matters while it leads or wants
// to.
type leadership struct {
	phase   phase
	epoch   int64         // of our Leader record
	retryAt time.Duration // do not stand before
	refused bool
	renewed time.Duration
	read    int64 // highest offset of the config topic read

	queue  []Ordered
	nextID int64
	write  *inFlight
	dirty  bool
	gone   map[Instance]time.Duration // since when a member is missing
	check  time.Duration              // look at missing members again at
}

// inFlight is the one transaction under way and who waits for it.
type inFlight struct {
	id      int64
	offset  int64 // of its last record, once written
	done    bool
	replies []Reply
}

// applyLeader follows the leader of the highest epoch; of two with the same, the
// one that is first in the log.
func (m *Machine) applyLeader(r Leader) {
	if r.Epoch <= m.leader.Epoch {
		if r.Instance == m.self && m.lead.phase == elected {
			m.lead.epoch = 0 // somebody had that epoch already: write again with a higher one
		}
		return
	}
	m.leader = r
	m.leaderSeen, m.resigned, m.lead.refused = m.now, false, false
	switch {
	case r.Instance != m.self:
		m.stepDown()
	case m.lead.phase == elected:
		m.lead.phase, m.lead.dirty = leading, true
		m.lead.gone = map[Instance]time.Duration{}
	}
}

// stand decides whether this worker should try to lead, and says so.
func (m *Machine) stand() {
	l := &m.lead
	self, member := m.joins[m.self.Worker]
	if l.phase != following || m.leaving || m.fatal != "" || !member || self.Instance != m.self ||
		m.now >= m.leaseUntil || m.now < l.retryAt {
		return
	}
	if m.now < m.vacantAt()+time.Duration(m.rank(self.rank))*m.timing.StandStep {
		return
	}
	l.phase = standing
	m.out.Stand = true
}

// vacantAt returns from when on the lead counts as free.
func (m *Machine) vacantAt() time.Duration {
	old, t := m.leader.Instance, m.timing
	switch {
	case old == (Instance{}) || m.resigned || m.acks[old].Gone:
		return max(m.leaderSeen, m.loadedAt)
	case old.Worker == m.self.Worker:
		// Our own former incarnation.
		return m.loadedAt
	case m.lead.refused || m.everAlive[old] && m.alive[old.Worker] != old.Incarnation:
		return m.leaderSeen + t.LeaderLease
	case m.alive[old.Worker] == old.Incarnation:
		return m.leaderSeen + t.LeaderSilence
	default: // we have never seen it: it may be about to show up
		return max(m.leaderSeen, m.loadedAt) + t.LeaderLease + t.Settle
	}
}

// rank counts the members that joined before us, without the leader that is to
// be replaced.
func (m *Machine) rank(mine int64) int {
	n := 0
	for _, j := range m.joins {
		if j.rank < mine && j.Instance != m.leader.Instance {
			n++
		}
	}
	return n
}

func (m *Machine) stood(e Stood) {
	if m.lead.phase != standing {
		m.out.Resign = e.OK
		return
	}
	if !e.OK || m.leaving {
		m.lead.phase = following
		m.lead.retryAt = m.now + time.Second
		m.out.Resign = e.OK
		return
	}
	m.lead.phase, m.lead.epoch = elected, 0
}

// stepDown stops leading. Who waits for an answer is told to ask the next leader:
// what was under way may or may not have been written.
func (m *Machine) stepDown() {
	l := &m.lead
	if l.phase == elected || l.phase == leading {
		m.out.Resign = true
	}
	if l.phase != standing {
		l.phase = following
	}
	for _, q := range l.queue {
		m.reply(Reply{ID: q.ID, Err: ErrNotLeader})
	}
	if l.write != nil {
		for _, r := range l.write.replies {
			r.Err = ErrOutcome
			m.reply(r)
		}
	}
	l.queue, l.write = nil, nil
	if m.Loaded() { // else it is history that is being read
		l.retryAt = m.now + time.Second
	}
}

func (m *Machine) reply(r Reply) { m.out.Replies = append(m.out.Replies, r) }

func (m *Machine) written(e Written) {
	w := m.lead.write
	if w == nil || w.id != e.ID {
		return
	}
	if !e.OK {
		m.stepDown()
		return
	}
	w.done, w.offset = true, e.Offset
}

// leadOn does what a leader has to do next.
func (m *Machine) leadOn() {
	l := &m.lead
	if m.leaving && (l.phase == elected || l.phase == leading) {
		if l.phase == leading {
			m.out.Announce = append(m.out.Announce, Lease{Epoch: m.leader.Epoch, Instance: m.self, Resigned: true})
		}
		m.stepDown()
		return
	}
	if l.phase == elected && l.write == nil && l.epoch == 0 {
		l.epoch = m.leader.Epoch + 1
		m.append([]Record{Leader{Epoch: l.epoch, Instance: m.self}}, nil)
	}
	// The answer is given when the record has been read back.
	if w := l.write; w != nil && w.done && l.read >= w.offset {
		for _, r := range w.replies {
			m.reply(r)
		}
		l.write = nil
	}
	if l.phase != leading {
		return
	}
	if m.due(&l.renewed, m.timing.Renew) {
		m.out.Announce = append(m.out.Announce, Lease{Epoch: m.leader.Epoch, Instance: m.self})
	}
	if l.write == nil && (l.dirty || len(l.queue) > 0 || m.now >= l.check) {
		m.plan()
	}
}

func (m *Machine) append(records []Record, replies []Reply) {
	l := &m.lead
	l.nextID++
	l.write = &inFlight{id: l.nextID, replies: replies}
	m.out.Write = &Write{ID: l.nextID, Records: records}
}

// present says whether an instance takes part: it has joined, and gossip or the
// log shows that it lives.
func (m *Machine) present(i Instance) bool {
	if i == (Instance{}) || m.joins[i.Worker].Instance != i || m.acks[i].Gone {
		return false
	}
	if i == m.self || m.alive[i.Worker] == i.Incarnation {
		return true
	}
	beat, ok := m.beats[i.Worker]
	return ok && m.now < beat+m.timing.LeaderLease+m.timing.Renew
}

// departed says whether an instance that is not present is to be taken for gone: gossip has seen it die, or
// it did not show up within Settle, since the log may be ahead of gossip; and Delay has passed, which gives a worker
// time to restart.
func (m *Machine) departed(i Instance) bool {
	since, ok := m.lead.gone[i]
	if !ok {
		since = m.now
		m.lead.gone[i] = since
	}
	wait := m.timing.Delay
	if !m.everAlive[i] && !m.acks[i].Gone {
		wait = max(wait, m.timing.Settle)
	}
	return m.now >= since+wait
}

// plan builds the next transaction: the orders that wait, and the assignment
// that follows from them and from who is there.
func (m *Machine) plan() {
	l := &m.lead
	l.dirty, l.check = false, never
	if len(m.beats) > 0 {
		m.checkIn(time.Second) // presence shown by beats alone ends without an event
	}
	d := m.newDraft()
	var replies []Reply
	var later []Ordered
	for _, q := range l.queue {
		if d.touched[q.Order.connector()] && q.Order.connector() != "" || len(replies) == maxOrders {
			later = append(later, q) // the next transaction
			continue
		}
		r := d.once(q)
		r.ID = q.ID
		if r.Err != nil {
			m.reply(r)
			continue
		}
		replies = append(replies, r)
	}
	l.queue = later
	d.assign()
	if len(d.records) == 0 {
		for _, r := range replies {
			m.reply(r)
		}
		return
	}
	m.append(d.records, replies)
}

const never = time.Duration(1<<63 - 1)

// checkIn makes the leader look again after d, if nothing happens before.
func (m *Machine) checkIn(d time.Duration) { m.lead.check = min(m.lead.check, m.now+d) }

// maxOrders bounds one transaction.
const maxOrders = 256

// draft is a transaction in the making.
type draft struct {
	m       *Machine
	records []Record
	touched map[string]bool
	// What the touched connectors will be.
	configs map[string]map[string]string // nil: deleted
	tasks   map[string]int
	// anew are the units whose configuration changes: new runs, with a new generation.
	anew map[Unit]bool
	// documents are the placements of those that are written.
	documents map[string]string
	done      int64 // requests that this transaction says are done
}

func (m *Machine) newDraft() *draft {
	return &draft{
		m: m, touched: map[string]bool{}, configs: map[string]map[string]string{},
		tasks: map[string]int{}, anew: map[Unit]bool{}, documents: map[string]string{},
	}
}

// demands lists all units that have to run after this transaction, sorted.
func (d *draft) demands() []demand {
	m := d.m
	names := make([]string, 0, len(m.connectors)+len(d.configs))
	for name := range m.connectors {
		if c, touched := d.configs[name]; !touched || c != nil {
			names = append(names, name)
		}
	}
	for name, c := range d.configs {
		if c != nil && m.connectors[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	demands := make([]demand, 0, len(m.owner)+64)
	for _, name := range names {
		n, ok := d.tasks[name]
		if t := m.tasks[name]; !ok && t != nil {
			n = len(t.configs)
		}
		config := d.configs[name]
		if config == nil {
			config = m.connectors[name].config
		}
		placement := m.placement(config, d.documents)
		for t := ConnectorUnit; t < n; t++ {
			u := Unit{name, t}
			demands = append(demands, demand{unit: u, placement: placement, weight: m.weight(u), owner: m.owner[u]})
		}
	}
	return demands
}

// assign adds the records that change who runs what.
func (d *draft) assign() {
	m := d.m
	var candidates []candidate
	for _, worker := range sorted(m.joins) {
		if j := m.joins[worker]; m.present(j.Instance) {
			candidates = append(candidates, candidate{worker, j.Labels, m.drains[worker]})
			delete(m.lead.gone, j.Instance)
		}
	}
	held := map[string]bool{} // missing, but not yet given up
	for worker, a := range m.assignments {
		if len(a.units) > 0 && !m.present(m.joins[worker].Instance) && !m.departed(a.Instance) {
			held[worker] = true
			m.checkIn(100 * time.Millisecond)
		}
	}
	for _, worker := range sorted(m.joins) {
		if j := m.joins[worker]; m.assignments[worker] == nil && !m.present(j.Instance) {
			if m.departed(j.Instance) {
				m.out.Announce = append(m.out.Announce, Depart{worker})
			} else {
				m.checkIn(time.Second)
			}
		}
	}
	shares := map[string]*share{}
	free := make([]demand, 0, len(m.owner)+64)
	for _, dm := range d.demands() {
		if held[dm.owner] {
			d.give(shares, dm.owner, dm)
			continue
		}
		free = append(free, dm)
	}
	for i, place := range assign(candidates, free) {
		if place != nobody {
			d.give(shares, candidates[place].worker, free[i])
		}
	}
	d.write(shares, candidates)
}

// share is what a worker is to run.
type share struct {
	units []Unit // sorted
	kept  int    // how many of them it has, and has not anew
}

func (d *draft) give(shares map[string]*share, worker string, dm demand) {
	s := shares[worker]
	if s == nil {
		s = &share{}
		shares[worker] = s
	}
	s.units = append(s.units, dm.unit)
	if dm.owner == worker && (len(d.anew) == 0 || !d.anew[dm.unit]) {
		s.kept++
	}
}

// write turns who should run what into records: one for each worker for which
// that changes something.
func (d *draft) write(shares map[string]*share, candidates []candidate) {
	m, version := d.m, d.m.version+1
	workers := map[string]Instance{}
	for worker, a := range m.assignments {
		workers[worker] = a.Instance
	}
	alive := map[string]bool{}
	for _, c := range candidates {
		alive[c.worker] = true
		workers[c.worker] = m.joins[c.worker].Instance
	}
	for worker := range workers {
		if shares[worker] == nil {
			shares[worker] = &share{}
		}
	}
	// First who loses what: everybody who is given something has to know.
	left, fresh := d.losses(shares, workers)
	waits := newWaits(left, func(i Instance) bool { return alive[i.Worker] && workers[i.Worker] == i })
	for _, worker := range sorted(workers) {
		a, s := m.assignments[worker], shares[worker]
		if len(s.units) == 0 && !alive[worker] {
			if len(left[worker]) == 0 {
				d.records = append(d.records, split(Assignment{Instance: Instance{Worker: worker}}, a.records(), m.maxRecord)...)
				continue
			}
			m.checkIn(time.Second) // its key can go once nobody has to wait for it
		}
		same := a != nil && a.Instance == workers[worker]
		if !fresh[worker] && (s.kept == len(s.units) && same || len(s.units) == 0) {
			continue
		}
		next := make(map[Unit]*entry, len(s.units))
		for _, u := range s.units {
			if same && a.units[u] != nil && !d.anew[u] {
				next[u] = m.pending(a.units[u])
				continue
			}
			next[u] = &entry{gen: version, after: waits.of(u)}
		}
		d.records = append(d.records, split(Assignment{
			Epoch: m.leader.Epoch, Version: version, Instance: workers[worker], Runs: groupRuns(next), Left: left[worker],
		}, a.records(), m.maxRecord)...)
	}
}

// pending returns an entry without the waits that are over: nobody has to be told of them again.
func (m *Machine) pending(e *entry) *entry {
	over := func(w Wait) bool { return m.over(w, e.readAt) }
	if !slices.ContainsFunc(e.after, over) {
		return e
	}
	return &entry{gen: e.gen, after: slices.DeleteFunc(slices.Clone(e.after), over)}
}

// losses lists what workers have lost, now or before, and may still be running, and which of them lose something now.
func (d *draft) losses(shares map[string]*share, workers map[string]Instance) (left map[string][]Left, fresh map[string]bool) {
	m, version := d.m, d.m.version+1
	left, fresh = map[string][]Left{}, map[string]bool{}
	for worker, a := range m.assignments {
		for _, l := range a.Left {
			if !m.over(l.Wait, m.readTime(l.Version)) {
				left[worker] = append(left[worker], l)
			}
		}
		gone := workers[worker] != a.Instance
		if !gone && shares[worker].kept == len(a.units) {
			continue
		}
		stay := make(map[Unit]bool, len(shares[worker].units))
		for _, u := range shares[worker].units {
			stay[u] = !gone && !d.anew[u]
		}
		var lost []Unit
		for u := range a.units {
			if !stay[u] {
				lost = append(lost, u)
			}
		}
		if len(lost) > 0 {
			fresh[worker] = true
			left[worker] = append(left[worker], Left{Wait{a.Instance, version}, packUnits(lost)})
		}
	}
	return left, fresh
}

// readTime returns when this worker read an assignment version, or a later time.
func (m *Machine) readTime(version int64) time.Duration {
	if at, ok := m.readAt[version]; ok {
		return at
	}
	return m.loadedAt
}

func mapKeys[V any](m map[Unit]V) func(yield func(Unit) bool) { return maps.Keys(m) }
