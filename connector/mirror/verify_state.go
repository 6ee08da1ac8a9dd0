package mirror

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// verifyState is what has been compared so far, kept in a file. A later run goes on where the newest entry of
// each partition was taken; it compares up to the ends that the source has by then. It holds offsets, counts and
// digests, no content. Nil keeps nothing.
type verifyState struct {
	file    string
	changed bool
	mu      sync.Mutex
	state   savedState
}

const (
	stateVersion = 1
	// mostSaved bounds the records of a partition that have no counterpart, and the stretches of missing ones, with which it is
	// still taken down.
	mostSaved = 1000
	// largestState bounds the file.
	largestState = 1 << 30
	// writeEvery is how often the file is written.
	writeEvery = 2 * time.Second
)

// savedState is the file's content.
type savedState struct {
	Version    int                        `json:"barnabas_verify_state"`
	Saved      time.Time                  `json:"saved"`
	Source     string                     `json:"source_cluster_id"`
	Target     string                     `json:"target_cluster_id"`
	Committed  bool                       `json:"committed_only"`
	Digests    bool                       `json:"digests,omitempty"`
	Sample     float64                    `json:"sample,omitempty"`
	Seed       uint64                     `json:"seed,omitempty"`
	Partitions map[string]*savedPartition `json:"partitions"`
}

// savedPartition is how far the comparison of a partition is.
type savedPartition struct {
	Copy        string `json:"target_topic"`
	SourceID    string `json:"source_topic_id"`
	TargetID    string `json:"target_topic_id"`
	Method      string `json:"method"`
	SourceStart int64  `json:"source_start"`
	SourceEnd   int64  `json:"source_end"` // of a compacted partition: both ends when it was compared
	TargetEnd   int64  `json:"target_end"`
	Next        int64  `json:"source_next"`
	TargetNext  int64  `json:"target_next"`
	Tally       tally  `json:"found"`
	Timeless    bool   `json:"timestamps_ignored,omitempty"`
	// Of a comparison by sequence.
	LastSource int64         `json:"last_source,omitempty"`
	LastTarget int64         `json:"last_target,omitempty"`
	Early      bool          `json:"early,omitempty"`
	Late       bool          `json:"late,omitempty"`
	GoneBefore int64         `json:"gone_before,omitempty"`
	Open       []savedRecord `json:"open,omitempty"`
	Surplus    []savedRecord `json:"surplus,omitempty"`
	Missing    [][3]int64    `json:"missing,omitempty"`
	Sums       *[2]total     `json:"sums,omitempty"`
	Sampled    sampled       `json:"sampled,omitzero"`
}

// savedRecord is a record that has met nothing yet.
type savedRecord struct {
	Offset int64  `json:"offset"`
	Sum    string `json:"sum"`
	At     int64  `json:"at"`
	ID     uint64 `json:"id"`
	Near   int64  `json:"near,omitempty"`
	Early  bool   `json:"early,omitempty"`
}

// openState reads the file, if there is one, and makes sure that it can be written.
func (v *verification) openState() (*verifyState, error) {
	if v.o.State == "" {
		return nil, nil
	}
	now := savedState{
		Version: stateVersion, Source: v.source.cluster, Target: v.target.cluster, Committed: v.source.committed, Digests: v.o.Digests,
		Partitions: map[string]*savedPartition{},
	}
	if v.sampling() {
		now.Sample, now.Seed = v.o.Sample, v.o.Seed
	}
	s := &verifyState{file: v.o.State, state: now, changed: true}
	before, err := readState(v.o.State)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.write()
	}
	if err != nil {
		return nil, err
	}
	if err := before.fits(now); err != nil {
		return nil, fmt.Errorf("state file %s: %w: name another file, or remove it", v.o.State, err)
	}
	s.state.Partitions = before.Partitions
	if v.sampling() && before.Seed != now.Seed {
		s.state.Seed, v.o.Seed = before.Seed, before.Seed
	}
	for _, p := range v.pairs {
		if err := s.check(v, p); err != nil {
			return nil, fmt.Errorf("state file %s: %s: %w: name another file, or remove it", v.o.State, p.partition, err)
		}
	}
	return s, s.write()
}

func readState(file string) (savedState, error) {
	f, err := os.Open(file)
	if err != nil {
		return savedState{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > largestState {
		return savedState{}, fmt.Errorf("state file %s: it is too large to be one", file)
	}
	var s savedState
	d := json.NewDecoder(f)
	if err := d.Decode(&s); err != nil || s.Version == 0 {
		return s, fmt.Errorf("%s is no state file of a comparison: name another file, or remove it", file)
	}
	if s.Version != stateVersion {
		return s, fmt.Errorf("state file %s: it is of version %d, and this program knows version %d only: name another file", file, s.Version, stateVersion)
	}
	return s, nil
}

// fits says why a state is not one of the comparison that now describes.
func (s savedState) fits(now savedState) error {
	switch {
	case s.Source != now.Source:
		return fmt.Errorf("it is about the source cluster %q, and this one is %q", s.Source, now.Source)
	case s.Target != now.Target:
		return fmt.Errorf("it is about the target cluster %q, and this one is %q", s.Target, now.Target)
	case s.Committed != now.Committed:
		return errors.New("it is of another isolation.level")
	case s.Sample != now.Sample:
		return fmt.Errorf("it is of the sample %g, and now %g is asked for (0 is everything)", s.Sample, now.Sample)
	case s.Digests != now.Digests:
		return errors.New("one comparison has digests and the other has not")
	}
	return nil
}

// check says why the entry of a partition cannot be used.
func (s *verifyState) check(v *verification, p pair) error {
	e := s.state.Partitions[p.String()]
	source, target := v.ids(p)
	switch {
	case e == nil:
		return nil
	case e.Copy != p.copy:
		return fmt.Errorf("its copy was called %s, and is %s", e.Copy, p.copy)
	case e.SourceID != source:
		return errors.New("the topic of the source was deleted and made anew")
	case e.TargetID != target && e.TargetNext > 0:
		return errors.New("the topic of the target was deleted and made anew")
	case e.Next > p.sourceEnd || e.SourceStart > p.sourceEnd:
		return fmt.Errorf("offset %d of the source was compared, which ends at %d now", e.Next, p.sourceEnd)
	case e.TargetNext > p.targetEnd:
		return fmt.Errorf("offset %d of the target was compared, which ends at %d now", e.TargetNext, p.targetEnd)
	}
	return e.possible()
}

// possible says what is wrong with an entry that nobody can have meant.
func (e *savedPartition) possible() error {
	bad := e.Next < 0 || e.TargetNext < 0 || e.SourceStart < 0 || len(e.Open)+len(e.Surplus) > mostSaved || len(e.Missing) > mostSaved
	for _, r := range slices.Concat(e.Open, e.Surplus) {
		_, err := r.placed()
		bad = bad || err != nil
	}
	end := int64(-1)
	for _, m := range e.Missing {
		bad = bad || m[0] <= end || m[1] < m[0] || m[2] < 1 || m[2] > m[1]-m[0]+1
		end = m[1]
	}
	end = 0
	for _, r := range e.Sampled.Ranges {
		bad = bad || r.From < end || r.To <= r.From
		end = r.To
	}
	for _, d := range slices.Concat(e.Tally.Differences, e.Sampled.Tally.Differences) {
		bad = bad || d.impossible()
	}
	if bad || e.Sampled.Done < 0 || e.Sampled.Done > len(e.Sampled.Ranges) {
		return errors.New("the entry is damaged")
	}
	return nil
}

func (d Difference) impossible() bool {
	switch d.Kind {
	case kindMissing:
		return d.Source == nil
	case kindExtra:
		return d.Target == nil
	case kindDifferent, kindDoubled, kindOrder:
		return d.Source == nil || d.Target == nil
	}
	return true
}

// ids returns the ids of a partition's topics.
func (v *verification) ids(p pair) (source, target string) {
	for _, side := range []struct {
		*verifySide
		topic string
		id    *string
	}{{v.source, p.topic, &source}, {v.target, p.copy, &target}} {
		side.mu.Lock()
		if place := side.topics[side.topic]; place != nil {
			*side.id = hex.EncodeToString(place.id[:])
		}
		side.mu.Unlock()
	}
	return source, target
}

// begun returns what was compared of a partition, or nil.
func (s *verifyState) begun(v *verification, p pair) *savedPartition {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.state.Partitions[p.String()]
	switch {
	case e == nil, !v.sampling():
		return e
	case e.Method == MethodRanges && e.Sampled.Done == len(e.Sampled.Ranges):
		return nil // another sample is taken
	}
	return e
}

func (e *savedPartition) compacted() bool {
	return e != nil && (e.Method == MethodKeys || e.Method == MethodSomeKeys)
}

// keysOf says whether the entry holds the comparison of a compacted partition as it still is.
func (e *savedPartition) keysOf(p pair) bool {
	return e.compacted() && e.SourceEnd == p.sourceEnd && e.TargetEnd == p.targetEnd
}

// keep takes down an entry.
func (s *verifyState) keep(v *verification, p pair, e *savedPartition) {
	e.Copy = p.copy
	e.SourceID, e.TargetID = v.ids(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Partitions[p.String()] = e
	s.changed = true
}

// put takes down how far a walk is, unless too much is open.
func (s *verifyState) put(w *walk, start int64) {
	m := w.m
	if m.open.n+m.surplus.n > mostSaved || len(m.missing.list) > mostSaved || w.scrambled {
		return
	}
	e := &savedPartition{
		Method: MethodRecords, SourceStart: start, Next: w.source.next, TargetNext: w.target.next, Tally: m.clone(), Timeless: m.timeless,
		LastSource: m.lastSource, LastTarget: m.lastTarget, Early: m.early, Late: m.late, GoneBefore: m.goneBefore,
		Open: saveShelf(&m.open), Surplus: saveShelf(&m.surplus),
	}
	if w.newer > 0 {
		e.TargetNext = w.newerAt
	}
	if m.digests {
		sums := m.sums
		e.Sums = &sums
	}
	for _, x := range m.missing.list {
		e.Missing = append(e.Missing, [3]int64{x.first, x.last, x.records})
	}
	s.keep(w.v, w.pair, e)
}

func (s *verifyState) putSampled(v *verification, p pair, done sampled) {
	if s == nil {
		return
	}
	done.Tally = done.Tally.clone()
	s.keep(v, p, &savedPartition{Method: MethodRanges, SourceStart: p.sourceStart, Sampled: done})
}

func (s *verifyState) putKeys(w *keyWalk, method string) {
	if s == nil {
		return
	}
	s.keep(w.v, w.pair, &savedPartition{
		Method: method, SourceStart: w.pair.sourceStart, SourceEnd: w.pair.sourceEnd, TargetEnd: w.pair.targetEnd, Tally: w.clone(), Timeless: w.timeless,
	})
}

func saveShelf(s *shelf) []savedRecord {
	var all []savedRecord
	for _, p := range s.ordered() {
		all = append(all, savedRecord{Offset: p.offset, Sum: hex.EncodeToString(p.sum[:]), At: p.at, ID: p.id, Near: p.near, Early: p.early})
	}
	return all
}

func (r savedRecord) placed() (placed, error) {
	sum, err := hex.DecodeString(r.Sum)
	if err != nil || len(sum) != len(digest{}) || r.Offset < 0 {
		return placed{}, errors.New("damaged record")
	}
	return placed{offset: r.Offset, content: content{digest(sum), r.At}, mark: mark{id: r.ID, near: r.Near, early: r.Early}}, nil
}

// matching goes on with an entry, on a stretch that begins where it ended, or later if records have expired since.
func (e *savedPartition) matching(on stretch) *matching {
	m := newMatching(e.Early || on.source > e.Next, e.Late || on.target > e.TargetNext)
	m.tally, m.timeless = e.Tally.clone(), e.Timeless
	m.Resumed = m.Source
	m.lastSource, m.lastTarget, m.goneBefore = e.LastSource, e.LastTarget, e.GoneBefore
	for shelf, saved := range map[*shelf][]savedRecord{&m.open: e.Open, &m.surplus: e.Surplus} {
		for _, r := range saved {
			if p, err := r.placed(); err == nil { // possible has looked
				shelf.put(p.content, p.offset, p.mark)
			}
		}
	}
	for _, x := range e.Missing {
		m.missing.list = append(m.missing.list, span{x[0], x[1], x[2]})
	}
	if e.Sums != nil {
		m.sums = *e.Sums
	}
	return m
}

// run writes the file now and then until ctx ends, and then once more.
func (s *verifyState) run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.write()
		case <-tick.C:
			if err := s.write(); err != nil {
				return err
			}
		}
	}
}

// write replaces the file.
func (s *verifyState) write() error {
	s.mu.Lock()
	if !s.changed {
		s.mu.Unlock()
		return nil
	}
	s.changed = false
	s.state.Saved = time.Now().UTC().Truncate(time.Second)
	var text bytes.Buffer
	err := json.NewEncoder(&text).Encode(s.state) // entries are replaced, never changed
	s.mu.Unlock()
	if err == nil {
		err = replaceFile(s.file, text.Bytes())
	}
	return wrap("write the state file", err)
}

// replaceFile writes a file in one step: there is the old one or the new one, whatever happens.
func replaceFile(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
