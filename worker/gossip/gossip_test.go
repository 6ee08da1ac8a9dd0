package gossip

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"barnabas/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWorkersTellOfThemselves(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{Incarnation: 7, Meta: Meta{URL: "https://elsewhere:9", Version: "1.2", Labels: map[string]string{"zone": "x", "tier": "pci"}}})
	b := start(t, "b:1", Options{Join: []string{a.address()}})
	b.sees("a:1", "b:1")
	want := []Member{
		{ID: "a:1", Incarnation: 7, Meta: Meta{URL: "https://elsewhere:9", Version: "1.2", Labels: map[string]string{"zone": "x", "tier": "pci"}}, Address: a.address()},
		{ID: "b:1", Incarnation: 1, Meta: Meta{URL: "http://b:1"}, Address: b.address(), Self: true},
	}
	if diff := cmp.Diff(want, b.Members()); diff != "" {
		t.Error(diff)
	}
}

func TestKilledWorkerIsGoneWithinTheBound(t *testing.T) {
	t.Parallel()
	a, b, c := three(t, Options{LeaveTimeout: -1})
	killed := time.Now()
	c.stop()
	a.sees("a:1", "b:1")
	b.sees("a:1", "b:1")
	// About 2 s on an idle machine. The product promises that the tasks copy again after 5.
	if took := time.Since(killed); took > 4*time.Second {
		t.Errorf("took %v", took)
	} else {
		t.Logf("took %v", took)
	}
}

func TestLeavingWorkerIsGoneAtOnce(t *testing.T) {
	t.Parallel()
	a, b, c := three(t, Options{})
	left := time.Now()
	c.stop()
	a.sees("a:1", "b:1")
	b.sees("a:1", "b:1")
	if took := time.Since(left); took > time.Second {
		t.Errorf("took %v", took)
	}
	if m := c.Members(); len(m) > 0 {
		t.Errorf("after Run it lists %v", ids(m))
	}
}

func TestRestartedWorkerReplacesItsDeadProcess(t *testing.T) {
	t.Parallel()
	a, b, c := three(t, Options{LeaveTimeout: -1})
	c.stop()
	start(t, "c:1", Options{Incarnation: 2, Join: []string{b.address()}})
	// Not only after the old one has been declared dead.
	a.until("the young c", func(m []Member) bool { return len(m) == 3 && m[2].Incarnation == 2 })
}

// sharedPort gives n addresses of this machine that can use one port.
func sharedPort(t *testing.T, n int) (addresses []string, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		addresses = append(addresses, "127.0.1."+string(rune('1'+i)))
	}
	return addresses, port
}

func TestNameWithSeveralAddressesJoinsAll(t *testing.T) {
	t.Parallel()
	addresses, port := sharedPort(t, 3)
	var mu sync.Mutex
	var known []string // what the name resolves to, which grows while workers run
	lookup := func(_ context.Context, host string) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		if host != "workers" || len(known) == 0 {
			return nil, errors.New("no such host")
		}
		return slices.Clone(known), nil
	}
	var nodes []*node
	for i, name := range []string{"a:1", "b:1", "c:1"} {
		nodes = append(nodes, start(t, name, Options{Bind: addresses[i] + ":" + port, Join: []string{"workers:" + port}, LookupHost: lookup}))
	}
	for _, n := range nodes {
		if m := n.Members(); len(m) != 1 {
			t.Errorf("%s already sees %v", n.o.Name, ids(m))
		}
	}
	mu.Lock()
	known = addresses
	mu.Unlock()
	for _, n := range nodes {
		n.sees("a:1", "b:1", "c:1")
	}
}

func TestSplitClustersHealThroughAnAddressFoundLater(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{})
	b := start(t, "b:1", Options{Join: []string{a.address()}})
	c := start(t, "c:1", Options{})
	d := start(t, "d:1", Options{Join: []string{c.address()}})
	b.sees("a:1", "b:1")
	d.sees("c:1", "d:1")
	b.Join("not an address", c.address())
	for _, n := range []*node{a, b, c, d} {
		n.sees("a:1", "b:1", "c:1", "d:1")
	}
}

func TestSecretIsRotatedWorkerByWorker(t *testing.T) {
	t.Parallel()
	old, young := newSecret(), newSecret()
	first := start(t, "a:1", Options{Secrets: []config.Secret{old}})
	for _, step := range [][]config.Secret{{old, young}, {young, old}, {young}} {
		second := start(t, "b:1", Options{Secrets: step, Join: []string{first.address()}})
		second.sees("a:1", "b:1")
		first.sees("a:1", "b:1")
		first.Hint(5)
		if got := receive(t, second); got != 5 {
			t.Errorf("got %d", got)
		}
		second.stop()
		first.sees("a:1")
		first.stop()
		first = start(t, "a:1", Options{Secrets: step})
	}
}

func TestWorkerWithAnotherSecretStaysOutsideAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	for _, wrong := range []struct {
		name    string
		secrets []config.Secret
	}{{"another secret", []config.Secret{newSecret()}}, {"no secret", nil}} {
		t.Run(wrong.name, func(t *testing.T) {
			t.Parallel()
			secret := newSecret()
			a := start(t, "a:1", Options{Secrets: []config.Secret{secret}})
			tries := make(chan struct{}, 100)
			x := start(t, "x:1", Options{
				Secrets: wrong.secrets, Join: []string{"workers:" + a.address()[strings.LastIndexByte(a.address(), ':')+1:]},
				LookupHost: func(context.Context, string) ([]string, error) {
					notify(tries)
					return []string{"127.0.0.1"}, nil
				},
			})
			for range 3 { // rounds, of which two are over
				select {
				case <-tries:
				case <-time.After(patience):
					t.Fatal("it does not try")
				}
			}
			x.stop()
			a.stop()
			if n := x.log.count("not let in: gossip.secret differs"); n != 1 {
				t.Errorf("it says so %d times:\n%s", n, x.log)
			}
			if n := strings.Count(a.log.String(), "\n"); n > 1 || a.log.count("x:1") > 0 {
				t.Errorf("the other says:\n%s", a.log)
			}
			for _, log := range []string{a.log.String(), x.log.String()} {
				if strings.Contains(log, secret.Reveal()) {
					t.Error("a log shows the secret")
				}
			}
		})
	}
}

func TestWorkerOfAnotherClusterStaysOutside(t *testing.T) {
	t.Parallel()
	secrets := []config.Secret{newSecret()}
	a := start(t, "a:1", Options{Cluster: "one", Secrets: secrets})
	b := start(t, "b:1", Options{Cluster: "one", Secrets: secrets})
	x := start(t, "x:1", Options{Cluster: "two", Secrets: secrets, Join: []string{a.address(), b.address()}})
	a.Join(b.address())
	a.sees("a:1", "b:1")
	a.until("its try is logged", func([]Member) bool {
		notify(a.changed) // the log has no channel
		return a.log.count("a worker of another group.id wants to join") == 1
	})
	x.sees("x:1")
	a.sees("a:1", "b:1")
}

// receive waits for a hint.
func receive(t *testing.T, n *node) int64 {
	t.Helper()
	select {
	case offset := <-n.Hints():
		return offset
	case <-time.After(patience):
		t.Fatalf("%s: no hint within %v", n.o.Name, patience)
		return 0
	}
}

func TestHintsReachTheOthersNewestOnly(t *testing.T) {
	t.Parallel()
	a, b, c := three(t, Options{})
	a.Hint(3)
	a.Hint(9)
	a.Hint(4)
	for _, n := range []*node{b, c} {
		if got := receive(t, n); got != 9 {
			t.Errorf("%s: got %d, want 9", n.o.Name, got)
		}
	}
	b.Hint(12)
	if got := receive(t, a); got != 12 {
		t.Errorf("a: got %d, want 12 and not its own", got)
	}
	late := start(t, "d:1", Options{Join: []string{a.address()}})
	if got := receive(t, late); got != 12 {
		t.Errorf("one that comes later: got %d, want 12", got)
	}
}

func TestLoadIsToldToTheOthers(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{})
	b := start(t, "b:1", Options{Join: []string{a.address()}})
	b.sees("a:1", "b:1")
	a.SetLoad(1 << 20)
	b.until("a's load", func(m []Member) bool { return m[0].Load == 1<<20 })
}

func TestWorkerThatStaysAloneSaysSo(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{Join: []string{"nowhere:1"}, LookupHost: func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }})
	began := time.Now()
	a.until("it says so", func([]Member) bool {
		notify(a.changed) // the log has no channel
		return a.log.count("alone: no other worker found") == 1
	})
	if took := time.Since(began); took < aloneAfter/2 {
		t.Errorf("after %v already: others may be starting", took)
	}
	a.stop()
	if a.log.count("resolve nowhere: no such host") != 1 {
		t.Errorf("it does not say why once:\n%s", a.log)
	}
}

func TestReadinessIsToldAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{})
	b := start(t, "b:1", Options{Join: []string{a.address()}})
	b.sees("a:1", "b:1")
	began := time.Now()
	for range 2 {
		a.SetLoad(float64(time.Since(began))) // which waits for its interval
		a.SetReady(true)
		b.until("a is ready", func(m []Member) bool { return m[0].Ready })
		a.SetReady(false)
		b.until("a is not ready", func(m []Member) bool { return !m[0].Ready })
	}
	if took := time.Since(began); took > loadInterval {
		t.Errorf("four changes took %v", took)
	}
}

func TestTwoProcessesWithOneNameAreReported(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{})
	x := start(t, "b:1", Options{Join: []string{a.address()}})
	a.sees("a:1", "b:1")
	start(t, "b:1", Options{Join: []string{a.address()}})
	a.until("the conflict is logged", func([]Member) bool {
		notify(a.changed) // the log has no channel
		return a.log.count("two workers with one name") == 1
	})
	a.until("the first keeps its place", func(m []Member) bool { return len(m) == 2 && m[1].Address == x.address() })
}

func TestTwoLiveIncarnationsOfOneNameAreReportedWhenTheyStay(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	c, err := New(Options{Name: "a:1", Bind: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	c.members = map[string]Member{"b:1#1": {ID: "b:1", Incarnation: 1}, "b:1#2": {ID: "b:1", Incarnation: 2}}
	now := time.Now()
	c.findTwins(now)
	if len(c.log.queue) != 0 {
		t.Error("reported at once: a restarted worker looks the same")
	}
	c.findTwins(now.Add(twinsAfter + 1))
	if len(c.log.queue) != 1 {
		t.Error("not reported")
	}
	delete(c.members, "b:1#1")
	c.findTwins(now.Add(twinsAfter + 2))
	c.members["b:1#3"] = Member{ID: "b:1", Incarnation: 3}
	c.findTwins(now.Add(twinsAfter + 3))
	if len(c.log.queue) != 1 {
		t.Error("a later restart is taken for the same thing")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	many := map[string]string{}
	for i := range 40 {
		many["label-"+string(rune('a'+i))] = "a value that takes room"
	}
	for _, row := range []struct {
		name string
		o    Options
		want []string // in the error, which lists all that is wrong
	}{
		{"all addresses without a secret", Options{}, []string{"gossip.bind 0.0.0.0:7946", "gossip.secret is not set"}},
		{"an address of the network without a secret", Options{Bind: "127.0.0.1:0", Advertise: "10.0.0.1:1"}, []string{"gossip.advertise 10.0.0.1:1", "gossip.secret is not set"}},
		{"a short secret", Options{Secrets: []config.Secret{secret, config.NewSecret("hunter2")}}, []string{"entry 2 of 2 has 7 bytes and not 32"}},
		{"no address", Options{Bind: "nowhere:port", Secrets: []config.Secret{secret}}, []string{`gossip.bind: "nowhere:port" is not host:port`}},
		{"places that are none", Options{Bind: "127.0.0.1:0", Join: []string{"a:1", "b:0"}}, []string{`gossip.join: "b:0"`}},
		{"labels without room", Options{Bind: "127.0.0.1:0", Meta: Meta{Labels: many}}, []string{"worker.labels", "512"}},
		{"an address without room", Options{Bind: "127.0.0.1:0", LabelsInLog: true, Meta: Meta{URL: strings.Repeat("x", 600)}}, []string{"REST address", "512"}},
		{"all IPv6 addresses and none to tell", Options{Bind: "[::]:0", Secrets: []config.Secret{secret}}, []string{"set gossip.advertise"}},
		{"two things", Options{Bind: "127.0.0.1:x", Join: []string{":"}}, []string{"gossip.bind", "gossip.join"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.o.Name, row.o.Incarnation = "a:8083", 1
			_, err := New(row.o)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

func TestLabelsWithoutRoomAreFlaggedWhereTheLogHasThem(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"a": strings.Repeat("x", 600)}
	a := start(t, "a:1", Options{LabelsInLog: true, Meta: Meta{Labels: labels}})
	b := start(t, "b:1", Options{LabelsInLog: true, Meta: Meta{Labels: map[string]string{"zone": "x"}}, Join: []string{a.address()}})
	b.sees("a:1", "b:1")
	m := b.Members()
	if !m[0].LabelsInLog || m[0].Labels != nil {
		t.Errorf("a's do not fit: %+v", m[0])
	}
	if m[1].LabelsInLog || !maps.Equal(m[1].Labels, map[string]string{"zone": "x"}) {
		t.Errorf("b's do: %+v", m[1])
	}
}

func TestRunSaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	a := start(t, "a:1", Options{})
	c, err := New(Options{Name: "b:1", Bind: a.address()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), a.address()) {
		t.Errorf("got %v", err)
	}
}

func TestAddressesThatAreNotReachedAreForgotten(t *testing.T) {
	t.Parallel()
	s, err := newSeeds([]string{"a:1"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.add(now, "10.0.0.1:2", "10.0.0.2:2", "10.0.0.1:2")
	now = now.Add(forgetSeedsAfter)
	s.reached(now, mustAddrPort("10.0.0.2:2"))
	s.forget(now.Add(time.Second))
	if diff := cmp.Diff([]hostPort{{"10.0.0.2", 2}, {"a", 1}}, s.all(), cmp.AllowUnexported(hostPort{})); diff != "" {
		t.Error(diff)
	}
}
