package rest

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sharedKey is a session key of tests.
func sharedKey() ([]byte, string, bool) { return []byte("a session key of tests"), "HmacSHA256", true }

// seen is what a handler was told of a request.
type seen struct{ user, address, worker, client string }

// hopTarget is a worker that has read key, and answers with what it takes a request for.
func hopTarget(t *testing.T, o Options, key func() ([]byte, string, bool)) *httptest.Server {
	t.Helper()
	s, err := newServer(o, func(*Server) []route {
		return []route{{method: "PUT", path: "/x/:name", body: true, handle: func(_ context.Context, r *request) (answer, error) {
			a := seen{user: r.user, address: r.address(), client: r.Header.Get(headerClient)}
			if r.from != nil {
				a.worker = r.from.worker
			}
			return ok(map[string]string{"user": a.user, "address": a.address, "worker": a.worker, "client": a.client})
		}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.useKey(key)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

// hopRequest is a request that a worker has signed with sharedKey for ann at 192.0.2.7.
func hopRequest(t *testing.T, base, body string) *http.Request {
	t.Helper()
	var signed *http.Request
	signer := &hopSigner{key: sharedKey, next: roundTrip(func(r *http.Request) (*http.Response, error) {
		signed = r
		return nil, net.ErrClosed
	})}
	req, err := http.NewRequestWithContext(t.Context(), "PUT", base+"/x/a%20b?q=1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set(headerForwarded, "w:1")
	req.Header.Set(headerClient, "192.0.2.7")
	req.Header.Set(headerUser, url.PathEscape("änn"))
	_, _ = signer.RoundTrip(req)
	if signed == nil {
		t.Fatal("not signed")
	}
	return signed
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOnlySignedClaimsOfAWorkerAreBelieved(t *testing.T) {
	t.Parallel()
	const body = `{"a":1}`
	believed := `{"address":"192.0.2.7","client":"192.0.2.7","user":"änn","worker":"w:1"}`
	stranger := `{"address":"127.0.0.1","client":"","user":"","worker":""}`
	base := hopTarget(t, Options{}, sharedKey).URL
	for name, tt := range map[string]struct {
		change func(r *http.Request)
		status int
		body   string // empty: an error body
	}{
		"as it was signed":     {func(*http.Request) {}, 200, believed},
		"without a signature":  {func(r *http.Request) { r.Header.Del(headerHop) }, 200, stranger},
		"without a worker":     {func(r *http.Request) { r.Header.Del(headerForwarded) }, 200, stranger},
		"of another worker":    {func(r *http.Request) { r.Header.Set(headerForwarded, "v:1") }, 403, ""},
		"of another user":      {func(r *http.Request) { r.Header.Set(headerUser, "root") }, 403, ""},
		"of another address":   {func(r *http.Request) { r.Header.Set(headerClient, "127.0.0.1") }, 403, ""},
		"with one more header": {func(r *http.Request) { r.Header.Set(hopPrefix+"Groups", "admins") }, 403, ""},
		"to another path":      {func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/x/b", "" }, 403, ""},
		"with another query":   {func(r *http.Request) { r.URL.RawQuery = "q=2" }, 403, ""},
		"with another body":    {func(r *http.Request) { withBody(r, `{"a":2}`) }, 403, ""},
		"with another digest":  {func(r *http.Request) { withBody(r, `{"a":2}`); r.Header.Set(headerDigest, digest([]byte(`{"a":2}`))) }, 403, ""},
		"with an algorithm that is not accepted": {func(r *http.Request) {
			r.Header.Set(headerHop, strings.Replace(r.Header.Get(headerHop), "HmacSHA256", "HmacSHA1", 1))
		}, 400, ""},
		"with an algorithm that there is not": {func(r *http.Request) { r.Header.Set(headerHop, "none:") }, 400, ""},
		"with no base64":                      {func(r *http.Request) { r.Header.Set(headerHop, "HmacSHA256:*") }, 400, ""},
		"with Connect's signature of the body": {func(r *http.Request) {
			r.Header.Del(headerHop)
			key, algorithm, _ := sharedKey()
			_ = Sign(r, []byte(body), key, algorithm)
		}, 200, stranger},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := hopRequest(t, base, body)
			tt.change(r)
			got := answered(t, r)
			if got.status != tt.status || tt.body != "" && got.body != tt.body {
				t.Errorf("answered %d %s, want %d %s", got.status, got.body, tt.status, tt.body)
			}
			if retry := got.header.Get("Retry-After") != ""; retry != (tt.status == 403) {
				t.Errorf("Retry-After %v of a %d", retry, got.status)
			}
		})
	}
}

func withBody(r *http.Request, body string) {
	other, _ := http.NewRequest("PUT", "http://x/", strings.NewReader(body))
	r.Body, r.GetBody, r.ContentLength = other.Body, other.GetBody, other.ContentLength
}

func answered(t *testing.T, r *http.Request) received {
	t.Helper()
	rec, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Body.Close()
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	return received{rec.StatusCode, rec.Header, string(b)}
}

func TestAWorkerWithoutASessionKeyBelievesNobody(t *testing.T) {
	t.Parallel()
	base := hopTarget(t, Options{}, func() ([]byte, string, bool) { return nil, "", false }).URL
	if got := answered(t, hopRequest(t, base, "{}")); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s, Retry-After %q, want 503 that may be sent again", got.status, got.body, got.header.Get("Retry-After"))
	}
}

// A user logs in once; who vouches for nobody is asked who it is.
func TestALoginCountsAtTheNextWorker(t *testing.T) {
	t.Parallel()
	s := guarded(t, Options{})
	s.useKey(sharedKey)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	for user, want := range map[string]int{"ann": 200, "": 401} {
		signer := &http.Client{Transport: &hopSigner{next: http.DefaultTransport, key: sharedKey}}
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/hello", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(headerForwarded, "w:1")
		if user != "" {
			req.Header.Set(headerUser, user)
		}
		res, err := signer.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("a worker that vouches for %q: %d, want %d", user, res.StatusCode, want)
		}
		if res, _ := do(t, "GET", server.URL+"/hello", ""); res.StatusCode != 401 {
			t.Errorf("nobody vouches: %d", res.StatusCode)
		}
	}
}

// The leader has not read the new key yet that the worker signs with: the request waits, and is performed once.
func TestAForwardWaitsForTheKeyOfTheOther(t *testing.T) {
	t.Parallel()
	var refused, performed atomic.Int32
	key := func() ([]byte, string, bool) {
		if refused.Load() < 3 {
			refused.Add(1)
			return []byte("the key before"), "HmacSHA256", true
		}
		return sharedKey()
	}
	leader, err := newServer(Options{}, func(*Server) []route {
		return []route{{method: "PUT", path: "/connectors/:connector/config", body: true, handle: func(_ context.Context, r *request) (answer, error) {
			performed.Add(1)
			return ok(r.address())
		}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	leader.useKey(key)
	there := httptest.NewServer(leader.Handler())
	t.Cleanup(there.Close)
	follower, err := newServer(Options{ForwardTimeout: 20 * time.Second}, func(*Server) []route {
		return []route{{method: "PUT", path: "/connectors/:connector/config", body: true, handle: elsewhere(there.URL)}}
	})
	if err != nil {
		t.Fatal(err)
	}
	follower.useKey(sharedKey)
	here := httptest.NewServer(follower.Handler())
	t.Cleanup(here.Close)
	a := send(t, "PUT", here.URL+"/connectors/x/config", `{}`, map[string]string{headerClient: "203.0.113.9"})
	if a.status != 200 || a.body != `"127.0.0.1"` {
		t.Errorf("answered %d %s, want the address of the client", a.status, a.body)
	}
	if performed.Load() != 1 || refused.Load() != 3 {
		t.Errorf("performed %d times after %d refusals", performed.Load(), refused.Load())
	}
}

func TestAForwardWithoutAKeyIsNotSent(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	there := other(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1) })
	s, err := newServer(Options{ForwardTimeout: 100 * time.Millisecond}, func(*Server) []route {
		return []route{{method: "PUT", path: "/x", handle: elsewhere(there.URL)}}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.useKey(func() ([]byte, string, bool) { return nil, "", false })
	here := httptest.NewServer(s.Handler())
	t.Cleanup(here.Close)
	a := send(t, "PUT", here.URL+"/x", "", nil)
	if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "session key") || asked.Load() != 0 {
		t.Errorf("answered %d %s, Retry-After %q, and the other was asked %d times", a.status, a.body, a.header.Get("Retry-After"), asked.Load())
	}
}

// FuzzHopIsNotBelieved: nothing but the signer's own text passes, and nothing panics.
func FuzzHopIsNotBelieved(f *testing.F) {
	f.Add("HmacSHA256:", "w", "ann", "1.2.3.4")
	f.Add("HmacSHA256:"+base64.StdEncoding.EncodeToString(make([]byte, 32)), "w", "%zz", "")
	f.Add("none", "w:1\nx", "", "::1")
	f.Fuzz(func(t *testing.T, signature, by, user, client string) {
		s := &Server{sessionKey: sharedKey}
		r := httptest.NewRequest("PUT", "/x", nil)
		for name, value := range map[string]string{headerHop: signature, headerForwarded: by, headerUser: user, headerClient: client} {
			r.Header.Set(name, value)
		}
		if h, _ := s.verifiedHop(r); h != nil {
			t.Errorf("believed %+v", h)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, hopPrefix) {
				t.Errorf("%s is left", name)
			}
		}
	})
}
