package worker

import (
	"errors"
	"testing"

	"barnabas/access"
)

// TestRolesSurviveARestart of the whole cluster, and one that is deleted does not.
func TestRolesSurviveARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.join("a:1", nil)
	c.allAlive(a, 1)
	role := func(name string) access.Role {
		return access.Role{Name: name, Users: []string{"ann"}, Policy: []access.Statement{{Effect: access.Allow, Actions: []string{"k2k:*"}, Resources: []string{"k2k:app:orders-*"}}}}
	}
	for _, name := range []string{"kept", "gone"} {
		if stored, created, err := a.PutRole(t.Context(), role(name), nil); err != nil || !created || stored.Version != 1 {
			t.Fatalf("%+v %v %v", stored, created, err)
		}
	}
	refused := errors.New("no")
	if err := a.DeleteRole(t.Context(), "kept", func(after access.Roles) error {
		if _, there := after.Lookup("kept"); there || len(after.All()) != 1 {
			t.Errorf("asked about %+v", after.All())
		}
		return refused
	}); !errors.Is(err, refused) {
		t.Errorf("not permitted: %v", err)
	}
	if err := a.DeleteRole(t.Context(), "gone", nil); err != nil {
		t.Fatal(err)
	}
	a.stop()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
	a.done <- nil // for the clean-up
	c.workers = nil
	b := c.join("b:1", nil)
	c.allAlive(b, 1)
	if all := b.Roles().All(); len(all) != 1 || all[0].Name != "kept" || len(all[0].Policy) != 1 {
		t.Errorf("%+v", all)
	}
	if stored, created, err := b.PutRole(t.Context(), role("kept"), nil); err != nil || created || stored.Version != 1 {
		t.Errorf("the same again: %+v %v %v", stored, created, err)
	}
}
