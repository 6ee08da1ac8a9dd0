package mirror

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// verifyRows are topics: each letter is a record, whose key and timestamp are the letter; a capital letter has
// the key and timestamp of the small one and another value.
var verifyRows = []struct {
	name, source, target string
	drop                 int64 // records that the source has lost
	want                 VerifyCounts
	equal                bool
}{
	{name: "equal", source: "abcde", target: "abcde", want: VerifyCounts{Source: 5, Target: 5}, equal: true},
	{name: "empty", equal: true},
	{name: "not-copied", source: "abc", want: VerifyCounts{Source: 3, Missing: 3}},
	{name: "gap", source: "abcde", target: "abde", want: VerifyCounts{Source: 5, Target: 4, Missing: 1}},
	{name: "late-start", source: "abcde", target: "de", want: VerifyCounts{Source: 5, Target: 2, Missing: 3}},
	{name: "doubled", source: "abcdef", target: "abcdbcdef", want: VerifyCounts{Source: 6, Target: 9, Doubled: 3}, equal: true},
	{name: "same-content", source: "aaba", target: "aaba", want: VerifyCounts{Source: 4, Target: 4}, equal: true},
	{name: "same-content-lost", source: "aaba", target: "aba", want: VerifyCounts{Source: 4, Target: 3, Missing: 1}},
	{name: "same-content-doubled", source: "abac", target: "ababac", want: VerifyCounts{Source: 4, Target: 6, Doubled: 2}, equal: true},
	{name: "changed", source: "abc", target: "aBc", want: VerifyCounts{Source: 3, Target: 3, Different: 1}},
	{name: "foreign", source: "abc", target: "abzc", want: VerifyCounts{Source: 3, Target: 4, Extra: 1}},
	{name: "swapped", source: "abcd", target: "acbd", want: VerifyCounts{Source: 4, Target: 4, OutOfOrder: 1}},
	{name: "all-at-once", source: "abcdef", target: "aBdfecza", want: VerifyCounts{Source: 6, Target: 8, Different: 1, Extra: 1, Doubled: 1, OutOfOrder: 2}},
	{name: "source-lost-old", source: "abcde", target: "abcde", drop: 2, want: VerifyCounts{Source: 3, Target: 5, Expired: 2}, equal: true},
}

func TestVerifyTellsWhatBecameOfEachRecord(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	for _, row := range verifyRows {
		verifyWrite(t, source, row.name, row.source)
		verifyWrite(t, target, "A."+row.name, row.target)
		if row.drop > 0 {
			offsets := kadm.Offsets{}
			offsets.AddOffset(row.name, 0, row.drop, -1)
			if _, err := kadm.NewClient(verifyClient(t, source)).DeleteRecords(t.Context(), offsets); err != nil {
				t.Fatal(err)
			}
		}
	}
	var read, total int64
	report, err := Verify(t.Context(), VerifyOptions{
		Config: verifySettings(".*"), Source: source, Target: target, Digests: true,
		Progress: func(r, of int64) { read, total = r, of },
	})
	if err != nil {
		t.Fatal(err)
	}
	if read != total || total == 0 {
		t.Errorf("the progress ended at %d of %d", read, total)
	}
	if report.Equal || report.Totals.Missing != 8 {
		t.Errorf("report: equal %v, totals %+v", report.Equal, report.Totals)
	}
	got := map[string]PartitionVerdict{}
	for _, p := range report.Partitions {
		got[p.Topic] = p
	}
	for _, row := range verifyRows {
		p := got[row.name]
		if diff := cmp.Diff(row.want, p.VerifyCounts); diff != "" || p.Error != "" {
			t.Errorf("%s: %q against %q: %s%s", row.name, row.source, row.target, p.Error, diff)
		}
		if p.Equal() != row.equal {
			t.Errorf("%s: equal is %v", row.name, p.Equal())
		}
		sameSet := row.want.Missing+row.want.Different+row.want.Extra == 0
		if (p.SourceDigest == p.TargetDigest) != sameSet {
			t.Errorf("%s: digests %s and %s", row.name, p.SourceDigest, p.TargetDigest)
		}
	}
	for _, first := range []struct {
		name string
		got  *int64
		want int64
	}{
		{"missing", got["gap"].FirstMissing, 2},
		{"doubled", got["doubled"].FirstDoubled, 4},
		{"different", got["changed"].FirstDifferent, 1},
		{"extra", got["foreign"].FirstExtra, 2},
	} {
		if first.got == nil || *first.got != first.want {
			t.Errorf("first %s: got %v, want %d", first.name, first.got, first.want)
		}
	}
}

func TestVerifyWaitsForRecordsOnTheirWay(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	verifyWrite(t, source, "orders", "abc")
	verifyWrite(t, target, "A.orders", "a")
	behind := make(chan struct{})
	var once bool
	go func() {
		<-behind
		verifyWrite(t, source, "orders", "yz") // newer than the comparison
		verifyWrite(t, target, "A.orders", "bcy")
	}()
	report, err := Verify(t.Context(), VerifyOptions{
		Config: verifySettings("orders"), Source: source, Target: target, Wait: time.Minute,
		Progress: func(int64, int64) {
			if !once {
				once = true
				close(behind)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := VerifyCounts{Source: 3, Target: 3}
	got := report.Totals
	if got.Target == 4 { // the third write may have been seen, or not
		t.Errorf("records newer than the comparison were counted: %+v", got)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || !report.Equal {
		t.Error(diff)
	}
}

func TestVerifyRefusesWhenNothingMatches(t *testing.T) {
	t.Parallel()
	source := verifyCluster(t)
	verifyWrite(t, source, "orders", "a")
	_, err := Verify(t.Context(), VerifyOptions{Config: verifySettings("payments"), Source: source, Target: source})
	if err == nil || !strings.Contains(err.Error(), "no topic") {
		t.Errorf("got %v", err)
	}
}

func verifySettings(topics string) config.Settings {
	return config.Literal(map[string]string{
		"name": "m", "connector.class": "MirrorSource", "source.cluster.alias": "A", "target.cluster.alias": "B",
		"source.cluster.bootstrap.servers": "unused:1", "target.cluster.bootstrap.servers": "unused:1", "topics": topics,
	})
}

type openClient = func(extra ...kgo.Opt) (*kgo.Client, error)

// verifyCluster starts a cluster and returns how to reach it.
func verifyCluster(t *testing.T) openClient {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(extra ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, extra...)...)
	}
}

func verifyClient(t *testing.T, open openClient) *kgo.Client {
	t.Helper()
	cl, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func verifyWrite(t *testing.T, open openClient, topic, letters string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := open(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	_, _ = adm.CreateTopic(ctx, 1, 1, nil, topic) // it may be there
	gone := false
	for _, l := range letters {
		if l == '-' { // the next one has no value
			gone = true
			continue
		}
		small := strings.ToLower(string(l))
		r := &kgo.Record{
			Topic: topic, Key: []byte(small), Value: []byte(string(l)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(small[0])),
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte(strconv.Itoa(int(small[0])))}},
		}
		if gone {
			r.Value, gone = nil, false
		}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Error(err)
		}
	}
}
