// Package connector is the contract between the engine and a connector: what
// one implements to add a connector, and what the engine gives it. It knows
// neither the cluster nor the internal topics; offsets, clients and the memory
// bound are handed in.
//
// Easy to get wrong: ctx ending means "finish": read no more, flush, save
// offsets, return. Past the lease the clients themselves refuse to send (the
// engine closes them), so a task needs no clock of its own.
package connector

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// Type says which way a connector moves records.
type Type string

// The types of Kafka Connect.
const (
	Source Type = "source"
	Sink   Type = "sink"
)

// Plugin describes one kind of connector: a row of the table in
// worker/connectors.go.
type Plugin struct {
	// Class is the Java class name, which configs carry in connector.class.
	Class string
	// Aliases are the short names accepted instead (Kafka's: the simple class
	// name, with and without "Connector").
	Aliases []string
	Type    Type
	Version string
	// Keys defines the connector's settings, the common ones included.
	Keys *config.Def
	// Overrides are the client kinds whose "KIND.override." prefix the
	// override policy checks (Connect checks only those that the connector uses).
	Overrides []string
	// Validate reports what single keys cannot: combinations. May be nil.
	Validate func(written map[string]string) []config.Problem
	// NewConnector and NewTask return fresh instances.
	NewConnector func() Connector
	NewTask      func() Task
}

// Connector plans: it turns a connector's configuration and what the clusters
// hold into task configurations, and again whenever that changes.
type Connector interface {
	// Run plans until ctx ends. It returns nil when ctx ended it, and otherwise
	// the reason why the connector FAILED.
	Run(ctx context.Context, cc Context) error
}

// Task copies: it does the share of the work that its configuration names.
type Task interface {
	// Run works until ctx ends, then flushes, saves its offsets and returns nil.
	// Any error is the reason why the task FAILED.
	Run(ctx context.Context, tc TaskContext) error
}

// Context is what a Connector gets from the engine.
type Context struct {
	Name     string
	Settings config.Settings // resolved; see config.Setting for what may be shown
	MaxTasks int             // tasks.max
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Clients  Clients
	// Tasks are the task configurations that stand in the config topic, so that
	// a new plan can leave alone what has not changed.
	Tasks []map[string]string
	// SetTasks publishes task configurations, with references as written. It returns when they
	// stand in the config topic. Only tasks whose configuration changed restart.
	SetTasks func(ctx context.Context, tasks []map[string]string) error
	// Started is called once the connector is up: from then on its state is
	// RUNNING.
	Started func()
	// Internal names the topics that no connector may read or write.
	Internal Internal
}

// Internal are the internal topics of the worker cluster.
type Internal struct {
	ClusterID string // of that cluster, as its brokers say it
	Topics    []string
}

// TaskContext is what a Task gets from the engine.
type TaskContext struct {
	Connector string
	Task      int
	Settings  config.Settings
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Clients   Clients
	Offsets   Offsets
	Gate      *Gate
	// Delivery says how the task must write (see Delivery).
	Delivery Delivery
	// Started is called once the task works: from then on its state is RUNNING.
	Started func()
	// Report shows the task's progress; the newest report replaces the one
	// before. It never blocks.
	Report func(Progress)
}

// Delivery is how a task's writes are guarded against a second owner.
type Delivery string

// The ways of delivery. Plain is at least once: after a crash what came after
// the last saved offset is copied again.
const (
	Plain         Delivery = "plain"
	Fenced        Delivery = "fenced"
	Transactional Delivery = "transactional"
)

// Role names one of the clients of a connector or task. It decides which
// settings the client gets (clientconfig.Layers has the order of precedence).
type Role string

// The roles.
const (
	SourceConsumer Role = "source-consumer"
	SourceAdmin    Role = "source-admin"
	TargetProducer Role = "target-producer"
	TargetAdmin    Role = "target-admin"
)

// Clients makes Kafka clients under the identity of one connector.
type Clients struct {
	// Open returns a client for role. The engine closes every client it has opened when the run is over
	// or its lease has run out, so a task need not; closing twice is harmless.
	Open func(ctx context.Context, role Role, extra ...kgo.Opt) (*kgo.Client, error)
	// Principal describes, for errors and statuses, whom role's client
	// authenticates as ("User:orders-ro", or "User:ANONYMOUS"), and with which
	// references. It holds no secret.
	Principal func(role Role) string
}

// Offset is the position of a source, in Connect's terms: what the source is
// (Partition) and how far it has been copied (Offset). Both are JSON as it
// stands in the offset topic, byte for byte, because compaction compares bytes.
type Offset struct {
	Partition []byte // e.g. {"cluster":"A","partition":0,"topic":"orders"}
	Offset    []byte // e.g. {"offset":41}; nil deletes it
}

// Offsets reads and saves a connector's source offsets.
type Offsets struct {
	// Load returns the saved offset of each partition, nil where there is none.
	// It reads to the end of the offset topic first.
	Load func(ctx context.Context, partitions [][]byte) ([][]byte, error)
	// Save stores offsets and returns when they are durable.
	Save func(ctx context.Context, offsets []Offset) error
	// Interval says how often to save (offset.flush.interval.ms).
	Interval time.Duration
}

// Progress is what a running task tells about itself.
type Progress struct {
	Delivery   Delivery
	Partitions []PartitionProgress
}

// PartitionProgress is how far one topic-partition has been copied.
type PartitionProgress struct {
	Topic           string  `json:"topic"`
	Partition       int32   `json:"partition"`
	TargetTopic     string  `json:"target_topic"`
	SourceEndOffset int64   `json:"source_end_offset"` // -1 while unknown
	CopiedOffset    int64   `json:"copied_offset"`     // the next offset to copy; -1 before the first
	LagRecords      int64   `json:"lag_records"`       // -1 while unknown
	Records         int64   `json:"records"`           // copied by this run
	Bytes           int64   `json:"bytes"`
	RecordsPerSec   float64 `json:"records_per_second"`
	BytesPerSec     float64 `json:"bytes_per_second"`
	InFlight        int64   `json:"in_flight"` // sent, not yet acknowledged
	Mode            string  `json:"mode"`      // raw or decoded
	Reason          string  `json:"reason,omitempty"`
}
