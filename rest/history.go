package rest

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"

	"barnabas/worker"
)

// withAuthor gives the changes of a request their author: who has logged in, and the address.
func withAuthor(ctx context.Context, r *request) context.Context {
	return worker.WithAuthor(ctx, worker.Author{User: cmp.Or(r.user, worker.Anonymous), Address: r.address()})
}

// History is the answer to GET /v1/connectors/{connector}/history.
type History struct {
	Connector string                 `json:"connector"`
	Versions  []worker.ConfigVersion `json:"versions"` // the newest first
}

func (s *Server) getHistory(ctx context.Context, r *request) (answer, error) {
	versions, err := s.w.History(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	return ok(History{r.param("connector"), orEmpty(versions)})
}

func (s *Server) getVersion(ctx context.Context, r *request) (answer, error) {
	number, err := strconv.ParseInt(r.param("version"), 10, 64)
	if err != nil {
		return answer{}, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	v, err := s.w.ConfigVersion(ctx, r.param("connector"), number)
	if err != nil {
		return answer{}, err
	}
	return ok(v)
}

func (s *Server) getDiff(ctx context.Context, r *request) (answer, error) {
	var numbers [2]int64
	for i, key := range []string{"from", "to"} {
		text := r.query.Get(key)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return answer{}, fail(http.StatusBadRequest, "%s is the number of a version, 1 or more.", key)
		}
		numbers[i] = n
	}
	d, err := s.w.Diff(ctx, r.param("connector"), numbers[0], numbers[1])
	if err != nil {
		return answer{}, err
	}
	return ok(d)
}

// rollback makes a version the present configuration. Repeating it answers the same: the configuration is that already.
func (s *Server) rollback(ctx context.Context, r *request) (answer, error) {
	fields, err := readOurs(r.body)
	if err != nil {
		return answer{}, err
	}
	number, err := strconv.ParseInt(string(fields["version"]), 10, 64)
	if err != nil || number < 1 {
		return answer{}, fail(http.StatusBadRequest, `The request names no version to roll back to: {"version": 3}.`)
	}
	info, err := s.w.Rollback(ctx, r.param("connector"), number)
	if err != nil {
		return answer{}, err
	}
	info.Tasks = orEmpty(info.Tasks)
	return ok(info)
}

func historyPath(name string) string { return "/v1" + connectorPath(name) }

// History returns the versions of a connector's configuration, the newest first.
func (c *Client) History(ctx context.Context, name string) (h History, err error) {
	return h, c.call(ctx, "GET", historyPath(name)+"/history", nil, &h)
}

// ConfigVersion returns one version with its configuration.
func (c *Client) ConfigVersion(ctx context.Context, name string, number int64) (v worker.ConfigVersion, err error) {
	return v, c.call(ctx, "GET", historyPath(name)+"/history/"+strconv.FormatInt(number, 10), nil, &v)
}

// Diff returns how version to differs from version from; 0 stands for the newest, and for the one before to.
func (c *Client) Diff(ctx context.Context, name string, from, to int64) (d worker.ConfigDiff, err error) {
	query := url.Values{}
	if from != 0 {
		query.Set("from", strconv.FormatInt(from, 10))
	}
	if to != 0 {
		query.Set("to", strconv.FormatInt(to, 10))
	}
	path := historyPath(name) + "/diff"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return d, c.call(ctx, "GET", path, nil, &d)
}

// Rollback makes a version of a connector's configuration the present one.
func (c *Client) Rollback(ctx context.Context, name string, number int64) (info worker.ConnectorInfo, err error) {
	return info, c.call(ctx, "POST", historyPath(name)+"/rollback", map[string]int64{"version": number}, &info)
}
