package task

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

// rotor reads again what the runs of a worker refer to, each reference once for all of them, when its time to live is over or
// somebody asks, and has the runs take what has changed.
type rotor struct {
	wake chan struct{} // holds something when there is to be looked at once

	mu      sync.Mutex
	book    map[string]*bookEntry
	reading map[string]bool   // by provider
	proofs  map[string]proved // by fingerprint of credentials
}

// bookEntry is one reference in the book.
type bookEntry struct {
	newest  reading
	next    time.Time      // when it is read again; zero: when somebody asks
	unsure  *config.Secret // read once: a file that is being written looks like that
	history []reading      // former values, the newest first
	failing string         // why it cannot be read
	fails   int            // in a row
	since   time.Time      // of failing
	logged  time.Time
}

// reading is a value and what is known of it.
type reading struct {
	value   config.Secret
	version string
	at      time.Time
}

const (
	// rotorTick is how often the book is looked through. What is read is bounded by the times to live.
	rotorTick = 250 * time.Millisecond
	// The bounds of times to live. A provider that says less is asked once a second, or the other way round.
	minTTL, maxTTL = time.Second, time.Hour
	// readTimeout bounds one look at a provider; one that is slow holds up nobody else.
	readTimeout = 10 * time.Second
	// retryRead is how long a provider that does not answer is left alone at first, doubled up to lastRetryRead. It does not depend on the
	// time to live: that is long where a watch would tell of changes, and a watch does not tell of what it missed.
	retryRead, lastRetryRead = 5 * time.Second, 30 * time.Second
	// maxHistory bounds the former values of a reference that are kept, for the proof that they are refused now.
	maxHistory = 4
	// changesAtOnce bounds the runs that take new values at the same time.
	changesAtOnce = 4
)

func newRotor() *rotor {
	return &rotor{wake: make(chan struct{}, 1), book: map[string]*bookEntry{}, reading: map[string]bool{}, proofs: map[string]proved{}}
}

// know takes down what a run has resolved since asked. s.mu is held.
func (r *rotor) know(s *secrets, ttls map[string]time.Duration, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, value := range s.values {
		e, read := r.book[ref], reading{value, s.uses[ref].version, asked}
		switch {
		case e == nil:
			r.book[ref] = &bookEntry{newest: read}
		case e.newest.at.After(asked): // may be newer than what the run has
		case e.newest.value.Equal(value):
			e.newest = read
		default:
			e.replace(read)
		}
		r.book[ref].lives(ttls[ref], asked)
	}
}

// replace takes a new value and keeps the former one.
func (e *bookEntry) replace(by reading) {
	e.history = append([]reading{e.newest}, e.history...)
	e.history = e.history[:min(len(e.history), maxHistory)]
	e.newest, e.unsure = by, nil
}

// lives sets when the entry is read again.
func (e *bookEntry) lives(ttl time.Duration, now time.Time) {
	e.next = time.Time{}
	if ttl > 0 {
		e.next = now.Add(min(max(ttl, minTTL), maxTTL))
	}
}

// Rotate keeps the values that runs use up to date until ctx ends.
func (t *Runner) Rotate(ctx context.Context) error {
	ticker := time.NewTicker(rotorTick)
	defer ticker.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, changesAtOnce)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-t.rotor.wake:
		}
		for provider, refs := range t.rotor.due(t.using(), time.Now()) {
			under.Go(func() { t.read(ctx, provider, refs) })
		}
		for _, run := range t.outdated(time.Now()) {
			under.Go(func() {
				defer run.secrets.rest()
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
					t.change(ctx, run)
				case <-ctx.Done():
				}
			})
		}
	}
}

// Reread has the references to a path of a provider read again at once: it is said to hold something else.
func (t *Runner) Reread(provider, path string) {
	r := t.rotor
	r.mu.Lock()
	for ref, e := range r.book {
		if of := configprovider.References(ref)[0]; of.Provider == provider && of.Path == path {
			e.next = time.Now()
		}
	}
	r.mu.Unlock()
	r.look()
}

func (s *secrets) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// using are the references of the runs that have their values.
func (t *Runner) using() map[string]bool {
	all := map[string]bool{}
	for _, run := range t.all() {
		run.secrets.mu.Lock()
		for ref := range run.secrets.values {
			all[ref] = true
		}
		run.secrets.mu.Unlock()
	}
	return all
}

func (t *Runner) all() []*running {
	t.mu.Lock()
	defer t.mu.Unlock()
	runs := slices.Collect(maps.Values(t.runs))
	slices.SortFunc(runs, func(a, b *running) int { return int(a.ID - b.ID) })
	return runs
}

// due returns what is to be read now, by provider, and forgets what nobody uses any more.
func (r *rotor) due(using map[string]bool, now time.Time) map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string][]string{}
	for ref, e := range r.book {
		if !using[ref] {
			delete(r.book, ref)
			continue
		}
		provider := configprovider.References(ref)[0].Provider
		if r.reading[provider] || e.next.IsZero() || now.Before(e.next) {
			continue
		}
		all[provider] = append(all[provider], ref)
	}
	for provider := range all {
		r.reading[provider] = true
	}
	return all
}

// read reads references of one provider again.
func (t *Runner) read(ctx context.Context, provider string, refs []string) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	written := map[string]string{}
	for _, ref := range refs {
		written[ref] = ref
	}
	settings, uses, err := t.o.Resolve(ctx, written)
	reasons := map[string]string{}
	if failed := (*configprovider.Error)(nil); errors.As(err, &failed) {
		for _, f := range failed.Failures {
			reasons[f.Key] = f.Reason
			delete(written, f.Key)
		}
		settings, uses, err = t.o.Resolve(ctx, written)
	}
	now := time.Now()
	r := t.rotor
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reading, provider)
	if err != nil {
		for ref := range written {
			reasons[ref] = err.Error()
		}
	}
	for ref, reason := range reasons {
		if e := r.book[ref]; e != nil {
			e.fail(t, ref, reason, now)
		}
	}
	if err != nil {
		return
	}
	for _, u := range uses {
		if e := r.book[u.Reference]; e != nil {
			e.take(settings[u.Key].Value, u, now)
		}
	}
	r.look()
}

// look has the book looked through at once.
func (r *rotor) look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// fail notes that a reference cannot be read: whoever uses it goes on with what they have.
func (e *bookEntry) fail(t *Runner, ref, reason string, now time.Time) {
	if e.failing == "" {
		e.since = now
	}
	if now.Sub(e.logged) > time.Minute {
		e.logged = now
		t.o.Log.Warn("a secret cannot be read again; what runs goes on with the value that it has", "reference", ref, "reason", reason, "version", e.newest.version)
	}
	e.failing, e.unsure, e.next = reason, nil, now.Add(min(retryRead<<min(e.fails, 10), lastRetryRead))
	e.fails++
}

// take takes what was read. A new value counts when it has been read twice.
func (e *bookEntry) take(value config.Secret, u configprovider.Use, now time.Time) {
	e.failing, e.fails = "", 0
	e.lives(u.TTL, now)
	switch {
	case e.newest.value.Equal(value):
		e.newest.version, e.newest.at, e.unsure = u.Version, now, nil
	case e.unsure == nil || !e.unsure.Equal(value):
		e.unsure, e.next = &value, now.Add(rotorTick)
	default:
		e.replace(reading{value, u.Version, now})
	}
}

// outdated are the runs that do not use the newest values, and do not wait before they try again. They count as busy.
func (t *Runner) outdated(now time.Time) (runs []*running) {
	for _, run := range t.all() {
		s := run.secrets
		s.mu.Lock()
		if s.ready && !s.busy && (s.trouble == nil || !now.Before(s.trouble.next)) && (s.reload() && len(t.changed(s)) > 0 || t.moved(s) || s.trouble != nil || s.touched(now)) {
			s.busy = true
			runs = append(runs, run)
		}
		s.mu.Unlock()
	}
	return runs
}

// changed are the references whose newest value is not what the run uses. It takes over newer versions of the same value. s.mu is held.
func (t *Runner) changed(s *secrets) map[string]reading {
	t.rotor.mu.Lock()
	defer t.rotor.mu.Unlock()
	all := map[string]reading{}
	for ref, value := range s.values {
		e := t.rotor.book[ref]
		switch {
		case e == nil:
		case e.newest.value.Equal(value):
			s.uses[ref].resolved = e.newest.at
			if u := s.uses[ref]; u.version != e.newest.version {
				u.version = e.newest.version // written again with the same value
			}
		default:
			all[ref] = e.newest
		}
	}
	return all
}
