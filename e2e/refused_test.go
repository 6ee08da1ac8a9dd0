package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// A record without a key is refused by a compacted topic.
func TestRecordThatTheTargetRefuses(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	// No offsets are flushed but at the end: a crash leaves everything to be found out from the target.
	f := e.Fleet(FleetOptions{Size: 1, Properties: map[string]string{"offset.flush.interval.ms": "60000"}})
	topic := e.Topic(e.Source, "orders", 2)
	var copies []string
	for _, alias := range []string{"all", "non"} {
		compact, name := "compact", alias+"."+topic
		admin, err := e.Target.Admin()
		e.Must(err)
		defer admin.Close()
		_, err = admin.CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": &compact}, name)
		e.Must(err)
		copies = append(copies, name)
	}
	const bad = 17
	keyless := func(r *kgo.Record) {
		if string(r.Value) == "17" {
			r.Key = nil
		}
	}
	e.numbers(e.Source, topic, 0, 0, 40, keyless)
	e.numbers(e.Source, topic, 1, 0, 40)
	more := Config{"sync.topic.configs.enabled": "false"}
	letters := "all." + topic + ".dlq"
	all := f.mirror("all", "all", topic, more.With(map[string]string{"errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters, "errors.deadletterqueue.topic.replication.factor": "1"}), 1)
	none := f.mirror("none", "non", topic, more, 1)

	without := [][]string{span(0, bad), span(bad+1, 40)}
	e.holds(copies[0], 0, without...)
	e.holds(copies[0], 1, span(0, 40))
	entry := topic + "-0 17-18 refused"
	f.ledger(all, entry)
	f.replicates(all, "DEGRADED", "offsets 17 to 17", "refused")
	e.pointer(letters, topic, bad) // before it goes on

	// Without tolerance its partition stops in front of it, and no other.
	e.holds(copies[1], 0, span(0, bad))
	e.holds(copies[1], 1, span(0, 40))
	r := f.replicates(none, "STOPPED", topic+"-0@17", "INVALID_RECORD")
	if task := r.Tasks[0]; task.State != "RUNNING" {
		t.Errorf("the task is %s", task.State)
	}
	e.numbers(e.Source, topic, 1, 40, 50)
	e.holds(copies[1], 1, span(0, 50))
	f.verifies(none, 3)

	// What was left out does not confuse the next owner: nothing is doubled.
	f.Workers[0].Kill()
	f.Workers[0].Start()
	f.Await(all, "RUNNING", 1, 30*time.Second)
	e.numbers(e.Source, topic, 0, 40, 50)
	e.holds(copies[0], 0, append(without, span(40, 50))...)
	e.holds(copies[0], 1, span(0, 50))
	e.holds(copies[1], 0, span(0, bad))
	f.ledger(all, entry)
	for _, task := range f.Replication(all).Tasks {
		for _, p := range task.Partitions {
			if strings.Contains(p.Reason, "at least once") {
				t.Errorf("%+v", p)
			}
		}
	}
	e.pointer(letters, topic, bad)
}

// pointer looks for the one pointer in a dead letter queue, to a record.
func (e *Env) pointer(letters, topic string, offset int64) {
	e.t.Helper()
	found := 0
	for _, value := range e.values(e.Target, letters, 0) {
		var p struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
			Error     string `json:"error"`
		}
		e.Must(json.Unmarshal([]byte(value), &p))
		if p.Topic != topic || p.Partition != 0 || p.Offset != offset || !strings.Contains(p.Error, "INVALID_RECORD") {
			e.t.Errorf("%s", value)
		}
		found++
	}
	if found != 1 {
		e.t.Errorf("%d pointers in %s, want 1", found, letters)
	}
}

func TestHugeRecords(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "huge", 1, "max.message.bytes", "12000000")
	random := rand.New(rand.NewPCG(e.Seed, 0)) //nolint:gosec // no secret
	e.numbers(e.Source, topic, 0, 0, 6, func(r *kgo.Record) {
		if r.Value[0]%2 == 0 { // those between are small
			r.Value = make([]byte, 10<<20)
			for i := range r.Value {
				r.Value[i] = byte(random.Uint32())
			}
		}
	})
	connector := f.mirror("huge", "src", topic, nil, 1)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 60*time.Second); !report.Equal() || report.Source != 6 {
		t.Errorf("source and target differ: %s", report)
	}
	f.replicates(connector, "RUNNING")
	f.verifies(connector, 0)
}

// revoke takes all rights to topics from a user.
func (e *Env) revoke(b *kafka.Broker, user Identity, operation kadm.ACLOperation) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	filter := kadm.NewACLs().Topics().Allow("User:" + user.Name).AllowHosts().Operations(operation).ResourcePatternType(kadm.ACLPatternAny)
	deleted, err := admin.DeleteACLs(e.Context(), filter)
	e.Must(err)
	n := 0
	for _, d := range deleted {
		e.Must(d.Err)
		n += len(d.Deleted)
	}
	if n == 0 {
		e.t.Fatalf("%s has had no right to %v", user.Name, operation)
	}
}

func TestRightsLostAndRegained(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	e.numbers(e.Source, topic, 0, 0, 100)
	copied := "src." + topic
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics(copied)...)
	connector := e.Prefix
	f.Create(connector, e.Mirror(source, target, topic, 1))
	f.Await(connector, "RUNNING", 1, 30*time.Second)
	e.holds(copied, 0, span(0, 100))
	// By this one sees that a task has gone on and was not started again.
	run := func(want int64) {
		t.Helper()
		f.replicates(connector, f.Replication(connector).Status)
		e.Until(20*time.Second, "the task's records", func() string {
			if r := f.Replication(connector); len(r.Tasks) == 1 && len(r.Tasks[0].Partitions) == 1 && r.Tasks[0].Partitions[0].Records == want {
				return ""
			}
			return "are others"
		})
	}
	run(100)

	e.revoke(e.Target, target, kadm.OpWrite)
	e.numbers(e.Source, topic, 0, 100, 200)
	f.replicates(connector, "DEGRADED", "TOPIC_AUTHORIZATION_FAILED")
	e.Must(e.Target.Allow(t.Context(), target.Name, WriteTopics(copied)...))
	e.holds(copied, 0, span(0, 200))
	f.replicates(connector, "RUNNING")
	run(200)

	// While it may not read, retention goes on.
	e.revoke(e.Source, source, kadm.OpRead)
	f.replicates(connector, "DEGRADED", "TOPIC_AUTHORIZATION_FAILED")
	e.numbers(e.Source, topic, 0, 200, 300)
	e.forget(e.Source, topic, 250)
	e.Must(e.Source.Allow(t.Context(), source.Name, ReadTopics(topic)...))
	e.holds(copied, 0, span(0, 200), span(250, 300))
	f.replicates(connector, "DEGRADED", "offsets 200 to 249", "retention")
	f.ledger(connector, topic+"-0 200-250 retention")
	run(250)
}

func TestWithoutATransactionalIDItWritesPlainlyAndSaysWhy(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	copied := "src." + topic
	grants := WriteTopics(copied)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", grants[:len(grants)-1]...)
	f.Create(e.Prefix, e.Mirror(source, target, topic, 1))
	f.Await(e.Prefix, "RUNNING", 1, 30*time.Second)
	e.numbers(e.Source, topic, 0, 0, 100)
	e.holds(copied, 0, span(0, 100))
	r := f.replicates(e.Prefix, "RUNNING")
	if task := r.Tasks[0]; task.Delivery != "plain" || !strings.Contains(task.Why, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED") {
		t.Errorf("delivery %q because of %q", task.Delivery, task.Why)
	}
	// With the right it is fenced, from the next start on.
	e.Must(e.Target.Allow(t.Context(), target.Name, grants...))
	f.act(e.Prefix, "pause", "PAUSED", 1)
	f.act(e.Prefix, "resume", "RUNNING", 1)
	e.Until(20*time.Second, "a fence", func() string {
		r := f.Replication(e.Prefix)
		if len(r.Tasks) == 1 && r.Tasks[0].Delivery == "fenced" && r.Tasks[0].Why == "" {
			return ""
		}
		return "not yet"
	})
	e.numbers(e.Source, topic, 0, 100, 110)
	e.holds(copied, 0, span(0, 110))
}
