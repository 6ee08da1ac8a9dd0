package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/txn"
	"barnabas/e2e/kafka"
)

// TestFailoverPlanSeesOpenTransactionsAndLateProducers has producers that do not write while it watches.
func TestFailoverPlanSeesOpenTransactionsAndLateProducers(t *testing.T) {
	onWorlds(t, func(w *world) {
		t := w.t
		makeTopic(t, w.openSource, "orders", 1, nil)
		w.copier.config["consumer.isolation.level"] = "read_committed"
		client, err := w.openSource(kgo.TransactionalID("billing"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		w.write(partition{"orders", 0}, 0, 5)
		w.copier.run()
		w.copied("orders")
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), numbered("orders", 0, 5, 1)...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c := check(t, w.plan(nil), CheckProducers)
		if c.Verdict != Todo || !strings.Contains(c.Text, "orders-0: producer ") || !strings.Contains(c.Text, "has an open transaction since offset 5") {
			t.Errorf("%+v", c)
		}
		if err := txn.End(t.Context(), client, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		// Two producers have written: the one of the transaction, and the world's.
		c = check(t, w.plan(func(o *FailoverOptions) { o.Recent = 100 * 365 * 24 * time.Hour }), CheckProducers)
		all := strings.Join(append(c.Details, c.Text), "\n")
		if !strings.HasSuffix(t.Name(), "kfake") && (c.Verdict != Todo || !strings.Contains(all, "orders: 2 producers have written within ")) { // that one forgets them
			t.Errorf("%+v", c)
		}
		eventually(t, "nobody writes any more", func() bool { return check(t, w.plan(nil), CheckProducers).Verdict == OK })
	})
}

// TestFailoverPlanSeesReplicasThatAreBehind has the target say what a cluster of several brokers would.
func TestFailoverPlanSeesReplicasThatAreBehind(t *testing.T) {
	t.Parallel()
	source, target := fake(t), fake(t)
	w := newWorld(t, source.ListenAddrs(), target.ListenAddrs())
	makeTopic(t, w.openSource, "orders", 2, nil)
	w.copier.run()
	eventually(t, "the copy is there", func() bool { return len(target.PartitionInfos("A.orders")) == 2 })
	leaders := []int32{target.PartitionInfos("A.orders")[0].Leader, -1}
	target.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		target.KeepControl()
		asked, ok := req.(*kmsg.MetadataRequest)
		if !ok || len(asked.Topics) != 1 || asked.Topics[0].Topic == nil || *asked.Topics[0].Topic != "A.orders" {
			return nil, nil, false
		}
		resp := asked.ResponseKind().(*kmsg.MetadataResponse) //nolint:forcetypeassert // it is
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = asked.Topics[0].Topic
		for id, leader := range leaders {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.Replicas, p.ISR = int32(id), leader, []int32{0, 1, 2}, []int32{0, 2}
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	c := check(t, w.plan(nil), CheckTargetHealth)
	want := []string{"A.orders-1 has no leader", "A.orders-0 has 2 of 3 replicas in sync"}
	if diff := cmp.Diff(want, c.Details); diff != "" || c.Verdict != Failed {
		t.Errorf("%+v\n%s", c, diff)
	}
}

// TestFailoverPlanWarnsOfPlacesThatAreDeletedAtTheTarget has retention go further at the target than at the source.
func TestFailoverPlanWarnsOfPlacesThatAreDeletedAtTheTarget(t *testing.T) {
	onWorlds(t, func(w *world) {
		t := w.t
		makeTopic(t, w.openSource, "orders", 1, nil)
		w.write(partition{"orders", 0}, 0, 100)
		w.copier.run()
		w.copied("orders")
		w.commit(w.source, "behind", map[partition]int64{{"orders", 0}: 10})
		w.commit(w.source, "through", map[partition]int64{{"orders", 0}: 90})
		truncate := func(c *cluster, topic string, before int64) {
			t.Helper()
			at := kadm.Offsets{}
			at.Add(kadm.Offset{Topic: topic, Partition: 0, At: before})
			if _, err := kadm.NewClient(c.client).DeleteRecords(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		}
		truncate(w.target, "A.orders", 40)
		p := w.plan(nil)
		c := check(t, p, CheckGroupOffsets)
		if c.Verdict != Failed || !strings.Contains(c.Text, "behind: in 1 partitions its place is deleted at the target, and 30 records") || !strings.Contains(c.Text, "auto.offset.reset") {
			t.Errorf("%+v", c)
		}
		if p.Groups[0].Deleted != 1 || p.Groups[0].Gone != 30 || p.Groups[1].Deleted != 0 {
			t.Errorf("%+v", p.Groups)
		}
		// What is deleted at the source as well is not lost by the failover.
		truncate(w.source, "orders", 40)
		if c := check(t, w.plan(nil), CheckGroupOffsets); c.Verdict != Todo || !strings.Contains(strings.Join(c.Details, "\n")+c.Text, "at the source as well") {
			t.Errorf("%+v", c)
		}
	})
}

// TestFailoverPlanComparesTheRightsOfRealAuthorizers has Kafka's StandardAuthorizer at both ends.
func TestFailoverPlanComparesTheRightsOfRealAuthorizers(t *testing.T) {
	t.Parallel()
	w := worldOf(t, kafka.Spec{ACLs: true})
	makeTopic(t, w.openSource, "orders", 1, nil)
	stop := w.copier.run()
	eventually(t, "the copy is there", func() bool {
		found, err := w.target.describe(t.Context(), []string{"A.orders"})
		return err == nil && len(found) == 1
	})
	allow := func(c *cluster, user, topic string, operations ...kadm.ACLOperation) {
		t.Helper()
		acls := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").Topics(topic).Operations(operations...).ResourcePatternType(kadm.ACLPatternLiteral)
		if _, err := kadm.NewClient(c.client).CreateACLs(t.Context(), acls); err != nil {
			t.Fatal(err)
		}
	}
	if p := w.plan(nil); check(t, p, CheckACLs).Verdict != OK || check(t, p, CheckProducerRights).Verdict != OK {
		t.Errorf("without ACLs: %+v", p.Checks)
	}
	if err := stop(); err != nil { // it would sync them
		t.Fatal(err)
	}
	allow(w.source, "reader", "orders", kadm.OpRead)
	allow(w.source, "writer", "orders", kadm.OpWrite)
	eventually(t, "both are missed", func() bool {
		p := w.plan(nil)
		synced, rest := check(t, p, CheckACLs), check(t, p, CheckProducerRights)
		return synced.Verdict == Failed && containsAll(synced.Text, "User:reader", "A.orders", "the sync has not brought it over") &&
			rest.Verdict == Todo && containsAll(rest.Text, "User:writer", "A.orders", "which is not synced")
	})
	allow(w.target, "reader", "A.orders", kadm.OpRead)
	allow(w.target, "writer", "A.orders", kadm.OpWrite)
	eventually(t, "nothing is missed", func() bool {
		p := w.plan(nil)
		return check(t, p, CheckACLs).Verdict == OK && check(t, p, CheckProducerRights).Verdict == OK
	})
}

// TestFailoverPlanFromAFileIsNotHeldUpByTheConnectors has no worker to ask.
func TestFailoverPlanFromAFileIsNotHeldUpByTheConnectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
	makeTopic(t, w.openSource, "orders", 1, nil)
	w.write(partition{"orders", 0}, 0, 10)
	stop := w.copier.run()
	w.copied("orders")
	fromFile := func(o *FailoverOptions) { o.States = nil }
	if p := w.plan(fromFile); p.Verdict != OK || check(t, p, CheckConnectors).Verdict != Skipped || p.Checks[0].Name != CheckConnectors {
		t.Errorf("%s %+v", p.Verdict, p.Checks)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if c := check(t, w.plan(fromFile), CheckConnectors); c.Verdict != Failed || !strings.Contains(c.Text, "all 1 partitions that were copied have stopped in good order") {
		t.Errorf("%+v", c)
	}
}

// planInTime plans a failover of the crowd, and prints what it takes.
func (c *crowd) planInTime(ctx context.Context) {
	c.t.Helper()
	began := time.Now()
	p, err := PlanFailover(ctx, FailoverOptions{
		Settings: c.copier.context(ctx).Settings, Clients: c.copier.clients(ctx), Log: c.copier.logger(), MaxLag: 1000, Watch: time.Second, Recent: time.Minute, States: running,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	took := time.Since(began)
	verdicts := map[string]string{}
	for _, check := range p.Checks {
		verdicts[check.Name] = fmt.Sprint(check.Verdict)
	}
	c.t.Logf("the plan of a failover with %d groups takes %v, of which it watches for 1s: %v", len(p.Groups), took.Round(time.Millisecond), verdicts)
	if len(p.Groups) != len(c.list) {
		c.t.Errorf("it has %d groups of %d", len(p.Groups), len(c.list))
	}
	// A forwarded request is given up after 12 s, and may ask to watch for 5.
	if took > time.Minute { // 4 s on two quiet cores
		c.t.Errorf("it took %v", took)
	}
}
