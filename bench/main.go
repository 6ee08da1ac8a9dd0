// Command bench measures the product against MirrorMaker 2 and against the
// ceilings of the machine, on real brokers, on the same data, in one run.
//
// Easy to get wrong: a figure of one run says nothing about another, since
// machines differ and are busy with other things. Only ratios within a run count,
// and the column "others" says how quiet it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"barnabas/e2e/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// run is the benchmark, or one of the ceilings that it starts itself as.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) == 6 && args[0] == "loop" {
		partitions, err := strconv.Atoi(args[5])
		if err != nil {
			return err
		}
		defer profileOnSignal()()
		return bareLoop(ctx, args[1], args[2], args[3], args[4], partitions)
	}
	if len(args) == 5 && args[0] == "fetch" {
		partitions, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		times, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return bareFetch(ctx, out, args[1], args[2], partitions, times)
	}
	p, err := parse(args, log)
	if err != nil {
		return err
	}
	return p.run(ctx, out, log)
}

// plan is what a run of the benchmark measures.
type plan struct {
	profiles []profile
	kinds    []kind
	parts    []string // copy, start, latency, idle
	seconds  int      // of latency and of idleness each
	repeat   int
	quick    bool
	whole    bool   // nothing is left out
	results  string // file, empty for none
	dir      string
	pprof    string
	binary   string
}

// allKinds in the order of the table.
var allKinds = []kind{rawFetch, rawLoop, mm2Defaults, mm2Tuned, mm2Once, ours, oursOnce}

var allParts = []string{"copy", "start", "latency", "idle"}

func parse(args []string, log io.Writer) (plan, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(log)
	p := plan{}
	names := f.String("profiles", "", "names of profiles, with commas; default all: "+profileNames())
	parts := f.String("parts", "", "what to measure, with commas; default all: "+strings.Join(allParts, ","))
	without := f.String("without", "", "kinds to leave out: mm2 (all of MirrorMaker 2), once (exactly once), tuned, raw (the ceilings), ours")
	records := f.Int("records", 0, "records of each profile, 0 for as many as each has")
	f.IntVar(&p.seconds, "seconds", 0, "seconds of latency and of idleness each; 0 is 30 and 20")
	f.IntVar(&p.repeat, "repeat", 3, "how often all but MirrorMaker 2 copy")
	f.BoolVar(&p.quick, "quick", false, "the main profile only, and little of it")
	f.StringVar(&p.results, "results", "", "file for the results, besides standard output")
	always := f.Bool("keep", false, "write the results file also if something was left out")
	f.StringVar(&p.dir, "dir", "", "folder for the brokers' data; default a temporary one")
	f.StringVar(&p.pprof, "pprof", "", "folder for processor profiles of barnabas and of the bare loop; figures are then not to be trusted")
	f.StringVar(&p.binary, "binary", "bin/barnabas", "what is measured")
	if err := f.Parse(args); err != nil {
		return p, err
	}
	if f.NArg() > 0 {
		return p, fmt.Errorf("what is %q?", f.Arg(0))
	}
	p.whole = *names == "" && *parts == "" && *without == "" && *records == 0 && p.seconds == 0 && !p.quick && p.pprof == ""
	if !p.whole && !*always {
		p.results = ""
	}
	p.parts = allParts
	if *parts != "" {
		p.parts = strings.Split(*parts, ",")
	}
	p.kinds = chosen(*without)
	return p, p.choose(*names, *records)
}

func profileNames() string {
	var names []string
	for _, p := range profiles() {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

// chosen are the kinds that are not left out.
func chosen(without string) []kind {
	out := strings.Split(without, ",")
	return slices.DeleteFunc(slices.Clone(allKinds), func(k kind) bool {
		return slices.Contains(out, "mm2") && k.java() || slices.Contains(out, "once") && k.once() ||
			slices.Contains(out, "tuned") && k == mm2Tuned || slices.Contains(out, "ours") && (k == ours || k == oursOnce) ||
			slices.Contains(out, "raw") && (k == rawFetch || k == rawLoop)
	})
}

// quickRecords is how many the main profile has in a quick run.
const quickRecords = 250_000

func (p *plan) choose(names string, records int) error {
	if p.quick && names == "" {
		names = "main"
	}
	if p.quick && records == 0 {
		records = quickRecords
	}
	for _, one := range profiles() {
		if names == "" || slices.Contains(strings.Split(names, ","), one.name) {
			if records > 0 {
				one.records = records
			}
			p.profiles = append(p.profiles, one)
		}
	}
	if len(p.profiles) == 0 {
		return fmt.Errorf("no profile is called %s: there are %s", names, profileNames())
	}
	for _, part := range p.parts {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("no part is called %s: there are %s", part, strings.Join(allParts, ", "))
		}
	}
	return nil
}

func (p plan) run(ctx context.Context, out, log io.Writer) error {
	begin := time.Now()
	l := &lab{log: log, pprof: p.pprof}
	var err error
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	for _, path := range []struct {
		of   string
		into *string
	}{{p.binary, &l.binary}, {p.pprof, &l.pprof}} {
		if path.of == "" {
			continue
		}
		if *path.into, err = filepath.Abs(path.of); err != nil {
			return err
		}
	}
	if l.dir, err = os.MkdirTemp(p.dir, "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir) //nolint:errcheck // a temporary folder
	if l.pprof != "" {
		if slices.Contains(p.kinds, ours) || slices.Contains(p.kinds, oursOnce) {
			if l.binary, err = profiling(ctx, l.dir); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(l.pprof, 0o750); err != nil {
			return err
		}
	}
	l.say("starting two brokers of Kafka %s", kafka.Version)
	defer l.close()
	if err := l.open(ctx); err != nil {
		return err
	}
	r := results{conditions: p.conditions(ctx, l.binary)}
	if err := p.measure(ctx, l, &r); err != nil {
		r.conditions = append(r.conditions, "**It was ended before its time**: "+err.Error()+".")
		return errors.Join(err, r.write(out))
	}
	r.conditions = append(r.conditions, fmt.Sprintf("All of it took %.0f minutes.", time.Since(begin).Minutes()))
	if err := r.write(out); err != nil {
		return err
	}
	if p.results == "" {
		return nil
	}
	file, err := os.Create(p.results)
	if err != nil {
		return err
	}
	return errors.Join(r.write(file), file.Close())
}

// measure does all parts. What fails is told in its row, unless ctx ends.
func (p plan) measure(ctx context.Context, l *lab, r *results) error {
	has := func(part string) bool { return slices.Contains(p.parts, part) }
	if has("copy") {
		if err := p.copies(ctx, l, r); err != nil {
			return err
		}
	}
	second := func(seconds int) time.Duration {
		switch {
		case p.seconds > 0:
			seconds = p.seconds
		case p.quick:
			seconds = 10
		}
		return time.Duration(seconds) * time.Second
	}
	for _, k := range p.kinds {
		if has("start") && (k == mm2Defaults || k == ours) && ctx.Err() == nil {
			times := 2
			if p.quick {
				times = 1
			}
			r.starts = append(r.starts, l.beginning(ctx, k, times))
		}
	}
	for _, k := range p.kinds {
		quickly := k == mm2Defaults || k == ours
		if has("latency") && k != rawFetch && k != mm2Once && (!p.quick || quickly) && ctx.Err() == nil {
			r.delays = append(r.delays, l.delayOf(ctx, k, second(30)))
		}
	}
	for _, partitions := range []int32{1, 1000} {
		for _, k := range p.kinds {
			if has("idle") && !p.quick && (k == mm2Defaults || k == ours) && ctx.Err() == nil {
				r.idles = append(r.idles, l.idling(ctx, k, partitions, second(20)))
			}
		}
	}
	return ctx.Err()
}

func (p plan) copies(ctx context.Context, l *lab, r *results) error {
	if err := l.warm(ctx, p.kinds, p.quick); err != nil {
		return err
	}
	for _, one := range p.profiles {
		data, err := l.fill(ctx, one)
		if err != nil {
			return err
		}
		r.loaded = append(r.loaded, data)
		kinds := slices.DeleteFunc(slices.Clone(p.kinds), func(k kind) bool { return k.once() && one.name != "main" })
		r.copies = append(r.copies, l.copies(ctx, data, kinds, p.repeat)...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := l.clean(ctx); err != nil {
			return err
		}
	}
	return nil
}

// conditions says where and how this was measured.
func (p plan) conditions(ctx context.Context, binary string) []string {
	version := "unknown version"
	if out, err := exec.CommandContext(ctx, binary, "--version").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			load = ", load " + fields[0] + " at the start"
		}
	}
	all := []string{
		time.Now().Format("2 January 2006") + ", " + version + ", " + runtime.Version() + "; Kafka and MirrorMaker 2 " + kafka.Version + ".",
		machine() + load + ". Everything is on it: two clusters of one broker each (1 GiB of heap, the options of Kafka's distribution), the replicator, the benchmark.",
		"MirrorMaker 2 runs in dedicated mode, one direction, 2 GiB of heap as its script gives it. Tuned: 4 tasks, lz4, batches of 512 KiB, linger 50 ms, fetches of 8 MiB a partition, 5,000 records a poll.",
		"Barnabas is one worker process with its internal topics on the target, at its defaults; exactly once: exactly.once.source.support=enabled.",
	}
	if !p.whole {
		all = append(all, "**Not a whole run**: parts were left out or made small. With few records MirrorMaker 2 is measured while its code is still being compiled.")
	}
	return all
}
