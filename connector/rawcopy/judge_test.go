package rawcopy

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// abortedList makes a list of pairs of producer id and first offset.
func abortedList(pairs ...int64) []kmsg.FetchResponseTopicPartitionAbortedTransaction {
	var all []kmsg.FetchResponseTopicPartitionAbortedTransaction
	for p := range slices.Chunk(pairs, 2) {
		t := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
		t.ProducerID, t.FirstOffset = p[0], p[1]
		all = append(all, t)
	}
	return all
}

func TestJudge(t *testing.T) {
	t.Parallel()
	plain := header{base: 100, lastDelta: 9, count: 10, producer: -1}
	all := Limits{MaxBytes: 1000, Codecs: 0x1f}
	with := func(f func(*header)) header {
		h := plain
		f(&h)
		return h
	}
	limits := func(f func(*Limits)) Limits {
		l := all
		f(&l)
		return l
	}
	for _, row := range []struct {
		name    string
		h       header
		want    int64
		l       Limits
		aborted bool
		verdict Verdict
		reason  Reason
	}{
		{"as it is", plain, 100, all, false, Raw, reasonNone},
		{"behind a gap", plain, 50, all, false, Raw, reasonNone},
		{"a mark of a transaction", with(func(h *header) { h.attributes = controlBit | transactionalBit }), 100, all, false, Skip, reasonControl},
		{"a mark comes first", with(func(h *header) { h.attributes, h.count = controlBit, 0 }), 500, all, false, Skip, reasonControl},
		{"nothing left after compaction", with(func(h *header) { h.count = 0 }), 100, all, false, Skip, reasonEmpty},
		{"aborted", with(func(h *header) { h.attributes, h.producer = transactionalBit, 42 }), 100, all, true, Skip, reasonAborted},
		{"aborted, and resumed inside", with(func(h *header) { h.attributes, h.producer = transactionalBit, 42 }), 105, all, true, Skip, reasonAborted},
		{"of the same producer, but in no transaction", with(func(h *header) { h.producer = 42 }), 100, all, true, Raw, reasonNone},
		{"committed", with(func(h *header) { h.attributes, h.producer = transactionalBit, 43 }), 100, all, true, Raw, reasonNone},
		{"all copied before", plain, 110, all, false, Skip, reasonBeforeStart},
		{"the last one is wanted", plain, 109, all, false, Recode, reasonResume},
		{"all but the first are wanted", plain, 101, all, false, Recode, reasonResume},
		{"compacted", with(func(h *header) { h.count = 9 }), 100, all, false, Recode, reasonCompacted},
		{"more records than offsets", with(func(h *header) { h.count = 11 }), 100, all, false, Recode, reasonCompacted},
		{"time of append to keep", with(func(h *header) { h.attributes = appendTimeBit }), 100, limits(func(l *Limits) { l.KeepAppendTime = true }), false, Recode, reasonLogAppendTime},
		{"time of append to forget", with(func(h *header) { h.attributes = appendTimeBit }), 100, all, false, Raw, reasonNone},
		{"exactly as large as allowed", plain, 100, limits(func(l *Limits) { l.MaxBytes = atRecords + 100 }), false, Raw, reasonNone},
		{"too large", plain, 100, limits(func(l *Limits) { l.MaxBytes = atRecords + 99 }), false, Recode, reasonTooLarge},
		{"no bound", plain, 100, limits(func(l *Limits) { l.MaxBytes = 0 }), false, Raw, reasonNone},
		{"zstd for an old target", with(func(h *header) { h.attributes = 4 }), 100, limits(func(l *Limits) { l.Codecs = 0x0f }), false, Recode, reasonCodec},
		{"a codec that nobody knows", with(func(h *header) { h.attributes = 7 }), 100, limits(func(l *Limits) { l.Codecs = 0xff }), false, Recode, reasonCodec},
		{"a transform", plain, 100, limits(func(l *Limits) { l.Transform = true }), false, Recode, reasonTransform},
	} {
		var a *Aborter
		if row.aborted {
			a = &Aborter{}
			a.Begin(abortedList(42, 90))
		}
		verdict, reason := Judge(row.h.batch(make([]byte, 100)), row.want, a, row.l)
		if verdict != row.verdict || reason != row.reason {
			t.Errorf("%s: got %d %q, want %d %q", row.name, verdict, reason, row.verdict, row.reason)
		}
	}
}

func TestJudgeOfOtherFormats(t *testing.T) {
	t.Parallel()
	all := Limits{MaxBytes: 10, Codecs: 0x1f}
	for _, row := range []struct {
		name    string
		want    int64
		verdict Verdict
		reason  Reason
	}{
		{"magic0-none", 1000, Recode, reasonMagic},
		{"magic0-none", 1001, Skip, reasonBeforeStart},
		{"magic1-gzip", 1039, Recode, reasonMagic},
		{"magic1-gzip", 1040, Skip, reasonBeforeStart},
	} {
		b, _, _ := Split(vectors(t)[row.name])
		if verdict, reason := Judge(b, row.want, &Aborter{}, all); verdict != row.verdict || reason != row.reason {
			t.Errorf("%s from %d: got %d %q, want %d %q", row.name, row.want, verdict, reason, row.verdict, row.reason)
		}
	}
	b := header{count: 1}.batch(nil)
	b[atMagic] = 3
	if verdict, reason := Judge(b, 0, nil, Limits{Codecs: 0x1f}); verdict != Recode || reason != reasonMagic {
		t.Errorf("a magic to come: got %d %q", verdict, reason)
	}
}

// TestDamageIsNotSkipped: a flipped bit can make a batch look as if there was nothing in it.
func TestDamageIsNotSkipped(t *testing.T) {
	t.Parallel()
	whole := header{base: 100, lastDelta: 9, count: 10, producer: 42, attributes: transactionalBit}.batch(make([]byte, 100))
	l := Limits{Codecs: 0x1f}
	for i := atLeaderEpoch; i < len(whole); i++ {
		if i == atMagic {
			continue // a lower magic is another format: Decode finds no CRC that fits
		}
		for bit := range 8 {
			b := slices.Clone(whole)
			b[i] ^= 1 << bit
			a := &Aborter{}
			a.Begin(abortedList(43, 0, 44, 50, 1<<60, 1000))
			if verdict, reason := Judge(b, 100, a, l); verdict == Skip {
				t.Fatalf("bit %d of byte %d was flipped, and the batch is skipped: %s", bit, i, reason)
			}
		}
	}
}

func TestReasonsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for r := range Reasons {
		seen[Reason(r).String()] = true
	}
	if len(seen) != Reasons || seen["unknown"] || !seen["refused"] || Reason(Reasons).String() != "unknown" {
		t.Error(seen)
	}
}
