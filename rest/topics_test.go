package rest

import (
	"strings"
	"testing"
)

// TestTopicTrackingCanBeOff asks for the topics of a connector that writes heartbeats (KIP-558).
func TestTopicTrackingCanBeOff(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		settings    map[string]string
		get         int
		topics      string
		reset       int
		resetAnswer string
	}{
		"on":       {nil, 200, `{"h":{"topics":["heartbeats"]}}`, 202, ""},
		"off":      {map[string]string{"topic.tracking.enable": "false"}, 403, "Topic tracking is disabled.", 403, "Topic tracking is disabled."},
		"no reset": {map[string]string{"topic.tracking.allow.reset": "false"}, 200, `{"h":{"topics":["heartbeats"]}}`, 403, "Topic tracking reset is disabled."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, row.settings)
			n := c.nodes[0]
			if _, err := n.client.Create(t.Context(), "h", map[string]string{
				"connector.class": "MirrorHeartbeat", "source.cluster.alias": "A", "target.cluster.alias": "B", "emit.heartbeats.interval.seconds": "1",
				"source.cluster.bootstrap.servers": c.bootstrap(), "target.cluster.bootstrap.servers": c.bootstrap(), "heartbeats.topic.replication.factor": "1",
			}, ""); err != nil {
				t.Fatal(err)
			}
			n.waitFor("h", "RUNNING", 1)
			eventually(t, func() string {
				if got := ask(t, n.url, "GET", "/connectors/h/topics", nil, nil); got.status != row.get || !strings.Contains(got.body, row.topics) {
					return got.body
				}
				return ""
			})
			if got := ask(t, n.url, "PUT", "/connectors/h/topics/reset", nil, nil); got.status != row.reset || !strings.Contains(got.body, row.resetAnswer) {
				t.Errorf("reset: %d %s", got.status, got.body)
			}
		})
	}
}
