package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/connection"
	"barnabas/e2e/kafka"
	"barnabas/rest"
	"barnabas/worker"
)

// Connection defines a Kafka connection for an identity.
func (f *Fleet) Connection(name, bootstrap string, who Identity, more map[string]any) {
	f.e.t.Helper()
	config := map[string]string{"bootstrap.servers": bootstrap}
	maps.Copy(config, who.Settings(""))
	spec := map[string]any{"config": config}
	maps.Copy(spec, more)
	body, err := json.Marshal(spec)
	f.e.Must(err)
	status, answer := f.any().Ask(http.MethodPut, "/v1/connections/"+name, string(body))
	if status != http.StatusOK && status != http.StatusCreated {
		f.e.t.Fatalf("connection %s: %d %s", name, status, answer)
	}
}

func (f *Fleet) connectionUses(name string) (u rest.ConnectionUses) {
	f.e.t.Helper()
	f.e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/v1/connections/"+name+"/uses", "", http.StatusOK)), &u))
	return u
}

// A mirror names two connections, and nothing else about clusters and identities. One of them is given to another user while the mirror
// copies: its tasks go on as that, without a restart. A version that does not work is not used.
func TestAMirrorCopiesWithConnectionsAlone(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2})
	topic := e.Topic(e.Source, "orders", 2)
	e.Write([]string{topic}, 2, 500)
	first := e.User(e.Source, "ro-one", ReadTopics(topic)...)
	second := e.User(e.Source, "ro-two", ReadTopics(topic)...)
	target := e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	source, copies := e.Prefix+"/orders-ro", e.Prefix+"/orders-rw"
	f.Connection(source, e.Source.Address(Client), first, map[string]any{"hosts": []string{"127.0.0.1", "localhost"}})
	f.Connection(copies, e.Target.Address(Client), target, nil)
	name := e.Prefix + "-orders"
	c := Config{}
	for key, value := range e.Mirror(first, target, regexp.QuoteMeta(topic), 2) {
		if !strings.HasPrefix(key, "source.cluster.") && !strings.HasPrefix(key, "target.cluster.") && !strings.Contains(key, ".override.") || strings.HasSuffix(key, ".alias") {
			c[key] = value
		}
	}
	f.Create(name, c.With(map[string]string{"source.connection": source, "target.connection": copies}))
	f.Await(name, "RUNNING", 2, time.Minute)
	topics := map[string]string{topic: "src." + topic}
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	for _, path := range []string{"/connectors/" + name + "/config", "/connectors/" + name + "/tasks"} {
		if text := f.Do(http.MethodGet, path, "", http.StatusOK); strings.Contains(text, first.File) || strings.Contains(text, e.Source.Address(Client)) {
			t.Errorf("%s shows what the connection is made of: %s", path, text)
		}
	}
	if status, answer := f.any().Ask(http.MethodDelete, "/v1/connections/"+source, ""); status != http.StatusConflict || !strings.Contains(answer, name) {
		t.Errorf("a connection in use was deleted: %d %s", status, answer)
	}

	runs := func(version int64) {
		t.Helper()
		e.Until(time.Minute, fmt.Sprintf("version %d in use", version), func() string {
			u := f.connectionUses(source)
			if len(u.Uses) != 3 { // the connector and two tasks
				return fmt.Sprintf("%+v", u)
			}
			for _, use := range u.Uses {
				if use.Version != version {
					return fmt.Sprintf("%+v", use)
				}
			}
			return ""
		})
	}
	runs(1)
	running := f.lines("msg=running", "connector="+name)
	f.Connection(source, e.Source.Address(Client), second, nil)
	runs(2)
	e.Write([]string{topic}, 2, 500)
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("after the change of the user source and target differ: %s", report)
	}
	again := f.lines("msg=running", "connector="+name)
	// The first version bounded hosts, and that is nothing clients can change while they run.
	if again == running {
		t.Errorf("the change of hosts has not started anything again")
	}
	f.Connection(source, e.Source.Address(Client), first, nil)
	runs(3)
	if now := f.lines("msg=running", "connector="+name); now != again {
		t.Errorf("the change of the user alone has started %d things again", now-again)
	}

	nobody := second
	nobody.File = e.Secret("nobody.properties", "username="+second.Name+"\npassword="+e.Leak.Plant("nobody")+"\n")
	f.Connection(source, e.Source.Address(Client), nobody, nil)
	e.Until(time.Minute, "the refusal to be told", func() string {
		r := f.Replication(name)
		if r.Status != "DEGRADED" || !strings.Contains(r.Reason, "connection "+source+" version 4 (still in use: version 3)") {
			return r.Status + " " + r.Reason
		}
		return ""
	})
	e.Write([]string{topic}, 2, 500)
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("under a version that does not work source and target differ: %s", report)
	}
	f.Do(http.MethodPost, "/v1/connections/"+source+"/rollback", `{"version": 2}`, http.StatusOK)
	runs(5)
	e.Until(time.Minute, "good order again", func() string {
		if r := f.Replication(name); r.Status != "RUNNING" {
			return r.Status + " " + r.Reason
		}
		return ""
	})
	f.Pages(name)
}

func (f *Fleet) check(name string) (k worker.ConnectionCheck) {
	f.e.t.Helper()
	f.e.Must(json.Unmarshal([]byte(f.Do(http.MethodPost, "/v1/connections/"+name+"/check", "", http.StatusOK)), &k))
	return k
}

// states are what a check has found of needs, as "READ on topic a: missing".
func states(k worker.ConnectionCheck) (all []string) {
	for _, n := range k.Needs {
		all = append(all, n.Right.String()+": "+n.State)
	}
	return all
}

func failed(k worker.ConnectionCheck) (step, detail string) {
	for _, s := range k.Steps {
		if !s.OK {
			return s.Step, s.Detail
		}
	}
	return "", ""
}

// allowAll gives a user the rights that a check has printed.
func (e *Env) allowAll(b *kafka.Broker, who Identity, rights []connection.Right) {
	e.t.Helper()
	operation := map[string]kadm.ACLOperation{
		"READ": kadm.OpRead, "WRITE": kadm.OpWrite, "CREATE": kadm.OpCreate, "DESCRIBE": kadm.OpDescribe, "ALTER": kadm.OpAlter,
		"DESCRIBE_CONFIGS": kadm.OpDescribeConfigs, "ALTER_CONFIGS": kadm.OpAlterConfigs,
	}
	for _, r := range rights {
		g := kafka.Grant{Operations: []kadm.ACLOperation{operation[r.Operation]}}
		name := r.Name
		if r.Prefix {
			name += "*"
		}
		switch r.Type {
		case connection.Topic:
			g.Topic = name
		case connection.Group:
			g.Group = name
		case connection.TransactionalID:
			g.TransactionalID = name
		}
		e.Must(b.Allow(e.Context(), who.Name, g))
	}
}

// What a check says is missing, present and too much is held against a real authorizer, and a mirror runs with nothing but the
// minimal grant that it prints.
func TestACheckKnowsWhatAPrincipalMayDo(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	topic := e.Topic(e.Source, "orders", 1)
	e.Topic(e.Source, "payments", 1)
	e.Write([]string{topic}, 1, 200)
	reader, writer := e.User(e.Source, "ro"), e.User(e.Target, "rw")
	source, target := e.Prefix+"/ro", e.Prefix+"/rw"
	f.Connection(source, e.Source.Address(Client), reader, map[string]any{"scope": map[string]any{"read": []string{topic + "*"}}})
	f.Connection(target, e.Target.Address(Client), writer, map[string]any{"scope": map[string]any{"write": []string{"src." + topic}}})

	k := f.check(source)
	if k.OK || k.Principal != "User:"+reader.Name || k.Source != "operations" || strings.Join(states(k), ", ") !=
		"READ on topic "+topic+"*: unknown, DESCRIBE on topic "+topic+"*: unknown, DESCRIBE_CONFIGS on topic "+topic+"*: unknown" {
		t.Errorf("without any right: %+v", k)
	}
	// Who may describe the cluster may list ACLs.
	see := kafka.Grant{Operations: []kadm.ACLOperation{kadm.OpDescribe}}
	e.Must(e.Source.Allow(t.Context(), reader.Name, see))
	k = f.check(source)
	if k.OK || k.Source != "acls" || len(k.Needs) != 3 || strings.Count(strings.Join(states(k), " "), "missing") != 3 || len(k.Overbroad) != 0 || k.ClusterID != e.Source.ClusterID() {
		t.Errorf("without rights to topics: %+v", k)
	}
	e.allowAll(e.Source, reader, k.Grant.Rights)
	if k = f.check(source); !k.OK {
		t.Errorf("with the grant: %+v", k)
	}
	if step, detail := failed(k); step != "" {
		t.Errorf("%s failed: %s", step, detail)
	}
	e.allowAll(e.Target, writer, f.check(target).Grant.Rights)

	// The grants are all that the mirror has.
	name := e.Prefix + "-orders"
	f.Create(name, Config{
		"connector.class":      "org.apache.kafka.connect.mirror.MirrorSourceConnector",
		"source.cluster.alias": "src", "target.cluster.alias": "tgt", "source.connection": source, "target.connection": target,
		"topics": regexp.QuoteMeta(topic), "tasks.max": "1", "replication.factor": "1", "emit.offset-syncs.enabled": "false", "sync.topic.acls.enabled": "false",
		"refresh.topics.interval.seconds": "5",
	})
	f.Await(name, "RUNNING", 1, time.Minute)
	if report := e.Copied(map[string]string{topic: "src." + topic}, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	r := f.replicates(name, "RUNNING")
	if len(r.Notes) > 0 {
		t.Errorf("the mirror lacks something: %+v", r.Notes)
	}
	if got := f.delivery(name); got != "fenced" {
		t.Errorf("delivery is %s: the mirror may not use its transactional id", got)
	}
	if k = f.check(target); k.Source != "operations" || strings.Contains(strings.Join(states(k), " "), "missing") {
		t.Errorf("a target whose ACLs may not be listed: %+v", k)
	}
	e.Must(e.Target.Allow(t.Context(), writer.Name, see))
	if k = f.check(target); !k.OK {
		t.Errorf("the target with the grant: %+v", k)
	}

	// Too much, with what takes it away.
	e.Must(e.Source.Allow(t.Context(), reader.Name, kafka.Grant{Topic: e.Prefix + ".pay*", Operations: []kadm.ACLOperation{kadm.OpRead}}, kafka.Grant{Topic: topic, Operations: []kadm.ACLOperation{kadm.OpWrite}}))
	k = f.check(source)
	var over []string
	for _, o := range k.Overbroad {
		over = append(over, o.Right.String())
		if !strings.Contains(o.Remove, "--remove") || !strings.Contains(o.Remove, reader.Name) {
			t.Errorf("%s is taken away by %q", o.Right, o.Remove)
		}
	}
	if k.OK || strings.Join(over, ", ") != "WRITE on topic "+topic+", READ on topic "+e.Prefix+".pay*" {
		t.Errorf("too much: %v", over)
	}

	// What does not work at all.
	nobody := reader
	nobody.File = e.Secret("nobody.properties", "username="+reader.Name+"\npassword="+e.Leak.Plant("nobody")+"\n")
	f.Connection(e.Prefix+"/nobody", e.Source.Address(Client), nobody, nil)
	if step, detail := failed(f.check(e.Prefix + "/nobody")); step != "authenticated" || !strings.Contains(detail, "SASL_AUTHENTICATION_FAILED") {
		t.Errorf("a wrong password: %s %s", step, detail)
	}
	f.Connection(e.Prefix+"/nowhere", "127.0.0.1:1", reader, nil)
	if step, detail := failed(f.check(e.Prefix + "/nowhere")); step != "reachable" || !strings.Contains(detail, "127.0.0.1:1") {
		t.Errorf("no broker: %s %s", step, detail)
	}
	nobody.File = e.Secret("empty.properties", "username="+reader.Name+"\n")
	f.Connection(e.Prefix+"/secretless", e.Source.Address(Client), nobody, nil)
	if step, detail := failed(f.check(e.Prefix + "/secretless")); step != "references" || !strings.Contains(detail, `has no key "password"`) {
		t.Errorf("no password: %s %s", step, detail)
	}
	f.Pages(name)
}
