package rawcopy

import (
	"slices"
	"strings"
	"testing"
)

// TestAborterFollowsTheLog plays logs as Kafka's consumer would read them. "7@10+3" is a batch of
// three records of producer 7 from offset 10 on in a transaction, "7@10!" its mark that aborts, "7@10." the one that
// commits, "7@10=3" is in no transaction.
func TestAborterFollowsTheLog(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		aborted []int64 // producer, first offset
		log     string
		copied  string
	}{
		{"nothing aborted", nil, "7@0+3 7@3. 8@4=2", "0 4"},
		{"one", []int64{7, 0}, "7@0+3 7@3! 7@4+1 7@5.", "4"},
		{"between others", []int64{7, 2}, "8@0+2 7@2+2 8@4+2 7@6! 7@7+1 8@8. 7@9.", "0 4 7"},
		{"before it was aborted it committed", []int64{7, 4}, "7@0+3 7@3. 7@4+1 7@5! 7@6+1 7@7.", "0 6"},
		{"twice, in no order", []int64{7, 6, 7, 0}, "7@0+2 7@2! 7@3+1 7@4. 8@5=1 7@6+1 7@7!", "3 5"},
		{"two at once", []int64{8, 1, 7, 0}, "7@0+1 8@1+1 7@2+1 8@3! 8@4+1 7@5! 8@6. 7@7+1", "4 7"},
		{"begun before the fetch", []int64{7, 0}, "7@100+5 7@105! 7@106+1", "106"},
		{"another's commit does not end it", []int64{7, 0}, "7@0+1 8@1. 7@2+1 7@3!", ""},
		{"plain batches of the producer", []int64{7, 0}, "7@0+1 7@1=1 7@2! ", "1"},
		{"its begin lies inside a batch", []int64{7, 4}, "7@3+3 7@6!", ""}, // as Kafka's consumer has it
		{"a mark without data", []int64{7, 0}, "7@5! 7@6+1 7@7.", "6"},
	} {
		var copied []string
		a := &Aborter{}
		a.Begin(abortedList(99, 0)) // of the response before
		a.Begin(abortedList(row.aborted...))
		for word := range strings.FieldsSeq(row.log) {
			b, at := logEntry(t, word)
			switch verdict, _ := Judge(b, 0, a, Limits{Codecs: 0x1f}); verdict {
			case Raw:
				copied = append(copied, at)
			case Recode:
				t.Errorf("%s: %s is to be decoded", row.name, word)
			}
		}
		if got := strings.Join(copied, " "); got != row.copied {
			t.Errorf("%s: got %q, want %q", row.name, got, row.copied)
		}
	}
}

func logEntry(t *testing.T, word string) (Batch, string) {
	t.Helper()
	number := func(s string) (n int64) {
		for _, c := range s {
			n = n*10 + int64(c-'0')
		}
		return n
	}
	producer, rest, _ := strings.Cut(word, "@")
	i := strings.IndexAny(rest, "+=!.")
	h := header{base: number(rest[:i]), producer: number(producer), count: 1}
	payload := make([]byte, 10)
	switch kind := rest[i]; kind {
	case '+', '=':
		h.count = int32(number(rest[i+1:]))
		h.lastDelta = h.count - 1
		if kind == '+' {
			h.attributes = transactionalBit
		}
	default:
		name := map[byte]string{'!': "marker-abort", '.': "marker-commit"}[kind]
		b, _, _ := Split(vectors(t)[name])
		payload, h.attributes = b[atRecords:], b.Attributes()
	}
	return h.batch(payload), rest[:i]
}

// TestDamagedHeaderAbortsNothing: a batch whose last offset has become a large one does not make
// transactions live that are further on, or what is committed until there would be skipped.
func TestDamagedHeaderAbortsNothing(t *testing.T) {
	t.Parallel()
	a := &Aborter{}
	a.Begin(abortedList(7, 100))
	damaged := header{base: 0, count: 1, producer: 8}.batch(nil)
	damaged[atLastOffsetDelta] = 0x40
	Judge(damaged, 0, a, Limits{Codecs: 0x1f})
	if verdict, reason := Judge(header{base: 1, count: 1, producer: 7, attributes: transactionalBit}.batch(nil), 0, a, Limits{Codecs: 0x1f}); verdict != Raw {
		t.Errorf("a committed batch: verdict %d, %q", verdict, reason)
	}
}

// TestDamagedMarkEndsNothing: a commit that looks like an abort, and garbage.
func TestDamagedMarkEndsNothing(t *testing.T) {
	t.Parallel()
	whole, _, _ := Split(vectors(t)["marker-abort"])
	for i := atAttributes; i < len(whole); i++ {
		b := slices.Clone(whole)
		b[i] ^= 0x40
		a := &Aborter{}
		a.Begin(abortedList(42, 0))
		a.aborts(header{base: 0, count: 1, producer: 42, attributes: transactionalBit}.batch(nil))
		if verdict, _ := Judge(b, 0, a, Limits{Codecs: 0x1f}); verdict == Skip {
			t.Errorf("byte %d is damaged, and the mark is believed", i)
		}
		if verdict, _ := Judge(header{base: 2000, count: 1, producer: 42, attributes: transactionalBit}.batch(nil), 0, a, Limits{Codecs: 0x1f}); verdict != Skip {
			t.Errorf("byte %d of the mark is damaged, and the transaction is over", i)
		}
	}
}
