// Package auth tells who calls the REST API. It reads who says so from files of
// users, judges names and passwords, and slows down who guesses. What a caller
// may do is not its business.
//
// Easy to get wrong: a hash of a password is expensive by design, so a caller who
// sends one request after the other may not cost one each time (see known), and
// callers who are wrong may not keep all processors busy (see hashing).
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"barnabas/config"
)

// Reasons why nobody is logged in.
var (
	// ErrMissing: the request names no user, in this scheme at least.
	ErrMissing = errors.New("no user and password")
	// ErrWrong: there is no such user, or that is not the password. Which, nobody is told.
	ErrWrong = errors.New("wrong user or password")
	// ErrBusy: too many wrong passwords come from that address, or from everywhere, so that this one was not looked at.
	ErrBusy = errors.New("too many failed logins")
)

// Options is what Passwords needs. Without Files nobody gets in.
type Options struct {
	Files []File
	// Log gets a line when a file has changed or cannot be read any more, and at
	// most one a minute about failed logins; nil discards them.
	Log *slog.Logger
	// Metrics is where logins are counted; nil leaves that out.
	Metrics prometheus.Registerer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Passwords is basic authentication (RFC 7617) with users from files, which are
// read again when they change. It may be used by many goroutines. Make it with New.
type Passwords struct {
	log     *slog.Logger
	now     func() time.Time
	files   []*users
	slow    *throttle
	hashing *semaphore.Weighted // bounds the hashes that are computed at once
	logins  *prometheus.CounterVec

	mu      sync.Mutex
	secret  [32]byte                     // key of known, of this process only
	known   map[[sha256.Size]byte]string // user by credentials that were right, since the files were last read
	told    time.Time                    // when failed logins were last logged
	untold  int                          // failed logins since
	reading uint64                       // counts readings of files
}

// maxKnown bounds the credentials that are remembered: more users at once than an
// API of this kind has.
const maxKnown = 1024

// hashWait bounds how long a login waits for its turn.
const hashWait = 10 * time.Second

// tellEvery is how often failed logins are logged at most.
const tellEvery = time.Minute

// New reads the files. Its error says what is wrong in which line, and holds
// nothing of the file.
func New(o Options) (*Passwords, error) {
	p := &Passwords{
		log: o.Log, now: o.Now, known: map[[sha256.Size]byte]string{},
		hashing: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2))),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.slow = newThrottle(p.now)
	_, _ = rand.Read(p.secret[:]) // never fails, by its contract
	var problems []error
	for _, f := range o.Files {
		u := &users{file: f}
		if err := u.read(); err != nil {
			problems = append(problems, err)
		}
		p.files = append(p.files, u)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	p.logins = loginCounter(o.Metrics)
	return p, nil
}

// loginCounter returns the counter of logins of a registry, which all ways to log in share.
func loginCounter(r prometheus.Registerer) *prometheus.CounterVec {
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "barnabas_rest_logins_total",
		Help: "Requests by what became of the login: ok, missing (no user named), wrong, busy (refused unseen after too many wrong ones), unavailable (the identity provider is not reached).",
	}, []string{"outcome"})
	if r == nil {
		return counter
	}
	err := r.Register(counter)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if known, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
			return known
		}
	}
	return counter
}

// Login says which user a header Authorization proves, of a request from the
// address. A wrong one is answered the later the more there were.
func (p *Passwords) Login(ctx context.Context, header, address string) (user string, err error) {
	outcome := "ok"
	defer func() { p.logins.WithLabelValues(outcome).Inc() }()
	user, password, ok := parseBasic(header)
	if !ok {
		outcome = "missing"
		return "", ErrMissing
	}
	p.refresh()
	id, reading := p.identify(user, password)
	if p.isKnown(id) {
		return user, nil
	}
	host := Origin(address)
	if !p.slow.admits(host) {
		outcome = "busy"
		p.tell(address)
		return "", ErrBusy
	}
	right, err := p.judge(ctx, user, password)
	switch {
	case err != nil:
		outcome = "busy"
		return "", err
	case right:
		p.remember(id, user, reading)
		return user, nil
	}
	outcome = "wrong"
	p.tell(address)
	p.slow.failed(ctx, host)
	return "", ErrWrong
}

// parseBasic reads the header of basic authentication. Like Kafka's JaasBasicAuthFilter it takes the scheme in any case, and no
// empty name; unlike there, what is not base64 is no internal error.
func parseBasic(header string) (user string, password config.Secret, ok bool) {
	scheme, rest, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Basic") {
		return "", config.Secret{}, false
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimLeft(rest, " "))
	if err != nil {
		if plain, err = base64.RawStdEncoding.DecodeString(strings.TrimLeft(rest, " ")); err != nil {
			return "", config.Secret{}, false
		}
	}
	name, pass, found := strings.Cut(string(plain), ":")
	return name, config.NewSecret(pass), found && name != ""
}

// Origin is what counts as one caller: an address, or a network of IPv6 as one
// customer of a provider has.
func Origin(address string) string {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return network(a.Addr())
	}
	if a, err := netip.ParseAddr(address); err == nil {
		return network(a)
	}
	return address
}

func network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, _ := a.Prefix(64) // 64 bits fit
	return p.String()
}

// judge looks the user up in all files.
func (p *Passwords) judge(ctx context.Context, user string, password config.Secret) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	if p.hashing.Acquire(ctx, 1) != nil {
		return false, ErrBusy
	}
	defer p.hashing.Release(1)
	right := false
	for _, f := range p.files {
		right = f.verify(user, password) || right
	}
	return right, nil
}

// refresh reads files that have changed. A file that is wrong changes nothing.
func (p *Passwords) refresh() {
	changed := false
	for _, f := range p.files {
		was, err := f.refresh(p.now())
		switch {
		case err != nil:
			p.log.Error("file of users not read again, the users before still stand", "err", err)
		case was:
			p.log.Info("file of users read again", "file", f.file.Path, "users", f.count())
			changed = true
		}
	}
	if changed {
		p.mu.Lock()
		clear(p.known)
		p.reading++
		p.mu.Unlock()
	}
}

// identify makes of credentials what they are remembered by, which tells nothing
// about them.
func (p *Passwords) identify(user string, password config.Secret) (id [sha256.Size]byte, reading uint64) {
	m := hmac.New(sha256.New, p.secret[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(user))))
	m.Write([]byte(user))
	m.Write([]byte(password.Reveal()))
	p.mu.Lock()
	defer p.mu.Unlock()
	return [sha256.Size]byte(m.Sum(nil)), p.reading
}

func (p *Passwords) isKnown(id [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.known[id]
	return ok
}

// remember keeps credentials that were right, unless the files have been read
// again since they were judged.
func (p *Passwords) remember(id [sha256.Size]byte, user string, reading uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != reading {
		return
	}
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[id] = user
}

// tell logs failed logins. It names no user: people type passwords there.
func (p *Passwords) tell(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.untold++
	if now := p.now(); now.Sub(p.told) >= tellEvery {
		p.log.Warn("failed logins", "number", p.untold, "last_from", address)
		p.told, p.untold = now, 0
	}
}

// Users lists the names of all users, sorted.
func (p *Passwords) Users() []string {
	var all []string
	for _, f := range p.files {
		all = append(all, f.names()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
