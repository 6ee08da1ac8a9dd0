package proxy

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers every byte with itself, over TCP and UDP on one port.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.Addr().(*net.TCPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := u.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDP(buffer[:n], from)
		}
	}()
	return l.Addr().String()
}

// answered says whether a byte comes back within a time.
func answered(t *testing.T, c net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(within))
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSilencedConnectionStaysOpenAndGoesOnAfterHealing(t *testing.T) {
	t.Parallel()
	p, err := Listen("127.0.0.1:0", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := dial(t, "tcp", p.Address())
	if !answered(t, c, time.Second) {
		t.Fatal("no answer through a sound proxy")
	}
	p.Silence()
	if answered(t, c, 200*time.Millisecond) {
		t.Error("an answer through a silent proxy")
	}
	p.Heal()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("what was sent in silence did not arrive: %v", err)
	}
}

func TestLatencyDelaysBothWays(t *testing.T) {
	t.Parallel()
	p, err := Listen("127.0.0.1:0", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Latency(60 * time.Millisecond)
	c := dial(t, "tcp", p.Address())
	begin := time.Now()
	if !answered(t, c, 5*time.Second) || time.Since(begin) < 120*time.Millisecond {
		t.Errorf("answered after %s, want at least 120ms", time.Since(begin))
	}
}

func TestCutEndsConnectionsAndRefuseEndsNewOnes(t *testing.T) {
	t.Parallel()
	p, err := Listen("127.0.0.1:0", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := dial(t, "tcp", p.Address())
	if !answered(t, c, time.Second) {
		t.Fatal("no answer through a sound proxy")
	}
	p.Cut()
	if answered(t, c, time.Second) {
		t.Error("an answer on a cut connection")
	}
	if !answered(t, dial(t, "tcp", p.Address()), time.Second) {
		t.Error("no answer on a connection after the cut")
	}
	p.Refuse()
	if answered(t, dial(t, "tcp", p.Address()), time.Second) {
		t.Error("an answer from a refusing proxy")
	}
}

func TestGossipIsDeafToOneCallerAndHearsAnother(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	g, err := ListenGossip("127.0.0.1:0", echo(t), func(b []byte) { seen.Add(int64(len(b))) })
	if err != nil {
		t.Fatal(err)
	}
	one, other := dial(t, "udp", g.Address()), dial(t, "udp", g.Address())
	g.Deafen(Caller{PID: os.Getpid(), UDP: one.LocalAddr().String()})
	if answered(t, one, 200*time.Millisecond) {
		t.Error("a deaf proxy passed a packet")
	}
	if answered(t, dial(t, "tcp", g.Address()), time.Second) {
		t.Error("a proxy deaf to this process passed its connection")
	}
	if !answered(t, other, time.Second) {
		t.Error("the other caller is not heard")
	}
	g.Hear()
	if !answered(t, one, time.Second) || !answered(t, dial(t, "tcp", g.Address()), time.Second) {
		t.Error("not heard again")
	}
	g.Close()
	if seen.Load() == 0 {
		t.Error("nothing captured")
	}
}
