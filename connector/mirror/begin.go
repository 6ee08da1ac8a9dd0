package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"golang.org/x/sync/errgroup"

	"barnabas/connector"
	"barnabas/connector/rawcopy"
)

// open makes the clients of a task and proves that both clusters accept them.
// What passes is tried until ctx ends.
func (t *copying) open(ctx context.Context) error {
	g, opening := errgroup.WithContext(ctx)
	g.Go(func() error {
		return t.insist(opening, []step{{"open the target", func() error { return t.openTarget(opening) }}})
	})
	g.Go(func() error {
		return t.insist(opening, []step{{"open the source", func() error { return t.openSource(opening) }}})
	})
	err := g.Wait()
	if err == nil && t.Settings[keyProvenance].Written == "true" {
		t.mark, err = newMark(t.source.id, t.target.id)
	}
	return err
}

// step is something that is tried until it succeeds.
type step struct {
	doing string
	do    func() error
}

// insist takes steps in order, each until it succeeds, or fails for good.
func (t *copying) insist(ctx context.Context, steps []step) error {
	for _, step := range steps {
		began := time.Now()
		for failures := 1; ; failures++ {
			err := step.do()
			if err == nil {
				t.Log.DebugContext(ctx, "a step of the beginning is done", "doing", step.doing, "took", time.Since(began))
				break
			}
			if ctx.Err() != nil || classify(err) != passing || is(err, rawcopy.ErrFenced, rawcopy.ErrRestart) {
				return err
			}
			if t.warn.allow(step.doing) {
				t.Log.WarnContext(ctx, "task waits to begin", "doing", step.doing, "err", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(backoff(failures, 100*time.Millisecond, longestWait)):
			}
		}
	}
	return nil
}

// openTarget opens the client that writes. Whether the cluster has
// transaction.version 2 decides how transactions are spoken (KIP-890).
func (t *copying) openTarget(ctx context.Context) error {
	side := targetSide(connector.TargetProducer, t.s)
	look, err := openCluster(ctx, side, requestTimeout, t.Settings, t.Clients)
	if err != nil {
		return &finalError{err}
	}
	v, err := look.metadata(ctx, []string{})
	if err != nil {
		look.client.Close()
		return err
	}
	look.id = v.clusterID
	t.target = look
	if t.Delivery != connector.Transactional {
		return nil
	}
	level, err := look.transactionVersion(ctx)
	if err != nil {
		look.client.Close()
		return err
	}
	if t.explicit = level < 2; !t.explicit {
		return nil
	}
	look.client.Close()
	if t.target, err = openCluster(ctx, side, requestTimeout, t.Settings, t.Clients, kgo.MaxVersions(kversion.V3_8_0())); err != nil {
		return &finalError{err}
	}
	t.target.id = v.clusterID
	return nil
}

// openSource opens the client that reads.
func (t *copying) openSource(ctx context.Context) error {
	source, err := openCluster(ctx, sourceSide(connector.SourceConsumer, t.s), requestTimeout, t.Settings, t.Clients)
	if err != nil {
		return &finalError{err}
	}
	v, err := source.metadata(ctx, []string{})
	if err != nil {
		source.client.Close()
		return err
	}
	source.id = v.clusterID
	t.source = source
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

// option reads an option of a client that was made from the settings, and
// takes otherwise where nothing was set.
func option[T comparable](client *kgo.Client, opt any, unset, otherwise T) T {
	if v, ok := client.OptValue(opt).(T); ok && v != unset {
		return v
	}
	return otherwise
}

// flowOptions reads the bounds of the copy out of the clients' settings.
func (t *copying) flowOptions() rawcopy.FlowOptions {
	source, target := t.source.client, t.target.client
	o := rawcopy.FlowOptions{
		FetchBytes:          option(source, kgo.FetchMaxBytes, int32(50<<20), int32(fetchBytes)),
		FetchPartitionBytes: option(source, kgo.FetchMaxPartitionBytes, int32(1<<20), int32(fetchPartitionBytes)),
		MinBytes:            option(source, kgo.FetchMinBytes, int32(1), int32(1)),
		MaxWait:             min(option(source, kgo.FetchMaxWait, 5*time.Second, fetchWait), 5*time.Second),
		Rack:                option(source, kgo.Rack, "", ""),
		ReadCommitted:       t.committed, RequestBytes: 4 << 20, InFlight: 5,
		Timeout:   option(target, kgo.ProduceRequestTimeout, 10*time.Second, 30*time.Second),
		StopAtGap: t.stopAtGap(), Tolerate: t.tolerates(), Jitter: jitter, Explicit: t.explicit,
	}
	if t.delivery == connector.Transactional {
		o.TransactionalID = &t.TransactionalID
	}
	o.WaitForBooks = t.delivery == connector.Fenced
	return o
}

// limits finds out what the topics of the target take: batches up to
// max.message.bytes, unless max.request.size says less or more, and whether they keep the records'
// timestamps. Without the right to see that it is the default.
func (t *copying) limits(ctx context.Context, lanes []*lane) (map[string]rawcopy.Limits, error) {
	asked := option(t.target.client, kgo.ProducerBatchMaxBytes, int32(1000012), int32(defaultBatch))
	fixed := t.sets(producerLayers, "max.request.size")
	limits := map[string]rawcopy.Limits{}
	for _, l := range lanes {
		limits[l.target] = rawcopy.Limits{MaxBytes: asked, KeepAppendTime: true, Codecs: 0x1f, Mark: t.mark}
	}
	if codec := t.codec(); codec >= 0 {
		for topic, limit := range limits {
			limit.Codecs = 1 << codec
			limits[topic] = limit
		}
	}
	settings, err := t.target.settings(ctx, slices.Sorted(maps.Keys(limits)))
	if classify(err) == identity {
		return limits, nil
	}
	if err != nil {
		return nil, err
	}
	for topic, list := range settings {
		limit := limits[topic]
		for _, s := range list {
			switch {
			case s.value == nil:
			case s.name == "max.message.bytes" && !fixed:
				if n, ok := number(s.value); ok {
					limit.MaxBytes = max(512, min(n, 64<<20))
				}
			case s.name == "message.timestamp.type":
				limit.KeepAppendTime = *s.value != "LogAppendTime"
			}
		}
		limits[topic] = limit
	}
	return limits, nil
}

// codec is the one that compression.type asks for; -1 if nothing does. A batch
// that has another is re-encoded.
func (t *copying) codec() int8 {
	if !t.sets(producerLayers, "compression.type") {
		return -1
	}
	codecs, ok := t.target.client.OptValue(kgo.ProducerBatchCompression).([]kgo.CompressionCodec)
	if !ok || len(codecs) == 0 {
		return -1
	}
	for i, known := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		if codecs[0] == known {
			return int8(i)
		}
	}
	return -1
}

func number(text *string) (n int32, ok bool) {
	if text == nil {
		return 0, false
	}
	_, err := fmt.Sscan(*text, &n)
	return n, err == nil
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
