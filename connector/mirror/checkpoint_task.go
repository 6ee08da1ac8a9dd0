package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

// checkpointTask writes checkpoints of the groups that it was dealt, and sets them at the target.
type checkpointTask struct {
	first time.Duration // pause after a failure
}

// Bounds of a checkpoint task.
const (
	// shortestPass is the pause between passes for an interval of 0.
	shortestPass = 100 * time.Millisecond
	// emitBatch is how many checkpoints are on the way at once.
	emitBatch = 10_000
)

// Run works until ctx ends.
func (t *checkpointTask) Run(ctx context.Context, tc connector.TaskContext) error {
	s, err := parseLink(checkpointKeys(), tc.Settings)
	if err != nil {
		return err
	}
	c := &checkpointing{
		TaskContext: tc, s: s, groups: groupsOf(tc.Settings[keyTaskGroups].Written), warn: newThrottle(time.Minute),
		last: map[string]map[partition]Checkpoint{}, saved: map[string]bool{},
		notes: newNotebook(tc.Log, func(notes []connector.Note) { tc.Report(connector.Progress{Notes: notes}) }),
	}
	if c.translator, err = openTranslator(ctx, s, tc.Settings, tc.Clients, tc.Log); err != nil {
		return err
	}
	c.writer, err = openCluster(ctx, targetSide(connector.TargetProducer, s), requestTimeout, tc.Settings, tc.Clients, toPartitions())
	if err != nil {
		return err
	}
	c.sync = groupSync{target: c.translator.target}
	c.metrics = newCheckpointMetrics(tc.Connector, tc.Task, s)
	if err := tc.Metrics.Register(c.metrics); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	defer tc.Metrics.Unregister(c.metrics)
	return ignoreEnd(ctx, c.run(ctx, steady{log: tc.Log, warn: c.warn, first: t.first}))
}

// checkpointing is one run of a checkpoint task.
type checkpointing struct {
	connector.TaskContext
	s          sourceSettings
	groups     []string
	translator *Translator
	writer     *cluster
	sync       groupSync
	warn       *throttle
	// last has the checkpoints that stand in the topic, by group and partition of the target.
	last    map[string]map[partition]Checkpoint
	saved   map[string]bool   // keys of Connect's offsets that were saved in this run
	unset   map[string]string // by group: why the last sync could not set it at the target
	notes   *notebook
	metrics *checkpointMetrics
}

// run makes a pass over all groups every emit.checkpoints.interval.seconds, and sets them at the target every
// sync.group.offsets.interval.seconds. The first of both comes at once, where MirrorMaker lets an interval pass.
func (c *checkpointing) run(ctx context.Context, steady steady) error {
	if err := steady.do(ctx, "read the checkpoints", func() error { return c.load(ctx) }); err != nil {
		return err
	}
	emitEvery, _ := period(c.s, "emit.checkpoints")
	syncEvery, syncs := period(c.s, "sync.group.offsets")
	syncAt := time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		syncing := syncs && !now.Before(syncAt)
		if err := steady.do(ctx, "translate the offsets of groups", func() error { return c.pass(ctx, syncing) }); err != nil {
			return err
		}
		next := now.Add(max(emitEvery, shortestPass))
		if syncing {
			syncAt = now.Add(max(syncEvery, shortestPass))
		}
		if syncs && syncAt.Before(next) {
			next = syncAt
		}
		if sleep(ctx, time.Until(next)) != nil {
			break
		}
	}
	return nil
}

// load reads the checkpoints of the task's groups that were written before. Without the right to do so all are written again,
// and of offset-syncs only those are used that come from now on: they lead back nobody (CheckpointStore).
func (c *checkpointing) load(ctx context.Context) error {
	own := map[string]bool{}
	for _, g := range c.groups {
		own[g] = true
	}
	log := tail{cluster: c.translator.reader, topic: c.topic()}
	err := log.read(ctx, func(r *kgo.Record) {
		k, err := DecodeCheckpoint(r.Key, r.Value)
		switch {
		case r.Value == nil:
		case err != nil:
			if c.warn.allow("checkpoint") {
				c.Log.WarnContext(ctx, "record that is no checkpoint", "topic", log.topic, "offset", r.Offset, "err", err)
			}
		case own[k.Group]:
			c.wrote(k)
		}
	})
	if err != nil && classify(err) == identity {
		c.Log.WarnContext(ctx, "the checkpoints that stand already may not be read", "err", err)
		c.translator.strict = true
		err = nil
	}
	if errors.Is(err, errNoTopic) {
		err = nil // it is made when something is written, or the connector makes it
	}
	return err
}

func (c *checkpointing) topic() string { return c.s.policy.CheckpointsTopic(c.s.source) }

func (c *checkpointing) wrote(k Checkpoint) {
	of := c.last[k.Group]
	if of == nil {
		of = map[partition]Checkpoint{}
		c.last[k.Group] = of
	}
	of[partition{k.Topic, k.Partition}] = k
}

// pass translates all groups, writes the checkpoints that have changed, and, if syncing, sets groups at the target.
func (c *checkpointing) pass(ctx context.Context, syncing bool) error {
	if err := c.translator.Read(ctx); err != nil {
		return err
	}
	all, failed, err := c.translator.Translate(ctx, c.groups)
	if err != nil {
		return err
	}
	c.Started()
	var due []Checkpoint
	left := map[string]string{} // by group: what could not be done
	for _, group := range c.groups {
		if err := failed[group]; err != nil {
			left[group] = err.Error()
		}
		for i := range all[group] {
			t := &all[group][i]
			last, stands := c.last[group][partition{t.TargetTopic, t.Partition}]
			if stands {
				t.notBack(last)
			}
			k := Checkpoint{group, t.TargetTopic, t.Partition, t.Offset, t.TargetOffset, t.Metadata}
			if t.TargetOffset >= 0 && (!stands || k.newer(last, t.Accuracy)) {
				due = append(due, k)
			}
		}
		if text := untranslated(group, all[group]); text != "" {
			left[group] = text
		}
	}
	if err := c.emit(ctx, due); err != nil {
		return err
	}
	if syncing {
		if c.unset, err = c.sync.set(ctx, all); err != nil {
			return err
		}
	}
	for group, why := range c.unset {
		left[group] = strings.TrimPrefix(left[group]+"; "+why, "; ")
	}
	c.notes.only(ctx, aboutGroups, left)
	return nil
}

// notBack keeps a translation that is not exact from being before the one that was made when the group had not read more. An older
// sample can be gone meanwhile.
func (t *Translation) notBack(last Checkpoint) {
	if (t.Accuracy == Sampled || t.Accuracy == Thinned) && last.Upstream <= t.Offset && last.Downstream > t.TargetOffset {
		t.TargetOffset = last.Downstream
	}
}

// newer says whether a checkpoint is to be written after last (MirrorCheckpointTask.checkpointIsMoreRecent): the group has gone back, or goes on
// further at the target. Different from MirrorMaker an exact one may also say that it goes on before: the copy was made anew.
func (k Checkpoint) newer(last Checkpoint, accuracy Accuracy) bool {
	return k.Upstream < last.Upstream || k.Downstream > last.Downstream || accuracy == Exact && k.Downstream != last.Downstream
}

// untranslated says what of a group could not be translated; empty: nothing.
func untranslated(group string, all []Translation) string {
	text, more := "", 0
	for _, t := range all {
		switch {
		case t.TargetOffset >= 0:
		case text == "":
			text = fmt.Sprintf("group %s: %s-%d is not translated: %s", group, t.Topic, t.Partition, t.Reason)
		default:
			more++
		}
	}
	if more > 0 {
		text += fmt.Sprintf(" (and %d more partitions)", more)
	}
	return text
}

// emit writes checkpoints.
func (c *checkpointing) emit(ctx context.Context, due []Checkpoint) error {
	for batch := range slices.Chunk(due, emitBatch) {
		now := time.Now()
		records := make([]*kgo.Record, 0, len(batch))
		var offsets []connector.Offset
		for _, k := range batch {
			key, value, err := k.Encode()
			if err != nil { // names that no Kafka has
				return &finalError{fmt.Errorf("checkpoint of group %.40q: %w", k.Group, err)}
			}
			records = append(records, &kgo.Record{Topic: c.topic(), Key: key, Value: value, Timestamp: now})
			// As with heartbeats, nobody reads it but who looks at the connector's offsets.
			if id := checkpointOffsetKey(k); !c.saved[string(id)] {
				offsets = append(offsets, connector.Offset{Partition: id, Offset: offsetValue(0)})
			}
		}
		if err := c.writer.produce(ctx, "write checkpoints", records); err != nil {
			return err
		}
		acknowledged := time.Now()
		if c.Wrote != nil {
			c.Wrote(c.topic())
		}
		for _, k := range batch {
			c.wrote(k)
			c.metrics.written(k, now, acknowledged)
		}
		c.save(ctx, offsets)
	}
	return nil
}

// save stores Connect's offsets of checkpoints. That this fails holds up nothing.
func (c *checkpointing) save(ctx context.Context, offsets []connector.Offset) {
	if len(offsets) == 0 {
		return
	}
	if err := c.Offsets.Save(ctx, offsets); err != nil {
		if ctx.Err() == nil && c.warn.allow("save") {
			c.Log.WarnContext(ctx, "offsets of checkpoints not saved", "err", err)
		}
		return
	}
	for _, o := range offsets {
		c.saved[string(o.Partition)] = true
	}
}

// checkpointOffsetKey is the key under which MirrorMaker stores the offset of a checkpoint, in the order in which Java's
// HashMap has its parts.
func checkpointOffsetKey(k Checkpoint) []byte {
	b := strconv.AppendInt([]byte(`{"partition":`), int64(k.Partition), 10)
	b = appendJavaString(append(b, `,"topic":`...), k.Topic)
	b = appendJavaString(append(b, `,"group":`...), k.Group)
	return append(b, '}')
}
