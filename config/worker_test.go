package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asKafka is a worker file with what Kafka 4.3.1 requires of one, in its own form.
func asKafka(more map[string]string) Settings {
	written := map[string]string{
		"bootstrap.servers": "a:9092, b:9092", "group.id": "connect-cluster",
		"config.storage.topic": "connect-configs", "offset.storage.topic": "connect-offsets", "status.storage.topic": "connect-status",
		"config.storage.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"key.converter": "org.apache.kafka.connect.json.JsonConverter", "key.converter.schemas.enable": "true",
	}
	for k, v := range more {
		written[k] = v
	}
	return Literal(written)
}

// TestWorkerDefIsKafkas compares our definition with what Kafka 4.3.1's
// DistributedConfig says of itself.
func TestWorkerDefIsKafkas(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/worker.json")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Name     string
		Type     Type
		Required bool
		Default  *string
	}
	var want []row
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	different := []string{"key.converter", "value.converter", "offset.flush.interval.ms"} // on purpose: see WorkerDef
	def := WorkerDef()
	for _, w := range want {
		k, ok := def.Key(w.Name)
		if !ok {
			t.Errorf("%s is missing", w.Name)
			continue
		}
		if slices.Contains(different, w.Name) {
			continue
		}
		got := row{k.Name, k.Type, k.Required, k.info().DefaultValue}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("Kafka (-) and ours (+):\n%s", diff)
		}
	}
}

func TestDefaultsPassTheirOwnChecks(t *testing.T) {
	t.Parallel()
	for _, k := range WorkerDef().Keys() {
		if k.Required {
			continue
		}
		if _, messages := k.parse(Settings{}); messages != nil {
			t.Errorf("%s: %q", k.Name, messages)
		}
	}
}

func TestKafkasWorkerFileIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	w, problems, warnings := ParseWorker(asKafka(map[string]string{
		"offset.flush.interval.ms": "10000", "plugin.path": "/opt/connectors", "config.storage.min.insync.replicas": "2", "config.storage.cleanup.policy": "delete",
		"offset.storage.partitions": "50", "listeners": "HTTP://:8083,https://[::1]:8443", "rest.advertised.host.name": "me",
	}))
	if problems != nil {
		t.Fatalf("problems: %v", problems)
	}
	wantConfig := InternalTopic{Name: "connect-configs", Partitions: 1, ReplicationFactor: 1, Settings: map[string]string{"min.insync.replicas": "2"}}
	if diff := cmp.Diff(wantConfig, w.ConfigTopic); diff != "" {
		t.Error(diff)
	}
	if w.OffsetTopic.Partitions != 50 || w.StatusTopic.Partitions != 5 || w.OffsetFlushInterval != 10*time.Second || w.GossipBind != "127.0.0.1:7946" || w.RebalanceDelay != 0 {
		t.Errorf("got %+v", w)
	}
	wantListeners := []Listener{{"http", "", 8083}, {"https", "::1", 8443}}
	if !slices.Equal(w.Listeners, wantListeners) || w.Advertised() != (Listener{"http", "me", 8083}) || !w.AdminOnListeners {
		t.Errorf("listeners %v, advertised %v", w.Listeners, w.Advertised())
	}
	for _, warning := range warnings {
		if warning.Unknown {
			t.Errorf("warned of %v", warning)
		}
	}
	if keys := warningKeys(warnings); !slices.Equal(keys, []string{"config.storage.cleanup.policy", "plugin.path", "gossip.secret"}) {
		t.Errorf("warnings at %v", keys)
	}
}

func warningKeys(warnings []Warning) []string {
	var keys []string
	for _, w := range warnings {
		keys = append(keys, w.Key)
	}
	return keys
}

func TestWorkerOffsetsAreFlushedEveryFiveSecondsByDefault(t *testing.T) {
	t.Parallel()
	w, _, _ := ParseWorker(asKafka(nil))
	if w.OffsetFlushInterval != 5*time.Second || w.Lease != 4*time.Second {
		t.Errorf("flush %v, lease %v", w.OffsetFlushInterval, w.Lease)
	}
}

func TestWorkerReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, problems, _ := ParseWorker(Literal(map[string]string{
		"bootstrap.servers": "", "config.storage.topic": "t", "offset.storage.topic": "t", "listeners": "8083", "offset.storage.partitions": "0",
		"worker.lease.ms": "soon", "lease.enforce": "some", "rest.authentication": "basic,mtls", "response.http.headers.config": "put a:b",
		"gossip.secret": "c2hvcnQ=", "worker.labels": "zone", "inter.worker.signature.algorithm": "HmacSHA512", "gossip.bind": "here", "status.storage.replication.factor": "0",
	}))
	want := []Problem{
		{"bootstrap.servers", "Configuration 'bootstrap.servers' must not be empty. Valid values include: any non-empty value"},
		{"listeners", "Invalid value [8083] for configuration listeners: Listener doesn't have the right format (protocol://hostname:port)."},
		{"response.http.headers.config", "Invalid header config action: 'put'. Expected one of [set, add, setDate, addDate]"},
		{"group.id", `Missing required configuration "group.id" which has no default value.`},
		{"offset.storage.partitions", "Invalid value 0 for configuration offset.storage.partitions: Number of partitions must be positive, or -1 to use the broker's default"},
		{"status.storage.topic", `Missing required configuration "status.storage.topic" which has no default value.`},
		{"status.storage.replication.factor", "Invalid value 0 for configuration status.storage.replication.factor: Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or -1 to use the broker's default"},
		{"gossip.bind", "Invalid value here for configuration gossip.bind: Expected host:port"},
		{"gossip.secret", "Invalid value [hidden] for configuration gossip.secret: Expected 32 bytes in base64 (one way: head -c 32 /dev/urandom | base64), or several such, separated by commas"},
		{"worker.labels", "Invalid value [zone] for configuration worker.labels: Expected name=value, separated by commas"},
		{"worker.lease.ms", "Invalid value soon for configuration worker.lease.ms: Not a number of type LONG"},
		{"lease.enforce", "Invalid value some for configuration lease.enforce: String must be one of: plain, all"},
		{"inter.worker.signature.algorithm", "Invalid value HmacSHA512 for configuration inter.worker.signature.algorithm: Signature algorithm must be present in inter.worker.verification.algorithms list"},
		{"offset.storage.topic", "Invalid value t for configuration offset.storage.topic: That is also the topic of config.storage.topic"},
		{"rest.authentication.basic.file", `Missing required configuration "rest.authentication.basic.file", which rest.authentication=basic needs.`},
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownWorkerKeysGetTheNearestName(t *testing.T) {
	t.Parallel()
	_, problems, warnings := ParseWorker(asKafka(map[string]string{
		"bootstrap.server": "x", "gossip.sekret": "x", "colour": "blue", "producer.anything": "1", "linger.ms": "5", "rest.port": "9000",
	}), "linger.ms")
	if problems != nil {
		t.Fatalf("problems: %v", problems)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, fmt.Sprint(w.Unknown, " ", w.Message))
	}
	want := []string{
		`true unknown key "bootstrap.server" is ignored; did you mean "bootstrap.servers"?`,
		`true unknown key "colour" is ignored`,
		`true unknown key "gossip.sekret" is ignored; did you mean "gossip.secret"?`,
		"false rest.port: removed in Kafka 3.0: use listeners",
		"false taken from rest.host.name and rest.port: listeners=http://:9000",
	}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Error(diff)
	}
}

func TestGossipNeedsASecretBeyondLoopback(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	for _, row := range []struct {
		name    string
		more    map[string]string
		bind    string
		secrets int
		refused bool
	}{
		{"nothing said", nil, "127.0.0.1:7946", 0, false},
		{"loopback", map[string]string{"gossip.bind": "[::1]:0"}, "[::1]:0", 0, false},
		{"any address without", map[string]string{"gossip.bind": "0.0.0.0:7946"}, "0.0.0.0:7946", 0, true},
		{"no host without", map[string]string{"gossip.bind": ":7946"}, ":7946", 0, true},
		{"with one", map[string]string{"gossip.secret": key}, DefaultGossipBind, 1, false},
		{"with two", map[string]string{"gossip.secret": key + ", " + key, "gossip.bind": "10.0.0.1:1"}, "10.0.0.1:1", 2, false},
	} {
		w, problems, _ := ParseWorker(asKafka(row.more))
		if w.GossipBind != row.bind || len(w.GossipSecrets) != row.secrets || (problems != nil) != row.refused {
			t.Errorf("%s: bound to %s with %d secrets, problems %v", row.name, w.GossipBind, len(w.GossipSecrets), problems)
		}
		if shown := fmt.Sprintf("%v %+v %#v", w, w, w.GossipSecrets); strings.Contains(shown, strings.Repeat("k", 32)) || strings.Contains(shown, key) {
			t.Errorf("%s: the printed worker holds the gossip secret", row.name)
		}
	}
}

func TestHeaderRulesAreReadAsKafkaDoes(t *testing.T) {
	t.Parallel()
	rules, wrong := parseHeaderRules(`add  X-A: b , "set Cache-Control:no-cache, no-store"`)
	want := []HeaderRule{{"add", "X-A", "b"}, {"set", "Cache-Control", "no-cache, no-store"}}
	if diff := cmp.Diff(want, rules); diff != "" || wrong != "" {
		t.Errorf("%s%s", wrong, diff)
	}
	for _, bad := range []string{"add", "add X", "add X:", "add X:a:b", "add X Y:b", "add :b"} {
		if _, wrong := parseHeaderRules(bad); wrong == "" {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestAccessIsNotLeftOpenerThanWritten(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		more map[string]string
		key  string // of the problem; empty: none
	}{
		{"Kafka's extension", map[string]string{"rest.extension.classes": BasicAuthExtension}, ""},
		{"by its short name", map[string]string{"rest.extension.classes": "BasicAuthSecurityRestExtension"}, ""},
		{"another extension", map[string]string{"rest.extension.classes": BasicAuthExtension + ",org.example.Audit"}, "rest.extension.classes"},
		{"extension and none", map[string]string{"rest.extension.classes": BasicAuthExtension, "rest.authentication": "none"}, "rest.authentication"},
		{"a file for nothing", map[string]string{"rest.authentication.basic.file": "/etc/users"}, "rest.authentication"},
		{"a file and none in so many words", map[string]string{"rest.authentication.basic.file": "/etc/users", "rest.authentication": "none"}, ""},
		{"basic", map[string]string{"rest.authentication.basic.file": "/etc/users", "rest.authentication": "basic"}, ""},
		{"basic without a file", map[string]string{"rest.authentication": "basic"}, "rest.authentication.basic.file"},
		{"advertised and not listened", map[string]string{"rest.advertised.listener": "https"}, "rest.advertised.listener"},
		{"advertised behind a proxy", map[string]string{"rest.advertised.listener": "https", "rest.advertised.port": "443"}, ""},
		{"twice the same address", map[string]string{"listeners": "http://:8083,https://:8083"}, "listeners"},
		{"two of any port", map[string]string{"listeners": "http://:0,https://:0"}, ""},
		{"a body of nothing", map[string]string{"rest.max.request.bytes": "1"}, "rest.max.request.bytes"},
	} {
		_, problems, _ := ParseWorker(asKafka(row.more))
		var keys []string
		for _, p := range problems {
			keys = append(keys, p.Key)
		}
		if got := strings.Join(keys, " "); got != row.key {
			t.Errorf("%s: problems with %q, want %q: %v", row.name, got, row.key, problems)
		}
	}
}
