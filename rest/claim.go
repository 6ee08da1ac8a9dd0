package rest

import (
	"net/http"
	"net/url"
	"strings"

	"barnabas/access"
)

// What a worker says of the caller of a request that it forwards, besides the name (see hop.go). Like all headers of ours they are
// signed, and taken out of what nobody vouches for.
const (
	// headerGroups are the caller's groups, each percent-encoded, with commas between.
	headerGroups = hopPrefix + "Groups"
	// headerHow says how the caller has logged in.
	headerHow = hopPrefix + "How"
	// headerAudited says that the attempt is in the audit trail, and that what becomes of it will be: by who forwards it.
	headerAudited = hopPrefix + "Audited"
)

// claim puts what is known of the caller of a request into the headers of one to another worker.
func (r *request) claim(h http.Header) {
	if len(r.groups) > 0 {
		escaped := make([]string, len(r.groups))
		for i, group := range r.groups {
			escaped[i] = url.QueryEscape(group)
		}
		h.Set(headerGroups, strings.Join(escaped, ","))
	}
	if r.how != "" {
		h.Set(headerHow, url.QueryEscape(r.how))
	}
	if r.audited {
		h.Set(headerAudited, "true")
	}
}

// caller returns for whom a worker sends a request.
func (h *hop) caller(header http.Header) (who access.Caller, err error) {
	who.User = h.user
	if who.How, err = url.QueryUnescape(header.Get(headerHow)); err != nil {
		return who, fail(http.StatusBadRequest, "%s is not percent-encoded.", headerHow)
	}
	if text := header.Get(headerGroups); text != "" {
		for escaped := range strings.SplitSeq(text, ",") {
			group, err := url.QueryUnescape(escaped)
			if err != nil {
				return who, fail(http.StatusBadRequest, "%s is not percent-encoded.", headerGroups)
			}
			who.Groups = append(who.Groups, group)
		}
	}
	return who, nil
}

// auditedBefore tells whether the worker that vouches for a request audits it.
func (r *request) auditedBefore() bool { return r.from != nil && r.Header.Get(headerAudited) != "" }
