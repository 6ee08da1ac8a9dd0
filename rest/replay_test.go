package rest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// vector is a request to Kafka Connect 4.3.1 and its answer, recorded from one
// worker on an empty cluster that holds the topic t1 with 4 partitions. They are one story: the
// order matters.
type vector struct {
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

// differences are the answers that differ on purpose. A status of 0 means that
// only the body or the message differs.
var differences = map[string]struct {
	status int
	reason string
}{
	"content type bad":                {0, "Jetty answers with a page"},
	"empty segment delete":            {0, "Jetty answers without a body"},
	"backslash":                       {404, "such a name is no problem here"},
	"patch other name":                {400, "Connect stores another name than the connector's"},
	"stopped get":                     {0, "the other name"},
	"missing connector GET/topics":    {404, "not in this version"},
	"topics":                          {404, "not in this version"},
	"fence unsigned":                  {404, "not in this version"},
	"stopped task restart":            {0, "Connect words it as a rebalance"},
	"expand both other order":         {0, "the order of two fields"},
	"plugins":                         {0, "other plugins"},
	"plugins all":                     {0, "other plugins"},
	"plugins bad flag":                {0, "other plugins"},
	"plugins slash":                   {0, "other plugins"},
	"logger root":                     {0, "another level"},
	"loggers":                         {0, "other loggers"},
	"create unknown class":            {0, "other plugins"},
	"accept charset":                  {0, "Connect repeats the charset"},
	"create mirror bad converter":     {201, "converters are not used: records are copied as they are"},
	"validate producer acks":          {0, "refused overrides come without the definition of the client's key"},
	"restart onlyFailed":              {0, "how far the restart before has come"},
	"restart includeTasks onlyFailed": {0, "how far the restart before has come"},
}

func TestAnswersAreConnects(t *testing.T) {
	t.Parallel()
	vectors := readVectors(t, "testdata/connect-4.3.1.json")
	c := newCluster(t, 1)
	n := c.nodes[0]
	here := strings.NewReplacer("127.0.0.1:29092", c.bootstrap(), "127.0.0.1:28083", n.id)
	for _, v := range vectors {
		if v.Name == "bad escape" || v.Name == "null char" { // not let through by net/http: it answers 400 itself
			continue
		}
		if v.Body != nil {
			body := here.Replace(*v.Body)
			v.Body = &body
		}
		if v.Until != nil {
			n.waitFor("m1", v.Until.State, v.Until.Tasks)
		}
		got := ask(t, n.url, v.Method, v.Path, v.Headers, v.Body)
		for _, wrong := range compare(v, got, here) {
			t.Errorf("%s: %s %s %s\n %s\n Connect: %d %s\n ours:    %d %s", v.Name, v.Method, v.Path, text(v.Body), wrong,
				v.Answer.Status, text(v.Answer.Body), got.status, got.body)
		}
	}
}

func readVectors(t *testing.T, path string) (vectors []vector) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

// TestRefusalsAreConnects replays what the recorder in e2e/record has asked Kafka
// Connect about MirrorSource connectors, each with a connector of its own.
func TestRefusalsAreConnects(t *testing.T) {
	t.Parallel()
	for file, settings := range map[string]map[string]string{
		"rest.json":             nil,
		"policy-None.json":      {"connector.client.config.override.policy": "None"},
		"policy-Principal.json": {"connector.client.config.override.policy": "Principal"},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, settings)
			n := c.nodes[0]
			here := strings.NewReplacer("source:9092", c.bootstrap(), "target:9092", c.bootstrap(), "connect:8083", n.id)
			replayed := 0
			for _, v := range readVectors(t, "../e2e/vectors/"+file) {
				if !strings.Contains(text(v.Body), "MirrorSourceConnector") && v.Path != "/" && v.Path != "/health" {
					continue // about other connectors, or about one of those
				}
				replayed++
				if v.Body != nil {
					body := here.Replace(*v.Body)
					v.Body = &body
				}
				got := ask(t, n.url, v.Method, v.Path, v.Headers, v.Body)
				for _, wrong := range compare(v, got, here) {
					t.Errorf("%s: %s %s %s\n %s\n Connect: %d %s\n ours:    %d %s", v.Name, v.Method, v.Path, text(v.Body), wrong,
						v.Answer.Status, text(v.Answer.Body), got.status, got.body)
				}
				if got.status == 201 {
					n.remove(strings.TrimPrefix(got.header.Get("Location"), n.url+"/connectors/"))
				}
			}
			if replayed == 0 {
				t.Error("nothing was replayed")
			}
		})
	}
}

// remove deletes a connector and waits until it is gone.
func (n *node) remove(name string) {
	n.t.Helper()
	if err := n.client.Delete(n.t.Context(), name); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, func() string {
		if _, err := n.client.Connector(n.t.Context(), name); !IsNotFound(err) {
			return name + " is still there"
		}
		return ""
	})
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func compare(v vector, got received, here *strings.Replacer) (wrong []string) {
	differs, onPurpose := differences[v.Name]
	want := v.Answer.Status
	if differs.status != 0 {
		want = differs.status
	}
	if got.status != want {
		return []string{fmt.Sprintf("status %d, want %d", got.status, want)}
	}
	if l := v.Answer.Headers["Location"]; l != "" && got.header.Get("Location") != here.Replace(l) {
		wrong = append(wrong, fmt.Sprintf("Location %q, want %q", got.header.Get("Location"), here.Replace(l)))
	}
	if a := v.Answer.Headers["Allow"]; a != "" && !sameWords(a, got.header.Get("Allow")) {
		wrong = append(wrong, fmt.Sprintf("Allow %q, want %q", got.header.Get("Allow"), a))
	}
	if got.body != "" && got.header.Get("Content-Type") != jsonType && v.Method != "OPTIONS" {
		wrong = append(wrong, "Content-Type "+got.header.Get("Content-Type"))
	}
	if v.Answer.Body == nil || onPurpose || v.Method == "OPTIONS" {
		return wrong
	}
	if *v.Answer.Body == "" {
		if got.body != "" {
			wrong = append(wrong, "a body, want none")
		}
		return wrong
	}
	wantJSON, err := ordered(here.Replace(*v.Answer.Body))
	if err != nil {
		return append(wrong, err.Error())
	}
	gotJSON, err := ordered(got.body)
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
			if o, isObject := o.(object); isObject && o.fields["tasks"] != nil {
				o.fields["tasks"] = nil
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

func sameWords(a, b string) bool {
	split := func(s string) []string {
		words := strings.Split(strings.ReplaceAll(s, " ", ""), ",")
		slices.Sort(words)
		return words
	}
	return slices.Equal(split(a), split(b))
}

// object is a JSON object with its fields in order.
type object struct {
	keys   []string
	fields map[string]any
}

// ordered reads JSON and keeps the order of fields.
func ordered(s string) (any, error) {
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
		o := object{fields: map[string]any{}}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := orderedValue(d)
			if err != nil {
				return nil, err
			}
			o.keys = append(o.keys, key.(string))
			o.fields[key.(string)] = v
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
	case object:
		got, same := got.(object)
		if !same {
			return []string{at + " is no object"}
		}
		wantKeys, gotKeys := want.keys, got.keys
		if field == "config" {
			wantKeys, gotKeys = slices.Sorted(slices.Values(wantKeys)), slices.Sorted(slices.Values(gotKeys))
		}
		if !slices.Equal(wantKeys, gotKeys) {
			return []string{fmt.Sprintf("%s has the fields %v, want %v", at, gotKeys, wantKeys)}
		}
		for _, k := range wantKeys {
			wrong = append(wrong, differ(at+"."+k, want.fields[k], got.fields[k], loose)...)
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
