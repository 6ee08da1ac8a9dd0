package main

import (
	"math"
	"strings"
	"time"
)

// copied is one way of copying one profile, as measured. Times and bytes are
// those between the first record at the target and the last, so that a
// slow start does not make a slow copy.
type copied struct {
	profile       string
	kind          kind
	payload, disk float64 // bytes of keys and values, and of the source's logs
	span          time.Duration
	used          usage
	peak          int64         // bytes of memory
	first         time.Duration // from the start of the process to the first record
	written       float64       // bytes of the target's logs for each of the source's
	equal         string
	modes         string // how the product's tasks said that they write
	err           string
}

// mega is bytes in MB.
func mega[N int64 | float64](bytes N) float64 { return float64(bytes) / 1e6 }

// rate is MB of payload a second.
func (c copied) rate() float64 { return ratio(mega(c.payload), c.span.Seconds()) }

// diskRate is MB of the source's logs a second.
func (c copied) diskRate() float64 { return ratio(mega(c.disk), c.span.Seconds()) }

// perGB is processor seconds for each GB of payload.
func (c copied) perGB(d time.Duration) float64 { return ratio(d.Seconds(), c.payload/1e9) }

// cpu is the replicator's own processor seconds for each GB of payload.
func (c copied) cpu() float64 { return c.perGB(c.used.replicator) }

// others is how many processors everything else was using.
func (c copied) others() float64 { return ratio(c.used.other().Seconds(), c.span.Seconds()) }

// wrong says that the copy is not the source.
func (c copied) wrong() bool { return strings.HasPrefix(c.equal, "NO") }

// ok says that the figures are some.
func (c copied) ok() bool { return c.err == "" && c.kind != "" }

// ratio is a/b, not a number where that is nothing.
func ratio(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return a / b
}

// results are all that a run of the benchmark has measured.
type results struct {
	conditions []string
	loaded     []loaded
	copies     []copied
	starts     []begun
	delays     []delay
	idles      []idle
}

// find is the copy of a profile by a kind; its ok is false if there is none.
func (r results) find(profile string, k kind) copied {
	for _, c := range r.copies {
		if c.profile == profile && c.kind == k {
			return c
		}
	}
	return copied{}
}

// better takes a figure of MirrorMaker 2's two ways and gives the one that is
// worse for us: the larger or the smaller of them.
func (r results) better(profile string, figure func(copied) float64, larger bool) float64 {
	best := math.NaN()
	for _, k := range []kind{mm2Defaults, mm2Tuned} {
		c := r.find(profile, k)
		if !c.ok() {
			continue
		}
		f := figure(c)
		if math.IsNaN(best) || larger && f > best || !larger && f < best {
			best = f
		}
	}
	return best
}

func (r results) started(k kind) begun {
	for _, b := range r.starts {
		if b.kind == k && b.err == "" {
			return b
		}
	}
	return begun{}
}

func (r results) delayed(k kind) delay {
	for _, d := range r.delays {
		if d.kind == k && d.err == "" {
			return d
		}
	}
	return delay{}
}

func (r results) idled(k kind, partitions int32) idle {
	for _, i := range r.idles {
		if i.kind == k && i.partitions == partitions && i.err == "" {
			return i
		}
	}
	return idle{}
}
