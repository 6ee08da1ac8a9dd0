// Package differences holds what is seen of two replicators side by side against the list of differences in the
// documentation. The list is a table of Markdown, so that a reader sees what the test sees; it has to be exact: what is seen and not
// listed is wrong, and what is listed and not seen any more, too.
//
// It does nothing but compare text; who runs the replicators and looks is package e2e.
package differences

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// View is what a user sees of a scenario: what they look at, and what they find. What is not there has no entry.
type View map[string]string

// Nothing stands in a row for what is not there.
const Nothing = "nothing"

// Row is a difference: in a scenario, under these modes, What is one thing with MirrorMaker and another with us.
type Row struct {
	Scenario          string
	Modes             string // where it is seen: "REST", "dedicated", or "both"
	What              string
	MirrorMaker, Ours string
	// Why is not compared: why it is so, for the reader.
	Why string
}

// Modes in which a connector runs.
const (
	REST      = "REST"
	Dedicated = "dedicated"
	Both      = "both"
)

// header is that of the table.
var header = []string{"scenario", "mode", "what one looks at", "MirrorMaker 2", "Barnabas", "why"}

// String is one line.
func (r Row) String() string {
	return fmt.Sprintf("%s (%s): %s: MirrorMaker 2 has %s, Barnabas %s", r.Scenario, r.Modes, r.What, r.MirrorMaker, r.Ours)
}

// same says whether two rows tell the same.
func (r Row) same(o Row) bool {
	r.Why, o.Why = "", ""
	return r == o
}

// Compare returns a row for each thing that is not the same in both views, in the order of their names.
func Compare(scenario, mode string, mirrorMaker, ours View) []Row {
	all := maps.Clone(mirrorMaker)
	if all == nil {
		all = View{}
	}
	maps.Copy(all, ours)
	var rows []Row
	for _, what := range slices.Sorted(maps.Keys(all)) {
		theirs, there := mirrorMaker[what]
		own, here := ours[what]
		if there == here && theirs == own {
			continue
		}
		if !there {
			theirs = Nothing
		}
		if !here {
			own = Nothing
		}
		rows = append(rows, Row{Scenario: scenario, Modes: mode, What: clean(what), MirrorMaker: clean(theirs), Ours: clean(own)})
	}
	return rows
}

// clean makes text fit for a cell: one line, without space around it.
func clean(text string) string { return strings.Join(strings.Fields(text), " ") }

// Join makes one row of two that differ in nothing but the mode.
func Join(rows []Row) []Row {
	var joined []Row
	for _, r := range rows {
		i := slices.IndexFunc(joined, func(o Row) bool {
			o.Modes = r.Modes
			return o.same(r)
		})
		switch {
		case i < 0:
			joined = append(joined, r)
		case joined[i].Modes != r.Modes:
			joined[i].Modes = Both
		}
	}
	return joined
}

// Check holds what was seen against the list, and returns a line for each thing that is wrong: seen and not listed, listed and not
// seen, listed without a reason, or twice.
func Check(listed, seen []Row) (wrong []string) {
	for _, r := range seen {
		if !slices.ContainsFunc(listed, r.same) {
			wrong = append(wrong, "not listed: "+r.String())
		}
	}
	for i, r := range listed {
		switch {
		case !slices.ContainsFunc(seen, r.same):
			wrong = append(wrong, "listed, and not seen: "+r.String())
		case r.Why == "":
			wrong = append(wrong, "listed without a reason: "+r.String())
		case slices.ContainsFunc(listed[:i], r.same):
			wrong = append(wrong, "listed twice: "+r.String())
		}
	}
	return wrong
}

// Only are the rows of some scenarios.
func Only(rows []Row, scenarios ...string) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !slices.Contains(scenarios, r.Scenario) })
}

// Parse reads the table of differences in a document. There has to be exactly one.
func Parse(document string) ([]Row, error) {
	begin, end, err := find(strings.Split(document, "\n"))
	if err != nil {
		return nil, err
	}
	var rows []Row
	for i, line := range strings.Split(document, "\n")[begin+2 : end] {
		c := cells(line)
		if len(c) != len(header) {
			return nil, fmt.Errorf("line %d: %d cells, want %d (%s)", begin+3+i, len(c), len(header), strings.Join(header, ", "))
		}
		if !slices.Contains([]string{REST, Dedicated, Both}, c[1]) {
			return nil, fmt.Errorf("line %d: mode %q, want %s, %s or %s", begin+3+i, c[1], REST, Dedicated, Both)
		}
		rows = append(rows, Row{c[0], c[1], c[2], c[3], c[4], c[5]})
	}
	return rows, nil
}

// Replace puts rows in the place of those in a document. A row that stood there keeps its reason.
func Replace(document string, rows []Row) (string, error) {
	before, err := Parse(document)
	if err != nil {
		return "", err
	}
	lines := strings.Split(document, "\n")
	begin, end, _ := find(lines)
	table := []string{row(header), strings.Repeat("|---", len(header)) + "|"}
	for _, r := range rows {
		if i := slices.IndexFunc(before, r.same); i >= 0 {
			r.Why = before[i].Why
		}
		table = append(table, row([]string{r.Scenario, r.Modes, r.What, r.MirrorMaker, r.Ours, r.Why}))
	}
	return strings.Join(slices.Concat(lines[:begin], table, lines[end:]), "\n"), nil
}

// find returns the first line of the table and the first behind it.
func find(lines []string) (begin, end int, err error) {
	begin = -1
	for i, line := range lines {
		if slices.Equal(cells(line), header) {
			if begin >= 0 {
				return 0, 0, fmt.Errorf("lines %d and %d: two tables of differences", begin+1, i+1)
			}
			begin = i
		}
	}
	if begin < 0 || begin+1 >= len(lines) || !strings.HasPrefix(lines[begin+1], "|--") {
		return 0, 0, fmt.Errorf("no table of differences: its first line is %q", row(header))
	}
	for end = begin + 2; end < len(lines) && strings.HasPrefix(lines[end], "|"); end++ {
	}
	return begin, end, nil
}

// row writes a line of a table, cells reads one. A bar in a cell has a backslash before it.
func row(cells []string) string {
	escaped := make([]string, len(cells))
	for i, c := range cells {
		escaped[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	return "| " + strings.Join(escaped, " | ") + " |"
}

func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.TrimSpace(line), `\|`, bar)
	if len(line) < 2 || line[0] != '|' || line[len(line)-1] != '|' {
		return nil
	}
	all := strings.Split(line[1:len(line)-1], "|")
	for i, c := range all {
		all[i] = clean(strings.ReplaceAll(c, bar, "|"))
	}
	return all
}
