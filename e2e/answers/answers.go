// Package answers compares answers of the REST API with those of Kafka Connect: recorded ones, or those of a Connect that
// runs beside. docs/connect-differences.md names those that differ on purpose; Differences reads it, so that nothing differs
// that is not written there.
package answers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Exchange is a request to Kafka Connect 4.3.1 and its answer.
type Exchange struct {
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    *string           `json:"body"`
	// Until says what to wait for before the request.
	Until *struct {
		State string `json:"state"`
		Tasks int    `json:"tasks"`
	} `json:"until"`
	Answer struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    *string           `json:"body"` // nil: a page of Jetty's, or too long
	} `json:"answer"`
}

// Text is a body; empty if there is none.
func Text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Read reads a file of exchanges.
func Read(path string) (all []Exchange, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(raw, &all)
}

// Difference is an answer that differs on purpose. A Status of 0 means that only the body differs.
type Difference struct {
	Status int
	Reason string
}

// Differences reads the tables of docs/connect-differences.md: | `NAME` | request | status, or body | why |.
func Differences(path string) (map[string]Difference, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string]Difference{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[0], "| `") {
			continue
		}
		d := Difference{Reason: strings.TrimSuffix(cells[3], " |")}
		if cells[2] != "body" {
			if d.Status, err = strconv.Atoi(cells[2]); err != nil {
				return nil, fmt.Errorf("%s: %q is neither a status nor \"body\"", path, cells[2])
			}
		}
		all[strings.Trim(strings.TrimPrefix(cells[0], "| "), "`")] = d
	}
	return all, nil
}

// Received is an answer of ours.
type Received struct {
	Status int
	Header http.Header
	Body   string
}

const jsonType = "application/json"

// Compare says in what an answer differs from Connect's. here puts the addresses of this run in the place of those of the exchange.
func Compare(v Exchange, got Received, here *strings.Replacer, differences map[string]Difference) (wrong []string) {
	differs, onPurpose := differences[v.Name]
	want := v.Answer.Status
	if differs.Status != 0 {
		want = differs.Status
	}
	if got.Status != want {
		return []string{fmt.Sprintf("status %d, want %d", got.Status, want)}
	}
	if l := v.Answer.Headers["Location"]; l != "" && got.Header.Get("Location") != here.Replace(l) {
		wrong = append(wrong, fmt.Sprintf("Location %q, want %q", got.Header.Get("Location"), here.Replace(l)))
	}
	if a := v.Answer.Headers["Allow"]; a != "" && !SameWords(a, got.Header.Get("Allow")) {
		wrong = append(wrong, fmt.Sprintf("Allow %q, want %q", got.Header.Get("Allow"), a))
	}
	if got.Body != "" && got.Header.Get("Content-Type") != jsonType && v.Method != "OPTIONS" {
		wrong = append(wrong, "Content-Type "+got.Header.Get("Content-Type"))
	}
	if v.Answer.Body == nil || onPurpose || v.Method == "OPTIONS" {
		return wrong
	}
	if *v.Answer.Body == "" {
		if got.Body != "" {
			wrong = append(wrong, "a body, want none")
		}
		return wrong
	}
	wantJSON, err := Ordered(here.Replace(*v.Answer.Body))
	if err != nil {
		return append(wrong, err.Error())
	}
	gotJSON, err := Ordered(got.Body)
	if err != nil {
		return append(wrong, err.Error())
	}
	// What Jackson says of a wrong body names Java classes.
	loose := v.Answer.Status == 500
	at := ""
	switch {
	case v.Method == "GET" && strings.HasSuffix(v.Path, "/config"):
		at = ".config"
	case v.Method != "GET" && v.Answer.Status == 200: // new tasks come in their time
		for _, o := range []any{wantJSON, gotJSON} {
			if o, isObject := o.(Object); isObject && o.Fields["tasks"] != nil {
				o.Fields["tasks"] = nil
			}
		}
	}
	return append(wrong, differ(at, wantJSON, gotJSON, loose)...)
}

func sortedLines(v any) any {
	lines := strings.Split(fmt.Sprint(v), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// SameWords compares comma lists, in any order.
func SameWords(a, b string) bool {
	split := func(s string) []string {
		words := strings.Split(strings.ReplaceAll(s, " ", ""), ",")
		slices.Sort(words)
		return words
	}
	return slices.Equal(split(a), split(b))
}

// Object is a JSON object with its fields in order.
type Object struct {
	Keys   []string
	Fields map[string]any
}

// Ordered reads JSON and keeps the order of fields.
func Ordered(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	return orderedValue(d)
}

func orderedValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := orderedValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	case json.Delim('{'):
		o := Object{Fields: map[string]any{}}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := orderedValue(d)
			if err != nil {
				return nil, err
			}
			o.Keys = append(o.Keys, key.(string))
			o.Fields[key.(string)] = v
		}
		_, err = d.Token()
		return o, err
	}
	return token, nil
}

// own are fields whose value is each worker's own.
var own = []string{"version", "commit", "kafka_cluster_id", "worker_id", "last_modified"}

// differ compares two values: types, fields and their order (but for
// configurations, which are maps), and values but for those that are a worker's own.
func differ(at string, want, got any, loose bool) (wrong []string) {
	field := at[strings.LastIndex(at, ".")+1:]
	switch want := want.(type) {
	case Object:
		got, same := got.(Object)
		if !same {
			return []string{at + " is no object"}
		}
		wantKeys, gotKeys := want.Keys, got.Keys
		if field == "config" {
			wantKeys, gotKeys = slices.Sorted(slices.Values(wantKeys)), slices.Sorted(slices.Values(gotKeys))
		}
		if !slices.Equal(wantKeys, gotKeys) {
			return []string{fmt.Sprintf("%s has the fields %v, want %v", at, gotKeys, wantKeys)}
		}
		for _, k := range wantKeys {
			wrong = append(wrong, differ(at+"."+k, want.Fields[k], got.Fields[k], loose)...)
		}
		return wrong
	case []any:
		got, same := got.([]any)
		if !same || len(got) != len(want) {
			return []string{fmt.Sprintf("%s has not %d elements", at, len(want))}
		}
		if field == "tasks" { // Connect lists what it restarts in no order
			slices.SortFunc(want, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			slices.SortFunc(got, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		for i := range want {
			wrong = append(wrong, differ(fmt.Sprintf("%s[%d]", at, i), want[i], got[i], loose)...)
		}
		return wrong
	}
	if slices.Contains(own, field) || loose && field == "message" {
		return nil
	}
	if field == "message" { // Connect lists refused overrides in no order
		want, got = sortedLines(want), sortedLines(got)
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, want %v", at, got, want)}
	}
	return nil
}
