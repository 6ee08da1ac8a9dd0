package gossip

import (
	"encoding/hex"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestMetadataIsReadBack(t *testing.T) {
	t.Parallel()
	for _, m := range []Member{
		{ID: "a:1", Incarnation: 1},
		{ID: "a:1", Incarnation: 1700000000000, Meta: Meta{URL: "http://a:1", Version: "0.1"}},
		{ID: "[::1]:8083", Incarnation: 1, Meta: Meta{URL: "https://[::1]:8083"}, Load: 1 << 30},
		{ID: "a#b:1", Incarnation: 2, Meta: Meta{URL: "http://proxy/", Labels: map[string]string{"zone": "ä", "": ""}}},
		{ID: "a:1", Incarnation: 1, Meta: Meta{URL: "http://a:1"}, LabelsInLog: true, Ready: true},
	} {
		got, err := parseMember(nodeName(m.ID, m.Incarnation), appendMeta(nil, m))
		if err != nil {
			t.Errorf("%+v: %v", m, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestMetadataOfTheNextVersionIsRead(t *testing.T) {
	t.Parallel()
	m := Member{ID: "a:1", Incarnation: 1, Meta: Meta{URL: "http://a:1", Version: "2"}}
	b := append(appendMeta(nil, m), "what it adds"...)
	b[0]++
	if got, err := parseMember("a:1#1", b); err != nil || !cmp.Equal(m, got) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestMetadataKeepsItsForm fails when the bytes change: then the version has to.
func TestMetadataKeepsItsForm(t *testing.T) {
	t.Parallel()
	m := Member{ID: "a:1", Incarnation: 1, Meta: Meta{URL: "http://a:1", Version: "1.0", Labels: map[string]string{"z": "b", "t": "p"}}, Load: 2}
	const want = "0102" + "00000040" + "00" + "03312e30" + "02" + "0174" + "0170" + "017a" + "0162"
	if got := hex.EncodeToString(appendMeta(nil, m)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHintsAreReadBack(t *testing.T) {
	t.Parallel()
	for _, offset := range []int64{0, 1, 300, math.MaxInt64} {
		if got, err := parseHint(hint(offset).Message()); err != nil || got != offset {
			t.Errorf("%d: got %d, %v", offset, got, err)
		}
	}
	for _, b := range [][]byte{nil, {}, {1}, {0, 2}, {1, 1}, {1, 0x80}} { // the fifth is -1
		if got, err := parseHint(b); err == nil {
			t.Errorf("%x: read as %d", b, got)
		}
	}
}

func FuzzForeignBytes(f *testing.F) {
	f.Add("a:1#1", appendMeta(nil, Member{ID: "a:1", Meta: Meta{URL: "http://b", Version: "1", Labels: map[string]string{"k": "v"}}}))
	f.Add("a:1#1", appendMeta(nil, Member{ID: "a:1", Meta: Meta{URL: "http://a:1"}, Load: 1}))
	f.Add("#", []byte{})
	f.Add("a#", []byte{1, 0, 0, 0, 0x80, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add("a#x", []byte{1, 0xff, 0, 0, 0, 0, 0, 0, 200})
	f.Add("a#99999999999999999999", []byte{1, 1})
	f.Add("", []byte(strings.Repeat("\xff", 600)))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if offset, err := parseHint(b); err == nil && offset < 0 {
			t.Errorf("hint %d", offset)
		}
		m, err := parseMember(name, b)
		if err != nil {
			return
		}
		if m.Load < 0 || math.IsNaN(m.Load) || math.IsInf(m.Load, 0) {
			t.Errorf("load %v", m.Load)
		}
		again, err := parseMember(nodeName(m.ID, m.Incarnation), appendMeta(nil, m))
		if m.LabelsInLog {
			m.Labels = nil
		}
		if err != nil || !cmp.Equal(m, again) {
			t.Errorf("%+v written and read again: %+v, %v", m, again, err)
		}
	})
}
