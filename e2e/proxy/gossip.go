package proxy

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Gossip stands in front of a worker's gossip address, TCP and UDP. It tells
// callers apart, so that two workers can be made deaf to each other while a
// third still hears both.
type Gossip struct {
	tcp    *Proxy
	udp    *net.UDPConn
	target *net.UDPAddr
	saw    func([]byte)
	ended  sync.WaitGroup

	mu       sync.Mutex
	deaf     map[Caller]bool
	deafAll  bool
	sessions map[string]*net.UDPConn // by the caller's address
}

// Caller is a worker as the proxy of another sees it.
type Caller struct {
	// PID is its process: a TCP connection is traced to it.
	PID int
	// UDP is where it sends its packets from: what its gossip.bind says.
	UDP string
}

// ListenGossip starts a proxy on address for the gossip of the worker that
// listens on target. saw gets a copy of every packet; it may be nil, is called by several
// goroutines, and must not keep the slice.
func ListenGossip(address, target string, saw func([]byte)) (*Gossip, error) {
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return nil, fmt.Errorf("gossip proxy: %w", err)
	}
	tcp, err := listen(address, target)
	if err != nil {
		return nil, err
	}
	at := tcp.listener.Addr().(*net.TCPAddr)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("gossip proxy for %s: %w", target, err)
	}
	g := &Gossip{tcp: tcp, udp: udp, target: to, saw: saw, deaf: map[Caller]bool{}, sessions: map[string]*net.UDPConn{}}
	tcp.allow, tcp.saw = g.allowTCP, saw
	tcp.ended.Go(tcp.accept)
	g.ended.Go(g.forward)
	return g, nil
}

// Address is where the proxy listens, TCP and UDP.
func (g *Gossip) Address() string { return g.tcp.Address() }

// Close ends the proxy.
func (g *Gossip) Close() {
	_ = g.udp.Close()
	g.tcp.Close()
	g.mu.Lock()
	for _, s := range g.sessions {
		_ = s.Close()
	}
	g.mu.Unlock()
	g.ended.Wait()
}

// Deafen drops what these callers send; without any, what anybody sends.
func (g *Gossip) Deafen(callers ...Caller) {
	g.mu.Lock()
	g.deafAll = len(callers) == 0
	for _, c := range callers {
		g.deaf[c] = true
	}
	g.mu.Unlock()
	g.tcp.Cut()
}

// Hear ends what Deafen began.
func (g *Gossip) Hear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deafAll = false
	clear(g.deaf)
}

// forward passes packets to the worker, one socket a caller, and answers back.
func (g *Gossip) forward() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := g.udp.ReadFromUDP(buffer)
		if err != nil {
			return // closed
		}
		if g.saw != nil {
			g.saw(buffer[:n])
		}
		if !g.allowUDP(from.String()) {
			continue
		}
		session, err := g.session(from)
		if err != nil {
			continue // a packet lost, as packets are
		}
		_, _ = session.Write(buffer[:n])
	}
}

func (g *Gossip) session(from *net.UDPAddr) (*net.UDPConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sessions[from.String()]; s != nil {
		return s, nil
	}
	s, err := net.DialUDP("udp", nil, g.target)
	if err != nil {
		return nil, err
	}
	g.sessions[from.String()] = s
	g.ended.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := s.Read(buffer)
			if err != nil {
				g.mu.Lock()
				delete(g.sessions, from.String())
				g.mu.Unlock()
				_ = s.Close()
				return
			}
			if g.allowUDP(from.String()) {
				_, _ = g.udp.WriteToUDP(buffer[:n], from)
			}
		}
	})
	return s, nil
}

func (g *Gossip) allowUDP(from string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.deaf {
		if c.UDP == from {
			return false
		}
	}
	return !g.deafAll
}

func (g *Gossip) allowTCP(from net.Addr) bool {
	g.mu.Lock()
	deaf := make([]Caller, 0, len(g.deaf))
	for c := range g.deaf {
		deaf = append(deaf, c)
	}
	all := g.deafAll
	g.mu.Unlock()
	if all {
		return false
	}
	for _, c := range deaf {
		if owns(c.PID, from) {
			return false
		}
	}
	return true
}

// owns says whether a process has the socket of a connection that comes from
// an IPv4 address of this machine.
func owns(pid int, from net.Addr) bool {
	at, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return false
	}
	ip := at.IP.To4()
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], at.Port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[1] != local {
			continue
		}
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == "socket:["+fields[9]+"]" {
				return true
			}
		}
	}
	return false
}
