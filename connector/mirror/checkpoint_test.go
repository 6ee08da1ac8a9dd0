package mirror

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

// TestGroupsAreTranslatedExactly has groups everywhere in partitions of plain records and of transactions, before and
// after a restart of the tasks that copy.
func TestGroupsAreTranslatedExactly(t *testing.T) {
	onWorlds(t, func(w *world) {
		groups := w.copyTwice()
		w.commit(w.source, "console-consumer-1", map[partition]int64{{"orders", 0}: 1})
		w.pointer.config["sync.group.offsets.enabled"] = "true"
		stop := w.pointer.run()
		o := w.oracleOf("orders")
		w.agree(o, groups)
		w.checkpointLatency()
		if all := w.pointed(); all["console-consumer-1"] != nil {
			w.t.Errorf("an excluded group has checkpoints: %+v", all["console-consumer-1"])
		}
		eventually(w.t, "all groups are at the target", func() bool {
			for g, offsets := range groups {
				for p, at := range w.at(w.target, g)[g] {
					if why := o.wrong(partition{"orders", p.id}, offsets[partition{"orders", p.id}], at.offset); why != "" {
						w.t.Fatal(g, why)
					}
				}
				if len(w.at(w.target, g)[g]) != 2 {
					return false
				}
			}
			return true
		})
		if err := stop(); err != nil || len(w.pointer.failed()) > 0 {
			w.t.Error(err, w.pointer.failed())
		}
		w.quiet(groups)
	})
}

// checkpointLatency checks the metrics of the task that was started last.
func (w *world) checkpointLatency() {
	w.t.Helper()
	var families []*dto.MetricFamily
	eventually(w.t, "the task that was started last has made its first checkpoint", func() bool {
		w.pointer.mu.Lock()
		registry := w.pointer.metrics
		w.pointer.mu.Unlock()
		var err error
		if families, err = registry.Gather(); err != nil {
			w.t.Fatal(err)
		}
		return len(families) > 0
	})
	if len(families) != len(checkpointHelp) {
		w.t.Fatalf("%d families of metrics, want %d", len(families), len(checkpointHelp))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms") {
			w.t.Errorf("metric %s", f.GetName())
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["source"] != "A" || labels["target"] != "B" || labels["group"] == "" || labels["topic"] != "A.orders" || labels["partition"] == "" {
				w.t.Errorf("%s has labels %v", f.GetName(), labels)
			}
			if v := m.GetGauge().GetValue(); !(v >= 0 && v < 60_000) {
				w.t.Errorf("%s of %v is %v ms", f.GetName(), labels, v)
			}
		}
	}
}

// TestGroupsOfTransactionalCopiesAreTranslatedExactly has only committed records copied, in transactions.
func TestGroupsOfTransactionalCopiesAreTranslatedExactly(t *testing.T) {
	onWorlds(t, func(w *world) {
		w.copier.delivery, w.copier.config["consumer.isolation.level"] = connector.Transactional, "read_committed"
		groups := w.copyTwice()
		w.pointer.run()
		w.agree(w.oracleOf("orders"), groups)
	})
}

// copyTwice has plain records in one partition and transactions in another copied, some of them after a restart, and groups everywhere
// in both.
func (w *world) copyTwice() map[string]map[partition]int64 {
	w.t.Helper()
	makeTopic(w.t, w.openSource, "orders", 2, nil)
	plain, transactional := partition{"orders", 0}, partition{"orders", 1}
	w.write(plain, 0, 200)
	w.writeTransactions(transactional, 1000, 20, 5)
	stop := w.copier.run()
	w.copied("orders")
	if err := stop(); err != nil {
		w.t.Fatal(err)
	}
	w.write(plain, 200, 100)
	w.writeTransactions(transactional, 2000, 10, 3)
	w.copier.run()
	w.copied("orders")
	ends, _, err := w.source.offsets(w.t.Context(), []partition{plain, transactional}, atEnd, false)
	if err != nil {
		w.t.Fatal(err)
	}
	groups := map[string]map[partition]int64{}
	for at := int64(0); at <= max(ends[plain], ends[transactional]); at += 3 {
		g := "g" + strconv.FormatInt(at, 10)
		groups[g] = map[partition]int64{plain: min(at, ends[plain]), transactional: min(at, ends[transactional])}
		w.commit(w.source, g, groups[g])
	}
	return groups
}

// quiet runs the checkpoint connector again, which has nothing to write.
func (w *world) quiet(groups map[string]map[partition]int64) {
	w.t.Helper()
	end := func() int64 {
		at := partition{topic: "A.checkpoints.internal"}
		ends, _, err := w.target.offsets(w.t.Context(), []partition{at}, atEnd, false)
		if err != nil {
			w.t.Fatal(err)
		}
		return ends[at]
	}
	before := end()
	one := ""
	for one = range groups {
		break
	}
	moved := maps.Clone(groups[one])
	var p partition
	for p = range moved {
		break
	}
	moved[p] = 0
	if groups[one][p] == 0 {
		return
	}
	w.commit(w.source, one, moved) // it goes back, which is news
	stop := w.pointer.run()
	eventually(w.t, "the checkpoint of a group that went back", func() bool { return w.pointed()[one][p].Upstream == 0 })
	if err := stop(); err != nil {
		w.t.Fatal(err)
	}
	if n := end() - before; n != 1 {
		w.t.Errorf("%d checkpoints were written, though one had changed", n)
	}
	for q, at := range w.at(w.target, one)[one] {
		if q.id == p.id && at.offset == 0 {
			w.t.Errorf("group %s was led back to 0 at the target", one)
		}
	}
}

// TestWhatCannotBeTranslatedIsNamed has a group on a topic that nobody copies.
func TestWhatCannotBeTranslatedIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
	makeTopic(t, w.openSource, "orders", 1, nil)
	w.write(partition{"orders", 0}, 0, 10)
	w.commit(w.source, "g", map[partition]int64{{"orders", 0}: 5})
	w.commit(w.source, "a,b", map[partition]int64{{"orders", 0}: 5})
	w.pointer.run()
	want := "group g: orders-0 is not translated: nothing of it has been copied by this link: neither offset runs nor offset-syncs are there"
	eventually(t, "a note", func() bool {
		notes := locked(w.pointer, func() string { return fmt.Sprint(w.pointer.progress[0].Notes, w.pointer.notes) })
		return containsAll(notes, want, `group "a,b" is left out`)
	})
	w.copier.run()
	eventually(t, "no note", func() bool { return locked(w.pointer, func() int { return len(w.pointer.progress[0].Notes) }) == 0 })
	eventually(t, "the group where it belongs", func() bool { return w.pointed()["g"][partition{"orders", 0}].Downstream == 5 })
}

// TestGroupsOfCompactedTopicsAreTranslatedExactly has a source that really was compacted, so that the copy is closer together.
func TestGroupsOfCompactedTopicsAreTranslatedExactly(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	p := partition{"orders", 0}
	compacted := map[string]string{"cleanup.policy": "compact", "segment.ms": "100", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"}
	settings := map[string]*string{}
	for key, value := range compacted {
		settings[key] = &value
	}
	makeTopic(t, w.openSource, p.topic, 1, settings)
	written := 0
	again := func(n int) { // every second key comes again and again
		var records []*kgo.Record
		for range n {
			r := numbered(p.topic, p.id, written, 1)[0]
			r.Timestamp = time.Time{}
			if written%2 == 1 {
				r.Key = []byte("again")
			}
			written++
			records = append(records, r)
		}
		if err := w.source.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	again(400)
	eventually(t, "the source has been compacted", func() bool {
		again(1) // closes a segment
		all, _ := w.records(w.source, p.topic)
		return len(all[p]) < written*3/4
	})
	again(50)
	w.copier.run()
	w.copied("orders")
	groups := map[string]map[partition]int64{}
	for at := 0; at <= written; at += 7 {
		g := "g" + strconv.Itoa(at)
		groups[g] = map[partition]int64{p: int64(at)}
		w.commit(w.source, g, groups[g])
	}
	w.pointer.run()
	w.agree(w.oracleOf("orders"), groups)
}

// TestCopiesOfMirrorMakerAreTranslatedAsItDoes has nothing but offset-syncs.
func TestCopiesOfMirrorMakerAreTranslatedAsItDoes(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"source", "target"} {
		w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
		p := partition{"orders", 0}
		makeTopic(t, w.openSource, "orders", 1, nil)
		makeTopic(t, w.openTarget, "A.orders", 1, nil)
		w.write(p, 0, 1000)
		at, open, topic := w.source, w.openSource, "mm2-offset-syncs.B.internal"
		if location == "target" {
			at, open, topic = w.target, w.openTarget, "mm2-offset-syncs.A.internal"
		}
		makeTopic(t, open, topic, 1, nil)
		var records []*kgo.Record
		for up := int64(100); up <= 900; up += 100 { // the first 90 records are not there
			key, value, err := OffsetSync{Topic: "orders", Upstream: up, Downstream: up - 90}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, &kgo.Record{Topic: topic, Key: key, Value: value})
		}
		if err := at.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		w.commit(w.source, "on", map[partition]int64{p: 900})
		w.commit(w.source, "behind", map[partition]int64{p: 990})
		w.commit(w.source, "before", map[partition]int64{p: 99})
		w.pointer.config[keySyncsLocation] = location
		w.pointer.run()
		eventually(t, "checkpoints", func() bool { return len(w.pointed()) >= 2 })
		all := w.pointed()
		if on, behind := all["on"][p].Downstream, all["behind"][p].Downstream; on != 810 || behind != 811 || len(all) != 2 {
			t.Errorf("%s: 900 is %d, 990 is %d, groups %d", location, on, behind, len(all))
		}
		eventually(t, "a note about what is not translated, with syncs at the "+location, func() bool {
			notes := locked(w.pointer, func() string { return fmt.Sprint(w.pointer.progress) })
			return strings.Contains(notes, "group before: orders-0 is not translated: offset 99 is before the oldest offset-sync that can be used, 100")
		})
	}
}

// TestCopiesThatWereMadeAnewAreNotTranslatedTo has a book that tells of a topic which is gone.
func TestCopiesThatWereMadeAnewAreNotTranslatedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
	p := partition{"orders", 0}
	makeTopic(t, w.openSource, "orders", 1, nil)
	w.write(p, 0, 10)
	stop := w.copier.run()
	w.copied("orders")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	w.commit(w.source, "g", map[partition]int64{p: 5})
	w.pointer.config["sync.group.offsets.enabled"] = "true"
	w.pointer.run()
	eventually(t, "a checkpoint", func() bool { return w.pointed()["g"][p].Downstream == 5 })
	admin := kadm.NewClient(w.target.client)
	named := func(what string) {
		eventually(t, "a note that "+what, func() bool {
			return strings.Contains(locked(w.pointer, func() string { return fmt.Sprint(w.pointer.progress[0].Notes) }), "group g: orders-0 is not translated: "+what)
		})
	}
	if _, err := admin.DeleteTopics(t.Context(), "A.orders"); err != nil {
		t.Fatal(err)
	}
	named("the target has no topic A.orders any more")
	makeTopic(t, w.openTarget, "A.orders", 1, nil)
	named("topic A.orders of the target has been made anew since it was copied to")
	w.commit(w.source, "g", map[partition]int64{p: 9})
	w.commit(w.source, "h", map[partition]int64{p: 9})
	eventually(t, "another group is seen", func() bool {
		return strings.Contains(locked(w.pointer, func() string { return fmt.Sprint(w.pointer.progress) }), "group h: orders-0 is not translated")
	})
	if at := w.pointed()["g"][p]; at.Upstream != 5 {
		t.Errorf("a checkpoint of what is gone: %+v", at)
	}
}

// TestGroupsAreDealtOut has groups come and go.
func TestGroupsAreDealtOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
	for _, topic := range []string{"orders", "other"} {
		makeTopic(t, w.openSource, topic, 1, nil)
		w.write(partition{topic, 0}, 0, 10)
	}
	for _, g := range []string{"a", "b", "c", "connect-x"} {
		w.commit(w.source, g, map[partition]int64{{"orders", 0}: 5})
	}
	w.commit(w.source, "elsewhere", map[partition]int64{{"other", 0}: 5})
	w.pointer.run()
	tasks := func() string {
		return locked(w.pointer, func() string {
			text := ""
			for i, task := range w.pointer.tasks {
				if task[keyTaskIndex] != strconv.Itoa(i) || task[keyTaskClass] != checkpointTaskClass || task["name"] != "m" {
					return fmt.Sprint("task ", i, " is ", task)
				}
				text += "|" + task[keyTaskGroups]
			}
			return text
		})
	}
	eventually(t, "two tasks", func() bool { return tasks() == "|a,c|b" })
	w.commit(w.source, "d", map[partition]int64{{"orders", 0}: 5})
	eventually(t, "one more group, where there is room", func() bool { return tasks() == "|a,c|b,d" })
	if starts := locked(w.pointer, func() map[int]int { return maps.Clone(w.pointer.starts) }); starts[0] != 1 {
		t.Errorf("starts of tasks: %v", starts)
	}
	topic, err := w.target.settings(t.Context(), []string{"A.checkpoints.internal"})
	if err != nil || !strings.Contains(settingsText(topic["A.checkpoints.internal"]), "cleanup.policy=compact") {
		t.Errorf("the topic's settings: %v, error %v", topic, err)
	}
	want := `{"partition":0,"topic":"A.orders","group":"a"}`
	w.copier.run()
	eventually(t, "Connect's offset of a checkpoint", func() bool {
		return locked(w.pointer, func() string { return w.pointer.offsets[want] }) == `{"offset":0}`
	})
}

func settingsText(all []setting) string {
	text := ""
	for _, s := range all {
		if s.value != nil {
			text += s.name + "=" + *s.value + " "
		}
	}
	return text
}

// TestNoTasksUnlessCheckpointsAreEmitted takes tasks that are left over away.
func TestNoTasksUnlessCheckpointsAreEmitted(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{"enabled": "false", "emit.checkpoints.interval.seconds": "-1"} {
		w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
		w.pointer.tasks, w.pointer.task = []map[string]string{{"left": "over"}}, nothingTask{}
		w.pointer.config[key] = value
		stop := w.pointer.run()
		eventually(t, "no task", func() bool { return locked(w.pointer, func() int { return len(w.pointer.tasks) }) == 0 })
		if err := stop(); err != nil {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}

func TestThousandsOfNotesAreFew(t *testing.T) {
	t.Parallel()
	var shown []connector.Note
	var log bytes.Buffer
	b := newNotebook(slog.New(slog.NewTextHandler(&log, nil)), func(notes []connector.Note) { shown = notes })
	texts := map[string]string{}
	for i := range 4000 {
		texts[fmt.Sprintf("g%04d", i)] = "no"
	}
	b.only(t.Context(), aboutGroups, texts)
	since := shown[0].Since
	texts["g0000"] = "still not"
	b.only(t.Context(), aboutGroups, texts)
	if len(shown) != maxOfAKind+1 || !shown[0].Since.Equal(since) || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%d notes, the first %+v, log %s", len(shown), shown[0], log.String())
	}
	if !slices.ContainsFunc(shown, func(n connector.Note) bool { return n.Text == "and 3900 more" }) {
		t.Errorf("notes %v", shown)
	}
	b.only(t.Context(), aboutGroups, nil)
	if len(shown) != 0 {
		t.Errorf("%d notes are left", len(shown))
	}
}
