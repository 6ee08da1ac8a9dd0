package worker

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"barnabas/config"
	"barnabas/configprovider"
)

func sinkEntry(partition, offset string) OffsetEntry {
	return OffsetEntry{Partition: json.RawMessage(partition), Offset: json.RawMessage(offset)}
}

// TestOffsetsOfSinksAreThoseOfTheirGroup sets, shows and resets them.
func TestOffsetsOfSinksAreThoseOfTheirGroup(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "lines"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	resolver, err := configprovider.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &Worker{o: Options{Resolver: resolver, File: config.Worker{Settings: config.Literal(map[string]string{"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ",")})}}}
	written := map[string]string{"name": "x"}
	show := func() []string {
		t.Helper()
		entries, err := w.sinkOffsets(t.Context(), "x", written)
		if err != nil {
			t.Fatal(err)
		}
		lines := []string{}
		for _, e := range entries {
			lines = append(lines, string(e.Partition)+string(e.Offset))
		}
		return lines
	}
	if diff := cmp.Diff([]string{}, show()); diff != "" {
		t.Errorf("before: %s", diff)
	}
	message, err := w.setSinkOffsets(t.Context(), "x", written, []OffsetEntry{
		sinkEntry(`{"kafka_topic":"lines","kafka_partition":0}`, `{"kafka_offset":7}`), sinkEntry(`{"kafka_topic":"lines","kafka_partition":"1"}`, `{"kafka_offset":"9"}`),
	})
	if err != nil || message != "The offsets for this connector have been altered successfully" {
		t.Fatalf("%q, %v", message, err)
	}
	if diff := cmp.Diff([]string{`{"kafka_partition":0,"kafka_topic":"lines"}{"kafka_offset":7}`, `{"kafka_partition":1,"kafka_topic":"lines"}{"kafka_offset":9}`}, show()); diff != "" {
		t.Errorf("set: %s", diff)
	}
	if _, err := w.setSinkOffsets(t.Context(), "x", written, []OffsetEntry{sinkEntry(`{"kafka_topic":"lines","kafka_partition":0}`, `null`)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"kafka_partition":1,"kafka_topic":"lines"}{"kafka_offset":9}`}, show()); diff != "" {
		t.Errorf("one deleted: %s", diff)
	}
	for range 2 { // again does no harm
		if message, err := w.resetSinkOffsets(t.Context(), "x", written); err != nil || message != "The offsets for this connector have been reset successfully" {
			t.Fatalf("%q, %v", message, err)
		}
	}
	if diff := cmp.Diff([]string{}, show()); diff != "" {
		t.Errorf("reset: %s", diff)
	}
}

// TestOffsetsOfSinksAreJudgedInConnectsWords has them from SinkUtils.parseSinkConnectorOffsets.
func TestOffsetsOfSinksAreJudgedInConnectsWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		entry OffsetEntry
		want  string
	}{
		{sinkEntry(`null`, `null`), "The partition for a sink connector offset cannot be null or missing"},
		{sinkEntry(`{"kafka_topic":"a"}`, `null`), "The partition for a sink connector offset must contain the keys 'kafka_topic' and 'kafka_partition'"},
		{sinkEntry(`{"kafka_topic":null,"kafka_partition":1}`, `null`), "Kafka topic names must be valid strings and may not be null"},
		{sinkEntry(`{"kafka_topic":"a","kafka_partition":null}`, `null`), "Kafka partitions must be valid numbers and may not be null"},
		{sinkEntry(`{"kafka_topic":"a","kafka_partition":"x"}`, `null`), "Failed to parse the following Kafka partition value in the provided offsets: 'x'. Partition values for sink connectors need to be integers."},
		{sinkEntry(`{"kafka_topic":"a","kafka_partition":1}`, `{}`), "The offset for a sink connector should either be null or contain the key 'kafka_offset'"},
		{sinkEntry(`{"kafka_topic":"a","kafka_partition":1}`, `{"kafka_offset":1.5}`), "Failed to parse the following Kafka offset value in the provided offsets: '1.5'. Offset values for sink connectors need to be integers."},
	} {
		_, err := parseSinkOffsets([]OffsetEntry{tt.entry})
		if err == nil || err.Error() != tt.want || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s %s: %v, want %q", tt.entry.Partition, tt.entry.Offset, err, tt.want)
		}
	}
}
