package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// written is a record as the topic holds it.
type written struct {
	offset int64
	value  []byte
	code   []byte
}

// trail returns the records of two workers that write in turns. Each knows of the record before.
func trail(t *testing.T, n int, key []byte) []written {
	t.Helper()
	chains := []*chain{{name: "a/1"}, {name: "b/1"}}
	var all []written
	for i := range n {
		e := Entry{At: time.Date(2026, 11, 23, 12, 0, i, 0, time.UTC), Action: "connect:PauseConnector", Resource: fmt.Sprint("connect:connector:", i), Outcome: Done}
		if i > 0 {
			e.Seen = &Place{int64(i - 1), Hash(all[i-1].value)}
		}
		c := chains[i%3%2]
		value, err := c.link(e)
		if err != nil {
			t.Fatal(err)
		}
		c.linked(value)
		w := written{offset: int64(i), value: value}
		if key != nil {
			w.code = code(key, value)
		}
		all = append(all, w)
	}
	return all
}

func verify(all []written, key []byte, expect *Place) Report {
	v := newVerifier(key, expect)
	end := int64(0)
	for _, w := range all {
		v.record(w.offset, w.value, w.code)
		end = w.offset + 1
	}
	return v.end(end)
}

// copied gives records new offsets, as somebody does who writes a topic anew.
func copied(all []written) []written {
	all = slices.Clone(all)
	for i := range all {
		all[i].offset = int64(i)
	}
	return all
}

// TestWhatIsDoneToATrailShows takes away, changes and puts in every record of one.
func TestWhatIsDoneToATrailShows(t *testing.T) {
	t.Parallel()
	const n = 12
	key := []byte("0123456789abcdef")
	for _, k := range [][]byte{nil, key} {
		whole := trail(t, n, k)
		if r := verify(whole, k, nil); !r.Whole() || r.Records != n || r.Chains != 2 || r.Head.Offset != n-1 {
			t.Fatalf("%+v", r)
		}
		head := verify(whole, k, nil).Head
		for i := range n {
			last := i == n-1
			without := slices.Delete(slices.Clone(whole), i, i+1)
			if r := verify(copied(without), k, nil); r.Whole() != last {
				t.Errorf("without %d: %+v", i, r.Findings)
			}
			if r := verify(copied(without), k, head); r.Whole() {
				t.Errorf("without %d, and its head was known: %+v", i, r.Findings)
			}
			if r := verify(without, k, nil); r.Whole() && !last {
				t.Errorf("without offset %d: %+v", i, r.Findings)
			}
			changed := slices.Clone(whole)
			changed[i].value = []byte(strings.Replace(string(whole[i].value), `"done"`, `"denied"`, 1))
			if r := verify(changed, k, nil); r.Whole() != (last && k == nil) {
				t.Errorf("%d changed: %+v", i, r.Findings)
			}
			if r := verify(changed, k, head); r.Whole() {
				t.Errorf("%d changed, and its head was known: %+v", i, r.Findings)
			}
			more := copied(slices.Insert(slices.Clone(whole), i, whole[(i+5)%n]))
			if r := verify(more, k, nil); r.Whole() {
				t.Errorf("one more at %d", i)
			}
			forged := whole[i]
			forged.value = []byte(`{"chain":"c/1","seq":0,"at":"2026-11-23T12:00:00Z","action":"a","resource":"r","outcome":"done"}`)
			// Nobody has seen the record before the last one, so that a worker could have begun there.
			if r := verify(copied(slices.Insert(slices.Clone(whole), i, forged)), k, nil); r.Whole() != (last && k == nil) {
				t.Errorf("a forged one at %d: %+v", i, r.Findings)
			}
		}
		forged := append(slices.Clone(whole), written{n, []byte(`{"chain":"c/1","seq":0,"at":"2026-11-23T12:00:00Z","action":"a","resource":"r","outcome":"done"}`), nil})
		if r := verify(forged, k, nil); r.Whole() != (k == nil) { // without a key, whoever may write may also begin a chain
			t.Errorf("a forged one at the end: %+v", r.Findings)
		}
		if r := verify(append(slices.Clone(whole), written{n, []byte("hello"), nil}), k, nil); r.Whole() {
			t.Error("what is no entry at the end is not found")
		}
	}
	if r := verify(nil, nil, nil); !r.Whole() || r.Head != nil {
		t.Errorf("an empty trail: %+v", r)
	}
	if r := verify(trail(t, n, []byte("another key")), key, nil); len(r.Findings) != n {
		t.Errorf("another key: %+v", r)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	p := Place{7, Hash(nil)}
	if again, err := ParsePlace(p.String()); err != nil || again != p {
		t.Error(again, err)
	}
	for _, text := range []string{"", "7", "x:" + p.Hash, "-1:" + p.Hash, "7:" + p.Hash[1:], "7:zz"} {
		if _, err := ParsePlace(text); err == nil {
			t.Errorf("%q is a place", text)
		}
	}
}
