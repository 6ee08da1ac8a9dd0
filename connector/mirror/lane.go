package mirror

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// lane is what a task knows of one of its partitions, through all sessions.
type lane struct {
	partition
	target string // topic on the target
	// transform is what its records go through; nil: nothing, and they may be copied undecoded.
	transform func(*rawcopy.Record) (bool, error)
	stats     *laneStats
	flushed   atomic.Int64 // next offset as the books have it; 0 before the first
	saved     atomic.Int64 // next offset as the worker's topic has it; 0: not known
	// booked is saved as the books have it, written at bookedAt. Both are guarded by the session.
	booked   int64
	bookedAt time.Time

	mu       sync.Mutex
	next     int64 // everything before it is copied; -1 before the first session
	state    rawcopy.LaneState
	observes bool // state is of this session
	end      int64
	base     [2]int64 // records and bytes of former sessions
	note     string
	stopped  error
	waits    error // why it is not copied for the time being
	gaps     []connector.Gap
	entries  int // of the ledger, that stand in the books
}

func newLane(p partition, target string) *lane {
	return &lane{partition: p, target: target, next: -1, end: -1, stats: &laneStats{target: target, id: strconv.Itoa(int(p.id))}}
}

// began notes where a session goes on.
func (l *lane) began(next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base[0] += l.state.Records
	l.base[1] += l.state.Bytes
	l.next, l.stopped, l.waits, l.observes, l.state = next, nil, nil, false, rawcopy.LaneState{}
	l.flushed.Store(0)
}

// observed takes what the flow says.
func (l *lane) observed(s *rawcopy.LaneState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.observed(s.Records-l.state.Records, s.Bytes-l.state.Bytes, s.Age, s.Latency)
	l.state, l.observes, l.next = *s, true, s.Copied
	l.state.Runs = nil
	if s.End >= 0 {
		l.end = s.End
	}
}

func (l *lane) copied() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

func (l *lane) setEnd(end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = end
}

func (l *lane) noted(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note = text
}

// stop notes that the partition will not go on by itself.
func (l *lane) stop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = err
}

// wait notes that the partition goes on once what is in the way is gone.
func (l *lane) wait(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = why
}

// ledger takes the gaps that the books have.
func (l *lane) ledger(gaps []offsetrun.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = l.gaps[:0]
	for _, g := range gaps {
		l.gaps = append(l.gaps, connector.Gap{Topic: l.topic, Partition: l.id, From: g.From, To: g.To, Cause: g.Cause, At: g.At})
	}
	l.entries = len(gaps)
}

func (l *lane) addGap(g connector.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, g)
	if n := len(l.gaps) - offsetrun.MaxGaps; n > 0 {
		l.gaps = l.gaps[n:]
	}
}

// ledgerGrown says whether n entries are more than the books have.
func (l *lane) ledgerGrown(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return n != l.entries
}

func (l *lane) ledgerWritten(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = n
}

// savedSince says whether the books are to be told that saved stands in the worker's topic, though nothing else has
// changed. Otherwise an offset that somebody sets there by hand would be taken for one that was saved late.
func (l *lane) savedSince(saved int64) bool {
	return saved != l.booked && time.Since(l.bookedAt) >= time.Second
}

// fate says whether anything was ever copied, and what is in the way.
func (l *lane) fate() (copied bool, trouble error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base[0]+l.state.Records > 0, l.state.Trouble
}
