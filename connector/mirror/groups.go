package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// committed is what a group has committed for a partition.
type committed struct {
	offset   int64
	metadata string
}

// groupsBatch bounds the groups in one request.
const groupsBatch = 200

// byTopicName keeps a client to the versions of requests about groups' offsets that have topics by name: the newer ones have
// them by id, and what is not there any more has none.
func byTopicName() kgo.Opt {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	v.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 9)
	return kgo.MaxVersions(v)
}

// Types of groups that are not consumers' (GroupType).
const (
	consumerType = "consumer" // KIP-848
	classicType  = "classic"
)

// groupTypes lists the groups of a cluster with their types and protocols. Brokers before Kafka 3.8 do not tell types: they
// know only classic ones.
func (c *cluster) groupTypes(ctx context.Context) (map[string]kmsg.ListGroupsResponseGroup, error) {
	resp, err := request[*kmsg.ListGroupsResponse](ctx, c, kmsg.NewPtrListGroupsRequest())
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, c.wrong("list groups", err)
	}
	all := map[string]kmsg.ListGroupsResponseGroup{}
	for _, g := range resp.Groups {
		if g.GroupType == "" || g.GroupType == "Classic" {
			g.GroupType = classicType
		}
		if g.GroupType == "Consumer" {
			g.GroupType = consumerType
		}
		all[g.Group] = g
	}
	return all, nil
}

// consumes says whether a group is one of consumers, active or not (Admin.listConsumerGroups). Others (Connect's workers, share
// and streams groups) have a protocol of their own.
func consumes(g kmsg.ListGroupsResponseGroup) bool {
	return (g.GroupType == classicType || g.GroupType == consumerType) && (g.ProtocolType == "consumer" || g.ProtocolType == "")
}

// groupOffsets reads what groups have committed. What is wrong with single groups is in the second map.
func (c *cluster) groupOffsets(ctx context.Context, groups []string) (map[string]map[partition]committed, map[string]error, error) {
	all, failed := map[string]map[partition]committed{}, map[string]error{}
	for batch := range slices.Chunk(groups, groupsBatch) {
		req := kmsg.NewPtrOffsetFetchRequest()
		for _, g := range batch {
			r := kmsg.NewOffsetFetchRequestGroup()
			r.Group = g
			req.Groups = append(req.Groups, r)
		}
		resp, err := request[*kmsg.OffsetFetchResponse](ctx, c, req)
		if err != nil {
			return nil, nil, c.wrong("read the offsets of groups", err)
		}
		for _, g := range resp.Groups {
			err := kerr.ErrorForCode(g.ErrorCode)
			if errors.Is(err, kerr.GroupIDNotFound) {
				err = nil // as one without offsets
			}
			if err != nil {
				failed[g.Group] = c.wrong("read the offsets of group "+g.Group, err)
				continue
			}
			offsets := map[partition]committed{}
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 || p.Offset < 0 {
						continue
					}
					at := committed{offset: p.Offset}
					if p.Metadata != nil {
						at.metadata = *p.Metadata
					}
					offsets[partition{t.Topic, p.Partition}] = at
				}
			}
			all[g.Group] = offsets
		}
	}
	return all, failed, nil
}

// States of groups, as far as they matter here.
const (
	groupEmpty = "Empty"
	groupDead  = "Dead" // also one that does not exist
)

// groupStates asks for the states of groups whose types are known; one of unknown type is asked for as a classic one. What is wrong with
// single groups is in the second map.
func (c *cluster) groupStates(ctx context.Context, groups []string, types map[string]kmsg.ListGroupsResponseGroup) (map[string]string, map[string]error, error) {
	states, failed := map[string]string{}, map[string]error{}
	note := func(group, state string, code int16) {
		switch err := kerr.ErrorForCode(code); {
		case errors.Is(err, kerr.GroupIDNotFound):
			states[group] = groupDead
		case err != nil:
			failed[group] = c.wrong("look up group "+group, err)
		default:
			states[group] = state
		}
	}
	var classic, consumer []string
	for _, g := range groups {
		if types[g].GroupType == consumerType {
			consumer = append(consumer, g)
		} else {
			classic = append(classic, g)
		}
	}
	if len(consumer) > 0 {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = consumer
		resp, err := request[*kmsg.ConsumerGroupDescribeResponse](ctx, c, req)
		if err != nil {
			return nil, nil, c.wrong("look up groups", err)
		}
		for _, g := range resp.Groups {
			note(g.Group, g.State, g.ErrorCode)
			if states[g.Group] == groupDead {
				// It may have become a classic one meanwhile.
				delete(states, g.Group)
				classic = append(classic, g.Group)
			}
		}
	}
	if len(classic) > 0 {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = classic
		resp, err := request[*kmsg.DescribeGroupsResponse](ctx, c, req)
		if err != nil {
			return nil, nil, c.wrong("look up groups", err)
		}
		for _, g := range resp.Groups {
			note(g.Group, g.State, g.ErrorCode)
		}
	}
	return states, failed, nil
}

// commitOffsets commits for a group as one that is not a member of it: the broker takes that only while the group has no
// members (UNKNOWN_MEMBER_ID otherwise), and makes the group if there is none.
func (c *cluster) commitOffsets(ctx context.Context, group string, offsets map[partition]committed) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	for _, p := range slices.SortedFunc(maps.Keys(offsets), partition.compare) {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != p.topic {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = p.topic
			req.Topics = append(req.Topics, t)
		}
		r, metadata := kmsg.NewOffsetCommitRequestTopicPartition(), offsets[p].metadata
		r.Partition, r.Offset, r.LeaderEpoch, r.Metadata = p.id, offsets[p].offset, -1, &metadata
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, r)
	}
	resp, err := request[*kmsg.OffsetCommitResponse](ctx, c, req)
	if err != nil {
		return c.wrong("commit offsets of group "+group, err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return c.wrong(fmt.Sprintf("commit offsets of group %s (%s-%d)", group, t.Topic, p.Partition), err)
			}
		}
	}
	return nil
}
