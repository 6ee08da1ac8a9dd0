package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// join makes a member of a group at the target and returns when the group has it.
func (w *world) join(group, topic string, opts ...kgo.Opt) (leave func()) {
	w.t.Helper()
	member, err := w.openTarget(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(member.Close)
	eventually(w.t, "a record comes to "+group, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		return member.PollFetches(ctx).NumRecords() > 0
	})
	return member.Close
}

// share makes a member of a share group at the target.
func (w *world) share(group, topic string) {
	w.t.Helper()
	member, err := w.openTarget(kgo.ShareGroup(group), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(member.Close)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			member.PollFetches(ctx)
		}
	}()
	eventually(w.t, group+" is a share group", func() bool {
		types, err := w.target.groupTypes(w.t.Context())
		return err == nil && types[group].Group != "" && !consumes(types[group])
	})
}

// TestOnlyIdleGroupsAreBroughtForward has groups of the target in all states, of both protocols.
func TestOnlyIdleGroupsAreBroughtForward(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	p, remote := partition{"orders", 0}, partition{"A.orders", 0}
	makeTopic(t, w.openSource, "orders", 1, nil)
	w.write(p, 0, 100)
	w.copier.run()
	w.copied("orders")

	all := []string{"new", "behind", "ahead", "classic", "next", "next-behind", "shared"}
	for _, g := range all {
		w.commit(w.source, g, map[partition]int64{p: 50})
	}
	w.commit(w.target, "behind", map[partition]int64{remote: 20})
	w.commit(w.target, "ahead", map[partition]int64{remote: 80})
	for _, g := range []string{"classic", "next", "next-behind"} {
		w.commit(w.target, g, map[partition]int64{remote: 10})
	}
	leave := map[string]func(){
		"classic": w.join("classic", remote.topic), "next": w.join("next", remote.topic, kgo.ServerSideBalancer()),
	}
	w.join("next-behind", remote.topic, kgo.ServerSideBalancer())()
	w.share("shared", remote.topic)
	types, err := w.target.groupTypes(t.Context())
	if err != nil || types["next"].GroupType != consumerType || types["next-behind"].GroupType != consumerType || types["classic"].GroupType != classicType {
		t.Fatalf("groups %+v, error %v", types, err)
	}

	// The broker is the last guard, should somebody join between the question and the commit.
	for _, g := range []string{"classic", "next", "shared"} {
		if err := w.target.commitOffsets(t.Context(), g, map[partition]committed{remote: {offset: 60}}); !inUse(err) {
			t.Errorf("a commit for %s in use: %v", g, err)
		}
	}

	w.pointer.config["sync.group.offsets.enabled"] = "true"
	w.pointer.run()
	offset := func(g string) int64 {
		if at, ok := w.at(w.target, g)[g][remote]; ok {
			return at.offset
		}
		return -1
	}
	expect := func(want map[string]int64) {
		t.Helper()
		got := ""
		eventually(t, fmt.Sprintf("groups are at %v", want), func() bool {
			got = ""
			for g, at := range want {
				if found := offset(g); found != at {
					got += fmt.Sprintf(" %s: %d", g, found)
				}
			}
			return got == ""
		})
	}
	expect(map[string]int64{"new": 50, "behind": 50, "next-behind": 50, "ahead": 80, "classic": 10, "next": 10})
	if notes := locked(w.pointer, func() string { return fmt.Sprint(w.pointer.progress) }); !strings.Contains(notes, "group shared is not set at the target: there it is a group of type") {
		t.Errorf("notes %s", notes)
	}
	// More passes change nothing about those in use, until they are idle.
	w.commit(w.source, "new", map[partition]int64{p: 60})
	expect(map[string]int64{"new": 60, "ahead": 80, "classic": 10, "next": 10, "shared": -1})
	for _, leave := range leave {
		leave()
	}
	expect(map[string]int64{"classic": 50, "next": 50, "ahead": 80})
	// Who goes back at the source does not go back at the target.
	w.commit(w.source, "behind", map[partition]int64{p: 5})
	w.commit(w.source, "new", map[partition]int64{p: 70})
	expect(map[string]int64{"new": 70, "behind": 50})
	if at := w.at(w.target, "new")["new"][remote]; at.metadata != "of new" {
		t.Errorf("metadata %q", at.metadata)
	}
	if errs := w.pointer.failed(); len(errs) > 0 {
		t.Error(errs)
	}
}

// TestGroupsThatMayNotBeSetAreNamed has more of them refused than are written to at once.
func TestGroupsThatMayNotBeSetAreNamed(t *testing.T) {
	t.Parallel()
	target := fake(t)
	w := newWorld(t, fake(t).ListenAddrs(), target.ListenAddrs())
	target.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		target.KeepControl()
		resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range r.(*kmsg.OffsetCommitRequest).Topics {
			to := kmsg.OffsetCommitResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, p := range topic.Partitions {
				to.Partitions = append(to.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.GroupAuthorizationFailed.Code})
			}
			resp.Topics = append(resp.Topics, to)
		}
		return resp, nil, true
	})
	all := map[string][]Translation{}
	for i := range 3 * syncsAtOnce {
		all[fmt.Sprintf("group-%d", i)] = []Translation{{Topic: "orders", TargetTopic: "A.orders", TargetOffset: 7}}
	}
	left, err := (&groupSync{target: w.target}).set(t.Context(), all)
	if err != nil || len(left) != len(all) {
		t.Fatalf("%d of %d groups are named, error %v: %v", len(left), len(all), err, left)
	}
	for g, why := range left {
		if !strings.Contains(why, g) || !strings.Contains(why, "GROUP_AUTHORIZATION_FAILED") {
			t.Errorf("%s: %s", g, why)
		}
	}
}
