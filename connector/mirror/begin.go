package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector"
)

// open makes the clients of a task, proves that both clusters accept them, and
// decides where each partition begins. What passes is tried until ctx ends.
func (t *copying) open(ctx context.Context) (starts map[string]map[int32]kgo.Offset, err error) {
	var loaded map[partition]int64
	steps := []struct {
		doing string
		do    func() error
	}{
		{"load offsets", func() (err error) { loaded, err = t.load(ctx); return err }},
		{"open the target", func() error { return t.openTarget(ctx) }},
		{"open the source", func() (err error) { starts, err = t.openSource(ctx, loaded); return err }},
	}
	for _, step := range steps {
		for failures := 1; ; failures++ {
			err := step.do()
			if err == nil {
				break
			}
			if ctx.Err() != nil || classify(err) != passing {
				return nil, err
			}
			if t.warn.allow(step.doing) {
				t.Log.WarnContext(ctx, "task waits to begin", "err", err)
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(backoff(failures, 100*time.Millisecond, longestWait)):
			}
		}
	}
	return starts, nil
}

// load reads the saved offsets as the next to copy, -1 where there is none.
func (t *copying) load(ctx context.Context) (map[partition]int64, error) {
	keys := make([][]byte, len(t.order))
	for i, l := range t.order {
		keys[i] = offsetKey(t.s.source, l.partition)
	}
	values, err := t.Offsets.Load(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("load offsets: %w", err)
	}
	next := map[partition]int64{}
	for i, l := range t.order {
		last, err := parseOffset(values[i])
		if err != nil {
			return nil, &finalError{fmt.Errorf("%s: %w", l.partition, err)}
		}
		next[l.partition] = -1
		if last >= 0 {
			next[l.partition] = last + 1
			t.saved[l.partition] = last + 1
		}
	}
	return next, nil
}

// openTarget opens the producer. A first client tells what the settings ask
// for, and what the topics take.
func (t *copying) openTarget(ctx context.Context) error {
	side := targetSide(connector.TargetProducer, t.s)
	look, err := openCluster(ctx, side, requestTimeout, t.Settings, t.Clients)
	if err != nil {
		return &finalError{err}
	}
	defer look.client.Close()
	if _, err := look.metadata(ctx, []string{}); err != nil {
		return err
	}
	limits, err := t.batchLimits(ctx, look)
	if err != nil {
		return err
	}
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if limit, ok := limits[topic]; ok {
				return limit
			}
			return defaultBatch
		}),
		// The byte gate bounds what is buffered. Were the client to block, it would block
		// the lane of a healthy partition because of a sick one.
		kgo.MaxBufferedRecords(1 << 30),
		// A topic that has gone comes back to its lane, which knows how to wait.
		kgo.UnknownTopicRetries(4),
		// The target forgot records that it had acknowledged. The client goes on with what is buffered, in
		// order; stopping would not bring back what is lost.
		kgo.ProducerOnDataLossDetected(t.targetLost),
	}
	// MirrorMaker writes uncompressed unless told otherwise. The codec of the source's batches
	// is not visible here; lz4 costs little and is what most use.
	if codecs, ok := look.client.OptValue(kgo.ProducerBatchCompression).([]kgo.CompressionCodec); ok && len(codecs) == 1 &&
		codecs[0] == kgo.NoCompression() && !t.sets(producerLayers, "compression.type") {
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	}
	if t.target, err = openCluster(ctx, side, requestTimeout, t.Settings, t.Clients, opts...); err != nil {
		return &finalError{err}
	}
	for _, l := range t.order {
		l.limit = defaultBatch
		if limit, ok := limits[l.target]; ok {
			l.limit = limit
		}
	}
	return nil
}

// defaultBatch is the default of max.request.size, just below a broker's of
// message.max.bytes.
const defaultBatch = 1 << 20

// sets says whether the connector's settings have a client setting.
func (t *copying) sets(layers []string, key string) bool {
	for _, prefix := range layers {
		if _, ok := t.Settings[prefix+key]; ok {
			return true
		}
	}
	return false
}

// batchLimits finds out how large a batch the topics of the target take: their
// max.message.bytes, unless max.request.size says less or more. Without the
// right to see that it is the default.
func (t *copying) batchLimits(ctx context.Context, target *cluster) (map[string]int32, error) {
	limits := map[string]int32{}
	asked, _ := target.client.OptValue(kgo.ProducerBatchMaxBytes).(int32)
	fixed := t.sets(producerLayers, "max.request.size") || asked != defaultBatch && asked != 1000012 // franz-go's default
	for _, l := range t.order {
		if fixed {
			limits[l.target] = asked
		} else {
			limits[l.target] = defaultBatch
		}
	}
	if fixed {
		return limits, nil
	}
	topics := make([]string, 0, len(limits))
	for topic := range limits {
		topics = append(topics, topic)
	}
	settings, err := target.settings(ctx, topics)
	if classify(err) == identity {
		return limits, nil
	}
	if err != nil {
		return nil, err
	}
	for topic, list := range settings {
		for _, s := range list {
			if n, ok := number(s.value); ok && s.name == "max.message.bytes" {
				limits[topic] = max(512, min(n, 64<<20))
			}
		}
	}
	return limits, nil
}

func number(text *string) (n int32, ok bool) {
	if text == nil {
		return 0, false
	}
	_, err := fmt.Sscan(*text, &n)
	return n, err == nil
}

// targetLost hears that the target has lost records it had acknowledged. It is
// called by the client.
func (t *copying) targetLost(topic string, id int32) {
	for _, l := range t.order {
		if l.target == topic && l.id == id {
			text := fmt.Sprintf("the target lost acknowledged records before offset %d of the source", l.next.Load())
			l.note.Store(&text)
		}
	}
	t.Log.Error("the target has lost records that it had acknowledged", "topic", topic, "partition", id)
}

// openSource opens the consumer and finds where each partition begins: behind
// what has been copied, otherwise where auto.offset.reset says (MirrorMaker's default: earliest).
func (t *copying) openSource(ctx context.Context, loaded map[partition]int64) (map[string]map[int32]kgo.Offset, error) {
	side := sourceSide(connector.SourceConsumer, t.s)
	look, err := openCluster(ctx, side, requestTimeout, t.Settings, t.Clients)
	if err != nil {
		return nil, &finalError{err}
	}
	defer look.client.Close()
	reset := resetOf(look.client)
	starts, err := t.begin(ctx, look, reset, loaded)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.KeepControlRecords(), kgo.ConsumeResetOffset(reset.offset)}
	if v, _ := look.client.OptValue(kgo.FetchMaxBytes).(int32); v == 50<<20 {
		opts = append(opts, kgo.FetchMaxBytes(fetchBytes))
	}
	if v, _ := look.client.OptValue(kgo.FetchMaxPartitionBytes).(int32); v == 1<<20 && !t.sets(consumerLayers, "max.partition.fetch.bytes") {
		opts = append(opts, kgo.FetchMaxPartitionBytes(fetchPartitionBytes))
	}
	if t.source, err = openCluster(ctx, side, requestTimeout, t.Settings, t.Clients, opts...); err != nil {
		return nil, &finalError{err}
	}
	return starts, nil
}

// reset is what to do where there is no offset, or one that the source does not
// have.
type reset struct {
	offset       kgo.Offset
	none, latest bool
}

// resetOf reads back auto.offset.reset out of a client that was made from the settings.
func resetOf(client *kgo.Client) reset {
	offset, _ := client.OptValue(kgo.ConsumeResetOffset).(kgo.Offset)
	switch offset {
	case kgo.NoResetOffset():
		return reset{offset: offset, none: true}
	case kgo.NewOffset().AtEnd():
		return reset{offset: offset, latest: true}
	case kgo.RewindOffset(time.Minute): // franz-go's default: nothing was set
		return reset{offset: kgo.NewOffset().AtStart()}
	}
	return reset{offset: offset}
}

// begin decides where each partition begins.
func (t *copying) begin(ctx context.Context, source *cluster, r reset, loaded map[partition]int64) (map[string]map[int32]kgo.Offset, error) {
	partitions := make([]partition, len(t.order))
	for i, l := range t.order {
		partitions[i] = l.partition
	}
	firsts, failed, err := source.offsets(ctx, partitions, atStart, t.committed)
	if err != nil {
		return nil, err
	}
	ends, failedEnds, err := source.offsets(ctx, partitions, atEnd, t.committed)
	if err != nil {
		return nil, err
	}
	starts := map[string]map[int32]kgo.Offset{}
	for _, l := range t.order {
		for _, refused := range []error{failed[l.partition], failedEnds[l.partition]} {
			if classify(refused) == identity {
				return nil, source.wrong("read "+l.topic, refused)
			}
		}
		first, end, saved := firsts[l.partition], ends[l.partition], loaded[l.partition]
		_, knowsFirst := firsts[l.partition]
		_, knowsEnd := ends[l.partition]
		if starts[l.topic] == nil {
			starts[l.topic] = map[int32]kgo.Offset{}
		}
		at := r.offset
		if knowsFirst && knowsEnd {
			l.end.Store(end)
			if at, err = t.beginOne(ctx, l, r, first, end, saved); err != nil {
				return nil, err
			}
		} else if saved >= 0 { // just now without a leader, or gone
			at = kgo.NewOffset().At(saved)
			l.position = saved
			l.next.Store(saved)
		} else {
			l.position = -1
		}
		starts[l.topic][l.id] = at
	}
	return starts, nil
}

// beginOne decides where one partition begins, whose records go from first to
// before end.
func (t *copying) beginOne(ctx context.Context, l *lane, r reset, first, end, saved int64) (kgo.Offset, error) {
	at := saved
	switch {
	case saved >= first && saved <= end:
	case r.none:
		return r.offset, &finalError{fmt.Errorf("%s: no offset to begin with (saved: %d, the source has %d to %d), and auto.offset.reset is none: %w",
			l.partition, saved, first, end, kerr.OffsetOutOfRange)}
	case saved >= 0 && saved < first:
		t.lost(ctx, l, saved, first, "they were deleted at the source before they were copied")
		at = first
		if r.latest {
			at = end
		}
	case saved > end:
		// Truncated or made anew. As MirrorMaker with its default, start over.
		t.lost(ctx, l, end, saved, "the source has been truncated or made anew; what is there now is copied")
		at = first
		if r.latest {
			at = end
		}
	case r.latest:
		// It is saved at once, so that a restart before the first record does not skip what comes until then.
		at = end
	case r.offset == kgo.NewOffset().AtStart():
		at = first
	default: // by_duration: the client looks it up
		l.position = -1
		return r.offset, nil
	}
	l.position = at
	l.next.Store(at)
	return kgo.NewOffset().At(at), nil
}
