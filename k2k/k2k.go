// Package k2k describes replication apps: what a team owns when it copies topics from one Kafka connection to another. An app
// is compiled to plain configurations of mirror connectors, which run like any others; nothing below knows apps.
//
// Easy to get wrong: topics of an app are names with * for any part, while those of connectors are regular expressions.
package k2k

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/connection"
)

// AppKey is the setting by which a connector belongs to an app.
const AppKey = "k2k.app"

// States of an app.
const (
	Running = "running"
	Paused  = "paused"
	Stopped = "stopped"
)

// Starts that are no times: where partitions begin that the app has not copied yet.
const (
	Earliest = "earliest"
	Latest   = "latest"
	// Committed goes on where an app of this name has stopped before, and begins what it has not copied at the first record.
	Committed = "committed"
)

// Policies of Naming.
const (
	Identity = "identity" // copies have the names of their topics
	Default  = "default"  // ENV-NAME of the source connection and a point before them
	Prefix   = "prefix"   // Naming.Prefix before them
)

// Spec is an app as its author writes it.
type Spec struct {
	Source string `json:"source"` // a connection, ENV/NAME
	Target string `json:"target"`
	// Namespace is ENV/CLUSTER/NAMESPACE, for roles.
	Namespace string   `json:"namespace,omitempty"`
	Topics    []string `json:"topics"`
	Exclude   []string `json:"exclude,omitempty"`
	// Start is earliest (the default), latest, committed, or a time as in RFC 3339.
	Start    string `json:"start,omitempty"`
	Replicas int    `json:"replicas,omitempty"` // tasks; 0: 1
	Naming   Naming `json:"naming,omitzero"`
	State    string `json:"state,omitempty"` // empty: running
	// Groups are the consumer groups, with * for any part, whose offsets are carried to the target; none: none are.
	Groups []string `json:"groups,omitempty"`
	// Heartbeats writes heartbeats to the target.
	Heartbeats bool `json:"heartbeats,omitempty"`
}

// Naming says what copies are called.
type Naming struct {
	Policy string `json:"policy,omitempty"` // empty: Identity
	Prefix string `json:"prefix,omitempty"`
}

// Record is what is kept of an app.
type Record struct {
	Spec     Spec              `json:"spec"`
	Version  int64             `json:"version"`
	Created  connection.Change `json:"created"`
	Modified connection.Change `json:"modified"`
}

// Bounds of an app.
const (
	maxReplicas = 1000
	maxPatterns = 256
)

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	topicPattern  = regexp.MustCompile(`^[A-Za-z0-9._*-]{1,249}$`)
	groupPattern  = regexp.MustCompile(`^[^,\s]{1,249}$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	spacePattern  = regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)
)

// CheckName says what is wrong with the name of an app.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return errors.New("the name of an app is 1 to 100 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
	}
	return nil
}

// Decode reads an app as JSON, with its defaults. What the REST API shows besides counts for nothing, except that the name has to be
// the one that is asked for. Other fields are errors.
func Decode(name string, text []byte) (Spec, error) {
	var shown struct {
		Spec
		Name                                           *string
		Version, Created, Modified, Status, Connectors json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&shown); err != nil {
		return Spec{}, jsonError(err)
	}
	if d.More() {
		return Spec{}, errors.New("there is something behind the JSON object")
	}
	if shown.Name != nil && *shown.Name != name {
		return Spec{}, fmt.Errorf("its name is %q, but %q was asked for", *shown.Name, name)
	}
	return shown.Defaults(), nil
}

var fields = []string{
	"name", "source", "target", "namespace", "topics", "exclude", "start", "replicas", "naming", "state", "groups", "heartbeats", "policy", "prefix",
}

func jsonError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %q is not of the type %s", strings.TrimPrefix(wrong.Field, "Spec."), wrong.Type)
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if field, ok := strings.CutPrefix(text, "unknown field "); ok {
		name, _ := strconv.Unquote(field)
		if near := config.Nearest(name, fields); near != "" {
			return fmt.Errorf("an app has no field %s; did you mean %q?", field, near)
		}
		return fmt.Errorf("an app has no field %s", field)
	}
	return fmt.Errorf("the app is not JSON: %s", text)
}

// Defaults returns the app with all that it does not say.
func (s Spec) Defaults() Spec {
	s.Start, s.State, s.Naming.Policy = cmp.Or(s.Start, Earliest), cmp.Or(s.State, Running), cmp.Or(s.Naming.Policy, Identity)
	s.Replicas = cmp.Or(s.Replicas, 1)
	s.Source, s.Target = strings.TrimSpace(s.Source), strings.TrimSpace(s.Target)
	if s.Topics == nil {
		s.Topics = []string{}
	}
	return s
}

// Equal says whether both are the same app.
func (s Spec) Equal(o Spec) bool {
	a, _ := json.Marshal(s.Defaults())
	b, _ := json.Marshal(o.Defaults())
	return bytes.Equal(a, b)
}

// Problems says what is wrong with an app with defaults, by field.
func (s Spec) Problems() (all []config.Problem) {
	fail := func(key, format string, args ...any) {
		all = append(all, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for _, side := range [][2]string{{"source", s.Source}, {"target", s.Target}} {
		if side[1] == "" {
			fail(side[0], "is missing: the connection, as ENVIRONMENT/NAME")
		} else if _, err := connection.ParseName(side[1]); err != nil {
			fail(side[0], "%s", err)
		}
	}
	if s.Namespace != "" && !spacePattern.MatchString(s.Namespace) {
		fail("namespace", "is ENVIRONMENT/CLUSTER/NAMESPACE, not %q", s.Namespace)
	}
	if len(s.Topics) == 0 {
		fail("topics", "is empty: name topics, with * for any part")
	}
	for key, list := range map[string][]string{"topics": s.Topics, "exclude": s.Exclude} {
		if len(list) > maxPatterns || slices.ContainsFunc(list, func(p string) bool { return !topicPattern.MatchString(p) }) {
			fail(key, "are up to %d names of topics, of letters, digits, . _ - and *", maxPatterns)
		}
	}
	if len(s.Groups) > maxPatterns || slices.ContainsFunc(s.Groups, func(p string) bool { return !groupPattern.MatchString(p) }) {
		fail("groups", "are up to %d names of consumer groups, with * for any part", maxPatterns)
	}
	if _, err := position(s.Start); err != nil {
		fail("start", "%s", err)
	}
	if s.Replicas < 1 || s.Replicas > maxReplicas {
		fail("replicas", "is between 1 and %d", maxReplicas)
	}
	if !slices.Contains([]string{Running, Paused, Stopped}, s.State) {
		fail("state", "is running, paused or stopped, not %q", s.State)
	}
	switch s.Naming.Policy {
	case Identity, Default:
		if s.Naming.Prefix != "" {
			fail("naming.prefix", "counts with the policy prefix only")
		}
	case Prefix:
		if !prefixPattern.MatchString(s.Naming.Prefix) {
			fail("naming.prefix", "is 1 to 100 of A-Z a-z 0-9 . _ -")
		}
	default:
		fail("naming.policy", "is identity, default or prefix, not %q", s.Naming.Policy)
	}
	if len(s.Groups) > 0 && s.Naming.Policy == Prefix {
		fail("groups", "cannot be carried with naming.policy=prefix: their offsets are translated by the names that the other policies give")
	}
	if s.Source != "" && s.Source == s.Target && s.Naming.Policy == Identity {
		fail("target", "is the source, and naming.policy=identity would copy topics to themselves")
	}
	slices.SortStableFunc(all, func(a, b config.Problem) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// position is a Start as start.position of the connector.
func position(start string) (string, error) {
	switch start {
	case Earliest, Committed:
		return Earliest, nil
	case Latest:
		return Latest, nil
	}
	at, err := time.Parse(time.RFC3339, start)
	if err != nil {
		return "", fmt.Errorf("is earliest, latest, committed, or a time like 2027-01-31T12:00:00Z, not %q", start)
	}
	return at.UTC().Format(time.RFC3339), nil
}

// Connector is one that an app consists of.
type Connector struct {
	Name   string
	Config map[string]string
}

// excluded is what MirrorMaker leaves out unless it is told otherwise (DefaultTopicFilter).
const excluded = `mm2.*\.internal,.*\.replica,__.*`

// Compile returns the connectors of an app with defaults; the first one copies, and has the app's own name.
func Compile(name string, s Spec) []Connector {
	start, _ := position(s.Start)
	alias := strings.Replace(s.Source, "/", "-", 1)
	class := "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
	if s.Naming.Policy == Default {
		class = "org.apache.kafka.connect.mirror.DefaultReplicationPolicy"
	}
	link := func(kind string) map[string]string {
		return map[string]string{
			"connector.class": "org.apache.kafka.connect.mirror.Mirror" + kind + "Connector", AppKey: name,
			"source.cluster.alias": alias, "target.cluster.alias": strings.Replace(s.Target, "/", "-", 1),
			connection.SourceKey: s.Source, connection.TargetKey: s.Target, "replication.policy.class": class,
		}
	}
	source := link("Source")
	source["topics"], source["topics.exclude"] = patterns(s.Topics), excluded
	if len(s.Exclude) > 0 {
		source["topics.exclude"] += "," + patterns(s.Exclude)
	}
	source["tasks.max"], source["start.position"], source["replication.factor"] = strconv.Itoa(s.Replicas), start, "-1"
	source["emit.offset-syncs.enabled"], source["sync.topic.acls.enabled"] = "false", "false"
	source["heartbeats.replication.enabled"], source["refresh.topics.interval.seconds"] = "false", "30"
	if s.Naming.Policy == Prefix {
		source["transforms"], source["transforms.naming.type"] = "naming", "org.apache.kafka.connect.transforms.RegexRouter"
		source["transforms.naming.regex"], source["transforms.naming.replacement"] = "(.*)", s.Naming.Prefix+"$1"
	}
	all := []Connector{{name, source}}
	if len(s.Groups) > 0 {
		// Where offsets are translated is written at the target: a source may be read only.
		source["emit.offset-syncs.enabled"], source["offset-syncs.topic.location"], source["offset-syncs.topic.replication.factor"] = "true", "target", "-1"
		groups := link("Checkpoint")
		groups["groups"], groups["offset-syncs.topic.location"], groups["checkpoints.topic.replication.factor"] = patterns(s.Groups), "target", "-1"
		groups["sync.group.offsets.enabled"], groups["topics"], groups["topics.exclude"] = "true", source["topics"], source["topics.exclude"]
		all = append(all, Connector{name + ".groups", groups})
	}
	if s.Heartbeats {
		beats := link("Heartbeat")
		beats["heartbeats.topic.replication.factor"] = "-1"
		all = append(all, Connector{name + ".heartbeats", beats})
	}
	return all
}

// patterns are names with * as regular expressions.
func patterns(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		parts := strings.Split(name, "*")
		for j, part := range parts {
			parts[j] = regexp.QuoteMeta(part)
		}
		list[i] = strings.Join(parts, ".*")
	}
	return strings.Join(list, ",")
}

// Put returns the record with spec, and whether it has changed; present is nil if there is none yet.
func Put(present *Record, spec Spec, by connection.Change) (Record, bool) {
	if present == nil {
		return Record{Spec: spec, Version: 1, Created: by, Modified: by}, true
	}
	if reflect.DeepEqual(present.Spec, spec) || present.Spec.Equal(spec) {
		return *present, false
	}
	next := *present
	next.Spec, next.Modified = spec, by
	next.Version++
	return next, true
}
