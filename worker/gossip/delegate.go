package gossip

import (
	"cmp"
	"math"
	"slices"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. Everything here runs in its packet loop
// and mostly under its lock: it takes or leaves a value and returns.
type delegate struct{ c *Cluster }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta gives this worker's metadata, which New has measured.
func (d delegate) NodeMeta(int) []byte { return appendMeta(nil, d.c.self()) }

// NotifyMsg takes a hint from another worker.
func (d delegate) NotifyMsg(b []byte) {
	offset, err := parseHint(b)
	if err != nil {
		d.c.log.foreign(err)
		return
	}
	d.c.hear(offset, true)
}

// GetBroadcasts gives the hint that has to go out, if there is one.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.queue.GetBroadcasts(overhead, limit)
}

// LocalState lets a worker that has just come know the newest hint.
func (d delegate) LocalState(bool) []byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	if d.c.grown < 0 {
		return nil
	}
	return hint(d.c.grown).Message()
}

// MergeRemoteState takes the other side's LocalState.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	if len(b) > 0 {
		d.NotifyMsg(b)
	}
}

// NotifyAlive refuses nodes that are no workers.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	_, err := parseMember(n.Name, n.Meta)
	return err
}

// NotifyJoin takes in a worker that has come.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.NotifyUpdate(n) }

// NotifyUpdate takes in what a worker tells anew.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	m, err := parseMember(n.Name, n.Meta)
	if err != nil { // NotifyAlive has refused it
		return
	}
	m.Address = n.Address()
	m.Self = n.Name == d.c.node
	d.c.mu.Lock()
	d.c.members[n.Name] = m
	d.c.count.Store(int64(len(d.c.members)))
	d.c.mu.Unlock()
	notify(d.c.changed)
}

// NotifyLeave strikes out a worker that has left or is dead.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.c.mu.Lock()
	delete(d.c.members, n.Name)
	d.c.count.Store(int64(len(d.c.members)))
	d.c.mu.Unlock()
	notify(d.c.changed)
}

// NotifyConflict hears of two nodes with one name: the same worker id and the
// same incarnation at two addresses.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.c.log.conflict(existing.Name, existing.Address(), other.Address())
}

// self is this worker as it tells about itself.
func (c *Cluster) self() Member {
	return Member{
		ID: c.o.Name, Incarnation: c.o.Incarnation, Meta: c.o.Meta,
		LabelsInLog: c.o.LabelsInLog && !c.labelsFit(), Ready: c.ready.Load(),
		Load: math.Float64frombits(c.load.Load()),
	}
}

// labelsFit says whether the labels find room in the metadata.
func (c *Cluster) labelsFit() bool {
	m := Member{ID: c.o.Name, Meta: c.o.Meta}
	return len(appendMeta(nil, m)) <= memberlist.MetaMaxSize
}

// youngest gives one member a worker id, sorted by it.
func youngest(members map[string]Member) []Member {
	byID := make(map[string]Member, len(members))
	for _, m := range members {
		if old, ok := byID[m.ID]; !ok || old.Incarnation < m.Incarnation {
			byID[m.ID] = m
		}
	}
	all := make([]Member, 0, len(byID))
	for _, m := range byID {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
