package config

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestValuesAreTyped(t *testing.T) {
	t.Parallel()
	d := NewDef(
		Key{Name: "b", Type: Boolean}, Key{Name: "s"}, Key{Name: "i", Type: Int}, Key{Name: "l", Type: Long}, Key{Name: "f", Type: Double},
		Key{Name: "li", Type: List, Checks: []Check{Items(false, false)}}, Key{Name: "p", Type: Password}, Key{Name: "ms", Type: Long, Default: new("1500")}, Key{Name: "null", Type: Int},
	)
	v, problems := d.Parse(Literal(map[string]string{"b": "True", "s": " x ", "i": "7", "l": "9000000000", "f": "1e3", "li": "a, b,a", "p": " pw "}))
	if problems != nil {
		t.Fatal(problems)
	}
	if !v.Bool("b") || v.String("s") != "x" || v.Int("i") != 7 || v.Int64("l") != 9e9 || v.Float("f") != 1000 || v.Secret("p").Reveal() != "pw" ||
		v.Duration("ms") != 1500*time.Millisecond || !slices.Equal(v.List("li"), []string{"a", "b"}) || v.Int("null") != 0 || !v.Null("null") || v.IsSet("ms") || !v.IsSet("i") {
		t.Errorf("got %v", v)
	}
}

func TestDurationsStayInRange(t *testing.T) {
	t.Parallel()
	v, _ := NewDef(Key{Name: "a", Type: Long}, Key{Name: "b", Type: Long}).Parse(Literal(map[string]string{"a": "9223372036854775807", "b": "-9223372036854775808"}))
	if v.Duration("a") != math.MaxInt64 || v.Duration("b") != math.MinInt64 {
		t.Errorf("got %v and %v", v.Duration("a"), v.Duration("b"))
	}
}

func TestAskingForAnotherTypePanics(t *testing.T) {
	t.Parallel()
	v, _ := NewDef(Key{Name: "i", Type: Int}).Parse(Literal(map[string]string{"i": "1"}))
	for name, ask := range map[string]func(){"another type": func() { v.Secret("i") }, "an undefined key": func() { v.Int("j") }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			ask()
		}()
	}
}

func FuzzParseType(f *testing.F) {
	for _, seed := range []string{"", " 1 ", "0x1p3", "1e999", "a,,b", "true", "-", "NaNd", "1_0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range types {
			d := NewDef(Key{Name: "k", Type: kind})
			infos := d.Infos("X", Literal(map[string]string{"k": text}))
			v, problems := d.Parse(Literal(map[string]string{"k": text}))
			if (infos.ErrorCount > 0) != (len(problems) > 0) || v.Null("k") != (len(problems) > 0) {
				t.Errorf("%s %q: validate counts %d, parse %v", kind, text, infos.ErrorCount, problems)
			}
		}
	})
}
