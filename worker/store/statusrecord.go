package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Keys of the status topic (Connect's KafkaStatusBackingStore, 4.3.1).
const (
	connectorStatusPrefix = "status-connector-"
	taskStatusPrefix      = "status-task-"
	topicStatusPrefix     = "status-topic-"
	topicStatusSeparator  = ":connector-"
)

// states are those of Connect's AbstractStatus.
var states = []string{"UNASSIGNED", "RUNNING", "PAUSED", "FAILED", "DESTROYED", "RESTARTING", "STOPPED"}

// Status is the state of a connector instance or task.
type Status struct {
	State      string  // one of Connect's: RUNNING, FAILED …
	Trace      *string // why it FAILED
	WorkerID   string
	Generation int32   // of the worker cluster when it was written; -1 in Connect while there is none
	Version    *string // of the plugin
}

// The records of the status topic. Entry gives each as Connect writes it.
type (
	// ConnectorStatus is the state of a connector instance; a nil Status deletes
	// it, and with it the tasks'.
	ConnectorStatus struct {
		Connector string
		Status    *Status
	}
	// TaskStatus is the state of a task; a nil Status deletes it.
	TaskStatus struct {
		Connector string
		Task      int
		Status    *Status
	}
	// TopicStatus says that a connector uses a topic, unless it is Deleted.
	TopicStatus struct {
		Topic      string
		Connector  string
		Task       int
		Discovered int64 // ms since the epoch
		Deleted    bool
	}
)

// value is nil for DESTROYED: Connect writes that as a tombstone.
func (s *Status) value() []byte {
	if s == nil || s.State == "DESTROYED" {
		return nil
	}
	return object(nil).text("state", s.State).optional("trace", s.Trace).text("worker_id", s.WorkerID).
		number("generation", int64(s.Generation)).optional("version", s.Version).bytes()
}

// Entry gives the record as it is written.
func (r ConnectorStatus) Entry() Entry {
	return Entry{Key: []byte(connectorStatusPrefix + r.Connector), Value: r.Status.value()}
}

// Entry gives the record as it is written.
func (r TaskStatus) Entry() Entry {
	return Entry{Key: []byte(taskStatusPrefix + r.Connector + "-" + strconv.Itoa(r.Task)), Value: r.Status.value()}
}

// Entry gives the record as it is written.
func (r TopicStatus) Entry() Entry {
	e := Entry{Key: []byte(topicStatusPrefix + r.Topic + topicStatusSeparator + r.Connector)}
	if !r.Deleted {
		inner := object(nil).text("name", r.Topic).text("connector", r.Connector).
			number("task", int64(r.Task)).number("discoverTimestamp", r.Discovered).bytes()
		e.Value = object(nil).raw("topic", inner).bytes()
	}
	return e
}

// DecodeStatus reads a record of the status topic as Connect does: one of the types above, an OwnRecord,
// or UnknownRecord. A key that is known with a wrong value is an error that names the key.
func DecodeStatus(key, value []byte) (any, error) {
	k := string(key)
	var r any
	var err error
	if name, ok := strings.CutPrefix(k, connectorStatusPrefix); ok {
		r, err = decodeConnectorStatus(name, value)
	} else if name, ok := strings.CutPrefix(k, taskStatusPrefix); ok {
		r, err = decodeTaskStatus(name, value)
	} else if name, ok := strings.CutPrefix(k, topicStatusPrefix); ok {
		r, err = decodeTopicStatus(name, value)
	} else if strings.HasPrefix(k, ownPrefix) {
		r = OwnRecord{Key: k, Value: value}
	} else {
		r = UnknownRecord{Key: k}
	}
	if err != nil {
		return nil, fmt.Errorf("status record %q: %w", k, err)
	}
	return r, nil
}

func decodeConnectorStatus(name string, value []byte) (any, error) {
	if name == "" {
		return nil, fmt.Errorf("the key names no connector")
	}
	s, err := decodeState(value)
	return ConnectorStatus{Connector: name, Status: s}, err
}

func decodeTaskStatus(name string, value []byte) (any, error) {
	connector, task, ok := splitTask(name)
	if !ok {
		return nil, fmt.Errorf("the key does not end in a task's number")
	}
	s, err := decodeState(value)
	return TaskStatus{Connector: connector, Task: task, Status: s}, err
}

func decodeState(value []byte) (*Status, error) {
	if value == nil {
		return nil, nil
	}
	f, err := parseFields(value)
	if err != nil {
		return nil, err
	}
	var s Status
	if s.State, err = f.text("state"); err != nil {
		return nil, err
	}
	if !slices.Contains(states, s.State) {
		return nil, fmt.Errorf("%q is no state", s.State)
	}
	if s.Trace, err = f.optional("trace"); err != nil {
		return nil, err
	}
	worker, err := f.optional("worker_id")
	if err != nil {
		return nil, err
	}
	if worker != nil {
		s.WorkerID = *worker
	}
	generation, err := f.integer("generation", 32)
	if err != nil {
		return nil, err
	}
	s.Generation = int32(generation)
	s.Version, err = f.optional("version")
	return &s, err
}

// decodeTopicStatus parts the name at the first colon, as Connect does: no topic
// has one in its name.
func decodeTopicStatus(name string, value []byte) (any, error) {
	topic, rest, ok := strings.Cut(name, ":")
	connector, named := strings.CutPrefix(rest, topicStatusSeparator[1:])
	if !ok || !named || topic == "" || connector == "" {
		return nil, fmt.Errorf("the key does not name a topic and a connector")
	}
	r := TopicStatus{Topic: topic, Connector: connector}
	if value == nil {
		r.Deleted = true
		return r, nil
	}
	outer, err := parseFields(value)
	if err != nil {
		return nil, err
	}
	f, err := parseFields(outer["topic"])
	if err == nil && f == nil {
		err = outer.wrong("topic", "an object")
	}
	if err != nil {
		return nil, err
	}
	task, err := f.integer("task", 32)
	if err != nil {
		return nil, err
	}
	r.Task = int(task)
	r.Discovered, err = f.integer("discoverTimestamp", 64)
	return r, err
}
