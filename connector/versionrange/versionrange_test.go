package versionrange

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// versions are those that testdata/Ranges.java asks about.
var versions = []string{"4.3.1", "4.3.1-SNAPSHOT", "4.3.0", "5.0.0", "4.3.2-rc1", "4.9"}

func TestRangesAreMavens(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/ranges.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Spec, Text, Error string
		Contains          []string
	}
	if err := json.Unmarshal(raw, &rows); err != nil || len(rows) < 50 {
		t.Fatal(len(rows), err)
	}
	for _, row := range rows {
		set, err := Parse(row.Spec)
		if err != nil {
			if err.Error() != row.Error {
				t.Errorf("%q: %q, want %q", row.Spec, err, row.Error)
			}
			continue
		}
		var in []string
		for _, v := range versions {
			if set.Contains(v) {
				in = append(in, v)
			}
		}
		if row.Error != "" || set.String() != row.Text || !slices.Equal(in, row.Contains) {
			t.Errorf("%q: %q with %q, want %q with %q, %q", row.Spec, set, in, row.Text, row.Contains, row.Error)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"4.3.1", "[4,5),(5,]", "[", "(,)", "a-b", "[é,ü]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if Compare(text, text) != 0 || Compare(text, "4.3.1") != -Compare("4.3.1", text) {
			t.Errorf("the order of %q and 4.3.1 is none", text)
		}
		set, err := Parse(text)
		if err != nil || slices.ContainsFunc(set.ranges, func(i interval) bool { return i.from != nil && *i.from == "" }) { // "" looks like no end
			return
		}
		again, err := Parse(set.String())
		if len(set.ranges) > 0 && (err != nil || again.String() != set.String() || again.Contains("4.3.1") != set.Contains("4.3.1")) {
			t.Errorf("%q became %q, and that %q: %v", text, set, again, err)
		}
	})
}
