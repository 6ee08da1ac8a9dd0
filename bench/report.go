package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table lays out rows as Markdown, with columns wide enough to be read as text.
// All columns but the first are aligned to the right.
func table(header []string, rows [][]string) string {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var text strings.Builder
	line := func(row []string) {
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				text.WriteString("| " + cell + space)
			} else {
				text.WriteString(" | " + space + cell)
			}
		}
		text.WriteString(" |\n")
	}
	line(header)
	for i, w := range widths {
		if i == 0 {
			text.WriteString("|" + strings.Repeat("-", w+2))
		} else {
			text.WriteString("|" + strings.Repeat("-", w+1) + ":")
		}
	}
	text.WriteString("|\n")
	for _, row := range rows {
		line(row)
	}
	return text.String()
}

// figure writes a number with three digits, or as many as stand before the point.
func figure(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "–"
	case a >= 100:
		return fmt.Sprintf("%.0f", f)
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	case a == 0:
		return "0"
	case a >= 0.1:
		return fmt.Sprintf("%.2f", f)
	default:
		return fmt.Sprintf("%.3f", f)
	}
}

func times(f float64) string {
	if math.IsNaN(f) {
		return "–"
	}
	return figure(f) + " ×"
}

func millis(d time.Duration) string { return figure(float64(d)/float64(time.Millisecond)) + " ms" }

// write prints everything: goals first, since they are what one looks for.
func (r results) write(out io.Writer) error {
	var text strings.Builder
	text.WriteString("# Results of `make bench`\n\n")
	for _, c := range r.conditions {
		text.WriteString("- " + c + "\n")
	}
	if goals := r.goalRows(); len(goals) > 0 {
		text.WriteString("\n## Goals\n\n\"MirrorMaker 2's\" is the better of defaults and tuned, for latency, start and idleness that of the defaults.\n\n")
		text.WriteString(table([]string{"goal", "to reach", "reached", ""}, goals))
	}
	for _, data := range r.loaded {
		fmt.Fprintf(&text, "\n## %s\n\n%d records in %d partitions, %.1f a batch; %.0f MB of payload, %.0f MB on disk.\n\n",
			data.title, data.records, data.partitions, float64(data.records)/float64(data.batches), mega(data.payload()), mega(data.disk))
		text.WriteString(table([]string{
			"", "MB/s", "on disk", "of MM2", "of loop", "CPU-s/GB", "of MM2", "of loop", "source", "target", "others", "memory", "first", "written", "equal",
		}, r.copyRows(data.name)))
		text.WriteString(r.remarks(data.name))
	}
	if len(r.starts) > 0 {
		text.WriteString("\n## From the start of the process to the first record at the target\n\n")
		text.WriteString(table([]string{"", "cold", "again"}, r.startRows()))
	}
	if len(r.delays) > 0 {
		fmt.Fprintf(&text, "\n## Latency at %d records a second\n\nFrom producer to consumer at the target, less the same to a consumer at the source.\n\n", delayRate)
		text.WriteString(table([]string{"", "p50", "p99", "p99.9", "control p50", "control p99", "control p99.9", "records"}, r.delayRows()))
	}
	if len(r.idles) > 0 {
		text.WriteString("\n## Idle\n\n")
		text.WriteString(table([]string{"", "partitions", "CPU", "brokers' CPU", "memory", "peak"}, r.idleRows()))
	}
	text.WriteString("\n" + legend)
	_, err := io.WriteString(out, text.String())
	return err
}

// legend says what the columns are.
const legend = `## What the columns are

Everything about a copy is measured between its first and its last record at the target, from outside: by the offsets at the ends of its partitions.

- MB/s: payload (keys and values, uncompressed) in 10⁶ bytes a second; "on disk": the same in bytes of the source's logs.
- of MM2, of loop: that figure divided by the better one of MirrorMaker 2's defaults and tuned, and by the bare raw loop's.
- CPU-s/GB: processor time of the replicator's process for 10⁹ bytes of payload, user and system, all threads. source, target: the same of each broker.
- others: processors that everything else on the machine was using meanwhile, the benchmark itself included. Much more than 0.1 makes the row doubtful.
- memory: the most that was resident (VmHWM), from the start of the process to the end of the copy.
- first: from the start of the process to the first record at the target; internal topics, and for Barnabas the connector, have to be made first.
- written: bytes of the copy's logs for each byte of the source's.
- equal: "yes" if every record was compared with the source's, in order: key, value, headers, timestamp.
- raw fetch alone reads the topic three times and writes nothing. bare raw loop moves batches undecoded, keeps no offsets and survives no fault: the ceiling.
- MirrorMaker 2 runs once for each profile. The others run several times, in turn; the run with the median throughput counts, and the most memory of all.
- start, cold: with nothing there; again: with what a process before it has left when it was stopped.
`

func (r results) goalRows() [][]string {
	var rows [][]string
	for _, g := range r.goals() {
		if v := g.verdict(); v != "not measured" {
			rows = append(rows, []string{g.what, g.bound, figure(g.got) + g.unit, v})
		}
	}
	return rows
}

func (r results) copyRows(profile string) [][]string {
	var rows [][]string
	loop := r.find(profile, rawLoop)
	for _, c := range r.copies {
		switch {
		case c.profile != profile:
			continue
		case c.err != "":
			rows = append(rows, append([]string{string(c.kind), "failed"}, slices.Repeat([]string{""}, 13)...))
			continue
		}
		row := []string{
			string(c.kind), figure(c.rate()), figure(c.diskRate()),
			times(ratio(c.rate(), r.better(profile, copied.rate, true))), times(ratio(c.rate(), loop.rate())),
			figure(c.cpu()), times(ratio(c.cpu(), r.better(profile, copied.cpu, false))), times(ratio(c.cpu(), loop.cpu())),
			figure(c.perGB(c.used.source)), figure(c.perGB(c.used.target)), figure(c.others()),
		}
		if c.kind == rawFetch {
			row = append(row, "–", "–", "–", "–")
		} else {
			row = append(row, figure(mega(c.peak))+" MB", figure(c.first.Seconds())+" s", figure(c.written), c.equal)
		}
		rows = append(rows, row)
	}
	return rows
}

// remarks are what does not fit into the table: why something failed, and how the
// product said that it worked.
func (r results) remarks(profile string) string {
	var text strings.Builder
	for _, c := range r.copies {
		if c.profile != profile {
			continue
		}
		if c.err != "" {
			fmt.Fprintf(&text, "\n%s failed: %s\n", c.kind, strings.Join(strings.Fields(c.err), " "))
		}
		if c.modes != "" {
			fmt.Fprintf(&text, "\n%s said of itself: %s.\n", c.kind, c.modes)
		}
	}
	return text.String()
}

func (r results) startRows() [][]string {
	var rows [][]string
	for _, b := range r.starts {
		if b.err != "" {
			rows = append(rows, []string{string(b.kind), "failed", ""})
			continue
		}
		rows = append(rows, []string{string(b.kind), figure(b.cold.Seconds()) + " s", figure(b.again.Seconds()) + " s"})
	}
	return rows
}

func (r results) delayRows() [][]string {
	var rows [][]string
	for _, d := range r.delays {
		if d.err != "" {
			rows = append(rows, append([]string{string(d.kind), "failed"}, slices.Repeat([]string{""}, 6)...))
			continue
		}
		row := []string{string(d.kind)}
		for _, p := range []float64{50, 99, 99.9} {
			row = append(row, millis(d.above(p)))
		}
		for _, p := range []float64{50, 99, 99.9} {
			row = append(row, millis(percentile(d.control, p)))
		}
		rows = append(rows, append(row, fmt.Sprint(len(d.copied))))
	}
	return rows
}

func (r results) idleRows() [][]string {
	var rows [][]string
	for _, i := range r.idles {
		if i.err != "" {
			rows = append(rows, append([]string{string(i.kind), fmt.Sprint(i.partitions), "failed"}, slices.Repeat([]string{""}, 3)...))
			continue
		}
		rows = append(rows, []string{
			string(i.kind), fmt.Sprint(i.partitions), figure(100*i.cpu) + " %", figure(100*i.brokers) + " %",
			figure(mega(i.now)) + " MB", figure(mega(i.peak)) + " MB",
		})
	}
	return rows
}
