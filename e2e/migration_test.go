package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"barnabas/e2e/kafka"
)

// TestAConnectClusterIsTakenOverAndGivenBack does what docs/migration.md tells of connectors on Kafka Connect: the same group, the same internal
// topics, one after the other.
func TestAConnectClusterIsTakenOverAndGivenBack(t *testing.T) {
	t.Parallel()
	e := New(t, 6*time.Minute)
	orders := e.Topic(e.Source, "orders", 1)
	name, copies := e.Prefix+"-mirror", "src."+orders
	java := func(dir string) *kafka.Connect {
		t.Helper()
		dir = filepath.Join(e.Dir, dir)
		e.Must(os.Mkdir(dir, 0o700))
		c, err := kafka.StartConnect(e.Context(), kafka.ConnectSpec{
			Name: "of the test", Dir: dir, Properties: map[string]string{"bootstrap.servers": e.Hub.Bootstrap(), "group.id": e.Prefix + "-workers"},
		})
		e.Must(err)
		t.Cleanup(func() {
			if c.Process().Running() {
				c.Process().Kill()
			}
			if t.Failed() {
				t.Logf("log of Kafka Connect:\n%s", c.Process().Tail(40))
			}
		})
		return c
	}
	e.numbers(e.Source, orders, 0, 0, 100)
	connect := java("before")
	config := Config{
		"connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector", "source.cluster.alias": "src", "target.cluster.alias": "tgt",
		"topics": orders, "tasks.max": "1", "replication.factor": "1", "offset-syncs.topic.replication.factor": "1", "refresh.topics.interval.seconds": "1",
		"source.cluster.bootstrap.servers": e.Source.Bootstrap(), "target.cluster.bootstrap.servers": e.Target.Bootstrap(),
		"producer.override.bootstrap.servers": e.Target.Bootstrap(), "sync.topic.acls.enabled": "false",
	}
	status, answer, err := e.ask(e.Context(), http.MethodPut, connect.URL()+"/connectors/"+name+"/config", config.JSON())
	e.Must(err)
	if status != http.StatusCreated {
		t.Fatalf("Kafka Connect: %d %s", status, answer)
	}
	e.copied(e.Target, copies, span(0, 100))
	e.Must(connect.Process().Stop(time.Minute))
	e.numbers(e.Source, orders, 0, 100, 150)

	f := e.Fleet(FleetOptions{Size: 2})
	f.Await(name, "RUNNING", 1, time.Minute)
	e.copied(e.Target, copies, span(0, 150))
	for _, w := range f.Workers {
		w.Stop()
	}
	e.numbers(e.Source, orders, 0, 150, 200)
	java("after")
	e.copied(e.Target, copies, span(0, 200))
}
