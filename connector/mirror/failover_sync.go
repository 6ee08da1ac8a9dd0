package mirror

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settings compares the settings of topics with those of their copies, by the rules of their sync.
func (f *failover) settings(ctx context.Context) error {
	if f.wanted == nil {
		return fmt.Errorf("the topics of both clusters could not be compared")
	}
	var topics, copies []string
	for _, t := range slices.Sorted(maps.Keys(f.wanted)) {
		if f.there[f.remote(t)] > 0 {
			topics, copies = append(topics, t), append(copies, f.remote(t))
		}
	}
	source, refused, err := f.source.settingsOfEach(ctx, topics)
	if err != nil {
		return err
	}
	target, notTold, err := f.target.settingsOfEach(ctx, copies)
	if err != nil {
		return err
	}
	c := newFinding(CheckSettings)
	how := "make them the same"
	if _, syncs := repetition(f.s, "sync.topic.configs"); syncs {
		how = "the sync has not brought them over; see the connector's notes"
	}
	for i, topic := range topics {
		if err := cmp.Or(refused[topic], notTold[copies[i]]); err != nil {
			c.add(Unclear, "the settings of %s cannot be compared: %v", topic, err)
			continue
		}
		changes, err := f.properties.changes(source[topic])
		if err != nil {
			return &finalError{err}
		}
		for _, change := range due(changes, target[copies[i]]) {
			c.add(Failed, "%s: %s is not %s, as it is at the source: %s", copies[i], change.name, change, how)
		}
	}
	f.found(c, "the settings of %d topics are those of the source", len(topics))
	return nil
}

// right is an ACL of any resource.
type right struct {
	kind       kmsg.ACLResourceType
	pattern    kmsg.ACLResourcePatternType
	name       string
	principal  string
	host       string
	operation  kmsg.ACLOperation
	permission kmsg.ACLPermissionType
}

func (r right) String() string {
	pattern := ""
	if r.pattern == kmsg.ACLResourcePatternTypePrefixed {
		pattern = " prefixed"
	}
	return fmt.Sprintf("%s %s %s on%s %s %s from %s", r.principal, r.permission, r.operation, pattern, strings.ToLower(r.kind.String()), r.name, r.host)
}

// covers says whether r allows what o does.
func (r right) covers(o right) bool {
	name := r.name == o.name || r.name == "*" || r.pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(o.name, r.name)
	return r.kind == o.kind && name && r.permission == o.permission && (r.principal == o.principal || r.principal == "User:*") &&
		(r.host == o.host || r.host == "*") && (r.operation == o.operation || r.operation == kmsg.ACLOperationAll)
}

// rights describes all ACLs of a cluster.
func (c *cluster) rights(ctx context.Context) ([]right, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := request[*kmsg.DescribeACLsResponse](ctx, c, req)
	if err == nil {
		if err = kerr.ErrorForCode(resp.ErrorCode); err != nil {
			err = withText(err, resp.ErrorMessage)
		}
	}
	if err != nil {
		return nil, c.wrong("describe ACLs", err)
	}
	var list []right
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			list = append(list, right{r.ResourceType, r.ResourcePatternType, r.ResourceName, a.Principal, a.Host, a.Operation, a.PermissionType})
		}
	}
	return list, nil
}

// acls compares the ACLs of both ends: those of topics by the rules of their sync, and besides those that no sync brings
// over and that applications need after a failover: to write, for groups, for transactions.
func (f *failover) acls(ctx context.Context) error {
	c, rest := newFinding(CheckACLs), newFinding(CheckProducerRights)
	source, err := f.source.rights(ctx)
	if is(err, kerr.SecurityDisabled) {
		f.found(c, "the source has no authorizer, so there are no ACLs")
		f.found(rest, "the source has no authorizer, so there are no ACLs")
		return nil
	}
	if err != nil {
		return err
	}
	target, err := f.target.rights(ctx)
	if is(err, kerr.SecurityDisabled) {
		c.add(Failed, "the target has no authorizer: there everybody may do everything")
		f.found(c, "")
		f.found(rest, "the target has no authorizer")
		return nil
	}
	if err != nil {
		return err
	}
	there := map[binding]bool{}
	for _, b := range literal(target) {
		there[b] = true
	}
	change, err := planACLs(literal(source), there, nil, f.filter, f.remote)
	if err != nil {
		return &finalError{err}
	}
	how := "sync.topic.acls is off"
	if _, syncs := repetition(f.s, "sync.topic.acls"); syncs {
		how = "the sync has not brought it over; see the connector's notes"
	}
	for _, b := range change.create {
		c.add(Failed, "the target lacks %s: %s", b, how)
	}
	f.found(c, "the target has all ACLs of topics that are synced")
	for _, r := range source {
		if wanted, counts := f.needed(r); counts && !slices.ContainsFunc(target, func(t right) bool { return t.covers(wanted) }) {
			rest.add(Todo, "the target lacks %s, which is not synced", wanted)
		}
	}
	f.found(rest, "the target has the rights to write, and those of groups and transactions, that the source has")
	return nil
}

// literal returns the ACLs of topics that are named literally.
func literal(list []right) (bindings []binding) {
	for _, r := range list {
		if r.kind == kmsg.ACLResourceTypeTopic && r.pattern == kmsg.ACLResourcePatternTypeLiteral {
			bindings = append(bindings, binding{r.name, r.principal, r.host, r.operation, r.permission})
		}
	}
	return bindings
}

// needed is the right that an application which has r at the source needs at the target after a failover, if no sync gives it.
func (f *failover) needed(r right) (right, bool) {
	switch r.kind {
	case kmsg.ACLResourceTypeGroup, kmsg.ACLResourceTypeTransactionalId:
		return r, true
	case kmsg.ACLResourceTypeTopic:
		if r.pattern == kmsg.ACLResourcePatternTypePrefixed {
			concerned := f.concerns(r.name)
			r.name = f.remote(r.name)
			return r, concerned
		}
		writes := r.permission == kmsg.ACLPermissionTypeAllow && (r.operation == kmsg.ACLOperationWrite || r.operation == kmsg.ACLOperationAll)
		if _, copied := f.wanted[r.name]; !copied || !writes {
			return r, false
		}
		r.name, r.operation = f.remote(r.name), kmsg.ACLOperationWrite
		return r, true
	}
	return r, false
}

// concerns says whether a topic that is copied begins with prefix.
func (f *failover) concerns(prefix string) bool {
	for topic := range f.wanted {
		if strings.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}
