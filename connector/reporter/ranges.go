package reporter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

// Ranges reports about what is copied in batches: now and then how far each partition is, at once what the copy lacks, and
// why the task failed. It is for one goroutine at a time.
type Ranges struct {
	*Reporter
	every  time.Duration
	told   time.Time
	copied map[place]int64 // up to where it is reported
	gaps   map[gap]bool
}

type place struct {
	topic     string
	partition int32
}

// gap identifies an entry of the ledger, whose end may still move.
type gap struct {
	place
	from, at int64
}

// NewRanges reports through r, about what is copied at most every so often. A nil r reports nothing.
func NewRanges(r *Reporter, every time.Duration) *Ranges {
	return &Ranges{Reporter: r, every: every, told: time.Now(), copied: map[place]int64{}}
}

// Progress takes a report of the task in.
func (r *Ranges) Progress(ctx context.Context, p connector.Progress) {
	if r.Reporter == nil {
		return
	}
	r.ledger(ctx, p.Gaps)
	now := time.Now()
	due := now.Sub(r.told) >= r.every
	if due {
		r.told = now
	}
	for _, at := range p.Partitions {
		key := place{at.Topic, at.Partition}
		before, known := r.copied[key]
		if !known && at.CopiedOffset >= 0 {
			// What earlier runs have copied is not reported again.
			r.copied[key] = at.CopiedOffset
			if at.Records > 0 {
				r.copied[key] = max(0, at.CopiedOffset-at.Records)
			}
			continue
		}
		if due && known && at.CopiedOffset > before && r.results != nil {
			r.copied[key] = at.CopiedOffset
			r.write(ctx, r.results, &kgo.Record{Topic: at.Topic, Partition: at.Partition, Offset: at.CopiedOffset - 1, Timestamp: now}, report{Result: "success", From: &before})
		}
	}
}

// ledger reports the entries that are new. What stood in it when the task started is not.
func (r *Ranges) ledger(ctx context.Context, gaps []connector.Gap) {
	first := r.gaps == nil
	before := r.gaps
	r.gaps = make(map[gap]bool, len(gaps))
	for _, g := range gaps {
		key := gap{place{g.Topic, g.Partition}, g.From, g.At.UnixMilli()}
		r.gaps[key] = true
		if first || before[key] || r.failures == nil {
			continue
		}
		from := g.From
		text := fmt.Sprintf("%s: records %d to %d are not copied", g.Cause, g.From, g.To-1)
		if g.Detail != "" {
			text += ": " + g.Detail
		}
		r.write(ctx, r.failures, &kgo.Record{Topic: g.Topic, Partition: g.Partition, Offset: g.To - 1, Timestamp: g.At}, report{Result: "error", Error: text, From: &from})
	}
}

// TaskFailed reports why the task ends.
func (r *Ranges) TaskFailed(ctx context.Context, err error) {
	if r.Reporter == nil || r.failures == nil {
		return
	}
	r.write(ctx, r.failures, &kgo.Record{Partition: -1, Offset: -1, Timestamp: time.Now()}, report{Result: "error", Error: errors.Join(err).Error()})
}
