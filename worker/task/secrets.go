package task

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connection"
	"barnabas/connector"
)

// secrets are the values that a run uses, and the clients that log in with them. The values are only here and in
// those clients.
type secrets struct {
	// runs and worker are what is written: the run's configuration, and what there is of the worker's for its clients
	// (producer., consumer., admin.) with references in it.
	runs, worker map[string]string
	// config is the configuration before its connections were put in; runs is what it stands for.
	config map[string]string

	mu      sync.Mutex
	ready   bool                     // the run has its values
	values  map[string]config.Secret // by reference
	uses    map[string]*use          // by reference, and by path for files that settings name
	now     layers
	clients []*openClient
	busy    bool // a change is under way
	trouble *trouble
	looked  time.Time       // at files
	waits   *connector.Note // for its secrets, before it begins
	told    atomic.Pointer[[]connector.Note]
	done    int64 // changes that were made
	failed  int64 // changes that were refused
	// connections are those that the configuration names, as of revision.
	connections []connection.Use
	revision    int64
}

// layers are settings with their values.
type layers struct{ run, worker config.Settings }

// use is what is known of one reference, or file, in a run.
type use struct {
	version  string
	since    time.Time // the run uses this version
	resolved time.Time
	// stamp is, of a file, its time and size when it was read.
	stamp string
	// restart says why the run has to be started again for the value.
	restart string
}

// trouble is a change that could not be made.
type trouble struct {
	refs  []string
	text  string
	since time.Time
	tries int
	next  time.Time // when it is tried again
}

// openClient is a client of a run.
type openClient struct {
	role   connector.Role
	id     string // client.id
	base   *clientconfig.Client
	now    *clientconfig.Client // what base has adopted last
	conns  *connections
	client *kgo.Client
}

// Prefixes of the keys under which worker settings and bare references are resolved together with a run's
// configuration: no key of Kafka's holds a NUL.
const (
	workerKey    = "\x00worker:"
	referenceKey = "\x00reference:"
)

// clientLayers are the worker's settings that reach the clients of runs.
var clientLayers = []string{"producer.", "consumer.", "admin."}

func newSecrets(run map[string]string, worker config.Settings) *secrets {
	s := &secrets{runs: run, config: run, worker: map[string]string{}, values: map[string]config.Secret{}, uses: map[string]*use{}}
	for key, setting := range worker {
		layer := slices.ContainsFunc(clientLayers, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		if layer && config.HasReference(setting.Written) {
			s.worker[key] = setting.Written
		}
	}
	return s
}

// The wait until a provider that could not be asked is asked again.
const (
	firstAsk, lastAsk = time.Second, 15 * time.Second
)

// resolve gives a run its values. As long as a provider cannot be asked the run waits, and says so; it has not begun, so it
// does not fail.
func (t *Runner) resolve(ctx context.Context, run *running) (config.Settings, error) {
	wait, told := firstAsk, time.Time{}
	for {
		settings, err := t.resolveOnce(ctx, run)
		var failed *configprovider.Error
		if !errors.As(err, &failed) || !failed.Unavailable() {
			run.secrets.await("")
			return settings, err
		}
		if now := time.Now(); now.Sub(told) > time.Minute {
			told = now
			run.secrets.await(err.Error())
			t.logOf(run).Warn("waits for its secrets: their provider cannot be asked", "err", err)
			if t.has(run) {
				t.o.Hooks.Waiting(run.Run, "It starts when its secrets can be had: "+err.Error())
			}
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
			wait = min(2*wait, lastAsk)
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// await notes what a run waits for before it begins; empty: nothing any more.
func (s *secrets) await(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits = nil; why != "" {
		since := time.Now()
		if told := s.notes(); len(told) > 0 {
			since = told[0].Since
		}
		s.waits = &connector.Note{About: aboutStart, Text: "not started yet: " + why, Since: since, Degraded: true}
	}
	s.tell()
}

// resolveOnce asks the providers once.
func (t *Runner) resolveOnce(ctx context.Context, run *running) (config.Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	s := run.secrets
	revision := t.o.Connections.revision()
	runs, uses, err := t.o.Connections.expand(s.config)
	if err != nil {
		return nil, err
	}
	r, err := t.resolveAll(ctx, runs, s.worker)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expand(runs, uses, revision)
	s.now, s.values, s.uses = r.now, r.values, r.uses
	s.looked = r.at
	s.stampFiles(s.files(), r.at)
	s.ready = true
	t.rotor.know(s, r.ttls, r.at)
	return s.plain(s.now.run), nil
}

// inConfiguration is an error of Resolve with the failures of the configuration's own keys, or, if there are none, those
// of the worker's.
func inConfiguration(err error) error {
	var failed *configprovider.Error
	if !errors.As(err, &failed) {
		return err
	}
	var own, others []configprovider.Failure
	for _, f := range failed.Failures {
		switch {
		case strings.HasPrefix(f.Key, referenceKey):
		case strings.HasPrefix(f.Key, workerKey):
			f.Key = strings.TrimPrefix(f.Key, workerKey)
			others = append(others, f)
		default:
			own = append(own, f)
		}
	}
	return &configprovider.Error{Failures: append(own, others...)}
}

// snapshot returns the settings of the run.
func (s *secrets) snapshot() layers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// with returns the settings with other values for some references. s.mu is held.
func (s *secrets) with(changed map[string]reading) (map[string]config.Secret, layers, error) {
	values := maps.Clone(s.values)
	for ref, r := range changed {
		values[ref] = r.value
	}
	run, err := configprovider.Fill(s.runs, values)
	if err != nil {
		return nil, layers{}, err
	}
	worker, err := configprovider.Fill(s.worker, values)
	if err != nil {
		return nil, layers{}, err
	}
	return values, layers{run, s.now.worker.Merge(worker)}, nil
}

// tell makes the notes of the run anew. s.mu is held.
func (s *secrets) tell() {
	var notes []connector.Note
	if s.waits != nil {
		notes = append(notes, *s.waits)
	}
	if s.trouble != nil {
		notes = append(notes, connector.Note{About: aboutRotation, Text: "rotation failed: " + s.trouble.text, Since: s.trouble.since, Degraded: true})
	}
	for _, ref := range slices.Sorted(maps.Keys(s.uses)) {
		if why := s.uses[ref].restart; why != "" {
			notes = append(notes, connector.Note{About: aboutRotation, Text: ref + " has changed: " + why, Since: s.uses[ref].since})
		}
	}
	s.told.Store(&notes)
}

// notes are what the run says of changes that failed. They are asked for under Runner.mu, so they take no lock.
func (s *secrets) notes() []connector.Note {
	if told := s.told.Load(); told != nil {
		return *told
	}
	return nil
}

// What those notes are about.
const (
	aboutRotation = "secret-rotation"
	aboutStart    = "secrets"
)

// reload says whether the run takes new values by itself (Kafka's config.action.reload).
func (s *secrets) reload() bool {
	return !strings.EqualFold(strings.TrimSpace(s.runs["config.action.reload"]), "none")
}
