// Package connection describes Kafka connections: named access paths to clusters that a connector's configuration uses
// in place of addresses and credentials. It says what one may look like, keeps the versions of each, and puts
// into a configuration what the connections that it names stand for. It holds no value of a secret: settings
// name secrets by reference, and are expanded as written.
//
// Easy to get wrong: whoever may use a connection must not learn its credentials, nor have them sent anywhere else. So what
// holds a reference leaves a connection only together with the address that it belongs to (SourceKey, TargetKey), never alone.
package connection

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"barnabas/config"
)

// Settings of a connector that name a connection, as ENV/NAME. What it stands for is put below the same key
// ("source.connection.bootstrap.servers") when a client is made.
const (
	SourceKey = "source.connection"
	TargetKey = "target.connection"
	// PrefixKey is, in what a connection stands for, what consumer groups and transactional ids begin with.
	PrefixKey = "barnabas.prefix"
	// HostsKey is, in what a connection stands for, the hosts that its clients may connect to.
	HostsKey = "barnabas.allowed.hosts"
)

// Provider is the name of the references to settings of connections: ${connection:ENV/NAME:setting}.
const Provider = "connection"

// Name is what a connection is called.
type Name struct{ Env, Name string }

func (n Name) String() string { return n.Env + "/" + n.Name }

var part = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// ParseName reads ENV/NAME.
func ParseName(text string) (Name, error) {
	env, name, ok := strings.Cut(strings.TrimSpace(text), "/")
	n := Name{env, name}
	if !ok || !n.valid() {
		return Name{}, fmt.Errorf("%q names no connection: expected ENVIRONMENT/NAME, each 1 to 64 of A-Z a-z 0-9 _ . - and beginning with a letter or digit", text)
	}
	return n, nil
}

func (n Name) valid() bool { return part.MatchString(n.Env) && part.MatchString(n.Name) }

// Spec is a connection as its author writes it.
type Spec struct {
	// Config are settings of Kafka's clients, with references in place of secrets.
	Config      map[string]string `json:"config"`
	Description string            `json:"description,omitempty"`
	Owner       Owner             `json:"owner,omitzero"`
	// Labels are for people and for what sorts connections; nothing here depends on them.
	Labels map[string]string `json:"labels,omitempty"`
	Scope  Scope             `json:"scope,omitzero"`
	// Placement are the labels that a worker must have to run what uses the connection: "tier=pci,zone=a".
	Placement string `json:"placement,omitempty"`
	// Hosts, unless empty, are the only ones that clients may connect to, whatever the cluster's metadata says: HOST,
	// HOST:PORT, an address, or *.DOMAIN. bootstrap.servers are not added by themselves.
	Hosts    []string `json:"hosts,omitempty"`
	Rotation Rotation `json:"rotation,omitzero"`
	Quota    Quota    `json:"quota,omitzero"`
}

// Quota is what all tasks of mirrors together may read and write under the connection; 0: no bound.
type Quota struct {
	Read  int64 `json:"read_bytes_per_second,omitempty"`
	Write int64 `json:"write_bytes_per_second,omitempty"`
}

// MinQuota is the least that a Quota may be: below it, single requests would take many seconds.
const MinQuota = 10_000

// Owner says whom to ask.
type Owner struct {
	Team     string `json:"team,omitempty"`
	Contact  string `json:"contact,omitempty"`
	Security string `json:"security,omitempty"` // who is responsible for its credentials
}

// Scope is what the connection is meant for. Patterns are names of topics with * for any part.
type Scope struct {
	Read  []string `json:"read,omitempty"`
	Write []string `json:"write,omitempty"`
	// Groups are the consumer groups and transactional ids: a prefix and *; empty: DefaultGroups.
	Groups string `json:"groups,omitempty"`
}

// DefaultGroups are the consumer groups and transactional ids of a Scope that names none.
const DefaultGroups = "k2k-*"

// Prefix is what consumer groups and transactional ids under the connection begin with.
func (s Spec) Prefix() string {
	prefix, _, _ := strings.Cut(cmp.Or(s.Scope.Groups, DefaultGroups), "*")
	return prefix
}

// Rotation says how old credentials may get.
type Rotation struct {
	MaxAgeDays int `json:"max_age_days,omitempty"` // 0: no bound
}

// Bounds of a connection: a record of the config topic holds its versions.
const (
	maxSpecBytes  = 32 << 10
	maxRecord     = 512 << 10
	maxDays       = 3650
	maxPatterns   = 256
	maxTextLength = 4096
)

// Decode reads a connection as JSON. What the REST API shows besides may stand in it and counts for nothing, except that environment
// and name have to be those of name. Other fields are errors: a mistyped "hosts" must not open every host.
func Decode(name Name, text []byte) (Spec, error) {
	var shown struct {
		Spec
		Environment, Name          *string
		Version, Created, Modified json.RawMessage
		UsedBy                     json.RawMessage `json:"used_by"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&shown); err != nil {
		return Spec{}, jsonError(err)
	}
	if d.More() {
		return Spec{}, errors.New("there is something behind the JSON object")
	}
	for _, part := range []struct {
		field string
		says  *string
		is    string
	}{{"environment", shown.Environment, name.Env}, {"name", shown.Name, name.Name}} {
		if part.says != nil && *part.says != part.is {
			return Spec{}, fmt.Errorf("its %s is %q, but %q was asked for", part.field, *part.says, part.is)
		}
	}
	return shown.Spec, nil
}

// jsonError says what is wrong without the value that is.
func jsonError(err error) error {
	text := strings.TrimPrefix(err.Error(), "json: ")
	if field, ok := strings.CutPrefix(text, "unknown field "); ok {
		name, _ := strconv.Unquote(field)
		if near := config.Nearest(name, fields); near != "" {
			return fmt.Errorf("a connection has no field %s; did you mean %q?", field, near)
		}
		return fmt.Errorf("a connection has no field %s", field)
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %q is not of the type %s", strings.TrimPrefix(wrong.Field, "Spec."), wrong.Type)
	}
	return fmt.Errorf("the connection is not JSON: %s", text)
}

var fields = []string{"config", "description", "owner", "labels", "scope", "placement", "hosts", "rotation", "team", "contact", "security", "read", "write", "groups", "max_age_days", "quota", "read_bytes_per_second", "write_bytes_per_second"}

// Problems says what is wrong with a connection, by field or key of its config. It shows no value that may be a secret.
func (s Spec) Problems() (all []config.Problem) {
	fail := func(key, format string, args ...any) {
		all = append(all, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if strings.TrimSpace(s.Config["bootstrap.servers"]) == "" {
		fail("bootstrap.servers", "is missing")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config)) {
		switch value := s.Config[key]; {
		case config.LiteralSecret(key, value, false):
			fail(key, "holds a secret that is written out: a connection names secrets by reference, like ${file:/path:key}")
		case refersTo(value, Provider):
			fail(key, "refers to another connection, which is not possible")
		case strings.HasPrefix(key, "barnabas."):
			fail(key, "is no setting of a client")
		case key == "bootstrap.servers" && config.HasReference(value):
			// Tables and errors show it, and hosts are judged by it.
			fail(key, "is written out, not referred to: it is no secret")
		}
	}
	for key, value := range map[string]string{
		"description": s.Description, "owner.team": s.Owner.Team, "owner.contact": s.Owner.Contact, "owner.security": s.Owner.Security, "scope.groups": s.Scope.Groups,
	} {
		if len(value) > maxTextLength {
			fail(key, "is longer than %d bytes", maxTextLength)
		}
	}
	for key, patterns := range map[string][]string{"scope.read": s.Scope.Read, "scope.write": s.Scope.Write} {
		if len(patterns) > maxPatterns || slices.ContainsFunc(patterns, func(p string) bool { return !topicPattern.MatchString(p) }) {
			fail(key, "holds patterns of topics: up to %d, of letters, digits, . _ - and *", maxPatterns)
		}
	}
	if s.Scope.Groups != "" && !groupPattern.MatchString(s.Scope.Groups) {
		fail("scope.groups", "is a prefix of consumer groups and transactional ids and a *, like %s", DefaultGroups)
	}
	for key, value := range s.Labels {
		if key == "" || strings.ContainsAny(key+value, "=,\n") {
			fail("labels", "are names and values without = and ,")
			break
		}
	}
	if bad := badPlacement(s.Placement); bad != "" {
		fail("placement", "%q is no label of workers: expected key=value, or several such, separated by commas", bad)
	}
	for _, h := range s.Hosts {
		if !hostPattern.MatchString(h) {
			fail("hosts", "%q is none: expected HOST, HOST:PORT, an address, or *.DOMAIN", h)
		}
	}
	all = append(all, s.unreachable()...)
	if d := s.Rotation.MaxAgeDays; d < 0 || d > maxDays {
		fail("rotation.max_age_days", "is between 0 and %d", maxDays)
	}
	for key, rate := range map[string]int64{"quota.read_bytes_per_second": s.Quota.Read, "quota.write_bytes_per_second": s.Quota.Write} {
		if rate != 0 && rate < MinQuota {
			fail(key, "is 0 (no bound) or at least %d", MinQuota)
		}
	}
	if text, err := json.Marshal(s); err == nil && len(text) > maxSpecBytes {
		fail("config", "the connection is larger than %d bytes", maxSpecBytes)
	}
	slices.SortStableFunc(all, func(a, b config.Problem) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

var (
	topicPattern = regexp.MustCompile(`^[A-Za-z0-9._*-]{1,249}$`)
	groupPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{0,100}\*$`)
	hostPattern  = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_.-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$|^[0-9A-Fa-f]*:[0-9A-Fa-f:.]+$`)
)

func badPlacement(placement string) string {
	if placement == "" {
		return ""
	}
	for label := range strings.SplitSeq(placement, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(label), "=")
		if !ok || strings.TrimSpace(key) == "" || strings.TrimSpace(value) == "" {
			return label
		}
	}
	return ""
}

// unreachable reports bootstrap servers that Hosts leaves out.
func (s Spec) unreachable() (all []config.Problem) {
	if len(s.Hosts) == 0 {
		return nil
	}
	for server := range strings.SplitSeq(s.Config["bootstrap.servers"], ",") {
		server = strings.TrimSpace(server)
		if _, rest, ok := strings.Cut(server, "://"); ok { // SASL_SSL://host:port, as Kafka allows
			server = rest
		}
		if server != "" && !config.HasReference(server) && !Allowed(s.Hosts, server) {
			all = append(all, config.Problem{Key: "hosts", Message: fmt.Sprintf("leaves out %s of bootstrap.servers", server)})
		}
	}
	return all
}

// Allowed says whether clients may connect to address, HOST:PORT, under a list of hosts as in Spec.Hosts.
func Allowed(hosts []string, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, ""
	}
	for _, allowed := range hosts {
		name, only, err := net.SplitHostPort(allowed)
		if err != nil {
			name, only = strings.Trim(allowed, "[]"), ""
		}
		if only != "" && only != port {
			continue
		}
		domain, wild := strings.CutPrefix(strings.ToLower(name), "*")
		if strings.EqualFold(name, host) || wild && strings.HasSuffix(strings.ToLower(host), domain) && len(host) > len(domain) {
			return true
		}
		if a, b := net.ParseIP(name), net.ParseIP(host); a != nil && a.Equal(b) {
			return true
		}
	}
	return false
}

func refersTo(value, provider string) bool {
	for _, m := range config.ReferencePattern.FindAllStringSubmatch(value, -1) {
		if m[1] == provider || m[4] == provider {
			return true
		}
	}
	return false
}
