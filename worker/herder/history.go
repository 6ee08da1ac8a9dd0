package herder

import (
	"maps"
	"slices"
)

// This file keeps the versions of connectors' configurations. A version is a record of its own in the config topic, in the
// transaction of the change itself: neither is there without the other. Its key has connector and number, so compaction keeps
// it; Kafka Connect skips it, so it survives a time under Connect. What Connect, or a worker that keeps no history, has
// changed meanwhile is found at the next change, and becomes a version without an author first.

// What a version came from.
const (
	Created    = "created"
	Updated    = "updated"
	Patched    = "patched"
	Deleted    = "deleted"
	RolledBack = "rolled back"
	Found      = "found" // changed by somebody who writes no history
)

// Change says who changes a configuration, for the history.
type Change struct {
	What    string `json:"what"` // empty: created or updated
	User    string `json:"user"`
	Address string `json:"address,omitempty"`
	At      int64  `json:"at"`             // wall clock, ms since the epoch; shown, never decided on
	From    int64  `json:"from,omitempty"` // the version that was rolled back to
}

// Version is one version of a connector's configuration.
type Version struct {
	Number int64 `json:"version"`
	Change
	// Changed are the keys whose values differ from those before, sorted.
	Changed []string `json:"changed,omitempty"`
	// Config is nil if the connector was deleted, or if it is too large (Omitted). Hidden are the keys, sorted, whose
	// values are secrets written out, which are not kept.
	Config  map[string]string `json:"config,omitempty"`
	Hidden  []string          `json:"hidden,omitempty"`
	Omitted bool              `json:"omitted,omitempty"`
}

// History is the record of one version; a nil Version deletes it.
type History struct {
	Name    string
	Number  int64
	Version *Version
}

func (History) record() {}

// Bounds of the history.
const (
	maxVersionBytes = 256 << 10 // of a configuration: its own record holds up to 1 MiB
	maxDeleted      = 256       // deleted connectors whose history is kept
)

func (m *Machine) applyHistory(r History) {
	have := slices.DeleteFunc(slices.Clone(m.histories[r.Name]), func(v *Version) bool { return v.Number == r.Number })
	if r.Version != nil {
		have = append(have, r.Version)
		slices.SortFunc(have, func(a, b *Version) int { return int(a.Number - b.Number) })
	}
	if m.histories[r.Name] = have; len(have) == 0 {
		delete(m.histories, r.Name)
	}
}

// History returns the versions of a connector's configuration that are kept, the oldest first. They must not be changed.
func (m *Machine) History(name string) []*Version { return m.histories[name] }

// remember adds the records for a change of a configuration to config, nil if the connector is deleted.
func (d *draft) remember(name string, config map[string]string, change Change) {
	m := d.m
	if m.versions == 0 {
		return
	}
	have := m.histories[name]
	var last *Version
	next := int64(1)
	if len(have) > 0 {
		last = have[len(have)-1]
		next = last.Number + 1
	}
	var before map[string]string
	if c := m.connectors[name]; c != nil {
		before = c.config
		kept, hidden := m.concealed(before)
		if last == nil || !last.Omitted && (!maps.Equal(kept, last.Config) || !slices.Equal(hidden, last.Hidden)) {
			found := newVersion(next, Change{What: Found, At: change.At}, nil, kept, hidden)
			if last != nil {
				found.Changed = changedKeys(last.Config, kept)
			}
			d.records = append(d.records, History{name, next, found})
			have, next = append(slices.Clone(have), found), next+1
		}
	}
	if before != nil && maps.Equal(before, config) {
		return // the same again
	}
	switch {
	case config == nil:
		change.What = Deleted
	case change.What == "" && before == nil:
		change.What = Created
	case change.What == "":
		change.What = Updated
	}
	var changed []string
	if before != nil && config != nil {
		changed = changedKeys(before, config)
	}
	kept, hidden := m.concealed(config)
	d.records = append(d.records, History{name, next, newVersion(next, change, changed, kept, hidden)})
	for i := range max(0, len(have)+1-m.versions) {
		if i < len(have) {
			d.records = append(d.records, History{Name: name, Number: have[i].Number})
		}
	}
	if config == nil {
		d.forgetDeleted(name)
	}
}

// forgetDeleted drops the history of the connector that was deleted first, if there are too many such.
func (d *draft) forgetDeleted(besides string) {
	m := d.m
	oldest, n := "", 1
	for _, name := range sorted(m.histories) {
		if m.connectors[name] != nil || name == besides || d.touched[name] {
			continue
		}
		n++
		if oldest == "" || lastOf(m.histories[name]).At < lastOf(m.histories[oldest]).At {
			oldest = name
		}
	}
	if n <= maxDeleted || oldest == "" {
		return
	}
	d.touched[oldest] = true
	for _, v := range m.histories[oldest] {
		d.records = append(d.records, History{Name: oldest, Number: v.Number})
	}
}

func lastOf(versions []*Version) *Version { return versions[len(versions)-1] }

func (m *Machine) concealed(config map[string]string) (kept map[string]string, hidden []string) {
	if config == nil || m.conceal == nil {
		return config, nil
	}
	return m.conceal(config)
}

func newVersion(number int64, change Change, changed []string, kept map[string]string, hidden []string) *Version {
	v := &Version{Number: number, Change: change, Changed: changed, Config: kept, Hidden: hidden}
	size := 0
	for k, value := range kept {
		size += len(k) + len(value)
	}
	if size > maxVersionBytes {
		v.Config, v.Hidden, v.Omitted = nil, nil, true
	}
	return v
}

// changedKeys returns the keys that are not the same in both, sorted.
func changedKeys(a, b map[string]string) []string {
	changed := map[string]bool{}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			changed[k] = true
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			changed[k] = true
		}
	}
	return sorted(changed)
}
