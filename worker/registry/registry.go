// Package registry is the secret registry: values under a path and a key, in numbered versions, encrypted in a compacted
// topic of the workers' Kafka. Each value has a data key of its own, wrapped by a master key that comes from another
// provider. In memory the values are as they are in the topic; one is decrypted for whom it is read, and for nobody else.
//
// Every worker may write: who does takes a transactional id, which shuts all others out, reads the topic to its end and
// writes what follows from that. So two workers cannot give one version number to two values.
//
// Easy to get wrong: paths, keys and version numbers are not encrypted.
package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/worker/store"
)

// DefaultTopic is where values are kept unless kafkastore.topic says otherwise.
const DefaultTopic = "_barnabas-secrets"

// Bounds.
const (
	maxValueBytes = 256 << 10
	// maxVersions bounds the versions of a key that are kept; the oldest are deleted.
	maxVersions = 32
	// writeAttempts bounds how often a write is tried when another worker writes at the same time.
	writeAttempts = 5
	writeTimeout  = 10 * time.Second
)

// name is what paths and keys look like. A colon or brace would end them in a reference, a slash in an address.
var name = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// Why something cannot be done.
var (
	ErrNotFound = errors.New("no such secret")
	ErrName     = errors.New("paths and keys are 1 to 128 of A-Z a-z 0-9 _ . - and do not begin with . or -")
	ErrValue    = fmt.Errorf("a secret has 1 to %d bytes", maxValueBytes)
	ErrMaster   = errMaster
	errNotReady = errors.New("the secret registry has not been read yet")
)

// place is where a version is kept. Version 0 stands for the key itself: it remembers the last number given.
type place struct {
	Path    string `json:"path"`
	Key     string `json:"key"`
	Version int64  `json:"version"`
}

// record is the value of a record of the topic.
type record struct {
	Sealed *sealed `json:"sealed,omitempty"`
	Last   int64   `json:"last,omitempty"` // of version 0
	At     int64   `json:"at"`             // ms since 1970
	By     string  `json:"by,omitempty"`
}

// Version describes a version of a secret. It holds no value.
type Version struct {
	Path    string    `json:"path"`
	Key     string    `json:"key"`
	Version int64     `json:"version"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
}

// Registry holds what is in the topic. Its provider (Kind) has to be opened, then Connect called, then Run.
type Registry struct {
	masters  masters
	topic    string
	replicas int16
	client   config.Settings
	log      *slog.Logger
	reader   *store.Log
	writer   *store.Leader
	opened   bool
	turn     sync.Mutex // one write at a time

	ready chan struct{} // closed when the topic has been read to its end once
	mu    sync.Mutex
	held  map[place]record
}

// New returns a registry that is not in use until its provider is.
func New() *Registry { return &Registry{ready: make(chan struct{}), held: map[place]record{}} }

// Opened says whether a provider of the worker is the registry.
func (r *Registry) Opened() bool { return r != nil && r.opened }

// Topic is where the values are.
func (r *Registry) Topic() string { return r.topic }

// Client are the settings of the registry's own clients (kafkastore.*), to be laid over the worker's.
func (r *Registry) Client() config.Settings { return r.client }

// Connect tells how to reach the brokers. trouble is told what keeps the topic from being read.
func (r *Registry) Connect(client []kgo.Opt, log *slog.Logger, trouble func(error)) {
	r.log = log
	r.reader = store.NewLog(store.LogOptions{
		Client: client, Topic: r.topic, ReadCommitted: true, Apply: r.apply, Trouble: trouble, Interval: time.Second,
		CaughtUp: func(time.Time) {
			select {
			case <-r.ready:
			default:
				close(r.ready)
			}
		},
	})
	r.writer = store.NewLeader(store.LeaderOptions{Client: client, Topic: r.topic, TransactionalID: "barnabas-secrets-" + r.topic})
}

// StoreTopic is the topic as it has to be.
func (r *Registry) StoreTopic() store.Topic {
	return store.Topic{Name: r.topic, Prefix: "kafkastore.", Partitions: 1, ReplicationFactor: r.replicas, Settings: map[string]string{}}
}

// Run follows the topic until ctx ends. First it wraps what an older master key has wrapped with the present one.
func (r *Registry) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.renew(ctx)
	}()
	err := r.reader.Run(ctx)
	<-done
	r.writer.Resign()
	return err
}

// renewEvery is how often values are looked for that a worker with another order of master keys has stored or wrapped:
// in the middle of a change of the master key there are such.
const renewEvery = 10 * time.Minute

// renew re-wraps data keys once the topic has been read and then from time to time, and tries again soon while it cannot.
func (r *Registry) renew(ctx context.Context) {
	select {
	case <-r.ready:
	case <-ctx.Done():
		return
	}
	for wait := time.Second; ; wait = min(2*wait, renewEvery) {
		n, err := r.Rewrap(ctx)
		switch {
		case err == nil:
			wait = renewEvery
		case ctx.Err() == nil:
			r.log.Warn("secrets cannot be wrapped with the present master key", "err", err)
		}
		if n > 0 {
			r.log.Info("secrets are wrapped with the present master key", "versions", n)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// apply takes a record of the topic.
func (r *Registry) apply(rec store.Record) {
	if rec.Marker {
		return
	}
	var at place
	if json.Unmarshal(rec.Key, &at) != nil || !name.MatchString(at.Path) || !name.MatchString(at.Key) || at.Version < 0 {
		r.log.Warn("record of the secret registry skipped: its key is none of ours", "offset", rec.Offset)
		return
	}
	var value record
	if rec.Value != nil && json.Unmarshal(rec.Value, &value) != nil {
		r.log.Warn("record of the secret registry skipped: it is damaged", "offset", rec.Offset, "path", at.Path, "key", at.Key, "version", at.Version)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.Value == nil {
		delete(r.held, at)
		return
	}
	r.held[at] = value
}

// write has change say what to write, given all that has been written; nil: nothing. It is called again if another worker
// was faster.
func (r *Registry) write(ctx context.Context, change func() ([]store.Entry, error)) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	r.turn.Lock()
	defer r.turn.Unlock()
	for attempt := 1; ; attempt++ {
		err := r.tryWrite(ctx, change)
		if attempt == writeAttempts || !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrNotTaken) {
			return err
		}
		select {
		case <-time.After(time.Duration(50+rand.IntN(100)) * time.Millisecond): //nolint:gosec // no secret
		case <-ctx.Done():
			return err
		}
	}
}

func (r *Registry) tryWrite(ctx context.Context, change func() ([]store.Entry, error)) error {
	if err := r.writer.Take(ctx); err != nil {
		return err
	}
	if err := r.reader.ReadToEnd(ctx); err != nil {
		return err
	}
	entries, err := change()
	if err != nil || len(entries) == 0 {
		return err
	}
	if _, err := r.writer.Append(ctx, entries); err != nil {
		return err
	}
	return r.reader.ReadToEnd(ctx)
}

func entryOf(at place, value *record) (store.Entry, error) {
	key, err := json.Marshal(at)
	if err != nil || value == nil {
		return store.Entry{Key: key}, err
	}
	text, err := json.Marshal(value)
	return store.Entry{Key: key, Value: text}, err
}

// Put stores a new version of a secret.
func (r *Registry) Put(ctx context.Context, path, key string, value config.Secret, by string) (v Version, err error) {
	if !name.MatchString(path) || !name.MatchString(key) {
		return v, ErrName
	}
	if n := len(value.Reveal()); n == 0 || n > maxValueBytes {
		return v, ErrValue
	}
	var mine *record
	err = r.write(ctx, func() ([]store.Entry, error) {
		if at := r.standing(path, key, mine); at > 0 { // an attempt whose outcome was not known has succeeded
			v.Version = at
			return nil, nil
		}
		at := place{path, key, r.last(path, key) + 1}
		s, err := r.masters.seal(at, value)
		if err != nil {
			return nil, err
		}
		now := time.Now().UTC().Truncate(time.Millisecond)
		mine = &record{Sealed: &s, At: now.UnixMilli(), By: by}
		v = Version{path, key, at.Version, now, by}
		changes := map[place]*record{at: mine, {path, key, 0}: {Last: at.Version, At: now.UnixMilli()}}
		if kept := r.versions(path, key); len(kept) >= maxVersions {
			for _, old := range kept[:len(kept)-maxVersions+1] {
				changes[place{path, key, old}] = nil
			}
		}
		return entries(changes)
	})
	return v, err
}

// standing returns the version under which a record stands that was perhaps written; 0: it does not.
func (r *Registry) standing(path, key string, mine *record) int64 {
	if mine == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, there := range r.held {
		if at.Path == path && at.Key == key && there.Sealed != nil && bytes.Equal(there.Sealed.Data, mine.Sealed.Data) {
			return at.Version
		}
	}
	return 0
}

// entries are changes in the order of their places.
func entries(changes map[place]*record) (all []store.Entry, _ error) {
	for _, at := range slices.SortedFunc(maps.Keys(changes), compare) {
		e, err := entryOf(at, changes[at])
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// last is the number last given to a version of a key, deleted ones included.
func (r *Registry) last(path, key string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[place{path, key, 0}].Last
}

// versions are the numbers of the versions of a key, ascending.
func (r *Registry) versions(path, key string) (all []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := range r.held {
		if at.Path == path && at.Key == key && at.Version > 0 {
			all = append(all, at.Version)
		}
	}
	slices.Sort(all)
	return all
}

// Delete deletes a version; 0: all of a key; with an empty key: all of a path. Numbers are not given again.
func (r *Registry) Delete(ctx context.Context, path, key string, version int64) (deleted []Version, err error) {
	err = r.write(ctx, func() ([]store.Entry, error) {
		deleted = r.List(path, key, version)
		if len(deleted) == 0 {
			return nil, ErrNotFound
		}
		changes := map[place]*record{}
		for _, v := range deleted {
			changes[place{v.Path, v.Key, v.Version}] = nil
		}
		return entries(changes)
	})
	return deleted, err
}

// List describes the versions at a path and key, by key and number; empty, or version 0, stands for all.
func (r *Registry) List(path, key string, version int64) []Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Version{}
	for _, at := range slices.SortedFunc(maps.Keys(r.held), compare) {
		if at.Version == 0 || path != "" && at.Path != path || key != "" && at.Key != key || version != 0 && at.Version != version {
			continue
		}
		rec := r.held[at]
		all = append(all, Version{at.Path, at.Key, at.Version, time.UnixMilli(rec.At).UTC(), rec.By})
	}
	return all
}

// Ready waits until the topic has been read to its end once.
func (r *Registry) Ready(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	default:
	}
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return errNotReady
	}
}

// Rewrap wraps all data keys with the first master key that another has wrapped, and returns how many.
func (r *Registry) Rewrap(ctx context.Context) (n int, err error) {
	if !r.outdated() {
		return 0, nil
	}
	err = r.write(ctx, func() ([]store.Entry, error) {
		n = 0
		changes := map[place]*record{}
		r.mu.Lock()
		defer r.mu.Unlock()
		for at, rec := range r.held {
			if rec.Sealed == nil || rec.Sealed.Master == r.masters[0].id {
				continue
			}
			again, err := r.masters.rewrap(at, *rec.Sealed)
			if err != nil {
				return nil, fmt.Errorf("path %s, key %s, version %d: %w", at.Path, at.Key, at.Version, err)
			}
			rec.Sealed = &again
			changes[at] = &rec
			if n++; n == rewrapAtOnce {
				break
			}
		}
		return entries(changes)
	})
	if err == nil && n == rewrapAtOnce {
		more, err := r.Rewrap(ctx)
		return n + more, err
	}
	return n, err
}

// rewrapAtOnce bounds one transaction.
const rewrapAtOnce = 200

func (r *Registry) outdated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.held {
		if rec.Sealed != nil && rec.Sealed.Master != r.masters[0].id {
			return true
		}
	}
	return false
}
