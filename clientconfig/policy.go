package clientconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"barnabas/config"
)

// Policy says which client settings a connector's configuration may override:
// connector.client.config.override.policy (KIP-458). The zero Policy is All.
type Policy struct {
	name    string
	allowed func(key string) bool
}

// Keys of the worker that choose the policy.
const (
	PolicyKey    = "connector.client.config.override.policy"
	AllowlistKey = "connector.client.config.override.allowlist"
)

// policyPackage and policySuffix make Kafka's class names out of the short ones.
const (
	policyPackage = "org.apache.kafka.connect.connector.policy."
	policySuffix  = "ConnectorClientConfigOverridePolicy"
)

// principalKeys is what PrincipalConnectorClientConfigOverridePolicy allows.
var principalKeys = []string{"sasl.jaas.config", "sasl.mechanism", "security.protocol"}

// ParsePolicy returns the policy called name: None, Principal, All or Allowlist,
// or one of Kafka's class names for them. An empty name is All, Kafka's default.
// Allowlist allows the keys (without "producer.override." and the like) that
// allowlist names, separated by commas.
func ParsePolicy(name, allowlist string) (Policy, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		name = "All"
	}
	short := strings.TrimSuffix(strings.TrimPrefix(name, policyPackage), policySuffix)
	switch short {
	case "All":
		return Policy{name: "All"}, nil
	case "None":
		return Policy{"None", func(string) bool { return false }}, nil
	case "Principal":
		return Policy{"Principal", func(key string) bool { return slices.Contains(principalKeys, key) }}, nil
	case "Allowlist":
		keys := splitList(allowlist)
		return Policy{"Allowlist", func(key string) bool { return slices.Contains(keys, key) }}, nil
	}
	return Policy{}, fmt.Errorf("%s: unknown policy %q; it may be None, Principal, All or Allowlist", PolicyKey, name)
}

// Name returns the policy's short name.
func (p Policy) Name() string { return cmp.Or(p.name, "All") }

// Check returns a problem for each override of a connector's configuration that
// the policy does not allow, ordered by key. Only the client kinds in overrides (connector.Plugin.Overrides) are
// looked at, as Connect checks only the clients that a connector uses. The problem's key is the whole key, as in
// Connect's validation; the message names it without its prefix, as AbstractConnectorClientConfigOverridePolicy does.
func (p Policy) Check(overrides []string, written map[string]string) []config.Problem {
	if p.allowed == nil {
		return nil
	}
	var problems []config.Problem
	for key := range written {
		for _, kind := range overrides {
			bare, ok := strings.CutPrefix(key, kind+".override.")
			if !ok || bare == "" || p.allowed(bare) {
				continue
			}
			problems = append(problems, config.Problem{
				Key:     key,
				Message: fmt.Sprintf("The '%s' policy does not allow '%s' to be overridden in the connector configuration.", p.name, bare),
			})
		}
	}
	slices.SortFunc(problems, func(a, b config.Problem) int { return strings.Compare(a.Key, b.Key) })
	return problems
}
