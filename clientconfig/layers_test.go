package clientconfig

import (
	"strings"
	"testing"

	"barnabas/config"
	"barnabas/connector"
)

// TestLaterLayerWins sets one more layer in each row and wants its value.
func TestLaterLayerWins(t *testing.T) {
	t.Parallel()
	for role, layers := range map[connector.Role][]string{
		connector.TargetProducer: {"worker producer.", "target.cluster.", "producer.", "target.producer.", "producer.override."},
		connector.TargetAdmin:    {"worker admin.", "target.cluster.", "admin.", "target.admin.", "admin.override."},
		connector.SourceConsumer: {"source.cluster.", "consumer.", "source.consumer.", "consumer.override."},
		connector.SourceAdmin:    {"source.cluster.", "admin.", "source.admin."},
		connector.SourceProducer: {"source.cluster.", "producer.", "source.producer."},
		connector.TargetConsumer: {"worker consumer.", "target.cluster.", "consumer.", "target.consumer."},
	} {
		worker, conn := config.Settings{}, config.Settings{}
		for _, l := range layers {
			into, prefix := conn, l
			if p, ok := strings.CutPrefix(l, "worker "); ok {
				into, prefix = worker, p
			}
			into[prefix+"client.id"] = config.Setting{Written: l, Value: config.NewSecret(l)}
			if got := Layers(role, worker, conn)["client.id"].Written; got != l {
				t.Errorf("%s: client.id comes from %q, want %q", role, got, l)
			}
		}
	}
}

func TestSourceInheritsNothingFromTheWorker(t *testing.T) {
	t.Parallel()
	worker := config.Literal(map[string]string{
		"bootstrap.servers": "worker:9092", "sasl.jaas.config": "worker's", "consumer.sasl.jaas.config": "worker's",
		"admin.sasl.jaas.config": "worker's", "producer.sasl.jaas.config": "worker's",
	})
	for _, role := range []connector.Role{connector.SourceConsumer, connector.SourceAdmin, connector.SourceProducer} {
		if got := Layers(role, worker, config.Settings{}); len(got) != 0 {
			t.Errorf("%s has %v, want nothing", role, got.Written())
		}
	}
}

func TestTargetBootstrapDefaultsToTheWorkers(t *testing.T) {
	t.Parallel()
	worker := config.Literal(map[string]string{"bootstrap.servers": "worker:9092", "sasl.jaas.config": "worker's"})
	for _, role := range []connector.Role{connector.TargetProducer, connector.TargetAdmin, connector.TargetConsumer} {
		got := Layers(role, worker, config.Settings{}).Written()
		if len(got) != 1 || got["bootstrap.servers"] != "worker:9092" {
			t.Errorf("%s has %v, want the worker's bootstrap.servers and nothing else of it", role, got)
		}
		own := config.Literal(map[string]string{"target.cluster.bootstrap.servers": "target:9092"})
		if got := Layers(role, worker, own).Written(); got["bootstrap.servers"] != "target:9092" {
			t.Errorf("%s has %v, want the target's own bootstrap.servers", role, got)
		}
	}
}

// TestLayersLeaveOutOtherSettings holds what only looks like client settings.
func TestLayersLeaveOutOtherSettings(t *testing.T) {
	t.Parallel()
	worker := config.Literal(map[string]string{
		"admin.listeners": "http://:1", "admin.listeners.https.ssl.keystore.password": "x", "admin.client.id": "w",
	})
	conn := config.Literal(map[string]string{
		"source.cluster.alias": "A", "target.cluster.alias": "B", "source.cluster.consumer.fetch.min.bytes": "1",
		"consumer.poll.timeout.ms": "1", "admin.timeout.ms": "1", "target.cluster.producer.acks": "1",
		"source.cluster.client.id": "s",
	})
	for role, want := range map[connector.Role]string{
		connector.SourceConsumer: "s", connector.SourceAdmin: "s", connector.TargetAdmin: "w", connector.TargetProducer: "",
	} {
		got := Layers(role, worker, conn).Written()
		id := got["client.id"]
		delete(got, "client.id")
		if id != want || len(got) != 0 {
			t.Errorf("%s: client.id %q and %v, want %q and nothing else", role, id, got, want)
		}
	}
}

func TestWorkersOwnClientsTakeWhatHasNoPrefix(t *testing.T) {
	t.Parallel()
	got := Own(config.Literal(map[string]string{
		"bootstrap.servers": "worker:9092", "security.protocol": "PLAINTEXT", "client.id": "w", "group.id": "connect",
		"config.storage.topic": "c", "config.providers": "file", "config.providers.file.class": "x", "producer.acks": "1",
		"session.timeout.ms": "1000", "ssl.truststore.location": "x",
	}))
	c, err := Build(got, Producer)
	if err != nil || len(got) != 4 || len(c.Report.Unknown) > 0 {
		t.Errorf("got %v, error %v", got.Written(), err)
	}
}
