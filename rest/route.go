package rest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"barnabas/access"
	"barnabas/worker"
)

// route is one address with one verb. GET answers HEAD too, and OPTIONS is
// answered from the table.
type route struct {
	method string
	path   string // with echo's :name for a parameter
	handle handler
	// body: the resource reads a body, which then needs a Content-Type.
	body bool
	// plain: no JSON is negotiated (Accept and Content-Type are not looked at).
	plain bool
	// early: answered also while the worker is starting.
	early bool
	// signed: the handler checks the signature of another worker, which stands for
	// a login, as in Kafka's JaasBasicAuthFilter.
	signed bool
	// admin: belongs to admin.listeners.
	admin bool
	// hopOnly: only what another worker vouches for is served; to all others the path is unknown.
	hopOnly bool
	// fresh: the answer must not be older than the question (see worker.Fresh).
	fresh bool
	// warns: what is written out in the configuration that is asked about is named in a header (see warn).
	warns bool
	// known tells whether what a write is about exists, before it is tried; settle then judges the answer to a
	// repetition. Both nil: repeating is harmless and answers the same, or it is a change that is made once (see perform).
	known  func(ctx context.Context, r *request) bool
	settle func(ctx context.Context, r *request, known bool, a answer) answer
}

// handler performs a request. Its errors are *worker.Error, *worker.ElsewhereError,
// *failure, or unforeseen.
type handler func(ctx context.Context, r *request) (answer, error)

// request is what handlers see of a request.
type request struct {
	*http.Request
	id    string // X-Request-Id
	user  string // who has logged in; empty: nobody has to
	param func(name string) string
	query url.Values
	body  []byte
	// groups are those of the user, how is how the user has logged in.
	groups []string
	how    string
	// audited says that the attempt is in the audit trail.
	audited bool
	hop     bool   // forwarded here by another worker, or so it says
	from    *hop   // who vouches for it; nil: nobody, and it comes from where it seems to
	once    string // names it, at each attempt to have it performed
}

// answer is what a handler gives back.
type answer struct {
	status      int
	contentType string // of body; empty without one
	body        []byte
	location    string // path for the Location header, escaped
	retryAfter  bool   // certainly not performed: may be sent again
	elsewhere   string // who can perform it, if not this worker
	advice      string // what the client should know beside it
	stale       bool   // it may be older than the question
	requestID   string // of an answer received
	warning     string // likewise
}

// defaultRequestBytes bounds the body of a request: connector configurations are some
// KiB, and a record of the config topic cannot be larger than 1 MiB anyway.
const defaultRequestBytes = 8 << 20

// newEcho makes a router of routes, with the middleware every request passes.
func (s *Server) newEcho(routes []route) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard)
	e.HTTPErrorHandler = func(err error, c echo.Context) { s.writeError(c, err) }
	e.Pre(s.identify, s.observe, s.decorate, s.recoverPanic, s.clean)
	verbs := map[string][]string{}
	for _, rt := range routes {
		h := s.serve(rt)
		if rt.hopOnly {
			e.Any(rt.path, func(echo.Context) error { return echo.ErrNotFound })
			e.Add(rt.method, rt.path, h)
			continue
		}
		e.Add(rt.method, rt.path, h)
		verbs[rt.path] = append(verbs[rt.path], rt.method)
		if rt.method == http.MethodGet {
			e.HEAD(rt.path, h)
			verbs[rt.path] = append(verbs[rt.path], http.MethodHead)
		}
	}
	for path, methods := range verbs {
		allow := append(methods, http.MethodOptions)
		e.OPTIONS(path, func(c echo.Context) error {
			if _, err := s.login(c); err != nil {
				return err
			}
			c.Response().Header().Set("Allow", strings.Join(allow, ","))
			return c.Blob(http.StatusOK, "text/plain", []byte(strings.Join(allow, ", ")))
		})
	}
	return e
}

// serve reads a request, has it performed and writes the answer.
func (s *Server) serve(rt route) echo.HandlerFunc {
	return func(c echo.Context) error {
		for _, v := range c.ParamValues() {
			if strings.Contains(v, "/") { // echo lets a last parameter swallow the rest of the path
				return echo.ErrNotFound
			}
		}
		r := c.Request()
		if !rt.plain {
			if err := negotiate(r.Header, false); err != nil {
				return err
			}
		}
		// Before the body is read: it costs memory.
		forwarded := r.Header.Get(headerForwarded) != ""
		from, err := s.verifiedHop(r)
		if err != nil {
			return err
		}
		if rt.hopOnly && from == nil {
			return echo.ErrNotFound
		}
		var who access.Caller
		if !rt.signed {
			if who, err = s.caller(c, from); err != nil {
				return err
			}
		}
		sent := s.bodies.body(r.Body)
		defer sent.release()
		body, err := s.readBody(c, sent)
		if err != nil {
			return err
		}
		if err := from.carries(body); err != nil {
			return err
		}
		if !rt.plain {
			if err := negotiate(r.Header, rt.body && len(body) > 0); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.requestTimeout())
		defer cancel()
		asked := &request{
			Request: r, id: c.Response().Header().Get(headerRequestID), param: c.Param, query: r.URL.Query(),
			user: who.User, groups: who.Groups, how: who.How, body: body, hop: forwarded, from: from,
		}
		asked.once = newID()
		if from != nil && from.once != "" {
			asked.once = from.once
		}
		a, err := s.audited(worker.WithRequest(withAuthor(ctx, asked), asked.once), rt, asked)
		if err != nil {
			return err
		}
		if rt.warns {
			s.warn(c, asked, a)
		}
		return s.write(c, a)
	}
}

func (s *Server) readBody(c echo.Context, sent *gatedBody) ([]byte, error) {
	r := c.Request()
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), io.NopCloser(sent), int64(s.o.MaxRequestBytes)))
	if err != nil {
		if _, tooLarge := err.(*http.MaxBytesError); tooLarge { //nolint:errorlint // io.ReadAll passes it on as it is
			return nil, fail(http.StatusRequestEntityTooLarge, "The request body is larger than %d bytes.", s.o.MaxRequestBytes)
		}
		if isFailure(err) {
			return nil, err
		}
		return nil, fail(http.StatusBadRequest, "The request body could not be read to its end.")
	}
	return body, nil
}
