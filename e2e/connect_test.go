package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// step is an entry of e2e/vectors/topics.json: an order to the real Connect, and
// what it wrote to its internal topics.
type step struct {
	Step, Request string
	Status        int
	Topics        []struct {
		Topic      string
		Partitions int
		Configs    map[string]string
		Records    []written
	}
}

type written struct {
	Partition  int32
	Key, Value *string
}

// TestInternalTopicsHoldWhatConnectWrites gives the orders to Barnabas that the
// recorder gave to Kafka Connect, and compares what they leave in the topics.
func TestInternalTopicsHoldWhatConnectWrites(t *testing.T) {
	// Not beside other tests, whose heartbeats and ACLs would be copied as well.
	e := New(t, 5*time.Minute)
	root, err := kafka.Root()
	e.Must(err)
	text, err := os.ReadFile(filepath.Join(root, "e2e", "vectors", "topics.json"))
	e.Must(err)
	var steps []step
	e.Must(json.Unmarshal(text, &steps))
	e.recorded()
	properties := map[string]string{"offset.storage.partitions": "", "producer.bootstrap.servers": e.Hub.Bootstrap()}
	f := e.Fleet(FleetOptions{Size: 1, Properties: properties})
	// The recorder's file, and that of this test with the same lines.
	recorded, lines := "/wo"+"rk/lines.txt", filepath.Join(e.Dir, "lines.txt")
	e.Must(os.WriteFile(lines, []byte("one\ntwo\nthree\n"), 0o600))
	words := strings.NewReplacer("source:9092", e.Source.Bootstrap(), "target:9092", e.Target.Bootstrap(), recorded, lines)
	back := strings.NewReplacer(e.Source.Bootstrap(), "source:9092", e.Target.Bootstrap(), "target:9092", f.Workers[0].ID, "connect:8083", lines, recorded)
	await := map[string]func(){
		"file created":         func() { f.Await("lines", "RUNNING", 1, 20*time.Second) },
		"file created stopped": func() { f.Await("still", "STOPPED", 0, 20*time.Second) },
		"file created paused":  func() { f.Await("waiting", "PAUSED", 0, 20*time.Second) },
		"file deleted": func() {
			e.Until(10*time.Second, "deletion", func() string {
				if _, ok := f.Status("lines"); ok {
					return "still there"
				}
				return ""
			})
		},
		"mirror created":              func() { f.Await("copy", "RUNNING", 2, 20*time.Second) },
		"mirror paused":               func() { f.Await("copy", "PAUSED", 2, 20*time.Second) },
		"mirror resumed":              func() { f.Await("copy", "RUNNING", 2, 20*time.Second) },
		"mirror restarted":            func() { f.Await("copy", "RUNNING", 2, 20*time.Second) },
		"mirror restarted with tasks": func() { f.Await("copy", "RUNNING", 2, 20*time.Second) },
		"mirror task restarted":       func() { f.Await("copy", "RUNNING", 2, 20*time.Second) },
		"mirror changed":              func() { f.Await("copy", "RUNNING", 1, 20*time.Second) },
		"mirror stopped":              func() { f.Await("copy", "STOPPED", 0, 20*time.Second) },
		"mirror deleted": func() {
			e.Until(10*time.Second, "deletion", func() string {
				if _, ok := f.Status("copy"); ok {
					return "still there"
				}
				return ""
			})
		},
	}
	reader := e.reader(f)
	compared := 0
	for i, s := range steps {
		if i == 0 {
			e.sameTopics(f, s)
			continue
		}
		method, rest, _ := strings.Cut(s.Request, " ")
		path, body, _ := strings.Cut(rest, " ")
		if status, answer := f.any().Ask(method, path, words.Replace(body)); status != s.Status {
			t.Fatalf("%s: %d %s, Connect answered %d", s.Step, status, answer, s.Status)
		}
		await[s.Step]()
		wanted, statuses := s.config(), s.last("-status")
		// Records come a moment after the state shows: those that are wanted, or what
		// is there after a while.
		var got []string
		var wrong []string
		e.Within(20*time.Second, func() string {
			reader.read()
			got, wrong = reader.config(back), nil
			for _, key := range slices.Sorted(maps.Keys(statuses)) {
				if reader.status[key] != statuses[key] {
					wrong = append(wrong, fmt.Sprintf("%s is %q, Connect wrote %q", key, reader.status[key], statuses[key]))
				}
			}
			if len(got) < len(wanted) || len(wrong) > 0 {
				return "not yet"
			}
			return ""
		})
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: records of the config topic (-Connect +Barnabas):\n%s", s.Step, diff)
		}
		for _, w := range wrong {
			t.Errorf("%s: status topic: %s", s.Step, w)
		}
		reader.fresh = nil
		compared++
	}
	if compared != len(await) {
		t.Errorf("%d steps compared, want %d", compared, len(await))
	}
	// MirrorMaker's offsets, byte for byte, on the same partitions.
	want := map[string]string{}
	for _, s := range steps {
		for _, topic := range s.Topics {
			for _, r := range topic.Records {
				if strings.HasSuffix(topic.Topic, "-offset") && strings.HasPrefix(*r.Key, `["copy"`) {
					want[fmt.Sprint(r.Partition, " ", *r.Key)] = *r.Value
				}
			}
		}
	}
	e.Until(10*time.Second, "offsets", func() string {
		reader.read()
		got := maps.Clone(reader.offsets)
		// Not those of what other tests have on the cluster: which ACLs are its own of those that they grant, and their heartbeats.
		maps.DeleteFunc(got, func(key, _ string) bool {
			return strings.Contains(key, `{"acls":`) || strings.Contains(key, `heartbeats"}`) || strings.Contains(key, `["lines"`)
		})
		if diff := cmp.Diff(want, got); diff != "" {
			return "offset topic (-Connect +Barnabas):\n" + diff
		}
		return ""
	})
}

// recorded puts the topics and records on the source that the recorder had
// there.
func (e *Env) recorded() {
	e.t.Helper()
	for _, topic := range []struct {
		at         *kafka.Broker
		name       string
		partitions int32
	}{{e.Source, "orders", 3}, {e.Source, "customers", 1}, {e.Hub, "lines", 1}} {
		admin, err := topic.at.Admin()
		e.Must(err)
		_, err = admin.CreateTopic(e.Context(), topic.partitions, 1, nil, topic.name)
		admin.Close()
		e.Must(err)
	}
	client, err := e.Source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	e.Must(err)
	defer client.Close()
	for _, k := range []kgo.Record{{Topic: "orders"}, {Topic: "orders"}, {Topic: "orders", Partition: 1}, {Topic: "orders", Partition: 1}, {Topic: "customers"}} {
		e.Must(client.ProduceSync(e.Context(), &k).FirstErr())
	}
}

// sameTopics compares partitions and settings of the internal topics.
func (e *Env) sameTopics(f *Fleet, s step) {
	e.t.Helper()
	admin, err := e.Hub.Admin()
	e.Must(err)
	defer admin.Close()
	for _, want := range s.Topics {
		name := f.Group + strings.TrimPrefix(want.Topic, "topics")
		details, err := admin.ListTopics(e.Context(), name)
		e.Must(err)
		if n := len(details[name].Partitions); n != want.Partitions {
			e.t.Errorf("%s has %d partitions, Connect's has %d", name, n, want.Partitions)
		}
		described, err := admin.DescribeTopicConfigs(e.Context(), name)
		e.Must(err)
		got := map[string]string{}
		for _, c := range described[0].Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				got[c.Key] = c.MaybeValue()
			}
		}
		if diff := cmp.Diff(want.Configs, got); diff != "" {
			e.t.Errorf("settings of %s (-Connect +Barnabas):\n%s", name, diff)
		}
	}
}

// config are the records of the config topic of a step, as text to compare.
func (s step) config() []string {
	var all []string
	for _, topic := range s.Topics {
		for _, r := range topic.Records {
			if strings.HasSuffix(topic.Topic, "-config") {
				all = append(all, comparable(*r.Key, r.Value))
			}
		}
	}
	return all
}

// last gives the states that a step left in the status topic: by key, "" for a
// tombstone. The state of a topic is its name.
func (s step) last(suffix string) map[string]string {
	states := map[string]string{}
	for _, topic := range s.Topics {
		for _, r := range topic.Records {
			if strings.HasSuffix(topic.Topic, suffix) {
				states[*r.Key] = state(r.Value)
			}
		}
	}
	return states
}

func state(value *string) string {
	if value == nil {
		return ""
	}
	var v struct {
		State string
		Topic struct{ Name string }
	}
	_ = json.Unmarshal([]byte(*value), &v)
	return v.State + v.Topic.Name
}

// comparable is a record of the config topic. Of a task only the names of its
// settings are compared, since Barnabas may deal out partitions otherwise.
func comparable(key string, value *string) string {
	if value == nil {
		return key + " deleted"
	}
	if strings.HasPrefix(key, "task-") {
		var task struct{ Properties map[string]string }
		_ = json.Unmarshal([]byte(*value), &task)
		return key + " " + strings.Join(slices.Sorted(maps.Keys(task.Properties)), " ")
	}
	var fields map[string]any
	if json.Unmarshal([]byte(*value), &fields) == nil {
		text, _ := json.Marshal(fields) // sorted: Connect's order is that of a Java map
		return key + " " + string(text)
	}
	return key + " " + *value
}

// topicReader follows a fleet's internal topics.
type topicReader struct {
	e       *Env
	f       *Fleet
	client  *kgo.Client
	fresh   []*kgo.Record // of the config topic, since it was last emptied
	status  map[string]string
	offsets map[string]string // "partition key": value
	at      map[string]int64
}

func (e *Env) reader(f *Fleet) *topicReader {
	e.t.Helper()
	client, err := e.Hub.Client(kgo.ConsumeTopics(f.Group+"-config", f.Group+"-status", f.Group+"-offset"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	e.Must(err)
	e.t.Cleanup(client.Close)
	return &topicReader{e: e, f: f, client: client, status: map[string]string{}, offsets: map[string]string{}, at: map[string]int64{}}
}

// read reads to the present ends.
func (r *topicReader) read() {
	r.e.t.Helper()
	ends, err := kadm.NewClient(r.client).ListCommittedOffsets(r.e.Context(), r.f.Group+"-config", r.f.Group+"-status", r.f.Group+"-offset")
	r.e.Must(err)
	behind := func() bool {
		lags := false
		ends.Each(func(o kadm.ListedOffset) { lags = lags || r.at[fmt.Sprint(o.Topic, o.Partition)] < o.Offset })
		return lags
	}
	for behind() {
		fetches := r.client.PollFetches(r.e.Context())
		r.e.Must(fetches.Err0())
		fetches.EachRecord(r.take)
	}
}

func (r *topicReader) take(k *kgo.Record) {
	r.at[fmt.Sprint(k.Topic, k.Partition)] = k.Offset + 1
	if k.Attrs.IsControl() {
		return
	}
	var value *string
	if k.Value != nil {
		text := string(k.Value)
		value = &text
	}
	switch strings.TrimPrefix(k.Topic, r.f.Group) {
	case "-config":
		r.fresh = append(r.fresh, k)
	case "-status":
		r.status[string(k.Key)] = state(value)
	case "-offset":
		r.offsets[fmt.Sprint(k.Partition, " ", string(k.Key))] = string(k.Value)
	}
}

// config are the records of Connect's kinds that have come to the config topic.
func (r *topicReader) config(back *strings.Replacer) []string {
	var all []string
	for _, k := range r.fresh {
		key := string(k.Key)
		if strings.HasPrefix(key, "barnabas-") || key == "session-key" {
			continue
		}
		var value *string
		if k.Value != nil {
			text := back.Replace(string(k.Value))
			value = &text
		}
		all = append(all, comparable(key, value))
	}
	return all
}
