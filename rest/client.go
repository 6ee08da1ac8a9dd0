package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/worker"
)

// ClientOptions is what a Client needs. Its zero value asks http://localhost:8083.
type ClientOptions struct {
	// URLs are the addresses of workers, any of a cluster; the next one is asked
	// when one cannot be reached.
	URLs []string
	// User and Password are sent as basic authentication if User is not empty.
	User     string
	Password config.Secret
	// Token is sent as a bearer token if User is empty.
	Token config.Secret
	// TLS is for https URLs.
	TLS *tls.Config
	// Timeout bounds one attempt; 0 means 60 s, which is more than a worker
	// takes to give up.
	Timeout time.Duration
	// Retry bounds how long a request is repeated while no worker can be
	// reached or none is ready; 0 means 10 s, negative never.
	Retry time.Duration
	// Warn, unless nil, is told what a worker warns of beside its answers.
	Warn func(text string)
}

// Client asks a cluster through its REST API. Its methods return a *StatusError
// for an answer that refuses, and otherwise what went wrong on the way. It may be used by many
// goroutines.
type Client struct {
	http     *http.Client
	urls     []string
	user     string
	password config.Secret
	token    config.Secret
	header   http.Header
	timeout  time.Duration
	retry    time.Duration
	warn     func(string)
}

// DefaultURL is where a worker listens unless told otherwise.
const DefaultURL = "http://localhost:8083"

// NewClient checks the options. It opens nothing.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{
		http: newHTTPClient(o.TLS, nil), user: o.User, password: o.Password, token: o.Token, timeout: o.Timeout, retry: o.Retry, warn: o.Warn,
	}
	if c.timeout == 0 {
		c.timeout = time.Minute
	}
	if c.retry == 0 {
		c.retry = 10 * time.Second
	}
	for _, raw := range o.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("the address of a worker is http://HOST:PORT or https://HOST:PORT, not %q", raw)
		}
		if u.User != nil {
			return nil, fmt.Errorf("the address of %s holds a user; give it separately, so that it is not logged", u.Host)
		}
		c.urls = append(c.urls, strings.TrimRight(raw, "/"))
	}
	if len(c.urls) == 0 {
		c.urls = []string{DefaultURL}
	}
	return c, nil
}

// StatusError is an answer with an error body.
type StatusError struct {
	Status    int    // of HTTP
	Code      int    // error_code of the body, usually the same
	Message   string // for a person
	URL       string // of the worker that was asked
	RequestID string // to find the request in the worker's log
}

func (e *StatusError) Error() string { return e.Message }

// IsNotFound tells whether err is a 404.
func IsNotFound(err error) bool { return HasStatus(err, http.StatusNotFound) }

// IsConflict tells whether err is a 409.
func IsConflict(err error) bool { return HasStatus(err, http.StatusConflict) }

// HasStatus tells whether err is an answer with a status.
func HasStatus(err error, status int) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == status
}

// Server asks the worker for its version and Kafka cluster.
func (c *Client) Server(ctx context.Context) (info worker.ServerInfo, err error) {
	return info, c.call(ctx, "GET", "/", nil, &info)
}

// Health asks the worker for its health. An unhealthy worker is no error: it
// answers why.
func (c *Client) Health(ctx context.Context) (h worker.Health, err error) {
	a, base, err := c.send(ctx, "GET", "/health", nil)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(a.body, &h); err != nil || h.Status == "" {
		return h, statusError(a, base)
	}
	h.Healthy = a.status == http.StatusOK
	return h, nil
}

// Connectors lists the names of all connectors.
func (c *Client) Connectors(ctx context.Context) (names []string, err error) {
	return names, c.call(ctx, "GET", "/connectors", nil, &names)
}

// Expanded lists all connectors with status and description.
func (c *Client) Expanded(ctx context.Context) (all map[string]Expansion, err error) {
	return all, c.call(ctx, "GET", "/connectors?expand=status&expand=info", nil, &all)
}

// Connector describes a connector.
func (c *Client) Connector(ctx context.Context, name string) (info worker.ConnectorInfo, err error) {
	return info, c.call(ctx, "GET", connectorPath(name), nil, &info)
}

// Config returns a connector's configuration, references as written.
func (c *Client) Config(ctx context.Context, name string) (config map[string]string, err error) {
	return config, c.call(ctx, "GET", connectorPath(name)+"/config", nil, &config)
}

// Create creates a connector. initial is its target state; empty means STARTED.
func (c *Client) Create(ctx context.Context, name string, config map[string]string, initial worker.TargetState) (info worker.ConnectorInfo, err error) {
	body := map[string]any{"name": name, "config": config}
	if initial != "" {
		body["initial_state"] = map[worker.TargetState]string{
			worker.Started: "RUNNING", worker.Paused: "PAUSED", worker.Stopped: "STOPPED",
		}[initial]
	}
	return info, c.call(ctx, "POST", "/connectors", body, &info)
}

// PutConfig creates a connector or replaces its configuration.
func (c *Client) PutConfig(ctx context.Context, name string, config map[string]string) (info worker.ConnectorInfo, err error) {
	return info, c.call(ctx, "PUT", connectorPath(name)+"/config", config, &info)
}

// PatchConfig changes single settings; nil removes one.
func (c *Client) PatchConfig(ctx context.Context, name string, patch map[string]*string) (info worker.ConnectorInfo, err error) {
	return info, c.call(ctx, "PATCH", connectorPath(name)+"/config", patch, &info)
}

// Delete deletes a connector.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", connectorPath(name), nil, nil)
}

// Status returns the state of a connector and its tasks.
func (c *Client) Status(ctx context.Context, name string) (status worker.ConnectorStatus, err error) {
	return status, c.call(ctx, "GET", connectorPath(name)+"/status", nil, &status)
}

// Tasks returns the tasks of a connector with their configurations.
func (c *Client) Tasks(ctx context.Context, name string) (tasks []worker.TaskInfo, err error) {
	return tasks, c.call(ctx, "GET", connectorPath(name)+"/tasks", nil, &tasks)
}

// TaskStatus returns the state of one task.
func (c *Client) TaskStatus(ctx context.Context, id worker.TaskID) (state worker.TaskState, err error) {
	return state, c.call(ctx, "GET", taskPath(id)+"/status", nil, &state)
}

func taskPath(id worker.TaskID) string {
	return connectorPath(id.Connector) + "/tasks/" + strconv.Itoa(id.Task)
}

// Pause pauses a connector: its tasks stay, and do nothing.
func (c *Client) Pause(ctx context.Context, name string) error {
	return c.call(ctx, "PUT", connectorPath(name)+"/pause", nil, nil)
}

// Resume starts a paused or stopped connector.
func (c *Client) Resume(ctx context.Context, name string) error {
	return c.call(ctx, "PUT", connectorPath(name)+"/resume", nil, nil)
}

// Stop stops a connector: it has no tasks then.
func (c *Client) Stop(ctx context.Context, name string) error {
	return c.call(ctx, "PUT", connectorPath(name)+"/stop", nil, nil)
}

// Restart restarts a connector's instance, not its tasks.
func (c *Client) Restart(ctx context.Context, name string) error {
	return c.call(ctx, "POST", connectorPath(name)+"/restart", nil, nil)
}

// RestartFlagged restarts a connector with its tasks if includeTasks, and only
// what has failed if onlyFailed. One of them has to be true. It returns what is being restarted.
func (c *Client) RestartFlagged(ctx context.Context, name string, includeTasks, onlyFailed bool) (status worker.ConnectorStatus, err error) {
	query := url.Values{"includeTasks": {strconv.FormatBool(includeTasks)}, "onlyFailed": {strconv.FormatBool(onlyFailed)}}
	return status, c.call(ctx, "POST", connectorPath(name)+"/restart?"+query.Encode(), nil, &status)
}

// RestartTask restarts one task.
func (c *Client) RestartTask(ctx context.Context, id worker.TaskID) error {
	return c.call(ctx, "POST", taskPath(id)+"/restart", nil, nil)
}

// Offsets returns the source offsets of a connector.
func (c *Client) Offsets(ctx context.Context, name string) ([]worker.OffsetEntry, error) {
	var offsets connectorOffsets
	err := c.call(ctx, "GET", connectorPath(name)+"/offsets", nil, &offsets)
	return offsets.Offsets, err
}

// ActiveTopics returns the topics that a connector has written to.
func (c *Client) ActiveTopics(ctx context.Context, name string) ([]string, error) {
	var topics map[string]activeTopics
	err := c.call(ctx, "GET", connectorPath(name)+"/topics", nil, &topics)
	return topics[name].Topics, err
}

// ResetTopics forgets which topics a connector has written to.
func (c *Client) ResetTopics(ctx context.Context, name string) error {
	return c.call(ctx, "PUT", connectorPath(name)+"/topics/reset", nil, nil)
}

// AlterOffsets sets source offsets of a stopped connector; an Offset of null deletes one. It returns Connect's message.
func (c *Client) AlterOffsets(ctx context.Context, name string, offsets []worker.OffsetEntry) (string, error) {
	var done message
	err := c.call(ctx, "PATCH", connectorPath(name)+"/offsets", connectorOffsets{offsets}, &done)
	return done.Message, err
}

// ResetOffsets deletes all source offsets of a stopped connector. It returns Connect's message.
func (c *Client) ResetOffsets(ctx context.Context, name string) (string, error) {
	var done message
	err := c.call(ctx, "DELETE", connectorPath(name)+"/offsets", nil, &done)
	return done.Message, err
}

// Plugins lists the kinds of connectors.
func (c *Client) Plugins(ctx context.Context) (plugins []worker.PluginInfo, err error) {
	return plugins, c.call(ctx, "GET", "/connector-plugins", nil, &plugins)
}

// AllPlugins lists transforms, predicates and converters besides.
func (c *Client) AllPlugins(ctx context.Context) (plugins []worker.PluginInfo, err error) {
	return plugins, c.call(ctx, "GET", "/connector-plugins?connectorsOnly=false", nil, &plugins)
}

// PluginConfig lists the keys of a connector's configuration.
func (c *Client) PluginConfig(ctx context.Context, plugin string) (keys []config.KeyInfo, err error) {
	return keys, c.call(ctx, "GET", "/connector-plugins/"+url.PathEscape(plugin)+"/config", nil, &keys)
}

// Validate checks a configuration, which names its class.
func (c *Client) Validate(ctx context.Context, written map[string]string) (infos worker.ConfigInfos, err error) {
	return infos, c.call(ctx, "PUT", "/connector-plugins/"+url.PathEscape(written[classKey])+"/config/validate", written, &infos)
}

// Loggers returns the loggers of the worker that is asked, with their levels.
func (c *Client) Loggers(ctx context.Context) (levels map[string]LoggerLevel, err error) {
	return levels, c.call(ctx, "GET", "/admin/loggers", nil, &levels)
}

// Logger returns the level of one logger.
func (c *Client) Logger(ctx context.Context, name string) (level LoggerLevel, err error) {
	return level, c.call(ctx, "GET", "/admin/loggers/"+url.PathEscape(name), nil, &level)
}

// SetLogger sets the level of a logger of the worker that is asked, and returns
// the loggers whose level changed.
func (c *Client) SetLogger(ctx context.Context, name, level string) (changed []string, err error) {
	return changed, c.call(ctx, "PUT", "/admin/loggers/"+url.PathEscape(name), map[string]string{"level": level}, &changed)
}

// SetLoggerEverywhere sets the level of a logger on all workers.
func (c *Client) SetLoggerEverywhere(ctx context.Context, name, level string) error {
	return c.call(ctx, "PUT", "/admin/loggers/"+url.PathEscape(name)+"?scope=cluster", map[string]string{"level": level}, nil)
}

// Workers lists the members of the cluster as the worker that is asked sees them.
func (c *Client) Workers(ctx context.Context) (members []worker.Member, err error) {
	return members, c.call(ctx, "GET", "/v1/workers", nil, &members)
}

// Worker describes one member.
func (c *Client) Worker(ctx context.Context, id string) (member worker.Member, err error) {
	return member, c.call(ctx, "GET", "/v1/workers/"+url.PathEscape(id), nil, &member)
}

// DrainWorker has a worker give away what it runs and get nothing, or takes that back.
func (c *Client) DrainWorker(ctx context.Context, id string, on bool) error {
	method := "PUT"
	if !on {
		method = "DELETE"
	}
	return c.call(ctx, method, "/v1/workers/"+url.PathEscape(id)+"/drain", nil, nil)
}

// Replication tells how far the tasks of a connector are.
func (c *Client) Replication(ctx context.Context, name string) (r Replication, err error) {
	return r, c.call(ctx, "GET", "/v1/replication/"+url.PathEscape(name), nil, &r)
}

// LocalReplication tells how far those tasks are that run on the worker that is asked.
func (c *Client) LocalReplication(ctx context.Context, name string) (r Replication, err error) {
	return r, c.call(ctx, "GET", "/v1/replication/"+url.PathEscape(name)+"?local=true", nil, &r)
}

// Gaps returns the gap ledger of a connector.
func (c *Client) Gaps(ctx context.Context, name string) (g Gaps, err error) {
	return g, c.call(ctx, "GET", "/v1/replication/"+url.PathEscape(name)+"/gaps", nil, &g)
}

// Translate says where groups go on at the target of a mirror: those named, or all, for the topics named, or all.
func (c *Client) Translate(ctx context.Context, name string, groups, topics []string) (t Translations, err error) {
	path := "/v1/replication/" + url.PathEscape(name) + "/translate"
	if query := (url.Values{"group": groups, "topic": topics}).Encode(); query != "" {
		path += "?" + query
	}
	return t, c.call(ctx, "GET", path, nil, &t)
}

// FailoverPlan says what stands in the way of a failover to the target of a mirror; see the query of
// /v1/replication/{connector}/failover.
func (c *Client) FailoverPlan(ctx context.Context, name string, maxLag int64, watch, recent time.Duration) (p FailoverPlan, err error) {
	query := url.Values{"max_lag": {strconv.FormatInt(maxLag, 10)}, "watch": {watch.String()}, "recent": {recent.String()}}
	return p, c.call(ctx, "GET", "/v1/replication/"+url.PathEscape(name)+"/failover?"+query.Encode(), nil, &p)
}

// LocalGaps returns the gap ledgers of those tasks that run on the worker that is asked.
func (c *Client) LocalGaps(ctx context.Context, name string) (g Gaps, err error) {
	return g, c.call(ctx, "GET", "/v1/replication/"+url.PathEscape(name)+"/gaps?local=true", nil, &g)
}

// Metrics returns the worker's metrics in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	a, base, err := c.send(ctx, "GET", "/metrics", nil)
	if err == nil && a.status != http.StatusOK {
		err = statusError(a, base)
	}
	return string(a.body), err
}

// call sends a request with in as its body, if any, and reads the answer into
// out, if any.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	a, base, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	if a.warning != "" && c.warn != nil {
		c.warn(a.warning)
	}
	if a.status >= 300 {
		return statusError(a, base)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return fmt.Errorf("%s%s did not answer with what was expected: %w", base, path, err)
	}
	return nil
}

func statusError(a answer, base string) error {
	e := &StatusError{Status: a.status, Code: a.status, Message: messageOf(a), URL: base, RequestID: a.requestID}
	var body errorBody
	if json.Unmarshal(a.body, &body) == nil && body.Code != 0 {
		e.Code = body.Code
	}
	return e
}

// send sends a request until it is answered. What certainly was not performed (no connection, or a 503 that
// says so) is repeated within the bound, at the next address; what may have been performed only
// if performing it twice is harmless, which a creation is not.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (answer, string, error) {
	deadline := time.Now().Add(c.retry)
	for attempt, wait := 0, 100*time.Millisecond; ; attempt++ {
		base := c.urls[attempt%len(c.urls)]
		a, err := c.attempt(ctx, base, method, path, body)
		if !repeatable(method, path, a, err) || ctx.Err() != nil {
			return a, base, explain(base, err)
		}
		if (attempt+1)%len(c.urls) != 0 {
			continue // another address may answer at once
		}
		pause := wait/2 + rand.N(wait)
		if wait = min(2*wait, 2*time.Second); time.Now().Add(pause).After(deadline) {
			return a, base, explain(strings.Join(c.urls, ", "), err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return a, base, explain(base, ctx.Err())
		}
	}
}

func repeatable(method, path string, a answer, err error) bool {
	harmless := method != http.MethodPost
	var lost *lostError
	switch {
	case errors.As(err, &lost):
		return harmless
	case err != nil:
		return true
	case path == "/health":
		return false // 503 is its answer
	}
	return a.status == http.StatusServiceUnavailable && (harmless || a.retryAfter)
}

func explain(address string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("no answer from %s: %w", address, err)
}

func (c *Client) attempt(ctx context.Context, base, method, path string, body []byte) (answer, error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, &lostError{err}
	}
	maps.Copy(req.Header, c.header)
	req.Header.Set("Accept", jsonType)
	if body != nil {
		req.Header.Set("Content-Type", jsonType)
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password.Reveal())
	} else if token := c.token.Reveal(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return exchange(c.http, req)
}
