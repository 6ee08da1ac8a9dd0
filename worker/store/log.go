package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Why a log cannot be followed any further: what was applied from it may no longer be what it
// says. The reader has to start again from nothing.
var (
	// ErrRecreated says that the topic was deleted and made anew.
	ErrRecreated = errors.New("the topic was recreated")
	// ErrTruncated says that records that had been read are gone from the end of
	// the log (an unclean leader election).
	ErrTruncated = errors.New("the log lost records that had been read")
	// ErrOverrun says that records were deleted from the beginning of the log
	// before they had been read (kafka-delete-records, or a wrong cleanup.policy).
	ErrOverrun = errors.New("the log lost records before they were read")
)

// LogOptions says what a Log reads and whom it tells. All callbacks come from one goroutine; reading
// waits for them, so they must not block for long, and must not call ReadToEnd.
type LogOptions struct {
	Client []kgo.Opt // brokers and security
	Topic  string
	// ReadCommitted leaves out aborted records and stops before the first open
	// transaction.
	ReadCommitted bool
	// Apply takes every record, in order per partition, and the end of every
	// transaction as a marker.
	Apply func(Record)
	// CaughtUp says that everything that could be read from the log at sentAt (which has a monotonic
	// reading) has been applied. It is called at least once, when the log has been read for the first
	// time, and not while the brokers do not answer. May be nil.
	CaughtUp func(sentAt time.Time)
	// Trouble is called with what keeps the log from being read, whenever that changes, and with nil
	// when it is over. The log goes on trying by itself. May be nil.
	Trouble func(error)
	// Interval is how often to ask for the end of the log. Default 500 ms; negative:
	// only until the log has been read for the first time, and for ReadToEnd.
	Interval time.Duration
	// RequestTimeout bounds a question to a broker. Default 2 s; less than half a lease, so that one
	// dead connection does not cost it.
	RequestTimeout time.Duration
}

// Log reads a topic from its beginning and follows it.
//
// It sends its own fetches instead of using kgo's consumer: that one does not tell its position behind
// aborted records and markers, and "caught up" cannot be told without. Every fetch names the topic by
// its id, the leader's epoch and the epoch of the last batch read, so that a recreated or truncated log
// cannot pass for the one that was read.
type Log struct {
	options LogOptions
	asks    chan *waiter
	ended   chan struct{}

	// Everything below belongs to the goroutine of Run.
	client   *kgo.Client
	answers  chan func() error // from requests under way
	requests sync.WaitGroup

	topicID  [16]byte
	parts    []*partition // by number
	fetchers map[int32]*fetcher
	describe describer
	ends     ends

	decompressor kgo.Decompressor

	trouble map[string]error // by what it is about
	shown   string           // the trouble that was last reported
}

// waiter is a call of ReadToEnd.
type waiter struct {
	ctx  context.Context
	done chan struct{}
}

// NewLog returns a log that is read once Run is called.
func NewLog(o LogOptions) *Log {
	if o.Interval == 0 {
		o.Interval = 500 * time.Millisecond
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 2 * time.Second
	}
	return &Log{
		options: o, asks: make(chan *waiter), ended: make(chan struct{}),
		answers: make(chan func() error), fetchers: map[int32]*fetcher{},
		describe: describer{stale: true}, decompressor: kgo.DefaultDecompressor(), trouble: map[string]error{},
	}
}

// Run reads the log until ctx ends; it is called once. It returns nil when ctx ended it, and otherwise why
// the log cannot be followed: ErrRecreated, ErrTruncated, ErrOverrun. All else is tried again, with growing pauses.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.ended)
	// A connection that does not answer is given up as fast as a request, so that the
	// next one gets a new connection.
	client, err := kgo.NewClient(append(slices.Clone(l.options.Client), kgo.RequestTimeoutOverhead(l.options.RequestTimeout))...)
	if err != nil {
		return fmt.Errorf("log of %s: %w", l.options.Topic, err)
	}
	l.client = client
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer l.requests.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := l.startDue(ctx, time.Now())
		l.report()
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case answer := <-l.answers:
			if err := answer(); err != nil {
				return fmt.Errorf("log of %s: %w", l.options.Topic, err)
			}
			l.reach()
		case w := <-l.asks:
			l.ends.joining = append(l.ends.joining, w)
		case <-timer.C:
		}
	}
}

// ReadToEnd returns nil when everything that was acknowledged to any writer before the call has been
// applied: it waits for transactions that are still open. Run must be running.
func (l *Log) ReadToEnd(ctx context.Context) error {
	w := &waiter{ctx: ctx, done: make(chan struct{})}
	select {
	case l.asks <- w:
	case <-l.ended:
		return fmt.Errorf("read %s to its end: the log is no longer read", l.options.Topic)
	case <-ctx.Done():
		return fmt.Errorf("read %s to its end: %w", l.options.Topic, ctx.Err())
	}
	select {
	case <-w.done:
		return nil
	case <-l.ended:
		return fmt.Errorf("read %s to its end: the log is no longer read", l.options.Topic)
	case <-ctx.Done():
		return fmt.Errorf("read %s to its end: %w", l.options.Topic, ctx.Err())
	}
}

// idle is how long the loop sleeps when nothing is due.
const idle = time.Minute

// startDue starts every request whose time has come, and returns when to look
// again.
func (l *Log) startDue(ctx context.Context, now time.Time) time.Time {
	next := now.Add(idle)
	for _, due := range []time.Time{l.startDescribe(ctx, now), l.startFetches(ctx, now), l.startRounds(ctx, now)} {
		if !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	return next
}

// send runs ask in a goroutine of its own, bounded by timeout, and gives what it returns to the loop.
func (l *Log) send(ctx context.Context, timeout time.Duration, ask func(context.Context) func() error) {
	l.requests.Go(func() {
		asking, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		answer := ask(asking)
		select {
		case l.answers <- answer:
		case <-ctx.Done():
		}
	})
}

// report tells the trouble if it has changed.
func (l *Log) report() {
	var all []error
	for _, about := range slices.Sorted(maps.Keys(l.trouble)) {
		all = append(all, fmt.Errorf("%s: %w", about, l.trouble[about]))
	}
	err := errors.Join(all...)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == l.shown {
		return
	}
	l.shown = text
	if l.options.Trouble != nil {
		l.options.Trouble(err)
	}
}
