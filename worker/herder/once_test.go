package herder

import (
	"errors"
	"fmt"
	"testing"
)

// ask performs an order of a request, and returns the reply and how many records it made beside the history.
func (k *keeper) ask(request string, o Order) (Reply, int) {
	d := k.newDraft()
	r := d.once(Ordered{Request: request, Order: o})
	for _, record := range d.records {
		k.read(record)
	}
	return r, len(d.records)
}

func TestARequestThatIsOrderedAgainIsPerformedOnce(t *testing.T) {
	t.Parallel()
	k := newKeeper(5)
	config := func(v string) map[string]string { return map[string]string{"a": v} }
	step := func(request string, o Order, want Reply, writes bool) {
		t.Helper()
		r, n := k.ask(request, o)
		if !errors.Is(r.Err, want.Err) || r.Created != want.Created || n > 0 != writes {
			t.Errorf("%s %T: %+v with %d records, want %+v, records %v", request, o, r, n, want, writes)
		}
	}
	create := PutConnector{Name: "x", Config: config("1"), Create: true}
	step("1", create, Reply{Created: true}, true)
	step("1", create, Reply{Created: true}, false)
	step("2", create, Reply{Err: ErrExists}, false)
	// Its answer is lost. Somebody else creates the connector again, and then the deletion comes again.
	step("3", DeleteConnector{Name: "x"}, Reply{}, true)
	step("4", create, Reply{Created: true}, true)
	step("3", DeleteConnector{Name: "x"}, Reply{}, false)
	step("5", PutConnector{Name: "x", Config: config("5")}, Reply{}, true)
	step("6", PutConnector{Name: "x", Config: config("6")}, Reply{}, true)
	step("5", PutConnector{Name: "x", Config: config("5")}, Reply{}, false)
	step("7", SetTarget{"x", Paused}, Reply{}, true)
	step("8", SetTarget{"x", Started}, Reply{}, true)
	step("7", SetTarget{"x", Paused}, Reply{}, false)
	// A request of several changes: it stops a connector, does something, and starts it again.
	step("app", SetTarget{"x", Stopped}, Reply{}, true)
	step("app", SetTarget{"x", Started}, Reply{}, true)
	step("app", SetTarget{"x", Stopped}, Reply{}, false)
	if k.target("x") != Started {
		t.Errorf("x is %s", k.target("x"))
	}
	// Nobody names these: they are performed each time.
	step("", SetTarget{"x", Paused}, Reply{}, true)
	step("", SetTarget{"x", Paused}, Reply{}, true)
	if got, _, _ := k.Connector("x"); got["a"] != "6" || k.target("x") != Paused {
		t.Errorf("x is %v %s", got, k.target("x"))
	}
	// What was refused was not performed: it may be, later.
	step("9", DeleteConnector{Name: "y"}, Reply{Err: ErrUnknown}, false)
	step("10", PutConnector{Name: "y", Config: config("1")}, Reply{Created: true}, true)
	step("9", DeleteConnector{Name: "y"}, Reply{}, true)
}

func TestRequestsAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	k := newKeeper(0)
	for i := range Slots + 100 {
		k.read(Done{Number: int64(i + 1), Request: fmt.Sprint(i)})
	}
	if n, slots := len(k.done.requests), len(k.done.slots); n != Slots || slots != Slots {
		t.Errorf("%d requests in %d slots are remembered, want %d", n, slots, Slots)
	}
	if _, old := k.done.requests["99"]; old {
		t.Error("the oldest are not forgotten")
	}
	if _, last := k.done.requests[fmt.Sprint(Slots+99)]; !last {
		t.Error("the newest is not remembered")
	}
	k.read(Done{Number: -5, Request: "x"})
	k.read(Done{Number: 7})
	if len(k.done.requests) != Slots {
		t.Error("a record of nobody counts")
	}
}
