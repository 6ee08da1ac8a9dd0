package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"barnabas/worker"
)

// connectRoutes is the table of everything that is served.
func connectRoutes(s *Server) []route {
	const (
		connector = "/connectors/:connector"
		task      = connector + "/tasks/:task"
	)
	routes := []route{
		{method: "GET", path: "/", handle: s.getServer},
		{method: "GET", path: "/health", handle: s.getHealth, early: true},
		{method: "GET", path: "/connectors", handle: s.listConnectors, fresh: true},
		{method: "POST", path: "/connectors", handle: s.createConnector, body: true, warns: true},
		{method: "GET", path: connector, handle: s.getConnector, fresh: true},
		{method: "DELETE", path: connector, handle: s.deleteConnector},
		{method: "GET", path: connector + "/config", handle: s.getConfig, fresh: true},
		{method: "PUT", path: connector + "/config", handle: s.putConfig, body: true, warns: true},
		{method: "PATCH", path: connector + "/config", handle: s.patchConfig, body: true, warns: true},
		{method: "GET", path: connector + "/status", handle: s.getStatus, fresh: true},
		{method: "PUT", path: connector + "/pause", handle: s.setTarget(worker.Paused, http.StatusAccepted)},
		{method: "PUT", path: connector + "/resume", handle: s.setTarget(worker.Started, http.StatusAccepted)},
		{method: "PUT", path: connector + "/stop", handle: s.setTarget(worker.Stopped, http.StatusNoContent)},
		{method: "POST", path: connector + "/restart", handle: s.restartConnector},
		{method: "GET", path: connector + "/offsets", handle: s.getOffsets, fresh: true},
		{method: "PATCH", path: connector + "/offsets", handle: s.alterOffsets, body: true},
		{method: "DELETE", path: connector + "/offsets", handle: s.resetOffsets},
		{method: "GET", path: connector + "/topics", handle: s.getTopics, fresh: true},
		{method: "PUT", path: connector + "/topics/reset", handle: s.resetTopics},
		{method: "GET", path: connector + "/tasks", handle: s.getTasks, fresh: true},
		{method: "POST", path: connector + "/tasks", handle: s.publishTasks, plain: true, signed: true},
		{method: "PUT", path: connector + "/fence", handle: s.fence, plain: true, signed: true},
		{method: "GET", path: task + "/status", handle: s.getTaskStatus, fresh: true},
		{method: "POST", path: task + "/restart", handle: s.restartTask},
		{method: "GET", path: "/connector-plugins", handle: s.listPlugins},
		{method: "GET", path: "/connector-plugins/:plugin/config", handle: s.getPluginConfig},
		{method: "PUT", path: "/connector-plugins/:plugin/config/validate", handle: s.validate, body: true, warns: true},
		{method: "GET", path: "/v1/workers", handle: s.listWorkers},
		{method: "GET", path: "/v1/workers/:worker", handle: s.getWorker},
		{method: "PUT", path: "/v1/workers/:worker/drain", handle: s.drainWorker(true)},
		{method: "DELETE", path: "/v1/workers/:worker/drain", handle: s.drainWorker(false)},
		{method: "GET", path: "/v1/replication/:connector", handle: s.getReplication, fresh: true},
		{method: "GET", path: "/v1/replication/:connector/gaps", handle: s.getGaps},
		{method: "GET", path: "/v1/replication/:connector/translate", handle: s.getTranslations},
		{method: "GET", path: "/v1/replication/:connector/failover", handle: s.getFailoverPlan},
		{method: "GET", path: "/v1/connectors", handle: s.listSummaries, fresh: true},
		{method: "GET", path: "/v1/connectors/:connector/status", handle: s.getDetail, fresh: true},
		{method: "GET", path: "/v1/connectors/:connector/history", handle: s.getHistory, fresh: true},
		{method: "GET", path: "/v1/connectors/:connector/history/:version", handle: s.getVersion, fresh: true},
		{method: "GET", path: "/v1/connectors/:connector/diff", handle: s.getDiff, fresh: true},
		{method: "POST", path: "/v1/connectors/:connector/rollback", handle: s.rollback, body: true},
		{method: "GET", path: secretsPath + "/references", handle: s.listSecretReferences},
		{method: "POST", path: secretsPath + "/rotate", handle: s.rotateSecret, body: true},
		{method: "POST", path: secretsPath + "/prove-revoked", handle: s.proveSecretRevoked, body: true},
		{method: "GET", path: "/v1/whoami", handle: s.getIdentity},
		{method: "GET", path: "/v1/can", handle: s.getPermission},
		{method: "GET", path: "/v1/audit", handle: s.getAudit},
		{method: "GET", path: "/v1/audit/verify", handle: s.verifyAudit},
		{method: "GET", path: "/v1/setup", handle: s.getSetups},
		{method: "GET", path: "/openapi.json", handle: getOpenAPI, plain: true, early: true},
	}
	routes = slices.Concat(routes, registryRoutes(s), connectionRoutes(s), appRoutes(s), roleRoutes(s))
	if s.o.Gatherer != nil {
		routes = append(routes, route{method: "GET", path: "/metrics", handle: s.getMetrics, plain: true, early: true})
	}
	if s.o.Loggers != nil {
		routes = append(routes,
			route{method: "GET", path: "/admin/loggers", handle: s.listLoggers, early: true, admin: true},
			route{method: "GET", path: "/admin/loggers/:logger", handle: s.getLogger, early: true, admin: true},
			route{method: "PUT", path: "/admin/loggers/:logger", handle: s.setLogger, body: true, early: true, admin: true})
	}
	return routes
}

// Expansion is what GET /connectors?expand= tells about one connector.
type Expansion struct {
	Status *worker.ConnectorStatus `json:"status,omitempty"`
	Info   *worker.ConnectorInfo   `json:"info,omitempty"`
}

func (s *Server) listConnectors(ctx context.Context, r *request) (answer, error) {
	names, err := s.w.Connectors(ctx)
	if err != nil {
		return answer{}, err
	}
	var also []string
	for _, kind := range r.query["expand"] {
		switch kind {
		case "status":
			also = append(also, "connect:GetConnectorStatus")
		case "info":
			also = append(also, "connect:GetConnector")
		}
	}
	names = s.visible(r, names, also...)
	if !r.query.Has("expand") {
		return ok(orEmpty(names))
	}
	out := make(map[string]Expansion, len(names))
	for _, name := range names {
		e, err := s.expand(ctx, name, r.query["expand"])
		if errors.Is(err, worker.ErrNotFound) {
			continue // deleted since it was listed, or without a status yet
		}
		if err != nil {
			return answer{}, err
		}
		out[name] = e
	}
	return ok(out)
}

func (s *Server) expand(ctx context.Context, name string, kinds []string) (e Expansion, err error) {
	for _, kind := range kinds {
		switch kind {
		case "status":
			status, err := s.w.Status(ctx, name)
			if err != nil {
				return e, err
			}
			status.Tasks = orEmpty(status.Tasks)
			e.Status = &status
		case "info":
			info, err := s.w.Connector(ctx, name)
			if err != nil {
				return e, err
			}
			info.Tasks = orEmpty(info.Tasks)
			e.Info = &info
		}
	}
	return e, nil
}

// orEmpty makes a list without elements [] in JSON, never null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) createConnector(ctx context.Context, r *request) (answer, error) {
	c, err := readCreation(r.body)
	if err != nil {
		return answer{}, err
	}
	config, err := checkConfig(c.name, c.config)
	if err != nil {
		return answer{}, err
	}
	info, err := s.w.Create(ctx, c.name, config, c.initial)
	if err != nil {
		return answer{}, err
	}
	return created(info)
}

func created(info worker.ConnectorInfo) (answer, error) {
	info.Tasks = orEmpty(info.Tasks)
	a, err := reply(http.StatusCreated, info)
	a.location = connectorPath(info.Name)
	return a, err
}

func (s *Server) getConnector(ctx context.Context, r *request) (answer, error) {
	info, err := s.w.Connector(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	info.Tasks = orEmpty(info.Tasks)
	return ok(info)
}

func (s *Server) deleteConnector(ctx context.Context, r *request) (answer, error) {
	if err := s.w.Delete(ctx, r.param("connector")); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

func (s *Server) getConfig(ctx context.Context, r *request) (answer, error) {
	info, err := s.w.Connector(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	return ok(info.Config)
}

func (s *Server) putConfig(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	written, err := readStrings(r.body)
	if err != nil {
		return answer{}, err
	}
	config, err := checkConfig(name, written)
	if err != nil {
		return answer{}, err
	}
	info, isNew, err := s.w.Put(ctx, name, config)
	if err != nil {
		return answer{}, err
	}
	if isNew {
		return created(info)
	}
	info.Tasks = orEmpty(info.Tasks)
	return ok(info)
}

// patchConfig changes single settings (KIP-477). Another name, or none, is
// refused: Connect stores it, and then configuration and connector disagree about the name.
func (s *Server) patchConfig(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	patch, err := readStrings(r.body)
	if err != nil {
		return answer{}, err
	}
	if patch == nil {
		return answer{}, fail(http.StatusInternalServerError, "The request has no configuration.")
	}
	if in, ok := patch["name"]; ok {
		if in == nil {
			return answer{}, invalid(`Missing required configuration "name" which has no default value.`)
		}
		if *in != name {
			return answer{}, nameMismatch(*in, name)
		}
	}
	info, err := s.w.Patch(ctx, name, patch)
	if err != nil {
		return answer{}, err
	}
	info.Tasks = orEmpty(info.Tasks)
	return ok(info)
}

func (s *Server) getStatus(ctx context.Context, r *request) (answer, error) {
	status, err := s.w.Status(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	status.Tasks = orEmpty(status.Tasks)
	return ok(status)
}

func (s *Server) setTarget(state worker.TargetState, status int) handler {
	return func(ctx context.Context, r *request) (answer, error) {
		if err := s.w.SetTarget(ctx, r.param("connector"), state); err != nil {
			return answer{}, err
		}
		return empty(status)
	}
}

// restartConnector restarts the connector instance alone, or with flags what they
// say (KIP-745), which answers with a status.
func (s *Server) restartConnector(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	includeTasks, onlyFailed := isTrue(r.query.Get("includeTasks")), isTrue(r.query.Get("onlyFailed"))
	if !includeTasks && !onlyFailed {
		if err := s.w.Restart(ctx, name); err != nil {
			return answer{}, err
		}
		return empty(http.StatusNoContent)
	}
	status, err := s.w.RestartFlagged(ctx, name, includeTasks, onlyFailed)
	if err != nil {
		return answer{}, err
	}
	status.Tasks = orEmpty(status.Tasks)
	return reply(http.StatusAccepted, status)
}

// isTrue is Java's Boolean.valueOf: anything but "true" is false.
func isTrue(s string) bool { return strings.EqualFold(s, "true") }

func (s *Server) getTasks(ctx context.Context, r *request) (answer, error) {
	tasks, err := s.w.TaskConfigs(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	return ok(orEmpty(tasks))
}

func (s *Server) getTaskStatus(ctx context.Context, r *request) (answer, error) {
	id, err := taskID(r)
	if err != nil {
		return answer{}, err
	}
	status, err := s.w.Status(ctx, id.Connector)
	if err != nil && !errors.Is(err, worker.ErrNotFound) {
		return answer{}, err
	}
	if i := slices.IndexFunc(status.Tasks, func(t worker.TaskState) bool { return t.ID == id.Task }); err == nil && i >= 0 {
		return ok(status.Tasks[i])
	}
	return answer{}, fail(http.StatusNotFound, "No status found for task %s-%d", id.Connector, id.Task)
}

func (s *Server) restartTask(ctx context.Context, r *request) (answer, error) {
	id, err := taskID(r)
	if err != nil {
		return answer{}, err
	}
	err = s.w.RestartTask(ctx, id)
	if errors.Is(err, worker.ErrNotFound) {
		// Connect answers 409 with the words for a rebalance.
		if status, statusErr := s.w.Status(ctx, id.Connector); statusErr == nil && status.Connector.State == "STOPPED" {
			return answer{}, fail(http.StatusConflict, "Connector %s is stopped: it has no tasks", id.Connector)
		}
	}
	if err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

// taskID reads a task's number as Java's Integer.valueOf does; what is none is
// an unknown path.
func taskID(r *request) (worker.TaskID, error) {
	task, err := strconv.ParseInt(r.param("task"), 10, 32)
	if err != nil {
		return worker.TaskID{}, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return worker.TaskID{Connector: r.param("connector"), Task: int(task)}, nil
}
