package rest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// headerWarning carries what a client should know beside an answer, as Kubernetes has it: 299 - "text". Connect's bodies stay as they are.
const headerWarning = "Warning"

const warningStart = "299 - "

// staleWarning is in an answer that may be older than the question (RFC 7234).
const staleWarning = `110 - "Response is Stale: this worker cannot read the config topic to its end at the moment"`

// warn names the keys whose secrets are written out in the configuration that has been stored or judged: the one in the answer, or,
// of a validation, the one that was sent. It never tells the values.
func (s *Server) warn(c echo.Context, r *request, a answer) {
	if s.w == nil || a.status >= http.StatusMultipleChoices {
		return
	}
	var info struct{ Config map[string]string }
	if json.Unmarshal(a.body, &info) != nil || info.Config == nil {
		if json.Unmarshal(r.body, &info.Config) != nil {
			return
		}
	}
	if keys := s.w.LiteralSecrets(info.Config); len(keys) > 0 {
		text := "secrets are written out at " + strings.Join(keys, ", ") + ", for all to read in the config topic: put references like ${file:/path:key} in their place"
		c.Response().Header().Set(headerWarning, warningStart+strconv.QuoteToASCII(text))
	}
}

// warningOf reads such a header; empty without one.
func warningOf(h http.Header) string {
	for _, warning := range h.Values(headerWarning) {
		for _, start := range []string{warningStart, "110 - "} {
			if quoted, ok := strings.CutPrefix(warning, start); ok {
				text, _ := strconv.Unquote(quoted) // empty if it is not
				return text
			}
		}
	}
	return ""
}
