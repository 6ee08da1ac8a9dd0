package rest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A request that a worker sends to another on behalf of somebody says so in headers that begin with
// X-Barnabas-, and signs them with the session key that internal requests are signed with (KIP-507). Connect forwards
// unsigned, and has the user log in at each worker; its signatures cover a body alone, and so could not vouch for
// who sends it, nor for what is to be done with it.
const (
	hopPrefix = "X-Barnabas-"
	// headerForwarded names the worker that has forwarded a request: the next one must not forward it again. That much is
	// believed of anybody.
	headerForwarded = hopPrefix + "Forwarded-By"
	// headerClient is the address from where the request came to that worker, headerUser who has logged in there, percent-encoded.
	headerClient = hopPrefix + "Client"
	headerUser   = hopPrefix + "User"
	// headerOnce names the request for whoever performs it: the same at each attempt, and at no other request.
	headerOnce = hopPrefix + "Request"
	// headerDigest is the SHA-256 of the body, so that a signature can be checked before a body is read.
	headerDigest = hopPrefix + "Body-Sha256"
	// headerHop is the signature: Java's name of the algorithm, a colon and the MAC in base64.
	headerHop = hopPrefix + "Signature"
)

// hop is what another worker of the cluster vouches for: that it sends a request on behalf of somebody.
type hop struct {
	worker  string // the id of the one that sends
	user    string // who has logged in there; empty: nobody had to
	address string // of who has sent the request to it
	once    string // what names the request
	digest  string
}

// verifiedHop returns who vouches for a request, as its signature proves. It is nil for a request that comes from anywhere else: then all
// that it claims in headers of ours is taken out of it, so that whoever finds such a header later may believe it. A signature that is wrong
// is an error; the sender may try again, since one of the two may not have read yet that the key has changed.
func (s *Server) verifiedHop(r *http.Request) (*hop, error) {
	sent := r.Header.Get(headerHop)
	if sent == "" || r.Header.Get(headerForwarded) == "" {
		dropClaims(r.Header)
		return nil, nil
	}
	err := s.checkHop(r, sent)
	var user string
	if err == nil {
		if user, err = url.PathUnescape(r.Header.Get(headerUser)); err != nil {
			err = fail(http.StatusBadRequest, "%s is not percent-encoded.", headerUser)
		}
	}
	if err != nil {
		dropClaims(r.Header)
		return nil, err
	}
	return &hop{
		worker: r.Header.Get(headerForwarded), user: user, address: r.Header.Get(headerClient), once: r.Header.Get(headerOnce),
		digest: r.Header.Get(headerDigest),
	}, nil
}

func dropClaims(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(name, hopPrefix) })
}

func (s *Server) checkHop(r *http.Request, sent string) error {
	algorithm, encoded, _ := strings.Cut(sent, ":")
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fail(http.StatusBadRequest, "%s", base64Error(encoded, err))
	}
	key, err := s.keyFor(algorithm)
	if err != nil {
		return err
	}
	if !hmac.Equal(hopMAC(r.Method, r.RequestURI, r.Header, key, algorithm), signature) {
		return invalidSignature()
	}
	return nil
}

func invalidSignature() *failure {
	f := fail(http.StatusForbidden, "Internal request contained invalid signature.")
	f.retryAfter = true
	return f
}

// carries checks the body of a request that h vouches for.
func (h *hop) carries(body []byte) error {
	if h != nil && h.digest != digest(body) {
		return invalidSignature()
	}
	return nil
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// hopMAC covers verb, target and all headers of ours, one of which is the digest of the body. No line
// can hold an end of line, and no body that Connect signs begins like the first one.
func hopMAC(method, target string, h http.Header, key []byte, algorithm string) []byte {
	m := hmac.New(macs[algorithm], key)
	fmt.Fprintf(m, "barnabas hop\n%s %s\n", method, target)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !strings.HasPrefix(name, hopPrefix) || name == headerHop {
			continue
		}
		for _, value := range h[name] {
			fmt.Fprintf(m, "%s: %s\n", name, strings.TrimSpace(value))
		}
	}
	return m.Sum(nil)
}

// peerHeader is what every request to another worker carries on behalf of r.
func (s *Server) peerHeader(r *request) http.Header {
	h := http.Header{headerRequestID: {r.id}, headerForwarded: {s.id()}, headerClient: {r.address()}}
	if r.user != "" {
		h.Set(headerUser, url.PathEscape(r.user))
	}
	if a := r.Header.Get("Authorization"); a != "" {
		h.Set("Authorization", a)
	}
	r.claim(h)
	return h
}

// address is that of who has sent the request to the cluster.
func (r *request) address() string {
	if r.from != nil && r.from.address != "" {
		return r.from.address
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// hopSigner signs the requests to other workers.
type hopSigner struct {
	next http.RoundTripper
	key  func() (key []byte, algorithm string, ok bool)
}

// errNoKey is why a request to another worker is not sent.
var errNoKey = errors.New("this worker has not been able to read a session key from the config topic yet")

// keyPatience bounds the wait for the first session key of a cluster, which its leader writes at once.
const keyPatience = 2 * time.Second

// RoundTrip sends a request as it is, and signed.
func (s *hopSigner) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.GetBody != nil {
		reader, err := r.GetBody()
		if err != nil {
			return nil, fmt.Errorf("sign a request: %w", err)
		}
		if body, err = io.ReadAll(reader); err != nil {
			return nil, fmt.Errorf("sign a request: %w", err)
		}
	}
	key, algorithm, ready := s.key()
	for deadline := time.Now().Add(keyPatience); !ready; key, algorithm, ready = s.key() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
			return nil, errNoKey
		}
		if time.Now().After(deadline) {
			return nil, errNoKey
		}
	}
	if macs[algorithm] == nil {
		return nil, fmt.Errorf("sign a request: unknown algorithm %q", algorithm)
	}
	signed := r.Clone(r.Context()) // a RoundTripper leaves its request alone
	signed.Header.Set(headerDigest, digest(body))
	mac := hopMAC(r.Method, r.URL.RequestURI(), signed.Header, key, algorithm)
	signed.Header.Set(headerHop, algorithm+":"+base64.StdEncoding.EncodeToString(mac))
	return s.next.RoundTrip(signed)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (s *hopSigner) CloseIdleConnections() {
	if c, ok := s.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
