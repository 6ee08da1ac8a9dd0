package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/e2e/kafka"
)

// acl is an ACL of a topic as it stands in vectors.
type acl struct {
	Pattern, Principal, Host, Operation, Permission string
}

// acls are the ACLs of topics called name, in whatever pattern.
func (e *Env) acls(b *kafka.Broker, name string) (list []acl) {
	e.t.Helper()
	client, err := b.Client()
	e.Must(err)
	defer client.Close()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourceName, req.ResourcePatternType = kmsg.ACLResourceTypeTopic, &name, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(e.Context(), client)
	e.Must(err)
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			list = append(list, acl{r.ResourcePatternType.String(), strings.TrimPrefix(a.Principal, "User:"+e.Prefix+"-"), a.Host, a.Operation.String(), a.PermissionType.String()})
		}
	}
	slices.SortFunc(list, func(a, b acl) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

// grant writes an ACL of a topic for a user of the test; take takes it back.
func (e *Env) grant(b *kafka.Broker, topic string, a acl) {
	e.t.Helper()
	client, err := b.Client()
	e.Must(err)
	defer client.Close()
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.Principal, c.Host = kmsg.ACLResourceTypeTopic, topic, "User:"+e.Prefix+"-"+a.Principal, a.Host
	c.ResourcePatternType, err = kmsg.ParseACLResourcePatternType(a.Pattern)
	e.Must(err)
	c.Operation, err = kmsg.ParseACLOperation(a.Operation)
	e.Must(err)
	c.PermissionType, err = kmsg.ParseACLPermissionType(a.Permission)
	e.Must(err)
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, c)
	resp, err := req.RequestWith(e.Context(), client)
	e.Must(err)
	if code := resp.Results[0].ErrorCode; code != 0 {
		e.t.Fatalf("grant %v: error %d", a, code)
	}
}

func (e *Env) take(b *kafka.Broker, topic string, principal string) {
	e.t.Helper()
	client, err := b.Client()
	e.Must(err)
	defer client.Close()
	f := kmsg.NewDeleteACLsRequestFilter()
	user := "User:" + e.Prefix + "-" + principal
	f.ResourceType, f.ResourceName, f.Principal = kmsg.ACLResourceTypeTopic, &topic, &user
	f.ResourcePatternType, f.Operation, f.PermissionType = kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	req := kmsg.NewPtrDeleteACLsRequest()
	req.Filters = append(req.Filters, f)
	resp, err := req.RequestWith(e.Context(), client)
	e.Must(err)
	if len(resp.Results[0].MatchingACLs) == 0 {
		e.t.Fatalf("%s has no ACL of %s", topic, user)
	}
}

// settings are those that are set on a topic itself, and its partitions.
func (e *Env) settings(b *kafka.Broker, topic string) (set map[string]string) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	all, err := admin.DescribeTopicConfigs(e.Context(), topic)
	e.Must(err)
	if all[0].Err != nil {
		return map[string]string{"error": all[0].Err.Error()}
	}
	set = map[string]string{}
	for _, c := range all[0].Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig && c.Value != nil {
			set[c.Key] = *c.Value
		}
	}
	details, err := admin.ListTopics(e.Context(), topic)
	e.Must(err)
	set["partitions"] = fmt.Sprint(len(details[topic].Partitions))
	return set
}

// set changes settings of a topic: NAME=VALUE, or NAME alone to reset it.
func (e *Env) set(b *kafka.Broker, topic string, changes ...string) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	var list []kadm.AlterConfig
	for _, c := range changes {
		name, value, sets := strings.Cut(c, "=")
		alter := kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name}
		if sets {
			alter = kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
		}
		list = append(list, alter)
	}
	answer, err := admin.AlterTopicConfigs(e.Context(), list, topic)
	e.Must(err)
	e.Must(answer[0].Err)
}

// rows are all ACLs that a topic can have at the source in the differential test.
func rows() (all []acl) {
	for _, permission := range []string{"ALLOW", "DENY"} {
		for _, operation := range []string{"ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"} {
			user := strings.ToLower(permission + "-" + operation)
			all = append(all, acl{"LITERAL", user, "*", operation, permission}, acl{"PREFIXED", user + "-prefix", "10.0.0.1", operation, permission})
		}
	}
	return append(all, acl{"LITERAL", "host", "10.0.0.1", "READ", "ALLOW"}, acl{"LITERAL", "both", "*", "ALL", "ALLOW"}, acl{"LITERAL", "both", "*", "READ", "ALLOW"})
}

// twins are MirrorMaker 2 and Barnabas with a connector each, that copy the same topics of the
// source to names of their own on the target: java.TOPIC and ours.TOPIC.
type twins struct {
	e       *Env
	java    *kafka.Connect
	fleet   *Fleet
	configs map[string]Config // by alias
}

func (e *Env) twins(config Config) *twins {
	e.t.Helper()
	dir := filepath.Join(e.Dir, "connect")
	e.Must(os.Mkdir(dir, 0o700))
	java, err := kafka.StartConnect(e.Context(), kafka.ConnectSpec{
		Name: "java", Dir: dir, Properties: map[string]string{"bootstrap.servers": e.Hub.Bootstrap(), "group.id": e.Prefix + "-java", "offset.flush.interval.ms": "1000"},
	})
	e.Must(err)
	e.t.Cleanup(java.Process().Kill)
	p := &twins{e: e, java: java, fleet: e.Fleet(FleetOptions{Size: 1}), configs: map[string]Config{}}
	reader := e.User(e.Source, "source", ReadTopics(e.Prefix+".*")...)
	writer := e.User(e.Target, "target", append(WriteTopics("ours."+e.Prefix+".*"), kafka.Grant{Operations: []kadm.ACLOperation{kadm.OpAlter}})...)
	p.configs["ours"] = e.Mirror(reader, writer, e.Prefix+`\..*`, 1).With(config).With(map[string]string{"source.cluster.alias": "ours"})
	p.configs["java"] = Config{
		"connector.class":      "org.apache.kafka.connect.mirror.MirrorSourceConnector",
		"source.cluster.alias": "java", "target.cluster.alias": "tgt", "topics": e.Prefix + `\..*`, "tasks.max": "1", "replication.factor": "1",
		"source.cluster.bootstrap.servers": e.Source.Bootstrap(), "target.cluster.bootstrap.servers": e.Target.Bootstrap(),
		"producer.override.bootstrap.servers": e.Target.Bootstrap(), "emit.offset-syncs.enabled": "false", "refresh.topics.interval.seconds": "1",
	}.With(config)
	p.put(nil)
	return p
}

// put gives both their configuration, with more settings.
func (p *twins) put(more map[string]string) {
	e := p.e
	e.t.Helper()
	p.fleet.Do(http.MethodPut, "/connectors/"+e.Prefix+"-sync/config", p.configs["ours"].With(more).JSON(), map[bool]int{true: http.StatusCreated, false: http.StatusOK}[more == nil])
	status, answer, err := e.ask(e.Context(), http.MethodPut, p.java.URL()+"/connectors/"+e.Prefix+"-sync/config", p.configs["java"].With(more).JSON())
	e.Must(err)
	if status/100 != 2 {
		e.t.Fatalf("MirrorMaker: %d %s", status, answer)
	}
}

// same waits until a condition holds for the copies of both, and their settings are equal.
func (p *twins) same(topic, what string, holds func(set map[string]string) bool) {
	e := p.e
	e.t.Helper()
	e.Until(time.Minute, what, func() string {
		java, ours := e.settings(e.Target, "java."+topic), e.settings(e.Target, "ours."+topic)
		if holds(java) && holds(ours) {
			return cmp.Diff(java, ours)
		}
		return fmt.Sprintf("MirrorMaker's copy has %v, ours %v", java, ours)
	})
}

// TestSettingsAndACLsFareAsWithMirrorMaker runs MirrorMaker 2 and Barnabas on the same clusters and compares the settings and ACLs of
// their copies. The differences that are meant:
//   - an ACL that Barnabas has written is removed when it goes at the source; MirrorMaker's stays;
//   - a setting that the target refuses is left out alone; MirrorMaker then gives the topic no setting at all;
//   - a new topic is there within a second or so, whatever refresh.topics.interval.seconds says.
func TestSettingsAndACLsFareAsWithMirrorMaker(t *testing.T) {
	t.Parallel()
	e := New(t, 5*time.Minute)
	topic := e.Topic(e.Source, "orders", 2, "cleanup.policy", "compact,delete", "retention.ms", "123456789", "min.insync.replicas", "1",
		"message.timestamp.type", "LogAppendTime", "compression.type", "zstd", "max.message.bytes", "2000000", "unclean.leader.election.enable", "true")
	for _, a := range rows() {
		e.grant(e.Source, topic, a)
	}
	absent := e.Prefix + ".absent"
	e.grant(e.Source, absent, acl{"LITERAL", "reader", "*", "READ", "ALLOW"})
	p := e.twins(Config{
		"sync.topic.configs.interval.seconds": "1", "sync.topic.acls.interval.seconds": "1", "refresh.topics.interval.seconds": "1", "sync.topic.acls.enabled": "true",
	})

	has := func(key, value string) func(map[string]string) bool {
		return func(set map[string]string) bool { return set["error"] == "" && set[key] == value }
	}
	p.same(topic, "creation", has("partitions", "2"))
	e.set(e.Source, topic, "retention.ms=222222222", "compression.type", "segment.bytes=1048576")
	p.same(topic, "a change, a reset and a new setting", has("segment.bytes", "1048576"))
	for _, alias := range []string{"java.", "ours."} {
		e.set(e.Target, alias+topic, "min.insync.replicas=1", "delete.retention.ms=5555")
	}
	p.same(topic, "what only the target has is reset, what is excluded stays", func(set map[string]string) bool {
		return set["delete.retention.ms"] == "" && set["min.insync.replicas"] == "1"
	})
	p.sameACLs(topic, absent)

	admin, err := e.Source.Admin()
	e.Must(err)
	defer admin.Close()
	_, err = admin.UpdatePartitions(e.Context(), 5, topic)
	e.Must(err)
	p.same(topic, "growth", has("partitions", "5"))

	p.put(map[string]string{"use.defaults.from": "source", "config.properties.exclude": `retention\..*,min.insync.replicas`})
	e.set(e.Source, topic, "retention.ms=333333333", "cleanup.policy")
	p.same(topic, "defaults of the source", func(set map[string]string) bool {
		return set["cleanup.policy"] == "delete" && set["retention.ms"] == "222222222" && set["message.timestamp.type"] == "LogAppendTime"
	})
	p.taken(topic)
}

// sameACLs waits for the ACLs of the copies and compares them with each other, and with what was recorded.
func (p *twins) sameACLs(topic, absent string) {
	e := p.e
	e.t.Helper()
	var java []acl
	e.Until(time.Minute, "ACLs", func() string {
		if len(e.acls(e.Target, "java."+absent)) == 0 {
			return "MirrorMaker has not written them"
		}
		java = e.acls(e.Target, "java."+topic)
		return cmp.Diff(java, e.acls(e.Target, "ours."+topic)) + cmp.Diff(e.acls(e.Target, "java."+absent), e.acls(e.Target, "ours."+absent))
	})
	root, err := kafka.Root()
	e.Must(err)
	file := filepath.Join(root, "connector", "mirror", "testdata", "acls.json")
	recorded := map[string][]acl{"source": rows(), "copy": java}
	if os.Getenv("RECORD") != "" {
		text, err := json.MarshalIndent(recorded, "", " ")
		e.Must(err)
		e.Must(os.WriteFile(file, append(text, '\n'), 0o600))
	}
	text, err := os.ReadFile(file)
	e.Must(err)
	var before map[string][]acl
	e.Must(json.Unmarshal(text, &before))
	if diff := cmp.Diff(before, recorded); diff != "" {
		e.t.Errorf("MirrorMaker answers otherwise than recorded (-recorded +now); RECORD=1 writes it anew:\n%s", diff)
	}
}

// taken takes ACLs back at the source.
func (p *twins) taken(topic string) {
	e := p.e
	e.t.Helper()
	byHand := acl{"LITERAL", "by-hand", "*", "READ", "ALLOW"}
	for _, alias := range []string{"java.", "ours."} {
		e.grant(e.Target, alias+topic, byHand)
	}
	before := e.acls(e.Target, "java."+topic)
	e.take(e.Source, topic, "allow-read")
	e.take(e.Source, topic, "deny-all")
	gone := func(a acl) bool { return a.Principal == "allow-read" || a.Principal == "deny-all" }
	want := slices.DeleteFunc(slices.Clone(before), gone)
	e.Until(30*time.Second, "ours go with their source", func() string { return cmp.Diff(want, e.acls(e.Target, "ours."+topic)) })
	e.grant(e.Source, topic, acl{"LITERAL", "marker", "*", "READ", "ALLOW"})
	e.Until(30*time.Second, "MirrorMaker has been round again", func() string {
		if !slices.ContainsFunc(e.acls(e.Target, "java."+topic), func(a acl) bool { return a.Principal == "marker" }) {
			return "the marker is not there"
		}
		return ""
	})
	kept := slices.DeleteFunc(e.acls(e.Target, "java."+topic), func(a acl) bool { return a.Principal == "marker" })
	if diff := cmp.Diff(before, kept); diff != "" {
		e.t.Errorf("MirrorMaker takes ACLs back: it is no difference any more:\n%s", diff)
	}
}

// TestWithoutTheRightsToSyncTheCopyRuns leaves the connector without the rights that only the syncs need.
func TestWithoutTheRightsToSyncTheCopyRuns(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	topic := e.Topic(e.Source, "orders", 1, "retention.ms", "123456789")
	e.grant(e.Source, topic, acl{"LITERAL", "reader", "*", "READ", "ALLOW"})
	grants := WriteTopics("src." + e.Prefix + ".*")
	grants[0].Operations = slices.DeleteFunc(slices.Clone(grants[0].Operations), func(o kadm.ACLOperation) bool { return o == kadm.OpAlterConfigs })
	source, target := e.User(e.Source, "source", ReadTopics(e.Prefix+".*")...), e.User(e.Target, "target", grants...)
	f := e.Fleet(FleetOptions{Size: 2})
	f.Create(e.Prefix, e.Mirror(source, target, e.Prefix+`\..*`, 1).With(map[string]string{
		"sync.topic.configs.interval.seconds": "1", "sync.topic.acls.interval.seconds": "1", "sync.topic.acls.enabled": "true",
	}))
	f.Await(e.Prefix, "RUNNING", 1, 30*time.Second)
	e.set(e.Source, topic, "retention.ms=222222222")
	var answer struct {
		Status, Reason string
		Notes          []struct{ About, Text string }
	}
	noted := func() (about []string) {
		e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/v1/replication/"+e.Prefix, "", http.StatusOK)), &answer))
		for _, n := range answer.Notes {
			about = append(about, n.About)
		}
		slices.Sort(about)
		return about
	}
	e.Until(30*time.Second, "both are noted", func() string {
		answer.Notes = nil
		return cmp.Diff([]string{"topic-acls", "topic-settings"}, noted())
	})
	if answer.Status != "DEGRADED" || !strings.Contains(answer.Reason, "Alter on the target cluster") || !strings.Contains(answer.Reason, target.Name) {
		t.Errorf("%s: %s", answer.Status, answer.Reason)
	}
	e.numbers(e.Source, topic, 0, 0, 100)
	e.Until(30*time.Second, "the records are copied", func() string {
		if n := len(e.values(e.Target, "src."+topic, 0)); n < 100 {
			return fmt.Sprint(n)
		}
		return ""
	})
	e.Must(e.Target.Allow(e.Context(), target.Name, kafka.Grant{Operations: []kadm.ACLOperation{kadm.OpAlter}},
		kafka.Grant{Topic: "src." + e.Prefix + ".*", Operations: []kadm.ACLOperation{kadm.OpAlterConfigs}}))
	e.Until(30*time.Second, "both work once they may", func() string {
		answer.Notes = nil
		return cmp.Diff([]string(nil), noted()) + cmp.Diff([]acl{{"LITERAL", "reader", "*", "READ", "ALLOW"}}, e.acls(e.Target, "src."+topic)) +
			cmp.Diff("222222222", e.settings(e.Target, "src."+topic)["retention.ms"])
	})
	if answer.Status != "RUNNING" {
		t.Errorf("%s: %s", answer.Status, answer.Reason)
	}
}

// TestTopicsGrowAndGoWhileTheyAreCopied grows one topic and deletes another under load. Tasks go on; the copy of
// the one stays exact, that of the other as it was.
func TestTopicsGrowAndGoWhileTheyAreCopied(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	grows, goes := e.Topic(e.Source, "grows", 1), e.Topic(e.Source, "goes", 2)
	source, target := e.User(e.Source, "source", ReadTopics(e.Prefix+".*")...), e.User(e.Target, "target", WriteTopics("src."+e.Prefix+".*")...)
	f := e.Fleet(FleetOptions{Size: 2})
	f.Create(e.Prefix, e.Mirror(source, target, e.Prefix+`\..*`, 2).With(map[string]string{"topic.deletion.policy": "mark", "refresh.topics.interval.seconds": "600"}))
	f.Await(e.Prefix, "RUNNING", 2, 30*time.Second)
	admin, err := e.Source.Admin()
	e.Must(err)
	defer admin.Close()
	for n := int32(1); n <= 6; n++ {
		if n > 1 {
			answer, err := admin.UpdatePartitions(e.Context(), int(n), grows)
			e.Must(err)
			e.Must(answer.Error())
		}
		for p := range n {
			e.numbers(e.Source, grows, p, int(n-1)*50, int(n)*50)
		}
		if n == 3 {
			e.numbers(e.Source, goes, 1, 0, 100)
			e.Until(30*time.Second, "what is deleted is copied before", func() string {
				return cmp.Diff(span(0, 100), e.values(e.Target, "src."+goes, 1))
			})
			answer, err := admin.DeleteTopics(e.Context(), goes)
			e.Must(err)
			e.Must(answer[goes].Err)
		}
	}
	e.Until(30*time.Second, "each partition is there, in its order", func() string {
		diff := ""
		for p := range int32(6) {
			diff += cmp.Diff(span(int(p)*50, 300), e.values(e.Target, "src."+grows, p))
		}
		return diff
	})
	e.Until(30*time.Second, "the deletion is shown", func() string {
		answer := f.Do(http.MethodGet, "/v1/replication/"+e.Prefix, "", http.StatusOK)
		if !strings.Contains(answer, `"about":"topic-deleted"`) || !strings.Contains(answer, `"status":"DEGRADED"`) {
			return answer
		}
		return ""
	})
	f.Await(e.Prefix, "RUNNING", 2, 30*time.Second)
	if diff := cmp.Diff(span(0, 100), e.values(e.Target, "src."+goes, 1)); diff != "" {
		t.Errorf("the copy of the deleted topic:\n%s", diff)
	}
	e.again(f, goes)
}

// again makes a deleted topic anew: it is no continuation of the first.
func (e *Env) again(f *Fleet, topic string) {
	e.t.Helper()
	e.Topic(e.Source, strings.TrimPrefix(topic, e.Prefix+"."), 2)
	e.numbers(e.Source, topic, 1, 500, 600)
	e.Until(30*time.Second, "the new topic is refused", func() string {
		answer := f.Do(http.MethodGet, "/v1/replication/"+e.Prefix, "", http.StatusOK)
		if !strings.Contains(answer, "was deleted and made anew") || strings.Contains(answer, `"about":"topic-deleted"`) {
			return answer
		}
		return ""
	})
	if diff := cmp.Diff(span(0, 100), e.values(e.Target, "src."+topic, 1)); diff != "" {
		e.t.Errorf("the copy has taken in the new topic:\n%s", diff)
	}
}
