package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/e2e/differences"
	"barnabas/e2e/kafka"
)

// scenario is something that a user relies on. It is done once, at the source, while all contenders copy from it, and looked at
// once for each.
type scenario struct {
	name string
	// before prepares the clusters before anything runs.
	before func(e *Env, all []*contender)
	// act does it: while all run, or, in the stage of restarts, while none does.
	act func(e *Env, all []*contender)
	// dead acts in the stage of crashes, when all have been killed.
	dead func(e *Env, all []*contender)
	// after cleans up when all of its stage has been compared.
	after func(e *Env, all []*contender)
	// see tells what a user sees of it, as far as this contender is concerned.
	see func(w world, c *contender, v differences.View)
	// want are things that are so with MirrorMaker in the end: before they are, nothing is compared.
	want differences.View
}

// stages are what happens to the contenders, one after the other, and the scenarios that go with it.
var stages = []struct {
	name      string
	scenarios []scenario
}{
	{"running", slices.Concat(topicScenarios, nameScenarios, recordScenarios, groupScenarios)},
	{"restarted", restartScenarios},
	{"killed", crashScenarios},
	{"broken", brokenScenarios},
}

// listFile is where the differences that are meant are listed.
const listFile = "docs/differences.md"

// TestOnlyListedDifferencesFromMirrorMaker runs MirrorMaker 2 and Barnabas on the same clusters, with the same connectors through
// REST and with the same mm2.properties, does the same to both, and compares what a user sees. What is not the same has to
// be listed in docs/differences.md, and what is listed has to be seen. RECORD=1 writes the list anew; the reasons stay.
func TestOnlyListedDifferencesFromMirrorMaker(t *testing.T) {
	t.Parallel()
	e := New(t, 15*time.Minute) // two and a half on a quiet machine
	root, err := kafka.Root()
	e.Must(err)
	text, err := os.ReadFile(filepath.Join(root, listFile))
	e.Must(err)
	listed, err := differences.Parse(string(text))
	e.Must(err)
	e.ownClusters()

	all := e.contenders()
	var known []string
	for _, stage := range stages {
		for _, s := range stage.scenarios {
			known = append(known, s.name)
			if s.before != nil {
				s.before(e, all)
			}
		}
	}
	for _, r := range listed {
		if !slices.Contains(known, r.Scenario) {
			t.Errorf("%s lists a scenario that there is not: %s", listFile, r)
		}
	}
	var seen []differences.Row
	for _, stage := range stages {
		begin := time.Now()
		e.enter(stage.name, all, stage.scenarios)
		e.marker(stage.name, all)
		seen = append(seen, e.compare(stage.name, all, stage.scenarios, listed)...)
		for _, s := range stage.scenarios {
			if s.after != nil {
				s.after(e, all)
			}
		}
		t.Logf("%s: %.1f s", stage.name, time.Since(begin).Seconds())
	}
	if os.Getenv("RECORD") != "" {
		recorded, err := differences.Replace(string(text), seen)
		e.Must(err)
		e.Must(os.WriteFile(filepath.Join(root, listFile), []byte(recorded), 0o600))
	}
}

// ownClusters gives the test a source and a target of its own: heartbeats of other tests would be copied by all contenders.
func (e *Env) ownClusters() {
	e.t.Helper()
	var g errgroup.Group
	for name, b := range map[string]**kafka.Broker{"source": &e.Source, "target": &e.Target} {
		dir := e.t.TempDir() // not in e.Dir, which is searched for secrets
		g.Go(func() (err error) {
			*b, err = kafka.Start(e.Context(), kafka.Spec{Name: name + " of " + e.Prefix, Dir: dir, ACLs: true})
			return err
		})
	}
	err := g.Wait()
	for _, b := range []*kafka.Broker{e.Source, e.Target} {
		if b != nil && b.Process() != nil {
			e.t.Cleanup(b.Kill)
		}
	}
	e.Must(err)
}

// enter brings the contenders into a stage and has its scenarios act.
func (e *Env) enter(stage string, all []*contender, scenarios []scenario) {
	e.t.Helper()
	act := func() {
		for _, s := range scenarios {
			if s.act != nil {
				s.act(e, all)
			}
		}
	}
	switch stage {
	case "running":
		e.together(all, func(c *contender) error { return c.start(e.Context()) })
		e.marker("first", all)
		act()
	case "restarted":
		e.together(all, (*contender).stop)
		act()
		for _, c := range all {
			c.flush = "600000" // until the next stop
		}
		e.together(all, func(c *contender) error { return c.start(e.Context()) })
	case "killed":
		e.marker("alive", all) // new topics have MirrorMaker's tasks start again, and save their offsets
		act()
		for _, c := range all {
			c.kill()
		}
		for _, s := range scenarios {
			if s.dead != nil {
				s.dead(e, all)
			}
		}
		e.together(all, func(c *contender) error { return c.start(e.Context()) })
	default:
		act()
	}
}

// together does something with all contenders at once.
func (e *Env) together(all []*contender, do func(*contender) error) {
	e.t.Helper()
	var g errgroup.Group
	for _, c := range all {
		g.Go(func() error { return do(c) })
	}
	e.Must(g.Wait())
}

// marker waits until a topic that is made now has been copied by both links of all contenders: they have all looked at the source again.
func (e *Env) marker(name string, all []*contender) {
	e.t.Helper()
	if name == "broken" {
		return // MirrorMaker copies nothing any more
	}
	topic := e.Topic(e.Source, "marker-"+name, 1)
	e.numbers(e.Source, topic, 0, 0, 1)
	e.Until(4*time.Minute, "copies of "+topic, func() string {
		admin, err := e.Target.Admin()
		e.Must(err)
		defer admin.Close()
		var copies []string
		for _, c := range all {
			copies = append(copies, c.copies(topic), c.north+"."+topic)
		}
		ends, err := admin.ListEndOffsets(e.Context(), copies...)
		if err != nil {
			return err.Error()
		}
		var missing []string
		for _, name := range copies {
			if end, ok := ends.Lookup(name, 0); !ok || end.Err != nil || end.Offset == 0 {
				missing = append(missing, name)
			}
		}
		for _, c := range all {
			if !c.proc.Running() {
				e.t.Fatalf("%s has ended: %v\n%s", c.name, c.proc.Err(), c.proc.Tail(20))
			}
		}
		return strings.Join(missing, ", ")
	})
}

// settle is how long what is seen has to stay so: longer than the intervals of all syncs.
const settle = 1500 * time.Millisecond

// compare waits until the differences are those that are listed, and stay so, and returns what is seen in the end.
func (e *Env) compare(stage string, all []*contender, scenarios []scenario, listed []differences.Row) (seen []differences.Row) {
	e.t.Helper()
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	var wrong []string
	since := time.Now()
	_, why := e.Within(4*time.Minute, func() string {
		before := seen
		e.Pass(200 * time.Millisecond) // a look costs the brokers much
		w, err := e.look(e.Context())
		if err != nil {
			return err.Error()
		}
		seen, wrong = tell(w, all, scenarios)
		if os.Getenv("RECORD") == "" {
			wrong = append(wrong, differences.Check(differences.Only(listed, names...), seen)...)
		}
		if len(wrong) > 0 || !slices.Equal(before, seen) {
			since = time.Now()
		}
		if len(wrong) == 0 && time.Since(since) < settle {
			return "not settled"
		}
		return strings.Join(wrong, "\n")
	})
	if why != "" {
		e.t.Errorf("%s:\n%s", stage, why)
	}
	return seen
}

// tell returns the differences that there are between MirrorMaker and Barnabas, and what MirrorMaker does not do as it should.
func tell(w world, all []*contender, scenarios []scenario) (rows []differences.Row, wrong []string) {
	for _, s := range scenarios {
		views := map[string]map[bool]differences.View{}
		for _, c := range all {
			v := differences.View{}
			s.see(w, c, v)
			if views[c.mode] == nil {
				views[c.mode] = map[bool]differences.View{}
			}
			views[c.mode][c.java] = v
			if !c.java {
				continue
			}
			for _, what := range slices.Sorted(maps.Keys(s.want)) {
				if v[what] != s.want[what] {
					wrong = append(wrong, fmt.Sprintf("%s (%s): %s: MirrorMaker 2 has %q, which was to be %q", s.name, c.mode, what, v[what], s.want[what]))
				}
			}
		}
		for _, mode := range []string{differences.REST, differences.Dedicated} {
			rows = append(rows, differences.Compare(s.name, mode, views[mode][true], views[mode][false])...)
		}
	}
	return differences.Join(rows), wrong
}
