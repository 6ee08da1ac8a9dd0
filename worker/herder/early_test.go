package herder

import (
	"testing"
	"time"
)

// follower is worker b, which reads that task c-0 is now its own and was a's before.
type follower struct {
	*Machine
	t      *testing.T
	now    time.Duration
	offset int64
	waits  []Wait
}

func newFollower(t *testing.T, c Config) *follower {
	t.Helper()
	c.Self, c.Timing = Join{Instance: Instance{"b", "1"}}, DefaultTiming()
	f := &follower{Machine: New(c), t: t, waits: []Wait{{Instance{"a", "1"}, 2}}}
	for i, w := range []string{"a", "b"} {
		f.step(StatusRead{Offset: int64(i), Record: Join{Instance: Instance{w, "1"}}})
	}
	f.step(StatusEnd{})
	f.read(Leader{Epoch: 1, Instance: Instance{"a", "1"}}, ConnectorConfig{"c", map[string]string{"name": "c"}},
		TaskConfig{Unit{"c", 0}, map[string]string{"class": "mirror"}}, Commit{"c", 1})
	f.step(ConfigEnd{f.now})
	return f
}

func (f *follower) step(e Event) Ready {
	f.Step(f.now, e)
	return f.Ready()
}

func (f *follower) read(records ...Record) (last Ready) {
	for _, r := range records {
		last = f.step(ConfigRead{Offset: f.offset, Record: r})
		f.offset++
	}
	return last
}

// assigned reads an assignment of b.
func (f *follower) assigned(version int64, tasks string) Ready {
	a := Assignment{Epoch: 1, Version: version, Instance: Instance{"b", "1"}}
	if tasks != "" {
		a.Runs = []Run{{Gen: 2, Units: map[string]string{"c": tasks}, After: f.waits}}
	}
	return f.read(a)
}

// later lets d pass; the lease is renewed only if renew says so.
func (f *follower) later(d time.Duration, renew bool) Ready {
	f.now += d
	if renew {
		return f.step(ConfigEnd{f.now})
	}
	return f.step(Tick{})
}

func mirrors(task map[string]string) bool { return task["class"] == "mirror" }

var both = Gossip{[]Instance{{"a", "1"}, {"b", "1"}}}

func TestATaskThatCanFenceStartsEarlyOnlyAfterAnOwnerThatSeemsDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fences func(map[string]string) bool
		gossip []Event
		early  bool
	}{
		"lost by gossip":    {mirrors, []Event{both, Gossip{[]Instance{{"b", "1"}}}}, true},
		"started anew":      {mirrors, []Event{both, Gossip{[]Instance{{"a", "2"}, {"b", "1"}}}}, true},
		"alive":             {mirrors, []Event{both}, false},
		"not seen yet":      {mirrors, []Event{Gossip{[]Instance{{"b", "1"}}}}, false},
		"cannot fence":      {func(map[string]string) bool { return false }, []Event{both, Gossip{[]Instance{{"b", "1"}}}}, false},
		"nobody can fence":  {nil, []Event{both, Gossip{[]Instance{{"b", "1"}}}}, false},
		"seen by its beats": {mirrors, []Event{both, Gossip{[]Instance{{"b", "1"}}}, StatusRead{Offset: 9, Record: Beat{Instance{"a", "1"}}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFollower(t, Config{Fences: tt.fences})
			for _, e := range tt.gossip {
				f.step(e)
			}
			out := f.assigned(2, "0")
			if got := len(out.Start) == 1 && out.Start[0].Early; got != tt.early || !got && len(out.Start) > 0 {
				t.Fatalf("on reading the assignment: start %+v", out.Start)
			}
			if out = f.later(DefaultTiming().Lease, true); len(out.Clear) > 0 {
				t.Error("clear before the owner's lease is over")
			}
			out = f.later(DefaultTiming().Margin+time.Millisecond, true)
			if tt.early && (len(out.Clear) != 1 || len(out.Start) > 0) {
				t.Errorf("after the owner's lease: clear %v, start %+v", out.Clear, out.Start)
			}
			if len(f.runs) != 1 {
				t.Error("it has not started after the owner's lease")
			}
			if again := f.later(time.Second, true); len(again.Clear) > 0 {
				t.Error("clear is told twice")
			}
		})
	}
}

func TestAnEarlyRunIsClearWhenItsFormerOwnerSaysSo(t *testing.T) {
	t.Parallel()
	f := newFollower(t, Config{Fences: mirrors})
	f.step(both)
	f.step(Gossip{[]Instance{{"b", "1"}}})
	run := f.assigned(2, "0").Start[0].Run
	out := f.step(StatusRead{Offset: 9, Record: Ack{Instance: Instance{"a", "1"}, Version: 2}})
	if len(out.Clear) != 1 || out.Clear[0] != run {
		t.Errorf("clear: %v, want %d", out.Clear, run)
	}
}

func TestAFenceOutlivesTheLease(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		strict bool
		fenced []bool
		stops  bool
	}{
		"fenced": {false, []bool{true}, false}, "bare": {false, nil, true},
		"lost its fence": {false, []bool{true, false}, true}, "lease.enforce=all": {true, []bool{true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFollower(t, Config{Fences: mirrors, LeaseForAll: tt.strict})
			f.waits = nil
			run := f.assigned(2, "0").Start[0].Run
			for _, held := range tt.fenced {
				f.step(Fenced{run, held})
			}
			out := f.later(DefaultTiming().Lease+time.Second, false)
			if stops := len(out.Stop) == 1; stops != tt.stops {
				t.Fatalf("the lease has run out: %+v", out.Stop)
			}
			if tt.stops {
				return
			}
			// The revocation may be read before the topic's end is.
			out = f.assigned(3, "")
			if len(out.Stop) != 1 || out.Stop[0].Deadline <= f.now {
				t.Errorf("revoked past the lease, now %v: %+v; it must stop, with time to finish what is on the way", f.now, out.Stop)
			}
		})
	}
}
