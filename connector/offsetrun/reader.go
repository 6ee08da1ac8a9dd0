package offsetrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// Bounds of a Reader's requests.
const (
	readTimeout         = 30 * time.Second // of a Read whose context has no deadline
	requestTimeout      = 5 * time.Second
	fetchWait           = 500 * time.Millisecond
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 2 << 20
	firstBackoff        = 10 * time.Millisecond
	lastBackoff         = time.Second
)

// ReaderOptions says what a Reader reads.
type ReaderOptions struct {
	Client *kgo.Client // to the target cluster; it need not consume anything
	Topic  string
	// Partitions to read; nil: all.
	Partitions []int32
	// Keep says which books to keep; nil: all.
	Keep func(Key) bool
}

// Reader reads the topic to its end, and again from there when asked again.
//
// It shows what is committed, also where that stands behind somebody else's open transaction: the state of
// a writer that was just fenced must not be missed because another task's transaction takes its time.
//
// It is not safe for concurrent use.
type Reader struct {
	o            ReaderOptions
	id           [16]byte
	parts        map[int32]*part
	stale        bool // leaders are to be asked for
	listed       bool // the ends are known that this Read has to reach
	decompressor kgo.Decompressor
	skipped      int
}

// part is what was read of one partition of the topic.
type part struct {
	id       int32
	leader   int32
	epoch    int32
	position int64 // all below has been read
	leaves   map[Key]*leaf

	// Behind position, up to the high watermark as of the last Read: read again the next time.
	ahead   map[Key]*leaf
	pending map[int64][]*kgo.Record // by producer, in open transactions
	at      int64

	stable, high int64 // what this Read has to reach: last stable offset and high watermark
	reset        bool  // the position is out of range
}

// NewReader returns a reader that has read nothing.
func NewReader(o ReaderOptions) *Reader {
	return &Reader{o: o, parts: map[int32]*part{}, decompressor: kgo.DefaultDecompressor()}
}

// Read reads everything that was acknowledged before the call, and of transactions those whose end stands in the
// topic: the answer to a commit comes a little earlier, but a fence waits for it. What passes by itself is tried
// again until ctx ends (30 s if it has no deadline); after an error the books are as they were read so far.
func (r *Reader) Read(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	// The topic may have been recreated since the last time, with as many records.
	r.stale, r.listed = true, false
	backoff := firstBackoff
	for {
		err := r.round(ctx)
		if err == nil && r.reached() {
			return nil
		}
		if err == nil {
			backoff = firstBackoff
			continue
		}
		if !passes(err) {
			return fmt.Errorf("read %s: %w", r.o.Topic, err)
		}
		r.stale = true
		timer := time.NewTimer(time.Duration(float64(backoff) * (0.5 + rand.Float64()))) //nolint:gosec // jitter
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("read %s: %w (%w)", r.o.Topic, err, ctx.Err())
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// passes says whether an error may be over the next time: what Kafka calls retriable, and everything that
// is not an answer (connections).
func passes(err error) bool {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Retriable
	}
	return !errors.Is(err, kgo.ErrClientClosed) && !errors.Is(err, errNoSuchPartition)
}

var errNoSuchPartition = errors.New("there is no such partition")

// round does the next thing: leaders, then ends, then one fetch from every leader.
func (r *Reader) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if r.stale {
		if err := r.lead(ctx); err != nil {
			return err
		}
		r.stale = false
	}
	if !r.listed {
		// The high watermark first: a last stable offset that reaches it covers it.
		if err := r.list(ctx, -1, 0, r.all(), func(p *part, offset int64) { p.high = offset }); err != nil {
			return err
		}
		if err := r.list(ctx, -1, 1, r.all(), func(p *part, offset int64) { p.stable = offset }); err != nil {
			return err
		}
		for _, p := range r.parts {
			if p.position > p.high { // truncated: what was read may not be there
				p.begin(0)
			}
			p.ahead, p.pending, p.at = map[Key]*leaf{}, map[int64][]*kgo.Record{}, 0
		}
		r.listed = true
	}
	if err := r.fetch(ctx, 1, func(p *part) bool { return p.position < p.stable }); err != nil {
		return err
	}
	for _, p := range r.parts {
		if p.position >= p.stable {
			p.at = max(p.at, p.position)
		}
	}
	return r.fetch(ctx, 0, func(p *part) bool { return p.position >= p.stable && p.at < p.high })
}

func (r *Reader) reached() bool {
	return len(r.parts) > 0 && !slices.ContainsFunc(r.all(), func(p *part) bool {
		return p.position < p.stable || max(p.position, p.at) < p.high
	})
}

func (r *Reader) all() []*part {
	var all []*part
	for _, p := range r.parts {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *part) int { return int(a.id) - int(b.id) })
	return all
}

// begin reads a partition anew.
func (p *part) begin(at int64) {
	p.position, p.leaves = at, map[Key]*leaf{}
}

// lead learns the topic's id and partitions and who leads them.
func (r *Reader) lead(ctx context.Context) error {
	t, err := describe(ctx, r.o.Client, r.o.Topic)
	if err != nil {
		return err
	}
	if r.id != t.TopicID { // recreated, or the first time
		r.id, r.parts = t.TopicID, map[int32]*part{}
	}
	for _, want := range r.o.Partitions {
		if !slices.ContainsFunc(t.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Partition == want }) {
			return fmt.Errorf("partition %d: %w: it has %d", want, errNoSuchPartition, len(t.Partitions))
		}
	}
	for _, tp := range t.Partitions {
		if r.o.Partitions != nil && !slices.Contains(r.o.Partitions, tp.Partition) {
			continue
		}
		if tp.Leader < 0 {
			return fmt.Errorf("partition %d: %w", tp.Partition, kerr.LeaderNotAvailable)
		}
		p := r.parts[tp.Partition]
		if p == nil {
			p = &part{id: tp.Partition, epoch: -1}
			p.begin(0)
			r.parts[tp.Partition], r.listed = p, false
		}
		if tp.LeaderEpoch >= p.epoch || tp.LeaderEpoch < 0 { // a broker that is behind must not lead back
			p.leader, p.epoch = tp.Leader, tp.LeaderEpoch
		}
	}
	return nil
}

// describe asks for a topic's metadata. kadm would answer from memory for some seconds.
func describe(ctx context.Context, client *kgo.Client, topic string) (kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("metadata: %w", err)
	}
	if len(resp.Topics) != 1 {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("metadata: %d topics in the answer", len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("metadata: %w", err)
	}
	return resp.Topics[0], nil
}

// byLeader calls do for every leader with its partitions, at the same time, and then, one after the other,
// what do returned.
func byLeader(ctx context.Context, parts []*part, do func(ctx context.Context, leader int32, parts []*part) (func() error, error)) error {
	led := map[int32][]*part{}
	for _, p := range parts {
		led[p.leader] = append(led[p.leader], p)
	}
	g, ctx := errgroup.WithContext(ctx)
	answers := make(chan func() error, len(led))
	for leader, parts := range led {
		g.Go(func() error {
			answer, err := do(ctx, leader, parts)
			if err != nil {
				return fmt.Errorf("broker %d: %w", leader, err)
			}
			answers <- answer
			return nil
		})
	}
	err := g.Wait()
	close(answers)
	for answer := range answers {
		err = errors.Join(err, answer())
	}
	return err
}

// list asks for an offset of each partition: -1 is the end, -2 the beginning.
func (r *Reader) list(ctx context.Context, timestamp int64, isolation int8, parts []*part, set func(*part, int64)) error {
	return byLeader(ctx, parts, func(ctx context.Context, leader int32, parts []*part) (func() error, error) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID, req.IsolationLevel = -1, isolation
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = r.o.Topic
		for _, p := range parts {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.id, timestamp, p.epoch
			topic.Partitions = append(topic.Partitions, rp)
		}
		req.Topics = append(req.Topics, topic)
		raw, err := r.o.Client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list offsets: %w", err)
		}
		offsets := map[int32]int64{}
		for _, t := range raw.(*kmsg.ListOffsetsResponse).Topics { //nolint:forcetypeassert // kgo answers in kind
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("list offsets of partition %d: %w", p.Partition, err)
				}
				offsets[p.Partition] = p.Offset
			}
		}
		return func() error {
			for _, p := range parts {
				offset, ok := offsets[p.id]
				if !ok || offset < 0 {
					return fmt.Errorf("list offsets: none of partition %d in the answer", p.id)
				}
				set(p, offset)
			}
			return nil
		}, nil
	})
}

// fetch sends one fetch to each leader of a partition that is wanted and takes in what comes.
func (r *Reader) fetch(ctx context.Context, isolation int8, wanted func(*part) bool) error {
	parts := slices.DeleteFunc(r.all(), func(p *part) bool { return !wanted(p) })
	err := byLeader(ctx, parts, func(ctx context.Context, leader int32, parts []*part) (func() error, error) {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchWait/time.Millisecond), 1, fetchBytes
		req.SessionEpoch, req.IsolationLevel = -1, isolation
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = r.o.Topic, r.id
		for _, p := range parts {
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = p.id, p.next(isolation), fetchPartitionBytes, p.epoch
			topic.Partitions = append(topic.Partitions, fp)
		}
		req.Topics = append(req.Topics, topic)
		raw, err := r.o.Client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		resp := raw.(*kmsg.FetchResponse) //nolint:forcetypeassert // kgo answers in kind
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		return func() error { return r.fetched(resp, isolation) }, nil
	})
	if err != nil {
		return err
	}
	out := slices.DeleteFunc(r.all(), func(p *part) bool { return !p.reset })
	if len(out) == 0 {
		return nil
	}
	return r.list(ctx, -2, 0, out, func(p *part, offset int64) {
		p.reset = false
		p.begin(offset)
	})
}

func (p *part) next(isolation int8) int64 {
	if isolation == 0 {
		return p.at
	}
	return p.position
}

func (r *Reader) fetched(resp *kmsg.FetchResponse, isolation int8) error {
	var failed error
	for _, t := range resp.Topics {
		for i := range t.Partitions {
			rp := &t.Partitions[i]
			p := r.parts[rp.Partition]
			switch err := kerr.ErrorForCode(rp.ErrorCode); {
			case p == nil:
			case errors.Is(err, kerr.OffsetOutOfRange):
				p.reset = true // the log begins behind 0, or it was cut
			case err != nil:
				failed = errors.Join(failed, fmt.Errorf("fetch partition %d: %w", p.id, err))
			default:
				failed = errors.Join(failed, r.take(p, rp, isolation))
			}
		}
	}
	return failed
}

// take puts fetched records where they belong and moves the position behind them.
func (r *Reader) take(p *part, rp *kmsg.FetchResponseTopicPartition, isolation int8) error {
	level := kgo.ReadUncommitted()
	if isolation == 1 {
		level = kgo.ReadCommitted()
	}
	from := p.next(isolation)
	// The position that comes back lies behind aborted records, markers and emptied batches.
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: isolation == 0, Offset: from, IsolationLevel: level, Topic: r.o.Topic, Partition: p.id,
	}, rp, r.decompressor, nil)
	for _, rec := range got.Records {
		if isolation == 1 {
			r.put(p.leaves, rec)
		} else {
			r.ahead(p, rec)
		}
	}
	next = max(next, from)
	if isolation == 1 {
		p.position = next
	} else {
		p.at = next
	}
	if got.Err != nil {
		return fmt.Errorf("fetch partition %d at %d: %w", p.id, next, got.Err)
	}
	if len(rp.RecordBatches) > 0 && next == from {
		return fmt.Errorf("fetch partition %d: %d bytes at offset %d hold no whole batch", p.id, len(rp.RecordBatches), from)
	}
	return nil
}

// ahead takes a record from behind the last stable offset: at once if it is in no transaction, otherwise
// when the transaction is committed.
func (r *Reader) ahead(p *part, rec *kgo.Record) {
	switch {
	case rec.Attrs.IsControl():
		committed := len(rec.Key) >= 4 && rec.Key[2] == 0 && rec.Key[3] == 1
		if committed {
			for _, held := range p.pending[rec.ProducerID] {
				r.put(p.ahead, held)
			}
		}
		delete(p.pending, rec.ProducerID)
	case rec.Attrs.IsTransactional():
		p.pending[rec.ProducerID] = append(p.pending[rec.ProducerID], rec)
	default:
		r.put(p.ahead, rec)
	}
}

func (r *Reader) put(leaves map[Key]*leaf, rec *kgo.Record) {
	k, err := decodeKey(rec.Key)
	if err != nil {
		r.skipped++
		return
	}
	if r.o.Keep != nil && !r.o.Keep(k.Key) {
		return
	}
	l := leaves[k.Key]
	if l == nil {
		l = &leaf{}
		leaves[k.Key] = l
	}
	l.put(k, found{bytes.Clone(rec.Value), rec.Offset}) // the record pins its whole batch
}

// Skipped counts records whose keys were not understood: somebody else's, or a newer version's.
func (r *Reader) Skipped() int { return r.skipped }

// Book returns what was read of k; nil if nothing stands there. Every call reads it anew. An error that
// wraps ErrVersion or ErrMalformed says that something stands there and cannot be read.
func (r *Reader) Book(k Key) (*Book, error) {
	var newest *Book
	for _, p := range r.all() {
		l := p.leaves[k]
		if l == nil {
			l = &leaf{}
		}
		l = l.with(p.ahead[k])
		if l.empty() {
			continue
		}
		b, err := l.book(k)
		if err != nil {
			return nil, err
		}
		// After the topic was given more partitions, a key stands in two of them.
		switch {
		case newest == nil || b.revision > newest.revision:
			if newest != nil && newest.revision == 0 && newest.Reset != nil {
				b.Reset = newest.Reset
			}
			newest = b
		case b.revision == 0 && b.Reset != nil:
			newest.Reset = b.Reset
		}
	}
	return newest, nil
}

// Keys returns the keys of all books, in order.
func (r *Reader) Keys() []Key {
	all := map[Key]bool{}
	for _, p := range r.parts {
		for k := range p.leaves {
			all[k] = true
		}
		for k := range p.ahead {
			all[k] = true
		}
	}
	var keys []Key
	for k := range all {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}
