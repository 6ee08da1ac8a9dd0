package differences

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = `# Differences

Text before.

| scenario | mode | what one looks at | MirrorMaker 2 | Barnabas | why |
|---|---|---|---|---|---|
| kill -9 | both | records | some twice | each once | tasks are fenced |
| cycles | REST | names | a\|b | nothing | cut |

Text behind.
`

func TestTableIsReadAndWritten(t *testing.T) {
	t.Parallel()
	rows, err := Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{{"kill -9", Both, "records", "some twice", "each once", "tasks are fenced"}, {"cycles", REST, "names", "a|b", Nothing, "cut"}}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	for i := range rows {
		rows[i].Why = "" // reasons stay
	}
	again, err := Replace(document, rows)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(document, again); diff != "" {
		t.Error(diff)
	}
	again, err = Replace(document, append(rows[:1:1], Row{Scenario: "new", Modes: Dedicated, What: "x|y", MirrorMaker: "1", Ours: "2"}))
	if err != nil {
		t.Fatal(err)
	}
	want = []Row{want[0], {"new", Dedicated, "x|y", "1", "2", ""}}
	got, err := Parse(again)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if !strings.HasSuffix(again, "\n\nText behind.\n") {
		t.Errorf("what follows the table is gone:\n%s", again)
	}
}

func TestBrokenTablesAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, document, want string }{
		{"none", "# Differences\n", "no table"},
		{"two", document + document, "two tables"},
		{"a cell is missing", strings.Replace(document, "| cut |", "|", 1), "line 8: 5 cells"},
		{"an unknown mode", strings.Replace(document, "| both |", "| sometimes |", 1), `line 7: mode "sometimes"`},
		{"cut off", strings.SplitAfter(document, "why |")[0], "no table"},
	} {
		if _, err := Parse(c.document); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if _, err := Replace(c.document, nil); err == nil {
			t.Errorf("%s: replaced", c.name)
		}
	}
}

func TestCompareNamesEachThingThatIsNotTheSame(t *testing.T) {
	t.Parallel()
	mirrorMaker := View{"same": "1", "other": "1", "gone": "x\n y", "empty": ""}
	got := Compare("s", REST, mirrorMaker, View{"same": "1", "other": "2", "more": "3"})
	want := []Row{
		{Scenario: "s", Modes: REST, What: "empty", MirrorMaker: "", Ours: Nothing},
		{Scenario: "s", Modes: REST, What: "gone", MirrorMaker: "x y", Ours: Nothing},
		{Scenario: "s", Modes: REST, What: "more", MirrorMaker: Nothing, Ours: "3"},
		{Scenario: "s", Modes: REST, What: "other", MirrorMaker: "1", Ours: "2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Compare("s", REST, nil, nil); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if len(mirrorMaker) != 4 {
		t.Errorf("the view has changed: %v", mirrorMaker)
	}
}

func TestRowsOfBothModesAreOne(t *testing.T) {
	t.Parallel()
	a := Row{Scenario: "s", Modes: REST, What: "w", MirrorMaker: "1", Ours: "2"}
	b, c := a, a
	b.Modes, c.Modes, c.Ours = Dedicated, Dedicated, "3"
	both := a
	both.Modes = Both
	if diff := cmp.Diff([]Row{both, c}, Join([]Row{a, b, c})); diff != "" {
		t.Error(diff)
	}
}

func TestListMustBeExact(t *testing.T) {
	t.Parallel()
	a := Row{Scenario: "a", Modes: Both, What: "w", MirrorMaker: "1", Ours: "2", Why: "because"}
	b := Row{Scenario: "b", Modes: Both, What: "w", MirrorMaker: "1", Ours: "2", Why: "because"}
	bare := func(r Row) Row { r.Why = ""; return r }
	onlyREST := a
	onlyREST.Modes = REST
	for _, c := range []struct {
		name         string
		listed, seen []Row
		want         []string
	}{
		{"exact", []Row{a, b}, []Row{bare(b), bare(a)}, nil},
		{"new", []Row{a}, []Row{bare(a), bare(b)}, []string{"not listed: b (both): w: MirrorMaker 2 has 1, Barnabas 2"}},
		{"vanished", []Row{a, b}, []Row{bare(a)}, []string{"listed, and not seen: b (both): w: MirrorMaker 2 has 1, Barnabas 2"}},
		{"in one mode only", []Row{a}, []Row{bare(onlyREST)}, []string{
			"not listed: a (REST): w: MirrorMaker 2 has 1, Barnabas 2", "listed, and not seen: a (both): w: MirrorMaker 2 has 1, Barnabas 2",
		}},
		{"without a reason", []Row{bare(a)}, []Row{bare(a)}, []string{"listed without a reason: a (both): w: MirrorMaker 2 has 1, Barnabas 2"}},
		{"twice", []Row{a, a}, []Row{bare(a)}, []string{"listed twice: a (both): w: MirrorMaker 2 has 1, Barnabas 2"}},
	} {
		if diff := cmp.Diff(c.want, Check(c.listed, c.seen)); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
	if diff := cmp.Diff([]Row{b}, Only([]Row{a, b}, "b")); diff != "" {
		t.Error(diff)
	}
}

// TestTheDocumentedListIsInOrder needs no Kafka: each row has a reason and stands there once.
func TestTheDocumentedListIsInOrder(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range Check(rows, rows) {
		t.Error(wrong)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(document)
	f.Add("|\n||\n| \\| |")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Replace(text, rows)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(again)
		if diff := cmp.Diff(rows, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	})
}
