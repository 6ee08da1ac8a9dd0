package e2e

import (
	"fmt"
	"testing"
	"time"
)

func TestBlockedGossipLeavesOneOwnerPerTask(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate = 6, 500
	f := e.Fleet(FleetOptions{Size: 3, GossipProxy: true})
	topics := copying(e, f, "orders", partitions, 3)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)

	leader := f.Leader()
	var follower, third *Worker
	for _, w := range f.Workers {
		switch {
		case w == leader:
		case follower == nil:
			follower = w
		default:
			third = w
		}
	}
	for _, cut := range []struct {
		what  string
		block func()
	}{
		{"between the leader and a follower", func() {
			leader.proxy.Deafen(follower.Caller())
			follower.proxy.Deafen(leader.Caller())
		}},
		{"between a follower and everybody", func() {
			follower.proxy.Deafen(leader.Caller(), third.Caller())
			leader.proxy.Deafen(follower.Caller())
			third.proxy.Deafen(follower.Caller())
		}},
	} {
		cut.block()
		// Longer than gossip takes to declare a member dead, and than a lease.
		e.Pass(10 * time.Second)
		t.Logf("gossip blocked %s: owners %v", cut.what, f.Owners(connector))
		watch.Fresh(partitions, time.Now(), 15*time.Second)
		for _, w := range f.Workers {
			w.proxy.Hear()
		}
		e.Until(30*time.Second, "one opinion of who there is", func() string {
			for _, w := range f.Workers {
				alive := 0
				for _, m := range w.Members() {
					if m.State == "alive" {
						alive++
					}
				}
				if alive != 3 {
					return fmt.Sprintf("%s sees %+v", w.Name, w.Members())
				}
			}
			return ""
		})
		f.Await(connector, "RUNNING", 3, 30*time.Second)
		watch.Fresh(partitions, time.Now(), 15*time.Second)
	}
	stop()
	// Nobody has crashed: had a task had two owners, records would be doubled.
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	f.Pages(connector)
	if e.Leak.Scanned()["gossip"] == 0 {
		t.Error("no gossip was captured")
	}
}

// One worker reaches the workers' cluster through a proxy that goes silent: it
// still reaches source and target, and must stop by itself.
func TestWorkerCutOffFromItsKafkaStopsItsTasks(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	const partitions, rate = 4, 500
	f := e.Prepare(FleetOptions{Size: 1})
	cutOff := f.add()
	f.o.Properties = map[string]string{"bootstrap.servers": e.Hub.Address(Faulty)}
	cutOff.write()
	f.Start()
	topics := copying(e, f, "orders", partitions, 2)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	e.Until(20*time.Second, "a task on each worker", func() string {
		owners := f.Owners(connector)
		if owners[connector+"-0"] == owners[connector+"-1"] {
			return fmt.Sprint(owners)
		}
		return ""
	})

	e.HubNet.Silence()
	cut := time.Now()
	stays := f.Workers[0]
	e.Until(30*time.Second, "all tasks on the worker that is not cut off", func() string {
		var s Status
		if _, answer := stays.Ask("GET", "/connectors/"+connector+"/status", ""); unmarshal(answer, &s) != nil {
			return answer
		}
		for _, task := range s.Tasks {
			if task.Worker != stays.ID || task.State != "RUNNING" {
				return fmt.Sprintf("%+v", s)
			}
		}
		return ""
	})
	t.Logf("cut off: its tasks run elsewhere after %s, every partition copies after %s", time.Since(cut), watch.Fresh(partitions, time.Now(), 30*time.Second))
	// Had the other not stopped by itself, these would be records copied twice.
	e.Pass(10 * time.Second)
	e.HubNet.Heal()
	e.Must(cutOff.healthy(t.Context()))
	f.Await(connector, "RUNNING", 2, 30*time.Second)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
	// With half of the partitions it copied on until its lease ran out (4 s), and
	// could not save the offsets of that time and of the interval before (1 s).
	if bound := int64(7 * rate / 2); report.Duplicates > bound {
		t.Errorf("%d duplicates, want at most %d", report.Duplicates, bound)
	}
}

func TestSilentSourceLosesNothing(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	const partitions, rate = 2, 300
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", partitions)
	topics := map[string]string{topic: "src." + topic}
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	f.Create(e.Prefix, e.Mirror(source, target, topic, 1).With(map[string]string{"source.cluster.bootstrap.servers": e.Source.Address(Faulty)}))
	f.Await(e.Prefix, "RUNNING", 1, 30*time.Second)
	watch := e.Watch(e.Target, "src."+topic)
	stop := e.Load([]string{topic}, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	for _, fault := range []struct {
		what string
		do   func()
	}{
		{"silent", e.SourceNet.Silence},
		{"refusing", e.SourceNet.Refuse},
		{"slow", func() { e.SourceNet.Latency(200 * time.Millisecond); e.SourceNet.Bandwidth(200_000); e.SourceNet.Cut() }},
	} {
		fault.do()
		e.Pass(5 * time.Second)
		e.SourceNet.Heal()
		e.SourceNet.Cut()
		t.Logf("source %s for 5s: every partition copies again %s after", fault.what, watch.Fresh(partitions, time.Now(), time.Minute))
	}
	stop()
	report := e.Copied(topics, 30*time.Second)
	t.Log(report)
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
}

// Not parallel: the brokers are everybody's.
func TestBrokersRestartedInMidCopyLoseNothing(t *testing.T) {
	e := New(t, 4*time.Minute)
	const partitions, rate = 4, 2000
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, 2)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)
	stop := e.Load(sources, partitions, rate)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	for _, b := range []struct {
		what    string
		restart func() error
	}{
		{"source stopped and started", func() error { return e.Source.Restart(t.Context()) }},
		{"target killed and started", func() error { e.Target.Kill(); return e.Target.Run(t.Context()) }},
		{"workers' cluster stopped and started", func() error { return e.Hub.Restart(t.Context()) }},
	} {
		begin := time.Now()
		e.Must(b.restart())
		away := time.Since(begin)
		took := watch.Fresh(partitions, time.Now(), time.Minute)
		t.Logf("%s, away for %s: every partition copies again after another %s", b.what, away, took)
		f.Await(connector, "RUNNING", 2, 30*time.Second)
	}
	stop()
	report := e.Copied(topics, time.Minute)
	t.Log(report)
	if !report.Complete() {
		t.Errorf("something is missing: %s", report)
	}
	f.Pages(connector)
}
