package rawcopy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAMarkTellsTheWayAndKnowsWhatHasComeRound(t *testing.T) {
	t.Parallel()
	way := func(clusters ...string) (headers []Header) {
		headers = []Header{{Key: []byte("own"), Value: []byte("B")}} // a header of somebody else's never counts
		for _, c := range clusters {
			headers = append(headers, Header{Key: []byte(MarkHeader), Value: []byte(c)})
		}
		return headers
	}
	given := []Record{
		{Offset: 1, Headers: way()}, {Offset: 2, Headers: way("B")}, {Offset: 3, Headers: way("C")}, {Offset: 4, Headers: way("C", "A")}, {Offset: 5},
	}
	kept, left := (&Mark{Source: "A", Target: "B"}).Apply(given)
	want := []Record{{Offset: 1, Headers: way("A")}, {Offset: 3, Headers: way("C", "A")}, {Offset: 5, Headers: way("A")[1:]}}
	if diff := cmp.Diff(want, kept); diff != "" || left != 2 {
		t.Errorf("%d left out: %s", left, diff)
	}
	same := []Record{{Offset: 9}}
	if kept, left := (*Mark)(nil).Apply(same); left != 0 || len(kept) != 1 || kept[0].Headers != nil {
		t.Errorf("no mark changes nothing: %v, %d", kept, left)
	}
}

// TestMarksDoNotRunIntoTheNextRecord has records whose headers share memory, as decoded ones do.
func TestMarksDoNotRunIntoTheNextRecord(t *testing.T) {
	t.Parallel()
	memory := []Header{{Key: []byte("first")}, {Key: []byte("second")}}
	kept, _ := (&Mark{Source: "A", Target: "B"}).Apply([]Record{{Headers: memory[:1]}, {Headers: memory[1:]}})
	if got := string(kept[1].Headers[0].Key); got != "second" {
		t.Errorf("the second record's header is %q", got)
	}
}
