package connection

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
)

// Kinds of resources, in the words of kafka-acls.
const (
	Topic           = "topic"
	Group           = "group"
	TransactionalID = "transactional-id"
	Cluster         = "cluster"
)

// Resource is what a right is to: Kafka's ResourcePattern. The cluster has the name kafka-cluster.
type Resource struct {
	Type   string `json:"type"`
	Name   string `json:"name"`
	Prefix bool   `json:"prefixed"`
}

func (r Resource) String() string {
	name := r.Name
	if r.Prefix {
		name += "*"
	}
	return r.Type + " " + name
}

// all says whether r stands for all resources of its type.
func (r Resource) all() bool { return r.Name == "*" && !r.Prefix || r.Name == "" && r.Prefix }

// covers says whether r stands for everything that o stands for.
func (r Resource) covers(o Resource) bool {
	switch {
	case r.Type != o.Type:
		return false
	case r.all():
		return true
	case o.all():
		return false
	case r.Prefix:
		return strings.HasPrefix(o.Name, r.Name)
	}
	return !o.Prefix && r.Name == o.Name
}

// overlaps says whether there may be something that both stand for.
func (r Resource) overlaps(o Resource) bool { return r.covers(o) || o.covers(r) }

// Right is an operation on a resource, in Kafka's words: READ, DESCRIBE_CONFIGS.
type Right struct {
	Resource
	Operation string `json:"operation"`
}

func (r Right) String() string { return r.Operation + " on " + r.Resource.String() }

// Need is a right that the scope of a connection asks for.
type Need struct {
	Right
	Why string `json:"why"`
	// Wider says that Kafka has no narrower pattern for what the scope says.
	Wider bool `json:"wider,omitempty"`
}

// ops are the operations that copying needs, with what for.
type ops []struct{ operation, why string }

var (
	readOps = ops{
		{"READ", "copy its records"}, {"DESCRIBE", "see its partitions"}, {"DESCRIBE_CONFIGS", "copy its settings"},
	}
	writeOps = ops{
		{"WRITE", "write copies"},
		{"CREATE", "create the topic"},
		{"DESCRIBE", "see its partitions"},
		{"READ", "see how far the copy is after a failure"},
		{"DESCRIBE_CONFIGS", "compare its settings"},
		{"ALTER_CONFIGS", "copy settings"},
		{"ALTER", "add partitions"},
	}
	bookOps = ops{
		{"WRITE", "keep how far copies are"},
		{"CREATE", "create the topic"},
		{"DESCRIBE", "see its partitions"},
		{"READ", "see how far copies are"},
		{"DESCRIBE_CONFIGS", "check its settings"},
	}
	groupOps = ops{{"READ", "consume, and commit offsets"}, {"DESCRIBE", "see its offsets"}}
	fenceOps = ops{{"WRITE", "shut former owners of a task out"}, {"DESCRIBE", "find its coordinator"}}
)

// books are the topics at a target that remember how far copies are.
const books = "mm2-offset-runs."

// Needs are the rights that the scope asks for, and no more: to copy from what may be read, and to what may be written.
func (s Spec) Needs() (needs []Need) {
	add := func(r Resource, wider bool, list ops) {
		for _, o := range list {
			n := Need{Right{r, o.operation}, o.why, wider}
			if !slices.ContainsFunc(needs, func(have Need) bool { return have.Right == n.Right }) {
				needs = append(needs, n)
			}
		}
	}
	for _, pattern := range s.Scope.Read {
		r, wider := resourceOf(Topic, pattern)
		add(r, wider, readOps)
	}
	groups, _ := resourceOf(Group, s.Scope.Groups)
	if s.Scope.Groups != "" && len(s.Scope.Read) > 0 {
		add(groups, false, groupOps)
	}
	for _, pattern := range s.Scope.Write {
		r, wider := resourceOf(Topic, pattern)
		add(r, wider, writeOps)
	}
	if len(s.Scope.Write) > 0 {
		add(Resource{Topic, books, true}, false, bookOps)
		fence := Resource{TransactionalID, s.Prefix(), true}
		if fence.Name == "" {
			fence = Resource{TransactionalID, "*", false}
		}
		add(fence, false, fenceOps)
	}
	return needs
}

// resourceOf is the narrowest of Kafka's patterns that stands for all that a pattern with * does.
func resourceOf(kind, pattern string) (r Resource, wider bool) {
	before, after, wild := strings.Cut(pattern, "*")
	switch {
	case !wild:
		return Resource{kind, pattern, false}, false
	case before == "":
		return Resource{kind, "*", false}, after != ""
	}
	return Resource{kind, before, true}, after != ""
}

// implied are the operations that others bring along (AclAuthorizer, StandardAuthorizer).
var implied = map[string][]string{
	"DESCRIBE":         {"READ", "WRITE", "DELETE", "ALTER"},
	"DESCRIBE_CONFIGS": {"ALTER_CONFIGS"},
}

// grants says whether who has one operation has another.
func grants(have, want string) bool {
	return have == want || have == "ALL" || slices.Contains(implied[want], have)
}

// Minimal are the needs without those that others bring along.
func Minimal(needs []Need) (least []Need) {
	for _, n := range needs {
		if !slices.ContainsFunc(needs, func(o Need) bool {
			return o.Right != n.Right && o.covers(n.Resource) && grants(o.Operation, n.Operation)
		}) {
			least = append(least, n)
		}
	}
	return least
}

// Grant is the minimal grant in the three forms in which it is asked for.
type Grant struct {
	Principal string   `json:"principal"`
	KafkaACLs []string `json:"kafka_acls"` // commands
	MSKPolicy Policy   `json:"msk_iam_policy"`
	Rights    []Right  `json:"rights"`
	// KafkaQuota is the command that sets the connection's quota as Kafka's own for the principal (KIP-13), besides that of the workers; empty
	// without a quota. To set it takes AlterConfigs on the cluster, which a connection's principal should not have.
	KafkaQuota string `json:"kafka_quota,omitempty"`
}

// NewGrant writes the minimal grant for needs, and the quota.
func NewGrant(principal, bootstrap string, needs []Need, quota Quota) Grant {
	g := Grant{Principal: principal, KafkaACLs: []string{}, Rights: []Right{}, MSKPolicy: mskPolicy(bootstrap, needs)}
	var order []Resource
	of := map[Resource][]string{}
	for _, n := range Minimal(needs) {
		g.Rights = append(g.Rights, n.Right)
		if of[n.Resource] == nil {
			order = append(order, n.Resource)
		}
		of[n.Resource] = append(of[n.Resource], n.Operation)
	}
	for _, r := range order {
		g.KafkaACLs = append(g.KafkaACLs, aclCommand("--add --allow-principal", principal, bootstrap, r, of[r]))
	}
	g.KafkaQuota = quotaCommand(principal, bootstrap, quota)
	return g
}

// quotaCommand bounds what a user may read and write in bytes per second. Kafka counts it on each broker.
func quotaCommand(principal, bootstrap string, quota Quota) string {
	var rates []string
	if quota.Read > 0 {
		rates = append(rates, fmt.Sprintf("consumer_byte_rate=%d", quota.Read))
	}
	if quota.Write > 0 {
		rates = append(rates, fmt.Sprintf("producer_byte_rate=%d", quota.Write))
	}
	if len(rates) == 0 {
		return ""
	}
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --command-config admin.properties --alter --entity-type users --entity-name %s --add-config %s",
		quoted(bootstrap), quoted(strings.TrimPrefix(principal, "User:")), strings.Join(rates, ","))
}

func aclCommand(verb, principal, bootstrap string, r Resource, operations []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kafka-acls.sh --bootstrap-server %s --command-config admin.properties %s %s", quoted(bootstrap), verb, quoted(principal))
	for _, o := range operations {
		b.WriteString(" --operation " + camel(o))
	}
	if r.Type == Cluster {
		b.WriteString(" --cluster")
		return b.String()
	}
	fmt.Fprintf(&b, " --%s %s", r.Type, quoted(r.Name))
	if r.Prefix {
		b.WriteString(" --resource-pattern-type prefixed")
	}
	return b.String()
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_.,:=/@-]+$`)

// quoted is a word of a shell.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// camel is an operation as kafka-acls writes it: DescribeConfigs.
func camel(operation string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(operation, "_") {
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

// Policy is a policy of AWS IAM.
type Policy struct {
	Version   string      `json:"Version"`
	Statement []Statement `json:"Statement"`
}

// Statement is one of a Policy.
type Statement struct {
	Effect   string   `json:"Effect"`
	Action   []string `json:"Action"`
	Resource []string `json:"Resource"`
}

// mskActions are the actions of Amazon MSK for Kafka's operations.
var mskActions = map[string]map[string][]string{
	Topic: {
		"READ": {"ReadData"}, "WRITE": {"WriteData"}, "CREATE": {"CreateTopic"}, "DESCRIBE": {"DescribeTopic"}, "ALTER": {"AlterTopic"},
		"DESCRIBE_CONFIGS": {"DescribeTopicDynamicConfiguration"}, "ALTER_CONFIGS": {"AlterTopicDynamicConfiguration"},
	},
	Group:           {"READ": {"AlterGroup"}, "DESCRIBE": {"DescribeGroup"}},
	TransactionalID: {"WRITE": {"AlterTransactionalId"}, "DESCRIBE": {"DescribeTransactionalId"}},
}

var mskHost = regexp.MustCompile(`^(?:b-\d+|boot-[a-z0-9]+)\.([a-z0-9-]+)\.[a-z0-9]+\.c\d+\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// mskPolicy is the policy for a role that connects with AWS_MSK_IAM. What an address does not tell is left to be filled in.
func mskPolicy(bootstrap string, needs []Need) Policy {
	region, cluster := "<REGION>", "<CLUSTER>"
	for server := range strings.SplitSeq(bootstrap, ",") {
		host, _, err := net.SplitHostPort(strings.TrimSpace(server))
		if m := mskHost.FindStringSubmatch(host); err == nil && m != nil {
			cluster, region = m[1], m[2]
			break
		}
	}
	arn := func(kind, name string) string {
		text := "arn:aws:kafka:" + region + ":<ACCOUNT>:" + kind + "/" + cluster + "/<CLUSTER-UUID>"
		if name != "" {
			text += "/" + name
		}
		return text
	}
	own := []string{"kafka-cluster:Connect", "kafka-cluster:DescribeCluster"}
	if slices.ContainsFunc(needs, func(n Need) bool { return n.Operation == "WRITE" && n.Type == Topic }) {
		own = append(own, "kafka-cluster:WriteDataIdempotently")
	}
	p := Policy{Version: "2012-10-17", Statement: []Statement{{"Allow", own, []string{arn(Cluster, "")}}}}
	for _, n := range needs { // actions of MSK do not imply one another
		name := n.Name
		if n.Prefix {
			name += "*"
		}
		at := arn(n.Type, name)
		i := slices.IndexFunc(p.Statement, func(s Statement) bool { return s.Resource[0] == at })
		if i < 0 {
			p.Statement = append(p.Statement, Statement{"Allow", []string{}, []string{at}})
			i = len(p.Statement) - 1
		}
		for _, action := range mskActions[n.Type][n.Operation] {
			p.Statement[i].Action = append(p.Statement[i].Action, "kafka-cluster:"+action)
		}
	}
	return p
}
