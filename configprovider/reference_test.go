package configprovider

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

func TestReferencesAreSplitAtTheFirstTwoColons(t *testing.T) {
	t.Parallel()
	type parts [3]string
	for _, row := range []struct {
		value string
		want  []parts
	}{
		{"${env:HOME}", []parts{{"env", "", "HOME"}}},
		{"${file:/a/b:key}", []parts{{"file", "/a/b", "key"}}},
		{"${vault:secret/data:a:b}", []parts{{"vault", "secret/data", "a:b"}}},
		{"$<vault:secret/data:a:b>", []parts{{"vault", "secret/data", "a:b"}}},
		{"x$<env:A>y${env:B}z", []parts{{"env", "", "A"}, {"env", "", "B"}}},
		{"${a::b}", []parts{{"a", "", "b"}}},
		{"${:}", []parts{{"", "", ""}}},
		{"$${env:A}", []parts{{"env", "", "A"}}}, // no escape
		{"${a:${b:c}}", []parts{{"a", "${b", "c"}}},
		{"${a:b>}$<c:d}>", []parts{{"a", "", "b>"}, {"c", "", "d}"}}},
		{"${a:b\nc}", []parts{{"a", "", "b\nc"}}},
		{"${a}", nil},
		{"${a:b", nil},
		{"$<a:b}", nil},
		{"$a:b", nil},
		{"{a:b}", nil},
		{"<a:b>", nil},
		{"", nil},
	} {
		var got []parts
		for _, r := range References(row.value) {
			got = append(got, parts{r.Provider, r.Path, r.Key})
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%q: %s", row.value, diff)
		}
	}
}

// kafkasPattern is ConfigTransformer.DEFAULT_PATTERN of Kafka 4.3.1.
var kafkasPattern = regexp.MustCompile(`\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}`)

func FuzzReferences(f *testing.F) {
	for _, seed := range []string{"${a:b:c}", "$<a:b>", "${a:$<b:c>}", "$${::::}", "${\xff:a}", "${a:b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		refs := References(value)
		end := 0
		for _, r := range refs {
			if r.start < end || value[r.start:r.start+len(r.String())] != r.String() {
				t.Fatalf("%q: reference %q is not where it says", value, r)
			}
			end = r.start + len(r.String())
			again := References(r.String())
			if len(again) != 1 || again[0].Provider != r.Provider || again[0].Path != r.Path || again[0].Key != r.Key {
				t.Fatalf("%q: %q alone reads as %v", value, r, again)
			}
		}
		if strings.Contains(value, "$<") {
			return
		}
		kafkas := kafkasPattern.FindAllStringSubmatch(value, -1)
		if len(kafkas) != len(refs) {
			t.Fatalf("%q: Kafka finds %q, we find %v", value, kafkas, refs)
		}
		for i, m := range kafkas {
			if m[1] != refs[i].Provider || m[3] != refs[i].Path || m[4] != refs[i].Key {
				t.Fatalf("%q: Kafka finds %q, we find %v", value, m, refs[i])
			}
		}
	})
}

func TestLiteralsNamesKeysOnly(t *testing.T) {
	t.Parallel()
	def := config.NewDef(config.Key{Name: "odd", Type: config.Password}, config.Key{Name: "even", Type: config.Password})
	got := Literals(def, map[string]string{
		"odd": "hunter2", "even": "${env:E}", "topics": "orders", "target.cluster.ssl.key.password": "hunter2",
		"producer.override.sasl.jaas.config": `a.B required password="hunter2";`, "consumer.override.sasl.jaas.config": `a.B required password="$<env:P>";`,
	})
	want := []string{"odd", "producer.override.sasl.jaas.config", "target.cluster.ssl.key.password"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Literals(nil, map[string]string{"a.password": "x"}); len(got) != 1 {
		t.Errorf("without a definition: %v", got)
	}
}
