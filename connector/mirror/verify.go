package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
	"barnabas/connector/transform"
)

// VerifyOptions says what Verify compares.
type VerifyOptions struct {
	// Config is the mirror's configuration: it says which topics are copied and what they are called on the target.
	Config config.Settings
	// Source and Target open clients that may read.
	Source, Target func(extra ...kgo.Opt) (*kgo.Client, error)
	// Topics narrows the comparison to these topics of the source; empty: all that the mirror copies.
	Topics []string
	// Wait is how long, from the start, the copy may take to reach the ends that the source has then. Zero:
	// what is not there is missing.
	Wait time.Duration
	// Parallel is how many partitions are compared at once; zero: 4. Each takes about 20 MB of memory, and
	// 40 MB more where there are many differences.
	Parallel int
	// Limit bounds the bytes per second of both sides together; zero: nothing does.
	Limit int64
	// Sample is the part of the records to compare, from 0 to 1; zero: all. Seed chooses which; zero: one is made up.
	// What is proven then is said at Sampled.
	Sample float64
	Seed   uint64
	// State names a file that takes down what has been compared; if it is there, the comparison goes on from it. Empty: none.
	State string
	// Digests are wanted in the verdicts. Then every record has to be hashed, which takes several times as long.
	Digests bool
	// Progress, unless nil, hears how many of how many offsets of both sides have been read. Calls do not overlap.
	Progress func(read, total int64)

	keys      int           // of compacted topics, remembered at once; 0: keysAtOnce
	saveEvery time.Duration // 0: saveEvery
}

// Verify compares what a mirror's source and target hold, partition by
// partition, record by record, up to the end offsets that the source has when it
// begins. Records of aborted transactions are none, but for a source that the mirror itself reads uncommitted.
// What it says holds for the moment at which it read; retention and compaction go on meanwhile. An error means that
// nothing could be compared; what is wrong with one partition is in its verdict.
func Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	started := time.Now()
	v, err := newVerification(ctx, o)
	if err != nil {
		return VerifyReport{}, err
	}
	defer v.close()
	report := VerifyReport{Equal: true, Partitions: make([]PartitionVerdict, len(v.pairs)), Committed: v.source.committed, Started: started}
	saving, stop := context.WithCancel(ctx)
	saved := make(chan error, 1)
	go func() { saved <- v.state.run(saving) }()
	err = v.all(ctx, report.Partitions)
	stop()
	if err := errors.Join(err, <-saved); err != nil {
		return VerifyReport{}, err
	}
	for _, p := range report.Partitions {
		report.Equal = report.Equal && p.Equal()
		report.Totals.add(p.VerifyCounts)
	}
	if v.sampling() {
		report.Sample, report.Seed = v.o.Sample, v.o.Seed
	}
	took := time.Since(started)
	report.Duration, report.Bytes = took.Seconds(), v.bytes.Load()
	report.Rate = float64(report.Bytes) / 1e6 / max(took.Seconds(), 1e-3)
	return report, nil
}

// all compares all partitions.
func (v *verification) all(ctx context.Context, verdicts []PartitionVerdict) error {
	slots := make(chan *slot, v.parallel())
	for range cap(slots) {
		slots <- &slot{}
	}
	defer func() {
		for range cap(slots) {
			(<-slots).close()
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(slots))
	for i, p := range v.pairs {
		g.Go(func() error {
			s := <-slots
			defer func() { slots <- s }()
			if err := s.open(v.o); err != nil {
				return err
			}
			verdicts[i] = v.compare(ctx, s, p)
			return ctx.Err()
		})
	}
	return g.Wait()
}

// slot is what the comparison of a partition reads with: clients of its own, as a
// connection serves one fetch after the other.
type slot struct{ source, target *kgo.Client }

func (s *slot) open(o VerifyOptions) error {
	if s.target != nil {
		return nil
	}
	var err error
	if s.source, err = o.Source(); err != nil {
		return fmt.Errorf("open the source: %w", err)
	}
	if s.target, err = o.Target(); err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	return nil
}

func (s *slot) close() {
	for _, c := range []*kgo.Client{s.source, s.target} {
		if c != nil {
			c.Close()
		}
	}
}

// verification is one call of Verify.
type verification struct {
	o              VerifyOptions
	source, target *verifySide
	pairs          []pair
	given          time.Time // until when to wait for the target
	state          *verifyState
	bytes          atomic.Int64

	mu          sync.Mutex
	read, total int64
}

// pair is a partition of the source with its copy.
type pair struct {
	partition
	copy                   string // the target's topic
	sourceStart, sourceEnd int64
	targetStart, targetEnd int64
	compacted              bool // one side is, by its settings
	share                  *share
}

func (p pair) there() partition { return partition{p.copy, p.id} }

func (p pair) offsets() int64 { return p.sourceEnd - p.sourceStart + p.targetEnd - p.targetStart }

func (v *verification) parallel() int { return cmp.Or(max(0, v.o.Parallel), 4) }

func (v *verification) sampling() bool { return v.o.Sample > 0 && v.o.Sample < 1 }

func newVerification(ctx context.Context, o VerifyOptions) (*verification, error) {
	settings, err := parseSource(o.Config)
	if err != nil {
		return nil, err
	}
	v := &verification{o: o, given: time.Now().Add(o.Wait)}
	if v.sampling() && o.Seed == 0 {
		v.o.Seed = rand.Uint64N(1<<32-1) + 1 //nolint:gosec // chooses a sample
	}
	source, err := o.Source()
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	target, err := o.Target()
	if err != nil {
		source.Close()
		return nil, fmt.Errorf("open the target: %w", err)
	}
	var limit *pace
	if o.Limit > 0 {
		limit = &pace{perSecond: o.Limit}
	}
	committed := source.OptValue(kgo.FetchIsolationLevel) == kgo.ReadCommitted()
	v.source = &verifySide{name: "source", client: source, committed: committed, pace: limit, bytes: &v.bytes, topics: map[string]*topicPlace{}}
	// What a transaction left behind on the target is no copy.
	v.target = &verifySide{name: "target", client: target, committed: true, pace: limit, bytes: &v.bytes, topics: map[string]*topicPlace{}}
	if settings.policy.chain != nil {
		v.source.plan = func(topic string) transform.Plan { return settings.policy.plan(settings.source, topic) }
	}
	if err := v.plan(ctx, settings); err != nil {
		v.close()
		return nil, err
	}
	if o.Config[keyProvenance].Written == "true" {
		v.source.mark, err = newMark(v.source.cluster, v.target.cluster)
	}
	if err == nil {
		v.state, err = v.openState()
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *verification) close() {
	v.source.client.Close()
	v.target.client.Close()
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// share is a partition's part of the progress.
type share struct {
	v    *verification
	left int64
}

func (s *share) seen(n int64) {
	n = min(n, s.left)
	s.left -= n
	s.v.seen(n)
}

// done says that nothing more will be read.
func (s *share) done() { s.seen(s.left) }

// more says that offsets will be read besides.
func (s *share) more(n int64) {
	s.left += n
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	s.v.total += n
}

// seen counts offsets for the progress.
func (v *verification) seen(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.read += n
	if v.o.Progress != nil {
		v.o.Progress(min(v.read, v.total), v.total)
	}
}
