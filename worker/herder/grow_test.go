package herder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// growing is worker b with task c-0, whose partitions are 1 and 2, at work.
func growing(t *testing.T) *follower {
	t.Helper()
	f := newFollower(t, Config{Extends: simExtends})
	f.waits = nil
	f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "1,2"}}, Commit{"c", 1})
	if out := f.assigned(3, "0"); len(out.Start) != 1 {
		t.Fatalf("nothing was started: %+v", out)
	}
	return f
}

func TestARunIsToldThatItsTaskHasGrown(t *testing.T) {
	t.Parallel()
	f := growing(t)
	out := f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "1,2,3"}}, Commit{"c", 1})
	want := []Update{{Run: 1, Unit: Unit{"c", 0}, Config: map[string]string{"parts": "1,2,3"}}}
	if diff := cmp.Diff(want, out.Update); diff != "" || len(out.Stop) > 0 {
		t.Errorf("stops %v, updates:\n%s", out.Stop, diff)
	}
	if out := f.step(both); len(out.Update) > 0 {
		t.Errorf("told again: %+v", out.Update)
	}
}

func TestARunWhoseTaskHasLostSomethingEnds(t *testing.T) {
	t.Parallel()
	f := growing(t)
	out := f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "2,3,4"}}, Commit{"c", 1})
	if len(out.Stop) != 1 || len(out.Update) > 0 {
		t.Fatalf("stops %v, updates %v; want the run to end", out.Stop, out.Update)
	}
	out = f.step(RunEnded{Run: 1})
	if len(out.Start) != 1 || out.Start[0].Config["parts"] != "2,3,4" {
		t.Errorf("started %+v", out.Start)
	}
}

func TestARunThatIsBeingStoppedStartsAgainWithAllItHas(t *testing.T) {
	t.Parallel()
	f := growing(t)
	f.step(Restart{Unit{"c", 0}})
	out := f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "1,2,3"}}, Commit{"c", 1})
	if len(out.Update) > 0 {
		t.Errorf("told while it stops: %+v", out.Update)
	}
	out = f.step(RunEnded{Run: 1})
	if len(out.Start) != 1 || out.Start[0].Config["parts"] != "1,2,3" {
		t.Errorf("started %+v", out.Start)
	}
}

func TestAFailedTaskRunsAgainWhenItHasGrown(t *testing.T) {
	t.Parallel()
	f := growing(t)
	if out := f.step(RunEnded{Run: 1, Failed: true}); len(out.Start) > 0 {
		t.Fatalf("it runs again by itself: %+v", out.Start)
	}
	out := f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "1,2,3"}}, Commit{"c", 1})
	if len(out.Start) != 1 || out.Start[0].Config["parts"] != "1,2,3" {
		t.Errorf("started %+v", out.Start)
	}
}

// leads is a machine that leads alone, as far as the drafting of a transaction is concerned, with tasks c-0 and c-1 on b.
func leads(t *testing.T) *follower {
	t.Helper()
	f := newFollower(t, Config{Extends: simExtends})
	f.waits = nil
	f.read(TaskConfig{Unit{"c", 0}, map[string]string{"parts": "1"}}, TaskConfig{Unit{"c", 1}, map[string]string{"parts": "2"}}, Commit{"c", 2})
	f.assigned(3, "c,0-1")
	return f
}

func TestOnlyAChangeThatTakesNothingKeepsGenerations(t *testing.T) {
	t.Parallel()
	parts := func(tasks ...string) (all []map[string]string) {
		for _, p := range tasks {
			all = append(all, map[string]string{"parts": p})
		}
		return all
	}
	left := Assignment{
		Epoch: 1, Version: 4, Instance: Instance{"a", "1"}, Left: []Left{{Wait{Instance{"a", "1"}, 4}, map[string]string{"c": "1"}}},
	}
	for name, tt := range map[string]struct {
		before []Record
		tasks  []map[string]string
		anew   int
	}{
		"one grows":                             {nil, parts("1,3", "2"), 0},
		"both grow, and a task more":            {nil, parts("1,3", "2,4", "5"), 0},
		"a partition moves":                     {nil, parts("1,2", "4"), 2},
		"one grows, another loses":              {nil, parts("1,3", "4"), 2},
		"a task less":                           {nil, parts("1,2"), 1},
		"a former owner may act":                {[]Record{left}, parts("1,3", "2"), 1},
		"a former owner has acknowledged":       {[]Record{left, nil}, parts("1,3", "2"), 0},
		"the owner does not update its tasks":   {[]Record{Join{Instance: Instance{"b", "2"}}}, parts("1,3", "2"), 1},
		"the connector alone was taken from it": {[]Record{Assignment{Epoch: 1, Version: 4, Instance: Instance{"a", "1"}, Left: []Left{{Wait{Instance{"a", "1"}, 4}, map[string]string{"c": "c"}}}}}, parts("1,3", "2"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := leads(t)
			f.joins["b"] = joined{Join{Instance: Instance{"b", "1"}, Updates: true}, 1}
			for _, r := range tt.before {
				switch r := r.(type) {
				case nil:
					f.step(StatusRead{Offset: 9, Record: Ack{Instance: Instance{"a", "1"}, Version: 4}})
				case Join:
					f.step(StatusRead{Offset: 9, Record: r})
				default:
					f.read(r)
				}
			}
			d := f.newDraft()
			if err := d.putTasks(PutTasks{Name: "c", Tasks: tt.tasks}); err != nil {
				t.Fatal(err)
			}
			if len(d.anew) != tt.anew {
				t.Errorf("new generations: %v, want %d", d.anew, tt.anew)
			}
		})
	}
}
