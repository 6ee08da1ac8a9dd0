package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"barnabas/rest/auth"
)

// guarded starts a server without a worker: its routes answer by themselves.
func guarded(t *testing.T, o Options, l ...net.Listener) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.Passwords, err = auth.New(auth.Options{Files: []auth.File{{Path: path, Format: auth.Properties}}}); err != nil {
		t.Fatal(err)
	}
	o.Listeners = l
	hello := func(context.Context, *request) (answer, error) { return ok("hello") }
	s, err := newServer(o, func(*Server) []route {
		return []route{
			{method: "GET", path: "/hello", handle: hello},
			{method: "POST", path: "/hello", handle: hello, body: true},
			{method: "GET", path: "/admin/hello", handle: hello, admin: true},
			{method: "POST", path: "/signed", handle: hello, plain: true, signed: true},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNobodyGetsInWithoutALogin(t *testing.T) {
	t.Parallel()
	l, admin := listen(t), listen(t)
	s := guarded(t, Options{AdminListeners: []net.Listener{admin}}, l)
	t.Cleanup(startAll(t, s.Run))
	for _, row := range []struct {
		method, url, header string
		want                int
	}{
		{"GET", "/hello", "", 401},
		{"GET", "/hello", "Basic YW5uOnNlY3JldA==", 200},
		{"GET", "/hello", "Basic YW5uOndyb25n", 401},
		{"HEAD", "/hello", "", 401},
		{"OPTIONS", "/hello", "", 401},
		{"OPTIONS", "/hello", "Basic YW5uOnNlY3JldA==", 200},
		{"POST", "/hello", "", 401},
		{"POST", "/signed", "", 200},
		{"GET", "/nosuch", "", 404},
		{"DELETE", "/hello", "", 405},
	} {
		res, body := do(t, row.method, "http://"+l.Addr().String()+row.url, row.header)
		if res.StatusCode != row.want {
			t.Errorf("%s %s with %q: %d, want %d", row.method, row.url, row.header, res.StatusCode, row.want)
		}
		if got := res.Header.Get("WWW-Authenticate"); (row.want == 401) != (got != "") {
			t.Errorf("%s %s: WWW-Authenticate %q", row.method, row.url, got)
		}
		var e errorBody
		if row.want == 401 && row.method != "HEAD" && (json.Unmarshal([]byte(body), &e) != nil || e.Code != 401) {
			t.Errorf("%s %s: body %s", row.method, row.url, body)
		}
	}
	for header, want := range map[string]int{"": 401, "Basic YW5uOnNlY3JldA==": 200} {
		if res, _ := do(t, "GET", "http://"+admin.Addr().String()+"/admin/hello", header); res.StatusCode != want {
			t.Errorf("admin listener with %q: %d, want %d", header, res.StatusCode, want)
		}
	}
}

func do(t *testing.T, method, url, authorization string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	_, _ = bufio.NewReader(res.Body).WriteTo(&b)
	return res, b.String()
}

// A body is not read from who has not logged in: it would cost memory.
func TestBodiesOfStrangersAreNotRead(t *testing.T) {
	t.Parallel()
	l := listen(t)
	s := guarded(t, Options{}, l)
	t.Cleanup(startAll(t, s.Run))
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "POST /hello HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s before the body was sent", res.Status)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	l := listen(t)
	s := guarded(t, Options{MaxRequestBytes: 1 << 10}, l)
	s.bodies.most = 1500
	t.Cleanup(startAll(t, s.Run))
	post := func(bytes int) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+l.Addr().String()+"/hello", strings.NewReader(strings.Repeat("x", bytes)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth("ann", "secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	if status, _ := post(2000); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d", status)
	}
	for range 10 { // what has been answered no longer counts
		if status, _ := post(1000); status != http.StatusOK {
			t.Errorf("a body below the limit: %d", status)
		}
	}
	// Somebody sends half of a body and no more.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 900))
	eventually(t, func() string {
		if held := s.bodies.held.Load(); held != 900 {
			return fmt.Sprintf("%d bytes are held", held)
		}
		return ""
	})
	if status, retry := post(1000); status != http.StatusServiceUnavailable || retry == "" {
		t.Errorf("too many bodies at once: %d, Retry-After %q", status, retry)
	}
	if status, _ := post(100); status != http.StatusOK {
		t.Errorf("a small body beside: %d", status)
	}
	conn.Close()
	eventually(t, func() string {
		if held := s.bodies.held.Load(); held != 0 {
			return fmt.Sprintf("%d bytes are held", held)
		}
		return ""
	})
}

// dialFrom connects from an address of loopback.
func dialFrom(t *testing.T, from string, to net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	conn, err := d.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Slow clients send their headers byte by byte, on as many connections as they get, and one keeps idle ones open: others are
// served all the while, and so is what the slow one's address asks properly.
func TestSlowClientsDoNotHoldTheServer(t *testing.T) {
	t.Parallel()
	l := listen(t)
	s := guarded(t, Options{MaxConnections: 20, MaxConnectionsOfAddress: 12, Metrics: prometheus.NewRegistry()}, l)
	t.Cleanup(startAll(t, s.Run))
	var slow []net.Conn
	for i := range 60 {
		conn := dialFrom(t, []string{"127.0.0.2", "127.0.0.3"}[i%2], l.Addr())
		if i%3 > 0 {
			fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		}
		slow = append(slow, conn)
	}
	ask := func(from string) {
		t.Helper()
		conn := dialFrom(t, from, l.Addr())
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("from %s: %v", from, err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("from %s: %s", from, res.Status)
		}
	}
	for range 10 {
		ask("127.0.0.4")
		ask("127.0.0.2")
		for _, conn := range slow { // those that are left go on
			_, _ = conn.Write([]byte("x"))
		}
	}
	if open := gauge(t, s.metrics.connections); open > 20 {
		t.Errorf("%g connections are open", open)
	}
	if cut := gauge(t, s.metrics.cut.WithLabelValues("displaced")); cut < 40 {
		t.Errorf("%g connections were displaced", cut)
	}
}

// A request that is being performed is not displaced by new connections.
func TestRequestsUnderWayAreNotCutOff(t *testing.T) {
	t.Parallel()
	l := listen(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	s, err := newServer(Options{Listeners: []net.Listener{l}, MaxConnections: 10, MaxConnectionsOfAddress: 5}, func(*Server) []route {
		return []route{{method: "GET", path: "/slow", handle: func(context.Context, *request) (answer, error) {
			begun <- struct{}{}
			<-goOn
			return ok("done")
		}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(startAll(t, s.Run))
	answers := make(chan string, 5)
	for range 5 {
		conn := dialFrom(t, "127.0.0.2", l.Addr())
		fmt.Fprint(conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		go func() {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answers <- err.Error()
				return
			}
			res.Body.Close()
			answers <- res.Status
		}()
		<-begun
	}
	refused := dialFrom(t, "127.0.0.2", l.Addr())
	_ = refused.SetDeadline(time.Now().Add(time.Minute))
	if n, err := refused.Read(make([]byte, 1)); err == nil {
		t.Errorf("a connection too many got %d bytes", n)
	}
	close(goOn)
	for range 5 {
		if got := <-answers; got != "200 OK" {
			t.Errorf("a request under way got %s", got)
		}
	}
}

func gauge(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetGauge().GetValue() + d.GetCounter().GetValue()
}
