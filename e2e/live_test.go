package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/e2e/oracle"
)

// growing is a mirror of all topics of a test.
type growing struct {
	e      *Env
	f      *Fleet
	name   string
	topics map[string]string // those that there are, with their copies
	stops  []func()
}

// grow sets up a mirror with one topic of four partitions and as many tasks.
func grow(e *Env, f *Fleet) (g *growing, base string) {
	e.t.Helper()
	g = &growing{e: e, f: f, name: e.Prefix + "-all", topics: map[string]string{}}
	base = g.topic("base", 4)
	from, to := e.User(e.Source, "all-ro", ReadTopics(e.Prefix+".*")...), e.User(e.Target, "all-rw", WriteTopics("src."+e.Prefix+".*")...)
	f.Create(g.name, e.Mirror(from, to, regexp.QuoteMeta(e.Prefix)+`\..*`, 4).With(map[string]string{
		"refresh.topics.interval.seconds": "1", "offsets.storage.topic": "src." + e.Prefix + ".offsets",
	}))
	f.Await(g.name, "RUNNING", 4, 30*time.Second)
	g.copies(30 * time.Second)
	return g, base
}

// topic makes a topic and writes to it from then on.
func (g *growing) topic(name string, partitions int) string {
	g.e.t.Helper()
	topic := g.e.Topic(g.e.Source, name, int32(partitions)) //nolint:gosec // few
	g.topics[topic] = "src." + topic
	g.stops = append(g.stops, g.e.Load([]string{topic}, partitions, 300))
	return topic
}

// copies waits until every partition of every topic is being copied.
func (g *growing) copies(limit time.Duration) time.Duration {
	g.e.t.Helper()
	return g.e.Until(limit, "all partitions are copied", func() string {
		copied := map[string]bool{}
		for _, task := range g.f.Replication(g.name).Tasks {
			for _, p := range task.Partitions {
				copied[fmt.Sprint(p.Topic, "-", p.Partition)] = p.CopiedOffset > 0
			}
		}
		for topic, ends := range g.e.ends(g.e.Source, maps.Keys(g.topics)) {
			for p := range ends {
				if at := fmt.Sprint(topic, "-", p); !copied[at] {
					return at
				}
			}
		}
		return ""
	})
}

// writers are the producer ids and epochs that each partition of a copy has seen, in order.
func (g *growing) writers(topic string) map[int32][]string {
	g.e.t.Helper()
	all := map[int32][]string{}
	for _, r := range g.e.raw(g.e.Target, g.topics[topic], false) {
		who := fmt.Sprintf("%d/%d", r.ProducerID, r.ProducerEpoch)
		if !slices.Contains(all[r.Partition], who) {
			all[r.Partition] = append(all[r.Partition], who)
		}
	}
	return all
}

// runs counts how often tasks of the mirror were started, over all workers.
func (g *growing) runs() (n int) {
	g.e.t.Helper()
	for _, w := range g.f.Workers {
		log, err := os.ReadFile(w.Log())
		g.e.Must(err)
		for line := range strings.SplitSeq(string(log), "\n") {
			if strings.Contains(line, "generation") && strings.Contains(line, "running") && strings.Contains(line, "task") && strings.Contains(line, g.name) {
				n++
			}
		}
	}
	return n
}

// end stops the load and has the oracle compare.
func (g *growing) end() {
	g.e.t.Helper()
	for _, stop := range g.stops {
		stop()
	}
	var report oracle.Report
	g.e.Until(60*time.Second, "the whole copy", func() (missing string) {
		var err error
		report, err = oracle.Compare(g.e.Context(), oracle.Options{Source: Plain(g.e.Source), Target: Plain(g.e.Target), Topics: g.topics, Committed: true})
		g.e.Must(err)
		if report.Missing > 0 {
			missing = report.String()
		}
		return missing
	})
	g.e.t.Log(report)
	for _, again := range report.Again {
		g.e.t.Log(again)
	}
	if !report.Equal() {
		g.e.t.Errorf("the copy is not what the source is: %s", report)
	}
}

func TestTasksTakeTopicsWhileTheyRun(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	g, base := grow(e, e.Fleet(FleetOptions{Size: 3}))
	runs, writers := g.runs(), g.writers(base)

	// Nothing else happens: no task begins anew.
	for i := range 4 {
		g.topic(fmt.Sprintf("more%d", i), 1+i)
		t.Logf("topic %d: all is copied after %s", i, g.copies(30*time.Second))
	}
	admin, err := e.Source.Admin()
	e.Must(err)
	defer admin.Close()
	_, err = admin.UpdatePartitions(e.Context(), 6, e.Prefix+".more3")
	e.Must(err)
	e.Write([]string{e.Prefix + ".more3"}, 6, 600)
	t.Logf("partitions: all is copied after %s", g.copies(30*time.Second))
	for topic := range g.topics {
		for p, who := range g.writers(topic) {
			switch {
			case topic == base && !slices.Equal(who, writers[p]):
				t.Errorf("%s-%d was written by %v before topics came, and then by %v", topic, p, writers[p], who)
			case topic != base && len(who) != 1:
				t.Errorf("%s-%d was written by %v, want one producer in one epoch", topic, p, who)
			}
		}
	}
	if n := g.runs(); n != runs {
		t.Errorf("tasks were started %d times while topics came", n-runs)
	}

	// A worker dies while its tasks are about to take what was added: first any, then the leader.
	for i, victim := range []func() *Worker{g.worker, g.f.Leader, g.worker} {
		w := victim()
		before, tasks := g.writers(base), g.tasks()
		for j := range 3 {
			g.topic(fmt.Sprintf("late%d%d", i, j), 4)
		}
		if i < 2 {
			e.Until(20*time.Second, "the plan has the last topic", func() string {
				if all := fmt.Sprint(g.tasks()); !strings.Contains(all, fmt.Sprintf("late%d0", i)) {
					return all
				}
				return ""
			})
		}
		on := g.f.Owners(g.name)
		w.Kill()
		t.Logf("kill -9: all is copied after %s", g.copies(60*time.Second))
		for p, who := range g.writers(base) {
			task := taskOf(tasks, fmt.Sprintf("%s-%d", base, p))
			same := g.tasks()[task] == tasks[task]
			if on[fmt.Sprintf("%s-%d", g.name, task)] != w.ID && same && !slices.Equal(who, before[p]) {
				t.Errorf("%s-%d of task %d, which nothing has happened to, was written by %v, then by %v", base, p, task, before[p], who)
			}
		}
		w.Start()
		g.f.Await(g.name, "RUNNING", 4, 30*time.Second)
	}
	g.end()
}

func TestTransactionalTasksTakeTopicsWhileTheyRun(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2, Properties: map[string]string{"exactly.once.source.support": "enabled"}})
	g, _ := grow(e, f)
	runs := g.runs()
	for i := range 3 {
		g.topic(fmt.Sprintf("more%d", i), 1+i)
		t.Logf("topic %d: all is copied after %s", i, g.copies(30*time.Second))
	}
	if n := g.runs(); n != runs {
		t.Errorf("tasks were started %d times while topics came", n-runs)
	}
	w := g.worker()
	g.topic("late", 8)
	e.Until(20*time.Second, "the plan has the last topic", func() string {
		if all := fmt.Sprint(g.tasks()); !strings.Contains(all, ".late") {
			return all
		}
		return ""
	})
	w.Kill()
	t.Logf("kill -9: all is copied after %s", g.copies(60*time.Second))
	w.Start()
	f.Await(g.name, "RUNNING", 4, 30*time.Second)
	g.end()
}

// worker is one that has tasks and does not lead, if there is one.
func (g *growing) worker() *Worker {
	g.e.t.Helper()
	leads := g.f.Leader()
	for _, id := range g.f.Owners(g.name) {
		if id != leads.ID {
			return g.f.ByID(id)
		}
	}
	return leads
}

// tasks are the partitions of each task.
func (g *growing) tasks() (all []string) {
	g.e.t.Helper()
	var tasks []struct {
		Config map[string]string `json:"config"`
	}
	g.e.Must(unmarshal(g.f.Do(http.MethodGet, "/connectors/"+g.name+"/tasks", "", http.StatusOK), &tasks))
	for _, task := range tasks {
		all = append(all, task.Config["task.assigned.partitions"])
	}
	return all
}

func taskOf(tasks []string, partition string) int {
	return slices.IndexFunc(tasks, func(all string) bool { return slices.Contains(strings.Split(all, ","), partition) })
}
