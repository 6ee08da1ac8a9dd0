// Package txn ends the transactions of franz-go's producers.
//
// Easy to get wrong: kgo.EndTransaction commits the partitions that the client knows, and with the first records of a topic,
// franz-go 1.22 hands them to the broker before it stores that it knows their partitions. When the broker is faster, a
// commit finds nothing to commit and says that all is well: with transaction.version 2 what was written is aborted, before
// that it stays open until somebody else's transaction takes it in or aborts it. So nothing else here calls EndTransaction to commit.
package txn

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Commit commits the open transaction of client: what was produced in it has been acknowledged, and nothing is produced
// meanwhile. An error of kgo.EndTransaction says nothing about the outcome, unless it is one of being fenced.
func Commit(ctx context.Context, client *kgo.Client) error {
	// There is nothing left to abort. But this waits until kgo has let go of what it holds while it hands over
	// the first records of a topic, and by then it has stored their partitions.
	if err := client.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("wait for what was produced: %w", err)
	}
	return client.EndTransaction(ctx, kgo.TryCommit)
}
