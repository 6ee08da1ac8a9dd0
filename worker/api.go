package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"barnabas/config"
	"barnabas/connector"
)

// This file is what rest and cmd see of a worker: the questions and orders of
// Kafka Connect's REST API, and ours, free of HTTP. Every method is bounded by
// its context and answers from this worker's reading of the internal topics;
// none waits for a task or a rebalance.

// Reasons a worker refuses an order. errors.Is finds them in an *Error.
var (
	ErrNotFound    = errors.New("not found")    // Connect's 404
	ErrConflict    = errors.New("conflict")     // 409: exists already, or is stopped
	ErrInvalid     = errors.New("invalid")      // 400: the configuration or the request is wrong
	ErrUnavailable = errors.New("unavailable")  // 503: not ready, no leader within the bound
	ErrForbidden   = errors.New("forbidden")    // 403: an internal request with a bad signature
	ErrInternal    = errors.New("server error") // 500: where Connect answers 500 to a wrong request
)

// Error is a refusal: one of the reasons above and Connect's message for it.
type Error struct {
	Reason  error
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

// ElsewhereError says that another worker has to do this: the leader for a
// write, the owner for a restart. The REST layer forwards the request there,
// once.
type ElsewhereError struct{ URL string }

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("this worker cannot do that: ask %s", e.URL)
}

// ServerInfo is the answer to GET /.
type ServerInfo struct {
	Version        string `json:"version"`
	Commit         string `json:"commit"`
	KafkaClusterID string `json:"kafka_cluster_id"`
}

// TaskID names a task.
type TaskID struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
}

// ConnectorInfo is Connect's description of a connector.
type ConnectorInfo struct {
	Name   string            `json:"name"`
	Config map[string]string `json:"config"`
	Tasks  []TaskID          `json:"tasks"`
	Type   connector.Type    `json:"type"`
}

// TaskInfo is a task with its configuration, references as written.
type TaskInfo struct {
	ID     TaskID            `json:"id"`
	Config map[string]string `json:"config"`
}

// InstanceState is the state of a connector instance.
type InstanceState struct {
	State    string  `json:"state"`
	WorkerID string  `json:"worker_id"`
	Version  *string `json:"version"`
	Trace    string  `json:"trace,omitempty"`
}

// TaskState is the state of a task.
type TaskState struct {
	ID       int     `json:"id"`
	State    string  `json:"state"`
	WorkerID string  `json:"worker_id"`
	Version  *string `json:"version"`
	Trace    string  `json:"trace,omitempty"`
}

// ConnectorStatus is the state of a connector and its tasks.
type ConnectorStatus struct {
	Name      string         `json:"name"`
	Connector InstanceState  `json:"connector"`
	Tasks     []TaskState    `json:"tasks"`
	Type      connector.Type `json:"type"`
}

// PluginInfo is one kind of connector.
type PluginInfo struct {
	Class   string         `json:"class"`
	Type    connector.Type `json:"type"`
	Version string         `json:"version"`
}

// Member is a worker of the cluster as this worker sees it.
type Member struct {
	ID         string            `json:"id"` // host:port of its REST address, as in Connect's worker_id
	URL        string            `json:"url"`
	Gossip     string            `json:"gossip"`
	Version    string            `json:"version"`
	Labels     map[string]string `json:"labels"`
	Leader     bool              `json:"leader"`
	Self       bool              `json:"self"`
	State      string            `json:"state"` // alive; unready: it gossips and cannot read the config topic; gone: silent
	Connectors int               `json:"connectors"`
	Tasks      int               `json:"tasks"`
	Load       float64           `json:"load"` // bytes/s copied
	Joined     time.Time         `json:"joined"`
	// Drained: it is to run nothing. What it cannot give away, since no other worker may run it, it keeps.
	Drained bool `json:"drained,omitempty"`
}

// TaskReplication is the progress of one task.
type TaskReplication struct {
	Task     int                `json:"task"`
	WorkerID string             `json:"worker_id"`
	State    string             `json:"state"`
	Trace    string             `json:"trace,omitempty"`
	Delivery connector.Delivery `json:"delivery,omitempty"` // empty before the first report
	// Why says why the task does not write as it was asked to.
	Why string `json:"why,omitempty"`
	// LastProgress is when it last copied something or had nothing left to copy; nil: not since it was started.
	LastProgress *time.Time                    `json:"last_progress,omitempty"`
	Partitions   []connector.PartitionProgress `json:"partitions"`
}

// TaskGaps is the gap ledger of one task's partitions.
type TaskGaps struct {
	Task int
	// Known is whether the task has told its ledger: it reads it when it starts.
	Known bool
	Gaps  []connector.Gap
}

// Health is whether this worker does its job, and if not, what it waits for.
type Health struct {
	Healthy bool   `json:"-"`
	Status  string `json:"status"`  // starting, healthy, unhealthy: as Kafka's GET /health (KIP-1017)
	Message string `json:"message"` // for a person
}

// TargetState is what a user wants of a connector.
type TargetState string

// The target states of Kafka Connect.
const (
	Started TargetState = "STARTED"
	Paused  TargetState = "PAUSED"
	Stopped TargetState = "STOPPED"
)

// ConfigInfos is the answer to config/validate.
type ConfigInfos = config.Infos

// OffsetEntry is one entry of Connect's GET /connectors/{name}/offsets.
type OffsetEntry struct {
	Partition json.RawMessage `json:"partition"`
	Offset    json.RawMessage `json:"offset"`
}

// API lists the methods for readers; *Worker is its only implementation and
// rest uses *Worker itself.
var _ interface {
	ID() string
	ServerInfo() ServerInfo
	Health() Health
	Fresh(ctx context.Context) error // before a question whose answer must not be old
	Connectors(ctx context.Context) ([]string, error)
	Connector(ctx context.Context, name string) (ConnectorInfo, error)
	Status(ctx context.Context, name string) (ConnectorStatus, error)
	TaskConfigs(ctx context.Context, name string) ([]TaskInfo, error)
	Create(ctx context.Context, name string, config map[string]string, initial TargetState) (ConnectorInfo, error)
	Put(ctx context.Context, name string, config map[string]string) (info ConnectorInfo, created bool, err error)
	Patch(ctx context.Context, name string, patch map[string]*string) (ConnectorInfo, error)
	Delete(ctx context.Context, name string) error
	SetTarget(ctx context.Context, name string, state TargetState) error // pause, resume, stop
	Restart(ctx context.Context, name string) error                      // the connector instance alone, by its owner
	RestartFlagged(ctx context.Context, name string, includeTasks, onlyFailed bool) (ConnectorStatus, error)
	RestartTask(ctx context.Context, id TaskID) error
	PublishTasks(ctx context.Context, name string, generation int64, tasks []map[string]string) error // internal, for the owner of a connector
	Fence(ctx context.Context, name string) error                                                     // internal, a round of fencing (KIP-618)
	SetLoggerLevel(ctx context.Context, logger, level string) error                                   // of all workers
	SessionKey() (key []byte, algorithm string, ok bool)                                              // what internal requests are signed with
	Plugins() []PluginInfo
	Validate(ctx context.Context, class string, config map[string]string) (ConfigInfos, error)
	Members() []Member
	Replication(ctx context.Context, name string) ([]TaskReplication, error) // of the tasks on this worker; rest asks the others
	Gaps(ctx context.Context, name string) ([]TaskGaps, error)               // likewise
	Notes(ctx context.Context, name string) ([]connector.Note, error)        // likewise, of the connector itself
	Offsets(ctx context.Context, name string) ([]OffsetEntry, error)
	AlterOffsets(ctx context.Context, name string, entries []OffsetEntry) (message string, err error)
	ActiveTopics(ctx context.Context, name string) ([]string, error) // that a connector has written to
	ResetTopics(ctx context.Context, name string) error
	ResetOffsets(ctx context.Context, name string) (message string, err error)
} = (*Worker)(nil)
