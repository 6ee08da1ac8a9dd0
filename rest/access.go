package rest

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"barnabas/access"
	kafka "barnabas/connection"
	"barnabas/k2k"
	"barnabas/worker"
)

// permissions are those of the routes, by method and path. What is not here, nobody may.
var permissions = map[string]permission{
	"GET /":                                           free,
	"GET /health":                                     free,
	"GET /connectors":                                 onList("connect:ListConnectors"),
	"POST /connectors":                                creates,
	"GET /connectors/:connector":                      onConnector("connect:GetConnector"),
	"DELETE /connectors/:connector":                   onConnector("connect:DeleteConnector"),
	"GET /connectors/:connector/config":               onConnector("connect:GetConnectorConfig"),
	"PUT /connectors/:connector/config":               puts,
	"PATCH /connectors/:connector/config":             patches,
	"GET /connectors/:connector/status":               onConnector("connect:GetConnectorStatus"),
	"PUT /connectors/:connector/pause":                onConnector("connect:PauseConnector"),
	"PUT /connectors/:connector/resume":               onConnector("connect:ResumeConnector"),
	"PUT /connectors/:connector/stop":                 onConnector("connect:StopConnector"),
	"POST /connectors/:connector/restart":             onConnector("connect:RestartConnector"),
	"GET /connectors/:connector/offsets":              onConnector("connect:GetConnectorOffsets"),
	"PATCH /connectors/:connector/offsets":            onConnector("connect:AlterConnectorOffsets"),
	"DELETE /connectors/:connector/offsets":           onConnector("connect:ResetConnectorOffsets"),
	"GET /connectors/:connector/topics":               onConnector("connect:GetConnectorTopics"),
	"PUT /connectors/:connector/topics/reset":         onConnector("connect:ResetConnectorTopics"),
	"GET /connectors/:connector/tasks":                onConnector("connect:GetConnectorTasks"),
	"POST /connectors/:connector/tasks":               free,
	"GET /connectors/:connector/tasks/:task/status":   onConnector("connect:GetConnectorStatus"),
	"POST /connectors/:connector/tasks/:task/restart": onConnector("connect:RestartConnectorTask"),
	"PUT /connectors/:connector/fence":                free,
	"GET /connector-plugins":                          onCluster("connect:GetPlugins"),
	"GET /connector-plugins/:plugin/config":           onCluster("connect:GetPlugins"),
	"PUT /connector-plugins/:plugin/config/validate":  validates,
	"GET /v1/workers":                                 onCluster("admin:GetWorkers"),
	"GET /v1/workers/:worker":                         onCluster("admin:GetWorkers"),
	"PUT /v1/workers/:worker/drain":                   onCluster("admin:DrainWorker"),
	"DELETE /v1/workers/:worker/drain":                onCluster("admin:DrainWorker"),
	"GET /v1/replication/:connector":                  onReplication,
	"GET /v1/replication/:connector/gaps":             onConnector("connect:GetReplication"),
	"GET /v1/replication/:connector/translate":        onConnector("connect:GetReplication"),
	"GET /v1/replication/:connector/failover":         onConnector("connect:GetReplication"),
	"GET /v1/connectors":                              onList("connect:ListConnectors"),
	"GET /v1/connectors/:connector/status":            onConnector("connect:GetConnectorStatus"),
	"GET /v1/connectors/:connector/history":           onConnector("connect:GetConnectorHistory"),
	"GET /v1/connectors/:connector/history/:version":  onConnector("connect:GetConnectorHistory"),
	"GET /v1/connectors/:connector/diff":              onConnector("connect:GetConnectorHistory"),
	"POST /v1/connectors/:connector/rollback":         rollsBack,
	"GET /v1/connections":                             onConnections,
	"GET /v1/connections/:env":                        onConnections,
	"GET /v1/connections/:env/:name":                  onConnection("environments:GetKafkaConnectionDetails"),
	"PUT /v1/connections/:env/:name":                  onConnection("environments:UpsertKafkaConnection"),
	"DELETE /v1/connections/:env/:name":               onConnection("environments:DeleteKafkaConnection"),
	"GET /v1/connections/:env/:name/history":          onConnection("environments:GetKafkaConnectionDetails"),
	"GET /v1/connections/:env/:name/uses":             onConnection("environments:GetKafkaConnectionDetails"),
	"POST /v1/connections/:env/:name/check":           onConnection("environments:GetKafkaConnectionDetails"),
	"POST /v1/connections/:env/:name/rollback":        onConnection("environments:UpsertKafkaConnection"),
	"GET /v1/apps": func(context.Context, *Server, *request) demand {
		return demand{action: "k2k:ListApps", resource: access.Resource("k2k:app", "*"), list: true}
	},
	"GET /v1/apps/:app":            onApp("k2k:GetApp"),
	"PUT /v1/apps/:app":            putsApp,
	"DELETE /v1/apps/:app":         onApp("k2k:DeleteApp"),
	"PUT /v1/apps/:app/pause":      changesApp,
	"PUT /v1/apps/:app/resume":     changesApp,
	"PUT /v1/apps/:app/stop":       changesApp,
	"GET /v1/apps/:app/offsets":    onApp("k2k:GetApp"),
	"PATCH /v1/apps/:app/offsets":  onApp("k2k:ManageOffsets"),
	"DELETE /v1/apps/:app/offsets": onApp("k2k:ManageOffsets"),
	"GET /v1/whoami":               free,
	"GET /v1/can":                  free,
	"GET /v1/roles":                onCluster("admin:GetRoles"),
	"GET /v1/roles/:role":          onCluster("admin:GetRoles"),
	"PUT /v1/roles/:role":          onCluster("admin:ManageRoles"),
	"DELETE /v1/roles/:role":       onCluster("admin:ManageRoles"),
	"GET /secret/paths": func(context.Context, *Server, *request) demand {
		return demand{action: "secrets:ListSecrets", resource: secretResource("*"), list: true}
	},
	"GET /secret/paths/:path":                                onSecret("secrets:ListSecrets"),
	"DELETE /secret/paths/:path":                             onSecret("secrets:DeleteSecret"),
	"GET /secret/paths/:path/keys":                           onSecret("secrets:ListSecrets"),
	"GET /secret/paths/:path/keys/:key":                      onSecret("secrets:ListSecrets"),
	"POST /secret/paths/:path/keys/:key":                     onSecret("secrets:WriteSecret"),
	"DELETE /secret/paths/:path/keys/:key":                   onSecret("secrets:DeleteSecret"),
	"GET /secret/paths/:path/keys/:key/versions":             onSecret("secrets:ListSecrets"),
	"POST /secret/paths/:path/keys/:key/versions":            onSecret("secrets:WriteSecret"),
	"GET /secret/paths/:path/keys/:key/versions/:version":    onSecret("secrets:ListSecrets"),
	"DELETE /secret/paths/:path/keys/:key/versions/:version": onSecret("secrets:DeleteSecret"),
	"GET /v1/secrets/references":                             onAllSecrets("secrets:GetSecretReferences"),
	"POST /v1/secrets/rotate":                                onAllSecrets("secrets:RotateSecret"),
	"POST /v1/secrets/prove-revoked":                         onAllSecrets("secrets:RotateSecret"),
	"GET /v1/audit":                                          onCluster("audit:Read"),
	"GET /v1/audit/verify":                                   onCluster("audit:Read"),
	"GET /v1/setup":                                          onCluster("admin:GetEvidence"),
	"GET /openapi.json":                                      free,
	"GET /metrics":                                           free,
	"GET /admin/loggers":                                     onCluster("connect:GetLoggers"),
	"GET /admin/loggers/:logger":                             onCluster("connect:GetLoggers"),
	"PUT /admin/loggers/:logger":                             onCluster("connect:SetLoggers"),
}

// permission says what a request asks for.
type permission func(ctx context.Context, s *Server, r *request) demand

// demand is what a request asks for: an action on a resource, or a list of which it gets what the caller may see.
type demand struct {
	action, resource string
	or               string       // another action that will do here, since the worker that performs it judges again
	uses             []kafka.Name // connections that the caller has to have the right to use
	namespaces       []string     // of apps, that the caller has to have the right to deploy to
	list             bool
	free             bool // for everybody who has logged in
}

// free is the permission of what everybody who has logged in may do, and of what another worker signs.
func free(_ context.Context, _ *Server, r *request) demand {
	return demand{action: r.Method, resource: r.URL.Path, free: true}
}

// onConnector is the permission for an action on the connector that the path names.
func onConnector(action string) permission {
	return func(_ context.Context, _ *Server, r *request) demand {
		return demand{action: action, resource: connectorResource(r.param("connector"))}
	}
}

// onReplication is the permission to see how far a connector's tasks are. Who may see an app may see it as another worker does, which
// shows the app and asks for the part of it that runs here: only a request that a worker has signed gets that.
func onReplication(ctx context.Context, s *Server, r *request) demand {
	d := onConnector("connect:GetReplication")(ctx, s, r)
	if r.from == nil || !isTrue(r.query.Get("local")) || s.judge(r, d).Allowed {
		return d
	}
	if _, err := s.w.App(ctx, r.param("connector")); err != nil {
		return d
	}
	return demand{action: "k2k:GetApp", resource: access.Resource("k2k:app", r.param("connector"))}
}

// onList is the permission for a list of connectors, of which the handler leaves out what the caller may not see.
func onList(action string) permission {
	return func(context.Context, *Server, *request) demand {
		return demand{action: action, resource: connectorResource("*"), list: true}
	}
}

// onCluster is the permission for an action on the whole cluster of workers.
func onCluster(action string) permission {
	return func(_ context.Context, s *Server, _ *request) demand {
		return demand{action: action, resource: access.Resource("connect:cluster", s.o.Group)}
	}
}

// onSecret is the permission for an action on the secrets of the path that the path names.
func onSecret(action string) permission {
	return func(_ context.Context, _ *Server, r *request) demand {
		return demand{action: action, resource: secretResource(r.param("path"))}
	}
}

// onAllSecrets is the permission for an action that may be about any secret.
func onAllSecrets(action string) permission {
	return func(context.Context, *Server, *request) demand {
		return demand{action: action, resource: secretResource("*")}
	}
}

func secretResource(path string) string { return access.Resource("secrets:secret", path) }

// creates is the permission for POST /connectors, which names the connector in its body. What names none is for the
// handler to refuse, which reads it in the same way; it makes nothing.
func creates(ctx context.Context, s *Server, r *request) demand {
	c, err := readCreation(r.body)
	if err != nil || c.name == "" {
		return onList("connect:CreateConnector")(ctx, s, r)
	}
	return demand{action: "connect:CreateConnector", resource: connectorResource(c.name), uses: namedConnections(c.config)}
}

// puts is the permission for PUT config, which changes a connector or creates one. Which of the two it is, the worker that
// performs it knows; one that forwards it may not have read yet that the connector is there, or is gone.
func puts(ctx context.Context, s *Server, r *request) demand {
	d := demand{action: "connect:UpdateConnectorConfig", or: "connect:CreateConnector", resource: connectorResource(r.param("connector"))}
	if !s.namedInPath(ctx, r) {
		d.action, d.or = d.or, d.action
	}
	if s.leads() {
		d.or = ""
	}
	d.uses = connectionsInBody(r)
	return d
}

// leads tells whether this worker performs changes itself.
func (s *Server) leads() bool {
	return slices.ContainsFunc(s.w.Members(), func(m worker.Member) bool { return m.Leader && m.ID == s.w.ID() })
}

func connectorResource(name string) string { return access.Resource("connect:connector", name) }

// demands returns what a request asks for. Without a permission nobody may have it.
func (s *Server) demands(ctx context.Context, rt route, r *request) demand {
	if may := permissions[rt.method+" "+rt.path]; may != nil {
		return may(ctx, s, r)
	}
	return demand{action: r.Method, resource: r.URL.Path}
}

// judge decides whether the caller of a request may have what it asks for.
func (s *Server) judge(r *request, d demand) access.Decision {
	switch {
	case s.o.Roles == nil || d.free:
		return access.Decision{Allowed: true, Action: d.action, Resource: d.resource}
	case d.list:
		return s.roles().DecideList(r.caller(), time.Now(), d.action, d.resource)
	}
	decision := s.decide(r, d.action, d.resource)
	if !decision.Allowed && d.or != "" {
		if other := s.decide(r, d.or, d.resource); other.Allowed {
			decision = other
		}
	}
	for _, name := range d.namespaces {
		name = cmp.Or(name, "-/-/-")
		if deploy := s.decide(r, "kubernetes:DeployApps", access.Resource("kubernetes:namespace", name)); decision.Allowed && !deploy.Allowed {
			return deploy
		}
	}
	for _, name := range d.uses {
		if use := s.decide(r, "environments:UseKafkaConnection", kafkaConnectionResource(name.String())); decision.Allowed && !use.Allowed {
			return use
		}
	}
	return decision
}

func (s *Server) decide(r *request, action, resource string) access.Decision {
	return s.roles().Decide(r.caller(), time.Now(), action, resource)
}

// denied is the answer to a request that its caller may not have performed.
func (s *Server) denied(r *request, d access.Decision) error {
	s.log.Warn("request denied", "request", r.id, "user", r.user, "action", d.Action, "resource", d.Resource, "rule", d.Rule)
	return fail(http.StatusForbidden, "User %s may not do that: %s.", r.user, d.Reason())
}

// visible returns those of some connectors that the caller of a request may list, and do all of actions to.
func (s *Server) visible(r *request, connectors []string, actions ...string) []string {
	if s.o.Roles == nil {
		return connectors
	}
	actions = append(actions, "connect:ListConnectors")
	seen := make([]string, 0, len(connectors))
	for _, name := range connectors {
		if !slices.ContainsFunc(actions, func(action string) bool { return !s.decide(r, action, connectorResource(name)).Allowed }) {
			seen = append(seen, name)
		}
	}
	return seen
}

func (r *request) caller() access.Caller {
	return access.Caller{User: r.user, Groups: r.groups, How: r.how, Address: r.address()}
}

// Identity is the answer to GET /v1/whoami.
type Identity struct {
	User   string   `json:"user"` // empty if nobody has to log in
	Groups []string `json:"groups"`
	// Roles are the names of those that are bound to the user, and in force.
	Roles []string `json:"roles"`
	// Cluster is the group.id, by which roles name the cluster of workers (connect:cluster:ID).
	Cluster string `json:"cluster"`
}

func (s *Server) getIdentity(_ context.Context, r *request) (answer, error) {
	c := r.caller()
	who := Identity{User: c.User, Groups: orEmpty(c.Groups), Roles: []string{}, Cluster: s.o.Group}
	if s.o.Roles != nil {
		for _, role := range s.roles().Of(c, time.Now()) {
			who.Roles = append(who.Roles, role.Name)
		}
	}
	return ok(who)
}

// Permission is the answer to GET /v1/can.
type Permission struct {
	Allowed  bool   `json:"allowed"`
	Action   string `json:"action"`
	Resource string `json:"resource"`
	// Rule is the statement that decided; empty if none matched.
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

func (s *Server) getPermission(_ context.Context, r *request) (answer, error) {
	action, resource := r.query.Get("action"), r.query.Get("resource")
	if err := access.CheckQuestion(action, resource); err != nil {
		return answer{}, fail(http.StatusBadRequest, "%s", err)
	}
	if s.o.Roles == nil {
		return ok(Permission{Allowed: true, Action: action, Resource: resource, Reason: "there are no roles: access.roles.dir is not set"})
	}
	d := s.decide(r, action, resource)
	return ok(Permission{d.Allowed, action, resource, d.Rule, d.Reason()})
}

// Whoami returns who the server takes the caller for.
func (c *Client) Whoami(ctx context.Context) (who Identity, err error) {
	return who, c.call(ctx, "GET", "/v1/whoami", nil, &who)
}

// Can asks whether the caller may do an action on a resource.
func (c *Client) Can(ctx context.Context, action, resource string) (p Permission, err error) {
	query := url.Values{"action": {action}, "resource": {resource}}
	return p, c.call(ctx, "GET", "/v1/can?"+query.Encode(), nil, &p)
}

// onApp is the permission for an action on the app that the path names.
func onApp(action string) permission {
	return func(_ context.Context, _ *Server, r *request) demand {
		return demand{action: action, resource: access.Resource("k2k:app", r.param("app"))}
	}
}

// putsApp is the permission for PUT of an app, which changes it or creates it: with its connections and namespaces, those that it
// has and those that it is to have.
func putsApp(ctx context.Context, s *Server, r *request) demand {
	d := changesApp(ctx, s, r)
	if !s.appInPath(ctx, r) {
		d.action = "k2k:CreateApp"
	}
	if spec, err := k2k.Decode(r.param("app"), r.body); err == nil {
		d.deploys(spec)
	}
	return d
}

// changesApp is the permission for a change of an app that leaves it its connections.
func changesApp(ctx context.Context, s *Server, r *request) demand {
	d := demand{action: "k2k:UpdateApp", or: "k2k:UpsertApp", resource: access.Resource("k2k:app", r.param("app"))}
	if a, err := s.w.App(ctx, r.param("app")); err == nil {
		d.deploys(a.Spec)
	}
	return d
}

// deploys adds what an app is deployed to, and with.
func (d *demand) deploys(spec k2k.Spec) {
	for _, side := range []string{spec.Source, spec.Target} {
		if name, err := kafka.ParseName(side); err == nil {
			d.uses = append(d.uses, name)
		}
	}
	d.namespaces = append(d.namespaces, spec.Namespace) // an app without one needs a grant on all
}

// seesApp says whether an app is among those that the caller of a request may list.
func (s *Server) seesApp(r *request, name string) bool {
	if s.o.Roles == nil {
		return true
	}
	resource := access.Resource("k2k:app", name)
	return s.decide(r, "k2k:ListApps", resource).Allowed && s.decide(r, "k2k:GetApp", resource).Allowed
}
