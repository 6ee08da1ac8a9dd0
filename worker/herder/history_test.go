package herder

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keeper is a machine that keeps versions, and a log that its drafts are appended to.
type keeper struct {
	*Machine
	offset int64
	at     int64
}

func newKeeper(versions int) *keeper {
	return &keeper{Machine: New(Config{Versions: versions, Conceal: func(c map[string]string) (map[string]string, []string) {
		kept, hidden := map[string]string{}, []string(nil)
		for _, k := range sorted(c) {
			if k == "password" {
				hidden = append(hidden, k)
				continue
			}
			kept[k] = c[k]
		}
		return kept, hidden
	}})}
}

func (k *keeper) order(o Order) {
	d := k.newDraft()
	d.perform(o)
	for _, r := range d.records {
		k.read(r)
	}
}

func (k *keeper) read(r Record) {
	k.offset++
	k.applyConfig(ConfigRead{Offset: k.offset, Record: r})
}

func (k *keeper) put(name string, what string, config map[string]string) {
	k.at++
	k.order(PutConnector{Name: name, Config: config, Change: Change{What: what, User: "u", At: k.at}})
}

func (k *keeper) told(name string) (all []string) {
	for _, v := range k.History(name) {
		all = append(all, fmt.Sprintf("%d %s by %q %v %v hidden %v", v.Number, v.What, v.User, v.Changed, v.Config, v.Hidden))
	}
	return all
}

func TestEveryChangeIsAVersion(t *testing.T) {
	t.Parallel()
	k := newKeeper(5)
	k.put("x", "", map[string]string{"a": "1", "password": "p"})
	k.put("x", "", map[string]string{"a": "1", "password": "p"}) // the same: no version
	k.put("x", Patched, map[string]string{"a": "1", "password": "q"})
	k.read(ConnectorConfig{Name: "x", Config: map[string]string{"a": "2"}}) // Kafka Connect's
	k.put("x", "", map[string]string{"a": "2", "b": "1"})
	k.at++
	k.order(DeleteConnector{Name: "x", Change: Change{User: "u", At: k.at}})
	want := []string{
		`1 created by "u" [] map[a:1] hidden [password]`,
		`2 patched by "u" [password] map[a:1] hidden [password]`,
		`3 found by "" [a] map[a:2] hidden []`,
		`4 updated by "u" [b] map[a:2 b:1] hidden []`,
		`5 deleted by "u" [] map[] hidden []`,
	}
	if diff := cmp.Diff(want, k.told("x")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	k.put("x", RolledBack, map[string]string{"a": "1"})
	want = append(want[1:], `6 rolled back by "u" [] map[a:1] hidden []`)
	if diff := cmp.Diff(want, k.told("x")); diff != "" {
		t.Errorf("created again, (-want +got):\n%s", diff)
	}
}

func TestTheHistoryIsBounded(t *testing.T) {
	t.Parallel()
	k := newKeeper(3)
	for i := range 10 {
		k.put("x", "", map[string]string{"a": fmt.Sprint(i)})
	}
	if got := k.told("x"); len(got) != 3 || !strings.HasPrefix(got[0], "8 ") {
		t.Errorf("3 versions of 10 are kept: %q", got)
	}
	k.put("x", "", map[string]string{"a": strings.Repeat("x", maxVersionBytes)})
	if v := lastOf(k.History("x")); !v.Omitted || v.Config != nil {
		t.Errorf("a large configuration is kept: %d settings", len(v.Config))
	}
	k.put("x", "", map[string]string{"a": "1"})
	if v := lastOf(k.History("x")); v.What != Updated || v.Omitted {
		t.Errorf("after a large one: %+v", v)
	}
	for i := range maxDeleted + 10 {
		name := fmt.Sprintf("gone%d", i)
		k.put(name, "", map[string]string{"a": "1"})
		k.order(DeleteConnector{Name: name, Change: Change{At: k.at}})
	}
	left := 0
	for name := range k.histories {
		if strings.HasPrefix(name, "gone") {
			left++
		}
	}
	if left != maxDeleted || k.History("gone0") != nil || k.History("x") == nil || k.History(fmt.Sprintf("gone%d", maxDeleted+9)) == nil {
		t.Errorf("the histories of %d deleted connectors are kept, want the newest %d", left, maxDeleted)
	}
	none := newKeeper(0)
	none.put("x", "", map[string]string{"a": "1"})
	if len(none.histories) > 0 {
		t.Error("a history is kept that nobody wants")
	}
	if !slices.Equal(changedKeys(map[string]string{"a": "1", "b": "2"}, map[string]string{"b": "3", "c": "4"}), []string{"a", "b", "c"}) {
		t.Error("changed keys")
	}
}
