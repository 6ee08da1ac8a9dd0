package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/audit"
	"barnabas/worker"
)

// TestChangesAndDenialsAreAudited reads the trail of them.
func TestChangesAndDenialsAreAudited(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole,
		`{name: reader, users: auditor, policy: [{effect: allow, action: "audit:Read", resource: "connect:cluster:g"}]}`)
	n := c.nodes[0]
	root := n.as("root")
	if _, err := root.Create(t.Context(), "m", c.mirror(map[string]string{"topics": "none"}), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	if _, err := root.PutConfig(t.Context(), "m", c.mirror(map[string]string{"topics": "t1", "tasks.max": "1"})); err != nil {
		t.Fatal(err)
	}
	if err := n.as("eve").Pause(t.Context(), "m"); refusal(err) != 403 {
		t.Fatal(err)
	}
	if err := root.Pause(t.Context(), "none"); refusal(err) != 404 {
		t.Fatal(err)
	}
	if _, err := root.Connectors(t.Context()); err != nil {
		t.Fatal(err)
	}
	auditor := n.as("auditor")
	page, err := auditor.Audit(t.Context(), audit.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(page.Entries) {
		if e.Cluster != "g" || e.Worker != n.id || e.Address != "127.0.0.1" || e.How != "basic" || e.Request == "" || e.At.IsZero() {
			t.Errorf("%+v", e)
		}
		got = append(got, fmt.Sprint(e.User, " ", strings.TrimPrefix(e.Action, "connect:"), " ", strings.TrimPrefix(e.Resource, "connect:connector:"), " ", e.Outcome, " ", e.Status))
		if e.Action == "connect:UpdateConnectorConfig" && !slices.Equal(e.Changed, []string{"tasks.max", "topics"}) {
			t.Errorf("changed %q", e.Changed)
		}
		if e.User == "root" && e.Rule != "role root, statement 1 (allow * on *)" {
			t.Errorf("rule %q", e.Rule)
		}
	}
	want := []string{
		"root CreateConnector m attempted 0", "root CreateConnector m done 201",
		"root UpdateConnectorConfig m attempted 0", "root UpdateConnectorConfig m done 200",
		"eve PauseConnector m denied 403",
		"root PauseConnector none attempted 0", "root PauseConnector none refused 404",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	page, err = auditor.Audit(t.Context(), audit.Query{User: "eve", Action: "connect:*", Outcome: audit.Denied, Since: time.Now().Add(-time.Hour), Limit: 5})
	if err != nil || len(page.Entries) != 1 || page.Next != 0 {
		t.Errorf("%+v %v", page, err)
	}
	for after, want := range map[int64]int{1: len(want) - 2, 5: 1, 6: 0, 1000: 0} {
		if page, err = auditor.Audit(t.Context(), audit.Query{After: after}); err != nil || len(page.Entries) != want || page.Next != 0 {
			t.Errorf("after %d: %+v %v", after, page, err)
		}
	}
	report, err := auditor.VerifyAudit(t.Context(), nil)
	if err != nil || !report.Whole() || !report.Coded || report.Records != int64(len(want)) {
		t.Errorf("%+v %v", report, err)
	}
	if report, err = auditor.VerifyAudit(t.Context(), report.Head); err != nil || !report.Whole() {
		t.Errorf("%+v %v", report, err)
	}
	if report, err = auditor.VerifyAudit(t.Context(), &audit.Place{Offset: 1000, Hash: audit.Hash(nil)}); err != nil || report.Whole() {
		t.Errorf("what was cut off does not show: %+v %v", report, err)
	}
	for _, query := range []string{"since=yesterday", "before=x", "limit=0", "limit=1001", "after=x", "after=-1"} {
		if a := n.asked("auditor", "GET", "/v1/audit?"+query, ""); a.status != 400 {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

// TestOnlyWhatChangesIsAuditedAsChanged changes one thing after another.
func TestOnlyWhatChangesIsAuditedAsChanged(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole)
	n := c.nodes[0]
	with := func(text, old, next string) string {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %s", text, old)
		}
		return strings.Replace(text, old, next, 1)
	}
	spec := `{"config": {"bootstrap.servers": "` + c.bootstrap() + `", "client.id": "one"}, "owner": {"team": "t", "contact": "c"}, "scope": {"read": ["*"], "write": ["*"]}, "quota": {"read_bytes_per_second": 1000000}}`
	other := with(with(spec, `"contact": "c"`, `"contact": "d"`), `1000000`, `2000000`)
	app := `{"source": "prod/mine", "target": "prod/yours", "topics": ["none"], "state": "stopped"}`
	mirror := `{"connector.class": "MirrorSource", "source.cluster.alias": "A", "target.cluster.alias": "B", "topics": "none", "source.connection": "prod/mine", "target.connection": "prod/yours"}`
	for _, row := range []struct{ path, body, changed string }{
		{"/v1/connections/prod/mine", spec, "config.bootstrap.servers config.client.id owner.contact owner.team quota.read_bytes_per_second scope.read scope.write"},
		{"/v1/connections/prod/mine", spec, ""},
		{"/v1/connections/prod/mine", other, "owner.contact quota.read_bytes_per_second"},
		{"/v1/connections/prod/mine", with(other, `, "client.id": "one"`, ""), "config.client.id"},
		{"/v1/connections/prod/yours", spec, "config.bootstrap.servers config.client.id owner.contact owner.team quota.read_bytes_per_second scope.read scope.write"},
		{"/v1/apps/a", app, "naming.policy replicas source start state target topics"},
		{"/v1/apps/a", with(app, `["none"]`, `["none", "more"]`), "topics"},
		{"/connectors/m/config", mirror, "connector.class source.cluster.alias source.connection target.cluster.alias target.connection topics"},
		{"/connectors/m/config", with(mirror, `"none"`, `"nothing"`), "topics"},
		{"/connectors/m/pause", "", ""},
	} {
		if a := n.asked("root", "PUT", row.path, row.body); a.status >= 300 {
			t.Fatalf("%s: %d %s", row.path, a.status, a.body)
		}
		page, err := n.as("root").Audit(t.Context(), audit.Query{Limit: 1})
		if err != nil || len(page.Entries) != 1 || page.Entries[0].Outcome != audit.Done {
			t.Fatalf("%s: %+v %v", row.path, page, err)
		}
		if got := strings.Join(page.Entries[0].Changed, " "); got != row.changed {
			t.Errorf("PUT %s %s\ngot  %s\nwant %s", row.path, row.body, got, row.changed)
		}
	}
}

// TestTheTrailTellsHowReferencesChange, and nothing of what is written around them or in their place.
func TestTheTrailTellsHowReferencesChange(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 1, nil, rootRole)
	n := c.nodes[0]
	for _, row := range []struct{ value, want string }{
		{`x.PlainLoginModule required username=\"canary-user\" password=\"${file:/etc/k:one}\";`, "[{config.sasl.jaas.config [] [${file:/etc/k:one}]}]"},
		{`x.PlainLoginModule required username=\"${file:/etc/k:user}\" password=\"$<file:/etc/k:two>\";`, "[{config.sasl.jaas.config [${file:/etc/k:one}] [${file:/etc/k:user} $<file:/etc/k:two>]}]"},
		{`x.PlainLoginModule required username=\"canary\" password=\"$<file:/etc/k:two>\";`, "[{config.sasl.jaas.config [${file:/etc/k:user} $<file:/etc/k:two>] [$<file:/etc/k:two>]}]"},
		{`x.PlainLoginModule required username=\"other-canary\" password=\"$<file:/etc/k:two>\";`, "[]"},
		{`x.PlainLoginModule required username=\"u\" password=\"canary-password\";`, "[{config.sasl.jaas.config [$<file:/etc/k:two>] []}]"}, // refused
	} {
		n.asked("root", "PUT", "/v1/connections/prod/mine", `{"config": {"bootstrap.servers": "`+c.bootstrap()+`", "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": "`+row.value+`"}}`)
		page, err := n.as("root").Audit(t.Context(), audit.Query{Limit: 1})
		if err != nil || len(page.Entries) != 1 {
			t.Fatal(page, err)
		}
		if got := fmt.Sprint(page.Entries[0].References); got != row.want {
			t.Errorf("%s: %s, want %s", row.value, got, row.want)
		}
	}
	if a := n.asked("root", "GET", "/v1/audit", ""); strings.Contains(a.body, "canary") {
		t.Errorf("the trail holds a value: %s", a.body)
	}
}

// TestAForwardedChangeIsAuditedOnce asks a worker that does not lead. Who only says that it has audited something is not believed.
func TestAForwardedChangeIsAuditedOnce(t *testing.T) {
	t.Parallel()
	c := guardedCluster(t, 2, nil, rootRole)
	leader, follower := c.roles()
	if _, err := follower.as("root").Create(t.Context(), "m", c.mirror(map[string]string{"topics": "none"}), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	if err := leader.as("root").Resume(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if err := follower.as("eve").Pause(t.Context(), "m"); refusal(err) != 403 {
		t.Fatal(err)
	}
	liar, err := http.NewRequestWithContext(t.Context(), "PUT", leader.url+"/connectors/m/stop", nil)
	if err != nil {
		t.Fatal(err)
	}
	liar.SetBasicAuth("root", "root")
	for name, value := range map[string]string{headerAudited: "true", headerForwarded: "w:1", headerUser: "ann", headerClient: "192.0.2.1", headerGroups: "admins"} {
		liar.Header.Set(name, value)
	}
	if a := answered(t, liar); a.status >= 300 {
		t.Fatal(a)
	}
	page, err := leader.as("root").Audit(t.Context(), audit.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(page.Entries) {
		at := map[string]string{leader.id: "leader", follower.id: "follower"}[e.Worker]
		if e.Via != "" || e.Address != "127.0.0.1" {
			t.Errorf("%+v", e)
		}
		got = append(got, fmt.Sprint(at, " ", e.User, " ", strings.TrimPrefix(e.Action, "connect:"), " ", e.Outcome, " ", e.Status))
	}
	want := []string{
		"follower root CreateConnector attempted 0", "follower root CreateConnector done 201",
		"leader root ResumeConnector attempted 0", "leader root ResumeConnector done 202",
		"follower eve PauseConnector denied 403",
		"leader root StopConnector attempted 0", "leader root StopConnector done 204",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestACallersGroupsAreForwarded has names in them that mean something in a header.
func TestACallersGroupsAreForwarded(t *testing.T) {
	t.Parallel()
	sent := &request{groups: []string{"a,b", "ä %41", "", "x\r\ny: z"}, how: "oidc"}
	h := http.Header{}
	sent.claim(h)
	got, err := (&hop{user: "ann"}).caller(h)
	if err != nil || got.User != "ann" || got.How != "oidc" || !slices.Equal(got.Groups, sent.groups) {
		t.Errorf("%+v %v of %v", got, err, h)
	}
	for _, name := range []string{headerGroups, headerHow} {
		if _, err := (&hop{user: "ann"}).caller(http.Header{name: {"%zz"}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestWhatCannotBeAuditedIsNotDone has the broker refuse writes to the trail.
func TestWhatCannotBeAuditedIsNotDone(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{true, false} {
		t.Run(fmt.Sprint("required ", required), func(t *testing.T) {
			t.Parallel()
			c := guardedCluster(t, 1, func(o *Options) { o.AuditRequired = required }, rootRole)
			n := c.nodes[0]
			root := n.as("root")
			if _, err := root.Create(t.Context(), "m", c.mirror(nil), ""); err != nil {
				t.Fatal(err)
			}
			n.as("root").waitForRunning(t, "m")
			c.refuseWrites("_audit")
			err := root.Pause(t.Context(), "m")
			if !required {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if refusal(err) != 503 || !strings.Contains(err.Error(), "Nothing was changed, because it cannot be audited") {
				t.Fatal(err)
			}
			status, err := root.Status(t.Context(), "m")
			if err != nil || status.Connector.State != "RUNNING" {
				t.Errorf("%+v %v", status, err)
			}
		})
	}
}

func (c *Client) waitForRunning(t *testing.T, name string) {
	t.Helper()
	eventually(t, func() string {
		status, err := c.Status(t.Context(), name)
		if err != nil || status.Connector.State != "RUNNING" {
			return fmt.Sprint(status, err)
		}
		return ""
	})
}

// refuseWrites has the embedded Kafka refuse all records for a topic.
func (c *cluster) refuseWrites(topic string) {
	var id [16]byte
	if info := c.kafka.TopicInfo(topic); info != nil {
		id = info.TopicID
	}
	c.kafka.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.kafka.KeepControl()
		req := request.(*kmsg.ProduceRequest)
		if len(req.Topics) != 1 || req.Topics[0].Topic != topic && (req.Topics[0].TopicID != id || id == [16]byte{}) {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		at := kmsg.ProduceResponseTopic{Topic: req.Topics[0].Topic, TopicID: req.Topics[0].TopicID}
		for _, p := range req.Topics[0].Partitions {
			at.Partitions = append(at.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.TopicAuthorizationFailed.Code})
		}
		res.Topics = append(res.Topics, at)
		return res, nil, true
	})
}
