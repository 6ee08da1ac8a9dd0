package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"barnabas/worker"
)

func (s *Server) getServer(context.Context, *request) (answer, error) {
	return ok(s.w.ServerInfo())
}

// getHealth answers as KIP-1017 says: 503 while starting, 500 when unhealthy.
func (s *Server) getHealth(context.Context, *request) (answer, error) {
	h := s.w.Health()
	switch {
	case h.Healthy:
		return ok(h)
	case h.Status == healthStarting:
		return reply(http.StatusServiceUnavailable, h)
	}
	return reply(http.StatusInternalServerError, h)
}

const healthStarting = "starting"

func (s *Server) getMetrics(_ context.Context, r *request) (answer, error) {
	rec := &recorder{header: http.Header{}}
	promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(rec, r.Request)
	return answer{status: rec.status, contentType: rec.header.Get("Content-Type"), body: rec.body}, nil
}

// recorder keeps what a handler writes.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, b...)
	return len(b), nil
}

func (s *Server) listWorkers(context.Context, *request) (answer, error) {
	return ok(orEmpty(s.w.Members()))
}

func (s *Server) getWorker(_ context.Context, r *request) (answer, error) {
	id := r.param("worker")
	for _, m := range s.w.Members() {
		if m.ID == id {
			return ok(m)
		}
	}
	return answer{}, fail(http.StatusNotFound, "Worker %s not found", id)
}

// drainWorker answers when the order is in the log; what moves shows in the worker's counts.
func (s *Server) drainWorker(on bool) handler {
	return func(ctx context.Context, r *request) (answer, error) {
		if err := s.w.Drain(ctx, r.param("worker"), on); err != nil {
			return answer{}, err
		}
		return empty(http.StatusNoContent)
	}
}

const (
	stateAlive  = "alive" // of a worker.Member
	maxPeers    = 16      // other workers asked at the same time
	peerTimeout = 5 * time.Second
)

// livePeers are the other workers that are there.
func (s *Server) livePeers() []worker.Member {
	return slices.DeleteFunc(s.w.Members(), func(m worker.Member) bool { return m.Self || m.State != stateAlive })
}

// askPeers asks other workers at the same time and returns the errors of those that failed, by their id. ask is
// called concurrently.
func (s *Server) askPeers(ctx context.Context, r *request, peers []worker.Member,
	ask func(ctx context.Context, c *Client, peer worker.Member) error,
) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	var mu sync.Mutex
	failed := map[string]error{}
	var g errgroup.Group
	g.SetLimit(maxPeers)
	for _, peer := range peers {
		g.Go(func() error {
			c := &Client{http: s.peers, urls: []string{strings.TrimRight(peer.URL, "/")}, header: s.peerHeader(r)}
			if err := ask(ctx, c, peer); err != nil {
				s.log.Warn("another worker did not answer", "worker", peer.ID, "request", r.id, "err", err)
				mu.Lock()
				defer mu.Unlock()
				failed[peer.ID] = err
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return failed
}
