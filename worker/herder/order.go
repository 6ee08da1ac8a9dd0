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
	ErrNoWorker  = errors.New("no such worker")
	ErrStale     = errors.New("these task configurations are of a connector instance that has been replaced")
)

// Reply is the answer to an Ordered event, given when what was ordered has been
// read back from the log.
type Reply struct {
	ID      int64
	Err     error
	Created bool // a PutConnector made a connector that was not there, or a PutDocument says so
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
		Change Change // who, for the history
	}
	// DeleteConnector deletes a connector; its offsets stay.
	DeleteConnector struct {
		Name   string
		Change Change
	}
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
	// PutTaskCount records how many tasks a connector has at that moment.
	PutTaskCount struct{ Name string }
	// SetDrain drains a worker, or takes that back. At is the wall clock, in ms.
	SetDrain struct {
		Worker string
		On     bool
		At     int64
	}
	// Together is several orders in one transaction: all are performed, or, at the first refusal, none. They are not of connectors that another
	// order of the same transaction has touched: that is ErrDocument.
	Together struct{ Orders []Order }
	// PutRecord appends a record that the machine has no opinion on.
	PutRecord struct{ Record Record }
)

func (o PutConnector) connector() string     { return o.Name }
func (o DeleteConnector) connector() string  { return o.Name }
func (o SetTarget) connector() string        { return o.Name }
func (o RestartConnector) connector() string { return o.Name }
func (o PutTasks) connector() string         { return o.Name }
func (o PutTaskCount) connector() string     { return o.Name }
func (SetDrain) connector() string           { return "" }
func (PutRecord) connector() string          { return "" }
func (Together) connector() string           { return "" }

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
		d.remember(name, o.Config, o.Change)
		d.configs[name] = o.Config
		d.touched[name] = true
		return Reply{Created: c == nil}
	case DeleteConnector:
		d.records = append(d.records, ConnectorConfig{Name: name}, Target{Name: name})
		d.remember(name, nil, o.Change)
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
	case PutTaskCount:
		count := TaskCount{Name: name}
		if t := m.tasks[name]; t != nil {
			count.Tasks = len(t.configs)
		}
		d.records = append(d.records, count)
	case SetDrain:
		return d.setDrain(o)
	case PutRecord:
		d.records = append(d.records, o.Record)
	case PutDocument:
		err := d.putDocument(o)
		return Reply{Err: err, Created: err == nil && o.Creates}
	case Together:
		return d.together(o.Orders)
	}
	d.touched[name] = true
	return Reply{}
}

// setDrain does not move anything yet: that is planned when the record has been read back.
func (d *draft) setDrain(o SetDrain) Reply {
	if _, member := d.m.joins[o.Worker]; !member && !d.m.drains[o.Worker] {
		return Reply{Err: ErrNoWorker}
	}
	if d.m.drains[o.Worker] != o.On {
		d.records = append(d.records, Drain(o))
	}
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
	same, grows := len(have) == len(o.Tasks), d.grows(o, have)
	for i := range min(len(have), len(o.Tasks)) {
		if !maps.Equal(have[i], o.Tasks[i]) {
			same = false
			if !grows {
				d.anew[Unit{o.Name, i}] = true
			}
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
