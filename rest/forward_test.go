package rest

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"barnabas/worker"
)

// front is a server with one route, POST /connectors/:connector/config, whose
// handler is given: what a worker answers is the test's to say.
func front(t *testing.T, bound time.Duration, handle handler) *httptest.Server {
	t.Helper()
	s, err := newServer(Options{ForwardTimeout: bound}, func(*Server) []route {
		return []route{
			{
				method: "PUT", path: "/connectors/:connector/config", handle: handle, body: true,
			},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

func elsewhere(url string) handler {
	return func(context.Context, *request) (answer, error) { return answer{}, &worker.ElsewhereError{URL: url} }
}

// other is another worker that answers with f.
func other(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server
}

func send(t *testing.T, method, url, body string, header map[string]string) received {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", jsonType)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return received{res.StatusCode, res.Header, string(b)}
}

func TestForwardedRequestIsTheSame(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	leader := other(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Location", "http://"+r.Host+"/connectors/a%20b")
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"x":1}`))
	})
	here := front(t, time.Second, elsewhere(leader.URL+"/"))
	a := send(t, "PUT", here.URL+"/connectors/a%20b/config/?x=%2F&y", `{"k":"v"}`, map[string]string{
		"Authorization": "Basic abc", headerRequestID: "id-7", headerSignature: "sig", headerAlgorithm: "alg", "Cookie": "c=1", "Accept": "application/*",
	})
	if a.status != 201 || a.body != `{"x":1}` || a.header.Get("Content-Type") != jsonType {
		t.Errorf("answered %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if want := here.URL + "/connectors/a%20b"; a.header.Get("Location") != want {
		t.Errorf("Location %q, want %q: the host that the client asked", a.header.Get("Location"), want)
	}
	if got.Method != "PUT" || got.URL.EscapedPath() != "/connectors/a%20b/config" || got.URL.RawQuery != "x=%2F&y" || string(body) != `{"k":"v"}` {
		t.Errorf("forwarded %s %s %s", got.Method, got.URL, body)
	}
	for k, want := range map[string]string{
		"Authorization": "Basic abc", headerRequestID: "id-7", headerSignature: "sig", headerAlgorithm: "alg",
		"Content-Type": jsonType, "Accept": "application/*", "Cookie": "",
	} {
		if got.Header.Get(k) != want {
			t.Errorf("forwarded with %s %q, want %q", k, got.Header.Get(k), want)
		}
	}
	if got.Header.Get(headerForwarded) == "" {
		t.Errorf("forwarded without %s", headerForwarded)
	}
}

func TestForwardedRequestIsNotForwardedAgain(t *testing.T) {
	t.Parallel()
	here := front(t, time.Second, elsewhere("http://third:1"))
	a := send(t, "PUT", here.URL+"/connectors/x/config", `{}`, map[string]string{headerForwarded: "b:1"})
	if a.status != http.StatusMisdirectedRequest || a.header.Get(headerElsewhere) != "http://third:1" {
		t.Errorf("answered %d %s, want 421 naming http://third:1", a.status, a.header.Get(headerElsewhere))
	}
}

func TestForwardFalseIsRefusedElsewhere(t *testing.T) {
	t.Parallel()
	here := front(t, time.Second, elsewhere("http://third:1"))
	a := send(t, "PUT", here.URL+"/connectors/x/config?forward=false", `{}`, nil)
	if a.status != http.StatusConflict {
		t.Errorf("answered %d %s, want 409", a.status, a.body)
	}
}

// TestRequestOutlivesAChangeOfLeaders: first the old leader refuses connections, then
// a worker says that it is not the leader, then one is starting, and then there is a leader.
func TestRequestOutlivesAChangeOfLeaders(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	var step atomic.Int32
	var bodies sync.Map
	next := other(t, func(w http.ResponseWriter, r *http.Request) {
		n := step.Add(1)
		b, _ := io.ReadAll(r.Body)
		bodies.Store(n, string(b))
		switch n {
		case 1:
			w.Header().Set(headerElsewhere, "http://somebody:1")
			w.WriteHeader(http.StatusMisdirectedRequest)
		case 2:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	var asked atomic.Int32
	here := front(t, 10*time.Second, func(context.Context, *request) (answer, error) {
		if asked.Add(1) < 3 {
			return answer{}, &worker.ElsewhereError{URL: "http://" + gone.Addr().String()}
		}
		return answer{}, &worker.ElsewhereError{URL: next.URL}
	})
	a := send(t, "PUT", here.URL+"/connectors/x/config", `{"a":"b"}`, nil)
	if a.status != http.StatusNoContent {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	if b, _ := bodies.Load(int32(3)); b != `{"a":"b"}` {
		t.Errorf("the third attempt carried %v", b)
	}
}

// The leader dies after it has read the request: the next one is asked under the same name, and so knows what has been done.
func TestALostAnswerIsAskedForUnderTheSameName(t *testing.T) {
	t.Parallel()
	var names [3]string
	var step atomic.Int32
	leader := other(t, func(w http.ResponseWriter, r *http.Request) {
		n := step.Add(1)
		names[n-1] = r.Header.Get(headerOnce)
		if n == 1 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	here := front(t, 10*time.Second, elsewhere(leader.URL))
	for range 2 {
		// The id in the log may be the client's, who may use it again.
		if a := send(t, "PUT", here.URL+"/connectors/x/config", `{}`, map[string]string{headerRequestID: "x", headerOnce: "x"}); a.status != http.StatusCreated {
			t.Errorf("answered %d %s", a.status, a.body)
		}
	}
	if names[0] == "" || names[0] == "x" || names[1] != names[0] || names[2] == names[0] || names[2] == "x" {
		t.Errorf("the attempts at a request and at the next one were named %q", names)
	}
}

func TestNoLeaderWithinTheBoundIs503(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	here := front(t, 300*time.Millisecond, elsewhere("http://"+gone.Addr().String()))
	a := send(t, "PUT", here.URL+"/connectors/x/config", `{}`, nil)
	var e errorBody
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != 503 || e.Code != 503 {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	if !strings.Contains(e.Message, gone.Addr().String()) || a.header.Get("Retry-After") == "" {
		t.Errorf("the answer does not name the worker, or not that it may be sent again: %q, Retry-After %q", e.Message, a.header.Get("Retry-After"))
	}
}

func TestUncertainRequestIsNotOfferedAgain(t *testing.T) {
	t.Parallel()
	leader := other(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	})
	here := front(t, 300*time.Millisecond, elsewhere(leader.URL))
	a := send(t, "PUT", here.URL+"/connectors/x/config", `{}`, nil)
	if a.status != 503 || a.header.Get("Retry-After") != "" || !strings.Contains(a.body, "may have been performed") {
		t.Errorf("answered %d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
}

func TestShutdownEndsWaitingRequests(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	waiting := make(chan struct{}, 100)
	l := listen(t)
	s, err := newServer(Options{Listeners: []net.Listener{l}, ForwardTimeout: time.Hour}, func(*Server) []route {
		return []route{{method: "PUT", path: "/x", handle: func(context.Context, *request) (answer, error) {
			waiting <- struct{}{}
			return answer{}, &worker.ElsewhereError{URL: "http://" + gone.Addr().String()}
		}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := startAll(t, s.Run)
	status := make(chan int, 1)
	go func() { status <- send(t, "PUT", "http://"+l.Addr().String()+"/x", "", nil).status }()
	<-waiting
	start := time.Now()
	stop()
	if got := <-status; got != 503 || time.Since(start) > 5*time.Second {
		t.Errorf("answered %d after %s", got, time.Since(start))
	}
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestForwardsAreCounted(t *testing.T) {
	t.Parallel()
	leader := other(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	registry := prometheus.NewRegistry()
	s, err := newServer(Options{Metrics: registry}, func(*Server) []route {
		return []route{{method: "PUT", path: "/connectors/:connector/pause", handle: elsewhere(leader.URL)}}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	send(t, "PUT", server.URL+"/connectors/x/pause", "", nil)
	send(t, "BREW", server.URL+"/coffee", "", nil)
	if got := counted(t, s.metrics.forwards.WithLabelValues("taken")); got != 1 {
		t.Errorf("%v forwards counted", got)
	}
	for _, labels := range [][]string{{"/connectors/{connector}/pause", "PUT", "204"}, {"unknown", "other", "404"}} {
		if got := counted(t, s.metrics.requests.WithLabelValues(labels...)); got != 1 {
			t.Errorf("%v requests counted for %q", got, labels)
		}
	}
}
