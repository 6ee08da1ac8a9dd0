package rest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"barnabas/rest/auth"
)

const (
	defaultConnections          = 1000
	defaultConnectionsOfAddress = 500
	// bodiesAtOnce is how many of the largest bodies are in memory at once.
	bodiesAtOnce = 8
)

// connections bounds those of one server. Where there are too many, the one goes
// that has been without a request of its own for longest: idle, or sending its header slowly. So a client
// that holds connections displaces its own and those of others that do the same, and a request that is being performed
// is never cut off.
type connections struct {
	most, ofAddress int
	metrics         *metrics

	mu        sync.Mutex
	open      map[net.Conn]*connection
	byAddress map[string]int
}

// connection is one of them. Its fields are guarded by connections.mu.
type connection struct {
	address string
	since   time.Time // of the last change
	serving bool      // a request has come in full but for its body, and is not answered
}

func newConnections(most, ofAddress int, m *metrics) *connections {
	return &connections{most: most, ofAddress: ofAddress, metrics: m, open: map[net.Conn]*connection{}, byAddress: map[string]int{}}
}

// bound is l with the bounds. It does not wrap connections: net/http has to see
// that they are TLS.
func (c *connections) bound(l net.Listener) net.Listener { return boundListener{l, c} }

type boundListener struct {
	net.Listener
	c *connections
}

func (l boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.c.admit(conn) {
			return conn, err
		}
		cut(conn)
	}
}

// admit says whether there is room for a new connection, and makes some if it can.
func (c *connections) admit(conn net.Conn) bool {
	victim, ok := c.enter(conn, auth.Origin(conn.RemoteAddr().String()))
	if victim != nil {
		cut(victim)
	}
	return ok
}

// enter counts a new connection. victim is the one that has to make room for it.
func (c *connections) enter(conn net.Conn, address string) (victim net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ofAddress := c.byAddress[address] >= c.ofAddress
	if ofAddress || len(c.open) >= c.most {
		victim = c.longest(func(o *connection) bool { return !ofAddress || o.address == address })
		if victim == nil {
			c.metrics.cut.WithLabelValues("refused").Inc()
			return nil, false
		}
		c.metrics.cut.WithLabelValues("displaced").Inc()
		c.forget(victim)
	}
	c.open[conn] = &connection{address: address, since: time.Now()}
	c.byAddress[address]++
	c.metrics.connections.Inc()
	return victim, true
}

// longest is the connection that has been without a request for longest, or nil.
// The caller holds mu.
func (c *connections) longest(among func(*connection) bool) net.Conn {
	var victim net.Conn
	for conn, o := range c.open {
		if !o.serving && among(o) && (victim == nil || o.since.Before(c.open[victim].since)) {
			victim = conn
		}
	}
	return victim
}

// forget drops a connection from the count, once. The caller holds mu.
func (c *connections) forget(conn net.Conn) {
	o := c.open[conn]
	if o == nil {
		return
	}
	delete(c.open, conn)
	if c.byAddress[o.address]--; c.byAddress[o.address] == 0 {
		delete(c.byAddress, o.address)
	}
	c.metrics.connections.Dec()
}

// cut closes a connection without a word, which TLS would wait for.
func cut(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	conn.Close()
}

// changed is the ConnState of an http.Server.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch o := c.open[conn]; {
	case o == nil:
	case state == http.StateClosed || state == http.StateHijacked:
		c.forget(conn)
	case state == http.StateIdle:
		o.since, o.serving = time.Now(), false
	}
}

// connectionKey is where the context of a request holds its connection.
type connectionKey struct{}

func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// mark notes which connections have a request that is being performed.
func (c *connections) mark(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connectionKey{}).(net.Conn)
		c.serving(conn, true)
		defer c.serving(conn, false)
		h.ServeHTTP(w, r)
	})
}

func (c *connections) serving(conn net.Conn, serving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.open[conn]; o != nil {
		o.serving, o.since = serving, time.Now()
	}
}

// bodyGate bounds the memory of all bodies of requests together, by what has
// really been sent.
type bodyGate struct {
	most int64
	held atomic.Int64
}

// body reads r through the gate. What it has read counts until release.
func (g *bodyGate) body(r io.Reader) *gatedBody { return &gatedBody{Reader: r, gate: g} }

type gatedBody struct {
	io.Reader
	gate *bodyGate
	read int64
}

func (b *gatedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	if b.gate.held.Add(int64(n)) > b.gate.most {
		f := fail(http.StatusServiceUnavailable, "This worker has too many large requests at once. Try again.")
		f.retryAfter = true
		return n, f
	}
	return n, err
}

func (b *gatedBody) release() { b.gate.held.Add(-b.read) }
