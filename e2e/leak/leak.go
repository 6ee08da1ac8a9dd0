// Package leak plants canary secrets and searches everything that the product
// has written or sent for them. Values are looked for as they are and as they
// would look in base64, hex, a URL, HTML, JSON, or as a list of bytes.
//
// A search that finds nothing may be blind. So a test also has values that are
// meant to be shown (Show), and asks in which kinds of places they were seen.
package leak

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Scanner knows the canaries of a test and where they have been seen.
type Scanner struct {
	mu       sync.Mutex
	canaries []canary
	found    []string
	seen     map[string]map[string]bool // of values that may be shown: kinds of places, by name
	scanned  map[string]int             // kind of place: bytes
	tail     map[string][]byte
}

type canary struct {
	name  string
	shown bool // it may be
	forms [][]byte
}

// New makes a scanner without canaries.
func New() *Scanner {
	return &Scanner{seen: map[string]map[string]bool{}, scanned: map[string]int{}, tail: map[string][]byte{}}
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
	s.add(canary{name: name, forms: forms(value)})
}

// Lines looks for each line of a text that has several, as a private key in PEM:
// a place may show them apart. Short lines and those that begin with dashes are no secret.
func (s *Scanner) Lines(name, text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") {
			s.Watch(name, line)
		}
	}
}

// Show makes a value that may be shown anywhere, of letters and digits. Seen
// tells where it was, and so which places the search can look into.
func (s *Scanner) Show(name string) string {
	var raw [6]byte
	_, _ = rand.Read(raw[:])
	value := "shown" + hex.EncodeToString(raw[:])
	s.add(canary{name: name, shown: true, forms: forms(value)})
	return value
}

func (s *Scanner) add(c canary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.canaries = append(s.canaries, c)
}

// forms are the ways in which a value may have been written.
func forms(value string) [][]byte {
	escaped, whole := url.QueryEscape(value), hex.EncodeToString([]byte(value))
	all := []string{
		value, escaped, url.PathEscape(value), url.QueryEscape(escaped), whole, strings.ToUpper(whole), html.EscapeString(value),
		strings.ReplaceAll(value, "/", `\/`), // as some write JSON
	}
	var lower, every, decimals, separate strings.Builder // %2f, %43%6e, what %v makes of bytes, and what %x makes of them with spaces
	for i := range len(value) {
		c := value[i]
		if strings.IndexByte(escaped, c) >= 0 && c != '%' {
			lower.WriteByte(c)
		} else {
			fmt.Fprintf(&lower, "%%%02x", c)
		}
		fmt.Fprintf(&every, "%%%02X", c)
		fmt.Fprintf(&decimals, "%d ", c)
		fmt.Fprintf(&separate, "%02x ", c)
	}
	list := strings.TrimSpace(decimals.String())
	all = append(all, lower.String(), every.String(), list, strings.ReplaceAll(list, " ", ","), strings.ReplaceAll(list, " ", ", "), strings.TrimSpace(separate.String()))
	if quoted, err := json.Marshal(value); err == nil {
		once := strings.Trim(string(quoted), `"`)
		all = append(all, once)
		if again, err := json.Marshal(once); err == nil { // JSON within JSON
			all = append(all, strings.Trim(string(again), `"`))
		}
	}
	// In base64 a value looks different at each of three positions.
	for shift := range 3 {
		padded := append(bytes.Repeat([]byte{'x'}, shift), value...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			// Characters that also hold bits of the neighbours are left out.
			from, to := (shift*8+5)/6, len(padded)*8/6
			all = append(all, text[from:to])
		}
	}
	slices.Sort(all)
	var distinct [][]byte
	for _, form := range slices.Compact(all) {
		distinct = append(distinct, []byte(form))
	}
	return distinct
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
			i := bytes.Index(text, form)
			if i >= 0 && c.shown {
				if s.seen[c.name] == nil {
					s.seen[c.name] = map[string]bool{}
				}
				s.seen[c.name][kind] = true
				break
			}
			if i >= 0 {
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
	s.tail[key] = bytes.Clone(whole[max(0, len(whole)-1024):])
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

// Archive looks through the files of a tar archive that is compressed with gzip, and their names.
func (s *Scanner) Archive(kind, where string, archive []byte) error {
	s.Scan(kind, where, archive)
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return fmt.Errorf("search %s for secrets: %w", where, err)
	}
	for files := tar.NewReader(unzipped); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(files)
		}
		if err != nil {
			return fmt.Errorf("search %s for secrets: %w", where, err)
		}
		s.Scan(kind, where+": "+head.Name, append([]byte(head.Name+"\n"), text...))
	}
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

// Seen returns the kinds of places where a value made by Show has been seen, in order.
func (s *Scanner) Seen(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.seen[name]))
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
