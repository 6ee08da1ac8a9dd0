package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// groupSync sets consumer groups at the target to where their translations are. It only ever brings them forward, only groups that
// have no members there, and makes those that there are none of.
//
// Three things keep it from a group that is in use: its state is asked for right before it is written to, together with what it
// has committed; a group of another kind is never written to; and the broker refuses the commit of one that is no member of a group
// with members. A consumer that commits without being a member (assign instead of subscribe) cannot be seen: such a group
// counts as idle, as for MirrorMaker. It is not led back either.
type groupSync struct{ target *cluster }

// Bounds of a groupSync.
const (
	// syncBatch is how many groups are looked at before they are written to: few, so that little can happen between.
	syncBatch = 50
	// syncsAtOnce is how many groups are written to at once.
	syncsAtOnce = 10
)

// set sets groups where that is allowed, and returns by group why one could not be set. The error is one that concerns all.
func (y *groupSync) set(ctx context.Context, all map[string][]Translation) (map[string]string, error) {
	var groups []string
	for _, g := range slices.Sorted(maps.Keys(all)) {
		if slices.ContainsFunc(all[g], func(t Translation) bool { return t.TargetOffset >= 0 }) {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, nil
	}
	types, err := y.target.groupTypes(ctx)
	if err != nil {
		return nil, err
	}
	left := map[string]string{}
	groups = slices.DeleteFunc(groups, func(g string) bool {
		there, ok := types[g]
		other := ok && !consumes(there)
		if other {
			left[g] = fmt.Sprintf("group %s is not set at the target: there it is a group of type %s for %q", g, there.GroupType, there.ProtocolType)
		}
		return other
	})
	for batch := range slices.Chunk(groups, syncBatch) {
		failed, err := y.setSome(ctx, batch, all, types)
		if err != nil {
			return nil, err
		}
		for group, err := range failed {
			left[group] = fmt.Sprintf("group %s is not set at the target: %v", group, err)
		}
	}
	return left, nil
}

// setSome sets a few groups, and returns those that failed.
func (y *groupSync) setSome(ctx context.Context, groups []string, all map[string][]Translation, types map[string]kmsg.ListGroupsResponseGroup) (map[string]error, error) {
	states, failed, err := y.target.groupStates(ctx, groups, types)
	if err != nil {
		return nil, err
	}
	idle := slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return states[g] != groupEmpty && states[g] != groupDead })
	offsets, unread, err := y.target.groupOffsets(ctx, idle)
	if err != nil {
		return nil, err
	}
	maps.Copy(failed, unread)
	refused := map[string]error{} // on its own: failed is read while commits are still on their way
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, group := range idle {
		due := forward(all[group], offsets[group])
		if failed[group] != nil || len(due) == 0 {
			continue
		}
		g.Go(func() error {
			err := y.target.commitOffsets(ctx, group, due)
			if err == nil || inUse(err) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			refused[group] = err
			return nil
		})
	}
	_ = g.Wait()
	maps.Copy(failed, refused)
	for _, err := range failed {
		if classify(err) == ended {
			return nil, err
		}
	}
	return failed, nil
}

// forward is what is to be committed for a group that has committed there: what it has nothing for, and what it is behind of.
func forward(translated []Translation, there map[partition]committed) map[partition]committed {
	due := map[partition]committed{}
	for _, t := range translated {
		p := partition{t.TargetTopic, t.Partition}
		if at, ok := there[p]; t.TargetOffset >= 0 && (!ok || at.offset < t.TargetOffset) {
			due[p] = committed{t.TargetOffset, t.Metadata}
		}
	}
	return due
}

// inUse says that the broker refused a commit since the group has got members, or has become one of another kind, since it was
// looked at.
func inUse(err error) bool {
	return is(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.NonEmptyGroup, kerr.FencedMemberEpoch,
		kerr.StaleMemberEpoch, kerr.GroupIDNotFound)
}
