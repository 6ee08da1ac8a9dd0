package rest

import (
	"context"
	"errors"
	"slices"
	"time"

	"barnabas/connector"
	"barnabas/worker"
)

// Detail is the answer to GET /v1/connectors/{connector}/status: Connect's status, and what it does not say.
type Detail struct {
	Name string         `json:"name"`
	Type connector.Type `json:"type"`
	// State is the worst of the connector and its tasks, as in Replication.
	State     string          `json:"state"`
	Reason    string          `json:"reason,omitempty"`
	Connector UnitDetail      `json:"connector"`
	Tasks     []TaskDetail    `json:"tasks"`
	Missing   []MissingWorker `json:"missing,omitempty"`
}

// UnitDetail is the state of a connector instance or task, and what is known of its failures, if it ever had one.
type UnitDetail struct {
	worker.InstanceState
	Restarts *worker.RestartState `json:"restarts,omitempty"`
}

// TaskDetail is the state of a task and how far it is. Lag is -1 where it is unknown.
type TaskDetail struct {
	ID int `json:"id"`
	UnitDetail
	LastProgress *time.Time `json:"last_progress,omitempty"`
	LagRecords   int64      `json:"lag_records"`
	LagBytes     int64      `json:"lag_bytes"`
	LagSeconds   float64    `json:"lag_seconds"`
}

// Summary is one connector in the answer to GET /v1/connectors.
type Summary struct {
	Name   string         `json:"name"`
	Type   connector.Type `json:"type"`
	State  string         `json:"state"` // the worst of the connector and its tasks
	Reason string         `json:"reason,omitempty"`
	Tasks  map[string]int `json:"tasks"` // by state
	// Failed are the tasks that have failed; -1 is the connector itself.
	Failed []FailedUnit `json:"failed,omitempty"`
}

// FailedUnit is a task that has failed.
type FailedUnit struct {
	Task     int        `json:"task"`
	WorkerID string     `json:"worker_id"`
	Trace    string     `json:"trace,omitempty"`
	Restart  *time.Time `json:"restart,omitempty"` // when it is restarted by itself
	Held     string     `json:"held,omitempty"`    // why it is not
}

func (s *Server) getDetail(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	status, err := s.w.Status(ctx, name)
	if err != nil {
		return answer{}, err
	}
	restarts, err := s.w.Restarts(ctx, name)
	if err != nil {
		return answer{}, err
	}
	progress, err := s.replication(ctx, r, name)
	if err != nil {
		return answer{}, err
	}
	d := Detail{Name: name, Type: status.Type, Connector: UnitDetail{status.Connector, known(restarts, -1)}, Tasks: []TaskDetail{}, Missing: progress.Missing}
	for _, t := range status.Tasks {
		detail := TaskDetail{
			ID: t.ID, UnitDetail: UnitDetail{instanceOf(t), known(restarts, t.ID)}, LagRecords: -1, LagBytes: -1, LagSeconds: -1,
		}
		for _, p := range progress.Tasks {
			if p.Task == t.ID && p.WorkerID == t.WorkerID {
				sum := totals([]worker.TaskReplication{p})
				detail.LastProgress, detail.LagRecords, detail.LagBytes, detail.LagSeconds = p.LastProgress, sum.LagRecords, sum.LagBytes, sum.LagSeconds
			}
		}
		d.Tasks = append(d.Tasks, detail)
	}
	d.State, d.Reason = judge(status.Connector, unreported(status), nil)
	return ok(d)
}

func known(restarts map[int]worker.RestartState, task int) *worker.RestartState {
	s, there := restarts[task]
	if !there {
		return nil
	}
	s.Failures = orEmpty(s.Failures)
	return &s
}

func instanceOf(t worker.TaskState) worker.InstanceState {
	return worker.InstanceState{State: t.State, WorkerID: t.WorkerID, Version: t.Version, Trace: t.Trace}
}

// unreported are the tasks of a status as judge wants them, without their progress.
func unreported(status worker.ConnectorStatus) (tasks []worker.TaskReplication) {
	for _, t := range status.Tasks {
		tasks = append(tasks, worker.TaskReplication{Task: t.ID, WorkerID: t.WorkerID, State: t.State, Trace: t.Trace})
	}
	return tasks
}

// listSummaries answers from this worker's knowledge alone.
func (s *Server) listSummaries(ctx context.Context, r *request) (answer, error) {
	names, err := s.w.Connectors(ctx)
	if err != nil {
		return answer{}, err
	}
	names = s.visible(r, names, "connect:GetConnectorStatus")
	all := make([]Summary, 0, len(names))
	for _, name := range names {
		status, err := s.w.Status(ctx, name)
		restarts, restartsErr := s.w.Restarts(ctx, name)
		err = errors.Join(err, restartsErr)
		if errors.Is(err, worker.ErrNotFound) {
			continue // deleted since it was listed
		}
		if err != nil {
			return answer{}, err
		}
		all = append(all, summarize(status, restarts))
	}
	return ok(all)
}

func summarize(status worker.ConnectorStatus, restarts map[int]worker.RestartState) Summary {
	s := Summary{Name: status.Name, Type: status.Type, Tasks: map[string]int{}}
	s.State, s.Reason = judge(status.Connector, unreported(status), nil)
	units := []worker.TaskState{{ID: -1, State: status.Connector.State, WorkerID: status.Connector.WorkerID, Trace: status.Connector.Trace}}
	for _, t := range slices.Concat(units, status.Tasks) {
		if t.ID >= 0 {
			s.Tasks[t.State]++
		}
		if t.State == stateFailed {
			s.Failed = append(s.Failed, FailedUnit{t.ID, t.WorkerID, t.Trace, restarts[t.ID].Next, restarts[t.ID].Held})
		}
	}
	return s
}

// Detail returns the status of a connector with progress, lag and restarts.
func (c *Client) Detail(ctx context.Context, name string) (d Detail, err error) {
	return d, c.call(ctx, "GET", historyPath(name)+"/status", nil, &d)
}

// Summaries lists all connectors with what has failed.
func (c *Client) Summaries(ctx context.Context) (all []Summary, err error) {
	return all, c.call(ctx, "GET", "/v1/connectors", nil, &all)
}
