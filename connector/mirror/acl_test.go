package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

const (
	allowed = kmsg.ACLPermissionTypeAllow
	denied  = kmsg.ACLPermissionTypeDeny
)

func onTopic(topic, user string, operation kmsg.ACLOperation, permission kmsg.ACLPermissionType) binding {
	return binding{topic, "User:" + user, "*", operation, permission}
}

// acls are the ACLs of topics on a cluster, as text.
func acls(t *testing.T, c *kfake.Cluster) []string {
	t.Helper()
	list, err := admin(t, c).bindings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, b := range list {
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return lines
}

func admin(t *testing.T, c *kfake.Cluster) *cluster {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &cluster{client: client, timeout: 10 * time.Second, dials: &dials{}, refusal: func(_ string, err error) error { return err }}
}

// by hand.
func allow(t *testing.T, c *kfake.Cluster, list ...binding) {
	t.Helper()
	if failed, err := admin(t, c).allow(t.Context(), list); err != nil || len(failed) > 0 {
		t.Fatal(err, failed)
	}
}

func disallow(t *testing.T, c *kfake.Cluster, list ...binding) {
	t.Helper()
	if failed, err := admin(t, c).disallow(t.Context(), list); err != nil || len(failed) > 0 {
		t.Fatal(err, failed)
	}
}

func lines(list ...binding) (lines []string) {
	for _, b := range list {
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return lines
}

func waitACLs(t *testing.T, c *kfake.Cluster, what string, want ...binding) {
	t.Helper()
	eventually(t, what, func() bool { return slices.Equal(acls(t, c), lines(want...)) })
}

func aclRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.config["sync.topic.acls.interval.seconds"] = "1"
	r.createTopic(r.source, "orders", 1, nil)
	return r
}

func TestACLsOfTheSourceComeAndGo(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	read := onTopic("orders", "reader", kmsg.ACLOperationRead, allowed)
	byHand := onTopic("A.orders", "byhand", kmsg.ACLOperationRead, allowed)
	both := onTopic("orders", "both", kmsg.ACLOperationRead, allowed)
	allow(t, r.source, read, both, onTopic("orders", "writer", kmsg.ACLOperationWrite, allowed), onTopic("other", "reader", kmsg.ACLOperationRead, allowed))
	bothThere := onTopic("A.orders", "both", kmsg.ACLOperationRead, allowed)
	allow(t, r.target, byHand, bothThere)
	stop := r.run()
	copied := onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	waitACLs(t, r.target, "the right to read is copied", byHand, bothThere, copied)

	// What goes while nobody looks is taken back by the next run; what was there before stays.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	disallow(t, r.source, read, both)
	allow(t, r.source, onTopic("orders", "later", kmsg.ACLOperationDescribe, allowed))
	r.run()
	waitACLs(t, r.target, "what was copied goes with its source", byHand, bothThere, onTopic("A.orders", "later", kmsg.ACLOperationDescribe, allowed))
}

func TestACLThatWasRemovedByHandIsNotOursAnyMore(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	source, copied := onTopic("orders", "reader", kmsg.ACLOperationRead, allowed), onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	allow(t, r.source, source)
	stop := r.run()
	waitACLs(t, r.target, "it is copied", copied)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	disallow(t, r.target, copied)
	disallow(t, r.source, source)
	stop = r.run()
	eventually(t, "nothing is ours any more", func() bool { return locked(r, func() bool { return len(r.offsets) == 0 }) })
	allow(t, r.target, copied) // by hand, now
	allow(t, r.source, onTopic("orders", "later", kmsg.ACLOperationRead, allowed))
	waitACLs(t, r.target, "another pass leaves it alone", copied, onTopic("A.orders", "later", kmsg.ACLOperationRead, allowed))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestACLsStayWhileTheSourceHasNoAuthorizer(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	allow(t, r.source, onTopic("orders", "reader", kmsg.ACLOperationRead, allowed))
	stop := r.run()
	copied := onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	waitACLs(t, r.target, "it is copied", copied)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	r.source.ControlKey(int16(kmsg.DescribeACLs), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.source.KeepControl()
		resp := k.ResponseKind().(*kmsg.DescribeACLsResponse)
		resp.ErrorCode = kerr.SecurityDisabled.Code
		asked <- struct{}{}
		return resp, nil, true
	})
	r.run()
	for range 3 {
		<-asked
	}
	if diff := cmp.Diff(lines(copied), acls(t, r.target)); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(r.logged(), "the source has no authorizer"); n != 1 || len(r.noted(aboutACLs)) != 0 {
		t.Errorf("told %d times, noted %v", n, r.noted(aboutACLs))
	}
}

func TestWithoutTheRightToWriteACLsTheConnectorRuns(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	r.config["sync.topic.acls.enabled"] = "true"
	wanted := onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	allow(t, r.source, onTopic("orders", "reader", kmsg.ACLOperationRead, allowed))
	asked := make(chan struct{}, 100)
	r.target.ControlKey(int16(kmsg.CreateACLs), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.target.KeepControl()
		if len(asked) >= 3 {
			return nil, nil, false // it has been granted
		}
		asked <- struct{}{}
		resp := k.ResponseKind().(*kmsg.CreateACLsResponse)
		for range k.(*kmsg.CreateACLsRequest).Creations {
			one := kmsg.NewCreateACLsResponseResult()
			one.ErrorCode = kerr.ClusterAuthorizationFailed.Code
			resp.Results = append(resp.Results, one)
		}
		return resp, nil, true
	})
	r.run()
	eventually(t, "it is noted", func() bool { return len(r.noted(aboutACLs)) == 1 })
	n := r.noted(aboutACLs)[0]
	for _, want := range []string{"User:target-admin", "Alter on the target cluster", "sync.topic.acls.enabled=false"} {
		if !strings.Contains(n.Text, want) || !n.Degraded {
			t.Errorf("the note lacks %q: %+v", want, n)
		}
	}
	if record := locked(r, func() string { return fmt.Sprint(r.offsets) }); strings.Contains(record, "reader") && strings.Contains(record, `"acls":"[[`) {
		t.Errorf("what could not be written is remembered as ours: %s", record)
	}
	waitACLs(t, r.target, "it works once it is granted", wanted)
	eventually(t, "the note is over", func() bool { return len(r.noted(aboutACLs)) == 0 })
	write(t, r.source, numbered("orders", 0, 0, 3)...)
	r.waitEqual("orders", "A.orders")
}

func TestNothingIsWrittenThatCannotBeRemembered(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	allow(t, r.source, onTopic("orders", "reader", kmsg.ACLOperationRead, allowed))
	y := aclSyncer(t, r, connector.Offsets{
		Load: r.load, Save: func(context.Context, []connector.Offset) error { return errors.New("the offset topic is down") },
	})
	if err := y.syncACLs(t.Context()); err == nil || !strings.Contains(err.Error(), "the offset topic is down") {
		t.Errorf("got %v", err)
	}
	if list := acls(t, r.target); len(list) != 0 {
		t.Errorf("written: %v", list)
	}
}

func aclSyncer(t *testing.T, r *rig, offsets connector.Offsets) *syncer {
	t.Helper()
	include, err := newPatterns(keyTopics, []string{"orders.*"})
	if err != nil {
		t.Fatal(err)
	}
	s := settingsWith(t, nil)
	return &syncer{
		Context: connector.Context{Offsets: offsets, Log: r.logger()}, s: s, source: admin(t, r.source), target: admin(t, r.target),
		notes: newNotebook(r.logger(), nil),
		layout: func() layout {
			return layout{filter: TopicFilter{include: include, policy: s.policy, target: "B"}, sourceID: "a", targetID: "b"}
		},
	}
}

func TestACLsWhoseFateIsUnknownAreNotRemoved(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	source, copied := onTopic("orders", "reader", kmsg.ACLOperationRead, allowed), onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	allow(t, r.source, source)
	saves := 0
	offsets := connector.Offsets{Load: r.load, Save: func(ctx context.Context, o []connector.Offset) error {
		if saves++; saves > 1 {
			return errors.New("killed") // between the writing and what remembers it
		}
		return r.save(ctx, o)
	}}
	if err := aclSyncer(t, r, offsets).syncACLs(t.Context()); err == nil {
		t.Fatal("it was not killed")
	}
	disallow(t, r.source, source)
	if err := aclSyncer(t, r, connector.Offsets{Load: r.load, Save: r.save}).syncACLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(copied), acls(t, r.target)); diff != "" {
		t.Error(diff)
	}
	if text := r.logged(); !strings.Contains(text, "was killed while it wrote ACLs") || !strings.Contains(text, "User:reader") {
		t.Errorf("not told:\n%s", text)
	}
	if n := len(r.offsets); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestACLsOfAnotherClusterAreNotOurs(t *testing.T) {
	t.Parallel()
	r := aclRig(t)
	source, copied := onTopic("orders", "reader", kmsg.ACLOperationRead, allowed), onTopic("A.orders", "reader", kmsg.ACLOperationRead, allowed)
	allow(t, r.source, source)
	offsets := connector.Offsets{Load: r.load, Save: r.save}
	y := aclSyncer(t, r, offsets)
	if err := y.syncACLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	disallow(t, r.source, source)
	before := y.layout
	y.layout = func() layout {
		l := before()
		l.sourceID = "another, without ACLs"
		return l
	}
	if err := y.syncACLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(copied), acls(t, r.target)); diff != "" {
		t.Error(diff)
	}
}

func TestManyACLsAreRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	own, _, err := loadACLs(t.Context(), connector.Offsets{Load: r.load, Save: r.save}, "A", "a>b")
	if err != nil {
		t.Fatal(err)
	}
	written := map[binding]bool{}
	for i := range 5_000 {
		written[onTopic(fmt.Sprint("A.orders-", i%1000), fmt.Sprint("user-", i), kmsg.ACLOperationDescribe, denied)] = true
	}
	if err := own.save(t.Context(), written, nil); err != nil {
		t.Fatal(err)
	}
	again, doubtful, err := loadACLs(t.Context(), own.offsets, "A", "a>b")
	if err != nil || len(doubtful) != 0 {
		t.Fatal(err, doubtful)
	}
	if !cmp.Equal(written, again.written) {
		t.Errorf("%d of %d are read back", len(again.written), len(written))
	}
	saves := r.saves
	if err := again.save(t.Context(), written, nil); err != nil || r.saves != saves {
		t.Errorf("what has not changed is saved: %v", err)
	}
	for i := range 15_000 {
		written[onTopic("A.orders", fmt.Sprint("another-", i), kmsg.ACLOperationDescribeConfigs, denied)] = true
	}
	if err := again.save(t.Context(), written, nil); err == nil || r.saves != saves {
		t.Errorf("a record beyond what Kafka takes was written: %v", err)
	}
}

func FuzzParseACLs(f *testing.F) {
	f.Add(formatACLs([]binding{onTopic("A.orders", "a,b", kmsg.ACLOperationRead, allowed)}))
	f.Add(`[["a"],["a","b","c","READ","ALLOW","x"]]`)
	f.Add(`[["a","b","c","NONSENSE","ALLOW"]]`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		list := parseACLs(text)
		if again := parseACLs(formatACLs(list)); len(again) != len(list) {
			t.Errorf("%q: %v is read back as %v", text, list, again)
		}
	})
}

// TestACLsAreReducedAsByMirrorMaker compares with what MirrorMaker 2 of Kafka 4.3.1 wrote for every operation, allowed and
// denied, literal and prefixed (e2e, TestSettingsAndACLsFareAsWithMirrorMaker).
func TestACLsAreReducedAsByMirrorMaker(t *testing.T) {
	t.Parallel()
	var recorded struct {
		Source, Copy []struct{ Pattern, Principal, Host, Operation, Permission string }
	}
	readTestdata(t, "acls.json", &recorded)
	copied := map[string]bool{}
	for _, a := range recorded.Source {
		operation, err1 := kmsg.ParseACLOperation(a.Operation)
		permission, err2 := kmsg.ParseACLPermissionType(a.Permission)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		b, ok := reduce(binding{"orders", a.Principal, a.Host, operation, permission}, func(topic string) string { return "A." + topic })
		if ok && a.Pattern == "LITERAL" {
			copied[b.String()] = true
		}
	}
	want := map[string]bool{}
	for _, a := range recorded.Copy {
		if a.Pattern != "LITERAL" {
			t.Fatalf("a copy is %s", a.Pattern)
		}
		want[fmt.Sprintf("%s %s %s on topic A.orders from %s", a.Principal, a.Permission, a.Operation, a.Host)] = true
	}
	if diff := cmp.Diff(want, copied); diff != "" || len(want) < 15 {
		t.Errorf("(-MirrorMaker +ours)\n%s", diff)
	}
}

func TestACLsOfTopicsThatAreNotCopiedAnyMoreStay(t *testing.T) {
	t.Parallel()
	include, err := newPatterns(keyTopics, []string{"orders"})
	if err != nil {
		t.Fatal(err)
	}
	s := settingsWith(t, nil)
	remote := func(topic string) string { return "A." + topic }
	left, gone := onTopic("A.left", "r", kmsg.ACLOperationRead, allowed), onTopic("A.left", "gone", kmsg.ACLOperationRead, allowed)
	// The right to everything and the right to read become one: it goes with the last of them.
	both := onTopic("A.orders", "b", kmsg.ACLOperationRead, allowed)
	there := map[binding]bool{left: true, gone: true, both: true}
	source := []binding{
		onTopic("left", "r", kmsg.ACLOperationRead, allowed), onTopic("left", "new", kmsg.ACLOperationRead, allowed),
		onTopic("orders", "b", kmsg.ACLOperationAll, allowed), onTopic("orders", "n", kmsg.ACLOperationAll, denied),
	}
	c, err := planACLs(source, there, there, TopicFilter{include: include, policy: s.policy, target: "B"}, remote)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"User:gone ALLOW READ on topic A.left from *"}, lines(c.remove...)); diff != "" {
		t.Errorf("removed:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"User:n DENY ALL on topic A.orders from *"}, lines(c.create...)); diff != "" {
		t.Errorf("created:\n%s", diff)
	}
}
