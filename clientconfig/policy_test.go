package clientconfig

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

func TestPolicyRefusesInKafkasWords(t *testing.T) {
	t.Parallel()
	written := map[string]string{
		"name":                               "orders",
		"producer.override.acks":             "1",
		"producer.override.sasl.jaas.config": "${file:/x:y}",
		"admin.override.client.id":           "x",
		"consumer.override.client.id":        "x",
		"producer.acks":                      "1",
		"producer.override.":                 "x",
	}
	refusal := func(policy, prefix, key string) config.Problem {
		return config.Problem{
			Key:     prefix + key,
			Message: "The '" + policy + "' policy does not allow '" + key + "' to be overridden in the connector configuration.",
		}
	}
	for _, tt := range []struct {
		policy, allowlist string
		overrides         []string
		want              []config.Problem
	}{
		{"", "", []string{"producer", "admin", "consumer"}, nil},
		{"All", "", []string{"producer", "admin", "consumer"}, nil},
		{"org.apache.kafka.connect.connector.policy.AllConnectorClientConfigOverridePolicy", "", []string{"producer"}, nil},
		{"None", "", []string{"producer"}, []config.Problem{
			refusal("None", "producer.override.", "acks"), refusal("None", "producer.override.", "sasl.jaas.config"),
		}},
		{"org.apache.kafka.connect.connector.policy.NoneConnectorClientConfigOverridePolicy", "", []string{"consumer"}, []config.Problem{
			refusal("None", "consumer.override.", "client.id"),
		}},
		{"NoneConnectorClientConfigOverridePolicy", "", nil, nil},
		{"Principal", "", []string{"producer", "admin"}, []config.Problem{
			refusal("Principal", "admin.override.", "client.id"), refusal("Principal", "producer.override.", "acks"),
		}},
		{"Allowlist", "acks , linger.ms", []string{"producer"}, []config.Problem{
			refusal("Allowlist", "producer.override.", "sasl.jaas.config"),
		}},
		{"Allowlist", "", []string{"consumer"}, []config.Problem{refusal("Allowlist", "consumer.override.", "client.id")}},
	} {
		policy, err := ParsePolicy(tt.policy, tt.allowlist)
		if err != nil {
			t.Fatalf("%q: %v", tt.policy, err)
		}
		if diff := cmp.Diff(tt.want, policy.Check(tt.overrides, written)); diff != "" {
			t.Errorf("policy %q with allow list %q on %v (-want +got):\n%s", tt.policy, tt.allowlist, tt.overrides, diff)
		}
	}
}

func TestUnknownPolicyIsAnError(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"none", "com.example.MyPolicy", "org.apache.kafka.connect.connector.policy."} {
		if p, err := ParsePolicy(name, ""); err == nil {
			t.Errorf("%q is taken for %s", name, p.Name())
		}
	}
}
