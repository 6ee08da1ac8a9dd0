package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/rawcopy"
)

// This file finds topics that run in a circle: copied from A to B under their own name (IdentityReplicationPolicy) while
// somebody copies them back, directly or by way of C. MirrorMaker leaves that to its user; its names do not tell, and every record
// goes round for ever.
//
// What tells is the books that each copy keeps on its target: on A they name the topics of A that are filled from elsewhere, with
// the ids of both topics, and by which copies that source is filled in turn. If one of these begins at the topic that we would copy
// to, and they go on while we look, that is a circle. One link has to give way, and all must come to the same one: it is the one
// whose source has the largest cluster id of the circle. No circle is one in which all links leave marks on the
// records (provenance.headers=true): there records that come round are known.
//
// A book alone proves nothing: after a failover the former direction has left its books on what is the source now. So a copy counts
// only while it moves, and no more once it has been stopped in good order. What was known before a restart still counts: it stands in
// the configurations of the tasks.

const (
	// keyProvenance has records marked.
	keyProvenance = "provenance.headers"
	// keyLoops tells task 0 which topics its connector leaves out, and why, as JSON: it shows them.
	keyLoops = "task.left.out"
	// keyUpstream tells each task by which copies its topics are filled at the source, for its books.
	keyUpstream = "task.upstream"
)

// Bounds of the search.
const (
	// loopEvery is how many looks at the source pass between two looks for circles: about 5 s.
	loopEvery = 5
	// loopRest is for how many of those a copy has to have been stopped in good order until it does not count any
	// more: tasks that move to another worker stop, too.
	loopRest = 3
	// maxRunsTopics bounds the topics of offset runs that are read.
	maxRunsTopics = 100
)

// aboutLoops is the kind of the notes about topics that are left out where no task can show them.
const aboutLoops = "circles"

// newMark is what a link leaves on its records.
func newMark(source, target string) (*rawcopy.Mark, error) {
	if source == "" || source == target {
		return nil, &finalError{fmt.Errorf("%s: the source's cluster id is %q and the target's %q: marks need two clusters with different ids", keyProvenance, source, target)}
	}
	return &rawcopy.Mark{Source: source, Target: target}, nil
}

// backward is a copy into a topic of our source.
type backward struct {
	first int64 // State.Next when it was seen first
	rests int   // how often in a row it was found stopped
}

// loops is what a planner knows of circles.
type loops struct {
	readers  map[string]*offsetrun.Reader // by topic of the source
	seen     map[offsetrun.Key]*backward
	found    map[string]string          // by topic: why it is left out
	upstream map[string][]offsetrun.Hop // by topic: by which copies it is filled
	restored bool                       // found and upstream are of a former run
	changed  bool                       // upstream is not what the tasks know
	next     time.Time
}

// cutLoops takes the topics that run in a circle out of wanted. What keeps it from looking changes nothing about what is
// known.
func (p *planner) cutLoops(ctx context.Context, seen view, wanted map[string]int32) {
	l := &p.loops
	if l.readers == nil {
		l.readers = map[string]*offsetrun.Reader{}
		l.remember(p.published)
	}
	if now := time.Now(); !now.Before(l.next) {
		l.next = now.Add(loopEvery * p.watch)
		if err := p.lookForLoops(ctx, seen, wanted); err != nil && ctx.Err() == nil && p.warn.allow("loops") {
			p.Log.WarnContext(ctx, "cannot see whether topics are copied back", "err", err)
		}
	}
	for topic := range l.found {
		delete(wanted, topic)
	}
}

// remember takes what a former run knew out of its tasks.
func (l *loops) remember(tasks []map[string]string) {
	l.upstream, l.restored = map[string][]offsetrun.Hop{}, true
	for _, task := range tasks {
		if text := task[keyLoops]; text != "" && json.Unmarshal([]byte(text), &l.found) != nil {
			l.found = nil
		}
		maps.Copy(l.upstream, parseUpstream(task[keyUpstream]))
	}
}

// lookForLoops brings the planner's knowledge of circles up to date.
func (p *planner) lookForLoops(ctx context.Context, seen view, wanted map[string]int32) error {
	l := &p.loops
	var candidates []partition // partition 0 of each, since topicIDs wants partitions
	for topic := range wanted {
		if p.remote(topic) == topic {
			candidates = append(candidates, partition{topic: topic})
		}
	}
	books := runsTopics(seen)
	if len(candidates) == 0 || len(books) == 0 {
		l.learn(nil, nil, nil)
		return nil
	}
	ours, err := p.source.topicIDs(ctx, candidates)
	if err != nil {
		return err
	}
	theirs, err := p.target.topicIDs(ctx, candidates)
	if err != nil {
		return err
	}
	target, err := p.target.metadata(ctx, []string{})
	if err != nil {
		return err
	}
	seeing := fills{
		known: map[offsetrun.Key]*backward{}, upstream: map[string][]offsetrun.Hop{}, by: map[string]map[[16]byte]string{},
		ours: ours, theirs: theirs, target: target.clusterID,
	}
	for _, name := range books {
		if err := p.readBooks(ctx, name); err != nil {
			return err
		}
		l.fill(&seeing, name)
	}
	found := map[string]string{}
	marks := p.Settings[keyProvenance].Written == "true"
	for topic, hops := range seeing.upstream {
		hops = leading(hops, ours[topic])
		seeing.upstream[topic] = hops
		c := circle{source: hopEnd{seen.clusterID, ours[topic]}, target: hopEnd{target.clusterID, theirs[topic]}, hops: hops}
		if last, clusters := c.yields(marks); clusters > 0 {
			found[topic] = p.circleText(clusters, seeing.by[topic][last])
		}
	}
	p.tellLoops(ctx, found)
	l.learn(found, seeing.upstream, seeing.known)
	return nil
}

// fills is what books tell of how the topics of the source are filled.
type fills struct {
	known        map[offsetrun.Key]*backward
	upstream     map[string][]offsetrun.Hop     // by topic
	by           map[string]map[[16]byte]string // by topic, and the id of what it is copied from: by whom
	ours, theirs map[string][16]byte            // ids of the topics at the source and at the target
	target       string                         // the target's cluster id
}

// fill takes in the copies that move, as the books of one topic have them.
func (l *loops) fill(f *fills, name string) {
	r := l.readers[name]
	for _, k := range r.Keys() {
		book, err := r.Book(k)
		if err != nil || book == nil {
			continue // damaged, or of a newer version: its own task says so
		}
		topic, none := book.State.TargetTopic, [16]byte{}
		id, st := f.ours[topic], book.State
		if id == none || st.TargetTopicID != id || st.SourceTopicID == none {
			continue
		}
		hop := offsetrun.Hop{Cluster: st.SourceCluster, Topic: st.SourceTopicID, Into: id, Marked: st.Marked}
		if hop.Topic == f.theirs[topic] {
			hop.Cluster = f.target
		}
		b := l.seen[k].after(st, l.knew(topic, hop))
		if f.known[k] = b; b.rests >= loopRest || st.Next <= b.first {
			continue
		}
		f.upstream[topic] = addHops(addHops(f.upstream[topic], hop), elsewhere(st.Upstream, id)...)
		if f.by[topic] == nil {
			f.by[topic] = map[[16]byte]string{}
		}
		f.by[topic][hop.Topic] = fmt.Sprintf("%s (%s)", k.Owner, name)
	}
}

// circleText says why a topic is left out.
func (p *planner) circleText(clusters int, by string) string {
	how := fmt.Sprintf("%s copies it back from %s", by, p.s.target)
	if clusters > 2 {
		how = fmt.Sprintf("%s copies it back to %s, by way of %d clusters", by, p.s.source, clusters)
	}
	return "it runs in a circle: " + how + ", so this link leaves it out: remove one, use DefaultReplicationPolicy, or set " + keyProvenance + "=true on all links of the circle"
}

// learn replaces what is known.
func (l *loops) learn(found map[string]string, upstream map[string][]offsetrun.Hop, seen map[offsetrun.Key]*backward) {
	l.changed = l.changed || !maps.EqualFunc(l.upstream, upstream, slices.Equal)
	l.found, l.upstream, l.seen, l.restored = found, upstream, seen, false
}

// knew says whether a former run has seen a copy move.
func (l *loops) knew(topic string, hop offsetrun.Hop) bool {
	return l.restored && slices.ContainsFunc(l.upstream[topic], func(h offsetrun.Hop) bool { return h.Topic == hop.Topic && h.Into == hop.Into }) ||
		l.restored && l.found[topic] != ""
}

// after is what is known of a copy once its state has been seen again. moved says that it is known to have moved before.
func (b *backward) after(s offsetrun.State, moved bool) *backward {
	switch {
	case b == nil:
		b = &backward{first: s.Next}
		if moved {
			b.first--
		}
	case !s.Clean:
		return &backward{first: b.first}
	default:
		b = &backward{b.first, min(b.rests+1, loopRest)}
	}
	if b.rests == loopRest {
		b.first = s.Next // if it begins again, it has to move anew
	}
	return b
}

// runsTopics are the topics of a cluster that offset runs are kept in.
func runsTopics(v view) []string {
	var names []string
	for name := range v.topics {
		if strings.HasPrefix(name, "mm2-offset-runs") && strings.HasSuffix(name, "internal") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), maxRunsTopics)]
}

// readBooks reads what was added to a topic of offset runs.
func (p *planner) readBooks(ctx context.Context, name string) error {
	l := &p.loops
	if l.readers[name] == nil {
		l.readers[name] = offsetrun.NewReader(offsetrun.ReaderOptions{Client: p.source.client, Topic: name})
	}
	ctx, cancel := context.WithTimeout(ctx, p.source.timeout)
	defer cancel()
	return l.readers[name].Read(ctx)
}

// tellLoops logs what has been found, and what is over.
func (p *planner) tellLoops(ctx context.Context, found map[string]string) {
	for _, topic := range slices.Sorted(maps.Keys(found)) {
		if _, told := p.loops.found[topic]; !told || p.loops.restored {
			p.Log.WarnContext(ctx, "topic left out", "topic", topic, "why", found[topic])
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(p.loops.found)) {
		if _, still := found[topic]; !still {
			p.Log.InfoContext(ctx, "topic copied again: nobody copies it back any more", "topic", topic)
		}
	}
}

// markLoops has the first task show the topics that are left out, and each write into its books how its topics are filled. If there
// is no task, a note shows them.
func (p *planner) markLoops(ctx context.Context, tasks []map[string]string) error {
	found := p.loops.found
	notes := map[string]string{}
	if len(tasks) == 0 {
		for topic, why := range found {
			notes[topic] = topic + ": " + why
		}
	}
	p.notes.only(ctx, aboutLoops, notes)
	for _, task := range tasks {
		if text := formatUpstream(p.loops.upstream, task[keyTaskPartitions]); text != "" {
			task[keyUpstream] = text
		}
	}
	p.loops.changed = false
	if len(found) == 0 || len(tasks) == 0 {
		return nil
	}
	text, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("tell the tasks about circles: %w", err)
	}
	tasks[0][keyLoops] = string(text)
	return nil
}

// showLoops returns a report that has the topics which the connector leaves out besides what the task says.
func showLoops(written string, report func(connector.Progress)) func(connector.Progress) {
	var found map[string]string
	if written == "" || json.Unmarshal([]byte(written), &found) != nil || len(found) == 0 {
		return report
	}
	var left []connector.PartitionProgress
	for _, topic := range slices.Sorted(maps.Keys(found)) {
		left = append(left, connector.PartitionProgress{
			Topic: topic, Partition: -1, TargetTopic: topic, SourceEndOffset: -1, CopiedOffset: -1, TargetEndOffset: -1,
			LagRecords: -1, LagBytes: -1, LagSeconds: -1, Mode: "raw", State: stateStopped, Reason: found[topic],
		})
	}
	return func(p connector.Progress) {
		p.Partitions = slices.Concat(p.Partitions, left)
		report(p)
	}
}
