package herder

import (
	"fmt"
	"slices"
	"strings"
)

// The connector settings that say on which workers a connector and its tasks may run.
const (
	// PlacementKey holds the rules.
	PlacementKey = "tasks.placement"
	// shortPlacementKey is what it was called first. It counts where PlacementKey is not set.
	shortPlacementKey = "placement"
)

// placementOf returns a connector's rules.
func placementOf(config map[string]string) string {
	if rules := config[PlacementKey]; rules != "" {
		return rules
	}
	return config[shortPlacementKey]
}

// Placement are the rules for the labels of a worker; all must hold.
type Placement []rule

type rule struct {
	key    string
	values []string
	not    bool
}

// ParsePlacement reads rules separated by commas: zone=a (the label has that value), zone=a|b (one of them), zone!=a (none
// of them; a worker without the label will do).
func ParsePlacement(text string) (Placement, error) {
	var p Placement
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		key, value, ok := strings.Cut(item, "=")
		r := rule{}
		if key, r.not = strings.CutSuffix(key, "!"); !ok || strings.TrimSpace(key) == "" {
			return nil, fmt.Errorf("%q is not a rule for labels: write label=value, label=value|value or label!=value, separated by commas", item)
		}
		r.key = strings.TrimSpace(key)
		for v := range strings.SplitSeq(value, "|") {
			r.values = append(r.values, strings.TrimSpace(v))
		}
		p = append(p, r)
	}
	return p, nil
}

// Matches says whether a worker with these labels will do.
func (p Placement) Matches(labels map[string]string) bool {
	for _, r := range p {
		have, ok := labels[r.key]
		if (ok && slices.Contains(r.values, have)) == r.not {
			return false
		}
	}
	return true
}

// Unplaced says why a unit has no worker, or nothing if it has one or will have one at once.
func (m *Machine) Unplaced(u Unit) string {
	c := m.connectors[u.Connector]
	if _, owned := m.owner[u]; owned || c == nil {
		return ""
	}
	text := m.placement(c.config, nil)
	p, err := ParsePlacement(text)
	if err != nil {
		return fmt.Sprintf("%s: %v", PlacementKey, err)
	}
	matching, draining := 0, 0
	for worker, j := range m.joins {
		if !m.present(j.Instance) || !p.Matches(j.Labels) {
			continue
		}
		if matching++; m.drains[worker] {
			draining++
		}
	}
	switch {
	case matching == 0 && len(p) > 0:
		return fmt.Sprintf("No worker of the cluster satisfies %s=%s: see barnabas workers list for their labels (worker.labels).", PlacementKey, text)
	case matching == draining && len(p) > 0:
		return fmt.Sprintf("All workers that satisfy %s=%s are drained: undrain one (barnabas workers undrain).", PlacementKey, text)
	case matching == draining && matching > 0:
		return "All workers of the cluster are drained: undrain one (barnabas workers undrain)."
	}
	return ""
}
