package rawcopy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// Engine runs a Flow over two clients. All of its methods may be called from
// any goroutine while Run is at work, and return when it ends.
type Engine struct {
	source, target *kgo.Client
	flow           *Flow
	share          *connector.Share
	told           func(Event)
	read, write    *connector.Limit

	calls   chan func()
	results chan func(now time.Time)
	over    chan struct{}
	links   map[int32]chan *Send
	work    sync.WaitGroup
	jobs    chan *Job
	io      context.Context // of requests; outlives the context of Run until what is on the way is known

	tokens  int64
	waiting map[int64]chan struct{}
	looking [2]looking // for metadata: of the source, of the target
}

// looking spaces the questions for metadata.
type looking struct {
	busy, again bool
	next        time.Time
	failures    int
}

// answered notes that a question is over. more says that it was not about all partitions of which something is wanted
// by now: those that came meanwhile are asked for at once, and not after lookSpacing like those that nobody leads.
func (l *looking) answered(now time.Time, err error, more bool) {
	l.busy, l.next = false, now.Add(lookEvery)
	if l.failures++; err == nil {
		l.failures = 0
	}
	switch {
	case err == nil && l.again && more:
		l.next = now
	case err != nil || l.again:
		l.next = now.Add(lookSpacing * time.Duration(1+min(l.failures, 20)))
	}
}

const (
	sourceSide = 0
	targetSide = 1
	// lookSpacing is the least time between two questions for metadata.
	lookSpacing = 100 * time.Millisecond
	// lookEvery is how often metadata is looked at though nothing is wrong: it is how a topic
	// that was made anew is noticed.
	lookEvery = 5 * time.Second
	// requestTimeout bounds requests other than fetch and produce.
	requestTimeout = 15 * time.Second
	// starved is how often a task without room looks whether there is some.
	starved = 5 * time.Millisecond
)

// NewEngine returns an engine for flow. told hears of the flow's events, on the
// engine's goroutine: it must not block.
func NewEngine(source, target *kgo.Client, flow *Flow, share *connector.Share, told func(Event)) *Engine {
	return &Engine{
		source: source, target: target, flow: flow, share: share, told: told, calls: make(chan func()), results: make(chan func(time.Time), 64),
		over: make(chan struct{}), links: map[int32]chan *Send{}, jobs: make(chan *Job, 64), waiting: map[int64]chan struct{}{},
	}
}

// Bound has the engine read and write no more bytes of batches a second than these say. It is called before Run.
func (e *Engine) Bound(read, write *connector.Limit) { e.read, e.write = read, write }

// ErrEnded is the answer of an engine that does not run.
var ErrEnded = errors.New("the copying has ended")

// Run copies until ctx ends: then it fetches no more, and returns nil once Drain's work is done by its owner, that is, when ctx
// of the requests ends too. It returns the error that ended the flow otherwise.
func (e *Engine) Run(ctx context.Context) error {
	io, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.io = io
	for range runtime.GOMAXPROCS(0) {
		e.work.Go(e.decode)
	}
	defer func() {
		cancel()
		close(e.over)
		for _, link := range e.links {
			close(link)
		}
		e.work.Wait()
		e.share.Hold(0)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case call := <-e.calls:
			call()
		case result := <-e.results:
			now := time.Now()
			result(now)
			for more := true; more; { // what has come meanwhile is one step
				select {
				case result = <-e.results:
					result(now)
				default:
					more = false
				}
			}
		case <-timer.C:
		}
		wake, err := e.step()
		if err != nil {
			return err
		}
		timer.Reset(wake)
	}
}

// step does what the flow wants, and returns when to look again.
func (e *Engine) step() (time.Duration, error) {
	now := time.Now()
	e.flow.Allow(e.share.Hold(e.flow.Held()))
	ready := e.flow.Ready(now)
	for _, r := range ready.Fetch {
		e.fetch(r)
	}
	for _, s := range ready.Send {
		e.send(s)
	}
	for _, j := range ready.Decode {
		e.recode(j)
	}
	if len(ready.AddPartitions) > 0 {
		e.addPartitions(ready.AddPartitions)
	}
	if len(ready.Ranges) > 0 {
		e.ranges(ready.Ranges)
	}
	e.look(sourceSide, ready.SourceMetadata, now)
	e.look(targetSide, ready.TargetMetadata, now)
	for _, ev := range ready.Events {
		if ev.Kind == Acknowledged {
			e.acknowledged(ev.Token)
			continue
		}
		e.told(ev)
	}
	if ready.Err != nil {
		return 0, ready.Err
	}
	return e.wake(&ready, time.Now()), nil
}

// wake is how long the engine may wait for something to happen. A look at metadata that is on the way ends
// with a result: a slow broker must not keep the engine turning.
func (e *Engine) wake(ready *Ready, now time.Time) time.Duration {
	wake := lookEvery
	for i := range e.looking {
		if l := &e.looking[i]; !l.busy {
			wake = min(wake, max(0, l.next.Sub(now)))
		}
	}
	if !ready.Wake.IsZero() {
		wake = min(wake, max(0, ready.Wake.Sub(now)))
	}
	if ready.Starved {
		wake = min(wake, starved)
	}
	return wake
}

// Do calls f with the flow, on the engine's goroutine.
func (e *Engine) Do(ctx context.Context, f func(*Flow)) error {
	done := make(chan struct{})
	call := func() {
		defer close(done)
		f(e.flow)
	}
	select {
	case e.calls <- call:
		<-done
		return nil
	case <-e.over:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Write is a batch that the engine's owner wants to be written under the flow's
// producer id.
type Write struct {
	Target  Partition
	TopicID [16]byte
	Batch   Batch
}

// Write writes batches and returns when all are acknowledged.
func (e *Engine) Write(ctx context.Context, writes []Write) error {
	acks := make([]chan struct{}, len(writes))
	err := e.Do(ctx, func(f *Flow) {
		for i, w := range writes {
			e.tokens++
			acks[i] = make(chan struct{})
			e.waiting[e.tokens] = acks[i]
			f.Enqueue(w.Target, w.TopicID, w.Batch, e.tokens)
		}
	})
	if err != nil {
		return err
	}
	for _, ack := range acks {
		select {
		case <-ack:
		case <-e.over:
			return ErrEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (e *Engine) acknowledged(token int64) {
	if ack := e.waiting[token]; ack != nil {
		delete(e.waiting, token)
		close(ack)
	}
}

// Settle waits until the fate of all that was sent is known.
func (e *Engine) Settle(ctx context.Context) error {
	const look = 2 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		settled := false
		if err := e.Do(ctx, func(f *Flow) { settled = f.Settled() }); err != nil {
			return err
		}
		if settled {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.over:
			return ErrEnded
		case <-tick.C:
		}
	}
}

// result hands what a goroutine has found out to the engine's own.
func (e *Engine) result(f func(now time.Time)) {
	select {
	case e.results <- f:
	case <-e.over:
	}
}

func (e *Engine) fetch(r *Fetch) {
	e.work.Go(func() {
		var fetched *kmsg.FetchResponse
		taken, err := e.read.Wait(e.io)
		if err == nil {
			var resp kmsg.Response
			resp, err = e.source.Broker(int(r.Broker)).Request(e.io, r.Request)
			fetched, _ = resp.(*kmsg.FetchResponse)
			taken(fetchedBytes(fetched))
		}
		e.result(func(now time.Time) {
			e.notice(err)
			e.flow.Fetched(r, fetched, err, now)
		})
	})
}

// fetchedBytes is the size of the batches in an answer.
func fetchedBytes(r *kmsg.FetchResponse) (n int) {
	if r == nil {
		return 0
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			n += len(r.Topics[i].Partitions[j].RecordBatches)
		}
	}
	return n
}

// sentBytes is the size of the batches in a request.
func sentBytes(r *kmsg.ProduceRequest) (n int) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			n += len(r.Topics[i].Partitions[j].Records)
		}
	}
	return n
}

// notice ends the flow if a client was closed: kgo answers that its own context
// was canceled.
func (e *Engine) notice(err error) {
	if errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) && e.io.Err() == nil {
		e.flow.fail(kgo.ErrClientClosed)
	}
}

func (e *Engine) recode(j *Job) {
	select {
	case e.jobs <- j:
	default: // more lanes than workers and room: a goroutine that waits is cheap
		e.work.Go(func() {
			select {
			case e.jobs <- j:
			case <-e.over:
			}
		})
	}
}

// decode is one worker.
func (e *Engine) decode() {
	for {
		select {
		case j := <-e.jobs:
			j.Run()
			e.result(func(now time.Time) { e.flow.Done(j, now) })
		case <-e.over:
			return
		}
	}
}

// send hands a request to the goroutine of its broker, which writes one after
// the other.
func (e *Engine) send(s *Send) {
	link := e.links[s.Broker]
	if link == nil {
		link = make(chan *Send, e.flow.o.InFlight)
		e.links[s.Broker] = link
		e.work.Go(func() {
			for s := range link {
				e.produce(s)
			}
		})
	}
	link <- s // has room for all that may be on the way
}

// produce issues a request and returns when it has been written, or has failed.
func (e *Engine) produce(s *Send) {
	req := &ordered{ProduceRequest: s.Request, explicit: e.flow.o.Explicit && e.flow.o.TransactionalID != nil, written: make(chan struct{})}
	taken, err := e.write.Wait(e.io)
	if err != nil {
		e.result(func(now time.Time) {
			e.notice(err)
			e.flow.Sent(s, nil, err, now)
		})
		return
	}
	taken(sentBytes(s.Request))
	done := make(chan struct{})
	e.work.Go(func() {
		defer close(done)
		resp, err := e.target.Broker(int(s.Broker)).Request(e.io, req)
		produced, _ := resp.(*kmsg.ProduceResponse)
		if err == nil && produced == nil {
			err = fmt.Errorf("answer of type %T", resp)
		}
		e.result(func(now time.Time) {
			e.notice(err)
			e.flow.Sent(s, produced, err, now)
		})
	})
	select {
	case <-req.written:
	case <-done:
	}
}

// ordered is a produce request that tells when its place in the connection is
// certain. It also keeps kgo, which knows *kmsg.ProduceRequest, from setting acks of its own.
type ordered struct {
	*kmsg.ProduceRequest
	explicit bool
	once     sync.Once
	written  chan struct{}
}

// AppendTo implements kmsg.Request.
func (r *ordered) AppendTo(dst []byte) []byte {
	dst = r.ProduceRequest.AppendTo(dst)
	r.once.Do(func() { close(r.written) })
	return dst
}

// MaxVersion implements kmsg.Request. From version 12 on a produce request adds
// its partitions to the transaction (KIP-890).
func (r *ordered) MaxVersion() int16 {
	if r.explicit {
		return 11
	}
	return r.ProduceRequest.MaxVersion()
}

func (e *Engine) addPartitions(partitions []Partition) {
	id := e.flow.identity
	e.work.Go(func() {
		err := addToTransaction(e.io, e.target, *e.flow.o.TransactionalID, id, partitions)
		e.result(func(now time.Time) { e.flow.PartitionsAdded(partitions, err, now) })
	})
}

// addToTransaction adds partitions with AddPartitionsToTxn, which brokers want
// before transaction.version 2.
func addToTransaction(ctx context.Context, target *kgo.Client, transactionalID string, id Identity, partitions []Partition) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = transactionalID, id.ID, id.Epoch
	index := map[string]int{}
	for _, p := range partitions {
		i, ok := index[p.Topic]
		if !ok {
			i = len(req.Topics)
			index[p.Topic] = i
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = p.Topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p.ID)
	}
	resp, err := req.RequestWith(ctx, target)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// look asks one side for metadata: when the flow wants it, and now and then.
func (e *Engine) look(which int, wanted bool, now time.Time) {
	l := &e.looking[which]
	l.again = l.again || wanted
	if wanted && !l.busy {
		if at := now.Add(lookSpacing * time.Duration(min(l.failures, 10))); l.next.After(at) {
			l.next = at
		}
	}
	if l.busy || now.Before(l.next) {
		return
	}
	l.busy, l.again = true, false
	client, wantedOf := e.source, e.flow.sourcePartitions
	if which == targetSide {
		client, wantedOf = e.target, e.flow.targetPartitions
	}
	partitions := wantedOf()
	if len(partitions) == 0 {
		l.busy, l.next = false, now.Add(lookEvery)
		return
	}
	e.work.Go(func() {
		leaders, err := leaders(e.io, client, partitions)
		e.result(func(now time.Time) {
			if err == nil && which == sourceSide {
				e.flow.SourceLeaders(leaders, now)
			} else if err == nil {
				e.flow.TargetLeaders(leaders, now)
			}
			l.answered(now, err, len(wantedOf()) > len(partitions))
		})
	})
}

// leaders asks who leads partitions.
func leaders(ctx context.Context, client *kgo.Client, partitions []Partition) ([]Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	wanted := map[string]map[int32]bool{}
	for _, p := range partitions {
		if wanted[p.Topic] == nil {
			wanted[p.Topic] = map[int32]bool{}
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &p.Topic
			req.Topics = append(req.Topics, t)
		}
		wanted[p.Topic][p.ID] = true
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	var all []Leader
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			for id := range wanted[*t.Topic] {
				all = append(all, Leader{Partition: Partition{*t.Topic, id}, Broker: -1, Err: err})
			}
			continue
		}
		for _, p := range t.Partitions {
			if wanted[*t.Topic][p.Partition] {
				all = append(all, Leader{Partition: Partition{*t.Topic, p.Partition}, TopicID: t.TopicID, Broker: p.Leader, Epoch: p.LeaderEpoch})
			}
		}
	}
	return all, nil
}

// ranges looks up first and end offsets of partitions of the source.
func (e *Engine) ranges(partitions []Partition) {
	for _, p := range partitions {
		e.work.Go(func() {
			first, err := offsetAt(e.io, e.source, p, -2)
			end := int64(-1)
			if err == nil {
				end, err = offsetAt(e.io, e.source, p, -1)
			}
			e.result(func(now time.Time) { e.flow.Ranged(p, first, end, err, now) })
		})
	}
}

// offsetAt asks ListOffsets for one partition.
func offsetAt(ctx context.Context, client *kgo.Client, p Partition, timestamp int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = p.Topic
	r := kmsg.NewListOffsetsRequestTopicPartition()
	r.Partition, r.Timestamp, r.CurrentLeaderEpoch = p.ID, timestamp, -1
	t.Partitions = append(t.Partitions, r)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return -1, err
	}
	for _, t := range resp.Topics {
		for _, r := range t.Partitions {
			return r.Offset, kerr.ErrorForCode(r.ErrorCode)
		}
	}
	return -1, errors.New("the broker's answer lacks the partition")
}

// sourcePartitions are all that are copied.
func (f *Flow) sourcePartitions() []Partition {
	all := make([]Partition, 0, len(f.lanes))
	for _, l := range f.lanes {
		all = append(all, l.Source)
	}
	return all
}

// targetPartitions are all that are written.
func (f *Flow) targetPartitions() []Partition {
	all := make([]Partition, 0, len(f.lanes)+len(f.side))
	f.each(func(l *lane) { all = append(all, l.Target) })
	return all
}
