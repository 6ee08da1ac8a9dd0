package rest

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	kafka "barnabas/connection"
	"barnabas/worker"
)

const (
	connectionsPath = "/v1/connections"
	connectionRoute = connectionsPath + "/:env/:name"
)

// connectionRoutes are those of Kafka connections.
func connectionRoutes(s *Server) []route {
	return []route{
		{method: "GET", path: connectionsPath, handle: s.listConnections, fresh: true},
		{method: "GET", path: connectionsPath + "/:env", handle: s.listConnections, fresh: true},
		{method: "GET", path: connectionRoute, handle: s.getConnection, fresh: true},
		{method: "PUT", path: connectionRoute, handle: s.putConnection, body: true, known: s.connectionInPath, settle: settlePutConnection},
		{method: "DELETE", path: connectionRoute, handle: s.deleteConnection, known: s.connectionInPath, settle: settleDelete},
		{method: "GET", path: connectionRoute + "/history", handle: s.getConnectionHistory, fresh: true},
		{method: "GET", path: connectionRoute + "/uses", handle: s.getConnectionUses},
		{method: "POST", path: connectionRoute + "/check", handle: s.checkConnection},
		{method: "POST", path: connectionRoute + "/rollback", handle: s.rollbackConnection, body: true},
	}
}

// ConnectionSummary is one connection in the answer to GET /v1/connections: what one needs to choose, without its settings.
type ConnectionSummary struct {
	Environment string            `json:"environment"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Owner       kafka.Owner       `json:"owner,omitzero"`
	Scope       kafka.Scope       `json:"scope,omitzero"`
	Labels      map[string]string `json:"labels,omitempty"`
	Placement   string            `json:"placement,omitempty"`
	Version     int64             `json:"version"`
	Modified    kafka.Change      `json:"modified"`
	UsedBy      []string          `json:"used_by"`
}

// ConnectionHistory is the answer to GET /v1/connections/{env}/{name}/history.
type ConnectionHistory struct {
	Environment string                     `json:"environment"`
	Name        string                     `json:"name"`
	Versions    []worker.ConnectionVersion `json:"versions"` // the newest first
}

// ConnectionUses is the answer to GET /v1/connections/{env}/{name}/uses.
type ConnectionUses struct {
	Environment string                 `json:"environment"`
	Name        string                 `json:"name"`
	Version     int64                  `json:"version"` // the present one
	Uses        []worker.ConnectionUse `json:"uses"`
	Missing     []MissingWorker        `json:"missing,omitempty"`
}

func (s *Server) listConnections(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.Connections(ctx)
	if err != nil {
		return answer{}, err
	}
	list := []ConnectionSummary{}
	for _, c := range all {
		if env := r.param("env"); (env == "" || env == c.Environment) && s.lists(r, c.Environment+"/"+c.Name) {
			used := s.visible(r, c.UsedBy)
			list = append(list, ConnectionSummary{c.Environment, c.Name, c.Description, c.Owner, c.Scope, c.Labels, c.Placement, c.Version, c.Modified, orEmpty(used)})
		}
	}
	return ok(list)
}

// connectionName is the connection that the path names.
func connectionName(r *request) (kafka.Name, error) {
	n, err := kafka.ParseName(r.param("env") + "/" + r.param("name"))
	if err != nil {
		return n, fail(http.StatusBadRequest, "%s", err)
	}
	return n, nil
}

func (s *Server) getConnection(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	c, err := s.w.Connection(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(c)
}

func (s *Server) putConnection(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	spec, err := kafka.Decode(name, r.body)
	if err != nil {
		return answer{}, fail(http.StatusBadRequest, "Connection %s is wrong: %s", name, err)
	}
	c, isNew, err := s.w.PutConnection(ctx, name, spec)
	if err != nil {
		return answer{}, err
	}
	if !isNew {
		return ok(c)
	}
	a, err := reply(http.StatusCreated, c)
	a.location = connectionPath(name)
	return a, err
}

func (s *Server) connectionInPath(ctx context.Context, r *request) bool {
	name, err := connectionName(r)
	if err != nil {
		return true // refused anyway
	}
	_, err = s.w.Connection(ctx, name)
	return err == nil
}

func settlePutConnection(_ context.Context, r *request, known bool, a answer) answer {
	if name, err := connectionName(r); err == nil && a.status == http.StatusOK && !known {
		a.status, a.location = http.StatusCreated, connectionPath(name)
	}
	return a
}

func (s *Server) deleteConnection(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	if err := s.w.DeleteConnection(ctx, name); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

func (s *Server) getConnectionHistory(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	versions, err := s.w.ConnectionHistory(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(ConnectionHistory{name.Env, name.Name, orEmpty(versions)})
}

// rollbackConnection makes a version the present one. Repeating it answers the same: the connection is that already.
func (s *Server) rollbackConnection(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	fields, err := readOurs(r.body)
	if err != nil {
		return answer{}, err
	}
	number, err := strconv.ParseInt(string(fields["version"]), 10, 64)
	if err != nil || number < 1 {
		return answer{}, fail(http.StatusBadRequest, `The request names no version to roll back to: {"version": 3}.`)
	}
	c, err := s.w.RollbackConnection(ctx, name, number)
	if err != nil {
		return answer{}, err
	}
	return ok(c)
}

// checkConnection tries a connection. It changes nothing, so it may be repeated.
func (s *Server) checkConnection(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	c, err := s.w.CheckConnection(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(c)
}

// getConnectionUses tells which version of a connection each connector and task has in use. local=true asks only this worker.
func (s *Server) getConnectionUses(ctx context.Context, r *request) (answer, error) {
	name, err := connectionName(r)
	if err != nil {
		return answer{}, err
	}
	c, err := s.w.Connection(ctx, name)
	if err != nil {
		return answer{}, err
	}
	all, missing := everywhere(ctx, s, r, s.w.ConnectionUses(), func(ctx context.Context, c *Client) ([]worker.ConnectionUse, error) {
		there, err := c.connectionUses(ctx, name, "?local=true")
		return there.Uses, err
	})
	all = slices.DeleteFunc(slices.Clone(all), func(u worker.ConnectionUse) bool { return u.Connection != name.String() })
	slices.SortFunc(all, func(a, b worker.ConnectionUse) int {
		if a.Connector != b.Connector {
			return strings.Compare(a.Connector, b.Connector)
		}
		return a.Task - b.Task
	})
	return ok(ConnectionUses{name.Env, name.Name, c.Version, orEmpty(all), missing})
}

func connectionPath(n kafka.Name) string {
	return connectionsPath + "/" + url.PathEscape(n.Env) + "/" + url.PathEscape(n.Name)
}

// KafkaConnections lists the Kafka connections, by environment and name.
func (c *Client) KafkaConnections(ctx context.Context) (all []ConnectionSummary, err error) {
	return all, c.call(ctx, "GET", connectionsPath, nil, &all)
}

// KafkaConnection returns one, with its settings.
func (c *Client) KafkaConnection(ctx context.Context, n kafka.Name) (k worker.Connection, err error) {
	return k, c.call(ctx, "GET", connectionPath(n), nil, &k)
}

// PutKafkaConnection creates one or makes another version of it.
func (c *Client) PutKafkaConnection(ctx context.Context, n kafka.Name, spec kafka.Spec) (k worker.Connection, err error) {
	return k, c.call(ctx, "PUT", connectionPath(n), spec, &k)
}

// DeleteKafkaConnection deletes one that nobody uses.
func (c *Client) DeleteKafkaConnection(ctx context.Context, n kafka.Name) error {
	return c.call(ctx, "DELETE", connectionPath(n), nil, nil)
}

// KafkaConnectionHistory returns its versions, the newest first.
func (c *Client) KafkaConnectionHistory(ctx context.Context, n kafka.Name) (h ConnectionHistory, err error) {
	return h, c.call(ctx, "GET", connectionPath(n)+"/history", nil, &h)
}

// RollbackKafkaConnection makes an earlier version the present one.
func (c *Client) RollbackKafkaConnection(ctx context.Context, n kafka.Name, version int64) (k worker.Connection, err error) {
	return k, c.call(ctx, "POST", connectionPath(n)+"/rollback", map[string]int64{"version": version}, &k)
}

// CheckKafkaConnection tries one, and compares its principal's rights with its scope.
func (c *Client) CheckKafkaConnection(ctx context.Context, n kafka.Name) (k worker.ConnectionCheck, err error) {
	return k, c.call(ctx, "POST", connectionPath(n)+"/check", nil, &k)
}

// KafkaConnectionUses tells what runs with it, and with which version.
func (c *Client) KafkaConnectionUses(ctx context.Context, n kafka.Name) (ConnectionUses, error) {
	return c.connectionUses(ctx, n, "")
}

func (c *Client) connectionUses(ctx context.Context, n kafka.Name, query string) (u ConnectionUses, err error) {
	return u, c.call(ctx, "GET", connectionPath(n)+"/uses"+query, nil, &u)
}
