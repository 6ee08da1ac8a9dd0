package rest

import (
	"net/http"
	"strings"
	"testing"

	"barnabas/worker"
)

func TestScalarsBecomeStrings(t *testing.T) {
	t.Parallel()
	got, err := readStrings([]byte("\ufeff" + `{"i":2,"f":1.50,"big":12345678901234567890,"e":1e5,"b":true,"s":"x\u00e4","n":null,"":"empty","i":3}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"i": "3", "f": "1.50", "big": "12345678901234567890", "e": "1e5", "b": "true", "s": "xä", "": "empty"}
	for k, v := range want {
		if got[k] == nil || *got[k] != v {
			t.Errorf("%q is %v, want %q", k, got[k], v)
		}
	}
	if v, there := got["n"]; !there || v != nil {
		t.Errorf("null is %v", v)
	}
	if len(got) != len(want)+1 {
		t.Errorf("%d fields", len(got))
	}
}

// TestBadBodiesAre500 as in Connect, and none of the messages repeats what was sent.
func TestBadBodiesAre500(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"password":"hunter2"`, `hunter2`, `["hunter2"]`, `"hunter2"`, `17`, `{"config":{"password":["hunter2"]}}`, `{"config":"hunter2"}`,
		`{"name":"x","config":{}} hunter2`, `{'hunter2':1}`, "{\"config\":{\"x\":\"\xff\"}}", `{"name":{"hunter2":1},"config":{}}`,
		`{"name":"x"}`, `null`, ``, `{"name":"x","config":null}`, `{"config":{},"initial_state":"hunter2"}`, `{"config":{},"initial_state":["hunter2"]}`,
	} {
		_, err := readCreation([]byte(body))
		if err == nil || failureOf(err).status != http.StatusInternalServerError {
			t.Errorf("%s: %v", body, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the message repeats it: %v", body, err)
		}
	}
}

func TestCreation(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]creation{
		`{"config":{}}`:                                            {},
		`{"name":" a\t","config":{}}`:                              {name: "a"},
		`{"name":null,"config":{},"initial_state":null}`:           {},
		`{"name":5,"config":{},"initial_state":"stopped"}`:         {name: "5", initial: worker.Stopped},
		`{"name":"x","config":{},"initial_state":"Running"}`:       {name: "x", initial: worker.Started},
		`{"name":"x","name":"y","config":{},"config":{},"name":7}`: {name: "7"},
	} {
		got, err := readCreation([]byte(body))
		if err != nil || got.name != want.name || got.initial != want.initial || got.config == nil {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

func TestConfigsAreSettled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		about, name, body string
		want              string // "" or part of the refusal
	}{
		{"without a name", "a", `{"connector.class":"C"}`, ""},
		{"with the same name", "a", `{"connector.class":"C","name":"a"}`, ""},
		{"with another name", "a", `{"connector.class":"C","name":"b"}`, "Connector name configuration (b) doesn't match connector name in the URL (a)"},
		{"without a class", "a", `{"x":"y"}`, "Connector config {name=a, x=y} contains no connector type"},
		{"with a null class", "a", `{"connector.class":null}`, "Connector config {connector.class=null, name=a} contains no connector type"},
		{"a secret, without a class", "a", `{"sasl.password":"hunter2"}`, "{name=a, sasl.password=[hidden]}"},
		{"with a null", "a", `{"connector.class":"C","x":null}`, "1 error(s):\nNull value can not be supplied"},
		{"a slash in the name", "a/b", `{"connector.class":"C"}`, "Invalid value a/b for configuration name"},
		{"a percent sign in the name", "a%b", `{"connector.class":"C"}`, "Invalid value a%b for configuration name"},
		{"dots for a name", "..", `{"connector.class":"C"}`, "Invalid value .. for configuration name"},
	} {
		written, err := readStrings([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := checkConfig(c.name, written)
		switch {
		case c.want == "" && (err != nil || got["name"] != c.name || got["connector.class"] != "C"):
			t.Errorf("%s: %v, %v", c.about, got, err)
		case c.want != "" && (err == nil || failureOf(err).status != 400 || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want 400 with %q", c.about, err, c.want)
		}
	}
}

func FuzzBodiesAreReadOrRefused(f *testing.F) {
	for _, s := range []string{`{"name":"a","config":{"k":1}}`, `[{"a":"b"}]`, `null`, `{`, "\ufeff{}", `{"config":{"a":null}}`, `[null,{}]`, `{"config":{"a":"\ud800"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := readCreation(body); err == nil {
			if c.config == nil {
				t.Errorf("%q is read without a configuration", body)
			}
			if _, err := checkConfig(c.name, c.config); err != nil && failureOf(err).status != 400 {
				t.Errorf("%q: %v", body, err)
			}
		} else if failureOf(err).status != 500 {
			t.Errorf("%q: %v", body, err)
		}
		if _, err := readTaskConfigs(body); err != nil && failureOf(err).status != 500 {
			t.Errorf("%q: %v", body, err)
		}
	})
}
