package rawcopy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Partition names one partition of a topic.
type Partition struct {
	Topic string
	ID    int32
}

// String gives Kafka's spelling (TopicPartition.toString).
func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.ID) }

func (p Partition) compare(o Partition) int {
	if c := strings.Compare(p.Topic, o.Topic); c != 0 {
		return c
	}
	return int(p.ID) - int(o.ID)
}

// Identity is the producer id that everything is written under, and its epoch.
type Identity struct {
	ID    int64
	Epoch int16
}

// FlowOptions are the bounds of a Flow. All are needed.
type FlowOptions struct {
	// FetchBytes and FetchPartitionBytes bound one fetch (fetch.max.bytes,
	// max.partition.fetch.bytes), MinBytes and MaxWait when an idle one is answered (fetch.min.bytes, fetch.max.wait.ms).
	FetchBytes, FetchPartitionBytes int32
	MinBytes                        int32
	MaxWait                         time.Duration
	Rack                            string // client.rack
	ReadCommitted                   bool   // isolation.level
	// RequestBytes bounds a produce request, InFlight how many are on the way to
	// one broker: at most 5, so many batches of a producer does a broker remember.
	RequestBytes int
	InFlight     int
	Timeout      time.Duration // a broker may take so long to acknowledge (request.timeout.ms)
	// TransactionalID is set on produce requests if the producer writes in
	// transactions; nil otherwise.
	TransactionalID *string
	// Explicit says that partitions must be added to a transaction before they
	// are written to (brokers before transaction.version 2).
	Explicit bool
	// StopAtGap: a partition whose records were lost at the source stops
	// (gap.policy=stop) instead of going on behind the gap.
	StopAtGap bool
	// Tolerate: a record that the target refuses is left out and told
	// (errors.tolerance=all) instead of stopping its partition.
	Tolerate bool
	// WaitForBooks: a lane that has left a record out sends nothing more before Noted. Otherwise, after a crash,
	// the target's tail would lack a record that nobody knows to have been left out.
	WaitForBooks bool
	// Jitter returns numbers between 0 and 1.
	Jitter func() float64
}

// LaneConfig is one partition to copy.
type LaneConfig struct {
	Source, Target     Partition
	SourceID, TargetID [16]byte // of the topics; zero if not known
	Start              int64    // the first source offset to copy
	Limits             Limits
	// Transform, if there is one, sees each record before it is encoded, on any goroutine and more than once. keep says
	// whether the record is copied. It must depend on the record alone. Set Limits.Transform, too.
	Transform func(*Record) (keep bool, err error)
	// Codec is that of re-encoded batches; -1: that of the source's batch.
	Codec int8
}

// Flow copies record batches from fetch to produce. It is a pure state machine:
// what happens comes in through its methods, with the time; what is to be done
// stands in Ready. It is not safe for concurrent use.
//
// Each partition has a lane: a queue in source order. A lane's batches go to one
// target broker, one batch of a lane in one request. A lane that meets an error sends
// nothing more until the fate of all that it has on the way is known, and then
// sends the same batches with the same sequence numbers again, so that the broker
// recognises what it has.
type Flow struct {
	o          FlowOptions
	identity   Identity
	now        time.Time
	lanes      []*lane // in the order of source partitions
	side       []*lane // what Enqueue writes to; they have no source
	bySource   map[Partition]*lane
	bySourceID map[idPartition]*lane
	byTarget   map[Partition]*lane
	byTopic    map[idPartition]*lane // the same by topic id
	fetchers   map[int32]*fetcher
	links      map[int32]*link
	held       int64 // bytes of responses that are pinned or asked for
	allowed    int64 // bytes that may be held
	hold       bool  // no data is sent: a transaction ends
	stopping   bool
	waiting    int // lanes that wait for a time
	out        Ready
	spare      []*item

	sequences map[Partition]sequence // of target partitions that were removed
}

// sequence is the next sequence number under an identity.
type sequence struct {
	of   Identity
	next int32
}

type idPartition struct {
	topic [16]byte
	id    int32
}

// Ready is what is to be done, in this order. Each part is handed out once.
type Ready struct {
	Fetch          []*Fetch
	Send           []*Send
	Decode         []*Job
	AddPartitions  []Partition // to the transaction; answer with PartitionsAdded
	Ranges         []Partition // of the source: look up first and end offset; answer with Ranged
	SourceMetadata bool        // answer with SourceLeaders
	TargetMetadata bool        // answer with TargetLeaders
	Events         []Event
	// Wake is when Tick is to be called at the latest; zero: not by time.
	Wake time.Time
	// Starved says that a fetch waits for memory: call Allow again soon.
	Starved bool
	// Err ends the flow: see ErrFenced and ErrRestart.
	Err error
}

// Errors that end a flow.
var (
	// ErrFenced says that another producer has taken over the transactional id.
	ErrFenced = errors.New("fenced: another owner writes here now")
	// ErrRestart says that the target does not know the producer's state any
	// more. A new flow has to find out how far the target is, and go on there.
	ErrRestart = errors.New("the target has lost the producer's state")
	// ErrNotWritable says that what Enqueue brought will not be taken.
	ErrNotWritable = errors.New("the target does not take what is kept there besides the copy")
	// ErrFetch is the trouble of a lane that cannot be fetched.
	ErrFetch = errors.New("fetch from the source")
)

// EventKind says what an Event tells.
type EventKind uint8

// The kinds of events.
const (
	// Gap: source offsets From to before To are lost to the copy.
	Gap EventKind = iota
	// Refused: the target does not take the record at From (or, if it cannot be
	// read, all before To); it was left out.
	Refused
	// Parked: the lane has stopped for good at From.
	Parked
	// Acknowledged: what was given to Enqueue with this Token is written.
	Acknowledged
	// Troubled: the lane waits and tries again.
	Troubled
	// Recovered: it goes on.
	Recovered
)

// Event is something to be told.
type Event struct {
	Kind             EventKind
	Source           Partition
	From, To         int64
	Cause            string
	Err              error
	Token            int64
	Target           Partition
	TargetRecreated  bool
	SourceRecreated  bool
	Records, Skipped int64
}

// NewFlow returns a flow without lanes.
func NewFlow(o FlowOptions) *Flow {
	return &Flow{
		o: o, bySource: map[Partition]*lane{}, bySourceID: map[idPartition]*lane{}, byTarget: map[Partition]*lane{}, byTopic: map[idPartition]*lane{}, identity: Identity{ID: -1, Epoch: -1}, sequences: map[Partition]sequence{},
		fetchers: map[int32]*fetcher{}, links: map[int32]*link{}, allowed: int64(o.FetchBytes),
	}
}

// Begin sets the producer's identity. Nothing is sent before.
func (f *Flow) Begin(id Identity) { f.identity = id }

// Add begins to copy a partition. Its leaders come with SourceLeaders and
// TargetLeaders.
func (f *Flow) Add(c LaneConfig) {
	l := newLane(c)
	if s, ok := f.sequences[c.Target]; ok && s.of == f.identity { // it was copied before
		l.sequence = s.next
	}
	if f.o.ReadCommitted {
		l.aborter = &Aborter{}
	}
	at, _ := slices.BinarySearchFunc(f.lanes, c.Source, func(l *lane, p Partition) int { return l.Source.compare(p) })
	f.lanes = slices.Insert(f.lanes, at, l)
	f.bySource[c.Source] = l
	f.index(l)
	f.out.SourceMetadata, f.out.TargetMetadata = true, true
}

func (f *Flow) index(l *lane) {
	f.byTarget[l.Target] = l
	if l.TargetID != [16]byte{} {
		f.byTopic[idPartition{l.TargetID, l.Target.ID}] = l
	}
}

// Remove stops copying a partition once what is on the way is acknowledged.
func (f *Flow) Remove(source Partition) {
	if l := f.bySource[source]; l != nil {
		l.removed = true
		f.windUp(l)
		f.reap(l)
	}
}

// reap forgets a removed lane that has nothing on the way.
func (f *Flow) reap(l *lane) {
	if !l.removed || len(l.flying) > 0 || len(l.queue) > 0 {
		return
	}
	f.leaveFetcher(l)
	f.sequences[l.Target] = sequence{f.identity, l.sequence}
	delete(f.bySource, l.Source)
	delete(f.bySourceID, idPartition{l.SourceID, l.Source.ID})
	delete(f.byTarget, l.Target)
	delete(f.byTopic, idPartition{l.TargetID, l.Target.ID})
	f.lanes = slices.DeleteFunc(f.lanes, func(o *lane) bool { return o == l })
}

// Allow sets how many bytes may be held from fetch to acknowledgement.
func (f *Flow) Allow(bytes int64) { f.allowed = bytes }

// Held returns how many are.
func (f *Flow) Held() int64 { return f.held }

// Hold stops the sending of data, so that a transaction can end; what Enqueue
// brings is still sent. Settled says when the fate of all that was sent is known.
func (f *Flow) Hold() { f.hold = true }

// Resume goes on sending, in the next transaction. The epoch may have been
// raised by the end of the last one: then sequence numbers begin at 0.
func (f *Flow) Resume(id Identity) {
	bumped := id != f.identity
	f.identity, f.hold = id, false
	f.each(func(l *lane) {
		l.added = false
		if bumped {
			l.renumber(0)
			l.established = false
		}
		f.ready(l)
	})
}

// Settled says that everything that was ever sent is acknowledged or known not
// to be there.
func (f *Flow) Settled() bool {
	settled := true
	f.each(func(l *lane) { settled = settled && l.settled() })
	return settled
}

// Noted says that it is written down what was left out of partitions so far
// (Refused): they go on.
func (f *Flow) Noted(sources []Partition) {
	for _, p := range sources {
		if l := f.bySource[p]; l != nil {
			l.untold = false
			f.ready(l)
		}
	}
}

// Stop ends fetching and drops what was never sent.
func (f *Flow) Stop() {
	f.stopping = true
	for _, l := range f.lanes {
		f.windUp(l)
	}
}

// windUp drops what is queued, apart from what may stand in the target already:
// that is sent again until its fate is known.
func (f *Flow) windUp(l *lane) {
	keep := 0
	for keep < len(l.queue) && l.queue[keep].appended {
		keep++
	}
	for i, it := range l.queue[keep:] {
		if i == 0 && it.seq >= 0 {
			l.sequence = it.seq
		}
		l.queued -= it.size()
		f.release(it)
	}
	clear(l.queue[keep:])
	l.queue = l.queue[:keep]
}

func (f *Flow) each(do func(*lane)) {
	for _, l := range f.lanes {
		do(l)
	}
	for _, l := range f.side {
		do(l)
	}
}

// Enqueue writes a batch of the flow's owner to target, under the same producer
// id. An event with token tells when it is acknowledged.
func (f *Flow) Enqueue(target Partition, topic [16]byte, batch Batch, token int64) {
	l := f.byTarget[target]
	if l == nil {
		l = newLane(LaneConfig{Target: target, TargetID: topic})
		l.internal = true
		f.side = append(f.side, l)
		f.index(l)
		f.out.TargetMetadata = true
	}
	it := f.item()
	it.batch, it.count, it.token, it.decoded = batch, batch.Count(), token, true
	l.push(it)
	f.ready(l)
}

// Ready returns what is to be done since the last call. now is the time of the
// call; limits that only time lifts are looked at.
func (f *Flow) Ready(now time.Time) Ready {
	f.now = now
	f.wake()
	for _, k := range f.links {
		f.pump(k)
	}
	if !f.stopping {
		f.fetch()
	}
	f.nextWake()
	out := f.out
	f.out = Ready{}
	return out
}

// wake brings back lanes whose back-off is over.
func (f *Flow) wake() {
	if f.waiting == 0 {
		return
	}
	f.waiting = 0
	f.each(func(l *lane) {
		if !l.until.IsZero() && !f.now.Before(l.until) {
			l.until = time.Time{}
			f.ready(l)
		}
		if !l.fetchUntil.IsZero() && !f.now.Before(l.fetchUntil) {
			l.fetchUntil = time.Time{}
		}
		if !l.until.IsZero() || !l.fetchUntil.IsZero() {
			f.waiting++
		}
	})
}

func (f *Flow) nextWake() {
	at := func(t time.Time) {
		if !t.IsZero() && t.After(f.now) && (f.out.Wake.IsZero() || t.Before(f.out.Wake)) {
			f.out.Wake = t
		}
	}
	if f.waiting > 0 {
		f.each(func(l *lane) { at(l.until); at(l.fetchUntil) })
	}
	for _, fe := range f.fetchers {
		at(fe.until)
	}
	for _, k := range f.links {
		at(k.until)
	}
}

func (f *Flow) emit(e Event) { f.out.Events = append(f.out.Events, e) }

// fail ends the flow.
func (f *Flow) fail(err error) {
	if f.out.Err == nil {
		f.out.Err = err
	}
}

// backoff doubles from 50 ms to 5 s, with a jitter so that not all come back
// at once.
func (f *Flow) backoff(failures int) time.Time {
	d := 50 * time.Millisecond
	for range min(failures-1, 10) {
		d = min(2*d, 5*time.Second)
	}
	return f.now.Add(time.Duration(float64(d) * (0.8 + 0.4*f.o.Jitter())))
}

func (f *Flow) item() *item {
	if n := len(f.spare); n > 0 {
		it := f.spare[n-1]
		f.spare = f.spare[:n-1]
		*it = item{seq: -1}
		return it
	}
	return &item{seq: -1}
}

// release gives up an item and its hold on a response.
func (f *Flow) release(it *item) {
	if it.job != nil {
		for _, p := range it.job.pins {
			f.unpin(p)
		}
		it.job.abandoned = true
	}
	f.unpin(it.pin)
	*it = item{}
	if len(f.spare) < 4096 {
		f.spare = append(f.spare, it)
	}
}

// pin keeps count of who holds on to a response: its memory is free when
// nobody does.
type pin struct {
	bytes int64
	refs  int
}

func (f *Flow) unpin(p *pin) {
	if p == nil {
		return
	}
	if p.refs--; p.refs == 0 {
		f.held -= p.bytes
	}
}
