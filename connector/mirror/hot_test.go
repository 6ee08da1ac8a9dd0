package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func set(partitions []partition) map[partition]bool {
	s := map[partition]bool{}
	for _, p := range partitions {
		s[p] = true
	}
	return s
}

func TestAHotPartitionKeepsItsTaskAndIsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		current   [][]partition
		want, hot []partition
		most      int
		tasks     [][]partition
	}{
		"the others of its task go, and one task more changes": {
			current: [][]partition{parts("a-0", "a-3"), parts("a-1", "a-4"), parts("a-2", "a-5")},
			want:    parts("a-0", "a-1", "a-2", "a-3", "a-4", "a-5"), hot: parts("a-4"), most: 3,
			tasks: [][]partition{parts("a-0", "a-1", "a-3"), parts("a-4"), parts("a-2", "a-5")},
		},
		"two of one task": {
			current: [][]partition{parts("a-0", "a-3"), parts("a-1", "a-4"), parts("a-2", "a-5")},
			want:    parts("a-0", "a-1", "a-2", "a-3", "a-4", "a-5"), hot: parts("a-0", "a-3"), most: 3,
			tasks: [][]partition{parts("a-0"), parts("a-3"), parts("a-1", "a-2", "a-4", "a-5")},
		},
		"a new topic goes to the others": {
			current: [][]partition{parts("a-0"), parts("a-1", "a-2", "a-3")}, want: parts("a-0", "a-1", "a-2", "a-3", "b-0"), hot: parts("a-0"), most: 2,
			tasks: [][]partition{parts("a-0"), parts("a-1", "a-2", "a-3", "b-0")},
		},
		"one task has to be left":          {want: parts("a-0", "a-1"), hot: parts("a-0", "a-1"), most: 2, tasks: [][]partition{parts("a-0"), parts("a-1")}},
		"one task is all there is":         {want: parts("a-0", "a-1"), hot: parts("a-0"), most: 1, tasks: [][]partition{parts("a-0", "a-1")}},
		"its task is taken away":           {current: [][]partition{parts("a-1"), parts("a-2"), parts("a-0")}, want: parts("a-0", "a-1", "a-2"), hot: parts("a-0"), most: 2, tasks: [][]partition{parts("a-0"), parts("a-1", "a-2")}},
		"what is hot no more is as others": {current: [][]partition{parts("a-0"), parts("a-1", "a-2", "a-3")}, want: parts("a-0", "a-1", "a-2", "a-3"), most: 2, tasks: [][]partition{parts("a-0", "a-3"), parts("a-1", "a-2")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := assignHot(c.current, c.want, c.most, set(c.hot))
			if diff := cmp.Diff(c.tasks, got, cmp.AllowUnexported(partition{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAssignWithHotPartitionsIsCompleteAndSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want, hots []partition
		current := make([][]partition, rapid.IntRange(0, 6).Draw(t, "tasks before"))
		for id := range int32(rapid.IntRange(1, 20).Draw(t, "partitions")) {
			p := partition{fmt.Sprintf("t%d", id%3), id}
			want = append(want, p)
			if i := rapid.IntRange(-1, len(current)-1).Draw(t, "had by"); i >= 0 {
				current[i] = append(current[i], p)
			}
			if rapid.IntRange(0, 4).Draw(t, "hot") == 0 {
				hots = append(hots, p)
			}
		}
		most := rapid.IntRange(1, 8).Draw(t, "tasks.max")
		got := assignHot(current, want, most, set(hots))
		if len(got) != min(most, len(want)) {
			t.Fatalf("%d tasks for %d partitions and tasks.max=%d", len(got), len(want), most)
		}
		alone, low, high := 0, len(want), 0
		for _, task := range got {
			if len(task) == 1 && slices.Contains(hots, task[0]) {
				alone++
				continue
			}
			low, high = min(low, len(task)), max(high, len(task))
		}
		if should := min(len(hots), len(got)-1); alone < should {
			t.Fatalf("%d of %d hot partitions have a task of their own, want %d: %v", alone, len(hots), should, got)
		}
		if high-low > 1 {
			t.Fatalf("between %d and %d partitions for the other tasks", low, high)
		}
		slices.SortFunc(want, partition.compare)
		if dealt := slices.SortedFunc(slices.Values(slices.Concat(got...)), partition.compare); !slices.Equal(dealt, want) {
			t.Fatalf("dealt out %v, wanted %v", dealt, want)
		}
		if again := assignHot(got, want, most, set(hots)); !slices.EqualFunc(got, again, slices.Equal[[]partition]) {
			t.Fatalf("not settled: %v, then %v", got, again)
		}
		// The next planner reads from the plan what was hot, unless nothing hangs on it.
		if h := newHot(got); slices.ContainsFunc(got, func(t []partition) bool { return len(t) > 2 }) {
			if again := assignHot(got, want, most, h.found); !slices.EqualFunc(got, again, slices.Equal[[]partition]) {
				t.Fatalf("a new planner moves partitions: %v, then %v", got, again)
			}
		}
	})
}

func TestHotIsWhatCarriesMoreThanAShareForSomeTime(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	tasks := [][]partition{parts("a-0", "a-1"), parts("a-2", "a-3")}
	rates := func(of ...int64) map[partition]int64 {
		all := map[partition]int64{}
		for i, rate := range of {
			all[partition{"a", int32(i)}] = rate * mb
		}
		return all
	}
	looks := func(h *hot, rates map[partition]int64, n int) (hotter, colder []partition) {
		for range n {
			a, b := h.look(tasks, rates)
			hotter, colder = append(hotter, a...), append(colder, b...)
		}
		return hotter, colder
	}
	for name, c := range map[string]struct {
		rates map[partition]int64
		looks int
		want  []partition
	}{
		"more than half":           {rates(40, 10, 10, 10), hotLooks, parts("a-0")},
		"not for long":             {rates(40, 10, 10, 10), hotLooks - 1, nil},
		"less than a share":        {rates(20, 10, 15, 15), hotLooks, nil},
		"next to nothing beside":   {rates(40, 1, 10, 10), hotLooks, nil},
		"all of it is little":      {rates(3, 1, 0, 0), hotLooks, nil},
		"two, but one must remain": {rates(20, 20, 0, 0), hotLooks, parts("a-0")},
	} {
		h := newHot(tasks)
		if got, colder := looks(&h, c.rates, c.looks); !slices.Equal(got, c.want) || len(colder) > 0 || h.changed != (len(c.want) > 0) {
			t.Errorf("%s: hot %v, no more %v", name, got, colder)
		}
	}

	h := newHot(tasks)
	looks(&h, rates(40, 10, 10, 10), hotLooks)
	tasks = assignHot(tasks, parts("a-0", "a-1", "a-2", "a-3"), 2, h.found)
	if hotter, colder := looks(&h, rates(20, 10, 10, 10), 10*coldLooks); len(hotter)+len(colder) > 0 {
		t.Errorf("hot %v, no more %v: it still carries half a share", hotter, colder)
	}
	if _, colder := looks(&h, rates(5, 10, 10, 10), coldLooks-1); len(colder) > 0 {
		t.Errorf("hot no more after a moment: %v", colder)
	}
	if _, colder := looks(&h, rates(5, 10, 10, 10), 1); !slices.Equal(colder, parts("a-0")) || len(h.found) > 0 {
		t.Errorf("no more hot: %v; still %v", colder, h.found)
	}
}

func TestAHotPartitionGetsATaskOfItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 6, nil)
	for id := range int32(6) {
		write(t, r.source, numbered("orders", id, 0, 10)...)
	}
	r.rates = map[string]int64{"orders-0": 100 << 20, "orders-1": 10 << 20, "orders-2": 10 << 20, "orders-4": 20 << 20}
	r.run()
	of := func(i int) string {
		return locked(r, func() string {
			if len(r.tasks) != 2 {
				return ""
			}
			return r.tasks[i][keyTaskPartitions]
		})
	}
	eventually(t, "a task of its own", func() bool {
		return of(0) == "orders-0" && of(1) == "orders-1,orders-2,orders-3,orders-4,orders-5"
	})
	for id := range int32(6) {
		write(t, r.source, numbered("orders", id, 10, 10)...)
	}
	r.waitEqual("orders", "A.orders")
}

// TestAPlannerThatBeginsLeavesAHotPartitionAlone: nobody has told it yet what the partitions carry.
func TestAPlannerThatBeginsLeavesAHotPartitionAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 5, nil)
	r.tasks = taskConfigs(r.config, [][]partition{parts("orders-3"), parts("orders-0", "orders-1", "orders-2", "orders-4")}, nil)
	before := slices.Clone(r.tasks)
	r.run()
	r.createTopic(r.source, "orders-new", 1, nil) // a plan is made
	eventually(t, "the new topic has a task", func() bool {
		return locked(r, func() bool { return len(r.tasks) == 2 && !maps.Equal(r.tasks[1], before[1]) })
	})
	if after := locked(r, func() map[string]string { return r.tasks[0] }); !maps.Equal(after, before[0]) {
		t.Errorf("the hot partition's task is now %s", after[keyTaskPartitions])
	}
}

func (r *rig) rated(context.Context) (map[string]int64, error) {
	return locked(r, func() map[string]int64 { return r.rates }), nil
}
