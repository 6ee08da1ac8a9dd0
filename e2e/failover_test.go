package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/mirror"
	"barnabas/e2e/kafka"
	"barnabas/rest"
)

// consumer is a real one of a group at the source, which commits what it has processed.
type consumer struct {
	mu   sync.Mutex
	seen map[string][]string // by topic, in the order of processing
	stop func()
}

// consume starts a consumer that takes at most max records at a time, and commits after each time.
func (e *Env) consume(group string, max int, topics ...string) *consumer {
	e.t.Helper()
	client, err := e.Source.Client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	e.Must(err)
	c := &consumer{seen: map[string][]string{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	over := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			records := client.PollRecords(ctx, max).Records()
			c.mu.Lock()
			for _, r := range records {
				c.seen[r.Topic] = append(c.seen[r.Topic], string(r.Value))
			}
			c.mu.Unlock()
			// What was processed is committed also when it is told to stop.
			if err := client.CommitRecords(context.WithoutCancel(ctx), records...); err != nil {
				over <- err
				return
			}
		}
		over <- nil
	}()
	c.stop = sync.OnceFunc(func() {
		cancel()
		err := <-over
		client.Close()
		if err != nil {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(c.stop)
	return c
}

func (c *consumer) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.seen {
		n += len(of)
	}
	return n
}

// failoverPlan runs the command.
func (e *Env) failoverPlan(f *Fleet, name string, args ...string) (plan rest.FailoverPlan, code int) {
	e.t.Helper()
	out, code := e.run([]string{"BARNABAS_URL=" + f.Workers[0].URL()}, append([]string{"failover", "plan", name, "-o", "json"}, args...)...)
	e.Must(json.Unmarshal([]byte(out), &plan))
	return plan, code
}

// verdictOf is that of one check.
func (e *Env) verdictOf(p rest.FailoverPlan, name string) mirror.Verdict {
	e.t.Helper()
	for _, c := range p.Checks {
		if c.Name == name {
			return c.Verdict
		}
	}
	e.t.Fatalf("no check %s in %+v", name, p.Checks)
	return ""
}

// sum counts the records of topics of a cluster.
func (e *Env) sum(b *kafka.Broker, topics ...string) (n int64) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	ends, err := admin.ListEndOffsets(e.Context(), topics...)
	e.Must(err)
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// states are those of groups, by the brokers' own words.
func (e *Env) states(b *kafka.Broker, groups ...string) map[string]string {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	described, err := admin.DescribeGroups(e.Context(), groups...)
	e.Must(err)
	states := map[string]string{}
	for name, g := range described {
		states[name] = g.State
	}
	return states
}

// TestFailoverPlanUnderLoadAndConsumersThatMove rehearses a failover with real consumer groups.
func TestFailoverPlanUnderLoadAndConsumersThatMove(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2})
	topics := []string{e.Topic(e.Source, "orders", 1), e.Topic(e.Source, "payments", 1)}
	copies := []string{"src." + topics[0], "src." + topics[1]}
	name := e.Prefix
	config := e.Mirror(Identity{}, Identity{}, e.Prefix+"[.].*", 2)
	for k := range config {
		if len(k) > 5 && (slices.Contains([]string{"source.cluster.bootstrap.servers", "target.cluster.bootstrap.servers"}, k) || credential(k)) {
			delete(config, k)
		}
	}
	maps.Copy(config, Config{"source.cluster.bootstrap.servers": e.Source.Bootstrap(), "target.cluster.bootstrap.servers": e.Target.Bootstrap(), "groups": e.Prefix + "-.*"})
	var stops []func() int
	for _, topic := range topics {
		stops = append(stops, e.stream(topic))
	}
	stopLoad := sync.OnceValue(func() (n int) {
		for _, stop := range stops {
			n += stop()
		}
		return n
	})
	t.Cleanup(func() { stopLoad() })
	f.Create(name, config)
	f.Await(name, "RUNNING", 2, 30*time.Second)
	groups := []string{e.Prefix + "-billing", e.Prefix + "-audit"}
	consumers := []*consumer{e.consume(groups[0], 37, topics...), e.consume(groups[1], 11, topics[0])}
	e.Until(30*time.Second, "consumers process", func() string {
		if consumers[0].count() > 500 && consumers[1].count() > 500 && e.sum(e.Target, copies...) > 0 {
			return ""
		}
		return fmt.Sprint(consumers[0].count(), " ", consumers[1].count())
	})

	// Under load: what the plan says has to agree with what is seen before and after it.
	copiedBefore := e.sum(e.Target, copies...)
	sourceBefore := e.sum(e.Source, topics...)
	p, code := e.failoverPlan(f, name, "--max-lag", "1000000", "--recent", "0s")
	sourceAfter := e.sum(e.Source, topics...)
	lost := int64(0)
	for _, l := range p.Loss {
		lost += l.Records
	}
	if sourceAfter <= sourceBefore || lost > sourceAfter-copiedBefore {
		t.Errorf("%d records would be lost, by the plan; the source grew from %d to %d, and the copy had %d before", lost, sourceBefore, sourceAfter, copiedBefore)
	}
	for check, want := range map[string]mirror.Verdict{
		mirror.CheckConnectors: mirror.OK, mirror.CheckTopics: mirror.OK, mirror.CheckLag: mirror.OK, mirror.CheckProducers: mirror.Todo, mirror.CheckSourceConsumers: mirror.Todo,
		mirror.CheckTargetConsumers: mirror.OK, mirror.CheckTargetHealth: mirror.OK, mirror.CheckSettings: mirror.OK,
	} {
		if got := e.verdictOf(p, check); got != want {
			t.Errorf("under load %s is %s, want %s: %+v", check, got, want, p.Checks)
		}
	}
	if code != 0 || p.Verdict != mirror.Todo {
		t.Errorf("under load: exit code %d, verdict %s: %+v", code, p.Verdict, p.Checks)
	}
	states := map[string]string{}
	for _, g := range p.Groups {
		states[g.Group] = g.SourceState
	}
	if diff := cmp.Diff(e.states(e.Source, groups...), states); diff != "" {
		t.Errorf("states of groups, by brokers and by the plan: %s", diff)
	}
	// And a rule that cannot be met.
	e.run([]string{"BARNABAS_URL=" + f.Workers[0].URL()}, "connectors", "pause", name)
	e.Until(30*time.Second, "the copy is behind", func() string {
		if p, code = e.failoverPlan(f, name, "--max-lag", "10"); e.verdictOf(p, mirror.CheckLag) == mirror.Failed && e.verdictOf(p, mirror.CheckConnectors) == mirror.Failed && code == 3 {
			return ""
		}
		return fmt.Sprintf("code %d, %+v", code, p.Checks)
	})
	e.run([]string{"BARNABAS_URL=" + f.Workers[0].URL()}, "connectors", "resume", name)

	e.moves(f, name, groups, topics, consumers, stopLoad)
}

// credential says whether a setting is one of a login, which the plain listener does not take.
func credential(key string) bool {
	for _, end := range []string{"security.protocol", "sasl.mechanism", "sasl.jaas.config"} {
		if len(key) >= len(end) && key[len(key)-len(end):] == end {
			return true
		}
	}
	return false
}

// moves stops everything at the source and goes on at the target, from the translated offsets.
func (e *Env) moves(f *Fleet, name string, groups, topics []string, consumers []*consumer, stopLoad func() int) {
	e.t.Helper()
	// Consumers first, so that they have not read everything.
	for _, c := range consumers {
		c.stop()
	}
	written := stopLoad()
	var p rest.FailoverPlan
	e.Until(30*time.Second, "nothing is left to do but to set the groups", func() string {
		p, _ = e.failoverPlan(f, name, "--max-lag", "0", "--recent", "0s", "--watch", "100ms")
		for _, c := range p.Checks {
			if c.Verdict != mirror.OK && c.Name != mirror.CheckGroupOffsets && c.Name != "other-acls" && c.Name != mirror.CheckACLs {
				return fmt.Sprintf("%+v", c)
			}
		}
		return ""
	})
	if source, target := e.sum(e.Source, topics...), e.sum(e.Target, "src."+topics[0], "src."+topics[1]); source != int64(written) || target != source || len(p.Loss) > 0 {
		e.t.Errorf("%d records were written, the source has %d, the target %d, and the plan says %+v", written, source, target, p.Loss)
	}
	// What was copied last is in the books within a second or so; until then groups that have read it are ahead of them.
	var translated rest.Translations
	e.Until(15*time.Second, "translations", func() string {
		out, code := e.run([]string{"BARNABAS_URL=" + f.Workers[1].URL()}, "offsets", "translate", name, "--group", groups[0], "--group", groups[1], "-o", "json")
		if code != 0 {
			return fmt.Sprintf("exit code %d: %s", code, out)
		}
		translated = rest.Translations{}
		e.Must(json.Unmarshal([]byte(out), &translated))
		return ""
	})
	if len(translated.Groups) != 2 {
		e.t.Fatalf("%+v", translated)
	}
	for _, g := range translated.Groups {
		c := consumers[slices.Index(groups, g.Group)]
		for _, at := range g.Partitions {
			if at.Accuracy != mirror.Exact {
				e.t.Errorf("%s: %+v", g.Group, at)
			}
			all := append(slices.Clone(c.seen[at.Topic]), e.valuesFrom(e.Target, at.TargetTopic, at.TargetOffset)...)
			e.eachOnce(fmt.Sprintf("%s %s (%d processed at the source, %d committed, going on at %d)", g.Group, at.Topic, len(c.seen[at.Topic]), at.Offset, at.TargetOffset), all, e.sum(e.Source, at.Topic))
		}
	}
}

// valuesFrom reads partition 0 of a topic from an offset to its end.
func (e *Env) valuesFrom(b *kafka.Broker, topic string, from int64) (values []string) {
	e.t.Helper()
	end := e.sum(b, topic)
	client, err := b.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}}))
	e.Must(err)
	defer client.Close()
	for at := from; at < end; {
		ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		e.Must(fetches.Err())
		for _, r := range fetches.Records() {
			values, at = append(values, string(r.Value)), r.Offset+1
		}
	}
	return values
}

// eachOnce wants each of n numbers once.
func (e *Env) eachOnce(what string, values []string, n int64) {
	e.t.Helper()
	times := map[int]int{}
	for _, v := range values {
		i, err := strconv.Atoi(v)
		e.Must(err)
		times[i]++
	}
	missing, twice := 0, 0
	for i := range int(n) {
		switch {
		case times[i] == 0:
			missing++
		case times[i] > 1:
			twice++
		}
	}
	if missing+twice > 0 || len(times) != int(n) {
		e.t.Errorf("%s: of %d records %d are missed and %d processed twice", what, n, missing, twice)
	}
}
