package rest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/worker"
)

// serve starts a server with one route, GET and PUT /x, and the options given.
func serve(t *testing.T, o Options, handle handler) *httptest.Server {
	t.Helper()
	s, err := newServer(o, func(*Server) []route {
		return []route{{method: "GET", path: "/x", handle: handle}, {method: "PUT", path: "/x", handle: handle, body: true}}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

func fine(context.Context, *request) (answer, error) { return ok(map[string]string{"a": "<&>"}) }

func TestEveryAnswerHasARequestID(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{}, fine)
	for sent, kept := range map[string]bool{
		"abc-123_X.y:z/1+2=": true, "": false, "a b": false, "ü": false, "<script>": false, strings.Repeat("x", 200): false,
	} {
		for _, path := range []string{"/x", "/nope", "//"} {
			a := send(t, "GET", server.URL+path, "", map[string]string{headerRequestID: sent})
			got := a.header.Get(headerRequestID)
			if kept && got != sent || !kept && (got == sent || len(got) != 32) {
				t.Errorf("%s with id %q: %q", path, sent, got)
			}
		}
	}
}

func TestRequestsAreLoggedWithoutBodiesAndQueries(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	server := serve(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, fine)
	send(t, "PUT", server.URL+"/x?token=hunter2", `{"password":"hunter2"}`, map[string]string{headerRequestID: "id-1", "Authorization": "hunter2"})
	send(t, "GET", server.URL+"/x", "", nil)
	server.Close()
	for _, want := range []string{"level=INFO", "msg=request", "request=id-1", "method=PUT", "path=/x", "status=200", "duration="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("a body, query or credential is logged: %s", log.String())
	}
	if strings.Contains(log.String(), "GET") {
		t.Errorf("a read is logged at INFO: %s", log.String())
	}
}

func TestPanicIs500AndTheServerLives(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	server := serve(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(_ context.Context, r *request) (answer, error) {
		if r.query.Has("panic") {
			panic("s3cret")
		}
		if r.query.Has("bounds") {
			return answer{}, []error{}[len(r.query)]
		}
		return empty(http.StatusNoContent)
	})
	a := send(t, "GET", server.URL+"/x?panic", "", map[string]string{headerRequestID: "id-9"})
	if a.status != 500 || !strings.Contains(a.body, "id-9") || strings.Contains(a.body, "s3cret") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send(t, "GET", server.URL+"/x", "", nil); a.status != 204 {
		t.Errorf("after that: %d", a.status)
	}
	if text := log.String(); !strings.Contains(text, "middleware_test.go") || strings.Contains(text, "s3cret") {
		t.Errorf("logged without its place, or with its value, which may be a secret: %s", text)
	}
	if send(t, "GET", server.URL+"/x?bounds", "", nil); !strings.Contains(log.String(), "index out of range") {
		t.Errorf("what the runtime says is not logged: %s", log.String())
	}
}

func TestUnforeseenErrorIs500(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		fmt.Errorf("x: %w", &worker.Error{Reason: worker.ErrNotFound, Message: "no"}): 404,
		&worker.Error{Reason: worker.ErrConflict, Message: "no"}:                      409,
		&worker.Error{Reason: worker.ErrInvalid, Message: "no"}:                       400,
		&worker.Error{Reason: worker.ErrForbidden, Message: "no"}:                     403,
		&worker.Error{Reason: worker.ErrUnavailable, Message: "no"}:                   503,
		&worker.Error{Reason: worker.ErrInternal, Message: "no"}:                      500,
		fmt.Errorf("x: %w", context.DeadlineExceeded):                                 503,
		fmt.Errorf("disk on fire"):                                                    500,
	} {
		server := serve(t, Options{}, func(context.Context, *request) (answer, error) { return answer{}, err })
		a := send(t, "GET", server.URL+"/x", "", nil)
		if a.status != want || !strings.HasPrefix(a.body, fmt.Sprintf(`{"error_code":%d,"message":"`, want)) {
			t.Errorf("%v: %d %s, want %d", err, a.status, a.body, want)
		}
	}
}

func TestLargeBodyIs413(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{}, fine)
	a := send(t, "PUT", server.URL+"/x", strings.Repeat("x", defaultRequestBytes+1), nil)
	if a.status != 413 || !strings.Contains(a.body, `"error_code":413`) {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	if a := send(t, "PUT", server.URL+"/x", strings.Repeat("x", defaultRequestBytes), nil); a.status != 200 {
		t.Errorf("at the limit: %d", a.status)
	}
}

func TestJSONIsNotEscapedForHTML(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{}, fine)
	if a := send(t, "GET", server.URL+"/x", "", nil); a.body != `{"a":"<&>"}` {
		t.Error(a.body)
	}
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, origin, want, credentials string
	}{
		{"", "http://a", "", ""},
		{"http://a", "http://a", "http://a", ""},
		{"http://b, http://a", "http://a", "http://a", ""},
		{"http://b", "http://a", "", ""},
		{"*", "http://a", "http://a", ""},
		{"http://*.example.com", "http://x.example.com", "http://x.example.com", ""},
		{"http://*.example.com", "http://x.example.com.evil", "", ""},
		{"http://a", "", "", ""},
	} {
		server := serve(t, Options{AllowOrigin: c.allow, AllowMethods: "PUT"}, fine)
		a := send(t, "GET", server.URL+"/x", "", map[string]string{"Origin": c.origin})
		if got := a.header.Get("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%q allows %q as %q, want %q", c.allow, c.origin, got, c.want)
		}
		if got := a.header.Get("Access-Control-Allow-Credentials"); got != c.credentials {
			t.Errorf("%q allows %q credentials %q, want %q", c.allow, c.origin, got, c.credentials)
		}
		pre := send(t, "OPTIONS", server.URL+"/x", "", map[string]string{"Origin": c.origin, "Access-Control-Request-Method": "PUT"})
		if got := pre.header.Get("Access-Control-Allow-Methods"); pre.status != 200 || (got == "PUT") != (c.want != "") {
			t.Errorf("%q: preflight of %q: %d, methods %q", c.allow, c.origin, pre.status, got)
		}
	}
}

func TestConfiguredHeaders(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{ResponseHeaders: []config.HeaderRule{
		{Action: "set", Name: "X-Frame-Options", Value: "DENY"},
		{Action: "add", Name: "Cache-Control", Value: "no-cache, no-store"},
		{Action: "add", Name: "Cache-Control", Value: "must-revalidate"},
		{Action: "setDate", Name: "Expires", Value: "60000"},
	}}, fine)
	a := send(t, "GET", server.URL+"/nope", "", nil)
	if a.header.Get("X-Frame-Options") != "DENY" || len(a.header.Values("Cache-Control")) != 2 {
		t.Errorf("%v", a.header)
	}
	at, err := http.ParseTime(a.header.Get("Expires"))
	if err != nil || time.Until(at) < 30*time.Second || time.Until(at) > 90*time.Second {
		t.Errorf("Expires %s: %v", a.header.Get("Expires"), err)
	}
	if _, err := newServer(Options{ResponseHeaders: []config.HeaderRule{{Action: "setDate", Name: "X", Value: "soon"}}}, func(*Server) []route { return nil }); err == nil {
		t.Error("took a date that is no number")
	}
}

// newWorker returns a worker that has not been started.
func newWorker(t *testing.T) *worker.Worker {
	t.Helper()
	written := map[string]string{
		"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "config.storage.topic": "c", "offset.storage.topic": "o",
		"status.storage.topic": "s", "gossip.bind": "127.0.0.1:0",
	}
	file, problems, _ := config.ParseWorker(config.Literal(written))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	resolver, err := configprovider.New(t.Context(), written, configprovider.Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Options{File: file, Resolver: resolver, ID: "a:1", URL: "http://a:1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAdminListenersServeTheLoggersAlone(t *testing.T) {
	t.Parallel()
	main, admin := listen(t), listen(t)
	s, err := New(Options{
		Worker: newWorker(t), Listeners: []net.Listener{main}, AdminListeners: []net.Listener{admin}, Loggers: newFakeLevels().loggers(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(startAll(t, s.Run))
	for _, c := range []struct {
		l    net.Listener
		path string
		want int
	}{
		{admin, "/admin/loggers", 200}, {admin, "/openapi.json", 404}, {main, "/admin/loggers", 404}, {main, "/openapi.json", 200},
	} {
		if a := send(t, "GET", "http://"+c.l.Addr().String()+c.path, "", nil); a.status != c.want {
			t.Errorf("%s: %d, want %d", c.path, a.status, c.want)
		}
	}
}

// With admin.listeners= there is no /admin, and to who is no worker it looks as if there never was.
func TestWithoutAdminListenersThereIsNoAdmin(t *testing.T) {
	t.Parallel()
	main := listen(t)
	s, err := New(Options{Worker: newWorker(t), Listeners: []net.Listener{main}, AdminListeners: []net.Listener{}, Loggers: newFakeLevels().loggers()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(startAll(t, s.Run))
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/admin/loggers", "/admin/loggers/root", "/admin/loggers/root?scope=cluster"} {
			if a := send(t, method, "http://"+main.Addr().String()+path, `{"level":"DEBUG"}`, map[string]string{headerForwarded: "w:1"}); a.status != http.StatusNotFound {
				t.Errorf("%s %s: %d %s, want 404", method, path, a.status, a.body)
			}
		}
	}
}

func TestStartingWorkerSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	l := listen(t)
	s, err := New(Options{Worker: newWorker(t), Listeners: []net.Listener{l}, ForwardTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(startAll(t, s.Run))
	base := "http://" + l.Addr().String()
	for _, path := range []string{"/", "/connectors"} {
		began := time.Now()
		a := ask(t, base, "GET", path, nil, nil)
		if time.Since(began) < 100*time.Millisecond {
			t.Errorf("%s: answered after %v, without a wait", path, time.Since(began))
		}
		if a.status != 503 || !strings.Contains(a.body, `"error_code":503`) || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "start") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := ask(t, base, "GET", "/health", nil, nil); a.status != 503 || !strings.Contains(a.body, `"status":"starting"`) {
		t.Errorf("/health: %d %s", a.status, a.body)
	}
	if a := ask(t, base, "GET", "/openapi.json", nil, nil); a.status != 200 {
		t.Errorf("/openapi.json: %d", a.status)
	}
}
