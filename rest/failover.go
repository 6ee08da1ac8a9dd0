package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"barnabas/connector"
	"barnabas/connector/mirror"
	"barnabas/worker"
)

// Translations is the answer to GET /v1/replication/{connector}/translate.
type Translations struct {
	Connector string                    `json:"connector"`
	Groups    []mirror.GroupTranslation `json:"groups"`
}

// Translated says whether all of all groups has a place at the target.
func (t Translations) Translated() bool {
	return !slices.ContainsFunc(t.Groups, func(g mirror.GroupTranslation) bool { return !g.Translated() })
}

// FailoverPlan is the answer to GET /v1/replication/{connector}/failover.
type FailoverPlan struct {
	Connector string `json:"connector"`
	mirror.FailoverPlan
}

// Bounds and defaults of a failover plan.
const (
	// DefaultMaxLag is how many records a partition may be behind.
	DefaultMaxLag = 1000
	// DefaultWatch is how long to watch whether the source's logs grow, and LongestWatch the most: the answer has to
	// come before the worker that forwarded the question gives up.
	DefaultWatch = time.Second
	LongestWatch = 5 * time.Second
	// DefaultRecent is how long ago a producer that counts as writing may have written.
	DefaultRecent = time.Minute
)

// getTranslations translates offsets of groups: of those that group= names, for the topics that topic= names. It is answered
// by the worker that runs the connector.
func (s *Server) getTranslations(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	list, err := s.w.TranslateOffsets(ctx, name, r.query["group"], r.query["topic"])
	if err != nil {
		return answer{}, err
	}
	return ok(Translations{name, list})
}

// getFailoverPlan plans a failover, without side effects.
func (s *Server) getFailoverPlan(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	q := worker.FailoverQuery{MaxLag: DefaultMaxLag, Watch: DefaultWatch, Recent: DefaultRecent}
	if v := r.query.Get("max_lag"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return answer{}, fail(http.StatusBadRequest, "max_lag is a number of records, not %s", v)
		}
		q.MaxLag = n
	}
	for key, to := range map[string]*time.Duration{"watch": &q.Watch, "recent": &q.Recent} {
		if v := r.query.Get(key); v != "" {
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 || key == "watch" && d > LongestWatch {
				return answer{}, fail(http.StatusBadRequest, "%s is a duration like 1s, and watch no more than %s, not %s", key, LongestWatch, v)
			}
			*to = d
		}
	}
	if err := s.linkStates(ctx, r, name, &q); err != nil {
		return answer{}, err
	}
	plan, err := s.w.FailoverPlan(ctx, name, q)
	if err != nil {
		return answer{}, err
	}
	return ok(FailoverPlan{name, plan})
}

// linkStates asks how the connector does, and the others of its link.
func (s *Server) linkStates(ctx context.Context, r *request, name string, q *worker.FailoverQuery) error {
	info, err := s.w.Connector(ctx, name)
	if err != nil {
		return err
	}
	names, err := s.w.Connectors(ctx)
	if err != nil {
		return err
	}
	q.States = []mirror.ConnectorState{}
	for _, other := range names {
		if other != name {
			c, err := s.w.Connector(ctx, other)
			if err != nil || !mirror.SameLink(info.Config, c.Config) || info.Config["connector.class"] == c.Config["connector.class"] {
				continue
			}
		}
		replication, err := s.replication(ctx, r, other)
		if err != nil {
			return err
		}
		q.States = append(q.States, mirror.ConnectorState{Name: other, State: replication.Status, Tasks: len(replication.Tasks), Reason: replication.Reason})
		if other == name {
			q.Live = Live(replication)
		}
	}
	return nil
}

// Live is the progress of all partitions of a replication.
func Live(r Replication) (all []connector.PartitionProgress) {
	for _, t := range r.Tasks {
		all = append(all, t.Partitions...)
	}
	return all
}

// replication asks all workers that run a connector's tasks.
func (s *Server) replication(ctx context.Context, r *request, name string) (Replication, error) {
	reports, err := s.w.Replication(ctx, name)
	if err != nil {
		return Replication{}, err
	}
	notes, err := s.w.Notes(ctx, name)
	if err != nil {
		return Replication{}, err
	}
	status, err := s.w.Status(ctx, name)
	if err != nil {
		return Replication{}, err
	}
	var mu sync.Mutex
	missing := s.askRunners(ctx, r, append(owners(status), status.Connector.WorkerID), func(ctx context.Context, c *Client, _ worker.Member) error {
		answer, err := c.LocalReplication(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, answer.Tasks...)
		notes = append(notes, answer.Notes...)
		return err
	})
	return newReplication(name, status.Connector, merge(status, reports), missing).with(notes), nil
}
