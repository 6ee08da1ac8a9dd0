package rawcopy

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetcher asks one broker of the source, one fetch after the other, in a fetch
// session (KIP-227): after the first only what has changed is named.
type fetcher struct {
	broker    int32
	session   int32
	epoch     int32
	forget    []*lane // known to the session, not to be fetched any more
	busy      bool
	ask       int32 // bytes of the next fetch
	partition int32 // bytes of a partition in one fetch, the same through a session
	until     time.Time
	failures  int
}

// Fetch is a request to a broker of the source. Answer with Fetched.
type Fetch struct {
	Broker  int32
	Request *kmsg.FetchRequest
	fetcher *fetcher
	reserve int64
}

const (
	// leastAsk is what a fetch asks for while little comes.
	leastAsk = 256 << 10
	// leastPartition is the least that is asked of a partition at once.
	leastPartition = 64 << 10
	// retryCorrupt is how often a damaged batch is fetched again.
	retryCorrupt = 5
	// preferReplica is how long a preferred replica is kept
	// (metadata.max.age.ms in Java's Fetcher).
	preferReplica = 5 * time.Minute
	// soon is how long a broker may wait with its answer when lanes that it is not asked for wait
	// for room.
	soon = 10 * time.Millisecond
)

// queueLimit is how many bytes of a lane may wait.
func (f *Flow) queueLimit() int64 {
	return min(max(16<<20/int64(max(1, len(f.lanes))), 256<<10), 8<<20)
}

// fetchable says whether a lane is to be fetched, and if not, whether it only
// waits for room or time.
func (f *Flow) fetchable(l *lane, limit int64) (yes, waits bool) {
	if l.parked || l.removed || l.ranging || l.leader < 0 {
		return false, false
	}
	if l.queued >= limit || l.failures > 1 && len(l.queue)+len(l.flying) > 0 || !l.fetchUntil.IsZero() {
		return false, true
	}
	return true, false
}

// fetch asks every broker that is not being asked.
func (f *Flow) fetch() {
	all := true
	for _, fe := range f.fetchers {
		all = all && (fe.busy || f.now.Before(fe.until))
	}
	if all {
		return
	}
	for _, broker := range f.sourceBrokers() {
		if fe := f.fetchers[broker]; !fe.busy && !f.now.Before(fe.until) {
			f.ask(fe)
		}
	}
}

// sourceBrokers returns the brokers in a fixed order, so that a simulation is
// the same each time.
func (f *Flow) sourceBrokers() []int32 { return sortedKeys(f.fetchers) }

// source returns the broker that a lane is fetched from.
func (f *Flow) source(l *lane) int32 {
	if l.replica >= 0 && f.now.Before(l.replicaUntil) {
		return l.replica
	}
	return l.leader
}

// ask makes the next request to a broker.
func (f *Flow) ask(fe *fetcher) {
	limit := f.queueLimit()
	size := int64(fe.ask)
	if f.held > 0 && f.held+size > f.allowed {
		if size = max(leastAsk, f.allowed-f.held); f.held+size > f.allowed {
			f.out.Starved = true
			return
		}
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.Rack = f.o.Rack
	req.MinBytes, req.MaxBytes = f.o.MinBytes, int32(size)
	if f.o.ReadCommitted {
		req.IsolationLevel = 1
	}
	wait := f.o.MaxWait
	full := fe.session == 0 || fe.epoch == 0
	if full {
		fe.partition = f.partitionBytes(fe)
		fe.forget = nil
		for _, l := range f.lanes {
			if l.session == fe {
				l.known = false
			}
		}
	}
	fetch := &Fetch{Broker: fe.broker, Request: req, fetcher: fe}
	active := false
	for _, l := range f.lanes {
		if f.source(l) != fe.broker {
			continue
		}
		yes, waits := f.fetchable(l, limit)
		if !yes {
			if waits {
				wait = min(wait, soon)
			}
			f.leaveFetcher(l)
			continue
		}
		active = true
		if l.session != fe {
			f.leaveFetcher(l)
			l.session = fe
		}
		l.asking, l.askedAt = fetch, l.fetchAt
		if l.known && l.knownAt == l.fetchAt && l.knownEpoch == l.leaderEpoch && !full {
			continue
		}
		l.known, l.knownAt, l.knownEpoch = true, l.fetchAt, l.leaderEpoch
		addFetch(req, l, fe.partition)
	}
	if !active {
		return
	}
	req.MaxWaitMillis = int32(wait / time.Millisecond)
	req.SessionID, req.SessionEpoch = fe.session, fe.epoch
	if !full {
		forget(req, fe)
	}
	fe.forget = nil
	fe.busy = true
	fetch.reserve = size
	f.held += size
	f.out.Fetch = append(f.out.Fetch, fetch)
}

// partitionBytes divides a fetch among a broker's partitions, so that each
// answer has something of each and all can be sent at once.
func (f *Flow) partitionBytes(fe *fetcher) int32 {
	n := int32(0)
	for _, l := range f.lanes {
		if f.source(l) == fe.broker {
			n++
		}
	}
	return min(max(f.o.FetchBytes/max(n, 1), leastPartition), f.o.FetchPartitionBytes)
}

func addFetch(req *kmsg.FetchRequest, l *lane, bytes int32) {
	n := len(req.Topics)
	if n == 0 || req.Topics[n-1].Topic != l.Source.Topic {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = l.Source.Topic, l.SourceID
		req.Topics = append(req.Topics, t)
		n++
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = l.Source.ID, l.fetchAt, bytes
	p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.LogStartOffset = l.leaderEpoch, l.lastEpoch, -1
	if l.replica >= 0 {
		p.CurrentLeaderEpoch = -1 // a follower may be behind
	}
	req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, p)
}

// forget names the partitions that the session is to drop.
func forget(req *kmsg.FetchRequest, fe *fetcher) {
	for _, l := range fe.forget {
		if l.session == fe && l.known {
			continue // it has come back
		}
		n := len(req.ForgottenTopics)
		if n == 0 || req.ForgottenTopics[n-1].Topic != l.Source.Topic {
			t := kmsg.NewFetchRequestForgottenTopic()
			t.Topic, t.TopicID = l.Source.Topic, l.SourceID
			req.ForgottenTopics = append(req.ForgottenTopics, t)
			n++
		}
		req.ForgottenTopics[n-1].Partitions = append(req.ForgottenTopics[n-1].Partitions, l.Source.ID)
	}
}

// leaveFetcher takes a lane out of the session that it is in.
func (f *Flow) leaveFetcher(l *lane) {
	if l.session != nil {
		l.session.forget = append(l.session.forget, l)
	}
	l.session, l.known = nil, false
}

// Fetched takes the answer to a fetch.
func (f *Flow) Fetched(r *Fetch, resp *kmsg.FetchResponse, err error, now time.Time) {
	f.now = now
	fe := r.fetcher
	fe.busy = false
	f.held -= r.reserve
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		f.fetchFailed(fe, err)
		return
	}
	fe.failures = 0
	if fe.session = resp.SessionID; fe.session == 0 {
		fe.epoch = 0
	} else if fe.epoch++; fe.epoch < 0 {
		fe.epoch = 1
	}
	p := &pin{refs: 1}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p.bytes += int64(len(resp.Topics[i].Partitions[j].RecordBatches))
		}
	}
	f.held += p.bytes
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			l := f.laneOf(t.Topic, t.TopicID, t.Partitions[j].Partition)
			// What was asked for before the lane went somewhere else is of no use.
			if l != nil && l.asking == r && l.askedAt == l.fetchAt && !l.removed && !l.parked && !f.stopping {
				f.fetchedPartition(l, &t.Partitions[j], p)
			}
		}
	}
	if p.bytes*2 >= int64(fe.ask) {
		fe.ask = min(fe.ask*2, f.o.FetchBytes)
	} else if p.bytes*8 < int64(fe.ask) {
		fe.ask = max(fe.ask/2, min(leastAsk, f.o.FetchBytes))
	}
	f.unpin(p)
}

func (f *Flow) laneOf(topic string, id [16]byte, partition int32) *lane {
	if topic != "" {
		return f.bySource[Partition{topic, partition}]
	}
	return f.bySourceID[idPartition{id, partition}]
}

// fetchFailed begins the session anew: after an error nobody knows what the
// broker took of the request.
func (f *Flow) fetchFailed(fe *fetcher, err error) {
	fe.session, fe.epoch = 0, 0
	for _, l := range f.lanes {
		if l.session == fe {
			l.known = false
		}
	}
	if isError(err, kerr.FetchSessionIDNotFound, kerr.InvalidFetchSessionEpoch, kerr.FetchSessionTopicIDError) {
		return
	}
	fe.failures++
	fe.until = f.backoff(fe.failures)
	f.out.SourceMetadata = true
	for _, l := range f.lanes {
		if f.source(l) == fe.broker {
			if l.replica == fe.broker {
				l.replica = -1
			}
			if fe.failures > 1 {
				f.troubled(l, fmt.Errorf("%w (broker %d): %w", ErrFetch, fe.broker, err))
			}
		}
	}
}

// fetchedPartition takes what came of one partition.
func (f *Flow) fetchedPartition(l *lane, r *kmsg.FetchResponseTopicPartition, p *pin) {
	if r.ErrorCode != 0 {
		f.fetchRefused(l, kerr.ErrorForCode(r.ErrorCode))
		return
	}
	if d := r.DivergingEpoch; d.Epoch >= 0 && d.EndOffset >= 0 {
		f.truncated(l, d.EndOffset)
		return
	}
	if r.PreferredReadReplica >= 0 && r.PreferredReadReplica != l.leader {
		l.replica, l.replicaUntil = r.PreferredReadReplica, f.now.Add(preferReplica)
		f.fetcherOf(l.replica)
		return
	}
	if l.fetchFailed = 0; l.failures == 0 {
		f.recovered(l)
	}
	l.first = r.LogStartOffset
	if l.end = r.HighWatermark; f.o.ReadCommitted && r.LastStableOffset >= 0 {
		l.end = r.LastStableOffset
	}
	if l.aborter != nil {
		l.aborter.Begin(r.AbortedTransactions)
	}
	f.take(l, r.RecordBatches, r.HighWatermark, p)
	f.ready(l)
}

// take queues the batches of one answer. high is the high watermark.
func (f *Flow) take(l *lane, records []byte, high int64, p *pin) {
	for {
		b, rest, err := Split(records)
		if err != nil {
			f.damaged(l, l.fetchAt, l.fetchAt+1, err)
			return
		}
		if len(b) == 0 {
			return
		}
		records = rest
		// Either the header is not what the broker wrote, or the partition has grown since the broker looked at its
		// end, which it does before it reads (Partition.readRecords).
		if b.LastOffset() >= high && high >= 0 && !b.intact() {
			f.damaged(l, l.fetchAt, l.fetchAt+1, fmt.Errorf("%w: it ends at offset %d, the partition at %d", ErrCorrupt, b.LastOffset(), high))
			return
		}
		next, want := b.LastOffset()+1, l.fetchAt
		verdict, reason := Judge(b, want, l.aborter, l.Limits)
		if next > l.fetchAt {
			l.fetchAt, l.lastEpoch = next, b.LeaderEpoch()
		}
		l.decisions[reason]++
		if verdict != Skip {
			l.lastReason = reason
			l.age.add(float64(f.now.UnixMilli() - b.MaxTimestamp()))
		}
		switch verdict {
		case Skip:
			l.passed(next)
		case Raw:
			it := f.item()
			it.batch, it.first, it.upTo, it.count, it.pin = b, b.BaseOffset(), next, b.Count(), p
			p.refs++
			l.push(it)
		case Recode: // not Decode, which is the function
			f.recode(l, b, max(want, b.BaseOffset()), p)
		}
	}
}

// fetchRefused deals with the error of one partition.
func (f *Flow) fetchRefused(l *lane, err error) {
	l.known, l.asking = false, nil
	l.fetchFailed++
	if l.replica >= 0 { // first ask the leader
		l.replica = -1
		f.leaveFetcher(l)
		return
	}
	if isError(err, kerr.OffsetOutOfRange) {
		l.ranging = true
		f.out.Ranges = append(f.out.Ranges, l.Source)
		return
	}
	f.out.SourceMetadata = true
	f.rest(&l.fetchUntil, l.fetchFailed)
	if l.fetchFailed > 2 || isError(err, kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID) {
		f.troubled(l, fmt.Errorf("%w: %w", ErrFetch, err))
	}
}

// rest keeps a lane waiting.
func (f *Flow) rest(until *time.Time, failures int) {
	*until = f.backoff(failures)
	f.waiting++
}

// Ranged tells the first and the end offset of a partition of the source, that
// Ready.Ranges asked for.
func (f *Flow) Ranged(source Partition, first, end int64, err error, now time.Time) {
	f.now = now
	l := f.bySource[source]
	if l == nil || !l.ranging {
		return
	}
	l.ranging = false
	switch {
	case err != nil:
		f.rest(&l.fetchUntil, l.fetchFailed)
		f.troubled(l, fmt.Errorf("look up the first and last offset: %w", err))
	case l.fetchAt < first:
		f.gap(l, l.fetchAt, first, first, "retention")
	case l.fetchAt > end:
		f.truncated(l, end)
	default: // a moment of disagreement, or the log does not know the epoch of what was fetched last
		l.lastEpoch = -1
		if f.rest(&l.fetchUntil, l.fetchFailed); l.fetchFailed > 2 {
			f.troubled(l, fmt.Errorf("%w: %w, though the partition has offsets %d to %d", ErrFetch, kerr.OffsetOutOfRange, first, end))
		}
	}
}

// truncated goes on where the source's log ends now. What was copied from
// behind that is not in the source any more.
func (f *Flow) truncated(l *lane, end int64) {
	l.known = false
	if end >= l.fetchAt {
		l.lastEpoch = -1
		return
	}
	f.gap(l, end, l.fetchAt, end, "truncated")
}

// gap tells that offsets are lost to the copy, and goes on at next or stops, as
// the policy says.
func (f *Flow) gap(l *lane, from, to, next int64, cause string) {
	f.emit(Event{Kind: Gap, Source: l.Source, Target: l.Target, From: from, To: to, Cause: cause})
	if f.o.StopAtGap {
		f.park(l, from, cause, fmt.Errorf("offsets %d to %d of the source are lost (%s), and gap.policy is stop", from, to-1, cause))
		return
	}
	l.fetchAt, l.lastEpoch = next, -1
	if l.aborter != nil {
		l.aborter = &Aborter{}
	}
	if next > from {
		l.passed(next)
		return
	}
	// A log that became shorter: what is copied from now on has offsets that were copied before.
	if len(l.queue) == 0 && len(l.flying) == 0 {
		l.copied = next
	} else if len(l.queue) > 0 {
		l.queue[len(l.queue)-1].upTo = next
	} else {
		l.flying[len(l.flying)-1].upTo = next
	}
}

// damaged deals with a batch of the source that cannot be what was written: it
// is fetched again, and if it stays like that it is refused. What stands in the queue is
// in front of it.
func (f *Flow) damaged(l *lane, at, upTo int64, err error) {
	if l.corruptAt != at {
		l.corruptAt, l.corrupt = at, 0
	}
	l.corrupt++
	f.refetch(l)
	switch {
	case l.corrupt <= retryCorrupt:
		f.rest(&l.fetchUntil, l.corrupt)
		f.troubled(l, fmt.Errorf("the batch at offset %d is damaged: %w", at, err))
	case !f.o.Tolerate:
		f.park(l, at, "damaged", fmt.Errorf("the batch at offset %d of the source is damaged: %w", at, err))
	default:
		l.refused++
		f.emit(Event{Kind: Refused, Source: l.Source, Target: l.Target, From: at, To: upTo, Cause: "damaged", Err: err})
		l.fetchAt = upTo
		l.passed(upTo)
	}
}

// Leader is what metadata tells of a partition.
type Leader struct {
	Partition
	TopicID [16]byte
	Broker  int32 // -1: none
	Epoch   int32
	Err     error // of its topic
}

// SourceLeaders takes what the source's metadata says.
func (f *Flow) SourceLeaders(leaders []Leader, now time.Time) {
	f.now = now
	for _, m := range leaders {
		l := f.bySource[m.Partition]
		if l == nil || l.parked {
			continue
		}
		if m.Err != nil {
			f.troubled(l, fmt.Errorf("source: %w", m.Err))
			f.again(l, &f.out.SourceMetadata)
			continue
		}
		if l.SourceID != [16]byte{} && m.TopicID != [16]byte{} && l.SourceID != m.TopicID {
			f.emit(Event{Kind: Gap, Source: l.Source, Target: l.Target, From: l.fetchAt, To: l.fetchAt, Cause: "source recreated", SourceRecreated: true})
			f.park(l, l.fetchAt, "source recreated", fmt.Errorf("topic %s of the source was deleted and made anew: its offsets mean other records", l.Source.Topic))
			continue
		}
		l.SourceID = m.TopicID
		f.bySourceID[idPartition{m.TopicID, l.Source.ID}] = l
		if m.Broker < 0 {
			f.again(l, &f.out.SourceMetadata)
		}
		if l.leader != m.Broker {
			f.leaveFetcher(l)
			l.replica = -1
		}
		l.leader, l.leaderEpoch = m.Broker, m.Epoch
		if m.Broker >= 0 {
			f.fetcherOf(m.Broker)
		}
	}
}

// again asks for metadata once more, after a while.
func (f *Flow) again(l *lane, which *bool) {
	l.fetchFailed++
	*which = true
}

func (f *Flow) fetcherOf(broker int32) {
	if f.fetchers[broker] == nil {
		f.fetchers[broker] = &fetcher{broker: broker, ask: min(1<<20, f.o.FetchBytes)}
	}
}
