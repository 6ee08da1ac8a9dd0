package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// listen binds, and starts memberlist with this worker as its only member.
func (c *Cluster) listen(ctx context.Context) (*memberlist.Memberlist, error) {
	ip, err := c.bindIP(ctx)
	if err != nil {
		return nil, err
	}
	logger := log.New(c.log, "", 0)
	t, err := bind(memberlist.NetTransportConfig{BindAddrs: []string{ip}, BindPort: c.bind.port, Logger: logger})
	if err != nil {
		return nil, err
	}
	conf := memberlist.DefaultLANConfig()
	conf.Name = c.node
	conf.Transport = &transport{NetTransport: t, ctx: ctx}
	conf.Logger = logger
	conf.Label = c.o.Cluster
	conf.Keyring = c.keyring
	conf.BindAddr, conf.BindPort = ip, t.GetAutoBindPort()
	conf.AdvertisePort = conf.BindPort
	conf.TCPTimeout = streamTimeout
	conf.SuspicionMult = suspicionMult
	conf.SuspicionMaxTimeoutMult = suspicionMaxTimeoutMult
	conf.PushPullInterval = pushPullInterval
	conf.ProbeInterval, conf.ProbeTimeout = probeInterval, probeTimeout
	conf.AwarenessMaxMultiplier = awarenessMax
	conf.GossipInterval = gossipInterval
	conf.GossipToTheDeadTime = deadTime
	conf.EnableCompression = false // packets are small, and what follows a bad length is one parser less
	d := delegate{c}
	conf.Delegate, conf.Events, conf.Alive, conf.Conflict = d, d, d, d
	if c.o.Advertise != "" {
		if conf.AdvertiseAddr, conf.AdvertisePort, err = c.advertised(ctx, conf.BindPort); err != nil {
			return nil, errors.Join(err, t.Shutdown())
		}
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (gossip.advertise says which address others use)", err), t.Shutdown())
	}
	return list, nil
}

// bind opens the TCP and the UDP socket. A free port of one may be taken in the
// other, so port 0 is tried a few times.
func bind(conf memberlist.NetTransportConfig) (t *memberlist.NetTransport, err error) {
	tries := 1
	if conf.BindPort == 0 {
		tries = 10
	}
	for range tries {
		if t, err = memberlist.NewNetTransport(&conf); err == nil {
			return t, nil
		}
	}
	return nil, err
}

// bindIP gives the address to listen on. memberlist takes a name for the
// wildcard, so names are resolved here.
func (c *Cluster) bindIP(ctx context.Context) (string, error) {
	if c.bind.host == "" {
		return "0.0.0.0", nil
	}
	return c.oneIP(ctx, c.bind.host)
}

// advertised gives the address of gossip.advertise; its port is by default bound.
func (c *Cluster) advertised(ctx context.Context, bound int) (string, int, error) {
	a, err := parseHostPort(c.o.Advertise, bound)
	if err != nil {
		return "", 0, fmt.Errorf("gossip.advertise: %w", err)
	}
	ip, err := c.oneIP(ctx, a.host)
	if err != nil {
		return "", 0, fmt.Errorf("gossip.advertise: %w", err)
	}
	return ip, a.port, nil
}

// oneIP resolves host, preferring IPv4 as the other workers may have nothing else.
func (c *Cluster) oneIP(ctx context.Context, host string) (string, error) {
	ips, err := c.resolve(ctx, host)
	if err != nil {
		return "", err
	}
	for _, ip := range ips {
		if ip.Is4() {
			return ip.String(), nil
		}
	}
	return ips[0].String(), nil
}

// transport is memberlist's own, but its dials end with the worker.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context // memberlist's interface has no room for one
}

// DialTimeout dials addr.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout dials a.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(t.ctx, "tcp", a.Addr)
}

// check completes c from its options, and says all that is wrong with them.
func (c *Cluster) check() error {
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.o.Name == "" || len(c.node) > 255 {
		fail("a worker id has 1 to 230 bytes, not %d", len(c.o.Name))
	}
	if len(c.o.Cluster) > memberlist.LabelMaxSize {
		fail("group.id has at most %d bytes, not %d", memberlist.LabelMaxSize, len(c.o.Cluster))
	}
	var err error
	if c.bind, err = parseHostPort(c.o.Bind, defaultPort); err != nil {
		fail("gossip.bind: %w", err)
	}
	advertise, err := parseHostPort(c.o.Advertise, c.bind.port)
	if err != nil && c.o.Advertise != "" {
		fail("gossip.advertise: %w", err)
	}
	if ip, err := netip.ParseAddr(c.bind.host); err == nil && ip == netip.IPv6Unspecified() && c.o.Advertise == "" {
		fail("gossip.bind [::] does not say where others reach this worker: set gossip.advertise")
	}
	if c.seeds, err = newSeeds(c.o.Join); err != nil {
		fail("gossip.join: %w", err)
	}
	if c.keyring, err = keyring(c.o); err != nil {
		fail("%w", err)
	}
	if len(c.o.Secrets) == 0 {
		for _, a := range []struct{ key, written, host string }{{"gossip.bind", c.o.Bind, c.bind.host}, {"gossip.advertise", c.o.Advertise, advertise.host}} {
			if a.written != "" && !loopback(a.host) {
				fail("%s %s reaches beyond this machine and gossip.secret is not set: set it on all workers (32 random bytes as base64), or use 127.0.0.1", a.key, a.written)
			}
		}
	}
	if len(wrong) == 0 && !c.o.LabelsInLog && !c.labelsFit() {
		fail("REST address, version and worker.labels take %d bytes of the %d that gossip carries: use fewer or shorter labels",
			len(appendMeta(nil, Member{ID: c.o.Name, Meta: c.o.Meta})), memberlist.MetaMaxSize)
	}
	if n := len(appendMeta(nil, c.self())); len(wrong) == 0 && n > memberlist.MetaMaxSize {
		fail("REST address and version take %d bytes of the %d that gossip carries", n, memberlist.MetaMaxSize)
	}
	return errors.Join(wrong...)
}

// keyring takes the keys of gossip.secret. No secrets give no keyring.
func keyring(o Options) (*memberlist.Keyring, error) {
	var keys [][]byte
	for i, s := range o.Secrets {
		key := []byte(s.Reveal())
		if len(key) != 32 {
			return nil, fmt.Errorf("gossip.secret: entry %d of %d has %d bytes and not 32", i+1, len(o.Secrets), len(key))
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// loopback says whether host cannot be reached from another machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

const defaultPort = 7946

// hostPort is a host, which may be a name, and a port.
type hostPort struct {
	host string
	port int
}

func (a hostPort) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// parseHostPort reads host:port or, with the default port, host.
func parseHostPort(s string, port int) (hostPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return hostPort{ip.String(), port}, nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		host, p, err = net.SplitHostPort(net.JoinHostPort(s, strconv.Itoa(port)))
	}
	if err != nil || host == "" && s == "" {
		return hostPort{}, fmt.Errorf("%q is not host:port", s)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return hostPort{}, fmt.Errorf("%q is not host:port", s)
	}
	return hostPort{host, int(n)}, nil
}
