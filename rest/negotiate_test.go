package rest

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPathsAreCleaned(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		"/":                          "/",
		"/connectors":                "/connectors",
		"/connectors/":               "/connectors",
		"/connectors/a%20b/status":   "/connectors/a b/status",
		"/connectors/a+b":            "/connectors/a+b",
		"/connectors/%C3%A4":         "/connectors/ä",
		"/connectors/x;y=z/status;a": "/connectors/x/status",
		"/connectors/a%3Bb":          "/connectors/a;b",
		"/connectors/.":              "/connectors/.",
		"/connectors//":              "400",
		"//connectors":               "400",
		"/connectors//status":        "400",
		"/connectors/;x/status":      "400",
		"/connectors/a%2Fb":          "400",
		"/connectors/a%2fb":          "400",
		"/connectors/a%25b":          "400",
		"/connectors/%2e%2E":         "400",
		"/connectors/%ff":            "400",
		"/connectors/a%00":           "400",
		"/connectors/a%0Ab":          "400",
		"/connectors/a%zz":           "400",
		"*":                          "400",
		"":                           "400",
	} {
		got, err := cleanPath(sent)
		if err != nil {
			got = "400"
			if f := failureOf(err); f.status != http.StatusBadRequest {
				t.Errorf("%q is refused with %d", sent, f.status)
			}
		}
		if got != want {
			t.Errorf("%q becomes %q, want %q", sent, got, want)
		}
	}
}

func FuzzCleanPathGivesOneSegmentEach(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/a%2fb", "/%2e", "/;", "//", "/a;/b%20", "/%e4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		got, err := cleanPath(sent)
		if err != nil {
			return
		}
		if !strings.HasPrefix(got, "/") || strings.Contains(got, "//") || !utf8.ValidString(got) || strings.ContainsFunc(got, isControl) {
			t.Errorf("%q becomes %q", sent, got)
		}
		if strings.Count(got, "/") > strings.Count(sent, "/") {
			t.Errorf("%q becomes %q, with more segments", sent, got)
		}
	})
}

func TestAccept(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"":                                       true,
		"*/*":                                    true,
		"*":                                      true,
		"application/json":                       true,
		"Application/JSON":                       true,
		"application/*":                          true,
		"application/json; charset=utf-8":        true,
		"text/html;q=0.9,application/json;q=0.8": true,
		"text/html, image/gif, *; q=.2, */*; q=.2": true,
		"text/html":                 false,
		"nonsense":                  false,
		"application/json;q=0":      false,
		"*/*, application/json;q=0": false,
		"*/*;q=0, application/json": true,
		"application/xml,application/vnd.x+json;q=.5": false,
	} {
		if got := acceptsJSON([]string{header}); got != want {
			t.Errorf("Accept: %s is %v, want %v", header, got, want)
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		contentType string
		needed      bool
		want        int // 0: taken
	}{
		{"", false, 0},
		{"", true, 415},
		{"application/json", true, 0},
		{"Application/JSON; charset=utf-8", true, 0},
		{"text/plain", true, 415},
		{"text/plain", false, 415},
		{"application/x-www-form-urlencoded", false, 415},
		{"application/merge-patch+json", true, 415},
		{"json", true, 400},
		{"application/json; charset", true, 400},
	} {
		h := http.Header{}
		if c.contentType != "" {
			h.Set("Content-Type", c.contentType)
		}
		got := 0
		if err := negotiate(h, c.needed); err != nil {
			got = failureOf(err).status
		}
		if got != c.want {
			t.Errorf("Content-Type %q, body read %v: %d, want %d", c.contentType, c.needed, got, c.want)
		}
	}
}
