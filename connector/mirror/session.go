package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
	"barnabas/connector/takeover"
)

// session is a task's work under one producer id. It begins by making sure that
// no former owner writes any more, and by finding out from the target's own log how far the copy is.
type session struct {
	*copying
	reader   *offsetrun.Reader // nil: no books can be kept
	runs     offsetrun.Topic
	engine   *rawcopy.Engine
	flow     *rawcopy.Flow
	identity rawcopy.Identity
	starts   map[partition]start
	opened   bool                             // the books say who writes
	begun    bool                             // the same of transactions
	letter   extra                            // the dead letter queue
	global   extra                            // offsets.storage.topic on the target, in transactional mode
	save     chan struct{}                    // holds a token when there is something to save
	urgent   chan struct{}                    // holds a token when a partition waits for the books
	noted    []rawcopy.Partition              // those for which the next writing of the books is
	fenced   map[partition][]offsetrun.Writer // who was shut out, or waited for, at the beginning
	grown    chan addition                    // what grow has prepared, for keepRegularly
	taken    bool                             // there is an addition that is not in the books yet
	waiting  []partition                      // those whose topics may not be read; look's and keepRegularly's, guarded by mu
	entering []rawcopy.LaneConfig             // partitions whose copy begins once the books say who writes; keepRegularly's

	observing sync.Mutex // by one at a time
	mu        sync.Mutex
	books     map[partition]*offsetrun.Book
	fresh     map[partition]bool // the books do not say yet who writes
	pending   []rawcopy.Event    // refused records that are to be told in the dead letter queue
	parked    int
	errs      []error
}

// newSession fences, reads the books and reconciles them with the target.
func (t *copying) newSession(ctx context.Context) (*session, error) {
	s := &session{
		copying: t, books: map[partition]*offsetrun.Book{}, starts: map[partition]start{}, fresh: map[partition]bool{},
		save: make(chan struct{}, 1), urgent: make(chan struct{}, 1), grown: make(chan addition),
	}
	t.delivery, t.why = t.Delivery, ""
	if t.TransactionalID == "" {
		t.delivery = connector.Plain
	}
	err := t.insist(ctx, []step{
		{"read the offset runs", func() error { return s.readBooks(ctx) }},
		{"fence former owners", func() error { return s.fence(ctx) }},
		{"read the offset runs again", func() error { return s.readBehind(ctx) }},
		{"find out where to begin", func() error { return s.findStarts(ctx, t.lanes().order) }},
		{"look up the topics for errors and offsets", func() error { return s.extras(ctx) }},
	})
	if err != nil {
		return nil, err
	}
	t.syncs.begin()
	limits, err := t.limits(ctx, t.lanes().order)
	if err != nil {
		return nil, err
	}
	s.flow = rawcopy.NewFlow(t.flowOptions())
	s.flow.Begin(s.identity)
	s.flow.Hold() // until the books say who writes
	codec := t.codec()
	for _, l := range t.lanes().order {
		at := s.starts[l.partition]
		if at.stop != nil {
			s.standsStill(l, at)
			continue
		}
		l.began(at.next)
		s.flow.Add(l.config(at, limits[l.target], codec))
	}
	if n := len(s.waiting); n > 0 && n == len(t.lanes().order) {
		return nil, s.starts[s.waiting[0]].stop
	}
	s.engine = rawcopy.NewEngine(t.source.client, t.target.client, s.flow, t.Gate.Join(), s.told)
	s.engine.Bound(t.ReadLimit, t.WriteLimit)
	return s, nil
}

// standsStill notes that a partition is not copied. Before the session runs, or under s.mu.
func (s *session) standsStill(l *lane, at start) {
	if at.waits {
		l.wait(at.stop)
		s.waiting = append(s.waiting, l.partition)
		s.Log.Warn("a partition waits", "topic", l.topic, "partition", l.id, "err", at.stop)
		return
	}
	l.stop(at.stop)
	s.parked++
	s.errs = append(s.errs, at.stop)
}

// config is what the flow has to know of a lane.
func (l *lane) config(at start, limits rawcopy.Limits, codec int8) rawcopy.LaneConfig {
	limits.Transform = l.transform != nil
	return rawcopy.LaneConfig{
		Transform: l.transform,
		Source:    raw(l.partition), Target: rawcopy.Partition{Topic: l.target, ID: l.id}, SourceID: at.sourceID, TargetID: at.targetID,
		Start: at.next, Limits: limits, Codec: codec,
	}
}

func raw(p partition) rawcopy.Partition { return rawcopy.Partition{Topic: p.topic, ID: p.id} }

func (s *session) key(p partition) offsetrun.Key {
	return offsetrun.Key{Owner: s.Owner, Topic: p.topic, Partition: p.id}
}

// readBooks reads what former owners wrote about the partitions. Where that
// may not be read there are no books, and the copy is at least once.
func (s *session) readBooks(ctx context.Context) error {
	name := offsetrun.TopicName(s.s.source, s.s.policy.internal)
	if s.noBooks != nil {
		s.demote(s.noBooks.Error())
		return nil
	}
	runs, err := offsetrun.Ensure(ctx, s.target.client, offsetrun.TopicOptions{
		Name: name, Partitions: runsPartitions, ReplicationFactor: s.s.runsReplication(),
	})
	if err == nil {
		s.runs = runs
		s.reader = s.newReader(s.lanes().order)
		err = s.reader.Read(ctx)
	}
	if err == nil || classify(err) == passing {
		return err
	}
	if s.delivery == connector.Transactional {
		return s.target.wrong("read "+name, err)
	}
	s.reader = nil
	s.demote(fmt.Sprintf("no offset runs can be kept in %s: %v", name, err))
	return nil
}

// runsPartitions is how many partitions the topic of offset runs gets.
const runsPartitions = 4

// newReader returns a reader of the books of some lanes.
func (s *session) newReader(lanes []*lane) *offsetrun.Reader {
	var partitions []int32
	wanted := map[offsetrun.Key]bool{}
	for _, l := range lanes {
		partitions = append(partitions, offsetrun.PartitionOf(s.key(l.partition), s.runs.Partitions))
		wanted[s.key(l.partition)] = true
	}
	slices.Sort(partitions)
	return offsetrun.NewReader(offsetrun.ReaderOptions{
		Client: s.target.client, Topic: s.runs.Name, Partitions: slices.Compact(partitions),
		Keep: func(k offsetrun.Key) bool { return wanted[k] },
	})
}

// allRuns are the partitions in which books stand, of whatever partition: a former owner must not begin with one that was
// added to it just before.
func (s *session) allRuns() []int32 {
	all := make([]int32, s.runs.Partitions)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// demote notes that the task writes plainly, and why.
func (s *session) demote(why string) {
	s.delivery = connector.Plain
	if s.why == "" {
		s.why = why
		s.Log.Warn("the task writes at least once", "why", why)
	}
}

// readBehind reads the books as they stand behind the fence. Who wrote himself into one between its first reading and the fence
// is shut out like the others.
func (s *session) readBehind(ctx context.Context) error {
	if err := s.readAgain(ctx, s.lanes().order); err != nil || !s.overlooked() {
		return err
	}
	if err := s.fence(ctx); err != nil {
		return err
	}
	if err := s.readAgain(ctx, s.lanes().order); err != nil || !s.overlooked() {
		return err
	}
	return fmt.Errorf("%w: a former owner begins with a partition", rawcopy.ErrRestart)
}

// overlooked says whether a book names a writer that the fence has not met.
func (s *session) overlooked() bool {
	if s.delivery == connector.Plain {
		return false // all former owners were waited for
	}
	for p, book := range s.books {
		for _, w := range book.State.Writers {
			if !book.State.Clean && !slices.Contains(s.fenced[p], w) {
				return true
			}
		}
	}
	return false
}

// readAgain brings the books of some lanes up to date.
func (s *session) readAgain(ctx context.Context, lanes []*lane) error {
	if s.reader == nil {
		return nil
	}
	if err := s.reader.Read(ctx); err != nil {
		return err
	}
	for _, l := range lanes {
		book, err := s.reader.Book(s.key(l.partition))
		if err != nil {
			return &finalError{fmt.Errorf("offset runs of %s: %w", l.partition, err)}
		}
		if book == nil {
			book = offsetrun.NewBook(s.key(l.partition))
		}
		s.books[l.partition] = book
	}
	return nil
}

// fence gets the task a producer id, and sees to it that no former writer of its
// partitions can write any more: with Kafka's fence where that can be, otherwise by waiting until their lease is over.
func (s *session) fence(ctx context.Context) error {
	if s.delivery == connector.Plain {
		return s.plain(ctx)
	}
	writers := map[offsetrun.Writer]map[string][]int32{}
	s.fenced = map[partition][]offsetrun.Writer{}
	add := func(w offsetrun.Writer, topic string, id int32) {
		if writers[w] == nil {
			writers[w] = map[string][]int32{}
		}
		writers[w][topic] = append(writers[w][topic], id)
	}
	for _, l := range s.lanes().order {
		book, err := s.reader.Book(s.key(l.partition))
		if err != nil {
			return &finalError{fmt.Errorf("offset runs of %s: %w", l.partition, err)}
		}
		if book == nil || book.State.Clean {
			continue
		}
		s.fenced[l.partition] = book.State.Writers
		for _, w := range book.State.Writers {
			add(w, l.target, l.id)
		}
	}
	own := map[string][]int32{}
	expected := int64(-1)
	for w, partitions := range writers {
		if w.TransactionalID == s.TransactionalID {
			expected = max(expected, w.ProducerID)
			for topic, ids := range partitions {
				own[topic] = append(own[topic], ids...)
			}
		}
	}
	for w, partitions := range writers {
		switch {
		case w.TransactionalID == s.TransactionalID:
		case w.TransactionalID == "":
			if err := s.await(ctx, "a former owner wrote without a fence"); err != nil {
				return err
			}
		default:
			if err := s.fenceOne(ctx, w, partitions); err != nil {
				return err
			}
		}
	}
	// Also its books: a writer that is fenced must not write those any more.
	own[s.runs.Name] = s.allRuns()
	got, err := takeover.Fence(ctx, takeover.FenceOptions{Target: s.target.client, TransactionalID: s.TransactionalID, Expect: expected, Partitions: own})
	switch {
	case errors.Is(err, takeover.ErrCannotFence) && s.delivery == connector.Fenced:
		s.demote(err.Error())
		return s.plain(ctx)
	case errors.Is(err, takeover.ErrSuperseded):
		return fmt.Errorf("%w: %w", rawcopy.ErrFenced, err)
	case err != nil:
		return s.target.wrong("take over the copy", err)
	case !got.Expected && expected >= 0 || leftOut(got, own):
		if err := s.await(ctx, "the former owner cannot be fenced everywhere"); err != nil {
			return err
		}
	}
	s.identity = rawcopy.Identity{ID: got.Identity.ProducerID, Epoch: got.Identity.Epoch}
	if s.Fenced != nil {
		s.Fenced()
	}
	return nil
}

// leftOut says whether a partition was left out of a fence though it is there.
func leftOut(f takeover.Fenced, partitions map[string][]int32) bool {
	for topic, ids := range f.Left {
		for id, why := range ids {
			if slices.Contains(partitions[topic], id) && !is(why, kerr.UnknownTopicOrPartition) {
				return true
			}
		}
	}
	return false
}

// fenceOne fences the transactional id of another task, which had a partition
// before.
func (s *session) fenceOne(ctx context.Context, w offsetrun.Writer, partitions map[string][]int32) error {
	partitions[s.runs.Name] = s.allRuns()
	got, err := takeover.Fence(ctx, takeover.FenceOptions{Target: s.target.client, TransactionalID: w.TransactionalID, Expect: w.ProducerID, Partitions: partitions})
	if err != nil && !is(err, takeover.ErrCannotFence, takeover.ErrSuperseded) {
		return s.target.wrong("take over the copy", err)
	}
	if err != nil || !got.Expected || leftOut(got, partitions) {
		return s.await(ctx, "transactional id "+w.TransactionalID+" cannot be fenced")
	}
	return nil
}

// plain gets an idempotent producer id that nobody can fence, once no former
// owner can act.
func (s *session) plain(ctx context.Context) error {
	if err := s.await(ctx, "the task cannot fence"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = -1, -1, -1
	resp, err := req.RequestWith(ctx, s.target.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return s.target.wrong("get a producer id", err)
	}
	s.identity = rawcopy.Identity{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
	return nil
}

// await waits until no former owner can act any more.
func (s *session) await(ctx context.Context, why string) error {
	if s.Clear == nil {
		return nil
	}
	select {
	case <-s.Clear:
		return nil
	default:
	}
	s.Log.InfoContext(ctx, "waiting until the former owner's lease is over", "why", why)
	select {
	case <-s.Clear:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin writes into the books who writes from now on, and lets the data go.
func (s *session) begin(ctx context.Context) error {
	s.mu.Lock()
	for _, l := range s.lanes().order {
		s.claim(l)
	}
	s.mu.Unlock()
	if s.delivery == connector.Transactional {
		return s.commit(ctx, true)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.engine.Do(ctx, func(f *rawcopy.Flow) { f.Resume(s.identity) })
}

// claim notes in a lane's book who writes from now on. s.mu is held.
func (s *session) claim(l *lane) {
	book, at := s.books[l.partition], s.starts[l.partition]
	if book == nil || at.stop != nil {
		return
	}
	st := &book.State
	st.TargetTopic, st.SourceTopicID, st.TargetTopicID = l.target, at.sourceID, at.targetID
	st.Next, st.TargetNext, st.Saved = at.next, at.targetEnd, at.saved
	st.Mode, st.Clean = string(s.delivery), false
	st.SourceCluster, st.Marked = s.source.id, s.mark != nil
	writer := offsetrun.Writer{ProducerID: s.identity.ID}
	if s.delivery != connector.Plain {
		writer.TransactionalID = s.TransactionalID
	}
	st.Writers = []offsetrun.Writer{writer}
}

// told hears the events of the flow, on the engine's goroutine.
func (s *session) told(e rawcopy.Event) {
	l := s.lanes().of[partition{e.Source.Topic, e.Source.ID}]
	if l == nil {
		return
	}
	log := s.Log.With("topic", l.topic, "partition", l.id)
	switch e.Kind {
	case rawcopy.Troubled:
		s.mishaps.retried()
		if s.warn.allow("trouble " + l.topic) {
			log.Warn("a partition is in trouble and tried again", "offset", e.From, "err", e.Err)
		}
	case rawcopy.Recovered:
		if s.warn.allow("recovered " + l.topic) {
			log.Info("a partition goes on", "offset", e.From)
		}
	case rawcopy.Gap:
		s.lost(l, e.From, e.To, e.Cause)
	case rawcopy.Refused:
		s.mu.Lock()
		s.pending = append(s.pending, e)
		s.mu.Unlock()
		if s.delivery == connector.Fenced {
			select {
			case s.urgent <- struct{}{}:
			default:
			}
		}
		s.mishaps.leftOut(max(1, e.To-e.From))
		log.Error("record left out: the target does not take it", "offset", e.From, "err", e.Err)
		s.lost(l, e.From, e.To, fmt.Sprintf("%s: %v", e.Cause, e.Err))
	case rawcopy.Parked:
		err := fmt.Errorf("record %s@%d: %w", l.partition, e.From, e.Err)
		l.stop(err)
		s.mishaps.stopped()
		log.Error("partition has stopped", "offset", e.From, "err", e.Err)
		s.mu.Lock()
		s.parked++
		s.errs = append(s.errs, err)
		s.mu.Unlock()
	}
}

// lost enters a gap in the ledger.
func (s *session) lost(l *lane, from, to int64, cause string) {
	now := time.Now()
	s.Log.Error("records of the source are lost to the copy", "topic", l.topic, "partition", l.id, "from", from, "to", to, "cause", cause)
	l.addGap(connector.Gap{Topic: l.topic, Partition: l.id, From: from, To: to, Cause: cause, At: now})
	s.mu.Lock()
	defer s.mu.Unlock()
	if book := s.books[l.partition]; book != nil {
		book.AddGap(offsetrun.Gap{From: from, To: to, Cause: cause, At: now})
	}
}
