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
// between its write and its answer. Repeating it then answers differently, so
// what it meant is settled by the route's settle, from whether the connector was known before:
//   - a creation that meets 409 answers 201 if the connector was not known and
//     is now what was asked for. (Another client that created the same with the same
//     configuration in this moment cannot be told apart; both get 201.)
//   - a deletion that meets 404 answers 204 if the connector was known.
//   - a PUT that meets an existing connector answers 201 if it was not known.
func (s *Server) perform(ctx context.Context, rt route, r *request) (answer, error) {
	if !rt.early {
		if h := s.health(); h != nil {
			return answer{}, h
		}
	}
	if r.hop {
		return s.performHop(ctx, rt, r)
	}
	known := rt.known == nil || rt.known(ctx, r)
	deadline := time.Now().Add(s.o.ForwardTimeout)
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
			case err == nil && a.status != http.StatusMisdirectedRequest && a.status != http.StatusServiceUnavailable:
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
		return a, nil
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

// health returns a 503 while the worker is starting.
func (s *Server) health() error {
	if s.w == nil {
		return nil
	}
	if h := s.w.Health(); h.Status == healthStarting {
		f := fail(http.StatusServiceUnavailable, "%s", h.Message)
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
var forwardedHeaders = []string{"Content-Type", "Accept", "Authorization", headerSignature, headerAlgorithm}

// peerHeader is what every request to another worker carries on behalf of r.
func (s *Server) peerHeader(r *request) http.Header {
	h := http.Header{headerRequestID: {r.id}, headerForwarded: {s.id()}}
	if a := r.Header.Get("Authorization"); a != "" {
		h.Set("Authorization", a)
	}
	return h
}

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
	case a.status == http.StatusMisdirectedRequest || a.status == http.StatusServiceUnavailable:
		outcome = "refused"
	}
	s.metrics.forwards.WithLabelValues(outcome).Inc()
	s.log.Debug("forwarded", "request", r.id, "to", base, "outcome", outcome, "status", a.status, "err", err)
	return a, err
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
		if errors.As(err, &dial) && dial.Op == "dial" {
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
		requestID: res.Header.Get(headerRequestID),
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

func (s *Server) namedInPath(ctx context.Context, r *request) bool {
	_, err := s.w.Connector(ctx, r.param("connector"))
	return err == nil
}

func (s *Server) namedInBody(ctx context.Context, r *request) bool {
	c, err := readCreation(r.body)
	if err != nil {
		return true // refused anyway, the same each time
	}
	_, err = s.w.Connector(ctx, c.name)
	return err == nil
}

func (s *Server) settleCreate(ctx context.Context, r *request, known bool, a answer) answer {
	if a.status != http.StatusConflict || known {
		return a
	}
	c, err := readCreation(r.body)
	if err != nil {
		return a
	}
	asked, err := checkConfig(c.name, c.config)
	if err != nil {
		return a
	}
	info, err := s.w.Connector(ctx, c.name)
	for range 20 { // this worker may read the record a moment after the leader
		if !errors.Is(err, worker.ErrNotFound) {
			break
		}
		if again, _ := s.pause(ctx, 100*time.Millisecond, time.Now().Add(time.Second)); !again {
			return a
		}
		info, err = s.w.Connector(ctx, c.name)
	}
	if err != nil || !maps.Equal(info.Config, asked) {
		return a
	}
	info.Tasks = nil // Connect's answer to a creation has none
	if done, err := created(info); err == nil {
		return done
	}
	return a
}

func settleDelete(_ context.Context, _ *request, known bool, a answer) answer {
	if a.status == http.StatusNotFound && known {
		return answer{status: http.StatusNoContent}
	}
	return a
}

func settlePut(_ context.Context, r *request, known bool, a answer) answer {
	if a.status == http.StatusOK && !known {
		a.status, a.location = http.StatusCreated, connectorPath(r.param("connector"))
	}
	return a
}
