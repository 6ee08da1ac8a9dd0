package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"barnabas/k2k"
	"barnabas/worker"
)

const (
	appsPath = "/v1/apps"
	appRoute = appsPath + "/:app"
)

// appRoutes are those of replication apps.
func appRoutes(s *Server) []route {
	return []route{
		{method: "GET", path: appsPath, handle: s.listApps},
		{method: "GET", path: appRoute, handle: s.getApp},
		{method: "PUT", path: appRoute, handle: s.putApp, body: true, known: s.appInPath, settle: s.settlePutApp},
		{method: "DELETE", path: appRoute, handle: s.deleteApp, known: s.appInPath, settle: settleDelete},
		{method: "PUT", path: appRoute + "/pause", handle: s.setAppState(k2k.Paused)},
		{method: "PUT", path: appRoute + "/resume", handle: s.setAppState(k2k.Running)},
		{method: "PUT", path: appRoute + "/stop", handle: s.setAppState(k2k.Stopped)},
		{method: "GET", path: appRoute + "/offsets", handle: s.getAppOffsets},
		{method: "PATCH", path: appRoute + "/offsets", handle: s.moveAppOffsets, body: true},
		{method: "DELETE", path: appRoute + "/offsets", handle: s.resetAppOffsets},
	}
}

// App is a replication app with what it does.
type App struct {
	worker.App
	Status *AppStatus `json:"status,omitempty"`
}

// AppStatus is what an app does.
type AppStatus struct {
	// State is that of the connector that copies, as in Replication: RUNNING, PAUSED, STOPPED, UNASSIGNED, DEGRADED, FAILED.
	State string `json:"state"`
	// Says is the same in words.
	Says string `json:"says"`
	// LastError is why it is not in order; empty if it is.
	LastError  string `json:"last_error,omitempty"`
	Tasks      int    `json:"tasks"`
	Topics     int    `json:"topics"` // that tasks copy
	Partitions int    `json:"partitions"`
	// Lag is -1 where it is unknown.
	LagRecords  int64   `json:"lag_records"`
	LagBytes    int64   `json:"lag_bytes"`
	LagSeconds  float64 `json:"lag_seconds"`
	BytesPerSec float64 `json:"bytes_per_second"`
	// Others are the states of the app's other connectors.
	Others map[string]string `json:"others,omitempty"`
}

// AppOffsets is the answer to GET /v1/apps/{app}/offsets, and what PATCH takes.
type AppOffsets struct {
	Offsets []worker.AppOffset `json:"offsets"`
}

// listApps lists them with the states of their connectors alone: a list asks no other worker.
func (s *Server) listApps(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.Apps(ctx)
	if err != nil {
		return answer{}, err
	}
	list := []App{}
	for _, a := range all {
		if !s.seesApp(r, a.Name) {
			continue
		}
		one := App{App: a}
		if status, err := s.w.Status(ctx, a.Name); err == nil {
			sum := summarize(status, nil)
			one.Status = &AppStatus{State: sum.State, LastError: sum.Reason, Tasks: len(status.Tasks), LagRecords: -1, LagBytes: -1, LagSeconds: -1}
			one.Status.Says = one.Status.words(a.Spec)
		}
		list = append(list, one)
	}
	return ok(list)
}

func (s *Server) getApp(ctx context.Context, r *request) (answer, error) {
	a, err := s.w.App(ctx, r.param("app"))
	if err != nil {
		return answer{}, err
	}
	return ok(App{a, s.appStatus(ctx, r, a)})
}

// appStatus asks the workers that run an app what it does; nil: nothing is known yet.
func (s *Server) appStatus(ctx context.Context, r *request, a worker.App) *AppStatus {
	rep, err := s.replication(ctx, r, a.Name)
	if err != nil {
		return nil
	}
	st := &AppStatus{
		State: rep.Status, LastError: rep.Reason, Tasks: len(rep.Tasks), Partitions: rep.Totals.Partitions, LagRecords: rep.Totals.LagRecords,
		LagBytes: rep.Totals.LagBytes, LagSeconds: rep.Totals.LagSeconds, BytesPerSec: rep.Totals.BytesPerSec,
	}
	topics := map[string]bool{}
	for _, t := range rep.Tasks {
		for _, p := range t.Partitions {
			topics[p.Topic] = true
		}
	}
	st.Topics = len(topics)
	for _, other := range a.Connectors[1:] {
		if status, err := s.w.Status(ctx, other); err == nil {
			if st.Others == nil {
				st.Others = map[string]string{}
			}
			sum := summarize(status, nil)
			st.Others[other] = sum.State
			if sum.State == "FAILED" && st.LastError == "" {
				st.LastError = other + ": " + sum.Reason
			}
		}
	}
	st.Says = st.words(a.Spec)
	return st
}

// words say what an app does.
func (st *AppStatus) words(spec k2k.Spec) string {
	topics := fmt.Sprintf("%s from %s to %s", strings.Join(spec.Topics, ", "), spec.Source, spec.Target)
	switch {
	case st.State == "PAUSED":
		return "paused: copies nothing of " + topics
	case st.State == "STOPPED":
		return "stopped: copies nothing of " + topics
	case st.State == "FAILED":
		return "failed: " + st.LastError
	case st.State == "UNASSIGNED":
		return "waits for a worker: " + st.LastError
	case st.State == stateRunning && st.Tasks == 0:
		return "looks for topics: " + topics
	}
	text := "copies " + topics
	if st.Partitions > 0 {
		text = fmt.Sprintf("copies %s, %s, of %s", count(st.Topics, "topic"), count(st.Partitions, "partition"), topics)
	}
	switch {
	case st.LagRecords == 0:
		text += ", all that is there"
	case st.LagRecords > 0:
		text += fmt.Sprintf(", %s behind", count(int(st.LagRecords), "record"))
	}
	if st.State != stateRunning && st.LastError != "" {
		text += "; " + strings.ToLower(st.State) + ": " + st.LastError
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// condition reads If-None-Match: * (it is not to be there yet) and If-Match: * or a version (it is to be there).
func condition(r *request) (c worker.AppCondition, err error) {
	none, match := r.Header.Get("If-None-Match"), strings.Trim(r.Header.Get("If-Match"), `"`)
	switch {
	case none == "*":
		c.Absent = true
	case none != "":
		return c, fail(http.StatusBadRequest, "If-None-Match is *, or is not there.")
	}
	switch {
	case match == "*":
		c.Present = true
	case match != "":
		if c.Version, err = strconv.ParseInt(match, 10, 64); err != nil || c.Version < 1 {
			return c, fail(http.StatusBadRequest, "If-Match is *, or the number of a version.")
		}
	}
	return c, nil
}

func (s *Server) putApp(ctx context.Context, r *request) (answer, error) {
	name := r.param("app")
	when, err := condition(r)
	if err != nil {
		return answer{}, err
	}
	spec, err := k2k.Decode(name, r.body)
	if err != nil {
		return answer{}, fail(http.StatusBadRequest, "App %s is wrong: %s", name, err)
	}
	a, isNew, err := s.w.PutApp(ctx, name, spec, when)
	if err != nil {
		return answer{}, err
	}
	if !isNew {
		return ok(App{App: a})
	}
	out, err := reply(http.StatusCreated, App{App: a})
	out.location = appPath(name)
	return out, err
}

func (s *Server) appInPath(ctx context.Context, r *request) bool {
	_, err := s.w.App(ctx, r.param("app"))
	return err == nil
}

// settlePutApp judges the answer to a repetition: what the first attempt has created is no conflict for it.
func (s *Server) settlePutApp(ctx context.Context, r *request, known bool, a answer) answer {
	name := r.param("app")
	if a.status == http.StatusConflict && !known {
		spec, err := k2k.Decode(name, r.body)
		there, gone := s.w.App(ctx, name)
		if err == nil && gone == nil && there.Equal(spec) {
			a, _ = ok(App{App: there})
		}
	}
	if a.status == http.StatusOK && !known {
		a.status, a.location = http.StatusCreated, appPath(name)
	}
	return a
}

func (s *Server) deleteApp(ctx context.Context, r *request) (answer, error) {
	if err := s.w.DeleteApp(ctx, r.param("app")); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

func (s *Server) setAppState(state string) handler {
	return func(ctx context.Context, r *request) (answer, error) {
		a, err := s.w.SetAppState(ctx, r.param("app"), state)
		if err != nil {
			return answer{}, err
		}
		return reply(http.StatusAccepted, App{App: a})
	}
}

func (s *Server) getAppOffsets(ctx context.Context, r *request) (answer, error) {
	all, err := s.w.AppOffsets(ctx, r.param("app"))
	if err != nil {
		return answer{}, err
	}
	return ok(AppOffsets{all})
}

func (s *Server) moveAppOffsets(ctx context.Context, r *request) (answer, error) {
	var to AppOffsets
	if json.Unmarshal(r.body, &to) != nil {
		return answer{}, fail(http.StatusBadRequest, `The request moves no offset: {"offsets": [{"topic": "orders-eu", "partition": 0, "offset": 17}]}.`)
	}
	if err := s.w.MoveAppOffsets(ctx, r.param("app"), to.Offsets); err != nil {
		return answer{}, err
	}
	return s.getAppOffsets(ctx, r)
}

func (s *Server) resetAppOffsets(ctx context.Context, r *request) (answer, error) {
	if err := s.w.ResetAppOffsets(ctx, r.param("app")); err != nil {
		return answer{}, err
	}
	return empty(http.StatusNoContent)
}

func appPath(name string) string { return appsPath + "/" + url.PathEscape(name) }

// Apps lists the replication apps.
func (c *Client) Apps(ctx context.Context) (all []App, err error) {
	return all, c.call(ctx, "GET", appsPath, nil, &all)
}

// App returns one with what it does.
func (c *Client) App(ctx context.Context, name string) (a App, err error) {
	return a, c.call(ctx, "GET", appPath(name), nil, &a)
}

// PutApp creates an app or changes it.
func (c *Client) PutApp(ctx context.Context, name string, spec k2k.Spec, when worker.AppCondition) (a App, err error) {
	with := *c
	with.header = c.header.Clone()
	if with.header == nil {
		with.header = http.Header{}
	}
	switch {
	case when.Absent:
		with.header.Set("If-None-Match", "*")
	case when.Version != 0:
		with.header.Set("If-Match", strconv.FormatInt(when.Version, 10))
	case when.Present:
		with.header.Set("If-Match", "*")
	}
	return a, with.call(ctx, "PUT", appPath(name), spec, &a)
}

// DeleteApp deletes an app with its connectors.
func (c *Client) DeleteApp(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", appPath(name), nil, nil)
}

// SetAppState pauses, resumes or stops an app: what is pause, resume or stop.
func (c *Client) SetAppState(ctx context.Context, name, what string) (a App, err error) {
	return a, c.call(ctx, "PUT", appPath(name)+"/"+what, nil, &a)
}

// AppOffsets returns where an app goes on.
func (c *Client) AppOffsets(ctx context.Context, name string) (o AppOffsets, err error) {
	return o, c.call(ctx, "GET", appPath(name)+"/offsets", nil, &o)
}

// MoveAppOffsets has an app go on elsewhere.
func (c *Client) MoveAppOffsets(ctx context.Context, name string, to AppOffsets) (o AppOffsets, err error) {
	return o, c.call(ctx, "PATCH", appPath(name)+"/offsets", to, &o)
}

// ResetAppOffsets has an app begin anew.
func (c *Client) ResetAppOffsets(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", appPath(name)+"/offsets", nil, nil)
}
