package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
)

// The demonstration's clusters are called like those of a shop: "prod" is copied
// to "staging", where the workers keep their topics too.
const (
	demoGroup    = "demo"
	demoInternal = "demo-connect-" // begins the names of the workers' topics
	scramModule  = "org.apache.kafka.common.security.scram.ScramLoginModule"
	scram512     = "SCRAM-SHA-512"
)

// identity is a principal of the demonstration. Its password is in a file, and in
// the cluster; everywhere else it is a reference.
type identity struct {
	user     string
	password config.Secret
	file     string
}

// demoClusters are two Kafka clusters in this process, with authentication and
// access rights, and the secrets for them in files.
type demoClusters struct {
	dir          string
	prod         *kfake.Cluster
	staging      *kfake.Cluster
	prodAdmin    identity // of the demonstration itself: writes the orders, reads for the proof
	stagingAdmin identity
	reader       identity // of the connector, on prod: may read orders and payments
	writer       identity // of the connector, on staging: may write prod.*
	worker       identity // of the workers, on staging: may use their own topics, and no others
	gossip       config.Secret
}

func startDemoClusters(dir string) (c *demoClusters, err error) {
	c = &demoClusters{dir: dir}
	for user, id := range map[string]*identity{
		"prod-admin": &c.prodAdmin, "staging-admin": &c.stagingAdmin, "shop-ro": &c.reader, "shop-rw": &c.writer, "connect": &c.worker,
	} {
		*id = identity{user: user, password: newPassword(), file: filepath.Join(dir, user+".properties")}
		if err := writeSecret(id.file, "password="+id.password.Reveal()+"\n"); err != nil {
			return nil, err
		}
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	c.gossip = config.NewSecret(base64.StdEncoding.EncodeToString(key))
	if err := writeSecret(filepath.Join(dir, "gossip.properties"), "secret="+c.gossip.Reveal()+"\n"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.prod, err = startCluster("prod", c.prodAdmin, kfake.User(scram512, c.reader.user, c.reader.password.Reveal(), readerRights()...))
	if err != nil {
		return nil, err
	}
	c.staging, err = startCluster("staging", c.stagingAdmin,
		kfake.User(scram512, c.worker.user, c.worker.password.Reveal(), workerRights()...),
		kfake.User(scram512, c.writer.user, c.writer.password.Reveal(), writerRights()...))
	return c, err
}

func startCluster(id string, admin identity, more ...kfake.Opt) (*kfake.Cluster, error) {
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(3), kfake.ClusterID(id), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser(scram512, admin.user, admin.password.Reveal()),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("start the cluster %s: %w", id, err)
	}
	return c, nil
}

func (c *demoClusters) close() {
	for _, k := range []*kfake.Cluster{c.prod, c.staging} {
		if k != nil {
			k.Close()
		}
	}
}

// newPassword returns a password that is easy to find again, wherever it leaks to.
func newPassword() config.Secret {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails
	return config.NewSecret("canary-" + hex.EncodeToString(b))
}

func writeSecret(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

func allow(resource kmsg.ACLResourceType, name string, operations ...kmsg.ACLOperation) []kfake.ACL {
	pattern := kmsg.ACLResourcePatternTypePrefixed
	if resource == kmsg.ACLResourceTypeCluster {
		pattern = kmsg.ACLResourcePatternTypeLiteral
	}
	var rights []kfake.ACL
	for _, o := range operations {
		rights = append(rights, kfake.ACL{Resource: resource, Name: name, Pattern: pattern, Operation: o, Allow: true})
	}
	return rights
}

const clusterResource = "kafka-cluster"

func readerRights() []kfake.ACL {
	var rights []kfake.ACL
	for _, topic := range []string{"orders", "payments"} {
		rights = append(rights, allow(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs)...)
	}
	return append(rights, allow(kmsg.ACLResourceTypeCluster, clusterResource, kmsg.ACLOperationDescribe)...)
}

// writerRights let a connector make and fill copies, and besides, so that nothing is
// copied twice: read them and the offset runs, and fence with transactional ids of its group.
func writerRights() []kfake.ACL {
	rights := allow(kmsg.ACLResourceTypeTopic, "prod.", kmsg.ACLOperationWrite, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationCreate,
		kmsg.ACLOperationAlter, kmsg.ACLOperationAlterConfigs, kmsg.ACLOperationDescribeConfigs)
	rights = append(rights, allow(kmsg.ACLResourceTypeTopic, "mm2-offset-runs.", kmsg.ACLOperationWrite, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe,
		kmsg.ACLOperationCreate, kmsg.ACLOperationDescribeConfigs)...)
	rights = append(rights, allow(kmsg.ACLResourceTypeTransactionalId, demoGroup+"-", kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)...)
	return append(rights, allow(kmsg.ACLResourceTypeCluster, clusterResource, kmsg.ACLOperationDescribe)...)
}

func workerRights() []kfake.ACL {
	rights := allow(kmsg.ACLResourceTypeTopic, demoInternal, kmsg.ACLOperationAll)
	rights = append(rights, allow(kmsg.ACLResourceTypeTransactionalId, "connect-cluster-", kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)...)
	rights = append(rights, allow(kmsg.ACLResourceTypeGroup, demoGroup, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)...)
	return append(rights, allow(kmsg.ACLResourceTypeCluster, clusterResource, kmsg.ACLOperationDescribe, kmsg.ACLOperationIdempotentWrite)...)
}

// client opens a client of the demonstration itself, with settings as anybody's.
func (i identity) client(ctx context.Context, cluster *kfake.Cluster, kind clientconfig.Kind, extra ...kgo.Opt) (*kgo.Client, error) {
	resolver, err := configprovider.New(ctx, map[string]string{"config.providers": "file", "config.providers.file.class": "file"}, configprovider.Kinds(nil))
	if err != nil {
		return nil, err
	}
	written := i.login("", i.reference())
	written["bootstrap.servers"] = strings.Join(cluster.ListenAddrs(), ",")
	settings, _, err := resolver.Resolve(ctx, written)
	if err != nil {
		return nil, err
	}
	built, err := clientconfig.Build(settings, kind)
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(append(append(built.Opts, kgo.Dialer(built.Dial)), extra...)...)
}

// reference names the password as Kafka's configurations do, shellReference in
// the spelling that shells and templates leave alone.
func (i identity) reference() string      { return "${file:" + i.file + ":password}" }
func (i identity) shellReference() string { return "$<file:" + i.file + ":password>" }

// login is the client settings with which an identity presents itself.
func (i identity) login(prefix, password string) map[string]string {
	return map[string]string{
		prefix + "security.protocol": "SASL_PLAINTEXT", prefix + "sasl.mechanism": scram512,
		prefix + "sasl.jaas.config": fmt.Sprintf(`%s required username="%s" password="%s";`, scramModule, i.user, password),
	}
}

// readerFile is a client.properties with which one may read all of staging.
func (c *demoClusters) readerFile() string {
	client := c.stagingAdmin.login("", c.stagingAdmin.reference())
	client["bootstrap.servers"] = strings.Join(c.staging.ListenAddrs(), ",")
	client["config.providers"], client["config.providers.file.class"] = "file", "file"
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(client)) {
		fmt.Fprintf(&text, "%s=%s\n", key, client[key])
	}
	return text.String()
}

// workerFile is the file of one worker: a connect-distributed.properties.
func (c *demoClusters) workerFile(port int) map[string]string {
	file := map[string]string{
		"bootstrap.servers": strings.Join(c.staging.ListenAddrs(), ","), "group.id": demoGroup,
		"config.storage.topic": demoInternal + "configs", "offset.storage.topic": demoInternal + "offsets", "status.storage.topic": demoInternal + "status",
		"offset.storage.partitions": "5", "offset.flush.interval.ms": "1000",
		"listeners":   "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		"gossip.bind": "127.0.0.1:0", "gossip.secret": "${file:" + filepath.Join(c.dir, "gossip.properties") + ":secret}",
		"config.providers": "file", "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
		"config.providers.file.param.allowed.paths": c.dir,
	}
	// As in Kafka Connect: connectors that bring no identity of their own use the workers'.
	for _, prefix := range []string{"", "producer.", "admin."} {
		for key, value := range c.worker.login(prefix, c.worker.reference()) {
			file[key] = value
		}
	}
	return file
}

// mirror is a connector that copies topics from prod to staging; without the
// overrides it writes with the identity of the workers.
func (c *demoClusters) mirror(name, topics string, tasks int, overrides bool) map[string]string {
	connector := map[string]string{
		"name": name, "connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector",
		"source.cluster.alias": "prod", "target.cluster.alias": "staging", "topics": topics, "tasks.max": strconv.Itoa(tasks),
		"source.cluster.bootstrap.servers": strings.Join(c.prod.ListenAddrs(), ","),
		"target.cluster.bootstrap.servers": strings.Join(c.staging.ListenAddrs(), ","),
		"replication.factor":               "3", "refresh.topics.interval.seconds": "5", "emit.offset-syncs.enabled": "false",
	}
	for key, value := range c.reader.login("source.cluster.", c.reader.reference()) {
		connector[key] = value
	}
	if overrides {
		for key, value := range c.overrides() {
			connector[key] = value
		}
	}
	return connector
}

// overrides are the settings by which a connector writes under its own identity.
func (c *demoClusters) overrides() map[string]string {
	settings := c.writer.login("producer.override.", c.writer.shellReference())
	for key, value := range c.writer.login("admin.override.", c.writer.shellReference()) {
		settings[key] = value
	}
	return settings
}

// secrets are the values that must not show anywhere.
func (c *demoClusters) secrets() []config.Secret {
	all := []config.Secret{c.gossip}
	for _, i := range []identity{c.prodAdmin, c.stagingAdmin, c.reader, c.writer, c.worker} {
		all = append(all, i.password)
	}
	return all
}
