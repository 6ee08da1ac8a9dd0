package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// delay is how long records take from their producer to a consumer.
type delay struct {
	kind            kind
	control, copied []time.Duration // of each record, sorted
	missing         int             // records that were not received
	err             string
}

const (
	delayPartitions = 12
	delayRate       = 2000            // records a second
	delayWarm       = 5 * time.Second // sent before and not counted
)

// percentile is the smallest value that so many of all are not above: nearest
// rank, of a sorted list.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(percent / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// above is by how much the copy's percentile exceeds the control's.
func (d delay) above(percent float64) time.Duration {
	return percentile(d.copied, percent) - percentile(d.control, percent)
}

// delayOf measures a replicator under a steady, small load. A consumer at the
// source, in the same process as the one at the target, is the control.
func (l *lab) delayOf(ctx context.Context, k kind, span time.Duration) (d delay) {
	d.kind = k
	if err := l.measureDelay(ctx, span, &d); err != nil {
		d.err = err.Error()
		l.say("latency, %s: %s", k, d.err)
		return d
	}
	l.say("latency, %s: p50 %s, p99 %s, p99.9 %s above the control's", k, millis(d.above(50)), millis(d.above(99)), millis(d.above(99.9)))
	return d
}

func (l *lab) measureDelay(ctx context.Context, span time.Duration, d *delay) error {
	ctx, cancel := context.WithTimeout(ctx, span+2*time.Minute)
	defer cancel()
	const topic = "bench-latency"
	if err := l.create(ctx, l.sourceClient, topic, delayPartitions); err != nil {
		return err
	}
	defer func() {
		if err := l.clean(context.WithoutCancel(ctx)); err != nil {
			l.say("%v", err)
		}
	}()
	j, err := l.job(d.kind, topic, delayPartitions)
	if err != nil {
		return err
	}
	producer, err := l.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		return err
	}
	defer producer.Close()
	// One record everywhere shows that the copy has begun.
	for p := range int32(delayPartitions) {
		if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("begin")}).FirstErr(); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	r, err := l.start(ctx, j, false)
	defer r.kill()
	if err != nil {
		return err
	}
	if _, _, err := l.watch(r, nil).first(ctx, make([]int64, delayPartitions)); err != nil {
		return err
	}
	l.profile(r)
	defer l.finish(r)
	return l.sendAndReceive(ctx, j, producer, span, d)
}

func (l *lab) sendAndReceive(ctx context.Context, j job, producer *kgo.Client, span time.Duration, d *delay) error {
	begin := time.Now()
	warm := int(delayWarm.Seconds() * delayRate)
	count := warm + int(span.Seconds()*delayRate)
	atSource, err := l.source.Client(everything(j.topic)...)
	if err != nil {
		return err
	}
	defer atSource.Close()
	atTarget, err := l.target.Client(append(everything(j.copy()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return err
	}
	defer atTarget.Close()
	control, copied := make([]time.Duration, count), make([]time.Duration, count)
	g, working := errgroup.WithContext(ctx)
	g.Go(func() error { return send(working, producer, j.topic, begin, count) })
	// What has not come half a minute after the last was sent is missing.
	receiving, cancel := context.WithTimeout(working, delayWarm+span+30*time.Second)
	defer cancel()
	g.Go(func() error { return receive(receiving, atSource, begin, control) })
	g.Go(func() error { return receive(receiving, atTarget, begin, copied) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for n := warm; n < count; n++ {
		if copied[n] == 0 || control[n] == 0 {
			d.missing++
			continue
		}
		d.copied = append(d.copied, copied[n])
		d.control = append(d.control, control[n])
	}
	slices.Sort(d.copied)
	slices.Sort(d.control)
	if d.missing > 0 {
		return fmt.Errorf("latency: %d of %d records were not received", d.missing, count-warm)
	}
	return nil
}

// everything consumes all of a topic.
func everything(topic string) []kgo.Opt {
	from := map[int32]kgo.Offset{}
	for p := range int32(delayPartitions) {
		from[p] = kgo.NewOffset().AtStart()
	}
	return []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})}
}

// send sends records evenly, with the time of sending in each.
func send(ctx context.Context, producer *kgo.Client, topic string, begin time.Time, count int) error {
	started := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	failed := make(chan error, 1)
	for n := 0; n < count; {
		for due := int(time.Since(started).Seconds() * delayRate); n < min(due, count); n++ {
			r := &kgo.Record{Topic: topic, Partition: int32(n % delayPartitions), Value: sequence(n, int64(time.Since(begin)))}
			producer.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
		select {
		case err := <-failed:
			return fmt.Errorf("latency: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// receive notes how long each record took, until all are there or ctx ends. Of
// one that comes twice the first counts.
func receive(ctx context.Context, consumer *kgo.Client, begin time.Time, took []time.Duration) error {
	for missing := len(took); missing > 0; {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
		now := time.Since(begin)
		fetches.EachRecord(func(r *kgo.Record) {
			if len(r.Value) != 100 {
				return
			}
			n := binary.BigEndian.Uint64(r.Value)
			if n < uint64(len(took)) && took[n] == 0 {
				took[n] = now - time.Duration(binary.BigEndian.Uint64(r.Value[8:]))
				missing--
			}
		})
	}
	return nil
}
