package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lane carries one partition from the source to the target, in order. Records
// are fetched for all lanes together; each lane then sends by itself, so that
// what one target partition refuses or delays does not hold up another.
//
// A lane hands the producer a window and waits until all of it is
// acknowledged. Inside a window the idempotent producer keeps the order.
type lane struct {
	partition
	target   string // topic on the target
	producer producer
	budget   int64 // bytes that may wait before fetching pauses
	limit    int32 // of a batch with one record, before compression
	pause    func(p partition, paused bool)
	stats    *laneStats

	// position is the offset to be fetched next, -1 while unknown. It belongs to
	// the goroutine that polls.
	position int64

	next     atomic.Int64 // everything before it has been acknowledged; -1 before the first
	end      atomic.Int64 // of the partition on the source, -1 while unknown
	inFlight atomic.Int64 // records
	moved    atomic.Int64 // when a record was last handed over or acknowledged, in Unix milliseconds
	parked   atomic.Bool  // it has stopped for good
	note     atomic.Pointer[string]
	trouble  atomic.Pointer[string]

	wake chan struct{} // holds one token when the queue has grown

	mu     sync.Mutex
	queue  []chunk
	queued int64 // bytes in queue
	paused bool
}

// producer is what a lane needs of the target's client and of its task.
type producer interface {
	produce(r *kgo.Record, done func(*kgo.Record, error))
	// failed tells of an error that the lane is going to retry.
	failed(l *lane, at int64, err error)
}

// chunk is what one poll brought of one partition.
type chunk struct {
	records []*kgo.Record
	bytes   int64
	upTo    int64 // the offset behind it; control records count
	leave   func()
}

// window is how many bytes a lane hands to the producer at once, give or take a
// chunk: enough to fill a link of 100 ms and 40 MB/s with one partition.
const window = 4 << 20

// offer queues a chunk. It never blocks.
func (l *lane) offer(c chunk) {
	l.mu.Lock()
	if l.parked.Load() {
		l.mu.Unlock()
		c.leave()
		return
	}
	l.queue = append(l.queue, c)
	l.queued += c.bytes
	pause := !l.paused && l.queued > l.budget
	l.paused = l.paused || pause
	l.mu.Unlock()
	if pause {
		l.pause(l.partition, true)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take waits for the next window. It returns nothing when ctx has ended: what
// has not been sent need not be.
func (l *lane) take(ctx context.Context) []chunk {
	for {
		if ctx.Err() != nil {
			return nil
		}
		l.mu.Lock()
		n, bytes := 0, int64(0)
		for n < len(l.queue) && (n == 0 || bytes+l.queue[n].bytes <= window) {
			bytes += l.queue[n].bytes
			n++
		}
		taken := l.queue[:n:n]
		l.queue = l.queue[n:]
		l.queued -= bytes
		resume := l.paused && l.queued <= l.budget/2
		l.paused = l.paused && !resume
		l.mu.Unlock()
		if resume {
			l.pause(l.partition, false)
		}
		if n > 0 {
			return taken
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		}
	}
}

// drop gives back what is queued.
func (l *lane) drop() {
	l.mu.Lock()
	queue := l.queue
	l.queue, l.queued = nil, 0
	l.mu.Unlock()
	for _, c := range queue {
		c.leave()
	}
}

// run sends until ctx ends or the lane cannot go on. In the first case it
// finishes what it has begun to send, unless that is in trouble.
func (l *lane) run(ctx context.Context) error {
	defer l.drop()
	proven := false
	for {
		chunks := l.take(ctx)
		if len(chunks) == 0 {
			return nil
		}
		err := l.copy(ctx, chunks, &proven)
		for _, c := range chunks {
			c.leave()
		}
		if err != nil {
			return err
		}
	}
}

// copy sends chunks, again and again if need be. When it returns nil all is
// acknowledged, or ctx has ended.
func (l *lane) copy(ctx context.Context, chunks []chunk, proven *bool) error {
	var records []*kgo.Record
	if len(chunks) == 1 {
		records = chunks[0].records
	} else {
		n := 0
		for _, c := range chunks {
			n += len(c.records)
		}
		records = make([]*kgo.Record, 0, n)
		for _, c := range chunks {
			records = append(records, c.records...)
		}
	}
	// The producer overwrites the offsets of records.
	offsets := make([]int64, len(records))
	for i, r := range records {
		offsets[i] = r.Offset
	}
	l.inFlight.Store(int64(len(records)))
	l.moved.Store(time.Now().UnixMilli())

	for failures := 0; len(records) > 0; {
		// The first of all, and the first after a failure, goes alone: it finds out whether the topic is there and may be
		// written, before others could overtake it.
		part := records
		if !*proven {
			part = records[:1]
		}
		n, err := l.send(part, offsets)
		records, offsets = records[n:], offsets[n:]
		l.inFlight.Store(int64(len(records)))
		if err == nil {
			*proven, failures = true, 0
			l.trouble.Store(nil)
			continue
		}
		*proven = false
		switch classify(err) {
		case ended:
			return err
		case identity, fatal:
			return &laneError{l.partition, offsets[0], err}
		case record:
			l.inFlight.Store(0)
			return &parkedError{laneError{l.partition, offsets[0], err}}
		}
		failures++
		text := fmt.Sprintf("offset %d: %v", offsets[0], err)
		l.trouble.Store(&text)
		l.producer.failed(l, offsets[0], err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff(failures, 100*time.Millisecond, 5*time.Second)):
		}
	}
	l.next.Store(chunks[len(chunks)-1].upTo)
	return nil
}

// send produces records and waits until the fate of each is known. It returns
// how many from the start are acknowledged, and the error of the first that is not.
func (l *lane) send(records []*kgo.Record, offsets []int64) (int, error) {
	// A record that is too large is refused by the client at once, while those
	// behind it would go out. So it is not even shown to it.
	var tooLarge error
	for i, r := range records {
		if size := wireSize(r); size > int64(l.limit) {
			records = records[:i]
			tooLarge = fmt.Errorf("%w (a batch of %d bytes; the target takes %d)", kerr.MessageTooLarge, size, l.limit)
			break
		}
	}
	if len(records) == 0 {
		return 0, tooLarge
	}
	d := delivery{lane: l, offsets: offsets, open: len(records), done: make(chan struct{})}
	for i, r := range records {
		// Once one is refused no more are sent: they would overtake it.
		if i > 0 && d.refused.Load() {
			d.settle(len(records)-i, nil)
			break
		}
		r.Topic, r.Partition = l.target, l.id
		l.producer.produce(r, d.acknowledge)
	}
	<-d.done
	l.moved.Store(time.Now().UnixMilli())
	l.stats.acknowledged(records[:d.acked])
	if d.failure != nil {
		return d.acked, d.failure
	}
	return d.acked, tooLarge
}

// delivery waits for the fate of what one send has produced. The client tells
// it in the order of the partition.
type delivery struct {
	lane    *lane
	offsets []int64
	refused atomic.Bool
	done    chan struct{}

	mu      sync.Mutex
	open    int // records whose fate is not known
	acked   int // acknowledged ones before the first failure
	failure error
}

// acknowledge is the producer's callback.
func (d *delivery) acknowledge(_ *kgo.Record, err error) {
	if err == nil && !d.refused.Load() {
		d.lane.next.Store(d.offsets[d.acked] + 1)
		d.acked++
	}
	d.settle(1, err)
}

// settle counts n records whose fate is known.
func (d *delivery) settle(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.failure == nil {
		d.failure = err
		d.refused.Store(true)
	}
	if d.open -= n; d.open == 0 {
		close(d.done)
	}
}

// wireSize is the size of a produced batch that holds r alone, uncompressed.
func wireSize(r *kgo.Record) int64 {
	const batch = 4 + 61 // length of the batch, and its header
	n := int64(3)        // attributes, timestamp delta and offset delta, both 0
	n += bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintSize(int64(len(h.Key))) + int64(len(h.Key)) + bytesSize(h.Value)
	}
	return batch + varintSize(n) + n
}

func bytesSize(b []byte) int64 {
	if b == nil {
		return 1 // a length of -1
	}
	return varintSize(int64(len(b))) + int64(len(b))
}

// varintSize is the length of n as a zigzag varint.
func varintSize(n int64) int64 {
	size := int64(1)
	for u := uint64(n<<1) ^ uint64(n>>63); u >= 0x80; u >>= 7 {
		size++
	}
	return size
}

// laneError says where the copying of a partition stopped.
type laneError struct {
	partition
	offset int64
	err    error
}

func (e *laneError) Error() string {
	return fmt.Sprintf("record %s@%d: %v", e.partition, e.offset, e.err)
}

// Unwrap returns the client's error.
func (e *laneError) Unwrap() error { return e.err }

// parkedError stops one lane while the others of its task go on.
type parkedError struct{ laneError }
