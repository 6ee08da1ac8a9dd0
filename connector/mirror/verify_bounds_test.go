package mirror

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// many is more records than a comparison remembers.
const many = 2*readAhead + 20_000

// stretchOf are the records with numbers from one to before another. Their values are changed, or not.
type stretchOf struct {
	from, to int64
	changed  bool
}

// verifyMany writes numbered records, in batches of a size.
func verifyMany(t *testing.T, open openClient, topic string, batch int, stretches ...stretchOf) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := open(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(1<<20), kgo.ProducerLinger(50*time.Millisecond),
		kgo.ProducerBatchMaxBytes(int32(64*batch)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, _ = kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, topic) // it may be there
	for _, s := range stretches {
		for n := s.from; n < s.to; n++ {
			value := binary.BigEndian.AppendUint64(nil, uint64(n))
			if s.changed {
				value = append(value, '!')
			}
			cl.Produce(ctx, &kgo.Record{Topic: topic, Value: value, Key: value[:8], Timestamp: time.UnixMilli(1_700_000_000_000 + n)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func verifyTrim(t *testing.T, open openClient, topic string, to int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, to, -1)
	if _, err := kadm.NewClient(verifyClient(t, open)).DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
}

// verifyAlias are the settings of a mirror whose copies begin with alias.
func verifyAlias(alias, topics string) config.Settings {
	s := verifySettings(topics).Written()
	s["source.cluster.alias"] = alias
	return config.Literal(s)
}

func TestVerifyFindsItsPlaceAgainWithinBoundedMemory(t *testing.T) {
	t.Parallel()
	source, target := verifyCluster(t), verifyCluster(t)
	verifyMany(t, source, "many", 500, stretchOf{to: many})
	verifyMany(t, source, "old", 500, stretchOf{to: many})
	verifyTrim(t, source, "old", many-1000)
	const gap = many - 20_000
	for _, row := range []struct {
		name, topic string
		target      []stretchOf
		trim        int64 // of the target
		want        VerifyCounts
		first       map[string]int64
		err         string
	}{
		{
			name: "left-out", target: []stretchOf{{to: 10_000}, {from: gap, to: many}},
			want: VerifyCounts{Source: many, Target: 30_000, Missing: gap - 10_000}, first: map[string]int64{kindMissing: 10_000},
		},
		{
			name: "again", target: []stretchOf{{to: gap}, {from: 5000, to: many}},
			want: VerifyCounts{Source: many, Target: many + gap - 5000, Doubled: gap - 5000}, first: map[string]int64{kindDoubled: gap},
		},
		{
			name: "all-again", target: []stretchOf{{to: many}, {to: many}},
			want: VerifyCounts{Source: many, Target: 2 * many, Doubled: many}, first: map[string]int64{kindDoubled: many},
		},
		{
			name: "changed", target: []stretchOf{{to: 100}, {from: 100, to: many, changed: true}},
			want: VerifyCounts{Source: many, Target: many, Different: many - 100}, first: map[string]int64{kindDifferent: 100},
		},
		{
			name: "far-from-its-place", target: []stretchOf{{from: 1, to: many}, {to: 1}},
			want: VerifyCounts{Source: many, Target: many, OutOfOrder: 1},
		},
		{
			name: "older", topic: "old", target: []stretchOf{{to: many}},
			want: VerifyCounts{Source: 1000, Target: many, Expired: many - 1000},
		},
		{
			name: "younger", target: []stretchOf{{to: many}}, trim: many - 10,
			want: VerifyCounts{Source: many, Target: 10, Gone: many - 10},
		},
		{
			name: "other", target: []stretchOf{{from: 2 * many, to: 2*many + maxSurplus + 1000}}, err: "is it the right topic?",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			topic := row.topic
			if topic == "" {
				topic = "many"
			}
			verifyMany(t, target, row.name+"."+topic, 300, row.target...)
			if row.trim > 0 {
				verifyTrim(t, target, row.name+"."+topic, row.trim)
			}
			report, err := Verify(t.Context(), VerifyOptions{Config: verifyAlias(row.name, topic), Source: source, Target: target})
			if err != nil {
				t.Fatal(err)
			}
			p := report.Partitions[0]
			if row.err != "" {
				if !strings.Contains(p.Error, row.err) || report.Equal {
					t.Errorf("got %+v, want the error %q", p, row.err)
				}
				return
			}
			if diff := cmp.Diff(row.want, p.VerifyCounts); diff != "" || p.Error != "" {
				t.Error(p.Error, diff)
			}
			for kind, got := range map[string]*int64{kindMissing: p.FirstMissing, kindDoubled: p.FirstDoubled, kindDifferent: p.FirstDifferent} {
				if want, ok := row.first[kind]; ok && (got == nil || *got != want) {
					t.Errorf("first %s: got %v, want %d (%+v)", kind, got, want, p.Differences)
				}
			}
		})
	}
}
