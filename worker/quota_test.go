package worker

import (
	"testing"

	"barnabas/connection"
	"barnabas/worker/herder"
)

func TestAQuotaIsDividedByTasks(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		s    share
		want float64
	}{{share{}, 1000}, {share{0, 4}, 1000}, {share{1, 4}, 250}, {share{4, 4}, 1000}} {
		if got := row.s.of(1000); got != row.want {
			t.Errorf("%+v of 1000 is %v, want %v", row.s, got, row.want)
		}
	}
}

// TestAQuotaChangesUnderWhoHasIt reads the record of a connection after its limits have been handed out.
func TestAQuotaChangesUnderWhoHasIt(t *testing.T) {
	t.Parallel()
	var c connections
	name := connection.Name{Env: "prod", Name: "ro"}
	put := func(q connection.Quota, offset int64) {
		spec := connection.Spec{Quota: q}
		r, _ := connection.Record{}.Put(spec, connection.Change{}, 1)
		c.apply(herder.Document{Key: connectionPrefix + name.String(), Value: r}, offset)
	}
	read, write := c.limits(name) // before the connection is known
	if len(c.limited()) != 0 {
		t.Error("a connection without a quota is limited")
	}
	put(connection.Quota{Read: 40_000}, 1)
	if again, other := c.limits(name); again != read || other != write || !c.limited()[name] {
		t.Error("the limits are others than those handed out")
	}
	taken, err := read.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	taken(1 << 40) // for years
	put(connection.Quota{}, 2)
	if _, err := read.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if len(c.limited()) != 0 {
		t.Error("the connection is limited still")
	}
}
