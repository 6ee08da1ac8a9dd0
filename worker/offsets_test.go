package worker

import (
	"testing"

	"barnabas/connector"
)

// TestOffsetsShowPositionsOnly has a connector keep a note to itself among its offsets: it finds it there, and nobody else does.
func TestOffsetsShowPositionsOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a", nil)
	c.create("x", map[string]string{"connector.class": "test.Idle"})
	offsets, note := w.offsets("x"), []byte(`{"own":1}`)
	if err := offsets.Save(t.Context(), []connector.Offset{
		{Partition: note, Offset: []byte(`{"n":7}`)}, {Partition: []byte(`{"p":0}`), Offset: []byte(`{"offset":4}`)},
	}); err != nil {
		t.Fatal(err)
	}
	shown, err := w.Offsets(t.Context(), "x")
	if err != nil || len(shown) != 1 || string(shown[0].Partition) != `{"p":0}` {
		t.Errorf("shown: %s, %v", shown, err)
	}
	kept, err := offsets.Load(t.Context(), [][]byte{note})
	if err != nil || string(kept[0]) != `{"n":7}` {
		t.Errorf("kept: %s, %v", kept, err)
	}
}
