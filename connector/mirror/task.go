package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// Bounds of a task's own making.
const (
	// reportInterval is how often progress is shown.
	reportInterval = time.Second
	// lookInterval is how often both clusters are checked to still accept us: the data path alone
	// retries for ever without a word.
	lookInterval = 5 * time.Second
	// requestTimeout bounds one such question.
	requestTimeout = 15 * time.Second
	// saveTimeout bounds the last saving of offsets.
	saveTimeout = 5 * time.Second
	// drainBound is the last resort for what is on the way when a task ends. The engine's own
	// bound, task.shutdown.graceful.timeout.ms, closes the clients before.
	drainBound = time.Minute
	// Sizes of fetches, where the configuration has none. Kafka's default of 50 MiB a broker would exceed
	// the worker's memory bound by itself.
	fetchBytes          = 4 << 20
	fetchPartitionBytes = 1 << 20
	// fetchWait is how long a broker may wait for something to answer with
	// (fetch.max.wait.ms).
	fetchWait = 500 * time.Millisecond
)

// sourceTask copies the partitions in task.assigned.partitions.
type sourceTask struct{}

// Run copies until ctx ends.
func (task *sourceTask) Run(ctx context.Context, tc connector.TaskContext) error {
	s, err := parseSource(tc.Settings)
	if err != nil {
		return err
	}
	partitions, err := parsePartitions(tc.Settings[keyTaskPartitions].Written)
	if err != nil {
		return fmt.Errorf("%s: %w", keyTaskPartitions, err)
	}
	tc.Report = showLoops(tc.Settings[keyLoops].Written, tc.Report)
	t := &copying{
		TaskContext: tc, s: s, committed: readsCommitted(tc.Settings.Written()), warn: newThrottle(time.Minute),
		delivery: tc.Delivery, want: partitions, syncs: newOffsetSyncs(tc, s),
	}
	t.all.Store(&lanes{})
	t.hear(tc.Settings[keyUpstream].Written)
	t.enlarge()
	return t.run(ctx)
}

// copying is one run of a source task.
type copying struct {
	connector.TaskContext
	s              sourceSettings
	committed      bool // isolation.level=read_committed
	source, target *cluster
	warn           *throttle
	mishaps        mishaps
	syncs          *offsetSyncs
	all            atomic.Pointer[lanes]
	want           []partition        // sorted; while a session runs it is its growing's
	delivery       connector.Delivery // how it writes now
	why            string             // it does not write as it was asked to
	upstream       atomic.Pointer[map[string][]offsetrun.Hop]
	mark           *rawcopy.Mark // what it leaves on the records; nil: nothing
	noBooks        error         // why no offset runs can be kept
	explicit       bool          // partitions are added to a transaction one by one (before transaction.version 2)
}

// run opens the clients and copies, in one session after the other: a session
// ends when the target does not know the producer any more.
func (t *copying) run(ctx context.Context) error {
	if err := t.open(ctx); err != nil || ctx.Err() != nil {
		return ignoreEnd(ctx, err)
	}
	metrics := newTaskMetrics(t.Connector, t.Task, t.s, func() []*lane { return t.lanes().order })
	if err := t.Metrics.Register(metrics); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	defer t.Metrics.Unregister(metrics)
	for failures, sessions := 0, 0; ; sessions++ {
		began := time.Now()
		if err := t.heard(); err != nil {
			return err
		}
		t.enlarge()
		err := t.session(ctx, sessions > 0)
		if errors.Is(err, errRefresh) {
			continue
		}
		if errors.Is(err, rawcopy.ErrNotWritable) && t.noBooks == nil && t.Delivery != connector.Transactional {
			t.noBooks = err
			continue
		}
		again := is(err, rawcopy.ErrRestart, rawcopy.ErrFenced) || err != nil && classify(err) == passing
		if ctx.Err() != nil || !again {
			return ignoreEnd(ctx, err)
		}
		if failures++; time.Since(began) > time.Minute {
			failures = 1
		}
		if t.warn.allow("session") {
			t.Log.WarnContext(ctx, "the copying begins anew: it finds out how far the target is", "err", err)
		}
		// A run that was fenced by its successor will hear of it soon.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff(failures, 200*time.Millisecond, longestWait)):
		}
	}
}

// session copies with one producer id from where the target says it is. Before
// it takes a fence again it must be sure that it does not shut out its own successor.
func (t *copying) session(ctx context.Context, again bool) error {
	if again && t.Confirm != nil {
		if err := t.Confirm(ctx); err != nil {
			return err
		}
	}
	s, err := t.newSession(ctx)
	if err != nil {
		return err
	}
	// What runs has an end of its own: when ctx ends, what is on the way is still
	// finished, and told.
	running, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	g, running := errgroup.WithContext(running)
	var ended error // the reason, where others only see that the engine has ended
	g.Go(func() error {
		ended = s.engine.Run(running)
		return ended
	})
	g.Go(func() error {
		err := s.copy(ctx, running)
		if err == nil {
			err = errFinished
		}
		return err
	})
	if err = g.Wait(); errors.Is(err, rawcopy.ErrEnded) && ended != nil {
		err = ended
	} else if errors.Is(err, errFinished) {
		err = nil
	}
	if parked := s.parkedAll(); parked != nil {
		return parked
	}
	if errors.Is(err, rawcopy.ErrNotWritable) {
		s.saveCopied(ctx)
	}
	return err
}

// errFinished ends a session that has done all.
var errFinished = errors.New("finished")

// copy begins, keeps books until ctx ends, and finishes.
func (s *session) copy(ctx, running context.Context) error {
	if err := s.begin(running); err != nil {
		return err
	}
	s.Started()
	s.Log.InfoContext(ctx, "copying", "partitions", len(s.lanes().order), "source", s.s.source, "target", s.s.target, "delivery", string(s.delivery))
	g, working := errgroup.WithContext(running)
	g.Go(func() error { return s.keepRegularly(ctx, working) })
	g.Go(func() error { return s.saveRegularly(ctx, working) })
	g.Go(func() error { return s.report(ctx, working) })
	g.Go(func() error { return s.look(ctx, working) })
	g.Go(func() error { return s.grow(ctx, working) })
	g.Go(func() error { return s.syncs.Run(ctx, working) })
	err := g.Wait()
	if err != nil && !errors.Is(err, errRefresh) && s.parkedAll() == nil {
		return err
	}
	return errors.Join(s.finish(ctx), err)
}

// ignoreEnd drops an error that is only the echo of ctx having ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && classify(err) != identity {
		return nil
	}
	return err
}
