package store

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/connector"
)

func TestOffsetsKeepPartitionsByteForByte(t *testing.T) {
	t.Parallel()
	o := NewOffsets()
	apply := func(key, value string) {
		t.Helper()
		r := Record{Key: []byte(key), Value: []byte(value)}
		if value == "" {
			r.Value = nil
		}
		if err := o.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	apply(`["a",{"cluster":"A","partition":0,"topic":"x"}]`, `{"offset":1}`)
	apply(`["a",{"cluster":"A","partition":0,"topic":"x"}]`, `{"offset":2}`)
	apply(`["a",{"topic":"x","cluster":"A","partition":0}]`, `{"offset":9}`) // another order is another key
	apply(`["a",{"cluster":"A","partition":1,"topic":"x"}]`, `{"offset":3}`)
	apply(`["a",{"cluster":"A","partition":1,"topic":"x"}]`, "")
	apply(`["b",{}]`, `{"offset":4}`)
	apply(`["b",{}]`, "")
	got := o.Get("a", [][]byte{[]byte(`{"cluster":"A","partition":0,"topic":"x"}`), []byte(`{"cluster":"A","partition":1,"topic":"x"}`)})
	if diff := cmp.Diff([][]byte{[]byte(`{"offset":2}`), nil}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []connector.Offset{
		{Partition: []byte(`{"cluster":"A","partition":0,"topic":"x"}`), Offset: []byte(`{"offset":2}`)},
		{Partition: []byte(`{"topic":"x","cluster":"A","partition":0}`), Offset: []byte(`{"offset":9}`)},
	}
	if diff := cmp.Diff(want, o.All("a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := o.All("b"); len(got) != 0 {
		t.Errorf("b has %v, want nothing", got)
	}
	for _, key := range []string{"", "x", `["a"]`, `["a",null]`, `[1,{}]`, `["a",{},1]`} {
		if err := o.Apply(Record{Key: []byte(key), Value: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "offset record") {
			t.Errorf("key %q: got %v, want an error", key, err)
		}
	}
	if err := o.Apply(Record{Marker: true}); err != nil {
		t.Errorf("a marker: %v", err)
	}
}

func TestOffsetsAreLoadedAfterTheyWereSaved(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "offsets", 25)
	a := appender(t, client, "offsets")
	o := NewOffsets()
	r := read(t, client, "offsets", func(l *LogOptions) {
		l.Interval = -1
		l.Apply = func(rec Record) { _ = o.Apply(rec) }
	})
	partition := []byte(`{"cluster":"A","partition":0,"topic":"é"}`)
	for _, offset := range []string{`{"offset":1}`, `{"offset":2}`} {
		if err := SaveOffsets(t.Context(), a, "mirror", []connector.Offset{{Partition: partition, Offset: []byte(offset)}}); err != nil {
			t.Fatal(err)
		}
		got, err := o.Load(t.Context(), r.log, "mirror", [][]byte{partition, []byte(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]byte{[]byte(offset), nil}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if err := SaveOffsets(t.Context(), a, "mirror", []connector.Offset{{Partition: partition}}); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Load(t.Context(), r.log, "mirror", [][]byte{partition}); err != nil || got[0] != nil {
		t.Errorf("after a reset: got %s, %v, want nothing", got, err)
	}
}

func TestStatusesFollowConnectsRules(t *testing.T) {
	t.Parallel()
	s := NewStatuses()
	status := func(state, worker string, generation int32) Status {
		return Status{State: state, WorkerID: worker, Generation: generation}
	}
	task := func(state, worker string, generation int32) {
		st := status(state, worker, generation)
		s.Apply(TaskStatus{"c", 0, &st})
	}
	want := func(what string, want Status) {
		t.Helper()
		if got, _ := s.Task("c", 0); got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	task("RUNNING", "b", 2)
	task("UNASSIGNED", "a", 2)
	want("a late report of the former owner", status("RUNNING", "b", 2))
	task("UNASSIGNED", "a", 1)
	want("a later one", status("RUNNING", "b", 2))
	task("UNASSIGNED", "b", 3)
	want("a report of a later generation", status("UNASSIGNED", "b", 3))
	task("FAILED", "a", 1)
	want("other states always count", status("FAILED", "a", 1))

	task("RUNNING", "b", 5)
	for _, row := range []struct {
		status Status
		ours   bool
	}{
		{status("FAILED", "b", 1), true},
		{status("FAILED", "a", 5), true},
		{status("FAILED", "a", 4), false},
	} {
		if got := s.TaskIsOurs("c", 0, row.status); got != row.ours {
			t.Errorf("TaskIsOurs(%+v) after generation 5 of b: got %v", row.status, got)
		}
	}
	if !s.TaskIsOurs("c", 1, status("FAILED", "a", 0)) || !s.ConnectorIsOurs("c", status("FAILED", "a", 0)) {
		t.Error("what nobody has reported is everybody's")
	}

	running := status("RUNNING", "a", 1)
	s.Apply(ConnectorStatus{"c", &running})
	s.Apply(TopicStatus{Topic: "x", Connector: "c", Task: 0, Discovered: 5})
	s.Apply(TopicStatus{Topic: "w", Connector: "c", Task: 1, Discovered: 6})
	s.Apply(UnknownRecord{"y"})
	if diff := cmp.Diff([]TopicStatus{{Topic: "w", Connector: "c", Task: 1, Discovered: 6}, {Topic: "x", Connector: "c", Discovered: 5}}, s.Topics("c")); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	s.Apply(TopicStatus{Topic: "w", Connector: "c", Deleted: true})
	if got := s.Topics("c"); len(got) != 1 {
		t.Errorf("topics after a reset of w: %v, want x", got)
	}
	if diff := cmp.Diff([]string{"c"}, s.Connectors()); diff != "" {
		t.Errorf("connectors (-want +got):\n%s", diff)
	}
	// Deleting the connector's status deletes its tasks', as in Connect.
	s.Apply(ConnectorStatus{Connector: "c"})
	if _, ok := s.Connector("c"); ok || len(s.Tasks("c")) != 0 {
		t.Errorf("after the deletion tasks %v are left", s.Tasks("c"))
	}
}

func TestALateStatusDoesNotHideThePresentOwners(t *testing.T) {
	t.Parallel()
	s := NewStatuses()
	say := func(state, worker string, generation int32) {
		st := Status{State: state, WorkerID: worker, Generation: generation}
		s.Apply(TaskStatus{"c", 0, &st})
		s.Apply(ConnectorStatus{"c", &st})
	}
	want := func(what, worker string, generation int32, state string) {
		t.Helper()
		for _, task := range []int{-1, 0} {
			got, ok := s.SaidBy(worker, generation, "c", task)
			if got.State != state || ok != (state != "") {
				t.Errorf("%s: unit %d of %s in generation %d: got %+v, want %q", what, task, worker, generation, got, state)
			}
		}
	}
	want("before anything", "a", 1, "")
	say("RUNNING", "a", 1)
	say("RUNNING", "b", 2)
	want("the new owner", "b", 2, "RUNNING")
	say("FAILED", "a", 1)
	say("FAILED", "a", 1)
	want("late reports of the former owner", "b", 2, "RUNNING")
	say("FAILED", "b", 2)
	want("the owner's own", "b", 2, "FAILED")
	say("RUNNING", "b", 3)
	say("FAILED", "b", 2)
	want("a late report of the same worker's former run", "b", 3, "RUNNING")
	want("of nobody", "c", 3, "")
	s.Apply(TaskStatus{Connector: "c", Task: 0})
	s.Apply(ConnectorStatus{Connector: "c"})
	want("after the deletion", "b", 3, "")
	say("FAILED", "a", 1)
	want("after the deletion nothing comes back", "b", 3, "")
}
