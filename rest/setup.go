package rest

import (
	"context"
	"slices"
	"strings"

	"barnabas/worker"
)

// Setups is the answer to GET /v1/setup.
type Setups struct {
	Workers []worker.Setup  `json:"workers"`
	Missing []MissingWorker `json:"missing,omitempty"`
}

// getSetups tells how workers are set up, as far as an auditor asks.
func (s *Server) getSetups(ctx context.Context, r *request) (answer, error) {
	own, err := s.w.Setup(ctx)
	if err != nil {
		return answer{}, err
	}
	for how, is := range map[string]bool{"basic": s.o.Passwords != nil, "mtls": s.o.Certificates != nil, "oidc": s.o.Tokens != nil} {
		if is {
			own.Authentication = append(own.Authentication, how)
		}
	}
	slices.Sort(own.Authentication)
	all, missing := everywhere(ctx, s, r, []worker.Setup{own}, func(ctx context.Context, c *Client) ([]worker.Setup, error) {
		there, err := c.setups(ctx, "?local=true")
		return there.Workers, err
	})
	slices.SortFunc(all, func(a, b worker.Setup) int { return strings.Compare(a.Worker, b.Worker) })
	return ok(Setups{all, missing})
}

// Setups tells how the workers of a cluster are set up.
func (c *Client) Setups(ctx context.Context) (Setups, error) { return c.setups(ctx, "") }

func (c *Client) setups(ctx context.Context, query string) (all Setups, err error) {
	return all, c.call(ctx, "GET", "/v1/setup"+query, nil, &all)
}
