package offsetrun

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestUnbrokenCopyIsOneRun(t *testing.T) {
	t.Parallel()
	var m Map
	for i := range int64(1000) {
		m.Append(100+10*i, 7+10*i, 10)
	}
	if runs := m.Runs(); len(runs) != 1 || runs[0] != (Run{100, 7, 10_000}) {
		t.Errorf("runs %v, want one", runs)
	}
	source, target, ok := m.End()
	if source != 10_100 || target != 10_007 || !ok {
		t.Errorf("End: %d, %d, %v", source, target, ok)
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	var m Map
	m.Append(100, 50, 10)
	m.Append(112, 60, 5) // 110 and 111 were not copied
	m.Append(117, 70, 5) // markers at the target
	m.Advance(125)       // 122 to 124 were not copied
	for _, test := range []struct {
		source, target int64
		match          Match
	}{
		{99, -1, Unknown},
		{100, 50, Exact},
		{109, 59, Exact},
		{110, 60, Next},
		{111, 60, Next},
		{112, 60, Exact},
		{116, 64, Exact},
		{117, 70, Exact},
		{121, 74, Exact},
		{122, 75, Next},
		{125, 75, Next}, // a group that has read everything
		{126, -1, Unknown},
	} {
		if target, match := m.Translate(test.source); target != test.target || match != test.match {
			t.Errorf("Translate(%d): %d %v, want %d %v", test.source, target, match, test.target, test.match)
		}
	}
	var empty Map
	if target, match := empty.Translate(0); target != -1 || match != Unknown {
		t.Errorf("of an empty map: %d %v", target, match)
	}
}

func TestCopyingAgainReplaces(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		again Run
		want  []Run
	}{
		"from the middle of a run":    {Run{105, 200, 3}, []Run{{100, 50, 5}, {105, 200, 3}}},
		"from a gap":                  {Run{111, 200, 3}, []Run{{100, 50, 10}, {111, 200, 3}}},
		"from before all":             {Run{10, 200, 3}, []Run{{10, 200, 3}}},
		"target truncated":            {Run{130, 55, 3}, []Run{{100, 50, 5}, {130, 55, 3}}},
		"target recreated":            {Run{130, 0, 3}, []Run{{130, 0, 3}}},
		"truncated where it goes on":  {Run{114, 62, 3}, []Run{{100, 50, 10}, {112, 60, 5}}},
		"both back, source the more":  {Run{103, 58, 3}, []Run{{100, 50, 3}, {103, 58, 3}}},
		"nothing":                     {Run{103, 58, 0}, []Run{{100, 50, 10}, {112, 60, 10}}},
		"no offset that there can be": {Run{-1, 58, 1}, []Run{{100, 50, 10}, {112, 60, 10}}},
	} {
		var m Map
		m.Append(100, 50, 10)
		m.Append(112, 60, 10)
		m.Append(test.again.Source, test.again.Target, test.again.Count)
		if got := m.Runs(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// truth is a map that forgets nothing.
type truth struct {
	targets map[int64]int64
	sources []int64 // in order
	upTo    int64
}

func (tr *truth) append(source, target, count int64) {
	tr.sources = slices.DeleteFunc(tr.sources, func(s int64) bool {
		gone := s >= source || tr.targets[s] >= target
		if gone {
			delete(tr.targets, s)
		}
		return gone
	})
	for i := range count {
		tr.sources = append(tr.sources, source+i)
		tr.targets[source+i] = target + i
	}
	tr.upTo = source + count
}

// check holds what a map says of an offset against the truth.
func (tr *truth) check(t *testing.T, m *Map, source int64) Match {
	t.Helper()
	got, match := m.Translate(source)
	at, copied := slices.BinarySearch(tr.sources, source)
	right := int64(-1) // where a group that has read up to source goes on
	switch {
	case at < len(tr.sources):
		right = tr.targets[tr.sources[at]]
	case len(tr.sources) > 0:
		right = tr.targets[tr.sources[len(tr.sources)-1]] + 1
	}
	wrong := false
	switch match {
	case Exact:
		wrong = !copied || got != right
	case Next:
		wrong = copied || got != right
	case Before:
		wrong = got > right
	case Unknown:
		wrong = got != -1 || len(tr.sources) > 0 && source >= m.Runs()[0].Source && source <= tr.upTo
	}
	if wrong {
		t.Fatalf("Translate(%d): %d %v; the record is copied: %v, to go on at %d is right", source, got, match, copied, right)
	}
	return match
}

func TestMapAgreesWithTheTruth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, tr := &Map{}, &truth{targets: map[int64]int64{}}
		source, target := rng.Int64N(100), rng.Int64N(100)
		for range 40 + rng.IntN(400) {
			if rng.IntN(60) == 0 {
				source = max(0, source-rng.Int64N(50))
			}
			if rng.IntN(60) == 0 {
				target = max(0, target-rng.Int64N(50))
			}
			count := 1 + rng.Int64N(4)
			m.Append(source, target, count)
			tr.append(source, target, count)
			source, target = source+count+rng.Int64N(3), target+count+rng.Int64N(2)*rng.Int64N(2)
		}
		for offset := range source + 5 {
			if tr.check(t, m, offset) == Before {
				t.Fatalf("seed %d: thinned with %d runs", seed, m.Len())
			}
		}
	}
}

// A copy in runs of a few records for ever: the map stays within its bound, what is thinned out is said to be,
// and never is an offset given that would leave something out.
func TestMapIsBounded(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	m, tr := &Map{}, &truth{targets: map[int64]int64{}}
	source, target := int64(0), int64(0)
	for i := range 4 * MaxRuns {
		count := 1 + rng.Int64N(3)
		if i == 500 {
			count = 50_000 // a long one among short ones stays
		}
		m.Append(source, target, count)
		for k := range count {
			tr.sources = append(tr.sources, source+k)
			tr.targets[source+k] = target + k
		}
		tr.upTo = source + count
		source, target = source+count+1+rng.Int64N(2), target+count
		if i%50 == 0 && m.Len() > MaxRuns {
			t.Fatalf("%d runs after %d, want at most %d", m.Len(), i, MaxRuns)
		}
	}
	counts := map[Match]int{}
	for offset := int64(0); offset < source; offset += 1 + rng.Int64N(100) {
		counts[tr.check(t, m, offset)]++
	}
	bytes := 0
	for _, s := range m.closed {
		bytes += len(s.runs)
	}
	t.Logf("%d runs became %d in %d bytes; of offsets %v", 4*MaxRuns, m.Len(), bytes, counts)
	runs := m.Runs()
	if !slices.Contains(runs, tr.longest()) {
		t.Error("the long run was thinned out")
	}
	// The newest are all there.
	from := runs[len(runs)-exactRuns].Source
	for offset := from; offset <= tr.upTo; offset += 1 + rng.Int64N(6) {
		if tr.check(t, m, offset) == Before {
			t.Fatalf("offset %d is thinned out, and runs from %d on should not be", offset, from)
		}
	}
	if bytes > 64<<10 {
		t.Errorf("the segments take %d bytes in memory", bytes)
	}
}

// longest is the run of the 50,000.
func (tr *truth) longest() Run {
	var best, run Run
	for _, s := range tr.sources {
		if s == run.Source+run.Count && run.Count > 0 {
			run.Count++
		} else {
			run = Run{s, tr.targets[s], 1}
		}
		if run.Count > best.Count {
			best = run
		}
	}
	return best
}

func TestTrimDropsWhatTheSourceHasNoMore(t *testing.T) {
	t.Parallel()
	b := NewBook(Key{"o", "t", 0})
	for i := range int64(10 * segmentRuns) {
		b.Map.Append(10*i, 5*i, 5)
	}
	b.Saved(b.Flush())
	b.Map.Trim(10 * 3 * segmentRuns) // three segments, of the 9 that are closed
	if n := b.Map.Len(); n != 7*segmentRuns {
		t.Errorf("%d runs left, want %d", n, 7*segmentRuns)
	}
	tombstones := 0
	for _, r := range b.Flush().Records {
		if r.Value == nil {
			tombstones++
		}
	}
	if tombstones != 3 {
		t.Errorf("%d tombstones, want 3", tombstones)
	}
	if _, match := b.Map.Translate(10*3*segmentRuns - 1); match != Unknown {
		t.Errorf("below what is left: %v", match)
	}
	b.Map.Trim(1 << 40)
	if source, _, ok := b.Map.End(); !ok || source != 10*(10*segmentRuns-1)+5 {
		t.Errorf("the end is lost: %d %v", source, ok)
	}
}
