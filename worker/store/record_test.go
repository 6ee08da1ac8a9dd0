package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// compareSecrets looks into secrets, which print as hidden.
var compareSecrets = cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() })

// vector is a record that Kafka Connect's own classes wrote (testdata/Vectors.java).
type vector struct {
	Key           string  `json:"key"`
	Value         *string `json:"value"`
	PartitionOf5  int     `json:"partition_of_5"`
	PartitionOf25 int     `json:"partition_of_25"`
}

func (v vector) value() []byte {
	if v.Value == nil {
		return nil
	}
	return []byte(*v.Value)
}

func vectors(t testing.TB) []vector {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "connect-4.3.1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []vector
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if len(all) < 15 {
		t.Fatalf("%d vectors, want at least 15", len(all))
	}
	return all
}

// encoder is every record type of Connect's.
type encoder interface{ Entry() Entry }

func TestRecordsAreWrittenAsConnectWritesThem(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if strings.HasPrefix(v.Key, "[") {
			name, partition, err := ParseOffsetKey([]byte(v.Key))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(OffsetKey(name, partition)); got != v.Key {
				t.Errorf("offset key\n got %s\nwant %s", got, v.Key)
			}
			continue
		}
		decode := DecodeConfig
		if strings.HasPrefix(v.Key, "status-") {
			decode = DecodeStatus
		}
		r, err := decode([]byte(v.Key), v.value())
		if err != nil {
			t.Errorf("decode: %v", err)
			continue
		}
		e, ok := r.(encoder)
		if !ok {
			t.Errorf("%s was read as %T", v.Key, r)
			continue
		}
		if diff := cmp.Diff([]string{v.Key, *v.Value}, []string{string(e.Entry().Key), string(e.Entry().Value)}); diff != "" {
			t.Errorf("%T differs from Connect's (-want +got):\n%s", r, diff)
		}
	}
}

func TestKeysHaveJavasPartition(t *testing.T) {
	t.Parallel()
	p := partitioner().ForTopic("any")
	for _, v := range vectors(t) {
		for n, want := range map[int]int{5: v.PartitionOf5, 25: v.PartitionOf25} {
			if got := p.Partition(&kgo.Record{Key: []byte(v.Key), Partition: -1}, n); got != want {
				t.Errorf("partition of %q of %d: got %d, want %d", v.Key, n, got, want)
			}
		}
	}
	if got := p.Partition(&kgo.Record{Key: []byte("status-task-orders-0"), Partition: 0}, 5); got != 0 {
		t.Errorf("a pinned record went to partition %d, want 0", got)
	}
}

func TestDecodeConfigIsAsLenientAsConnect(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		key, value string
		tombstone  bool
		want       any
		err        string
	}{
		"deleted connector":            {key: "connector-a", tombstone: true, want: ConnectorRecord{Name: "a"}},
		"null is a tombstone":          {key: "connector-a", value: " null", want: ConnectorRecord{Name: "a"}},
		"empty is a tombstone":         {key: "connector-a", value: "", want: ConnectorRecord{Name: "a"}},
		"null setting is left out":     {key: "connector-a", value: `{"properties":{"x":null,"y":"1"}}`, want: ConnectorRecord{"a", map[string]string{"y": "1"}}},
		"numbers keep their spelling":  {key: "connector-a", value: `{"properties":{"x":1.50,"y":true}}`, want: ConnectorRecord{"a", map[string]string{"x": "1.50", "y": "true"}}},
		"unknown fields are skipped":   {key: "commit-a", value: ` {"tasks":3,"more":[]} `, want: CommitRecord{"a", 3}},
		"rest of the value is ignored": {key: "commit-a", value: `{"tasks":3} garbage`, want: CommitRecord{"a", 3}},
		"nested setting":               {key: "connector-a", value: `{"properties":{"x":{"secret":1}}}`, err: `config record "connector-a": in field "properties": field "x" is an object, not a string`},
		"properties missing":           {key: "connector-a", value: `{}`, err: `config record "connector-a": field "properties" is missing, not an object`},
		"not an object":                {key: "connector-a", value: `"secret"`, err: `config record "connector-a": the value is a string, not an object`},
		"not JSON":                     {key: "connector-a", value: `{"secret`, err: `config record "connector-a": the value is not JSON`},
		"task's name holds dashes":     {key: "task-a-b-c-7", value: `{"properties":{}}`, want: TaskRecord{"a-b-c", 7, map[string]string{}}},
		"task without a number":        {key: "task-a-b", value: `{"properties":{}}`, err: `config record "task-a-b": the key does not end in a task's number`},
		"deleted task":                 {key: "task-a-1", tombstone: true, err: `config record "task-a-1": the value is null, which means nothing here`},
		"old target state":             {key: "target-state-a", value: `{"state":"PAUSED"}`, want: TargetStateRecord{"a", "PAUSED"}},
		"state.v2 goes first":          {key: "target-state-a", value: `{"state":"PAUSED","state.v2":"STOPPED"}`, want: TargetStateRecord{"a", "STOPPED"}},
		"wrong state.v2":               {key: "target-state-a", value: `{"state":"PAUSED","state.v2":3}`, want: TargetStateRecord{"a", "PAUSED"}},
		"unknown target state":         {key: "target-state-a", value: `{"state":"RESTED"}`, err: `config record "target-state-a": "RESTED" is no target state`},
		"deleted target state":         {key: "target-state-a", tombstone: true, want: TargetStateRecord{Connector: "a"}},
		"wrong restart flags":          {key: "restart-connector-a", value: `{"include-tasks":"yes","only-failed":true}`, want: RestartRecord{"a", false, true}},
		"fractional count":             {key: "commit-a", value: `{"tasks":1.5}`, err: `config record "commit-a": field "tasks" is a number, not a whole number of 32 bits`},
		"negative count":               {key: "commit-a", value: `{"tasks":-1}`, err: `config record "commit-a": field "tasks" is -1, and must not be negative`},
		"session key not base64":       {key: "session-key", value: `{"key":"sec*ret","algorithm":"A","creation-timestamp":1}`, err: `config record "session-key": field "key" is not base64`},
		"unknown key":                  {key: "connectors", value: `{`, want: UnknownRecord{"connectors"}},
		"no key":                       {key: "", value: `{`, want: UnknownRecord{""}},
		"ours":                         {key: "barnabas-leader", value: `{"v":1}`, want: OwnRecord{"barnabas-leader", []byte(`{"v":1}`)}},
		"ours deleted":                 {key: "barnabas-leader", tombstone: true, want: OwnRecord{"barnabas-leader", nil}},
	} {
		value := []byte(row.value)
		if row.tombstone {
			value = nil
		}
		check(t, name, DecodeConfig, row.key, value, row.want, row.err)
	}
}

func TestDecodeStatusIsAsLenientAsConnect(t *testing.T) {
	t.Parallel()
	running := &Status{State: "RUNNING", WorkerID: "w:1", Generation: 3}
	for name, row := range map[string]struct {
		key, value string
		tombstone  bool
		want       any
		err        string
	}{
		"before 4.2, no version": {key: "status-connector-a", value: `{"state":"RUNNING","trace":null,"worker_id":"w:1","generation":3}`, want: ConnectorStatus{"a", running}},
		"deleted":                {key: "status-connector-a", tombstone: true, want: ConnectorStatus{Connector: "a"}},
		"no connector":           {key: "status-connector-", tombstone: true, err: `status record "status-connector-": the key names no connector`},
		"task":                   {key: "status-task-a-b-0", value: `{"state":"RUNNING","worker_id":"w:1","generation":3}`, want: TaskStatus{"a-b", 0, running}},
		"no generation":          {key: "status-task-a-0", value: `{"state":"RUNNING","worker_id":"w:1"}`, err: `status record "status-task-a-0": field "generation" is missing, not a whole number of 32 bits`},
		"unknown state":          {key: "status-task-a-0", value: `{"state":"DREAMING","worker_id":"w","generation":3}`, err: `status record "status-task-a-0": "DREAMING" is no state`},
		"null":                   {key: "status-task-a-0", value: `null`, err: `status record "status-task-a-0": field "state" is missing, not a string`},
		"deleted topic":          {key: "status-topic-x:connector-a:b", tombstone: true, want: TopicStatus{Topic: "x", Connector: "a:b", Deleted: true}},
		"topic without name":     {key: "status-topic-:connector-a", tombstone: true, err: `status record "status-topic-:connector-a": the key does not name a topic and a connector`},
		"topic without value":    {key: "status-topic-x:connector-a", value: `{}`, err: `status record "status-topic-x:connector-a": field "topic" is missing, not an object`},
		"unknown key":            {key: "status", value: `{`, want: UnknownRecord{"status"}},
	} {
		value := []byte(row.value)
		if row.tombstone {
			value = nil
		}
		check(t, name, DecodeStatus, row.key, value, row.want, row.err)
	}
}

func check(t *testing.T, name string, decode func(key, value []byte) (any, error), key string, value []byte, want any, wantErr string) {
	t.Helper()
	got, err := decode([]byte(key), value)
	text := ""
	if err != nil {
		text = err.Error()
		got = nil
	}
	if text != wantErr {
		t.Errorf("%s: got error %q, want %q", name, text, wantErr)
	}
	if diff := cmp.Diff(want, got, compareSecrets); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestDestroyedIsWrittenAsTombstone(t *testing.T) {
	t.Parallel()
	if v := (TaskStatus{"a", 0, &Status{State: "DESTROYED"}}).Entry().Value; v != nil {
		t.Errorf("value is %s, want a tombstone", v)
	}
}

func TestOwnRecordsCarryTheirVersion(t *testing.T) {
	t.Parallel()
	type lease struct {
		Epoch  int64  `json:"epoch"`
		Worker string `json:"worker"`
	}
	e, err := EncodeOwn("barnabas-lease", lease{7, "a:1"})
	if err != nil || string(e.Value) != `{"v":1,"epoch":7,"worker":"a:1"}` {
		t.Fatalf("got %s, %v", e.Value, err)
	}
	got, err := DecodeOwn[lease](OwnRecord{string(e.Key), e.Value})
	if err != nil || got != (lease{7, "a:1"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if e, err := EncodeOwn("barnabas-x", struct{}{}); err != nil || string(e.Value) != `{"v":1}` {
		t.Errorf("empty: got %s, %v", e.Value, err)
	}
	for value, want := range map[string]string{
		`{"v":2,"epoch":1}`:   `record "barnabas-lease": version 2: the record was written by a newer version`,
		`{"epoch":1}`:         `record "barnabas-lease": the value has no version`,
		`{"v":1,"epoch":"x"}`: `record "barnabas-lease": json: cannot unmarshal string into Go struct field lease.epoch of type int64`,
	} {
		if _, err := DecodeOwn[lease](OwnRecord{"barnabas-lease", []byte(value)}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", value, err, want)
		}
	}
	if _, err := EncodeOwn("barnabas-x", []int{1}); err == nil {
		t.Error("an array was taken for an object")
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.Key), v.value())
	}
	f.Add([]byte(`["a", {"x" : 1}]`), []byte(nil))
	f.Add([]byte("status-topic-a:"), []byte(" "))
	f.Add([]byte("connector-\xff"), []byte(`{"properties":{"\ud800":"\ud800"}}`))
	f.Add([]byte("barnabas-x"), []byte(`{"v":1`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, decode := range []func(key, value []byte) (any, error){DecodeConfig, DecodeStatus} {
			r, err := decode(key, value)
			e, ok := r.(encoder)
			if err != nil || !ok {
				continue
			}
			// What was read is written in a form that reads the same.
			again, err := decode(e.Entry().Key, e.Entry().Value)
			if err != nil {
				t.Fatalf("%q %q was read as %+v and is not read again: %v", key, value, r, err)
			}
			if isDestroyed(r) {
				continue
			}
			if diff := cmp.Diff(r, again, compareSecrets, cmpopts.EquateEmpty()); diff != "" && bytes.Equal(key, e.Entry().Key) {
				t.Fatalf("%q %q (-first +again):\n%s", key, value, diff)
			}
		}
		if name, partition, err := ParseOffsetKey(key); err == nil {
			name2, partition2, err := ParseOffsetKey(OffsetKey(name, partition))
			if err != nil || name2 != name || !bytes.Equal(partition, partition2) {
				t.Fatalf("%q: got %q %q %v, want %q %q", key, name2, partition2, err, name, partition)
			}
		}
		if r, err := DecodeConfig(key, value); err == nil {
			if own, ok := r.(OwnRecord); ok && own.Value != nil {
				_, _ = DecodeOwn[map[string]any](own)
			}
		}
	})
}

func isDestroyed(r any) bool {
	switch r := r.(type) {
	case ConnectorStatus:
		return r.Status != nil && r.Status.State == "DESTROYED"
	case TaskStatus:
		return r.Status != nil && r.Status.State == "DESTROYED"
	}
	return false
}
