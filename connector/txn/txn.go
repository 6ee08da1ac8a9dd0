// Package txn ends the transactions of franz-go's producers.
//
// Easy to get wrong: kgo.EndTransaction ends it for the partitions that the client knows, and with the first records of a topic,
// franz-go 1.22 hands them to the broker before it stores that it knows their partitions. When the broker is faster, a
// commit finds nothing to commit and says that all is well: with transaction.version 2 what was written is aborted, before
// that it stays open until somebody else's transaction takes it in or aborts it. So nothing else here calls EndTransaction.
package txn

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// End commits or aborts the open transaction of client: what was produced in it has been acknowledged (what has not been is
// given up), and nothing is produced meanwhile. An error of a commit says nothing about its outcome.
func End(ctx context.Context, client *kgo.Client, how kgo.TransactionEndTry) error {
	// There is nothing left to give up. But this waits until kgo has let go of what it holds while it hands over
	// the first records of a topic, and by then it has stored their partitions.
	if err := client.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("wait for what was produced: %w", err)
	}
	return client.EndTransaction(ctx, how)
}
