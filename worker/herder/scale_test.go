package herder

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

var scale = flag.Int("scale", 100, "workers of the cluster in TestScale; ten connectors and 200 tasks for each. 1000 is what is planned for")

// The figures of the planned size, printed: go test ./worker/herder -run TestScale -v -scale 1000

// scaled is one leader's machine in a cluster of many, without any world around it: what it writes is read back at once.
type scaled struct {
	t       *testing.T
	m       *Machine
	now     time.Duration
	offset  int64
	order   int64
	members []Instance
	log     []Record // of the config topic
	largest int
	written int // records since mark
	bytes   int // of them
	// The processor time of the longest step since mark, and of all together.
	longest, total time.Duration
}

// cpu is the processor time that this process has used: what else the machine does does not count.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (s *scaled) mark() { s.written, s.bytes, s.longest, s.total = 0, 0, 0, 0 }

func (s *scaled) step(e Event) {
	started := cpu()
	s.m.Step(s.now, e)
	took := cpu() - started
	s.longest, s.total = max(s.longest, took), s.total+took
}

func newScaled(t *testing.T, workers int) *scaled {
	s := &scaled{t: t}
	for i := range workers {
		s.members = append(s.members, Instance{fmt.Sprintf("worker-%04d.kafka.example.com:8083", i), "1764000000000000"})
	}
	return s
}

// begin makes the machine, which reads what stands in the log.
func (s *scaled) begin() {
	s.m = New(Config{Timing: DefaultTiming(), Self: Join{Instance: s.members[0]}})
	s.offset = 0
	for _, r := range s.log {
		s.step(ConfigRead{Offset: s.offset, Record: r})
		s.offset++
	}
	for i, member := range s.members {
		s.step(StatusRead{int64(i), Join{Instance: member, Labels: map[string]string{"zone": member.Worker[9:10]}, Updates: true}})
	}
	s.step(StatusEnd{})
	s.step(Gossip{s.members})
	s.step(ConfigEnd{s.now})
}

// settle does what the machine asks for until it asks for nothing more.
func (s *scaled) settle() {
	for range 1000 {
		s.now += time.Millisecond
		s.step(ConfigEnd{s.now})
		out := s.m.Ready()
		if out.Stand {
			s.step(Stood{OK: true})
		}
		for _, st := range out.Stop {
			s.step(RunEnded{Run: st.Run})
		}
		for w := out.Write; w != nil; w = s.m.Ready().Write {
			out.Stand = true
			s.write(w)
		}
		if !out.Stand {
			return
		}
	}
	s.t.Fatal("the machine does not come to rest")
}

func (s *scaled) write(w *Write) {
	s.written += len(w.Records)
	for i, r := range w.Records {
		text, err := json.Marshal(r)
		if err != nil {
			s.t.Fatal(err)
		}
		s.largest = max(s.largest, len(text))
		s.bytes += len(text)
		s.log = append(s.log, r)
		s.step(ConfigRead{Offset: s.offset, Record: r, More: i < len(w.Records)-1})
		s.offset++
	}
	s.step(Written{ID: w.ID, OK: true, Offset: s.offset - 1})
}

func (s *scaled) do(o Order) {
	s.order++
	s.step(Ordered{ID: s.order, Order: o})
}

// compact keeps the newest record of each key, as the topic does.
func (s *scaled) compact() {
	newest := map[string]int{}
	key := func(r Record) string {
		switch r := r.(type) {
		case ConnectorConfig:
			return "connector-" + r.Name
		case TaskConfig:
			return "task-" + r.Unit.String()
		case Commit:
			return "commit-" + r.Name
		case Assignment:
			return fmt.Sprint("assignment-", r.Part, "-", r.Worker)
		}
		return fmt.Sprintf("%T", r)
	}
	for i, r := range s.log {
		newest[key(r)] = i
	}
	kept := s.log[:0:0]
	for i, r := range s.log {
		if newest[key(r)] == i {
			kept = append(kept, r)
		}
	}
	s.log = kept
}

// owners is who has what.
func (s *scaled) owners() map[Unit]string {
	owner := make(map[Unit]string, len(s.m.owner))
	for u, w := range s.m.owner {
		owner[u] = w
	}
	return owner
}

func scaledTasks(connector, n int) []map[string]string {
	tasks := make([]map[string]string, n)
	for i := range tasks {
		var parts []string
		for p := range 5 {
			parts = append(parts, fmt.Sprintf("orders-%d-%d", connector, i*5+p))
		}
		tasks[i] = map[string]string{"connector.class": "MirrorSourceConnector", "task.assigned.partitions": strings.Join(parts, ",")}
	}
	return tasks
}

// TestScale shows what a cluster of the planned size costs its leader: the whole assignment, a worker that goes and one that
// comes, one change, and the reading of the whole log by a worker that starts.
func TestScale(t *testing.T) {
	const tasksEach = 20
	workers := *scale
	connectors := 10 * workers
	s := newScaled(t, workers)
	name := func(c int) string { return fmt.Sprintf("replicate-orders-of-team-%05d", c) }
	for c := range connectors {
		s.log = append(s.log, ConnectorConfig{name(c), map[string]string{"connector.class": "MirrorSourceConnector", "topics": "orders"}})
		for i, config := range scaledTasks(c, tasksEach) {
			s.log = append(s.log, TaskConfig{Unit{name(c), i}, config})
		}
		s.log = append(s.log, Commit{name(c), tasksEach})
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	// What it takes is printed, and no reason to fail: the machine may do much else.
	report := func(format string, args ...any) {
		what := fmt.Sprintf(format, args...)
		t.Logf("%-56s %9.1f KB written, longest step %7.1f ms, all steps %7.1f ms",
			what, float64(s.bytes)/1000, ms(s.longest), ms(s.total))
		s.mark()
	}
	s.begin()
	report("a worker starts and reads %d records", len(s.log))
	s.settle()
	full := s.owners()
	report("%d units are given to %d workers, %d records", len(full), workers, s.written)
	if units := connectors * (tasksEach + 1); len(full) != units {
		t.Fatalf("%d of %d units have an owner", len(full), units)
	}
	share := (connectors+workers-1)/workers + (connectors*tasksEach+workers-1)/workers

	all := s.members
	s.members = all[:workers-1]
	s.step(Gossip{s.members})
	s.settle()
	fewer := s.owners()
	report("a worker goes: %d units move, %d records", moved(full, fewer), s.written)
	if n := moved(full, fewer); n > share {
		t.Errorf("a lost worker with %d units moved %d", share, n)
	}
	s.members = all
	s.step(Gossip{s.members})
	s.settle()
	again := s.owners()
	report("a worker comes: %d units move, %d records", moved(fewer, again), s.written)
	if n := moved(fewer, again); n > share {
		t.Errorf("a new worker moved %d units, want at most its share of %d", n, share)
	}

	s.do(PutConnector{Name: name(7), Config: map[string]string{"changed": "yes"}})
	s.settle()
	report("a connector changes, %d records", s.written)
	changed := scaledTasks(7, tasksEach)
	changed[3]["more"] = "yes"
	s.do(PutTasks{Name: name(7), Tasks: changed})
	s.settle()
	after := s.owners()
	report("a task changes: %d units move, %d records", moved(again, after), s.written)
	if n := moved(again, after); n != 0 {
		t.Errorf("a change of one task moved %d units", n)
	}

	s.few(all[:workers/50], report)
	s.few(all, report)
	s.compact()
	before := s.owners()
	s.begin()
	report("a worker starts and reads %d records", len(s.log))
	if n := moved(before, s.owners()); n != 0 {
		t.Errorf("who reads the compacted log takes %d units for somebody else's", n)
	}
	t.Logf("the largest record has %d bytes", s.largest)
	if s.largest >= 1<<20 {
		t.Errorf("a record of %d bytes, over 1 MiB", s.largest)
	}
}

// few lets all members but these go, or all of these come, at once.
func (s *scaled) few(members []Instance, report func(string, ...any)) {
	before := len(s.members)
	s.members = members
	s.step(Gossip{members})
	s.settle()
	report("%d workers become %d at once, %d records", before, len(members), s.written)
	there := map[string]bool{}
	for _, i := range members {
		there[i.Worker] = true
	}
	for u, w := range s.m.owner {
		if !there[w] {
			s.t.Fatalf("%v is still with %s, which is gone", u, w)
		}
	}
	s.now += time.Minute // leases are over
	s.step(Tick{})
	s.settle()
	s.mark()
}
