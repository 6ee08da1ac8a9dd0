package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// show writes v as --output says: as JSON or YAML, or as the table that draw makes.
func (c *cli) show(v any, draw func(t *table)) error {
	switch c.output {
	case "json":
		return writeJSON(c.stdout, v)
	case "yaml":
		text, err := toYAML(v)
		if err != nil {
			return err
		}
		_, err = c.stdout.Write(text)
		return err
	}
	t := &table{colour: c.coloured(c.stdout)}
	draw(t)
	return t.write(c.stdout)
}

// writeJSON writes v for people too: $<file:…> stays readable.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// toYAML writes v with the names and the order that its JSON has.
func toYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil { // JSON is YAML
		return nil, err
	}
	plain(&node)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// plain takes JSON's braces and quotes away; the encoder quotes what needs it.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}

// table is lines of cells in columns, without borders.
type table struct {
	colour bool
	blocks []block
}

// block is lines with common columns, or, without cells, text.
type block struct {
	text  string
	lines [][]string
}

// header begins new columns.
func (t *table) header(names ...string) { t.blocks = append(t.blocks, block{lines: [][]string{names}}) }

// row adds a line to the columns.
func (t *table) row(cells ...string) {
	last := &t.blocks[len(t.blocks)-1]
	last.lines = append(last.lines, cells)
}

// text adds a line of its own.
func (t *table) text(format string, args ...any) {
	t.blocks = append(t.blocks, block{text: fmt.Sprintf(format, args...)})
}

func (t *table) write(w io.Writer) error {
	var out strings.Builder
	for _, b := range t.blocks {
		if b.lines == nil {
			out.WriteString(b.text + "\n")
			continue
		}
		t.columns(&out, b.lines)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (t *table) columns(out *strings.Builder, lines [][]string) {
	var widths []int
	numeric := map[int]bool{}
	for i, line := range lines {
		for j, cell := range line {
			if j == len(widths) {
				widths = append(widths, 0)
				numeric[j] = true
			}
			widths[j] = max(widths[j], utf8.RuneCountInString(cell))
			if i > 0 && !isNumber(cell) {
				numeric[j] = false
			}
		}
	}
	for i, line := range lines {
		for j, cell := range line {
			gap := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell))
			last := j == len(line)-1
			switch {
			case numeric[j] && len(lines) > 1:
				out.WriteString(gap)
				out.WriteString(t.paint(cell, i == 0))
			case last:
				out.WriteString(t.paint(cell, i == 0))
			default:
				out.WriteString(t.paint(cell, i == 0) + gap)
			}
			if !last {
				out.WriteString("  ")
			}
		}
		out.WriteByte('\n')
	}
}

func isNumber(cell string) bool {
	return cell == "" || cell == "-" || strings.Trim(cell, "0123456789.,") == "" || strings.HasSuffix(cell, "/s") || strings.HasSuffix(cell, "B")
}

// colours of the words that one looks for.
var colours = map[string]string{
	"RUNNING": "32", "healthy": "32", "alive": "32", "equal": "32",
	"PAUSED": "33", "STOPPED": "33", "UNASSIGNED": "33", "RESTARTING": "33", "DEGRADED": "33", "incomplete": "33", "starting": "33",
	"FAILED": "31", "gone": "31", "unhealthy": "31", "different": "31", "ERROR": "31",
}

func (t *table) paint(cell string, heading bool) string {
	code := colours[cell]
	if heading {
		code = "1"
	}
	if !t.colour || code == "" || cell == "" {
		return cell
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}

// amount writes a count of bytes for people.
func amount(n float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if n < 1000 {
			if unit == "B" || n >= 100 {
				return fmt.Sprintf("%.0f %s", n, unit)
			}
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1f TB", n)
}

// counted writes a number for people, in groups of three digits.
func counted(n int64) string {
	text := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}
