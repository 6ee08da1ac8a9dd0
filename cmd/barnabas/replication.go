package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/connector"
	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) replicationCommand() *cobra.Command {
	cmd := c.named("replication CONNECTOR", "Show how far a connector has copied each partition", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		r, err := client.Replication(ctx, name)
		if err != nil {
			return err
		}
		return c.show(r, func(t *table) { drawReplication(t, r) })
	})
	cmd.Example = "  barnabas replication orders\n  barnabas replication gaps orders\n  barnabas replication -- gaps   # of a connector with that name"
	cmd.AddCommand(c.named("gaps CONNECTOR", "List what the copy lacks: the gap ledger", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		g, err := client.Gaps(ctx, name)
		if err != nil {
			return err
		}
		return c.show(g, func(t *table) { drawGaps(t, g) })
	}))
	return cmd
}

func drawReplication(t *table, r rest.Replication) {
	line := fmt.Sprintf("%s: %s", r.Connector, r.Status)
	if how := deliveries(r.Tasks); how != "" {
		line += ", " + how
	}
	t.text("%s", line)
	if r.Reason != "" {
		t.text("%s", r.Reason)
	}
	t.text("")
	t.header("TOPIC", "PARTITION", "MODE", "LAG", "LAG BYTES", "LAG SECONDS", "RATE", "STATE", "REASON")
	var lines []connector.PartitionProgress
	for _, task := range r.Tasks {
		lines = append(lines, task.Partitions...)
	}
	slices.SortFunc(lines, func(a, b connector.PartitionProgress) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for _, p := range lines {
		t.row(p.Topic, partitionNumber(p.Partition), p.Mode, offset(p.LagRecords), lagBytes(p.LagBytes, p.LagBytesExact), lagSeconds(p.LagSeconds),
			amount(p.BytesPerSec)+"/s", p.State, oneLine(p.Reason))
	}
	t.text("\n%s", summary(r))
	if len(r.Totals.Decisions) > 0 {
		var batches []string
		for _, d := range slices.Sorted(maps.Keys(r.Totals.Decisions)) {
			batches = append(batches, counted(r.Totals.Decisions[d])+" "+d)
		}
		t.text("batches: %s", strings.Join(batches, "; "))
	}
	for _, task := range r.Tasks {
		if task.Trace != "" {
			t.text("task %d on %s: %s: %s", task.Task, task.WorkerID, task.State, oneLine(task.Trace))
		}
	}
	for _, n := range r.Notes {
		t.text("since %s: %s", n.Since.UTC().Format(time.RFC3339), oneLine(n.Text))
	}
	for _, m := range r.Missing {
		t.text("no answer from %s: %s", m.WorkerID, m.Reason)
	}
}

// deliveries says how the tasks write, and why not as they were asked to.
func deliveries(tasks []worker.TaskReplication) string {
	type manner struct {
		delivery connector.Delivery
		why      string
	}
	count := map[manner]int{}
	var manners []manner
	for _, t := range tasks {
		m := manner{t.Delivery, oneLine(t.Why)}
		if m.delivery == "" {
			continue
		}
		if count[m]++; count[m] == 1 {
			manners = append(manners, m)
		}
	}
	var parts []string
	for _, m := range manners {
		part := string(m.delivery)
		if len(manners) > 1 {
			part = fmt.Sprintf("%s: %s", plural(count[m], "task"), part)
		}
		if m.why != "" {
			part += " (" + m.why + ")"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	return "delivery " + strings.Join(parts, ", ")
}

// summary is the last line: how far the copy is as a whole.
func summary(r rest.Replication) string {
	sum := r.Totals
	text := fmt.Sprintf("%s by %s", plural(sum.Partitions, "partition"), plural(len(r.Tasks), "task"))
	if sum.LagRecords >= 0 {
		text += fmt.Sprintf(", %s behind", counting(sum.LagRecords, "record"))
		if sum.LagRecords > 0 {
			text += fmt.Sprintf(" (%s, %s s)", lagBytes(sum.LagBytes, sum.LagBytesExact), lagSeconds(sum.LagSeconds))
		}
	}
	if sum.LagUnknown > 0 {
		text += fmt.Sprintf(", the lag of %s is not known", plural(sum.LagUnknown, "partition"))
	}
	return text + fmt.Sprintf(", %.0f records/s, %s/s", sum.RecordsPerSec, amount(sum.BytesPerSec))
}

func counting(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return counted(n) + " " + noun + "s"
}

// lagBytes marks an estimate with a tilde.
func lagBytes(n int64, exact bool) string {
	switch {
	case n < 0:
		return "-"
	case exact:
		return amount(float64(n))
	}
	return "~" + amount(float64(n))
}

func lagSeconds(s float64) string {
	if s < 0 {
		return "-"
	}
	return strconv.FormatFloat(s, 'f', 1, 64)
}

func drawGaps(t *table, g rest.Gaps) {
	if len(g.Gaps) > 0 {
		t.header("TIME", "TASK", "TOPIC", "PARTITION", "FROM", "TO", "RECORDS", "CAUSE", "DETAIL")
	}
	var records int64
	for _, gap := range g.Gaps {
		records += gap.Records
		t.row(gap.At.UTC().Format(time.RFC3339), strconv.Itoa(gap.Task), gap.Topic, strconv.Itoa(int(gap.Partition)), counted(gap.From), counted(gap.To),
			counted(gap.Records), oneLine(gap.Cause), oneLine(gap.Detail))
	}
	switch {
	case len(g.Gaps) > 0:
		t.text("\n%s, %s; TO is the offset behind the last", plural(len(g.Gaps), "gap"), counting(records, "offset"))
	case g.Complete:
		t.text("%s has no gaps.", g.Connector)
	default:
		t.text("No gaps of %s are known.", g.Connector)
	}
	if !g.Complete {
		t.text("These are perhaps not all: %s", g.Reason)
	}
}

func offset(n int64) string {
	if n < 0 {
		return "-"
	}
	return counted(n)
}

// partitionNumber shows -1 as what it stands for.
func partitionNumber(n int32) string {
	if n < 0 {
		return "all"
	}
	return strconv.Itoa(int(n))
}
