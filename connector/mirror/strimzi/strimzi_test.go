package strimzi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, name string) *Resource {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(text, "/mnt/")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// east and west are the settings of the two clusters in v1beta2.yaml, under a prefix.
func east(prefix string, into map[string]string) {
	for k, v := range map[string]string{
		"bootstrap.servers": "east-kafka-bootstrap:9093", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
		"sasl.jaas.config":            `org.apache.kafka.common.security.scram.ScramLoginModule required username="mirror" password="${directory:/mnt/mirror-east:password}";`,
		"ssl.truststore.type":         "PEM",
		"ssl.truststore.certificates": "${directory:/mnt/east-ca:ca.crt}\n${directory:/mnt/old-ca:old.crt}", "ssl.endpoint.identification.algorithm": "",
	} {
		into[prefix+k] = v
	}
}

func west(prefix string, into map[string]string) {
	for k, v := range map[string]string{
		"bootstrap.servers": "west-kafka-bootstrap:9093", "security.protocol": "SSL", "ssl.keystore.type": "PEM",
		"ssl.keystore.certificate.chain": "${directory:/mnt/mirror-west:user.crt}", "ssl.keystore.key": "${directory:/mnt/mirror-west:user.key}",
		"config.storage.replication.factor": "-1", "offset.storage.replication.factor": "-1", "status.storage.replication.factor": "-1",
	} {
		into[prefix+k] = v
	}
}

func TestAResourceBecomesAWorkerAndConnectors(t *testing.T) {
	t.Parallel()
	r := read(t, "v1beta2.yaml")
	worker := map[string]string{
		"group.id": "mirrormaker2-cluster", "config.storage.topic": "mirrormaker2-cluster-configs", "offset.storage.topic": "mirrormaker2-cluster-offsets",
		"status.storage.topic": "mirrormaker2-cluster-status", "config.providers": "directory",
		"config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
	}
	west("", worker)
	if diff := cmp.Diff(worker, r.Worker); diff != "" {
		t.Errorf("worker (-want +got):\n%s", diff)
	}
	both := func(more map[string]string) map[string]string {
		c := map[string]string{"source.cluster.alias": "east", "target.cluster.alias": "west", "topics": "orders.*", "topics.exclude": "orders-test", "groups": "shop-.*"}
		east("source.cluster.", c)
		west("target.cluster.", c)
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	want := []Connector{
		{Name: "east->west.MirrorSourceConnector", Config: both(map[string]string{
			"connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector", "tasks.max": "4", "replication.factor": "-1", "sync.topic.acls.enabled": "false",
		})},
		{Name: "east->west.MirrorCheckpointConnector", InitialState: "PAUSED", Config: both(map[string]string{
			"connector.class": "org.apache.kafka.connect.mirror.MirrorCheckpointConnector", "sync.group.offsets.enabled": "true",
		})},
	}
	if diff := cmp.Diff(want, r.Connectors); diff != "" {
		t.Errorf("connectors (-want +got):\n%s", diff)
	}
	ignored := map[string]string{}
	for _, o := range r.Outcomes {
		if o.Ignored != "" {
			ignored[o.Key] = o.Ignored
		} else if len(o.Becomes) == 0 {
			t.Errorf("%s has no outcome", o.Key)
		}
	}
	if diff := cmp.Diff(map[string]string{
		"spec.version": "the version of Kafka; connectors behave like those of 4.3.1", "spec.replicas": "run as many workers with the same file",
		"spec.resources.limits.memory": "of the pods", "spec.jvmOptions.-Xmx": "there is no JVM", "spec.oddity": "not known here",
		"spec.mirrors[0].sourceConnector.autoRestart.enabled": fieldReasons[".autoRestart.enabled"],
	}, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, "by a pattern: ca.crt is taken") || !strings.Contains(notes, "run as many workers") {
		t.Errorf("notes: %s", notes)
	}
}

func TestTheNewerFormIsReadToo(t *testing.T) {
	t.Parallel()
	r := read(t, "v1.yaml")
	if r.Worker["group.id"] != "my-group" || r.Worker["config.storage.topic"] != "my-configs" || r.Worker["bootstrap.servers"] != "west:9092" {
		t.Errorf("worker %v", r.Worker)
	}
	if len(r.Connectors) != 4 || r.Connectors[0].InitialState != "STOPPED" || r.Connectors[1].Name != "east->west.MirrorHeartbeatConnector" {
		t.Fatalf("connectors %+v", r.Connectors)
	}
	c := r.Connectors[0].Config
	if c["source.cluster.security.protocol"] != "SASL_PLAINTEXT" || c["source.cluster.sasl.mechanism"] != "PLAIN" || c["topics"] != ".*" {
		t.Errorf("source connector %v", c)
	}
	for key, want := range map[string]string{"topics.exclude": "test-.*", "groups": "g-.*", "groups.exclude": "g-test-.*"} {
		if c[key] != want {
			t.Errorf("%s=%s, want %s", key, c[key], want)
		}
	}
	// The second mirror has a source of its own, and the same target.
	if names := []string{r.Connectors[2].Name, r.Connectors[3].Name, r.Connectors[2].InitialState, r.Connectors[3].InitialState}; !slices.Equal(names,
		[]string{"north->west.MirrorSourceConnector", "north->west.MirrorCheckpointConnector", "", "PAUSED"}) {
		t.Errorf("%q", names)
	}
	north := r.Connectors[2].Config
	for key, want := range map[string]string{
		"source.cluster.security.protocol": "SASL_SSL", "source.cluster.sasl.mechanism": "SCRAM-SHA-256", "tasks.max": "2", "replication.factor": "-1",
		"source.cluster.ssl.truststore.certificates": "${directory:/mnt/north-ca:ca.crt}", "target.cluster.bootstrap.servers": "west:9092",
	} {
		if north[key] != want {
			t.Errorf("%s=%s, want %s", key, north[key], want)
		}
	}
	for _, o := range r.Outcomes {
		if o.Ignored == "not known here" {
			t.Errorf("%s is not known", o.Key)
		}
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"spec.target.authentication is oauth: write its settings by hand", "source.cluster.sasl.jaas.config of east->west.MirrorSourceConnector refers to a provider of Kubernetes"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes lack %q:\n%s", want, notes)
		}
	}
}

func TestWhatIsNoMirrorMakerIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                        ErrOther.Error(),
		"kind: Kafka":             ErrOther.Error(),
		"{{":                      ErrOther.Error(),
		"kind: KafkaMirrorMaker2": "the resource has neither spec.target nor spec.connectCluster",
		"kind: KafkaMirrorMaker2\nspec: {connectCluster: x}":  `spec.connectCluster is "x", and spec.clusters has no such alias`,
		"kind: KafkaMirrorMaker2\nspec: {target: {alias: x}}": "the resource has no spec.mirrors",
	} {
		if _, err := Parse([]byte(text), ""); err == nil || err.Error() != want || want == ErrOther.Error() && !errors.Is(err, ErrOther) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"v1beta2.yaml", "v1.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := Parse([]byte(text), ""); err == nil && len(r.Worker) == 0 {
			t.Error("a resource without a worker")
		}
	})
}
