package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// How often the places where others may be are tried: soon while alone, as a
// cold start waits for it, and then rarely, for those that come late and for
// clusters that were split and have forgotten each other.
const (
	aloneInterval    = 500 * time.Millisecond
	rejoinInterval   = 10 * time.Second
	resolveTimeout   = 2 * time.Second
	parallelJoins    = 4    // each may wait for streamTimeout
	maxSeeds         = 4096 // four times the workers planned for: addresses found in a log may be anything
	maxAddresses     = 1024 // of one name
	forgetSeedsAfter = 10 * time.Minute
	aloneAfter       = 5 * time.Second  // of being alone an operator is told
	twinsAfter       = 15 * time.Second // a restarted worker's dead process is gone long before
)

func lookupHost(ctx context.Context, host string) ([]string, error) {
	return net.DefaultResolver.LookupHost(ctx, host)
}

// keepJoining looks for others at the known places that are not members, until
// ctx ends. It never gives up: a name may resolve to more workers later.
func (c *Cluster) keepJoining(ctx context.Context, list *memberlist.Memberlist) error {
	accompanied := time.Now()
	for {
		failures := c.joinOnce(ctx, list)
		c.findTwins(time.Now())
		wait := aloneInterval
		if c.count.Load() > 1 {
			wait, accompanied = rejoinInterval, time.Now()
		}
		if len(failures) > 0 && ctx.Err() == nil {
			c.log.unjoined(time.Since(accompanied) > aloneAfter, failures)
		}
		t := time.NewTimer(wait - wait/5 + rand.N(2*wait/5)) // jitter: workers started together must not ask together
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-c.seeds.grew:
			t.Stop()
		case <-t.C:
		}
	}
}

// joinOnce tries every known place whose address is not a member's, and gives
// what went wrong.
func (c *Cluster) joinOnce(ctx context.Context, list *memberlist.Memberlist) (failures []error) {
	var mu sync.Mutex
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err)
	}
	var tries []netip.AddrPort
	for _, s := range c.seeds.all() {
		addresses, err := c.addresses(ctx, s)
		if err != nil {
			fail(err)
			continue
		}
		tries = append(tries, addresses...)
	}
	slices.SortFunc(tries, func(a, b netip.AddrPort) int { return a.Compare(b) })
	tries = slices.Compact(tries)
	rand.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
	var g errgroup.Group
	g.SetLimit(parallelJoins)
	for _, address := range tries {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			// Looked up as late as possible: the first join brings all its members.
			if c.isMember(address) {
				c.seeds.reached(time.Now(), address)
				return nil
			}
			if _, err := list.Join([]string{address.String()}); err != nil {
				fail(joinError(address, err))
				return nil
			}
			c.seeds.reached(time.Now(), address)
			return nil
		})
	}
	_ = g.Wait() // no function above gives an error
	c.seeds.forget(time.Now())
	return failures
}

// joinError says why address did not take this worker in.
func joinError(address netip.AddrPort, err error) error {
	if badSecret(err.Error()) {
		return fmt.Errorf("join %s: %w", address, errSecret)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return fmt.Errorf("join %s: %s", address, strings.TrimSpace(err.Error()))
}

var errSecret = errors.New("its gossip.secret is not this worker's")

// badSecret finds memberlist's words for a peer with another secret.
func badSecret(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "no installed keys could decrypt") ||
		strings.Contains(text, "remote state is encrypted and encryption is not configured") ||
		strings.Contains(text, "encryption is configured but remote state is not encrypted")
}

// addresses gives all that s stands for.
func (c *Cluster) addresses(ctx context.Context, s hostPort) ([]netip.AddrPort, error) {
	ips, err := c.resolve(ctx, s.host)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		if c.keyring == nil && !ip.IsLoopback() {
			return nil, fmt.Errorf("join %s: %s is not on this machine and gossip.secret is not set", s, ip)
		}
		all = append(all, netip.AddrPortFrom(ip, uint16(s.port)))
	}
	return all, nil
}

// resolve gives the addresses of host, at least one.
func (c *Cluster) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := c.o.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var ips []netip.Addr
	for _, f := range found {
		if ip, err := netip.ParseAddr(f); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("resolve %s: no address", host)
	}
	return ips, nil
}

// isMember says whether a worker, or this one, gossips at address.
func (c *Cluster) isMember(address netip.AddrPort) bool {
	want := address.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.Address == want {
			return true
		}
	}
	return false
}

// findTwins warns of two processes that live with one worker id: one of them
// advertises the other's REST address.
func (c *Cluster) findTwins(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	byID := make(map[string]Member, len(c.members))
	twins := map[string]time.Time{}
	for _, m := range c.members {
		if other, twin := byID[m.ID]; twin {
			since, before := c.twins[m.ID]
			if !before {
				since = now
			}
			twins[m.ID] = since
			if now.Sub(since) > twinsAfter {
				c.log.conflict(m.ID, m.Address, other.Address)
			}
		}
		byID[m.ID] = m
	}
	c.twins = twins
}

// seeds are the places where others may be found: those of the options, for
// good, and those added later, until they have not been reached for long.
type seeds struct {
	grew chan struct{} // capacity 1

	mu    sync.Mutex
	fixed []hostPort
	found map[hostPort]time.Time // when it was added or last reached
}

func newSeeds(join []string) (*seeds, error) {
	s := &seeds{grew: make(chan struct{}, 1), found: map[hostPort]time.Time{}}
	for _, j := range join {
		a, err := parseHostPort(j, defaultPort)
		if err != nil {
			return nil, err
		}
		if a.host == "" || a.port == 0 {
			return nil, fmt.Errorf("%q is not host:port of another worker", j)
		}
		s.fixed = append(s.fixed, a)
	}
	return s, nil
}

// add takes in places found later.
func (s *seeds) add(now time.Time, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, addr := range addrs {
		a, err := parseHostPort(addr, defaultPort)
		if err != nil || a.host == "" || a.port == 0 || len(s.found) >= maxSeeds {
			continue
		}
		if _, known := s.found[a]; !known {
			notify(s.grew)
		}
		s.found[a] = now
	}
}

// all gives the places, in order.
func (s *seeds) all() []hostPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.fixed)
	for a := range s.found {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b hostPort) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port))
	})
	return slices.Compact(all)
}

// reached notes that a worker was at address.
func (s *seeds) reached(now time.Time, address netip.AddrPort) {
	a := hostPort{address.Addr().String(), int(address.Port())}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.found[a]; known {
		s.found[a] = now
	}
}

// forget drops found places that have not been reached for long: workers on
// changing addresses would leave a trail of them.
func (s *seeds) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, reached := range s.found {
		if now.Sub(reached) > forgetSeedsAfter {
			delete(s.found, a)
		}
	}
}
