package clientconfig

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestSetupTimeoutEndsASilentHandshake dials a broker that takes the connection
// and says nothing.
func TestSetupTimeoutEndsASilentHandshake(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := build(Admin, map[string]string{
		"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": store("ca.pem"),
		"socket.connection.setup.timeout.ms": "50",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = c.Dial(ctx, "tcp", l.Addr().String())
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("got error %v, want that the time ran out after 50 ms", err)
	}
}

func TestSetupTimeoutDoublesWithEachFailure(t *testing.T) {
	t.Parallel()
	d := newDialer(nil, 10*time.Second, 30*time.Second)
	failure := errors.New("down")
	for i, want := range []time.Duration{10, 20, 30, 30} {
		if got := d.timeout("a:1"); got != want*time.Second {
			t.Errorf("after %d failures %v, want %v s", i, got, want)
		}
		d.remember("a:1", failure)
	}
	if got := d.timeout("b:1"); got != 10*time.Second {
		t.Errorf("another address waits %v", got)
	}
	d.remember("a:1", nil)
	if got := d.timeout("a:1"); got != 10*time.Second {
		t.Errorf("after a success %v, want 10 s", got)
	}
}
