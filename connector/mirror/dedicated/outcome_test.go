package dedicated

import (
	"strings"
	"testing"
)

func TestEverySettingHasAnOutcome(t *testing.T) {
	t.Parallel()
	f, _, _ := parse(t, two+`
topics = orders
gap.policy = stop
A->B.tasks.max = 4
A.producer.linger.ms = 5
B.offset.flush.interval.ms = 1000
consumer.isolation.level = read_committed
config.providers = file
gossip.bind = 0.0.0.0:7946
B->A.topics = back
replication.factr = 3
`)
	want := map[string]string{
		"clusters":                   "the clusters, between which links run",
		"A.bootstrap.servers":        "A->B MirrorSourceConnector source.cluster.bootstrap.servers",
		"B.bootstrap.servers":        "A->B worker bootstrap.servers",
		"A->B.enabled":               "A->B MirrorSourceConnector enabled",
		"topics":                     "A->B MirrorSourceConnector topics",
		"gap.policy":                 "A->B MirrorSourceConnector gap.policy",
		"A->B.tasks.max":             "A->B MirrorSourceConnector tasks.max",
		"A.producer.linger.ms":       "A->B MirrorSourceConnector source.producer.linger.ms",
		"B.offset.flush.interval.ms": "A->B worker offset.flush.interval.ms",
		"consumer.isolation.level":   "ignored: consumer.isolation.level has no effect without the name of a cluster",
		"config.providers":           "A->B worker config.providers",
		"gossip.bind":                "A->B worker gossip.bind",
		"B->A.topics":                "B->A MirrorHeartbeatConnector topics",
		"replication.factr":          `ignored: unknown key "replication.factr" is ignored; did you mean "replication.factor"?`,
	}
	for _, o := range f.Outcomes() {
		said := []string{o.Meaning}
		for _, u := range o.Becomes {
			said = append(said, u.Link+" "+u.Part+" "+u.Key)
		}
		if o.Ignored != "" {
			said = append(said, "ignored: "+o.Ignored)
		}
		if text := strings.Join(said, "\n"); want[o.Key] == "" || !strings.Contains(text, want[o.Key]) {
			t.Errorf("%s: %s, want among it %q", o.Key, text, want[o.Key])
		}
		delete(want, o.Key)
	}
	for key := range want {
		t.Errorf("%s has no outcome", key)
	}
}
