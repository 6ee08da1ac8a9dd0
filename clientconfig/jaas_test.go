package clientconfig

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJAASAgreesWithKafka replays what Kafka's own parser made of each text of
// testdata/jaas.jsonl.
func TestJAASAgreesWithKafka(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/jaas.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, parsed := bufio.NewScanner(f), 0
	for lines.Scan() {
		var want struct {
			Text, Module, Error string
			Options             map[string]string
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		got, err := jaasOf(want.Text)
		refused := strings.Contains(want.Error, "is not allowed")
		switch {
		case refused:
			if err != nil || refuseModule(got.module, plainModule, "PLAIN") == "" {
				t.Errorf("%q: got error %v and no refusal, Kafka refuses the module", want.Text, err)
			}
		case want.Error != "" && err == nil && got.module != "":
			t.Errorf("%q: parsed, Kafka says %q", want.Text, want.Error)
		case want.Error != "" && want.Error != "null" && err != nil && sameWords(err.Error(), want.Error) < 3:
			t.Errorf("%q: got %q, Kafka says %q", want.Text, err, want.Error)
		case want.Error == "" && err != nil:
			t.Errorf("%q: got error %q, Kafka parses it", want.Text, err)
		case want.Error == "":
			parsed++
			if got.module != want.Module || !cmp.Equal(got.options, want.Options) {
				t.Errorf("%q: got %q, options %q; Kafka: %q, %q", want.Text, got.module, got.options, want.Module, want.Options)
			}
		}
	}
	if err := lines.Err(); err != nil || parsed < 300 {
		t.Errorf("%d texts parsed, error %v: the vectors are cut", parsed, err)
	}
}

// sameWords counts the words at the start of got that want has too.
func sameWords(got, want string) int {
	n := 0
	theirs := strings.Fields(want)
	for i, word := range strings.Fields(got) {
		if i >= len(theirs) || theirs[i] != word {
			break
		}
		n++
	}
	return n
}

func FuzzJAAS(f *testing.F) {
	f.Add(plainModule + ` required username="a" password="b";`)
	f.Add(plainModule + ` required username='a\'' password="\101\7" /* x */ // y`)
	f.Add(`a required b=-1.5;`)
	f.Add("a / b\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseJAAS(text)
		if (err == nil) != (len(entries) > 0) {
			t.Fatalf("%q: %d entries and error %v", text, len(entries), err)
		}
		if err != nil {
			for _, known := range []error{errJAASEmpty, errJAASFlag, errJAASFlagWord, errJAASNoFlag, errJAASNoValue, errJAASSemicolon} {
				if err == known { //nolint:errorlint // the very values, so that nothing of the text is added
					return
				}
			}
			t.Fatalf("%q: error %q is not one of the fixed ones", text, err)
		}
		// A parsed entry, written out with quotes, parses to itself.
		for _, e := range entries {
			var b strings.Builder
			b.WriteString(`"` + quoteJAAS(e.module) + `" required`)
			for k, v := range e.options {
				b.WriteString(` "` + quoteJAAS(k) + `"="` + quoteJAAS(v) + `"`)
			}
			again, err := parseJAAS(b.String() + ";")
			if err != nil || len(again) != 1 || !cmp.Equal(again[0].options, e.options) {
				t.Fatalf("%q: written out as %q it parses to error %v", text, b.String(), err)
			}
		}
	})
}

func quoteJAAS(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(s)
}
