package herder

import (
	"errors"
	"maps"
)

// Why an order is refused.
var (
	ErrNotLeader = errors.New("this worker does not lead the cluster")
	ErrOutcome   = errors.New("the lead was lost while this was being written: it may or may not have been done")
	ErrUnknown   = errors.New("no such connector")
	ErrExists    = errors.New("the connector exists already")
	ErrChanged   = errors.New("the connector's configuration has changed meanwhile")
	ErrStopped   = errors.New("the connector is stopped")
	ErrStale     = errors.New("these task configurations are of a connector instance that has been replaced")
)

// Reply is the answer to an Ordered event, given when what was ordered has been
// read back from the log.
type Reply struct {
	ID      int64
	Err     error
	Created bool // a PutConnector made a connector that was not there
}

// An Order is a change that the leader makes.
type Order interface {
	// connector names the connector that the order is about, or is empty.
	connector() string
}

type (
	// PutConnector creates a connector or changes its configuration.
	PutConnector struct {
		Name   string
		Config map[string]string
		// Create: refuse if it exists. Initial is its target state then (empty: STARTED).
		Create  bool
		Initial TargetState
		// Expect, if not 0, is the revision that the change was made from.
		Expect int64
	}
	// DeleteConnector deletes a connector; its offsets stay.
	DeleteConnector struct{ Name string }
	// SetTarget pauses, resumes or stops a connector.
	SetTarget struct {
		Name  string
		State TargetState
	}
	// RestartConnector restarts a connector and, if told so, its tasks, wherever they are.
	RestartConnector struct {
		Name         string
		IncludeTasks bool
		OnlyFailed   bool
	}
	// PutTasks publishes the task configurations that a connector instance has planned. Gen, if not 0, names
	// the instance's run: an instance that has been replaced is refused.
	PutTasks struct {
		Name  string
		Gen   int64
		Tasks []map[string]string
	}
	// PutRecord appends a record that the machine has no opinion on.
	PutRecord struct{ Record Record }
)

func (o PutConnector) connector() string     { return o.Name }
func (o DeleteConnector) connector() string  { return o.Name }
func (o SetTarget) connector() string        { return o.Name }
func (o RestartConnector) connector() string { return o.Name }
func (o PutTasks) connector() string         { return o.Name }
func (PutRecord) connector() string          { return "" }

// maxQueue bounds the orders that wait; more are sent away to try again.
const maxQueue = 4096

func (m *Machine) ordered(e Ordered) {
	if m.lead.phase != leading || len(m.lead.queue) >= maxQueue {
		m.reply(Reply{ID: e.ID, Err: ErrNotLeader})
		return
	}
	m.lead.queue = append(m.lead.queue, e)
}

// perform adds the records of one order, in the order in which Kafka Connect
// writes them.
func (d *draft) perform(o Order) Reply {
	m, name := d.m, o.connector()
	c := m.connectors[name]
	if _, create := o.(PutConnector); name != "" && c == nil && !create {
		return Reply{Err: ErrUnknown}
	}
	switch o := o.(type) {
	case PutConnector:
		switch {
		case o.Create && c != nil:
			return Reply{Err: ErrExists}
		case o.Expect != 0 && (c == nil || c.rev != o.Expect):
			return Reply{Err: ErrChanged}
		}
		if o.Initial != "" && c == nil {
			d.records = append(d.records, Target{name, o.Initial})
		}
		d.records = append(d.records, ConnectorConfig{name, o.Config})
		d.configs[name] = o.Config
		d.touched[name] = true
		return Reply{Created: c == nil}
	case DeleteConnector:
		d.records = append(d.records, ConnectorConfig{Name: name}, Target{Name: name})
		d.configs[name] = nil
		d.tasks[name] = 0
	case SetTarget:
		if o.State == Stopped {
			d.records = append(d.records, Commit{name, 0})
			d.tasks[name] = 0
		}
		d.records = append(d.records, Target{name, o.State})
	case RestartConnector:
		d.records = append(d.records, RestartRequest{name, o.IncludeTasks, o.OnlyFailed})
	case PutTasks:
		if err := d.putTasks(o); err != nil {
			return Reply{Err: err}
		}
	case PutRecord:
		d.records = append(d.records, o.Record)
	}
	d.touched[name] = true
	return Reply{}
}

func (d *draft) putTasks(o PutTasks) error {
	m := d.m
	if m.target(o.Name) == Stopped {
		return ErrStopped
	}
	unit := Unit{o.Name, ConnectorUnit}
	if a := m.assignments[m.owner[unit]]; o.Gen != 0 && (a == nil || a.units[unit].gen != o.Gen) {
		return ErrStale
	}
	var have []map[string]string
	if t := m.tasks[o.Name]; t != nil {
		have = t.configs
	}
	same := len(have) == len(o.Tasks)
	for i := range min(len(have), len(o.Tasks)) {
		if !maps.Equal(have[i], o.Tasks[i]) {
			d.anew[Unit{o.Name, i}] = true
			same = false
		}
	}
	if same {
		return nil
	}
	for i, c := range o.Tasks {
		d.records = append(d.records, TaskConfig{Unit{o.Name, i}, c})
	}
	d.records = append(d.records, Commit{o.Name, len(o.Tasks)})
	d.tasks[o.Name] = len(o.Tasks)
	return nil
}
