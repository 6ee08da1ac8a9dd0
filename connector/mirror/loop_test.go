package mirror

import (
	"strings"
	"testing"

	"barnabas/connector"
)

// opposite is a rig for the way back, under the identity policy as r.
func (r *rig) opposite() *rig {
	back := newRig(r.t)
	back.source, back.target, back.sourceAt, back.targetAt = r.target, r.source, r.targetAt, r.sourceAt
	r.config[keyPolicyClass], back.config[keyPolicyClass] = "IdentityReplicationPolicy", "IdentityReplicationPolicy"
	back.config[keySourceAlias], back.config[keyTargetAlias] = "B", "A"
	return back
}

func (r *rig) leftOut() bool { return strings.Contains(r.logged(), "topic left out") }

func TestATopicThatRunsInACircleIsLeftOutOnOneWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	back := r.opposite()
	for _, topic := range []string{"orders", "orders-still"} {
		r.createTopic(r.source, topic, 1, nil)
		r.createTopic(r.target, topic, 1, nil)
	}
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.run()
	r.waitEqual("orders", "orders")
	back.run()
	// What is written now goes round until one of the two gives way.
	write(t, r.source, numbered("orders", 0, 10, 10)...)
	eventually(t, "one of the two leaves the topic out", func() bool { return r.leftOut() || back.leftOut() })
	yields, stays := r, back
	if back.leftOut() {
		yields, stays = back, r
	}
	eventually(t, "it shows the topic", func() bool {
		yields.mu.Lock()
		defer yields.mu.Unlock()
		for _, p := range yields.progress[0].Partitions {
			if p.Topic == "orders" && p.Partition == -1 && p.State == stateStopped && strings.Contains(p.Reason, "copies it back from") {
				return true
			}
		}
		return false
	})
	// The other way goes on, once for each record.
	eventually(t, "nothing goes round any more", func() bool { return end(stays.target, "orders") >= end(stays.source, "orders") })
	before := end(stays.target, "orders")
	write(t, stays.source, numbered("orders", 0, 100, 5)...)
	eventually(t, "new records are copied", func() bool { return end(stays.target, "orders") >= before+5 })
	if stays.leftOut() {
		t.Error("both ways leave it out")
	}
	if got := values(read(t, stays.source, "orders")[0]); strings.Count(got, " orders-0-102 ") != 1 {
		t.Errorf("a record has come back to where it was written: %s", got)
	}
}

func values(records []copied) string {
	var b strings.Builder
	for _, c := range records {
		b.WriteString(" " + string(c.Value) + " ")
	}
	return b.String()
}

func TestTheWayBackAfterAFailoverIsNoCircle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	back := r.opposite()
	back.config[keyStartPosition] = "latest"
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	stop := r.run()
	r.waitEqual("orders", "orders")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	back.run()
	eventually(t, "the way back has a task that copies", func() bool {
		return locked(back, func() bool {
			return len(back.progress[0].Partitions) == 1 && back.progress[0].Partitions[0].CopiedOffset >= 10
		})
	})
	for i := range 5 { // longer than several looks
		write(t, back.source, numbered("orders", 0, 100+i, 1)...)
		eventually(t, "it is copied back", func() bool {
			return strings.Contains(values(read(t, back.target, "orders")[0]), " "+string(numbered("orders", 0, 100+i, 1)[0].Value)+" ")
		})
	}
	if back.leftOut() {
		t.Error(back.logged())
	}
}

func TestTopicsThatAreLeftOutAreShown(t *testing.T) {
	t.Parallel()
	var got connector.Progress
	report := func(p connector.Progress) { got = p }
	showLoops(`{"orders":"why"}`, report)(connector.Progress{Partitions: []connector.PartitionProgress{{Topic: "other"}}})
	if len(got.Partitions) != 2 || got.Partitions[1].Topic != "orders" || got.Partitions[1].Reason != "why" || got.Partitions[1].State != stateStopped {
		t.Errorf("%+v", got)
	}
	for _, nothing := range []string{"", "{}", "rubbish"} {
		showLoops(nothing, report)(connector.Progress{})
		if len(got.Partitions) != 0 {
			t.Errorf("%q: %+v", nothing, got)
		}
	}
}
