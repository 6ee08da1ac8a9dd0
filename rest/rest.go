// Package rest serves Kafka Connect's REST API, and ours below /v1, from a
// worker; client.go is its Go client. It decides nothing: it turns requests into
// questions and orders to a *worker.Worker, and what this worker cannot do is
// forwarded, once, to the one that can.
//
// Bodies, status codes and messages are those of Kafka Connect 4.3.1, also where
// they surprise (500 for broken JSON); testdata holds its recorded answers.
// Where we differ on purpose, the comment at that place says so.
//
// Easy to get wrong: a request that may have been performed is repeated after a
// change of leaders. Changes of connectors are made once all the same (see worker.WithRequest); every
// other kind of write has to say in its route what a repetition answers (see settle in forward.go).
package rest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"barnabas/access"
	"barnabas/audit"
	"barnabas/config"
	"barnabas/rest/auth"
	"barnabas/worker"
)

// Options is what a Server needs. Worker is required, everything else may be
// left out.
type Options struct {
	Worker *worker.Worker
	// Listeners are served and closed by Run. For HTTPS hand in a TLS listener.
	Listeners []net.Listener
	// AdminListeners are Kafka's admin.listeners. If nil, /admin is served on
	// Listeners; if not, only on these, and nowhere when it is empty.
	AdminListeners []net.Listener
	// Log gets a line per request; nil discards them.
	Log *slog.Logger
	// Metrics is where the request counts are registered, Gatherer what
	// /metrics shows; nil leaves them out.
	Metrics  prometheus.Registerer
	Gatherer prometheus.Gatherer
	// Loggers reads and sets log levels for /admin/loggers; nil leaves those out.
	Loggers *Loggers
	// AllowOrigin and AllowMethods are access.control.allow.origin and .methods:
	// comma lists, empty for no cross-origin access.
	AllowOrigin, AllowMethods string
	// ResponseHeaders is response.http.headers.config.
	ResponseHeaders []config.HeaderRule
	// Signatures are inter.worker.verification.algorithms: what internal requests
	// may be signed with; nil: only the session key's own algorithm.
	Signatures []string
	// Passwords says who calls with a user and a password; nil leaves that way out. Requests that other workers sign need no user, as in Kafka Connect.
	Passwords *auth.Passwords
	// Tokens says who calls with a bearer token, Certificates who with a certificate that a TLS listener has verified and no other
	// login; nil leaves that way out. Everybody is let in only if Passwords is nil, too.
	Tokens       *auth.Tokens
	Certificates *auth.Certificates
	// MaxRequestBytes bounds the body of a request; 0 means 8 MiB.
	MaxRequestBytes int
	// MaxConnections bounds how many connections the listeners have open together, MaxConnectionsOfAddress how many
	// of one address; 0 means 1000 and 500. Those of AdminListeners are counted apart.
	MaxConnections, MaxConnectionsOfAddress int
	// Roles returns the roles of files, which say, together with those put over REST, who may do what; nil lets everybody who has logged in do everything. Group
	// is the group.id, by which roles name the cluster of workers.
	Roles func() access.Roles
	// RolesBroken tells why changed roles are not in force, for who may see roles; nil leaves that out.
	RolesBroken func() error
	Group       string
	// Trail takes what is changed, and what is denied; nil leaves that out. If AuditRequired, nothing is changed that cannot
	// be written to it.
	Trail         *audit.Trail
	AuditRequired bool
	// PeerTLS is how other workers are reached if their URLs are https; nil: with what the system trusts.
	PeerTLS Handshake
	// ForwardTimeout bounds how long a request waits for another worker to take
	// it, changes of leaders included; 0 means 30 s, which is below the patience of the usual clients.
	ForwardTimeout time.Duration
	// ShutdownTimeout bounds how long Run waits for requests under way when it
	// ends; 0 means 10 s.
	ShutdownTimeout time.Duration
}

// Handshake makes TLS of a connection to a host, or closes it.
type Handshake func(ctx context.Context, conn net.Conn, host string) (net.Conn, error)

// Loggers gives access to the log levels of this process. Levels are Log4j's
// names, in capitals.
type Loggers struct {
	// Levels returns every logger whose level is set, "root" among them.
	Levels func() map[string]LoggerLevel
	// SetLevel sets the level of a logger and of those below it, and returns the
	// names of those that changed, sorted.
	SetLevel func(name, level string) []string
}

// LoggerLevel is Connect's description of a logger.
type LoggerLevel struct {
	Level        string `json:"level"`
	LastModified *int64 `json:"last_modified"` // ms since 1970; nil if never changed
}

// Server answers requests. Make it with New.
type Server struct {
	o        Options
	w        *worker.Worker
	log      *slog.Logger
	peers    *http.Client // signs what it sends
	metrics  *metrics
	bodies   bodyGate
	headers  []headerRule
	stopping chan struct{} // closed when Run ends: requests that wait give up
	// sessionKey is the worker's, for requests between workers; nil in tests without a worker.
	sessionKey func() (key []byte, algorithm string, ok bool)

	main, admin *echo.Echo
	merged      atomic.Pointer[mergedRoles]
}

const (
	defaultForwardTimeout  = 30 * time.Second
	defaultShutdownTimeout = 10 * time.Second
	handshakeTimeout       = 5 * time.Second
)

// New checks the options. It opens nothing.
func New(o Options) (*Server, error) {
	if o.Worker == nil {
		return nil, errors.New("rest: no worker")
	}
	return newServer(o, connectRoutes)
}

// newServer makes a server of the routes that a function of it returns.
func newServer(o Options, routes func(*Server) []route) (*Server, error) {
	headers, err := newHeaderRules(o.ResponseHeaders)
	if err != nil {
		return nil, fmt.Errorf("response.http.headers.config: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ForwardTimeout == 0 {
		o.ForwardTimeout = defaultForwardTimeout
	}
	o.MaxRequestBytes = cmp.Or(o.MaxRequestBytes, defaultRequestBytes)
	o.MaxConnections = cmp.Or(o.MaxConnections, defaultConnections)
	o.MaxConnectionsOfAddress = cmp.Or(o.MaxConnectionsOfAddress, defaultConnectionsOfAddress)
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = defaultShutdownTimeout
	}
	s := &Server{
		o: o, w: o.Worker, log: o.Log, headers: headers, stopping: make(chan struct{}),
		peers: newHTTPClient(nil, o.PeerTLS), metrics: newMetrics(o.Metrics),
	}
	if o.Worker != nil {
		s.useKey(o.Worker.SessionKey)
	}
	s.bodies.most = bodiesAtOnce * int64(o.MaxRequestBytes)
	var main, admin []route
	for _, rt := range routes(s) {
		if rt.admin && o.AdminListeners != nil {
			admin = append(admin, rt)
			if rt.method == http.MethodGet {
				continue
			}
			// A worker whose user sets a level on all of them brings it to the leader, whose listeners it knows.
			rt.hopOnly, rt.plain = true, true
		}
		main = append(main, rt)
	}
	s.main, s.admin = s.newEcho(main), s.newEcho(admin)
	return s, nil
}

// useKey signs requests to other workers with a session key, and checks theirs.
func (s *Server) useKey(key func() ([]byte, string, bool)) {
	s.sessionKey = key
	s.peers.Transport = &hopSigner{next: s.peers.Transport, key: key}
}

// newHTTPClient returns a client without a time limit of its own: every request
// carries a deadline.
func newHTTPClient(config *tls.Config, secure Handshake) *http.Client {
	dial := (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	t := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: handshakeTimeout,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}
	if secure != nil {
		t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			host, _, _ := net.SplitHostPort(address) // it has been dialled
			ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
			defer cancel()
			if conn, err = secure(ctx, conn, host); err != nil {
				// Nothing was sent: see exchange.
				return nil, &net.OpError{Op: "dial", Net: network, Err: err}
			}
			return conn, nil
		}
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Handler returns the server as an http.Handler, for the main listeners.
func (s *Server) Handler() http.Handler { return s.main }

// Run serves the listeners until ctx ends; then it takes no more requests, lets
// those under way finish within ShutdownTimeout, and returns nil. It is called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	bounds := []*connections{s.newConnections(), s.newConnections()}
	servers := []*http.Server{httpServer(s.main, bounds[0], s.log), httpServer(s.admin, bounds[1], s.log)}
	for i, listeners := range [][]net.Listener{s.o.Listeners, s.o.AdminListeners} {
		for _, l := range listeners {
			g.Go(func() error {
				s.log.Info("serving", "address", l.Addr().String())
				if err := servers[i].Serve(bounds[i].bound(l)); !errors.Is(err, http.ErrServerClosed) {
					return fmt.Errorf("serve %s: %w", l.Addr(), err)
				}
				return nil
			})
		}
	}
	g.Go(func() error {
		<-ctx.Done()
		close(s.stopping)
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.ShutdownTimeout)
		defer cancel()
		for _, server := range servers {
			if err := server.Shutdown(bound); err != nil {
				s.log.Warn("requests cut off at shutdown", "err", err)
				server.Close()
			}
		}
		s.peers.CloseIdleConnections()
		return nil
	})
	return g.Wait()
}

func (s *Server) newConnections() *connections {
	return newConnections(s.o.MaxConnections, s.o.MaxConnectionsOfAddress, s.metrics)
}

// httpServer bounds every phase of a connection, so that slow or silent clients
// cannot hold it for ever.
func httpServer(h http.Handler, bounds *connections, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           bounds.mark(h),
		ConnState:         bounds.changed,
		ConnContext:       bounds.context,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // more than requestTimeout, plus a slow reader
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
