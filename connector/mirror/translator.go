package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/offsetrun"
)

// Translator translates the offsets of a link's groups: it reads what groups have committed at the source, and out of the books
// that source tasks keep on the target, or out of MirrorMaker's offset-syncs where there are none, where they go on. It writes
// nothing. It is not safe for concurrent use.
//
// How current it is depends on the source tasks: they write their books every offset.flush.interval.ms.
type Translator struct {
	link           sourceSettings
	log            *slog.Logger
	warn           *throttle
	filter         groupFilter
	source, target *cluster // with the rights of admins
	books          *offsetrun.Reader
	booksTopic     string
	reader         *cluster // of the books
	syncs          *tail
	// strict has the first reading of offset-syncs keep only the last of each partition; see syncHistory.add.
	strict bool
	known  history
	keys   map[partition][]offsetrun.Key
	// trouble says why books or offset-syncs could not be read.
	trouble, told string
}

// groupFilter says which groups and topics matter (DefaultGroupFilter, DefaultTopicFilter).
type groupFilter struct{ groups, groupsExclude, topics, topicsExclude patterns }

// newGroupFilter makes the filter out of a connector's settings. The lists of topics are the source connector's, with its
// defaults, as DefaultTopicFilter has them wherever it is used.
func newGroupFilter(s sourceSettings, settings config.Settings) (groupFilter, error) {
	topics, _ := sourceKeys().Parse(settings)
	var f groupFilter
	var errs [4]error
	f.groups, errs[0] = newPatterns(keyGroups, s.List(keyGroups))
	f.groupsExclude, errs[1] = newPatterns(keyGroupsExclude, s.List(keyGroupsExclude))
	f.topics, errs[2] = newPatterns(keyTopics, topics.List(keyTopics))
	f.topicsExclude, errs[3] = newPatterns(keyTopicsExclude, topics.List(keyTopicsExclude))
	return f, errors.Join(errs[:]...)
}

func (f groupFilter) group(name string) (bool, error) { return both(f.groups, f.groupsExclude, name) }

func (f groupFilter) topic(name string) (bool, error) { return both(f.topics, f.topicsExclude, name) }

// both says whether name is included and not excluded.
func both(include, exclude patterns, name string) (bool, error) {
	in, err := include.match(name)
	if err != nil || !in {
		return false, err
	}
	out, err := exclude.match(name)
	return !out, err
}

// OpenTranslator makes a translator for the link that settings describe: those of its checkpoint connector, or else of its
// source connector. It fails only if they are wrong; nothing is connected yet. Whoever made clients closes them.
func OpenTranslator(ctx context.Context, settings config.Settings, clients connector.Clients, log *slog.Logger) (*Translator, error) {
	s, err := parseLink(checkpointKeys(), settings)
	if err != nil {
		return nil, err
	}
	return openTranslator(ctx, s, settings, clients, log)
}

func openTranslator(ctx context.Context, s sourceSettings, settings config.Settings, clients connector.Clients, log *slog.Logger) (*Translator, error) {
	t := &Translator{
		link: s, log: log, warn: newThrottle(time.Minute), booksTopic: offsetrun.TopicName(s.source, s.policy.internal), keys: map[partition][]offsetrun.Key{},
		known: history{syncs: map[partition]*syncHistory{}},
	}
	var err error
	if t.filter, err = newGroupFilter(s, settings); err != nil {
		return nil, err
	}
	timeout := s.Duration("admin.timeout.ms")
	open := func(c **cluster, side side, opts ...kgo.Opt) {
		if err == nil {
			*c, err = openCluster(ctx, side, timeout, settings, clients, opts...)
		}
	}
	var syncs *cluster
	open(&t.source, sourceSide(connector.SourceAdmin, s), byTopicName())
	open(&t.target, targetSide(connector.TargetAdmin, s), byTopicName())
	open(&t.reader, targetSide(connector.TargetConsumer, s))
	if s.String(keySyncsLocation) == "target" {
		syncs = t.reader
	} else {
		open(&syncs, sourceSide(connector.SourceConsumer, s))
	}
	if err != nil {
		return nil, err
	}
	t.syncs = &tail{cluster: syncs, topic: syncsTopic(s), forget: func() { clear(t.known.syncs) }}
	return t, nil
}

// Read brings what is known of the copies up to date. Books or offset-syncs that may not be read are done without: what they
// would tell is then Unknown, and the reason says so. Other errors pass.
func (t *Translator) Read(ctx context.Context) error {
	t.trouble = ""
	if err := t.without(ctx, t.readBooks(ctx)); err != nil {
		return err
	}
	return t.without(ctx, t.readSyncs(ctx))
}

// without notes what cannot be read.
func (t *Translator) without(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, errNoTopic):
		return nil
	case classify(err) != identity:
		return err
	}
	t.trouble = err.Error()
	if t.told != t.trouble {
		t.told = t.trouble
		t.log.WarnContext(ctx, "offsets are translated without what may not be read", "err", err)
	}
	return nil
}

// readBooks reads the offset runs.
func (t *Translator) readBooks(ctx context.Context) error {
	// A reader waits for a topic that is not there.
	seen, err := t.reader.describe(ctx, []string{t.booksTopic})
	if err != nil {
		return err
	}
	clear(t.keys)
	if _, ok := seen[t.booksTopic]; !ok {
		t.books = nil
		return nil
	}
	if t.books == nil {
		t.books = offsetrun.NewReader(offsetrun.ReaderOptions{Client: t.reader.client, Topic: t.booksTopic})
	}
	ctx, cancel := context.WithTimeout(ctx, t.reader.timeout)
	defer cancel()
	if err := t.books.Read(ctx); err != nil {
		return t.reader.wrong("read "+t.booksTopic, err)
	}
	for _, k := range t.books.Keys() {
		p := partition{k.Topic, k.Partition}
		t.keys[p] = append(t.keys[p], k)
	}
	return nil
}

// readSyncs reads MirrorMaker's offset-syncs.
func (t *Translator) readSyncs(ctx context.Context) error {
	first := t.syncs.position == 0
	return t.syncs.read(ctx, func(r *kgo.Record) {
		s, err := DecodeOffsetSync(r.Key, r.Value)
		if err != nil {
			if t.warn.allow("offset-sync") {
				t.log.WarnContext(ctx, "record that is no offset-sync", "topic", t.syncs.topic, "offset", r.Offset, "err", err)
			}
			return
		}
		p := partition{s.Topic, s.Partition}
		switch h := t.known.syncs[p]; {
		case h != nil:
			h.add(s, first && t.strict)
		case !t.needless(p):
			t.known.syncs[p] = newSyncHistory(s)
		}
	})
}

// needless says that offset-syncs of a partition would tell nothing: it has books, which we keep from the beginning of the copy.
func (t *Translator) needless(p partition) bool {
	for _, k := range t.keys[p] {
		if b, err := t.books.Book(k); err == nil && b != nil && b.Map.First() != (offsetrun.Run{}) && b.Map.First().Target == 0 {
			return true
		}
	}
	return false
}

// TargetTopic is the name of a topic's copy. One that came from the target goes by its own name there
// (MirrorCheckpointTask.renameTopicPartition).
func (t *Translator) TargetTopic(topic string) string {
	if from, ok := t.link.policy.TopicSource(topic); ok && from == t.link.target {
		return t.link.policy.OriginalTopic(topic)
	}
	return t.link.policy.FormatRemoteTopic(t.link.source, topic)
}

// Groups lists the groups of the source that the settings choose, in order. Those of other kinds than consumers' are none.
func (t *Translator) Groups(ctx context.Context) ([]string, error) {
	all, err := t.source.groupTypes(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		matches, err := t.filter.group(name)
		if err != nil {
			return nil, &finalError{err}
		}
		if matches && consumes(all[name]) {
			chosen = append(chosen, name)
		}
	}
	return chosen, nil
}

// Translate translates what groups have committed at the source for topics that the settings choose, by topic and partition,
// as of the last Read. The second map has groups whose offsets could not be read.
func (t *Translator) Translate(ctx context.Context, groups []string) (map[string][]Translation, map[string]error, error) {
	offsets, failed, err := t.offsets(ctx, groups)
	if err != nil {
		return nil, nil, err
	}
	wanted := map[partition]bool{}
	for _, of := range offsets {
		for p := range of {
			wanted[p] = true
		}
	}
	if err := t.choose(ctx, slices.SortedFunc(maps.Keys(wanted), partition.compare)); err != nil {
		return nil, nil, err
	}
	all := make(map[string][]Translation, len(offsets))
	for group, of := range offsets {
		list := make([]Translation, 0, len(of))
		for _, p := range slices.SortedFunc(maps.Keys(of), partition.compare) {
			at := t.known.translate(p, of[p].offset)
			if at.accuracy == Unknown && t.trouble != "" {
				at.reason += "; " + t.trouble
			}
			list = append(list, Translation{
				Topic: p.topic, Partition: p.id, Offset: of[p].offset, Metadata: of[p].metadata,
				TargetTopic: t.TargetTopic(p.topic), TargetOffset: at.target, Accuracy: at.accuracy, Reason: at.reason,
			})
		}
		all[group] = list
	}
	return all, failed, nil
}

// offsets reads what groups have committed for chosen topics.
func (t *Translator) offsets(ctx context.Context, groups []string) (map[string]map[partition]committed, map[string]error, error) {
	all, failed, err := t.source.groupOffsets(ctx, groups)
	if err != nil {
		return nil, nil, err
	}
	chosen := map[string]bool{}
	for _, of := range all {
		for p := range of {
			matches, asked := chosen[p.topic]
			if !asked {
				if matches, err = t.filter.topic(p.topic); err != nil {
					return nil, nil, &finalError{err}
				}
				chosen[p.topic] = matches
			}
			if !matches {
				delete(of, p)
			}
		}
	}
	return all, failed, nil
}

// choose finds the books of partitions that tell of what is there now.
func (t *Translator) choose(ctx context.Context, partitions []partition) error {
	t.known.books, t.known.unfit = map[partition][]*offsetrun.Book{}, map[partition]string{}
	var kept, copies []partition
	for _, p := range partitions {
		if len(t.keys[p]) > 0 {
			kept, copies = append(kept, p), append(copies, partition{t.TargetTopic(p.topic), p.id})
		}
	}
	if len(kept) == 0 {
		return nil
	}
	sources, err := t.source.topicIDs(ctx, kept)
	if err != nil {
		return err
	}
	targets, err := t.target.topicIDs(ctx, copies)
	if err != nil {
		return err
	}
	for i, p := range kept {
		var fit []*offsetrun.Book
		why := ""
		for _, k := range t.keys[p] {
			book, err := t.books.Book(k)
			switch {
			case err != nil:
				why = fmt.Sprintf("the offset runs of %s cannot be read: %v", k, err)
			case book == nil || book.State.TargetTopic != copies[i].topic:
			default:
				if wrong := unfit(book, sources, targets); wrong != "" {
					why = wrong
				} else {
					fit = append(fit, book)
				}
			}
		}
		slices.SortStableFunc(fit, func(a, b *offsetrun.Book) int { return cmp.Compare(b.State.TargetNext, a.State.TargetNext) })
		if t.known.books[p] = fit; len(fit) == 0 {
			t.known.unfit[p] = why
		}
	}
	return nil
}

// unfit says why a book does not tell of the topics that are there. sources and targets are their ids.
func unfit(book *offsetrun.Book, sources, targets map[string][16]byte) string {
	var none [16]byte
	st := book.State
	switch target, there := targets[st.TargetTopic]; {
	case !there:
		return fmt.Sprintf("the target has no topic %s any more", st.TargetTopic)
	case st.TargetTopicID != none && target != none && st.TargetTopicID != target:
		return fmt.Sprintf("topic %s of the target has been made anew since it was copied to", st.TargetTopic)
	}
	if id := sources[book.Key.Topic]; st.SourceTopicID != none && id != none && id != st.SourceTopicID {
		return fmt.Sprintf("topic %s of the source has been made anew since it was copied", book.Key.Topic)
	}
	return ""
}
