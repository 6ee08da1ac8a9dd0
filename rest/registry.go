package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"barnabas/config"
	"barnabas/worker"
)

// registryRoutes are those of the secret registry, in the shape of Confluent's. Unlike there no answer holds a value: nobody can
// be given the right to read one yet.
func registryRoutes(s *Server) []route {
	const (
		paths    = "/secret/paths"
		path     = paths + "/:path"
		key      = path + "/keys/:key"
		versions = key + "/versions"
	)
	return []route{
		{method: "GET", path: paths, handle: s.listSecretPaths},
		{method: "GET", path: path, handle: s.listSecrets},
		{method: "DELETE", path: path, handle: s.deleteSecret},
		{method: "GET", path: path + "/keys", handle: s.listSecretKeys},
		{method: "GET", path: key, handle: s.listSecrets},
		{method: "POST", path: key, handle: s.putSecret, body: true},
		{method: "DELETE", path: key, handle: s.deleteSecret},
		{method: "GET", path: versions, handle: s.listSecrets},
		{method: "POST", path: versions, handle: s.putSecret, body: true},
		{method: "GET", path: versions + "/:version", handle: s.getSecretVersion},
		{method: "DELETE", path: versions + "/:version", handle: s.deleteSecret},
	}
}

func (s *Server) listSecretPaths(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.Secrets(ctx, "", "", 0)
	if err != nil {
		return answer{}, err
	}
	all = slices.DeleteFunc(all, func(v worker.SecretVersion) bool {
		return s.o.Roles != nil && !s.decide(r, "secrets:ListSecrets", secretResource(v.Path)).Allowed
	})
	return ok(distinct(all, func(v worker.SecretVersion) string { return v.Path }))
}

func (s *Server) listSecretKeys(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.Secrets(ctx, r.param("path"), "", 0)
	if err != nil {
		return answer{}, err
	}
	return ok(distinct(all, func(v worker.SecretVersion) string { return v.Key }))
}

func distinct(versions []worker.SecretVersion, of func(worker.SecretVersion) string) []string {
	all := []string{}
	for _, v := range versions {
		all = append(all, of(v))
	}
	return slices.Compact(all) // they are in order
}

func (s *Server) listSecrets(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.Secrets(ctx, r.param("path"), r.param("key"), 0)
	if err != nil {
		return answer{}, err
	}
	return ok(all)
}

func (s *Server) getSecretVersion(ctx context.Context, r *request) (answer, error) {
	number, err := secretVersion(r)
	if err != nil {
		return answer{}, err
	}
	all, err := s.w.Secrets(ctx, r.param("path"), r.param("key"), number)
	if err != nil {
		return answer{}, err
	}
	return ok(all[len(all)-1])
}

// secretVersion reads the version that an address names; 0: the newest, or, without one, all.
func secretVersion(r *request) (int64, error) {
	text := r.param("version")
	if text == "" || text == "latest" && r.Method != http.MethodDelete {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return n, nil
}

func (s *Server) putSecret(ctx context.Context, r *request) (answer, error) {
	var body struct {
		Secret *string `json:"secret"`
	}
	if json.Unmarshal(r.body, &body) != nil || body.Secret == nil { // its error could show the value
		return answer{}, fail(http.StatusBadRequest, `The request holds no secret: {"secret": "..."}.`)
	}
	v, err := s.w.PutSecret(ctx, r.param("path"), r.param("key"), config.NewSecret(*body.Secret))
	if err != nil {
		return answer{}, err
	}
	return ok(v)
}

func (s *Server) deleteSecret(ctx context.Context, r *request) (answer, error) {
	number, err := secretVersion(r)
	if err != nil {
		return answer{}, err
	}
	deleted, err := s.w.DeleteSecret(ctx, r.param("path"), r.param("key"), number)
	if err != nil {
		return answer{}, err
	}
	return ok(deleted)
}
