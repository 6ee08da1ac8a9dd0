package mirror

import (
	"encoding/json"
	"os"
	"testing"
)

// TestPoliciesAnswerLikeKafka compares with what the Java classes of 4.3.1
// answered for the same names.
func TestPoliciesAnswerLikeKafka(t *testing.T) {
	t.Parallel()
	var recorded struct {
		Columns []string
		Rows    [][]any
	}
	readTestdata(t, "policy.json", &recorded)
	for _, row := range recorded.Rows {
		want := map[string]any{}
		for i, c := range recorded.Columns {
			want[c] = row[i]
		}
		p := newPolicy(want["class"] == "Identity", str(want["separator"], "."), str(want["internal_separator"], "true") == "true", "A")
		topic := want["topic"].(string)
		got := map[string]any{
			"class": want["class"], "separator": want["separator"], "internal_separator": want["internal_separator"], "topic": topic,
			"remote": p.FormatRemoteTopic("A", topic), "source": nullable(p.TopicSource(topic)), "upstream": nullable(p.UpstreamTopic(topic)),
			"original": p.OriginalTopic(topic), "heartbeats": p.IsHeartbeatsTopic(topic), "checkpoints": p.IsCheckpointsTopic(topic),
			"mm2_internal": p.IsMM2InternalTopic(topic), "internal": p.IsInternalTopic(topic),
			"offset_syncs": p.OffsetSyncsTopic("B"), "checkpoints_topic": p.CheckpointsTopic("A"),
		}
		// Java looks at the internal separator only if a separator is set, as
		// MirrorMaker always does.
		if want["separator"] == nil && want["internal_separator"] != nil {
			continue
		}
		for _, c := range recorded.Columns {
			if got[c] != want[c] {
				t.Errorf("%v, separator %v, internal %v, topic %q: %s = %v, Kafka says %v",
					want["class"], want["separator"], want["internal_separator"], topic, c, got[c], want[c])
			}
		}
	}
	if len(recorded.Rows) < 800 {
		t.Fatalf("only %d rows", len(recorded.Rows))
	}
}

func TestCycles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		identity      bool
		topic, target string
		want          bool
	}{
		"own topic":                        {topic: "orders", target: "B"},
		"came from the target":             {topic: "B.orders", target: "B", want: true},
		"came over another from target":    {topic: "C.B.orders", target: "B", want: true},
		"came from elsewhere":              {topic: "C.orders", target: "B"},
		"identity cannot tell":             {identity: true, topic: "B.orders", target: "B"},
		"identity: to itself":              {identity: true, topic: "orders", target: "A", want: true},
		"identity: heartbeats keep prefix": {identity: true, topic: "B.heartbeats", target: "B", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := newPolicy(c.identity, ".", true, "A").IsCycle(c.topic, c.target); got != c.want {
				t.Errorf("IsCycle(%q, %q) = %v", c.topic, c.target, got)
			}
		})
	}
}

func readTestdata(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func str(v any, missing string) string {
	if s, ok := v.(string); ok {
		return s
	}
	return missing
}

func nullable(s string, ok bool) any {
	if !ok {
		return nil
	}
	return s
}
