package rest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"barnabas/config"
)

const (
	headerRequestID = "X-Request-Id"
	// headerElsewhere comes with 421: the worker that should have been asked.
	headerElsewhere = "X-Barnabas-Elsewhere"
)

// saneID is what is taken over as a request id: nothing that could break a log
// line or a header.
var saneID = regexp.MustCompile(`^[A-Za-z0-9._:/+=@-]{1,128}$`)

// identify gives every answer an X-Request-Id.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(headerRequestID)
		if !saneID.MatchString(id) {
			id = newID()
		}
		c.Response().Header().Set(headerRequestID, id)
		return next(c)
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}

// observe logs and counts every request. Errors become answers here, so that
// their status is known. Bodies and queries are never logged.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start, r := time.Now(), c.Request()
		method, path := r.Method, r.URL.EscapedPath() // clean and the router change them
		if err := next(c); err != nil {
			s.writeError(c, err)
		}
		took, status := time.Since(start), c.Response().Status
		s.metrics.observe(c.Path(), method, status, took)
		log := s.log.Debug
		if status >= http.StatusInternalServerError || method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions {
			log = s.log.Info
		}
		attrs := []any{
			"request", c.Response().Header().Get(headerRequestID), "method", method, "path", path, "status", status,
			"duration", took, "remote", r.RemoteAddr,
		}
		if user, ok := c.Get(userKey).(string); ok {
			attrs = append(attrs, "user", user)
		}
		if by := r.Header.Get(headerForwarded); saneID.MatchString(by) {
			attrs = append(attrs, "forwarded_by", by)
		}
		log("request", attrs...)
		return nil
	}
}

// recoverPanic answers 500 for a panic, which is a defect of ours.
func (s *Server) recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				id := c.Response().Header().Get(headerRequestID)
				s.log.Error("panic in a request", "request", id, "panic", panicked(p), "stack", string(debug.Stack()))
				err = fail(http.StatusInternalServerError, "Internal error; the worker's log has it under request id %s.", id)
			}
		}()
		return next(c)
	}
}

// panicked is what may be shown of a panic: what the runtime says of a broken rule, which holds no data. Any other value may be made
// of a request's body, where there are secrets; its stack says where it came from.
func panicked(value any) string {
	if broken, ok := value.(runtime.Error); ok {
		return broken.Error()
	}
	return fmt.Sprintf("a %T", value)
}

// clean routes by the unescaped path.
func (s *Server) clean(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		path, err := cleanPath(u.EscapedPath())
		if err != nil {
			return err
		}
		u.Path, u.RawPath = path, ""
		return next(c)
	}
}

// decorate sets the headers of response.http.headers.config and those for
// cross-origin requests.
func (s *Server) decorate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		for _, rule := range s.headers {
			rule.apply(h, time.Now())
		}
		s.allowOrigin(c.Request(), h)
		return next(c)
	}
}

// allowOrigin answers for access.control.allow.origin like Jetty's CrossOriginHandler as Connect sets it up: without credentials,
// which any page that is allowed could use in the name of a visitor.
func (s *Server) allowOrigin(r *http.Request, h http.Header) {
	origin := r.Header.Get("Origin")
	if s.o.AllowOrigin == "" || origin == "" {
		return
	}
	h.Add("Vary", "Origin")
	if !originAllowed(s.o.AllowOrigin, origin) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		methods := s.o.AllowMethods
		if strings.TrimSpace(methods) == "" {
			methods = "GET,POST,HEAD"
		}
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "60")
	}
}

// originAllowed matches an origin against a comma list; "*" stands for any run
// of characters.
func originAllowed(list, origin string) bool {
	for pattern := range strings.SplitSeq(list, ",") {
		pattern = strings.TrimSpace(pattern)
		if pattern == origin && pattern != "" {
			return true
		}
		if !strings.Contains(pattern, "*") {
			continue
		}
		expr := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
		if re, err := regexp.Compile("^(?:" + expr + ")$"); err == nil && re.MatchString(origin) {
			return true
		}
	}
	return false
}

// headerRule is one rule of response.http.headers.config, ready for use.
type headerRule struct {
	add   bool // keep what is there
	name  string
	value string
	date  bool
	after time.Duration // for a date: from the time of the answer
}

func (r headerRule) apply(h http.Header, now time.Time) {
	value := r.value
	if r.date {
		value = now.Add(r.after).UTC().Format(http.TimeFormat)
	}
	if r.add {
		h.Add(r.name, value)
		return
	}
	h.Set(r.name, value)
}

// newHeaderRules prepares rules. The value of setDate and addDate is
// milliseconds from the time of the answer, as in Jetty's HeaderFilter.
func newHeaderRules(configured []config.HeaderRule) ([]headerRule, error) {
	var rules []headerRule
	for _, c := range configured {
		rule := headerRule{name: c.Name, value: c.Value}
		switch strings.ToLower(c.Action) {
		case "set":
		case "add":
			rule.add = true
		case "setdate":
			rule.date = true
		case "adddate":
			rule.add, rule.date = true, true
		default:
			return nil, fmt.Errorf("unknown action %q", c.Action)
		}
		if rule.date {
			ms, err := strconv.ParseInt(c.Value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("the date of header %s is not a number of milliseconds", c.Name)
			}
			rule.after = time.Duration(ms) * time.Millisecond
		}
		rules = append(rules, rule)
	}
	return rules, nil
}
