package k2k

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/connection"
)

func app() Spec {
	return Spec{Source: "prod/ro", Target: "staging/rw", Topics: []string{"orders-*"}}.Defaults()
}

func TestWhatAnAppMayLookLike(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"as it is", func(*Spec) {}, ""},
		{"a time", func(s *Spec) { s.Start = "2027-01-31T12:00:00+01:00" }, ""},
		{"no source", func(s *Spec) { s.Source = "" }, "source is missing"},
		{"no connection", func(s *Spec) { s.Target = "rw" }, `target "rw" names no connection`},
		{"no topics", func(s *Spec) { s.Topics = nil }, "topics is empty"},
		{"a regular expression", func(s *Spec) { s.Topics = []string{"orders-.+"} }, "topics are up to 256 names"},
		{"start", func(s *Spec) { s.Start = "yesterday" }, "start is earliest, latest, committed, or a time"},
		{"replicas", func(s *Spec) { s.Replicas = -1 }, "replicas is between 1 and 1000"},
		{"state", func(s *Spec) { s.State = "RUNNING" }, "state is running, paused or stopped"},
		{"naming", func(s *Spec) { s.Naming.Policy = "other" }, "naming.policy is identity, default or prefix"},
		{"prefix", func(s *Spec) { s.Naming = Naming{Prefix, ""} }, "naming.prefix is 1 to 100"},
		{"prefix without its policy", func(s *Spec) { s.Naming.Prefix = "x" }, "naming.prefix counts with the policy prefix only"},
		{"namespace", func(s *Spec) { s.Namespace = "a/b" }, "namespace is ENVIRONMENT/CLUSTER/NAMESPACE"},
		{"groups and prefix", func(s *Spec) { s.Groups, s.Naming = []string{"*"}, Naming{Prefix, "x"} }, "groups cannot be carried"},
		{"onto itself", func(s *Spec) { s.Target = s.Source }, "target is the source"},
		{"onto itself with other names", func(s *Spec) { s.Target, s.Naming.Policy = s.Source, Default }, ""},
	} {
		s := app()
		row.change(&s)
		var got []string
		for _, p := range s.Problems() {
			got = append(got, p.Key+" "+p.Message)
		}
		if text := strings.Join(got, "; "); (row.want == "") != (text == "") || !strings.HasPrefix(text, row.want) {
			t.Errorf("%s: %q; want %q", row.name, text, row.want)
		}
	}
	for text, want := range map[string]string{
		`{"source": "a/b", "topic": ["x"]}`:            `an app has no field "topic"; did you mean "topics"?`,
		`{"name": "other"}`:                            `its name is "other", but "orders" was asked for`,
		`{"replicas": "2"}`:                            `field "replicas" is not of the type int`,
		`{"name": "orders", "status": {}, "topics":[]`: "the app is not JSON: unexpected EOF",
	} {
		if _, err := Decode("orders", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

func TestAppsAreCompiledToConnectors(t *testing.T) {
	t.Parallel()
	s := app()
	s.Topics, s.Exclude, s.Replicas, s.Start, s.Groups, s.Heartbeats = []string{"orders-*", "a.b"}, []string{"*-test"}, 3, "2027-01-31T12:00:00+01:00", []string{"team-*"}, true
	all := Compile("orders", s)
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
		if c.Config[AppKey] != "orders" || c.Config["source.connection"] != "prod/ro" || c.Config["target.connection"] != "staging/rw" || c.Config["source.cluster.alias"] != "prod-ro" {
			t.Errorf("%s: %v", c.Name, c.Config)
		}
	}
	if diff := cmp.Diff([]string{"orders", "orders.groups", "orders.heartbeats"}, names); diff != "" {
		t.Error(diff)
	}
	source := all[0].Config
	for key, want := range map[string]string{
		"topics": `orders-.*,a\.b`, "topics.exclude": excluded + ",.*-test", "tasks.max": "3", "start.position": "2027-01-31T11:00:00Z",
		"emit.offset-syncs.enabled": "true", "offset-syncs.topic.location": "target", "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
	} {
		if source[key] != want {
			t.Errorf("%s is %q, want %q", key, source[key], want)
		}
	}
	if got := all[1].Config["groups"]; got != "team-.*" {
		t.Errorf("groups %q", got)
	}
	s = app()
	s.Naming = Naming{Prefix, "stg."}
	if c := Compile("orders", s); len(c) != 1 || c[0].Config["transforms.naming.replacement"] != "stg.$1" || c[0].Config["emit.offset-syncs.enabled"] != "false" {
		t.Errorf("with a prefix: %v", c)
	}
}

// FuzzPatterns holds names with * against what their regular expressions match.
func FuzzPatterns(f *testing.F) {
	f.Add("orders-*", "orders-eu")
	f.Add("a.b", "axb")
	f.Add("*x*", "x")
	f.Fuzz(func(t *testing.T, name, topic string) {
		if !topicPattern.MatchString(name) || strings.Contains(topic, "\n") || len(topic) > 50 || len(name) > 50 {
			return
		}
		want := wild(name, topic)
		if got := regexp.MustCompile(`\A(?:` + patterns([]string{name}) + `)\z`).MatchString(topic); got != want {
			t.Errorf("%s on %s: %v, want %v", name, topic, got, want)
		}
	})
}

// wild says whether a name with * for any part is that of a topic, letter by letter.
func wild(name, topic string) bool {
	if name == "" {
		return topic == ""
	}
	if name[0] == '*' {
		return wild(name[1:], topic) || topic != "" && wild(name, topic[1:])
	}
	return topic != "" && name[0] == topic[0] && wild(name[1:], topic[1:])
}

func TestTheSameAppIsNoChange(t *testing.T) {
	t.Parallel()
	by := connection.Change{By: "u", At: time.Unix(1, 0)}
	r, changed := Put(nil, app(), by)
	if !changed || r.Version != 1 {
		t.Errorf("created %+v", r)
	}
	same := app()
	same.Exclude = []string{}
	if again, changed := Put(&r, same, by); changed || again.Version != 1 {
		t.Errorf("the same: %+v", again)
	}
	same.Replicas = 2
	if next, changed := Put(&r, same, by); !changed || next.Version != 2 || fmt.Sprint(next.Created) != fmt.Sprint(by) {
		t.Errorf("changed: %+v", next)
	}
}
