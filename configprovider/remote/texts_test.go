package remote

import (
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

func TestTextsHaveTheShortestTimeToLiveThatIsNamed(t *testing.T) {
	t.Parallel()
	texts := Texts{JSON: true, TTL: time.Minute, Options: []string{"version"}, Allowed: Allowed{"orders"}}
	asked := map[string]int{}
	read := func(path string, keys ...string) (configprovider.Data, error) {
		return texts.Read(path, keys, func(name string, options map[string]string) (config.Secret, string, error) {
			asked[name]++
			if name == "orders/gone" {
				return config.Secret{}, "", errors.New("gone")
			}
			return config.NewSecret(`{"user":"ann","n":1}`), "v" + options["version"], nil
		})
	}
	d, err := read("orders/db?ttl=5000&version=3", "user", "n", "other")
	if err != nil || d.TTL != 5*time.Second || d.Version != "v3" || d.Values["user"].Reveal() != "ann" || d.Values["n"].Reveal() != "1" || len(d.Values) != 2 {
		t.Errorf("got %+v, %v", d, err)
	}
	if asked["orders/db"] != 1 {
		t.Errorf("one text was asked for %d times", asked["orders/db"])
	}
	d, err = read("", "orders/a?ttl=9000", "orders/b?ttl=7000", "orders/gone", "payments/a")
	if err != nil || len(d.Values) != 2 || d.Failed["orders/gone"] == nil || d.Failed["payments/a"] == nil || asked["payments/a"] > 0 {
		t.Errorf("got %+v, %v; asked for %v", d, err, asked)
	}
	for _, path := range []string{"payments/db", "orders/../payments", "orders/db?ttl=x", "orders/db?ttl=-1", "orders/db?other=1", "orders/db?version="} {
		if _, err := read(path, "user"); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestParametersAreJudgedTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"url=ftp://x":                      "expected an address such as https://host:port",
		"url=https://u:canary@x":           "without user",
		"url=http://vault.example":         "plain text",
		"url=http://127.0.0.1:1":           "",
		"url=https://x/base":               "",
		"secret.ttl.ms=5":                  "secret.ttl.ms=5: expected 1000 to",
		"secret.ttl.ms=x":                  "secret.ttl.ms=x: expected",
		"timeout.ms=99":                    "timeout.ms=99: expected 100 to 30000",
		"flag=yes":                         "flag=yes: expected true or false",
		"word=none":                        "word=none: expected one of first, second",
		"word=SECOND":                      "",
		"ca=" + junk:                       "no certificate in PEM",
		"ca=" + filepath.Join(dir, "none"): "no such file",
		"ca=" + dir:                        "not a regular file",
		"cert=" + junk:                     "the private key of the certificate",
	} {
		name, text, _ := strings.Cut(value, "=")
		p := &Params{Settings: config.Literal(map[string]string{name: text})}
		if p.Address("", "url") == nil && name == "url" && want == "" {
			t.Errorf("%s is no address", value)
		}
		p.TTL(time.Minute)
		p.Timeout()
		p.Flag(false, "flag")
		p.OneOf([]string{"first", "second"}, "word")
		p.TLS([]string{"ca"}, []string{"cert"}, []string{"key"})
		err := p.Err()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
	p := &Params{Settings: config.Literal(map[string]string{"flag": "x", "timeout.ms": "y"})}
	p.Timeout()
	p.Flag(false, "flag")
	p.Need("host", "where to go")
	if err := p.Err(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all that is wrong is told: %v", err)
	}
}

func TestTokensAreReadFromTheirFileEachTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	for _, token := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(path); err != nil || got.Reveal() != token {
			t.Errorf("got %q, %v", got.Reveal(), err)
		}
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{path, path + ".none", t.TempDir()} {
		if _, err := ReadFile(bad); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzNamesStayWhereTheyBelong(f *testing.F) {
	for _, seed := range []string{"orders", "orders/db?version=3&ttl=5", "../x", "a//b", "/a/", "a/./b", "a%2e%2e", "a?version=../x", "a?x", "a#b", "ä/ö", "a\\b", "a\x00", "?ttl=1", "a?ttl=1&ttl=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, options, err := Pinned(path, "version", "ttl")
		for key, value := range options {
			if err != nil || key != "version" && key != "ttl" || Name(value) != nil {
				t.Errorf("%q: option %q=%q, %v", path, key, value, err)
			}
		}
		if err != nil || Name(name) != nil {
			return
		}
		base := New(Options{Base: mustURL("http://h/v1/")}).o.Base
		u := base.JoinPath(Escape(name))
		if u.Host != "h" || !strings.HasPrefix(u.EscapedPath(), "/v1/") || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, "/../") {
			t.Errorf("%q leads to %s", path, u)
		}
		if got := strings.Trim(strings.TrimPrefix(u.Path, "/v1/"), "/"); got != strings.Trim(name, "/") {
			t.Errorf("%q asks for %q", name, got)
		}
		if (Allowed{"orders"}).Check(name) == nil && !strings.HasPrefix(strings.Trim(name, "/")+"/", "orders/") {
			t.Errorf("%q is outside", name)
		}
	})
}

func FuzzAnswersOfServers(f *testing.F) {
	for _, seed := range []string{`{"a":"b","n":1,"x":null}`, `{"errors":["canary"]}`, `{"error":{"message":"canary"}}`, `{"error":"canary","error_description":"x"}`, `{"message":"\ud800canary"}`, "canary", "[]", "null", "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if said := Said(body, config.NewSecret("canary")); strings.Contains(said, "canary") || len(said) > 2*maxSaid || strings.ContainsAny(said, "\n\r\x00") {
			t.Errorf("%q is quoted as %q", body, said)
		}
		values, names, ok := Fields(body)
		for _, name := range names {
			if _, has := values[name]; !has || !ok {
				t.Errorf("%q: a name without a value: %q in %v", body, name, maps.Keys(values))
			}
		}
	})
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}
