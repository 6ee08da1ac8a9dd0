package worker

import (
	"context"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// SetLoggerLevel sets the level of a logger on all workers: by a record that each follows (KIP-976).
func (w *Worker) SetLoggerLevel(ctx context.Context, logger, level string) error {
	reply, err := w.order(ctx, herder.PutRecord{Record: herder.LoggerLevel{Logger: logger, Level: level}})
	if err == nil {
		err = reply.Err
	}
	return err
}

// follow sets a level that was set for all workers. What stood in the topic when this worker came is old, as in
// Connect: a worker starts with the levels of its own settings. It is called from the config topic's goroutine.
func (w *Worker) follow(r store.LoggerRecord) {
	if w.o.SetLevel == nil || !w.caughtUp.Load() {
		return
	}
	w.log.Info("level set for all workers", "of", r.Namespace, "level", r.Level)
	w.o.SetLevel(r.Namespace, r.Level)
}
