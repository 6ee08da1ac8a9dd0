package config

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPropertiesReadAsInJava goes through texts with what java.util.Properties
// of Java 17 made of them.
func TestPropertiesReadAsInJava(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/properties.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text  string            `json:"text"`
		Want  map[string]string `json:"want"`
		Error string            `json:"error"`
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		got, err := ParseProperties(c.Text)
		if (err != nil) != (c.Error != "") || err == nil && !maps.Equal(got, c.Want) {
			t.Errorf("%q: got %q, %v; Java gives %q, %s", c.Text, got, err, c.Want, c.Error)
		}
	}
}

func TestReadFileNamesFileAndLineAndNotTheText(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.properties")
	if err := os.WriteFile(path, []byte("# one\na=b\\\n  c\npassword=canary\\u00zz\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadFile(path)
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Line != 4 || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want the file, line 4 and no text", err)
	}
	if _, err := ReadFile(path + ".gone"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path+".gone") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadFileTakesBothEncodings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, row := range []struct{ name, text string }{
		{"UTF-8", "\ufeffa=é\nb=${file:/x:y}"}, {"ISO-8859-1", "a=\xe9\r\nb=${file:/x:y}\r\n"}, {"escapes", `a=\u00e9` + "\nb : ${file:/x:y}"},
	} {
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path)
		if err != nil || got["a"] != "é" || got["b"] != "${file:/x:y}" {
			t.Errorf("%s: got %q, %v", row.name, got, err)
		}
	}
	if err := os.WriteFile(path, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil {
		t.Error("a file over the bound is read")
	}
}

func FuzzParseProperties(f *testing.F) {
	for _, seed := range []string{"a=b", "a\\\r\n b : c\\u0041", "#c\n!d\n\\", "\\ud83d\\ude00\\u", "=\f\t", "a\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		properties, err := ParseProperties(text)
		if err != nil {
			return
		}
		// What was read, written out with everything escaped, reads the same.
		var b strings.Builder
		for k, v := range properties {
			b.WriteString(escapeAll(k) + "=" + escapeAll(v) + "\n")
		}
		again, err := ParseProperties(b.String())
		if err != nil || !maps.Equal(properties, again) {
			t.Errorf("%q: %q, written out and read again %q, %v", text, properties, again, err)
		}
	})
}

func escapeAll(s string) string {
	return strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\f", `\f`, " ", `\ `, "=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`).Replace(s)
}

func TestFormattedPropertiesReadTheSame(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"a": "b", "A->B.topics": ".*", "a b=c:d#e!": "x", "blank": "  two", "empty": "", "lines": "a\nb\r\tc\f", "back": `\Q.\E\`, "ü": "ä${file:/x:y}", "end ": " ",
	}
	got, err := ParseProperties(FormatProperties(want))
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v, want %q, of\n%s", got, err, want, FormatProperties(want))
	}
}
