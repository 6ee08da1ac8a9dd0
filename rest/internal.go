package rest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HmacSHA1 is one of the algorithms Kafka allows; HMAC does not need collision resistance
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/worker"
)

// Requests between workers are signed like Kafka Connect's (KIP-507, its class
// InternalRequestSignature): a MAC of the body under the session key, which the
// leader distributes through the config topic.
const (
	headerSignature = "X-Connect-Authorization"
	headerAlgorithm = "X-Connect-Request-Signature-Algorithm"
)

// macs are the algorithms, by Java's names.
var macs = map[string]func() hash.Hash{
	"HmacSHA1": sha1.New, "HmacSHA256": sha256.New, "HmacSHA384": sha512.New384, "HmacSHA512": sha512.New,
}

// Sign puts the signature of body on a request to another worker.
func Sign(r *http.Request, body, key []byte, algorithm string) error {
	mac, known := macs[algorithm]
	if !known {
		return fmt.Errorf("sign a request: unknown algorithm %q", algorithm)
	}
	m := hmac.New(mac, key)
	m.Write(body)
	r.Header.Set(headerSignature, base64.StdEncoding.EncodeToString(m.Sum(nil)))
	r.Header.Set(headerAlgorithm, algorithm)
	return nil
}

// checkSignature refuses a request that no member of the cluster has signed, with
// Connect's codes and words: 400 for a missing or unusable signature, 503
// before there is a key, 403 for a wrong signature.
func (s *Server) checkSignature(r *request) error {
	algorithm, encoded := r.Header.Get(headerAlgorithm), r.Header.Get(headerSignature)
	if algorithm == "" || encoded == "" {
		return fail(http.StatusBadRequest, "Internal request missing required signature")
	}
	mac, known := macs[algorithm]
	if !known {
		return fail(http.StatusBadRequest, "Algorithm %s not available", algorithm)
	}
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fail(http.StatusBadRequest, "%s", base64Error(encoded, err))
	}
	key, err := s.keyFor(algorithm)
	if err != nil {
		return err
	}
	m := hmac.New(mac, key)
	m.Write(r.body)
	if !hmac.Equal(m.Sum(nil), signature) {
		return invalidSignature()
	}
	return nil
}

// keyFor returns the key that a signature was made with, if this worker accepts its algorithm and has the key.
func (s *Server) keyFor(algorithm string) ([]byte, error) {
	var key []byte
	var own string
	ready := false
	if s.sessionKey != nil {
		key, own, ready = s.sessionKey()
	}
	accepted := s.o.Signatures
	if accepted == nil && ready {
		accepted = []string{own}
	}
	if macs[algorithm] == nil || accepted != nil && !slices.Contains(accepted, algorithm) {
		return nil, fail(http.StatusBadRequest, "This worker does not support the '%s' key signing algorithm used by other workers. "+
			"This worker is currently configured to use: [%s]. Check that all workers' configuration files permit the same set of "+
			"signature algorithms, and correct any misconfigured worker and restart it.", algorithm, strings.Join(accepted, ", "))
	}
	if !ready {
		f := fail(http.StatusServiceUnavailable,
			"This worker is still starting up and has not been able to read a session key from the config topic yet")
		f.retryAfter = true
		return nil, f
	}
	return key, nil
}

// base64Error words a decoding error like Java, which names the byte in hex.
func base64Error(encoded string, err error) string {
	var at base64.CorruptInputError
	if errors.As(err, &at) && int(at) < len(encoded) {
		return fmt.Sprintf("Illegal base64 character %x", encoded[at])
	}
	return "Input byte array has wrong 4-byte ending unit"
}

// publishTasks takes the task configurations that the owner of a connector has
// planned. The query's generation, which Connect does not have, is that of the
// run that planned them.
func (s *Server) publishTasks(ctx context.Context, r *request) (answer, error) {
	tasks, err := readTaskConfigs(r.body)
	if err != nil {
		return answer{}, err
	}
	if err := s.checkSignature(r); err != nil {
		return answer{}, err
	}
	var generation int64
	if g := r.query.Get("generation"); g != "" {
		if generation, err = strconv.ParseInt(g, 10, 64); err != nil {
			return answer{}, fail(http.StatusBadRequest, "The generation is not a number.")
		}
	}
	if err := s.w.PublishTasks(ctx, r.param("connector"), generation, tasks); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

// fence performs a round of fencing (KIP-618), which the worker of a task that starts asks the leader for in Connect.
func (s *Server) fence(ctx context.Context, r *request) (answer, error) {
	if err := s.checkSignature(r); err != nil {
		return answer{}, err
	}
	if err := s.w.Fence(ctx, r.param("connector")); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

// Publisher returns the function that worker.Options.Publish wants: it brings
// task configurations to the worker at a URL, signed with the key that sessionKey returns (a worker's
// SessionKey). If that worker cannot take them, the error is a *worker.Error with
// ErrUnavailable, or names who can: the caller looks up the leader and tries again.
func Publisher(peerTLS Handshake, sessionKey func() (key []byte, algorithm string, ok bool),
) func(ctx context.Context, leader, connector string, generation int64, tasks []map[string]string) error {
	client := newHTTPClient(nil, peerTLS)
	return func(ctx context.Context, leader, connector string, generation int64, tasks []map[string]string) error {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		body, err := json.Marshal(orEmpty(tasks))
		if err != nil {
			return fmt.Errorf("publish tasks of %s: %w", connector, err)
		}
		key, algorithm, ready := sessionKey()
		if !ready {
			return &worker.Error{Reason: worker.ErrUnavailable, Message: "This worker has no session key yet."}
		}
		address := strings.TrimRight(leader, "/") + connectorPath(connector) + "/tasks?" +
			url.Values{"generation": {strconv.FormatInt(generation, 10)}}.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("publish tasks of %s: %w", connector, err)
		}
		req.Header.Set("Content-Type", jsonType)
		req.Header.Set(headerForwarded, "publisher") // not to be forwarded: the caller knows better
		if err := Sign(req, body, key, algorithm); err != nil {
			return err
		}
		a, err := exchange(client, req)
		if err != nil {
			return &worker.Error{Reason: worker.ErrUnavailable, Message: "publish tasks of " + connector + ": " + err.Error()}
		}
		return publishOutcome(connector, a)
	}
}

const publishTimeout = 20 * time.Second

func publishOutcome(connector string, a answer) error {
	if a.status < 300 {
		return nil
	}
	if a.status == http.StatusMisdirectedRequest && a.elsewhere != "" {
		return &worker.ElsewhereError{URL: a.elsewhere}
	}
	reason := worker.ErrInternal
	switch a.status {
	case http.StatusNotFound:
		reason = worker.ErrNotFound
	case http.StatusConflict:
		reason = worker.ErrConflict
	case http.StatusBadRequest:
		reason = worker.ErrInvalid
	case http.StatusForbidden:
		reason = worker.ErrForbidden
	case http.StatusServiceUnavailable, http.StatusMisdirectedRequest:
		reason = worker.ErrUnavailable
	}
	return &worker.Error{Reason: reason, Message: "publish tasks of " + connector + ": " + messageOf(a)}
}
