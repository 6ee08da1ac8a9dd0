package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// running is what a worker would say of the world's connectors.
var running = []ConnectorState{{Name: "m", State: "RUNNING", Tasks: 2}}

// plan plans a failover of the world.
func (w *world) plan(change func(o *FailoverOptions)) FailoverPlan {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	o := FailoverOptions{
		Settings: w.copier.context(ctx).Settings, Clients: w.copier.clients(ctx), Log: w.copier.logger(), MaxLag: 100, Watch: time.Millisecond,
		Recent: time.Nanosecond, States: running,
	}
	if change != nil {
		change(&o)
	}
	plan, err := PlanFailover(ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

// verdicts are the checks of a plan that are not ok.
func verdicts(p FailoverPlan) map[string]Verdict {
	all := map[string]Verdict{}
	for _, c := range p.Checks {
		if c.Verdict != OK {
			all[c.Name] = c.Verdict
		}
	}
	return all
}

func check(t *testing.T, p FailoverPlan, name string) Check {
	t.Helper()
	i := slices.IndexFunc(p.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %s in %+v", name, p.Checks)
	}
	return p.Checks[i]
}

func TestFailoverPlanSaysWhatStandsInTheWay(t *testing.T) {
	onWorlds(t, func(w *world) {
		t := w.t
		a, b := partition{"orders", 0}, partition{"orders", 1}
		makeTopic(t, w.openSource, "orders", 2, nil)
		w.write(a, 0, 100)
		w.write(b, 0, 50)
		stop := w.copier.run()
		w.copied("orders")
		w.commit(w.source, "billing", map[partition]int64{a: 40, b: 50})
		w.commit(w.source, "audit", map[partition]int64{a: 100})

		p := w.plan(nil)
		want := map[string]Verdict{CheckGroupOffsets: Todo}
		if diff := cmp.Diff(want, verdicts(p)); diff != "" || p.Verdict != Todo {
			t.Fatalf("verdict %s %s %+v", p.Verdict, diff, p)
		}
		if len(p.Checks) != 13 || len(p.Groups) != 2 || p.Groups[1].Unset != 2 || p.Groups[1].Accuracies[Exact] != 2 || len(p.Loss) > 0 {
			t.Errorf("plan %+v", p)
		}

		// With the groups set nothing is left to do.
		remote := partition{"A.orders", 0}
		w.commit(w.target, "billing", map[partition]int64{remote: 40, {"A.orders", 1}: 50})
		w.commit(w.target, "audit", map[partition]int64{remote: 100})
		if p := w.plan(nil); p.Verdict != OK || len(verdicts(p)) > 0 {
			t.Errorf("verdict %s %v", p.Verdict, verdicts(p))
		}

		// The copy stands still, the source goes on, and so do consumers on both sides.
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w.write(a, 100, 150)
		w.write(b, 50, 7)
		w.commit(w.target, "billing", map[partition]int64{remote: 60})
		leave := w.join("audit", "orders", kgo.SeedBrokers(w.sourceAt...))
		defer leave()
		p = w.plan(func(o *FailoverOptions) {
			o.States = []ConnectorState{{Name: "m", State: "STOPPED", Reason: "by hand"}}
			o.Recent = time.Hour * 24 * 365 * 100
		})
		for name, v := range map[string]Verdict{
			CheckConnectors: Failed, CheckLag: Failed, CheckLoss: Todo, CheckGroupOffsets: Failed, CheckSourceConsumers: Todo,
		} {
			if got := check(t, p, name); got.Verdict != v {
				t.Errorf("%s: %+v, want %s", name, got, v)
			}
		}
		loss := []TopicLoss{{Topic: "orders", Records: 157, Partitions: 2}}
		if diff := cmp.Diff(loss, p.Loss); diff != "" || p.Verdict != Failed {
			t.Error(diff, p.Verdict)
		}
		if text := check(t, p, CheckGroupOffsets).Text; !strings.Contains(text, "billing: at the target it is further in 1 partitions") {
			t.Error(text)
		}
		// What tasks say is newer than their books.
		p = w.plan(func(o *FailoverOptions) {
			o.Live = []connector.PartitionProgress{{Topic: "orders", Partition: 0, CopiedOffset: 200}, {Topic: "orders", Partition: 1, CopiedOffset: -1}}
		})
		if diff := cmp.Diff([]TopicLoss{{Topic: "orders", Records: 57, Partitions: 2}}, p.Loss); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFailoverPlanChangesNothing(t *testing.T) {
	onWorlds(t, func(w *world) {
		t := w.t
		makeTopic(t, w.openSource, "orders", 2, map[string]*string{"retention.ms": kmsg.StringPtr("3600000")})
		w.write(partition{"orders", 0}, 0, 100)
		stop := w.copier.run()
		w.copied("orders")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w.commit(w.source, "billing", map[partition]int64{{"orders", 0}: 40})
		// There is something to do for each sync: a topic without a copy, a setting, a group, more partitions.
		makeTopic(t, w.openSource, "orders-late", 1, nil)
		if _, err := w.source.alter(t.Context(), map[string][]change{"orders": {{"retention.ms", kmsg.StringPtr("7200000")}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.source.grow(t.Context(), map[string]int32{"orders": 3}); err != nil {
			t.Fatal(err)
		}
		var before map[string]string
		eventually(t, "the brokers tell of the third partition", func() bool {
			before = w.everything()
			_, grown := before["source end of orders-2"]
			return grown
		})
		p := w.plan(nil)
		if diff := cmp.Diff(before, w.everything()); diff != "" {
			t.Error(diff)
		}
		if check(t, p, CheckTopics).Verdict != Failed || check(t, p, CheckSettings).Verdict != Failed || !strings.Contains(check(t, p, CheckSettings).Text, "retention.ms is not 7200000") {
			t.Errorf("%+v", p.Checks)
		}
		list, err := TranslateGroups(t.Context(), w.copier.context(t.Context()).Settings, w.copier.clients(t.Context()), w.copier.logger(), []string{"billing", "none"}, nil)
		if err != nil || len(list) != 2 || !list[0].Translated() || list[0].Partitions[0].TargetOffset != 40 || list[1].Error != "the source has no such group" {
			t.Errorf("%+v, error %v", list, err)
		}
		if diff := cmp.Diff(before, w.everything()); diff != "" {
			t.Error(diff)
		}
	})
}

// everything is all of both clusters that a plan could change: topics, their sizes and settings, groups with their offsets and states, ACLs.
func (w *world) everything() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for name, c := range map[string]*cluster{"source": w.source, "target": w.target} {
		seen, err := c.metadata(w.t.Context(), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		topics := slices.Sorted(maps.Keys(seen.topics))
		settings, err := c.settings(w.t.Context(), topics)
		if err != nil {
			w.t.Fatal(err)
		}
		var partitions []partition
		for _, t := range topics {
			var text []string
			for _, s := range settings[t] {
				if s.value != nil {
					text = append(text, s.name+"="+*s.value)
				}
			}
			slices.Sort(text)
			all[name+" topic "+t] = fmt.Sprint(seen.topics[t], text)
			for id := range seen.topics[t] {
				partitions = append(partitions, partition{t, id})
			}
		}
		ends, _, err := c.offsets(w.t.Context(), partitions, atEnd, false)
		if err != nil {
			w.t.Fatal(err)
		}
		for p, end := range ends {
			all[fmt.Sprintf("%s end of %s", name, p)] = fmt.Sprint(end)
		}
		types, err := c.groupTypes(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		offsets, _, err := c.groupOffsets(w.t.Context(), slices.Sorted(maps.Keys(types)))
		if err != nil {
			w.t.Fatal(err)
		}
		for g, of := range offsets {
			all[name+" group "+g] = fmt.Sprint(types[g].GroupState, of)
		}
		if rights, err := c.rights(w.t.Context()); err == nil {
			all[name+" acls"] = fmt.Sprint(rights)
		}
	}
	return all
}

func TestReadOnlyClientsCannotWrite(t *testing.T) {
	t.Parallel()
	c := fake(t)
	clients := ReadOnly(connector.Clients{Open: func(_ context.Context, _ connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.AllowAutoTopicCreation()}, extra...)...)
	}})
	client, err := clients.Open(t.Context(), connector.TargetAdmin, byTopicName())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "orders", 1, 1
	create.Topics = append(create.Topics, topic)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "billing"
	for _, req := range []kmsg.Request{create, commit, kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrDeleteGroupsRequest()} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := client.Request(ctx, req); err == nil || ctx.Err() != nil {
			t.Errorf("%T: error %v, %v", req, err, ctx.Err())
		}
		cancel()
	}
	if _, err := client.Request(t.Context(), kmsg.NewPtrMetadataRequest()); err != nil {
		t.Error(err)
	}
}
