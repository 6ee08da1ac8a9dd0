package clientconfig

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barnabas/connection"
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer connects with a time limit that doubles with each failure in a row
// (KIP-601), for each address on its own.
type dialer struct {
	secure     *atomic.Pointer[tlsSettings] // holds nil for plain TCP; what is made of one Client shares it
	tcp        DialFunc
	first, max time.Duration
	hosts      []string // the only ones that may be connected to; empty: all (connection.Spec.Hosts)

	mu    sync.Mutex
	fails map[string]int // by address; bounded by maxFailing
}

// maxFailing bounds the addresses whose failures are remembered: brokers are
// few, but a cluster's metadata may name new ones for ever.
const maxFailing = 1024

func newDialer(tls *tlsSettings, first, longest time.Duration) *dialer {
	d := &dialer{secure: new(atomic.Pointer[tlsSettings]), tcp: new(net.Dialer).DialContext, first: first, max: longest, fails: map[string]int{}}
	d.secure.Store(tls)
	return d
}

func (d *dialer) tls() *tlsSettings { return d.secure.Load() }

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if len(d.hosts) > 0 && !connection.Allowed(d.hosts, address) {
		return nil, fmt.Errorf("connect to %s: the connection's allowed hosts are %s", address, strings.Join(d.hosts, ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout(address))
	defer cancel()
	conn, err := d.connect(ctx, network, address)
	d.remember(address, err)
	return conn, err
}

func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.tcp(ctx, network, address)
	settings := d.tls()
	if err != nil || settings == nil {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	secure := tls.Client(conn, settings.config(host))
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return secure, nil
}

// timeout is how long the next attempt may take.
func (d *dialer) timeout(address string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := min(d.first, d.max)
	for range d.fails[address] {
		if t = min(2*t, d.max); t == d.max {
			break
		}
	}
	return t
}

func (d *dialer) remember(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.fails, address)
		return
	}
	if len(d.fails) >= maxFailing {
		clear(d.fails)
	}
	d.fails[address]++
}

// over returns a dialer like d that opens its connections with tcp.
func (d *dialer) over(tcp DialFunc) *dialer {
	o := newDialer(nil, d.first, d.max)
	o.secure, o.tcp, o.hosts = d.secure, tcp, d.hosts
	return o
}
