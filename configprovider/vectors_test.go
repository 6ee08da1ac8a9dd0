package configprovider

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestReferencesAgreeWithKafka replays what Kafka's ConfigTransformer asks providers for, and where it puts their
// answers (testdata/References.java).
func TestReferencesAgreeWithKafka(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/references.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, lines := 0, bufio.NewScanner(f)
	for ; lines.Scan(); n++ {
		var c struct{ Value, Want string }
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.Value, "$<") {
			continue // our own spelling, which Kafka does not know
		}
		var got strings.Builder
		end := 0
		for _, r := range References(c.Value) {
			got.WriteString(c.Value[end:r.start] + "[" + r.Provider + "|" + r.Path + "|" + r.Key + "]")
			end = r.start + len(r.String())
		}
		got.WriteString(c.Value[end:])
		if got.String() != c.Want {
			t.Errorf("%q becomes %q, with Kafka %q", c.Value, got.String(), c.Want)
		}
	}
	if lines.Err() != nil || n < 1500 {
		t.Errorf("%d values, %v: the vectors are cut", n, lines.Err())
	}
}
