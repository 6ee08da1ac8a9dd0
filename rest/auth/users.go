package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"barnabas/config"
)

// Format is how a file of users is written.
type Format int

const (
	// Htpasswd is Apache's: user:hash, with bcrypt or argon2.
	Htpasswd Format = iota
	// Properties is that of Kafka Connect's PropertyFileLoginModule: user=password,
	// written out.
	Properties
)

// File is a file of users.
type File struct {
	// Key is the setting that names the file, for errors.
	Key    string
	Path   string
	Format Format
}

// verifier says whether a password is that of a user.
type verifier func(password config.Secret) bool

// users are those of one file.
type users struct {
	file File

	mu      sync.Mutex
	all     map[string]verifier
	stand   verifier // in the place of a user that there is not: takes as long
	seen    stamp    // of the file when it was last read, well or not
	looked  time.Time
	failure string // the last error, so that it is told once
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

// lookEvery is how often a file is looked at, at most.
const lookEvery = time.Second

// maxFileBytes bounds a file of users: some ten thousand of them.
const maxFileBytes = 4 << 20

// read reads the file, whatever was before.
func (u *users) read() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.load()
}

// refresh reads the file if it has changed. It returns an error once.
func (u *users) refresh(now time.Time) (changed bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if age := now.Sub(u.looked); 0 <= age && age < lookEvery {
		return false, nil
	}
	u.looked = now
	info, err := os.Stat(u.file.Path)
	if err == nil && u.failure == "" && u.seen.same(info) {
		return false, nil
	}
	if err = u.load(); err == nil {
		u.failure = ""
		return true, nil
	}
	if err.Error() == u.failure {
		return false, nil
	}
	u.failure = err.Error()
	return false, err
}

func (s stamp) same(info os.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.modified.Equal(info.ModTime()) && s.size == info.Size()
}

// load reads the file. The caller holds mu.
func (u *users) load() error {
	text, info, err := readFile(u.file.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", u.file.Key, err)
	}
	var all map[string]verifier
	var stand verifier
	switch u.file.Format {
	case Htpasswd:
		all, stand, err = parseHtpasswd(string(text))
	case Properties:
		all, err = parseProperties(text)
		stand = func(config.Secret) bool { return false }
	}
	if err == nil && len(all) == 0 {
		err = errors.New("there is no user in it, so that nobody could log in")
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", u.file.Key, u.file.Path, err)
	}
	u.all, u.stand = all, stand
	u.seen = stamp{modified: info.ModTime(), size: info.Size(), info: info}
	return nil
}

func readFile(path string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
	}
	return text, info, err
}

// parseProperties reads user=password in the grammar of java.util.Properties. An
// empty file, with which Connect lets everybody in, is refused by whoever calls.
func parseProperties(text []byte) (map[string]verifier, error) {
	written, err := config.ParseProperties(string(bytes.ToValidUTF8(text, []byte("\ufffd"))))
	if err != nil {
		return nil, err
	}
	all := map[string]verifier{}
	for user, password := range written {
		if user != "" {
			all[user] = config.NewSecret(password).Equal
		}
	}
	return all, nil
}

// verify says whether that is the user's password. It takes as long for a user
// that there is not.
func (u *users) verify(user string, password config.Secret) bool {
	u.mu.Lock()
	check, ok := u.all[user]
	if !ok {
		check = u.stand
	}
	u.mu.Unlock()
	return check(password) && ok
}

func (u *users) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.all)
}

func (u *users) names() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for name := range u.all {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
