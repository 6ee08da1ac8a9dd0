package worker

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
)

// Setup is how a worker is set up, as far as an auditor asks. It holds no secret and no path.
type Setup struct {
	Cluster   string          `json:"cluster"` // group.id
	Worker    string          `json:"worker"`
	Version   string          `json:"version"`
	Listeners []SetupListener `json:"listeners"`
	// Authentication are the ways in which callers of the REST API log in (basic, mtls, oidc); empty: nobody is asked. The REST server knows.
	Authentication []string `json:"authentication"`
	Roles          bool     `json:"roles"` // say who may do what
	// AuditTopic is where the audit trail is; empty: there is none. AuditRequired: what cannot be audited is not done.
	// AuditCodes: its records carry codes of a key.
	AuditTopic    string `json:"audit_topic,omitempty"`
	AuditRequired bool   `json:"audit_required"`
	AuditCodes    bool   `json:"audit_codes"`
	// Literals is connector.secrets.literal.policy, Overrides connector.client.config.override.policy.
	Literals  string `json:"literal_policy"`
	Overrides string `json:"override_policy"`
	// Kafka is the workers' own way to Kafka.
	Kafka SetupKafka `json:"kafka"`
	// Topics are those that the workers themselves keep.
	Topics []SetupTopic `json:"topics"`
}

// SetupListener is an address at which a worker is reached.
type SetupListener struct {
	Address string `json:"address"`
	// Purpose is clients (of the REST API, and the other workers), admin or gossip.
	Purpose string `json:"purpose"`
	// Encrypted: TLS, or of gossip its own. Loopback: nobody on another machine reaches it.
	Encrypted bool `json:"encrypted"`
	Loopback  bool `json:"loopback"`
}

// Purposes of listeners.
const (
	ForClients = "clients"
	ForAdmins  = "admin"
	ForGossip  = "gossip"
)

// SetupKafka is how the workers log in at their own Kafka cluster.
type SetupKafka struct {
	BootstrapServers string `json:"bootstrap_servers"`
	Principal        string `json:"principal"`
	// References are what they log in with.
	References []string `json:"references"`
	// Literal: a secret of theirs is written out in the worker's file.
	Literal bool `json:"literal"`
}

// SetupTopic is an internal topic.
type SetupTopic struct {
	Name string `json:"name"`
	// Holds says what is in it: configurations, offsets, statuses, secrets (encrypted) or audit.
	Holds       string `json:"holds"`
	Replication int    `json:"replication"`
	Cleanup     string `json:"cleanup_policy"`
	// RetentionMs is -1 if nothing is deleted because of its age. It means nothing where the policy is compact alone.
	RetentionMs int64 `json:"retention_ms"`
	// Error says why the topic could not be described.
	Error string `json:"error,omitempty"`
}

const setupTimeout = 10 * time.Second

// Setup tells how this worker is set up.
func (w *Worker) Setup(ctx context.Context) (Setup, error) {
	f := w.o.File
	own := ownSettings(f, "setup")
	built, err := clientconfig.Build(own, clientconfig.Admin)
	if err != nil {
		return Setup{}, fmt.Errorf("the worker's client settings: %w", err)
	}
	s := Setup{
		Cluster: f.GroupID, Worker: w.self.Worker, Version: w.o.Version, Listeners: []SetupListener{}, Authentication: []string{}, Roles: f.AccessRolesDir != "",
		Literals: f.LiteralSecretPolicy, Overrides: f.OverridePolicy,
		Kafka: SetupKafka{BootstrapServers: strings.Join(f.BootstrapServers, ","), Principal: built.Report.Principal, References: []string{}},
	}
	if f.Audited {
		s.AuditTopic, s.AuditRequired, s.AuditCodes = f.AuditTopic, f.AuditRequired, f.AuditKey.Reveal() != ""
	}
	for _, l := range f.Listeners {
		s.Listeners = append(s.Listeners, SetupListener{l.Address(), ForClients, l.Scheme == "https", config.Loopback(l.Host)})
	}
	for _, l := range f.AdminListeners {
		s.Listeners = append(s.Listeners, SetupListener{l.Address(), ForAdmins, l.Scheme == "https", config.Loopback(l.Host)})
	}
	host, _, _ := net.SplitHostPort(f.GossipBind) // it was read with the file
	s.Listeners = append(s.Listeners, SetupListener{f.GossipBind, ForGossip, len(f.GossipSecrets) > 0, config.Loopback(host)})
	for key, setting := range own {
		switch {
		case config.HasReference(setting.Written):
			s.Kafka.References = append(s.Kafka.References, setting.Written)
		case config.LiteralSecret(key, setting.Written, false):
			s.Kafka.Literal = true
		}
	}
	s.Topics = w.internalTopics(ctx)
	return s, nil
}

// internalTopics describes what the workers themselves keep.
func (w *Worker) internalTopics(ctx context.Context) []SetupTopic {
	f := w.o.File
	topics := []SetupTopic{{Name: f.ConfigTopic.Name, Holds: "configurations"}, {Name: f.OffsetTopic.Name, Holds: "offsets"}, {Name: f.StatusTopic.Name, Holds: "statuses"}}
	if w.o.Secrets.Opened() {
		topics = append(topics, SetupTopic{Name: w.o.Secrets.Topic(), Holds: "secrets, encrypted"})
	}
	if f.Audited {
		topics = append(topics, SetupTopic{Name: f.AuditTopic, Holds: "audit"})
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	err := func() error {
		opts, err := w.describer()
		if err != nil {
			return err
		}
		client, err := kgo.NewClient(opts...)
		if err != nil {
			return err
		}
		defer client.Close()
		admin := kadm.NewClient(client)
		names := make([]string, len(topics))
		for i, t := range topics {
			names[i] = t.Name
		}
		described, err := admin.ListTopics(ctx, names...)
		if err != nil {
			return err
		}
		configs, err := admin.DescribeTopicConfigs(ctx, names...)
		if err != nil {
			return err
		}
		for i := range topics {
			t := &topics[i]
			of, err := configs.On(t.Name, nil)
			if err == nil {
				err = cmp.Or(of.Err, described[t.Name].Err)
			}
			if err != nil {
				t.Error = err.Error()
				continue
			}
			t.Replication = described[t.Name].Partitions.NumReplicas()
			for _, c := range of.Configs {
				switch c.Key {
				case "cleanup.policy":
					t.Cleanup = c.MaybeValue()
				case "retention.ms":
					t.RetentionMs, _ = strconv.ParseInt(c.MaybeValue(), 10, 64)
				}
			}
		}
		return nil
	}()
	if err != nil {
		for i := range topics {
			topics[i].Error = err.Error()
		}
	}
	return topics
}
