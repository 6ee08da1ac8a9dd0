package mirror

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
)

// compare has TestThousandsOfGroups let MirrorMaker 2 translate the same groups afterwards:
//
//	go test ./connector/mirror -run TestThousandsOfGroups -v -mirrormaker
var compare = flag.Bool("mirrormaker", false, "compare the translation of thousands of groups with MirrorMaker 2's")

// crowd is thousands of groups at random positions of many topics, some of which have markers.
type crowd struct {
	*world
	topics []string
	list   []string
	groups map[string]map[partition]int64
	// ahead are groups that are further on at the target: there they are at farAhead.
	ahead map[string]bool
}

const farAhead = 1_000_000

// newCrowd writes records.
func newCrowd(w *world, topics, groups, each, records int) *crowd {
	w.t.Helper()
	c := &crowd{world: w, groups: map[string]map[partition]int64{}, ahead: map[string]bool{}}
	for i := range topics {
		c.topics = append(c.topics, fmt.Sprintf("orders-%03d", i))
	}
	if _, err := kadm.NewClient(w.source.client).CreateTopics(w.t.Context(), 1, 1, nil, c.topics...); err != nil {
		w.t.Fatal(err)
	}
	var all []*kgo.Record
	for _, topic := range c.topics {
		all = append(all, numbered(topic, 0, 0, records)...)
	}
	if err := w.source.client.ProduceSync(w.t.Context(), all...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < topics; i += 10 {
		w.writeTransactions(partition{c.topics[i], 0}, records, 20, 3)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a seed
	for i := range groups {
		g := fmt.Sprintf("group-%04d", i)
		c.list, c.groups[g], c.ahead[g] = append(c.list, g), map[partition]int64{}, i%10 == 0
		for range each {
			c.groups[g][partition{c.topics[random.IntN(topics)], 0}] = random.Int64N(int64(records) + 1)
		}
	}
	return c
}

// commit puts the groups where they are.
func (c *crowd) commit() {
	c.t.Helper()
	c.at(c.source, c.list...) // so that not each coordinator is asked for alone
	c.at(c.target, c.list...)
	var g errgroup.Group
	g.SetLimit(16)
	for _, name := range c.list {
		g.Go(func() error {
			all, further := map[partition]committed{}, map[partition]committed{}
			for p, at := range c.groups[name] {
				all[p], further[partition{"A." + p.topic, p.id}] = committed{at, "of " + name}, committed{offset: farAhead}
			}
			if c.ahead[name] {
				if err := c.target.commitOffsets(c.t.Context(), name, further); err != nil {
					return err
				}
			}
			return c.source.commitOffsets(c.t.Context(), name, all)
		})
	}
	if err := g.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

// offsets is how many offsets the groups have.
func (c *crowd) offsets() (n int) {
	for _, offsets := range c.groups {
		n += len(offsets)
	}
	return n
}

// set waits until all groups are at the target.
func (c *crowd) set() {
	c.t.Helper()
	half, all := c.list[len(c.list)/2-1], c.list[len(c.list)-1]
	eventually(c.t, "the last groups of both tasks at the target", func() bool {
		at := c.at(c.target, half, all)
		return len(at[half]) > 0 && len(at[all]) > 0 && len(c.pointed()) == len(c.list)
	})
	eventually(c.t, "all groups at the target", func() bool {
		n := 0
		for _, offsets := range c.at(c.target, c.list...) {
			n += len(offsets)
		}
		return n == c.offsets()
	})
}

// wrong counts what is not where it belongs at the target.
func (c *crowd) wrong(o *oracle) (n int) {
	c.t.Helper()
	for name, offsets := range c.at(c.target, c.list...) {
		for p, at := range offsets {
			from := partition{strings.TrimPrefix(p.topic, "A."), p.id}
			why := ""
			switch {
			case c.ahead[name] && at.offset != farAhead:
				why = fmt.Sprintf("led back to %d", at.offset)
			case !c.ahead[name]:
				why = o.wrong(from, c.groups[name][from], at.offset)
			}
			if why != "" {
				n++
				c.t.Errorf("group %s at the target: %s", name, why)
			}
		}
	}
	return n
}

// TestThousandsOfGroups has 4,000 groups at random positions of 100 topics.
func TestThousandsOfGroups(t *testing.T) { //nolint:paralleltest // it measures
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := newCrowd(realWorld(t), 100, 4000, 3, 600)
	c.copier.run()
	c.copied(c.topics...)
	o := c.oracleOf(c.topics...)
	c.commit()

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	for key, value := range map[string]string{"sync.group.offsets.enabled": "true", "emit.checkpoints.interval.seconds": "60", "sync.group.offsets.interval.seconds": "60"} {
		c.pointer.config[key] = value
	}
	stop := c.pointer.run()
	c.set()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	c.agree(o, c.groups)
	t.Logf("%d groups with %d offsets in %d topics: all are at the target, %d wrong, in %v; heap %d MiB before and %d MiB after, %d MiB allocated",
		len(c.list), c.offsets(), len(c.topics), c.wrong(o), took.Round(time.Millisecond), before.HeapAlloc>>20, after.HeapAlloc>>20, (after.TotalAlloc-before.TotalAlloc)>>20)
	// It is to be within 10 s, and is within 4 on two cores; the race detector and a busy machine take their share.
	if took > 30*time.Second {
		t.Errorf("a full pass took %v", took)
	}
	c.planInTime(t.Context())
	if *compare {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		c.mirrorMaker()
	}
}

// mirrorMaker lets MirrorMaker 2 copy and translate the same, under another alias, and tells how many it translates.
func (c *crowd) mirrorMaker() {
	c.t.Helper()
	began := time.Now()
	proc, err := kafka.StartMirrorMaker(kafka.MirrorMakerSpec{Name: "of the test", Dir: c.t.TempDir(), Properties: map[string]string{
		"clusters": "M,W", "M.bootstrap.servers": strings.Join(c.sourceAt, ","), "W.bootstrap.servers": strings.Join(c.targetAt, ","),
		"M->W.enabled": "true", "M->W.topics": "orders-.*", "M->W.groups": "group-.*", "replication.factor": "1", "checkpoints.topic.replication.factor": "1",
		"heartbeats.topic.replication.factor": "1", "offset-syncs.topic.replication.factor": "1", "offset.storage.replication.factor": "1",
		"config.storage.replication.factor": "1", "status.storage.replication.factor": "1", "emit.heartbeats.enabled": "false", "tasks.max": "2",
		"emit.checkpoints.interval.seconds": "1", "offset.flush.interval.ms": "1000", "refresh.groups.interval.seconds": "5", "refresh.topics.interval.seconds": "5",
		"offset.lag.max": "100",
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(proc.Kill)
	count := func() (n int) {
		for _, of := range c.pointedFrom("M") {
			n += len(of)
		}
		return n
	}
	// It is through when nothing has changed for a while.
	n, since := 0, time.Now()
	for time.Since(since) < 30*time.Second || n == 0 && time.Since(since) < 3*time.Minute {
		if now := count(); now != n {
			n, since = now, time.Now()
		}
		select {
		case <-c.t.Context().Done():
			c.t.Fatal("ended")
		case <-time.After(time.Second):
		}
	}
	exactly, groups := 0, 0
	o := c.oracleOfCopies("M", c.topics...)
	for name, of := range c.pointedFrom("M") {
		groups++
		for p, k := range of {
			if o.wrong(p, c.groups[name][p], k.Downstream) == "" {
				exactly++
			}
		}
	}
	c.t.Logf("MirrorMaker 2: %d of %d groups with %d of %d offsets, %d of them exact, within %v, its own start and copy included; %d MiB resident",
		groups, len(c.list), n, c.offsets(), exactly, since.Sub(began).Round(time.Second), residentMiB(proc.PID()))
}

// residentMiB is the memory of a process as Linux has it; 0 where that is not told.
func residentMiB(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n := 0
	_, _ = fmt.Sscan(rest, &n)
	return n / 1024
}
