package herder

import (
	"maps"
	"testing"
)

// TestRatesOfPartitionsAreTold: those that matter, without a new record for each small change.
func TestRatesOfPartitionsAreTold(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	measured := map[string]map[string]float64{"c": {"orders-0": 40 * mb, "orders-1": 100}, "d": {"orders-0": 2 * mb}}
	first := Rates(measured, nil)
	told := Load{Rates: first}
	want := Load{Rates: map[string]map[string]int64{"c": {"orders-0": 40 * mb}, "d": {"orders-0": 2 * mb}}}
	if !told.Same(want) {
		t.Fatalf("told %v, want %v", told.Rates, want.Rates)
	}
	measured["c"]["orders-0"] = 45 * mb
	if !told.Same(Load{Rates: Rates(measured, first)}) {
		t.Error("an eighth more is told anew")
	}
	measured["c"]["orders-0"] = 60 * mb
	if got := Rates(measured, first); got["c"]["orders-0"] != 60*mb {
		t.Errorf("told %v, half as much again is news", got)
	}
	many := map[string]map[string]float64{"c": {}}
	for i := range 10 * maxRates {
		many["c"][Unit{"orders", i}.String()] = float64(mb * (i + 1))
	}
	if got := Rates(many, nil)["c"]; len(got) != maxRates || got["orders-1279"] == 0 {
		t.Errorf("%d of %d are told", len(got), len(many["c"]))
	}

	s := newScaled(t, 2)
	s.begin()
	s.settle()
	a, b := s.members[0], s.members[1]
	for _, name := range []string{"c", "d"} { // one for each
		s.do(PutConnector{Name: name, Config: map[string]string{"name": name}})
	}
	s.settle()
	s.step(StatusRead{10, Load{Instance: a, Rates: map[string]map[string]int64{"c": {"orders-0": 5}, "d": {"orders-7": 1}}}})
	s.step(StatusRead{11, Load{Instance: b, Rates: map[string]map[string]int64{"c": {"orders-0": 7, "orders-1": 3}}}})
	s.step(StatusRead{12, Load{Instance: Instance{b.Worker, "old"}, Rates: map[string]map[string]int64{"c": {"orders-1": 30}}}})
	if got := s.m.Rates("c"); !maps.Equal(got, map[string]int64{"orders-0": 7, "orders-1": 3}) {
		t.Errorf("rates %v", got)
	}
	s.step(Gossip{s.members[:1]}) // b has died
	if got := s.m.Rates("c"); !maps.Equal(got, map[string]int64{"orders-0": 5}) {
		t.Errorf("rates %v, those of the dead do not count", got)
	}
}
