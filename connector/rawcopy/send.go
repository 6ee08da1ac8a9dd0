package rawcopy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// link sends to one broker of the target, request after request in one order.
type link struct {
	broker   int32
	flying   int // requests
	ready    []*lane
	spare    []*lane
	until    time.Time
	failures int
}

// Send is a request to a broker of the target. Requests to one broker must be
// written in the order in which Ready gave them out. Answer with Sent.
type Send struct {
	Broker  int32
	Request *kmsg.ProduceRequest
	lanes   []*lane
}

// forgotten is after how long without a batch a broker may not know the producer any more
// (producer.id.expiration.ms: a day, unless somebody has set it).
const forgotten = time.Minute

// sendable says whether the lane has a batch that may be sent now.
func (f *Flow) sendable(l *lane) bool {
	if l.failing || l.untold || l.broker < 0 || l.next != l.broker || !l.until.IsZero() || len(l.flying) >= f.o.InFlight || f.identity.ID < 0 {
		return false
	}
	it := l.head()
	if it == nil || len(l.flying) > 0 && (!l.established || f.now.Sub(l.ackedAt) > forgotten) {
		return false
	}
	// While a transaction ends, only what may stand in the target already is sent again.
	return !f.hold || l.internal || it.appended
}

// ready puts a lane into its link's list if it has something to send.
func (f *Flow) ready(l *lane) {
	if l.inReady {
		return
	}
	f.coalesce(l)
	f.jobs(l)
	if !f.sendable(l) {
		return
	}
	if f.o.Explicit && f.o.TransactionalID != nil && !l.added {
		if !l.adding {
			l.adding = true
			f.out.AddPartitions = append(f.out.AddPartitions, l.Target)
		}
		return
	}
	k := f.links[l.broker]
	l.inReady = true
	k.ready = append(k.ready, l)
}

// PartitionsAdded takes the answer to Ready.AddPartitions.
func (f *Flow) PartitionsAdded(partitions []Partition, err error, now time.Time) {
	f.now = now
	for _, p := range partitions {
		l := f.byTarget[p]
		if l == nil {
			continue
		}
		l.adding = false
		if l.added = err == nil; err != nil {
			l.failures++
			f.rest(&l.until, l.failures)
			f.troubled(l, fmt.Errorf("add to the transaction: %w", err))
			continue
		}
		f.ready(l)
	}
}

// pump sends what is ready on a link.
func (f *Flow) pump(k *link) {
	for k.flying < f.o.InFlight && len(k.ready) > 0 && !f.now.Before(k.until) {
		if !f.sendOne(k) {
			return
		}
	}
}

// sendOne makes one request of the heads of the ready lanes.
func (f *Flow) sendOne(k *link) bool {
	send := &Send{Broker: k.broker, Request: kmsg.NewPtrProduceRequest()}
	req := send.Request
	req.Acks, req.TimeoutMillis, req.TransactionID = -1, int32(f.o.Timeout/time.Millisecond), f.o.TransactionalID
	lanes, size := k.ready, 0
	k.ready = k.spare[:0]
	var later []*lane
	for i, l := range lanes {
		l.inReady = false
		if l.broker != k.broker || !f.sendable(l) {
			f.ready(l)
			continue
		}
		it := l.head()
		if size > 0 && size+len(it.batch) > f.o.RequestBytes {
			later = lanes[i:]
			break
		}
		size += len(it.batch)
		f.launch(l, it, send)
	}
	for _, l := range later { // first in the next request
		l.inReady = true
		k.ready = append(k.ready, l)
	}
	for _, l := range send.lanes {
		f.ready(l)
	}
	k.spare = lanes[:0]
	if len(send.lanes) == 0 {
		return len(k.ready) > 0
	}
	k.flying++
	f.out.Send = append(f.out.Send, send)
	return true
}

// launch stamps a lane's head and puts it into a request.
func (f *Flow) launch(l *lane, it *item, send *Send) {
	l.pop()
	if it.seq < 0 {
		it.seq = l.sequence
		l.sequence = addSequence(l.sequence, it.count)
	}
	Rewrite(it.batch, Stamp{ProducerID: f.identity.ID, Epoch: f.identity.Epoch, BaseSequence: it.seq, Transactional: f.o.TransactionalID != nil})
	it.send, it.done, it.err, it.code = send, false, nil, 0
	l.flying = append(l.flying, it)
	send.lanes = append(send.lanes, l)

	req := send.Request
	at := -1
	for i := len(req.Topics) - 1; i >= 0 && at < 0; i-- {
		if req.Topics[i].Topic == l.Target.Topic {
			at = i
		}
	}
	if at < 0 {
		t := kmsg.NewProduceRequestTopic()
		t.Topic, t.TopicID = l.Target.Topic, l.TargetID
		req.Topics = append(req.Topics, t)
		at = len(req.Topics) - 1
	}
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = l.Target.ID, it.batch
	req.Topics[at].Partitions = append(req.Topics[at].Partitions, p)
}

// addSequence counts as Kafka does: after the greatest int32 comes 0
// (DefaultRecordBatch.incrementSequence).
func addSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & (1<<31 - 1))
}

// Sent takes the answer to a produce request.
func (f *Flow) Sent(s *Send, resp *kmsg.ProduceResponse, err error, now time.Time) {
	f.now = now
	k := f.links[s.Broker]
	k.flying--
	if err != nil {
		k.failures++
		k.until = f.backoff(k.failures)
		f.out.TargetMetadata = true
		err = fmt.Errorf("produce to broker %d of the target: %w", s.Broker, err)
		for _, l := range s.lanes {
			f.outcome(l, l.flyingIn(s), 0, err, -1, nil)
		}
		return
	}
	k.failures = 0
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			r := &t.Partitions[j]
			l := f.byTarget[Partition{t.Topic, r.Partition}]
			if t.Topic == "" {
				l = f.byTopic[idPartition{t.TopicID, r.Partition}]
			}
			if l == nil {
				continue
			}
			if it := l.flyingIn(s); it != nil && !it.done {
				f.outcome(l, it, r.ErrorCode, nil, r.BaseOffset, r)
			}
		}
	}
	for _, l := range s.lanes { // a broker has to answer for every partition
		if it := l.flyingIn(s); it != nil && !it.done {
			f.outcome(l, it, 0, errors.New("the broker's answer lacks this partition"), -1, nil)
		}
	}
}

// flyingIn finds the lane's batch in a request.
func (l *lane) flyingIn(s *Send) *item {
	for _, it := range l.flying {
		if it.send == s {
			return it
		}
	}
	return nil
}

// outcome notes what became of a batch: a code of the broker, or err if there
// was no answer.
func (f *Flow) outcome(l *lane, it *item, code int16, err error, offset int64, r *kmsg.ProduceResponseTopicPartition) {
	if it == nil {
		return
	}
	it.done, it.code, it.err = true, code, err
	if kerr.ErrorForCode(code) == error(kerr.DuplicateSequenceNumber) {
		it.code, offset = 0, -1
	}
	if it.err == nil && it.code != 0 {
		it.err = kerr.ErrorForCode(it.code)
		if r != nil && r.ErrorMessage != nil {
			it.err = fmt.Errorf("%w: %s", it.err, *r.ErrorMessage)
		}
	}
	it.offset = offset
	it.appended = it.appended || it.err == nil || mayBeAppended(it)
	l.failing = l.failing || it.err != nil
	for len(l.flying) > 0 && l.flying[0].done && l.flying[0].err == nil {
		done := l.flying[0]
		l.flying = slices.Delete(l.flying, 0, 1)
		f.acknowledged(l, done)
	}
	if !l.failing {
		f.moved(l)
		f.ready(l)
		return
	}
	for _, it := range l.flying {
		if !it.done {
			return
		}
	}
	f.settle(l)
}

// mayBeAppended says whether a batch with this outcome may stand in the log.
func mayBeAppended(it *item) bool {
	if it.code == 0 {
		return true // no answer
	}
	switch kerr.ErrorForCode(it.code) {
	case kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.UnknownServerError, kerr.KafkaStorageError,
		kerr.NotLeaderForPartition: // a leader that loses its office while it waits for replicas
		return true
	}
	return false
}

// acknowledged counts a batch that stands in the target.
func (f *Flow) acknowledged(l *lane, it *item) {
	l.established, l.ackedAt, l.concurrent = true, f.now, 0
	f.recovered(l)
	if l.internal {
		f.emit(Event{Kind: Acknowledged, Target: l.Target, Token: it.token})
		f.release(it)
		return
	}
	l.copied = max(l.copied, it.upTo)
	l.records += int64(it.count)
	l.bytes += int64(len(it.batch))
	l.latency.add(float64(f.now.UnixMilli() - it.batch.MaxTimestamp()))
	l.lastStamp = max(l.lastStamp, it.batch.MaxTimestamp())
	per := float64(len(it.batch)) / float64(max(1, it.count))
	l.bytesPerRec += (per - l.bytesPerRec) / 16
	if at := it.offset; at >= 0 {
		if l.targetEnd >= 0 && at > l.targetEnd {
			l.foreign += at - l.targetEnd
		}
		l.targetEnd = at + int64(it.count)
		if it.spans == nil {
			l.ran(it.first, at, int64(it.count))
		}
		for _, s := range it.spans {
			l.ran(s.Source, at, s.Count)
			at += s.Count
		}
	}
	f.release(it)
	f.reap(l)
}

// ran notes where copied offsets stand.
func (l *lane) ran(source, target, count int64) {
	if n := len(l.runs); n > 0 {
		if last := &l.runs[n-1]; last.Source+last.Count == source && last.Target+last.Count == target {
			last.Count += count
			return
		}
	}
	l.runs = append(l.runs, Run{source, target, count})
}

// uncertain is how often a batch is sent again that may stand in the target and
// is refused now, before a new flow has to look.
const uncertain = 5

// settle decides what to do about a lane that failed, once the fate of all that
// it had on the way is known. The first failure is the cause; those behind it were refused
// because of it.
func (f *Flow) settle(l *lane) {
	items := l.flying
	l.flying, l.failing = nil, false
	head := items[0]
	appended := true
	for _, it := range items {
		it.send, it.done = nil, false
		l.queued += it.size()
		// A broker appends in the order of sequence numbers: behind one that it has not it has none.
		appended = appended && it.appended
		it.appended = appended
	}
	l.queue = append(slices.Clone(items), l.queue...)
	f.moved(l)
	code := kerr.ErrorForCode(head.code)
	// An earlier attempt may have been taken: what is sent in its place could double it.
	unsure := head.appended && isError(code, kerr.CorruptMessage, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.PolicyViolation)
	if unsure && l.failures >= uncertain {
		f.fail(fmt.Errorf("%w (%s: %w)", ErrRestart, l.Target, head.err))
		return
	}
	if !l.internal && (f.stopping || l.removed) {
		if f.windUp(l); len(l.queue) > 0 {
			f.retry(l, head.err)
		}
		f.reap(l)
		return
	}
	if head.code == 0 || unsure {
		f.retry(l, head.err)
		return
	}
	switch code {
	case kerr.InvalidProducerEpoch, kerr.ProducerFenced:
		f.fail(fmt.Errorf("%w (%s: %v)", ErrFenced, l.Target, head.err))
	case kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.TransactionAbortable,
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed:
		f.fail(fmt.Errorf("%w (%s: %w)", ErrRestart, l.Target, head.err))
	case kerr.CorruptMessage:
		f.spoiled(l, head)
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat,
		kerr.UnsupportedCompressionType, kerr.PolicyViolation:
		f.refused(l, head)
	case kerr.TopicAuthorizationFailed:
		if l.internal {
			f.fail(fmt.Errorf("%w: %s: %w", ErrNotWritable, l.Target, head.err))
			return
		}
		f.retry(l, head.err)
	case kerr.ConcurrentTransactions:
		f.begins(l, head.err)
	default:
		f.retry(l, head.err)
	}
}

// begins sends the same again at once, nearly: the markers of the last transaction are still being
// written. So begin transactions on a busy cluster; it is no trouble before it lasts.
func (f *Flow) begins(l *lane, err error) {
	pause := concurrentPause
	if l.concurrent++; l.concurrent > patience {
		pause *= 10
		f.troubled(l, err)
	}
	l.until = f.now.Add(time.Duration((0.8 + 0.4*f.o.Jitter()) * float64(pause)))
	f.waiting++
}

const (
	// concurrentPause is what Kafka's own producer waits (TransactionManager.ADD_PARTITIONS_RETRY_BACKOFF_MS).
	concurrentPause = 20 * time.Millisecond
	// patience is how often it is waited for so short a time.
	patience = 100
)

// retry sends the same again after a while, perhaps to another broker.
func (f *Flow) retry(l *lane, err error) {
	l.failures++
	f.rest(&l.until, l.failures)
	f.out.TargetMetadata = true
	if l.failures > 1 || !isError(err, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch) {
		f.troubled(l, err)
	}
	if l.failures == 2 {
		f.dropQueue(l)
		f.unshare(l)
	}
}

// empty drops the whole queue.
func (f *Flow) empty(l *lane) {
	for _, it := range l.queue {
		f.release(it)
	}
	l.queue, l.queued = nil, 0
}

// unshare copies what a lane in trouble holds out of the responses it came in,
// so that it does not keep the memory of others.
func (f *Flow) unshare(l *lane) {
	for _, it := range l.queue {
		if it.pin == nil || it.job != nil {
			continue
		}
		it.batch = append(Batch(nil), it.batch...)
		f.unpin(it.pin)
		it.pin = &pin{bytes: int64(len(it.batch)), refs: 1}
		f.held += it.pin.bytes
	}
}

// spoiled deals with a batch that the target found damaged: it is fetched
// again, and everything behind it.
func (f *Flow) spoiled(l *lane, head *item) {
	at, upTo, err := head.first, head.upTo, head.err
	l.sequence = head.seq
	f.empty(l)
	f.damaged(l, at, upTo, err)
}

// refused deals with a batch that the target will never take as it is: it is
// re-encoded, at last record by record. Nothing behind it has been appended, so its
// sequence numbers can be given anew.
func (f *Flow) refused(l *lane, head *item) {
	l.renumber(head.seq)
	for _, it := range l.queue {
		it.appended = false
	}
	if l.internal || head.single || head.decoded && head.count == 1 {
		f.leaveOut(l, head)
		return
	}
	l.decisions[reasonRefused]++
	l.lastReason = reasonRefused
	f.split(l, head)
	f.ready(l)
}

// leaveOut deals with a record that the target does not take.
func (f *Flow) leaveOut(l *lane, it *item) {
	if l.internal {
		f.fail(fmt.Errorf("%w: %s: %w", ErrNotWritable, l.Target, it.err))
		return
	}
	if !f.o.Tolerate {
		err := fmt.Errorf("the target does not take it: %w", it.err)
		at := it.first
		f.empty(l)
		f.park(l, at, "refused", err)
		return
	}
	l.refused++
	l.untold = f.o.WaitForBooks
	f.emit(Event{Kind: Refused, Source: l.Source, Target: l.Target, From: it.first, To: it.first + 1, Cause: "refused by the target", Err: it.err})
	upTo := it.upTo
	l.pop()
	f.release(it)
	l.copied = max(l.copied, upTo) // nothing in front of it is on the way
	f.ready(l)
	f.reap(l)
}

// TargetLeaders takes what the target's metadata says.
func (f *Flow) TargetLeaders(leaders []Leader, now time.Time) {
	f.now = now
	for _, m := range leaders {
		l := f.byTarget[m.Partition]
		if l == nil {
			continue
		}
		if m.Err != nil {
			f.troubled(l, fmt.Errorf("target: %w", m.Err))
			f.out.TargetMetadata = true
			continue
		}
		none := [16]byte{}
		if l.TargetID != none && m.TopicID != none && l.TargetID != m.TopicID {
			if l.parked {
				continue
			}
			if l.internal {
				f.fail(fmt.Errorf("%w: topic %s was deleted and made anew", ErrRestart, l.Target.Topic))
				return
			}
			f.dropQueue(l)
			f.emit(Event{Kind: Gap, Source: l.Source, Target: l.Target, From: l.copied, To: l.copied, Cause: "target recreated", TargetRecreated: true})
			f.park(l, l.copied, "target recreated", fmt.Errorf("topic %s of the target was deleted and made anew: what was copied before is gone", l.Target.Topic))
			continue
		}
		l.TargetID = m.TopicID
		f.index(l)
		if l.next = m.Broker; l.next < 0 {
			f.out.TargetMetadata = true
			continue
		}
		if f.links[l.next] == nil {
			f.links[l.next] = &link{broker: l.next}
		}
		f.moved(l)
		f.ready(l)
	}
}

// moved takes a lane to its new leader once nothing is on the way to the old.
func (f *Flow) moved(l *lane) {
	if l.next == l.broker || len(l.flying) > 0 {
		return
	}
	if l.inReady { // the old one may not send again for a long time
		k := f.links[l.broker]
		k.ready = slices.DeleteFunc(k.ready, func(o *lane) bool { return o == l })
		l.inReady = false
	}
	l.broker = l.next
}

func isError(err error, any ...*kerr.Error) bool {
	for _, e := range any {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[int32]V) []int32 { return slices.SortedFunc(maps.Keys(m), cmp.Compare) }
