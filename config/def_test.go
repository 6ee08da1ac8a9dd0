package config

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// validateVectors are what Kafka 4.3.1 itself made of a definition: Connect's
// whole answer for an empty configuration, and for each case the values that
// differ from it, and the message of ConfigDef.parse.
type validateVectors struct {
	Answer json.RawMessage `json:"answer"`
	Cases  []struct {
		Config     map[string]string `json:"config"`
		ErrorCount int               `json:"error_count"`
		Changed    []ValueInfo       `json:"changed"`
		Parse      string            `json:"parse"`
	} `json:"cases"`
}

// vectorDef is the definition that testdata/validate.json was recorded with.
func vectorDef() *Def {
	one := func(name string, t Type, value string, checks ...Check) Key {
		return Key{Name: name, Type: t, Default: &value, Documentation: "d", Order: -1, Checks: checks}
	}
	null := func(name string, t Type, checks ...Check) Key {
		return Key{Name: name, Type: t, Documentation: "d", Order: -1, Checks: checks}
	}
	return NewDef(
		Key{
			Name: "b", Type: Boolean, Default: new("false"), Importance: High, Documentation: "doc", Group: "G1", Order: 1,
			Width: WidthShort, DisplayName: "Bee", Dependents: []string{"i"},
		},
		one("i", Int, "1", AtLeast(1)),
		one("ib", Int, "1", Between(0, 10)),
		null("sh", Short),
		Key{Name: "l", Type: Long, Required: true, Documentation: "d", Order: -1},
		Key{
			Name: "d", Type: Double, Default: new("0.5"), Documentation: "d", Group: "G2", Order: -1,
			Width: WidthLong, DisplayName: "D", Checks: []Check{Between(0.0, 1.0)},
		},
		one("s", String, "x", OneOf("x", "y")),
		one("ci", String, "x", OneOfFold("X")),
		null("ne", String, NonEmpty),
		null("cc", String, NonEmptyWithoutControlChars),
		one("li", List, "a,b", Items(false, false)),
		one("lv", List, "a", ItemsOf(true, "a", "b")),
		one("p", Password, "def"),
		one("cl", Class, "java.lang.String"),
	)
}

func readVectors(t *testing.T) validateVectors {
	t.Helper()
	text, err := os.ReadFile("testdata/validate.json")
	if err != nil {
		t.Fatal(err)
	}
	var v validateVectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestInfosAnswersAsConnectDoes(t *testing.T) {
	t.Parallel()
	vectors := readVectors(t)
	var empty Infos
	if err := json.Unmarshal(vectors.Answer, &empty); err != nil {
		t.Fatal(err)
	}
	for _, c := range vectors.Cases {
		want := empty
		want.ErrorCount = c.ErrorCount
		want.Configs = slices.Clone(empty.Configs)
		for i := range want.Configs {
			for _, changed := range c.Changed {
				if changed.Name == want.Configs[i].Value.Name {
					want.Configs[i].Value = changed
				}
			}
		}
		got := vectorDef().Infos("X", Literal(c.Config))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: Connect's answer (-) and ours (+):\n%s", c.Config, diff)
		}
	}
}

func TestInfosWritesConnectsJSONByteForByte(t *testing.T) {
	t.Parallel()
	var want bytes.Buffer
	if err := json.Compact(&want, readVectors(t).Answer); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(vectorDef().Infos("X", Settings{}))
	if err != nil {
		t.Fatal(err)
	}
	if want.String() != string(got) {
		t.Errorf("Connect wrote\n%s\nwe wrote\n%s", &want, got)
	}
}

func TestParseSaysWhatKafkaSays(t *testing.T) {
	t.Parallel()
	for _, c := range readVectors(t).Cases {
		_, problems := vectorDef().Parse(Literal(c.Config))
		said := slices.ContainsFunc(problems, func(p Problem) bool { return p.Message == c.Parse })
		if c.Parse == "" && len(problems) > 0 || c.Parse != "" && !said {
			t.Errorf("%q: Kafka says %q, we say %q", c.Config, c.Parse, problems)
		}
	}
}

func TestDefFromInfosIsTheDefinitionAgain(t *testing.T) {
	t.Parallel()
	recorded := readVectors(t).Answer
	d, err := DefFromInfos(recorded)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(d.Infos("X", Settings{}))
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, recorded); err != nil {
		t.Fatal(err)
	}
	if want.String() != string(got) {
		t.Errorf("recorded\n%s\nloaded and asked again\n%s", &want, got)
	}
	d.Check("i", AtLeast(1))
	if _, problems := d.Parse(Literal(map[string]string{"i": "0", "l": "1"})); len(problems) != 1 {
		t.Errorf("a check added to a loaded key: %v", problems)
	}
}

func TestDefFromInfosRefusesWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, recorded := range []string{
		`[]`, `{"configs":[{"definition":{"name":"","type":"INT"}}]}`, `{"configs":[{"definition":{"name":"a","type":"WORD"}}]}`,
		`{"configs":[{"definition":{"name":"a","type":"INT","default_value":"x"}}]}`,
	} {
		if d, err := DefFromInfos([]byte(recorded)); err == nil {
			t.Errorf("%s: accepted as %v", recorded, d.Names())
		}
	}
}

func TestParseReportsAllProblemsAndShowsReferences(t *testing.T) {
	t.Parallel()
	settings := Settings{
		"i":  {Written: "${file:/s:n}", Value: NewSecret("canary-int")},
		"s":  {Written: "${file:/s:s}", Value: NewSecret("canary-string")},
		"li": {Written: "${file:/s:l}", Value: NewSecret("canary,,list")},
		"lv": {Written: "${file:/s:v}", Value: NewSecret("canary-item")},
		"cc": {Written: "${file:/s:c}", Value: NewSecret("cana\x07ry")},
	}
	_, got := vectorDef().Parse(settings)
	want := []Problem{
		{"i", "Invalid value ${file:/s:n} for configuration i: Not a number of type INT"},
		{"l", `Missing required configuration "l" which has no default value.`},
		{"s", "Invalid value ${file:/s:s} for configuration s: String must be one of: x, y"},
		{"cc", "Invalid value ${file:/s:c} for configuration cc: String may not contain control sequences but had the following ASCII chars: 7"},
		{"li", "Configuration 'li' values must not be empty."},
		{"lv", "Invalid value ${file:/s:v} for configuration lv: String must be one of: a, b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInfosShowsReferencesAndHidesLiterals(t *testing.T) {
	t.Parallel()
	jaas := `org.x.ScramLoginModule required username="u" password="%s";`
	d := NewDef(Key{Name: "p", Type: Password}, Key{Name: "sasl.jaas.config", Type: Password}, Key{Name: "s"})
	for _, row := range []struct{ key, written, value, want string }{
		{"p", "hunter2", "hunter2", Hidden},
		{"p", "${file:/s:p}", "canary", "${file:/s:p}"},
		{"p", "$<env:P>", "canary", "$<env:P>"},
		{"p", "${file:/s:p}", "${file:/s:p}", "${file:/s:p}"}, // not resolved, as when only the syntax is checked
		{"p", "hunter2${file:/s:p}", "canary", Hidden},
		{"s", "${file:/s:p}", "canary", "${file:/s:p}"},
		{"sasl.jaas.config", jaas, jaas, Hidden},
		{"sasl.jaas.config", `a.B required password="${file:/s:p}";`, "canary", `a.B required password="${file:/s:p}";`},
		{"sasl.jaas.config", `a.B required username="${env:U}" password="hunter2";`, "canary", Hidden},
	} {
		infos := d.Infos("X", Settings{row.key: {Written: row.written, Value: NewSecret(row.value)}})
		for _, info := range infos.Configs {
			if info.Value.Name == row.key && *info.Value.Value != row.want {
				t.Errorf("%s=%s: shown as %s, want %s", row.key, row.written, *info.Value.Value, row.want)
			}
		}
	}
}

func TestInfosAddsProblemsFoundElsewhere(t *testing.T) {
	t.Parallel()
	s := Literal(map[string]string{"producer.override.acks": "2", "x.password": "hunter2", "l": "1"})
	got := vectorDef().Infos("X", s,
		Problem{"producer.override.acks", "no"}, Problem{"x.password", "bad"}, Problem{"producer.override.acks", "never"}, Problem{"i", "too small"})
	want := []Info{
		{Value: ValueInfo{Name: "producer.override.acks", Value: new("2"), RecommendedValues: []string{}, Errors: []string{"no", "never"}, Visible: true}},
		{Value: ValueInfo{Name: "x.password", Value: new(Hidden), RecommendedValues: []string{}, Errors: []string{"bad"}, Visible: true}},
	}
	if diff := cmp.Diff(want, got.Configs[:2]); diff != "" || got.ErrorCount != 4 {
		t.Errorf("%d errors\n%s", got.ErrorCount, diff)
	}
}

func TestMergeKeepsPlacesAndTakesTheLaterDefinition(t *testing.T) {
	t.Parallel()
	m := Merge(NewDef(Key{Name: "a", Group: "G"}, Key{Name: "b"}), NewDef(Key{Name: "c", Group: "H"}, Key{Name: "a", Group: "H", Type: Int}))
	if got := m.Names(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("names %v", got)
	}
	if k, _ := m.Key("a"); k.Type != Int {
		t.Errorf("a is %s", k.Type)
	}
	if !slices.Equal(m.groups, []string{"G", "H"}) {
		t.Errorf("groups %v", m.groups)
	}
}
