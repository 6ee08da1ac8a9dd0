package rawcopy

import (
	"errors"
	"slices"
	"testing"
)

func TestJobTransformsWhatIsFreshAndLeavesHoles(t *testing.T) {
	t.Parallel()
	var records []Record
	for i := range 6 {
		records = append(records, Record{Offset: int64(i), Value: []byte{byte('a' + i)}})
	}
	whole, err := Encode(records, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	odd := errors.New("odd")
	change := func(r *Record) (bool, error) {
		switch r.Value[0] {
		case 'b':
			return false, nil
		case 'e':
			return true, odd
		}
		r.Value = append([]byte("x"), r.Value...)
		return true, nil
	}
	for _, row := range []struct {
		tolerate bool
		spans    []Span
		values   string
		offsets  []int64
	}{
		{true, nil, "xa xc xd xf ", []int64{0, 2, 3, 5}},
		{false, nil, "xa xc xd ", []int64{0, 2, 3}},
		{false, []Span{{10, 6}}, "a b c d e f ", []int64{10, 11, 12, 13, 14, 15}}, // transformed before
	} {
		j := &Job{lane: &lane{LaneConfig: LaneConfig{Transform: change}}, tolerate: row.tolerate, spans: row.spans}
		j.add(whole[0].Batch, 0, nil)
		j.Run()
		values, offsets := "", []int64{}
		for _, e := range j.encoded {
			decoded, err := Decode(e.Batch, 0, bomb, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range decoded {
				values += string(r.Value) + " "
			}
			for _, s := range e.Spans {
				for n := range s.Count {
					offsets = append(offsets, s.Source+n)
				}
			}
		}
		if j.err != nil || values != row.values || !slices.Equal(offsets, row.offsets) {
			t.Errorf("tolerate %v: %q at %v, want %q at %v (%v)", row.tolerate, values, offsets, row.values, row.offsets, j.err)
		}
		told := j.broken
		if row.tolerate && len(j.leftOut) == 1 {
			told = &j.leftOut[0]
		}
		if row.spans == nil && (told == nil || told.offset != 4 || !errors.Is(told.err, odd)) {
			t.Errorf("tolerate %v: told %+v", row.tolerate, told)
		}
	}
}
