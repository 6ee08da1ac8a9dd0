// Package proxy breaks the network between real processes: a TCP proxy that
// delays, throttles, cuts, silences or refuses, and a proxy for gossip (TCP and
// UDP on one port) that can be deaf to one caller and hear another. Everything
// stays on loopback.
//
// Easy to get wrong: a broker must advertise the proxy's address, or clients
// walk round it.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to one address.
type Proxy struct {
	listener net.Listener
	target   string
	// allow judges a caller by the address that it calls from; nil allows all.
	allow func(net.Addr) bool
	// saw gets a copy of what passes; nil drops it.
	saw func([]byte)

	ended sync.WaitGroup

	mu      sync.Mutex
	faults  faults
	changed chan struct{} // closed when faults change
	pairs   map[*pair]bool
	closed  bool
}

// faults is what is wrong at the moment.
type faults struct {
	latency   time.Duration
	bandwidth int  // bytes per second and direction; 0: unlimited
	silent    bool // connections stay open, nothing passes
	refuse    bool // new connections are closed at once
}

// pair is a connection through the proxy.
type pair struct{ client, server net.Conn }

func (p *pair) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// Listen starts a proxy on address (with port 0: a free one) for target.
func Listen(address, target string) (*Proxy, error) {
	p, err := listen(address, target)
	if err == nil {
		p.ended.Go(p.accept)
	}
	return p, err
}

// listen is Listen for whoever has more to set before the first connection.
func listen(address, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy for %s: %w", target, err)
	}
	return &Proxy{listener: l, target: target, changed: make(chan struct{}), pairs: map[*pair]bool{}}, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.change(func(f *faults) { *f = faults{} })
	p.ended.Wait()
}

// Latency delays every chunk in both directions by d.
func (p *Proxy) Latency(d time.Duration) { p.change(func(f *faults) { f.latency = d }) }

// Bandwidth lets at most n bytes a second pass in each direction of a connection; 0
// is unlimited.
func (p *Proxy) Bandwidth(n int) { p.change(func(f *faults) { f.bandwidth = n }) }

// Silence leaves connections open, old and new, but lets nothing pass: what a
// packet filter that drops looks like. What was sent meanwhile passes after Heal.
func (p *Proxy) Silence() { p.change(func(f *faults) { f.silent = true }) }

// Refuse closes all connections and new ones at once.
func (p *Proxy) Refuse() {
	p.change(func(f *faults) { f.refuse = true })
	p.Cut()
}

// Cut closes all connections; new ones pass.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.close()
	}
}

// Heal ends all faults.
func (p *Proxy) Heal() { p.change(func(f *faults) { *f = faults{} }) }

func (p *Proxy) change(do func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

// now returns the faults and a channel that is closed when they change.
func (p *Proxy) now() (f faults, changed <-chan struct{}, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed, p.closed
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.ended.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	if f, _, closed := p.now(); closed || f.refuse || p.allow != nil && !p.allow(client.RemoteAddr()) {
		_ = client.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	cancel()
	if err != nil {
		_ = client.Close() // the one behind is gone: so are we
		return
	}
	c := &pair{client: client, server: server}
	p.mu.Lock()
	p.pairs[c] = true
	closed := p.closed
	p.mu.Unlock()
	if closed {
		c.close()
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(c, client, server) })
	both.Go(func() { p.copy(c, server, client) })
	both.Wait()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
	c.close()
}

// copy passes bytes in one direction, as the faults of the moment let it.
func (p *Proxy) copy(c *pair, from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		f, _, _ := p.now()
		room := len(buffer)
		if f.bandwidth > 0 {
			room = max(1, min(room, f.bandwidth/20))
		}
		n, err := from.Read(buffer[:room])
		if n > 0 {
			if p.saw != nil {
				p.saw(buffer[:n])
			}
			p.wait(c, n)
			if _, err := to.Write(buffer[:n]); err != nil {
				c.close()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				if half, ok := to.(*net.TCPConn); ok {
					_ = half.CloseWrite()
				}
				return
			}
			c.close()
			return
		}
	}
}

// wait holds n bytes back for as long as the faults demand.
func (p *Proxy) wait(c *pair, n int) {
	f, changed, _ := p.now()
	delay := f.latency
	if f.bandwidth > 0 {
		delay += time.Duration(n) * time.Second / time.Duration(f.bandwidth)
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
	for {
		f, changed, closed := p.now()
		if !f.silent || closed || !p.open(c) {
			return
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // the pair may have been cut
		}
	}
}

// open says whether c has not been cut.
func (p *Proxy) open(c *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pairs[c]
}
