// Package sink is the work that all sinks share: it reads records as a member of the connector's consumer group, converts them,
// hands them to the sink and commits what the sink has made durable (Kafka's WorkerSinkTask).
//
// Easy to get wrong: a partition may be taken away between any two polls, and never during one batch. What stands before
// that moment is flushed and committed before the next owner begins.
package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/reporter"
	"barnabas/connector/tolerance"
)

// Record is a record with its converted value.
type Record struct {
	*kgo.Record
	Value any // converter.Text writes it
}

// Output is where a sink writes.
type Output struct {
	// Put takes records in their order.
	Put func(records []Record) error
	// Flush makes durable what was put. Offsets are committed after it.
	Flush func() error
}

// maxRecords is how many records one batch has at most, as max.poll.records by default.
const maxRecords = 500

// Run works until ctx ends, then flushes and commits. values are those of a definition with Connect's settings of sinks.
func Run(ctx context.Context, tc connector.TaskContext, values config.Values, out Output) error {
	t := &task{TaskContext: tc, out: out, positions: map[string]map[int32]kgo.EpochOffset{}, places: map[place]*connector.PartitionProgress{}, assigned: map[place]int64{}}
	if err := t.open(ctx, values); err != nil {
		return endOr(ctx, err)
	}
	tc.Started()
	err := t.loop(ctx)
	// What was put is committed also by a task that fails: nobody is to write it again. The engine ends what takes too long.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	commitErr := t.commit(last)
	t.client.AllowRebalance()
	t.reports.Close(last)
	if leaveErr := t.client.LeaveGroupContext(last); commitErr == nil && leaveErr != nil {
		commitErr = fmt.Errorf("leave group %s: %w", tc.Group, leaveErr)
	}
	if err == nil && commitErr != nil {
		err = commitErr
	}
	return err
}

// endOr is nil if ctx has ended, and otherwise err.
func endOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// commitTimeout bounds one commit.
const commitTimeout = 10 * time.Second

type place struct {
	topic     string
	partition int32
}

type task struct {
	connector.TaskContext
	out                Output
	key, value, header *converter.Converter
	errs               *tolerance.Handler
	reports            *reporter.Reporter
	topics             topics
	client             *kgo.Client

	mu        sync.Mutex // the group's callbacks commit, too
	positions map[string]map[int32]kgo.EpochOffset
	places    map[place]*connector.PartitionProgress
	assigned  map[place]int64 // records that are read and not committed yet
	sunk      connector.Sunk
	lost      bool // what was put may not be durable, whatever a later flush says
	told      time.Time
	warned    time.Time
}

// open makes everything that the task works with.
func (t *task) open(ctx context.Context, values config.Values) (err error) {
	for _, c := range []struct {
		kind converter.Kind
		to   **converter.Converter
	}{{converter.Key, &t.key}, {converter.Value, &t.value}, {converter.Header, &t.header}} {
		if *c.to, err = converter.New(c.kind, t.Converters, t.Settings); err != nil {
			return err
		}
	}
	queue, err := tolerance.OpenQueue(ctx, values, t.TaskContext)
	if err != nil {
		return err
	}
	t.errs = tolerance.New(values, t.TaskContext, queue)
	if t.reports, err = reporter.Open(ctx, t.TaskContext); err != nil {
		return err
	}
	if t.topics, err = newTopics(values); err != nil {
		return err
	}
	t.client, err = t.Clients.Open(ctx, connector.RecordConsumer,
		kgo.ConsumeTopics(t.topics.names...), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { t.given(given) }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, lost map[string][]int32) { t.revoked(ctx, lost) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { t.forget(lost) }))
	return err
}

// loop reads, puts and commits.
func (t *task) loop(ctx context.Context) error {
	next := time.Now().Add(t.Offsets.Interval)
	for {
		if err := t.topics.follow(ctx, t.client); err != nil {
			if err := t.trouble(ctx, err); err != nil {
				return err
			}
		}
		wait, cancel := context.WithDeadline(ctx, earlier(next, t.topics.next()))
		fetches := t.client.PollRecords(wait, maxRecords)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			if err := t.trouble(ctx, e.Err); err != nil {
				return err
			}
		}
		if err := t.deliver(ctx, fetches); err != nil {
			return err
		}
		if now := time.Now(); !now.Before(next) {
			if err := t.commit(ctx); err != nil {
				if err := t.trouble(ctx, err); err != nil {
					return err
				}
			}
			next = now.Add(t.Offsets.Interval)
		}
		t.client.AllowRebalance()
		t.report()
	}
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// fatal are the errors that no waiting mends; the clients try again what they can by themselves.
var fatal = []error{
	kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	kerr.TransactionalIDAuthorizationFailed, kerr.InvalidGroupID, kerr.InconsistentGroupProtocol, kerr.FencedInstanceID, kerr.OffsetOutOfRange, kerr.InvalidTopicException,
}

// trouble returns err if the task cannot go on, and else tells it once in a while.
func (t *task) trouble(ctx context.Context, err error) error {
	var passing *passingError
	if !errors.As(err, &passing) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return nil // nothing came while we waited
	}
	for _, f := range fatal {
		if errors.Is(err, f) {
			return fmt.Errorf("read as %s in group %s: %w", t.Clients.Principal(connector.RecordConsumer), t.Group, err)
		}
	}
	var local *outputError
	if errors.As(err, &local) {
		return err
	}
	if now := time.Now(); now.Sub(t.warned) > time.Minute {
		t.warned = now
		t.Log.WarnContext(ctx, "trouble of a sink, it goes on", "err", err)
	}
	return nil
}

// passingError is of what is tried again at the next time.
type passingError struct{ error }

func (e *passingError) Unwrap() error { return e.error }

// outputError is what the sink itself says.
type outputError struct{ error }

func (e *outputError) Unwrap() error { return e.error }

// deliver converts what was read and hands it to the sink.
func (t *task) deliver(ctx context.Context, fetches kgo.Fetches) error {
	var batch []Record
	var read []*kgo.Record
	var failed error
	for iter := fetches.RecordIter(); !iter.Done(); {
		r := iter.Next()
		value, failure := t.convert(r)
		if failure != nil {
			t.reports.Failed(ctx, r, failure.Exception, failure.Err)
			if failed = t.errs.Failed(ctx, *failure); failed != nil {
				break // what came before it is put, where Connect would put it twice
			}
			read = append(read, r)
			continue
		}
		batch, read = append(batch, Record{r, value}), append(read, r)
	}
	if err := t.put(ctx, batch); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range read {
		t.stands(r)
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if at := t.places[place{p.Topic, p.Partition}]; at != nil && p.HighWatermark >= 0 {
			at.SourceEndOffset = p.HighWatermark
		}
	})
	return failed
}

// put hands a batch to the sink.
func (t *task) put(ctx context.Context, batch []Record) error {
	if len(batch) == 0 {
		return nil
	}
	began := time.Now()
	err := t.out.Put(batch)
	t.mu.Lock()
	t.sunk.Puts.Add(time.Since(began), err)
	if err == nil {
		t.sunk.Put += int64(len(batch))
	}
	t.mu.Unlock()
	if err != nil {
		return &outputError{fmt.Errorf("Exiting WorkerSinkTask due to unrecoverable exception: %w", err)} // Connect's words
	}
	for _, r := range batch {
		t.reports.Succeeded(ctx, r.Record)
	}
	return nil
}

// stands notes that the sink has a record, or never will.
func (t *task) stands(r *kgo.Record) {
	if t.positions[r.Topic] == nil {
		t.positions[r.Topic] = map[int32]kgo.EpochOffset{}
	}
	t.positions[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: -1, Offset: r.Offset + 1} // without an epoch, as Connect's
	at := t.places[place{r.Topic, r.Partition}]
	if at == nil {
		at = &connector.PartitionProgress{Topic: r.Topic, Partition: r.Partition, Mode: "decoded", Reason: "sinks convert records", TargetEndOffset: -1, LagBytes: -1}
		t.places[place{r.Topic, r.Partition}] = at
	}
	t.sunk.Read++
	t.assigned[place{r.Topic, r.Partition}]++
	t.Wrote(r.Topic) // Connect lists the topics that a sink reads
	at.CopiedOffset = r.Offset + 1
	at.Records++
	at.Bytes += int64(len(r.Key) + len(r.Value))
	at.LagSeconds = max(0, time.Since(r.Timestamp).Seconds())
}

// convert reads the parts of a record in Connect's order.
func (t *task) convert(r *kgo.Record) (any, *tolerance.Failure) {
	failed := func(stage tolerance.Stage, c *converter.Converter, err error) *tolerance.Failure {
		f := &tolerance.Failure{Stage: stage, Class: c.Class, Exception: converter.DataException, Message: err.Error(), Err: err, Record: r}
		var e *converter.Error
		if errors.As(err, &e) {
			f.Exception, f.Message = e.Exception(), e.Message
		}
		return f
	}
	if _, err := t.key.Decode(r.Key); err != nil {
		return nil, failed(tolerance.KeyConverter, t.key, err)
	}
	value, err := t.value.Decode(r.Value)
	if err != nil {
		return nil, failed(tolerance.ValueConverter, t.value, err)
	}
	for _, h := range r.Headers {
		if _, err := t.header.Decode(h.Value); err != nil {
			return nil, failed(tolerance.HeaderConverter, t.header, err)
		}
	}
	return value, nil
}

// commit flushes the sink and commits the positions.
func (t *task) commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.positions) == 0:
		return nil
	case t.lost:
		return &outputError{errors.New("nothing is committed behind what was lost")}
	}
	t.sunk.Commits++
	began := time.Now()
	err := t.flush(ctx)
	t.sunk.Saves.Add(time.Since(began), err)
	if err != nil {
		return err
	}
	t.sunk.Done++
	for at := range t.assigned {
		t.assigned[at] = 0
	}
	clear(t.positions)
	return nil
}

// flush makes durable what was put, and saves the positions. t.mu is held.
func (t *task) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	err := t.errs.Flush(ctx)
	if err == nil {
		err = t.out.Flush()
	}
	if err != nil {
		t.lost = true
		return &outputError{err}
	}
	if err := t.save(ctx); err != nil {
		return &passingError{fmt.Errorf("commit offsets of group %s: %w", t.Group, err)}
	}
	return nil
}

// save commits the positions to the group.
func (t *task) save(ctx context.Context) (err error) {
	t.client.CommitOffsetsSync(ctx, t.positions, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, failed error) {
		if err = failed; err != nil {
			return
		}
		for _, topic := range answer.Topics {
			for _, p := range topic.Partitions {
				err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	return err
}

// revoked commits before partitions go to another member.
func (t *task) revoked(ctx context.Context, lost map[string][]int32) {
	if err := t.commit(ctx); err != nil && ctx.Err() == nil {
		t.Log.WarnContext(ctx, "partitions leave without a commit; their next owner writes some records again", "err", err)
	}
	t.forget(lost)
}

// given notes partitions that the task reads from now on.
func (t *task) given(partitions map[string][]int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, ids := range partitions {
		for _, id := range ids {
			t.assigned[place{topic, id}] = 0
		}
	}
}

func (t *task) forget(lost map[string][]int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, partitions := range lost {
		for _, p := range partitions {
			delete(t.positions[topic], p)
			delete(t.places, place{topic, p})
			delete(t.assigned, place{topic, p})
		}
		if len(t.positions[topic]) == 0 {
			delete(t.positions, topic)
		}
	}
}

// reportEvery is how often progress is told.
const reportEvery = time.Second

func (t *task) report() {
	now := time.Now()
	if now.Sub(t.told) < reportEvery {
		return
	}
	t.told = now
	t.mu.Lock()
	defer t.mu.Unlock()
	sunk := t.sunk
	t.sunk.Puts, t.sunk.Saves = connector.Timing{}, connector.Timing{}
	sunk.Assigned = len(t.assigned)
	for _, active := range t.assigned {
		sunk.Active += active
	}
	p := connector.Progress{Delivery: connector.Plain, Errors: t.errs.Counts(), Sink: &sunk}
	for _, at := range t.places {
		one := *at
		one.LagRecords = max(0, one.SourceEndOffset-one.CopiedOffset)
		if one.LagRecords == 0 {
			one.LagSeconds = 0
		}
		p.Partitions = append(p.Partitions, one)
	}
	t.Report(p)
}
