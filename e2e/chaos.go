package e2e

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
	"barnabas/e2e/proxy"
)

// side is a cluster of three brokers, each with a proxy of its own before the
// listener that the product uses.
type side struct {
	name    string
	cluster *kafka.Cluster
	proxies []*proxy.Proxy
	// users are the principals of the connectors, for quotas.
	users []string
}

// chaos breaks clusters, network and workers. What is broken when, and for how
// long, follows from a seed; several streams of faults run beside each other, and
// no stream breaks two things at once, so that two of three brokers stay.
type chaos struct {
	e              *Env
	source, target *side
	journal        *os.File // of faults, with their times

	mu     sync.Mutex
	counts map[string]int
	begun  time.Time
}

// fault breaks something, waits, and mends it, also if ctx ends meanwhile.
type fault struct {
	name string
	do   func(ctx context.Context, r *rand.Rand) error
}

// newChaos starts the two clusters.
func newChaos(e *Env) *chaos {
	e.t.Helper()
	c := &chaos{e: e, counts: map[string]int{}, begun: time.Now(), source: &side{name: "source"}, target: &side{name: "target"}}
	var err error
	c.journal, err = os.Create(filepath.Join(e.Dir, "faults.log"))
	e.Must(err)
	e.t.Cleanup(func() { _ = c.journal.Close() })
	dir := c.directory()
	ctx, cancel := context.WithTimeout(e.Context(), 4*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range []*side{c.source, c.target} {
		e.t.Cleanup(s.stop)
		g.Go(func() error { return s.start(ctx, filepath.Join(dir, s.name)) })
	}
	e.Must(g.Wait())
	return c
}

// directory takes what the brokers write: apart from what the product writes.
func (c *chaos) directory() string {
	keep := os.Getenv("E2E_DIR")
	if keep == "" {
		return c.e.t.TempDir()
	}
	dir := filepath.Join(keep, "clusters-of-"+c.e.t.Name())
	c.e.Must(os.RemoveAll(dir))
	c.e.Must(os.MkdirAll(dir, 0o700))
	return dir
}

func (s *side) start(ctx context.Context, dir string) (err error) {
	spec := kafka.Spec{Name: s.name, Dir: dir, ACLs: true, Properties: map[string]string{
		// A quota shows within seconds, and is forgotten as soon.
		"quota.window.num": "4",
	}}
	s.cluster, err = kafka.StartCluster(ctx, spec, 3, func(_ int, own *kafka.Spec) error {
		behind, err := kafka.FreePorts(1)
		if err != nil {
			return err
		}
		p, err := proxy.Listen("127.0.0.1:0", behind[0])
		if err != nil {
			return err
		}
		s.proxies = append(s.proxies, p)
		own.Listeners = []kafka.Listener{{Name: Faulty, SASL: true, Address: behind[0], Advertise: p.Address()}}
		return nil
	})
	return err
}

func (s *side) stop() {
	if s.cluster != nil {
		s.cluster.Kill()
	}
	for _, p := range s.proxies {
		p.Close()
	}
}

// known waits until every broker knows the rights of the connectors' principals.
func (s *side) known(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := kgo.NewClient(s.cluster.Plain()...)
	if err != nil {
		return fmt.Errorf("rights on the %s: %w", s.name, err)
	}
	defer client.Close()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	for {
		all := map[int]bool{}
		for node := range s.cluster.Brokers {
			answer, err := client.Broker(node+1).Request(ctx, req)
			if err != nil {
				return fmt.Errorf("rights on the %s: %w", s.name, err)
			}
			rights := 0
			for _, r := range answer.(*kmsg.DescribeACLsResponse).Resources {
				rights += len(r.ACLs)
			}
			all[rights] = true
		}
		if len(all) == 1 && !all[0] {
			pause(ctx, time.Second) // the controllers' turn
			return nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("rights on the %s: not all brokers know the same number: %w", s.name, ctx.Err())
		}
	}
}

// run breaks things for as long as d, in one stream for each list of faults.
func (c *chaos) run(d time.Duration, streams map[string][]fault) {
	c.e.t.Helper()
	ctx, cancel := context.WithTimeout(c.e.Context(), d)
	defer cancel()
	var g errgroup.Group
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		g.Go(func() error { return c.stream(ctx, name, streams[name]) })
	}
	c.e.Must(g.Wait())
}

func (c *chaos) stream(ctx context.Context, name string, faults []fault) error {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	r := rand.New(rand.NewPCG(c.e.Seed, h.Sum64())) //nolint:gosec // no secret
	for {
		pause(ctx, between(r, 200*time.Millisecond, 3*time.Second))
		if ctx.Err() != nil {
			return nil
		}
		f := faults[r.IntN(len(faults))]
		c.count(name + ": " + f.name)
		if err := f.do(ctx, r); err != nil {
			return fmt.Errorf("%s: %s: %w", name, f.name, err)
		}
		c.note("%s: %s: over", name, f.name)
	}
}

func (c *chaos) count(what string) {
	c.mu.Lock()
	c.counts[what]++
	c.mu.Unlock()
	c.note("%s", what)
}

// note writes into the journal.
func (c *chaos) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.journal, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// String tells the faults by kind.
func (c *chaos) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text strings.Builder
	sum := 0
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		sum += c.counts[what]
		fmt.Fprintf(&text, "\n%5d %s", c.counts[what], what)
	}
	return fmt.Sprintf("%d faults%s", sum, text.String())
}

// faults counts those of the kinds whose name contains one of the words.
func (c *chaos) faults(words ...string) (sum int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range c.counts {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(what, w) }) {
			sum += n
		}
	}
	return sum
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// mending is a context for what has to be done although ctx may have ended.
func mending(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}

// skipWithoutRoom leaves a test out on a machine that is too small for it.
func skipWithoutRoom(t *testing.T, gib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return
	}
	var kib int
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 && kib < gib<<20 {
			t.Skipf("needs %d GiB of memory, %d MiB are available", gib, kib>>10)
		}
	}
}
