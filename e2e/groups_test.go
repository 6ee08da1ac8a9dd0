package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
)

// TestGroupsGoOnAtTheTarget has a checkpoint connector with the rights that the README tells, and consumers that go on at the
// target after a worker was killed: they miss no record, and read none twice.
func TestGroupsGoOnAtTheTarget(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	alias := e.Prefix + "-east"
	topic := e.Topic(e.Source, "orders", 2)
	copied := alias + "." + topic
	f := e.Fleet(FleetOptions{Size: 2})
	describe := []kadm.ACLOperation{kadm.OpDescribe}
	source := e.User(e.Source, "ro", append(ReadTopics(topic), kafka.Grant{Group: e.Prefix + "-g*", Operations: describe})...)
	target := e.User(e.Target, "rw", append(
		WriteTopics(copied), kafka.Grant{Group: e.Prefix + "-g*", Operations: []kadm.ACLOperation{kadm.OpRead, kadm.OpDescribe}},
		kafka.Grant{Topic: alias + ".checkpoints.internal", Operations: []kadm.ACLOperation{kadm.OpCreate, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpRead, kadm.OpWrite}},
	)...)
	mirror := e.Mirror(source, target, topic, 2)
	mirror["source.cluster.alias"] = alias
	groups := maps.Clone(mirror)
	maps.Copy(groups, map[string]string{
		"connector.class": "MirrorCheckpoint", "groups": e.Prefix + "-g.*", "tasks.max": "2", "checkpoints.topic.replication.factor": "1",
		"emit.checkpoints.interval.seconds": "1", "refresh.groups.interval.seconds": "1", "sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1",
	})
	delete(groups, "emit.offset-syncs.enabled")
	groups["topics"] = e.Prefix + "[.].*"

	const each = 300
	e.numbers(e.Source, topic, 0, 0, each)
	e.numbers(e.Source, topic, 1, 0, each)
	admin, err := e.Source.Admin()
	e.Must(err)
	defer admin.Close()
	read := map[string]int{}
	for i, at := range []int{0, 1, 150, 299, 300} {
		g := fmt.Sprintf("%s-g%d", e.Prefix, i)
		read[g] = at
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, int64(at), -1)
		offsets.AddOffset(topic, 1, int64(each-at), -1)
		e.Must(admin.CommitAllOffsets(t.Context(), g, offsets))
	}
	f.Create(e.Prefix+"-orders", mirror)
	f.Create(e.Prefix+"-groups", groups)
	f.Await(e.Prefix+"-orders", "RUNNING", 2, 30*time.Second)
	f.Await(e.Prefix+"-groups", "RUNNING", 2, 30*time.Second)
	f.Alive()[0].Kill()

	there, err := e.Target.Admin()
	e.Must(err)
	defer there.Close()
	e.Until(60*time.Second, "all groups where they belong", func() string {
		for g, at := range read {
			all, err := there.FetchOffsets(t.Context(), g)
			if err != nil {
				return err.Error()
			}
			for partition, at := range []int{at, each - at} {
				o, ok := all.Lookup(copied, int32(partition))
				if !ok {
					return fmt.Sprintf("%s has nothing for %d", g, partition)
				}
				want := "the end"
				if at < each {
					want = fmt.Sprint(at)
				}
				if next := e.next(e.Target, copied, int32(partition), o.At); next != want {
					return fmt.Sprintf("%s has read %d records of partition %d, and goes on at %d with %s", g, at, partition, o.At, next)
				}
			}
		}
		return ""
	})
	if notes := f.Replication(e.Prefix + "-groups").Notes; len(notes) > 0 {
		t.Errorf("notes %+v", notes)
	}

	// A group of a partition that nobody copies is named.
	anyway := kadm.Offsets{}
	other := e.Topic(e.Source, "other", 1)
	e.Must(e.Source.Allow(t.Context(), source.Name, ReadTopics(other)...))
	anyway.AddOffset(other, 0, 0, -1)
	e.Must(admin.CommitAllOffsets(t.Context(), e.Prefix+"-g0", anyway))
	e.Until(30*time.Second, "a note about a group", func() string {
		notes := fmt.Sprint(f.Replication(e.Prefix + "-groups").Notes)
		if !strings.Contains(notes, "group "+e.Prefix+"-g0: "+other+"-0 is not translated: nothing of it has been copied by this link") {
			return notes
		}
		return ""
	})
}

// next is the value of the first record of a partition that stands at an offset or behind.
func (e *Env) next(b *kafka.Broker, topic string, partition int32, at int64) string {
	e.t.Helper()
	for _, r := range e.raw(b, topic, false) {
		if r.Partition == partition && r.Offset >= at && !r.Attrs.IsControl() {
			return string(r.Value)
		}
	}
	return "the end"
}
