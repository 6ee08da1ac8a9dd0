package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/connector/mirror"
)

func TestVerdictIsDrawn(t *testing.T) {
	t.Parallel()
	at := func(n int64) *int64 { return &n }
	r := mirror.VerifyReport{
		Sample: 0.01, Seed: 7, Duration: 2.5, Bytes: 1_500_000_000, Rate: 600,
		Partitions: []mirror.PartitionVerdict{
			{
				Topic: "orders", Partition: 0, Method: mirror.MethodRanges, Timestamps: true, SourceEnd: 100_000, Compared: 1000,
				VerifyCounts: mirror.VerifyCounts{Source: 1000, Target: 1002, Missing: 3, Different: 2, Extra: 15, Doubled: 1, Expired: 1},
				Differences: []mirror.Difference{
					{Kind: "missing", Source: at(5), Records: 3},
					{Kind: "different", Source: at(10), Target: at(7), Records: 2},
					{Kind: "extra", Target: at(90), Records: 12},
					{Kind: "doubled", Source: at(20), Target: at(50), Records: 1},
				},
			},
			{
				Topic: "prices", Partition: 0, Method: mirror.MethodSomeKeys, Error: "fetch: no right",
				VerifyCounts: mirror.VerifyCounts{Source: 1000, Target: 900, Keys: 10, Superseded: 2, Unkeyed: 4, Gone: 6, Resumed: 900},
				SourceDigest: "ab", TargetDigest: "ac",
			},
		},
		Totals: mirror.VerifyCounts{
			Source: 2000, Target: 1902, Missing: 3, Different: 2, Extra: 15, Doubled: 1, Keys: 10, Resumed: 900,
		},
	}
	want := `
TOPIC   PARTITION  SOURCE  TARGET  MISSING  DIFFERENT  EXTRA  OUT OF ORDER  DOUBLED  VERDICT
orders          0   1,000   1,002        3          2     15             0        1  different
prices          0   1,000     900        0          0      0             0        0  incomplete
total           2   2,000   1,902        3          2     15             0        1  different
orders-0: missing: offset 5 of the source and 2 more records behind it
orders-0: different: offsets 10 to 11 of the source, offsets 7 to 8 of the target
orders-0: extra: offsets 90 to 101 of the target
orders-0: doubled: offset 20 of the source, offset 50 of the target
orders-0: and 3 more records extra
orders-0: not compared: 1 record of the target older than what the source still has
prices-0: not compared: 6 records of the source older than what the target still has
prices-0: not compared: 2 keys that got newer records meanwhile
prices-0: not compared: 4 records without a key, which compaction may have dropped
prices-0: timestamps were not compared: the target gives records its own
prices-0: digests ab at the source, ac at the target
prices-0: not compared to the end: fetch: no right

1.5 GB of both sides in 2.5s, 600 MB/s
900 records had been compared before
A sample: 1,000 of 100,000 offsets; --sample 1% --seed 7 takes it again
Of 1 partition the newest record of each key was compared (10 keys): compaction has been there
Uncommitted records of the source were compared, too (isolation.level)
`
	if diff := cmp.Diff(want, lines(t, func(tab *table) { drawVerdict(tab, r) })); diff != "" {
		t.Error(diff)
	}
}

func TestTimeLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		took     time.Duration
		n, total int64
		want     string
	}{
		{10 * time.Second, 25, 100, ", about 30s left"},
		{90 * time.Second, 1, 41, ", about 1h0m0s left"},
		{time.Second, 0, 100, ""},
		{time.Second, 100, 100, ""},
	} {
		if got := left(tt.took, tt.n, tt.total); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt, got, tt.want)
		}
	}
}
