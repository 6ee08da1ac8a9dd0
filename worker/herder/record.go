package herder

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Unit is what is assigned to a worker: a connector instance (Task is
// ConnectorUnit) or one of its tasks.
type Unit struct {
	Connector string
	Task      int
}

// ConnectorUnit is the Task of a Unit that is the connector itself.
const ConnectorUnit = -1

// IsConnector tells a connector instance from a task.
func (u Unit) IsConnector() bool { return u.Task == ConnectorUnit }

func (u Unit) String() string {
	if u.IsConnector() {
		return u.Connector
	}
	return u.Connector + "-" + strconv.Itoa(u.Task)
}

func compareUnits(a, b Unit) int {
	if c := strings.Compare(a.Connector, b.Connector); c != 0 {
		return c
	}
	return a.Task - b.Task
}

// Instance is one process of a worker. A worker that starts again is another
// instance: nothing that its predecessor was given or had promised holds for it.
type Instance struct {
	Worker      string `json:"worker"`
	Incarnation string `json:"incarnation"`
}

// TargetState is what a user wants of a connector, in Kafka Connect's words.
type TargetState string

// The target states.
const (
	Started TargetState = "STARTED"
	Paused  TargetState = "PAUSED"
	Stopped TargetState = "STOPPED"
)

// A Record is one record of the config topic or one of ours in the status topic,
// by meaning. The worker turns it into keys and JSON and back.
type Record interface{ record() }

// The records of the config topic that Kafka Connect has too.
type (
	// ConnectorConfig creates or changes a connector; a nil Config deletes it.
	ConnectorConfig struct {
		Name   string
		Config map[string]string
	}
	// TaskConfig is the configuration of one task. It holds from the next Commit on.
	TaskConfig struct {
		Unit   Unit
		Config map[string]string
	}
	// Commit makes the first Tasks task configurations the valid ones.
	Commit struct {
		Name  string
		Tasks int
	}
	// Target is a connector's target state; an empty State deletes it.
	Target struct {
		Name  string
		State TargetState
	}
	// RestartRequest asks the owners to restart a connector and, if told so, its tasks.
	RestartRequest struct {
		Name         string
		IncludeTasks bool
		OnlyFailed   bool
	}
	// SessionKey is the key that internal requests are signed with. The machine only
	// passes it through.
	SessionKey struct{ Value any }
	// TaskCount says how many tasks of a connector a round of fencing was about (KIP-618), LoggerLevel what a
	// logger's level is on all workers (KIP-976). The machine only passes them through.
	TaskCount struct {
		Name  string
		Tasks int
	}
	LoggerLevel struct{ Logger, Level string }
)

// The records of the config topic that are ours.
type (
	// Leader says who leads from here on.
	Leader struct {
		Epoch int64 `json:"epoch"`
		Instance
	}
	// Drain says that a worker is to run nothing, in whatever incarnation, until it is taken back. Without On it is the
	// tombstone.
	Drain struct {
		Worker string `json:"worker"`
		On     bool   `json:"-"`
		At     int64  `json:"at"` // wall clock, ms since the epoch; shown, never decided on
	}
	// Assignment is everything that one worker has to run. An empty Incarnation
	// is the tombstone of a departed worker.
	Assignment struct {
		Epoch   int64 `json:"epoch"`
		Version int64 `json:"version"`
		Instance
		Runs []Run `json:"runs"`
		// Left is what this worker, in this or a former incarnation, has lost and may still be running.
		Left []Left `json:"left,omitempty"`
		// An assignment that is too large for one record stands in several, written in one transaction: Records of them, if
		// more than one, and this is number Part, from 0. Runs and Left are spread over them.
		Records int `json:"records,omitempty"`
		Part    int `json:"part,omitempty"`
	}
)

// Left is a group of units that Instance lost by assignment Version. It stays
// in the log until Instance has acknowledged or its lease has run out, so that
// whoever is given these units next, by whatever leader, knows whom to wait for.
type Left struct {
	Wait
	Units map[string]string `json:"units"`
}

// Run is a group of units that were given to a worker at once.
type Run struct {
	// Gen is the version of the assignment that gave them. A unit given anew, because it moved or because
	// its configuration changed, has another Gen and is another run.
	Gen int64 `json:"gen"`
	// Units maps a connector to its units: "c" the connector itself, numbers and
	// ranges its tasks ("c,0-3,7"), so that 200,000 tasks fit in records under 1 MiB.
	Units map[string]string `json:"units"`
	// After lists who must have stopped before these units may start.
	After []Wait `json:"after,omitempty"`
}

// Wait names a promise: Instance has stopped what assignments up to Version
// took from it.
type Wait struct {
	Instance
	Version int64 `json:"version"`
}

// The records of the status topic that are ours.
type (
	// Join says that an instance is a member. The order of the joins in the log is
	// the order of succession.
	Join struct {
		Instance
		URL     string            `json:"url"`
		Gossip  string            `json:"gossip"`
		Version string            `json:"version"`
		Labels  map[string]string `json:"labels,omitempty"`
		// Updates says that this worker hands a task its changed configuration while it runs.
		Updates bool  `json:"updates,omitempty"`
		At      int64 `json:"at"` // wall clock, ms since the epoch; shown, never decided on
	}
	// Depart removes the Join of a worker (a tombstone).
	Depart struct{ Worker string }
	// Lease is the leader's sign of life; Resigned says that it leads no more.
	Lease struct {
		Epoch int64 `json:"epoch"`
		Instance
		Resigned bool `json:"resigned,omitempty"`
	}
	// Ack says that an instance has stopped all that assignments up to Version took from it. Gone says that
	// it has stopped everything and leaves.
	Ack struct {
		Instance
		Version int64 `json:"version"`
		Gone    bool  `json:"gone,omitempty"`
	}
	// Beat is a member's sign of life, written only while gossip does not show it
	// the leader.
	Beat struct{ Instance }
	// Load tells what the tasks of a member weigh (see Weigh), as far as it has measured them.
	Load struct {
		Instance
		Weights map[string]map[int]int64 `json:"weights"` // by connector and task
		// Rates are the bytes per second of those partitions that carry at least LeastRate, by connector and
		// by topic and partition as Kafka writes them ("orders-0"); the fastest maxRates of them.
		Rates map[string]map[string]int64 `json:"rates,omitempty"`
	}
)

func (ConnectorConfig) record() {}
func (TaskConfig) record()      {}
func (Commit) record()          {}
func (Target) record()          {}
func (RestartRequest) record()  {}
func (SessionKey) record()      {}
func (TaskCount) record()       {}
func (LoggerLevel) record()     {}
func (Leader) record()          {}
func (Assignment) record()      {}
func (Drain) record()           {}
func (Join) record()            {}
func (Depart) record()          {}
func (Lease) record()           {}
func (Ack) record()             {}
func (Beat) record()            {}
func (Load) record()            {}

// packUnits writes units of one run as Run.Units has them.
func packUnits(units []Unit) map[string]string {
	slices.SortFunc(units, compareUnits)
	packed := map[string]string{}
	for i := 0; i < len(units); {
		u := units[i]
		part, next := "c", i+1
		if !u.IsConnector() {
			for next < len(units) && units[next].Connector == u.Connector && units[next].Task == units[next-1].Task+1 {
				next++
			}
			part = strconv.Itoa(u.Task)
			if last := units[next-1].Task; last > u.Task {
				part += "-" + strconv.Itoa(last)
			}
		}
		if have := packed[u.Connector]; have != "" {
			part = have + "," + part
		}
		packed[u.Connector] = part
		i = next
	}
	return packed
}

// maxTasks bounds what a foreign or broken record can make us allocate.
const maxTasks = 1 << 20

// unpackUnits reads Run.Units, sorted.
func unpackUnits(packed map[string]string) ([]Unit, error) {
	var units []Unit
	for _, name := range slices.Sorted(maps.Keys(packed)) {
		for part := range strings.SplitSeq(packed[name], ",") {
			if part == "c" {
				units = append(units, Unit{name, ConnectorUnit})
				continue
			}
			low, high, ranged := strings.Cut(part, "-")
			first, err := strconv.ParseUint(low, 10, 31)
			last := first
			if err == nil && ranged {
				last, err = strconv.ParseUint(high, 10, 31)
			}
			if err != nil || last < first || last > maxTasks {
				return nil, fmt.Errorf("units of %q: %q is neither c, a task nor a range of tasks", name, part)
			}
			if len(units) > 4*maxTasks {
				return nil, fmt.Errorf("units of %q: too many", name)
			}
			for t := first; t <= last; t++ {
				units = append(units, Unit{name, int(t)})
			}
		}
	}
	return units, nil
}
