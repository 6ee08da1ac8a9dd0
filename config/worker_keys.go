package config

import (
	"encoding/base64"
	"net"
	"slices"
	"strconv"
	"strings"
)

// WorkerDef returns the definition of the worker file: every key of Kafka
// 4.3.1's DistributedConfig (with WorkerConfig and RestServerConfig) with its type, default and checks, and ours.
//
// Different from Kafka on purpose: key.converter and value.converter are not
// required, since replication converts nothing; and offset.flush.interval.ms is 5 s instead of 60 s,
// since what came after the last saved offset is copied again after a crash.
func WorkerDef() *Def {
	return Merge(
		NewDef(kafkaWorkerKeys()...), NewDef(restKeys()...), NewDef(groupKeys()...),
		NewDef(tlsKeys()...), NewDef(saslKeys()...), NewDef(ourKeys()...),
	)
}

// required, value and null make rows of the tables below: without a default, with one, with null.
func required(name string, t Type, doc string, checks ...Check) Key {
	return Key{Name: name, Type: t, Required: true, Importance: High, Documentation: doc, Order: -1, Checks: checks}
}

func value(name string, t Type, text, doc string, checks ...Check) Key {
	return Key{Name: name, Type: t, Default: &text, Documentation: doc, Order: -1, Checks: checks}
}

func null(name string, t Type, doc string, checks ...Check) Key {
	return Key{Name: name, Type: t, Documentation: doc, Order: -1, Checks: checks}
}

func kafkaWorkerKeys() []Key {
	return []Key{
		required("bootstrap.servers", List, "Brokers of the cluster that holds the internal topics, host:port.", Items(false, false)),
		value("client.dns.lookup", String, "use_all_dns_ips", "", OneOf("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only")),
		null("key.converter", Class, "Converter of keys for connectors that convert records and name none."),
		null("key.converter.plugin.version", String, ""),
		null("value.converter", Class, "Converter of values for connectors that convert records and name none."),
		null("value.converter.plugin.version", String, ""),
		value("task.shutdown.graceful.timeout.ms", Long, "5000", "How long all stopping tasks together may take to finish."),
		value("offset.flush.interval.ms", Long, "5000", "How often tasks save their offsets. Kafka's default is 60000: here fewer records are copied twice after a crash."),
		value("offset.flush.timeout.ms", Long, "5000", "How long saving offsets may take."),
		null("plugin.path", List, "", Items(false, true)),
		value("plugin.discovery", String, "hybrid_warn", "", OneOfFold("ONLY_SCAN", "SERVICE_LOAD", "HYBRID_WARN", "HYBRID_FAIL")),
		value("metrics.sample.window.ms", Long, "30000", "", AtLeast(0)),
		value("metrics.num.samples", Int, "2", "", AtLeast(1)),
		value("metrics.recording.level", String, "INFO", "", OneOf("INFO", "DEBUG")),
		value("metric.reporters", List, "org.apache.kafka.common.metrics.JmxReporter", "", Items(true, false)),
		value("header.converter", Class, "org.apache.kafka.connect.storage.SimpleHeaderConverter", "Converter of headers for connectors that convert records and name none."),
		null("header.converter.plugin.version", String, ""),
		value("config.providers", List, "", "Names of the providers that secret references may use.", Items(true, false)),
		value("connector.client.config.override.policy", String, "All", "Which client settings a connector may override: None, Principal, All or Allowlist."),
		value("connector.client.config.override.allowlist", List, "", "The client settings that the Allowlist policy allows.", Items(true, false)),
		value("topic.creation.enable", Boolean, "true", "Whether connectors may create topics."),
		value("topic.tracking.enable", Boolean, "true", "Whether the topics that a connector uses are recorded."),
		value("topic.tracking.allow.reset", Boolean, "true", "Whether that record may be reset over REST."),
	}
}

func restKeys() []Key {
	return []Key{
		value("listeners", List, "http://:8083", "Where the REST API listens: http:// or https:// URLs.", checkListeners),
		null("rest.advertised.host.name", String, "The host under which other workers reach this one's REST API."),
		null("rest.advertised.port", Int, "The port under which other workers reach this one's REST API."),
		null("rest.advertised.listener", String, "Which kind of listener other workers use: http or https."),
		value("access.control.allow.origin", String, "", "The origin that browsers may call the REST API from; empty for none."),
		value("access.control.allow.methods", String, "", "The methods that such calls may use; empty for GET, POST and HEAD."),
		value("response.http.headers.config", String, "", "Headers of every REST answer: [action] [name]:[value], separated by commas.", checkHeaders),
		value("ssl.client.auth", String, "none", "Whether HTTPS listeners ask for a client certificate.", OneOf("required", "requested", "none")),
		value("rest.extension.classes", List, "", "Extensions of the REST API, by Kafka's class names; there is BasicAuthSecurityRestExtension.", Items(true, false)),
		null("admin.listeners", List, "Where the admin part of the REST API listens; empty for nowhere, unset for the same listeners.", Items(true, true), checkListenerURLs),
	}
}

func groupKeys() []Key {
	hmac := OneOf(hmacAlgorithms...)
	storage := func(name, topic string, partitions int) []Key {
		keys := []Key{
			required(name+".storage.topic", String, "Topic for "+topic+"."),
			value(name+".storage.replication.factor", Short, "3", "Its replication factor when it is created; -1 for the broker's.", checkReplicationFactor),
		}
		if partitions > 1 {
			keys = append(keys, value(name+".storage.partitions", Int, strconv.Itoa(partitions), "Its partitions when it is created; -1 for the broker's.", checkPartitions))
		}
		return keys
	}
	return slices.Concat([]Key{
		required("group.id", String, "The name of the cluster: workers with the same one share the work."),
		value("session.timeout.ms", Int, "10000", ""),
		value("rebalance.timeout.ms", Int, "60000", ""),
		value("heartbeat.interval.ms", Int, "3000", ""),
		value("exactly.once.source.support", String, "disabled", "Whether source tasks write in transactions.", OneOfFold("DISABLED", "ENABLED", "PREPARING")),
		value("metadata.max.age.ms", Long, "300000", "", AtLeast(0)),
		value("client.id", String, "", "Prefix of the client ids of this worker's own clients."),
		value("send.buffer.bytes", Int, "131072", "", AtLeast(-1)),
		value("receive.buffer.bytes", Int, "32768", "", AtLeast(-1)),
		value("reconnect.backoff.ms", Long, "50", "", AtLeast(0)),
		value("reconnect.backoff.max.ms", Long, "1000", "", AtLeast(0)),
		value("socket.connection.setup.timeout.ms", Long, "10000", "", AtLeast(0)),
		value("socket.connection.setup.timeout.max.ms", Long, "30000", "", AtLeast(0)),
		value("retry.backoff.ms", Long, "100", "", AtLeast(0)),
		value("retry.backoff.max.ms", Long, "1000", "", AtLeast(0)),
		value("request.timeout.ms", Int, "40000", "", AtLeast(0)),
		value("connections.max.idle.ms", Long, "540000", ""),
		value("security.protocol", String, "PLAINTEXT", "", OneOfFold("SASL_SSL", "PLAINTEXT", "SSL", "SASL_PLAINTEXT")),
		value("worker.sync.timeout.ms", Int, "3000", ""),
		value("worker.unsync.backoff.ms", Int, "300000", ""),
	}, storage("offset", "the source offsets of connectors", 25), storage("config", "connector configurations", 1), storage("status", "states of connectors and tasks", 5), []Key{
		value("connect.protocol", String, "sessioned", "", checkProtocol),
		value("scheduled.rebalance.max.delay.ms", Int, "300000", "How long the tasks of a worker that left wait for its return, when it is set.", Between(0, 1<<31-1)),
		value("inter.worker.key.ttl.ms", Int, "3600000", "How long a key that signs requests between workers is used.", Between(0, 1<<31-1)),
		value("inter.worker.key.generation.algorithm", String, "HmacSHA256", "", hmac),
		null("inter.worker.key.size", Int, "Length of such keys in bits."),
		value("inter.worker.signature.algorithm", String, "HmacSHA256", "What signs requests between workers.", hmac),
		value("inter.worker.verification.algorithms", List, "HmacSHA256", "Signatures that are accepted between workers.", ItemsOf(false, hmacAlgorithms...)),
		value("metadata.recovery.strategy", String, "rebootstrap", "", OneOfFold("REBOOTSTRAP", "NONE")),
		value("metadata.recovery.rebootstrap.trigger.ms", Long, "300000", "", AtLeast(0)),
	})
}

func tlsKeys() []Key {
	return []Key{
		value("ssl.protocol", String, "TLSv1.3", ""),
		null("ssl.provider", String, ""),
		value("ssl.cipher.suites", List, "", "", Items(true, false)),
		value("ssl.enabled.protocols", List, "TLSv1.2,TLSv1.3", "", Items(true, false)),
		value("ssl.keystore.type", String, "JKS", ""),
		null("ssl.keystore.location", String, ""),
		null("ssl.keystore.password", Password, ""),
		null("ssl.key.password", Password, ""),
		null("ssl.keystore.key", Password, ""),
		null("ssl.keystore.certificate.chain", Password, ""),
		null("ssl.truststore.certificates", Password, ""),
		value("ssl.truststore.type", String, "JKS", ""),
		null("ssl.truststore.location", String, ""),
		null("ssl.truststore.password", Password, ""),
		value("ssl.keymanager.algorithm", String, "SunX509", ""),
		value("ssl.trustmanager.algorithm", String, "PKIX", ""),
		value("ssl.endpoint.identification.algorithm", String, "https", ""),
		null("ssl.secure.random.implementation", String, ""),
		null("ssl.engine.factory.class", Class, ""),
	}
}

func saslKeys() []Key {
	return []Key{
		null("sasl.kerberos.service.name", String, ""),
		value("sasl.kerberos.kinit.cmd", String, "/usr/bin/kinit", ""),
		value("sasl.kerberos.ticket.renew.window.factor", Double, "0.8", ""),
		value("sasl.kerberos.ticket.renew.jitter", Double, "0.05", ""),
		value("sasl.kerberos.min.time.before.relogin", Long, "60000", ""),
		value("sasl.login.refresh.window.factor", Double, "0.8", "", Between(0.5, 1.0)),
		value("sasl.login.refresh.window.jitter", Double, "0.05", "", Between(0.0, 0.25)),
		value("sasl.login.refresh.min.period.seconds", Short, "60", "", Between(0, 900)),
		value("sasl.login.refresh.buffer.seconds", Short, "300", "", Between(0, 3600)),
		value("sasl.mechanism", String, "GSSAPI", ""),
		null("sasl.jaas.config", Password, ""),
		null("sasl.client.callback.handler.class", Class, ""),
		null("sasl.login.callback.handler.class", Class, ""),
		null("sasl.login.class", Class, ""),
		null("sasl.login.connect.timeout.ms", Int, ""),
		null("sasl.login.read.timeout.ms", Int, ""),
		value("sasl.login.retry.backoff.max.ms", Long, "10000", ""),
		value("sasl.login.retry.backoff.ms", Long, "100", ""),
		value("sasl.oauthbearer.jwt.retriever.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", ""),
		value("sasl.oauthbearer.jwt.validator.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", ""),
		null("sasl.oauthbearer.scope", String, ""),
		null("sasl.oauthbearer.client.credentials.client.id", String, ""),
		null("sasl.oauthbearer.client.credentials.client.secret", Password, ""),
		value("sasl.oauthbearer.assertion.algorithm", String, "RS256", "", OneOfFold("ES256", "RS256")),
		null("sasl.oauthbearer.assertion.claim.aud", String, ""),
		value("sasl.oauthbearer.assertion.claim.exp.seconds", Int, "300", "", Between(0, 86400)),
		null("sasl.oauthbearer.assertion.claim.iss", String, ""),
		value("sasl.oauthbearer.assertion.claim.jti.include", Boolean, "false", ""),
		value("sasl.oauthbearer.assertion.claim.nbf.seconds", Int, "60", "", Between(0, 3600)),
		null("sasl.oauthbearer.assertion.claim.sub", String, ""),
		null("sasl.oauthbearer.assertion.file", String, ""),
		null("sasl.oauthbearer.assertion.private.key.file", String, ""),
		null("sasl.oauthbearer.assertion.private.key.passphrase", Password, ""),
		null("sasl.oauthbearer.assertion.template.file", String, ""),
		value("sasl.oauthbearer.scope.claim.name", String, "scope", ""),
		value("sasl.oauthbearer.sub.claim.name", String, "sub", ""),
		null("sasl.oauthbearer.token.endpoint.url", String, ""),
		null("sasl.oauthbearer.jwks.endpoint.url", String, ""),
		value("sasl.oauthbearer.jwks.endpoint.refresh.ms", Long, "3600000", ""),
		value("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Long, "10000", ""),
		value("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long, "100", ""),
		value("sasl.oauthbearer.clock.skew.seconds", Int, "30", ""),
		value("sasl.oauthbearer.expected.audience", List, "", "", Items(true, false)),
		null("sasl.oauthbearer.expected.issuer", String, ""),
		value("sasl.oauthbearer.header.urlencode", Boolean, "false", ""),
	}
}

// DefaultGossipBind is where gossip listens when the file does not say, if there is a gossip.secret.
const DefaultGossipBind = "0.0.0.0:7946"

func ourKeys() []Key {
	return []Key{
		value("gossip.bind", String, DefaultGossipBind, "Where gossip listens, TCP and UDP, as host:port.", checkHostPort),
		null("gossip.advertise", String, "The gossip address that other workers use, as host:port; by default that of gossip.bind.", checkHostPort),
		value("gossip.join", List, "", "Gossip addresses of other workers, host:port; a name with several addresses joins them all.", Items(true, false)),
		null("gossip.secret", Password, "32 bytes in base64 that encrypt gossip; of several, separated by commas, the first encrypts and all decrypt.", checkGossipSecret),
		value("worker.labels", List, "", "Labels of this worker, as zone=a,tier=pci.", Items(true, false), checkLabels),
		value("worker.lease.ms", Long, "4000", "How long after its last reading of the config topic a worker may work.", Between(500, 600_000)),
		value("lease.enforce", String, "plain", "Which tasks stop when the lease has run out: plain ones, or all.", OneOf("plain", "all")),
		null("org.apache.kafka.sasl.oauthbearer.allowed.urls", List, "Token endpoints that settings of clients may name in sasl.oauthbearer.token.endpoint.url; none by default. Kafka's clients have it as a system property."),
		null("org.apache.kafka.sasl.oauthbearer.allowed.files", List, "Files that settings of clients may name in sasl.oauthbearer.assertion.*; none by default."),
		null("connector.client.allowed.paths", List, "Files and folders that settings of clients may name besides: keystores, keytabs, ticket caches, tokens. All where it is not set, as in Kafka."),
		null("java.security.krb5.conf", String, "The Kerberos settings of clients, /etc/krb5.conf where it is not set. Kafka's clients have it as a system property."),
		null("rest.authentication", List, "How callers of the REST API prove who they are: none, or any of basic, mtls, oidc.", checkAuthentication),
		null("rest.authentication.basic.file", String, "An htpasswd file with hashes of bcrypt or argon2; read again when it changes."),
		null("java.security.auth.login.config", String, "The JAAS file with the login context KafkaConnect, for BasicAuthSecurityRestExtension; by default the one that $KAFKA_OPTS names."),
		value("rest.max.request.bytes", Int, "8388608", "The largest body of a request.", Between(1<<20, 64<<20)),
		value("rest.max.connections", Int, "1000", "How many connections to the REST API are open at once; beyond, those that have been idle for longest are closed.", Between(10, 100_000)),
		value("rest.max.connections.per.address", Int, "500", "How many of them one address may have; beyond, new ones are closed at once.", Between(5, 100_000)),
		null("rest.authentication.oidc.issuer", String, "The URL of the issuer of bearer tokens."),
		null("rest.authentication.oidc.audience", String, "The audience that a bearer token must name."),
		value("rest.authentication.oidc.user.claim", String, "sub", "The claim that names the caller.", NonEmpty),
		value("rest.authentication.oidc.groups.claim", String, "groups", "The claim that lists the caller's groups; dots lead into nested ones.", NonEmpty),
		value("ssl.principal.mapping.rules", String, "DEFAULT", "With rest.authentication=mtls, how a caller's name is made of the subject of the certificate, as Kafka's brokers do."),
		null("access.roles.dir", String, "A directory of YAML files, one a role."),
		value("audit.topic", String, "_barnabas-audit", "Topic of the audit trail. There is one if this, another setting of audit or access.roles.dir is set.", NonEmpty),
		value("audit.required", Boolean, "true", "Whether changes that cannot be audited are refused, where there is an audit trail."),
		null("audit.key", Password, "A key, the same for all workers, with which each record of the audit trail is marked: nobody without it can add one unnoticed."),
		value("gap.policy", String, "record", "What a task does about records that are gone at the source: stop, or record the gap and go on.", OneOf("stop", "record")),
		value("auto.restart.enabled", Boolean, "true", "Whether a connector or task that has FAILED is restarted by itself, unless its error is one that no restart mends."),
		value("auto.restart.max.restarts", Int, "-1", "How often in a row it is restarted; -1: as often as needed.", AtLeast(-1)),
		value("auto.restart.backoff.initial.ms", Long, "10000", "How long the first restart waits; each further one waits twice as long.", Between(1, 86_400_000)),
		value("auto.restart.backoff.max.ms", Long, "600000", "The longest wait; one that has run for that long begins anew.", Between(1, 86_400_000)),
		value("config.history.versions", Int, "20", "How many versions of each connector's configuration are kept; 0: none.", Between(0, 1000)),
		value("connector.secrets.literal.policy", String, "warn", "What becomes of a connector configuration with a secret written out.", OneOf("allow", "warn", "deny")),
	}
}

// hmacAlgorithms are the signatures of Java's names that this program can make, as its JVM's list in Kafka.
var hmacAlgorithms = []string{"HmacSHA256", "HmacSHA384", "HmacSHA512", "HmacSHA224", "HmacSHA1", "HmacMD5"}

// checkPartitions and checkReplicationFactor are those of Kafka's TopicCreationConfig.
func checkPartitions(v Value) string {
	if n, _ := v.Number(); n != -1 && n < 1 {
		return v.Invalid("Number of partitions must be positive, or -1 to use the broker's default")
	}
	return ""
}

func checkReplicationFactor(v Value) string {
	if n, _ := v.Number(); n != -1 && n < 1 {
		return v.Invalid("Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or -1 to use the broker's default")
	}
	return ""
}

// checkProtocol is that of Kafka's DistributedConfig.
func checkProtocol(v Value) string {
	if !slices.ContainsFunc([]string{"eager", "compatible", "sessioned"}, func(p string) bool { return strings.EqualFold(p, v.Text()) }) {
		return v.Invalid("Invalid Connect protocol compatibility")
	}
	return ""
}

// checkListeners is Kafka's ListenersValidator, with the form of each URL, which
// Kafka looks at only when it opens them.
func checkListeners(v Value) string {
	if len(v.Items()) == 0 {
		return "Invalid value for listeners, at least one URL is expected, ex: http://localhost:8080,https://localhost:8443."
	}
	if slices.Contains(v.Items(), "") {
		return "Empty URL found when parsing listeners list."
	}
	return checkListenerURLs(v)
}

func checkListenerURLs(v Value) string {
	for _, url := range v.Items() {
		if _, wrong := parseListener(url); wrong != "" {
			return v.Invalid(wrong)
		}
	}
	return ""
}

// checkHeaders is Kafka's ResponseHttpHeadersValidator.
func checkHeaders(v Value) string {
	if strings.TrimSpace(v.Text()) == "" {
		return ""
	}
	_, wrong := parseHeaderRules(v.Text())
	if wrong != "" && v.resolved() {
		return v.Invalid("Expected '[action] [header name]:[header value]', separated by commas")
	}
	return wrong
}

func checkHostPort(v Value) string {
	if v.Null() {
		return ""
	}
	if _, port, err := net.SplitHostPort(v.Text()); err != nil || !validPort(port) {
		return v.Invalid("Expected host:port")
	}
	return ""
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && 0 <= n && n <= 65535
}

func checkGossipSecret(v Value) string {
	secret, ok := v.any().(Secret)
	if !ok {
		return ""
	}
	if _, ok := decodeGossipSecrets(secret); !ok {
		return v.Invalid("Expected 32 bytes in base64 (one way: head -c 32 /dev/urandom | base64), or several such, separated by commas")
	}
	return ""
}

// decodeGossipSecrets returns the keys in secret, the one that encrypts first.
func decodeGossipSecrets(secret Secret) (keys []Secret, ok bool) {
	for _, text := range parseList(secret.Reveal()) {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != 32 {
			return nil, false
		}
		keys = append(keys, NewSecret(string(key)))
	}
	return keys, len(keys) > 0
}

func checkLabels(v Value) string {
	for _, item := range v.Items() {
		if name, _, ok := strings.Cut(item, "="); !ok || strings.TrimSpace(name) == "" {
			return v.Invalid("Expected name=value, separated by commas")
		}
	}
	return ""
}

func checkAuthentication(v Value) string {
	if v.Null() {
		return ""
	}
	if slices.Equal(v.Items(), []string{"none"}) {
		return ""
	}
	return ItemsOf(false, "basic", "mtls", "oidc")(v)
}
