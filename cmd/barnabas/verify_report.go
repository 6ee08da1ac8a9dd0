package main

import (
	"fmt"
	"strconv"
	"time"

	"barnabas/connector/mirror"
)

// maxVerdicts is how many partitions without a difference a table shows.
const maxVerdicts = 50

func drawVerdict(t *table, r mirror.VerifyReport) {
	t.header("TOPIC", "PARTITION", "SOURCE", "TARGET", "MISSING", "DIFFERENT", "EXTRA", "OUT OF ORDER", "DOUBLED", "VERDICT")
	left := 0
	row := func(topic, partition string, c mirror.VerifyCounts, verdict string) {
		t.row(topic, partition, counted(c.Source), counted(c.Target), counted(c.Missing), counted(c.Different), counted(c.Extra),
			counted(c.OutOfOrder), counted(c.Doubled), verdict)
	}
	for _, p := range r.Partitions {
		if p.Equal() && len(r.Partitions) > maxVerdicts {
			left++
			continue
		}
		row(p.Topic, fmt.Sprint(p.Partition), p.VerifyCounts, verdictWord(p.VerifyCounts, p.Equal()))
	}
	row("total", fmt.Sprint(len(r.Partitions)), r.Totals, verdictWord(r.Totals, r.Equal))
	if left > 0 {
		t.text("%s without a difference not shown", plural(left, "partition"))
	}
	for _, p := range r.Partitions {
		drawFindings(t, p)
	}
	drawExtent(t, r)
}

// verdictWord tells what differs from what could not be compared to the end.
func verdictWord(c mirror.VerifyCounts, equal bool) string {
	switch {
	case equal:
		return "equal"
	case c.Differs():
		return "different"
	}
	return "incomplete"
}

// drawFindings says where to look for what is wrong with a partition, and what
// could not be compared.
func drawFindings(t *table, p mirror.PartitionVerdict) {
	name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
	named := map[string]int64{}
	for _, d := range p.Differences {
		named[d.Kind] += d.Records
		t.text("%s: %s", name, differenceLine(d))
	}
	for _, k := range []struct {
		kind  string
		count int64
	}{{"missing", p.Missing}, {"different", p.Different}, {"extra", p.Extra}, {"out-of-order", p.OutOfOrder}, {"doubled", p.Doubled}} {
		if more := k.count - named[k.kind]; more > 0 {
			t.text("%s: and %s %s", name, counting(more, "more record"), k.kind)
		}
	}
	for _, n := range []struct {
		count      int64
		what, tell string
	}{
		{p.Expired, "record", "of the target older than what the source still has"},
		{p.Gone, "record", "of the source older than what the target still has"},
		{p.Superseded, "key", "that got newer records meanwhile"},
		{p.Unkeyed, "record", "without a key, which compaction may have dropped"},
	} {
		if n.count > 0 {
			t.text("%s: not compared: %s %s", name, counting(n.count, n.what), n.tell)
		}
	}
	if !p.Timestamps {
		t.text("%s: timestamps were not compared: the target gives records its own", name)
	}
	if p.SourceDigest != "" {
		t.text("%s: digests %s at the source, %s at the target", name, p.SourceDigest, p.TargetDigest)
	}
	if p.Error != "" {
		t.text("%s: not compared to the end: %s", name, p.Error)
	}
}

// differenceLine says what is wrong with a stretch of records, and where.
func differenceLine(d mirror.Difference) string {
	at := func(first int64, records int64, side string) string {
		text := "offset " + strconv.FormatInt(first, 10)
		if records > 1 {
			text = fmt.Sprintf("offsets %d to %d", first, first+records-1)
		}
		return text + " of the " + side
	}
	switch {
	case d.Target == nil: // others between them may be there, so the last one is not known
		text := d.Kind + ": offset " + strconv.FormatInt(*d.Source, 10) + " of the source"
		if d.Records > 1 {
			text += fmt.Sprintf(" and %s behind it", counting(d.Records-1, "more record"))
		}
		return text
	case d.Source == nil:
		return d.Kind + ": " + at(*d.Target, d.Records, "target")
	}
	return d.Kind + ": " + at(*d.Source, d.Records, "source") + ", " + at(*d.Target, d.Records, "target")
}

// drawExtent says how much was compared, and how.
func drawExtent(t *table, r mirror.VerifyReport) {
	var keyed int
	var offsets, compared int64
	for _, p := range r.Partitions {
		if p.Method == mirror.MethodKeys || p.Method == mirror.MethodSomeKeys {
			keyed++
		}
		offsets, compared = offsets+p.SourceEnd-p.SourceStart, compared+p.Compared
	}
	t.text("\n%s of both sides in %s, %s/s", amount(float64(r.Bytes)), time.Duration(r.Duration*float64(time.Second)).Round(time.Millisecond), amount(r.Rate*1e6))
	if r.Totals.Resumed > 0 {
		t.text("%s had been compared before", counting(r.Totals.Resumed, "record"))
	}
	if r.Sample > 0 {
		t.text("A sample: %s of %s; --sample %s --seed %d takes it again", counted(compared), counting(offsets, "offset"), strconv.FormatFloat(100*r.Sample, 'g', 6, 64)+"%", r.Seed)
	}
	if keyed > 0 {
		t.text("Of %s the newest record of each key was compared (%s): compaction has been there", plural(keyed, "partition"), counting(r.Totals.Keys, "key"))
	}
	if !r.Committed {
		t.text("Uncommitted records of the source were compared, too (isolation.level)")
	}
}
