package config

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"testing"
)

// TestRandomPropertiesReadAsInJava replays what java.util.Properties reads in random texts (testdata/Properties.java).
func TestRandomPropertiesReadAsInJava(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/properties.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, lines := 0, bufio.NewScanner(f)
	for ; lines.Scan(); n++ {
		var c struct {
			Text      string
			Want      map[string]string
			Malformed bool
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		got, err := ParseProperties(c.Text)
		if (err != nil) != c.Malformed || err == nil && !maps.Equal(got, c.Want) {
			t.Errorf("%q: got %q, %v; Java gives %q, malformed: %v", c.Text, got, err, c.Want, c.Malformed)
		}
	}
	if lines.Err() != nil || n < 1500 {
		t.Errorf("%d texts, %v: the vectors are cut", n, lines.Err())
	}
}
