package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// binding is an ACL of one topic, named literally.
type binding struct {
	topic, principal, host string
	operation              kmsg.ACLOperation
	permission             kmsg.ACLPermissionType
}

func (b binding) compare(o binding) int {
	return cmp.Or(strings.Compare(b.topic, o.topic), strings.Compare(b.principal, o.principal), strings.Compare(b.host, o.host),
		cmp.Compare(b.operation, o.operation), cmp.Compare(b.permission, o.permission))
}

func (b binding) String() string {
	return fmt.Sprintf("%s %s %s on topic %s from %s", b.principal, b.permission, b.operation, b.topic, b.host)
}

// reduce returns what an ACL of a topic becomes on its copy, and false if nothing
// (MirrorSourceConnector.shouldReplicateAcl and targetAclBinding of Kafka 4.3.1): nobody but the mirror writes to
// a copy, so the right to write is dropped, and the right to do everything becomes the right to read. All else,
// prohibitions above all, is as at the source.
func reduce(b binding, remote func(string) string) (binding, bool) {
	if b.permission == kmsg.ACLPermissionTypeAllow {
		switch b.operation {
		case kmsg.ACLOperationWrite:
			return b, false
		case kmsg.ACLOperationAll:
			b.operation = kmsg.ACLOperationRead
		}
	}
	b.topic = remote(b.topic)
	return b, true
}

// bindings describes the ACLs of topics named literally, which are those that MirrorMaker copies: it
// leaves out prefixes.
func (c *cluster) bindings(ctx context.Context) ([]binding, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral
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
	var list []binding
	for _, r := range resp.Resources {
		if r.ResourceType != kmsg.ACLResourceTypeTopic || r.ResourcePatternType != kmsg.ACLResourcePatternTypeLiteral {
			continue
		}
		for _, a := range r.ACLs {
			list = append(list, binding{r.ResourceName, a.Principal, a.Host, a.Operation, a.PermissionType})
		}
	}
	return list, nil
}

// allow creates ACLs, and returns the error of each that could not be.
func (c *cluster) allow(ctx context.Context, list []binding) (map[binding]error, error) {
	failed := map[binding]error{}
	for batch := range slices.Chunk(list, batchSize) {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, b := range batch {
			r := kmsg.NewCreateACLsRequestCreation()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceTypeTopic, b.topic, kmsg.ACLResourcePatternTypeLiteral
			r.Principal, r.Host, r.Operation, r.PermissionType = b.principal, b.host, b.operation, b.permission
			req.Creations = append(req.Creations, r)
		}
		resp, err := request[*kmsg.CreateACLsResponse](ctx, c, req)
		if err == nil && len(resp.Results) != len(batch) {
			err = fmt.Errorf("%d results for %d ACLs", len(resp.Results), len(batch))
		}
		if err != nil {
			return failed, c.wrong("create ACLs", err)
		}
		for i, r := range resp.Results {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				failed[batch[i]] = withText(err, r.ErrorMessage)
			}
		}
	}
	return failed, nil
}

// disallow deletes ACLs, and returns the error of each that could not be. One that is not there is fine.
func (c *cluster) disallow(ctx context.Context, list []binding) (map[binding]error, error) {
	failed := map[binding]error{}
	for batch := range slices.Chunk(list, batchSize) {
		req := kmsg.NewPtrDeleteACLsRequest()
		for _, b := range batch {
			r := kmsg.NewDeleteACLsRequestFilter()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceTypeTopic, &b.topic, kmsg.ACLResourcePatternTypeLiteral
			r.Principal, r.Host, r.Operation, r.PermissionType = &b.principal, &b.host, b.operation, b.permission
			req.Filters = append(req.Filters, r)
		}
		resp, err := request[*kmsg.DeleteACLsResponse](ctx, c, req)
		if err == nil && len(resp.Results) != len(batch) {
			err = fmt.Errorf("%d results for %d ACLs", len(resp.Results), len(batch))
		}
		if err != nil {
			return failed, c.wrong("delete ACLs", err)
		}
		for i, r := range resp.Results {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				failed[batch[i]] = withText(err, r.ErrorMessage)
			}
			for _, m := range r.MatchingACLs {
				if err := kerr.ErrorForCode(m.ErrorCode); err != nil {
					failed[batch[i]] = withText(err, m.ErrorMessage)
				}
			}
		}
	}
	return failed, nil
}
