package task

import (
	"errors"
	"maps"
	"time"

	"barnabas/connector"
)

// FinalError is why a run FAILED when no restart mends that: its configuration is wrong, or its plugin says so.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *FinalError) Unwrap() error { return e.Err }

// judged marks an error as final if the plugin of the run says so.
func (t *Runner) judged(r Run, err error) error {
	var final *FinalError
	if err == nil || errors.As(err, &final) {
		return err
	}
	if p, unknown := t.o.Plugin(r.Config["connector.class"]); unknown == nil && p.Final != nil && p.Final(err) {
		return &FinalError{err}
	}
	return err
}

// has says whether a run is not over.
func (t *Runner) has(run *running) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.runs[run.ID] == run
}

// note takes down whether a report shows progress. r.mu is held.
func (r *running) note(p connector.Progress, now time.Time) {
	records, idle := int64(0), len(p.Partitions) > 0
	for _, part := range p.Partitions {
		records += part.Records
		idle = idle && part.LagRecords == 0
	}
	if records > r.records || idle {
		r.moved = now
	}
	r.records = records
}

// LastProgress returns when each running task of a connector last copied something, or had nothing left to copy, by task.
// One that has not since it was started is left out.
func (t *Runner) LastProgress(name string) map[int]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[int]time.Time{}
	for _, r := range t.runs {
		if r.Connector == name && r.Task >= 0 {
			r.mu.Lock()
			if r.moved.After(all[r.Task]) {
				all[r.Task] = r.moved
			}
			r.mu.Unlock()
		}
	}
	maps.DeleteFunc(all, func(_ int, at time.Time) bool { return at.IsZero() })
	return all
}
