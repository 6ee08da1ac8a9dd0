package mirror

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func parts(names ...string) []partition {
	var ps []partition
	for _, n := range names {
		p, err := parsePartition(n)
		if err != nil {
			panic(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func TestAssignExamples(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		current [][]partition
		want    []partition
		most    int
		tasks   [][]partition
	}{
		"nothing to do":             {want: nil, most: 3, tasks: nil},
		"fewer partitions than max": {want: parts("a-0", "a-1"), most: 5, tasks: [][]partition{parts("a-0"), parts("a-1")}},
		"round robin at first":      {want: parts("a-0", "a-1", "a-2", "b-0", "b-1"), most: 2, tasks: [][]partition{parts("a-0", "a-2", "b-1"), parts("a-1", "b-0")}},
		"a new one goes to the least loaded": {
			current: [][]partition{parts("a-0", "a-2"), parts("a-1")}, want: parts("a-0", "a-1", "a-2", "0-0"), most: 2,
			tasks: [][]partition{parts("a-0", "a-2"), parts("0-0", "a-1")},
		},
		"a removed one vanishes": {
			current: [][]partition{parts("a-0", "b-0"), parts("a-1")}, want: parts("b-0", "a-1"), most: 2,
			tasks: [][]partition{parts("b-0"), parts("a-1")},
		},
		"one task less": {
			current: [][]partition{parts("a-0"), parts("a-1"), parts("a-2")}, want: parts("a-0", "a-1", "a-2"), most: 2,
			tasks: [][]partition{parts("a-0", "a-2"), parts("a-1")},
		},
		"one task more takes from the fullest": {
			current: [][]partition{parts("a-0", "a-1"), parts("a-2", "a-3")}, want: parts("a-0", "a-1", "a-2", "a-3"), most: 3,
			tasks: [][]partition{parts("a-0", "a-1"), parts("a-2"), parts("a-3")},
		},
		"a dash in the name": {want: parts("a-1-0"), most: 1, tasks: [][]partition{{{"a-1", 0}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := assign(c.current, c.want, c.most)
			if diff := cmp.Diff(c.tasks, got, cmp.AllowUnexported(partition{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAssignIsBalancedStickyAndComplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) partition {
			return partition{fmt.Sprintf("t%d", rapid.IntRange(0, 5).Draw(t, "topic")), rapid.Int32Range(0, 9).Draw(t, "partition")}
		}), 0, 40, rapid.ID[partition]).Draw(t, "partitions")
		current := make([][]partition, rapid.IntRange(0, 8).Draw(t, "tasks before"))
		var want []partition
		for _, p := range all {
			switch rapid.IntRange(0, 3).Draw(t, "fate") {
			case 0: // gone
				if len(current) > 0 {
					i := rapid.IntRange(0, len(current)-1).Draw(t, "had")
					current[i] = append(current[i], p)
				}
			case 1: // new
				want = append(want, p)
			default:
				want = append(want, p)
				if len(current) > 0 {
					i := rapid.IntRange(0, len(current)-1).Draw(t, "has")
					current[i] = append(current[i], p)
				}
			}
		}
		most := rapid.IntRange(1, 9).Draw(t, "tasks.max")
		got := assign(current, want, most)

		if len(got) != min(most, len(want)) {
			t.Fatalf("%d tasks for %d partitions and tasks.max=%d", len(got), len(want), most)
		}
		var dealt []partition
		low, high := 1<<30, 0
		kept := 0
		for i, ps := range got {
			dealt = append(dealt, ps...)
			low, high = min(low, len(ps)), max(high, len(ps))
			for _, p := range ps {
				if i < len(current) && slices.Contains(current[i], p) {
					kept++
				}
			}
		}
		if len(got) > 0 && high-low > 1 {
			t.Fatalf("between %d and %d partitions a task", low, high)
		}
		slices.SortFunc(dealt, partition.compare)
		slices.SortFunc(want, partition.compare)
		if !slices.Equal(dealt, want) {
			t.Fatalf("dealt out %v, wanted %v", dealt, want)
		}
		if most := mostKept(current, want, len(got)); kept != most {
			t.Fatalf("%d partitions stayed, %d could have", kept, most)
		}
		if again := assign(got, want, most); !slices.EqualFunc(got, again, slices.Equal[[]partition]) {
			t.Fatalf("not settled: %v, then %v", got, again)
		}
	})
}

// mostKept tries every choice of which tasks have one more than the others.
func mostKept(current [][]partition, want []partition, tasks int) int {
	if tasks == 0 {
		return 0
	}
	sizes := make([]int, tasks)
	for i := range min(tasks, len(current)) {
		for _, p := range current[i] {
			if slices.Contains(want, p) {
				sizes[i]++
			}
		}
	}
	best := 0
	for choice := range 1 << tasks {
		more, kept := 0, 0
		for i, size := range sizes {
			quota := len(want) / tasks
			if choice&(1<<i) != 0 {
				more++
				quota++
			}
			kept += min(size, quota)
		}
		if more == len(want)%tasks {
			best = max(best, kept)
		}
	}
	return best
}

func TestOnlyChangedTasksGetAnotherConfig(t *testing.T) {
	t.Parallel()
	written := map[string]string{"name": "m", "source.cluster.sasl.jaas.config": "${file:/etc/k:jaas}"}
	// MirrorMaker 2 does not sort.
	before := taskConfigs(written, assign(nil, parts("a-0", "a-1", "b-0"), 3), nil)
	before[0][keyTaskPartitions] = "b-1,a-0"
	after := taskConfigs(written, assign(assigned(before), parts("a-0", "a-1", "b-0", "b-1", "c-0"), 3), before)
	if diff := cmp.Diff(before[0], after[0]); diff != "" {
		t.Errorf("task 0 has the same partitions:\n%s", diff)
	}
	if cmp.Equal(before[1], after[1]) && cmp.Equal(before[2], after[2]) {
		t.Error("nobody got c-0")
	}
	if after[1]["source.cluster.sasl.jaas.config"] != "${file:/etc/k:jaas}" || after[1]["name"] != "m" || after[1][keyTaskIndex] != "1" {
		t.Errorf("task 1: %v", after[1])
	}
	if sameConfigs(before, after) || !sameConfigs(after, taskConfigs(written, assign(assigned(after), parts("a-0", "a-1", "b-0", "b-1", "c-0"), 3), after)) {
		t.Error("sameConfigs is wrong")
	}
}
