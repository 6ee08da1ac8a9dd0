package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/connector"
)

// Bounds of a task's own making.
const (
	// reportInterval is how often progress is shown.
	reportInterval = time.Second
	// lookInterval is how often the ends of the source's partitions are asked for, and both clusters
	// are checked to still accept us: the data path alone retries for ever without a word.
	lookInterval = 5 * time.Second
	// requestTimeout bounds one such question.
	requestTimeout = 15 * time.Second
	// saveTimeout bounds the last saving of offsets.
	saveTimeout = 5 * time.Second
	// flushBound is the last resort for a flush that does not end. The engine's
	// own bound, task.shutdown.graceful.timeout.ms, closes the clients before.
	flushBound = time.Minute
	// queueBytes is shared by the lanes of a task for what waits to be sent.
	queueBytes = 32 << 20
	leastQueue = 256 << 10 // of one lane
	// Sizes of fetches, where the configuration has none. Kafka's default of 50 MiB a broker would exceed
	// the worker's memory bound by itself.
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 2 << 20
)

// sourceTask copies the partitions in task.assigned.partitions.
type sourceTask struct {
	queue int64 // instead of queueBytes, in tests
}

// Run copies until ctx ends.
func (task *sourceTask) Run(ctx context.Context, tc connector.TaskContext) error {
	s, err := parseSource(tc.Settings)
	if err != nil {
		return err
	}
	var partitions []partition
	for text := range strings.SplitSeq(tc.Settings[keyTaskPartitions].Written, ",") {
		p, err := parsePartition(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("%s: %w", keyTaskPartitions, err)
		}
		partitions = append(partitions, p)
	}
	t := &copying{
		TaskContext: tc, s: s, committed: readsCommitted(tc.Settings.Written()), warn: newThrottle(time.Minute),
		lanes: map[partition]*lane{}, saved: map[partition]int64{}, purged: map[string]time.Time{},
	}
	slices.SortFunc(partitions, partition.compare)
	partitions = slices.Compact(partitions)
	budget := cmp.Or(task.queue, max(queueBytes, int64(len(partitions))*leastQueue)) / int64(len(partitions))
	for _, p := range partitions {
		t.addLane(p, budget)
	}
	return t.run(ctx)
}

// copying is one run of a source task.
type copying struct {
	connector.TaskContext
	s              sourceSettings
	committed      bool // isolation.level=read_committed
	source, target *cluster
	warn           *throttle
	lanes          map[partition]*lane
	order          []*lane
	saved          map[partition]int64 // next offset as it was last saved; only save uses it

	mu     sync.Mutex
	purged map[string]time.Time // topics of the target that the producer was made to forget
}

func (t *copying) addLane(p partition, budget int64) {
	remote := t.s.policy.FormatRemoteTopic(t.s.source, p.topic)
	l := &lane{
		partition: p, target: remote, producer: t, budget: budget, limit: math.MaxInt32,
		pause: t.pauseFetching, stats: &laneStats{target: remote, id: strconv.Itoa(int(p.id))}, wake: make(chan struct{}, 1),
	}
	l.next.Store(-1)
	l.end.Store(-1)
	t.lanes[p] = l
	t.order = append(t.order, l)
}

// run opens the clients, finds out where to begin, and copies.
func (t *copying) run(ctx context.Context) error {
	starts, err := t.open(ctx)
	if err != nil || ctx.Err() != nil {
		return ignoreEnd(ctx, err)
	}
	metrics := newTaskMetrics(t.Connector, t.Task, t.s, t.order)
	if err := t.Metrics.Register(metrics); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	defer t.Metrics.Unregister(metrics)
	t.source.client.AddConsumePartitions(starts)
	t.Started()
	t.Log.InfoContext(ctx, "copying", "partitions", len(t.order), "source", t.s.source, "target", t.s.target)

	g, working := errgroup.WithContext(ctx)
	g.Go(func() error { return t.poll(working) })
	g.Go(func() error { return t.carry(working) })
	g.Go(func() error { return t.saveRegularly(working) })
	g.Go(func() error { return t.report(working) })
	g.Go(func() error { return t.look(working) })
	err = g.Wait()

	unfinished := int64(0)
	for _, l := range t.order {
		unfinished += l.inFlight.Load()
	}
	if unfinished > 0 {
		t.Log.WarnContext(ctx, "stopped with records on the way: they may be copied again", "records", unfinished)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if saveErr := t.save(last); saveErr != nil {
		t.Log.WarnContext(ctx, "last offsets are not saved: records since then will be copied again", "err", saveErr)
	}
	return ignoreEnd(ctx, err)
}

// ignoreEnd drops an error that is only the echo of ctx having ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && classify(err) != identity {
		return nil
	}
	return err
}

// poll fetches for all lanes. The gate bounds what the worker's tasks hold.
func (t *copying) poll(ctx context.Context) error {
	for ctx.Err() == nil {
		fetches := t.source.client.PollFetches(ctx)
		if fetches.IsClientClosed() {
			return kgo.ErrClientClosed
		}
		now := time.Now()
		for _, f := range fetches {
			for i := range f.Topics {
				for j := range f.Topics[i].Partitions {
					if err := t.fetched(ctx, f.Topics[i].Topic, &f.Topics[i].Partitions[j], now); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// fetched passes on what was fetched of one partition.
func (t *copying) fetched(ctx context.Context, topic string, f *kgo.FetchPartition, now time.Time) error {
	l := t.lanes[partition{topic, f.Partition}]
	if f.Err != nil {
		if err := t.fetchFailed(ctx, l, topic, f); err != nil {
			return err
		}
	}
	if l == nil || len(f.Records) == 0 {
		return nil
	}
	l.end.Store(f.HighWatermark)
	if t.committed {
		l.end.Store(f.LastStableOffset)
	}
	if l.position >= 0 && f.LogStartOffset > l.position && f.Records[0].Offset >= f.LogStartOffset {
		t.lost(ctx, l, l.position, f.LogStartOffset, "they were deleted at the source before they were copied")
	}
	c := chunk{records: f.Records, upTo: f.Records[len(f.Records)-1].Offset + 1}
	if slices.ContainsFunc(f.Records, isControl) {
		c.records = slices.DeleteFunc(f.Records, isControl)
	}
	for _, r := range c.records {
		c.bytes += recordMemory + int64(len(r.Key)+len(r.Value))
		for _, h := range r.Headers {
			c.bytes += int64(len(h.Key) + len(h.Value))
		}
	}
	l.stats.fetched(c.records, now)
	leave, err := t.Gate.Enter(ctx, c.bytes)
	if err != nil {
		return nil // ctx has ended
	}
	c.leave = leave
	l.position = c.upTo
	l.offer(c)
	return nil
}

// recordMemory is what a record costs besides its own bytes.
const recordMemory = 200

func isControl(r *kgo.Record) bool { return r.Attrs.IsControl() }

// fetchFailed judges an error of fetching; l is nil if it is not about one of our
// partitions. The client retries most errors by itself and does not show
// them; after what it shows it may have given the partition up.
func (t *copying) fetchFailed(ctx context.Context, l *lane, topic string, f *kgo.FetchPartition) error {
	var loss *kgo.ErrDataLoss
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.As(f.Err, &loss):
		if l != nil {
			t.lost(ctx, l, loss.ResetTo, loss.ConsumedTo, "the source lost or replaced them; what is there now is copied again")
		}
		return nil
	case errors.Is(f.Err, kerr.OffsetOutOfRange):
		return fmt.Errorf("%s-%d: offset %d is not in the source and auto.offset.reset is none: %w", topic, f.Partition, position(l), f.Err)
	}
	switch classify(f.Err) {
	case identity:
		return t.source.wrong("fetch "+topic, f.Err)
	case ended:
		return nil
	}
	if t.warn.allow("fetch") {
		t.Log.WarnContext(ctx, "fetching is in trouble", "topic", topic, "partition", f.Partition, "err", f.Err)
	}
	if l == nil {
		return nil
	}
	text := "fetch: " + f.Err.Error()
	l.trouble.Store(&text)
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(100 * time.Millisecond): // one partition's errors must not become a busy loop
	}
	if at := position(l); at >= 0 {
		which := map[string][]int32{topic: {f.Partition}}
		t.source.client.RemoveConsumePartitions(which)
		t.source.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {f.Partition: kgo.NewOffset().At(at)}})
	}
	return nil
}

func position(l *lane) int64 {
	if l == nil {
		return -1
	}
	return l.position
}

// lost tells of records that the target will not have, or not have once.
func (t *copying) lost(ctx context.Context, l *lane, from, to int64, why string) {
	text := fmt.Sprintf("offsets %d to %d: %s", from, to-1, why)
	l.note.Store(&text)
	t.Log.ErrorContext(ctx, "records of the source are lost to the copy", "topic", l.topic, "partition", l.id, "from", from, "to", to-1, "err", errors.New(why))
}

func (t *copying) pauseFetching(p partition, paused bool) {
	which := map[string][]int32{p.topic: {p.id}}
	if paused {
		t.source.client.PauseFetchPartitions(which)
	} else {
		t.source.client.ResumeFetchPartitions(which)
	}
}

// carry runs the lanes. One that is parked leaves the others alone; when all
// are, the task has nothing left to do and fails.
func (t *copying) carry(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var (
		mu     sync.Mutex
		parked []error
	)
	for _, l := range t.order {
		g.Go(func() error {
			err := l.run(ctx)
			var stop *parkedError
			if !errors.As(err, &stop) {
				return t.laneFailed(err)
			}
			t.park(ctx, l, err)
			mu.Lock()
			defer mu.Unlock()
			parked = append(parked, err)
			if len(parked) == len(t.order) {
				return errors.Join(parked...)
			}
			return nil
		})
	}
	finished := make(chan struct{})
	defer close(finished)
	go t.forceEnd(ctx, finished)
	return g.Wait()
}

// forceEnd closes the producer if the lanes do not finish in time.
func (t *copying) forceEnd(ctx context.Context, finished chan struct{}) {
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	select {
	case <-finished:
	case <-time.After(flushBound):
		t.target.client.Close()
	}
}

func (t *copying) laneFailed(err error) error {
	var at *laneError
	if errors.As(err, &at) && classify(at.err) == identity {
		return t.target.refusal(fmt.Sprintf("write record %s@%d", at.partition, at.offset), at.err)
	}
	return err
}

// park stops one lane for good.
func (t *copying) park(ctx context.Context, l *lane, err error) {
	l.parked.Store(true)
	text := err.Error()
	l.trouble.Store(&text)
	l.drop()
	t.pauseFetching(l.partition, true)
	t.Log.ErrorContext(ctx, "partition has stopped: the target does not take a record", "topic", l.topic, "partition", l.id, "err", err)
}

// produce implements producer. The context is not the task's: what has been
// begun is finished.
func (t *copying) produce(r *kgo.Record, done func(*kgo.Record, error)) {
	t.target.client.Produce(context.Background(), r, done)
}

// failed implements producer: it tells of the error and makes the client forget
// a topic that has gone, because it would go on looking for the one it knew by its id.
func (t *copying) failed(l *lane, at int64, err error) {
	if t.warn.allow("produce") {
		t.Log.Warn("writing is in trouble and tried again", "topic", l.target, "partition", l.id, "offset", at, "err", err)
	}
	if !is(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID) {
		return
	}
	t.mu.Lock()
	recent := time.Since(t.purged[l.target]) < time.Second
	if !recent {
		t.purged[l.target] = time.Now()
	}
	t.mu.Unlock()
	if !recent {
		text := fmt.Sprintf("topic %s was missing on the target at offset %d; if it was deleted, what was copied before is not in the new one", l.target, at)
		l.note.Store(&text)
		t.target.client.PurgeTopicsFromProducing(l.target)
	}
}

// saveRegularly saves offsets at their interval.
func (t *copying) saveRegularly(ctx context.Context) error {
	every := t.Offsets.Interval
	if every <= 0 {
		every = time.Minute // Connect's default of offset.flush.interval.ms
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := t.save(ctx); err != nil && ctx.Err() == nil && t.warn.allow("save") {
			t.Log.WarnContext(ctx, "offsets are not saved, trying again", "err", err)
		}
	}
}

// save stores the offsets that have moved.
func (t *copying) save(ctx context.Context) error {
	var offsets []connector.Offset
	moved := map[partition]int64{}
	for _, l := range t.order {
		next := l.next.Load()
		if last, known := t.saved[l.partition]; next > 0 && (!known || next != last) {
			offsets = append(offsets, connector.Offset{Partition: offsetKey(t.s.source, l.partition), Offset: offsetValue(next - 1)})
			moved[l.partition] = next
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := t.Offsets.Save(ctx, offsets); err != nil {
		return fmt.Errorf("save %d offsets: %w", len(offsets), err)
	}
	maps.Copy(t.saved, moved)
	return nil
}

// look asks both clusters now and then how they are.
func (t *copying) look(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		if err := t.lookOnce(ctx); classify(err) == identity {
			return err
		} else if err != nil && ctx.Err() == nil && t.warn.allow("look") {
			t.Log.WarnContext(ctx, "a cluster does not answer", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (t *copying) lookOnce(ctx context.Context) error {
	partitions := slices.Collect(maps.Keys(t.lanes))
	ends, failed, err := t.source.offsets(ctx, partitions, atEnd, t.committed)
	for p, end := range ends {
		if l := t.lanes[p]; l != nil {
			l.end.Store(end)
		}
	}
	for p, refused := range failed {
		if classify(refused) == identity {
			return t.source.wrong("read "+p.topic, refused)
		}
	}
	_, targetErr := t.target.metadata(ctx, []string{})
	return errors.Join(err, targetErr)
}
