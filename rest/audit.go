package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/access"
	"barnabas/audit"
	"barnabas/config"
	kafka "barnabas/connection"
	"barnabas/k2k"
)

// audited has a request performed if its caller may, and writes changes and denials to the audit trail: that a change is attempted
// before anything is done, and afterwards what became of it.
func (s *Server) audited(ctx context.Context, rt route, r *request) (answer, error) {
	if s.o.Roles == nil && s.o.Trail == nil {
		return s.perform(ctx, rt, r)
	}
	d := s.judge(r, s.demands(ctx, rt, r))
	e := s.entry(ctx, rt, r, d)
	if !d.Allowed {
		e.Outcome, e.Status = audit.Denied, http.StatusForbidden
		s.note(ctx, e)
		return answer{}, s.denied(r, d)
	}
	if s.o.Trail == nil || rt.method == http.MethodGet || rt.signed || r.auditedBefore() {
		r.audited = r.auditedBefore()
		return s.perform(ctx, rt, r)
	}
	e.Outcome = audit.Attempted
	err := s.o.Trail.Write(ctx, e)
	if r.audited = err == nil; !r.audited {
		s.log.Error("audit trail", "request", r.id, "err", err)
		if s.o.AuditRequired {
			f := fail(http.StatusServiceUnavailable, "Nothing was changed, because it cannot be audited: %s", err)
			f.retryAfter = true
			return answer{}, f
		}
	}
	a, err := s.perform(ctx, rt, r)
	status := a.status
	if err != nil {
		f := failureOf(err)
		status, e.Reason = f.status, f.message
	} else if status >= http.StatusBadRequest {
		e.Reason = messageOf(a)
	}
	e.At, e.Status = time.Now(), status
	switch {
	case status >= http.StatusInternalServerError:
		e.Outcome = audit.Failed
	case status >= http.StatusBadRequest:
		e.Outcome = audit.Refused
	default:
		e.Outcome = audit.Done
	}
	s.note(ctx, e)
	return a, err
}

// note writes an entry of what cannot be prevented any more, also when the caller has gone.
func (s *Server) note(ctx context.Context, e audit.Entry) {
	if s.o.Trail == nil {
		return
	}
	if err := s.o.Trail.Write(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("audit trail: an entry is missing", "request", e.Request, "action", e.Action, "resource", e.Resource, "outcome", e.Outcome, "err", err)
	}
}

// entry says who asks for what.
func (s *Server) entry(ctx context.Context, rt route, r *request, d access.Decision) audit.Entry {
	e := audit.Entry{User: r.user, How: r.how, Address: r.address(), Request: r.id, Action: d.Action, Resource: d.Resource, Rule: d.Rule, At: time.Now()}
	if r.from != nil {
		e.Via = r.from.worker
	}
	if s.o.Trail != nil && rt.method != http.MethodGet {
		e.Changed, e.References = s.changes(ctx, rt, r)
	}
	return e
}

// changes returns what a request is to change: the keys of a connector's configuration, the fields of a connection or an app (such as
// quota.read_bytes_per_second), else the fields that it sends, and how the references to secrets in them change. Never a value.
func (s *Server) changes(ctx context.Context, rt route, r *request) (keys []string, references []audit.ReferenceChange) {
	is := fields(r.body, 0)
	if is == nil {
		return nil, nil
	}
	was, nested := map[string]string{}, func(v any) map[string]string {
		text, _ := json.Marshal(v)
		return fields(text, 1)
	}
	switch {
	case rt.method == http.MethodPut && rt.path == connectionRoute:
		name, err := connectionName(r)
		if err != nil {
			break
		}
		if spec, err := kafka.Decode(name, r.body); err == nil {
			is = nested(spec)
		}
		if c, err := s.w.Connection(ctx, name); err == nil {
			was = nested(c.Spec)
		}
	case rt.method == http.MethodPut && rt.path == appRoute:
		if spec, err := k2k.Decode(r.param("app"), r.body); err == nil {
			is = nested(spec)
		}
		if a, err := s.w.App(ctx, r.param("app")); err == nil {
			was = nested(a.Spec)
		}
	case rt.path == roleRoute:
		if role, err := access.DecodeRole(r.param("role"), r.body); err == nil {
			is = nested(role)
		}
		if stored, there := s.w.StoredRoles()[r.param("role")]; there {
			was = nested(stored.Role)
		}
	default:
		if inner, ok := is["config"]; ok && strings.HasPrefix(inner, "{") { // POST /connectors
			is = fields([]byte(inner), 0)
		}
		if name := r.param("connector"); name != "" && s.w != nil {
			if info, err := s.w.Connector(ctx, name); err == nil {
				was = nested(info.Config)
			}
		}
	}
	for key, value := range is {
		if old, there := was[key]; !there || old != value {
			keys = append(keys, key)
		}
	}
	if r.Method == http.MethodPut {
		for key := range was {
			if _, stays := is[key]; !stays && key != "name" {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		from, to := config.ReferencePattern.FindAllString(text(was[key]), -1), config.ReferencePattern.FindAllString(text(is[key]), -1)
		if !slices.Equal(from, to) {
			references = append(references, audit.ReferenceChange{Key: key, From: from, To: to})
		}
	}
	return keys, references
}

// text is what a JSON string says; of anything else it is the JSON.
func text(value string) string {
	var said string
	if json.Unmarshal([]byte(value), &said) != nil {
		return value
	}
	return said
}

// fields returns the fields of a JSON object as JSON, down to a depth; nil if it is none. A field of a field is OUTER.INNER.
func fields(text []byte, depth int) map[string]string {
	var outer map[string]json.RawMessage
	if json.Unmarshal(text, &outer) != nil {
		return nil
	}
	all := map[string]string{}
	for key, value := range outer {
		var inner map[string]string
		if depth > 0 {
			inner = fields(value, depth-1)
		}
		if inner == nil {
			all[key] = canonical(value)
			continue
		}
		for k, v := range inner {
			all[key+"."+k] = v
		}
	}
	return all
}

// canonical writes a JSON value in one way only, so that it can be compared.
func canonical(value json.RawMessage) string {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return string(value)
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// AuditPage is the answer to GET /v1/audit.
type AuditPage struct {
	Entries []audit.Found `json:"entries"` // the newest first
	// Next is what "before" has to be for the entries before these; 0 if there are none.
	Next int64 `json:"next"`
}

// errNoTrail is the answer where nothing is audited.
var errNoTrail = fail(http.StatusNotFound, "There is no audit trail: set audit.topic in the worker's file.")

// maxAuditPage bounds how many entries one answer holds.
const maxAuditPage = 1000

func (s *Server) getAudit(ctx context.Context, r *request) (answer, error) {
	if s.o.Trail == nil {
		return answer{}, errNoTrail
	}
	q := audit.Query{User: r.query.Get("user"), Action: r.query.Get("action"), Resource: r.query.Get("resource"), Outcome: audit.Outcome(r.query.Get("outcome"))}
	switch q.Kind = audit.Kind(r.query.Get("kind")); q.Kind {
	case "", audit.People, audit.Machine:
	default:
		return answer{}, fail(http.StatusBadRequest, "kind is people or machine, not %q.", q.Kind)
	}
	var err error
	if text := r.query.Get("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return answer{}, fail(http.StatusBadRequest, "since is a time such as 2026-01-31T12:00:00Z, not %q.", text)
		}
	}
	for name, offset := range map[string]*int64{"before": &q.Before, "after": &q.After} {
		if text := r.query.Get(name); text != "" {
			if *offset, err = strconv.ParseInt(text, 10, 64); err != nil || *offset < 0 {
				return answer{}, fail(http.StatusBadRequest, "%s is an offset, not %q.", name, text)
			}
		}
	}
	if text := r.query.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxAuditPage {
			return answer{}, fail(http.StatusBadRequest, "limit is a number from 1 to %d, not %q.", maxAuditPage, text)
		}
	}
	found, next, err := s.o.Trail.Read(ctx, q)
	if err != nil {
		return answer{}, fail(http.StatusServiceUnavailable, "%s", err)
	}
	return ok(AuditPage{orEmpty(found), next})
}

func (s *Server) verifyAudit(ctx context.Context, r *request) (answer, error) {
	if s.o.Trail == nil {
		return answer{}, errNoTrail
	}
	var expect *audit.Place
	if text := r.query.Get("expect"); text != "" {
		p, err := audit.ParsePlace(text)
		if err != nil {
			return answer{}, fail(http.StatusBadRequest, "expect: %s.", err)
		}
		expect = &p
	}
	report, err := s.o.Trail.Verify(ctx, expect)
	if errors.Is(err, context.DeadlineExceeded) {
		return answer{}, fail(http.StatusServiceUnavailable, "The trail is too long to be verified within one request: use barnabas audit verify with the worker's file.")
	}
	if err != nil {
		return answer{}, fail(http.StatusServiceUnavailable, "%s", err)
	}
	return ok(report)
}

// Audit returns entries of the audit trail, the newest first.
func (c *Client) Audit(ctx context.Context, q audit.Query) (page AuditPage, err error) {
	values := url.Values{}
	for key, value := range map[string]string{"user": q.User, "action": q.Action, "resource": q.Resource, "outcome": string(q.Outcome), "kind": string(q.Kind)} {
		if value != "" {
			values[key] = []string{value}
		}
	}
	if !q.Since.IsZero() {
		values["since"] = []string{q.Since.UTC().Format(time.RFC3339)}
	}
	for name, offset := range map[string]int64{"before": q.Before, "after": q.After} {
		if offset > 0 {
			values[name] = []string{strconv.FormatInt(offset, 10)}
		}
	}
	values["limit"] = []string{strconv.Itoa(cmp.Or(q.Limit, 100))}
	return page, c.call(ctx, "GET", "/v1/audit?"+values.Encode(), nil, &page)
}

// VerifyAudit has the worker that is asked walk over the audit trail. expect, unless nil, is a record that has to be there.
func (c *Client) VerifyAudit(ctx context.Context, expect *audit.Place) (report audit.Report, err error) {
	path := "/v1/audit/verify"
	if expect != nil {
		path += "?" + url.Values{"expect": {expect.String()}}.Encode()
	}
	return report, c.call(ctx, "GET", path, nil, &report)
}
