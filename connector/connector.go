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
	// Transforms says that its tasks run transforms and predicates (package transform).
	Transforms bool
	// Fences says that tasks can shut former owners out of the target by themselves: they are started before
	// it is known that those have stopped (TaskContext.Clear).
	Fences bool
	// Extends says whether the new configuration of a task only adds work to the old one: then a task that runs is not
	// restarted, it takes the new one from TaskContext.Updates. What is added must be of no other task. nil: never.
	Extends func(old, new map[string]string) bool
	// CheckOffsets judges offsets that a user sets by hand (SourceConnector.alterOffsets, KIP-875), in Connect's words. nil: all
	// are taken, and Connect's warning is given that the connector may keep others elsewhere.
	CheckOffsets func(changes []OffsetChange) error
	// OffsetsSet carries the changes to where the tasks keep their progress besides, before they are written to the offset
	// topic, and shuts out tasks that were given up and may still write there. owner is as in TaskContext. nil: there is no such place.
	OffsetsSet func(ctx context.Context, owner string, settings config.Settings, clients Clients, changes []OffsetChange) error
	// OwnOffset tells what the connector itself remembers among its offsets from what Kafka's has there; it is
	// neither shown nor changed by users. nil: nothing.
	OwnOffset func(partition Fields) bool
	// Converts says that the connector uses key.converter and the like. Others accept any class there.
	Converts bool
	// Final says of the error that a connector or task has FAILED with that no restart mends it: it is not restarted by
	// itself (auto.restart.*). nil: none is.
	Final func(err error) bool
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
	// stand in the config topic. Only tasks whose configuration changed restart, and of those not the ones that only
	// get more to do (Plugin.Extends).
	SetTasks func(ctx context.Context, tasks []map[string]string) error
	// Rates returns the bytes per second that its tasks copy, by topic and partition as Kafka writes them ("orders-0"), as told by the
	// workers they run on some seconds ago. Partitions that carry less than a megabyte per second are left out. nil: nobody measures.
	Rates func(ctx context.Context) (map[string]int64, error)
	// Started is called once the connector is up: from then on its state is
	// RUNNING.
	Started func()
	// Internal names the topics that no connector may read or write.
	Internal Internal
	// OffsetsTopic is where transactional tasks write their source offsets on the target
	// (offsets.storage.topic, by default named as the worker's); empty if tasks are not transactional.
	OffsetsTopic string
	// Offsets keeps what the connector itself has to remember, beside the offsets of its tasks and under
	// partitions that none of them uses.
	Offsets Offsets
	// Report shows what the connector has to say of itself; the newest notes replace the ones
	// before. It never blocks.
	Report func([]Note)
}

// Note is something that a connector cannot do, or leaves out, and that is not about the progress of one partition.
type Note struct {
	// About names the kind for programs, e.g. topic-settings.
	About string    `json:"about"`
	Topic string    `json:"topic,omitempty"` // of the source, if it is about one
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
	// Degraded says that the connector was asked by name for what it cannot do, or to tell it: its status is
	// DEGRADED then.
	Degraded bool `json:"degraded"`
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
	// ReadLimit bounds what is read of the source's records, WriteLimit what is written of the target's; nil: nothing does.
	ReadLimit, WriteLimit *Limit
	// Delivery says how the task is to write: Transactional, or Fenced. A task that
	// may not fence writes Plain, and says so.
	Delivery Delivery
	// TransactionalID is the task's own: group.id, connector and task joined by "-"
	// (KIP-618). Owner is the same without the task.
	TransactionalID, Owner string
	// Clear is closed once no earlier owner of this work can save offsets, or act without a fence, any more. Before
	// that the task may only act under a fence of its own; Offsets.Save waits for it.
	Clear <-chan struct{}
	// Fenced tells that the task has shut every earlier owner out of the target, and will itself be shut out
	// by the next one. From then on it may go on when the worker's lease runs out, unless lease.enforce is all.
	Fenced func()
	// Confirm is called before a task takes a fence for the second time: it must not shut out a successor that
	// it has not heard of yet. It returns nil when the work was still this run's at some moment after the
	// call. From the call to the next one of Fenced the run is held to the lease again.
	Confirm func(ctx context.Context) error
	// Updates brings the task's configuration, as written, each time it was extended (Plugin.Extends). It holds the
	// newest one alone. Settings stay as they are: nothing else has changed.
	Updates <-chan map[string]string
	// Boundary says when transactions end.
	Boundary Boundary
	// OffsetsTopic is as in Context.
	OffsetsTopic string
	// Internal names the topics of the workers.
	Internal Internal
	// Converters are the worker's converters and their settings, which a connector has that names none.
	Converters config.Settings
	// Group is the consumer group of a sink: connect-NAME, unless consumer.override.group.id says otherwise.
	Group string
	// LeaveTopics says that topics are not made as topic.creation.* say (topic.creation.enable=false).
	LeaveTopics bool
	// GapPolicy is stop or record (gap.policy, of the connector or else the worker).
	GapPolicy string
	// Started is called once the task works: from then on its state is RUNNING.
	Started func()
	// Report shows the task's progress; the newest report replaces the one
	// before. It never blocks.
	Report func(Progress)
	// Wrote tells that a record was written to a topic of the target, for the list of topics that the connector uses (KIP-558). What Report
	// shows need not be told. It is cheap to call again, and never blocks.
	Wrote func(topic string)
}

// Boundary is when the transactions of a task end (KIP-618).
type Boundary struct {
	// Interval is transaction.boundary.interval.ms, if transaction.boundary is
	// interval; 0 stands for poll: as soon as there is something.
	Interval time.Duration
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
	// SourceProducer and TargetConsumer are for topics that a connector keeps beside the copies.
	SourceProducer Role = "source-producer"
	TargetConsumer Role = "target-consumer"
	// RecordProducer, RecordConsumer and RecordAdmin are those of connectors that have one end on the workers' own cluster,
	// with the settings that they have in Kafka Connect: the worker's, and the connector's overrides. RecordConsumer is a
	// member of the sink's consumer group.
	RecordProducer Role = "record-producer"
	RecordConsumer Role = "record-consumer"
	RecordAdmin    Role = "record-admin"
	// ReportProducer and ReportAdmin write the reports of a connector about its records, under an identity of their own
	// (reporter.producer., reporter.admin.).
	ReportProducer Role = "report-producer"
	ReportAdmin    Role = "report-admin"
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
	Delivery Delivery
	// Why says why the task does not write as it was asked to (fenced, but the
	// principal may not use a transactional id; exact, but the target's tail did not fit).
	Why        string
	Partitions []PartitionProgress
	// Gaps is the ledger of the task's partitions: what the copy lacks.
	Gaps []Gap
	// Notes are what the task cannot do, beside those of the connector.
	Notes []Note
	// Errors are those since the task was started.
	Errors Errors
	// Sink is what a sink has done; nil for others.
	Sink *Sunk
}

// Sunk is what a sink has done since it was started, in the terms of Connect's sink-task-metrics.
type Sunk struct {
	Read     int64 // records read, those included that could not be converted
	Put      int64 // records handed to the sink
	Active   int64 // records read whose offsets are not committed yet
	Assigned int   // partitions that it reads
	Commits  int64 // of offsets, begun
	Done     int64 // those of them that succeeded
	// Puts and Saves are how long it took to hand records to the sink, and to commit, since the report before.
	Puts, Saves Timing
}

// Timing sums up how long things took.
type Timing struct {
	Count, Failed int64
	Sum, Max      time.Duration
}

// Add counts one more.
func (t *Timing) Add(took time.Duration, err error) {
	t.Count++
	if err != nil {
		t.Failed++
	}
	t.Sum += took
	t.Max = max(t.Max, took)
}

// Errors counts what went wrong with the records of a task (Connect's task-error-metrics).
type Errors struct {
	Failures      int64 // records that the target does not take: left out, or their partition has stopped
	Skipped       int64 // those of them that were left out
	Retries       int64 // times that a partition was in trouble and tried again
	Letters       int64 // pointers to records for the dead letter queue, written or not
	LettersFailed int64 // those of them that could not be written
	Last          time.Time
}

// Gap is an entry of the ledger: source offsets that the copy lacks, or may have
// twice.
type Gap struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	From      int64     `json:"from"` // the first source offset concerned
	To        int64     `json:"to"`   // the one behind the last
	Cause     string    `json:"cause"`
	Detail    string    `json:"detail,omitempty"`
	At        time.Time `json:"at"`
}

// PartitionProgress is how far one topic-partition has been copied.
type PartitionProgress struct {
	Topic           string `json:"topic"`
	Partition       int32  `json:"partition"` // -1: the whole topic, which is left out
	TargetTopic     string `json:"target_topic"`
	SourceEndOffset int64  `json:"source_end_offset"` // -1 while unknown
	CopiedOffset    int64  `json:"copied_offset"`     // the next offset to copy; -1 before the first
	TargetEndOffset int64  `json:"target_end_offset"` // behind the last record written; -1 before the first
	LagRecords      int64  `json:"lag_records"`       // -1 while unknown
	LagBytes        int64  `json:"lag_bytes"`         // -1 while unknown
	// LagBytesExact says that LagBytes is no estimate from the size of the records copied last.
	LagBytesExact bool    `json:"lag_bytes_exact"`
	LagSeconds    float64 `json:"lag_seconds"` // age of the oldest record that is not copied, at most; -1 while unknown
	Records       int64   `json:"records"`     // copied by this run
	Bytes         int64   `json:"bytes"`
	RecordsPerSec float64 `json:"records_per_second"`
	BytesPerSec   float64 `json:"bytes_per_second"`
	InFlight      int64   `json:"in_flight"` // sent, not yet acknowledged
	Mode          string  `json:"mode"`      // raw or decoded: how the last batch was copied
	Reason        string  `json:"reason,omitempty"`
	// Decisions counts batches by what was done with them and why: raw,
	// decoded: REASON, skipped: REASON.
	Decisions map[string]int64 `json:"decisions,omitempty"`
	// State is RUNNING, DEGRADED (it goes on, and something is lost or in
	// trouble; Reason says what) or STOPPED (it will not go on by itself).
	State string `json:"state"`
}
