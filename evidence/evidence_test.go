package evidence

import (
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/connection"
	"barnabas/rest"
	"barnabas/worker"
	"barnabas/worker/task"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// sound are the facts of a cluster about which nearly everything is proven.
func sound() Facts {
	conn := worker.Connection{Environment: "prod", Name: "orders-ro", UsedBy: []string{"orders"}}
	conn.Spec = connection.Spec{
		Config: map[string]string{"bootstrap.servers": "prod:9092"}, Owner: connection.Owner{Team: "orders", Contact: "orders@example.com"},
		Scope: connection.Scope{Read: []string{"orders-*"}}, Rotation: connection.Rotation{MaxAgeDays: 30},
	}
	return Facts{
		At: now, Workers: []worker.Member{{ID: "a:8083"}},
		Setups: []worker.Setup{{
			Cluster: "g", Worker: "a:8083", Authentication: []string{"oidc"}, Roles: true, AuditTopic: "_barnabas-audit", AuditRequired: true, AuditCodes: true,
			Literals: "deny", Kafka: worker.SetupKafka{Principal: "User:workers", BootstrapServers: "hub:9092", References: []string{"${file:/etc/w:password}"}},
			Listeners: []worker.SetupListener{
				{Address: "a:8083", Purpose: worker.ForClients, Encrypted: true},
				{Address: "127.0.0.1:8084", Purpose: worker.ForAdmins, Loopback: true},
				{Address: "0.0.0.0:7946", Purpose: worker.ForGossip, Encrypted: true},
			},
			Topics: []worker.SetupTopic{{Name: "configs", Holds: "configurations", Replication: 3, Cleanup: "compact", RetentionMs: 604800000}, {Name: "_barnabas-audit", Holds: "audit", Replication: 3, Cleanup: "delete", RetentionMs: -1}},
		}},
		References: rest.SecretReferences{References: []worker.SecretReference{{Reference: task.Reference{
			Reference: "${file:/etc/k:password}", Connector: "orders", Since: now.Add(-24 * time.Hour), State: "current",
			Clients: []task.ReferenceClient{{Role: "source consumer", Cluster: "prod:9092", Principal: "User:orders-ro"}},
		}}}},
		Connections: []worker.Connection{conn},
		Connectors:  []Connector{{Name: "orders", Type: "source", Versions: 2, Targets: []string{"copy.orders-eu"}}},
		Verified:    &audit.Report{Records: 12, Chains: 1, Head: &audit.Place{Offset: 11, Hash: "ab"}},
		Entries: []audit.Found{
			{Entry: audit.Entry{Action: "k2k:CreateApp", Outcome: audit.Attempted}},
			{Entry: audit.Entry{Action: "k2k:CreateApp", Outcome: audit.Done}},
			{Entry: audit.Entry{Action: "k2k:CreateApp", Outcome: audit.Denied}},
		},
	}
}

func unprovenOf(r Report) (claims []string) {
	for _, s := range r.Sections {
		for _, p := range s.Points {
			switch {
			case p.Proven && (p.Shown == "" || p.Step != ""), !p.Proven && (p.Step == "" || p.Shown != ""):
				claims = append(claims, "without a reason: "+p.Claim)
			case !p.Proven:
				claims = append(claims, p.Claim)
			}
		}
	}
	return claims
}

// always are the claims that no cluster can prove by itself.
var always = []string{
	"connector orders: topic copy.orders-eu holds a copy", "logs of the workers hold no secret", "the copy of connector orders is equal to its source",
}

func TestEachPointIsProvenOrSaysWhatWouldProveIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Facts)
		want   []string // beginnings of the claims that are unproven then, besides always
	}{
		"sound":               {func(*Facts) {}, nil},
		"no owner":            {func(f *Facts) { f.Connections[0].Owner.Team = "" }, []string{"User:orders-ro at prod:9092, a service account used by orders (source consumer) has an owner", "User:orders-ro has a scope"}},
		"no connection":       {func(f *Facts) { f.Connections = nil }, []string{"User:orders-ro at prod:9092, a service account", "User:orders-ro has a scope", "credentials of User:orders-ro"}},
		"too old":             {func(f *Facts) { f.At = now.Add(40 * 24 * time.Hour) }, []string{"credentials of User:orders-ro (${file:/etc/k:password}) are within"}},
		"rotation failed":     {func(f *Facts) { f.References.References[0].State = "failed" }, []string{"credentials of User:orders-ro"}},
		"a literal":           {func(f *Facts) { f.Connectors[0].Literals = []string{"sasl.jaas.config"} }, []string{"connector orders logs in by references alone", "no configuration in the config topic"}},
		"workers' literal":    {func(f *Facts) { f.Setups[0].Kafka.Literal = true }, []string{"worker a:8083 is User:workers at hub:9092"}},
		"open":                {func(f *Facts) { f.Setups[0].Listeners[0].Encrypted = false }, []string{"worker a:8083: a:8083 is for clients of the REST API"}},
		"nobody is asked":     {func(f *Facts) { f.Setups[0].Authentication = nil; f.Setups[0].Roles = false }, []string{"worker a:8083 asks callers", "worker a:8083: internal requests", "worker a:8083: roles say"}},
		"no admin listener":   {func(f *Facts) { f.Setups[0].Listeners = f.Setups[0].Listeners[:1] }, []string{"worker a:8083: administration has a listener"}},
		"topic not described": {func(f *Facts) { f.Setups[0].Topics[0].Error = "TOPIC_AUTHORIZATION_FAILED" }, []string{"internal topic configs (configurations) has a known retention"}},
		"dead letters":        {func(f *Facts) { f.Connectors[0].Config = map[string]string{"errors.deadletterqueue.topic.name": "dlq"} }, []string{"connector orders: topic dlq"}},
		"no trail":            {func(f *Facts) { f.Verified = nil; f.Setups[0].AuditTopic = "" }, []string{"worker a:8083 performs nothing", "the audit trail is whole"}},
		"a broken trail":      {func(f *Facts) { f.Verified.Findings = []audit.Finding{{}} }, []string{"the audit trail is whole: nothing was removed"}},
		"no codes":            {func(f *Facts) { f.Setups[0].AuditCodes = false }, []string{"worker a:8083 signs"}},
		"a leak":              {func(f *Facts) { f.Leaks = []string{"%x"} }, []string{"the type that holds resolved secrets"}},
		"literals pass":       {func(f *Facts) { f.Setups[0].Literals = "warn" }, []string{"worker a:8083 refuses configurations"}},
		"one version":         {func(f *Facts) { f.Connectors[0].Versions = 1 }, []string{"connector orders can be taken back"}},
		"gaps":                {func(f *Facts) { f.Connectors[0].Gaps = 3 }, []string{"connector orders has lost nothing"}},
		"a worker is silent":  {func(f *Facts) { f.Workers = append(f.Workers, worker.Member{ID: "b:8083"}) }, []string{"worker b:8083 is part of this report"}},
		"not allowed to see":  {func(f *Facts) { f.Missing = []string{"the connections are known: 403"} }, []string{"the connections are known: 403"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := sound()
			c.change(&f)
			r := Judge(f)
			got := unprovenOf(r)
			wanted := slices.Concat(c.want, always)
			for _, claim := range got {
				if !slices.ContainsFunc(wanted, func(w string) bool { return strings.HasPrefix(claim, w) }) {
					t.Errorf("unproven: %s", claim)
				}
			}
			for _, w := range wanted {
				if !slices.ContainsFunc(got, func(claim string) bool { return strings.HasPrefix(claim, w) }) {
					t.Errorf("not unproven: %s", w)
				}
			}
			if r.Unproven != len(got) {
				t.Errorf("%d unproven, counted %d", len(got), r.Unproven)
			}
		})
	}
}

func TestTheReportIsReadable(t *testing.T) {
	t.Parallel()
	f := sound()
	text := Judge(f).Markdown()
	for _, want := range []string{
		"# Evidence for cluster g\n", "- **Proven**: User:orders-ro at prod:9092, a service account used by orders (source consumer) has an owner. Shown by: its connections name orders (orders@example.com).",
		"scope. Shown by: its connections say: reads orders-\\*, writes nothing;", "barnabas secrets prove-revoked", "k2k:CreateApp: 1 denied, 1 done, each with who",
		"12 records in 1 chains verified; head 11:ab", "internal topic configs holds configurations. Shown by: described by the worker: cleanup.policy=compact, the newest record of each key is kept, 3 replicas",
		"nothing is deleted", "- **Unproven**: the copy of connector orders is equal to its source. To prove it: barnabas verify orders.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	f.Missing = []string{"<b>|`x`\n# y"}
	if text := Judge(f).Markdown(); strings.Contains(text, "<b>") && !strings.Contains(text, `\<b>\|`) || strings.Contains(text, "\n# y") {
		t.Errorf("markup of others counts:\n%s", text)
	}
}

func TestTheSelfTestFindsNothing(t *testing.T) {
	t.Parallel()
	if leaks := selfTest(); len(leaks) > 0 {
		t.Errorf("shown by %v", leaks)
	}
	if got := literals(map[string]string{"a.password": "canary", "sasl.jaas.config": "x required password=\"${file:/k:p}\";", "topics": "orders"}, map[string]config.Type{"a.password": config.Password}); !slices.Equal(got, []string{"a.password"}) {
		t.Errorf("written out: %v", got)
	}
}
