package oracle

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/txn"
)

func TestReportCountsWhatDiffers(t *testing.T) {
	t.Parallel()
	// Letters are records: the source of each row, and its copy.
	for _, row := range []struct {
		name, source, target string
		want                 Report
	}{
		{"equal", "abcd", "abcd", Report{}},
		{"nothing", "", "", Report{}},
		{"end missing", "abcd", "ab", Report{Missing: 2}},
		{"hole", "abcd", "abd", Report{Missing: 1, Disordered: 1}},
		{"hole filled later", "abcd", "abdcd", Report{Disordered: 1, Duplicates: 1, Rewinds: 1}},
		{"run again", "abcdef", "abcdbcdef", Report{Duplicates: 3, Rewinds: 1}},
		{"two runs again", "abcd", "abcabcabcd", Report{Duplicates: 6, Rewinds: 2}},
		{"foreign", "abcd", "abxcd", Report{Foreign: 1}},
		{"twice the same record", "abbc", "abbc", Report{}},
		{"twice the same record, one lost", "abbc", "abc", Report{Missing: 1, Disordered: 1}},
		{"all again", "abc", "abcabc", Report{Duplicates: 3, Rewinds: 1}},
		{"swapped", "abc", "acb", Report{Disordered: 1, Rewinds: 1}},
	} {
		var got Report
		got.compare(place{"t", 0}, letters(row.source), letters(row.target))
		row.want.Source, row.want.Target = int64(len(row.source)), int64(len(row.target))
		first := got.First
		if len(got.Again) != int(got.Rewinds) {
			t.Errorf("%s: %d rewinds, told are %v", row.name, got.Rewinds, got.Again)
		}
		if len(got.Turns) < int(got.Rewinds) {
			t.Errorf("%s: %d rewinds, places are %v", row.name, got.Rewinds, got.Turns)
		}
		got.First, got.Again, got.Turns = nil, nil, nil
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: %s to %s (-want +got):\n%s", row.name, row.source, row.target, diff)
		}
		if !got.Complete() != (len(first) > 0) {
			t.Errorf("%s: differences %v of %v", row.name, first, got)
		}
	}
}

func letters(text string) sequence {
	var s sequence
	for i, c := range text {
		s.hashes, s.offsets = append(s.hashes, uint64(c)), append(s.offsets, int64(i))
	}
	return s
}

func TestEveryPartOfARecordCounts(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	records := []kgo.Record{
		{Timestamp: at},
		{Timestamp: at.Add(time.Millisecond)},
		{Timestamp: at, Key: []byte{}},
		{Timestamp: at, Value: []byte{}},
		{Timestamp: at, Key: []byte("a"), Value: []byte("b")},
		{Timestamp: at, Key: []byte("ab"), Value: []byte{}},
		{Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h"}}},
		{Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{}}}},
		{Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h"}, {Key: "h"}}},
		{Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h"}, {Key: "i"}}},
		{Timestamp: at, Headers: []kgo.RecordHeader{{Key: "i"}, {Key: "h"}}},
	}
	seen := map[uint64]int{}
	for i := range records {
		h := hash(&records[i])
		if other, twice := seen[h]; twice {
			t.Errorf("record %d counts as equal to %d", i, other)
		}
		seen[h] = i
	}
}

func TestCompareReadsBothClusters(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	opts := []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...)}
	client, err := kgo.NewClient(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := time.UnixMilli(1_700_000_000_000)
	for _, k := range []kgo.Record{
		{Topic: "a", Partition: 0, Value: []byte("1")},
		{Topic: "a", Partition: 0, Value: []byte("2")},
		{Topic: "a", Partition: 1, Value: []byte("3")},
		{Topic: "b", Partition: 0, Value: []byte("1")},
		{Topic: "b", Partition: 0, Value: []byte("1")},
		{Topic: "b", Partition: 0, Value: []byte("2")},
		{Topic: "b", Partition: 0, Value: []byte("3")},
	} {
		k.Timestamp = at
		if err := client.ProduceSync(t.Context(), &k).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Compare(t.Context(), Options{Source: opts, Target: opts, Topics: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	got.First, got.Again, got.Turns = nil, nil, nil
	// The third record is in another partition: foreign there, missing here.
	want := Report{Source: 3, Target: 4, Missing: 1, Duplicates: 1, Foreign: 1, Rewinds: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommittedLeavesAbortedRecordsOut(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	opts := []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...)}
	client, err := kgo.NewClient(append(opts, kgo.TransactionalID("t"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := time.UnixMilli(1_700_000_000_000)
	for _, part := range []struct {
		topic string
		end   kgo.TransactionEndTry
	}{{"a", kgo.TryCommit}, {"b", kgo.TryCommit}, {"b", kgo.TryAbort}} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: part.topic, Value: []byte("1"), Timestamp: at}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := txn.End(t.Context(), client, part.end); err != nil {
			t.Fatal(err)
		}
	}
	for _, committed := range []bool{false, true} {
		got, err := Compare(t.Context(), Options{Source: opts, Target: opts, Topics: map[string]string{"a": "b"}, Committed: committed})
		if err != nil {
			t.Fatal(err)
		}
		if got.Equal() != committed || !got.Complete() {
			t.Errorf("committed %v: %s", committed, got)
		}
	}
}
