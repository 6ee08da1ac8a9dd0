package rest

import (
	"context"
	"errors"
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

// Replication is the answer to GET /v1/replication/{connector}: what all workers
// that run its tasks say, and who did not answer.
type Replication struct {
	worker.Replication
	Missing []MissingWorker `json:"missing,omitempty"`
}

// MissingWorker is a worker that runs tasks and did not say how far they are.
type MissingWorker struct {
	WorkerID string `json:"worker_id"`
	Reason   string `json:"reason"`
}

// getReplication tells how far a connector's tasks are. A task shows without partitions
// if its worker cannot be asked. local=true asks only this worker.
func (s *Server) getReplication(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	local, err := s.w.Replication(ctx, name)
	if err != nil {
		return answer{}, err
	}
	if isTrue(r.query.Get("local")) {
		return ok(tidy(Replication{Replication: local}))
	}
	status, err := s.w.Status(ctx, name)
	if errors.Is(err, worker.ErrNotFound) {
		return ok(tidy(Replication{Replication: local})) // so new that nothing is known of it yet
	}
	if err != nil {
		return answer{}, err
	}
	peers, missing := s.runners(status)
	var mu sync.Mutex
	reports := local.Tasks
	failed := s.askPeers(ctx, r, peers, func(ctx context.Context, c *Client, _ worker.Member) error {
		answer, err := c.LocalReplication(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, answer.Tasks...)
		return err
	})
	for id, err := range failed {
		missing = append(missing, MissingWorker{id, err.Error()})
	}
	return ok(tidy(Replication{worker.Replication{Connector: name, Tasks: merge(status, reports)}, missing}))
}

// runners returns the other workers that run tasks by status, and those among
// them of which no address is known.
func (s *Server) runners(status worker.ConnectorStatus) (peers []worker.Member, missing []MissingWorker) {
	members := s.w.Members()
	seen := map[string]bool{s.w.ID(): true, "": true}
	for _, t := range status.Tasks {
		if seen[t.WorkerID] {
			continue
		}
		seen[t.WorkerID] = true
		i := slices.IndexFunc(members, func(m worker.Member) bool { return m.ID == t.WorkerID && m.State == stateAlive })
		if i < 0 {
			missing = append(missing, MissingWorker{t.WorkerID, "The worker is gone."})
			continue
		}
		peers = append(peers, members[i])
	}
	return peers, missing
}

// merge gives each task of status its report. The one of the worker that the
// status names wins: a task that has just moved may be reported by two.
func merge(status worker.ConnectorStatus, reports []worker.TaskReplication) []worker.TaskReplication {
	type source struct {
		task   int
		worker string
	}
	by, last := map[source]worker.TaskReplication{}, map[int]worker.TaskReplication{}
	for _, r := range reports {
		by[source{r.Task, r.WorkerID}], last[r.Task] = r, r
	}
	tasks := make([]worker.TaskReplication, 0, len(status.Tasks))
	for _, t := range status.Tasks {
		task, found := by[source{t.ID, t.WorkerID}]
		if !found {
			task, found = last[t.ID]
		}
		if !found {
			task = worker.TaskReplication{Task: t.ID, WorkerID: t.WorkerID, State: t.State}
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// tidy sorts, and makes lists without elements [].
func tidy(r Replication) Replication {
	r.Tasks = orEmpty(r.Tasks)
	slices.SortFunc(r.Tasks, func(a, b worker.TaskReplication) int { return a.Task - b.Task })
	slices.SortFunc(r.Missing, func(a, b MissingWorker) int { return strings.Compare(a.WorkerID, b.WorkerID) })
	for i := range r.Tasks {
		r.Tasks[i].Partitions = orEmpty(r.Tasks[i].Partitions)
	}
	return r
}
