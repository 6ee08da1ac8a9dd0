package rest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
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
	// admin: belongs to admin.listeners.
	admin bool
	// known tells whether what a write is about exists, before it is tried; settle then judges the answer to a
	// repetition. Both nil: repeating is harmless and answers the same.
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
	param func(name string) string
	query url.Values
	body  []byte
	hop   bool // forwarded here by another worker
}

// answer is what a handler gives back.
type answer struct {
	status      int
	contentType string // of body; empty without one
	body        []byte
	location    string // path for the Location header, escaped
	retryAfter  bool   // certainly not performed: may be sent again
	elsewhere   string // who can perform it, if not this worker
	requestID   string // of an answer received
}

// maxBodyBytes bounds a request: connector configurations are some KiB, and a
// record of the config topic cannot be larger than 1 MiB anyway.
const maxBodyBytes = 8 << 20

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
		body, err := readBody(c)
		if err != nil {
			return err
		}
		if !rt.plain {
			if err := negotiate(r.Header, rt.body && len(body) > 0); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.requestTimeout())
		defer cancel()
		a, err := s.perform(ctx, rt, &request{
			Request: r, id: c.Response().Header().Get(headerRequestID), param: c.Param, query: r.URL.Query(),
			body: body, hop: r.Header.Get(headerForwarded) != "",
		})
		if err != nil {
			return err
		}
		return s.write(c, a)
	}
}

func readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxBodyBytes))
	if err != nil {
		if _, tooLarge := err.(*http.MaxBytesError); tooLarge { //nolint:errorlint // io.ReadAll passes it on as it is
			return nil, fail(http.StatusRequestEntityTooLarge, "The request body is larger than %d bytes.", maxBodyBytes)
		}
		return nil, fail(http.StatusBadRequest, "The request body could not be read to its end.")
	}
	return body, nil
}
