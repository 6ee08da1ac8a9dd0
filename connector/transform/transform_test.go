package transform

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"barnabas/config"
	"barnabas/connector/rawcopy"
)

// vector is what Kafka Connect 4.3.1 did (testdata/Record.java).
type vector struct {
	Kind, Type, Topic, WantTopic, Error, Schema string
	Config                                      map[string]string
	Value, Want                                 *string
	Groups                                      []string
	Configs                                     []config.Info
}

func vectors(t *testing.T, kind string) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all, some []vector
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Kind == kind {
			some = append(some, v)
		}
	}
	return some
}

func settings(class string, more map[string]string) map[string]string {
	written := map[string]string{"transforms": "X", "transforms.X.type": transforms + class}
	for k, v := range more {
		written["transforms.X."+k] = v
	}
	return written
}

func TestTransformsDoWhatConnectsDo(t *testing.T) {
	t.Parallel()
	done := 0
	for _, v := range vectors(t, "apply") {
		if v.Type == "TimestampRouter" {
			continue
		}
		chain, problems := Parse(settings(v.Type, v.Config))
		if len(problems) > 0 {
			if v.Error == "" {
				t.Errorf("%s %v is refused: %v", v.Type, v.Config, problems)
			}
			continue
		}
		plan := chain.For(v.Topic)
		r := rawcopy.Record{}
		of := &r.Value
		if strings.HasSuffix(v.Type, "$Key") {
			of = &r.Key
		}
		if v.Value != nil {
			*of = []byte(*v.Value)
		}
		_, err := plan.Apply(&r)
		name := v.Type + " " + strings.Join([]string{v.Topic, v.Config["fields"], v.Config["replacement"]}, " ")
		if v.Value != nil && strings.Contains(*v.Value, "trailing") {
			if err == nil {
				t.Errorf("%s: what follows an object was accepted", name)
			}
			continue
		}
		if (err != nil) != (v.Error != "") {
			t.Errorf("%s of %v: error %v, Connect's %q", name, v.Value, err, v.Error)
			continue
		}
		done++
		switch {
		case err != nil:
			if !strings.HasSuffix(err.Error(), v.Error) && !strings.Contains(v.Error, "serialization") {
				t.Errorf("%s: error %v, Connect's %q", name, err, v.Error)
			}
		case v.Type == "RegexRouter":
			if plan.Topic != v.WantTopic || plan.Decodes() {
				t.Errorf("%v of %s gives %s, Connect's %s", v.Config, v.Topic, plan.Topic, v.WantTopic)
			}
		case v.Want == nil:
			if *of != nil && string(*of) != "null" {
				t.Errorf("%s gives %s, Connect's null", name, *of)
			}
		default:
			if !sameJSON(*of, []byte(*v.Want)) {
				t.Errorf("%s gives\n%s, Connect's\n%s", name, *of, *v.Want)
			}
		}
	}
	if done < 200 {
		t.Errorf("only %d vectors", done)
	}
}

// sameJSON leaves out "j", a number beyond 64 bits: Connect wraps it around, ours stays as it is.
func sameJSON(a, b []byte) bool {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	delete(x, "j")
	delete(y, "j")
	return reflect.DeepEqual(x, y)
}

func TestLiteralsBecomeConnectsHeaders(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "literal") {
		got, err := literal(*v.Value)
		if err != nil {
			continue // refused
		}
		want := []byte(nil)
		if v.Want != nil {
			want = []byte(*v.Want)
		}
		if !bytes.Equal(got, want) || (got == nil) != (v.Want == nil) {
			t.Errorf("%q gives %q, Connect's %q (%s)", *v.Value, got, want, v.Schema)
		}
	}
}

func TestValidationDescribesKeysAsConnect(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "validate") {
		if v.Config["transforms.X.type"] == "java.lang.String" {
			continue // no class path here
		}
		got := Infos(v.Config)
		want := map[string]config.Info{}
		for _, c := range v.Configs {
			want[c.Value.Name] = c
		}
		for _, c := range got.Configs {
			w := want[c.Value.Name]
			known := w.Definition != nil
			if !known && len(v.Config) > 1 {
				if strings.HasSuffix(c.Value.Name, ".type") {
					t.Errorf("%v: Connect does not have %s", v.Config, c.Value.Name)
				}
				continue
			}
			if known && !reflect.DeepEqual(c.Definition, w.Definition) {
				t.Errorf("%s\ngot  %+v\nwant %+v", c.Value.Name, c.Definition, w.Definition)
			}
			if len(c.Value.Errors) == 0 && len(w.Value.Errors) > 0 || len(c.Value.Errors) > 0 && len(w.Value.Errors) == 0 {
				t.Errorf("%v: errors of %s are %q, Connect's %q", v.Config, c.Value.Name, c.Value.Errors, w.Value.Errors)
			} else if len(w.Value.Errors) > 0 && c.Value.Errors[0] != w.Value.Errors[0] && !strings.Contains(w.Value.Errors[0], "Unclosed group") {
				t.Errorf("%v: error of %s is %q, Connect's %q", v.Config, c.Value.Name, c.Value.Errors[0], w.Value.Errors[0])
			}
		}
	}
}

func TestUntouchedBytesStay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ class, text, want string }{
		{"MaskField$Value", "{ \"z\" : 1.50e1 ,\n\t\"a\":\"secret\", \"u\":\"\\u00e9\", \"n\":12345678901234567890123 }", "{ \"z\" : 1.50e1 ,\n\t\"a\":\"\", \"u\":\"\\u00e9\", \"n\":12345678901234567890123 }"},
		{"MaskField$Value", `{"\u0061":{"x":[1,{"a":2}]},"b":{}}`, `{"\u0061":{},"b":{}}`},
		{"MaskField$Value", ` { } `, ` { "a":null} `},
		{"ReplaceField$Value", "{ \"z\" : 1.50e1 ,\n\t\"a\":\"secret\", \"n\":1.0 } ", "{ \"z\" : 1.50e1, \"n\":1.0} "},
		{"ReplaceField$Value", `{"a":1, "b":[ ], "c":{ }}`, `{ "b":[ ], "c":{ }}`},
		{"ReplaceField$Value", `{"b":[ ] , "c":{"a":1}}`, `{"b":[ ] , "c":{"a":1}}`},
	} {
		chain, problems := Parse(settings(row.class, map[string]string{"fields": "a", "exclude": "a"}))
		r := rawcopy.Record{Value: []byte(row.text)}
		if keep, err := chain.For("t").Apply(&r); len(problems) > 0 || err != nil || !keep || string(r.Value) != row.want {
			t.Errorf("%s of %s gives %s, want %s (%v, %v)", row.class, row.text, r.Value, row.want, err, problems)
		}
	}
}

func TestPredicatesDecide(t *testing.T) {
	t.Parallel()
	written := map[string]string{
		"transforms": "route,drop,mark,clean", "predicates": "audit,tomb,kept",
		"predicates.audit.type": predicates + "TopicNameMatches", "predicates.audit.pattern": "eu\\.audit.*",
		"predicates.tomb.type": predicates + "RecordIsTombstone",
		"predicates.kept.type": predicates + "HasHeaderKey", "predicates.kept.name": "keep",
		"transforms.route.type": transforms + "RegexRouter", "transforms.route.regex": "us\\.(.*)", "transforms.route.replacement": "eu.$1",
		"transforms.drop.type": transforms + "Filter", "transforms.drop.predicate": "tomb",
		"transforms.mark.type": transforms + "InsertHeader", "transforms.mark.header": "from", "transforms.mark.value.literal": "us", "transforms.mark.predicate": "audit",
		"transforms.clean.type": transforms + "DropHeaders", "transforms.clean.headers": "a, b", "transforms.clean.predicate": "kept", "transforms.clean.negate": "true",
	}
	chain, problems := Parse(written)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	header := func(k string) rawcopy.Header { return rawcopy.Header{Key: []byte(k), Value: []byte(k)} }
	for _, row := range []struct {
		topic   string
		record  rawcopy.Record
		keep    bool
		headers string
	}{
		{"us.audit", rawcopy.Record{Value: []byte("x"), Headers: []rawcopy.Header{header("a"), header("c")}}, true, "c from"},
		{"us.audit", rawcopy.Record{Value: []byte("x"), Headers: []rawcopy.Header{header("a"), header("keep")}}, true, "a keep from"},
		{"us.orders", rawcopy.Record{Value: []byte{}}, true, ""},
		{"us.orders", rawcopy.Record{}, false, ""},
	} {
		plan := chain.For(row.topic)
		keep, err := plan.Apply(&row.record)
		var names []string
		for _, h := range row.record.Headers {
			names = append(names, string(h.Key))
		}
		if err != nil || keep != row.keep || keep && strings.Join(names, " ") != row.headers || !strings.HasPrefix(plan.Topic, "eu.") {
			t.Errorf("%s: keep %v, headers %q in %s, want %v, %q (%v)", row.topic, keep, names, plan.Topic, row.keep, row.headers, err)
		}
	}
}

func TestChainsThatCannotRunAreRefused(t *testing.T) {
	t.Parallel()
	for key, written := range map[string]map[string]string{
		"transforms.X.type":        settings("TimestampRouter", nil),
		"transforms.X.replacement": settings("RegexRouter", map[string]string{"regex": "a", "replacement": "$1"}),
		"transforms.X.regex":       settings("RegexRouter", map[string]string{"regex": "(?=a)", "replacement": "b"}),
		"transforms.X.predicate":   settings("Filter", map[string]string{"predicate": "nope"}),
		"transforms.X.header":      settings("InsertHeader", map[string]string{"header": "${file:/x:y}", "value.literal": "a"}),
		"predicates.P.pattern": {
			"transforms": "X", "transforms.X.type": transforms + "Filter", "predicates": "P",
			"predicates.P.type": predicates + "TopicNameMatches", "predicates.P.pattern": "(a)\\1",
		},
	} {
		if _, problems := Parse(written); len(problems) != 1 || problems[0].Key != key {
			t.Errorf("%v: problems %v, want one of %s", written, problems, key)
		}
	}
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[{"c":"\\\""}]}`, `{}`, ` {"a" : {"a":[]} , "x":null}`, `[1]`, `{"a":1,"a":2}`, `{"":{}}`, "{\"a\":[[],{},[[]]],\"b\":-1.5e-7}"} {
		f.Add([]byte(s))
	}
	mask, _ := Parse(settings("MaskField$Value", map[string]string{"fields": "a,b"}))
	replace, _ := Parse(settings("ReplaceField$Value", map[string]string{"exclude": "b", "renames": "a:x"}))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		for _, c := range []*Chain{mask, replace} {
			r := rawcopy.Record{Value: text}
			_, err := c.For("t").Apply(&r)
			if !bytes.Equal(before, text) {
				t.Fatalf("%q was written to", before)
			}
			if err == nil && r.Value != nil && !json.Valid(r.Value) {
				t.Fatalf("%q became %q", text, r.Value)
			}
		}
	})
}

func BenchmarkChain(b *testing.B) {
	written := settings("MaskField$Value", map[string]string{"fields": "card,cvc", "replacement": "***"})
	written["transforms"] = "X,H,F"
	written["transforms.H.type"], written["transforms.H.header"], written["transforms.H.value.literal"] = transforms+"InsertHeader", "from", "us"
	written["transforms.F.type"], written["transforms.F.predicate"] = transforms+"Filter", "T"
	written["predicates"], written["predicates.T.type"] = "T", predicates+"RecordIsTombstone"
	chain, problems := Parse(written)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	plan := chain.For("us.orders")
	value := []byte(`{"id":123456,"customer":"someone","card":"4111111111111111","cvc":"123","lines":[{"sku":"a","n":1},{"sku":"b","n":2}],"total":12.50}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		r := rawcopy.Record{Value: value}
		if _, err := plan.Apply(&r); err != nil {
			b.Fatal(err)
		}
	}
}
