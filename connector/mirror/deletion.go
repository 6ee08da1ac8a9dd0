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
)

// keyDeletionPolicy says what happens to the copy of a topic that is deleted at the source: ignore, as
// MirrorMaker does, or mark. Neither touches the copy. Kafka has no setting of a topic that would be a harmless place for a
// mark (it refuses names that it does not know), so a mark is the connector's: a note, a warning, a metric.
const keyDeletionPolicy = "topic.deletion.policy"

func checkDeletionPolicy(v string) error {
	if v != "ignore" && v != "mark" {
		return fmt.Errorf("%q is not ignore or mark", v)
	}
	return nil
}

// deletions is which topics have been deleted at the source and have a copy that nobody writes any more.
type deletions struct {
	marks bool // topic.deletion.policy=mark
	loaded,
	saved bool
	at map[string]time.Time
}

// deletionKey is the partition, in Connect's sense, under which the marks are kept.
func deletionKey(cluster string) []byte {
	alias, _ := json.Marshal(cluster) //nolint:errchkjson // a string
	return fmt.Appendf(nil, `{"cluster":%s,"deleted":"topics"}`, alias)
}

// watchDeletions tells which of the topics that were copied are not there any more. before are those that
// the tasks copied up to now.
func (p *planner) watchDeletions(ctx context.Context, seen view, before map[string]bool) error {
	if err := p.loadDeletions(ctx); err != nil {
		return err
	}
	for topic := range p.deleted.at {
		if _, back := seen.topics[topic]; back {
			p.unmark(topic)
		}
	}
	var gone []string
	for topic := range before {
		_, there := seen.topics[topic]
		if _, known := p.deleted.at[topic]; !there && !known {
			gone = append(gone, topic)
		}
	}
	slices.Sort(gone)
	for batch := range slices.Chunk(gone, batchSize) {
		// A topic that the principal may not see any more is missing in the list of all, too.
		named, err := p.source.metadata(ctx, batch)
		if err != nil {
			return err
		}
		for _, topic := range batch {
			switch {
			case named.unknown[topic]:
				p.mark(ctx, topic)
			case named.refused[topic] != nil:
				p.Log.WarnContext(ctx, "topic is not copied any more: the source does not show it", "topic", topic, "err", named.refused[topic],
					"principal", p.Clients.Principal(connector.SourceAdmin))
			}
		}
	}
	return p.saveDeletions(ctx)
}

// forgetCopies takes back the marks of topics whose copies are gone too.
func (p *planner) forgetCopies(ctx context.Context) error {
	if len(p.deleted.at) == 0 {
		return nil
	}
	wanted := map[string]int32{}
	for topic := range p.deleted.at {
		wanted[topic] = 0
	}
	there, err := p.targetTopics(ctx, wanted)
	if err != nil {
		return err
	}
	for topic := range wanted {
		if _, kept := there.topics[p.remote(topic)]; !kept {
			p.unmark(topic)
		}
	}
	return p.saveDeletions(ctx)
}

func (p *planner) mark(ctx context.Context, topic string) {
	if !p.deleted.marks {
		p.Log.InfoContext(ctx, "topic was deleted at the source: its copy stays as it is", "topic", topic, "copy", p.remote(topic))
		return
	}
	p.deleted.at[topic], p.deleted.saved = time.Now().UTC().Truncate(time.Millisecond), false
	p.noteDeleted(ctx, topic)
}

func (p *planner) noteDeleted(ctx context.Context, topic string) {
	p.notes.note(ctx, "deleted "+topic, connector.Note{
		About: aboutDeleted, Topic: topic, Since: p.deleted.at[topic], Degraded: true,
		Text: fmt.Sprintf("topic %s was deleted at the source: its copy %s gets nothing any more and stays as it is", topic, p.remote(topic)),
	})
}

func (p *planner) unmark(topic string) {
	delete(p.deleted.at, topic)
	p.deleted.saved = false
	p.notes.over("deleted " + topic)
}

// loadDeletions reads the marks of former runs, once.
func (p *planner) loadDeletions(ctx context.Context) error {
	if p.deleted.loaded || !p.deleted.marks {
		return nil
	}
	values, err := p.Offsets.Load(ctx, [][]byte{deletionKey(p.s.source)})
	if err != nil {
		return fmt.Errorf("read which topics were deleted: %w", err)
	}
	p.deleted.loaded, p.deleted.saved = true, true
	for _, value := range values {
		var record map[string]int64
		if value == nil || json.Unmarshal(value, &record) != nil {
			continue // set by hand
		}
		for _, topic := range slices.Sorted(maps.Keys(record)) {
			p.deleted.at[topic] = time.UnixMilli(record[topic]).UTC()
			p.noteDeleted(ctx, topic)
		}
	}
	return nil
}

// maxDeletions bounds the marks, so that their record is one that Kafka takes: it has names of up to 249 bytes.
const maxDeletions = 3000

// saveDeletions stores the marks: {"topic":milliseconds}.
func (p *planner) saveDeletions(ctx context.Context) error {
	if !p.deleted.marks || p.deleted.saved {
		return nil
	}
	record := map[string]int64{}
	for _, topic := range slices.SortedFunc(maps.Keys(p.deleted.at), func(a, b string) int {
		if c := p.deleted.at[b].Compare(p.deleted.at[a]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	}) {
		if len(record) < maxDeletions {
			record[topic] = p.deleted.at[topic].UnixMilli()
		}
	}
	offset := connector.Offset{Partition: deletionKey(p.s.source)}
	if len(record) > 0 {
		value, err := json.Marshal(record)
		if err != nil {
			return &finalError{err}
		}
		offset.Offset = value
	}
	if err := p.Offsets.Save(ctx, []connector.Offset{offset}); err != nil {
		return fmt.Errorf("remember which topics were deleted: %w", err)
	}
	p.deleted.saved = true
	return nil
}
