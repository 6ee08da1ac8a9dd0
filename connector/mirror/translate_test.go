package mirror

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"barnabas/connector/offsetrun"
)

// TestSyncsTranslateAsMirrorMakersDo plays what Kafka's OffsetSyncStore was given (testdata/Syncs.java).
func TestSyncsTranslateAsMirrorMakersDo(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/syncs.txt")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		only := words[0] == "must"
		var h *syncHistory
		number := func(i int) int64 {
			n, err := strconv.ParseInt(words[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i := 1; i < len(words); {
			switch words[i] {
			case "e":
				only = false
				i++
			case "s":
				s := OffsetSync{Upstream: number(i + 1), Downstream: number(i + 2)}
				if h == nil {
					h = newSyncHistory(s)
				} else {
					h.add(s, only)
				}
				i += 3
			case "t":
				asked++
				if got, want := h.translate(number(i+1)), number(i+2); got != want {
					t.Fatalf("%d became %d, MirrorMaker has %d, after %s", number(i+1), got, want, strings.Join(words[:i], " "))
				}
				i += 3
			}
		}
	}
	if asked < 5000 {
		t.Errorf("only %d questions", asked)
	}
}

// bookOf is a book with runs, of a copy that has come to next.
func bookOf(next, targetNext int64, runs ...offsetrun.Run) *offsetrun.Book {
	b := offsetrun.NewBook(offsetrun.Key{Owner: "g-m", Topic: "orders"})
	for _, r := range runs {
		b.Map.Append(r.Source, r.Target, r.Count)
	}
	b.Map.Advance(next)
	b.State.Next, b.State.TargetNext = next, targetNext
	return b
}

func TestTranslation(t *testing.T) {
	t.Parallel()
	p := partition{"orders", 0}
	// Two runs with a marker between them, and one at the end.
	runs := bookOf(22, 20, offsetrun.Run{Source: 0, Target: 0, Count: 10}, offsetrun.Run{Source: 11, Target: 10, Count: 10})
	later := bookOf(220, 120, offsetrun.Run{Source: 200, Target: 100, Count: 20})
	retained := bookOf(220, 20, offsetrun.Run{Source: 200, Target: 0, Count: 20})
	syncs := newSyncHistory(OffsetSync{Upstream: 50, Downstream: 40})
	for name, c := range map[string]struct {
		book     *offsetrun.Book
		older    *offsetrun.Book
		unfit    string
		syncs    *syncHistory
		upstream int64
		want     int64
		how      Accuracy
		reason   string
	}{
		"the first record":                      {book: runs, upstream: 0, want: 0, how: Exact},
		"inside a run":                          {book: runs, upstream: 7, want: 7, how: Exact},
		"on a marker":                           {book: runs, upstream: 10, want: 10, how: Exact},
		"behind a marker":                       {book: runs, upstream: 15, want: 14, how: Exact},
		"at the end":                            {book: runs, upstream: 21, want: 20, how: Exact},
		"behind the marker at the end":          {book: runs, upstream: 22, want: 20, how: Exact},
		"ahead of the copy":                     {book: runs, upstream: 30, want: 20, how: Ahead, reason: "the group is at 30, the copy at 22"},
		"before the oldest run, with syncs":     {book: later, syncs: syncs, upstream: 60, want: 41, how: Sampled, reason: "sampled"},
		"before the oldest run, without":        {book: later, upstream: 60, want: -1, how: Unknown, reason: "offset 60 is before 200"},
		"copied before by somebody else":        {book: later, older: runs, upstream: 7, want: 7, how: Exact},
		"copied again by somebody else":         {book: retained, older: runs, upstream: 7, want: 0, how: Exact},
		"before all there ever was in the copy": {book: retained, upstream: 60, want: 0, how: Exact},
		"an empty partition":                    {book: bookOf(0, 0), upstream: 0, want: 0, how: Exact},
		"where only what is new is copied":      {book: bookOf(100, 0), upstream: 30, want: 0, how: Exact},
		"nothing since a take-over":             {book: bookOf(100, 90), upstream: 100, want: 90, how: Exact},
		"ahead of a copy that has only begun":   {book: bookOf(0, 0), upstream: 30, want: 0, how: Ahead, reason: "the group is at 30, the copy at 0"},
		"ahead since a take-over":               {book: bookOf(100, 90), upstream: 120, want: 90, how: Ahead, reason: "the copy at 100"},
		"before a take-over":                    {book: bookOf(100, 90), upstream: 30, want: -1, how: Unknown, reason: "offset 30 is before 100"},
		"only syncs":                            {syncs: syncs, upstream: 50, want: 40, how: Sampled, reason: "sampled"},
		"before all syncs":                      {syncs: syncs, upstream: 49, want: -1, how: Unknown, reason: "before the oldest offset-sync that can be used, 50"},
		"nothing at all":                        {upstream: 1, want: -1, how: Unknown, reason: "neither offset runs nor offset-syncs"},
		"another topic of the same name":        {book: runs, unfit: "made anew", syncs: syncs, upstream: 60, want: -1, how: Unknown, reason: "made anew"},
	} {
		h := history{books: map[partition][]*offsetrun.Book{}, unfit: map[partition]string{}, syncs: map[partition]*syncHistory{}}
		for _, book := range []*offsetrun.Book{c.book, c.older} {
			if book != nil {
				h.books[p] = append(h.books[p], book)
			}
		}
		if c.unfit != "" {
			h.unfit[p] = c.unfit
		}
		if c.syncs != nil {
			h.syncs[p] = c.syncs
		}
		got := h.translate(p, c.upstream)
		if got.target != c.want || got.accuracy != c.how || !strings.Contains(got.reason, c.reason) || (got.reason == "") != (c.how == Exact) {
			t.Errorf("%s: %+v, want %d, %s, %q", name, got, c.want, c.how, c.reason)
		}
	}
}
