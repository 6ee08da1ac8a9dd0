package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"barnabas/connector"
	"barnabas/connector/rawcopy"
)

// report shows the progress every second.
func (s *session) report(ctx, running context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		if err := s.observe(ctx); err != nil {
			return ignoreEnd(running, ignoreEnd(ctx, err))
		}
		s.show()
		if err := errors.Join(s.refused(), s.parkedAll()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks both clusters now and then whether they still accept us.
func (s *session) look(ctx, running context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-running.Done():
			return nil
		case <-tick.C:
		}
		_, sourceErr := s.source.metadata(ctx, []string{})
		_, targetErr := s.target.metadata(ctx, []string{})
		err := errors.Join(sourceErr, targetErr)
		if classify(err) == identity {
			return err
		}
		if s.readable(ctx) {
			return errReadable
		}
		if err != nil && ctx.Err() == nil && s.warn.allow("look") {
			s.Log.WarnContext(ctx, "a cluster does not answer", "err", err)
		}
	}
}

// errReadable ends a session in good order so that the next one copies what could not be read.
var errReadable = fmt.Errorf("%w: what waited may be read", errRefresh)

// readable says whether a topic that was refused may be read by now.
func (s *session) readable(ctx context.Context) bool {
	s.mu.Lock()
	waiting := slices.Clone(s.waiting)
	s.mu.Unlock()
	if len(waiting) == 0 {
		return false
	}
	_, failed, err := s.source.offsets(ctx, waiting, atEnd, s.committed)
	return err == nil && slices.ContainsFunc(waiting, func(p partition) bool { return classify(failed[p]) != identity || failed[p] == nil })
}

// show reports what was observed last.
func (s *session) show() {
	now := time.Now()
	p := connector.Progress{Delivery: s.delivery, Why: s.why, Errors: s.mishaps.counts(), Partitions: make([]connector.PartitionProgress, len(s.lanes().order))}
	for i, l := range s.lanes().order {
		p.Partitions[i] = l.progress(now)
		if s.delivery == connector.Plain && s.Delivery != connector.Plain && p.Partitions[i].Reason == "" {
			p.Partitions[i].Reason = s.why
		}
		if _, trouble := l.fate(); errors.Is(trouble, rawcopy.ErrFetch) && classify(trouble) == identity {
			p.Partitions[i].Reason = s.source.refusal("read "+l.topic, trouble).Error()
		}
		if p.Partitions[i].InFlight > 0 {
			if silent := now.Sub(l.stats.movedAt()).Round(time.Second); silent >= silence {
				p.Partitions[i].Reason = s.silent(silent)
			}
		}
		p.Gaps = append(p.Gaps, l.ledgerEntries()...)
	}
	s.Report(p)
}

// silence is after how long without an answer the target is called silent.
const silence = 5 * time.Second

// silent says that the target does not answer. The task goes on trying.
func (s *session) silent(since time.Duration) string {
	text := fmt.Sprintf("the target has not acknowledged anything for %v", since)
	if err := s.target.dials.lastError(); err != nil {
		text += ": " + err.Error()
	}
	return text
}

func (l *lane) ledgerEntries() []connector.Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]connector.Gap(nil), l.gaps...)
}

// The states of a partition.
const (
	stateRunning  = "RUNNING"
	stateDegraded = "DEGRADED"
	stateStopped  = "STOPPED"
)

// progress shows how far a lane is.
func (l *lane) progress(now time.Time) connector.PartitionProgress {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := &l.state
	p := connector.PartitionProgress{
		Topic: l.topic, Partition: l.id, TargetTopic: l.target, SourceEndOffset: l.end, CopiedOffset: l.next, TargetEndOffset: -1,
		LagRecords: -1, LagBytes: -1, LagSeconds: -1, InFlight: st.InFlight, Mode: "raw", State: stateRunning,
		Records: l.base[0] + st.Records, Bytes: l.base[1] + st.Bytes,
	}
	p.RecordsPerSec, p.BytesPerSec = l.stats.pace()
	if l.observes {
		p.TargetEndOffset = st.TargetEnd
	}
	if p.SourceEndOffset >= 0 && p.CopiedOffset >= 0 {
		l.lag(&p, now)
	}
	if !st.Raw && l.observes {
		p.Mode, p.Reason = "decoded", "decoded: "+st.Reason.String()
	}
	p.Decisions = decisions(st)
	switch {
	case l.stopped != nil:
		p.State, p.Reason = stateStopped, l.stopped.Error()
	case l.waits != nil:
		p.State, p.Reason = stateDegraded, l.waits.Error()
	case st.Trouble != nil:
		p.State, p.Reason = stateDegraded, st.Trouble.Error()
	case len(l.gaps) > 0:
		g := l.gaps[len(l.gaps)-1]
		p.State, p.Reason = stateDegraded, fmt.Sprintf("offsets %d to %d: %s", g.From, g.To-1, g.Cause)
	case l.note != "":
		p.State, p.Reason = stateDegraded, l.note
	}
	return p
}

// lag fills in how far the copy is behind. Bytes are estimated from what was
// copied last: a broker tells the size of a log, not of its parts.
func (l *lane) lag(p *connector.PartitionProgress, now time.Time) {
	st := &l.state
	p.LagRecords = max(0, p.SourceEndOffset-p.CopiedOffset)
	if p.LagRecords == 0 {
		p.LagBytes, p.LagBytesExact, p.LagSeconds = 0, true, 0
		return
	}
	if st.BytesPerRecord > 0 {
		p.LagBytes = int64(float64(p.LagRecords) * st.BytesPerRecord)
	}
	if st.LastTimestamp > 0 {
		p.LagSeconds = max(0, now.Sub(time.UnixMilli(st.LastTimestamp)).Seconds())
	}
}

// parkedAll is the task's error once all of its partitions have stopped: there is
// nothing left to do.
func (s *session) parkedAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked == len(s.lanes().order) && s.parked > 0 {
		return &finalError{errors.Join(s.errs...)}
	}
	return nil
}

// refused is the task's error if a cluster has refused it everywhere from the
// beginning: that is a wrong configuration, and who has to mend it is to be told who was refused. Rights that are lost later are waited for.
func (s *session) refused() error {
	var first *lane
	unread := 0
	for _, l := range s.lanes().order {
		copied, trouble := l.fate()
		if copied {
			return nil
		}
		if classify(trouble) != identity {
			continue
		}
		if errors.Is(trouble, rawcopy.ErrFetch) {
			unread++
		}
		if first == nil {
			first = l
		}
	}
	if first == nil {
		return nil
	}
	_, err := first.fate()
	if errors.Is(err, rawcopy.ErrFetch) {
		if unread < len(s.lanes().order) {
			return nil // others may be read: only these wait
		}
		return s.source.refusal("read "+first.topic, err)
	}
	return s.target.refusal(fmt.Sprintf("write record %s@%d", first.partition, first.copied()), err)
}
