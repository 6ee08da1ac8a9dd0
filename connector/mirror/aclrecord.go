package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// ownACLs is which ACLs of the target the connector has written itself. Kafka does not keep who wrote one, and one of an
// administrator must never be removed; so it is kept among the connector's offsets.
type ownACLs struct {
	offsets connector.Offsets
	cluster string           // alias of the source
	ids     string           // of both clusters: with another cluster behind an address nothing is ours
	written map[binding]bool // known to be ours
	saved   [aclParts]string // what is stored
}

// aclParts is how many records hold the ACLs. Each has those of some topics, so that it stays below the
// megabyte that Kafka takes at its defaults with about 100,000 ACLs.
const aclParts = 16

// maxACLPart is how long one record may become.
const maxACLPart = 900_000

// aclPart is one record, in the flat form that Kafka Connect wants of offsets.
type aclPart struct {
	Clusters string `json:"clusters"`
	// ACLs are a list in JSON of those that are ours; Pending of those that were about to be written.
	ACLs    string `json:"acls"`
	Pending string `json:"pending,omitempty"`
}

// aclPartKey is the partition in Connect's sense: like that of a task, with the keys sorted and nothing that a task has.
func aclPartKey(cluster string, part int) []byte {
	alias, _ := json.Marshal(cluster) //nolint:errchkjson // a string
	return fmt.Appendf(nil, `{"acls":%d,"cluster":%s}`, part, alias)
}

// loadACLs reads the record. doubtful are ACLs that were being written when a run was killed: they may be ours or not, so
// they count as not.
func loadACLs(ctx context.Context, offsets connector.Offsets, cluster, ids string) (own *ownACLs, doubtful []binding, err error) {
	own = &ownACLs{offsets: offsets, cluster: cluster, ids: ids, written: map[binding]bool{}}
	keys := make([][]byte, aclParts)
	for i := range keys {
		keys[i] = aclPartKey(cluster, i)
	}
	values, err := offsets.Load(ctx, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("read which ACLs are the connector's: %w", err)
	}
	for i, value := range values {
		if value == nil {
			continue
		}
		own.saved[i] = string(value)
		var p aclPart
		if err := json.Unmarshal(value, &p); err != nil || p.Clusters != ids {
			continue // set by hand, or of other clusters
		}
		for _, b := range parseACLs(p.ACLs) {
			own.written[b] = true
		}
		doubtful = append(doubtful, parseACLs(p.Pending)...)
	}
	return own, doubtful, nil
}

// save stores what is ours, and what is about to be.
func (o *ownACLs) save(ctx context.Context, written map[binding]bool, pending []binding) error {
	var lists [aclParts][2][]binding
	for b := range written {
		i := partOf(b)
		lists[i][0] = append(lists[i][0], b)
	}
	for _, b := range pending {
		i := partOf(b)
		lists[i][1] = append(lists[i][1], b)
	}
	var changed []connector.Offset
	var next [aclParts]string
	for i, list := range lists {
		if len(list[0])+len(list[1]) > 0 {
			value, err := json.Marshal(aclPart{o.ids, formatACLs(list[0]), formatACLs(list[1])})
			if err != nil {
				return fmt.Errorf("remember which ACLs are the connector's: %w", err)
			}
			if len(value) > maxACLPart {
				return fmt.Errorf("%d ACLs are more than can be remembered as the connector's", len(written)+len(pending))
			}
			next[i] = string(value)
		}
		if next[i] == o.saved[i] {
			continue
		}
		offset := connector.Offset{Partition: aclPartKey(o.cluster, i)}
		if next[i] != "" {
			offset.Offset = []byte(next[i])
		}
		changed = append(changed, offset)
	}
	if len(changed) == 0 {
		return nil
	}
	if err := o.offsets.Save(ctx, changed); err != nil {
		return fmt.Errorf("remember which ACLs are the connector's: %w", err)
	}
	o.saved = next
	return nil
}

// partOf says in which record an ACL stands.
func partOf(b binding) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(b.topic))
	return int(h.Sum32() % aclParts)
}

// formatACLs writes a list: ["topic","principal","host","operation","permission"] of each, in a fixed order.
func formatACLs(list []binding) string {
	if len(list) == 0 {
		return ""
	}
	rows := make([][5]string, len(list))
	for i, b := range slices.SortedFunc(slices.Values(list), binding.compare) {
		rows[i] = [5]string{b.topic, b.principal, b.host, b.operation.String(), b.permission.String()}
	}
	text, _ := json.Marshal(rows) //nolint:errchkjson // strings
	return string(text)
}

// parseACLs reads a list. What cannot be read is not ours.
func parseACLs(text string) (list []binding) {
	var rows [][5]string
	if json.Unmarshal([]byte(text), &rows) != nil {
		return nil
	}
	for _, r := range rows {
		operation, err1 := kmsg.ParseACLOperation(r[3])
		permission, err2 := kmsg.ParseACLPermissionType(r[4])
		if err1 == nil && err2 == nil {
			list = append(list, binding{r[0], r[1], r[2], operation, permission})
		}
	}
	return list
}
