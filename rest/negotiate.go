package rest

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// cleanPath turns the path of a request, as it was sent, into what is routed:
// unescaped, without matrix parameters (";x=y") and without one trailing slash.
// What Jetty calls ambiguous or suspicious is refused with 400: empty segments,
// and escaped slashes, percent signs and dots.
func cleanPath(sent string) (string, error) {
	if !strings.HasPrefix(sent, "/") {
		return "", fail(http.StatusBadRequest, "The path does not begin with a slash.")
	}
	sent = strings.TrimPrefix(sent, "/")
	if sent == "" {
		return "/", nil
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(strings.TrimSuffix(sent, "/"), "/") {
		clean, err := cleanSegment(segment)
		if err != nil {
			return "", err
		}
		b.WriteString("/" + clean)
	}
	return b.String(), nil
}

func cleanSegment(segment string) (string, error) {
	segment, _, _ = strings.Cut(segment, ";")
	if segment == "" {
		return "", fail(http.StatusBadRequest, "Ambiguous URI empty segment")
	}
	lower := strings.ToLower(segment)
	switch {
	case strings.Contains(lower, "%2f"):
		return "", fail(http.StatusBadRequest, "Ambiguous URI path separator")
	case strings.Contains(lower, "%25"):
		return "", fail(http.StatusBadRequest, "Ambiguous URI path encoding")
	}
	plain, err := url.PathUnescape(segment)
	if err != nil {
		return "", fail(http.StatusBadRequest, "Bad Request")
	}
	switch {
	case plain != segment && (plain == "." || plain == ".."):
		return "", fail(http.StatusBadRequest, "Ambiguous URI path segment")
	case !utf8.ValidString(plain):
		return "", fail(http.StatusBadRequest, "Bad UTF-8 encoding")
	case strings.ContainsFunc(plain, isControl):
		return "", fail(http.StatusBadRequest, "Suspicious Path Character")
	}
	return plain, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// negotiate checks that a request brings and takes JSON, by the rules of
// Connect's @Consumes and @Produces: a Content-Type is looked at even without a
// body, and needed only by a resource that reads one.
func negotiate(h http.Header, needsType bool) error {
	switch contentType := h.Get("Content-Type"); {
	case contentType == "" && needsType:
		return unsupportedMedia()
	case contentType != "":
		media, _, err := mime.ParseMediaType(contentType)
		if err != nil || !strings.Contains(media, "/") {
			return fail(http.StatusBadRequest, "The Content-Type header is not a media type.")
		}
		if media != jsonType {
			return unsupportedMedia()
		}
	}
	if !acceptsJSON(h.Values("Accept")) {
		return fail(http.StatusNotAcceptable, "HTTP 406 Not Acceptable")
	}
	return nil
}

func unsupportedMedia() error {
	return fail(http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type")
}

// acceptsJSON evaluates Accept headers for application/json: the most specific
// range that covers it decides, and a weight of 0 refuses it.
func acceptsJSON(headers []string) bool {
	all := strings.Join(headers, ",")
	if strings.TrimSpace(all) == "" {
		return true
	}
	best, accepted := 0, false
	for r := range strings.SplitSeq(all, ",") {
		media, params, _ := strings.Cut(r, ";")
		specific := map[string]int{"*": 1, "*/*": 1, "application/*": 2, jsonType: 3}[strings.ToLower(strings.TrimSpace(media))]
		if specific > best {
			best, accepted = specific, weight(params) > 0
		}
	}
	return accepted
}

// weight returns the q parameter; 1 if there is none or it is no number.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(k), "q") {
			continue
		}
		if q, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return q
		}
	}
	return 1
}
