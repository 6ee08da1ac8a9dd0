package clientconfig

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
	"barnabas/connection"
	"barnabas/connector"
)

// TestAConnectionAloneSaysWhereAndAsWhom has every layer try to move the clients of a connection to another place.
func TestAConnectionAloneSaysWhereAndAsWhom(t *testing.T) {
	t.Parallel()
	evil := map[string]string{"bootstrap.servers": "evil:1", "sasl.oauthbearer.token.endpoint.url": "https://evil", "ssl.truststore.location": "/evil", "security.protocol": "PLAINTEXT"}
	worker, conn := map[string]string{}, map[string]string{"source.connection": "prod/ro", "target.connection": "prod/rw"}
	for role, layers := range precedence {
		for _, l := range layers {
			for key, value := range evil {
				if l.worker {
					worker[l.prefix+key] = value
				} else {
					conn[l.prefix+key] = value
				}
			}
			conn[l.prefix+connection.HostsKey] = "evil"
			conn[l.prefix+"request.timeout.ms"] = "1"
		}
		_ = role
	}
	worker["bootstrap.servers"], worker["producer.linger.ms"], worker["producer.acks"] = "worker:1", "5", "1"
	for side, at := range map[string]string{"source.connection.": "ro:1", "target.connection.": "rw:1"} {
		maps.Copy(conn, map[string]string{side + "bootstrap.servers": at, side + "sasl.jaas.config": "of " + at, side + connection.HostsKey: "ro,rw", side + "acks": "all"})
	}
	for role, side := range sides {
		at := map[string]string{connection.SourceKey: "ro:1", connection.TargetKey: "rw:1"}[side]
		got := Layers(role, config.Literal(worker), config.Literal(conn)).Written()
		for key, value := range got {
			if strings.Contains(value, "evil") {
				t.Errorf("%s: %s=%s", role, key, value)
			}
		}
		if got["bootstrap.servers"] != at || got["sasl.jaas.config"] != "of "+at || got[connection.HostsKey] != "ro,rw" || got["request.timeout.ms"] != "1" || got["acks"] != "all" {
			t.Errorf("%s gets %v", role, got)
		}
		if RoleKind(role) == Producer && side == connection.TargetKey && got["linger.ms"] != "5" {
			t.Errorf("%s has lost what the worker says of producers: %v", role, got)
		}
	}
	// Without a connection nothing is different, and nobody lays down hosts.
	delete(conn, "source.connection")
	got := Layers(connector.SourceConsumer, config.Literal(worker), config.Literal(conn)).Written()
	if got["bootstrap.servers"] != "evil:1" || got[connection.HostsKey] != "" {
		t.Errorf("without a connection: %v", got)
	}
}

func TestContradictionsToAConnection(t *testing.T) {
	t.Parallel()
	var got []string
	for _, p := range Contradictions(map[string]string{
		"source.connection": "prod/ro", "source.cluster.bootstrap.servers": "a:1", "source.consumer.sasl.mechanism": "PLAIN", "consumer.override.ssl.protocol": "TLS",
		"source.consumer.fetch.min.bytes": "1", "target.cluster.bootstrap.servers": "b:1", "consumer.sasl.mechanism": "PLAIN",
	}) {
		got = append(got, p.Key)
	}
	if diff := cmp.Diff([]string{"consumer.override.ssl.protocol", "source.cluster.bootstrap.servers", "source.consumer.sasl.mechanism"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryClientButReportsBelongsToASide(t *testing.T) {
	t.Parallel()
	for role := range precedence {
		if _, ok := sides[role]; !ok && !strings.HasPrefix(string(role), "report-") {
			t.Errorf("%s belongs to no side: its connection would be passed over", role)
		}
	}
}

func TestConnectionProblemsNameKeysThatAreNone(t *testing.T) {
	t.Parallel()
	var got []string
	for _, p := range ConnectionProblems(map[string]string{"bootstrap.servers": "a:1", "security.protocl": "SSL", "max.poll.records": "1", "ssl.key.password": "${env:A}", "anything": "x"}) {
		got = append(got, p.Key+" "+p.Message)
	}
	want := []string{"anything is no setting of Kafka's clients", `security.protocl is no setting of Kafka's clients; did you mean "security.protocol"?`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAllowedHostsHoldWhateverMetadataSays dials as a client does that has learned a broker's address from its cluster.
func TestAllowedHostsHoldWhateverMetadataSays(t *testing.T) {
	t.Parallel()
	built, err := Build(config.Literal(map[string]string{"bootstrap.servers": "k1.prod:9092", connection.HostsKey: "*.prod"}), Admin)
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Report.Unknown) > 0 {
		t.Errorf("unknown keys %v", built.Report.Unknown)
	}
	var dialled []string
	tcp := func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, context.Canceled
	}
	for _, address := range []string{"k1.prod:9092", "evil:9092", "k9.prod:1"} {
		_, err := built.DialWith(tcp)(t.Context(), "tcp", address)
		if err == nil || strings.Contains(err.Error(), "allowed hosts") == slices.Contains(dialled, address) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if diff := cmp.Diff([]string{"k1.prod:9092", "k9.prod:1"}, dialled); diff != "" {
		t.Error(diff)
	}
}
