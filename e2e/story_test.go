package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/e2e/kafka"
	"barnabas/evidence"
	"barnabas/rest"
)

// office are people, who log in with passwords and have roles in files.
type office struct {
	f         *Fleet
	roles     string // a directory
	htpasswd  string
	passwords map[string]string
	used      map[string]string // as the trail tells: as whom, where, by which reference, and its version
}

// staff writes the file of those who may log in.
func (o *office) staff(names ...string) {
	o.f.e.t.Helper()
	var lines strings.Builder
	for _, name := range names {
		hash, err := bcrypt.GenerateFromPassword([]byte(o.passwords[name]), bcrypt.MinCost)
		o.f.e.Must(err)
		lines.WriteString(name + ":" + string(hash) + "\n")
	}
	o.f.e.Must(os.WriteFile(o.htpasswd, []byte(lines.String()), 0o600))
}

func (o *office) role(name, text string) {
	o.f.e.t.Helper()
	o.f.e.Must(os.WriteFile(filepath.Join(o.roles, name+".yaml"), []byte("name: "+name+"\n"+text), 0o600))
}

// ask performs a request as somebody.
func (o *office) ask(who, method, path, body string) (status int, answer string) {
	e := o.f.e
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.Context(), method, o.f.any().URL()+path, strings.NewReader(body))
	e.Must(err)
	req.Header.Set("Authorization", login(who, o.passwords[who]))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	e.Must(err)
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	e.Must(err)
	e.Leak.Scan("answer", method+" "+path, text)
	return res.StatusCode, string(text)
}

// does performs what somebody may do.
func (o *office) does(who, method, path, body string) string {
	o.f.e.t.Helper()
	status, answer := o.ask(who, method, path, body)
	if status/100 != 2 {
		o.f.e.t.Fatalf("%s: %s %s: %d %s", who, method, path, status, answer)
	}
	return answer
}

// mayNot asks for what somebody may not do, and wants the missing grant named.
func (o *office) mayNot(who, method, path, body, grant string) {
	o.f.e.t.Helper()
	status, answer := o.ask(who, method, path, body)
	if status != http.StatusForbidden || !strings.Contains(answer, grant) {
		o.f.e.t.Errorf("%s: %s %s: %d %s, want 403 with %q", who, method, path, status, answer, grant)
	}
}

// held is the number of records of a topic.
func (e *Env) held(b *kafka.Broker, topic string) (n int64) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	ends, err := admin.ListEndOffsets(e.Context(), topic)
	e.Must(err)
	for _, partition := range ends[topic] {
		n += partition.Offset
	}
	return n
}

// newOffice starts workers that ask for passwords, with one role: that of the platform engineer, who may do everything.
func (e *Env) newOffice(people ...string) *office {
	e.t.Helper()
	o := &office{roles: filepath.Join(e.Dir, "roles"), htpasswd: filepath.Join(e.Dir, "htpasswd"), passwords: map[string]string{}, used: map[string]string{}}
	e.Must(os.Mkdir(o.roles, 0o700))
	for _, name := range people {
		o.passwords[name] = e.Leak.Plant("rest-" + name)
	}
	e.Client = &http.Client{Transport: as{login("platform", o.passwords["platform"]), http.DefaultTransport}}
	o.f = e.Prepare(FleetOptions{Size: 2, Properties: map[string]string{
		"rest.authentication": "basic", "rest.authentication.basic.file": o.htpasswd, "access.roles.dir": o.roles, "audit.topic": e.Prefix + "-audit",
		"audit.key":                        "${file:" + e.Secret("audit.properties", "key="+e.Leak.Plant("audit-key")+"\n") + ":key}",
		"connector.secrets.literal.policy": "deny",
	}})
	o.staff(people...)
	o.role("platform", "users: platform\npolicy: [{effect: allow, action: '*', resource: '*'}]\n")
	o.f.Start()
	return o
}

// A platform engineer defines connections and roles; a developer copies topics with them, without keys and without a way around; somebody
// on call moves offsets; the developer goes, the copy goes on; and an auditor reads of it all.
func TestTeamsServeThemselvesWithoutKeys(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	o := e.newOffice("platform", "dev", "oncall", "auditor")
	f, p := o.f, e.Prefix

	// The platform engineer: connections, their grants in Kafka, roles.
	orders := p + ".orders-*"
	first := e.Topic(e.Source, "orders-eu", 2)
	e.Write([]string{first}, 2, 300)
	reader, writer := e.User(e.Source, "ro"), e.User(e.Target, "rw")
	source, target, third := p+"/orders-ro", p+"/orders-rw", p+"/payroll-ro"
	owner := map[string]string{"team": "orders", "contact": "orders@example.com", "security": "security@example.com"}
	f.Connection(source, e.Source.Address(Client), reader, map[string]any{"scope": map[string]any{"read": []string{orders}}, "owner": owner, "rotation": map[string]int{"max_age_days": 30}})
	f.Connection(target, e.Target.Address(Client), writer, map[string]any{"scope": map[string]any{"write": []string{"copy." + orders}}, "owner": owner, "rotation": map[string]int{"max_age_days": 30}})
	f.Connection(third, e.Source.Address(Client), reader, nil)
	e.allowAll(e.Source, reader, f.check(source).Grant.Rights)
	e.allowAll(e.Target, writer, f.check(target).Grant.Rights)
	o.role("developer", fmt.Sprintf(`users: dev
policy:
  - {effect: allow, action: [k2k:CreateApp, k2k:UpdateApp, k2k:DeleteApp, k2k:GetApp, k2k:ListApps], resource: "k2k:app:%[1]s-*"}
  - {effect: allow, action: kubernetes:DeployApps, resource: "kubernetes:namespace:%[1]s/incluster/data"}
  - {effect: allow, action: environments:UseKafkaConnection, resource: ["environments:kafka-connection:%[2]s", "environments:kafka-connection:%[3]s"]}
`, p, source, target))
	// Over REST, so that it is in no file.
	o.does("platform", http.MethodPut, "/v1/roles/on-call", fmt.Sprintf(`{"users": "oncall", "policy": [{"effect": "allow", "action": ["k2k:ManageOffsets", "k2k:GetApp"], "resource": "k2k:app:%s-*"}]}`, p))
	o.role("auditor", fmt.Sprintf("users: auditor\npolicy: [{effect: allow, action: audit:Read, resource: 'connect:cluster:%s'}]\n", f.Group))

	name := p + "-orders"
	app, resource := "/v1/apps/"+name, "k2k:app:"+name
	spec := func(source string) string {
		return fmt.Sprintf(`{"source": %q, "target": %q, "namespace": %q, "topics": [%q], "replicas": 2, "naming": {"policy": "prefix", "prefix": "copy."}}`, source, target, p+"/incluster/data", orders)
	}
	for _, w := range f.Workers { // each reads the files by itself
		e.Until(time.Minute, "the roles", func() string {
			if _, answer := w.Ask(http.MethodGet, "/v1/roles", ""); !strings.Contains(answer, `"auditor"`) || !strings.Contains(answer, `"developer"`) || !strings.Contains(answer, `"on-call"`) {
				return answer
			}
			return ""
		})
	}

	// The developer.
	o.mayNot("dev", http.MethodPut, app, spec(third), "environments:UseKafkaConnection on environments:kafka-connection:"+third)
	o.does("dev", http.MethodPut, app, spec(source))
	topics := map[string]string{first: "copy." + first}
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	e.Until(time.Minute, "the developer to see the app run", func() string {
		answer := o.does("dev", http.MethodGet, app, "")
		var a rest.App
		e.Must(json.Unmarshal([]byte(answer), &a))
		if a.Status == nil || a.Status.State != "RUNNING" || a.Status.Partitions != 2 {
			return answer
		}
		if strings.Contains(answer, reader.File) || strings.Contains(answer, reader.Name) {
			t.Errorf("the app shows what its connections are made of: %s", answer)
		}
		return ""
	})
	o.mayNot("dev", http.MethodGet, "/v1/connections/"+source, "", "environments:GetKafkaConnectionDetails on environments:kafka-connection:"+source)
	o.mayNot("dev", http.MethodPut, "/v1/connections/"+source, `{"config": {}}`, "environments:UpsertKafkaConnection")
	o.mayNot("dev", http.MethodGet, "/connectors/"+name+"/config", "", "connect:GetConnectorConfig on connect:connector:"+name)
	for _, w := range []string{"", "?local=true"} {
		o.mayNot("dev", http.MethodGet, "/v1/replication/"+name+w, "", "connect:GetReplication on connect:connector:"+name)
	}
	around := Config{"connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector", "source.connection": source, "target.connection": target, "topics": ".*"}
	o.mayNot("dev", http.MethodPut, "/connectors/"+p+"-around/config", around.JSON(), "connect:CreateConnector on connect:connector:"+p+"-around")
	o.mayNot("dev", http.MethodPost, "/connectors", fmt.Sprintf(`{"name": %q, "config": %s}`, p+"-around", around.JSON()), "connect:CreateConnector")
	o.mayNot("dev", http.MethodPut, "/connectors/"+name+"/config", around.JSON(), "connect:UpdateConnectorConfig")
	o.mayNot("dev", http.MethodPatch, app+"/offsets", `{"offsets": []}`, "k2k:ManageOffsets on "+resource)
	second := e.Topic(e.Source, "orders-payment", 1)
	e.Write([]string{second}, 1, 100)
	topics[second] = "copy." + second
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("with a new topic source and target differ: %s", report)
	}

	// Whoever is on call has everything of one topic copied again, and may do nothing else.
	once := e.held(e.Source, first)
	o.does("oncall", http.MethodPatch, app+"/offsets", fmt.Sprintf(`{"offsets": [{"topic": %[1]q, "partition": 0, "offset": 0}, {"topic": %[1]q, "partition": 1, "offset": 0}]}`, first))
	e.Until(time.Minute, "a second copy", func() string {
		if n := e.held(e.Target, "copy."+first); n < 2*once {
			return fmt.Sprintf("%d records of %d", n, 2*once)
		}
		return ""
	})
	o.mayNot("oncall", http.MethodPut, app+"/pause", "", "k2k:UpdateApp on "+resource)
	o.mayNot("oncall", http.MethodPut, app, spec(source), "k2k:UpdateApp on "+resource)
	o.mayNot("oncall", http.MethodDelete, app, "", "k2k:DeleteApp on "+resource)
	o.mayNot("oncall", http.MethodPost, "/connectors/"+name+"/restart", "", "connect:RestartConnector")
	o.mayNot("oncall", http.MethodPatch, "/connectors/"+name+"/offsets", `{"offsets": []}`, "connect:AlterConnectorOffsets")
	o.mayNot("oncall", http.MethodGet, "/v1/audit", "", "audit:Read")

	// The developer goes.
	o.staff("platform", "oncall", "auditor")
	e.Must(os.Remove(filepath.Join(o.roles, "developer.yaml")))
	e.Until(time.Minute, "the developer to be gone", func() string {
		if status, answer := o.ask("dev", http.MethodGet, app, ""); status != http.StatusUnauthorized {
			return fmt.Sprint(status, answer)
		}
		return ""
	})
	e.Write([]string{second}, 1, 100)
	if report := e.Copied(map[string]string{second: "copy." + second}, time.Minute); !report.Equal() {
		t.Errorf("without the developer source and target differ: %s", report)
	}
	f.Await(name, "RUNNING", 2, time.Minute)

	o.tells("auditor", []string{
		"platform environments:UpsertKafkaConnection environments:kafka-connection:" + source + " done",
		"platform environments:UpsertKafkaConnection environments:kafka-connection:" + target + " done",
		"platform admin:ManageRoles connect:cluster:" + f.Group + " done",
		"dev environments:UseKafkaConnection environments:kafka-connection:" + third + " denied",
		"dev k2k:CreateApp " + resource + " attempted",
		"dev k2k:CreateApp " + resource + " done",
		"machine machine:Began connect:connector:" + name + " done",
		"machine machine:Fenced connect:connector:" + name + " done",
		"dev environments:GetKafkaConnectionDetails environments:kafka-connection:" + source + " denied",
		"dev connect:CreateConnector connect:connector:" + p + "-around denied",
		"dev k2k:ManageOffsets " + resource + " denied",
		"oncall k2k:ManageOffsets " + resource + " done",
		"oncall k2k:UpdateApp " + resource + " denied",
		"oncall k2k:DeleteApp " + resource + " denied",
	})
	for _, use := range []string{
		fmt.Sprintf("User:%s at %s by %s", reader.Name, e.Source.Address(Client), reader.Reference()),
		fmt.Sprintf("User:%s at %s by %s", writer.Name, e.Target.Address(Client), writer.Reference()),
	} {
		if o.used[use] == "" {
			t.Errorf("the trail does not tell that a task was %s, but %v", use, o.used)
		}
	}

	// What of all this can be proven, and what cannot.
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{f.Workers[0].URL()}, User: "platform", Password: config.NewSecret(o.passwords["platform"])})
	e.Must(err)
	facts, err := evidence.Gather(t.Context(), client, time.Now())
	e.Must(err)
	report := evidence.Judge(facts)
	e.Leak.Scan("answer", "evidence", []byte(report.Markdown()))
	unproven := []string{
		"logs of the workers hold no secret and no payload", // who keeps them is for others to say
		"connector " + name + ": topic copy.",               // what the target keeps of it, likewise
		"the copy of connector " + name + " is equal",       // barnabas verify says so
		"connector " + name + " has lost nothing",           // its offsets were moved by hand
		"connector " + name + " can be taken back",          // it has one version
	}
	for _, w := range f.Workers {
		unproven = append(unproven, "worker "+w.ID+": administration has a listener of its own")
	}
	for _, s := range report.Sections {
		for _, point := range s.Points {
			if !point.Proven && !slices.ContainsFunc(unproven, func(expected string) bool { return strings.HasPrefix(point.Claim, expected) }) {
				t.Errorf("unproven: %s", point.Claim)
			}
		}
	}
	if report.Proven < 20 {
		t.Errorf("little is proven:\n%s", report.Markdown())
	}
	t.Logf("evidence: %d points proven, %d not", report.Proven, report.Unproven)
}

// tells fails the test unless the audit trail, as somebody reads it, has these lines in this order, and its chains hold.
func (o *office) tells(who string, story []string) {
	e := o.f.e
	e.t.Helper()
	var lines []string
	for next := int64(-1); next != 0; {
		path := "/v1/audit?limit=1000"
		if next > 0 {
			path += fmt.Sprintf("&before=%d", next)
		}
		var page rest.AuditPage
		e.Must(json.Unmarshal([]byte(o.does(who, http.MethodGet, path, "")), &page))
		for _, entry := range page.Entries {
			lines = append(lines, fmt.Sprintf("%s %s %s %s", cmp.Or(entry.User, string(entry.Kind)), entry.Action, entry.Resource, entry.Outcome))
			if u := entry.Use; u != nil && entry.Action == audit.Began && u.Task >= 0 {
				for _, c := range u.Clients {
					for _, by := range c.Credentials {
						o.used[fmt.Sprintf("%s at %s by %s", c.Principal, c.Cluster, by.Reference)] = by.Version
					}
				}
			}
		}
		next = page.Next
	}
	slices.Reverse(lines)
	at := 0
	for _, want := range story {
		i := slices.Index(lines[at:], want)
		if i < 0 {
			e.t.Fatalf("the trail does not tell %q after the lines before it:\n%s", want, strings.Join(lines, "\n"))
		}
		at += i + 1
	}
	var report audit.Report
	e.Must(json.Unmarshal([]byte(o.does(who, http.MethodGet, "/v1/audit/verify", "")), &report))
	if len(report.Findings) > 0 {
		e.t.Errorf("the trail does not hold: %+v", report)
	}
}
