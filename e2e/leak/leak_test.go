package leak

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretIsFoundInEveryDisguise(t *testing.T) {
	t.Parallel()
	disguises := map[string]func(string) string{
		"plain":  func(v string) string { return `password="` + v + `";` },
		"url":    url.QueryEscape,
		"path":   url.PathEscape,
		"hex":    func(v string) string { return hex.EncodeToString([]byte("x" + v + "y")) },
		"base64": func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) },
		"json": func(v string) string {
			text, _ := json.Marshal(map[string]string{"a": v})
			return string(text)
		},
	}
	for shift := range 4 {
		disguises["base64 inside "+strings.Repeat("x", shift)] = func(v string) string {
			return base64.URLEncoding.EncodeToString([]byte(strings.Repeat("u", shift) + v + ":rest"))
		}
	}
	for name, disguise := range disguises {
		s := New()
		text := disguise(s.Plant("p"))
		s.Scan("log", name, []byte("before "+text+" after"))
		if len(s.Found()) != 1 || !strings.Contains(s.Found()[0], `"p"`) {
			t.Errorf("%s: found %v", name, s.Found())
		}
	}
}

func TestInnocentTextIsNotReported(t *testing.T) {
	t.Parallel()
	s, other := New(), New()
	s.Plant("p")
	s.Scan("log", "l", []byte("Cn+/"+other.Plant("q")))
	if len(s.Found()) > 0 || s.Scanned()["log"] == 0 {
		t.Errorf("found %v in %v", s.Found(), s.Scanned())
	}
}

func TestSecretSplitBetweenPiecesIsFound(t *testing.T) {
	t.Parallel()
	s := New()
	v := s.Plant("p")
	s.Stream("gossip", "a", []byte("xx"+v[:5]))
	s.Stream("gossip", "b", []byte("noise"))
	s.Stream("gossip", "a", []byte(v[5:]+"yy"))
	if len(s.Found()) != 1 {
		t.Errorf("found %v", s.Found())
	}
}

func TestFilesAreSearchedExceptThoseOfTheSecrets(t *testing.T) {
	t.Parallel()
	s := New()
	v := s.Plant("p")
	dir := t.TempDir()
	for _, path := range []string{"secrets/a", "logs/w.log"} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Files("file", dir, func(path string) bool { return filepath.Base(path) == "secrets" }); err != nil {
		t.Fatal(err)
	}
	if found := s.Found(); len(found) != 1 || !strings.Contains(found[0], "w.log") {
		t.Errorf("found %v", found)
	}
}
