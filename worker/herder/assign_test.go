package herder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func workers(n int) []candidate {
	c := make([]candidate, n)
	for i := range c {
		c[i].worker = fmt.Sprintf("w%04d", i)
	}
	return c
}

func tasksOf(connectors, tasks int) []demand {
	var d []demand
	for c := range connectors {
		for t := ConnectorUnit; t < tasks; t++ {
			d = append(d, demand{unit: Unit{fmt.Sprintf("c%05d", c), t}, weight: 1})
		}
	}
	return d
}

// spread assigns, starting from what was before.
func spread(c []candidate, demands []demand, before map[Unit]string) map[Unit]string {
	demands = slices.Clone(demands)
	for i := range demands {
		demands[i].owner = before[demands[i].unit]
	}
	after := map[Unit]string{}
	for i, place := range assign(c, demands) {
		if place != nobody {
			after[demands[i].unit] = c[place].worker
		}
	}
	return after
}

func moved(before, after map[Unit]string) (n int) {
	for u, w := range before {
		if after[u] != w {
			n++
		}
	}
	return n
}

func TestOnlyAsManyTasksMoveAsBalanceNeeds(t *testing.T) {
	t.Parallel()
	demands := tasksOf(2, 12)
	three := spread(workers(3), demands, nil)
	four := spread(workers(4), demands, three)
	// 24 tasks on three workers are 8 each, on four 6 each: the new one gets 6. Two
	// connectors on three workers need not move.
	if n := moved(three, four); n != 6 {
		t.Errorf("a fourth worker moved %d units, want 6", n)
	}
	back := spread(workers(3), demands, four)
	if n := moved(four, back); n != 6 {
		t.Errorf("the fourth worker's end moved %d units, want its 6", n)
	}
}

func TestAssignmentRespectsLabels(t *testing.T) {
	t.Parallel()
	c := workers(3)
	c[1].labels = map[string]string{"tier": "pci", "zone": "a"}
	demands := []demand{
		{unit: Unit{"any", 0}, weight: 1},
		{unit: Unit{"nowhere", 0}, placement: "tier=gold", weight: 1},
		{unit: Unit{"pci", 0}, placement: "tier=pci", weight: 1},
		{unit: Unit{"pci", 1}, placement: "tier=pci, zone=a", weight: 1},
	}
	got := spread(c, demands, map[Unit]string{{"pci", 0}: "w0000"})
	if got[Unit{"pci", 0}] != "w0001" || got[Unit{"pci", 1}] != "w0001" {
		t.Errorf("units placed on tier=pci are on %v", got)
	}
	if w, ok := got[Unit{"nowhere", 0}]; ok {
		t.Errorf("a unit that no worker is eligible for is on %s", w)
	}
	if got[Unit{"any", 0}] == "w0001" {
		t.Errorf("the unit that fits anywhere is on the busiest worker")
	}
}

func TestAssignmentIsBalancedStickyAndDeterministic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		demands := tasksOf(rapid.IntRange(0, 6).Draw(t, "connectors"), rapid.IntRange(0, 9).Draw(t, "tasks"))
		before := spread(workers(rapid.IntRange(1, 6).Draw(t, "before")), demands, nil)
		n := rapid.IntRange(1, 6).Draw(t, "after")
		after := spread(workers(n), demands, before)
		if again := spread(workers(n), demands, before); moved(after, again) != 0 {
			t.Fatalf("the same arguments gave %v and %v", after, again)
		}
		if again := spread(workers(n), demands, after); moved(after, again) != 0 {
			t.Fatalf("an assignment is not its own successor: %v, then %v", after, again)
		}
		load := map[bool]map[string]int{true: {}, false: {}}
		for _, d := range demands {
			w, ok := after[d.unit]
			if !ok {
				t.Fatalf("%v is not assigned", d.unit)
			}
			load[d.unit.IsConnector()][w]++
		}
		for kind, l := range load {
			low, high := 1<<30, 0
			for _, w := range workers(n) {
				low, high = min(low, l[w.worker]), max(high, l[w.worker])
			}
			if high-low > 1 {
				t.Fatalf("connectors=%v: loads %v", kind, l)
			}
		}
	})
}

func TestHeavyTasksAreSpread(t *testing.T) {
	t.Parallel()
	demands := tasksOf(1, 4)[1:]
	before := spread(workers(2), demands, nil)
	for i := range demands { // measured later: what runs on w0 is heavy
		if before[demands[i].unit] == "w0000" {
			demands[i].weight = 10
		}
	}
	after := spread(workers(2), demands, before)
	heavy := map[string]int{}
	for _, d := range demands {
		if d.weight == 10 {
			heavy[after[d.unit]]++
		}
	}
	if heavy["w0000"] != 1 || heavy["w0001"] != 1 {
		t.Errorf("the two heavy tasks are on %v", heavy)
	}
}

func TestWeightGrowsInCoarseSteps(t *testing.T) {
	t.Parallel()
	const MiB = 1 << 20
	for rate, want := range map[float64]int64{0: 1, MiB: 1, MiB + 1: 2, 3.9 * MiB: 2, 5 * MiB: 4, 60 * MiB: 8, 1e300: 1024} {
		if got := Weigh(rate, 0); got != want {
			t.Errorf("%g bytes/s weigh %d, want %d", rate, got, want)
		}
	}
}

func TestUnitsSurvivePacking(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		set := map[Unit]bool{}
		for range rng.IntN(40) {
			set[Unit{string(rune('a' + rng.IntN(3))), rng.IntN(12) - 1}] = true
		}
		want := slices.SortedFunc(mapKeys(set), compareUnits)
		got, err := unpackUnits(packUnits(slices.Clone(want)))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("packed %v, unpacked %v, %v", want, got, err)
		}
	}
}

func FuzzUnpackUnits(f *testing.F) {
	for _, s := range []string{"c", "c,0-3,7", "", "-", "0-", "3-1", "99999999999", "0-9999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		units, err := unpackUnits(map[string]string{"x": s})
		if err == nil && len(units) == 0 {
			t.Errorf("%q gave neither units nor an error", s)
		}
	})
}
