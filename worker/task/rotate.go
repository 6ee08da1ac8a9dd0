package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

const (
	// proofTimeout bounds the proof of new credentials, so that a refusal is known within seconds.
	proofTimeout = 3 * time.Second
	// proofPause is between two tries within proofPatience: a broker may learn of a new password a moment after another.
	proofPause    = 300 * time.Millisecond
	proofPatience = time.Second
	// proofValid is how long a proof counts for the other runs of the worker.
	proofValid = 5 * time.Second
	// provesAtOnce bounds the credentials of one run that are proved together.
	provesAtOnce = 4
	// The wait until a change that was refused is tried again.
	firstRetry, lastRetry = time.Second, 30 * time.Second
	// fileLook is how often the files that settings name are looked at.
	fileLook = time.Second
)

// change has a run take the newest values, as far as they work. Values of one place, a user and its password, change
// together; of several places each on its own, so that one that is wrong does not keep the others out.
func (t *Runner) change(ctx context.Context, run *running) {
	s := run.secrets
	s.mu.Lock()
	moved := t.moved(s)
	s.mu.Unlock()
	if moved && !t.reconnect(ctx, run) {
		return
	}
	s.mu.Lock()
	changed := t.changed(s)
	if !s.reload() {
		clear(changed)
	}
	files := s.touchedFiles()
	s.mu.Unlock()
	if len(changed) == 0 && len(files) == 0 {
		t.calm(run)
		return
	}
	groups := places(changed)
	if len(groups) == 0 {
		groups = []map[string]reading{{}}
	}
	var refused []map[string]reading
	var why error
	for _, group := range groups {
		if err := t.attempt(ctx, run, group, files); err != nil {
			refused, why = append(refused, group), err
			continue
		}
		files = nil
	}
	if len(refused) > 1 { // a user in one place, its password in another
		together := map[string]reading{}
		for _, group := range refused {
			maps.Copy(together, group)
		}
		if err := t.attempt(ctx, run, together, files); err == nil {
			refused = nil
		}
	}
	if len(refused) == 0 {
		t.calm(run)
		return
	}
	if ctx.Err() == nil {
		t.trouble(run, refused, files, why)
	}
}

// places splits readings by the place that they come from.
func places(changed map[string]reading) (groups []map[string]reading) {
	at := map[string]int{}
	for _, ref := range slices.Sorted(maps.Keys(changed)) {
		r := configprovider.References(ref)[0]
		place := r.Provider + "\x00" + r.Path
		i, ok := at[place]
		if !ok {
			i = len(groups)
			at[place], groups = i, append(groups, map[string]reading{})
		}
		groups[i][ref] = changed[ref]
	}
	return groups
}

// calm ends the trouble of a run.
func (t *Runner) calm(run *running) {
	s := run.secrets
	s.mu.Lock()
	before := s.trouble
	s.trouble = nil
	s.tell()
	s.mu.Unlock()
	if before != nil {
		t.logOf(run).Info("secret rotation is in order again", "references", strings.Join(before.refs, " "))
	}
}

// trouble notes that a change was refused: the run goes on with what it has.
func (t *Runner) trouble(run *running, refused []map[string]reading, files []clientconfig.File, why error) {
	s := run.secrets
	now := time.Now()
	var refs, told []string
	s.mu.Lock()
	for _, group := range refused {
		for _, ref := range slices.Sorted(maps.Keys(group)) {
			refs = append(refs, ref)
			told = append(told, fmt.Sprintf("%s version %s", ref, orUnknown(group[ref].version)))
			if u := s.uses[ref]; u != nil {
				told[len(told)-1] += fmt.Sprintf(" (version %s stays in use)", orUnknown(u.version))
			}
		}
	}
	if len(refs) == 0 {
		for _, f := range files {
			refs = append(refs, f.Written)
		}
		told = refs
	}
	text := strings.Join(told, ", ") + ": " + why.Error()
	before := s.trouble
	s.trouble = before.again(refs, text, now)
	s.failed++
	s.tell()
	s.mu.Unlock()
	if before == nil || before.text != text {
		t.rotated(run, strings.Join(told, ", "), why)
		t.logOf(run).Warn("secret rotation failed; the old value stays in use", "references", strings.Join(told, ", "), "err", why)
	}
}

func (t *Runner) rotated(run *running, text string, err error) {
	if t.o.Hooks.Rotated != nil {
		t.o.Hooks.Rotated(run.Run, Change{text, err})
	}
}

// again is the trouble after another failure.
func (t *trouble) again(refs []string, text string, now time.Time) *trouble {
	next := &trouble{refs: refs, text: text, since: now}
	wait := firstRetry
	if t != nil && slices.Equal(t.refs, refs) {
		next.since, next.tries = t.since, t.tries+1
		wait = min(firstRetry<<min(next.tries, 10), lastRetry)
	}
	next.next = now.Add(wait)
	return next
}

func orUnknown(version string) string {
	if version == "" {
		return "unknown"
	}
	return version
}

// attempt proves values and has the run's clients take them. An error leaves everything as it was.
func (t *Runner) attempt(ctx context.Context, run *running, changed map[string]reading, files []clientconfig.File) error {
	s := run.secrets
	s.mu.Lock()
	_, next, err := s.with(changed)
	clients := slices.Clone(s.clients)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.proveAll(ctx, run, clients, next); err != nil {
		return err
	}
	return t.commit(ctx, run, changed, files)
}

// proveAll proves what the clients of a run would log in with, each credentials once.
func (t *Runner) proveAll(ctx context.Context, run *running, clients []*openClient, next layers) error {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(provesAtOnce)
	seen := map[string]bool{}
	for _, c := range clients {
		built, _, err := run.build(c.role, next)
		if err != nil {
			return fmt.Errorf("settings of the %s client: %w", c.role, err)
		}
		if built.SameCredentials(c.now) || seen[built.Fingerprint()] {
			continue
		}
		seen[built.Fingerprint()] = true
		g.Go(func() error {
			if err := t.prove(ctx, run, c.role, next); err != nil {
				return fmt.Errorf("%s client of %s: %w", c.role, built.Report.Principal, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// proved is what came of a proof.
type proved struct {
	at  time.Time
	err error
}

// prove logs in with what a client would use, unless another run has just done so.
func (t *Runner) prove(ctx context.Context, run *running, role connector.Role, next layers) error {
	built, _, err := run.build(role, next)
	if err != nil {
		return err
	}
	r, mark := t.rotor, built.Fingerprint()
	r.mu.Lock()
	for key, p := range r.proofs {
		if time.Since(p.at) > proofValid || p.err != nil && time.Since(p.at) > firstRetry/2 {
			delete(r.proofs, key)
		}
	}
	before, known := r.proofs[mark]
	r.mu.Unlock()
	if known {
		return before.err
	}
	for until := time.Now().Add(proofPatience); ; {
		dial := built.Dial
		if t.o.Dialer != nil {
			dial = built.DialWith(t.o.Dialer)
		}
		err = built.Prove(ctx, run.guard.dialer(dial))
		var refused *clientconfig.RefusedError
		if !errors.As(err, &refused) || !pause(ctx, proofPause, until) {
			break
		}
		if built, _, err = run.build(role, next); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.proofs[mark] = proved{time.Now(), err}
	r.mu.Unlock()
	return err
}

// pause waits for d and says whether there is another try before until.
func pause(ctx context.Context, d time.Duration, until time.Time) bool {
	if time.Until(until) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// commit has the clients of a run use values that are proved, and retires the connections that were made with the old.
func (t *Runner) commit(ctx context.Context, run *running, changed map[string]reading, files []clientconfig.File) error {
	s := run.secrets
	s.mu.Lock()
	values, next, err := s.with(changed)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	old, roles, restart, err := run.adopt(next)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	now := time.Now()
	type step struct{ ref, from, to string }
	var steps []step
	for _, ref := range slices.Sorted(maps.Keys(changed)) {
		steps = append(steps, step{ref, s.uses[ref].version, changed[ref].version})
		s.uses[ref] = &use{version: changed[ref].version, since: now, resolved: changed[ref].at}
		if restart != "" {
			s.uses[ref].restart = restart + "; it takes effect when this is started again"
		}
	}
	for _, f := range files {
		from := s.uses[f.Written].version
		s.stampFiles([]clientconfig.File{f}, now)
		steps = append(steps, step{f.Written, from, s.uses[f.Written].version})
	}
	s.values, s.now = values, next
	s.done++
	s.tell()
	s.mu.Unlock()
	for _, st := range steps {
		if len(roles) > 0 || restart != "" {
			t.rotated(run, fmt.Sprintf("%s: version %s in place of %s", st.ref, orUnknown(st.to), orUnknown(st.from)), nil)
			t.logOf(run).Info("secret rotated", "reference", st.ref, "version", st.to, "from", st.from, "clients", strings.Join(roles, " "), "restart", restart)
		}
	}
	if restart != "" && s.reload() {
		t.o.Hooks.Restart(run.Run)
		return nil
	}
	t.retireAll(ctx, run, old)
	return nil
}

// notLive are the keys that have another value, or are new or gone, and are none of TLS or SASL.
func notLive(before, after layers) (keys []string) {
	for _, of := range []struct{ before, after config.Settings }{{before.run, after.run}, {before.worker, after.worker}} {
		either := maps.Clone(of.before)
		if either == nil {
			either = config.Settings{}
		}
		maps.Copy(either, of.after)
		for _, key := range slices.Sorted(maps.Keys(either)) {
			if !of.after[key].Value.Equal(of.before[key].Value) && !clientconfig.Rotates(key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// files are the keystores and truststores that the settings name. s.mu is held.
func (s *secrets) files() []clientconfig.File {
	all := clientconfig.Files(s.now.run)
	for _, prefix := range clientLayers {
		for _, f := range clientconfig.Files(s.now.worker.Sub(prefix)) {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	return all
}

// stampFiles notes how files look that the clients are made of. s.mu is held.
func (s *secrets) stampFiles(files []clientconfig.File, now time.Time) {
	for _, f := range files {
		stamp, version := stampOf(f.Path)
		s.uses[f.Written] = &use{stamp: stamp, version: version, since: now, resolved: now}
	}
}

// stampOf tells versions of a file apart; empty: it cannot be looked at.
func stampOf(name string) (stamp, version string) {
	info, err := os.Stat(name)
	if err != nil {
		return "", ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size()), info.ModTime().UTC().Format("2006-01-02T15:04:05.000000Z")
}

// touchedFiles are those that look otherwise than when clients were made of them, and are there. s.mu is held.
func (s *secrets) touchedFiles() (touched []clientconfig.File) {
	for _, f := range s.files() {
		if stamp, _ := stampOf(f.Path); s.uses[f.Written] != nil && stamp != "" && stamp != s.uses[f.Written].stamp {
			touched = append(touched, f)
		}
	}
	return touched
}

// touched says whether there is such a file; it looks once in a while. s.mu is held.
func (s *secrets) touched(now time.Time) bool {
	if now.Sub(s.looked) < fileLook {
		return false
	}
	s.looked = now
	return len(s.touchedFiles()) > 0
}

// logOf is the log of a run.
func (t *Runner) logOf(run *running) *slog.Logger {
	log := t.o.Log.With("connector", run.Connector)
	if run.Task >= 0 {
		log = log.With("task", run.Task)
	}
	return log
}
