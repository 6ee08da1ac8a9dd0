package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// keepRegularly brings the books up to date at their interval, until ctx ends.
// In transactional mode that is what ends transactions.
func (s *session) keepRegularly(ctx, running context.Context) error {
	every := s.interval()
	timer := time.NewTimer(every)
	defer timer.Stop()
	renew := time.NewTimer(time.Duration(float64(idRefresh) * (0.8 + 0.2*jitter())))
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		case <-renew.C:
			if s.delivery == connector.Fenced {
				return errRefresh
			}
			continue
		case <-timer.C:
		case <-s.urgent: // its partition waits for the books
		case more := <-s.grown:
			if more.restart {
				return errRefresh
			}
			s.take(more)
		}
		began := time.Now()
		if err := s.keep(ctx, running); err != nil {
			return ignoreEnd(running, err)
		}
		next := every
		if s.delivery == connector.Transactional {
			next = untilCommit(every, time.Since(began))
		}
		if s.taken { // they wait for books that could not be written
			next = min(next, time.Second)
		}
		timer.Reset(next)
	}
}

// keep brings the books up to date once, and lets the partitions in that have waited for it.
func (s *session) keep(ctx, running context.Context) error {
	if s.delivery == connector.Transactional {
		if err := s.commit(running, false); err != nil {
			return err
		}
		return s.enter(running)
	}
	err := s.flush(ctx)
	switch {
	case err == nil:
		return s.enter(running)
	case ctx.Err() != nil:
		return nil
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	if s.warn.allow("flush") {
		s.Log.WarnContext(ctx, "the offset runs are not written, trying again", "err", err)
	}
	return nil
}

// untilCommit is how long the next transaction lasts before it is ended, if to end the last one took so long: at least
// as long, so that a slow target has fewer transactions with more in them, and not one batch between two ends.
func untilCommit(every, took time.Duration) time.Duration { return max(every, took) }

// errRefresh ends a session in good order so that the next one uses the
// transactional id again.
var errRefresh = errors.New("the transactional id is used again, so that it does not expire")

// idRefresh is how long a fenced session lasts: the coordinator forgets a transactional id
// that is not used (transactional.id.expiration.ms, 7 days by default), and with it whom to fence, while the plain
// producer runs on.
var idRefresh = 24 * time.Hour

// Intervals of keeping books.
const (
	// pollBoundary is how often transactions end with transaction.boundary=poll: MirrorMaker's poll brings what
	// a fetch brings, here it is what comes in a tenth of a second.
	pollBoundary = 100 * time.Millisecond
	// flushTimeout bounds one writing of the books.
	flushTimeout = 30 * time.Second
	// settleTimeout bounds how long a transaction may take to end: below the
	// transaction's own timeout.
	settleTimeout = 45 * time.Second
)

func (s *session) interval() time.Duration {
	every := s.Offsets.Interval
	if every <= 0 {
		every = time.Minute // Connect's default of offset.flush.interval.ms
	}
	if s.delivery != connector.Transactional {
		return every
	}
	if s.Boundary.Interval > 0 {
		return s.Boundary.Interval
	}
	return pollBoundary
}

// observe takes the state of the lanes into the books. A snapshot takes the runs with it, so that the next one must not come into the books
// before it: they would say how far the copy is and not where it stands, and the late runs would cut off the newer ones.
func (s *session) observe(ctx context.Context) error {
	s.observing.Lock()
	defer s.observing.Unlock()
	var states []rawcopy.LaneState
	if err := s.engine.Do(ctx, func(f *rawcopy.Flow) { states = f.Snapshot() }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range states {
		p := partition{states[i].Source.Topic, states[i].Source.ID}
		s.lanes().of[p].observed(&states[i])
		for _, r := range states[i].Runs {
			s.syncs.heard(p, r.Source, r.Target, r.Count)
		}
		book := s.books[p]
		if book == nil {
			continue
		}
		for _, r := range states[i].Runs {
			book.Map.Append(r.Source, r.Target, r.Count)
		}
		book.State.Next = states[i].Copied
		book.State.TargetNext = max(book.State.TargetNext, states[i].TargetEnd)
		if id := states[i].SourceID; id != [16]byte{} {
			book.State.SourceTopicID = id
		}
		if id := states[i].TargetID; id != [16]byte{} {
			book.State.TargetTopicID = id
		}
	}
	return nil
}

// page is what one writing of the books brings.
type page struct {
	writes  []rawcopy.Write
	flushes map[partition]offsetrun.Flush
	next    map[partition]int64
	saved   map[partition]int64
}

// page collects what has changed since the books were written last.
func (s *session) page(all bool) (page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pg := page{flushes: map[partition]offsetrun.Flush{}, next: map[partition]int64{}, saved: map[partition]int64{}}
	byPartition := map[int32][]rawcopy.Record{}
	for _, l := range s.lanes().order {
		whole := all || s.fresh[l.partition]
		if s.starts[l.partition].stop != nil && !whole {
			continue
		}
		next := l.copied()
		book := s.books[l.partition]
		if book == nil {
			if next != l.flushed.Load() {
				pg.next[l.partition] = next
			}
			continue
		}
		upstream := (*s.upstream.Load())[l.topic]
		whole = whole || !slices.Equal(book.State.Upstream, upstream)
		if !whole && next == l.flushed.Load() && !l.ledgerGrown(len(book.Gaps)) && !l.savedSince(book.State.Saved) {
			continue
		}
		if s.starts[l.partition].stop != nil {
			continue
		}
		book.State.Upstream = upstream
		f := book.Flush()
		pg.flushes[l.partition], pg.next[l.partition], pg.saved[l.partition] = f, next, book.State.Saved
		at := offsetrun.PartitionOf(book.Key, s.runs.Partitions)
		for _, r := range f.Records {
			byPartition[at] = append(byPartition[at], rawcopy.Record{Timestamp: time.Now().UnixMilli(), Key: r.Key, Value: r.Value})
		}
	}
	for at, records := range byPartition {
		if err := pg.add(rawcopy.Partition{Topic: s.runs.Name, ID: at}, s.runs.ID, records); err != nil {
			return pg, err
		}
	}
	return pg, nil
}

// add encodes records for one partition.
func (pg *page) add(target rawcopy.Partition, id [16]byte, records []rawcopy.Record) error {
	const lz4 = 3
	encoded, err := rawcopy.Encode(records, lz4, defaultBatch/2)
	if err != nil {
		return &finalError{fmt.Errorf("encode records for %s: %w", target, err)}
	}
	for _, e := range encoded {
		pg.writes = append(pg.writes, rawcopy.Write{Target: target, TopicID: id, Batch: e.Batch})
	}
	return nil
}

// written notes that a page stands in the target.
func (s *session) written(pg page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, f := range pg.flushes {
		s.books[p].Saved(f)
		s.lanes().of[p].ledgerWritten(len(s.books[p].Gaps))
		s.lanes().of[p].booked, s.lanes().of[p].bookedAt = pg.saved[p], time.Now()
	}
	for p, next := range pg.next {
		s.lanes().of[p].flushed.Store(next)
		delete(s.fresh, p)
	}
	s.syncs.due()
	select {
	case s.save <- struct{}{}:
	default:
	}
}

// flush writes the books, and first what they rest on: the pointers to records that were left out.
func (s *session) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	// What is told before the lanes are observed is part of what they say.
	letters, err := s.letters()
	if err != nil {
		return err
	}
	if err := s.observe(ctx); err != nil {
		return err
	}
	pg, err := s.page(!s.opened)
	if err != nil {
		return err
	}
	err = s.engine.Write(ctx, letters)
	s.mishaps.pointed(err)
	if err != nil {
		return fmt.Errorf("write dead letters: %w", err)
	}
	if err := s.engine.Write(ctx, pg.writes); err != nil {
		return fmt.Errorf("write offset runs: %w", err)
	}
	s.opened = true
	s.written(pg)
	noted := s.noted
	s.noted = nil
	return s.engine.Do(ctx, func(f *rawcopy.Flow) { f.Noted(noted) })
}

// commit ends the transaction with the books and the source offsets in it, and
// begins the next (KIP-618). Fetching and queueing go on meanwhile.
func (s *session) commit(ctx context.Context, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := s.engine.Do(ctx, (*rawcopy.Flow).Hold); err != nil {
		return err
	}
	if err := s.engine.Settle(ctx); err != nil {
		return fmt.Errorf("%w: the transaction's records are not acknowledged: %w", rawcopy.ErrRestart, err)
	}
	letters, err := s.letters()
	if err != nil {
		return err
	}
	if err := s.observe(ctx); err != nil {
		return err
	}
	pg, err := s.page(all)
	if err != nil {
		return err
	}
	if len(pg.writes)+len(letters) > 0 {
		if s.begun { // before that nothing is copied
			if err := s.addOffsets(&pg); err != nil {
				return err
			}
		}
		err := s.engine.Write(ctx, append(letters, pg.writes...))
		s.mishaps.pointed(err)
		if err != nil {
			return fmt.Errorf("%w: write offsets: %w", rawcopy.ErrRestart, err)
		}
		if s.identity, err = s.endTransaction(ctx); err != nil {
			return err
		}
		s.written(pg)
	}
	s.begun, s.noted = true, nil
	return s.engine.Do(ctx, func(f *rawcopy.Flow) { f.Resume(s.identity) })
}

// addOffsets adds the source offsets in Kafka Connect's form, for the topic
// that offsets.storage.topic names on the target.
func (s *session) addOffsets(pg *page) error {
	if s.global.name == "" {
		return nil
	}
	byPartition := map[int32][]rawcopy.Record{}
	for p, next := range pg.next {
		if next <= 0 || next == s.lanes().of[p].flushed.Load() || s.fresh[p] { // of a fresh one nothing is copied
			continue
		}
		key := connectOffsetKey(s.Connector, offsetKey(s.s.source, p))
		at := s.global.partitionOf(key)
		byPartition[at] = append(byPartition[at], rawcopy.Record{Timestamp: time.Now().UnixMilli(), Key: key, Value: offsetValue(next - 1)})
	}
	for at, records := range byPartition {
		if err := pg.add(rawcopy.Partition{Topic: s.global.name, ID: at}, s.global.id, records); err != nil {
			return err
		}
	}
	return nil
}

// connectOffsetKey is the key of a source offset in Connect's offset topic:
// ["connector",{partition}] (OffsetStorageWriter).
func connectOffsetKey(name string, partition []byte) []byte {
	b := appendJavaString([]byte{'['}, name)
	b = append(b, ',')
	return append(append(b, partition...), ']')
}

// endTransaction commits. An answer that got lost is asked for again: the
// coordinator recognises the repetition (KIP-890).
func (s *session) endTransaction(ctx context.Context) (rawcopy.Identity, error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = s.TransactionalID, s.identity.ID, s.identity.Epoch, true
	for failures := 1; ; failures++ {
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := req.RequestWith(once, s.target.client)
		cancel()
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		switch {
		case err == nil && resp.Version >= 5 && resp.ProducerID >= 0:
			return rawcopy.Identity{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}, nil
		case err == nil:
			return s.identity, nil
		case is(err, kerr.InvalidProducerEpoch, kerr.ProducerFenced):
			return s.identity, fmt.Errorf("%w: %w", rawcopy.ErrFenced, err)
		case ctx.Err() != nil || classify(err) != passing && !kerr.IsRetriable(err):
			return s.identity, fmt.Errorf("%w: end the transaction: %w", rawcopy.ErrRestart, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff(failures, 20*time.Millisecond, time.Second)):
		}
	}
}

// saveRegularly copies the offsets into the worker's topic, once no former
// owner can write there any more.
func (s *session) saveRegularly(ctx, running context.Context) error {
	select {
	case <-s.Clear:
	case <-ctx.Done():
		return nil
	case <-running.Done():
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		case <-s.save:
		}
		if _, err := s.saveOffsets(ctx); err != nil && ctx.Err() == nil {
			if s.warn.allow("save") {
				s.Log.WarnContext(ctx, "offsets are not saved, trying again", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(backoff(1, time.Second, time.Second)):
			}
			select {
			case s.save <- struct{}{}:
			default:
			}
		}
	}
}

// saveOffsets stores the offsets that have moved, and says whether there were any.
func (s *session) saveOffsets(ctx context.Context) (saved bool, err error) {
	var offsets []connector.Offset
	moved := map[*lane]int64{}
	for _, l := range s.lanes().order {
		if next := l.flushed.Load(); next > 0 && next != l.saved.Load() {
			offsets = append(offsets, connector.Offset{Partition: offsetKey(s.s.source, l.partition), Offset: offsetValue(next - 1)})
			moved[l] = next
		}
	}
	if len(offsets) == 0 {
		return false, nil
	}
	if err := s.Offsets.Save(ctx, offsets); err != nil {
		return false, fmt.Errorf("save %d offsets: %w", len(offsets), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, next := range moved {
		l.saved.Store(next)
		if book := s.books[l.partition]; book != nil {
			book.State.Saved = next
		}
	}
	return true, nil
}

// saveCopied saves how far the copy is though the books could not be written.
func (s *session) saveCopied(ctx context.Context) {
	select {
	case <-s.Clear:
	default:
		return
	}
	for _, l := range s.lanes().order {
		l.flushed.Store(max(0, l.copied()))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if _, err := s.saveOffsets(ctx); err != nil {
		s.Log.WarnContext(ctx, "offsets are not saved: records will be copied again", "err", err)
	}
}

// finish ends a session in good order: what is on the way is acknowledged, the
// books say that nothing can follow, the offsets are saved.
func (s *session) finish(ctx context.Context) error {
	stopping := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainBound)
	defer cancel()
	err := s.engine.Do(ctx, (*rawcopy.Flow).Stop)
	settled := err == nil && s.engine.Settle(ctx) == nil
	if !settled && stopping {
		s.Log.WarnContext(ctx, "stopped with records on the way: their fate is looked up in the target")
	}
	if err != nil { // the engine has ended before
		return err
	}
	last, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	s.mu.Lock()
	for _, book := range s.books {
		book.State.Clean = settled
	}
	s.mu.Unlock()
	write := func() error {
		if s.delivery == connector.Transactional {
			return s.commit(last, true)
		}
		s.opened = false // every book says so
		return s.flush(last)
	}
	err = write()
	select {
	case <-s.Clear:
		saved, notSaved := s.saveOffsets(last)
		if err = errors.Join(err, notSaved); err == nil && saved {
			err = write() // whatever else stands there later was set by hand
		}
	default:
	}
	if err != nil {
		s.Log.WarnContext(ctx, "last offsets are not saved: what came after will be looked up in the target", "err", err)
	}
	s.syncs.finish(last)
	s.show()
	return nil
}
