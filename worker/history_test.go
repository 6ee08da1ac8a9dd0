package worker

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

func TestVersionsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, want := range []herder.History{
		{Name: "a-1-b", Number: 12, Version: &herder.Version{
			Number: 12, Change: herder.Change{What: herder.RolledBack, User: "u", Address: "::1", At: 5, From: 3}, Changed: []string{"k"},
			Config: map[string]string{"k": "${file:/x:y}"}, Hidden: []string{"p"},
		}},
		{Name: "x", Number: 1, Version: &herder.Version{Number: 1, Change: herder.Change{What: herder.Deleted}}},
		{Name: "x", Number: 2},
	} {
		e, err := entry(want)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := store.DecodeConfig(e.Key, e.Value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := new(Worker).meaning(decoded)
		if diff := cmp.Diff(herder.Record(want), got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", e.Key, err, diff)
		}
	}
	for _, key := range []string{"barnabas-history-", "barnabas-history-x-1", "barnabas-history-0-x", "barnabas-history-1-", "barnabas-history-1"} {
		if r, err := ownConfig(store.OwnRecord{Key: key, Value: []byte(`{"v":1}`)}); err == nil {
			t.Errorf("%s was read as %+v", key, r)
		}
	}
}
