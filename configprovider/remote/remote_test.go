package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

// manager answers requests by their number, from 1, and counts them.
func manager(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) (Options, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(int(asked.Add(1)), w, r) }))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Name: "Manager", Base: u}, &asked
}

func unavailable(err error) bool { return errors.As(err, new(*configprovider.UnavailableError)) }

func TestTroubleOfTheServerIsTriedAgainAndNothingElse(t *testing.T) {
	t.Parallel()
	const most = tries
	for _, row := range []struct {
		status, good int // good: from which request on
		asked        int
		err          string // "": the answer is returned
		unavailable  bool
	}{
		{503, 2, 2, "", false},
		{429, 3, 3, "", false},
		{500, 9, most, "answers 500 Internal Server Error: it is ill", true},
		{429, 9, most, "answers 429", true},
		{403, 9, 1, "", false},
		{404, 9, 1, "", false},
		{302, 9, 1, "sends elsewhere, which is not followed", false},
		{307, 9, 1, "sends elsewhere", false},
	} {
		o, asked := manager(t, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n < row.good {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(row.status)
				fmt.Fprint(w, `{"errors":["it is ill"]}`)
			}
		})
		a, err := New(o).Do(t.Context(), Request{Path: "x"})
		if int(asked.Load()) != row.asked || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) || unavailable(err) != row.unavailable {
			t.Errorf("%d, good from request %d on: %d requests, %v (unavailable: %v); want %+v", row.status, row.good, asked.Load(), err, unavailable(err), row)
		}
		if want := row.status; err == nil && row.good == 9 && a.Status != want {
			t.Errorf("%d: answered %d", row.status, a.Status)
		}
	}
}

func TestServerThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, err = New(Options{Name: "Manager", Base: &url.URL{Scheme: "http", Host: address}}).Do(t.Context(), Request{Path: "secret/of/somebody"})
	if !unavailable(err) || !strings.Contains(err.Error(), "Manager at "+address+" cannot be reached") || strings.Contains(err.Error(), "somebody") {
		t.Errorf("got %v", err)
	}
}

func TestAnswerThatDoesNotComeIsGivenUp(t *testing.T) {
	t.Parallel()
	o, _ := manager(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	o.Timeout = 50 * time.Millisecond
	if _, err := New(o).Do(t.Context(), Request{}); !unavailable(err) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	// So does whoever asks give up, in the middle of a request and between two.
	for name, answer := range map[string]func(cancel func(), w http.ResponseWriter, r *http.Request){
		"in a request": func(cancel func(), _ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() },
		"in a pause":   func(cancel func(), w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		o, asked := manager(t, func(_ int, w http.ResponseWriter, r *http.Request) { answer(cancel, w, r) })
		if _, err := New(o).Do(ctx, Request{}); err == nil || asked.Load() != 1 {
			t.Errorf("cancelled %s: %v after %d requests", name, err, asked.Load())
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer func(w http.ResponseWriter)
		err    string
		asked  int64
	}{
		"too long": {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxBody+1)) }, "longer than", 1},
		"cut off": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("canary"))
		}, "breaks off", tries},
	} {
		o, asked := manager(t, func(_ int, w http.ResponseWriter, _ *http.Request) { row.answer(w) })
		_, err := New(o).Do(t.Context(), Request{})
		if err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "canary") || asked.Load() != row.asked {
			t.Errorf("%s: %v after %d requests", name, err, asked.Load())
		}
	}
}

func TestWhatWasSentDoesNotComeBackInAnError(t *testing.T) {
	t.Parallel()
	o, _ := manager(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `{"error":{"message":"no right for %s,\n and none for you"}}`, r.Header.Get("Authorization"))
	})
	_, err := New(o).Do(t.Context(), Request{Header: http.Header{"Authorization": {"Bearer canary"}}, Hidden: []config.Secret{config.NewSecret("canary")}})
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "no right for Bearer [hidden], and none for you") {
		t.Errorf("got %v", err)
	}
	for _, body := range []string{"canary", "<html>canary", `["canary"]`, `{"other":"canary"}`} {
		if said := Said([]byte(body)); said != "" {
			t.Errorf("%s is quoted: %q", body, said)
		}
	}
}

func TestRedirectsStayOnTheirScheme(t *testing.T) {
	t.Parallel()
	o, asked := manager(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprint(w, r.URL.Path)
	})
	o.Redirects = true
	if a, err := New(o).Do(t.Context(), Request{}); err != nil || string(a.Body) != "/other" {
		t.Errorf("got %s, %v", a.Body, err)
	}
	plain := "http://" + o.Base.Host
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain, http.StatusTemporaryRedirect) }))
	t.Cleanup(secure.Close)
	before := asked.Load()
	u, _ := url.Parse(secure.URL)
	_, err := New(Options{Name: "Manager", Base: u, Redirects: true, TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig}).Do(t.Context(), Request{}) //nolint:forcetypeassert // httptest's is one
	if err == nil || asked.Load() != before {
		t.Errorf("followed from https to http: %v", err)
	}
}

func TestStreamIsReadAsItComesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	o, _ := manager(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first\n")
		w.(http.Flusher).Flush() //nolint:forcetypeassert // httptest's is one
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := New(o).Stream(ctx, Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line := make([]byte, 6)
	if n, err := resp.Body.Read(line); n == 0 || err != nil {
		t.Errorf("read %q, %v", line[:n], err)
	}
	cancel()
	<-gone
	if _, err := resp.Body.Read(line); err == nil {
		t.Error("the stream goes on after its context")
	}
}
