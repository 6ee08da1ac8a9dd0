package rest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"barnabas/connector"
	"barnabas/worker"
)

// Replication is the answer to GET /v1/replication/{connector}: what all workers
// that run its tasks say, and who did not answer.
type Replication struct {
	Connector string `json:"connector"`
	// Status is the worst of the connector, its tasks, their partitions and the workers that do not answer: FAILED,
	// STOPPED, DEGRADED, or a state of Kafka Connect's that is no trouble.
	Status  string          `json:"status"`
	Reason  string          `json:"reason,omitempty"` // why it is not RUNNING
	Totals  Totals          `json:"totals"`
	Missing []MissingWorker `json:"missing,omitempty"`
	// Notes are what the connector itself cannot do, or leaves out, the oldest first.
	Notes []connector.Note         `json:"notes,omitempty"`
	Tasks []worker.TaskReplication `json:"tasks"`
}

// Totals sums up the partitions of the tasks that have answered.
type Totals struct {
	Partitions int `json:"partitions"`
	// LagUnknown counts the partitions whose lag in records is not known; the sums leave them out.
	LagUnknown    int              `json:"lag_unknown"`
	LagRecords    int64            `json:"lag_records"` // -1: known of none
	LagBytes      int64            `json:"lag_bytes"`   // likewise
	LagBytesExact bool             `json:"lag_bytes_exact"`
	LagSeconds    float64          `json:"lag_seconds"` // the greatest; -1: known of none
	RecordsPerSec float64          `json:"records_per_second"`
	BytesPerSec   float64          `json:"bytes_per_second"`
	Decisions     map[string]int64 `json:"decisions"`
}

// MissingWorker is a worker that runs tasks and did not say how far they are.
type MissingWorker struct {
	WorkerID string `json:"worker_id"`
	Reason   string `json:"reason"`
}

// getReplication tells how far a connector's tasks are. A task shows without partitions
// if its worker cannot be asked. local=true asks only this worker.
func (s *Server) getReplication(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	if !isTrue(r.query.Get("local")) {
		all, err := s.replication(ctx, r, name)
		if err != nil {
			return answer{}, err
		}
		return ok(all)
	}
	local, err := s.w.Replication(ctx, name)
	if err != nil {
		return answer{}, err
	}
	notes, err := s.w.Notes(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(newReplication(name, worker.InstanceState{}, local, nil).with(notes))
}

// askRunners asks those of workers that are not this one, each once, and returns those that did not answer.
func (s *Server) askRunners(ctx context.Context, r *request, workers []string,
	ask func(ctx context.Context, c *Client, peer worker.Member) error,
) []MissingWorker {
	peers, missing := s.reachable(workers)
	for id, err := range s.askPeers(ctx, r, peers, ask) {
		missing = append(missing, MissingWorker{id, err.Error()})
	}
	slices.SortFunc(missing, func(a, b MissingWorker) int { return strings.Compare(a.WorkerID, b.WorkerID) })
	return missing
}

// owners are the workers that run tasks by status.
func owners(status worker.ConnectorStatus) (workers []string) {
	for _, t := range status.Tasks {
		workers = append(workers, t.WorkerID)
	}
	return workers
}

// reachable returns those of workers that are not this one, each once, and those among
// them of which no address is known.
func (s *Server) reachable(workers []string) (peers []worker.Member, missing []MissingWorker) {
	members := s.w.Members()
	seen := map[string]bool{s.w.ID(): true, "": true}
	for _, id := range workers {
		if seen[id] {
			continue
		}
		seen[id] = true
		i := slices.IndexFunc(members, func(m worker.Member) bool { return m.ID == id && m.State == stateAlive })
		if i < 0 {
			missing = append(missing, MissingWorker{id, "The worker is gone."})
			continue
		}
		peers = append(peers, members[i])
	}
	return peers, missing
}

// merge gives each task of status its report. The one of the worker that the
// status names wins: a task that has just moved may be reported by two.
func merge(status worker.ConnectorStatus, reports []worker.TaskReplication) []worker.TaskReplication {
	type source struct {
		task   int
		worker string
	}
	by, last := map[source]worker.TaskReplication{}, map[int]worker.TaskReplication{}
	for _, r := range reports {
		by[source{r.Task, r.WorkerID}], last[r.Task] = r, r
	}
	tasks := make([]worker.TaskReplication, 0, len(status.Tasks))
	for _, t := range status.Tasks {
		task, found := by[source{t.ID, t.WorkerID}]
		if !found {
			task, found = last[t.ID]
		}
		if !found {
			task = worker.TaskReplication{Task: t.ID, WorkerID: t.WorkerID, State: t.State, Trace: t.Trace}
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// newReplication sorts, sums up and judges.
func newReplication(name string, instance worker.InstanceState, tasks []worker.TaskReplication, missing []MissingWorker) Replication {
	r := Replication{Connector: name, Tasks: orEmpty(tasks), Missing: missing}
	slices.SortFunc(r.Tasks, func(a, b worker.TaskReplication) int { return a.Task - b.Task })
	for i := range r.Tasks {
		r.Tasks[i].Partitions = orEmpty(r.Tasks[i].Partitions)
	}
	r.Status, r.Reason = judge(instance, r.Tasks, missing)
	r.Totals = totals(r.Tasks)
	return r
}

// with adds the connector's notes. One of them can make the status DEGRADED.
func (r Replication) with(notes []connector.Note) Replication {
	slices.SortStableFunc(notes, func(a, b connector.Note) int { return a.Since.Compare(b.Since) })
	r.Notes = notes
	i := slices.IndexFunc(notes, func(n connector.Note) bool { return n.Degraded })
	if i >= 0 && slices.Index(states, r.Status) < slices.Index(states, stateDegraded) {
		r.Status, r.Reason = stateDegraded, notes[i].Text
	}
	return r
}

// states in the order in which they decide the status, the worst last.
var states = []string{"", stateRunning, statePaused, stateRestarting, stateUnassigned, stateDegraded, stateStopped, stateFailed}

// The states of Kafka Connect, and DEGRADED: it goes on, and something is lost
// or in trouble.
const (
	stateRunning    = "RUNNING"
	statePaused     = "PAUSED"
	stateRestarting = "RESTARTING"
	stateUnassigned = "UNASSIGNED"
	stateDegraded   = "DEGRADED"
	stateStopped    = "STOPPED"
	stateFailed     = "FAILED"
)

// verdict is the worst that was seen, and what has it first.
type verdict struct {
	state, reason string
	others        int // that are as bad
}

func (v *verdict) see(state, reason string) {
	switch order := slices.Index(states, state) - slices.Index(states, v.state); {
	case order > 0:
		*v = verdict{state: state, reason: reason}
	case order == 0:
		v.others++
	}
}

// judge returns the status of a replication and why it is not RUNNING. An empty
// instance is not known.
func judge(instance worker.InstanceState, tasks []worker.TaskReplication, missing []MissingWorker) (status, reason string) {
	v := verdict{state: stateRunning}
	v.see(instance.State, because("the connector", instance.State, instance.Trace))
	for _, t := range tasks {
		v.see(t.State, because(fmt.Sprint("task ", t.Task), t.State, t.Trace))
		for _, p := range t.Partitions {
			v.see(p.State, because(fmt.Sprintf("%s-%d", p.Topic, p.Partition), p.State, p.Reason))
		}
	}
	for _, m := range missing {
		v.see(stateDegraded, fmt.Sprintf("no answer from %s: %s", m.WorkerID, m.Reason))
	}
	switch {
	case v.state == stateRunning:
		return v.state, ""
	case v.others > 0 && v.state != instance.State: // what the connector is, its tasks are too
		return v.state, fmt.Sprintf("%s (and %d more)", v.reason, v.others)
	}
	return v.state, v.reason
}

// because says in one line why what is in a state; of a trace that is the first line.
func because(what, state, text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if text == "" {
		return what + " is " + strings.ToLower(state)
	}
	return what + ": " + strings.TrimSpace(text)
}

func totals(tasks []worker.TaskReplication) Totals {
	sum := Totals{LagRecords: -1, LagBytes: -1, LagBytesExact: true, LagSeconds: -1, Decisions: map[string]int64{}}
	for _, t := range tasks {
		for _, p := range t.Partitions {
			sum.add(p)
		}
	}
	sum.LagBytesExact = sum.LagBytesExact && sum.LagBytes >= 0
	return sum
}

func (t *Totals) add(p connector.PartitionProgress) {
	t.Partitions++
	t.RecordsPerSec += p.RecordsPerSec
	t.BytesPerSec += p.BytesPerSec
	for decision, n := range p.Decisions {
		t.Decisions[decision] += n
	}
	if p.LagRecords < 0 {
		t.LagUnknown++
	} else {
		t.LagRecords = max(0, t.LagRecords) + p.LagRecords
	}
	if p.LagBytes >= 0 {
		t.LagBytes = max(0, t.LagBytes) + p.LagBytes
	}
	t.LagBytesExact = t.LagBytesExact && p.LagBytes >= 0 && p.LagBytesExact
	t.LagSeconds = max(t.LagSeconds, p.LagSeconds)
}

// Gaps is the answer to GET /v1/replication/{connector}/gaps: the ledger of what
// the copy lacks, as the running tasks know it.
type Gaps struct {
	Connector string `json:"connector"`
	// Complete says that these are all: every task has told its ledger.
	Complete bool            `json:"complete"`
	Reason   string          `json:"reason,omitempty"` // why they are not all
	Missing  []MissingWorker `json:"missing,omitempty"`
	Tasks    []int           `json:"tasks"` // those whose ledgers these are
	Gaps     []Gap           `json:"gaps"`  // the oldest first
}

// Gap is one entry of the ledger.
type Gap struct {
	Task int `json:"task"`
	connector.Gap
	Records int64 `json:"records"` // offsets concerned
}

// getGaps merges the ledgers of all tasks. local=true asks only this worker.
func (s *Server) getGaps(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	local, err := s.w.Gaps(ctx, name)
	if err != nil {
		return answer{}, err
	}
	here := newGaps(name, local)
	if isTrue(r.query.Get("local")) {
		return ok(here)
	}
	var mu sync.Mutex
	said := map[string]Gaps{s.w.ID(): here}
	status, err := s.w.Status(ctx, name)
	if err != nil {
		return answer{}, err
	}
	missing := s.askRunners(ctx, r, owners(status), func(ctx context.Context, c *Client, peer worker.Member) error {
		answer, err := c.LocalGaps(ctx, name)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			said[peer.ID] = answer
		}
		return err
	})
	return ok(mergeGaps(status, said, missing))
}

// newGaps returns the ledgers of the tasks on this worker.
func newGaps(name string, tasks []worker.TaskGaps) Gaps {
	g := Gaps{Connector: name, Complete: true, Tasks: []int{}, Gaps: []Gap{}}
	for _, t := range tasks {
		if !t.Known {
			g.lacks("task %d has not told its ledger yet", t.Task)
			continue
		}
		g.Tasks = append(g.Tasks, t.Task)
		for _, gap := range t.Gaps {
			g.Gaps = append(g.Gaps, Gap{t.Task, gap, max(0, gap.To-gap.From)})
		}
	}
	g.sort()
	return g
}

// mergeGaps puts together what workers have said, by their ids. As in merge, the
// worker that the status names is asked first.
func mergeGaps(status worker.ConnectorStatus, said map[string]Gaps, missing []MissingWorker) Gaps {
	all := Gaps{Connector: status.Name, Complete: true, Missing: missing, Tasks: []int{}, Gaps: []Gap{}}
	for _, m := range missing {
		all.lacks("no answer from %s: %s", m.WorkerID, m.Reason)
	}
	if len(status.Tasks) == 0 {
		all.lacks("the connector has no tasks, and only running tasks tell their ledgers")
	}
	for _, t := range status.Tasks {
		of, told := ledgerOf(t, said)
		if !told {
			all.lacks("task %d is %s and has not told its ledger", t.ID, strings.ToLower(t.State))
			continue
		}
		all.Tasks = append(all.Tasks, t.ID)
		for _, gap := range of.Gaps {
			if gap.Task == t.ID {
				all.Gaps = append(all.Gaps, gap)
			}
		}
	}
	all.sort()
	return all
}

func ledgerOf(t worker.TaskState, said map[string]Gaps) (of Gaps, told bool) {
	if of = said[t.WorkerID]; slices.Contains(of.Tasks, t.ID) {
		return of, true
	}
	for _, of := range said {
		if slices.Contains(of.Tasks, t.ID) {
			return of, true
		}
	}
	return Gaps{}, false
}

// lacks notes why these are not all gaps; the first reason stays.
func (g *Gaps) lacks(format string, args ...any) {
	g.Complete = false
	if g.Reason == "" {
		g.Reason = fmt.Sprintf(format, args...)
	}
}

func (g *Gaps) sort() {
	slices.Sort(g.Tasks)
	slices.SortFunc(g.Gaps, func(a, b Gap) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
}
