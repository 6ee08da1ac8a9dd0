package main

import (
	"fmt"
	"math"
)

// goal is something to be reached, and what was.
type goal struct {
	what  string
	bound string
	got   float64
	unit  string
	least bool    // got is to be at least the limit, otherwise at most
	limit float64 // NaN: it is only printed
}

// verdict is yes or no, or what else there is to say.
func (g goal) verdict() string {
	switch {
	case math.IsNaN(g.got):
		return "not measured"
	case math.IsNaN(g.limit):
		return "–"
	case g.least && g.got >= g.limit, !g.least && g.got <= g.limit:
		return "yes"
	}
	return "NO"
}

// atLeast and atMost are the two sorts of goal.
func atLeast(what string, got, limit float64, unit string) goal {
	return goal{what, fmt.Sprintf("≥ %s%s", figure(limit), unit), got, unit, true, limit}
}

func atMost(what string, got, limit float64, unit string) goal {
	bound := figure(limit)
	if n := math.Round(1 / limit); limit > 0 && limit < 0.5 && math.Abs(n*limit-1) < 1e-9 {
		bound = fmt.Sprintf("1/%.0f", n)
	}
	return goal{what, "≤ " + bound + unit, got, unit, false, limit}
}

func printed(what string, got float64, unit string) goal {
	return goal{what, "printed", got, unit, false, math.NaN()}
}

// goals compares what was measured with what is to be reached.
func (r results) goals() []goal {
	rate, cpu := copied.rate, copied.cpu
	get := func(profile string, k kind, f func(copied) float64) float64 {
		if c := r.find(profile, k); c.ok() {
			return f(c)
		}
		return math.NaN()
	}
	rateVsLoop := func(profile string, k kind) float64 { return ratio(get(profile, k, rate), get(profile, rawLoop, rate)) }
	rateVsMM2 := func(profile string) float64 { return ratio(get(profile, ours, rate), r.better(profile, rate, true)) }
	peak := func(c copied) float64 { return mega(c.peak) }
	all := []goal{
		atLeast("throughput, 1 KiB lz4, of MirrorMaker 2's", rateVsMM2("main"), 5, " ×"),
		atLeast("throughput, 1 KiB lz4, of the bare loop's", rateVsLoop("main", ours), 0.85, " ×"),
		atMost("CPU per GB, 1 KiB lz4, of MirrorMaker 2's", ratio(get("main", ours, cpu), r.better("main", cpu, false)), 1.0/12, " ×"),
		atMost("CPU per GB, 1 KiB lz4, of the bare loop's", ratio(get("main", ours, cpu), get("main", rawLoop, cpu)), 1.3, " ×"),
		printed("throughput, 100 B zstd, of MirrorMaker 2's", rateVsMM2("small"), " ×"),
		atLeast("throughput, 100 B zstd, of the bare loop's", rateVsLoop("small", ours), 0.85, " ×"),
		printed("throughput, 10 KiB lz4, of MirrorMaker 2's", rateVsMM2("large"), " ×"),
		atLeast("throughput, 10 KiB lz4, of the bare loop's", rateVsLoop("large", ours), 0.85, " ×"),
		printed("throughput, random uncompressed, of MirrorMaker 2's", rateVsMM2("random"), " ×"),
		printed("throughput, random uncompressed, of the bare loop's", rateVsLoop("random", ours), " ×"),
		atLeast("throughput, batches of 1, of MirrorMaker 2's", rateVsMM2("batch1"), 2, " ×"),
		atLeast("throughput, batches of 1, of the bare loop's", rateVsLoop("batch1", ours), 1, " ×"),
		atLeast("throughput, batches of 5, of MirrorMaker 2's", rateVsMM2("batch5"), 2, " ×"),
		atLeast("throughput, batches of 5, of the bare loop's", rateVsLoop("batch5", ours), 1, " ×"),
		printed("throughput, 1,000 partitions, of MirrorMaker 2's", rateVsMM2("wide"), " ×"),
		printed("throughput, 1,000 partitions, of the bare loop's", rateVsLoop("wide", ours), " ×"),
		atLeast("exactly once: throughput, of MirrorMaker 2's exactly once", ratio(get("main", oursOnce, rate), get("main", mm2Once, rate)), 12, " ×"),
		atLeast("exactly once: throughput, of the bare loop's", rateVsLoop("main", oursOnce), 0.75, " ×"),
		atMost("exactly once: CPU per GB, of MirrorMaker 2's exactly once", ratio(get("main", oursOnce, cpu), get("main", mm2Once, cpu)), 1.0/15, " ×"),
		atMost("exactly once: CPU per GB, of the bare loop's", ratio(get("main", oursOnce, cpu), get("main", rawLoop, cpu)), 1.6, " ×"),
		atMost("peak memory, 12 partitions, of MirrorMaker 2's", ratio(get("main", ours, peak), r.better("main", peak, false)), 0.1, " ×"),
		atMost("peak memory, 12 partitions", get("main", ours, peak), 150, " MB"),
		atMost("peak memory, 1,000 partitions, of MirrorMaker 2's", ratio(get("wide", ours, peak), r.better("wide", peak, false)), 0.1, " ×"),
		atMost("peak memory, 1,000 partitions", get("wide", ours, peak), 250, " MB"),
		atMost("bytes at the target for one at the source", get("main", ours, func(c copied) float64 { return math.Round(c.written*100) / 100 }), 1, ""),
	}
	return append(all, r.standingGoals()...)
}

// standingGoals are those that are not about copying in bulk.
func (r results) standingGoals() []goal {
	measured := func(f float64) float64 { // nothing was measured where it is 0
		if f == 0 {
			return math.NaN()
		}
		return f
	}
	us, they := r.started(ours), r.started(mm2Defaults)
	all := []goal{
		atMost("start to first record, cold, of MirrorMaker 2's", ratio(measured(us.cold.Seconds()), measured(they.cold.Seconds())), 1.0/7, " ×"),
		atMost("start to first record, cold", measured(us.cold.Seconds()), 1, " s"),
		atMost("start to first record, again, of MirrorMaker 2's", ratio(measured(us.again.Seconds()), measured(they.again.Seconds())), 1.0/7, " ×"),
		atMost("start to first record, again", measured(us.again.Seconds()), 1, " s"),
	}
	for _, percent := range []float64{50, 99} {
		us, they := r.delayed(ours).above(percent), r.delayed(mm2Defaults).above(percent)
		all = append(all, atMost(fmt.Sprintf("latency above the control's, p%.0f, of MirrorMaker 2's", percent), ratio(measured(us.Seconds()), measured(they.Seconds())), 0.5, " ×"))
	}
	our, their := r.idled(ours, 1000), r.idled(mm2Defaults, 1000)
	return append(all,
		atMost("idle, 1,000 partitions: CPU, of MirrorMaker 2's", ratio(measured(our.cpu), measured(their.cpu)), 0.5, " ×"),
		atMost("idle, 1,000 partitions: memory, of MirrorMaker 2's", ratio(measured(mega(our.now)), measured(mega(their.now))), 1.0/8, " ×"),
	)
}
