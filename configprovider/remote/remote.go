// Package remote is how secret managers are reached that have no light client library: guarded requests to one
// server, and typed parameters of a provider. Every request has a deadline, an answer has a bound, tries are few and jittered,
// and no redirect, proxy answer or error text takes a credential or a value out of it.
//
// Easy to get wrong: paths and keys of references come from whoever may write a connector's configuration, while the
// server's address comes from the worker's file. So the former never decide where a request goes: see Name and Allowed.
package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

const (
	// maxBody bounds an answer. The largest secret of the managers served is 1 MiB (Kubernetes), in base64.
	maxBody = 4 << 20
	// tries of a request that another try may help.
	tries = 3
	// firstPause is before the second try, doubled before each further one.
	firstPause = 100 * time.Millisecond
	// dialTimeout bounds connecting, so that an address that swallows packets leaves time for another try.
	dialTimeout = 3 * time.Second
	// pingAfter is after how long without a sign of life one is asked for.
	pingAfter = 20 * time.Second
	// DefaultTimeout bounds one request with all its tries.
	DefaultTimeout = 8 * time.Second
)

// Options is where a Client sends its requests.
type Options struct {
	// Name of the server for errors: "Vault".
	Name string
	// Base is the address that paths are added to.
	Base *url.URL
	// TLS, nil for the system's authorities.
	TLS *tls.Config
	// Timeout of one request with all its tries; 0: DefaultTimeout.
	Timeout time.Duration
	// Redirects lets the server send on to others of its kind, as Vault's standbys do; never from https to http.
	Redirects bool
	// Direct goes through no proxy: the server is this machine's own.
	Direct bool
}

// Client sends requests to one server.
type Client struct {
	o    Options
	http *http.Client
}

// New returns a client. It opens nothing.
func New(o Options) *Client {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     o.TLS,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}, // a stream that says nothing may be dead
	}
	if o.Direct {
		transport.Proxy = nil
	}
	c := &Client{o: o, http: &http.Client{Transport: transport}}
	c.http.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if !o.Redirects || len(via) > 2 || via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return c
}

// Request is one request.
type Request struct {
	Method string
	// Path below the address, escaped.
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte
	// Hidden are what is sent and must not come back in an error.
	Hidden []config.Secret
}

// Answer is what the server said, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request, again if that may help. A server that cannot be reached, or has trouble of its own (429, 5xx), is a
// *configprovider.UnavailableError; any other answer is returned for the caller to judge.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	pause := firstPause
	for try := 1; ; try++ {
		a, err := c.once(ctx, r)
		var final *refusal
		if err == nil || errors.As(err, &final) || try == tries || ctx.Err() != nil || !sleep(ctx, pause/2+rand.N(pause)) {
			if err != nil && !errors.As(err, &final) {
				err = &configprovider.UnavailableError{Err: err}
			}
			return a, err
		}
		pause *= 2
	}
}

// refusal is an error that another try does not mend.
type refusal struct{ error }

func (c *Client) once(ctx context.Context, r Request) (Answer, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("%s at %s: its answer breaks off", c.o.Name, c.o.Base.Host)
	case len(body) > maxBody:
		return Answer{}, &refusal{fmt.Errorf("%s at %s: its answer is longer than %d bytes", c.o.Name, c.o.Base.Host, maxBody)}
	}
	a := Answer{resp.StatusCode, resp.Header, body}
	if a.Status == http.StatusTooManyRequests || a.Status >= 500 {
		return a, fmt.Errorf("%s at %s answers %d %s%s", c.o.Name, c.o.Base.Host, a.Status, http.StatusText(a.Status), Said(body, r.Hidden...))
	}
	if a.Status >= 300 && a.Status < 400 {
		return a, &refusal{fmt.Errorf("%s at %s answers %d and sends elsewhere, which is not followed", c.o.Name, c.o.Base.Host, a.Status)}
	}
	return a, nil
}

// Stream sends a request whose answer is read as it comes, until ctx ends. The caller closes it.
func (c *Client) Stream(ctx context.Context, r Request) (*http.Response, error) {
	return c.send(ctx, r)
}

func (c *Client) send(ctx context.Context, r Request) (*http.Response, error) {
	u := *c.o.Base
	u = *u.JoinPath(r.Path)
	u.RawQuery = r.Query.Encode()
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.Method, http.MethodGet), u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, &refusal{fmt.Errorf("%s: that is no path", c.o.Name)}
	}
	for key, values := range r.Header {
		req.Header[key] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s at %s cannot be reached: %w", c.o.Name, c.o.Base.Host, Reason(err))
	}
	return resp, nil
}

// Reason is an error of an HTTP client without the URL, which may hold more than is to be told.
func Reason(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxSaid bounds what is quoted of a server.
const maxSaid = 200

// Quote is a text of a server for an error: in one line, short, and without what was sent in confidence.
func Quote(text string, hidden ...config.Secret) string {
	text = strings.ToValidUTF8(text, "?")
	for _, h := range hidden {
		if v := h.Reveal(); v != "" {
			text = strings.ReplaceAll(text, v, config.Hidden)
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return text
}

// Said is what a server says in the body of an error, if it says so in one of the usual shapes: ": permission denied".
// Anything else is not quoted, since it might hold anything.
func Said(body []byte, hidden ...config.Secret) string {
	if text := Quote(errorText(body), hidden...); text != "" {
		return ": " + text
	}
	return ""
}
