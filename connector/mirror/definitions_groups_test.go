package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
	"barnabas/connector"
)

// TestOtherConnectorsAreValidatedLikeMirrorMakers compares with what the classes of MirrorMaker 4.3.1 find wrong
// (testdata/Validate.java).
func TestOtherConnectorsAreValidatedLikeMirrorMakers(t *testing.T) {
	t.Parallel()
	plugins := map[string]connector.Plugin{}
	for _, p := range []connector.Plugin{Heartbeats(), Checkpoints()} {
		plugins[p.Class] = p
	}
	var recorded []struct {
		Config map[string]string
		Errors map[string][]string
	}
	readTestdata(t, "validate-groups.json", &recorded)
	seen := map[string]int{}
	for _, r := range recorded {
		p, ok := plugins[r.Config["connector.class"]]
		if !ok {
			continue
		}
		seen[p.Class]++
		got := map[string][]string{}
		for _, i := range p.Keys.Infos(p.Class, config.Literal(r.Config), p.Validate(r.Config)...).Configs {
			if len(i.Value.Errors) > 0 {
				got[i.Value.Name] = i.Value.Errors
			}
		}
		if diff := cmp.Diff(r.Errors, got); diff != "" {
			t.Errorf("%v (-MirrorMaker +ours):\n%s", r.Config, diff)
		}
	}
	for class := range plugins {
		if seen[class] < 30 {
			t.Errorf("%s: %d cases", class, seen[class])
		}
	}
}

func TestEveryKeyOfTheOtherConnectorsIsDefined(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]int{heartbeatClass: 102, checkpointClass: 113} {
		for _, p := range []connector.Plugin{Heartbeats(), Checkpoints()} {
			if n := len(p.Keys.Names()); p.Class == class && n != want {
				t.Errorf("%s: %d keys, Kafka 4.3.1 has %d", class, n, want)
			}
		}
	}
}
