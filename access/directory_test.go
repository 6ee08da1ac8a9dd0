package access

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFilesAreFollowed changes files of roles under a running directory.
func TestFilesAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("admin.yaml", usual[0])
	write("notes.txt", "not a role")
	d, err := OpenDirectory(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	may := func() bool {
		return d.Roles().Decide(Caller{User: "oncall"}, now, "k2k:GetApp", "k2k:app:critical-a").Allowed
	}
	eventually := func(what string, condition func() bool) {
		t.Helper()
		deadline := time.After(time.Minute)
		for !condition() {
			select {
			case <-deadline:
				t.Fatalf("%s: not within a minute; %v", what, d.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	if may() {
		t.Fatal("allowed by no role")
	}
	write("oncall.yml", usual[3])
	eventually("a new role", may)
	write("oncall.yml", strings.ReplaceAll(usual[3], "Allow", "Permit"))
	eventually("a broken file", func() bool { return d.Err() != nil })
	if !may() || !strings.Contains(d.Err().Error(), "oncall.yml: ") {
		t.Errorf("%v: %v", may(), d.Err())
	}
	write("twice.json", `{"name":"admin","policy":[{"effect":"deny","action":"*","resource":"*"}]}`)
	write("oncall.yml", usual[3])
	eventually("two of one name", func() bool { return d.Err() != nil && strings.Contains(d.Err().Error(), "role admin is there twice") })
	for _, name := range []string{"twice.json", "oncall.yml"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	eventually("a role that is gone", func() bool { return d.Err() == nil && !may() })
	if _, err := OpenDirectory(filepath.Join(dir, "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no directory, and no error")
	}
}
