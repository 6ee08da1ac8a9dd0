package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
)

// VerifyOptions says what Verify compares.
type VerifyOptions struct {
	// Config is the mirror's configuration: it says which topics are copied and what they are called on the target.
	Config config.Settings
	// Source and Target open clients that may read.
	Source, Target func(extra ...kgo.Opt) (*kgo.Client, error)
	// Topics narrows the comparison to these topics of the source; empty: all that the mirror copies.
	Topics []string
	// Wait is how long to wait for records that the target does not have yet. Zero: not at all.
	Wait time.Duration
	// Parallel is how many partitions are compared at once; zero: 4.
	Parallel int
	// Progress, unless nil, hears how many of how many offsets of both sides have been read. Calls do not overlap.
	Progress func(read, total int64)
}

// Verify compares what a mirror's source and target hold, partition by
// partition, record by record, up to the end offsets that the source has when it
// begins. An error means that nothing could be compared; what is wrong with one partition is in
// its verdict.
func Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	v, err := newVerification(ctx, o)
	if err != nil {
		return VerifyReport{}, err
	}
	defer v.close()
	report := VerifyReport{Equal: true, Partitions: make([]PartitionVerdict, len(v.pairs))}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(max(0, o.Parallel), 4))
	for i, p := range v.pairs {
		g.Go(func() error {
			report.Partitions[i] = v.compare(ctx, p)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return VerifyReport{}, err
	}
	for _, p := range report.Partitions {
		report.Equal = report.Equal && p.Equal()
		report.Totals.add(p.VerifyCounts)
	}
	return report, nil
}

// verification is one call of Verify.
type verification struct {
	o              VerifyOptions
	source, target *kadm.Client
	committed      bool // the mirror's consumer sees committed records only
	pairs          []pair
	deadline       time.Time // until when to wait for the target

	mu          sync.Mutex
	read, total int64
}

// pair is a partition of the source with its copy.
type pair struct {
	partition
	copy                   string // the target's topic
	sourceStart, sourceEnd int64
	targetStart, targetEnd int64
}

func newVerification(ctx context.Context, o VerifyOptions) (*verification, error) {
	settings, err := parseSource(o.Config)
	if err != nil {
		return nil, err
	}
	v := &verification{o: o, deadline: time.Now().Add(o.Wait)}
	source, err := o.Source()
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	v.source = kadm.NewClient(source)
	v.committed = source.OptValue(kgo.FetchIsolationLevel) == kgo.ReadCommitted()
	target, err := o.Target()
	if err != nil {
		source.Close()
		return nil, fmt.Errorf("open the target: %w", err)
	}
	v.target = kadm.NewClient(target)
	if err := v.plan(ctx, settings); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *verification) close() {
	v.source.Close()
	v.target.Close()
}

// plan finds the partitions to compare. The end of the source is read before
// that of the target, so that what was copied by then is there.
func (v *verification) plan(ctx context.Context, settings sourceSettings) error {
	topics := v.o.Topics
	if len(topics) == 0 {
		filter, err := verifyFilter(settings)
		if err != nil {
			return err
		}
		all, err := v.source.ListTopicsWithInternal(ctx)
		if err != nil {
			return fmt.Errorf("list the source's topics: %w", err)
		}
		for _, topic := range all.Names() {
			copied, err := filter.Copies(topic)
			if err != nil {
				return err
			}
			if copied {
				topics = append(topics, topic)
			}
		}
	}
	if len(topics) == 0 {
		return errors.New("the mirror's settings match no topic of the source that this client may see")
	}
	starts, err := v.source.ListStartOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("read the source's first offsets: %w", err)
	}
	ends, err := v.sourceEnds(ctx, topics...)
	if err != nil {
		return fmt.Errorf("read the source's end offsets: %w", err)
	}
	names := map[string]string{}
	for _, topic := range topics {
		names[topic] = settings.policy.FormatRemoteTopic(settings.source, topic)
	}
	copies := slices.Sorted(maps.Values(names))
	targetStarts, err := v.target.ListStartOffsets(ctx, copies...)
	if err != nil {
		return fmt.Errorf("read the target's first offsets: %w", err)
	}
	targetEnds, err := v.target.ListCommittedOffsets(ctx, copies...)
	if err != nil {
		return fmt.Errorf("read the target's end offsets: %w", err)
	}
	for _, end := range ends.Offsets().Sorted() {
		p := pair{partition: partition{end.Topic, end.Partition}, copy: names[end.Topic], sourceEnd: end.At}
		if s, ok := starts.Lookup(p.topic, p.id); ok && s.Err == nil {
			p.sourceStart = s.Offset
		}
		if s, ok := targetStarts.Lookup(p.copy, p.id); ok && s.Err == nil {
			p.targetStart = s.Offset
		}
		if e, ok := targetEnds.Lookup(p.copy, p.id); ok && e.Err == nil {
			p.targetEnd = e.Offset
		}
		v.total += p.sourceEnd - p.sourceStart + p.targetEnd - p.targetStart
		v.pairs = append(v.pairs, p)
	}
	return errors.Join(wrap("read the source's end offsets", ends.Error()), wrap("read the source's first offsets", starts.Error()))
}

// sourceEnds returns where the mirror's consumer would come to an end. Records of aborted transactions are among
// what it copies, unless it is told otherwise.
func (v *verification) sourceEnds(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
	if v.committed {
		return v.source.ListCommittedOffsets(ctx, topics...)
	}
	return v.source.ListEndOffsets(ctx, topics...)
}

func (v *verification) sourceReader(p pair, from, to int64, seen func(int64)) *reader {
	return &reader{open: v.o.Source, topic: p.topic, partition: p.id, next: from, end: to, ends: v.sourceEnds, seen: seen}
}

// targetReader reads committed records only: what a transaction left behind is
// no copy.
func (v *verification) targetReader(p pair) *reader {
	open := func(extra ...kgo.Opt) (*kgo.Client, error) {
		return v.o.Target(append(extra, kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	}
	return &reader{open: open, topic: p.copy, partition: p.id, next: p.targetStart, end: p.targetEnd, ends: v.target.ListCommittedOffsets, seen: v.seen}
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// verifyFilter picks the topics that the mirror copies.
func verifyFilter(s sourceSettings) (TopicFilter, error) {
	include, err := newPatterns(keyTopics, s.List(keyTopics))
	if err != nil {
		return TopicFilter{}, err
	}
	exclude, err := newPatterns(keyTopicsExclude, s.List(keyTopicsExclude))
	return TopicFilter{
		include: include, exclude: exclude, policy: s.policy, target: s.target, heartbeats: s.Bool("heartbeats.replication.enabled"),
	}, err
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

// compare compares one partition.
func (v *verification) compare(ctx context.Context, p pair) PartitionVerdict {
	m := newMatching(p.sourceStart > 0)
	verdict := PartitionVerdict{Topic: p.topic, TargetTopic: p.copy, Partition: p.id, SourceEnd: p.sourceEnd}
	err := v.match(ctx, p, m)
	if err == nil {
		err = v.classify(ctx, p, m)
	}
	m.conclude(&verdict)
	if err != nil {
		verdict.Error = err.Error()
	}
	return verdict
}

// match reads both sides against each other.
func (v *verification) match(ctx context.Context, p pair, m *matching) error {
	source := v.sourceReader(p, p.sourceStart, p.sourceEnd, v.seen)
	defer source.close()
	target := v.targetReader(p)
	defer target.close()
	for {
		for {
			t, ok, err := target.read(ctx)
			if err != nil {
				return fmt.Errorf("read the target: %w", err)
			}
			if !ok {
				break
			}
			for !m.meets(t) && len(m.open) < readAhead {
				s, ok, err := source.read(ctx)
				if err != nil {
					return fmt.Errorf("read the source: %w", err)
				}
				if !ok {
					break
				}
				m.onSource(s)
			}
			if err := m.onTarget(t); err != nil {
				return err
			}
		}
		for {
			s, ok, err := source.read(ctx)
			if err != nil {
				return fmt.Errorf("read the source: %w", err)
			}
			if !ok {
				break
			}
			m.onSource(s)
		}
		if len(m.open) == 0 || m.unkept > 0 || !time.Now().Before(v.deadline) {
			return nil
		}
		if err := target.extend(ctx); err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
	}
}

// classify reads the source once more, as far as needed, to tell records that
// the target has twice from such as the source never had, and from those that are newer
// than the comparison.
func (v *verification) classify(ctx context.Context, p pair, m *matching) error {
	if len(m.surplus) == 0 {
		return nil
	}
	ends, err := v.sourceEnds(ctx, p.topic)
	if err != nil {
		return fmt.Errorf("read the source's end offset: %w", err)
	}
	newest := p.sourceEnd
	if e, ok := ends.Lookup(p.topic, p.id); ok && e.Err == nil {
		newest = e.Offset
	}
	for _, part := range []struct {
		from, to int64
		found    func(sighting)
	}{{p.sourceEnd, newest, m.newer}, {p.sourceStart, p.sourceEnd, m.again}} {
		r := v.sourceReader(p, part.from, part.to, func(int64) {})
		for len(m.surplus) > 0 {
			s, ok, err := r.read(ctx)
			if err != nil {
				r.close()
				return fmt.Errorf("read the source again: %w", err)
			}
			if !ok {
				break
			}
			part.found(s)
		}
		r.close()
	}
	return nil
}

// reader reads one partition up to an offset.
type reader struct {
	open      func(extra ...kgo.Opt) (*kgo.Client, error)
	topic     string
	partition int32
	next, end int64 // the next offset to read; where to end
	ends      func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)
	seen      func(offsets int64)

	client  *kgo.Client
	records []*kgo.Record
	buf     []byte
	idle    int
}

func (r *reader) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// read returns the next record, and false at the end.
func (r *reader) read(ctx context.Context) (s sighting, ok bool, err error) {
	for r.next < r.end {
		if len(r.records) == 0 {
			if err := r.poll(ctx); err != nil {
				return s, false, err
			}
			continue
		}
		record := r.records[0]
		r.records = r.records[1:]
		if record.Offset >= r.end { // beyond the end; it may be asked for later
			r.records = append([]*kgo.Record{record}, r.records...)
			r.next = r.end
			break
		}
		r.seen(record.Offset + 1 - r.next)
		r.next = record.Offset + 1
		if record.Attrs.IsControl() {
			continue
		}
		s, r.buf = sight(record, r.buf)
		return s, true, nil
	}
	return s, false, nil
}

// idleTime is how long a partition may yield nothing before the broker is asked
// whether it is there at all; after the second time what is left holds no
// records (compaction leaves such ends behind).
const idleTime = 5 * time.Second

func (r *reader) poll(ctx context.Context) error {
	if r.client == nil {
		cl, err := r.open(kgo.KeepControlRecords(), kgo.FetchMaxWait(250*time.Millisecond),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: {r.partition: kgo.NewOffset().At(r.next)}}))
		if err != nil {
			return err
		}
		r.client = cl
	}
	waiting, cancel := context.WithTimeout(ctx, idleTime)
	defer cancel()
	fetches := r.client.PollFetches(waiting)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fetches.EachRecord(func(record *kgo.Record) { r.records = append(r.records, record) })
	if len(r.records) > 0 {
		r.idle = 0
		return nil
	}
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			return e.Err
		}
	}
	if waiting.Err() == nil {
		return nil
	}
	if _, err := r.endOffset(ctx); err != nil {
		return fmt.Errorf("at offset %d of %d: %w", r.next, r.end, err)
	}
	if r.idle++; r.idle >= 2 {
		r.seen(r.end - r.next)
		r.next = r.end
	}
	return nil
}

func (r *reader) endOffset(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*idleTime)
	defer cancel()
	ends, err := r.ends(ctx, r.topic)
	if err != nil {
		return 0, err
	}
	e, ok := ends.Lookup(r.topic, r.partition)
	if !ok || errors.Is(e.Err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	return e.Offset, e.Err
}

// extend waits a moment and lets read go on to where the partition ends then.
func (r *reader) extend(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(100 * time.Millisecond):
	}
	end, err := r.endOffset(ctx)
	r.end = max(r.end, end)
	return err
}
