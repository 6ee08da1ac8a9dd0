package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/worker"
)

func TestDefinitionsInEveryShape(t *testing.T) {
	t.Parallel()
	config := map[string]string{"a": "1", "b.c": "true", "d": "${file:/x:y}"}
	named := map[string]string{"name": "n", "a": "1", "b.c": "true", "d": "${file:/x:y}"}
	for _, row := range []struct {
		name, extension, text string
		want                  definition
	}{
		{"Connect's JSON", ".json", `{"name": "n", "config": {"a": 1, "b.c": true, "d": "${file:/x:y}"}}`, definition{name: "n", config: config}},
		{"with a first state", ".json", `{"name": "n", "initial_state": "STOPPED", "config": {"a": 1, "b.c": true, "d": "${file:/x:y}"}}`, definition{name: "n", config: config, initial: worker.Stopped}},
		{"Connect's shape in YAML", ".yaml", "name: n\nconfig:\n  a: 1\n  b.c: true\n  d: ${file:/x:y}\n", definition{name: "n", config: config}},
		{"settings in JSON", "", `{"name": "n", "a": "1", "b.c": true, "d": "${file:/x:y}"}`, definition{name: "n", config: named}},
		{"settings in YAML", "", "# mine\nname: n\na: 1\nb.c: true\nd: ${file:/x:y}\n", definition{name: "n", config: named}},
		{"properties", ".properties", "name: n\na 1\nb.c=true\nd=${file:/x:y}\n", definition{name: "n", config: named}},
		{"properties without an extension", "", "# mine\nname=n\na=1\nb.c=true\nd=${file:/x:y}\n", definition{name: "n", config: named}},
		{"numbers as written", "", "a: 007\nb: 1e3\n", definition{config: map[string]string{"a": "007", "b": "1e3"}}},
		{"a setting called config", "", "config: x\n", definition{config: map[string]string{"config": "x"}}},
	} {
		got, err := parseDefinition(row.extension, []byte(row.text))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(definition{})); diff != "" {
			t.Errorf("%s:\n%s", row.name, diff)
		}
	}
}

// FuzzDefinition looks for text that crashes the parser, and for errors that
// quote what may be a secret.
func FuzzDefinition(f *testing.F) {
	for _, seed := range []string{`{"config": {"x": 1}}`, "a: b", "a=b", "---\n- x", "{", "a: *b", "a: &b {c: *b}", "\ufeff{}", "a: !!null", "? [x]\n: y", "a: |\n  b"} {
		f.Add(".json", seed)
		f.Add("", seed)
	}
	f.Fuzz(func(t *testing.T, extension, text string) {
		const secret = "Canary0Canary0Canary"
		_, err := parseDefinition(extension, []byte(text+"\npassword: \""+secret))
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells the secret: %v", err)
		}
		d, err := parseDefinition(extension, []byte(text))
		if err == nil && d.config == nil {
			t.Error("neither settings nor an error")
		}
	})
}
