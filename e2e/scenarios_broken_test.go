package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/differences"
)

// restartScenarios are what happens at the source while nobody copies, and what becomes of it after a start.
var restartScenarios = []scenario{
	{
		name:   "restart",
		before: func(e *Env, _ []*contender) { e.numbers(e.Source, e.Topic(e.Source, "restart", 1), 0, 0, 50) },
		act:    func(e *Env, _ []*contender) { e.numbers(e.Source, e.Prefix+".restart", 0, 50, 100) },
		see:    seeRecords("restart"),
		want:   differences.View{"records of restart": "0–99"},
	},
	{
		name:   "truncation",
		before: func(e *Env, _ []*contender) { e.numbers(e.Source, e.Topic(e.Source, "truncated", 1), 0, 0, 20) },
		act: func(e *Env, _ []*contender) {
			e.numbers(e.Source, e.Prefix+".truncated", 0, 20, 60)
			e.forget(e.Source, e.Prefix+".truncated", 40)
		},
		see:  seeRecords("truncated"),
		want: differences.View{"records of truncated": "0–19, 40–59"},
	},
	{
		name: "recreation",
		before: func(e *Env, _ []*contender) {
			for _, name := range []string{"longer", "shorter", "gone"} {
				e.numbers(e.Source, e.Topic(e.Source, name, 1), 0, 0, 20)
			}
		},
		act: func(e *Env, _ []*contender) {
			for name, end := range map[string]int{"longer": 150, "shorter": 105} {
				e.anew(e.Source, e.Prefix+"."+name)
				e.numbers(e.Source, e.Prefix+"."+name, 0, 100, end)
			}
			admin, err := e.Source.Admin()
			e.Must(err)
			defer admin.Close()
			_, err = admin.DeleteTopic(e.Context(), e.Prefix+".gone")
			e.Must(err)
		},
		see:  seeAll(seeRecords("longer"), seeRecords("shorter"), seeRecords("gone")),
		want: differences.View{"records of gone": "0–19"},
	},
}

// crashScenarios are what becomes of records when the process is killed. No offsets have been saved since it was started.
var crashScenarios = []scenario{{
	name:   "kill -9",
	before: func(e *Env, _ []*contender) { e.numbers(e.Source, e.Topic(e.Source, "killed", 1), 0, 0, 50) },
	act: func(e *Env, all []*contender) {
		e.numbers(e.Source, e.Prefix+".killed", 0, 50, 100)
		for _, c := range all {
			e.Until(3*time.Minute, "copy of "+c.name, func() string {
				if n := len(e.values(e.Target, c.copies(e.Prefix+".killed"), 0)); n < 100 {
					return fmt.Sprint(n)
				}
				return ""
			})
		}
	},
	dead: func(e *Env, _ []*contender) { e.numbers(e.Source, e.Prefix+".killed", 0, 100, 120) },
	see:  seeRecords("killed"),
}}

// brokenScenarios are those after which MirrorMaker does not copy any more: they come last.
var brokenScenarios = []scenario{
	{
		name: "big record",
		before: func(e *Env, _ []*contender) {
			e.numbers(e.Source, e.Topic(e.Source, "big", 1, "max.message.bytes", "4000000"), 0, 0, 1)
		},
		act: func(e *Env, all []*contender) {
			big := e.Prefix + ".big"
			e.numbers(e.Source, big, 0, 1, 2, func(r *kgo.Record) { r.Value = make([]byte, 2_000_000) })
			e.numbers(e.Source, big, 0, 2, 3)
			e.fails(all, func(w world, c *contender) string { return c.states(w, "source", "MirrorSourceConnector", c.east) })
		},
		see: seeAll(seeRecords("big"), func(w world, c *contender, v differences.View) {
			v["states of the tasks"] = c.states(w, "source", "MirrorSourceConnector", c.east)
		}),
	},
	{
		name: "refused record",
		before: func(e *Env, all []*contender) {
			e.numbers(e.Source, e.Topic(e.Source, "a.refused", 1), 0, 0, 5)
			e.Topic(e.Source, "a.beside", 1)
			admin, err := e.Target.Admin()
			e.Must(err)
			defer admin.Close()
			compact := "compact"
			for _, c := range all {
				_, err := admin.CreateTopic(e.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, c.north+"."+c.topic("a.refused"))
				e.Must(err)
			}
		},
		act: func(e *Env, all []*contender) {
			refused := e.Prefix + ".a.refused"
			e.numbers(e.Source, refused, 0, 5, 6, func(r *kgo.Record) { r.Key = nil })
			e.fails(all, func(w world, c *contender) string { return c.states(w, "narrow", "MirrorSourceConnector", c.north) })
			e.numbers(e.Source, refused, 0, 6, 7) // before, MirrorMaker would still write it if it polled both at once
			e.numbers(e.Source, e.Prefix+".a.beside", 0, 0, 5)
		},
		see: func(w world, c *contender, v differences.View) {
			v["records of a topic whose copy is compacted, 5 without a key"] = numbersOf(w.target.records[c.north+"."+c.topic("a.refused")])
			v["records that come later to another topic of the task"] = numbersOf(w.target.records[c.north+"."+c.topic("a.beside")])
			v["states of the tasks"] = c.states(w, "narrow", "MirrorSourceConnector", c.north)
		},
		want: differences.View{"states of the tasks": "FAILED"},
	},
}

// fails waits until tasks of MirrorMaker have failed.
func (e *Env) fails(all []*contender, states func(w world, c *contender) string) {
	e.t.Helper()
	e.Until(3*time.Minute, "failed tasks of MirrorMaker", func() string {
		w, err := e.look(e.Context())
		if err != nil {
			return err.Error()
		}
		for _, c := range all {
			if now := states(w, c); c.java && !strings.Contains(now, "FAILED") {
				return c.name + ": " + now
			}
		}
		return ""
	})
}
