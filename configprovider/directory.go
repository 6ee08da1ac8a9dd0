package configprovider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"barnabas/config"
)

// maxNames bounds the names that a hint is looked for among.
const maxNames = 1000

// directoryKind reads directories of files, one a key: Kafka's
// DirectoryConfigProvider, ${directory:/path:file}.
var directoryKind = Kind{
	Name:    "directory",
	Classes: []string{"org.apache.kafka.common.config.provider.DirectoryConfigProvider"},
	Params:  []string{"allowed.paths"},
	Open: func(params config.Settings) (Provider, error) {
		allowed, err := newAllowedPaths(params["allowed.paths"])
		return directoryProvider{allowed}, err
	},
}

type directoryProvider struct{ allowed allowedPaths }

// Read takes each file whole, line end at its end included, as Kafka does. (The
// type of a setting trims it.)
func (p directoryProvider) Read(ctx context.Context, path string, keys []string) (Data, error) {
	if path == "" {
		return Data{}, errors.New("that names no directory: write it as ${directory:/path/of/the/directory:file}")
	}
	real, _, err := p.allowed.resolve(path)
	if err != nil {
		return Data{}, fmt.Errorf("that directory cannot be read: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return Data{}, fmt.Errorf("that directory cannot be read: %w", reason(err))
	}
	if !info.IsDir() {
		return Data{}, errors.New("that is not a directory")
	}
	d := Data{Place: "that directory", Values: map[string]config.Secret{}, TTL: fileTTL}
	var newest time.Time
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return Data{}, err
		}
		if key == "" || key == "." || key == ".." || strings.ContainsRune(key, filepath.Separator) {
			continue // no name of a file, so there is none
		}
		file := filepath.Join(path, key)
		if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		text, written, err := p.allowed.readText(file)
		if err != nil {
			return Data{}, fmt.Errorf("file %q of that directory cannot be read: %w", key, err)
		}
		d.Values[key] = config.NewSecret(text)
		if written.After(newest) {
			newest = written
		}
	}
	d.Version = fileVersion(newest)
	if len(d.Values) < len(keys) {
		d.Names = fileNames(real)
	}
	return d, nil
}

// fileNames are names for a hint; without any, there is no hint.
func fileNames(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, err := f.ReadDir(maxNames)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), "..") && plainName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}
