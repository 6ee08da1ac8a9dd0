package mirror

import (
	"testing"
	"time"
)

func TestTransactionsLastAsLongAsTheirEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ every, took, want time.Duration }{
		{pollBoundary, 10 * time.Millisecond, pollBoundary},
		{pollBoundary, 2 * time.Second, 2 * time.Second},
		{time.Minute, 2 * time.Second, time.Minute},
	} {
		if got := untilCommit(row.every, row.took); got != row.want {
			t.Errorf("every %v, the last end took %v: the next transaction lasts %v, want %v", row.every, row.took, got, row.want)
		}
	}
}
