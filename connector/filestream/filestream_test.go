package filestream

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
)

// rig runs one task against a cluster in memory.
type rig struct {
	t       *testing.T
	cluster *kfake.Cluster
	tc      connector.TaskContext

	mu       sync.Mutex
	saved    map[string]string
	progress connector.Progress
}

func newRig(t *testing.T, settings map[string]string) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "lines", "other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{t: t, cluster: cluster, saved: map[string]string{}}
	worker := config.Literal(map[string]string{"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ",")})
	clear := make(chan struct{})
	close(clear)
	literal := config.Literal(settings)
	open := func(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		built, err := clientconfig.Build(clientconfig.Layers(role, worker, literal), clientconfig.RoleKind(role))
		if err != nil {
			return nil, err
		}
		opts := built.Opts
		if role == connector.RecordConsumer {
			member, err := clientconfig.GroupOptions(worker, literal, "x")
			if err != nil {
				return nil, err
			}
			opts = append(opts, member...)
		}
		client, err := kgo.NewClient(append(opts, extra...)...)
		if err == nil {
			t.Cleanup(client.CloseAllowingRebalance)
		}
		return client, err
	}
	r.tc = connector.TaskContext{
		Connector: "x", Settings: literal, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Clear: clear, Delivery: connector.Plain,
		Clients: connector.Clients{Open: open, Principal: func(connector.Role) string { return "User:x" }}, Group: clientconfig.Group(worker, literal, "x"),
		Started: func() {}, Fenced: func() {}, Wrote: func(string) {}, Report: r.report,
		Offsets: connector.Offsets{Load: r.load, Save: r.save, Interval: 20 * time.Millisecond},
	}
	return r
}

func (r *rig) load(_ context.Context, partitions [][]byte) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([][]byte, len(partitions))
	for i, p := range partitions {
		if v, ok := r.saved[string(p)]; ok {
			out[i] = []byte(v)
		}
	}
	return out, nil
}

func (r *rig) save(_ context.Context, offsets []connector.Offset) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range offsets {
		r.saved[string(o.Partition)] = string(o.Offset)
	}
	return nil
}

func (r *rig) report(p connector.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = p
}

func (r *rig) offset(partition string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saved[partition]
}

func (r *rig) note() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.progress.Notes) == 0 {
		return ""
	}
	return r.progress.Notes[0].Text
}

// start runs the task until stop, which returns how it ended.
func (r *rig) start(task connector.Task) (stop func() error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(ctx, r.tc) }() // waited for by stop
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			r.t.Error("the task does not end")
			return nil
		}
	})
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

// fails runs a task to its end.
func (r *rig) fails(task connector.Task) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	return task.Run(ctx, r.tc)
}

func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

// values reads the first n values of a topic.
func (r *rig) values(topic string, n int) []string {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	for len(got) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			r.t.Fatalf("%s has %q: %v", topic, got, err)
		}
		fetches.EachRecord(func(k *kgo.Record) { got = append(got, string(k.Value)) })
	}
	return got
}

func sourceOf(file string, more ...string) map[string]string {
	s := map[string]string{"name": "x", "connector.class": sourceClass, "file": file, "topic": "lines", "key.converter": "String", "value.converter": "String"}
	for i := 0; i < len(more); i += 2 {
		s[more[i]] = more[i+1]
	}
	return s
}

func write(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // written below
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestASourceGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in")
	r := newRig(t, sourceOf(file))
	at := string(partition(must(parse(sourceKeys(), r.tc.Settings))))
	stop := r.start(sourceTask{})
	r.until("a note about the file that is not there", func() bool { return strings.Contains(r.note(), "does not exist") })
	write(t, file, "one\ntwé\nno")
	r.until("offset", func() bool { return r.offset(at) == `{"position":9}` })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	write(t, file, " end\n")
	stop = r.start(sourceTask{})
	r.until("offset", func() bool { return r.offset(at) == `{"position":16}` })
	if got := strings.Join(r.values("lines", 3), "|"); got != "one|twé|no end" {
		t.Errorf("records %s", got)
	}
	// It reads what it has opened, as Kafka's does: nothing of a file that was cut, until it has grown again.
	if err := os.Truncate(file, 4); err != nil {
		t.Fatal(err)
	}
	r.until("a note about the cut", func() bool { return strings.Contains(r.note(), "was cut to 4 bytes") })
	write(t, file, "123456789012\nnew\n")
	r.until("offset", func() bool { return r.offset(at) == `{"position":21}` })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := r.values("lines", 5)[4]; got != "new" {
		t.Errorf("after the cut came %q", got)
	}
}

func must(v config.Values, err error) config.Values {
	if err != nil {
		panic(err)
	}
	return v
}

func TestASourceFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	write(t, file, "line\n")
	for name, tt := range map[string]struct {
		settings map[string]string
		offset   string
		want     string
	}{
		"bytes of text":      {sourceOf(file, "value.converter", "ByteArrayConverter"), "", "Tolerance exceeded in error handler: Invalid schema type for ByteArrayConverter: STRING"},
		"worker's converter": {sourceOf(file, "value.converter", "none.such"), "", `value.converter: there is no converter "none.such" here`},
		"directory":          {sourceOf(dir), "", "it is a directory"},
		"offset of no kind":  {sourceOf(file), `{"position":"x"}`, "Offset position is the incorrect type"},
		"no replication":     {sourceOf(file, "topic.creation.default.partitions", "2"), "", `Missing required configuration "topic.creation.default.replication.factor"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.settings)
			if tt.offset != "" {
				r.saved[string(partition(must(parse(sourceKeys(), r.tc.Settings))))] = tt.offset
			}
			if err := r.fails(sourceTask{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ended with %v, want %q", err, tt.want)
			}
		})
	}
}

func TestASourceLeavesOutWhatItTolerates(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in")
	write(t, file, "a\nb\n")
	r := newRig(t, sourceOf(file, "value.converter", "ByteArrayConverter", "errors.tolerance", "all"))
	stop := r.start(sourceTask{})
	r.until("offset", func() bool { return r.offset(`{"filename":"`+file+`"}`) == `{"position":4}` })
	r.until("counts", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.progress.Errors.Skipped == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestTopicsAreMadeAsTheirGroupSays(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in")
	write(t, file, "a\n")
	r := newRig(t, sourceOf(file, "topic", "made", "topic.creation.groups", "no,yes", "topic.creation.default.partitions", "2", "topic.creation.default.replication.factor", "1",
		"topic.creation.no.include", "m.*", "topic.creation.no.exclude", "ma.*", "topic.creation.yes.include", "x,ma?de", "topic.creation.yes.partitions", "3", "topic.creation.yes.cleanup.policy", "compact"))
	stop := r.start(sourceTask{})
	r.values("made", 1)
	client, err := r.tc.Clients.Open(t.Context(), connector.RecordAdmin)
	if err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(t.Context(), "made")
	if err != nil || len(topics["made"].Partitions) != 3 {
		t.Errorf("made: %v, %v", topics, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestTopicsAreLeftToTheBrokers(t *testing.T) {
	t.Parallel()
	tc := connector.TaskContext{Settings: config.Literal(sourceOf("in", "topic.creation.default.partitions", "3", "topic.creation.default.replication.factor", "1"))}
	tc.Clients.Open = func(context.Context, connector.Role, ...kgo.Opt) (*kgo.Client, error) {
		return nil, errors.New("a client is opened")
	}
	if err := createTopic(t.Context(), tc, "left"); err == nil {
		t.Error("no topic is made")
	}
	tc.LeaveTopics = true
	if err := createTopic(t.Context(), tc, "left"); err != nil {
		t.Error(err)
	}
}

func sinkTo(file string, more ...string) map[string]string {
	s := map[string]string{"name": "x", "connector.class": sinkClass, "file": file, "topics": "lines", "key.converter": "String", "value.converter": "String"}
	for i := 0; i < len(more); i += 2 {
		s[more[i]] = more[i+1]
	}
	return s
}

// committed is what the group of the sink has of a topic, -1: nothing.
func (r *rig) committed(group, topic string) int64 {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	offsets, err := kadm.NewClient(client).FetchOffsets(r.t.Context(), group)
	if err != nil {
		return -1
	}
	o, ok := offsets.Lookup(topic, 0)
	if !ok {
		return -1
	}
	return o.At
}

func (r *rig) produce(topic string, values ...string) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	for _, v := range values {
		if err := client.ProduceSync(r.t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestASinkCommitsWhatStandsInItsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out")
	r := newRig(t, sinkTo(file, "topics", "", "topics.regex", "(?!o)l.*", "consumer.override.group.id", "mine"))
	r.produce("lines", "a", "b")
	stop := r.start(sinkTask{})
	r.until("commit", func() bool { return r.committed("mine", "lines") == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.produce("lines", "c")
	stop = r.start(sinkTask{})
	r.until("commit", func() bool { return r.committed("mine", "lines") == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "a\nb\nc\n" {
		t.Errorf("file %q, %v", text, err)
	}
}

func TestASinkFailsBeforeItCommitsWhatItDoesNotHave(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no disk here that is always full")
	}
	r := newRig(t, sinkTo("/dev/full"))
	r.produce("lines", "a")
	err := r.fails(sinkTask{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("ended with %v", err)
	}
	if at := r.committed("connect-x", "lines"); at > 0 {
		t.Errorf("offset %d is committed", at)
	}
}

// TestALetterThatIsLostStopsTheSink refuses the letters, and nothing behind them may be committed.
func TestALetterThatIsLostStopsTheSink(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out")
	r := newRig(t, sinkTo(file, "value.converter", "JsonConverter", "value.converter.schemas.enable", "false", "errors.tolerance", "all",
		"errors.deadletterqueue.topic.name", "other"))
	r.produce("lines", "1", "{", "3")
	r.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		asked := req.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			of := kmsg.NewProduceResponseTopic()
			of.Topic, of.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				refused := kmsg.NewProduceResponseTopicPartition()
				refused.Partition, refused.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				of.Partitions = append(of.Partitions, refused)
			}
			answer.Topics = append(answer.Topics, of)
		}
		return answer, nil, true
	})
	err := r.fails(sinkTask{})
	if err == nil || !strings.Contains(err.Error(), "dead letter queue other") {
		t.Errorf("ended with %v", err)
	}
	if at := r.committed("connect-x", "lines"); at > 0 {
		t.Errorf("offset %d is committed without the letter", at)
	}
}

func TestOffsetsOfAFileAreJudgedInConnectsWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ partition, offset, want string }{
		{`{"filename":"f"}`, `{"position":7}`, ""},
		{`{"anything":1}`, `null`, ""},
		{`{"filename":"f"}`, `{}`, "Offset objects should either be null or contain the key 'position'"},
		{`{"filename":"f"}`, `{"position":"7"}`, "The value for the 'position' key in the offset is expected to be a Long value"},
		{`{"filename":"f"}`, `{"position":-1}`, "The value for the 'position' key in the offset should be a non-negative value"},
		{`null`, `{"position":1}`, "Partition objects cannot be null"},
		{`{"file":"f"}`, `{"position":1}`, "Partition objects should contain the key 'filename'"},
	} {
		var c connector.OffsetChange
		var err error
		if c.Partition, err = connector.ParseFields([]byte(tt.partition)); err == nil {
			c.Offset, err = connector.ParseFields([]byte(tt.offset))
		}
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := checkOffsets([]connector.OffsetChange{c}); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.partition, tt.offset, got, tt.want)
		}
	}
}
