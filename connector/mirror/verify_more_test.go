package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// verifyOne compares one topic.
func verifyOne(t *testing.T, o VerifyOptions) PartitionVerdict {
	t.Helper()
	report, err := Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Partitions) != 1 {
		t.Fatalf("%d partitions", len(report.Partitions))
	}
	return report.Partitions[0]
}

func TestVerifyComparesTheNewestOfEachKeyOfCompactedTopics(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	policy := "compact"
	compact := map[string]*string{"cleanup.policy": &policy}
	for _, row := range []struct {
		name, source, target string
		want                 VerifyCounts
		equal                bool
	}{
		{name: "same", source: "abcdeA", target: "abcdeA", want: VerifyCounts{Source: 6, Target: 6, Keys: 5}, equal: true},
		{name: "target-compacted", source: "abcaA", target: "bcA", want: VerifyCounts{Source: 5, Target: 3, Keys: 3}, equal: true},
		{name: "source-compacted", source: "bcA", target: "abcA", want: VerifyCounts{Source: 3, Target: 4, Keys: 3}, equal: true},
		{name: "stale", source: "abcA", target: "abc", want: VerifyCounts{Source: 4, Target: 3, Keys: 3, Different: 1}},
		{name: "lost", source: "abc", target: "ac", want: VerifyCounts{Source: 3, Target: 2, Keys: 3, Missing: 1}},
		{name: "foreign", source: "abc", target: "abcz", want: VerifyCounts{Source: 3, Target: 4, Keys: 4, Extra: 1}},
		{name: "wrong-order", source: "aA", target: "Aa", want: VerifyCounts{Source: 2, Target: 2, Keys: 1, Different: 1}},
		{name: "deleted", source: "ab-b", target: "a", want: VerifyCounts{Source: 3, Target: 1, Keys: 2, Tombstones: 1}, equal: true},
		{name: "deleted-here", source: "a", target: "ab-b", want: VerifyCounts{Source: 1, Target: 3, Keys: 2, Tombstones: 1}, equal: true},
		{name: "not-deleted", source: "ab-b", target: "ab", want: VerifyCounts{Source: 3, Target: 2, Keys: 2, Different: 1}},
	} {
		makeTopic(t, source, row.name, 1, compact)
		verifyWrite(t, source, row.name, row.source)
		verifyWrite(t, target, "A."+row.name, row.target)
		for _, keys := range []int{0, 2} { // at once: all, or only a few
			got := verifyOne(t, VerifyOptions{Config: verifySettings(row.name), Source: source, Target: target, Parallel: 1, keys: keys})
			if diff := cmp.Diff(row.want, got.VerifyCounts); diff != "" || got.Equal() != row.equal || got.Method != MethodKeys {
				t.Errorf("%s, %d keys at once: %q against %q: %+v %s", row.name, keys, row.source, row.target, got, diff)
			}
		}
	}
}

func TestVerifySaysNothingOfKeysThatGotNewerRecordsMeanwhile(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	policy := "compact"
	makeTopic(t, source, "keys", 1, map[string]*string{"cleanup.policy": &policy})
	verifyWrite(t, source, "keys", "abc")
	verifyWrite(t, target, "A.keys", "abcA")
	var once atomic.Bool
	got := verifyOne(t, VerifyOptions{Config: verifySettings("keys"), Source: source, Target: target, Progress: func(int64, int64) {
		if once.CompareAndSwap(false, true) {
			verifyWrite(t, source, "keys", "A")
		}
	}})
	if want := (VerifyCounts{Source: 3, Target: 4, Keys: 3, Superseded: 1}); got.VerifyCounts != want || !got.Equal() {
		t.Errorf("got %+v", got)
	}
}

func TestVerifyFindsWhatASampleHolds(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	const n, lost = 60_000, 20_000
	verifyMany(t, source, "sampled", 100, stretchOf{to: n})
	for _, row := range []struct {
		alias  string
		target []stretchOf
		want   bool
		fault  string
	}{
		{alias: "whole", target: []stretchOf{{to: n}}, want: true},
		// Whatever was written before or twice shifts the offsets.
		{alias: "shifted", target: []stretchOf{{to: 30_000}, {from: 10_000, to: n}}, want: true},
		{alias: "gap", target: []stretchOf{{to: 30_000}, {from: 30_000 + lost, to: n}}, fault: kindMissing},
		{alias: "changed", target: []stretchOf{{to: 30_000}, {from: 30_000, to: 30_000 + lost, changed: true}, {from: 30_000 + lost, to: n}}, fault: kindDifferent},
		{alias: "behind", target: []stretchOf{{to: n - lost}}, fault: kindMissing},
	} {
		t.Run(row.alias, func(t *testing.T) {
			t.Parallel()
			verifyMany(t, target, row.alias+".sampled", 130, row.target...)
			report, err := Verify(t.Context(), VerifyOptions{Config: verifyAlias(row.alias, "sampled"), Source: source, Target: target, Sample: 0.1, Seed: 7})
			if err != nil {
				t.Fatal(err)
			}
			p := report.Partitions[0]
			if p.Equal() != row.want || p.Error != "" || p.Method != MethodRanges || report.Seed != 7 {
				t.Errorf("got %+v", p)
			}
			if p.Source != p.Compared || p.Compared < n/10*9/10 || p.Compared > n/10*11/10 {
				t.Errorf("%d records in %d of %d offsets were compared", p.Source, p.Compared, n)
			}
			if !row.want && (len(p.Differences) == 0 || p.Differences[0].Kind != row.fault) {
				t.Errorf("want %s: %+v", row.fault, p.Differences)
			}
			part := float64(p.Missing+p.Different) / float64(p.Source)
			if !row.want && math.Abs(part-float64(lost)/n) > 0.1 {
				t.Errorf("a third is wrong, and %f of the sample", part)
			}
		})
	}
}

func TestParseSample(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"10%": 0.1, "100%": 1, "0.5%": 0.005, "1/4": 0.25, "1/1": 1} {
		if got, err := ParseSample(text); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %f, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "10", "0%", "101%", "-1%", "1/0", "1/x", "x%", "1/0.5", "NaN%", "1/-3"} {
		if got, err := ParseSample(text); err == nil {
			t.Errorf("%s: got %f", text, got)
		}
	}
}

func TestSampleRangesLieInTheirPartition(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 99, 100, 101, 5000, 123_457, 10_000_000_000} {
		for _, part := range []float64{0.0001, 0.1, 1. / 3, 0.5, 0.95} {
			p := pair{partition: partition{"t", 3}, sourceStart: 1000, sourceEnd: 1000 + n}
			ranges, sum, at := sampleRanges(p, part, 5), int64(0), p.sourceStart
			for _, r := range ranges {
				if r.From < at || r.To <= r.From || r.To > p.sourceEnd {
					t.Fatalf("%d offsets, %f: %v", n, part, ranges)
				}
				at, sum = r.To, sum+r.To-r.From
			}
			if want := float64(n) * part; float64(sum) < want*0.8-shortestRange || n > 0 && sum == 0 {
				t.Errorf("%d offsets, %f: %d were picked", n, part, sum)
			}
		}
	}
}

func TestVerifyGoesOnFromItsState(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	verifyWrite(t, source, "orders", "abcdef")
	verifyWrite(t, target, "A.orders", "abde")
	o := VerifyOptions{Config: verifySettings("orders"), Source: source, Target: target, State: filepath.Join(t.TempDir(), "state")}
	if got := verifyOne(t, o); got.Missing != 2 || got.Resumed != 0 {
		t.Errorf("first: %+v", got)
	}
	// What was missing comes late, and more: nothing is read again, and nothing is forgotten.
	verifyWrite(t, target, "A.orders", "fe")
	verifyWrite(t, source, "orders", "gh")
	verifyWrite(t, target, "A.orders", "ghz")
	got := verifyOne(t, o)
	want := VerifyCounts{Source: 8, Target: 9, Missing: 1, Extra: 1, Doubled: 1, Resumed: 5}
	if diff := cmp.Diff(want, got.VerifyCounts); diff != "" || *got.FirstMissing != 2 {
		t.Errorf("second: %+v\n%s", got, diff)
	}
	whole := o
	whole.State = ""
	if diff := cmp.Diff(verifyOne(t, whole), got, cmpopts.IgnoreFields(VerifyCounts{}, "Resumed")); diff != "" {
		t.Errorf("a comparison of all says something else:\n%s", diff)
	}
	if info, err := os.Stat(o.State); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestVerifyGoesOnAfterItWasInterrupted ends comparisons in the middle, until one
// comes to its end.
func TestVerifyGoesOnAfterItWasInterrupted(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	const n = 50_000
	verifyMany(t, source, "many", 100, stretchOf{to: n})
	verifyMany(t, target, "A.many", 100, stretchOf{to: 20_000}, stretchOf{from: 19_950, to: 40_000}, stretchOf{from: 40_001, to: n})
	for sample, steps := range map[float64]int{0: 8, 0.3: 30} {
		o := VerifyOptions{
			Config: verifySettings("many"), Source: source, Target: target, Sample: sample, State: filepath.Join(t.TempDir(), "state"),
			saveEvery: time.Microsecond,
		}
		if sample == 0 {
			o.Limit = 1_000_000 // so that little comes at a time
		}
		var report VerifyReport
		runs := 0
		for {
			ctx, cancel := context.WithCancel(t.Context())
			left := steps + 4*runs // behind a doubled record nothing is taken down until what was read ahead has met its copy
			o.Progress = func(int64, int64) {
				if left--; left == 0 {
					cancel()
				}
			}
			var err error
			report, err = Verify(ctx, o)
			cancel()
			if err == nil {
				break
			}
			if runs++; !errors.Is(err, context.Canceled) || runs > 50 {
				t.Fatal(sample, runs, err)
			}
		}
		got := report.Partitions[0]
		if runs == 0 || got.Resumed == 0 {
			t.Errorf("it was not interrupted: %d, %+v", runs, got)
		}
		if want := (VerifyCounts{Source: n, Target: n + 49, Doubled: 50, Missing: 1, Resumed: got.Resumed}); sample == 0 && got.VerifyCounts != want {
			t.Errorf("after %d interruptions: %+v", runs, got)
		}
		if sample > 0 && (got.Source != got.Compared || got.Error != "") {
			t.Errorf("after %d interruptions: %+v", runs, got)
		}
	}
}

func TestVerifyRefusesAStateOfSomethingElse(t *testing.T) {
	t.Parallel()
	source, target, other := verifyCluster(t), verifyCluster(t), verifyCluster(t)
	verifyWrite(t, source, "orders", "abc")
	verifyWrite(t, other, "orders", "abc")
	verifyWrite(t, target, "A.orders", "abc")
	file := filepath.Join(t.TempDir(), "state")
	o := VerifyOptions{Config: verifySettings("orders"), Source: source, Target: target, State: file}
	verifyOne(t, o)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(key string, value any) []byte {
		var all map[string]any
		if err := json.Unmarshal(good, &all); err != nil {
			t.Fatal(err)
		}
		entry := all["partitions"].(map[string]any)["orders-0"].(map[string]any)
		if _, ok := entry[key]; ok {
			entry[key] = value
		} else {
			all[key] = value
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, row := range map[string]struct {
		text []byte
		with func(o *VerifyOptions)
		want string
	}{
		"not JSON":      {text: []byte("bootstrap.servers=x"), want: "is no state file"},
		"empty":         {text: []byte{}, want: "is no state file"},
		"other JSON":    {text: []byte(`{"name": "m"}`), want: "is no state file"},
		"future":        {text: changed("barnabas_verify_state", 99), want: "version 99"},
		"cluster":       {text: changed("source_cluster_id", "x"), want: `source cluster "x"`},
		"recreated":     {text: changed("source_topic_id", "00"), want: "deleted and made anew"},
		"shorter":       {text: changed("source_next", 17), want: "ends at 3 now"},
		"target":        {text: changed("target_next", 17), want: "ends at 3 now"},
		"damaged":       {text: changed("source_next", -1), want: "damaged"},
		"other sample":  {text: good, with: func(o *VerifyOptions) { o.Sample = 0.5 }, want: "sample"},
		"not writeable": {text: good, with: func(o *VerifyOptions) { o.State = "/nowhere/state" }, want: "write the state file"},
	} {
		if err := os.WriteFile(file, row.text, 0o600); err != nil {
			t.Fatal(err)
		}
		o := o
		if row.with != nil {
			row.with(&o)
		}
		if _, err := Verify(t.Context(), o); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
}

// FuzzVerifyState has entries of all kinds taken up: they are refused or used, and nothing panics.
func FuzzVerifyState(f *testing.F) {
	f.Add([]byte(`{"open":[{"offset":3,"sum":"00112233445566778899aabbccddeeff","at":5}],"missing":[[1,2,1]],"found":{"Differences":[{"kind":"missing","source_offset":1,"records":1}]}}`))
	f.Add([]byte(`{"source_next":5,"target_next":7,"surplus":[{"offset":-3}],"sampled":{"ranges":[{"from":1,"to":0}],"done":3}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e savedPartition
		if json.Unmarshal(text, &e) != nil || e.possible() != nil {
			return
		}
		m := e.matching(stretch{source: e.Next, target: e.TargetNext})
		for n := range int64(10) {
			m.onSource(sighting{offset: e.Next + n, at: n})
			_, _ = m.onTarget(sighting{offset: e.TargetNext + n, at: n ^ 1})
			m.again(sighting{offset: n, at: n})
		}
		m.conclude()
		var v PartitionVerdict
		m.tell(&v)
	})
}

func TestVerifyKeepsToItsLimit(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	for i := range 4 {
		verifyMany(t, source, fmt.Sprintf("many%d", i), 500, stretchOf{to: 5000})
		verifyMany(t, target, fmt.Sprintf("A.many%d", i), 500, stretchOf{to: 5000})
	}
	const limit = 400_000
	report, err := Verify(t.Context(), VerifyOptions{Config: verifySettings("many.*"), Source: source, Target: target, Limit: limit})
	if err != nil || !report.Equal {
		t.Fatal(report, err)
	}
	// The first answers come at once.
	if most := limit * (report.Duration + 1); float64(report.Bytes) > most || report.Bytes < limit {
		t.Errorf("%d bytes in %f s, at most %f", report.Bytes, report.Duration, most)
	}
}

// TestVerifyOfACopyThatRuns compares while both sides grow: nothing that came after the
// comparison began is held against the copy.
func TestVerifyOfACopyThatRuns(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	verifyMany(t, source, "many", 50, stretchOf{to: 1000})
	verifyMany(t, target, "A.many", 70, stretchOf{to: 900})
	var from atomic.Int64
	grow := func() { // as a copy that lags by 100 and doubles some
		n := from.Add(500) + 500
		verifyMany(t, source, "many", 50, stretchOf{from: n, to: n + 500})
		verifyMany(t, target, "A.many", 70, stretchOf{from: n - 100, to: n + 300}, stretchOf{from: n + 250, to: n + 400})
	}
	report, err := Verify(t.Context(), VerifyOptions{
		Config: verifySettings("many"), Source: source, Target: target, Wait: time.Minute, Parallel: 1,
		Progress: func(int64, int64) {
			if from.Load() < 5000 {
				grow()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := report.Partitions[0]
	if want := (VerifyCounts{Source: 1000, Target: 1000}); got.VerifyCounts != want || !got.Equal() || got.SourceEnd != 1000 {
		t.Errorf("got %+v", got)
	}
}

func TestVerifyToldToIgnoreWhatRetentionTookMeanwhile(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	const n = 100_000
	verifyMany(t, source, "many", 200, stretchOf{to: n})
	verifyMany(t, target, "A.many", 200, stretchOf{to: n})
	var once atomic.Bool
	got := verifyOne(t, VerifyOptions{
		Config: verifySettings("many"), Source: source, Target: target, Limit: 3_000_000,
		Progress: func(int64, int64) {
			if once.CompareAndSwap(false, true) {
				verifyTrim(t, source, "many", n-10)
			}
		},
	})
	if !got.Equal() || got.Expired == 0 || got.Source+got.Expired != n || got.Target != n {
		t.Errorf("got %+v", got)
	}
}
