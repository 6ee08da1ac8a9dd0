package leak

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
		"JSON in JSON": func(v string) string {
			text, _ := json.Marshal(map[string]string{"a": v})
			again, _ := json.Marshal(string(text))
			return string(again)
		},
		"JSON with its slashes escaped": func(v string) string { return strings.ReplaceAll(v, "/", `\/`) },
		"HTML":                          html.EscapeString,
		"lower":                         func(v string) string { return strings.NewReplacer("+", "%2b", "/", "%2f").Replace(v) },
		"URL in a URL":                  func(v string) string { return url.QueryEscape(url.QueryEscape(v)) },
		"bytes":                         func(v string) string { return fmt.Sprint([]byte("x" + v + "y")) },
		"bytes as JSON":                 func(v string) string { return strings.ReplaceAll(fmt.Sprint([]byte(v)), " ", ",") },
		"hex with spaces":               func(v string) string { return fmt.Sprintf("% x", v) },
		"quoted":                        strconv.Quote,
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

func TestWhatMayBeShownIsSeenAndNotReported(t *testing.T) {
	t.Parallel()
	s := New()
	v := s.Show("group")
	s.Scan("log", "a", []byte("group="+v))
	s.Scan("topic", "b", []byte("nothing"))
	if len(s.Found()) > 0 || !slices.Equal(s.Seen("group"), []string{"log"}) {
		t.Errorf("found %v, seen %v", s.Found(), s.Seen("group"))
	}
}

func TestEveryLineOfAKeyIsASecret(t *testing.T) {
	t.Parallel()
	s := New()
	s.Lines("key", "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\nq7hPm1xQ\n-----END PRIVATE KEY-----\n")
	s.Scan("log", "a", []byte("-----BEGIN PRIVATE KEY-----"))
	if len(s.Found()) > 0 {
		t.Errorf("found %v", s.Found())
	}
	if s.Scan("log", "b", []byte("x MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg")); len(s.Found()) != 1 {
		t.Errorf("found %v", s.Found())
	}
}

func TestSecretInAnArchiveIsFound(t *testing.T) {
	t.Parallel()
	s := New()
	text := strings.Repeat("filler ", 100) + s.Plant("p")
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	files := tar.NewWriter(zipped)
	if err := files.WriteHeader(&tar.Header{Name: "a/b.json", Mode: 0o600, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	_, _ = files.Write([]byte(text))
	if err := errors.Join(files.Close(), zipped.Close(), s.Archive("bundle", "x.tar.gz", archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	if found := s.Found(); len(found) != 1 || !strings.Contains(found[0], "a/b.json") {
		t.Errorf("found %v", found)
	}
	if s.Archive("bundle", "y", []byte("no archive")) == nil {
		t.Error("what is no archive was taken for one")
	}
}

// A process shows its arguments to everybody, its environment to its own user.
func TestOtherUsersSeeArgumentsAndNoEnvironment(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	for _, row := range []struct {
		name           string
		args, env, own bool
	}{{"in its arguments", true, false, false}, {"in its environment", false, true, false}, {"in an environment of the same user", false, true, true}, {"nowhere", false, false, false}} {
		s := New()
		v := s.Plant("p")
		cmd := exec.Command("sh", "-c", "read line; exit 0", "name")
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
		if row.args {
			cmd.Args = append(cmd.Args, v)
		}
		if row.env {
			cmd.Env = append(cmd.Env, "PASSWORD="+v)
		}
		if row.own {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		end, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err = s.Process(t.Context(), "sh", cmd.Process.Pid)
		_ = end.Close()
		_ = cmd.Wait()
		if want := row.args || row.own; err != nil || (len(s.Found()) > 0) != want || s.Scanned()["process"] == 0 {
			t.Errorf("a secret %s: found %v in %v, %v", row.name, s.Found(), s.Scanned(), err)
		}
	}
}
