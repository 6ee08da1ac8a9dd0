package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

// TestValidationAnswersLikeConnect compares with what Kafka Connect 4.3.1
// answered to the same configurations.
func TestValidationAnswersLikeConnect(t *testing.T) {
	t.Parallel()
	var recorded []struct {
		Config     map[string]string
		ErrorCount int `json:"error_count"`
		Errors     map[string][]string
	}
	readTestdata(t, "validate.json", &recorded)
	// Where we say more than Connect, which lets these through and then fails
	// the connector, or ignores them.
	stricter := map[string]string{"(": keyTopics, "*": keyTopics, "elsewhere": keyDefaultsFrom, "java.lang.String": keyTopicFilterClass}
	// The class that Connect needs in full is accepted by its short name.
	lenient := map[string]bool{"IdentityReplicationPolicy": true}
	for _, r := range recorded {
		infos := Source().Keys.Infos(sourceClass, config.Literal(r.Config), Source().Validate(r.Config)...)
		got := map[string][]string{}
		for _, i := range infos.Configs {
			if len(i.Value.Errors) > 0 {
				got[i.Value.Name] = i.Value.Errors
			}
		}
		deliberate := false
		for value, key := range stricter {
			if r.Config[key] == value {
				deliberate = true
				if len(got[key]) != 1 {
					t.Errorf("%s=%s: errors %v, want one", key, value, got)
				}
			}
		}
		if deliberate {
			continue
		}
		if lenient[r.Config[keyPolicyClass]] {
			r.Errors, r.ErrorCount = map[string][]string{}, 0
		}
		if diff := cmp.Diff(r.Errors, got); diff != "" || infos.ErrorCount != r.ErrorCount {
			t.Errorf("%v: %d errors, Connect has %d (-Connect +ours):\n%s", r.Config, infos.ErrorCount, r.ErrorCount, diff)
		}
	}
}

func TestEveryKeyOfMirrorSourceIsDefined(t *testing.T) {
	t.Parallel()
	keys := Source().Keys
	if n := len(keys.Names()); n != 118 {
		t.Errorf("%d keys, Kafka 4.3.1 has 118", n)
	}
	for name, want := range map[string]string{
		keyTopicsExclude: `mm2.*\.internal,.*\.replica,__.*`, keyReplicationFactor: "2", "refresh.topics.interval.seconds": "600",
	} {
		if k, _ := keys.Key(name); k.Default == nil || *k.Default != want {
			t.Errorf("default of %s is %v, want %q", name, k.Default, want)
		}
	}
}
