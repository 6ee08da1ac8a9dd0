package herder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

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
	three := assign(workers(3), demands, nil)
	four := assign(workers(4), demands, three)
	// 24 tasks on three workers are 8 each, on four 6 each: the new one gets 6. Two
	// connectors on three workers need not move.
	if n := moved(three, four); n != 6 {
		t.Errorf("a fourth worker moved %d units, want 6", n)
	}
	back := assign(workers(3), demands, four)
	if n := moved(four, back); n != 6 {
		t.Errorf("the fourth worker's end moved %d units, want its 6", n)
	}
}

func TestAssignmentRespectsLabels(t *testing.T) {
	t.Parallel()
	c := workers(3)
	c[1].labels = map[string]string{"tier": "pci", "zone": "a"}
	demands := []demand{
		{Unit{"any", 0}, "", 1},
		{Unit{"nowhere", 0}, "tier=gold", 1},
		{Unit{"pci", 0}, "tier=pci", 1},
		{Unit{"pci", 1}, "tier=pci, zone=a", 1},
	}
	got := assign(c, demands, map[Unit]string{{"pci", 0}: "w0000"})
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
		before := assign(workers(rapid.IntRange(1, 6).Draw(t, "before")), demands, nil)
		n := rapid.IntRange(1, 6).Draw(t, "after")
		after := assign(workers(n), demands, before)
		if again := assign(workers(n), demands, before); moved(after, again) != 0 {
			t.Fatalf("the same arguments gave %v and %v", after, again)
		}
		if again := assign(workers(n), demands, after); moved(after, again) != 0 {
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
	before := assign(workers(2), demands, nil)
	for i := range demands { // measured later: what runs on w0 is heavy
		if before[demands[i].unit] == "w0000" {
			demands[i].weight = 10
		}
	}
	after := assign(workers(2), demands, before)
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
		if got := Weight(rate); got != want {
			t.Errorf("%g bytes/s weigh %d, want %d", rate, got, want)
		}
	}
}

func TestAssignmentAtScale(t *testing.T) {
	t.Parallel()
	demands := tasksOf(10_000, 20)
	started := time.Now()
	all := assign(workers(1000), demands, nil)
	t.Logf("%d units on 1000 workers in %v", len(demands), time.Since(started))
	started = time.Now()
	fewer := assign(workers(1000)[1:], demands, all)
	t.Logf("a lost worker: %d units moved in %v", moved(all, fewer), time.Since(started))
	if n := moved(all, fewer); n != 210 {
		t.Errorf("a lost worker with 210 units moved %d", n)
	}
	started = time.Now()
	again := assign(workers(1000), demands, fewer)
	t.Logf("a new worker: %d units moved in %v", moved(fewer, again), time.Since(started))
	if n := moved(fewer, again); n > 210 {
		t.Errorf("a new worker moved %d units, want at most its share of 210", n)
	}
	size := 0
	for c := range 10_000 {
		units := map[string]string{fmt.Sprintf("a-connector-with-a-long-name-%05d", c): "c,0-19"}
		for k, v := range units {
			size += len(k) + len(v) + 6
		}
	}
	if size > 1<<20 {
		t.Errorf("all 10,000 connectors on one worker make a record of %d bytes, over 1 MiB", size)
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
