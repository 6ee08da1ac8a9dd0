package configprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

// write makes a file with its directories.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newResolver makes a resolver with file, directory and env, and params such as "file.param.allowed.paths".
func newResolver(t *testing.T, environ []string, params map[string]string) *Resolver {
	t.Helper()
	worker := map[string]string{
		"config.providers": "file, directory,env", "config.providers.file.class": "file", "config.providers.env.class": "env",
		"config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
	}
	for k, v := range params {
		worker["config.providers."+k] = v
	}
	r, err := New(t.Context(), worker, Kinds(environ))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func revealed(s config.Settings) map[string]string {
	values := map[string]string{}
	for k, v := range s {
		values[k] = v.Value.Reveal()
	}
	return values
}

func TestReferencesAreReplacedAnywhereInAValue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "c.properties"), "user=alice\npassword=p=1:2\\u0021\na\\:b=colon\nnested=${env:HOME}\n")
	write(t, filepath.Join(dir, "d", "token"), "t0ken\n")
	r := newResolver(t, []string{"HOME=/home/a", "EMPTY=", "odd"}, nil)
	written := map[string]string{
		"plain":  "orders, $x ${} ${nocolon} $<nocolon>",
		"jaas":   `M required username="${file:` + file + `:user}" password="$<file:` + file + `:password>";`,
		"colon":  "${file:" + file + ":a:b}",
		"dir":    "${directory:" + dir + "/d:token}",
		"env":    "a${env:HOME}b$<env:HOME>${env:EMPTY}c",
		"nested": "${file:" + file + ":nested}",
	}
	settings, uses, err := r.Resolve(t.Context(), written)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"plain":  "orders, $x ${} ${nocolon} $<nocolon>",
		"jaas":   `M required username="alice" password="p=1:2!";`,
		"colon":  "colon",
		"dir":    "t0ken\n",
		"env":    "a/home/ab/home/ac",
		"nested": "${env:HOME}", // never looked at again
	}
	if diff := cmp.Diff(want, revealed(settings)); diff != "" {
		t.Error(diff)
	}
	if !maps.Equal(settings.Written(), written) {
		t.Errorf("written: %v", settings.Written())
	}
	wantUses := []Use{
		{Key: "colon", Reference: "${file:" + file + ":a:b}"},
		{Key: "dir", Reference: "${directory:" + dir + "/d:token}"},
		{Key: "env", Reference: "${env:HOME}"},
		{Key: "env", Reference: "$<env:HOME>"},
		{Key: "env", Reference: "${env:EMPTY}"},
		{Key: "jaas", Reference: "${file:" + file + ":user}"},
		{Key: "jaas", Reference: "$<file:" + file + ":password>"},
		{Key: "nested", Reference: "${file:" + file + ":nested}"},
	}
	for i, u := range uses { // of a file, the version is when it was written
		if from := References(u.Reference)[0].Provider; (from != "env") != (u.Version != "" && u.TTL == fileTTL) {
			t.Errorf("%s has version %q and time to live %s", u.Reference, u.Version, u.TTL)
		}
		uses[i].Version, uses[i].TTL = "", 0
	}
	if diff := cmp.Diff(wantUses, uses); diff != "" {
		t.Error(diff)
	}
}

func TestFillMakesWhatResolveMakes(t *testing.T) {
	t.Parallel()
	r := newResolver(t, []string{"A=1", "B=${env:A}"}, nil)
	written := map[string]string{"x": "${env:A}-$<env:B>-${env:A}", "y": "plain"}
	want, _, err := r.Resolve(t.Context(), written)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Fill(written, map[string]config.Secret{"${env:A}": config.NewSecret("1"), "$<env:B>": config.NewSecret("${env:A}")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(revealed(want), revealed(got)); diff != "" || !maps.Equal(got.Written(), written) {
		t.Errorf("%s, written %v", diff, got.Written())
	}
	if _, err := Fill(written, nil); err == nil {
		t.Error("a reference without a value is no error")
	}
}

// TestFailuresNameTheReferenceAndNeverAValue goes through every way in which the
// three providers fail, with a canary wherever a value is.
func TestFailuresNameTheReferenceAndNeverAValue(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "good"), "password="+canary+"\nuser="+canary+"\n")
	write(t, filepath.Join(dir, "in", "broken"), "password="+canary+"\\u00zz\n")
	write(t, filepath.Join(dir, "in", "raw"), canary+"1\n")
	write(t, filepath.Join(dir, "in", "latin1"), "password="+canary+"\xe9\n")
	write(t, filepath.Join(dir, "in", "long"), canary+strings.Repeat("x", maxFileBytes))
	write(t, filepath.Join(dir, "out", "secret"), "password="+canary+"\n")
	for link, target := range map[string]string{"escape": filepath.Join(dir, "out", "secret"), "escapedir": filepath.Join(dir, "out"), "relative": "../out/secret"} {
		if err := os.Symlink(target, filepath.Join(dir, "in", link)); err != nil {
			t.Fatal(err)
		}
	}
	in := filepath.Join(dir, "in")
	r := newResolver(t, []string{"PASSWORD=" + canary, "KAFKA_PASSWORD=" + canary},
		map[string]string{"file.param.allowed.paths": in, "directory.param.allowed.paths": in, "env.param.allowlist.pattern": "KAFKA_.*"})
	for _, row := range []struct{ ref, want string }{
		{"${file:" + in + "/good:pasword}", `that file has no key "pasword"; it has "password"`},
		{"${file:" + in + "/good:zzz}", `that file has no key "zzz"`},
		{"${file:" + in + "/raw:canary2}", `that file has no key "canary2"`},
		{"${file:" + in + "/gone:password}", "that file cannot be read: no such file or directory"},
		{"${file:" + in + "/broken:password}", `that file cannot be read: line 1: a \u escape needs four hexadecimal digits (write \\u for a backslash and a u)`},
		{"${file:" + in + "/latin1:password}", "that file cannot be read: that file is not UTF-8 text"},
		{"${file:" + in + "/long:password}", "that file cannot be read: that file is longer than 4194304 bytes"},
		{"${file:" + in + ":password}", "that file cannot be read: that is not a regular file"},
		{"${file:" + dir + "/out/secret:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "/../out/secret:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "/escape:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "/escapedir/secret:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "/relative:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "x/good:password}", "that file cannot be read: that path is outside allowed.paths of the provider"},
		{"${file:" + in + "/good}", "that names no file: write it as ${file:/path/of/the/file:key}"},
		{"$<directory:" + in + ":goood>", `that directory has no key "goood"; it has "good"`},
		{"${directory:" + in + ":../out/secret}", `that directory has no key "../out/secret"`},
		{"${directory:" + in + ":..}", `that directory has no key ".."`},
		{"${directory:" + in + ":escape}", `file "escape" of that directory cannot be read: that path is outside allowed.paths of the provider`},
		{"${directory:" + in + ":latin1}", `file "latin1" of that directory cannot be read: that file is not UTF-8 text`},
		{"${directory:" + in + "/escapedir:secret}", "that directory cannot be read: that path is outside allowed.paths of the provider"},
		{"${directory:" + in + "/good:password}", "that is not a directory"},
		{"${directory:" + in + "}", "that names no directory: write it as ${directory:/path/of/the/directory:file}"},
		{"${env:KAFKA_PASWORD}", `the environment (as far as allowlist.pattern allows) has no key "KAFKA_PASWORD"; it has "KAFKA_PASSWORD"`},
		{"${env:PASSWORD}", `the environment (as far as allowlist.pattern allows) has no key "PASSWORD"`},
		{"${env:path:KAFKA_PASSWORD}", "an environment variable has no path: write it as ${env:NAME}"},
		{"${vault:x:y}", `there is no config provider "vault": config.providers of the worker lists directory, env, file`},
	} {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"sasl.jaas.config": canary + row.ref, "other": "${env:KAFKA_PASSWORD}"})
		want := fmt.Sprintf("%q names %s, and %s", "sasl.jaas.config", row.ref, row.want)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", row.ref, err, want)
		}
		if settings != nil || uses != nil {
			t.Errorf("%s: failed, but gave settings", row.ref)
		}
		if shown := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(strings.ReplaceAll(shown, "canary2", ""), canary) {
			t.Errorf("%s: the error holds the value: %s", row.ref, shown)
		}
	}
}

func TestAllFailuresAreReported(t *testing.T) {
	t.Parallel()
	r := newResolver(t, nil, nil)
	_, _, err := r.Resolve(t.Context(), map[string]string{"b": "${env:X} ${no:Y}", "a": "${env:Z}", "c": "fine"})
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range failed.Problems() {
		got = append(got, p.Key+" "+p.Message)
	}
	want := []string{
		`a "a" names ${env:Z}, and the environment (as far as allowlist.pattern allows) has no key "Z"`,
		`b "b" names ${env:X}, and the environment (as far as allowlist.pattern allows) has no key "X"`,
		`b "b" names ${no:Y}, and there is no config provider "no": config.providers of the worker lists directory, env, file`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLinksWithinAnAllowedDirectoryWork has a directory as Kubernetes mounts a Secret.
func TestLinksWithinAnAllowedDirectoryWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := filepath.Join(dir, "mount")
	write(t, filepath.Join(mount, "..2026_01_01", "creds.properties"), "password=pw\n")
	for link, target := range map[string]string{"..data": "..2026_01_01", "creds.properties": "..data/creds.properties"} {
		if err := os.Symlink(target, filepath.Join(mount, link)); err != nil {
			t.Fatal(err)
		}
	}
	// The allowed path is itself behind a link, as /var/run is.
	if err := os.Symlink(mount, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(dir, "link")
	r := newResolver(t, nil, map[string]string{"file.param.allowed.paths": "/usr, " + allowed, "directory.param.allowed.paths": allowed})
	settings, _, err := r.Resolve(t.Context(), map[string]string{
		"f": "${file:" + allowed + "/x/../creds.properties:password}", "d": "${directory:" + allowed + ":creds.properties}",
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"f": "pw", "d": "password=pw\n"}, revealed(settings)); diff != "" {
		t.Error(diff)
	}
}

func TestProvidersThatCannotBeMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, row := range []struct {
		name   string
		worker map[string]string
		want   string
	}{
		{"no class", map[string]string{"config.providers": "a"}, "config.providers.a.class is missing: set it to one of file, directory, env, or to its Java class name"},
		{"unknown class", map[string]string{"config.providers": "a", "config.providers.a.class": "org.x.Y"}, `config.providers.a.class: no config provider "org.x.Y"; there are file, directory, env, also under their Java class names`},
		{"relative path", map[string]string{"config.providers": "a", "config.providers.a.class": "file", "config.providers.a.param.allowed.paths": "etc"}, `config provider "a": allowed.paths=etc: each path must be absolute`},
		{
			"missing path",
			map[string]string{"config.providers": "a", "config.providers.a.class": "directory", "config.providers.a.param.allowed.paths": dir + "/gone"},
			`config provider "a": allowed.paths=` + dir + "/gone: each path must exist and be readable: no such file or directory",
		},
		{"mistyped parameter", map[string]string{"config.providers": "a", "config.providers.a.class": "file", "config.providers.a.param.allowed.path": dir}, `config.providers.a.param.allowed.path: the file provider has no such parameter; did you mean "allowed.paths"?`},
		{"bad pattern", map[string]string{"config.providers": "a", "config.providers.a.class": "env", "config.providers.a.param.allowlist.pattern": "("}, `config provider "a": allowlist.pattern=(: not a regular expression`},
		{
			"reference to a later provider",
			map[string]string{
				"config.providers": "a,b", "config.providers.a.class": "file", "config.providers.a.param.allowed.paths": "${b:X}", "config.providers.b.class": "env",
			},
			`parameters of config provider "a": "allowed.paths" names ${b:X}, and there is no config provider "b": config.providers of the worker lists none`,
		},
	} {
		if _, err := New(t.Context(), row.worker, Kinds(nil)); err == nil || err.Error() != row.want {
			t.Errorf("%s:\n got %v\nwant %s", row.name, err, row.want)
		}
	}
}

func TestParametersMayReferToEarlierProviders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "f"), "k=v\n")
	r, err := New(t.Context(), map[string]string{
		"config.providers": "env,file", "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider", "config.providers.env.param.other": "ignored",
		"config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider", "config.providers.file.param.allowed.paths": "${env:SECRETS}",
	}, Kinds([]string{"SECRETS=" + dir}))
	if err != nil {
		t.Fatal(err)
	}
	settings, _, err := r.Resolve(t.Context(), map[string]string{"a": "${file:" + file + ":k}"})
	if err != nil || settings["a"].Value.Reveal() != "v" {
		t.Errorf("got %v, %v", settings, err)
	}
	if _, _, err := r.Resolve(t.Context(), map[string]string{"a": "${file:/etc/passwd:root}"}); err == nil {
		t.Error("allowed.paths by reference does not bound")
	}
}

func TestAllowlistPatternMatchesWholeNamesAsInJava(t *testing.T) {
	t.Parallel()
	environ := []string{"KAFKA_A=1", "XKAFKA_A=2", "KAFKA_AX=3"}
	for _, row := range []struct {
		pattern string
		want    []string
	}{
		{".*", []string{"KAFKA_A", "XKAFKA_A", "KAFKA_AX"}},
		{"KAFKA_A", []string{"KAFKA_A"}},
		{"KAFKA_A|XKAFKA_A", []string{"KAFKA_A", "XKAFKA_A"}},
		{"KAFKA_(?!AX).*", []string{"KAFKA_A"}},
		{"KAFKA", nil},
		{"", nil},
	} {
		r := newResolver(t, environ, map[string]string{"env.param.allowlist.pattern": row.pattern})
		var got []string
		for _, name := range []string{"KAFKA_A", "XKAFKA_A", "KAFKA_AX"} {
			if _, _, err := r.Resolve(t.Context(), map[string]string{"a": "${env:" + name + "}"}); err == nil {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: %s", row.pattern, diff)
		}
	}
}

// counter is a provider that notes what it is asked for.
type counter struct {
	mu    sync.Mutex
	asked []string
}

func (c *counter) Read(ctx context.Context, path string, keys []string) (Data, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, path+" "+strings.Join(keys, ","))
	values := map[string]config.Secret{}
	for _, k := range keys {
		values[k] = config.NewSecret(k)
	}
	return Data{Values: values, TTL: time.Minute, Version: "7"}, ctx.Err()
}

func TestEachPathIsReadOnceAndBoundByTheContext(t *testing.T) {
	t.Parallel()
	c := &counter{}
	kind := Kind{Name: "count", Open: func(config.Settings) (Provider, error) { return c, nil }}
	r, err := New(t.Context(), map[string]string{"config.providers": "c", "config.providers.c.class": "count"}, []Kind{kind})
	if err != nil {
		t.Fatal(err)
	}
	_, uses, err := r.Resolve(t.Context(), map[string]string{"a": "${c:p:x}${c:p:y}${c:p:x}", "b": "$<c:p:x>"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"p x,y"}, c.asked); diff != "" {
		t.Errorf("asked: %s", diff)
	}
	if len(uses) != 3 || uses[0].Version != "7" || uses[0].TTL != time.Minute {
		t.Errorf("uses: %v", uses)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Resolve(ended, map[string]string{"a": "${c:p:x}"}); err == nil || len(c.asked) != 1 {
		t.Errorf("with an ended context: %v, asked %d times", err, len(c.asked))
	}
}
