package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// loaded is a profile whose data stands at the source.
type loaded struct {
	profile
	disk    int64 // bytes of the source's logs
	batches int64
	digests []digest
}

// fill writes a profile's data and finds out what it is.
func (l *lab) fill(ctx context.Context, p profile) (loaded, error) {
	data := loaded{profile: p}
	begin := time.Now()
	if err := l.create(ctx, l.sourceClient, p.topic(), p.partitions); err != nil {
		return data, err
	}
	if err := p.load(ctx, l.source); err != nil {
		return data, err
	}
	counted, err := scan(ctx, l.source, p.topic(), p.counts(), false)
	if err != nil {
		return data, err
	}
	if got := total(counted.counts); got != int64(p.records) {
		return data, fmt.Errorf("load %s: %d records at the source, not %d", p.name, got, p.records)
	}
	data.batches = counted.batches
	if data.disk, err = l.size(ctx, l.sourceClient, p.topic(), p.partitions); err != nil {
		return data, err
	}
	if data.digests, err = digests(ctx, l.source, p.topic(), p.counts()); err != nil {
		return data, err
	}
	l.say("%s: %d records, %.1f a batch, %.0f MB of payload, %.0f MB on disk, loaded in %.0f s",
		p.name, p.records, float64(p.records)/float64(data.batches), mega(p.payload()), mega(data.disk), time.Since(begin).Seconds())
	return data, nil
}

// copyOnce has a replicator copy everything once, from the start of its process.
func (l *lab) copyOnce(ctx context.Context, k kind, data loaded, thorough bool) (c copied) {
	c = copied{profile: data.name, kind: k}
	if err := l.measure(ctx, data, thorough, &c); err != nil {
		c.err = err.Error()
		l.say("%s, %s: %s", data.name, k, c.err)
		return c
	}
	l.say("%s, %s: %.0f MB/s, %.2f CPU-s/GB, %.0f MB, first record after %.2f s, equal: %s",
		data.name, k, c.rate(), c.cpu(), mega(c.peak), c.first.Seconds(), c.equal)
	return c
}

// copyLimit bounds one copy: twenty times as long as MirrorMaker 2 should take.
const copyLimit = 8 * time.Minute

func (l *lab) measure(ctx context.Context, data loaded, thorough bool, c *copied) error {
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	j, err := l.job(c.kind, data.topic(), data.partitions)
	if err != nil {
		return err
	}
	// Whatever happened, the next run begins with empty clusters.
	defer func() {
		if err := l.clean(context.WithoutCancel(ctx), data.topic()); err != nil {
			l.say("%v", err)
		}
	}()
	r, err := l.start(ctx, j, false)
	defer r.kill()
	if err != nil {
		return err
	}
	w := l.watch(r, data.counts())
	first, markers, err := w.first(ctx, make([]int64, data.partitions))
	if err != nil {
		return err
	}
	l.profile(r)
	last, err := w.last(ctx, first, markers)
	if err != nil {
		return err
	}
	l.profile(r)
	c.first = first.at.Sub(r.begin)
	c.span = last.at.Sub(first.at)
	c.used = last.cpu.minus(first.cpu)
	// What was there when the clock began does not count.
	share := 1 - float64(total(first.ends)-total(markers))/float64(data.records)
	c.payload, c.disk = share*float64(data.payload()), share*float64(data.disk)
	if c.peak, _, err = memory(r.proc.PID()); err != nil {
		return err
	}
	c.modes = r.modes(ctx)
	l.finish(r)
	size, err := l.size(ctx, l.targetClient, j.copy(), j.partitions)
	if err != nil {
		return err
	}
	c.written = float64(size) / float64(data.disk)
	c.equal, err = l.check(ctx, j, data.digests, thorough)
	return err
}

// finish ends a replicator, after it has written its profile.
func (l *lab) finish(r running) {
	if l.pprof == "" || r.kind.java() {
		r.kill()
		return
	}
	_ = r.proc.Stop(patience)
}

// fetchOnce measures the bare fetch.
func (l *lab) fetchOnce(ctx context.Context, data loaded) (c copied) {
	c = copied{profile: data.name, kind: rawFetch}
	if err := l.measureFetch(ctx, data, &c); err != nil {
		c.err = err.Error()
	}
	l.say("%s, %s: %.0f MB/s, %.2f CPU-s/GB %s", data.name, rawFetch, c.rate(), c.cpu(), c.err)
	return c
}

func (l *lab) measureFetch(ctx context.Context, data loaded, c *copied) error {
	const times = 3
	m := meter{source: l.source.Process().PID()}
	before, err := m.read()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, l.self, "fetch", l.source.Bootstrap(), data.topic(), strconv.Itoa(int(data.partitions)), strconv.Itoa(times)).Output()
	if err != nil {
		return fmt.Errorf("bare fetch: %w", err)
	}
	after, err := m.read()
	if err != nil {
		return err
	}
	var report fetchReport
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&report); err != nil {
		return fmt.Errorf("bare fetch: %w", err)
	}
	c.span, c.used = time.Duration(report.Seconds*float64(time.Second)), after.minus(before)
	c.used.replicator = time.Duration(report.CPUSeconds * float64(time.Second))
	c.payload, c.disk = times*float64(data.payload()), times*float64(data.disk)
	return nil
}

// warm has the brokers work until most of their code is compiled: otherwise
// whoever comes first pays for it.
func (l *lab) warm(ctx context.Context, kinds []kind, quick bool) error {
	p := profiles()[0]
	p.name, p.records = "warm", 400_000
	turns := []kind{rawLoop, mm2Defaults, rawLoop, rawLoop, rawLoop, rawLoop, rawLoop}
	if quick {
		p.records, turns = 100_000, turns[2:5]
	}
	l.say("warming up the brokers: these figures do not count")
	data, err := l.fill(ctx, p)
	if err != nil {
		return err
	}
	for _, k := range turns {
		if ctx.Err() == nil && (k == rawLoop || slices.Contains(kinds, k)) {
			l.copyOnce(ctx, k, data, true)
		}
	}
	return l.clean(ctx)
}

// copies measures all ways of copying a profile, in one go. MirrorMaker 2 runs once,
// since it takes long enough; the others take turns before and after it, and
// of each the run with the median throughput counts.
func (l *lab) copies(ctx context.Context, data loaded, kinds []kind, repeat int) []copied {
	runs := map[kind][]copied{}
	for turn := range repeat {
		for _, java := range []bool{false, true} {
			for _, k := range kinds {
				switch {
				case ctx.Err() != nil || k.java() != java || java && turn > 0:
				case k == rawFetch:
					runs[k] = append(runs[k], l.fetchOnce(ctx, data))
				default:
					c := l.copyOnce(ctx, k, data, turn == 0)
					if k == rawLoop && c.err != "" { // it survives no fault, not even a leader that is late
						c = l.copyOnce(ctx, k, data, turn == 0)
					}
					runs[k] = append(runs[k], c)
				}
			}
		}
	}
	var all []copied
	for _, k := range kinds {
		if len(runs[k]) > 0 {
			all = append(all, median(runs[k]))
		}
	}
	return all
}

// median is the run with the median throughput. One that failed, or whose copy
// is not equal, is not left out: it is the result.
func median(runs []copied) copied {
	for _, c := range runs {
		if c.err != "" || c.wrong() {
			return c
		}
	}
	sorted := slices.SortedStableFunc(slices.Values(runs), func(a, b copied) int {
		if a.rate() < b.rate() {
			return -1
		}
		return 1
	})
	middle := sorted[len(sorted)/2]
	for _, c := range runs { // only one of them was compared record by record
		if c.equal == "yes" {
			middle.equal = c.equal
		}
		middle.peak = max(middle.peak, c.peak)
	}
	return middle
}
