package main

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for n := range 100 {
		hundred = append(hundred, time.Duration(n+1))
	}
	for _, c := range []struct {
		of      []time.Duration
		percent float64
		want    time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.9, 100},
		{hundred, 100, 100},
		{hundred, 0, 1},
		{hundred[:1], 50, 1},
		{[]time.Duration{1, 2, 3}, 50, 2},
		{nil, 50, 0},
	} {
		if got := percentile(c.of, c.percent); got != c.want {
			t.Errorf("percentile %g of %d values: %d, want %d", c.percent, len(c.of), got, c.want)
		}
	}
}

// of makes a copy of 1 GB of payload in some seconds.
func of(profile string, k kind, seconds, cpu float64) copied {
	return copied{
		profile: profile, kind: k, payload: 1e9, disk: 5e8, span: time.Duration(seconds * float64(time.Second)), peak: 100e6, written: 1, equal: "yes",
		used: usage{replicator: time.Duration(cpu * float64(time.Second)), source: time.Second, target: 2 * time.Second, machine: 20 * time.Second},
	}
}

func TestFiguresOfACopyAreOfItsPayload(t *testing.T) {
	t.Parallel()
	c := of("main", ours, 2, 3)
	for _, f := range []struct {
		what      string
		got, want float64
	}{
		{"MB/s", c.rate(), 500},
		{"MB/s on disk", c.diskRate(), 250},
		{"CPU-s/GB", c.cpu(), 3},
		{"CPU-s/GB of the target", c.perGB(c.used.target), 2},
		{"processors used by others", c.others(), 7},
	} {
		if math.Abs(f.got-f.want) > 1e-9 {
			t.Errorf("%s: %g, want %g", f.what, f.got, f.want)
		}
	}
	if none := (copied{}).rate(); !math.IsNaN(none) {
		t.Errorf("rate of nothing: %g", none)
	}
}

func verdictOf(t *testing.T, r results, what string) (goal, string) {
	t.Helper()
	for _, g := range r.goals() {
		if g.what == what {
			return g, g.verdict()
		}
	}
	t.Fatalf("no goal %q", what)
	return goal{}, ""
}

func TestGoalsAreAgainstTheBetterOfMirrorMakersTwo(t *testing.T) {
	t.Parallel()
	r := results{copies: []copied{
		of("main", mm2Defaults, 12, 14), of("main", mm2Tuned, 10, 18), of("main", mm2Once, 30, 20), of("main", rawLoop, 1.8, 0.9),
		of("main", ours, 2, 1.17), of("main", oursOnce, 2.5, 1.4), of("small", ours, 2, 1),
	}}
	for _, c := range []struct {
		what    string
		got     float64
		verdict string
	}{
		{"throughput, 1 KiB lz4, of MirrorMaker 2's", 5, "yes"},
		{"throughput, 1 KiB lz4, of the bare loop's", 0.9, "yes"},
		{"CPU per GB, 1 KiB lz4, of MirrorMaker 2's", 1.17 / 14, "NO"}, // of the defaults, which need less than tuned
		{"CPU per GB, 1 KiB lz4, of the bare loop's", 1.3, "yes"},
		{"exactly once: throughput, of MirrorMaker 2's exactly once", 12, "yes"},
		{"exactly once: throughput, of the bare loop's", 0.72, "NO"},
		{"peak memory, 12 partitions", 100, "yes"},
		{"bytes at the target for one at the source", 1, "yes"},
		{"throughput, 100 B zstd, of the bare loop's", math.NaN(), "not measured"},
		{"start to first record, cold", math.NaN(), "not measured"},
	} {
		g, verdict := verdictOf(t, r, c.what)
		if math.Abs(g.got-c.got) > 1e-6 || math.IsNaN(g.got) != math.IsNaN(c.got) || verdict != c.verdict {
			t.Errorf("%s: %g %s, want %g %s", c.what, g.got, verdict, c.got, c.verdict)
		}
	}
}

func TestAFailedRunReachesNoGoal(t *testing.T) {
	t.Parallel()
	failed := of("main", ours, 1, 1)
	failed.err = "it ended"
	r := results{copies: []copied{of("main", mm2Defaults, 12, 14), of("main", rawLoop, 2, 1), failed}}
	if _, verdict := verdictOf(t, r, "throughput, 1 KiB lz4, of MirrorMaker 2's"); verdict != "not measured" {
		t.Errorf("verdict on a failed run: %s", verdict)
	}
}

func TestStandingGoalsComeFromTheirOwnParts(t *testing.T) {
	t.Parallel()
	second := time.Second
	r := results{
		starts: []begun{{kind: mm2Defaults, cold: 7 * second, again: 14 * second}, {kind: ours, cold: second, again: second / 2}},
		delays: []delay{
			{kind: mm2Defaults, control: []time.Duration{1, 2}, copied: []time.Duration{11, 22}},
			{kind: ours, control: []time.Duration{1, 2}, copied: []time.Duration{6, 13}},
		},
		idles: []idle{{kind: mm2Defaults, partitions: 1000, cpu: 0.04, now: 800e6}, {kind: ours, partitions: 1000, cpu: 0.01, now: 100e6}},
	}
	for what, want := range map[string]string{
		"start to first record, cold, of MirrorMaker 2's":           "yes",
		"start to first record, again, of MirrorMaker 2's":          "yes",
		"latency above the control's, p50, of MirrorMaker 2's":      "yes",
		"latency above the control's, p99, of MirrorMaker 2's":      "NO",
		"idle, 1,000 partitions: CPU, of MirrorMaker 2's":           "yes",
		"idle, 1,000 partitions: memory, of MirrorMaker 2's":        "yes",
		"peak memory, 1,000 partitions":                             "not measured",
		"exactly once: CPU per GB, of MirrorMaker 2's exactly once": "not measured",
	} {
		if g, verdict := verdictOf(t, r, what); verdict != want {
			t.Errorf("%s: %g %s, want %s", what, g.got, verdict, want)
		}
	}
}

func TestMedianHidesNoFailure(t *testing.T) {
	t.Parallel()
	slow, fast, middle := of("main", ours, 4, 1), of("main", ours, 2, 1), of("main", ours, 3, 1)
	slow.peak, middle.equal, fast.equal = 300e6, "counted", "counted"
	got := median([]copied{slow, fast, middle})
	if got.span != middle.span || got.peak != slow.peak || got.equal != "yes" {
		t.Errorf("median of three: %s, %d bytes, %s; want the middle one's span, the largest memory, the thorough comparison", got.span, got.peak, got.equal)
	}
	wrong := of("main", ours, 3, 1)
	wrong.equal = "NO: 1 records missing"
	if got := median([]copied{slow, fast, wrong}); !got.wrong() {
		t.Errorf("median hides a copy that is not equal: %+v", got)
	}
	failed := copied{kind: ours, err: "it ended"}
	if got := median([]copied{slow, failed, fast}); got.err == "" {
		t.Errorf("median hides a failure: %+v", got)
	}
}

func TestTableIsAligned(t *testing.T) {
	t.Parallel()
	got := table([]string{"", "MB/s", "×"}, [][]string{{"bare raw loop", "600", "1.00 ×"}, {"größer", "6", "–"}})
	want := "" +
		"|               | MB/s |      × |\n" +
		"|---------------|-----:|-------:|\n" +
		"| bare raw loop |  600 | 1.00 × |\n" +
		"| größer        |    6 |      – |\n"
	if got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

func TestFiguresAreShort(t *testing.T) {
	t.Parallel()
	for f, want := range map[float64]string{0: "0", 612.4: "612", 15.31: "15.3", 1.234: "1.23", 0.123: "0.12", 0.0123: "0.012", math.Inf(1): "–"} {
		if got := figure(f); got != want {
			t.Errorf("figure(%g) = %s, want %s", f, got, want)
		}
	}
	if got := figure(math.NaN()); got != "–" {
		t.Errorf("figure of nothing: %s", got)
	}
}

func TestReportShowsFailuresAndVerdicts(t *testing.T) {
	t.Parallel()
	data := loaded{profile: profiles()[0], disk: 800e6, batches: 1000}
	failed := copied{profile: "main", kind: oursOnce, err: "barnabas ended:\nit was to go on"}
	r := results{conditions: []string{"Today."}, loaded: []loaded{data}, copies: []copied{of("main", mm2Defaults, 12, 14), of("main", rawLoop, 2, 1), of("main", ours, 2, 1), failed}}
	var out bytes.Buffer
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"- Today.", "## 1 KiB, lz4", "barnabas, exactly once failed: barnabas ended: it was to go on", "≥ 5.00 ×", "6.00 ×", "≤ 1/12 ×", "1500.0 a batch"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the report:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "| failed |") && strings.Count(line, "|") != 16 {
			t.Errorf("row of a failed run has other columns: %s", line)
		}
	}
}

func TestProfilesCountTheirRecords(t *testing.T) {
	t.Parallel()
	for _, p := range profiles() {
		counts := p.counts()
		if total(counts) != int64(p.records) || len(counts) != int(p.partitions) || slices.Min(counts) == 0 {
			t.Errorf("%s: %d records in %d partitions, the least %d; want %d in %d", p.name, total(counts), len(counts), slices.Min(counts), p.records, p.partitions)
		}
	}
	p := profile{partitions: 3, records: 11, batch: 2}
	if got, want := p.counts(), []int64{4, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("11 records in batches of 2 to 3 partitions: %v, want %v", got, want)
	}
}
