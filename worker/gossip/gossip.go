// Package gossip is who is there: the only place that knows memberlist. It tells
// which workers live, where their REST and gossip addresses are, what each
// carries, and passes on that the config topic has grown.
//
// It is the nerve, not the truth: nothing that matters is decided by what it
// says, and losing it slows a cluster down but never makes two workers do the
// same work. So every output is newest-only (a reader that was busy misses
// nothing but history) and every input may be lost, late or doubled.
//
// Easy to get wrong: memberlist calls its delegates from its packet loop and
// under its own lock. They must not block, log, or call memberlist.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
)

// The tuning that holds "a killed worker's tasks copy again elsewhere in under
// 5 s". A killed member of three is declared dead after at most: two probe
// intervals until its turn (600 ms), one for the probe (300 ms), and the
// suspicion, 900 ms once a second member agrees and twice that if none does.
const (
	probeInterval = 300 * time.Millisecond
	probeTimeout  = 150 * time.Millisecond // for the UDP answer; the rest of the interval goes to TCP and indirect probes
	suspicionMult = 3                      // × log10(members) × probeInterval
	// A worker that nobody else suspects has that much longer to refute: a
	// pause of its processor must not look like death.
	suspicionMaxTimeoutMult = 2
	awarenessMax            = 2 // a slow worker doubles its own timeouts, no more, or the bound is lost
	gossipInterval          = 100 * time.Millisecond
	pushPullInterval        = 10 * time.Second // repairs what lost packets left different
	streamTimeout           = 2 * time.Second  // dial, read and write of one push/pull or TCP probe
	deadTime                = 30 * time.Second // how long the dead are still told so, to give a frozen one the chance to refute
	loadInterval            = 5 * time.Second  // between two announcements of the load: each is a broadcast to all
)

// DefaultBind is gossip.bind's default.
const DefaultBind = "0.0.0.0:7946"

// Options say who this worker is and where it finds the others.
type Options struct {
	// Name is the worker id, host:port of the advertised REST address.
	Name string
	// Incarnation tells this process from an earlier one of the same name: it
	// must be larger. The start time in milliseconds will do.
	Incarnation int64
	// Cluster is group.id. Workers of another cluster are not let in, even if
	// they have the secret.
	Cluster string
	// Bind is the host:port to listen on, TCP and UDP. Default DefaultBind;
	// port 0 takes a free one, which Members then shows.
	Bind string
	// Advertise is the host or host:port that others reach this worker at.
	// Default: the bound address, or this machine's private one.
	Advertise string
	// Join are host:port of others; a host with several addresses stands for
	// all of them. Default port 7946.
	Join []string
	// Secrets are 32 bytes each, as config decodes them. The first encrypts, all decrypt, so
	// that a secret is rotated by adding the new one at the end everywhere, then
	// moving it to the front, then removing the old one. With none, only
	// loopback addresses are accepted.
	Secrets []config.Secret
	// Meta is what the others learn about this worker.
	Meta Meta
	// LabelsInLog says that the caller writes its labels to the log too: labels
	// that do not fit the 512 bytes of gossip are then left out, and members
	// carry the flag. Otherwise New refuses them.
	LabelsInLog bool
	// LeaveTimeout bounds the goodbye when Run's context ends. Default 1 s.
	// Negative: none, the others have to find out, as after a crash.
	LeaveTimeout time.Duration
	// LookupHost resolves names. Default: the system's resolver.
	LookupHost func(ctx context.Context, host string) ([]string, error)
	// Logger takes what an operator should know. Default: nobody.
	Logger *slog.Logger
}

// Meta is what a worker tells about itself.
type Meta struct {
	URL     string // of its REST listener
	Version string // of the product
	Labels  map[string]string
}

// Member is a live worker, as far as this one knows.
type Member struct {
	ID          string
	Incarnation int64
	Meta
	LabelsInLog bool    // Labels did not fit: they are in the worker's record in the log
	Load        float64 // bytes/s that it copies
	Address     string  // ip:port of its gossip
	Self        bool
	// Ready says that the worker can do its work: SetReady(true) was its last word.
	Ready bool
}

// Cluster is this worker's membership. Its methods may be called at any time,
// also before Run and after it.
type Cluster struct {
	o       Options
	node    string // name of the memberlist node: worker id and incarnation
	bind    hostPort
	keyring *memberlist.Keyring // nil: not encrypted, loopback only
	seeds   *seeds
	log     *lines

	changed chan struct{} // capacity 1
	hints   chan int64    // capacity 1, sent to only under mu
	heavier chan struct{} // capacity 1: the load has changed
	turned  chan struct{} // capacity 1: SetReady has changed something
	ready   atomic.Bool
	load    atomic.Uint64 // float64 bits
	ran     atomic.Bool

	queue memberlist.TransmitLimitedQueue // the newest hint; has its own lock
	count atomic.Int64                    // len(members), for queue, which asks under its lock

	// mu is taken inside memberlist's lock, so nothing here may call memberlist.
	mu      sync.Mutex
	members map[string]Member    // by node name
	grown   int64                // the largest offset hinted at, or -1
	twins   map[string]time.Time // worker ids that two processes had, and since when
}

// New checks o. It opens nothing: Run does.
func New(o Options) (*Cluster, error) {
	o = o.withDefaults()
	c := &Cluster{
		o:       o,
		node:    nodeName(o.Name, o.Incarnation),
		changed: make(chan struct{}, 1),
		hints:   make(chan int64, 1),
		heavier: make(chan struct{}, 1),
		turned:  make(chan struct{}, 1),
		members: map[string]Member{},
		grown:   -1,
		log:     newLines(o.Logger),
	}
	c.queue.NumNodes = func() int { return int(c.count.Load()) }
	c.queue.RetransmitMult = 2
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return c, nil
}

func (o Options) withDefaults() Options {
	if o.Bind == "" {
		o.Bind = DefaultBind
	}
	if o.LeaveTimeout == 0 {
		o.LeaveTimeout = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LookupHost == nil {
		o.LookupHost = lookupHost
	}
	return o
}

// Run joins the others and stays until ctx ends; then it says goodbye and
// returns nil. An address that cannot be bound is an error; others that cannot
// be reached are not: it keeps trying. It can be called once.
func (c *Cluster) Run(ctx context.Context) error {
	if !c.ran.CompareAndSwap(false, true) {
		panic("gossip: Run called twice")
	}
	// The log outlives the goodbye, so that it can be read there too.
	logged, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	var logging sync.WaitGroup
	logging.Go(func() { c.log.run(logged) })
	defer logging.Wait()
	defer stopLog()

	list, err := c.listen(ctx)
	if err != nil {
		return fmt.Errorf("listen for gossip on %s: %w", c.o.Bind, err)
	}
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return c.keepJoining(running, list) })
	g.Go(func() error { return c.announce(running, list) })
	err = g.Wait()
	if c.o.LeaveTimeout > 0 {
		if e := list.Leave(c.o.LeaveTimeout); e != nil {
			c.o.Logger.Warn("left without the others knowing", "worker", c.o.Name, "err", e)
		}
	}
	err = errors.Join(err, list.Shutdown())
	c.mu.Lock()
	clear(c.members)
	c.mu.Unlock()
	return err
}

// Members returns the live workers, this one included while Run runs. Of two
// processes with one worker id only the younger is listed: the other is dead
// and not yet declared so.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return youngest(c.members)
}

// Changed gives a value when Members may have changed since the last one was
// taken.
func (c *Cluster) Changed() <-chan struct{} { return c.changed }

// Hint tells the others that the config topic has grown to offset. Older hints
// on their way are dropped.
func (c *Cluster) Hint(offset int64) { c.hear(offset, false) }

// Hints gives the newest offset that others have hinted at and that is higher
// than all before.
func (c *Cluster) Hints() <-chan int64 { return c.hints }

// SetLoad tells the others how many bytes/s this worker copies. Small changes
// are kept back, and large ones told every five seconds.
func (c *Cluster) SetLoad(bytesPerSecond float64) {
	c.load.Store(math.Float64bits(bytesPerSecond))
	notify(c.heavier)
}

// Join adds places where others may be found, host:port as in Options. One
// that cannot be reached for long is forgotten. Those that are no addresses are
// ignored: they come from a log that other versions may have written to.
func (c *Cluster) Join(addrs ...string) { c.seeds.add(time.Now(), addrs...) }

// SetReady tells the others at once whether this worker can do its work. It
// cannot before the first call.
func (c *Cluster) SetReady(ready bool) {
	if c.ready.Swap(ready) != ready {
		notify(c.turned)
	}
}

// announce tells the others when this worker has become ready or has ceased to be, and of a load that
// differs from the told one by a tenth; of loads alone not more often than every
// loadInterval.
func (c *Cluster) announce(ctx context.Context, list *memberlist.Memberlist) error {
	told, heavier := 0.0, c.heavier
	var rested <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.turned:
		case <-rested:
			heavier, rested = c.heavier, nil
			continue
		case <-heavier:
			load := math.Float64frombits(c.load.Load())
			if math.Abs(load-told) <= 0.1*math.Max(load, told) {
				continue
			}
			told = load
			heavier, rested = nil, time.After(loadInterval)
		}
		// The announcement needs somebody to hear it; push/pull carries it to who did not.
		if err := list.UpdateNode(gossipInterval); err != nil {
			c.o.Logger.Debug("announce metadata", "worker", c.o.Name, "err", err)
		}
	}
}

// hear takes in that the config topic has grown to offset, and passes it on
// if that is news.
func (c *Cluster) hear(offset int64, foreign bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if offset <= c.grown {
		return
	}
	c.grown = offset
	c.queue.QueueBroadcast(hint(offset))
	if foreign {
		replace(c.hints, offset)
	}
}

// notify leaves a value in ch, which has capacity 1, if none waits there.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// replace leaves v in ch, which has capacity 1, in place of what waits there.
// The caller holds the lock under which ch is sent to.
func replace[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}
