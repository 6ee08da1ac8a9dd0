// Package kafka runs real Apache Kafka for tests: brokers, alone or in clusters,
// and workers of Kafka Connect, as child processes on 127.0.0.1. It uses
// nothing of the product.
//
// Easy to get wrong: a broker that is to be reached through a proxy must
// advertise the proxy's address, or clients walk round it after their first
// metadata answer.
package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/process"
)

// Listener is one more address of a broker.
type Listener struct {
	// Name in capitals, e.g. CLIENT.
	Name string
	// SASL asks for PLAIN or SCRAM on a plaintext connection.
	SASL bool
	// Protocol is Kafka's, e.g. SASL_SSL, where SASL does not say it; empty is PLAINTEXT.
	Protocol string
	// Properties are settings of this listener, without the prefix "listener.name.NAME.".
	Properties map[string]string
	// Address is where to listen; empty is a free port. Whoever puts a proxy in
	// front has to know it beforehand.
	Address string
	// Advertise is what clients are told to connect to instead of the listener,
	// e.g. a proxy in front of it.
	Advertise string
}

// Spec describes a cluster of one broker that is its own controller.
type Spec struct {
	Name string
	// Dir takes the broker's data, settings and log.
	Dir string
	// Listeners besides the one that every broker has: PLAIN, plaintext.
	Listeners []Listener
	// ACLs turns on Kafka's StandardAuthorizer. Nobody has any right then but
	// ANONYMOUS, which is who uses the listener PLAIN, and SuperUsers.
	ACLs       bool
	SuperUsers []string
	// Users may log in with PLAIN: name to password. Users for SCRAM are made
	// with AddUser.
	Users map[string]string
	// Properties are added to server.properties.
	Properties map[string]string
	// System are system properties of its Java machine.
	System map[string]string
	// Heap is the most memory of the JVM's heap in MiB; 0 means 320.
	Heap int
	// Loggers are levels of more loggers than those that a test needs to see a
	// broker start, e.g. kafka.authorizer.logger: DEBUG.
	Loggers map[string]string
	// JVM, if it is not nil, are all options of the Java machine, heap included,
	// in place of those that make tests cheap: for measurements.
	JVM []string
}

// Plain is the listener that every broker has: plaintext, for the harness.
const Plain = "PLAIN"

// Broker is a cluster of one broker, or one broker of a Cluster.
type Broker struct {
	spec      Spec
	install   *Install
	node      int
	voters    []string // of the controllers' quorum, as Kafka writes them; all brokers
	id        string
	addresses map[string]string // by listener, where it listens
	jvm       []string          // more arguments of the JVM
	process   *process.Process
}

// Start makes a new, empty cluster and returns when it serves requests.
func Start(ctx context.Context, spec Spec) (*Broker, error) {
	install, err := Find()
	if err != nil {
		return nil, err
	}
	if err := install.prepare(); err != nil {
		return nil, err
	}
	return start(ctx, spec, install)
}

// start is Start with an install at hand, and with arguments for the JVM.
func start(ctx context.Context, spec Spec, install *Install, jvm ...string) (*Broker, error) {
	b, err := plan(spec, install, 1, clusterID())
	if err != nil {
		return nil, err
	}
	b.jvm, b.voters = jvm, []string{b.voter()}
	if err := b.write(); err != nil {
		return nil, fmt.Errorf("start broker %s: %w", spec.Name, err)
	}
	return b, b.Run(ctx)
}

// plan gives a broker its addresses.
func plan(spec Spec, install *Install, node int, id string) (*Broker, error) {
	b := &Broker{spec: spec, install: install, node: node, id: id, addresses: map[string]string{}}
	ports, err := FreePorts(len(spec.Listeners) + 2)
	if err != nil {
		return nil, err
	}
	b.addresses["CONTROLLER"], b.addresses[Plain] = ports[0], ports[1]
	for i, l := range spec.Listeners {
		b.addresses[l.Name] = cmp.Or(l.Address, ports[i+2])
	}
	return b, nil
}

func (b *Broker) voter() string { return fmt.Sprintf("%d@%s", b.node, b.addresses["CONTROLLER"]) }

// write puts settings and an empty, formatted log directory in place.
func (b *Broker) write() error {
	data := filepath.Join(b.spec.Dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	bootstrap, err := os.ReadFile(b.install.bootstrap())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "bootstrap.checkpoint"), bootstrap, 0o600); err != nil {
		return err
	}
	meta := fmt.Sprintf("version=1\nnode.id=%d\ncluster.id=", b.node) + b.id + "\ndirectory.id=" + clusterID() + "\n"
	if err := os.WriteFile(filepath.Join(data, "meta.properties"), []byte(meta), 0o600); err != nil {
		return err
	}
	if _, err := writeLog4j(b.spec.Dir, b.spec.Loggers); err != nil {
		return err
	}
	return os.WriteFile(b.settings(), []byte(b.properties()), 0o600)
}

func (b *Broker) settings() string { return filepath.Join(b.spec.Dir, "server.properties") }

// properties is the text of server.properties.
func (b *Broker) properties() string {
	p := map[string]string{
		"process.roles":              "broker,controller",
		"node.id":                    strconv.Itoa(b.node),
		"controller.quorum.voters":   strings.Join(b.voters, ","),
		"controller.listener.names":  "CONTROLLER",
		"inter.broker.listener.name": Plain,
		"log.dirs":                   filepath.Join(b.spec.Dir, "data"),
		"num.network.threads":        "2", "num.io.threads": "4", "background.threads": "2",
		"auto.create.topics.enable":        "false",
		"group.initial.rebalance.delay.ms": "0",
		"offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "4",
		"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1", "transaction.state.log.num.partitions": "4",
		// Tests write records with the times of years ago, which would be deleted.
		"log.retention.ms": "-1",
		// The defaults of these need more memory than the whole heap here.
		"log.cleaner.dedupe.buffer.size": "4194304", "log.cleaner.io.buffer.size": "65536",
		// After kill -9 a broker waits for its former session to end.
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500",
	}
	if n := len(b.voters); n > 1 {
		copies, least := strconv.Itoa(min(n, 3)), strconv.Itoa(min(n, 3)-1)
		for _, internal := range []string{"offsets.topic", "transaction.state.log"} {
			p[internal+".replication.factor"] = copies
		}
		p["transaction.state.log.min.isr"], p["min.insync.replicas"] = least, least
	}
	listeners := []string{"CONTROLLER://" + b.addresses["CONTROLLER"], Plain + "://" + b.addresses[Plain]}
	advertised := []string{Plain + "://" + b.addresses[Plain]}
	protocols := []string{"CONTROLLER:PLAINTEXT", Plain + ":PLAINTEXT"}
	for _, l := range b.spec.Listeners {
		listeners = append(listeners, l.Name+"://"+b.addresses[l.Name])
		advertised = append(advertised, l.Name+"://"+b.Address(l.Name))
		protocol, prefix := cmp.Or(l.Protocol, "PLAINTEXT"), "listener.name."+strings.ToLower(l.Name)+"."
		if l.SASL {
			protocol = "SASL_PLAINTEXT"
			p[prefix+"sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
			scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			p[prefix+"scram-sha-256.sasl.jaas.config"], p[prefix+"scram-sha-512.sasl.jaas.config"] = scram, scram
			plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
			for _, name := range slices.Sorted(maps.Keys(b.spec.Users)) {
				plain += fmt.Sprintf(" user_%s=%q", name, b.spec.Users[name])
			}
			p[prefix+"plain.sasl.jaas.config"] = plain + ";"
		}
		for k, v := range l.Properties {
			p[prefix+k] = v
		}
		protocols = append(protocols, l.Name+":"+protocol)
	}
	p["listeners"], p["advertised.listeners"] = strings.Join(listeners, ","), strings.Join(advertised, ",")
	p["listener.security.protocol.map"] = strings.Join(protocols, ",")
	if b.spec.ACLs {
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		supers := []string{"User:ANONYMOUS"}
		for _, name := range b.spec.SuperUsers {
			supers = append(supers, "User:"+name)
		}
		p["super.users"] = strings.Join(supers, ";")
	}
	maps.Copy(p, b.spec.Properties)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		text.WriteString(k + "=" + strings.ReplaceAll(p[k], `\`, `\\`) + "\n")
	}
	return text.String()
}

// Run starts the broker, for the first time or again after Stop or Kill, on the
// same addresses and data. It returns when the broker serves requests.
func (b *Broker) Run(ctx context.Context) error {
	heap := b.spec.Heap
	if heap == 0 {
		heap = 320
	}
	log4j := filepath.Join(b.spec.Dir, "log4j2.yaml")
	args := slices.Clone(b.jvm)
	for _, k := range slices.Sorted(maps.Keys(b.spec.System)) {
		args = append(args, "-D"+k+"="+b.spec.System[k])
	}
	args = append(args, b.install.args(heap, log4j, "kafka.Kafka", b.settings())...)
	if b.spec.JVM != nil {
		args = b.install.with(b.spec.JVM, log4j, "kafka.Kafka", b.settings())
	}
	p, err := process.Start(process.Spec{
		Name: "broker " + b.spec.Name,
		Path: b.install.java,
		Args: args,
		Dir:  b.spec.Dir,
		Log:  b.Log(),
	})
	if err != nil {
		return err
	}
	b.process = p
	if err := b.serving(ctx); err != nil {
		p.Kill()
		return fmt.Errorf("broker %s: %w\n%s", b.spec.Name, err, p.Tail(30))
	}
	return nil
}

// serving waits until the broker answers for all of its listeners.
func (b *Broker) serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		err := b.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-b.process.Done():
			return fmt.Errorf("ended before it served: %w", b.process.Err())
		case <-ctx.Done():
			return fmt.Errorf("not serving: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ask returns nil if the broker is registered, unfenced and listening.
func (b *Broker) ask(ctx context.Context) error {
	for name, address := range b.addresses {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		_ = conn.Close()
	}
	admin, err := b.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(meta.Brokers.NodeIDs(), int32(b.node)) {
		return fmt.Errorf("the broker is not in its own metadata")
	}
	return nil
}

// ClusterID is the id that the cluster was formatted with.
func (b *Broker) ClusterID() string { return b.id }

// Address is what clients of a listener connect to.
func (b *Broker) Address(listener string) string {
	for _, l := range b.spec.Listeners {
		if l.Name == listener && l.Advertise != "" {
			return l.Advertise
		}
	}
	return b.addresses[listener]
}

// Behind is where a listener really listens: what a proxy connects to.
func (b *Broker) Behind(listener string) string { return b.addresses[listener] }

// Bootstrap is the address of the listener PLAIN.
func (b *Broker) Bootstrap() string { return b.Address(Plain) }

// AddUser makes a user for SCRAM, or changes the password of one.
func (b *Broker) AddUser(ctx context.Context, name, password string) error {
	admin, err := b.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	// One request cannot alter a user twice.
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		altered, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: name, Mechanism: mechanism, Iterations: 4096, Password: password}})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			return fmt.Errorf("add user %s to %s: %w", name, b.spec.Name, err)
		}
	}
	return nil
}

// Grant is a right of a user.
type Grant struct {
	// Topic, Group or TransactionalID names what the right is to; a name that ends
	// with * is a prefix. None of them is the cluster.
	Topic, Group, TransactionalID string
	Operations                    []kadm.ACLOperation
}

// Allow gives a user rights.
func (b *Broker) Allow(ctx context.Context, user string, grants ...Grant) error {
	admin, err := b.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, g := range grants {
		name, prefix := strings.CutSuffix(cmp.Or(g.Topic, g.Group, g.TransactionalID), "*")
		pattern := kadm.ACLPatternLiteral
		if prefix {
			pattern = kadm.ACLPatternPrefixed
			if name == "" {
				name, pattern = "*", kadm.ACLPatternLiteral
			}
		}
		acl := kadm.NewACLs().Allow("User:" + user).AllowHosts().Operations(g.Operations...).ResourcePatternType(pattern)
		switch {
		case g.Topic != "":
			acl = acl.Topics(name)
		case g.Group != "":
			acl = acl.Groups(name)
		case g.TransactionalID != "":
			acl = acl.TransactionalIDs(name)
		default:
			acl = acl.Clusters().ResourcePatternType(kadm.ACLPatternLiteral)
		}
		created, err := admin.CreateACLs(ctx, acl)
		if err != nil {
			return fmt.Errorf("allow %s on %s: %w", user, b.spec.Name, err)
		}
		for _, c := range created {
			if c.Err != nil {
				return fmt.Errorf("allow %s on %s: %w", user, b.spec.Name, c.Err)
			}
		}
	}
	return nil
}

// Log is the file with the broker's output.
func (b *Broker) Log() string { return filepath.Join(b.spec.Dir, "broker.log") }

// Process is the broker's process, to kill, freeze and thaw. After Run it is
// another one.
func (b *Broker) Process() *process.Process { return b.process }

// Kill ends the broker with SIGKILL.
func (b *Broker) Kill() { b.process.Kill() }

// Stop ends the broker with SIGTERM and waits for it.
func (b *Broker) Stop() error { return b.process.Stop(30 * time.Second) }

// Restart stops the broker with SIGTERM and runs it again.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.Stop(); err != nil {
		return err
	}
	return b.Run(ctx)
}

// Client returns a client of the listener PLAIN, which may do everything.
func (b *Broker) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append([]kgo.Opt{kgo.SeedBrokers(b.Bootstrap()), kgo.ClientID("harness")}, opts...)
	client, err := kgo.NewClient(all...)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", b.spec.Name, err)
	}
	return client, nil
}

// Admin returns an admin client of the listener PLAIN. Close it.
func (b *Broker) Admin() (*kadm.Client, error) {
	client, err := b.Client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

// clusterID returns 16 random bytes as Kafka writes them.
func clusterID() string {
	var raw [16]byte
	for {
		_, _ = rand.Read(raw[:])
		if id := base64.RawURLEncoding.EncodeToString(raw[:]); !strings.HasPrefix(id, "-") {
			return id // Kafka's own ids never begin like an option
		}
	}
}
