package rest

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"barnabas/access"
	"barnabas/rest/auth"
)

// userKey is where the context of a request holds who has logged in, for the log.
const userKey = "user"

// How to log in, in WWW-Authenticate. Connect's answer lacks it, against RFC 9110.
const (
	challenge       = `Basic realm="Kafka Connect", charset="UTF-8"`
	tokenChallenge  = `Bearer realm="Kafka Connect"`
	wrongTokenError = `, error="invalid_token"`
)

// caller says for whom a request is performed: who has logged in at the worker that vouches for it, or here.
func (s *Server) caller(c echo.Context, from *hop) (who access.Caller, err error) {
	if from != nil && from.user != "" {
		who, err = from.caller(c.Request().Header)
	} else {
		who, err = s.login(c)
	}
	if err == nil && who.User != "" {
		c.Set(userKey, who.User)
	}
	return who, err
}

// login says who sends a request; an error is the answer to who cannot. Like Connect's filter it comes after routing, so that
// paths and verbs that there are not are told to everybody.
func (s *Server) login(c echo.Context) (access.Caller, error) {
	if s.o.Passwords == nil && s.o.Tokens == nil && s.o.Certificates == nil {
		return access.Caller{How: "none"}, nil
	}
	who, err := s.prove(c.Request())
	switch {
	case err == nil:
		return who, nil
	case errors.Is(err, auth.ErrBusy):
		f := fail(http.StatusTooManyRequests, "Too many failed logins from this address. Wait a few seconds.")
		f.retryAfter = true
		return access.Caller{}, f
	case errors.Is(err, auth.ErrUnavailable):
		s.log.Error("nobody can log in with a token", "err", err)
		f := fail(http.StatusServiceUnavailable, "The identity provider cannot be reached, so that nobody knows whether this token is good.")
		f.retryAfter = true
		return access.Caller{}, f
	}
	s.log.Debug("login refused", "remote", c.Request().RemoteAddr, "err", err)
	h := c.Response().Header()
	if s.o.Passwords != nil {
		h.Add("WWW-Authenticate", challenge)
	}
	if s.o.Tokens != nil {
		text := tokenChallenge
		if errors.Is(err, auth.ErrWrong) {
			text += wrongTokenError
		}
		h.Add("WWW-Authenticate", text)
	}
	return access.Caller{}, fail(http.StatusUnauthorized, "User cannot access the resource.")
}

// prove says who sends a request, by the way of which it makes use. Who sends a login is not let in by a certificate if it is
// wrong: it would be somebody else.
func (s *Server) prove(r *http.Request) (access.Caller, error) {
	header := r.Header.Get("Authorization")
	switch {
	case s.o.Tokens != nil && auth.IsBearer(header):
		user, groups, err := s.o.Tokens.Login(r.Context(), header, r.RemoteAddr)
		return access.Caller{User: user, Groups: groups, How: "oidc"}, err
	case header == "" && s.o.Certificates != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		user, err := s.o.Certificates.User(r.TLS.PeerCertificates[0])
		return access.Caller{User: user, How: "mtls"}, err
	case s.o.Passwords != nil:
		user, err := s.o.Passwords.Login(r.Context(), header, r.RemoteAddr)
		return access.Caller{User: user, How: "basic"}, err
	}
	return access.Caller{}, auth.ErrMissing
}
