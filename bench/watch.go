package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// How often a copy is looked at: often until its first record is there, then less,
// because the brokers have to answer.
const (
	lookForFirst = 4 * time.Millisecond
	lookForLast  = 10 * time.Millisecond
	quiet        = 2 * time.Second // a copy with transaction markers is complete when it stays as it is for so long
)

// sample is a copy at one moment.
type sample struct {
	at   time.Time
	ends []int64
	cpu  usage
}

// watcher follows a copy from outside, by the offsets at the ends of its
// partitions.
type watcher struct {
	*lab
	r     running
	meter meter
	want  []int64 // records that each partition is to have
}

func (l *lab) watch(r running, want []int64) *watcher {
	return &watcher{lab: l, r: r, want: want, meter: meter{r.proc.PID(), l.source.Process().PID(), l.target.Process().PID()}}
}

// look takes a sample.
func (w *watcher) look(ctx context.Context) (sample, error) {
	if err := w.r.ended(); err != nil {
		return sample{}, err
	}
	asked, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	at, _, err := ends(asked, w.targetBroker, w.r.copy(), w.r.partitions, w.r.kind.once())
	if err != nil {
		return sample{}, err
	}
	s := sample{at: time.Now(), ends: at}
	if s.cpu, err = w.meter.read(); err != nil {
		return s, errors.Join(err, w.r.ended())
	}
	return s, nil
}

// first waits until a record stands in the copy behind the given offsets. Ends
// alone do not tell: a replicator may write markers first. It returns how
// many markers each partition has, in which there was none when looked at 0.
func (w *watcher) first(ctx context.Context, after []int64) (s sample, markers []int64, err error) {
	markers = make([]int64, len(after))
	looked := slices.Clone(after)
	for {
		if s, err = w.look(ctx); err != nil {
			return s, nil, err
		}
		if behind(looked, s.ends) {
			found, err := w.headers(ctx, looked, s.ends, markers)
			if found || err != nil {
				return s, markers, err
			}
		}
		if err := rest(ctx, lookForFirst); err != nil {
			return s, nil, fmt.Errorf("%s: no record at the target: %w\n%s", w.r.kind, err, w.r.proc.Tail(15))
		}
	}
}

// headers reads on from looked and says whether there is a record. It counts
// markers that stand before the first record of each partition.
func (w *watcher) headers(ctx context.Context, looked, upTo, markers []int64) (found bool, err error) {
	with := make([]bool, len(looked))
	r := newReader(w.targetBroker, w.r.copy(), looked)
	r.committed, r.wait, r.mostEach = w.r.kind.once(), 0, 64<<10
	r.most = int32(len(looked)) * r.mostEach
	for size := 1; size > 0 && !found && behind(looked, upTo); {
		size, err = r.read(ctx, func(p int32, b batch) {
			switch {
			case !b.control():
				found, with[p] = true, true
			case !with[p]:
				markers[p] += b.count()
			}
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// last waits until the copy has all records. With transactions their markers
// count among the offsets, so that the copy is complete when it has not
// changed for a while and its headers say so; the moment is that of the last change.
func (w *watcher) last(ctx context.Context, s sample, markers []int64) (sample, error) {
	changed := s
	for {
		if !w.r.kind.once() && w.complete(changed.ends, markers) {
			return changed, nil
		}
		if time.Since(changed.at) > quiet && total(changed.ends) >= total(w.want) {
			counted, err := scan(ctx, w.target, w.r.copy(), changed.ends, w.r.kind.once())
			if err != nil {
				return changed, err
			}
			if total(counted.counts) >= total(w.want) {
				return changed, nil
			}
		}
		if err := rest(ctx, lookForLast); err != nil {
			return changed, fmt.Errorf("%s: %d of %d offsets at the target: %w\n%s", w.r.kind, total(changed.ends), total(w.want), err, w.r.proc.Tail(15))
		}
		now, err := w.look(ctx)
		if err != nil {
			return changed, err
		}
		if !slices.Equal(now.ends, changed.ends) {
			changed = now
		}
	}
}

// reach waits until every partition has grown by so many offsets.
func (w *watcher) reach(ctx context.Context, after []int64, by int64) error {
	for {
		s, err := w.look(ctx)
		if err != nil {
			return err
		}
		short := 0
		for p, at := range s.ends {
			if at < after[p]+by {
				short++
			}
		}
		if short == 0 {
			return nil
		}
		if err := rest(ctx, lookForLast); err != nil {
			return fmt.Errorf("%s: %d partitions are not complete: %w\n%s", w.r.kind, short, err, w.r.proc.Tail(15))
		}
	}
}

func (w *watcher) complete(at, markers []int64) bool {
	for p, want := range w.want {
		if at[p]-markers[p] != want {
			return false
		}
	}
	return true
}

func total(each []int64) int64 {
	var sum int64
	for _, n := range each {
		sum += n
	}
	return sum
}

// rest waits a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
