package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/access"
	"barnabas/config"
)

// Options is what a Trail needs.
type Options struct {
	// Client are the options of Kafka clients.
	Client []kgo.Opt
	Topic  string
	// Cluster and Worker are in every entry.
	Cluster, Worker string
	// Replication is for the topic, should it have to be made; -1 leaves it to the brokers.
	Replication int16
	// Key is for the codes of records; the zero value writes none.
	Key config.Secret
	Log *slog.Logger
}

// Trail writes to and reads from an audit topic. Make it with Open, have it Run.
type Trail struct {
	o      Options
	client *kgo.Client
	turn   chan struct{} // held by who writes

	// Of who has the turn.
	chain chain
	ready bool // the topic is there

	mu   sync.Mutex
	seen *Place
}

// writeTimeout bounds one write; what is to be audited waits for it.
const writeTimeout = 10 * time.Second

// Open makes a trail. It connects to nothing yet.
func Open(o Options) (*Trail, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	client, err := kgo.NewClient(slices.Concat(o.Client, []kgo.Opt{
		kgo.DefaultProduceTopic(o.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.Topic: {0: kgo.NewOffset().Relative(-1).AtEnd()}}),
		kgo.MetadataMinAge(100 * time.Millisecond),
	})...)
	if err != nil {
		return nil, fmt.Errorf("audit topic %s: %w", o.Topic, err)
	}
	t := &Trail{o: o, client: client, turn: make(chan struct{}, 1)}
	t.begin()
	return t, nil
}

// begin begins a new chain.
func (t *Trail) begin() {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails, by its contract
	t.chain = chain{name: t.o.Worker + "/" + hex.EncodeToString(id[:])}
}

// Close closes a trail that does not run.
func (t *Trail) Close() { t.client.CloseAllowingRebalance() }

// Run follows the topic until ctx ends, and closes the trail.
func (t *Trail) Run(ctx context.Context) error {
	defer t.Close()
	for {
		fetches := t.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			t.o.Log.Warn("the audit topic cannot be read", "topic", t.o.Topic, "err", err)
		})
		fetches.EachRecord(func(r *kgo.Record) { t.saw(Place{r.Offset, Hash(r.Value)}) })
		if fetches.Err() != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func (t *Trail) saw(p Place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil || p.Offset > t.seen.Offset {
		t.seen = &p
	}
}

// Write adds an entry. When it returns nil, the entry is in the topic, acknowledged by all replicas in sync.
func (t *Trail) Write(ctx context.Context, e Entry) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return t.failed(ctx.Err())
	}
	if err := t.prepare(ctx); err != nil {
		return t.failed(err)
	}
	t.mu.Lock()
	e.Seen = t.seen
	t.mu.Unlock()
	e.Cluster, e.Worker = t.o.Cluster, t.o.Worker
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	value, err := t.chain.link(e)
	if err != nil {
		return t.failed(err)
	}
	r := &kgo.Record{Value: value, Timestamp: e.At}
	if key := t.key(); key != nil {
		r.Headers = []kgo.RecordHeader{{Key: codeHeader, Value: code(key, value)}}
	}
	if err := t.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.begin() // whether it was written, nobody knows
		return t.failed(err)
	}
	t.chain.linked(value)
	t.saw(Place{r.Offset, Hash(value)})
	return nil
}

// key is for codes; nil without one.
func (t *Trail) key() []byte {
	if text := t.o.Key.Reveal(); text != "" {
		return []byte(text)
	}
	return nil
}

// prepare makes the topic if it is not there: one partition, since the order of its records means something, and
// nothing is ever deleted.
func (t *Trail) prepare(ctx context.Context) error {
	if t.ready {
		return nil
	}
	admin := kadm.NewClient(t.client)
	details, err := admin.ListTopics(ctx, t.o.Topic)
	if err != nil {
		return err
	}
	switch d := details[t.o.Topic]; {
	case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		keep := "-1"
		deletes := "delete"
		settings := map[string]*string{"cleanup.policy": &deletes, "retention.ms": &keep, "retention.bytes": &keep}
		if _, err := admin.CreateTopic(ctx, 1, t.o.Replication, settings, t.o.Topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("it does not exist and could not be created: %w", err)
		}
	case d.Err != nil:
		return d.Err
	case len(d.Partitions) != 1:
		return fmt.Errorf("it has %d partitions and must have exactly 1, because the order of its records counts: set audit.topic to another one", len(d.Partitions))
	default:
		t.judge(ctx, admin)
	}
	t.ready = true
	return nil
}

// judge warns of settings of a topic that was there by which records vanish.
func (t *Trail) judge(ctx context.Context, admin *kadm.Client) {
	configs, err := admin.DescribeTopicConfigs(ctx, t.o.Topic)
	if err != nil || len(configs) != 1 || configs[0].Err != nil {
		t.o.Log.Warn("cannot see whether the audit topic keeps its records: grant DESCRIBE_CONFIGS on it", "topic", t.o.Topic)
		return
	}
	for _, c := range configs[0].Configs {
		switch value := c.MaybeValue(); {
		case c.Key == "cleanup.policy" && value != "delete", (c.Key == "retention.ms" || c.Key == "retention.bytes") && value != "-1":
			t.o.Log.Warn("the audit topic loses records in time, and the trail will not be whole", "topic", t.o.Topic, c.Key, value)
		}
	}
}

func (t *Trail) failed(err error) error {
	return fmt.Errorf("the audit trail cannot be written, topic %s: %w", t.o.Topic, err)
}

// Query says which entries are wanted: those that fit all that is set.
type Query struct {
	Since time.Time
	User  string
	// Action and Resource may hold "*".
	Action, Resource string
	Outcome          Outcome
	Kind             Kind // empty: any
	// Before is the offset before which entries are wanted; 0 is the end. Limit bounds how many; 0 is 100.
	Before int64
	Limit  int
	// After is the offset after which entries are wanted; 0 is the beginning.
	After int64
}

// Found is an entry with its offset.
type Found struct {
	Offset int64 `json:"offset"`
	Entry
}

// Read returns the newest entries that a query wants, the newest first. next is what Before has to be for those
// before them; 0 if there are none.
func (t *Trail) Read(ctx context.Context, q Query) (found []Found, next int64, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	start, end, err := t.bounds(ctx)
	if err != nil {
		return nil, 0, err
	}
	if q.Before > 0 {
		end = min(end, q.Before)
	}
	if q.After > 0 {
		start = max(start, q.After+1)
	}
	const chunk = 2000
	for end > start && len(found) < q.Limit {
		from := max(start, end-chunk)
		var part []Found
		old := false // a record is from before Since
		err := t.each(ctx, from, end, func(r *kgo.Record) {
			e, err := Decode(r.Value)
			if err != nil {
				return // verify tells of it
			}
			if e.At.Before(q.Since) {
				old = old || e.Kind != Machine // those may come late
				return
			}
			if q.wants(e) {
				part = append(part, Found{r.Offset, e})
			}
		})
		if err != nil {
			return nil, 0, err
		}
		slices.Reverse(part)
		found, end = append(found, part...), from
		if old {
			end = start
		}
	}
	if len(found) > q.Limit {
		found = found[:q.Limit]
		return found, found[q.Limit-1].Offset, nil
	}
	if end > start {
		next = end
	}
	return found, next, nil
}

func (q Query) wants(e Entry) bool {
	kind := e.Kind
	if kind == "" {
		kind = People
	}
	return (q.Kind == "" || q.Kind == kind) && (q.User == "" || q.User == e.User) && (q.Outcome == "" || q.Outcome == e.Outcome) && (q.Action == "" || access.Match(q.Action, e.Action)) && (q.Resource == "" || access.Match(q.Resource, e.Resource))
}

// Verify walks over the whole trail. expect, unless nil, is a record that has to be there.
func (t *Trail) Verify(ctx context.Context, expect *Place) (Report, error) {
	start, end, err := t.bounds(ctx)
	if err != nil {
		return Report{}, err
	}
	v := newVerifier(t.key(), expect)
	err = t.each(ctx, start, end, func(r *kgo.Record) {
		var given []byte
		for _, h := range r.Headers {
			if h.Key == codeHeader {
				given = h.Value
			}
		}
		v.record(r.Offset, r.Value, given)
	})
	if err != nil {
		return Report{}, err
	}
	return v.end(end), nil
}

// bounds returns the first offset of the topic and the one behind its last.
func (t *Trail) bounds(ctx context.Context) (start, end int64, err error) {
	admin := kadm.NewClient(t.client)
	starts, err := admin.ListStartOffsets(ctx, t.o.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read audit topic %s: %w", t.o.Topic, err)
	}
	ends, err := admin.ListEndOffsets(ctx, t.o.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read audit topic %s: %w", t.o.Topic, err)
	}
	first, ok1 := starts.Lookup(t.o.Topic, 0)
	last, ok2 := ends.Lookup(t.o.Topic, 0)
	if !ok1 || !ok2 {
		return 0, 0, fmt.Errorf("read audit topic %s: it has no partition 0", t.o.Topic)
	}
	return first.Offset, last.Offset, nil
}

// errStalled is when a topic gives no more records before its end.
var errStalled = errors.New("no more records come")

// stallTimeout bounds the wait for the next records.
const stallTimeout = 30 * time.Second

// each does something with the records from one offset to before another.
func (t *Trail) each(ctx context.Context, from, end int64, do func(*kgo.Record)) error {
	if from >= end {
		return nil
	}
	client, err := kgo.NewClient(slices.Concat(t.o.Client, []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.o.Topic: {0: kgo.NewOffset().At(from)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	})...)
	if err != nil {
		return fmt.Errorf("read audit topic %s: %w", t.o.Topic, err)
	}
	defer client.CloseAllowingRebalance()
	for next := from; next < end; {
		poll, cancel := context.WithTimeoutCause(ctx, stallTimeout, errStalled)
		fetches := client.PollFetches(poll)
		cause := context.Cause(poll)
		cancel()
		if cause != nil {
			return fmt.Errorf("read audit topic %s at offset %d: %w", t.o.Topic, next, cause)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read audit topic %s: %w", t.o.Topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < end {
				do(r)
			}
			next = r.Offset + 1
		})
	}
	return nil
}
