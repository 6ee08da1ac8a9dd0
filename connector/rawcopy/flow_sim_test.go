package rawcopy

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	simSeeds = flag.Int("flow.seeds", 300, "how many seeds TestFlowUnderFaults tries")
	simSeed  = flag.Uint64("flow.seed", 0, "the one seed to try")
)

// TestFlowUnderFaults copies between two clusters that exist only here, with
// every fault that a broker or a network can have, and looks whether each record stands in the target
// once and in its place.
func TestFlowUnderFaults(t *testing.T) {
	t.Parallel()
	if *simSeed != 0 {
		newSim(t, *simSeed).run()
		return
	}
	faults := 0
	for seed := range uint64(*simSeeds) {
		s := newSim(t, seed+1)
		s.run()
		faults += s.faults
		if t.Failed() {
			t.Fatalf("seed %d: go test -run TestFlowUnderFaults -flow.seed=%d", seed+1, seed+1)
		}
	}
	t.Logf("%d seeds, %d faults", *simSeeds, faults)
}

// sim is two clusters and the flow between them. Time is its own.
type sim struct {
	t      *testing.T
	r      *rand.Rand
	flow   *Flow
	now    time.Time
	events []simEvent // by time
	parts  []*simPartition
	calm   bool // no more faults
	faults int
	links  map[int32]time.Time // when the last request to a target broker is answered
	wake   time.Time
	txn    bool
	ending bool
	epoch  int16
	looks  [2]bool
	refuse bool
	err    error
	stopAt int // step; -1: not before the end
	copied []int64
}

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

// simPartition is a partition on both sides.
type simPartition struct {
	Partition
	source         []Batch // with their offsets
	wanted         []string
	offsets        map[string]int64
	first, end     int64
	leader, target int32
	log            []simRecord // of the target
	base           int64
	appended       []simAppend // the last five of the producer
	untold         bool        // the books do not know of a record that was left out
	epoch          int16
	next           int32
	known          bool // the broker has a batch of the producer
}

type simRecord struct {
	value string
	epoch int16
}

type simAppend struct {
	seq, count int32
	base       int64
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, r: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_700_000_000_000), links: map[int32]time.Time{}}
	s.refuse = s.r.IntN(4) == 0
	if s.stopAt = -1; s.r.IntN(4) == 0 {
		s.stopAt = s.r.IntN(300)
	}
	s.txn = s.r.IntN(3) == 0
	o := FlowOptions{
		FetchBytes: 64 << 10, FetchPartitionBytes: 16 << 10, MinBytes: 1, MaxWait: 500 * time.Millisecond, RequestBytes: 32 << 10, InFlight: 5,
		Timeout: time.Second, Tolerate: true, Jitter: s.r.Float64, Explicit: s.txn && s.r.IntN(2) == 0, WaitForBooks: s.r.IntN(2) == 0,
	}
	if s.txn {
		id := "t"
		o.TransactionalID = &id
	}
	s.flow = NewFlow(o)
	s.flow.Begin(Identity{ID: 7})
	s.flow.Allow(96 << 10)
	for i := range 1 + s.r.IntN(4) {
		p := &simPartition{Partition: Partition{"t", int32(i)}, leader: int32(s.r.IntN(3)), target: int32(s.r.IntN(3)), offsets: map[string]int64{}}
		s.fill(p)
		s.parts = append(s.parts, p)
		s.flow.Add(LaneConfig{Source: p.Partition, Target: Partition{"B.t", p.ID}, Codec: -1, Limits: Limits{MaxBytes: 1 << 20, KeepAppendTime: true, Codecs: 0x1f}})
	}
	return s
}

// fill writes the source: batches of all sizes, some of them tiny, some of them
// with holes.
func (s *sim) fill(p *simPartition) {
	tiny := s.r.IntN(3) == 0
	at := int64(s.r.IntN(1000))
	p.first = at
	for range 5 + s.r.IntN(60) {
		n := 1 + s.r.IntN(20)
		if tiny {
			n = 1
		}
		var records []Record
		for range n {
			value := fmt.Sprintf("%d@%d", p.ID, at)
			records = append(records, Record{Offset: at, Timestamp: at, Key: []byte("k"), Value: []byte(value)})
			p.wanted = append(p.wanted, value)
			p.offsets[value] = at
			at++
		}
		codec := int8(s.r.IntN(5))
		encoded, err := Encode(records, codec, 1<<20)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range encoded {
			e.Batch.setBaseOffset(e.Spans[0].Source)
			p.source = append(p.source, e.Batch)
		}
		if s.r.IntN(6) == 0 { // the batch's last records were compacted away
			last := p.source[len(p.source)-1]
			hole := 1 + s.r.IntN(3)
			binary.BigEndian.PutUint32(last[23:], uint32(int(last.LastOffsetDelta())+hole))
			binary.BigEndian.PutUint32(last[17:], crc32.Checksum(last[21:], castagnoli))
			at += int64(hole)
		}
		if s.r.IntN(8) == 0 {
			at += int64(s.r.IntN(5)) // aborted, or compacted away
		}
	}
	last := p.source[len(p.source)-1]
	p.end = max(at, last.LastOffset()+1)
}

func (s *sim) after(d time.Duration, do func()) {
	s.events = append(s.events, simEvent{s.now.Add(d), len(s.events), do})
	slices.SortStableFunc(s.events, func(a, b simEvent) int { return a.at.Compare(b.at) })
}

func (s *sim) chance(n int) bool {
	if s.calm || s.r.IntN(n) != 0 {
		return false
	}
	s.faults++
	return true
}

func (s *sim) run() {
	for step := 0; ; step++ {
		s.step()
		if (s.refuse || errors.Is(s.err, kerr.CorruptMessage)) && errors.Is(s.err, ErrRestart) {
			return // a batch that may have been taken before is refused now: only a new flow can tell
		}
		if s.err != nil {
			s.t.Fatalf("after %d steps: %v", step, s.err)
		}
		if step == s.stopAt {
			s.flow.Stop()
			s.calm = true
		}
		// When it is settled, the books are written: nothing may follow, whatever was on the way.
		if s.flow.stopping && s.copied == nil && s.flow.Settled() {
			for _, l := range s.flow.lanes {
				s.copied = append(s.copied, l.copied)
			}
		}
		if s.complete() || s.copied != nil && len(s.events) == 0 {
			break
		}
		s.calm = s.calm || step > 4000
		if step > 40000 {
			s.dump()
			s.t.Fatalf("does not end; held %d of %d", s.flow.held, s.flow.allowed)
		}
		if len(s.events) == 0 {
			if s.wake.IsZero() {
				s.dump()
				s.t.Fatal("nothing is going to happen any more")
			}
			s.now = s.wake
			continue
		}
		e := s.events[0]
		if !s.wake.IsZero() && s.wake.Before(e.at) && s.wake.After(s.now) {
			s.now = s.wake
			continue
		}
		s.events = s.events[1:]
		s.now = e.at
		e.do()
	}
	s.check()
}

func (s *sim) complete() bool {
	if s.flow.stopping {
		return false
	}
	for _, l := range s.flow.lanes {
		if l.copied < s.parts[l.Source.ID].end-0 && !(len(l.queue)+len(l.flying) == 0 && l.fetchAt >= s.parts[l.Source.ID].source[len(s.parts[l.Source.ID].source)-1].LastOffset()+1) {
			return false
		}
	}
	return true
}

// step does what the flow wants.
func (s *sim) step() {
	r := s.flow.Ready(s.now)
	s.wake = r.Wake
	if r.Err != nil {
		s.err = r.Err
	}
	if r.Starved && (s.wake.IsZero() || s.wake.After(s.now.Add(5*time.Millisecond))) {
		s.wake = s.now.Add(5 * time.Millisecond)
	}
	for _, e := range r.Events {
		if e.Kind == Refused && s.flow.o.WaitForBooks {
			s.parts[e.Source.ID].untold = true
			s.after(s.delay(), func() {
				s.parts[e.Source.ID].untold = false
				s.flow.Noted([]Partition{e.Source})
			})
		}
	}
	for _, f := range r.Fetch {
		s.fetch(f)
	}
	for _, p := range r.Send {
		s.produce(p)
	}
	for _, j := range r.Decode {
		s.after(s.delay(), func() { j.Run(); s.flow.Done(j, s.now) })
	}
	if len(r.AddPartitions) > 0 {
		s.after(s.delay(), func() {
			var err error
			if s.chance(5) {
				err = kerr.ConcurrentTransactions
			}
			s.flow.PartitionsAdded(r.AddPartitions, err, s.now)
		})
	}
	for _, p := range r.Ranges {
		s.after(s.delay(), func() { s.flow.Ranged(p, s.parts[p.ID].first, s.parts[p.ID].end, nil, s.now) })
	}
	if r.SourceMetadata {
		s.look(0)
	}
	if r.TargetMetadata {
		s.look(1)
	}
	if !s.calm && s.r.IntN(200) == 0 {
		p := s.parts[s.r.IntN(len(s.parts))]
		p.leader, p.target = int32(s.r.IntN(3)), int32(s.r.IntN(3))
		s.faults++
	}
	if s.txn && !s.ending && s.r.IntN(50) == 0 {
		s.ending = true
		s.flow.Hold()
	}
	if s.ending && s.flow.Settled() {
		s.ending = false
		s.epoch++
		s.flow.Resume(Identity{ID: 7, Epoch: s.epoch})
		s.after(0, func() {})
	}
}

func (s *sim) delay() time.Duration { return time.Duration(1+s.r.IntN(20)) * time.Millisecond }

func (s *sim) look(side int) {
	if s.looks[side] {
		return
	}
	s.looks[side] = true
	s.after(s.delay()*5, func() {
		s.looks[side] = false
		var leaders []Leader
		for _, p := range s.parts {
			if side == 0 {
				leaders = append(leaders, Leader{Partition: p.Partition, TopicID: [16]byte{1}, Broker: p.leader})
			} else {
				leaders = append(leaders, Leader{Partition: Partition{"B.t", p.ID}, TopicID: [16]byte{2}, Broker: p.target})
			}
		}
		if side == 0 {
			s.flow.SourceLeaders(leaders, s.now)
		} else {
			s.flow.TargetLeaders(leaders, s.now)
		}
	})
}

// sessions of the source's brokers are not modelled further than that a broker
// answers for what it was asked, and sometimes has forgotten.
func (s *sim) fetch(f *Fetch) {
	if s.chance(20) {
		s.after(s.delay(), func() { s.flow.Fetched(f, nil, errors.New("connection reset"), s.now) })
		return
	}
	resp := kmsg.NewPtrFetchResponse()
	if s.chance(20) {
		resp.ErrorCode = kerr.FetchSessionIDNotFound.Code
	}
	for _, l := range s.flow.lanes {
		if l.asking != f {
			continue
		}
		p := s.parts[l.Source.ID]
		r := kmsg.NewFetchResponseTopicPartition()
		r.Partition, r.HighWatermark, r.LastStableOffset, r.LogStartOffset, r.PreferredReadReplica = p.ID, p.end, p.end, p.first, -1
		r.DivergingEpoch.Epoch, r.DivergingEpoch.EndOffset = -1, -1
		switch {
		case l.askedAt < p.first || l.askedAt > p.end:
			r.ErrorCode = kerr.OffsetOutOfRange.Code
		case p.leader != f.Broker:
			r.ErrorCode = kerr.NotLeaderForPartition.Code
		default:
			for _, b := range p.source {
				if b.LastOffset() >= l.askedAt && len(r.RecordBatches) < 8<<10 {
					r.RecordBatches = append(r.RecordBatches, b...)
				}
			}
			if len(r.RecordBatches) > 200 && s.chance(20) { // the answer ends in the middle of a batch
				r.RecordBatches = r.RecordBatches[:len(r.RecordBatches)-s.r.IntN(100)]
			}
		}
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "t"
		topic.Partitions = append(topic.Partitions, r)
		resp.Topics = append(resp.Topics, topic)
	}
	wait := s.delay()
	if len(resp.Topics) == 0 {
		wait = 20 * time.Millisecond
	}
	s.after(wait, func() { s.flow.Fetched(f, resp, nil, s.now) })
}

// produce takes a request as a broker does: one after the other.
func (s *sim) produce(r *Send) {
	at := s.now
	if last := s.links[r.Broker]; last.After(at) {
		at = last
	}
	at = at.Add(s.delay())
	s.links[r.Broker] = at
	s.after(at.Sub(s.now), func() {
		if s.chance(30) { // it never arrived
			s.flow.Sent(r, nil, errors.New("connection refused"), s.now)
			return
		}
		resp := kmsg.NewPtrProduceResponse()
		seen := map[int32]bool{}
		for _, t := range r.Request.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				if seen[p.Partition] {
					s.t.Fatal("a partition stands twice in a request")
				}
				seen[p.Partition] = true
				topic.Partitions = append(topic.Partitions, s.append(r.Broker, s.parts[p.Partition], p.Records))
			}
			resp.Topics = append(resp.Topics, topic)
		}
		if s.chance(30) { // it arrived, the answer got lost
			s.flow.Sent(r, nil, errors.New("connection reset"), s.now)
			return
		}
		s.flow.Sent(r, resp, nil, s.now)
	})
}

// append is a broker's log with its producer state.
func (s *sim) append(broker int32, p *simPartition, records []byte) kmsg.ProduceResponseTopicPartition {
	r := kmsg.NewProduceResponseTopicPartition()
	r.Partition, r.BaseOffset = p.ID, -1
	b, rest, err := Split(records)
	switch {
	case err != nil || len(rest) > 0:
		s.t.Fatalf("partition %d gets %d bytes and %v", p.ID, len(rest), err)
	case p.target != broker:
		r.ErrorCode = kerr.NotLeaderForPartition.Code
		return r
	case !b.intact() || s.chance(100):
		r.ErrorCode = kerr.CorruptMessage.Code
		return r
	case s.chance(40):
		r.ErrorCode = kerr.NotEnoughReplicas.Code
		return r
	case s.txn && s.chance(40):
		r.ErrorCode = kerr.ConcurrentTransactions.Code
		return r
	}
	for _, a := range p.appended {
		if a.seq == b.BaseSequence() && a.count == b.Count() && p.epoch == b.ProducerEpoch() {
			r.BaseOffset = a.base
			return r
		}
	}
	if b.ProducerEpoch() != p.epoch {
		p.epoch, p.next, p.appended = b.ProducerEpoch(), 0, nil
	}
	// A broker that has nothing of a producer takes any sequence number from it.
	if b.BaseSequence() != p.next && p.known {
		r.ErrorCode = kerr.OutOfOrderSequenceNumber.Code
		return r
	}
	decoded, err := Decode(b, -1, 1<<20, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range decoded {
		if s.refused(string(d.Value)) {
			r.ErrorCode = kerr.InvalidRecord.Code
			return r
		}
	}
	if *simSeed != 0 {
		s.t.Logf("%v append %d seq %d count %d epoch %d first %s", s.now.UnixMilli()-1_700_000_000_000, p.ID, b.BaseSequence(), b.Count(), b.ProducerEpoch(), decoded[0].Value)
	}
	if p.untold {
		s.t.Errorf("%v goes on before the books know what was left out", p.Partition)
	}
	r.BaseOffset = p.base + int64(len(p.log))
	for _, d := range decoded {
		p.log = append(p.log, simRecord{string(d.Value), b.ProducerEpoch()})
	}
	p.appended = append(p.appended, simAppend{b.BaseSequence(), b.Count(), r.BaseOffset})
	if len(p.appended) > 5 {
		p.appended = p.appended[1:]
	}
	p.known, p.next = true, addSequence(b.BaseSequence(), b.Count())
	if s.chance(40) {
		r.ErrorCode, r.BaseOffset = kerr.NotEnoughReplicasAfterAppend.Code, -1
	}
	return r
}

// refused says which records the target will never take.
func (s *sim) refused(value string) bool {
	return s.refuse && len(value)%7 == 3 && value[len(value)-1] == '3'
}

// check compares both sides, and the runs.
func (s *sim) check() {
	for _, state := range s.flow.Snapshot() {
		p := s.parts[state.Source.ID]
		if state.Parked {
			s.t.Errorf("%v: parked: %v", p.Partition, state.Trouble)
		}
		var wanted, got []string
		for _, v := range p.wanted {
			if !s.refused(v) && (s.copied == nil || p.offsets[v] < s.copied[state.Source.ID]) {
				wanted = append(wanted, v)
			}
		}
		for _, r := range p.log {
			got = append(got, r.value)
		}
		if !slices.Equal(wanted, got) {
			at := 0
			for at < len(wanted) && at < len(got) && wanted[at] == got[at] {
				at++
			}
			s.t.Errorf("%v: %d records, want %d; from %d on %.60q, want %.60q", p.Partition, len(got), len(wanted), at, fmt.Sprint(got[at:]), fmt.Sprint(wanted[at:]))
			continue
		}
		for _, run := range state.Runs {
			for i := range run.Count {
				if v := p.log[run.Target+i].value; p.offsets[v] != run.Source+i {
					s.t.Errorf("%v: the runs say that source offset %d stands at %d, there is %s", p.Partition, run.Source+i, run.Target+i, v)
					break
				}
			}
		}
	}
	if s.flow.held != 0 && len(s.events) == 0 {
		s.t.Errorf("%d bytes are still held", s.flow.held)
	}
}

func (s *sim) dump() {
	for _, fe := range s.flow.fetchers {
		s.t.Logf("fetcher %+v", *fe)
	}
	for _, l := range s.flow.lanes {
		s.t.Logf("%v leader %d fetchUntil %v failures %d ranging %v now %v waiting %d", l.Source, l.leader, l.fetchUntil, l.failures, l.ranging, s.now, s.flow.waiting)
	}
	for _, l := range s.flow.lanes {
		s.t.Logf("%v: copied %d queue %d flying %d failing %v until %v trouble %v fetchAt %d broker %d next %d decoding %d parked %v known %v inReady %v added %v adding %v hold %v head %+v", l.Source, l.copied, len(l.queue), len(l.flying),
			l.failing, l.until, l.trouble, l.fetchAt, l.broker, l.next, l.decoding, l.parked, l.known, l.inReady, l.added, l.adding, s.flow.hold, l.head())
	}
	for _, k := range s.flow.links {
		s.t.Logf("link %+v", *k)
	}
}
