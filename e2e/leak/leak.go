// Package leak plants canary secrets and searches everything that the product
// has written or sent for them. Values are looked for as they are and as they
// would look in base64, hex, a URL or JSON.
package leak

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Scanner knows the canaries of a test and where they have been seen.
type Scanner struct {
	mu       sync.Mutex
	canaries []canary
	found    []string
	scanned  map[string]int // kind of place: bytes
	tail     map[string][]byte
}

type canary struct {
	name  string
	forms [][]byte
}

// New makes a scanner without canaries.
func New() *Scanner {
	return &Scanner{scanned: map[string]int{}, tail: map[string][]byte{}}
}

// Plant makes a secret value that is like no other and remembers it under a
// name. It has characters that JSON and URLs write in another way.
func (s *Scanner) Plant(name string) string {
	var raw [9]byte
	_, _ = rand.Read(raw[:])
	value := "Cn+/" + base64.RawStdEncoding.EncodeToString(raw[:])
	s.Watch(name, value)
	return value
}

// Watch looks for a value that was not made here.
func (s *Scanner) Watch(name, value string) {
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value), hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value)))}
	quoted, err := json.Marshal(value)
	if err == nil {
		forms = append(forms, strings.Trim(string(quoted), `"`))
	}
	// In base64 a value looks different at each of three positions.
	for shift := range 3 {
		padded := append(bytes.Repeat([]byte{'x'}, shift), value...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			// Characters that also hold bits of the neighbours are left out.
			from, to := (shift*8+5)/6, len(padded)*8/6
			forms = append(forms, text[from:to])
		}
	}
	c := canary{name: name}
	for _, f := range forms {
		c.forms = append(c.forms, []byte(f))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.canaries = append(s.canaries, c)
}

// Scan looks through one piece of output. kind says what it is a piece of (log,
// answer, topic, gossip …), where names it for the finding.
func (s *Scanner) Scan(kind, where string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scan(kind, where, text)
}

func (s *Scanner) scan(kind, where string, text []byte) {
	s.scanned[kind] += len(text)
	for _, c := range s.canaries {
		for _, form := range c.forms {
			if i := bytes.Index(text, form); i >= 0 {
				s.found = append(s.found, fmt.Sprintf("%s %s shows the secret %q (as %d bytes, after %q)", kind, where, c.name, len(form), before(text[:i])))
				break
			}
		}
	}
}

// Stream looks through pieces of one stream, whose seams may split a secret.
func (s *Scanner) Stream(kind, where string, piece []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind + " " + where
	whole := append(s.tail[key], piece...)
	s.scan(kind, where, whole)
	s.scanned[kind] -= len(whole) - len(piece)
	s.tail[key] = bytes.Clone(whole[max(0, len(whole)-256):])
}

// before is the end of the text before a finding, up to where secrets of others
// might be.
func before(text []byte) string {
	text = text[max(0, len(text)-40):]
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return string(text)
}

// Files looks through all files below a directory but those that skip names.
func (s *Scanner) Files(kind, dir string, skip func(path string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case skip != nil && skip(path) && d.IsDir():
			return filepath.SkipDir
		case !d.Type().IsRegular() || skip != nil && skip(path):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("search for secrets: %w", err)
		}
		s.Scan(kind, path, text)
		return nil
	})
}

// Found returns where secrets have been seen, each place once.
func (s *Scanner) Found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	seen := map[string]bool{}
	for _, f := range s.found {
		place, _, _ := strings.Cut(f, " (as ")
		if !seen[place] {
			seen[place] = true
			all = append(all, f)
		}
	}
	return all
}

// Scanned returns how many bytes of each kind have been looked through: a
// scanner that has seen nothing proves nothing.
func (s *Scanner) Scanned() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for kind, n := range s.scanned {
		all[kind] = n
	}
	return all
}
