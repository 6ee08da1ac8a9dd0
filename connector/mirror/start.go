package mirror

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/connector/offsetrun"
	"barnabas/connector/takeover"
)

// start is where a partition's copy begins in a session.
type start struct {
	next               int64 // source offset
	targetEnd          int64 // what we write stands at this target offset, or behind
	saved              int64 // next offset in the worker's offset topic; -1: none
	sourceID, targetID [16]byte
	stop               error // it must not be copied
	waits              bool  // stop is that the source may not be read: it waits until it may
}

// findStarts decides for partitions where to begin.
func (s *session) findStarts(ctx context.Context, lanes []*lane) error {
	loaded, err := s.load(ctx, lanes)
	if err != nil {
		return err
	}
	partitions, copies := make([]partition, len(lanes)), make([]partition, len(lanes))
	for i, l := range lanes {
		partitions[i], copies[i] = l.partition, partition{l.target, l.id}
	}
	source, target := newRanges(s.source, partitions, s.committed), newRanges(s.target, copies, false)
	g, asking := errgroup.WithContext(ctx)
	g.Go(func() error { return source.look(asking) })
	g.Go(func() error { return target.look(asking) })
	if err := g.Wait(); err != nil {
		return err
	}
	g, reconciling := errgroup.WithContext(ctx)
	g.SetLimit(reconciled)
	var mu sync.Mutex
	for _, l := range lanes {
		g.Go(func() error {
			at, err := s.findStart(reconciling, l, loaded[l.partition], source.of(l.partition), target.of(partition{l.target, l.id}))
			mu.Lock()
			defer mu.Unlock()
			s.starts[l.partition] = at
			return err
		})
	}
	return g.Wait()
}

// reconciled is how many partitions are reconciled at once.
const reconciled = 8

// load reads the offsets saved in the worker's topic as the next to copy, -1 where there is none.
func (s *session) load(ctx context.Context, lanes []*lane) (map[partition]int64, error) {
	keys := make([][]byte, len(lanes))
	for i, l := range lanes {
		keys[i] = offsetKey(s.s.source, l.partition)
	}
	values, err := s.Offsets.Load(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("load offsets: %w", err)
	}
	next := map[partition]int64{}
	for i, l := range lanes {
		last, err := parseOffset(values[i])
		if err != nil {
			return nil, &finalError{fmt.Errorf("%s: %w", l.partition, err)}
		}
		next[l.partition] = -1
		if last >= 0 {
			next[l.partition] = last + 1
		}
	}
	return next, nil
}

// ranges are the first and end offsets of partitions, and the ids of topics.
type ranges struct {
	cluster    *cluster
	partitions []partition
	committed  bool
	first, end map[partition]int64
	failed     map[partition]error
	ids        map[string][16]byte
}

// extent is where a partition's log begins and ends; -1: not known.
type extent struct {
	first, end int64
	id         [16]byte
	err        error
}

func newRanges(c *cluster, partitions []partition, committed bool) *ranges {
	return &ranges{cluster: c, partitions: partitions, committed: committed}
}

func (r *ranges) look(ctx context.Context) (err error) {
	if r.ids, err = r.cluster.topicIDs(ctx, r.partitions); err != nil {
		return err
	}
	failedEnds := map[partition]error(nil)
	if r.first, r.failed, err = r.cluster.offsets(ctx, r.partitions, atStart, r.committed); err != nil {
		return err
	}
	if r.end, failedEnds, err = r.cluster.offsets(ctx, r.partitions, atEnd, r.committed); err != nil {
		return err
	}
	for p, err := range failedEnds {
		r.failed[p] = err
	}
	if r.cluster.side.cluster == "source" {
		return nil // one that may not be read waits
	}
	for p, refused := range r.failed {
		if classify(refused) == identity {
			return r.cluster.wrong("read "+p.topic, refused)
		}
	}
	return nil
}

func (r *ranges) of(p partition) extent {
	e := extent{first: -1, end: -1, id: r.ids[p.topic], err: r.failed[p]}
	first, knowsFirst := r.first[p]
	end, knowsEnd := r.end[p]
	if knowsFirst && knowsEnd {
		e.first, e.end = first, end
	}
	return e
}

// findStart decides where one partition begins: behind what the target has, if
// that can be told exactly, otherwise behind what was saved, otherwise where the settings say.
func (s *session) findStart(ctx context.Context, l *lane, saved int64, source, target extent) (start, error) {
	at := start{saved: saved, sourceID: source.id, targetID: target.id, targetEnd: max(target.end, 0)}
	if classify(source.err) == identity {
		at.waits, at.stop = true, s.source.refusal("read "+l.topic, source.err)
		return at, nil
	}
	book := s.books[l.partition]
	known := book != nil && len(book.State.Writers) > 0
	byHand := known && (book.Reset != nil || saved < 0 && book.State.Saved >= 0)
	set := known && (saved > book.State.Next || saved >= 0 && saved < book.State.Saved)
	if known {
		l.ledger(book.Gaps)
		if cause, stop := recreated(l, &book.State, source, target); stop != nil && !byHand && !set {
			if n := len(book.Gaps); n == 0 || book.Gaps[n-1].Cause != cause || book.Gaps[n-1].From != book.State.Next {
				s.lost(l, book.State.Next, book.State.Next, cause)
			}
			at.stop = stop
			return at, nil
		}
		if !byHand && !set {
			at.remember(&book.State)
		}
	}
	var err error
	switch {
	case byHand && book.Reset != nil && *book.Reset >= 0:
		at.next = *book.Reset
		s.moved(l, book.State.Next, at.next)
	case byHand:
		s.moved(l, book.State.Next, -1)
		at.next, err = s.startPosition(ctx, l, source)
	case set:
		at.next = saved
		s.moved(l, book.State.Next, saved)
	case known:
		at, err = s.reconcile(ctx, l, book, at, target)
	case saved >= 0:
		at.next = saved
	default:
		at.next, err = s.startPosition(ctx, l, source)
	}
	if err != nil || at.stop != nil {
		return at, err
	}
	return s.fitSource(l, at, source, known), nil
}

// remember takes the ids of topics that are not there just now from the books: once those forgot them, another topic of that
// name would be taken for the same.
func (at *start) remember(st *offsetrun.State) {
	none := [16]byte{}
	if at.sourceID == none {
		at.sourceID = st.SourceTopicID
	}
	if at.targetID == none {
		at.targetID = st.TargetTopicID
	}
}

// recreated says that a topic is not the one that was copied, in the words of the ledger and to a person.
func recreated(l *lane, st *offsetrun.State, source, target extent) (cause string, stop error) {
	none := [16]byte{}
	if st.SourceTopicID != none && source.id != none && st.SourceTopicID != source.id {
		return "source recreated", fmt.Errorf("topic %s of the source was deleted and made anew: its offsets mean other records. Reset the connector's offset of it to copy the new one", l.topic)
	}
	if st.TargetTopicID != none && target.id != none && st.TargetTopicID != target.id {
		return "target recreated", fmt.Errorf("topic %s of the target was deleted and made anew: what was copied before is gone. Reset the connector's offset of %s to copy it again", l.target, l.topic)
	}
	return "", nil
}

// moved notes that somebody has set the offset by hand.
func (s *session) moved(l *lane, from, to int64) {
	if to < 0 {
		s.lost(l, from, from, "offset deleted by hand: the copy begins anew")
		return
	}
	s.lost(l, min(from, to), max(from, to), fmt.Sprintf("offset set by hand from %d to %d", from, to))
}

// reconcile finds out from the target's own log what was copied after the books
// were written last.
func (s *session) reconcile(ctx context.Context, l *lane, book *offsetrun.Book, at start, target extent) (start, error) {
	at.next = book.State.Next
	if target.end < 0 { // no leader just now, and without its log nobody knows what to copy
		if target.err == nil {
			target.err = kerr.LeaderNotAvailable
		}
		return at, s.target.wrong(fmt.Sprintf("look up the end of %s-%d", l.target, l.id), target.err)
	}
	if target.end < book.State.TargetNext {
		return s.shortened(l, book, at, target), nil
	}
	if target.end == book.State.TargetNext {
		return at, nil
	}
	writers := make([]int64, len(book.State.Writers))
	for i, w := range book.State.Writers {
		writers[i] = w.ProducerID
	}
	out, err := takeover.Reconcile(ctx, s.source.client, s.target.client, takeover.Tail{
		Source: takeover.Partition{Topic: l.topic, ID: l.id}, Target: takeover.Partition{Topic: l.target, ID: l.id},
		SourceFrom: book.State.Next, TargetFrom: book.State.TargetNext, TargetEnd: target.end, Committed: s.committed, Mark: s.mark, Writers: writers, Transform: l.transform,
	})
	if classify(err) == identity {
		// It may write the copy and not read it. Nothing is lost, but it cannot be told what is there.
		out, err = takeover.Outcome{Next: at.next, Why: err.Error()}, nil
	}
	if err != nil {
		return at, fmt.Errorf("reconcile %s with its copy: %w", l.partition, err)
	}
	if gone := out.Gone; gone.To-gone.From > gone.Copied && gone.To > gone.From {
		s.lost(l, gone.From, gone.To, fmt.Sprintf("retention: deleted at the source while nobody copied; %d of them are in the copy", gone.Copied))
	}
	at.next = out.Next
	for _, r := range out.Runs {
		book.Map.Append(r.Source, r.Target, r.Count)
	}
	if !out.Exact {
		l.noted("at least once since offset " + strconv.FormatInt(out.Next, 10) + ": " + out.Why)
		s.Log.WarnContext(ctx, "the target's tail does not tell how far the copy is: some records may be copied twice", "topic", l.topic, "partition", l.id,
			"from", out.Next, "why", out.Why)
	} else if out.Records > 0 {
		s.Log.InfoContext(ctx, "found in the target what was copied after the last flush", "topic", l.topic, "partition", l.id, "records", out.Records)
	}
	return at, nil
}

// shortened goes back to what the target still has: it has lost records that it had
// acknowledged.
func (s *session) shortened(l *lane, book *offsetrun.Book, at start, target extent) start {
	for _, r := range slices.Backward(book.Map.Runs()) {
		if r.Target < target.end {
			at.next = min(at.next, r.Source+min(r.Count, target.end-r.Target))
			break
		}
		at.next = r.Source
	}
	s.lost(l, at.next, book.State.Next, fmt.Sprintf("the target lost acknowledged records (it ends at %d, was at %d): they are copied again", target.end, book.State.TargetNext))
	return at
}

// fitSource makes the best of a source that does not have the wanted offset.
// known says that it is the same topic that was copied before.
func (s *session) fitSource(l *lane, at start, source extent, known bool) start {
	if source.first < 0 {
		return at // no leader just now: the flow will see
	}
	l.setEnd(source.end)
	gap := func(from, to, next int64, cause string) {
		s.lost(l, from, to, cause)
		if at.next = next; s.stopAtGap() {
			at.stop = fmt.Errorf("%s: offsets %d to %d of the source are lost (%s), and gap.policy is stop", l.partition, from, to-1, cause)
		}
	}
	switch {
	case at.next < source.first:
		gap(at.next, source.first, source.first, "retention: they were deleted at the source before they were copied")
	case at.next > source.end && known:
		gap(source.end, at.next, source.end, "truncated: the source's log is shorter than what was copied")
	case at.next > source.end:
		gap(source.end, at.next, source.first, "truncated or made anew: what is there now is copied")
	}
	return at
}

// startPosition is where a partition without an offset begins: start.offsets,
// start.position, or auto.offset.reset (MirrorMaker's default: earliest).
func (s *session) startPosition(ctx context.Context, l *lane, source extent) (int64, error) {
	if offset, ok, err := startOffset(s.Settings[keyStartOffsets].Written, l.partition); ok || err != nil {
		return offset, err
	}
	r := resetOf(s.source.client)
	if position, ok, err := parseStart(s.Settings[keyStartPosition].Written); err != nil {
		return 0, &finalError{err}
	} else if ok {
		r = position
	}
	if r.none {
		return 0, &finalError{fmt.Errorf("%s: no offset to begin with (the source has %d to %d), and auto.offset.reset is none: %w",
			l.partition, source.first, source.end, kerr.OffsetOutOfRange)}
	}
	if source.first < 0 {
		if source.err == nil {
			source.err = kerr.LeaderNotAvailable
		}
		return 0, s.source.wrong("look up where "+l.partition.String()+" begins", source.err)
	}
	switch {
	case r.latest:
		return source.end, nil
	case r.offset == kgo.NewOffset().AtStart():
		return source.first, nil
	}
	found, failed, err := s.source.offsets(ctx, []partition{l.partition}, r.offset.EpochOffset().Offset, s.committed)
	if err == nil {
		err = failed[l.partition]
	}
	if err != nil {
		return 0, s.source.wrong("look up the offset of a time", err)
	}
	if at := found[l.partition]; at >= 0 {
		return at, nil
	}
	return source.end, nil // nothing is as new
}

// parseStart reads start.position: earliest, latest, or a time.
func parseStart(text string) (r reset, ok bool, err error) {
	switch text {
	case "":
		return reset{}, false, nil
	case "earliest":
		return reset{offset: kgo.NewOffset().AtStart()}, true, nil
	case "latest":
		return reset{offset: kgo.NewOffset().AtEnd(), latest: true}, true, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.UnixMilli() <= 0 {
		return reset{}, false, fmt.Errorf("%s: %q is not earliest, latest or a time like 2027-01-31T12:00:00Z", keyStartPosition, text)
	}
	return reset{offset: kgo.NewOffset().AfterMilli(at.UnixMilli())}, true, nil
}

// startOffset reads one partition's of "orders-0:17,orders-1:4".
func startOffset(text string, p partition) (offset int64, ok bool, err error) {
	if strings.TrimSpace(text) == "" {
		return 0, false, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, number, found := strings.Cut(strings.TrimSpace(part), ":")
		of, err := parsePartition(name)
		n, numErr := strconv.ParseInt(number, 10, 64)
		if !found || err != nil || numErr != nil || n < 0 {
			return 0, false, &finalError{fmt.Errorf("%s: %q is not like orders-0:17", keyStartOffsets, part)}
		}
		if of == p {
			return n, true, nil
		}
	}
	return 0, false, nil
}

// Settings of ours. They count where a partition has no offset yet.
const (
	keyStartPosition = "start.position"
	keyStartOffsets  = "start.offsets"
)
