package herder

import (
	"testing"
	"time"
)

// TestAWorkerThatJoinsIsNotTakenForGone: its record in the log may be there before gossip shows it, as at a restart.
func TestAWorkerThatJoinsIsNotTakenForGone(t *testing.T) {
	t.Parallel()
	s := newScaled(t, 1)
	s.begin()
	s.settle()
	if _, leads, _ := s.m.Leader(); !leads {
		t.Fatal("does not lead")
	}
	s.now += time.Minute // it has led for long
	b := Instance{"b", "1"}
	departs := func() bool {
		for _, r := range s.m.Ready().Announce {
			if r == (Depart{"b"}) {
				return true
			}
		}
		return false
	}
	join := func(offset int64) {
		t.Helper()
		s.step(StatusRead{offset, Join{Instance: b}})
		if departs() {
			t.Fatal("taken for gone as soon as it joins")
		}
		s.now += s.m.timing.Settle - 100*time.Millisecond
		s.step(ConfigEnd{s.now})
		if departs() {
			t.Fatal("taken for gone before gossip could show it")
		}
	}
	join(10)
	s.step(Gossip{[]Instance{s.members[0], b}})
	s.now += time.Minute
	s.step(ConfigEnd{s.now})
	if departs() {
		t.Fatal("taken for gone while gossip shows it")
	}
	// One that dies is gone at once, one that never shows up after a while; also if it tries again.
	s.step(Gossip{s.members})
	s.step(ConfigEnd{s.now})
	if s.step(Tick{}); !departs() {
		t.Error("dead, but not taken for gone")
	}
	s.step(StatusRead{11, Depart{"b"}})
	b = Instance{"b", "2"}
	for offset := range int64(2) {
		join(12 + 2*offset)
		s.now += time.Second
		s.step(ConfigEnd{s.now})
		if !departs() {
			t.Error("gossip does not show it, but it is not taken for gone")
		}
		s.step(StatusRead{13 + 2*offset, Depart{"b"}})
	}
}
