package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/connector"
	"barnabas/rest"
	"barnabas/worker"
)

// lines draws a table, without the blanks at the ends of its lines.
func lines(t *testing.T, draw func(*table)) string {
	t.Helper()
	tab := &table{}
	draw(tab)
	var out strings.Builder
	if err := tab.write(&out); err != nil {
		t.Fatal(err)
	}
	var trimmed []string
	for line := range strings.Lines(out.String()) {
		trimmed = append(trimmed, strings.TrimRight(line, " \n"))
	}
	return "\n" + strings.Join(trimmed, "\n") + "\n"
}

func TestReplicationIsDrawn(t *testing.T) {
	t.Parallel()
	r := rest.Replication{
		Connector: "orders", Status: "DEGRADED", Reason: "o-1: offsets 5 to 8: retention",
		Totals: rest.Totals{
			Partitions: 3, LagUnknown: 1, LagRecords: 1503, LagBytes: 90_000, LagSeconds: 12.34, RecordsPerSec: 100.4, BytesPerSec: 2_000_000,
			Decisions: map[string]int64{"raw": 1200, "decoded: compacted": 3},
		},
		Tasks: []worker.TaskReplication{
			{Task: 0, WorkerID: "a:1", State: "RUNNING", Delivery: connector.Fenced, Partitions: []connector.PartitionProgress{
				{Topic: "o", Partition: 10, Mode: "raw", LagRecords: 3, LagBytes: 300, LagBytesExact: true, LagSeconds: 0.5, BytesPerSec: 2_000_000, State: "RUNNING"},
				{Topic: "o", Partition: 1, Mode: "decoded", LagRecords: 1500, LagBytes: 89_700, LagSeconds: 12.34, State: "DEGRADED", Reason: "offsets 5 to 8: retention"},
			}},
			{Task: 1, WorkerID: "b:1", State: "FAILED", Trace: "no rights\n\tat x", Delivery: connector.Plain, Why: "no transactional id", Partitions: []connector.PartitionProgress{
				{Topic: "a", Mode: "raw", LagRecords: -1, LagBytes: -1, LagSeconds: -1, State: "RUNNING"},
			}},
		},
		Missing: []rest.MissingWorker{{WorkerID: "c:1", Reason: "The worker is gone."}},
	}
	want := `
orders: DEGRADED, delivery 1 task: fenced, 1 task: plain (no transactional id)
o-1: offsets 5 to 8: retention

TOPIC  PARTITION  MODE       LAG  LAG BYTES  LAG SECONDS      RATE  STATE     REASON
a              0  raw          -          -            -     0 B/s  RUNNING
o              1  decoded  1,500   ~89.7 kB         12.3     0 B/s  DEGRADED  offsets 5 to 8: retention
o             10  raw          3      300 B          0.5  2.0 MB/s  RUNNING

3 partitions by 2 tasks, 1,503 records behind (~90.0 kB, 12.3 s), the lag of 1 partition is not known, 100 records/s, 2.0 MB/s
batches: 3 decoded: compacted; 1,200 raw
task 1 on b:1: FAILED: no rights; at x
no answer from c:1: The worker is gone.
`
	if diff := cmp.Diff(want, lines(t, func(tab *table) { drawReplication(tab, r) })); diff != "" {
		t.Error(diff)
	}
}

func TestGapsAreDrawn(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 4, 5, 6, 0, time.UTC)
	g := rest.Gaps{Connector: "orders", Reason: "task 2 is paused and has not told its ledger", Tasks: []int{0}, Gaps: []rest.Gap{
		{Gap: connector.Gap{Topic: "o", Partition: 1, From: 5, To: 1505, Cause: "retention", At: at}, Records: 1500},
		{Task: 1, Gap: connector.Gap{Topic: "payments", From: 7, To: 8, Cause: "refused", Detail: "MESSAGE_TOO_LARGE", At: at.Add(time.Hour)}, Records: 1},
	}}
	want := `
TIME                  TASK  TOPIC     PARTITION  FROM     TO  RECORDS  CAUSE      DETAIL
2026-11-03T04:05:06Z     0  o                 1     5  1,505    1,500  retention
2026-11-03T05:05:06Z     1  payments          0     7      8        1  refused    MESSAGE_TOO_LARGE

2 gaps, 1,501 offsets; TO is the offset behind the last
These are perhaps not all: task 2 is paused and has not told its ledger
`
	if diff := cmp.Diff(want, lines(t, func(tab *table) { drawGaps(tab, g) })); diff != "" {
		t.Error(diff)
	}
}
