package configprovider

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"barnabas/config"
)

// maxFileBytes bounds a file that holds secrets.
const maxFileBytes = 4 << 20

// allowedPaths bounds what a provider may read (Kafka's AllowedPaths). The zero
// value allows every path.
//
// Kafka compares names only. Here a symbolic link may not lead out either: links within an allowed
// directory, as Kubernetes mounts secrets, work.
type allowedPaths struct{ roots []string }

// newAllowedPaths reads allowed.paths: absolute paths that exist, separated by commas.
func newAllowedPaths(param config.Setting) (allowedPaths, error) {
	var a allowedPaths
	for path := range strings.SplitSeq(param.Value.Reveal(), ",") {
		path = strings.TrimSpace(path)
		if path == "" {
			continue
		}
		if !filepath.IsAbs(path) {
			return a, fmt.Errorf("allowed.paths=%s: each path must be absolute", param.Written)
		}
		if _, err := os.Stat(path); err != nil {
			return a, fmt.Errorf("allowed.paths=%s: each path must exist and be readable: %w", param.Written, reason(err))
		}
		a.roots = append(a.roots, filepath.Clean(path))
	}
	return a, nil
}

// errOutside says why a path is not read.
var errOutside = errors.New("that path is outside allowed.paths of the provider")

// resolve returns the real path to read for path, and the allowed directory
// that it is in, empty if everything is allowed.
func (a allowedPaths) resolve(path string) (real, root string, err error) {
	if a.roots == nil {
		return path, "", nil
	}
	path = filepath.Clean(path)
	named := false
	for _, r := range a.roots {
		named = named || within(path, r)
	}
	if !named {
		return "", "", errOutside
	}
	if real, err = filepath.EvalSymlinks(path); err != nil {
		return "", "", reason(err)
	}
	for _, r := range a.roots {
		if realRoot, err := filepath.EvalSymlinks(r); err == nil && within(real, realRoot) {
			return real, realRoot, nil
		}
	}
	return "", "", errOutside
}

// within tells whether path is root or below it.
func within(path, root string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}

// readText reads the regular file at path as UTF-8, and tells when it was last written.
func (a allowedPaths) readText(path string) (string, time.Time, error) {
	f, err := a.open(path)
	if err != nil {
		return "", time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", time.Time{}, reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", time.Time{}, errors.New("that is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return "", time.Time{}, reason(err)
	}
	if len(text) > maxFileBytes {
		return "", time.Time{}, fmt.Errorf("that file is longer than %d bytes", maxFileBytes)
	}
	if !utf8.Valid(text) {
		return "", time.Time{}, errors.New("that file is not UTF-8 text")
	}
	return string(text), info.ModTime(), nil
}

// fileTTL is how long what was read from a file is good for: it is cheap to look again, and unlike a watch that works
// for every file system and however the file is replaced.
const fileTTL = time.Second

// fileVersion is the version of a file: when it was last written. The zero time has none.
func fileVersion(written time.Time) string {
	if written.IsZero() {
		return ""
	}
	return written.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// open opens path without ever waiting for the other end of a pipe. Between the
// check and the opening a link may change; os.Root refuses one that then leads out.
func (a allowedPaths) open(path string) (*os.File, error) {
	real, root, err := a.resolve(path)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, real)
	if root == "" || err != nil || rel == "." {
		f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		return f, reason(err)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, reason(err)
	}
	defer dir.Close()
	f, err := dir.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	return f, reason(err)
}

// reason is err without the path, which the reference already tells.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
