package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
	"barnabas/worker"
)

// SecretReferences is the answer to GET /v1/secrets/references.
type SecretReferences struct {
	References []worker.SecretReference `json:"references"`
	Missing    []MissingWorker          `json:"missing,omitempty"`
}

// SecretRotations is the answer to POST /v1/secrets/rotate.
type SecretRotations struct {
	Reference string                  `json:"reference"`
	DryRun    bool                    `json:"dry_run"`
	Rotations []worker.SecretRotation `json:"rotations"`
	Missing   []MissingWorker         `json:"missing,omitempty"`
}

// SecretRevocation is the answer to POST /v1/secrets/prove-revoked.
type SecretRevocation struct {
	Reference string `json:"reference"`
	Version   string `json:"version"`
	// Revoked says that the value was tried, and every broker has refused it.
	Revoked bool                      `json:"revoked"`
	Proofs  []worker.SecretRevocation `json:"proofs"`
	Missing []MissingWorker           `json:"missing,omitempty"`
}

// everywhere asks the other workers and puts together what they say, unless the request is for this worker only.
// A worker that knows nothing of it (404) says nothing.
func everywhere[T any](ctx context.Context, s *Server, r *request, here []T, ask func(ctx context.Context, c *Client) ([]T, error)) ([]T, []MissingWorker) {
	if isTrue(r.query.Get("local")) {
		return here, nil
	}
	var mu sync.Mutex
	all := orEmpty(here)
	var missing []MissingWorker
	for id, err := range s.askPeers(ctx, r, s.livePeers(), func(ctx context.Context, c *Client, _ worker.Member) error {
		there, err := ask(ctx, c)
		var status *StatusError
		if errors.As(err, &status) && status.Status == http.StatusNotFound {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, there...)
		return err
	}) {
		missing = append(missing, MissingWorker{id, err.Error()})
	}
	slices.SortFunc(missing, func(a, b MissingWorker) int { return strings.Compare(a.WorkerID, b.WorkerID) })
	return all, missing
}

func (s *Server) listSecretReferences(ctx context.Context, r *request) (answer, error) {
	all, missing := everywhere(ctx, s, r, s.w.SecretReferences(), func(ctx context.Context, c *Client) ([]worker.SecretReference, error) {
		there, err := c.secretReferences(ctx, "?local=true")
		return there.References, err
	})
	if only := r.query.Get("reference"); only != "" {
		all = slices.DeleteFunc(all, func(r worker.SecretReference) bool { return r.Reference.Reference != only })
	}
	slices.SortFunc(all, func(a, b worker.SecretReference) int {
		return cmp.Or(strings.Compare(a.Reference.Reference, b.Reference.Reference), strings.Compare(a.Connector, b.Connector), cmp.Compare(a.Task, b.Task))
	})
	return ok(SecretReferences{orEmpty(all), missing})
}

// asked reads a request about one reference.
func asked(r *request) (about struct {
	Reference string `json:"reference"`
	Version   string `json:"version"`
	DryRun    bool   `json:"dry_run"`
}, err error,
) {
	if json.Unmarshal(r.body, &about) != nil || about.Reference == "" {
		return about, fail(http.StatusBadRequest, `The request names no reference: {"reference": "${file:/etc/kafka/c.properties:password}"}.`)
	}
	return about, nil
}

// named is what an error, which the audit trail keeps, may show of the reference that a request names: one may have sent
// the value in its place.
func named(reference string) string {
	if config.ReferencePattern.FindString(reference) == reference {
		return reference
	}
	return "that reference"
}

func (s *Server) rotateSecret(ctx context.Context, r *request) (answer, error) {
	about, err := asked(r)
	if err != nil {
		return answer{}, err
	}
	here, err := s.w.RotateSecret(ctx, about.Reference, about.DryRun)
	if err != nil && !errors.Is(err, worker.ErrNotFound) || err != nil && isTrue(r.query.Get("local")) {
		return answer{}, err
	}
	all, missing := everywhere(ctx, s, r, here, func(ctx context.Context, c *Client) ([]worker.SecretRotation, error) {
		there, err := c.rotateSecret(ctx, "?local=true", about.Reference, about.DryRun)
		return there.Rotations, err
	})
	if len(all) == 0 && len(missing) == 0 {
		return answer{}, fail(http.StatusNotFound, "Nothing that runs uses %s", named(about.Reference))
	}
	slices.SortFunc(all, func(a, b worker.SecretRotation) int {
		return cmp.Or(strings.Compare(a.Connector, b.Connector), cmp.Compare(a.Task, b.Task))
	})
	return ok(SecretRotations{about.Reference, about.DryRun, orEmpty(all), missing})
}

func (s *Server) proveSecretRevoked(ctx context.Context, r *request) (answer, error) {
	about, err := asked(r)
	if err != nil {
		return answer{}, err
	}
	if about.Version == "" {
		return answer{}, fail(http.StatusBadRequest, "The request names no version.")
	}
	here, err := s.w.ProveSecretRevoked(ctx, about.Reference, about.Version)
	if err != nil && !errors.Is(err, worker.ErrNotFound) || err != nil && isTrue(r.query.Get("local")) {
		return answer{}, err
	}
	all, missing := everywhere(ctx, s, r, here, func(ctx context.Context, c *Client) ([]worker.SecretRevocation, error) {
		there, err := c.proveSecretRevoked(ctx, "?local=true", about.Reference, about.Version)
		return there.Proofs, err
	})
	if len(all) == 0 && len(missing) == 0 {
		return answer{}, fail(http.StatusNotFound, "No worker has that version of %s any more: each keeps the last few values that were replaced while it ran", named(about.Reference))
	}
	revoked := len(all) > 0 && !slices.ContainsFunc(all, func(p worker.SecretRevocation) bool { return p.Outcome != "refused" })
	return ok(SecretRevocation{about.Reference, about.Version, revoked, orEmpty(all), missing})
}

const secretsPath = "/v1/secrets"

// SecretReferences tells which connectors and tasks use which references.
func (c *Client) SecretReferences(ctx context.Context) (SecretReferences, error) {
	return c.secretReferences(ctx, "")
}

func (c *Client) secretReferences(ctx context.Context, query string) (all SecretReferences, err error) {
	return all, c.call(ctx, "GET", secretsPath+"/references"+query, nil, &all)
}

// RotateSecret has what uses a reference take its newest value, if it works; dry only proves it.
func (c *Client) RotateSecret(ctx context.Context, reference string, dry bool) (SecretRotations, error) {
	return c.rotateSecret(ctx, "", reference, dry)
}

func (c *Client) rotateSecret(ctx context.Context, query, reference string, dry bool) (all SecretRotations, err error) {
	return all, c.call(ctx, "POST", secretsPath+"/rotate"+query, map[string]any{"reference": reference, "dry_run": dry}, &all)
}

// ProveSecretRevoked has a former value of a reference tried at every broker where it was used.
func (c *Client) ProveSecretRevoked(ctx context.Context, reference, version string) (SecretRevocation, error) {
	return c.proveSecretRevoked(ctx, "", reference, version)
}

func (c *Client) proveSecretRevoked(ctx context.Context, query, reference, version string) (all SecretRevocation, err error) {
	return all, c.call(ctx, "POST", secretsPath+"/prove-revoked"+query, map[string]any{"reference": reference, "version": version}, &all)
}
