package rawcopy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// copyJob is one run of an Engine. Both topics have the same number of partitions.
type copyJob struct {
	source, target string
	partitions     int32 // 0: one
	start          int64
	limits         Limits // MaxBytes 0: 1 MiB; Codecs 0: all
	options        func(*FlowOptions)
	conn           func(net.Conn) net.Conn // around connections to the source
	then           func()                  // when all is copied; what it adds is copied too
}

// copyRun is what came of it.
type copyRun struct {
	lanes  []LaneState
	runs   [][]Run // of each lane
	events []Event
}

// decided sums up how many batches were decided for a reason.
func (c *copyRun) decided(r Reason) (n int64) {
	for _, s := range c.lanes {
		n += s.Decisions[r]
	}
	return n
}

// of are the events of a kind.
func (c *copyRun) of(kind EventKind) (all []Event) {
	for _, e := range c.events {
		if e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

// run copies all that the source has, until every partition is done or has stopped.
func (l *rawLog) run(job copyJob) *copyRun {
	l.t.Helper()
	job.partitions = max(job.partitions, 1)
	var opts []kgo.Opt
	if job.conn != nil {
		opts = append(opts, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return job.conn(conn), nil
		}))
	}
	source, err := l.broker.Client(opts...)
	if err != nil {
		l.t.Fatal(err)
	}
	defer source.Close()
	o := FlowOptions{
		FetchBytes: 4 << 20, FetchPartitionBytes: 1 << 20, MinBytes: 1, MaxWait: 100 * time.Millisecond, ReadCommitted: true,
		RequestBytes: 4 << 20, InFlight: 5, Timeout: 10 * time.Second, Jitter: func() float64 { return 0.5 },
	}
	if job.options != nil {
		job.options(&o)
	}
	id, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(l.ctx, l.client)
	if err = errors.Join(err, kerr.ErrorForCode(id.ErrorCode)); err != nil {
		l.t.Fatal(err)
	}
	flow := NewFlow(o)
	flow.Begin(Identity{ID: id.ProducerID, Epoch: id.ProducerEpoch})
	limits := job.limits
	if limits.MaxBytes == 0 {
		limits.MaxBytes = 1 << 20
	}
	if limits.Codecs == 0 {
		limits.Codecs = 0x1f
	}
	for p := range job.partitions {
		flow.Add(LaneConfig{Source: Partition{l.full(job.source), p}, Target: Partition{l.full(job.target), p}, Start: job.start, Limits: limits, Codec: -1})
	}
	c := &copyRun{runs: make([][]Run, job.partitions)}
	engine := NewEngine(source, l.client, flow, connector.NewGate(64<<20).Join(), func(e Event) { c.events = append(c.events, e) })
	ctx, cancel := context.WithCancel(l.ctx)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	l.await(job, c, engine, ended)
	cancel()
	if err := <-ended; err != nil {
		l.t.Fatalf("copy %s: %v", job.source, err)
	}
	return c
}

// await waits until everything that is committed at the source is copied.
func (l *rawLog) await(job copyJob, c *copyRun, engine *Engine, ended chan error) {
	l.t.Helper()
	ends := l.committedEnds(job.source)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var states []LaneState
		if err := engine.Do(l.ctx, func(f *Flow) { states = f.Snapshot() }); err != nil {
			if errors.Is(err, ErrEnded) {
				err = <-ended
			}
			l.t.Fatalf("copy %s: %v; %+v", job.source, err, c.lanes)
		}
		c.lanes = states
		done := true
		for i, s := range states {
			c.runs[i] = append(c.runs[i], s.Runs...)
			end, _ := ends.Lookup(l.full(job.source), s.Source.ID)
			done = done && (s.Parked || s.Copied >= end.Offset)
		}
		switch {
		case !done:
			<-tick.C
		case job.then == nil:
			return
		default:
			job.then()
			job.then, ends = nil, l.committedEnds(job.source)
		}
	}
}

func (l *rawLog) committedEnds(topic string) kadm.ListedOffsets {
	l.t.Helper()
	ends, err := kadm.NewClient(l.client).ListCommittedOffsets(l.ctx, l.full(topic))
	if err != nil {
		l.t.Fatal(err)
	}
	return ends
}

// same says that the target has the records of the source from start on, and that the runs say where.
func (l *rawLog) same(job copyJob, c *copyRun) {
	l.t.Helper()
	want, got := l.consume(job.source), l.consume(job.target)
	want = slices.DeleteFunc(want, func(r Record) bool { return r.Offset < job.start })
	at := map[int64]int64{} // target offset by source offset
	for _, r := range c.runs[0] {
		for i := range r.Count {
			at[r.Source+i] = r.Target + i
		}
	}
	if len(at) != len(want) {
		l.t.Errorf("%s: runs of %d offsets for %d records: %v", job.source, len(at), len(want), c.runs[0])
	}
	for i := range want {
		target, ok := at[want[i].Offset]
		if !ok {
			l.t.Errorf("%s: no run has offset %d", job.source, want[i].Offset)
		}
		want[i].Offset = target
	}
	if d := difference(want, got); d != "" {
		l.t.Errorf("%s: %s", job.source, d)
	}
}

// compacted makes a topic and has the cleaner thin it out: batches with holes of every codec, batches that are
// empty now, and untouched ones.
func (l *rawLog) compacted(name string) string {
	l.t.Helper()
	settings := map[string]*string{}
	for key, value := range map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100", "segment.ms": "100", "delete.retention.ms": "0",
	} {
		settings[key] = &value
	}
	l.topic(name, settings)
	// One batch of a producer of its own, whose only record will be overwritten: the cleaner keeps its header.
	// It forgets producers that have written nothing for long.
	emptied := encoded(l.t, []Record{{Timestamp: time.Now().UnixMilli(), Key: []byte("gone"), Value: []byte("soon")}}, 0)
	Rewrite(emptied, Stamp{ProducerID: 4711})
	l.fill(name, emptied)
	for round := range 3 {
		for codec := range lastCodec + 1 {
			var records []Record
			for i := range 12 {
				if round == 1 && i%3 == 0 { // overwrites what the first round has written
					continue
				}
				records = append(records, Record{
					Timestamp: int64(vectorTime + 100*round + i), Key: fmt.Appendf(nil, "%d-%d-%d", codec, i, round/2), Value: fmt.Appendf(nil, "value of round %d", round),
				})
			}
			l.fill(name, encoded(l.t, records, codec))
		}
	}
	l.fill(name, encoded(l.t, []Record{{Timestamp: vectorTime, Key: []byte("gone"), Value: []byte("again")}}, 0))
	for { // a record rolls the segment; then the cleaner may take it
		l.fill(name, encoded(l.t, []Record{{Timestamp: time.Now().UnixMilli(), Key: []byte("roll"), Value: []byte("on")}}, 0))
		first, _, err := Split(l.fetch(name, 0).RecordBatches)
		if err != nil {
			l.t.Fatal(err)
		}
		if first.Count() == 0 {
			return name
		}
		if l.ctx.Err() != nil {
			l.t.Fatal("the cleaner does not run")
		}
	}
}
