package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/crypto/bcrypt"
)

const (
	here      = "192.0.2.1:4711"
	elsewhere = "192.0.2.2:4711"
	// Both of "secret". The second by the reference implementation of argon2.
	bcryptHash = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"
	argon2Hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // of "password"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func hashed(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// open makes Passwords of one file.
func open(t *testing.T, format Format, text string) (p *Passwords, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "users")
	write(t, path, text)
	p, err := New(Options{Files: []File{{Key: "users", Path: path, Format: format}}, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return p, path
}

func TestUsersOfAllFormatsLogIn(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		format          Format
		text            string
		user, password  string
		another, unless string // header of another user
	}{
		"bcrypt":              {Htpasswd, "# users\n\nann:" + hashed(t, "s:e") + "\nbob:" + hashed(t, "b") + "\n", "ann", "s:e", "bob", "b"},
		"argon2":              {Htpasswd, "ann:" + argon2Hash + "\n", "ann", "password", "", ""},
		"properties":          {Properties, "ann=s\\u00e4cret\nb\\ ob: x:y\n", "ann", "säcret", "b ob", "x:y"},
		"properties, no file": {Properties, "ann = two words \n", "ann", "two words ", "", ""},
	} {
		p, _ := open(t, row.format, row.text)
		if user, err := p.Login(t.Context(), basic(row.user, row.password), here); err != nil || user != row.user {
			t.Errorf("%s: got %q, %v", name, user, err)
		}
		if row.another != "" {
			if user, err := p.Login(t.Context(), basic(row.another, row.unless), here); err != nil || user != row.another {
				t.Errorf("%s: got %q, %v", name, user, err)
			}
		}
		for _, wrong := range []string{basic(row.user, row.password+"x"), basic(row.user, ""), basic("nobody", row.password)} {
			if user, err := p.Login(t.Context(), wrong, here); !errors.Is(err, ErrWrong) || user != "" {
				t.Errorf("%s: %s: got %q, %v", name, wrong, user, err)
			}
		}
	}
}

// As Kafka's JaasBasicAuthFilter: recorded from 4.3.1, but that broken base64 is 500 there.
func TestHeadersAreReadAsConnectDoes(t *testing.T) {
	t.Parallel()
	p, _ := open(t, Properties, "ann=secret\n")
	for header, want := range map[string]error{
		"Basic YW5uOnNlY3JldA==": nil, "basic YW5uOnNlY3JldA==": nil, "BASIC YW5uOnNlY3JldA==": nil,
		"": ErrMissing, "Basic": ErrMissing, "Bearer abc": ErrMissing, "Basic %%%": ErrMissing,
		"Basic YW5u": ErrMissing, "Basic OnNlY3JldA==": ErrMissing, "Basic YW5uOg==": ErrWrong,
	} {
		if _, err := p.Login(t.Context(), header, here); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", header, err, want)
		}
	}
	for outcome, want := range map[string]float64{"ok": 3, "missing": 6, "wrong": 1} {
		var m dto.Metric
		if err := p.logins.WithLabelValues(outcome).Write(&m); err != nil || m.GetCounter().GetValue() != want {
			t.Errorf("%g logins are %s, want %g (%v)", m.GetCounter().GetValue(), outcome, want, err)
		}
	}
}

func TestFilesThatCannotBeTrustedAreRefused(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		format     Format
		text, want string
	}{
		"MD5":               {Htpasswd, "a:" + bcryptHash + "\nhunter2:$apr1$x$hunter2", "line 2: MD5"},
		"SHA-1":             {Htpasswd, "hunter2:{SHA}hunter2", "line 1: MD5 and SHA-1"},
		"written out":       {Htpasswd, "hunter2:hunter2", "neither bcrypt nor argon2"},
		"no colon":          {Htpasswd, "hunter2", "not user:hash"},
		"bcrypt cut off":    {Htpasswd, "hunter2:" + bcryptHash[:50], "damaged"},
		"bcrypt too slow":   {Htpasswd, "hunter2:" + strings.Replace(bcryptHash, "$05$", "$31$", 1), "cost of 31"},
		"argon2 too large":  {Htpasswd, "hunter2:" + strings.Replace(argon2Hash, "65536", "4194304", 1), "out of bounds"},
		"argon2 of nothing": {Htpasswd, "hunter2:" + strings.Replace(argon2Hash, "p=1", "p=0", 1), "out of bounds"},
		"argon2d":           {Htpasswd, "hunter2:" + strings.Replace(argon2Hash, "argon2id", "argon2d", 1), "argon2id and argon2i"},
		"argon2 cut off":    {Htpasswd, "hunter2:" + argon2Hash[:40], "damaged"},
		"twice":             {Htpasswd, "hunter2:" + bcryptHash + "\nhunter2:" + bcryptHash, "line 2: that user is there already"},
		"empty":             {Htpasswd, "# hunter2\n", "no user in it"},
		"empty properties":  {Properties, "", "no user in it"},
	} {
		path := filepath.Join(t.TempDir(), "users")
		write(t, path, row.text)
		_, err := New(Options{Files: []File{{Key: "the.key", Path: path, Format: row.format}}})
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(err.Error(), "the.key: "+path) {
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows what is in the file: %v", name, err)
		}
	}
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "ann:"+hashed(t, "old")+"\n")
	p, err := New(Options{Files: []File{{Path: path}}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	login := func(password string, want error) {
		t.Helper()
		now = now.Add(2 * lookEvery)
		if _, err := p.Login(t.Context(), basic("ann", password), here); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", password, err, want)
		}
	}
	login("old", nil)
	write(t, path, "ann:"+hashed(t, "new")+"\n")
	login("old", ErrWrong) // though it was known to be right
	login("new", nil)
	write(t, path, "ann\n")
	login("new", nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	login("new", nil)
	write(t, path, "bob:"+hashed(t, "new")+"\n")
	login("new", ErrWrong)
}

func TestGuessingGetsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := open(t, Properties, "ann=secret\nbob=secret\n")
		if _, err := p.Login(t.Context(), basic("ann", "secret"), here); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for range freeFailures {
			_, _ = p.Login(t.Context(), basic("ann", "guess"), here)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the first failures took %s", took)
		}
		for range 10 {
			_, _ = p.Login(t.Context(), basic("ann", "guess"), here)
		}
		if took := time.Since(begin); took < 15*time.Second {
			t.Errorf("ten more guesses took %s", took)
		}
		// Who does not wait for the answer, or asks on many connections, gains nothing.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		busy := 0
		for range 100 {
			if _, err := p.Login(ctx, basic("ann", "guess"), here); errors.Is(err, ErrBusy) {
				busy++
			}
		}
		if busy < 100-maxWaiting {
			t.Errorf("%d of 100 guesses at once were refused", busy)
		}
		begin = time.Now()
		if _, err := p.Login(t.Context(), basic("ann", "secret"), here); err != nil {
			t.Errorf("a user who has logged in before is kept out: %v", err)
		}
		if _, err := p.Login(t.Context(), basic("bob", "secret"), elsewhere); err != nil {
			t.Errorf("a user at another address is kept out: %v", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("who knows the password waits %s", took)
		}
		time.Sleep(10 * time.Minute)
		if _, err := p.Login(t.Context(), basic("bob", "secret"), here); err != nil {
			t.Errorf("kept out for ever: %v", err)
		}
	})
}

func TestOneCallerIsANetworkOfIPv6(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "pipe": "pipe",
	} {
		if got := Origin(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestAddressesWithFailuresAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newThrottle(func() time.Time { return now })
	for i := range 2 * maxCallers {
		s.count(string(rune(i)))
	}
	if n := len(s.callers); n > maxCallers {
		t.Errorf("%d addresses are kept", n)
	}
}

func TestLoginsAtOnceAreRight(t *testing.T) {
	t.Parallel()
	p, path := open(t, Htpasswd, "ann:"+hashed(t, "a")+"\n")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if i == 10 {
				write(t, path, "ann:"+hashed(t, "a")+"\nbob:"+hashed(t, "b")+"\n")
			}
			if _, err := p.Login(t.Context(), basic("ann", "a"), here); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func FuzzHtpasswd(f *testing.F) {
	f.Add("a:" + bcryptHash + "\n")
	f.Add("a:" + argon2Hash)
	f.Add("a:$argon2id$v=19$m=,t=1,p=1$$")
	f.Add("#\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, stand, err := parseHtpasswd(text)
		if err == nil && (len(all) > 0) != (stand != nil) {
			t.Errorf("%d users, stand-in %v", len(all), stand != nil)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("Basic YW5uOnNlY3JldA==")
	f.Add("Basic ")
	f.Fuzz(func(t *testing.T, header string) {
		if user, _, ok := parseBasic(header); ok != (user != "") && ok {
			t.Errorf("a login without a user")
		}
	})
}
