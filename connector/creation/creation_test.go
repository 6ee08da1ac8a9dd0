package creation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"barnabas/config"
)

func settings(pairs ...string) config.Settings {
	written := map[string]string{"name": "x"}
	for i := 0; i < len(pairs); i += 2 {
		written[Prefix+pairs[i]] = pairs[i+1]
	}
	return config.Literal(written)
}

var basics = []string{"default.partitions", "2", "default.replication.factor", "1"}

func TestTheFirstGroupThatATopicMatchesCounts(t *testing.T) {
	t.Parallel()
	g, err := Parse(settings(append(basics, "groups", "default,narrow,wide", "narrow.include", "orders-.*,x", "narrow.exclude", "orders-test",
		"narrow.cleanup.policy", "compact", "wide.include", "orders.*", "wide.partitions", "-1", "wide.replication.factor", "3",
		"default.retention.ms", "7", "other.include", ".*", "other.partitions", "9")...))
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{"orders-1": "2 1 cleanup.policy=compact", "x": "2 1 cleanup.policy=compact", "orders-test": "-1 3", "orders": "-1 3", "bills": "2 1 retention.ms=7", "my-orders": "2 1 retention.ms=7"} {
		made, err := g.For(topic)
		got := fmt.Sprint(made.Partitions, made.Replication)
		for _, key := range slices.Sorted(maps.Keys(made.Configs)) {
			got += " " + key + "=" + *made.Configs[key]
		}
		if err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", topic, got, err, want)
		}
	}
}

func TestWhatKafkaConnectRefuses(t *testing.T) {
	t.Parallel()
	if g, err := Parse(config.Literal(map[string]string{"name": "x"})); g != nil || err != nil {
		t.Errorf("nothing written: %v, %v", g, err)
	}
	for _, row := range []struct {
		written []string
		want    string
	}{
		{[]string{"groups", "a"}, `Missing required configuration "topic.creation.default.replication.factor" which has no default value.`},
		{[]string{"default.replication.factor", "1"}, `Missing required configuration "topic.creation.default.partitions" which has no default value.`},
		{[]string{"default.replication.factor", "1", "default.partitions", "0"}, "Invalid value 0 for configuration partitions: Number of partitions must be positive, or -1 to use the broker's default"},
		{[]string{"default.replication.factor", "1", "default.partitions", "x"}, "Invalid value x for configuration topic.creation.default.partitions: Not a number of type INT"},
		{append(basics, "groups", "a", "a.replication.factor", "-2"), "Invalid value -2 for configuration replication.factor: Replication factor must be positive"},
		{append(basics, "groups", "a", "a.include", "("), "Invalid value [(] for configuration include: Syntax error in regular expression: Unclosed group near index 1"},
	} {
		if _, err := Parse(settings(row.written...)); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%q: %v, want %s", row.written, err, row.want)
		}
	}
	if _, err := Parse(settings(append(basics, "a.partitions", "x", "default.include", "(")...)); err != nil {
		t.Errorf("what counts for nothing: %v", err)
	}
}
