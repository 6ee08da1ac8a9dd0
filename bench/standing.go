package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// begun is how long a replicator takes from the start of its process to its
// first record at the target.
type begun struct {
	kind        kind
	cold, again time.Duration // without and with what an earlier process left: internal topics, connector, offsets
	err         string
}

// idle is what a replicator costs that has nothing to copy.
type idle struct {
	kind       kind
	partitions int32
	cpu        float64 // processors
	brokers    float64 // processors of both
	now, peak  int64   // bytes
	err        string
}

// settle is how long a replicator that has caught up is left alone before its
// idleness is measured.
const settle = 10 * time.Second

// sprinkle writes some records to each partition.
func (l *lab) sprinkle(ctx context.Context, topic string, partitions int32, each int) error {
	client, err := l.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for n := range each * int(partitions) {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(n % int(partitions)), Value: sequence(n, 0)})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write to %s: %w", topic, err)
	}
	return nil
}

// beginning measures the start of a replicator some times; the fastest counts.
func (l *lab) beginning(ctx context.Context, k kind, times int) begun {
	best := begun{kind: k}
	for n := range times {
		cold, again, err := l.measureStart(ctx, k)
		if err != nil {
			best.err = err.Error()
			l.say("start, %s: %s", k, best.err)
			return best
		}
		if n == 0 {
			best.cold, best.again = cold, again
		}
		best.cold, best.again = min(best.cold, cold), min(best.again, again)
		l.say("start, %s: %.2f s, again %.2f s", k, cold.Seconds(), again.Seconds())
	}
	return best
}

func (l *lab) measureStart(ctx context.Context, k kind) (cold, again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	const topic, partitions, each = "bench-start", 12, 100
	if err := l.create(ctx, l.sourceClient, topic, partitions); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err := l.clean(context.WithoutCancel(ctx)); err != nil {
			l.say("%v", err)
		}
	}()
	j, err := l.job(k, topic, partitions)
	if err != nil {
		return 0, 0, err
	}
	// The second start goes on where the first, which was stopped in good order, ended.
	after := make([]int64, partitions)
	for n, took := range []*time.Duration{&cold, &again} {
		if err := l.sprinkle(ctx, topic, partitions, each); err != nil {
			return 0, 0, err
		}
		r, err := l.start(ctx, j, n > 0)
		defer r.kill()
		if err != nil {
			return 0, 0, err
		}
		w := l.watch(r, nil)
		first, _, err := w.first(ctx, after)
		if err != nil {
			return 0, 0, err
		}
		*took = first.at.Sub(r.begin)
		if err := w.reach(ctx, after, each); err != nil {
			return 0, 0, err
		}
		if err := r.proc.Stop(patience); err != nil {
			return 0, 0, err
		}
		if after, _, err = ends(ctx, l.targetBroker, j.copy(), partitions, false); err != nil {
			return 0, 0, err
		}
	}
	return cold, again, nil
}

// idling measures what a replicator costs that has caught up with a topic.
func (l *lab) idling(ctx context.Context, k kind, partitions int32, span time.Duration) idle {
	i := idle{kind: k, partitions: partitions}
	if err := l.measureIdle(ctx, span, &i); err != nil {
		i.err = err.Error()
		l.say("idle, %d partitions, %s: %s", partitions, k, i.err)
		return i
	}
	l.say("idle, %d partitions, %s: %.2f %% of a processor, %.0f MB", partitions, k, 100*i.cpu, mega(i.now))
	return i
}

func (l *lab) measureIdle(ctx context.Context, span time.Duration, i *idle) error {
	ctx, cancel := context.WithTimeout(ctx, span+3*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("bench-idle-%d", i.partitions)
	if err := l.create(ctx, l.sourceClient, topic, i.partitions); err != nil {
		return err
	}
	defer func() {
		if err := l.clean(context.WithoutCancel(ctx)); err != nil {
			l.say("%v", err)
		}
	}()
	if err := l.sprinkle(ctx, topic, i.partitions, 1); err != nil {
		return err
	}
	j, err := l.job(i.kind, topic, i.partitions)
	if err != nil {
		return err
	}
	r, err := l.start(ctx, j, false)
	defer r.kill()
	if err != nil {
		return err
	}
	w := l.watch(r, nil)
	if err := w.reach(ctx, make([]int64, i.partitions), 1); err != nil {
		return err
	}
	if err := rest(ctx, settle); err != nil {
		return err
	}
	before, err := w.meter.read()
	if err != nil {
		return err
	}
	begin := time.Now()
	l.profile(r)
	if err := rest(ctx, span); err != nil {
		return err
	}
	l.profile(r)
	after, err := w.meter.read()
	if err != nil {
		return err
	}
	used, took := after.minus(before), time.Since(begin).Seconds()
	i.cpu, i.brokers = used.replicator.Seconds()/took, (used.source+used.target).Seconds()/took
	i.peak, i.now, err = memory(r.proc.PID())
	l.finish(r)
	return err
}
