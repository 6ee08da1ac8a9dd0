package store

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"barnabas/config"
)

// Keys of the config topic (Connect's KafkaConfigBackingStore, 4.3.1).
const (
	connectorPrefix   = "connector-"
	taskPrefix        = "task-"
	commitPrefix      = "commit-"
	targetStatePrefix = "target-state-"
	restartPrefix     = "restart-connector-"
	taskCountPrefix   = "tasks-fencing-"
	loggerPrefix      = "logger-cluster-"
	sessionKeyKey     = "session-key"
)

// The records of the config topic. Entry gives each as Connect writes it.
type (
	// ConnectorRecord is the configuration of a connector; a nil Config deletes it.
	ConnectorRecord struct {
		Name   string
		Config map[string]string
	}
	// TaskRecord is the configuration of a task. It holds once a CommitRecord
	// follows.
	TaskRecord struct {
		Connector string
		Task      int
		Config    map[string]string
	}
	// CommitRecord makes the task configurations before it hold.
	CommitRecord struct {
		Connector string
		Tasks     int
	}
	// TargetStateRecord is what a user wants of a connector: STARTED, PAUSED or
	// STOPPED. An empty State deletes it.
	TargetStateRecord struct {
		Connector string
		State     string
	}
	// RestartRecord asks for a restart.
	RestartRecord struct {
		Connector    string
		IncludeTasks bool
		OnlyFailed   bool
	}
	// SessionKeyRecord is the key that signs internal requests: raw bytes, and
	// the name of Java's algorithm for it ("HmacSHA256").
	SessionKeyRecord struct {
		Key       config.Secret
		Algorithm string
		Created   int64 // ms since the epoch
	}
	// TaskCountRecord says how many tasks of a connector have been fenced
	// (exactly-once support of Java workers).
	TaskCountRecord struct {
		Connector string
		Tasks     int
	}
	// LoggerRecord is a log level for all workers. Connect applies it only when it is written,
	// not when it is read again at start.
	LoggerRecord struct {
		Namespace string
		Level     string
	}
	// UnknownRecord is a record whose key nobody here knows.
	UnknownRecord struct{ Key string }
)

// Entry gives the record as it is written.
func (r ConnectorRecord) Entry() Entry {
	e := Entry{Key: []byte(connectorPrefix + r.Name)}
	if r.Config != nil {
		e.Value = properties(r.Config)
	}
	return e
}

// Entry gives the record as it is written.
func (r TaskRecord) Entry() Entry {
	return Entry{Key: []byte(taskPrefix + r.Connector + "-" + strconv.Itoa(r.Task)), Value: properties(r.Config)}
}

// Entry gives the record as it is written.
func (r CommitRecord) Entry() Entry {
	return Entry{Key: []byte(commitPrefix + r.Connector), Value: object(nil).number("tasks", int64(r.Tasks)).bytes()}
}

// Entry gives the record as it is written. Workers before Kafka 3.5 do not know STOPPED,
// so they find PAUSED in the old field.
func (r TargetStateRecord) Entry() Entry {
	e := Entry{Key: []byte(targetStatePrefix + r.Connector)}
	if r.State == "" {
		return e
	}
	old := r.State
	if old == "STOPPED" {
		old = "PAUSED"
	}
	e.Value = object(nil).text("state", old).text("state.v2", r.State).bytes()
	return e
}

// Entry gives the record as it is written.
func (r RestartRecord) Entry() Entry {
	return Entry{
		Key:   []byte(restartPrefix + r.Connector),
		Value: object(nil).boolean("include-tasks", r.IncludeTasks).boolean("only-failed", r.OnlyFailed).bytes(),
	}
}

// Entry gives the record as it is written, with the key in it.
func (r SessionKeyRecord) Entry() Entry {
	key := base64.StdEncoding.EncodeToString([]byte(r.Key.Reveal()))
	return Entry{
		Key:   []byte(sessionKeyKey),
		Value: object(nil).text("key", key).text("algorithm", r.Algorithm).number("creation-timestamp", r.Created).bytes(),
	}
}

// Entry gives the record as it is written.
func (r TaskCountRecord) Entry() Entry {
	return Entry{Key: []byte(taskCountPrefix + r.Connector), Value: object(nil).number("task-count", int64(r.Tasks)).bytes()}
}

// Entry gives the record as it is written.
func (r LoggerRecord) Entry() Entry {
	return Entry{Key: []byte(loggerPrefix + r.Namespace), Value: object(nil).text("level", r.Level).bytes()}
}

// DecodeConfig reads a record of the config topic as Connect does: one of the types above, an
// OwnRecord, or UnknownRecord. A key that is known with a value that is not what it should
// be is an error, which names the key and no value: log it and go on.
func DecodeConfig(key, value []byte) (any, error) {
	k := string(key)
	if strings.HasPrefix(k, ownPrefix) {
		return OwnRecord{Key: k, Value: value}, nil
	}
	decode, name := configDecoder(k)
	if decode == nil {
		return UnknownRecord{Key: k}, nil
	}
	f, err := parseFields(value)
	if err != nil {
		return nil, fmt.Errorf("config record %q: %w", k, err)
	}
	r, err := decode(name, f)
	if err != nil {
		return nil, fmt.Errorf("config record %q: %w", k, err)
	}
	return r, nil
}

type decoder func(name string, f fields) (any, error)

// configDecoder returns what reads records of this key and what follows the prefix. The
// order is Connect's; no prefix begins with another one.
func configDecoder(key string) (decoder, string) {
	for _, d := range []struct {
		prefix string
		decode decoder
	}{
		{targetStatePrefix, decodeTargetState},
		{connectorPrefix, decodeConnector},
		{taskPrefix, decodeTask},
		{commitPrefix, decodeCommit},
		{restartPrefix, decodeRestart},
		{taskCountPrefix, decodeTaskCount},
		{loggerPrefix, decodeLogger},
	} {
		if name, ok := strings.CutPrefix(key, d.prefix); ok {
			return d.decode, name
		}
	}
	if key == sessionKeyKey {
		return decodeSessionKey, ""
	}
	return nil, ""
}

func decodeConnector(name string, f fields) (any, error) {
	if f == nil {
		return ConnectorRecord{Name: name}, nil
	}
	m, err := f.stringMap("properties")
	if err != nil {
		return nil, err
	}
	return ConnectorRecord{Name: name, Config: m}, nil
}

var errTombstone = fmt.Errorf("the value is null, which means nothing here")

func decodeTask(name string, f fields) (any, error) {
	connector, task, ok := splitTask(name)
	if !ok {
		return nil, fmt.Errorf("the key does not end in a task's number")
	}
	if f == nil {
		return nil, errTombstone
	}
	m, err := f.stringMap("properties")
	if err != nil {
		return nil, err
	}
	return TaskRecord{Connector: connector, Task: task, Config: m}, nil
}

// splitTask parts "name-3". The name may hold dashes.
func splitTask(s string) (connector string, task int, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 31)
	return s[:i], int(n), err == nil
}

func decodeCommit(name string, f fields) (any, error) {
	n, err := count(f, "tasks")
	return CommitRecord{Connector: name, Tasks: n}, err
}

func decodeTaskCount(name string, f fields) (any, error) {
	n, err := count(f, "task-count")
	return TaskCountRecord{Connector: name, Tasks: n}, err
}

func count(f fields, field string) (int, error) {
	if f == nil {
		return 0, errTombstone
	}
	n, err := f.integer(field, 32)
	if err == nil && n < 0 {
		err = fmt.Errorf("field %q is %d, and must not be negative", field, n)
	}
	return int(n), err
}

func decodeTargetState(name string, f fields) (any, error) {
	if f == nil {
		return TargetStateRecord{Connector: name}, nil
	}
	// A wrong state.v2 counts as a missing one, as in Connect.
	state, err := f.text("state.v2")
	if err != nil {
		state, err = f.text("state")
	}
	if err != nil {
		return nil, err
	}
	switch state {
	case "STARTED", "PAUSED", "STOPPED":
		return TargetStateRecord{Connector: name, State: state}, nil
	}
	return nil, fmt.Errorf("%q is no target state", state)
}

func decodeRestart(name string, f fields) (any, error) {
	if f == nil {
		return nil, errTombstone
	}
	return RestartRecord{Connector: name, IncludeTasks: f.boolean("include-tasks"), OnlyFailed: f.boolean("only-failed")}, nil
}

func decodeLogger(name string, f fields) (any, error) {
	if f == nil {
		return nil, errTombstone
	}
	level, err := f.text("level")
	return LoggerRecord{Namespace: name, Level: level}, err
}

func decodeSessionKey(_ string, f fields) (any, error) {
	if f == nil {
		return nil, errTombstone
	}
	encoded, err := f.text("key")
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("field %q is not base64", "key")
	}
	algorithm, err := f.text("algorithm")
	if err != nil {
		return nil, err
	}
	created, err := f.integer("creation-timestamp", 64)
	if err != nil {
		return nil, err
	}
	return SessionKeyRecord{Key: config.NewSecret(string(key)), Algorithm: algorithm, Created: created}, nil
}
