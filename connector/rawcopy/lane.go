package rawcopy

import (
	"slices"
	"time"
)

// lane carries one partition.
type lane struct {
	LaneConfig
	internal bool
	removed  bool
	parked   bool

	// The source's side.
	leader       int32 // broker to fetch from; -1: not known
	replica      int32 // a follower that the leader prefers for us; -1: none
	replicaUntil time.Time
	leaderEpoch  int32
	lastEpoch    int32 // of the last batch, so that the broker sees a diverged log; -1: none
	fetchAt      int64 // the next offset to ask for
	known        bool  // in the fetch session of session
	session      *fetcher
	asking       *Fetch // that has asked for it
	askedAt      int64
	knownAt      int64
	knownEpoch   int32
	aborter      *Aborter
	fetchUntil   time.Time // not asked for before
	fetchFailed  int
	ranging      bool  // first and end offset are being looked up
	corrupt      int   // times that the batch at corruptAt was found damaged
	corruptAt    int64 //
	first        int64 // log start offset, -1 while unknown
	end          int64 // high watermark, or last stable offset; -1 while unknown

	// The queue between the two.
	queue    []*item
	queued   int64 // bytes
	decoding int   // jobs on the way

	// The target's side.
	broker, next int32 // leader to send to, and the one to move to when nothing is on the way; -1: not known
	flying       []*item
	sequence     int32 // of the next batch
	inReady      bool  // stands in its link's list
	failing      bool  // waits for the fate of what is flying
	untold       bool  // a record was left out, and the books do not know it
	// established: the broker has a batch of the producer, and of its epoch. One that has none takes a second
	// batch though it has not taken the first, so that nothing may follow before; and one that cannot begin the next
	// transaction yet would refuse all that follows, too.
	established bool
	ackedAt     time.Time
	added       bool // to the transaction
	adding      bool
	failures    int
	concurrent  int       // times that the transaction could not begin yet
	until       time.Time // not sent before
	trouble     error

	// What came of it.
	copied      int64 // everything before it is acknowledged or not to be copied
	runs        []Run
	targetEnd   int64 // behind the last batch of ours; -1: not known
	foreign     int64 // target offsets that somebody else has written
	records     int64
	bytes       int64
	decisions   [Reasons]int64 // batches, by reason; raw ones under none
	age         Spread
	latency     Spread
	lastStamp   int64 // greatest timestamp copied, ms
	lastReason  Reason
	refused     int64
	cameBack    int64 // records that were left out because of their mark
	bytesPerRec float64
}

// Skips says whether batches with this reason are left out.
func (r Reason) Skips() bool { return r >= reasonControl && r <= reasonBeforeStart }

// Run says that Count source offsets from Source on stand at as many target
// offsets from Target on.
type Run struct{ Source, Target, Count int64 }

// Spread sums up times in milliseconds.
type Spread struct {
	Count               int64
	Sum, Min, Max, Last float64
	Buckets             [len(SpreadBounds) + 1]int64 // how many were at most as long as the bound; the last: longer
}

// SpreadBounds are the bounds of a Spread's buckets, in milliseconds.
var SpreadBounds = [...]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000}

func (s *Spread) add(v float64) {
	if s.Count == 0 {
		s.Min, s.Max = v, v
	}
	s.Min, s.Max, s.Last = min(s.Min, v), max(s.Max, v), v
	s.Count++
	s.Sum += v
	at := 0
	for at < len(SpreadBounds) && v > SpreadBounds[at] {
		at++
	}
	s.Buckets[at]++
}

// item is one batch in a lane, or, while job is set, batches that are being
// re-encoded.
type item struct {
	batch    Batch
	first    int64 // source offset of the first record
	upTo     int64 // source offset behind it; what is not copied counts
	count    int32
	seq      int32  // -1: not given yet
	spans    []Span // nil: the source offsets from first on, without a hole
	pin      *pin
	decoded  bool
	single   bool // holds one record because a larger batch was refused
	appended bool // may stand in the target already
	token    int64

	send   *Send // on the way
	done   bool
	code   int16
	err    error
	offset int64 // in the target; -1: not known

	job *Job
}

func (it *item) size() int64 {
	if it.job != nil {
		return it.job.size
	}
	return int64(len(it.batch))
}

func newLane(c LaneConfig) *lane {
	return &lane{
		LaneConfig: c, leader: -1, replica: -1, broker: -1, next: -1, leaderEpoch: -1, lastEpoch: -1, fetchAt: c.Start, corruptAt: -1,
		first: -1, end: -1, copied: c.Start, targetEnd: -1,
	}
}

func (l *lane) push(it *item) {
	l.queue = append(l.queue, it)
	l.queued += it.size()
}

// passed notes that the source's offsets before upTo need no copying, apart
// from those that are queued.
func (l *lane) passed(upTo int64) {
	switch {
	case len(l.queue) > 0:
		last := l.queue[len(l.queue)-1]
		last.upTo = max(last.upTo, upTo)
	case len(l.flying) > 0:
		last := l.flying[len(l.flying)-1]
		last.upTo = max(last.upTo, upTo)
	default:
		l.copied = max(l.copied, upTo)
	}
}

// settled says that the fate of everything sent is known.
func (l *lane) settled() bool {
	return len(l.flying) == 0 && !l.adding && !slices.ContainsFunc(l.queue, func(it *item) bool { return it.appended })
}

// renumber makes the queue begin with sequence number seq: nothing in it stands
// in the target.
func (l *lane) renumber(seq int32) {
	l.sequence = seq
	for _, it := range l.queue {
		it.seq = -1
	}
}

// head returns the batch to be sent next, nil if there is none or it is being
// re-encoded.
func (l *lane) head() *item {
	if len(l.queue) == 0 || l.queue[0].job != nil {
		return nil
	}
	return l.queue[0]
}

// pop takes the head off the queue.
func (l *lane) pop() *item {
	it := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.queued -= it.size()
	return it
}

// dropQueue forgets what is queued and was never sent, and fetches it again
// when there is room.
func (f *Flow) dropQueue(l *lane) {
	keep := 0
	for keep < len(l.queue) && l.queue[keep].seq >= 0 {
		keep++
	}
	if keep == len(l.queue) || l.internal {
		return
	}
	for _, it := range l.queue[keep:] {
		l.queued -= it.size()
		f.release(it)
	}
	clear(l.queue[keep:])
	l.queue = l.queue[:keep]
	f.refetch(l)
}

// refetch goes back to what is behind the last batch that is kept. Aborted
// transactions are told anew by the next fetch.
func (f *Flow) refetch(l *lane) {
	switch {
	case len(l.queue) > 0:
		l.fetchAt = l.queue[len(l.queue)-1].upTo
	case len(l.flying) > 0:
		l.fetchAt = l.flying[len(l.flying)-1].upTo
	default:
		l.fetchAt = l.copied
	}
	l.lastEpoch = -1
	if l.aborter != nil {
		l.aborter = &Aborter{}
	}
	l.known, l.asking = false, nil
}

// park ends the fetching of a lane for good. What is queued was in front of the
// cause and is still sent.
func (f *Flow) park(l *lane, at int64, cause string, err error) {
	if l.parked {
		return
	}
	l.parked, l.trouble = true, err
	f.leaveFetcher(l)
	f.emit(Event{Kind: Parked, Source: l.Source, Target: l.Target, From: at, Cause: cause, Err: err})
}

// troubled notes an error that is going to be retried.
func (f *Flow) troubled(l *lane, err error) {
	if l.trouble == nil {
		f.emit(Event{Kind: Troubled, Source: l.Source, Target: l.Target, From: l.copied, Err: err})
	}
	if !l.parked {
		l.trouble = err
	}
}

func (f *Flow) recovered(l *lane) {
	if l.trouble != nil && !l.parked {
		l.trouble = nil
		f.emit(Event{Kind: Recovered, Source: l.Source, Target: l.Target, From: l.copied})
	}
	l.failures = 0
}

// LaneState is how far a lane is.
type LaneState struct {
	Source, Target     Partition
	SourceID, TargetID [16]byte
	Copied             int64 // every source offset before it is in the target, or not to be copied
	TargetEnd          int64 // the target's offset behind the last batch of ours; -1: none written
	First, End         int64 // of the source; -1: not known
	InFlight           int64 // records
	Queued             int64 // bytes
	Records, Bytes     int64 // acknowledged
	Refused            int64
	Foreign            int64
	CameBack           int64 // records that have been in the target or the source before (Mark)
	Runs               []Run // since the last Snapshot
	Age, Latency       Spread
	LastTimestamp      int64 // ms; -1: none
	Decisions          [Reasons]int64
	Raw                bool
	Reason             Reason // why the last batch was not copied raw
	Parked             bool
	Trouble            error
	BytesPerRecord     float64
}

// Snapshot returns the state of all lanes and begins new runs and spreads.
func (f *Flow) Snapshot() []LaneState {
	all := make([]LaneState, len(f.lanes))
	for i, l := range f.lanes {
		s := LaneState{
			Source: l.Source, Target: l.Target, SourceID: l.SourceID, TargetID: l.TargetID, Copied: l.copied, TargetEnd: l.targetEnd,
			First: l.first, End: l.end, Queued: l.queued, Records: l.records, Bytes: l.bytes, Refused: l.refused, Foreign: l.foreign, CameBack: l.cameBack, Runs: l.runs,
			Age: l.age, Latency: l.latency, LastTimestamp: l.lastStamp, Decisions: l.decisions, Raw: l.lastReason == 0, Reason: l.lastReason,
			Parked: l.parked, Trouble: l.trouble, BytesPerRecord: l.bytesPerRec,
		}
		for _, it := range l.flying {
			s.InFlight += int64(it.count)
		}
		l.runs, l.age, l.latency = nil, Spread{}, Spread{}
		all[i] = s
	}
	return all
}
