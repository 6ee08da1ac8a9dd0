// Report turns the output of go test -json on its standard input into what a
// person wants to see: what failed with its output, what was skipped and why,
// the seeds to repeat a run with, the time of each package, and a last line
// with the counts. It exits 1 if anything failed or nothing ran.
//
//	go test -json ./... | go run .ci/report.go
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, FailedBuild, ImportPath string

	Elapsed float64
}

// test is a test, a subtest, or with no name a package.
type test struct {
	pkg, name string
	action    string // pass, fail, skip; empty: it began and never ended
	elapsed   time.Duration
	output    []string
	parent    bool // it has subtests, which count in its place
	excused   bool // it failed because a subtest did
}

func main() {
	tests, order := read(os.Stdin, os.Stdout)
	failed := report(os.Stdout, tests, order)
	if failed {
		os.Exit(1)
	}
}

// read collects the tests in order of their beginning. Lines that are no
// events, such as a compiler's, go through to out.
func read(in io.Reader, out io.Writer) (map[string]*test, []string) {
	tests := map[string]*test{}
	var order []string
	get := func(pkg, name string) *test {
		key := pkg + " " + name
		if tests[key] == nil {
			tests[key] = &test{pkg: pkg, name: name}
			order = append(order, key)
		}
		return tests[key]
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		if e.Action == "build-output" {
			fmt.Fprint(out, e.Output)
		}
		if e.Package == "" {
			continue
		}
		t := get(e.Package, e.Test)
		switch e.Action {
		case "output":
			if len(t.output) < 2000 {
				t.output = append(t.output, e.Output)
			}
		case "pass", "fail", "skip":
			t.action, t.elapsed = e.Action, time.Duration(e.Elapsed*float64(time.Second))
		}
		for name := e.Test; strings.Contains(name, "/"); {
			name = name[:strings.LastIndexByte(name, '/')]
			parent := get(e.Package, name)
			parent.parent = true
			parent.excused = parent.excused || e.Action == "fail"
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "report:", err)
		get("report", "").action = "fail"
	}
	return tests, order
}

// report writes all there is to say and whether that is bad.
func report(out io.Writer, tests map[string]*test, order []string) (failed bool) {
	count := map[string]int{}
	failedIn := map[string]bool{} // packages with a failed test
	var packages, slow []*test
	for _, key := range order {
		t := tests[key]
		if t.name == "" {
			packages = append(packages, t)
			continue
		}
		for _, line := range t.output {
			if strings.Contains(line, ".go:") && strings.Contains(line, "seed") && t.action == "pass" {
				fmt.Fprintf(out, "%s %s: %s", t.pkg, t.name, strings.TrimLeft(line, " "))
			}
		}
		switch {
		case t.action == "fail", t.action == "":
			failedIn[t.pkg] = true
			fmt.Fprintf(out, "\n%s FAILED in %s\n%s", t.name, t.pkg, strings.Join(t.output, ""))
			if t.action == "" {
				fmt.Fprintf(out, "    (it did not end)\n")
			}
			if !t.excused {
				count["fail"]++
			}
		case t.action == "skip":
			count["skip"]++
			fmt.Fprintf(out, "skipped %s in %s: %s\n", t.name, t.pkg, reason(t.output))
		case !t.parent:
			count["pass"]++
			slow = append(slow, t)
		}
	}
	slices.SortFunc(slow, func(a, b *test) int { return cmp.Compare(b.elapsed, a.elapsed) })
	for i, t := range slow[:min(5, len(slow))] {
		if i == 0 {
			fmt.Fprintln(out, "\nslowest tests")
		}
		fmt.Fprintf(out, "%8.1fs %s %s\n", t.elapsed.Seconds(), t.pkg, t.name)
	}
	fmt.Fprintln(out, "\ntime per package")
	for _, p := range packages {
		fmt.Fprintf(out, "%8.1fs %-4s %s\n", p.elapsed.Seconds(), cmp.Or(p.action, "fail"), p.pkg)
		if p.action != "pass" && p.action != "skip" && !failedIn[p.pkg] {
			// It did not build, or died outside of a test.
			count["fail"]++
			fmt.Fprint(out, strings.Join(p.output, ""))
		}
	}
	fmt.Fprintf(out, "%d tests ran in %d packages\n", count["pass"]+count["fail"], len(packages))
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
	for range failedIn {
		return true
	}
	return count["fail"] > 0 || count["pass"] == 0
}

// reason finds what a skipped test said.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") || line == "" {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(after, ": "); ok {
				line = text
			}
		}
		said = append(said, line)
	}
	return cmp.Or(strings.Join(said, " "), "no reason given")
}
