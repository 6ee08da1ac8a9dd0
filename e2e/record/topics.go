package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// record is a record of a topic. Key and value are text, or base64 where the
// field's name says so; null is null.
type record struct {
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Key       *string `json:"key,omitempty"`
	Key64     *string `json:"key_base64,omitempty"`
	Value     *string `json:"value,omitempty"`
	Value64   *string `json:"value_base64,omitempty"`
	Headers   int     `json:"headers"`
	Timestamp string  `json:"timestamp,omitempty"`
}

// topic is a topic as it stands on the target.
type topic struct {
	Topic      string            `json:"topic"`
	Partitions int               `json:"partitions"`
	Configs    map[string]string `json:"configs"` // those set on the topic itself
	Records    []record          `json:"records,omitempty"`
}

// fillSource puts a few topics with records on the source.
func (r *recorder) fillSource(ctx context.Context) error {
	lines := filepath.Join(r.dir, "lines.txt")
	if err := os.WriteFile(lines, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		return err
	}
	admin, err := r.source.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	set := func(v string) *string { return &v }
	for _, t := range []struct {
		name       string
		partitions int32
		configs    map[string]*string
	}{
		{"orders", 3, map[string]*string{"retention.ms": set("-1"), "min.insync.replicas": set("1"), "max.message.bytes": set("2000000")}},
		{"customers", 1, map[string]*string{"cleanup.policy": set("compact"), "message.timestamp.type": set("LogAppendTime")}},
	} {
		if _, err := admin.CreateTopic(ctx, t.partitions, 1, t.configs, t.name); err != nil {
			return fmt.Errorf("create %s: %w", t.name, err)
		}
	}
	target, err := r.target.Admin()
	if err != nil {
		return err
	}
	defer target.Close()
	if _, err := target.CreateTopic(ctx, 1, 1, nil, "lines"); err != nil {
		return fmt.Errorf("create lines: %w", err)
	}
	client, err := r.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	at := time.UnixMilli(1_700_000_000_000)
	records := []*kgo.Record{
		{Topic: "orders", Partition: 0, Key: []byte("k"), Value: []byte("v"), Timestamp: at},
		{Topic: "orders", Partition: 0, Key: nil, Value: []byte{}, Timestamp: at.Add(time.Millisecond), Headers: []kgo.RecordHeader{{Key: "h", Value: nil}, {Key: "h", Value: []byte{}}, {Key: "", Value: []byte("x")}}},
		{Topic: "orders", Partition: 1, Key: []byte{}, Value: nil, Timestamp: time.UnixMilli(0)},
		{Topic: "orders", Partition: 1, Key: []byte{0xff, 0}, Value: []byte{0xfe}, Timestamp: at},
		{Topic: "customers", Partition: 0, Key: []byte("c"), Value: []byte("1"), Timestamp: at},
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// dump reads a topic from its start to its end, transaction markers left out.
func (r *recorder) dump(ctx context.Context, b *kafka.Broker, normal func(string) string, name string, withTime bool) (topic, error) {
	admin, err := b.Admin()
	if err != nil {
		return topic{}, err
	}
	defer admin.Close()
	t := topic{Topic: name, Configs: map[string]string{}}
	described, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return t, err
	}
	for _, c := range described[0].Configs {
		if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
			t.Configs[c.Key] = c.MaybeValue()
		}
	}
	ends, err := admin.ListEndOffsets(ctx, name)
	if err != nil {
		return t, err
	}
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		t.Partitions++
		if o.Offset > 0 {
			from[o.Partition] = kgo.NewOffset().AtStart()
			left[o.Partition] = o.Offset
		}
	})
	if len(from) == 0 {
		return t, nil
	}
	client, err := b.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: from}), kgo.KeepControlRecords())
	if err != nil {
		return t, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return t, fmt.Errorf("dump %s, %d partitions left: %w", name, len(left), err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			if !k.Attrs.IsControl() {
				t.Records = append(t.Records, written(k, normal, withTime))
			}
			if k.Offset+1 >= left[k.Partition] {
				delete(left, k.Partition)
			}
		})
	}
	slices.SortStableFunc(t.Records, func(a, b record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return t, nil
}

func written(k *kgo.Record, normal func(string) string, withTime bool) record {
	w := record{Partition: k.Partition, Offset: k.Offset, Headers: len(k.Headers)}
	field := func(b []byte, text, base **string) {
		switch {
		case b == nil:
		case utf8.Valid(b) && !strings.ContainsRune(string(b), 0):
			s := normal(string(b))
			*text = &s
		default:
			s := base64.StdEncoding.EncodeToString(b)
			*base = &s
		}
	}
	field(k.Key, &w.Key, &w.Key64)
	field(k.Value, &w.Value, &w.Value64)
	if withTime {
		w.Timestamp = fmt.Sprint(k.Timestamp.UnixMilli())
	}
	return w
}

// step is a request and the records that it led to, in the order in which they
// were written to each topic.
type step struct {
	Step    string  `json:"step"`
	Request string  `json:"request,omitempty"`
	Status  int     `json:"status,omitempty"`
	Topics  []topic `json:"topics"`
}

// recordTopics records topics.json: what Connect writes to its internal topics
// at each step of a script.
func (r *recorder) recordTopics(ctx context.Context) error {
	connect, err := r.connect(ctx, "topics", nil)
	if err != nil {
		return err
	}
	defer connect.Process().Kill()
	s := &session{r: r, connect: connect}
	file, mirror := r.minimal("FileStreamSourceConnector"), r.minimal("MirrorSourceConnector")
	delete(file, "name")
	delete(mirror, "name")
	mirror["topics"], mirror["tasks.max"], mirror["replication.factor"] = "orders,customers", "2", "1"
	mirror["offset-syncs.topic.replication.factor"] = "1"
	script := []struct {
		name, method, path, body string
		await                    string
		until                    func(status) bool
	}{
		{name: "started"},
		{"file created", "POST", "/connectors", `{"name":"lines","config":` + with(file) + `}`, "lines", state("RUNNING", 1)},
		{"mirror created", "POST", "/connectors", `{"name":"copy","config":` + with(mirror) + `}`, "copy", state("RUNNING", 2)},
		{"mirror paused", "PUT", "/connectors/copy/pause", "", "copy", state("PAUSED", 2)},
		{"mirror resumed", "PUT", "/connectors/copy/resume", "", "copy", state("RUNNING", 2)},
		{"mirror restarted", "POST", "/connectors/copy/restart", "", "copy", state("RUNNING", 2)},
		{"mirror restarted with tasks", "POST", "/connectors/copy/restart?includeTasks=true", "", "copy", state("RUNNING", 2)},
		{"mirror task restarted", "POST", "/connectors/copy/tasks/1/restart", "", "copy", state("RUNNING", 2)},
		{"mirror changed", "PUT", "/connectors/copy/config", with(mirror, "tasks.max", "1"), "copy", state("RUNNING", 1)},
		{"mirror stopped", "PUT", "/connectors/copy/stop", "", "copy", state("STOPPED", 0)},
		{"mirror deleted", "DELETE", "/connectors/copy", "", "copy", gone},
		{"file created stopped", "POST", "/connectors", `{"name":"still","initial_state":"STOPPED","config":` + with(file) + `}`, "still", state("STOPPED", 0)},
		{"file created paused", "POST", "/connectors", `{"name":"waiting","initial_state":"PAUSED","config":` + with(file) + `}`, "waiting", state("PAUSED", 0)},
		{"file deleted", "DELETE", "/connectors/lines", "", "lines", gone},
	}
	seen := map[string]int64{} // topic and partition: the offset up to which records are told
	var steps []step
	for _, a := range script {
		st := step{Step: a.name}
		if a.path != "" {
			st.Request = a.method + " " + a.path + " " + r.words.Replace(a.body)
			res, text, err := s.ask(ctx, a.method, a.path, a.body)
			if err != nil || res.StatusCode >= 300 {
				return fmt.Errorf("%s: %v %s", a.name, err, text)
			}
			st.Status = res.StatusCode
			if err := s.await(ctx, a.await, a.until); err != nil {
				return err
			}
		}
		// Statuses and offsets are flushed a little later.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2500 * time.Millisecond):
		}
		for _, name := range []string{"topics-config", "topics-offset", "topics-status"} {
			t, err := r.dump(ctx, r.target, func(text string) string { return sessionKey.ReplaceAllString(s.normal(text), `"key":"KEY"`) }, name, false)
			if err != nil {
				return err
			}
			all := t.Records
			t.Records = nil
			for _, k := range all {
				at := fmt.Sprint(name, k.Partition)
				if k.Offset >= seen[at] {
					seen[at] = k.Offset + 1
					t.Records = append(t.Records, k)
				}
			}
			if a.path != "" {
				t.Configs = nil
			}
			st.Topics = append(st.Topics, t)
		}
		steps = append(steps, st)
	}
	return r.write("topics.json", steps)
}

// recordMirror records mirror.json: what MirrorMaker 2's copy leaves on the
// target.
func (r *recorder) recordMirror(ctx context.Context) error {
	connect, err := r.connect(ctx, "mirror", nil)
	if err != nil {
		return err
	}
	defer connect.Process().Kill()
	s := &session{r: r, connect: connect}
	for _, c := range []struct {
		name, class string
		tasks       int
		pairs       []string
	}{
		{"source", "MirrorSourceConnector", 1, []string{"source.cluster.alias", "M", "topics", "orders,customers", "replication.factor", "1", "offset-syncs.topic.replication.factor", "1", "offset.lag.max", "0"}},
		{"checkpoint", "MirrorCheckpointConnector", 1, []string{"source.cluster.alias", "M", "checkpoints.topic.replication.factor", "1", "emit.checkpoints.interval.seconds", "1", "refresh.groups.interval.seconds", "1"}},
		{"heartbeat", "MirrorHeartbeatConnector", 1, []string{"source.cluster.alias", "M", "heartbeats.topic.replication.factor", "1"}},
	} {
		if c.class == "MirrorCheckpointConnector" {
			if err := r.commitGroup(ctx); err != nil {
				return err
			}
		}
		config := r.minimal(c.class)
		delete(config, "name")
		config["target.cluster.alias"] = "T" // no other part of the record writes to this alias's topics
		res, text, err := s.ask(ctx, "POST", "/connectors", `{"name":"`+c.name+`","config":`+with(config, c.pairs...)+`}`)
		if err != nil || res.StatusCode != 201 {
			return fmt.Errorf("create %s: %v %s", c.name, err, text)
		}
		if err := s.await(ctx, c.name, state("RUNNING", c.tasks)); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(8 * time.Second):
	}
	var topics []topic
	for _, from := range []struct {
		broker *kafka.Broker
		name   string
		time   bool
	}{
		{r.source, "orders", true},
		{r.source, "customers", false},
		{r.target, "M.orders", true},
		{r.target, "M.customers", false},
		{r.source, "mm2-offset-syncs.T.internal", false},
		{r.target, "M.checkpoints.internal", false},
		{r.target, "heartbeats", false},
		{r.target, "mirror-offset", false},
	} {
		t, err := r.dump(ctx, from.broker, r.normal, from.name, from.time)
		if err != nil {
			return err
		}
		if from.name == "heartbeats" || from.name == "mirror-offset" {
			t.Records = newest(t.Records)
		}
		topics = append(topics, t)
	}
	return r.write("mirror.json", topics)
}

// newest keeps the last record of each key, since how often a heartbeat comes
// differs from run to run; so does when, which becomes 0.
func newest(records []record) []record {
	last := map[string]int{}
	key := func(r record) string {
		for _, k := range []*string{r.Key, r.Key64} {
			if k != nil {
				return *k
			}
		}
		return ""
	}
	for i, r := range records {
		last[key(r)] = i
	}
	var kept []record
	for i, r := range records {
		if last[key(r)] != i {
			continue
		}
		r.Offset = 0
		if r.Value64 != nil {
			zero := base64.StdEncoding.EncodeToString(make([]byte, 2+8)) // version, ms
			r.Value64 = &zero
		}
		kept = append(kept, r)
	}
	return kept
}

// commitGroup leaves a group with an offset on the source.
func (r *recorder) commitGroup(ctx context.Context) error {
	admin, err := r.source.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	offsets := kadm.Offsets{}
	offsets.AddOffset("orders", 0, 1, -1)
	return admin.CommitAllOffsets(ctx, "readers", offsets)
}
