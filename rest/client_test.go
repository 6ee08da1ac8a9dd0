package rest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"barnabas/config"
)

func newTestClient(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAsksTheNextWorker(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	there := other(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `["a"]`) })
	c := newTestClient(t, ClientOptions{URLs: []string{"http://" + gone.Addr().String(), there.URL + "/"}})
	if names, err := c.Connectors(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("%v %v", names, err)
	}
}

func TestClientWaitsUntilAWorkerIsReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := other(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if asked.Add(1) < 3 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if string(b) != `{"config":{"k":"v"},"name":"x"}` {
			t.Errorf("the third time it sent %s", b)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"name":"x"}`)
	})
	c := newTestClient(t, ClientOptions{URLs: []string{server.URL}})
	if info, err := c.Create(t.Context(), "x", map[string]string{"k": "v"}, ""); err != nil || info.Name != "x" {
		t.Errorf("%v %v", info, err)
	}
}

// TestClientDoesNotCreateTwice: a lost answer, and a 503 that does not say that
// nothing was done, may hide a creation.
func TestClientDoesNotCreateTwice(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]http.HandlerFunc{
		"lost": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		},
		"503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		var asked atomic.Int32
		server := other(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			first(w, r)
		})
		c := newTestClient(t, ClientOptions{URLs: []string{server.URL}, Retry: 500 * time.Millisecond})
		if _, err := c.Create(t.Context(), "x", nil, ""); err == nil || asked.Load() != 1 {
			t.Errorf("%s: asked %d times, %v", name, asked.Load(), err)
		}
		asked.Store(0)
		if err := c.Pause(t.Context(), "x"); err == nil || asked.Load() < 2 {
			t.Errorf("%s: a pause was asked for %d times, %v", name, asked.Load(), err)
		}
	}
}

func TestClientTellsWhatItWasTold(t *testing.T) {
	t.Parallel()
	server := other(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerRequestID, "id-3")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error_code":40401,"message":"Connector x not found"}`)
	})
	c := newTestClient(t, ClientOptions{URLs: []string{server.URL}})
	err := c.Delete(t.Context(), "x")
	var e *StatusError
	if !errors.As(err, &e) || e.Status != 404 || e.Code != 40401 || e.RequestID != "id-3" || e.URL != server.URL || err.Error() != "Connector x not found" {
		t.Errorf("%#v", err)
	}
	if !IsNotFound(err) || IsConflict(err) {
		t.Error("not recognised as 404")
	}
}

func TestClientSurvivesForeignAnswers(t *testing.T) {
	t.Parallel()
	for body, status := range map[string]int{"<html>": 502, "": 500, "{": 200, "[]": 200} {
		server := other(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
		c := newTestClient(t, ClientOptions{URLs: []string{server.URL}, Retry: -1})
		if _, err := c.Status(t.Context(), "x"); err == nil || err.Error() == "" {
			t.Errorf("%d %q is taken for a status", status, body)
		}
		if _, err := c.Health(t.Context()); err == nil {
			t.Errorf("%d %q is taken for a health", status, body)
		}
	}
}

func TestClientGivesUpAndNamesTheAddress(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	c := newTestClient(t, ClientOptions{URLs: []string{"http://" + gone.Addr().String()}, Retry: 300 * time.Millisecond})
	_, err := c.Connectors(t.Context())
	if err == nil || !strings.Contains(err.Error(), gone.Addr().String()) || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

func TestClientEscapesNames(t *testing.T) {
	t.Parallel()
	server := other(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/connectors/a%20%C3%A4%3Bb" {
			t.Errorf("path %s", r.URL.EscapedPath())
		}
		w.WriteHeader(http.StatusNoContent)
	})
	c := newTestClient(t, ClientOptions{URLs: []string{server.URL}})
	if err := c.Delete(t.Context(), "a ä;b"); err != nil {
		t.Error(err)
	}
}

func TestClientAuthenticates(t *testing.T) {
	t.Parallel()
	server := other(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "joe" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `[]`)
	})
	c := newTestClient(t, ClientOptions{URLs: []string{server.URL}, User: "joe", Password: config.NewSecret("hunter2")})
	if _, err := c.Connectors(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := NewClient(ClientOptions{URLs: []string{"http://joe:hunter2@localhost:1"}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password in the address: %v", err)
	}
	for _, url := range []string{"localhost:8083", "ftp://x", "http://"} {
		if _, err := NewClient(ClientOptions{URLs: []string{url}}); err == nil {
			t.Errorf("took the address %q", url)
		}
	}
}
