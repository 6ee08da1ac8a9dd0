package task

import (
	"context"
	"fmt"
	"log/slog"

	"barnabas/config"
)

// tooMany is the error of a connector that has planned more tasks than tasks.max (TooManyTasksException, KIP-1004). With
// tasks.max.enforce=false it may, and is only told. Task configurations that stand already are left to the connector,
// which is asked for a plan whenever it starts: Connect fails tasks until then.
func tooMany(ctx context.Context, connector string, tasks int, of config.Values, log *slog.Logger) error {
	most := of.Int("tasks.max")
	if tasks <= most {
		return nil
	}
	if !of.Bool("tasks.max.enforce") {
		log.WarnContext(ctx, "the connector has more tasks than tasks.max, as tasks.max.enforce=false allows", "tasks", tasks, "most", most)
		return nil
	}
	return &FinalError{fmt.Errorf("The connector %s has generated %d tasks, which is greater than %d, the maximum number of tasks it is configured to create. "+
		"This behaviour should be considered a bug and is disallowed. If necessary, it can be permitted by reconfiguring the connector with "+
		"'tasks.max.enforce' set to false; however, this option will be removed in a future release of Kafka Connect.", connector, tasks, most)}
}
