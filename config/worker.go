package config

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Worker is the configuration of one worker, read from a worker file and the environment.
type Worker struct {
	BootstrapServers []string
	GroupID          string

	ConfigTopic InternalTopic
	OffsetTopic InternalTopic
	StatusTopic InternalTopic

	Listeners []Listener
	// AdminListeners are those of the admin part of the REST API. With AdminOnListeners it is on Listeners
	// instead; without either it is nowhere.
	AdminListeners   []Listener
	AdminOnListeners bool
	ResponseHeaders  []HeaderRule

	OffsetFlushInterval time.Duration
	OffsetFlushTimeout  time.Duration
	TaskStopTimeout     time.Duration // of all stopping tasks together
	Lease               time.Duration
	LeaseForAll         bool // lease.enforce=all: fenced and transactional tasks too
	AutoRestart         AutoRestart
	HistoryVersions     int // of each connector's configuration; 0: none
	// RebalanceDelay is scheduled.rebalance.max.delay.ms if the file sets it, and
	// otherwise zero: Kafka's 5 minutes of standstill are not this product's default.
	RebalanceDelay time.Duration

	GossipBind      string   // host:port
	GossipAdvertise string   // host:port, or empty: that of GossipBind
	GossipJoin      []string // host:port
	GossipSecrets   []Secret // 32 bytes each, the one that encrypts first; empty only on loopback
	Labels          map[string]string

	OverridePolicy      string
	OverrideAllowlist   string // separated by commas
	LiteralSecretPolicy string // allow, warn or deny
	GapPolicy           string // stop or record
	TopicCreation       bool
	TopicTracking       bool
	TopicTrackingReset  bool
	ExactlyOnceSource   string   // disabled, preparing or enabled
	RestAuthentication  []string // nil: not said; none; or any of basic, mtls, oidc
	SignatureAlgorithm  string
	SignaturesAccepted  []string
	SessionKeyTTL       time.Duration
	AllowOrigin         string
	AllowMethods        string
	AdvertisedHost      string // empty: not said
	AdvertisedPort      int    // 0: not said
	AdvertisedListener  string // http, https, or empty: not said
	AccessRolesDir      string
	AuditTopic          string
	AuditRequired       bool
	AuditKey            Secret
	// Audited is whether there is an audit trail: something of it is set, or there are roles.
	Audited   bool
	BasicFile string
	// RestExtensions are rest.extension.classes; LoginConfig is the JAAS file that they read.
	RestExtensions          []string
	LoginConfig             string
	MaxRequestBytes         int
	MaxConnections          int
	MaxConnectionsOfAddress int
	OIDCIssuer              string
	OIDCAudience            string
	OIDCUserClaim           string
	OIDCGroupsClaim         string
	// PrincipalRules are ssl.principal.mapping.rules.
	PrincipalRules string

	// Settings are all of the file, resolved: what clientconfig makes the worker's
	// own clients of, and the prefixes (producer., consumer., admin., listeners.https. …).
	Settings Settings
	// Values are the typed values of WorkerDef.
	Values Values
}

// InternalTopic is one of Connect's three topics.
type InternalTopic struct {
	Name              string
	Partitions        int // when it is created; -1: the broker's default
	ReplicationFactor int // likewise
	// Settings of the topic when it is created: what the file has under the same
	// prefix. The cleanup policy is not among them; it is always compact.
	Settings map[string]string
}

// Listener is an address of the REST API.
type Listener struct {
	Scheme string // http or https
	Host   string // empty: all addresses
	Port   int    // 0: any free one
}

// Address is what net.Listen takes.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// HeaderRule adds a header to every REST answer (response.http.headers.config).
type HeaderRule struct{ Action, Name, Value string }

// Warning is something in a configuration that stops nothing.
type Warning struct {
	Key     string
	Message string
	// Unknown: no such key, most likely a mistake. Otherwise the key is known and
	// has no meaning here, which is worth no more than a line at INFO.
	Unknown bool
}

// ParseWorker reads the settings of a worker. It returns all that is wrong with
// them; with problems the worker must not start. Neither problems nor warnings hold a resolved value.
// known are further keys that are no mistake in a worker file: what clientconfig knows of Kafka's clients.
func ParseWorker(s Settings, known ...string) (Worker, []Problem, []Warning) {
	def := WorkerDef()
	warnings := workerWarnings(def, s, known)
	if replaced, warning := replaceRestPort(s); replaced != nil {
		s = replaced
		warnings = append(warnings, warning)
	}
	v, problems := def.Parse(s)
	w := Worker{
		BootstrapServers: v.List("bootstrap.servers"), GroupID: v.String("group.id"),
		ConfigTopic: internalTopic(v, s, "config", 1), OffsetTopic: internalTopic(v, s, "offset", 0), StatusTopic: internalTopic(v, s, "status", 0),
		Listeners: listeners(v.List("listeners")), AdminListeners: listeners(v.List("admin.listeners")), AdminOnListeners: v.Null("admin.listeners"),
		OffsetFlushInterval: v.Duration("offset.flush.interval.ms"), OffsetFlushTimeout: v.Duration("offset.flush.timeout.ms"),
		TaskStopTimeout: v.Duration("task.shutdown.graceful.timeout.ms"),
		Lease:           v.Duration("worker.lease.ms"), LeaseForAll: v.String("lease.enforce") == "all",
		GossipBind: v.String("gossip.bind"), GossipAdvertise: v.String("gossip.advertise"), GossipJoin: v.List("gossip.join"),
		Labels:         labels(v.List("worker.labels")),
		OverridePolicy: v.String("connector.client.config.override.policy"), OverrideAllowlist: strings.Join(v.List("connector.client.config.override.allowlist"), ","),
		AutoRestart: AutoRestart{
			Enabled: v.Bool("auto.restart.enabled"), Max: v.Int("auto.restart.max.restarts"),
			First: v.Duration("auto.restart.backoff.initial.ms"), Longest: v.Duration("auto.restart.backoff.max.ms"),
		},
		HistoryVersions:     v.Int("config.history.versions"),
		LiteralSecretPolicy: v.String("connector.secrets.literal.policy"), GapPolicy: v.String("gap.policy"),
		TopicCreation: v.Bool("topic.creation.enable"), TopicTracking: v.Bool("topic.tracking.enable"), TopicTrackingReset: v.Bool("topic.tracking.allow.reset"),
		ExactlyOnceSource: strings.ToLower(v.String("exactly.once.source.support")), RestAuthentication: v.List("rest.authentication"),
		SignatureAlgorithm: v.String("inter.worker.signature.algorithm"), SignaturesAccepted: v.List("inter.worker.verification.algorithms"),
		SessionKeyTTL: v.Duration("inter.worker.key.ttl.ms"), AllowOrigin: v.String("access.control.allow.origin"), AllowMethods: v.String("access.control.allow.methods"),
		AdvertisedHost: v.String("rest.advertised.host.name"), AdvertisedPort: v.Int("rest.advertised.port"), AdvertisedListener: strings.ToLower(v.String("rest.advertised.listener")),
		AccessRolesDir: v.String("access.roles.dir"), AuditTopic: v.String("audit.topic"), AuditRequired: v.Bool("audit.required"), AuditKey: v.Secret("audit.key"), Audited: anyKey(s, "access.roles.dir", "audit.topic", "audit.required", "audit.key"),
		BasicFile: v.String("rest.authentication.basic.file"), RestExtensions: v.List("rest.extension.classes"), LoginConfig: v.String("java.security.auth.login.config"),
		MaxRequestBytes: v.Int("rest.max.request.bytes"), MaxConnections: v.Int("rest.max.connections"), MaxConnectionsOfAddress: v.Int("rest.max.connections.per.address"),
		OIDCIssuer:   v.String("rest.authentication.oidc.issuer"),
		OIDCAudience: v.String("rest.authentication.oidc.audience"), OIDCGroupsClaim: v.String("rest.authentication.oidc.groups.claim"),
		OIDCUserClaim: v.String("rest.authentication.oidc.user.claim"), PrincipalRules: v.String("ssl.principal.mapping.rules"),
		Settings: s, Values: v,
	}
	w.ResponseHeaders, _ = parseHeaderRules(v.String("response.http.headers.config"))
	w.GossipSecrets, _ = decodeGossipSecrets(v.Secret("gossip.secret"))
	if v.IsSet("scheduled.rebalance.max.delay.ms") {
		w.RebalanceDelay = v.Duration("scheduled.rebalance.max.delay.ms")
	}
	more, warning := w.judgeGossip()
	problems = append(problems, append(more, w.judgeCombinations()...)...)
	return w, problems, append(warnings, warning...)
}

// judgeGossip keeps gossip without a secret on loopback: by itself if the file
// does not say where it listens, so that a file of Kafka's works as it is, and by refusing otherwise.
func (w *Worker) judgeGossip() ([]Problem, []Warning) {
	if len(w.GossipSecrets) > 0 || !w.Values.Null("gossip.secret") || w.Settings["gossip.secret"].Written != "" {
		return nil, nil
	}
	if !w.Values.IsSet("gossip.bind") {
		w.GossipBind = "127.0.0.1:7946"
		return nil, []Warning{{Key: "gossip.secret", Message: "without gossip.secret gossip listens on " + w.GossipBind +
			" only, so workers on other machines are found slowly, through the internal topics: set it (32 bytes, base64) and gossip.bind"}}
	}
	if host, _, err := net.SplitHostPort(w.GossipBind); err == nil && !Loopback(host) {
		return []Problem{{"gossip.secret", fmt.Sprintf("Missing required configuration \"gossip.secret\" (32 bytes in base64): gossip.bind is %s, and without it gossip stays on loopback",
			w.Values.Written("gossip.bind"))}}, nil
	}
	return nil, nil
}

// Loopback says whether a host, by its name or address, cannot be reached from another machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// judgeCombinations reports what no single key can.
func (w *Worker) judgeCombinations() []Problem {
	var problems []Problem
	v := w.Values
	if a := w.SignatureAlgorithm; a != "" && len(w.SignaturesAccepted) > 0 && !slices.Contains(w.SignaturesAccepted, a) {
		problems = append(problems, Problem{"inter.worker.signature.algorithm", v.Value("inter.worker.signature.algorithm").
			Invalid("Signature algorithm must be present in inter.worker.verification.algorithms list")})
	}
	if a := w.AdvertisedListener; a != "" && a != "http" && a != "https" {
		problems = append(problems, Problem{"rest.advertised.listener", v.Value("rest.advertised.listener").Invalid("Expected http or https")})
	}
	topics := map[string]string{}
	for _, key := range []string{"config.storage.topic", "offset.storage.topic", "status.storage.topic"} {
		name := v.String(key)
		if other := topics[name]; name != "" && other != "" {
			problems = append(problems, Problem{key, v.Value(key).Invalid("That is also the topic of " + other)})
		}
		topics[name] = key
	}
	for key, method := range map[string]string{"rest.authentication.basic.file": "basic", "rest.authentication.oidc.issuer": "oidc", "rest.authentication.oidc.audience": "oidc"} {
		if slices.Contains(w.RestAuthentication, method) && v.String(key) == "" {
			problems = append(problems, Problem{key, fmt.Sprintf("Missing required configuration %q, which rest.authentication=%s needs.", key, method)})
		}
	}
	problems = append(problems, w.judgeAccess()...)
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Key, b.Key) })
	return problems
}

// BasicAuthExtension is Kafka's extension of the REST API for basic authentication.
const BasicAuthExtension = "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension"

// judgeAccess refuses settings about who may use the REST API that would close less
// than their author believes.
func (w *Worker) judgeAccess() []Problem {
	var problems []Problem
	v := w.Values
	for _, class := range w.RestExtensions {
		if class != BasicAuthExtension && class != "BasicAuthSecurityRestExtension" {
			problems = append(problems, Problem{"rest.extension.classes", v.Value("rest.extension.classes").
				Invalid("Java classes cannot be loaded; of Kafka's extensions there is " + BasicAuthExtension + ": take the others out")})
			break
		}
	}
	none := slices.Equal(w.RestAuthentication, []string{"none"})
	if none && len(w.RestExtensions) > 0 {
		problems = append(problems, Problem{"rest.authentication", "rest.authentication=none contradicts rest.extension.classes: take one of them out"})
	}
	if w.BasicFile != "" && !none && !slices.Contains(w.RestAuthentication, "basic") {
		problems = append(problems, Problem{"rest.authentication", "rest.authentication.basic.file is set and rest.authentication does not ask for it: set it to basic"})
	}
	for i, l := range [][]Listener{w.Listeners, w.AdminListeners} {
		key := []string{"listeners", "admin.listeners"}[i]
		seen := map[string]bool{}
		for _, listener := range l {
			if a := listener.Address(); listener.Port != 0 && seen[a] {
				problems = append(problems, Problem{key, v.Value(key).Invalid("Two listeners have the same address")})
				break
			}
			seen[listener.Address()] = true
		}
	}
	if a := w.Advertised(); w.AdvertisedListener != "" && len(w.Listeners) > 0 && a.Port == 0 && !slices.ContainsFunc(w.Listeners, func(l Listener) bool { return l.Scheme == a.Scheme }) {
		problems = append(problems, Problem{"rest.advertised.listener", v.Value("rest.advertised.listener").
			Invalid("None of listeners is of that kind: add one, or say rest.advertised.port")})
	}
	return problems
}

// Advertised returns how other workers reach this one's REST API, as far as the
// file says: an empty host or port 0 is for whoever opens the listener to fill in. The choice of the
// listener is Kafka's (RestServer.determineAdvertisedProtocol).
func (w Worker) Advertised() Listener {
	scheme := w.AdvertisedListener
	if scheme == "" {
		scheme = "https"
		if slices.ContainsFunc(w.Listeners, func(l Listener) bool { return l.Scheme == "http" }) {
			scheme = "http"
		}
	}
	advertised := Listener{Scheme: scheme, Host: w.AdvertisedHost, Port: w.AdvertisedPort}
	for _, l := range w.Listeners {
		if l.Scheme == scheme {
			return Listener{Scheme: scheme, Host: cmp.Or(w.AdvertisedHost, l.Host), Port: cmp.Or(w.AdvertisedPort, l.Port)}
		}
	}
	return advertised
}

func internalTopic(v Values, s Settings, name string, partitions int) InternalTopic {
	prefix := name + ".storage."
	t := InternalTopic{Name: v.String(prefix + "topic"), ReplicationFactor: v.Int(prefix + "replication.factor"), Partitions: partitions, Settings: map[string]string{}}
	if partitions == 0 {
		t.Partitions = v.Int(prefix + "partitions")
	}
	for key, setting := range s.Sub(prefix) {
		switch key {
		case "topic", "replication.factor", "partitions", "cleanup.policy":
		default:
			t.Settings[key] = setting.Value.Reveal()
		}
	}
	return t
}

func labels(items []string) map[string]string {
	labels := make(map[string]string, len(items))
	for _, item := range items {
		name, value, _ := strings.Cut(item, "=")
		labels[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return labels
}

// listenerPattern is that of Kafka's RestServer.
var listenerPattern = regexp.MustCompile(`^(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?[0-9]+)$`)

// parseListener reads one URL of listeners; wrong is Kafka's message.
func parseListener(url string) (l Listener, wrong string) {
	m := listenerPattern.FindStringSubmatch(url)
	if m == nil || !validPort(m[3]) {
		return l, "Listener doesn't have the right format (protocol://hostname:port)."
	}
	l.Scheme, l.Host = strings.ToLower(m[1]), m[2]
	l.Port, _ = strconv.Atoi(m[3])
	if l.Scheme != "http" && l.Scheme != "https" {
		return l, `Listener protocol must be either "http" or "https".`
	}
	return l, ""
}

// listeners reads URLs that have been checked.
func listeners(urls []string) []Listener {
	var all []Listener
	for _, url := range urls {
		if l, wrong := parseListener(url); wrong == "" {
			all = append(all, l)
		}
	}
	return all
}

// parseHeaderRules reads response.http.headers.config: rules separated by
// commas, in double quotes where they hold one. wrong is Kafka's message for the first wrong one
// (RestServerConfig.validateHttpResponseHeaderConfig).
func parseHeaderRules(text string) (rules []HeaderRule, wrong string) {
	for _, rule := range splitQuoted(text) {
		action, header, ok := cutSpace(strings.TrimSpace(rule))
		if !ok {
			return nil, fmt.Sprintf("Invalid format of header config '%s'. Expected: '[action] [header name]:[header value]'", rule)
		}
		if !slices.Contains([]string{"set", "add", "setdate", "adddate"}, strings.ToLower(action)) {
			return nil, fmt.Sprintf("Invalid header config action: '%s'. Expected one of [set, add, setDate, addDate]", action)
		}
		name, value, ok := strings.Cut(header, ":")
		if !ok || value == "" || strings.Contains(value, ":") {
			return nil, fmt.Sprintf("Invalid format of header name and header value pair '%s'. Expected: '[header name]:[header value]'", header)
		}
		name = strings.TrimSpace(name)
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Sprintf("Invalid header name '%s'. The '[header name]' cannot contain whitespace", name)
		}
		rules = append(rules, HeaderRule{Action: action, Name: name, Value: strings.TrimSpace(value)})
	}
	return rules, ""
}

// cutSpace splits at the first white space.
func cutSpace(s string) (before, after string, ok bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}

// splitQuoted splits at commas outside double quotes, and takes the quotes away.
func splitQuoted(text string) []string {
	var items []string
	var item strings.Builder
	quoted := false
	for _, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			items = append(items, item.String())
			item.Reset()
		default:
			item.WriteRune(r)
		}
	}
	if item.Len() > 0 {
		items = append(items, item.String())
	}
	return items
}

// AutoRestart says when what has FAILED is restarted by itself: auto.restart.*.
type AutoRestart struct {
	Enabled        bool
	Max            int // restarts in a row; -1: no bound
	First, Longest time.Duration
}

func anyKey(s Settings, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, there := s[key]; return there })
}
