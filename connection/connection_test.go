package connection

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const jaas = `org.apache.kafka.common.security.scram.ScramLoginModule required username="orders-ro" password="${file:/etc/c:password}";`

func spec(more map[string]string) Spec {
	s := Spec{Config: map[string]string{"bootstrap.servers": "k1.prod:9093,k2.prod:9093", "security.protocol": "SASL_SSL", "sasl.jaas.config": jaas}}
	for k, v := range more {
		s.Config[k] = v
	}
	return s
}

func TestWhatAConnectionMayLookLike(t *testing.T) {
	t.Parallel()
	const canary = "geheim"
	for _, row := range []struct {
		name   string
		change func(*Spec)
		want   string // key and message, or its beginning; empty: nothing is wrong
	}{
		{"as it is", func(*Spec) {}, ""},
		{"no address", func(s *Spec) { delete(s.Config, "bootstrap.servers") }, "bootstrap.servers is missing"},
		{"address by reference", func(s *Spec) { s.Config["bootstrap.servers"] = "${env:X}" }, "bootstrap.servers is written out"},
		{"literal in the JAAS entry", func(s *Spec) {
			s.Config["sasl.jaas.config"] = strings.Replace(jaas, "${file:/etc/c:password}", canary, 1)
		}, "sasl.jaas.config holds a secret that is written out"},
		{"literal password", func(s *Spec) { s.Config["ssl.key.password"] = canary }, "ssl.key.password holds a secret"},
		{"literal private key", func(s *Spec) { s.Config["ssl.keystore.key"] = "-----BEGIN PRIVATE KEY-----" + canary }, "ssl.keystore.key holds a secret"},
		{"reference beside a literal", func(s *Spec) { s.Config["ssl.key.password"] = "${env:X}" + canary }, "ssl.key.password holds a secret"},
		{"another connection", func(s *Spec) { s.Config["client.id"] = "${connection:a/b:client.id}" }, "client.id refers to another connection"},
		{"our own key", func(s *Spec) { s.Config[HostsKey] = "x" }, HostsKey + " is no setting of a client"},
		{"scope", func(s *Spec) { s.Scope.Read = []string{"orders-*", "a b"} }, "scope.read holds patterns of topics"},
		{"groups", func(s *Spec) { s.Scope.Groups = "k2k-" }, "scope.groups is a prefix"},
		{"placement", func(s *Spec) { s.Placement = "tier" }, `placement "tier" is no label of workers`},
		{"labels", func(s *Spec) { s.Labels = map[string]string{"a=b": "c"} }, "labels are names and values"},
		{"hosts with all servers", func(s *Spec) { s.Hosts = []string{"*.prod:9093"} }, ""},
		{"hosts without one", func(s *Spec) { s.Hosts = []string{"k1.prod"} }, "hosts leaves out k2.prod:9093 of bootstrap.servers"},
		{"hosts that are none", func(s *Spec) { s.Hosts = []string{"*.prod", "a/b"} }, `hosts "a/b" is none`},
		{"quota", func(s *Spec) { s.Quota = Quota{Read: 5_000_000, Write: 100} }, "quota.write_bytes_per_second is 0 (no bound) or at least 10000"},
		{"rotation", func(s *Spec) { s.Rotation.MaxAgeDays = -1 }, "rotation.max_age_days is between"},
		{"too large", func(s *Spec) { s.Config["client.id"] = strings.Repeat("x", maxSpecBytes) }, "config the connection is larger"},
	} {
		s := spec(nil)
		row.change(&s)
		var got []string
		for _, p := range s.Problems() {
			got = append(got, p.Key+" "+p.Message)
		}
		text := strings.Join(got, "; ")
		if (row.want == "") != (text == "") || !strings.HasPrefix(text, row.want) || strings.Contains(text, canary) {
			t.Errorf("%s: %q; want %q", row.name, text, row.want)
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	hosts := []string{"k1.prod", "k2.prod:9093", "*.Example.com", "10.0.0.1", "[::1]:9092", "fe80::1"}
	for address, want := range map[string]bool{
		"k1.prod:1": true, "K1.PROD:1": true, "k2.prod:9093": true, "k2.prod:9094": false, "a.example.com:1": true, "a.b.example.com:1": true,
		"example.com:1": false, "evilexample.com:1": false, "10.0.0.1:9": true, "10.0.0.2:9": false, "[::1]:9092": true, "[::1]:9093": false,
		"[fe80::1]:5": true, "k1.prod.evil.com:1": false,
	} {
		if got := Allowed(hosts, address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	name := Name{"prod", "orders"}
	for text, want := range map[string]string{
		`{"config": {}, "environment": "prod", "name": "orders", "version": 3, "created": {}, "modified": {}, "used_by": []}`: "",
		`{"config": {}, "host": ["a"]}`:        `a connection has no field "host"; did you mean "hosts"?`,
		`{"config": {}, "name": "payments"}`:   `its name is "payments", but "orders" was asked for`,
		`{"config": {"a": "geheim", "b": 5}}`:  `field "config" is not of the type string`,
		`{"config": {}} {}`:                    "there is something behind the JSON object",
		`{"config": {"sasl.jaas.config": "geh`: "the connection is not JSON: unexpected EOF",
	} {
		_, err := Decode(name, []byte(text))
		if got := fmt.Sprint(err); (want == "") != (err == nil) || want != "" && got != want {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func at(n int) Change { return Change{By: "u", At: time.UnixMilli(int64(n)).UTC()} }

func TestVersionsGoOnAndComeBack(t *testing.T) {
	t.Parallel()
	one, two, three := spec(nil), spec(map[string]string{"client.id": "2"}), spec(map[string]string{"client.id": "3"})
	var r Record
	next, created := r.Put(one, at(1), 4)
	if !created {
		t.Error("the first version is no creation")
	}
	r = next
	again, created := r.Put(spec(nil), at(2), 4)
	if created || len(again.Versions) != 1 {
		t.Errorf("the same again: %+v", again)
	}
	r, _ = r.Put(two, at(3), 4)
	r = r.Delete(at(4), 4)
	if _, ok := r.Present(); ok {
		t.Error("a deleted connection is there")
	}
	if _, err := r.RollBack(3, at(5), 4); err != ErrDeleted { //nolint:errorlint // it is returned as it is
		t.Errorf("roll back to the deletion: %v", err)
	}
	r, err := r.RollBack(1, at(6), 4)
	if err != nil {
		t.Fatal(err)
	}
	r, _ = r.Put(three, at(7), 4) // the first makes room
	var got []string
	for _, v := range r.Versions {
		got = append(got, fmt.Sprintf("%d %s %d", v.Number, v.What, v.From))
	}
	if diff := cmp.Diff([]string{"2 updated 0", "3 deleted 0", "4 rolled back 1", "5 updated 0"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := r.RollBack(1, at(8), 4); err != ErrVersion { //nolint:errorlint // it is returned as it is
		t.Errorf("roll back to a version that is not kept: %v", err)
	}
	if r.Created != at(6) {
		t.Errorf("created %v", r.Created)
	}
	text, err := json.Marshal(r)
	var back Record
	if err != nil || json.Unmarshal(text, &back) != nil || cmp.Diff(r, back) != "" {
		t.Errorf("%s is not what was written: %s", text, cmp.Diff(r, back))
	}
}

func TestARecordStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	var r Record
	for i := range 60 {
		r, _ = r.Put(spec(map[string]string{"client.id": fmt.Sprint(i) + strings.Repeat("x", 20<<10)}), at(i), 1000)
	}
	text, _ := json.Marshal(r.Versions)
	if v, ok := r.Present(); !ok || v.Number != 60 || len(text) > maxRecord || len(r.Versions) < 20 {
		t.Errorf("%d versions in %d bytes, the newest %d", len(r.Versions), len(text), v.Number)
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	ro, rw := spec(nil), Spec{Config: map[string]string{"bootstrap.servers": "s:1"}, Hosts: []string{"s", "t"}, Scope: Scope{Groups: "rw-*"}}
	lookup := func(n Name) (Version, bool) {
		switch n.String() {
		case "prod/ro":
			return Version{Number: 3, Spec: &ro}, true
		case "staging/rw":
			return Version{Number: 1, Spec: &rw}, true
		case "prod/gone":
			return Version{Number: 2}, false
		}
		return Version{}, false
	}
	written := map[string]string{
		"source.connection": "prod/ro", "target.connection": " staging/rw ", "topics": "a",
		"x": "${connection:prod/ro}/$<connection:staging/rw:bootstrap.servers>/${env:A}",
	}
	got, uses, err := Expand(written, lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"source.connection": "prod/ro", "target.connection": " staging/rw ", "topics": "a",
		"x":                                   "k1.prod:9093,k2.prod:9093/s:1/${env:A}",
		"source.connection.bootstrap.servers": "k1.prod:9093,k2.prod:9093", "source.connection.security.protocol": "SASL_SSL",
		"source.connection.sasl.jaas.config":  jaas,
		"target.connection.bootstrap.servers": "s:1", "target.connection." + HostsKey: "s,t",
		"source.connection." + PrefixKey: "k2k-", "target.connection." + PrefixKey: "rw-",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantUses := []Use{
		{"source.connection", Name{"prod", "ro"}, 3}, {"target.connection", Name{"staging", "rw"}, 1}, {"x", Name{"prod", "ro"}, 3}, {"x", Name{"staging", "rw"}, 1},
	}
	if diff := cmp.Diff(wantUses, uses); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Name{{"prod", "ro"}, {"staging", "rw"}}, Names(written)); diff != "" {
		t.Error(diff)
	}
	for key, row := range map[string][2]string{
		"source.connection":                   {"prod/gone", "there is no connection prod/gone"},
		"target.connection":                   {"nonsense", `"nonsense" names no connection`},
		"source.connection.bootstrap.servers": {"evil:1", "cannot be set"},
		"a":                                   {"${connection:prod/ro:sasl.jaas.config}", "is a secret of connection prod/ro and is not given out alone"},
		"b":                                   {"${connection:prod/ro:bootstrap.server}", `it has "bootstrap.servers"`},
		"c":                                   {"${connection:prod/none:x}", "there is no connection prod/none"},
	} {
		if _, _, err := Expand(map[string]string{key: row[0]}, lookup); err == nil || !strings.Contains(err.Error(), row[1]) {
			t.Errorf("%s=%s: %v; want %s", key, row[0], err, row[1])
		}
	}
	plain := map[string]string{"a": "b", "source.connection": ""}
	if same, uses, err := Expand(plain, lookup); err != nil || uses != nil || !cmp.Equal(same, plain) {
		t.Errorf("without connections: %v %v %v", same, uses, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"config": {"bootstrap.servers": "a:1"}, "hosts": ["a", "[::1]:3"], "placement": "a=b"}`))
	f.Add([]byte(`{"config": null, "labels": {"": ""}}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if s, err := Decode(Name{"a", "b"}, text); err == nil {
			_ = s.Problems()
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("source.connection", "a/b")
	f.Add("x", "${connection:a/b:c}$<connection:a/b>${connection::}")
	f.Fuzz(func(t *testing.T, key, value string) {
		s := Spec{Config: map[string]string{"bootstrap.servers": "a:1", "ssl.key.password": "${env:A}"}}
		got, _, err := Expand(map[string]string{key: value}, func(Name) (Version, bool) { return Version{Number: 1, Spec: &s}, true })
		if err == nil && strings.Contains(got[key], "${env:A}") && !strings.Contains(value, "${env:A}") {
			t.Errorf("%s=%s gives a secret out: %s", key, value, got[key])
		}
	})
}
