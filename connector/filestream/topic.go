package filestream

import (
	"cmp"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/connector"
	"barnabas/connector/creation"
)

// createTopic makes the topic as the connector's topic.creation.* say (KIP-158), unless it is there. Without them, or with the worker's
// topic.creation.enable=false, it is left to the brokers, as in Kafka Connect.
func createTopic(ctx context.Context, tc connector.TaskContext, topic string) error {
	if tc.LeaveTopics {
		return nil
	}
	groups, err := creation.Parse(tc.Settings)
	if err != nil || groups == nil {
		return err
	}
	made, err := groups.For(topic)
	if err != nil {
		return err
	}
	client, err := tc.Clients.Open(ctx, connector.RecordAdmin)
	if err != nil {
		return err
	}
	admin := kadm.NewClient(client)
	there, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("list topic %s: %w", topic, err)
	}
	if there.Has(topic) {
		return nil
	}
	answer, err := admin.CreateTopic(ctx, made.Partitions, made.Replication, made.Configs, topic)
	if err == nil {
		return nil
	}
	// Another one may have made it meanwhile.
	if there, listErr := admin.ListTopics(ctx, topic); listErr == nil && there.Has(topic) {
		return nil
	}
	if answer.Err == nil { // no broker has answered
		return fmt.Errorf("Unable to create topic(s) '%s' as %s: %w", topic, tc.Clients.Principal(connector.RecordAdmin), err)
	}
	return fmt.Errorf("Unable to create topic(s) '%s': %s (%w, as %s)", topic, cmp.Or(answer.ErrMessage, "refused"), err, tc.Clients.Principal(connector.RecordAdmin))
}
