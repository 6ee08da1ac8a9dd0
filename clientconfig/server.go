package clientconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/config"
)

// ServerTLS is the TLS of https listeners, and of clients that call such listeners of other workers, from ssl.* settings
// as Kafka's RestServer and RestClient take them: keystore, truststore, protocols, cipher suites, ssl.client.auth. The
// stores are read again when their files change: by the next connection, and if they are wrong then, the ones
// before stay in use. Make it with NewServerTLS.
type ServerTLS struct {
	settings config.Settings
	prefix   string
	log      *slog.Logger
	files    []string

	mu      sync.Mutex
	now     *serverState
	seen    []os.FileInfo // of files, when they were last read, well or not
	looked  time.Time
	failure string // the last error, so that it is told once
}

// serverState is what the settings come to at one time.
type serverState struct {
	server *tls.Config
	peer   *tlsSettings
	report Report
}

// lookEvery is how often the files of the stores are looked at, at most.
const lookEvery = time.Second

// NewServerTLS reads settings of which prefix has been cut off ("listeners.https.", or nothing if they are the worker's own). The
// error names everything that is wrong, with the whole keys; log gets a line when a store has changed.
func NewServerTLS(settings config.Settings, prefix string, log *slog.Logger) (*ServerTLS, error) {
	s := &ServerTLS{settings: settings, prefix: prefix, log: log}
	for _, key := range []string{"ssl.keystore.location", "ssl.truststore.location"} {
		if v, ok := settings[key]; ok && javaTrim(v.Value.Reveal()) != "" {
			s.files = append(s.files, javaTrim(v.Value.Reveal()))
		}
	}
	s.seen, s.looked = s.stat(), time.Now() // before it is read: a change meanwhile is seen later
	var err error
	if s.now, err = s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// Report tells what of the settings acts otherwise than written, or not at all.
func (s *ServerTLS) Report() Report { return s.state().report }

// AsksForCertificates tells whether callers may or must show a certificate (ssl.client.auth).
func (s *ServerTLS) AsksForCertificates() bool {
	return s.state().server.ClientAuth != tls.NoClientCert
}

// read makes the configurations of the settings and of the files as they are.
func (s *ServerTLS) read() (*serverState, error) {
	r := newReader(s.settings, Admin)
	auth := r.oneOf("ssl.client.auth", "none", "required", "requested", "none")
	stores := r.tls()
	if len(r.problems) == 0 && len(stores.base.Certificates) == 0 {
		r.fail("ssl.keystore.location", "an https listener needs a keystore with its key and certificate")
	}
	if auth != "none" && stores.roots == nil && len(r.problems) == 0 {
		// Without one, Go would let in whoever has a certificate of any public authority.
		r.fail("ssl.truststore.location", "ssl.client.auth=%s needs a truststore with the authorities of the clients' certificates", auth)
	}
	if err := s.problems(r); err != nil {
		return nil, err
	}
	if s.prefix != "" {
		for key := range s.settings {
			if !r.used[key] && knownKeys[key].kinds == 0 {
				r.report.Unknown = append(r.report.Unknown, UnknownKey{s.prefix + key, s.prefix + nearestKey(key, Admin)})
			}
		}
	}
	server := stores.base.Clone()
	server.ClientCAs = stores.roots
	server.SessionTicketsDisabled = true // a resumed session would outlive a change of the truststore
	if len(server.CipherSuites) == 0 {
		server.CipherSuites = listenerSuites()
	}
	switch auth {
	case "required":
		server.ClientAuth = tls.RequireAndVerifyClientCert
	case "requested":
		server.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return &serverState{server: server, peer: stores, report: r.report}, nil
}

// listenerSuites are those of TLS 1.2 that Jetty leaves switched on: none with CBC.
func listenerSuites() (ids []uint16) {
	for _, suite := range tls.CipherSuites() {
		if !strings.HasSuffix(suite.Name, "_SHA") && !strings.HasPrefix(suite.Name, "TLS_RSA_") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// problems returns what r has found, with whole keys.
func (s *ServerTLS) problems(r *reader) error {
	for i := range r.problems {
		r.problems[i].Key = s.prefix + r.problems[i].Key
	}
	r.kind = "https listener"
	return r.err()
}

// stat looks at the files. One that is not there has no entry.
func (s *ServerTLS) stat() []os.FileInfo {
	infos := make([]os.FileInfo, len(s.files))
	for i, path := range s.files {
		infos[i], _ = os.Stat(path)
	}
	return infos
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// state is the one of the files as they are now, or were when they were last right.
func (s *ServerTLS) state() *serverState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < lookEvery {
		return s.now
	}
	infos := s.stat()
	s.looked = time.Now()
	if s.failure == "" && slices.EqualFunc(infos, s.seen, sameFile) {
		return s.now
	}
	s.seen = infos
	next, err := s.read()
	switch {
	case err == nil:
		s.now, s.failure = next, ""
		s.log.Info("certificates read again", "listeners", s.prefix, "not_after", s.notAfter())
	case err.Error() != s.failure:
		s.failure = err.Error()
		s.log.Error("certificates not read again, the ones before stay in use", "listeners", s.prefix, "not_after", s.notAfter(), "err", err)
	}
	return s.now
}

// notAfter is when the first certificate ends. The caller holds mu.
func (s *ServerTLS) notAfter() time.Time {
	var first time.Time
	for _, c := range s.now.server.Certificates {
		if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
			first = c.Leaf.NotAfter
		}
	}
	return first
}

// NotAfter is when the first of the listener's own certificates ends.
func (s *ServerTLS) NotAfter() time.Time {
	s.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notAfter()
}

// Server is the configuration of a listener.
func (s *ServerTLS) Server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.state().server, nil },
	}
}

// PeerTLS is Handshake for a worker that has no https listener itself: of what the settings say, keystore or not.
func PeerTLS(settings config.Settings, prefix string) (func(ctx context.Context, conn net.Conn, host string) (net.Conn, error), error) {
	r := newReader(settings, Admin)
	stores := r.tls()
	if err := (&ServerTLS{prefix: prefix}).problems(r); err != nil {
		return nil, err
	}
	return func(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
		return handshake(ctx, conn, stores.config(host))
	}, nil
}

// Handshake makes TLS of a connection to another worker's listener at host, with the same stores: the listener's
// certificate has to be trusted, and its own is shown if it is asked for.
func (s *ServerTLS) Handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	return handshake(ctx, conn, s.state().peer.config(host))
}

func handshake(ctx context.Context, conn net.Conn, c *tls.Config) (net.Conn, error) {
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, handshakeError(err)
	}
	return secure, nil
}

// handshakeError says which setting a failed handshake is about.
func handshakeError(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("TLS handshake: %w (ssl.truststore.* has to hold the authority of the other worker's certificate)", err)
	case errors.As(err, &host):
		return fmt.Errorf("TLS handshake: %w (see rest.advertised.host.name, and ssl.endpoint.identification.algorithm)", err)
	}
	return fmt.Errorf("TLS handshake: %w", err)
}
