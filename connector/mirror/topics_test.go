package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	remote := func(topic string) string { return "A." + topic }
	source := map[string]int32{"new": 3, "grown": 4, "same": 2, "bigger there": 1}
	target := map[string]int32{"A.grown": 2, "A.same": 2, "A.bigger there": 5, "other": 1}
	missing, short := differences(source, target, remote)
	if diff := cmp.Diff([]string{"new"}, missing); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int32{"A.grown": 4}, short); diff != "" {
		t.Error(diff)
	}
	want := parts("bigger there-0", "grown-0", "grown-1", "same-0", "same-1")
	if diff := cmp.Diff(want, ready(source, target, remote), cmp.AllowUnexported(partition{})); diff != "" {
		t.Error(diff)
	}
}

func TestTopicSettingsFollowTheSource(t *testing.T) {
	t.Parallel()
	exclude, err := newPatterns(keyPropertiesExclude, []string{"min.insync.replicas", "message.timestamp.type"})
	if err != nil {
		t.Fatal(err)
	}
	v := func(s string) *string { return &s }
	settings := []setting{
		{name: "cleanup.policy", value: v("compact"), source: kmsg.ConfigSourceDynamicTopicConfig},
		{name: "retention.ms", value: v("1"), source: kmsg.ConfigSourceDynamicDefaultBrokerConfig},
		{name: "segment.bytes", value: v("2"), source: kmsg.ConfigSourceDefaultConfig},
		{name: "max.message.bytes", value: v("3"), source: kmsg.ConfigSourceStaticBrokerConfig},
		{name: "min.insync.replicas", value: v("2"), source: kmsg.ConfigSourceDynamicTopicConfig},
		{name: "secret", source: kmsg.ConfigSourceDynamicTopicConfig, sensitive: true},
		{name: "fixed", value: v("x"), source: kmsg.ConfigSourceDynamicTopicConfig, readOnly: true},
	}
	for name, c := range map[string]struct {
		sourceDefaults bool
		initial        map[string]string
		changes        map[string]string // "" resets
	}{
		"target's defaults": {false, map[string]string{"cleanup.policy": "compact", "retention.ms": "1"}, map[string]string{"cleanup.policy": "compact", "retention.ms": "1", "segment.bytes": ""}},
		"source's defaults": {true, map[string]string{"cleanup.policy": "compact", "retention.ms": "1", "segment.bytes": "2"}, map[string]string{"cleanup.policy": "compact", "retention.ms": "1", "segment.bytes": "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := propertyFilter{exclude: exclude, sourceDefaults: c.sourceDefaults}
			initial, err := f.initial(settings)
			if diff := cmp.Diff(c.initial, initial); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			list, err := f.changes(settings)
			got := map[string]string{}
			for _, change := range list {
				got[change.name] = ""
				if change.value != nil {
					got[change.name] = *change.value
				}
			}
			if diff := cmp.Diff(c.changes, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
