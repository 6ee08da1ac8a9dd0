package herder

import (
	"errors"
	"testing"
)

func TestDocumentsChangeOnlyFromWhatIsThere(t *testing.T) {
	t.Parallel()
	k := newKeeper(0)
	put := func(expect int64, value any) error {
		d := k.newDraft()
		r := d.perform(PutDocument{Document: Document{Key: "a", Value: value}, Expect: expect})
		for _, record := range d.records {
			k.read(record)
		}
		return r.Err
	}
	for i, row := range []struct {
		expect int64
		value  any
		want   error
	}{
		{0, 1, ErrDocument}, {NoDocument, 1, nil}, {NoDocument, 2, ErrDocument}, {1, 2, nil}, {1, 3, ErrDocument}, {2, nil, nil}, {2, 4, ErrDocument}, {NoDocument, 4, nil},
	} {
		if err := put(row.expect, row.value); !errors.Is(err, row.want) {
			t.Errorf("step %d: %v, want %v", i, err, row.want)
		}
	}
	d := k.newDraft()
	twice := PutDocument{Document: Document{Key: "b", Value: 1}, Expect: NoDocument}
	if first, second := d.perform(twice), d.perform(twice); first.Err != nil || !errors.Is(second.Err, ErrDocument) {
		t.Errorf("two in one transaction: %v, %v", first.Err, second.Err)
	}
}

func TestAChangeIsPermittedByWhatConnectorsWillBe(t *testing.T) {
	t.Parallel()
	k := newKeeper(0)
	k.put("old", "", map[string]string{"uses": "a"})
	inUse := errors.New("in use")
	refused := PutDocument{Document: Document{Key: "a"}, Expect: NoDocument, Permit: func(configs map[string]map[string]string) error {
		for _, c := range configs {
			if c["uses"] == "a" {
				return inUse
			}
		}
		return nil
	}}
	d := k.newDraft()
	if r := d.perform(refused); !errors.Is(r.Err, inUse) || len(d.records) > 0 {
		t.Errorf("deleted under a connector: %v", r.Err)
	}
	d.perform(DeleteConnector{Name: "old"})
	if r := d.perform(refused); r.Err != nil {
		t.Errorf("refused although the connector goes in the same transaction: %v", r.Err)
	}
	d = k.newDraft()
	d.perform(DeleteConnector{Name: "old"})
	d.perform(PutConnector{Name: "new", Config: map[string]string{"uses": "a"}})
	if r := d.perform(refused); !errors.Is(r.Err, inUse) {
		t.Errorf("deleted under a connector that comes in the same transaction: %v", r.Err)
	}
}

func TestDocumentsPlaceTheConnectorsThatUseThem(t *testing.T) {
	t.Parallel()
	k := newKeeper(0)
	k.uses = func(config map[string]string) []string {
		if config["uses"] == "" {
			return nil
		}
		return []string{config["uses"]}
	}
	k.order(PutDocument{Document: Document{Key: "a", Value: 1, Placement: "tier=pci"}, Expect: NoDocument})
	for name, config := range map[string]map[string]string{"": {}, "zone=a": {PlacementKey: "zone=a"}, "tier=pci": {"uses": "a"}, "zone=a,tier=pci": {PlacementKey: "zone=a", "uses": "a"}} {
		if got := k.placement(config, nil); got != name {
			t.Errorf("%v is placed on %q, want %q", config, got, name)
		}
	}
	d := k.newDraft()
	d.perform(PutDocument{Document: Document{Key: "a", Value: 2, Placement: "tier=free"}, Expect: 1})
	if got := k.placement(map[string]string{"uses": "a"}, d.documents); got != "tier=free" {
		t.Errorf("the transaction that changes a placement places by %q", got)
	}
}

func TestOrdersTogetherAreAllPerformedOrNone(t *testing.T) {
	t.Parallel()
	k := newKeeper(3)
	k.put("there", "", map[string]string{"a": "1"})
	both := func(expect int64) Together {
		return Together{[]Order{
			PutConnector{Name: "new", Config: map[string]string{"a": "2"}, Create: true},
			SetTarget{"there", Paused},
			PutDocument{Document: Document{Key: "d", Value: 1}, Expect: expect},
		}}
	}
	d := k.newDraft()
	if r := d.perform(both(7)); !errors.Is(r.Err, ErrDocument) || len(d.records) != 0 || d.configs["new"] != nil || d.touched["new"] || d.touched["there"] {
		t.Errorf("after a refusal: %v, %v, touched %v", r.Err, d.records, d.touched)
	}
	d.perform(SetTarget{"there", Stopped})
	if r := d.perform(both(NoDocument)); !errors.Is(r.Err, ErrDocument) {
		t.Errorf("beside an order about the same connector: %v", r.Err)
	}
	d = k.newDraft()
	if r := d.perform(both(NoDocument)); r.Err != nil || len(d.records) != 4 || !d.touched["new"] || !d.touched["there"] { // with a version of the history
		t.Errorf("all: %v, %v", r.Err, d.records)
	}
	if r := k.newDraft().perform(Together{[]Order{DeleteConnector{Name: "none"}}}); !errors.Is(r.Err, ErrUnknown) {
		t.Errorf("unknown connector: %v", r.Err)
	}
}
