package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"barnabas/worker"
)

// requestTimeout bounds a whole request: the time to find who can perform it,
// and one attempt.
func (s *Server) requestTimeout() time.Duration { return s.o.ForwardTimeout + attemptTimeout }

// attemptTimeout bounds one attempt at another worker. It gives up earlier
// itself (hopTimeout), so that its answer is heard.
const (
	attemptTimeout = 15 * time.Second
	hopTimeout     = 12 * time.Second
)

// perform has a request performed, here or where it belongs.
//
// A change of leaders must not fail a request. So as long as this worker says
// "elsewhere" and elsewhere cannot be reached, or says the same, it is tried again, with jitter, until
// ForwardTimeout; then it is 503. Only the first worker waits and repeats. One that
// has got a forwarded request answers 421 or 503 at once, or two workers that
// each take the other for the leader would multiply the attempts.
//
// An attempt may have been performed although no answer came: the leader dies
// between its write and its answer. So all attempts carry one name, under which a leader makes a change
// once and answers to the next attempt what it would have answered to the first (see worker.WithRequest). That
// holds for changes of connectors. Where a repetition answers differently, what it means is settled by the route's settle, from
// whether what it is about was known before: a deletion that meets 404 answers 204 if it was.
func (s *Server) perform(ctx context.Context, rt route, r *request) (answer, error) {
	deadline := time.Now().Add(s.o.ForwardTimeout)
	if !rt.early {
		if err := s.ready(ctx, r, deadline); err != nil {
			return answer{}, err
		}
	}
	stale := false
	if rt.fresh {
		var err error
		if stale, err = s.stale(ctx); err != nil {
			return answer{}, err
		}
	}
	if r.hop {
		return s.performHop(ctx, rt, r)
	}
	a, err := s.performAnywhere(ctx, rt, r, deadline)
	a.stale = a.stale || stale
	return a, err
}

// stale tells whether what this worker knows may be older than the request.
func (s *Server) stale(ctx context.Context) (bool, error) {
	err := s.w.Fresh(ctx)
	if errors.Is(err, worker.ErrStale) {
		return true, nil
	}
	return false, err
}

// performAnywhere is perform for who asks a worker first.
func (s *Server) performAnywhere(ctx context.Context, rt route, r *request, deadline time.Time) (answer, error) {
	known := rt.known == nil || rt.known(ctx, r)
	uncertain := false
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		a, err := rt.handle(ctx, r)
		var elsewhere *worker.ElsewhereError
		if errors.As(err, &elsewhere) {
			if strings.EqualFold(r.query.Get("forward"), "false") {
				return a, fail(http.StatusConflict, "Cannot complete request because of a conflicting operation (e.g. worker rebalance)")
			}
			a, err = s.forward(ctx, r, elsewhere.URL)
			var lost *lostError
			switch {
			case err == nil && !refused(a):
			case errors.As(err, &lost) || err == nil && a.status == http.StatusServiceUnavailable && !a.retryAfter:
				uncertain = true
				fallthrough
			default:
				if again, stop := s.pause(ctx, wait, deadline); !again {
					return answer{}, unavailable(a, err, elsewhere.URL, uncertain, stop)
				}
				continue
			}
		}
		if err != nil {
			a = answerTo(err)
			if !uncertain {
				return a, err
			}
		}
		if uncertain && rt.settle != nil {
			return rt.settle(ctx, r, known, a), nil
		}
		return a, err
	}
}

// performHop performs a request that another worker has forwarded, or says at once
// that it cannot.
func (s *Server) performHop(ctx context.Context, rt route, r *request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	a, err := rt.handle(ctx, r)
	var elsewhere *worker.ElsewhereError
	if errors.As(err, &elsewhere) {
		a = answerTo(fail(http.StatusMisdirectedRequest, "This worker cannot do that: ask %s", elsewhere.URL))
		a.elsewhere = elsewhere.URL
		return a, nil
	}
	return a, err
}

// ready waits until the worker has started. Who forwards does the waiting, and is told at once.
func (s *Server) ready(ctx context.Context, r *request, deadline time.Time) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		starting := s.health()
		if starting == nil || r.hop {
			return starting
		}
		if again, _ := s.pause(ctx, wait, deadline); !again {
			return starting
		}
	}
}

// health returns a 503 while the worker is starting.
func (s *Server) health() error {
	if s.w == nil {
		return nil
	}
	if h := s.w.Health(); h.Status == healthStarting {
		f := fail(http.StatusServiceUnavailable, "This worker is starting: it waits %s.", h.Message)
		f.retryAfter = true
		return f
	}
	return nil
}

// pause waits about wait before the next attempt. again is false when there
// should be none; stop says why.
func (s *Server) pause(ctx context.Context, wait time.Duration, deadline time.Time) (again bool, stop string) {
	wait = wait/2 + rand.N(wait)
	if time.Now().Add(wait).After(deadline) {
		return false, fmt.Sprintf("within %s", s.o.ForwardTimeout)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true, ""
	case <-ctx.Done():
		return false, "before the request ended"
	case <-s.stopping:
		return false, "before this worker was stopped"
	}
}

// unavailable is the answer when no worker took a request in time.
func unavailable(last answer, err error, address string, uncertain bool, stop string) error {
	reason := "The worker at " + address
	switch {
	case err != nil:
		reason += " could not be reached: " + err.Error()
	default:
		reason += " answered: " + messageOf(last)
	}
	reason = fmt.Sprintf("No worker performed the request %s. %s", stop, reason)
	if uncertain {
		reason += " (It may have been performed nevertheless.)"
	}
	f := fail(http.StatusServiceUnavailable, "%s", reason)
	f.retryAfter = !uncertain
	return f
}

// lostError is an attempt of which nobody knows whether it was performed: it was sent,
// and no answer came.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// forwardedHeaders are passed on to the worker that performs a request.
var forwardedHeaders = []string{"Content-Type", "Accept", "Authorization", "If-Match", "If-None-Match", headerSignature, headerAlgorithm}

func (s *Server) id() string {
	if s.w == nil {
		return "worker"
	}
	return s.w.ID()
}

// forward sends a request as it came to another worker. An error means that it was not sent, a *lostError
// that it may have been performed.
func (s *Server) forward(ctx context.Context, r *request, base string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	address := strings.TrimRight(base, "/") + (&url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}).String()
	req, err := http.NewRequestWithContext(ctx, r.Method, address, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("forward to %s: %w", base, err)
	}
	maps.Copy(req.Header, s.peerHeader(r))
	req.Header.Set(headerOnce, r.once)
	for _, name := range forwardedHeaders {
		if v := r.Header.Values(name); len(v) > 0 {
			req.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	a, err := exchange(s.peers, req)
	var lost *lostError
	outcome := "taken"
	switch {
	case errors.As(err, &lost):
		outcome = "uncertain"
	case err != nil:
		outcome = "unreached"
	case refused(a):
		outcome = "refused"
	}
	s.metrics.forwards.WithLabelValues(outcome).Inc()
	s.log.Debug("forwarded", "request", r.id, "to", base, "outcome", outcome, "status", a.status, "err", err)
	return a, err
}

// refused tells whether another worker has not performed a request that it may perform later, or another one: it does not lead,
// is not ready, or knows another session key than this worker.
func refused(a answer) bool {
	return a.status == http.StatusMisdirectedRequest || a.status == http.StatusServiceUnavailable || a.status == http.StatusForbidden && a.retryAfter
}

// maxAnswerBytes bounds the answer of another worker: 10,000 connectors with
// their configurations are some tens of MiB.
const maxAnswerBytes = 256 << 20

// exchange sends a request and reads the whole answer. An error that is no
// *lostError means that no connection came about.
func exchange(client *http.Client, req *http.Request) (answer, error) {
	res, err := client.Do(req)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, errNoKey) {
			return answer{}, shortened(err)
		}
		return answer{}, &lostError{shortened(err)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err != nil {
		return answer{}, &lostError{fmt.Errorf("read the answer: %w", err)}
	}
	if len(body) > maxAnswerBytes {
		return answer{}, &lostError{errors.New("the answer is too large")}
	}
	a := answer{
		status: res.StatusCode, contentType: res.Header.Get("Content-Type"), body: body,
		retryAfter: res.Header.Get("Retry-After") != "", elsewhere: res.Header.Get(headerElsewhere),
		requestID: res.Header.Get(headerRequestID), warning: warningOf(res.Header),
	}
	if location, err := url.Parse(res.Header.Get("Location")); err == nil {
		a.location = location.EscapedPath() // the client gets it with the host that it asked
	}
	if len(body) == 0 {
		a.contentType = ""
	}
	return a, nil
}

// shortened drops method and address, which url.Error puts first, from an error.
func shortened(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// messageOf returns the message of an error body, or the status.
func messageOf(a answer) string {
	var e errorBody
	if json.Unmarshal(a.body, &e) == nil && e.Message != "" {
		return e.Message
	}
	return fmt.Sprintf("HTTP %d %s", a.status, http.StatusText(a.status))
}

func settleDelete(_ context.Context, _ *request, known bool, a answer) answer {
	if a.status == http.StatusNotFound && known {
		return answer{status: http.StatusNoContent}
	}
	return a
}

func (s *Server) namedInPath(ctx context.Context, r *request) bool {
	_, err := s.w.Connector(ctx, r.param("connector"))
	return err == nil
}
