package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
)

// pair is a dedicated MirrorMaker between source and target, whose aliases east and west carry the test's prefix: its
// internal topics are named after them.
type pair struct {
	e          *Env
	east, west string
	// Properties are the file's.
	Properties map[string]string
	file       string
}

func (e *Env) pair(more map[string]string) *pair {
	p := &pair{e: e, east: e.Prefix + "-east", west: e.Prefix + "-west", file: filepath.Join(e.Dir, "mm2.properties")}
	p.Properties = map[string]string{
		"clusters": p.east + ", " + p.west, p.east + ".bootstrap.servers": e.Source.Bootstrap(), p.west + ".bootstrap.servers": e.Target.Bootstrap(),
		p.there("enabled"): "true", p.there("topics"): e.Prefix + "[.].*",
		"refresh.topics.interval.seconds": "1", "replication.factor": "1", "checkpoints.topic.replication.factor": "1", "heartbeats.topic.replication.factor": "1",
		"offset-syncs.topic.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"config.storage.replication.factor": "1", "offset.storage.partitions": "5",
	}
	maps.Copy(p.Properties, more)
	return p
}

// there and back name a setting of the link east->west and of the other.
func (p *pair) there(key string) string { return p.east + "->" + p.west + "." + key }
func (p *pair) back(key string) string  { return p.west + "->" + p.east + "." + key }

// write writes the file as it stands.
func (p *pair) write() {
	p.e.t.Helper()
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p.Properties)) {
		text.WriteString(k + " = " + strings.ReplaceAll(p.Properties[k], `\`, `\\`) + "\n")
	}
	p.e.Must(os.WriteFile(p.file, []byte(text.String()), 0o600))
}

// start starts a process with the file.
func (p *pair) start(name string, args ...string) *process.Process {
	p.e.t.Helper()
	path, err := binary()
	p.e.Must(err)
	proc, err := process.Start(process.Spec{
		Name: name, Path: path, Args: append([]string{"mirror", p.file, "--log-format", "text"}, args...), Log: filepath.Join(p.e.Dir, name+".log"), Dir: p.e.Dir,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.e.Dir},
	})
	p.e.Must(err)
	p.e.t.Cleanup(func() {
		if proc.Running() {
			proc.Kill()
		}
		if p.e.t.Failed() {
			p.e.t.Logf("log of %s:\n%s", name, proc.Tail(60))
		}
	})
	return proc
}

// owners tells on which process the tasks of the link from alias run, as its status topic says.
func (p *pair) owners(b *kafka.Broker, alias string) map[string]string {
	p.e.t.Helper()
	owners := map[string]string{}
	for _, r := range p.e.raw(b, "mm2-status."+alias+".internal", false) {
		task, ok := strings.CutPrefix(string(r.Key), "status-task-MirrorSourceConnector-")
		if !ok {
			continue
		}
		var status struct {
			State    string
			WorkerID string `json:"worker_id"`
		}
		delete(owners, task)
		if r.Value != nil && json.Unmarshal(r.Value, &status) == nil && status.State == "RUNNING" {
			owners[task] = status.WorkerID
		}
	}
	return owners
}

// said waits until a process has said something.
func (p *pair) said(proc *process.Process, what string) {
	p.e.t.Helper()
	p.e.Until(60*time.Second, "the log line "+what, func() string {
		text, err := os.ReadFile(proc.LogFile())
		p.e.Must(err)
		if !strings.Contains(string(text), what) {
			return "not there"
		}
		return ""
	})
}

// identity is what a process calls itself.
func (p *pair) identity(proc *process.Process) string {
	p.e.t.Helper()
	p.said(proc, " process=")
	text, err := os.ReadFile(proc.LogFile())
	p.e.Must(err)
	_, rest, _ := strings.Cut(string(text), " process=")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// copied waits until a topic holds exactly these records in partition 0.
func (e *Env) copied(b *kafka.Broker, topic string, want []string) {
	e.t.Helper()
	e.Until(60*time.Second, topic, func() string {
		if got := e.values(b, topic, 0); !slices.Equal(got, want) {
			return fmt.Sprintf("%d records, want %d", len(got), len(want))
		}
		return ""
	})
}

// topics are those of the test's prefix on a cluster, wherever in the name it stands.
func (e *Env) topics(b *kafka.Broker) []string {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	listed, err := admin.ListTopics(e.Context())
	e.Must(err)
	var names []string
	for _, name := range listed.Names() {
		if strings.Contains(name, e.Prefix+".") {
			names = append(names, name)
		}
	}
	return names
}

func TestDedicatedActiveActive(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	p := e.pair(nil)
	p.Properties[p.back("enabled")] = "true"
	p.Properties[p.back("topics")] = ".*" + e.Prefix + "[.].*" // also what has come from the east
	p.Properties[p.there("topics")] = ".*" + e.Prefix + "[.]orders"
	p.Properties[p.west+".exactly.once.source.support"] = "enabled" // of the workers that write to the west
	orders := e.Topic(e.Source, "orders", 1)
	e.Topic(e.Target, "orders", 1)
	e.numbers(e.Source, orders, 0, 0, 100)
	e.numbers(e.Target, orders, 0, 1000, 1050)
	p.write()
	proc := p.start("mm-1")
	e.copied(e.Target, p.east+"."+orders, span(0, 100))
	e.copied(e.Source, p.west+"."+orders, span(1000, 1050))
	p.said(proc, "target="+p.west+" delivery=transactional")
	p.said(proc, "target="+p.east+" delivery=fenced")

	// A later topic goes the way that its link has; when it is there, both links have looked at all topics again.
	more := e.Topic(e.Target, "more", 1)
	e.numbers(e.Target, more, 0, 0, 10)
	e.copied(e.Source, p.west+"."+more, span(0, 10))
	later := e.Topic(e.Source, "later", 1)
	e.numbers(e.Source, later, 0, 0, 10)
	e.numbers(e.Source, orders, 0, 100, 120)
	e.copied(e.Target, p.east+"."+orders, span(0, 120))
	want := []string{orders, later, p.west + "." + orders, p.west + "." + more}
	if got := e.topics(e.Source); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("topics in the east: %q, want %q", got, want)
	}
	want = []string{orders, more, p.east + "." + orders}
	if got := e.topics(e.Target); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("topics in the west: %q, want %q", got, want)
	}

	// A changed file takes effect with the next start: one link gets a topic, the other ends.
	p.Properties[p.there("topics")] = e.Prefix + "[.].*"
	delete(p.Properties, p.back("enabled")) // heartbeats go on
	p.write()
	e.Must(proc.Stop(30 * time.Second))
	proc = p.start("mm-2")
	e.copied(e.Target, p.east+"."+later, span(0, 10))
	p.said(proc, "connector removed: the file does not want it")
	p.said(proc, "link="+p.west+"->"+p.east+" connector=MirrorSourceConnector task=0 reason=") // until then it runs as before
	e.numbers(e.Target, orders, 0, 1050, 1060)
	e.numbers(e.Source, orders, 0, 120, 130)
	e.copied(e.Target, p.east+"."+orders, span(0, 130))
	e.copied(e.Source, p.west+"."+orders, span(1000, 1050))

	// A second start with the same file changes nothing and doubles nothing. A link without heartbeats has no worker at all.
	e.Must(proc.Stop(30 * time.Second))
	p.Properties[p.back("emit.heartbeats.enabled")] = "false"
	p.write()
	proc = p.start("mm-3")
	p.said(proc, "connector is as the file has it")
	e.numbers(e.Source, orders, 0, 130, 140)
	e.copied(e.Target, p.east+"."+orders, span(0, 140))
	e.copied(e.Source, p.west+"."+orders, span(1000, 1050))
	if text, err := os.ReadFile(proc.LogFile()); err != nil || strings.Contains(string(text), "link="+p.west+"->"+p.east) {
		t.Errorf("a link that the file does not have: %v", err)
	}
	e.Must(proc.Stop(30 * time.Second))
}

func TestDedicatedProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	p := e.pair(map[string]string{"tasks.max": "4", "config.providers": "file", "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider"})
	p.Properties[p.back("emit.heartbeats.enabled")] = "false"
	// Both logins are references.
	all := []kadm.ACLOperation{kadm.OpAll}
	reader := e.User(e.Source, "reader", append(ReadTopics(e.Prefix+"*"), kafka.Grant{Topic: "heartbeats", Operations: all}, kafka.Grant{Topic: "mm2-*", Operations: all})...)
	writer := e.User(e.Target, "writer", kafka.Grant{Topic: "*", Operations: all}, kafka.Grant{Group: "*", Operations: all}, kafka.Grant{TransactionalID: "*", Operations: all},
		kafka.Grant{Operations: all})
	maps.Copy(p.Properties, reader.Settings(p.east+"."))
	maps.Copy(p.Properties, writer.Settings(p.west+"."))
	p.Properties[p.east+".bootstrap.servers"], p.Properties[p.west+".bootstrap.servers"] = e.Source.Address(Client), e.Target.Address(Client)
	p.write()
	topics := []string{e.Topic(e.Source, "orders", 2), e.Topic(e.Source, "prices", 2)}
	copies := map[string]string{}
	for _, topic := range topics {
		copies[topic] = p.east + "." + topic
	}
	procs := map[string]*process.Process{}
	for _, name := range []string{"mm-1", "mm-2"} {
		proc := p.start(name)
		procs[p.identity(proc)] = proc
	}
	stop := e.Load(topics, 2, 400)
	shared := func(n int) map[string]string {
		t.Helper()
		var owners map[string]string
		e.Until(60*time.Second, fmt.Sprintf("4 tasks on %d processes", n), func() string {
			owners = p.owners(e.Target, p.east)
			on := map[string]bool{}
			for _, id := range owners {
				if procs[id] != nil && procs[id].Running() {
					on[id] = true
				} else {
					on["gone"] = true
				}
			}
			if len(owners) != 4 || len(on) != n || on["gone"] {
				return fmt.Sprint(owners)
			}
			return ""
		})
		return owners
	}
	owners := shared(2)
	killed := owners["0"]
	procs[killed].Kill()
	shared(1)
	// The other comes back under the same file and takes its share; what is new while there are two is copied, too.
	proc := p.start("mm-3")
	procs[p.identity(proc)] = proc
	shared(2)
	fresh := e.Topic(e.Source, "fresh", 2)
	e.Write([]string{fresh}, 2, 200)
	copies[fresh] = p.east + "." + fresh
	e.Pass(time.Second)
	stop()
	if report := e.Copied(copies, 90*time.Second); !report.Equal() {
		t.Error(report)
	}
	for _, proc := range procs {
		if proc.Running() {
			e.Must(proc.Stop(30 * time.Second))
		}
	}
	for _, kind := range []string{"configs", "offsets", "status"} { // the rest is searched for the passwords when the test ends
		e.Must(e.searchTopic(e.Context(), e.Target, "mm2-"+kind+"."+p.east+".internal"))
	}
	if !slices.ContainsFunc(e.raw(e.Target, "mm2-configs."+p.east+".internal", true), func(r *kgo.Record) bool {
		return strings.HasPrefix(string(r.Key), "connector-") && strings.Contains(string(r.Value), "${file:")
	}) {
		t.Error("the connector's record has no references")
	}
}

func TestDedicatedGoesOnWhereMirrorMakerStopped(t *testing.T) {
	t.Parallel()
	e := New(t, 8*time.Minute)
	p := e.pair(nil)
	p.Properties[p.back("emit.heartbeats.enabled")] = "false"
	p.write()
	orders := e.Topic(e.Source, "orders", 1)
	e.numbers(e.Source, orders, 0, 0, 100)
	java := func() *process.Process {
		t.Helper()
		dir := filepath.Join(e.Dir, "java")
		e.Must(os.MkdirAll(dir, 0o700))
		proc, err := kafka.StartMirrorMaker(kafka.MirrorMakerSpec{Name: "of the test", Dir: dir, Properties: p.Properties})
		e.Must(err)
		t.Cleanup(func() {
			if proc.Running() {
				proc.Kill()
			}
			if t.Failed() {
				t.Logf("log of MirrorMaker:\n%s", proc.Tail(40))
			}
		})
		return proc
	}
	copied := p.east + "." + orders
	proc := java()
	e.Until(3*time.Minute, "MirrorMaker's copy", func() string {
		if n := len(e.values(e.Target, copied, 0)); n < 100 {
			return fmt.Sprintf("%d records", n)
		}
		return ""
	})
	e.Must(proc.Stop(time.Minute))
	e.numbers(e.Source, orders, 0, 100, 150)
	proc = p.start("mm-1")
	e.copied(e.Target, copied, span(0, 150))
	e.Must(proc.Stop(30 * time.Second))

	// And back again.
	e.numbers(e.Source, orders, 0, 150, 200)
	proc = java()
	e.Until(3*time.Minute, "MirrorMaker's copy behind ours", func() string {
		if got := e.values(e.Target, copied, 0); !slices.Equal(got, span(0, 200)) {
			return fmt.Sprintf("%d records, want 200", len(got))
		}
		return ""
	})
	e.Must(proc.Stop(time.Minute))
}

func TestDedicatedCutsACircleUnderTheIdentityPolicy(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	p := e.pair(map[string]string{"replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"})
	p.Properties[p.back("enabled")], p.Properties[p.back("topics")] = "true", p.Properties[p.there("topics")]
	p.Properties[p.east+".offset.flush.interval.ms"], p.Properties[p.west+".offset.flush.interval.ms"] = "500", "500"
	p.write()
	orders := e.Topic(e.Source, "orders", 1)
	e.Topic(e.Target, "orders", 1)
	e.Topic(e.Source, "others", 1) // goes on both ways, and stays empty
	proc := p.start("mm-1")
	e.Until(60*time.Second, "copies on both ways", func() string {
		if len(p.owners(e.Target, p.east)) == 0 || len(p.owners(e.Source, p.west)) == 0 {
			return "no tasks"
		}
		return ""
	})
	e.numbers(e.Source, orders, 0, 0, 3)
	p.said(proc, "topic left out")
	text, err := os.ReadFile(proc.LogFile())
	e.Must(err)
	from, to := e.Source, e.Target // the way that stays
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "topic left out") && strings.Contains(line, "link="+p.east+"->"+p.west) {
			from, to = e.Target, e.Source
		}
	}
	// It is said a moment before the task is another one: the circle is cut when nothing moves any more.
	e.Until(60*time.Second, "the circle to rest", func() string {
		before := len(e.values(e.Source, orders, 0)) + len(e.values(e.Target, orders, 0))
		e.Pass(2 * time.Second)
		if after := len(e.values(e.Source, orders, 0)) + len(e.values(e.Target, orders, 0)); after != before {
			return fmt.Sprintf("%d records, %d before", after, before)
		}
		return ""
	})
	// What is written now goes the other way, once.
	e.numbers(from, orders, 0, 700, 703)
	count := func(b *kafka.Broker, value string) (n int) {
		for _, v := range e.values(b, orders, 0) {
			if v == value {
				n++
			}
		}
		return n
	}
	e.Until(60*time.Second, "the way that stays", func() string {
		if n := count(to, "702"); n == 0 {
			return "nothing yet"
		}
		return ""
	})
	e.numbers(from, orders, 0, 800, 801)
	e.Until(60*time.Second, "the way that stays, again", func() string {
		if n := count(to, "800"); n == 0 {
			return "nothing yet"
		}
		return ""
	})
	for _, b := range []*kafka.Broker{from, to} {
		if n := count(b, "701"); n != 1 {
			t.Errorf("a record is there %d times", n)
		}
	}
	e.Must(proc.Stop(30 * time.Second))
}
