package mirror

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"barnabas/config"
	"barnabas/connector"
)

// GroupTranslation is where one group of the source goes on at the target.
type GroupTranslation struct {
	Group      string        `json:"group"`
	Partitions []Translation `json:"partitions"`
	// Error says why the group's offsets could not be read, or that it has none.
	Error string `json:"error,omitempty"`
}

// Translated says whether every offset of the group has a place at the target, exact or not.
func (g GroupTranslation) Translated() bool {
	return g.Error == "" && !slices.ContainsFunc(g.Partitions, func(t Translation) bool { return t.TargetOffset < 0 })
}

// TranslateGroups translates the offsets of groups of the source, or of all that settings choose if groups is empty, for topics, or for
// all that are copied if topics is empty. Groups asked for by name need not be among those that settings choose. It changes nothing on
// either cluster. It fails only if nothing could be learned; what is wrong with a group is said there.
func TranslateGroups(ctx context.Context, settings config.Settings, clients connector.Clients, log *slog.Logger, groups, topics []string) ([]GroupTranslation, error) {
	t, err := OpenTranslator(ctx, settings, ReadOnly(clients), log)
	if err != nil {
		return nil, err
	}
	if err := t.Read(ctx); err != nil {
		return nil, err
	}
	return t.groupsOf(ctx, groups, topics)
}

func (t *Translator) groupsOf(ctx context.Context, groups, topics []string) ([]GroupTranslation, error) {
	named := len(groups) > 0
	there, err := t.source.groupTypes(ctx)
	if err != nil {
		return nil, err
	}
	if !named {
		if groups, err = t.Groups(ctx); err != nil {
			return nil, err
		}
	}
	groups = slices.Compact(slices.Sorted(slices.Values(groups)))
	asked := slices.DeleteFunc(slices.Clone(groups), func(g string) bool { at, ok := there[g]; return !ok || !consumes(at) })
	all, failed, err := t.Translate(ctx, asked)
	if err != nil {
		return nil, err
	}
	list := []GroupTranslation{}
	for _, g := range groups {
		at, known := there[g]
		one := GroupTranslation{Group: g, Partitions: orNone(all[g])}
		if len(topics) > 0 {
			one.Partitions = slices.DeleteFunc(one.Partitions, func(t Translation) bool { return !slices.Contains(topics, t.Topic) })
		}
		switch {
		case !known:
			one.Error = "the source has no such group"
		case !consumes(at):
			one.Error = fmt.Sprintf("it is a group of type %s for %q and not one of consumers", at.GroupType, at.ProtocolType)
		case failed[g] != nil:
			one.Error = failed[g].Error()
		case len(one.Partitions) > 0:
		case !named:
			continue // it reads something else
		default:
			one.Error = "it has committed nothing for topics that are asked for and copied"
		}
		list = append(list, one)
	}
	return list, nil
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// GroupPlan is what a failover means for a group.
type GroupPlan struct {
	Group       string `json:"group"`
	SourceState string `json:"source_state"` // as the brokers say it
	TargetState string `json:"target_state"` // Dead: there is none
	Partitions  int    `json:"partitions"`
	// How many of them have a translation of each accuracy.
	Accuracies map[Accuracy]int `json:"accuracies"`
	// Unset counts those that the target has no offset for, or one before the translation; Beyond those where it has one
	// behind it, where the group would leave out records.
	Unset  int `json:"unset"`
	Beyond int `json:"beyond"`
	// Deleted counts those where the copy begins behind the translation, by retention at the target: there auto.offset.reset decides
	// where the group goes on. Gone is how many offsets of the copy it misses in any case, and the source still has.
	Deleted int    `json:"deleted"`
	Gone    int64  `json:"gone"`
	Reason  string `json:"reason,omitempty"` // the first there is for a translation that is not exact
}

// groups translates all groups and compares with what the target has for them. The target is read first: a sync
// between the two readings can then only seem to lag, and not to have gone too far.
func (f *failover) groups(ctx context.Context) error {
	source, err := f.translator.source.groupTypes(ctx)
	if err != nil {
		return err
	}
	target, err := f.target.groupTypes(ctx)
	if err != nil {
		return err
	}
	names, err := f.translator.Groups(ctx)
	if err != nil {
		return err
	}
	both := slices.DeleteFunc(names, func(g string) bool { at, ok := target[g]; return !ok || !consumes(at) })
	set, unread, err := f.target.groupOffsets(ctx, both)
	if err != nil {
		return err
	}
	list, err := f.translator.groupsOf(ctx, nil, nil)
	if err != nil {
		return err
	}
	var asked []string
	for _, g := range list {
		asked = append(asked, g.Group)
	}
	states, _, err := f.translator.source.groupStates(ctx, asked, source)
	if err != nil {
		return err
	}
	there, _, err := f.target.groupStates(ctx, slices.DeleteFunc(slices.Clone(asked), func(g string) bool { _, ok := target[g]; return !ok }), target)
	if err != nil {
		return err
	}
	begins, err := f.copiesBegin(ctx, list)
	if err != nil {
		return err
	}
	for _, g := range list {
		one := planGroup(g, set[g.Group])
		one.tellDeleted(g, begins, f.starts)
		one.SourceState, one.TargetState = cmp.Or(states[g.Group], "unknown"), cmp.Or(there[g.Group], "unknown")
		if _, ok := target[g.Group]; !ok {
			one.TargetState = groupDead
		}
		if err := unread[g.Group]; err != nil {
			one.Reason = cmp.Or(one.Reason, err.Error())
		}
		f.plan.Groups = append(f.plan.Groups, one)
	}
	f.judgeGroups()
	return nil
}

// copiesBegin looks up where the logs of the copies begin that groups go on in. What is wrong with single ones is left to the checks of
// topics.
func (f *failover) copiesBegin(ctx context.Context, list []GroupTranslation) (map[partition]int64, error) {
	wanted := map[partition]bool{}
	for _, g := range list {
		for _, t := range g.Partitions {
			if t.TargetOffset >= 0 {
				wanted[partition{t.TargetTopic, t.Partition}] = true
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	begins, _, err := f.target.offsets(ctx, slices.SortedFunc(maps.Keys(wanted), partition.compare), atStart, false)
	return begins, err
}

// tellDeleted counts what a group cannot read at the target any more, by where the logs of both sides begin.
func (g *GroupPlan) tellDeleted(of GroupTranslation, target, source map[partition]int64) {
	for _, t := range of.Partitions {
		at, known := target[partition{t.TargetTopic, t.Partition}]
		if !known || t.TargetOffset < 0 || at <= t.TargetOffset {
			continue
		}
		g.Deleted++
		missing := at - t.TargetOffset
		if begins, ok := source[partition{t.Topic, t.Partition}]; ok { // what is deleted there as well is no loss of the failover
			missing = max(0, missing-max(0, begins-t.Offset))
		}
		g.Gone += missing
	}
}

// planGroup compares a group's translations with what the target has committed for it.
func planGroup(g GroupTranslation, set map[partition]committed) GroupPlan {
	one := GroupPlan{Group: g.Group, Partitions: len(g.Partitions), Accuracies: map[Accuracy]int{}, Reason: g.Error}
	for _, t := range g.Partitions {
		one.Accuracies[t.Accuracy]++
		if t.Reason != "" && one.Reason == "" {
			one.Reason = fmt.Sprintf("%s-%d: %s", t.Topic, t.Partition, t.Reason)
		}
		at, ok := set[partition{t.TargetTopic, t.Partition}]
		switch {
		case t.TargetOffset < 0:
		case !ok || at.offset < t.TargetOffset:
			one.Unset++
		case at.offset > t.TargetOffset && t.Accuracy == Exact:
			one.Beyond++
		}
	}
	return one
}

func active(state string) bool { return state != groupEmpty && state != groupDead }

// judgeGroups makes the checks that concern groups.
func (f *failover) judgeGroups() {
	translated, source, target, offsets := newFinding(CheckGroups), newFinding(CheckSourceConsumers), newFinding(CheckTargetConsumers), newFinding(CheckGroupOffsets)
	for _, g := range f.plan.Groups {
		inexact := g.Partitions - g.Accuracies[Exact]
		switch {
		case g.Partitions == 0 || g.Accuracies[Unknown] > 0:
			translated.add(Failed, "%s: %d of %d partitions are not translated: %s", g.Group, g.Accuracies[Unknown], g.Partitions, g.Reason)
		case inexact > 0:
			translated.add(Todo, "%s: %d of %d partitions are not translated exactly: %s", g.Group, inexact, g.Partitions, g.Reason)
		}
		if active(g.SourceState) {
			source.add(Todo, "%s is %s at the source: stop its consumers", g.Group, g.SourceState)
		}
		if active(g.TargetState) {
			target.add(Failed, "%s is %s at the target: its consumers there go on from their own offsets, which nobody can set meanwhile", g.Group, g.TargetState)
		}
		switch {
		case g.Gone > 0:
			offsets.add(Failed, "%s: in %d partitions its place is deleted at the target, and %d records that the source has are lost to it; where it goes on, auto.offset.reset decides: "+
				"the oldest there is, or behind everything", g.Group, g.Deleted, g.Gone)
		case g.Deleted > 0:
			offsets.add(Todo, "%s: in %d partitions its place is deleted, at the source as well: where it goes on, auto.offset.reset decides", g.Group, g.Deleted)
		}
		switch {
		case g.Beyond > 0:
			offsets.add(Failed, "%s: at the target it is further in %d partitions than at the source, and would leave records out", g.Group, g.Beyond)
		case g.Unset > 0:
			offsets.add(Todo, "%s: %d of %d offsets are not set at the target", g.Group, g.Unset, g.Partitions)
		}
	}
	n := len(f.plan.Groups)
	f.found(translated, "all %d groups are translated exactly", n)
	f.found(source, "none of %d groups is active at the source", n)
	f.found(target, "none of %d groups is active at the target", n)
	f.found(offsets, "the target has the offsets of all %d groups", n)
}
