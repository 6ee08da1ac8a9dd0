package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// This file is about partitions that a task is given while it copies others (TaskContext.Updates): those go on without a pause.
//
// A session takes a partition in as it does at its beginning, but for the fence: it holds one already. The partition's
// book is read and reconciled with the target's tail beside the copy (grow); then the book says who writes, and only when that
// stands in the target the copy begins (take, enter), on the goroutine that keeps the books. Where a book says that
// somebody may still write, the session ends in good order and the next one shuts him out.

// lanes are the partitions of a task. They are never changed, but replaced: several goroutines look at them.
type lanes struct {
	of    map[partition]*lane
	order []*lane // sorted
}

// with returns lanes that have more.
func (ls *lanes) with(more []*lane) *lanes {
	grown := &lanes{of: make(map[partition]*lane, len(ls.order)+len(more)), order: slices.Concat(ls.order, more)}
	slices.SortFunc(grown.order, func(a, b *lane) int { return a.compare(b.partition) })
	for _, l := range grown.order {
		grown.of[l.partition] = l
	}
	return grown
}

func (t *copying) lanes() *lanes { return t.all.Load() }

func (t *copying) partitions() []partition {
	var all []partition
	for _, l := range t.lanes().order {
		all = append(all, l.partition)
	}
	return all
}

func (t *copying) newLanes(partitions []partition) []*lane {
	made := make([]*lane, len(partitions))
	for i, p := range partitions {
		plan := t.s.policy.plan(t.s.source, p.topic)
		made[i] = newLane(p, plan.Topic)
		if plan.Decodes() {
			made[i].transform = plan.Apply
		}
	}
	return made
}

// heard takes in a configuration that came while no session ran.
func (t *copying) heard() error {
	select {
	case config := <-t.Updates:
		return t.wants(config)
	default:
		return nil
	}
}

// wants notes what a new configuration has the task copy.
func (t *copying) wants(config map[string]string) error {
	partitions, err := parsePartitions(config[keyTaskPartitions])
	if err != nil {
		return &finalError{fmt.Errorf("%s: %w", keyTaskPartitions, err)}
	}
	if gone := missing(t.want, partitions); len(gone) > 0 {
		return &finalError{fmt.Errorf("%s was taken away from a running task: it has to be restarted", gone[0])}
	}
	t.want = partitions
	t.hear(config[keyUpstream])
	return nil
}

// hear notes by which copies the topics are filled.
func (t *copying) hear(text string) {
	upstream := parseUpstream(text)
	t.upstream.Store(&upstream)
}

// enlarge gives lanes to all partitions that the task is to copy. No session runs.
func (t *copying) enlarge() {
	t.all.Store(t.lanes().with(t.newLanes(missing(t.want, t.partitions()))))
}

// addition is what a session takes in while it copies.
type addition struct {
	lanes  []*lane
	books  map[partition]*offsetrun.Book
	starts map[partition]start
	limits map[string]rawcopy.Limits
	// restart says that the session has to begin anew instead.
	restart bool
}

// grow prepares the partitions that the task is given, until ctx ends. What passes is tried again.
func (s *session) grow(ctx, running context.Context) error {
	have := s.partitions()
	for failures := 0; ; {
		var retry <-chan time.Time
		if more := missing(s.want, have); len(more) > 0 {
			add, err := s.prepare(running, more)
			switch {
			case ctx.Err() != nil || running.Err() != nil:
				return nil
			case err != nil && classify(err) == passing && !errors.Is(err, errUnclean):
				failures++
				retry = time.After(backoff(failures, 100*time.Millisecond, longestWait))
				if s.warn.allow("grow") {
					s.Log.WarnContext(ctx, "partitions that were added wait to begin", "partitions", len(more), "first", more[0].String(), "err", err)
				}
			case err != nil:
				s.Log.InfoContext(ctx, "the copying begins anew to take in what was added", "partitions", len(more), "first", more[0].String(), "why", err)
				add = addition{restart: true}
				fallthrough
			default:
				failures = 0
				select {
				case s.grown <- add:
					have = slices.Clone(s.want)
				case <-ctx.Done():
					return nil
				case <-running.Done():
					return nil
				}
			}
		}
		select {
		case config := <-s.Updates:
			if err := s.wants(config); err != nil {
				return err
			}
		case <-retry:
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		}
	}
}

// errUnclean says that a partition cannot be taken in without a fence.
var errUnclean = errors.New("a former owner may still write")

// prepare finds out where partitions begin, as a session does for all at its beginning. Nothing of the
// session that runs is touched.
func (s *session) prepare(ctx context.Context, more []partition) (addition, error) {
	beside := &session{copying: s.copying, runs: s.runs, books: map[partition]*offsetrun.Book{}, starts: map[partition]start{}}
	added := s.newLanes(more)
	if s.reader != nil {
		beside.reader = beside.newReader(added)
		if err := beside.readAgain(ctx, added); err != nil {
			return addition{}, err
		}
		for p, book := range beside.books {
			if len(book.State.Writers) > 0 && !book.State.Clean {
				return addition{}, fmt.Errorf("%s: %w", p, errUnclean)
			}
		}
	}
	if err := beside.findStarts(ctx, added); err != nil {
		return addition{}, err
	}
	limits, err := s.limits(ctx, added)
	if err != nil {
		return addition{}, err
	}
	// A run that has missed its end must not write itself into books that its successor has read already.
	if s.Confirm != nil && s.delivery != connector.Plain {
		if err := s.Confirm(ctx); err != nil {
			return addition{}, err
		}
	}
	return addition{lanes: added, books: beside.books, starts: beside.starts, limits: limits}, nil
}

// take makes partitions part of the session. Their copy begins when the books that are written next say so.
func (s *session) take(add addition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = true
	codec := s.codec()
	for _, l := range add.lanes {
		at := add.starts[l.partition]
		s.starts[l.partition] = at
		if book := add.books[l.partition]; book != nil {
			s.books[l.partition] = book
		}
		if at.stop != nil {
			s.standsStill(l, at)
			continue
		}
		l.began(at.next)
		s.claim(l)
		s.fresh[l.partition] = true
		s.entering = append(s.entering, l.config(at, add.limits[l.target], codec))
	}
	s.all.Store(s.lanes().with(add.lanes))
}

// enter begins the copy of the partitions that were taken in and stand in the books.
func (s *session) enter(ctx context.Context) error {
	if !s.taken {
		return nil
	}
	entering := s.entering
	s.taken, s.entering = false, nil
	err := s.engine.Do(ctx, func(f *rawcopy.Flow) {
		for _, c := range entering {
			f.Add(c)
		}
	})
	if err != nil {
		return err
	}
	if s.Fenced != nil && s.delivery != connector.Plain {
		s.Fenced()
	}
	s.Log.InfoContext(ctx, "copying more", "partitions", len(entering), "of", len(s.lanes().order))
	return nil
}
