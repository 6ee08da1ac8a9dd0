package store

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var workerSettings = map[string]string{
	"config.storage.topic":              "configs",
	"config.storage.replication.factor": "1",
	"config.storage.partitions":         "7",
	"config.storage.cleanup.policy":     "delete",
	"config.storage.max.message.bytes":  "2000000",
	"offset.storage.max.message.bytes":  "3000000",
	"status.storage.topic":              "statuses",
}

func internalTopics() []Topic {
	return []Topic{
		ConfigTopic("configs", 1, workerSettings),
		OffsetTopic("offsets", 25, 1, workerSettings),
		StatusTopic("statuses", 5, -1, workerSettings),
	}
}

func TestEnsureCreatesTheInternalTopics(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	var racers sync.WaitGroup
	for range 4 { // as several workers do that start at once
		racers.Go(func() {
			warnings, err := Ensure(t.Context(), EnsureOptions{Client: client}, internalTopics()...)
			if err != nil || len(warnings) > 0 {
				t.Errorf("got %v, warnings %v", err, warnings)
			}
		})
	}
	racers.Wait()
	topics, err := admin(t, client).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		partitions int
		settings   map[string]string
	}{
		"configs":  {1, map[string]string{"cleanup.policy": "compact", "max.message.bytes": "2000000"}},
		"offsets":  {25, map[string]string{"cleanup.policy": "compact", "max.message.bytes": "3000000"}},
		"statuses": {5, map[string]string{"cleanup.policy": "compact"}},
	} {
		if got := len(topics[name].Partitions); got != want.partitions {
			t.Errorf("%s has %d partitions, want %d", name, got, want.partitions)
		}
		if diff := cmp.Diff(want.settings, settingsOf(t, client, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// settingsOf returns the settings that a topic was created with.
func settingsOf(t *testing.T, client []kgo.Opt, topic string) map[string]string {
	t.Helper()
	configs, err := admin(t, client).DescribeTopicConfigs(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, c := range configs[0].Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			settings[c.Key] = *c.Value
		}
	}
	return settings
}

func TestEnsureSaysWhatIsWrongAndHowToMendIt(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		partitions int32
		policy     string
		fault      *kfake.Fault
		topic      Topic
		want       []string // parts of the error; none: no error
		warning    string
	}{
		"right":          {partitions: 1, policy: "compact", topic: ConfigTopic("t", 1, nil)},
		"fewer replicas": {partitions: 1, policy: "compact", topic: ConfigTopic("t", 3, nil)},
		"config topic with 3 partitions": {partitions: 3, policy: "compact", topic: ConfigTopic("t", 1, nil), want: []string{
			"internal topic t (config.storage.topic): it has 3 partitions and must have exactly 1",
			"--create --topic t-1 --config cleanup.policy=compact --partitions 1 --replication-factor 1",
		}},
		"status topic with other partitions": {partitions: 3, policy: "compact", topic: StatusTopic("t", 5, 1, nil)},
		"deleted by time": {partitions: 25, policy: "delete", topic: OffsetTopic("t", 25, 1, nil), want: []string{
			"internal topic t (offset.storage.topic): it has cleanup.policy=delete and must have compact alone",
			"--entity-type topics --entity-name t --alter --add-config cleanup.policy=compact",
		}},
		"both policies": {partitions: 5, policy: "compact,delete", topic: StatusTopic("t", 5, 1, nil), want: []string{
			"internal topic t (status.storage.topic): it has cleanup.policy=compact,delete and must have compact alone",
		}},
		"settings may not be described": {
			partitions: 1, policy: "delete", topic: ConfigTopic("t", 1, nil),
			fault:   &kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1},
			warning: "internal topic t: cannot check that cleanup.policy is compact (grant DESCRIBE_CONFIGS on the topic)",
		},
		"topic may not be described": {
			partitions: 1, policy: "compact", topic: ConfigTopic("t", 1, nil),
			fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1},
			want:  []string{"internal topic t (config.storage.topic): the worker's principal may not describe it: grant DESCRIBE, READ and WRITE"},
		},
		"may not be created": {
			topic: ConfigTopic("t", 3, nil),
			fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.ClusterAuthorizationFailed, Count: -1},
			want:  []string{"it does not exist and the worker's principal may not create it", "--replication-factor 3"},
		},
		"more replicas than brokers": {topic: ConfigTopic("t", 3, nil), want: []string{
			"gave up: config.storage.replication.factor=3 needs 3 brokers and 1 are up: start more, or set it to 1",
		}},
		"wrong setting": {
			topic: ConfigTopic("t", 1, map[string]string{"config.storage.max.message.bytes": "many"}),
			fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidConfig, Count: -1},
			want:  []string{"internal topic t (config.storage.topic): create: INVALID_CONFIG"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, client := brokers(t)
			if row.partitions > 0 {
				if _, err := admin(t, client).CreateTopic(t.Context(), row.partitions, 1, map[string]*string{"cleanup.policy": &row.policy}, "t"); err != nil {
					t.Fatal(err)
				}
			}
			if row.fault != nil {
				cluster.Fault(*row.fault)
			}
			warnings, err := Ensure(t.Context(), EnsureOptions{Client: client, Timeout: 2 * time.Second}, row.topic)
			if (err != nil) != (len(row.want) > 0) {
				t.Fatalf("got error %v, want %q", err, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q\nwant in it %q", err, want)
				}
			}
			if got := strings.Join(warnings, "\n"); !strings.HasPrefix(got, row.warning) || (row.warning == "") != (got == "") {
				t.Errorf("got warning %q, want %q", got, row.warning)
			}
		})
	}
}

func TestEnsureWaitsForBrokersThatAreStarting(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidReplicationFactor, Count: 2},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "configs", Err: kerr.LeaderNotAvailable, Count: 1},
	)
	if _, err := Ensure(t.Context(), EnsureOptions{Client: client}, ConfigTopic("configs", 1, nil)); err != nil {
		t.Error(err)
	}
}
