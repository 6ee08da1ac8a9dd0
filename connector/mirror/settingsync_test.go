package mirror

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/config"
	"barnabas/connector"
)

func TestOnlyWhatDiffersIsChanged(t *testing.T) {
	t.Parallel()
	there := []setting{
		{name: "retention.ms", value: new("5"), source: kmsg.ConfigSourceDynamicTopicConfig},
		{name: "cleanup.policy", value: new("compact"), source: kmsg.ConfigSourceDynamicTopicConfig},
		{name: "segment.ms", value: new("7"), source: kmsg.ConfigSourceDefaultConfig},
	}
	for _, row := range []struct {
		about  string
		change change
		due    bool
	}{
		{"has the value", change{"retention.ms", new("5")}, false},
		{"has another value", change{"retention.ms", new("6")}, true},
		{"has the value only by default", change{"segment.ms", new("7")}, true},
		{"has a value and should not", change{"cleanup.policy", nil}, true},
		{"has the default and should", change{"segment.ms", nil}, false},
		{"is not known there", change{"local.retention.ms", nil}, false},
	} {
		if got := len(due([]change{row.change}, there)) == 1; got != row.due {
			t.Errorf("%s: %v, want %v", row.about, got, row.due)
		}
	}
}

func TestSettingsAreTriedSingly(t *testing.T) {
	t.Parallel()
	has := map[string]string{}
	requests := 0
	try := func(all map[string][]change) (map[string]error, error) {
		failed := map[string]error{}
		for topic, changes := range all {
			requests++
			switch c := changes[0]; {
			case topic == "hidden":
				failed[topic] = kerr.TopicAuthorizationFailed
			case c.name == "bad" || c.name == "local" && has[topic+"/retention"] == "":
				failed[topic] = kerr.InvalidConfig
			default:
				has[topic+"/"+c.name] = *c.value
			}
		}
		return failed, nil
	}
	one := []change{{"bad", new("0")}, {"local", new("1")}, {"retention", new("2")}}
	refused, failed, err := oneByOne(map[string][]change{"a": one, "b": {{"bad", new("0")}}, "hidden": one}, try)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for topic, list := range refused {
		for _, r := range list {
			names[topic] = append(names[topic], r.name)
		}
	}
	if diff := cmp.Diff(map[string][]string{"a": {"bad"}, "b": {"bad"}}, names); diff != "" {
		t.Errorf("refused:\n%s", diff)
	}
	if len(failed) != 1 || !errors.Is(failed["hidden"], kerr.TopicAuthorizationFailed) {
		t.Errorf("failed: %v", failed)
	}
	if diff := cmp.Diff([]string{"a/local", "a/retention"}, slices.Sorted(maps.Keys(has))); diff != "" {
		t.Errorf("what depends on another setting was not tried behind it:\n%s", diff)
	}
	if requests != 8 { // a: 3, then bad and local, then bad; b: 1; hidden: 1
		t.Errorf("%d attempts", requests)
	}
}

// refuse makes a cluster refuse one setting, and counts how often it is asked for.
func refuse(c *kfake.Cluster, name string, code int16) *atomic.Int64 {
	var asked atomic.Int64
	c.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, ok := r.(*kmsg.IncrementalAlterConfigsRequest)
		if !ok || !slices.ContainsFunc(req.Resources, func(r kmsg.IncrementalAlterConfigsRequestResource) bool {
			return name == "" || slices.ContainsFunc(r.Configs, func(c kmsg.IncrementalAlterConfigsRequestResourceConfig) bool { return c.Name == name })
		}) {
			return nil, nil, false
		}
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
		for _, r := range req.Resources {
			one := kmsg.NewIncrementalAlterConfigsResponseResource()
			one.ResourceType, one.ResourceName, one.ErrorCode = r.ResourceType, r.ResourceName, code
			resp.Resources = append(resp.Resources, one)
		}
		return resp, nil, true
	})
	return &asked
}

func valueAt(c *kfake.Cluster, topic, key string) string {
	if info := c.TopicInfo(topic); info != nil {
		if v, ok := info.Configs[key]; ok && v != nil {
			return *v
		}
	}
	return "default"
}

// setTopic changes a setting of a topic; an empty value resets it.
func setTopic(t *testing.T, c *kfake.Cluster, topic, key, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	alter := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
	if value == "" {
		alter = kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key}
	}
	if got, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{alter}, topic); err != nil || got[0].Err != nil {
		t.Fatal(err, got)
	}
}

func (r *rig) noted(about string) (found []connector.Note) {
	for _, n := range locked(r, func() []connector.Note { return r.notes }) {
		if n.About == about {
			found = append(found, n)
		}
	}
	return found
}

func TestSettingThatTheTargetRefusesIsLeftOutAndToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config["sync.topic.configs.interval.seconds"] = "1"
	r.createTopic(r.source, "orders", 1, map[string]string{"retention.ms": "111", "cleanup.policy": "compact"})
	r.createTopic(r.target, "A.orders", 1, nil)
	asked := refuse(r.target, "retention.ms", kerr.PolicyViolation.Code)
	r.run()
	eventually(t, "the other setting is taken over", func() bool { return valueAt(r.target, "A.orders", "cleanup.policy") == "compact" })
	eventually(t, "it is said", func() bool { return len(r.noted(aboutSettings)) == 1 })
	n := r.noted(aboutSettings)[0]
	if !strings.Contains(n.Text, "retention.ms=111") || !strings.Contains(n.Text, "A.orders") || !strings.Contains(n.Text, "POLICY_VIOLATION") || n.Degraded {
		t.Errorf("noted: %+v", n)
	}
	before := asked.Load() // together, singly, and again behind what has gone through
	setTopic(t, r.source, "orders", "segment.ms", "77777")
	eventually(t, "a later change is taken over", func() bool { return valueAt(r.target, "A.orders", "segment.ms") == "77777" })
	if n := asked.Load(); n != before {
		t.Errorf("the refused setting was asked for %d more times", n-before)
	}
	setTopic(t, r.source, "orders", "retention.ms", "222")
	eventually(t, "another value is tried", func() bool { return asked.Load() > before })
	eventually(t, "and told", func() bool {
		notes := r.noted(aboutSettings)
		return len(notes) == 1 && strings.Contains(notes[0].Text, "retention.ms=222")
	})
	setTopic(t, r.source, "orders", "retention.ms", "")
	eventually(t, "nothing is left out any more", func() bool { return len(r.noted(aboutSettings)) == 0 })
	if n := strings.Count(r.logged(), "does not take the setting"); n != 2 { // one of each value
		t.Errorf("logged %d times:\n%s", n, r.logged())
	}
}

func TestTopicIsCreatedWithoutTheSettingsThatTheTargetRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, map[string]string{"retention.ms": "111", "cleanup.policy": "compact"})
	refuse(r.target, "retention.ms", kerr.InvalidConfig.Code)
	r.target.ControlKey(int16(kmsg.CreateTopics), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.target.KeepControl()
		req, ok := k.(*kmsg.CreateTopicsRequest)
		if !ok {
			return nil, nil, false
		}
		for _, topic := range req.Topics {
			for _, c := range topic.Configs {
				if c.Name == "retention.ms" {
					resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
					one := kmsg.NewCreateTopicsResponseTopic()
					one.Topic, one.ErrorCode = topic.Topic, kerr.PolicyViolation.Code
					resp.Topics = append(resp.Topics, one)
					return resp, nil, true
				}
			}
		}
		return nil, nil, false
	})
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.run()
	r.waitEqual("orders", "A.orders")
	if got := valueAt(r.target, "A.orders", "cleanup.policy"); got != "compact" {
		t.Errorf("cleanup.policy is %s", got)
	}
	if notes := r.noted(aboutSettings); len(notes) != 1 || !strings.Contains(notes[0].Text, "retention.ms=111") {
		t.Errorf("noted: %v", notes)
	}
}

func TestWithoutTheRightToAlterSettingsTheConnectorRuns(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		r := newRig(t)
		r.config["sync.topic.configs.interval.seconds"] = "1"
		if asked {
			r.config["sync.topic.configs.enabled"] = "true"
		}
		r.createTopic(r.source, "orders", 1, map[string]string{"retention.ms": "111"})
		r.createTopic(r.target, "A.orders", 1, nil)
		attempts := refuse(r.target, "", kerr.TopicAuthorizationFailed.Code)
		stop := r.run()
		eventually(t, "it has tried several times", func() bool { return attempts.Load() > 2 })
		notes := r.noted(aboutSettings)
		if len(notes) != 1 || notes[0].Degraded != asked {
			t.Fatalf("asked by name: %v, noted: %+v", asked, notes)
		}
		for _, want := range []string{"User:target-admin", "A.orders", "AlterConfigs"} {
			if !strings.Contains(notes[0].Text, want) {
				t.Errorf("the note lacks %q: %s", want, notes[0].Text)
			}
		}
		if n := strings.Count(r.logged(), "settings of topics are not synced:"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, r.logged())
		}
		write(t, r.source, numbered("orders", 0, 0, 10)...)
		r.waitEqual("orders", "A.orders")
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestNegativeIntervalTurnsASyncOff(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		enabled, interval string
		repeats           bool
	}{{"true", "600", true}, {"true", "0", true}, {"true", "-1", false}, {"false", "600", false}, {"true", "9223372036854775807", true}} {
		for _, name := range []string{"refresh.topics", "sync.topic.configs", "sync.topic.acls"} {
			s := settingsWith(t, map[string]string{name + ".enabled": row.enabled, name + ".interval.seconds": row.interval})
			every, repeats := repetition(s, name)
			if repeats != row.repeats || every <= 0 {
				t.Errorf("%s %+v: %v %v", name, row, every, repeats)
			}
		}
	}
}

func settingsWith(t *testing.T, more map[string]string) sourceSettings {
	t.Helper()
	written := map[string]string{"name": "m", "connector.class": "MirrorSource", keySourceAlias: "A", keyTargetAlias: "B", keyTopics: "orders.*"}
	maps.Copy(written, more)
	s, err := parseSource(config.Literal(written))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
