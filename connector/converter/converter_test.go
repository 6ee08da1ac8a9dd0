package converter

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"barnabas/config"
)

// TestConvertersConvertLikeKafkas compares with what the converters of Kafka 4.3.1 made of the same.
func TestConvertersConvertLikeKafkas(t *testing.T) {
	time.Local = time.UTC // as when it was recorded
	text, err := os.ReadFile("testdata/convert.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Class  string
		Config map[string]string
		Bytes  []byte
		Text   *string
		Write  *string
		Error  *string
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		settings := map[string]string{"value.converter": r.Class}
		for k, v := range r.Config {
			settings["value.converter."+k] = v
		}
		c, err := New(Value, nil, config.Literal(settings))
		if err != nil {
			t.Errorf("%v: %v", settings, err)
			continue
		}
		var got string
		if r.Write != nil {
			var b []byte
			b, err = c.Encode(r.Write)
			got = string(b)
			r.Text = new(string(r.Bytes))
		} else {
			var v any
			v, err = c.Decode(r.Bytes)
			if err == nil {
				got = string(Text(v))
			}
		}
		switch {
		case (err != nil) != (r.Error != nil):
			t.Errorf("%s %v of %s: %q, %v; Kafka's %v", r.Class, r.Config, show(r.Bytes, r.Write), got, err, deref(r.Error))
		case got == "1.0E-44":
			// Java 17, where this was recorded, gives 9.8E-45: the shortest numbers came with Java 19 (JDK-4511638).
		case err == nil && got != *r.Text:
			t.Errorf("%s %v of %s: %q; Kafka's %q", r.Class, r.Config, show(r.Bytes, r.Write), got, *r.Text)
		case err != nil:
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *Error", err)
			}
			if got := e.Exception() + ": " + e.Message; got != *r.Error {
				t.Errorf("%s %v of %s: error %q; Kafka's %q", r.Class, r.Config, show(r.Bytes, r.Write), got, *r.Error)
			}
		}
	}
}

func show(b []byte, write *string) string {
	if write != nil {
		return "text " + *write
	}
	return "bytes " + string(b)
}

func deref(s *string) string {
	if s == nil {
		return "nil"
	}
	return *s
}

func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{
		`{"schema":{"type":"struct","fields":[{"field":"a","type":"int8"}]},"payload":{"a":1}}`, `[1,{"a":null}]`, `"\ud83d`, `01e5`, `{"schema":{"type":"map","keys":{"type":"int8"},"values":{"type":"bytes"}},"payload":[[1,"aa=="]]}`,
		`{"schema":{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"-2147483648"}},"payload":"AQ=="}`, "\xff", "[[[[",
	} {
		f.Add([]byte(s))
	}
	withSchemas, err := New(Value, nil, config.Literal(map[string]string{"value.converter": JSONClass}))
	if err != nil {
		f.Fatal(err)
	}
	without, err := New(Value, nil, config.Literal(map[string]string{"value.converter": JSONClass, "value.converter.schemas.enable": "false"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, c := range []*Converter{withSchemas, without} {
			if v, err := c.Decode(b); err == nil {
				Text(v)
			}
		}
	})
}

// TestSettingsCountWhereTheClassStands is what surprises people in Connect.
func TestSettingsCountWhereTheClassStands(t *testing.T) {
	t.Parallel()
	worker := config.Literal(map[string]string{"value.converter": JSONClass, "value.converter.schemas.enable": "false"})
	for name, tt := range map[string]struct {
		connector map[string]string
		want      string
	}{
		"worker's":                      {nil, `"x"`},
		"settings without a class":      {map[string]string{"value.converter.schemas.enable": "true"}, `"x"`},
		"class without settings":        {map[string]string{"value.converter": JSONClass}, `{"schema":{"type":"string","optional":false},"payload":"x"}`},
		"class with settings":           {map[string]string{"value.converter": "JsonConverter", "value.converter.schemas.enable": "false"}, `"x"`},
		"another class by a short name": {map[string]string{"value.converter": "String"}, `x`},
	} {
		c, err := New(Value, worker, config.Literal(tt.connector))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := c.Encode(new("x")); err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, tt.want)
		}
	}
	if _, err := New(Value, worker, config.Literal(map[string]string{"value.converter": "no.such"})); err == nil {
		t.Error("a class that is not here is taken")
	}
	if c, err := New(Header, worker, nil); err != nil || c.Class != SimpleHeaderClass {
		t.Errorf("without a setting headers have %v, %v", c, err)
	}
}
