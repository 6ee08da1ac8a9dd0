package main

import (
	"context"
	"errors"
	"net"
	"sync"
)

// errPulled is what everything meets that a dead worker tries to send.
var errPulled = errors.New("the plug is pulled")

// plug is what connects one worker to the world. Pulled, it is for all others as
// if the worker's machine had lost its power: nothing leaves it, nothing reaches it, and nobody is told.
type plug struct {
	// Crash is closed when the plug is pulled: it ends what is not a connection.
	Crash chan struct{}

	mu        sync.Mutex
	pulled    bool
	conns     map[net.Conn]struct{}
	listeners []net.Listener
}

func newPlug() *plug { return &plug{Crash: make(chan struct{}), conns: map[net.Conn]struct{}{}} }

// Dial opens connections that end with the plug.
func (p *plug) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return p.hold(c)
}

// Listen wraps l so that it and what it accepts end with the plug.
func (p *plug) Listen(l net.Listener) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners = append(p.listeners, l)
	return &pluggedListener{l, p}
}

// Pull cuts everything at once.
func (p *plug) Pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled {
		return
	}
	p.pulled = true
	close(p.Crash)
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is not sent yet is lost
		}
		c.Close()
	}
	for _, l := range p.listeners {
		l.Close()
	}
}

func (p *plug) hold(c net.Conn) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled {
		c.Close()
		return nil, errPulled
	}
	p.conns[c] = struct{}{}
	return &pluggedConn{c, p}, nil
}

type pluggedConn struct {
	net.Conn
	plug *plug
}

func (c *pluggedConn) Close() error {
	c.plug.mu.Lock()
	delete(c.plug.conns, c.Conn)
	c.plug.mu.Unlock()
	return c.Conn.Close()
}

type pluggedListener struct {
	net.Listener
	plug *plug
}

func (l *pluggedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.plug.hold(c)
}
