package connection

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"time"
)

// What a version came from.
const (
	Created    = "created"
	Updated    = "updated"
	Deleted    = "deleted"
	RolledBack = "rolled back"
)

// Change says who makes a version, and when.
type Change struct {
	By      string    `json:"by,omitempty"`
	Address string    `json:"address,omitempty"` // of the client
	At      time.Time `json:"at"`
}

// Version is one version of a connection.
type Version struct {
	Number int64  `json:"version"`
	What   string `json:"what"`
	Change
	From int64 `json:"from,omitempty"` // what was rolled back to
	// Spec is nil if the connection was deleted.
	Spec *Spec `json:"spec,omitempty"`
}

// Record is what is kept of a connection: its versions, the oldest first. The last one counts.
type Record struct {
	Versions []Version `json:"versions"`
	// Created is the first version since the connection is there, even if it is kept no more.
	Created Change `json:"created"`
}

// Why a version cannot be had.
var (
	ErrVersion = errors.New("there is no such version")
	ErrDeleted = errors.New("that version is the deletion")
)

// Present is the version that counts; false: there is no connection.
func (r Record) Present() (Version, bool) {
	if len(r.Versions) == 0 {
		return Version{}, false
	}
	last := r.Versions[len(r.Versions)-1]
	return last, last.Spec != nil
}

// Version returns one version.
func (r Record) Version(number int64) (Version, error) {
	for _, v := range r.Versions {
		if v.Number == number {
			return v, nil
		}
	}
	return Version{}, ErrVersion
}

// Put returns the record with spec as its newest version, of which keep are kept; the same record if spec is what it is already.
func (r Record) Put(spec Spec, c Change, keep int) (next Record, created bool) {
	present, exists := r.Present()
	if exists && reflect.DeepEqual(normal(*present.Spec), normal(spec)) {
		return r, false
	}
	what := Updated
	if !exists {
		what = Created
	}
	return r.with(Version{What: what, Change: c, Spec: &spec}, keep), !exists
}

// Delete returns the record of a connection that is there no more.
func (r Record) Delete(c Change, keep int) Record {
	return r.with(Version{What: Deleted, Change: c}, keep)
}

// RollBack returns the record with an earlier version as the newest; a deleted connection is there again.
func (r Record) RollBack(number int64, c Change, keep int) (Record, error) {
	v, err := r.Version(number)
	switch {
	case err != nil:
		return r, err
	case v.Spec == nil:
		return r, ErrDeleted
	}
	if present, exists := r.Present(); exists && reflect.DeepEqual(normal(*present.Spec), normal(*v.Spec)) {
		return r, nil
	}
	return r.with(Version{What: RolledBack, Change: c, From: number, Spec: v.Spec}, keep), nil
}

// with adds a version, and drops the oldest beyond keep, at least one of which is the new one, or beyond what a record may hold.
func (r Record) with(v Version, keep int) Record {
	if _, exists := r.Present(); !exists {
		r.Created = v.Change
	}
	v.Number = 1
	if n := len(r.Versions); n > 0 {
		v.Number = r.Versions[n-1].Number + 1
	}
	all := append(slices.Clone(r.Versions), v)
	all = all[max(0, len(all)-max(1, keep)):]
	for len(all) > 1 {
		if text, err := json.Marshal(all); err == nil && len(text) <= maxRecord {
			break
		}
		all = all[1:]
	}
	r.Versions = all
	return r
}

// normal makes an empty map or list the same as none.
func normal(s Spec) Spec {
	text, err := json.Marshal(s)
	if err != nil {
		return s
	}
	var n Spec
	_ = json.Unmarshal(text, &n) // it was one
	return n
}
