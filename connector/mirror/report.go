package mirror

import (
	"context"
	"fmt"
	"time"

	"barnabas/connector"
)

// report shows the progress every second.
func (t *copying) report(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	type count struct{ records, bytes int64 }
	before := make([]count, len(t.order))
	at := time.Now()
	for {
		now := time.Now()
		seconds := max(now.Sub(at).Seconds(), 0.001)
		p := connector.Progress{Delivery: connector.Plain, Partitions: make([]connector.PartitionProgress, len(t.order))}
		for i, l := range t.order {
			records, bytes := l.stats.counts()
			p.Partitions[i] = l.progress()
			if silent := now.Sub(time.UnixMilli(l.moved.Load())).Round(time.Second); p.Partitions[i].InFlight > 0 && silent >= silence {
				p.Partitions[i].Reason = t.silent(silent)
			}
			p.Partitions[i].Records, p.Partitions[i].Bytes = records, bytes
			p.Partitions[i].RecordsPerSec = float64(records-before[i].records) / seconds
			p.Partitions[i].BytesPerSec = float64(bytes-before[i].bytes) / seconds
			before[i] = count{records, bytes}
		}
		at = now
		t.Report(p)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// silence is after how long without an answer the target is called silent.
const silence = 5 * time.Second

// silent says that the target does not answer. The client goes on trying.
func (t *copying) silent(since time.Duration) string {
	text := fmt.Sprintf("the target has not acknowledged anything for %v", since)
	if err := t.target.dials.lastError(); err != nil {
		text += ": " + err.Error()
	}
	return text
}

// progress shows how far a lane is, without its counts.
func (l *lane) progress() connector.PartitionProgress {
	p := connector.PartitionProgress{
		Topic: l.topic, Partition: l.id, TargetTopic: l.target, SourceEndOffset: l.end.Load(), CopiedOffset: l.next.Load(),
		LagRecords: -1, InFlight: l.inFlight.Load(), Mode: "decoded",
	}
	if p.SourceEndOffset >= 0 && p.CopiedOffset >= 0 {
		p.LagRecords = max(0, p.SourceEndOffset-p.CopiedOffset)
	}
	for _, text := range []*string{l.trouble.Load(), l.note.Load()} {
		if text != nil && p.Reason == "" {
			p.Reason = *text
		}
	}
	return p
}
