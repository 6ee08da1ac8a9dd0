package task

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// connections are the open ones of one client. Those that logged in with credentials that are out of date are
// retired: closed between a response and the next request, so that nothing that was sent stays unanswered. franz-go
// sends a request of which nothing was written over a new connection, in the same place of the order (broker.go,
// handleReq); so neither a producer that counts its sequence numbers nor the raw copy, which sends requests of its own, sees
// more than a pause.
type connections struct {
	mu   sync.Mutex
	open map[*retiringConn]struct{}
}

// errRetired is why a connection does not take another request.
var errRetired = fmt.Errorf("the connection is retired after a change of its credentials: %w", net.ErrClosed)

const (
	// drainWait is how long a request waits for the answers to those before it, so that the connection can be closed. Fetches
	// are answered within fetch.max.wait.ms, and no more requests are behind one another than a producer has in flight.
	drainWait = 5 * time.Second
	// retireWait is after how long a connection that never comes to rest is closed all the same, as by a broker that
	// restarts.
	retireWait = 30 * time.Second
	// retirePause is how long one connection may hold up the retirement of the next.
	retirePause = 2 * time.Second
)

// dialer wraps dial so that its connections are known.
func (c *connections) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		r := &retiringConn{Conn: conn, of: c, over: make(chan struct{}), drained: make(chan struct{}), urgent: make(chan struct{}, 1)}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open == nil {
			c.open = map[*retiringConn]struct{}{}
		}
		c.open[r] = struct{}{}
		return r, nil
	}
}

// list is what is open now.
func (c *connections) list() (all []*retiringConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.open {
		all = append(all, r)
	}
	return all
}

// retire closes those of old that are still open, one after the other, so that the client does not have to make all of
// them anew at once. It returns how many had to be cut.
func retire(ctx context.Context, old []*retiringConn) (cut int) {
	until := time.Now().Add(retireWait)
	for _, r := range old {
		r.retire()
		r.await(ctx, retirePause)
	}
	for _, r := range old {
		if !r.await(ctx, time.Until(until)) && ctx.Err() == nil {
			cut++
			r.Close()
		}
	}
	return cut
}

// retiringConn is a connection to a broker that knows how many of its requests are unanswered.
type retiringConn struct {
	net.Conn
	of      *connections
	over    chan struct{} // closed when the connection is
	drained chan struct{} // closed when a retired connection has come to rest
	urgent  chan struct{} // holds something when a write must not wait any longer

	mu          sync.Mutex
	established bool // more than a login has been sent
	retired     bool
	hurried     bool // a request has waited in vain for the others
	resting     bool // drained is closed
	ended       bool // over is closed
	flying      int  // requests without an answer
	out, in     frames
}

// await waits until the connection is closed, at most for d, and says whether it is.
func (r *retiringConn) await(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-r.over:
		return true
	default:
	}
	select {
	case <-r.over:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// retire has the connection closed as soon as it has come to rest. One that is still logging in may finish, since an
// end in the middle of that looks like a refusal; it is closed at its first request.
func (r *retiringConn) retire() {
	r.mu.Lock()
	r.retired = true
	now := r.rest()
	r.mu.Unlock()
	if now {
		r.Close()
	}
}

// rest says whether the connection is to be closed now, and tells who waits for that. r.mu is held.
func (r *retiringConn) rest() bool {
	if !r.retired || !r.established || r.flying > 0 {
		return false
	}
	if !r.resting {
		r.resting = true
		close(r.drained)
	}
	return true
}

// Write sends a request, unless the connection is retired: then it waits for the answers to those before it, and
// writes nothing.
func (r *retiringConn) Write(b []byte) (int, error) {
	r.mu.Lock()
	if r.out.have == 0 && !r.established && !loginRequest(b) {
		r.established = true
	}
	waits := r.retired && r.established && r.out.have == 0 && !r.rest() && !r.hurried
	r.mu.Unlock()
	if waits {
		if err := r.wait(); err != nil {
			return 0, err
		}
	}
	r.mu.Lock()
	if r.out.have == 0 && r.rest() {
		r.mu.Unlock()
		r.Close()
		return 0, errRetired
	}
	r.flying += r.out.take(b) // first, or the answer could be here before
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// wait waits until nothing is unanswered any more, or drainWait is over.
func (r *retiringConn) wait() error {
	timer := time.NewTimer(drainWait)
	defer timer.Stop()
	select {
	case <-r.drained:
	case <-r.over:
	case <-r.urgent:
		return os.ErrDeadlineExceeded
	case <-timer.C:
		r.mu.Lock()
		r.hurried = true
		r.mu.Unlock()
	}
	return nil
}

// Read takes answers.
func (r *retiringConn) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	r.flying = max(0, r.flying-r.in.take(b[:n]))
	now := r.rest()
	r.mu.Unlock()
	if now {
		r.Close()
	}
	return n, err
}

// SetDeadline and SetWriteDeadline also end the wait of a Write, if the time is over: franz-go stops a request so.
func (r *retiringConn) SetDeadline(t time.Time) error {
	r.hurry(t)
	return r.Conn.SetDeadline(t)
}

// SetWriteDeadline is as SetDeadline.
func (r *retiringConn) SetWriteDeadline(t time.Time) error {
	r.hurry(t)
	return r.Conn.SetWriteDeadline(t)
}

func (r *retiringConn) hurry(t time.Time) {
	if t.IsZero() || t.After(time.Now()) {
		return
	}
	select {
	case r.urgent <- struct{}{}:
	default:
	}
}

// Close closes the connection; again is harmless.
func (r *retiringConn) Close() error {
	r.mu.Lock()
	ended := r.ended
	r.ended = true
	r.mu.Unlock()
	if ended {
		return nil
	}
	close(r.over)
	r.of.mu.Lock()
	delete(r.of.open, r)
	r.of.mu.Unlock()
	return r.Conn.Close()
}

// frames finds the ends of Kafka's frames in a stream: four bytes of length, then as many bytes.
type frames struct {
	head [4]byte
	have int   // bytes of head; 0 between two frames
	left int64 // bytes of the body
}

// take returns how many frames end in b.
func (f *frames) take(b []byte) (ends int) {
	for len(b) > 0 {
		if f.have < len(f.head) {
			n := copy(f.head[f.have:], b)
			f.have, b = f.have+n, b[n:]
			if f.have < len(f.head) {
				return ends
			}
			f.left = int64(binary.BigEndian.Uint32(f.head[:]))
		} else {
			n := min(f.left, int64(len(b)))
			f.left, b = f.left-n, b[n:]
		}
		if f.left == 0 {
			ends++
			f.have = 0
		}
	}
	return ends
}

// loginRequest says whether the frame that b begins with is one of those that come before a connection can be used:
// ApiVersions, SaslHandshake, SaslAuthenticate. A token of the oldest handshake, which has no key, counts as another request.
func loginRequest(b []byte) bool {
	if len(b) < 6 {
		return false
	}
	switch binary.BigEndian.Uint16(b[4:]) {
	case 17, 18, 36:
		return true
	}
	return false
}
