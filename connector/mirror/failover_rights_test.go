package mirror

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclOf is an ACL of a topic, from everywhere.
func aclOf(name, principal string, op kmsg.ACLOperation, pattern kmsg.ACLResourcePatternType) right {
	return right{kmsg.ACLResourceTypeTopic, pattern, name, principal, "*", op, kmsg.ACLPermissionTypeAllow}
}

func TestRightsThatNoSyncBringsOver(t *testing.T) {
	t.Parallel()
	const literal, prefixed = kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLResourcePatternTypePrefixed
	f := &failover{wanted: map[string]int32{"orders": 1}}
	f.s.source, f.s.policy = "A", newPolicy(policyClasses["org.apache.kafka.connect.mirror.DefaultReplicationPolicy"], ".", true, "A")
	group := right{kmsg.ACLResourceTypeGroup, literal, "billing", "User:b", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow}
	deny := aclOf("orders", "User:p", kmsg.ACLOperationWrite, literal)
	deny.permission = kmsg.ACLPermissionTypeDeny
	for name, c := range map[string]struct {
		source right
		needed bool
		target *right // that gives it
	}{
		"to write":               {aclOf("orders", "User:p", kmsg.ACLOperationWrite, literal), true, new(aclOf("A.orders", "User:p", kmsg.ACLOperationWrite, literal))},
		"all, which is to write": {aclOf("orders", "User:p", kmsg.ACLOperationAll, literal), true, new(aclOf("A.", "User:*", kmsg.ACLOperationAll, prefixed))},
		"to read is synced":      {aclOf("orders", "User:p", kmsg.ACLOperationRead, literal), false, nil},
		"a prohibition is, too":  {deny, false, nil},
		"another topic":          {aclOf("payments", "User:p", kmsg.ACLOperationWrite, literal), false, nil},
		"a prefix":               {aclOf("ord", "User:p", kmsg.ACLOperationRead, prefixed), true, new(aclOf("A.ord", "User:p", kmsg.ACLOperationRead, prefixed))},
		"a prefix of others":     {aclOf("pay", "User:p", kmsg.ACLOperationRead, prefixed), false, nil},
		"a group":                {group, true, &group},
	} {
		wanted, needed := f.needed(c.source)
		if needed != c.needed {
			t.Errorf("%s: needed %v", name, needed)
			continue
		}
		if c.target != nil && !c.target.covers(wanted) {
			t.Errorf("%s: %s does not give %s", name, c.target, wanted)
		}
		if c.needed && aclOf("A.other", "User:p", kmsg.ACLOperationAll, literal).covers(wanted) {
			t.Errorf("%s: the right to another topic gives %s", name, wanted)
		}
	}
}
