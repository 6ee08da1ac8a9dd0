package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
)

// authorized is a line of Kafka's authorizer log about a topic.
var authorized = regexp.MustCompile(`Principal = User:(\S+) is (Allowed|Denied) operation = (\S+) from host = \S+ on resource = Topic:LITERAL:(\S+) for`)

// decisions are what the broker's authorizer has decided about topics, as "ann Allowed READ topic".
func (e *Env) decisions(b *kafka.Broker) map[string]bool {
	e.t.Helper()
	text, err := os.ReadFile(b.Log())
	e.Must(err)
	all := map[string]bool{}
	for _, m := range authorized.FindAllStringSubmatch(string(text), -1) {
		all[strings.Join(m[1:5], " ")] = true
	}
	return all
}

// Two connectors on one worker, each with a principal of its own and rights to its own topics, on a cluster that writes down every
// decision of its authorizer.
func TestEachConnectorActsAsItsOwnPrincipal(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	b, err := kafka.Start(e.Context(), kafka.Spec{
		Name: "audited", Dir: t.TempDir(), ACLs: true, Listeners: []kafka.Listener{{Name: Client, SASL: true}}, Loggers: map[string]string{"kafka.authorizer.logger": "DEBUG"},
	})
	e.Must(err)
	t.Cleanup(b.Kill)
	e.Source, e.Target = b, b
	f := e.Fleet(FleetOptions{Size: 1})
	topics, owner := map[string]string{}, map[string]string{}
	var who []Identity
	for _, name := range []string{"ann", "bob"} {
		topic := e.Topic(b, "orders-of-"+name, 2)
		e.Write([]string{topic}, 2, 100)
		topics[topic] = "src." + topic
		i := e.User(b, name, append(ReadTopics(topic), WriteTopics("src."+topic)...)...)
		owner[topic], owner["src."+topic] = i.Name, i.Name
		who = append(who, i)
		f.Create(e.Prefix+"-"+name, e.Mirror(i, i, regexp.QuoteMeta(topic), 1))
	}
	f.Await(e.Prefix+"-ann", "RUNNING", 1, time.Minute)
	f.Await(e.Prefix+"-bob", "RUNNING", 1, time.Minute)
	if report := e.Copied(topics, time.Minute); !report.Equal() || report.Source != 200 {
		t.Errorf("source and target differ: %s", report)
	}

	// Ann may see that there is a topic of Bob's, and no more.
	bobs := e.Prefix + ".orders-of-bob"
	e.Must(b.Allow(t.Context(), who[0].Name, kafka.Grant{Topic: bobs, Operations: []kadm.ACLOperation{kadm.OpDescribe, kadm.OpDescribeConfigs}}))
	theft := e.Mirror(who[0], who[0], regexp.QuoteMeta(bobs), 1).With(map[string]string{"source.cluster.alias": "stolen"})
	f.Create(e.Prefix+"-theft", theft)
	trace := f.failed(e.Prefix+"-theft", time.Minute)
	if !strings.Contains(strings.ToLower(trace), "authoriz") || !strings.Contains(trace, who[0].Name) {
		t.Errorf("the trace does not say that %s is not authorized:\n%s", who[0].Name, trace)
	}
	f.Await(e.Prefix+"-bob", "RUNNING", 1, time.Minute)

	all := e.decisions(b)
	for topic, name := range owner {
		operation := "READ"
		if strings.HasPrefix(topic, "src.") {
			operation = "WRITE"
		}
		if want := strings.Join([]string{name, "Allowed", operation, topic}, " "); !all[want] {
			t.Errorf("the authorizer's log has no %q", want)
		}
	}
	for decision := range all {
		part := strings.Fields(decision)
		own, known := owner[part[3]]
		if part[0] != "ANONYMOUS" && known && part[0] != own && part[1] == "Allowed" && !strings.HasPrefix(part[2], "DESCRIBE") {
			t.Errorf("somebody else's topic: %s", decision)
		}
		if part[0] != "ANONYMOUS" && part[0] != who[0].Name && part[0] != who[1].Name {
			t.Errorf("a third principal: %s", decision)
		}
	}
	if t.Failed() {
		t.Logf("decisions: %s", strings.Join(slices.Sorted(maps.Keys(all)), "\n"))
	}
}

// A connector that is pointed at the workers' internal topics reaches them with its own principal only, which has no right to them, or
// with none at all: never with the workers'.
func TestConnectorsCannotReachTheInternalTopics(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	internal := f.Group + "-config"
	see := []kafka.Grant{
		{Topic: internal, Operations: []kadm.ACLOperation{kadm.OpDescribe, kadm.OpDescribeConfigs}},
		{Operations: []kadm.ACLOperation{kadm.OpDescribe, kadm.OpIdempotentWrite}},
		{Group: "connect-" + e.Prefix + "*", Operations: []kadm.ACLOperation{kadm.OpRead, kadm.OpDescribe}},
	}
	curious := e.User(e.Hub, "curious", see...)
	target := e.User(e.Target, "rw", WriteTopics("src."+internal)...)
	// The search for secrets at the end finds this line in the internal topics, if it got there.
	file := e.Secret("lines.txt", e.Leak.Plant("line")+"\n")
	converters := map[string]string{"key.converter": stringConverter, "value.converter": stringConverter}
	source := Config{"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": file, "topic": internal}.With(converters)
	sink := Config{"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1", "file": filepath.Join(e.Dir, "stolen.txt"), "topics": internal}.With(converters)
	mirror := e.Mirror(curious, target, regexp.QuoteMeta(internal), 1).With(map[string]string{"source.cluster.bootstrap.servers": e.Hub.Address(Client)})
	f.Create(e.Prefix+"-source-of-nobody", source) // these try for ever, as Kafka's clients do
	f.Create(e.Prefix+"-sink-of-nobody", sink)
	f.Create(e.Prefix+"-mirror", mirror) // finds no topic: it leaves the internal ones out by their names, whatever its rights
	for name, c := range map[string]Config{
		"source": source.With(curious.Settings("producer.override.")),
		"sink":   sink.With(curious.Settings("consumer.override.")),
	} {
		name = e.Prefix + "-" + name
		f.Create(name, c.With(map[string]string{"auto.restart.enabled": "false"}))
		trace := ""
		e.Until(time.Minute, name+" to come to nothing", func() string {
			s, _ := f.Status(name)
			for _, task := range append([]TaskStatus{s.Connector}, s.Tasks...) {
				if task.State == "FAILED" {
					trace = task.Trace
					return ""
				}
			}
			return fmt.Sprintf("%+v", s)
		})
		if !strings.Contains(strings.ToLower(trace), "authoriz") {
			t.Errorf("%s: the trace says nothing about rights:\n%s", name, trace)
		}
	}
	if stolen, err := os.ReadFile(filepath.Join(e.Dir, "stolen.txt")); err == nil && len(stolen) > 0 {
		t.Errorf("a sink has read the internal topic: %.200s", stolen)
	}
	if s, _ := f.Status(e.Prefix + "-mirror"); len(s.Tasks) > 0 {
		t.Errorf("a mirror copies the internal topic: %+v", s)
	}
	if copies := e.ends(e.Target, slices.Values([]string{"src." + internal})); len(copies["src."+internal]) > 0 {
		t.Errorf("there is a copy of the internal topic: %v", copies)
	}
	// The worker goes on with them, as itself: what is decided now is read back.
	f.Do(http.MethodPut, "/connectors/"+e.Prefix+"-mirror/stop", "", http.StatusNoContent)
	f.Await(e.Prefix+"-mirror", "STOPPED", 0, time.Minute)
}
