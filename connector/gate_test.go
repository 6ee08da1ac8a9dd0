package connector

import "testing"

func TestStuckTasksLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	const limit = 64 << 20
	g := NewGate(limit)
	// Tasks whose targets are stuck, each of which takes what it may, one after the other.
	held := int64(0)
	for i := range 20 {
		stuck := g.Join()
		allowed := stuck.Hold(0)
		take := allowed / 2 // what is held has to stay below what is left
		stuck.Hold(take)
		held += take
		if held >= limit {
			t.Fatalf("%d stuck tasks hold everything", i+1)
		}
	}
	healthy := g.Join()
	if allowed := healthy.Hold(0); allowed <= 0 {
		t.Errorf("a healthy task may hold %d bytes", allowed)
	}
}

func TestAShareIsGivenBack(t *testing.T) {
	t.Parallel()
	g := NewGate(100)
	a, b := g.Join(), g.Join()
	if allowed := a.Hold(60); allowed != 40 {
		t.Errorf("with 60 of 100 held there are %d left", allowed)
	}
	if allowed := b.Hold(70); allowed != 0 {
		t.Errorf("beyond the limit there are %d left", allowed)
	}
	a.Hold(0)
	b.Hold(0)
	if allowed := a.Hold(0); allowed != 100 {
		t.Errorf("with nothing held there are %d left", allowed)
	}
}
