package task

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

// TestClientsAreNamedAsKafkaConnectNamesThem looks at the ids of the clients of the records of a connector; quotas and dashboards
// know them.
func TestClientsAreNamedAsKafkaConnectNamesThem(t *testing.T) {
	t.Parallel()
	roles := map[connector.Role]string{
		connector.RecordProducer: "connector-producer-lines-2", connector.RecordConsumer: "connector-consumer-lines-2", connector.RecordAdmin: "connector-adminclient-lines-2",
		connector.SourceConsumer: "connector-consumer-lines-2|replication-consumer", connector.TargetAdmin: "connector-adminclient-lines-2|target-admin",
	}
	got, own := map[connector.Role]any{}, ""
	r, ended, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		for role := range roles {
			c, err := tc.Clients.Open(ctx, role)
			if err != nil {
				return err
			}
			got[role] = c.OptValue(kgo.ClientID)
			own = tc.Connector
		}
		return nil
	})
	r.Start(Run{ID: 1, Connector: "lines", Task: 2, Config: map[string]string{
		"source.cluster.bootstrap.servers": "127.0.0.1:1", "target.cluster.bootstrap.servers": "127.0.0.1:1",
		"producer.override.bootstrap.servers": "127.0.0.1:1", "consumer.override.bootstrap.servers": "127.0.0.1:1", "admin.override.bootstrap.servers": "127.0.0.1:1",
	}})
	if e := wait(t, ended, "end"); own == "" {
		t.Fatal(e.err)
	}
	for role, want := range roles {
		if got[role] != want {
			t.Errorf("%s: %v, want %s", role, got[role], want)
		}
	}
}
