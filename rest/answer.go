package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/labstack/echo/v4"

	"barnabas/worker"
)

const jsonType = "application/json"

// errorBody is Connect's ErrorMessage.
type errorBody struct {
	Code    int    `json:"error_code"`
	Message string `json:"message"`
}

// failure is an answer with an error body.
type failure struct {
	status     int
	message    string
	retryAfter bool // nothing has been done, so that a client may try again
}

func (f *failure) Error() string { return f.message }

func fail(status int, format string, args ...any) *failure {
	return &failure{status: status, message: fmt.Sprintf(format, args...)}
}

// statusOf returns the status code for a refusal of the worker.
func statusOf(err error) int {
	for reason, status := range map[error]int{
		worker.ErrNotFound:    http.StatusNotFound,
		worker.ErrConflict:    http.StatusConflict,
		worker.ErrInvalid:     http.StatusBadRequest,
		worker.ErrUnavailable: http.StatusServiceUnavailable,
		worker.ErrForbidden:   http.StatusForbidden,
	} {
		if errors.Is(err, reason) {
			return status
		}
	}
	return http.StatusInternalServerError
}

// failureOf turns any error of a handler into its answer.
func failureOf(err error) *failure {
	var f *failure
	var h *echo.HTTPError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &h):
		// Jersey's words for a path or verb that it does not know.
		return fail(h.Code, "HTTP %d %s", h.Code, http.StatusText(h.Code))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// Connect answers 500 here.
		return fail(http.StatusServiceUnavailable, "Request timed out. It may be performed nevertheless.")
	}
	return fail(statusOf(err), "%s", err.Error())
}

// ok answers 200 with v as JSON.
func ok(v any) (answer, error) { return reply(http.StatusOK, v) }

// reply answers with v as JSON, the way Jackson writes it: nothing escaped for
// HTML, no newline at the end.
func reply(status int, v any) (answer, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return answer{}, fmt.Errorf("encode the answer: %w", err)
	}
	return answer{status: status, contentType: jsonType, body: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}, nil
}

// empty answers without a body.
func empty(status int) (answer, error) { return answer{status: status}, nil }

// answerTo turns an error into an answer.
func answerTo(err error) answer {
	f := failureOf(err)
	a, _ := reply(f.status, errorBody{f.status, f.message}) // an int and a string can be encoded
	a.retryAfter = f.retryAfter
	return a
}

// write sends an answer.
func (s *Server) write(c echo.Context, a answer) error {
	h := c.Response().Header()
	if a.location != "" {
		// Absolute, as Jersey makes it of the address that the client used.
		h.Set("Location", c.Scheme()+"://"+c.Request().Host+a.location)
	}
	if a.retryAfter {
		h.Set("Retry-After", "1")
	}
	if a.stale {
		h.Add(headerWarning, staleWarning)
	}
	if a.advice != "" {
		h.Add(headerWarning, warningStart+strconv.QuoteToASCII(a.advice))
	}
	if a.elsewhere != "" {
		h.Set(headerElsewhere, a.elsewhere)
	}
	if a.contentType == "" {
		return c.NoContent(a.status)
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	return c.Blob(a.status, a.contentType, a.body)
}

// writeError sends the error body for err, unless the answer has begun.
func (s *Server) writeError(c echo.Context, err error) {
	if c.Response().Committed {
		return
	}
	a := answerTo(err)
	if a.status == http.StatusInternalServerError && !errors.Is(err, worker.ErrInternal) && !isFailure(err) {
		s.log.Error("request failed", "request", c.Response().Header().Get(headerRequestID), "method", c.Request().Method,
			"path", c.Request().URL.Path, "err", err)
	}
	if err := s.write(c, a); err != nil {
		s.log.Debug("answer not sent", "request", c.Response().Header().Get(headerRequestID), "err", err)
	}
}

func isFailure(err error) bool {
	var f *failure
	return errors.As(err, &f)
}

// connectorPath is the path of a connector, escaped.
func connectorPath(name string) string { return "/connectors/" + url.PathEscape(name) }
