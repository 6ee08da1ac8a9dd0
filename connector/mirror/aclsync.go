package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/connector"
)

// syncACLs gives the copies the ACLs of their topics (MirrorSourceConnector.syncTopicAcls of Kafka 4.3.1), and takes back
// those that it gave when they have gone at the source, which MirrorMaker does not. What it finds on the target already
// is not its own, and stays.
func (y *syncer) syncACLs(ctx context.Context) error {
	now := y.layout()
	source, authorized, err := y.bindings(ctx, y.source)
	if err != nil || !authorized {
		return err
	}
	target, authorized, err := y.bindings(ctx, y.target)
	if err != nil || !authorized {
		return err
	}
	there := map[binding]bool{}
	for _, b := range target {
		there[b] = true
	}
	if err := y.loadOwn(ctx, now, there); err != nil {
		return err
	}
	change, err := planACLs(source, there, y.acls.written, now.filter, y.remote)
	if err != nil {
		return &finalError{err}
	}
	return y.changeACLs(ctx, change)
}

// bindings describes the ACLs of a cluster, and says whether it has an authorizer at all.
func (y *syncer) bindings(ctx context.Context, c *cluster) (list []binding, authorized bool, err error) {
	const key = "no authorizer"
	list, err = c.bindings(ctx)
	switch {
	case is(err, kerr.SecurityDisabled) && c == y.source:
		if !y.unsecured { // there is nothing to sync, and nothing wrong
			y.unsecured = true
			y.Log.InfoContext(ctx, "the source has no authorizer, so there are no ACLs of topics to sync", "cluster", c.alias)
		}
		return nil, false, nil
	case is(err, kerr.SecurityDisabled):
		y.notes.note(ctx, key, connector.Note{
			About: aboutACLs, Degraded: y.asked("sync.topic.acls"),
			Text: fmt.Sprintf("ACLs of topics are not synced: the target cluster %q has no authorizer", c.alias),
		})
		return nil, false, nil
	case err == nil && c == y.target:
		y.notes.over(key)
	}
	return list, err == nil, err
}

// loadOwn reads, once, which ACLs are the connector's.
func (y *syncer) loadOwn(ctx context.Context, now layout, there map[binding]bool) error {
	ids := now.sourceID + ">" + now.targetID
	if y.acls != nil && y.acls.ids == ids {
		return nil
	}
	own, doubtful, err := loadACLs(ctx, y.Offsets, y.s.source, ids)
	if err != nil {
		return err
	}
	y.acls = own
	var names []string
	for _, b := range doubtful {
		if there[b] && !own.written[b] {
			names = append(names, b.String())
		}
	}
	if len(names) > 0 {
		y.Log.WarnContext(ctx, "the connector was killed while it wrote ACLs: these may be its own, and will not be removed by it", "acls", some(names))
	}
	return nil
}

// aclChange is what one pass does.
type aclChange struct {
	create, remove []binding
	own            map[binding]bool // of those that are there
}

// planACLs compares both sides. An ACL is removed if it is ours and no ACL of the source, whatever topics
// are copied now, becomes it any more: a topic that is not copied any more keeps its copy, and that its readers.
func planACLs(source []binding, there, own map[binding]bool, filter TopicFilter, remote func(string) string) (aclChange, error) {
	c := aclChange{own: map[binding]bool{}}
	wanted, backed := map[binding]bool{}, map[binding]bool{}
	for _, b := range source {
		reduced, ok := reduce(b, remote)
		if !ok {
			continue
		}
		backed[reduced] = true
		copies, err := filter.Copies(b.topic)
		if err != nil {
			return c, err
		}
		if copies {
			wanted[reduced] = true
		}
	}
	for b := range wanted {
		if !there[b] {
			c.create = append(c.create, b)
		}
	}
	for b := range own {
		if there[b] {
			c.own[b] = true
			if !backed[b] {
				c.remove = append(c.remove, b)
			}
		}
	}
	slices.SortFunc(c.create, binding.compare)
	slices.SortFunc(c.remove, binding.compare)
	return c, nil
}

// changeACLs writes and removes ACLs. It remembers first what it is about to write: should it be killed in between,
// the next run can at least tell of it.
func (y *syncer) changeACLs(ctx context.Context, c aclChange) error {
	if err := y.acls.save(ctx, c.own, c.create); err != nil {
		return err
	}
	y.acls.written = maps.Clone(c.own)
	for _, b := range c.create {
		y.acls.written[b] = true // also if the answer is lost: the next pass sees which are there
	}
	notCreated, err := y.target.allow(ctx, c.create)
	if err != nil {
		return err
	}
	for b := range notCreated {
		delete(y.acls.written, b)
	}
	notRemoved, err := y.target.disallow(ctx, c.remove)
	if err != nil {
		return err
	}
	for _, b := range c.remove {
		if notRemoved[b] == nil {
			delete(y.acls.written, b)
		}
	}
	if err := y.acls.save(ctx, y.acls.written, nil); err != nil {
		return err
	}
	if created, removed := len(c.create)-len(notCreated), len(c.remove)-len(notRemoved); created+removed > 0 {
		y.Log.InfoContext(ctx, "ACLs of topics synced", "created", created, "removed", removed)
	}
	return y.notChanged(ctx, notCreated, notRemoved)
}

// notChanged judges the ACLs that could not be written or removed.
func (y *syncer) notChanged(ctx context.Context, notCreated, notRemoved map[binding]error) error {
	const key = "single ACLs"
	all := maps.Clone(notCreated)
	maps.Copy(all, notRemoved)
	var refused []string
	for _, b := range slices.SortedFunc(maps.Keys(all), binding.compare) {
		if what := classify(all[b]); what == passing || what == identity {
			return y.target.wrong("change the ACL "+b.String(), all[b]) // they fare all alike
		}
		refused = append(refused, b.String())
	}
	if len(refused) == 0 {
		y.notes.over(key)
		return nil
	}
	y.notes.note(ctx, key, connector.Note{About: aboutACLs, Degraded: y.asked("sync.topic.acls"), Text: "the target does not take some ACLs of topics: " + some(refused)})
	return nil
}
