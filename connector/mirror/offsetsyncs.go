package mirror

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
)

// offsetSyncs writes MirrorMaker 2's offset-syncs: samples of which source offset stands at which target offset, for
// those who translate offsets as it does. Our own translation needs none of them. That they cannot be written is told and does not
// hold up the copy.
//
// When there is a sync follows OffsetSyncWriter of Kafka 4.3.1: at the first record, where offsets are skipped or go back,
// every offset.lag.max records, and for the newest record at every commit. Where MirrorMaker bounds what is on the way, and loses
// what comes meanwhile, this writes at every commit, and of many syncs those that OffsetSyncStore would keep: the older, the wider apart.
type offsetSyncs struct {
	tc       connector.TaskContext
	s        sourceSettings
	lag      int64 // offset.lag.max
	location string
	warn     *throttle
	wake     chan struct{} // holds a token when there is something to write
	writer   *cluster

	mu     sync.Mutex
	states map[partition]*syncState
	ready  map[partition][]OffsetSync // to be written, in order
}

// syncState is what is known of one partition in this session.
type syncState struct {
	upstream, downstream int64 // of the record before
	last                 int64 // target offset of the last sync that was not for a commit; -1: none
	heard                []OffsetSync
	newest               *OffsetSync // of no sync yet
}

// maxHeard bounds the syncs of a partition that wait.
const maxHeard = 256

// newOffsetSyncs returns nil, whose methods do nothing, if the connector emits none.
func newOffsetSyncs(tc connector.TaskContext, s sourceSettings) *offsetSyncs {
	if !s.Bool(keyEmitSyncs) {
		return nil
	}
	return &offsetSyncs{
		tc: tc, s: s, lag: max(0, s.Int64("offset.lag.max")), location: s.String(keySyncsLocation), warn: newThrottle(time.Minute),
		wake: make(chan struct{}, 1), states: map[partition]*syncState{}, ready: map[partition][]OffsetSync{},
	}
}

// begin forgets what a former session has heard: the target may have gone back.
func (o *offsetSyncs) begin() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.states)
}

// heard takes a run of records that have been copied.
func (o *offsetSyncs) heard(p partition, source, target, count int64) {
	if o == nil || count <= 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.states[p]
	if st == nil {
		st = &syncState{upstream: -1, downstream: -1, last: -1}
		o.states[p] = st
	}
	st.run(p, offsetrun.Run{Source: source, Target: target, Count: count}, o.lag)
	if len(st.heard) > maxHeard {
		st.heard = thinned(st.heard)
	}
}

// run notes the syncs of a run (OffsetSyncWriter.PartitionState.update, for many records at once).
func (st *syncState) run(p partition, r offsetrun.Run, lag int64) {
	sync := func(i int64) OffsetSync {
		return OffsetSync{Topic: p.topic, Partition: p.id, Upstream: r.Source + i, Downstream: r.Target + i}
	}
	if st.last == -1 || r.Target-(st.last+1) >= lag || r.Source-st.upstream != 1 || r.Target < st.downstream {
		st.heard = append(st.heard, sync(0))
		st.last = r.Target
	}
	st.upstream, st.downstream = r.Source+r.Count-1, r.Target+r.Count-1
	// After that every step records, of which only those are made that will be kept.
	step := lag + 1
	if n := (st.downstream - st.last) / step; n > 0 {
		base := st.last - r.Target
		var back []int64
		for distance := int64(0); distance < n; distance = max(1, 2*distance) {
			back = append(back, n-distance)
		}
		for _, i := range slices.Backward(back) {
			st.heard = append(st.heard, sync(base+i*step))
		}
		st.last += n * step
	}
	st.newest = nil
	if st.last != st.downstream {
		newest := sync(r.Count - 1)
		st.newest = &newest
	}
}

// thinned leaves out syncs so that from the newest one on the distance doubles, as between those that
// OffsetSyncStore keeps. A sync that goes back makes all before it void.
func thinned(syncs []OffsetSync) []OffsetSync {
	newest := syncs[len(syncs)-1]
	kept := []OffsetSync{newest}
	next := int64(1)
	for _, s := range slices.Backward(syncs[:len(syncs)-1]) {
		distance := newest.Upstream - s.Upstream
		if distance < 0 || s.Downstream > kept[len(kept)-1].Downstream {
			break
		}
		if distance >= next {
			kept = append(kept, s)
			next = 2 * distance
		}
	}
	slices.Reverse(kept)
	return kept
}

// due says that what was heard is durable and that a commit is over: it is written now.
func (o *offsetSyncs) due() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, st := range o.states {
		if st.newest != nil {
			st.heard = append(st.heard, *st.newest)
			st.newest = nil
		}
		if len(st.heard) == 0 {
			continue
		}
		o.ready[p] = append(o.ready[p], st.heard...)
		if len(o.ready[p]) > maxHeard {
			o.ready[p] = thinned(o.ready[p])
		}
		st.heard = nil
	}
	if len(o.ready) == 0 {
		return
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run writes what is due until ctx or running ends. It never fails.
func (o *offsetSyncs) Run(ctx, running context.Context) error {
	if o == nil {
		return nil
	}
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		case <-o.wake:
		}
		err := o.write(ctx)
		if err == nil {
			failures = 0
			continue
		}
		if failures++; ctx.Err() == nil && o.warn.allow("write") {
			o.tc.Log.WarnContext(ctx, "offset-syncs are not written: MirrorMaker cannot translate offsets of this copy", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-running.Done():
		case <-time.After(backoff(failures, time.Second, time.Minute)):
		}
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// finish writes what is left.
func (o *offsetSyncs) finish(ctx context.Context) {
	if o == nil {
		return
	}
	if err := o.write(ctx); err != nil && o.warn.allow("write") {
		o.tc.Log.WarnContext(ctx, "last offset-syncs are not written", "err", err)
	}
}

// write writes what is due. What could not be written stays due.
func (o *offsetSyncs) write(ctx context.Context) error {
	o.mu.Lock()
	due := o.ready
	o.ready = map[partition][]OffsetSync{}
	o.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	err := o.send(ctx, due)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		for p, syncs := range due {
			if o.ready[p] = append(syncs, o.ready[p]...); len(o.ready[p]) > maxHeard {
				o.ready[p] = thinned(o.ready[p])
			}
		}
	}
	return err
}

func (o *offsetSyncs) send(ctx context.Context, due map[partition][]OffsetSync) error {
	topic := o.topic()
	if o.writer == nil {
		if err := o.open(ctx, topic); err != nil {
			return err
		}
	}
	var records []*kgo.Record
	for _, p := range slices.SortedFunc(maps.Keys(due), partition.compare) {
		for _, s := range due[p] {
			key, value, err := s.Encode()
			if err != nil {
				return err
			}
			records = append(records, &kgo.Record{Topic: topic, Key: key, Value: value})
		}
	}
	return o.writer.produce(ctx, "write offset-syncs", records)
}

// topic names the topic: it is on the source, unless offset-syncs.topic.location says target, and named after
// the other cluster (MirrorConnectorConfig.offsetSyncsTopic).
func (o *offsetSyncs) topic() string { return syncsTopic(o.s) }

func syncsTopic(s sourceSettings) string {
	if s.String(keySyncsLocation) == "target" {
		return s.policy.OffsetSyncsTopic(s.source)
	}
	return s.policy.OffsetSyncsTopic(s.target)
}

// makeSyncs has the topic of offset-syncs be there before there is anything to write, as MirrorSourceConnector does: whoever
// reads it need not wait for a first record. That it cannot be made is told by the task that cannot write to it.
func (p *planner) makeSyncs(ctx context.Context) {
	if p.syncs || !p.s.Bool(keyEmitSyncs) {
		return
	}
	p.syncs = true
	at := p.source
	if p.s.String(keySyncsLocation) == "target" {
		at = p.target
	}
	kept := keptTopic{syncsTopic(p.s), int16(p.s.Int(keyOffsetSyncsReplication)), keyOffsetSyncsReplication}
	if err := kept.ensure(ctx, at, p.Log); err != nil {
		p.Log.DebugContext(ctx, "the topic of offset-syncs is not there yet", "topic", kept.name, "err", err)
	}
}

// open makes the topic and a producer for it.
func (o *offsetSyncs) open(ctx context.Context, topic string) error {
	side, role := sourceSide, [2]connector.Role{connector.SourceAdmin, connector.SourceProducer}
	if o.location == "target" {
		side, role = targetSide, [2]connector.Role{connector.TargetAdmin, connector.TargetProducer}
	}
	admin, err := openCluster(ctx, side(role[0], o.s), requestTimeout, o.tc.Settings, o.tc.Clients)
	if err != nil {
		return err
	}
	defer admin.client.Close()
	kept := keptTopic{topic, int16(o.s.Int(keyOffsetSyncsReplication)), keyOffsetSyncsReplication}
	if err := kept.ensure(ctx, admin, o.tc.Log); err != nil {
		return err
	}
	o.writer, err = openCluster(ctx, side(role[1], o.s), requestTimeout, o.tc.Settings, o.tc.Clients, toPartitions())
	return err
}
