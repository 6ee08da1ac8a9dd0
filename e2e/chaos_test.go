package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
	"barnabas/e2e/load"
	"barnabas/e2e/oracle"
)

var chaosMinutes = flag.Float64("chaos.minutes", minutes(), "how long the chaos test breaks things; $E2E_CHAOS_MINUTES is the default")

func minutes() float64 {
	if m, err := strconv.ParseFloat(os.Getenv("E2E_CHAOS_MINUTES"), 64); err == nil {
		return m
	}
	return 2
}

// mode is a connector of the chaos test: all copy the same topics.
type mode struct {
	alias    string
	delivery string // as its status has it
	fleet    *Fleet
	name     string
	config   Config
	topics   map[string]string
}

// feed is a part of the load, with a kind of batches of its own.
type feed struct {
	name       string
	partitions int
	rate       int // records a second
	linger     time.Duration
	large      bool
}

var feeds = []feed{
	{"steady", 3, 300, 5 * time.Millisecond, false},
	{"single", 2, 20, time.Nanosecond, false},
	{"bulk", 2, 300, 400 * time.Millisecond, true},
}

// Not parallel: it needs the whole machine, and breaks the network to the
// workers' cluster.
func TestChaosLosesNothingAndDoublesNothing(t *testing.T) {
	length := time.Duration(*chaosMinutes * float64(time.Minute))
	e := New(t, length+12*time.Minute)
	skipWithoutRoom(t, 6)
	c := newChaos(e)
	topics, rate := []string{}, 0
	var loads []*load.Generator
	admin, err := c.source.cluster.Admin()
	e.Must(err)
	defer admin.Close()
	for _, f := range feeds {
		topic := e.Prefix + "." + f.name
		_, err := admin.CreateTopic(t.Context(), int32(f.partitions), 3, nil, topic)
		e.Must(err)
		topics = append(topics, topic)
		rate += f.rate
		g, err := load.New(load.Options{
			Client: c.source.cluster.Plain(), Topics: []string{topic}, Partitions: f.partitions, Seed: e.Seed, Now: true, Large: f.large, Linger: f.linger,
		})
		e.Must(err)
		loads = append(loads, g)
	}
	modes := c.modes(topics)
	for _, m := range modes {
		m.fleet.Create(m.name, m.config)
	}
	for _, m := range modes {
		m.fleet.Await(m.name, "RUNNING", 3, 2*time.Minute)
	}
	stop := c.load(loads)
	for _, m := range modes {
		c.copies(m, "200 records are copied", 2*time.Minute, func(_, target int64) bool { return target >= 200 })
		if got := m.fleet.delivery(m.name); got != m.delivery {
			t.Fatalf("%s: its tasks write %s, want %s", m.alias, got, m.delivery)
		}
	}
	before := map[string]told{}
	for _, m := range modes {
		before[m.alias] = m.fleet.told(m.name)
	}

	streams := map[string][]fault{
		"source": c.source.brokerFaults(), "target": c.target.brokerFaults(), "network": networkFaults(c.source, c.target),
		"source's quotas": c.source.quotaFaults(), "target's quotas": c.target.quotaFaults(), "workers' cluster": hubFaults(e.HubNet),
	}
	for _, m := range modes {
		streams["workers of "+strings.TrimPrefix(m.fleet.Group, e.Prefix+"-")] = m.fleet.workerFaults()
	}
	c.run(length, streams)
	healed := time.Now()
	c.note("the faults are over")
	t.Logf("in %s: %s", length, c)

	for _, m := range modes {
		for _, w := range m.fleet.Workers {
			e.Must(w.healthy(t.Context()))
		}
		m.fleet.Await(m.name, "RUNNING", 3, 2*time.Minute)
	}
	stop()
	for _, m := range modes {
		// Markers and duplicates help here: the oracle knows better.
		c.copies(m, "it catches up", 4*time.Minute, func(source, target int64) bool { return target >= source })
		t.Logf("%s has caught up %s after the last fault", m.alias, time.Since(healed).Round(time.Millisecond))
	}
	interruptions := c.faults("workers of ", "workers' cluster")
	for _, m := range modes {
		c.judge(m, before[m.alias], rate, interruptions)
	}
}

// modes sets the connectors up, in two fleets.
func (c *chaos) modes(topics []string) []*mode {
	e := c.e
	e.t.Helper()
	properties := map[string]string{"bootstrap.servers": e.Hub.Address(Faulty)}
	once := map[string]string{"bootstrap.servers": e.Hub.Address(Faulty), "exactly.once.source.support": "enabled"}
	many := e.Prepare(FleetOptions{Size: 3, Group: "alo", Properties: properties})
	two := e.Prepare(FleetOptions{Size: 2, Group: "eos", Properties: once})
	many.Start()
	two.Start()
	modes := []*mode{
		{alias: "fen", delivery: "fenced", fleet: many},
		{alias: "pla", delivery: "plain", fleet: many},
		{alias: "txn", delivery: "transactional", fleet: two},
	}
	boundary := "interval"
	if e.Seed%2 == 1 {
		boundary = "poll"
	}
	for _, m := range modes {
		m.name, m.topics = e.Prefix+"-"+m.alias, map[string]string{}
		for _, topic := range topics {
			m.topics[topic] = m.alias + "." + topic
		}
		reader := e.User(c.source.cluster.Brokers[0], m.alias+"-ro", ReadTopics(e.Prefix+"*")...)
		grants := WriteTopics(m.alias + "." + e.Prefix + "*")
		if m.delivery == "plain" {
			grants = slices.DeleteFunc(grants, func(g kafka.Grant) bool {
				return g.TransactionalID != "" || strings.HasPrefix(g.Topic, "mm2-offset-runs")
			})
		}
		writer := e.User(c.target.cluster.Brokers[0], m.alias+"-rw", grants...)
		c.source.users, c.target.users = append(c.source.users, reader.Name), append(c.target.users, writer.Name)
		m.config = e.Mirror(reader, writer, e.Prefix+`\..*`, 3).With(map[string]string{
			"source.cluster.alias": m.alias, "replication.factor": "3",
			"source.cluster.bootstrap.servers": c.source.cluster.Addresses(Faulty), "target.cluster.bootstrap.servers": c.target.cluster.Addresses(Faulty),
			"transaction.boundary": boundary, "transaction.boundary.interval.ms": "500", "offsets.storage.topic": m.alias + "." + e.Prefix + "-offsets",
		})
	}
	e.Must(errors.Join(c.source.known(e.Context()), c.target.known(e.Context())))
	return modes
}

// load runs the generators until stop, which returns when the source has
// everything.
func (c *chaos) load(loads []*load.Generator) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.e.Context()))
	over := make(chan error, len(loads))
	for i, g := range loads {
		go func() { over <- g.Run(ctx, feeds[i].rate) }()
	}
	stop = sync.OnceFunc(func() {
		cancel()
		for range loads {
			if err := <-over; err != nil {
				c.e.t.Error(err)
			}
		}
		for _, g := range loads {
			g.Close()
		}
	})
	c.e.t.Cleanup(stop)
	return stop
}

// delivery is how the tasks of a connector write; several answers if they do
// not all write alike.
func (f *Fleet) delivery(connector string) string {
	f.e.t.Helper()
	var answer struct {
		Tasks []struct {
			Delivery string `json:"delivery"`
		} `json:"tasks"`
	}
	f.e.Must(unmarshal(f.Do("GET", "/v1/replication/"+connector, "", 200), &answer))
	var all []string
	for _, t := range answer.Tasks {
		all = append(all, t.Delivery)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// copies waits for what the ends of the source's and the target's partitions, summed up, have to
// fulfil.
func (c *chaos) copies(m *mode, what string, limit time.Duration, fulfilled func(source, target int64) bool) {
	c.e.t.Helper()
	source, err := c.source.cluster.Admin()
	c.e.Must(err)
	defer source.Close()
	target, err := c.target.cluster.Admin()
	c.e.Must(err)
	defer target.Close()
	sum := func(admin *kadm.Client, topics ...string) (sum int64, err error) {
		ends, err := admin.ListEndOffsets(c.e.Context(), topics...)
		if err == nil {
			err = ends.Error()
		}
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum, err
	}
	from, to := names(m.topics)
	c.e.Until(limit, m.alias+": "+what, func() string {
		there, err := sum(target, to...)
		if err != nil {
			return err.Error()
		}
		here, err := sum(source, from...)
		if err != nil {
			return err.Error()
		}
		if fulfilled(here, there) {
			return ""
		}
		c.note("%s: %d of %d", m.alias, there, here)
		pause(c.e.Context(), time.Second)
		return fmt.Sprintf("%d of %d offsets", there, here)
	})
}

// judge compares a copy with its source, as an independent reader and as the
// product itself sees it.
func (c *chaos) judge(m *mode, before told, rate, interruptions int) {
	e, t := c.e, c.e.t
	t.Helper()
	var report oracle.Report
	_, why := e.Within(3*time.Minute, func() string {
		var err error
		report, err = oracle.Compare(e.Context(), oracle.Options{
			Source: c.source.cluster.Plain(), Target: c.target.cluster.Plain(), Topics: m.topics, Committed: m.delivery == "transactional",
		})
		e.Must(err)
		if report.Missing > 0 && report.Disordered == 0 && report.Foreign == 0 {
			return report.String() // it still comes
		}
		return ""
	})
	history := m.fleet.told(m.name)
	t.Logf("%s (%s): %s\n%s, %d of the sessions before the faults", m.alias, m.delivery, report, history, before.sessions)
	broken := why != "" || !report.Complete()
	if broken {
		t.Errorf("%s: something is missing or in disorder: %s", m.alias, report)
	}
	switch {
	case m.delivery != "plain" && report.Duplicates > 0:
		broken = true
		t.Errorf("%s: %d of %d records are there twice, want none", m.alias, report.Duplicates, report.Source)
	case report.Duplicates > int64(interruptions*rate*plainSeconds):
		broken = true
		t.Errorf("%s: %d duplicates after %d interruptions", m.alias, report.Duplicates, interruptions)
	}
	if broken {
		t.Log(strings.Join(append(report.Again, history.lines...), "\n"))
		c.explain(report)
	}
	out, code := e.run(nil, "verify", m.name, "--url", m.fleet.any().URL(), "-o", "json", "--wait", "30s")
	if code != 0 {
		t.Errorf("barnabas verify %s: exit code %d\n%s", m.name, code, out)
	}
	if got := m.fleet.delivery(m.name); got != m.delivery {
		t.Errorf("%s: in the end its tasks write %s, want %s", m.alias, got, m.delivery)
	}
	m.fleet.Pages(m.name)
}

// plainSeconds bounds what one interruption doubles in plain mode: what was
// copied since the last flush, which comes every second, but copies what piled up while something was broken.
const plainSeconds = 20
