package mirror

import (
	"sync"
	"time"

	"barnabas/connector"
)

// mishaps counts what went wrong with the records of a task, from its start on.
type mishaps struct {
	mu    sync.Mutex
	count connector.Errors
	due   int64 // pointers to records that are to be written
}

func (m *mishaps) retried() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count.Retries++
	m.count.Last = time.Now()
}

// leftOut counts n records that were left out because the target does not take them.
func (m *mishaps) leftOut(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count.Failures += n
	m.count.Skipped += n
	m.count.Last = time.Now()
}

// stopped counts a record at which its partition stops.
func (m *mishaps) stopped() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count.Failures++
	m.count.Last = time.Now()
}

// pointers counts what is about to be written to the dead letter queue.
func (m *mishaps) pointers(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.due += int64(n)
	m.count.Letters += int64(n)
}

// pointed tells how the writing ended.
func (m *mishaps) pointed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.count.LettersFailed += m.due
	}
	m.due = 0
}

func (m *mishaps) counts() connector.Errors {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}
