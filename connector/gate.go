package connector

import "sync/atomic"

// Gate bounds the bytes that all tasks of a worker hold between fetch and
// acknowledgement. Each task may hold as much as is free: so one alone gets half of
// the whole, and however many are stuck with what they hold, there is room for the others (the dynamic
// thresholds of shared-memory switches, Choudhury and Hahne 1998).
type Gate struct {
	limit int64
	held  atomic.Int64
}

// NewGate returns a gate for limit bytes.
func NewGate(limit int64) *Gate { return &Gate{limit: limit} }

// Join returns a share for one task. Leave it with Hold(0).
func (g *Gate) Join() *Share { return &Share{gate: g} }

// Share is what one task holds of a gate. It is for one goroutine.
type Share struct {
	gate *Gate
	held int64
}

// Hold tells how many bytes the task holds now, and returns how many it may
// hold. A task that holds nothing may hold something, whatever the answer.
func (s *Share) Hold(bytes int64) (allowed int64) {
	total := s.gate.held.Add(bytes - s.held)
	s.held = bytes
	return max(0, s.gate.limit-total)
}
