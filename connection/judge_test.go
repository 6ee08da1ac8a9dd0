package connection

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ann = "User:ann"

// acl reads "topic orders-* READ", with "!" in front for DENY, " @HOST" behind and ">WHO" for another principal.
func acl(text string) Binding {
	b := Binding{Principal: ann, Host: "*"}
	text, b.Deny = strings.CutPrefix(text, "!")
	if before, who, ok := strings.Cut(text, ">"); ok {
		text, b.Principal = before, who
	}
	if before, host, ok := strings.Cut(text, " @"); ok {
		text, b.Host = before, host
	}
	words := strings.Fields(text)
	b.Type, b.Operation = words[0], words[2]
	b.Name, b.Prefix = strings.CutSuffix(words[1], "*")
	if b.Name == "" {
		b.Name, b.Prefix = "*", false
	}
	return b
}

func acls(texts ...string) (all []Binding) {
	for _, text := range texts {
		all = append(all, acl(text))
	}
	return all
}

func TestRightsAreComparedWithTheScope(t *testing.T) {
	t.Parallel()
	orders := Spec{Scope: Scope{Read: []string{"orders-*"}}}
	for _, row := range []struct {
		name string
		spec Spec
		seen Seen
		want []string
	}{
		{
			"exactly the grant", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* READ", "topic orders-* DESCRIBE_CONFIGS")},
			[]string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS"},
		},
		{"nothing", orders, Seen{Listed: true}, []string{"missing READ", "missing DESCRIBE", "missing DESCRIBE_CONFIGS"}},
		{
			"one topic of the scope", orders,
			Seen{Listed: true, Bindings: acls("topic orders-eu READ")},
			[]string{"missing READ: only for orders-eu", "missing DESCRIBE: only for orders-eu", "missing DESCRIBE_CONFIGS"},
		},
		{
			"wider patterns and operations", orders,
			Seen{Listed: true, Bindings: acls("topic * READ", "topic ord* DESCRIBE_CONFIGS", "topic orders-* WRITE", "cluster kafka-cluster DESCRIBE", "cluster kafka-cluster ALTER")},
			[]string{
				"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS",
				"over ALTER on cluster kafka-cluster", "over READ on topic *", "over DESCRIBE_CONFIGS on topic ord*", "over WRITE on topic orders-*",
			},
		},
		{
			"all operations", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* ALL")},
			[]string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS", "over ALL on topic orders-*"},
		},
		{
			"denied", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* READ", "topic orders-* DESCRIBE_CONFIGS", "!topic orders-secret READ")},
			[]string{"missing READ: denied, which wins over what is allowed", "present DESCRIBE", "present DESCRIBE_CONFIGS"},
		},
		{
			"denied elsewhere", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* READ", "topic orders-* DESCRIBE_CONFIGS", "!topic payments READ")},
			[]string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS"},
		},
		{
			"from one host", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* READ @10.0.0.1", "topic orders-* DESCRIBE_CONFIGS")},
			[]string{"present READ: from some hosts only", "present DESCRIBE: from some hosts only", "present DESCRIBE_CONFIGS"},
		},
		{
			"by everybody's ACL", orders,
			Seen{Listed: true, Bindings: acls("topic orders-* READ>User:*", "topic orders-* DESCRIBE_CONFIGS", "topic p DESCRIBE>User:*")},
			[]string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS", "over DESCRIBE on topic p"},
		},
		{
			"a super user", orders,
			Seen{Listed: true, Cluster: []string{"ALTER", "DESCRIBE"}, Topics: map[string][]string{"orders-eu": {"READ", "DESCRIBE", "DESCRIBE_CONFIGS", "DELETE"}}},
			[]string{
				"present READ: no ACL of the principal grants it: it is a super user, or allow.everyone.if.no.acl.found is set",
				"present DESCRIBE: no ACL of the principal grants it: it is a super user, or allow.everyone.if.no.acl.found is set",
				"present DESCRIBE_CONFIGS: no ACL of the principal grants it: it is a super user, or allow.everyone.if.no.acl.found is set",
				"over ALTER on cluster kafka-cluster", "over DELETE on topic orders-eu",
			},
		},
		{
			"ACLs not to be listed", orders,
			Seen{Topics: map[string][]string{"orders-eu": {"READ", "DESCRIBE"}, "payments": {"DESCRIBE"}}},
			[]string{
				"present READ: ACLs may not be listed: what holds for topics that are there may not hold for others",
				"present DESCRIBE: ACLs may not be listed: what holds for topics that are there may not hold for others",
				"missing DESCRIBE_CONFIGS: the brokers say that it lacks for orders-eu", "over DESCRIBE on topic payments",
			},
		},
		{
			"nothing to ask about", orders,
			Seen{},
			[]string{
				"unknown READ: ACLs may not be listed, and nothing is there to ask about", "unknown DESCRIBE: ACLs may not be listed, and nothing is there to ask about",
				"unknown DESCRIBE_CONFIGS: ACLs may not be listed, and nothing is there to ask about",
			},
		},
		{"no authorizer", Spec{Scope: Scope{Read: []string{"a"}}}, Seen{Open: true}, []string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS", "over ALL on cluster kafka-cluster"}},
		{
			"groups",
			Spec{Scope: Scope{Read: []string{"a"}, Groups: "k2k-*"}},
			Seen{Listed: true, Bindings: acls("topic a READ", "topic a DESCRIBE_CONFIGS", "group k2k-* READ", "group other READ")},
			[]string{"present READ", "present DESCRIBE", "present DESCRIBE_CONFIGS", "present READ", "present DESCRIBE", "over READ on group other"},
		},
	} {
		row.seen.Principal = ann
		j := Judge(row.spec.Needs(), row.seen, "k:1")
		var got []string
		for _, f := range j.Needs {
			text := f.State + " " + f.Operation
			if f.Note != "" {
				text += ": " + f.Note
			}
			got = append(got, text)
		}
		for _, e := range j.Overbroad {
			got = append(got, "over "+e.Right.String())
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
}

// TestTheGrantIsWhatIsJudgedToBeEnough has the minimal grant judged: nothing is missing, nothing is too much, and without any one of its
// rights something is missing.
func TestTheGrantIsWhatIsJudgedToBeEnough(t *testing.T) {
	t.Parallel()
	for _, s := range []Spec{
		{Scope: Scope{Read: []string{"orders-*", "payments"}, Groups: "app-*"}},
		{Scope: Scope{Write: []string{"copy.*"}}},
		{Scope: Scope{Read: []string{"*"}, Write: []string{"*"}, Groups: "*"}},
		{Scope: Scope{Read: []string{"a*b"}}},
	} {
		needs := s.Needs()
		var all []Binding
		for _, r := range NewGrant(ann, "k:1", needs, Quota{}).Rights {
			all = append(all, Binding{Right: r, Principal: ann, Host: "*"})
		}
		missing := func(b []Binding) (n int) {
			j := Judge(needs, Seen{Principal: ann, Listed: true, Bindings: b}, "k:1")
			if len(j.Overbroad) > 0 {
				t.Errorf("%+v: the grant is too much: %v", s.Scope, j.Overbroad)
			}
			for _, f := range j.Needs {
				if f.State != Present {
					n++
				}
			}
			return n
		}
		if missing(all) > 0 {
			t.Errorf("%+v: the grant is too little", s.Scope)
		}
		for i, b := range all {
			if missing(append(append([]Binding{}, all[:i]...), all[i+1:]...)) == 0 {
				t.Errorf("%+v: %s is not needed", s.Scope, b.Right)
			}
		}
	}
}

func TestTheGrantInItsThreeForms(t *testing.T) {
	t.Parallel()
	s := Spec{Scope: Scope{Read: []string{"orders-*", "it's"}}}
	g := NewGrant("User:CN=ann,O=A B", "b-1.shop.a1b2.c3.kafka.eu-west-1.amazonaws.com:9098,other:1", s.Needs(), Quota{})
	want := []string{
		"kafka-acls.sh --bootstrap-server b-1.shop.a1b2.c3.kafka.eu-west-1.amazonaws.com:9098,other:1 --command-config admin.properties --add --allow-principal 'User:CN=ann,O=A B'" +
			" --operation Read --operation DescribeConfigs --topic orders- --resource-pattern-type prefixed",
		"kafka-acls.sh --bootstrap-server b-1.shop.a1b2.c3.kafka.eu-west-1.amazonaws.com:9098,other:1 --command-config admin.properties --add --allow-principal 'User:CN=ann,O=A B'" +
			` --operation Read --operation DescribeConfigs --topic 'it'\''s'`,
	}
	if diff := cmp.Diff(want, g.KafkaACLs); diff != "" {
		t.Error(diff)
	}
	policy, _ := json.Marshal(g.MSKPolicy)
	const arn = "arn:aws:kafka:eu-west-1:<ACCOUNT>:%s/shop/<CLUSTER-UUID>%s"
	wanted := Policy{"2012-10-17", []Statement{
		{"Allow", []string{"kafka-cluster:Connect", "kafka-cluster:DescribeCluster"}, []string{fmt.Sprintf(arn, "cluster", "")}},
		{"Allow", []string{"kafka-cluster:ReadData", "kafka-cluster:DescribeTopic", "kafka-cluster:DescribeTopicDynamicConfiguration"}, []string{fmt.Sprintf(arn, "topic", "/orders-*")}},
		{"Allow", []string{"kafka-cluster:ReadData", "kafka-cluster:DescribeTopic", "kafka-cluster:DescribeTopicDynamicConfiguration"}, []string{fmt.Sprintf(arn, "topic", "/it's")}},
	}}
	if diff := cmp.Diff(wanted, g.MSKPolicy); diff != "" {
		t.Errorf("%s\n%s", diff, policy)
	}
}

func TestTheQuotaIsACommandOfKafkas(t *testing.T) {
	t.Parallel()
	const begins = "kafka-configs.sh --bootstrap-server k:1 --command-config admin.properties --alter --entity-type users --entity-name "
	for _, row := range []struct {
		principal string
		quota     Quota
		want      string
	}{
		{"User:ann", Quota{}, ""},
		{"User:ann", Quota{Read: 5_000_000}, begins + "ann --add-config consumer_byte_rate=5000000"},
		{"User:CN=ann,O=A B", Quota{Read: 1, Write: 20_000}, begins + "'CN=ann,O=A B' --add-config consumer_byte_rate=1,producer_byte_rate=20000"},
	} {
		if got := NewGrant(row.principal, "k:1", nil, row.quota).KafkaQuota; got != row.want {
			t.Errorf("%s %+v:\n%s, want\n%s", row.principal, row.quota, got, row.want)
		}
	}
}
