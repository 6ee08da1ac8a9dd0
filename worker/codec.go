package worker

import (
	"fmt"
	"strconv"
	"strings"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// Keys of our own records. Those of the status topic stand in its partition 0,
// so that they have one order.
const (
	leaderKey        = "barnabas-leader"
	assignmentPrefix = "barnabas-assignment-"
	// The further records of an assignment that is too large for one: then the number from 1, "-", and the worker.
	partPrefix     = "barnabas-assigned-"
	documentPrefix = "barnabas-document-" // then the document's key
	historyPrefix  = "barnabas-history-"  // then the version's number, "-", and the connector
	drainPrefix    = "barnabas-drain-"    // then the worker
	donePrefix     = "barnabas-done-"     // then a slot
	memberPrefix   = "barnabas-member-"
	leaseKey       = "barnabas-lease"
	ackPrefix      = "barnabas-ack-"
	beatPrefix     = "barnabas-beat-"
	loadPrefix     = "barnabas-load-"
	plannedPrefix  = "barnabas-planned-"
	restartsPrefix = "barnabas-restarts-"
)

// applyConfig takes a record of the config topic to the herder.
func (w *Worker) applyConfig(r store.Record) {
	event := herder.ConfigRead{Offset: r.Offset, More: r.More}
	if !r.Marker {
		decoded, err := store.DecodeConfig(r.Key, r.Value)
		if err == nil {
			event.Record, err = w.meaning(decoded)
		}
		if err != nil {
			w.log.Error("record of the config topic skipped", "offset", r.Offset, "err", err)
		}
		if d, ok := event.Record.(herder.Document); ok {
			w.connections.apply(d, r.Offset)
			w.apps.apply(d, r.Offset)
			w.roles.apply(d, r.Offset)
		}
	}
	w.tell(event)
}

// meaning turns a record of the config topic into what the herder knows.
func (w *Worker) meaning(decoded any) (herder.Record, error) {
	switch r := decoded.(type) {
	case store.ConnectorRecord:
		if r.Config == nil {
			w.fencing.forget(r.Name)
		}
		return herder.ConnectorConfig{Name: r.Name, Config: r.Config}, nil
	case store.TaskRecord:
		return herder.TaskConfig{Unit: herder.Unit{Connector: r.Connector, Task: r.Task}, Config: r.Config}, nil
	case store.CommitRecord:
		w.fencing.committed(r.Connector)
		return herder.Commit{Name: r.Connector, Tasks: r.Tasks}, nil
	case store.TargetStateRecord:
		return herder.Target{Name: r.Connector, State: herder.TargetState(r.State)}, nil
	case store.RestartRecord:
		return herder.RestartRequest{Name: r.Connector, IncludeTasks: r.IncludeTasks, OnlyFailed: r.OnlyFailed}, nil
	case store.TaskCountRecord:
		w.fencing.counted(r.Connector)
		return herder.TaskCount{Name: r.Connector, Tasks: r.Tasks}, nil
	case store.LoggerRecord:
		w.follow(r)
		return herder.LoggerLevel{Logger: r.Namespace, Level: r.Level}, nil
	case store.SessionKeyRecord:
		w.key.Store(&r)
		return herder.SessionKey{Value: r}, nil
	case store.OwnRecord:
		return ownConfig(r)
	}
	return nil, nil
}

func ownConfig(r store.OwnRecord) (herder.Record, error) {
	if worker, ok := strings.CutPrefix(r.Key, assignmentPrefix); ok {
		if r.Value == nil {
			return herder.Assignment{Instance: herder.Instance{Worker: worker}}, nil
		}
		return own[herder.Assignment](r)
	}
	if strings.HasPrefix(r.Key, partPrefix) && r.Value != nil { // the first record tells which of them are gone
		return own[herder.Assignment](r)
	}
	if strings.HasPrefix(r.Key, donePrefix) && r.Value != nil {
		return own[herder.Done](r)
	}
	if version, ok := strings.CutPrefix(r.Key, historyPrefix); ok {
		return ownHistory(r, version)
	}
	if key, ok := strings.CutPrefix(r.Key, documentPrefix); ok {
		return ownDocument(r, key)
	}
	if worker, ok := strings.CutPrefix(r.Key, drainPrefix); ok {
		if r.Value == nil {
			return herder.Drain{Worker: worker}, nil
		}
		drain, err := store.DecodeOwn[herder.Drain](r)
		if err != nil {
			return nil, err
		}
		drain.On = true
		return drain, nil
	}
	if r.Key == leaderKey && r.Value != nil {
		return own[herder.Leader](r)
	}
	return nil, nil
}

func ownHistory(r store.OwnRecord, version string) (herder.Record, error) {
	digits, name, ok := strings.Cut(version, "-")
	number, err := strconv.ParseInt(digits, 10, 64)
	if !ok || name == "" || err != nil || number < 1 {
		return nil, fmt.Errorf("record %q: the key names no version of a connector", r.Key)
	}
	h := herder.History{Name: name, Number: number}
	if r.Value == nil {
		return h, nil
	}
	v, err := store.DecodeOwn[herder.Version](r)
	if err != nil {
		return nil, err
	}
	v.Number = number
	h.Version = &v
	return h, nil
}

func own[T herder.Record](r store.OwnRecord) (herder.Record, error) {
	v, err := store.DecodeOwn[T](r)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// applyStatus takes a record of the status topic to the herder or to the
// statuses.
func (w *Worker) applyStatus(r store.Record) {
	if r.Marker {
		return
	}
	decoded, err := store.DecodeStatus(r.Key, r.Value)
	if err != nil {
		w.log.Error("record of the status topic skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
		return
	}
	mine, isOwn := decoded.(store.OwnRecord)
	if !isOwn {
		w.topics.statuses.Apply(decoded)
		w.gainsay(decoded)
		return
	}
	if name, ok := strings.CutPrefix(mine.Key, plannedPrefix); ok {
		if err := w.plans.apply(name, mine); err != nil {
			w.log.Error("record of the status topic skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		return
	}
	if strings.HasPrefix(mine.Key, restartsPrefix) {
		if err := w.restarts.apply(mine); err != nil {
			w.log.Error("record of the status topic skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		return
	}
	record, err := ownStatus(mine)
	if err != nil {
		w.log.Error("record of the status topic skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
		return
	}
	if record == nil {
		return
	}
	if j, ok := record.(herder.Join); ok && j.Instance != w.self {
		w.gossip.Join(j.Gossip)
	}
	w.tell(herder.StatusRead{Offset: r.Offset, Record: record})
}

func ownStatus(r store.OwnRecord) (herder.Record, error) {
	worker, isMember := strings.CutPrefix(r.Key, memberPrefix)
	switch {
	case isMember && r.Value == nil:
		return herder.Depart{Worker: worker}, nil
	case r.Value == nil:
		return nil, nil
	case isMember:
		return own[herder.Join](r)
	case r.Key == leaseKey:
		return own[herder.Lease](r)
	case strings.HasPrefix(r.Key, ackPrefix):
		return own[herder.Ack](r)
	case strings.HasPrefix(r.Key, beatPrefix):
		return own[herder.Beat](r)
	case strings.HasPrefix(r.Key, loadPrefix):
		return own[herder.Load](r)
	}
	return nil, nil
}

// entry writes a record of the herder.
func entry(r herder.Record) (store.Entry, error) {
	var e store.Entry
	var err error
	switch r := r.(type) {
	case herder.ConnectorConfig:
		return store.ConnectorRecord{Name: r.Name, Config: r.Config}.Entry(), nil
	case herder.TaskConfig:
		return store.TaskRecord{Connector: r.Unit.Connector, Task: r.Unit.Task, Config: r.Config}.Entry(), nil
	case herder.Commit:
		return store.CommitRecord{Connector: r.Name, Tasks: r.Tasks}.Entry(), nil
	case herder.Target:
		return store.TargetStateRecord{Connector: r.Name, State: string(r.State)}.Entry(), nil
	case herder.RestartRequest:
		return store.RestartRecord{Connector: r.Name, IncludeTasks: r.IncludeTasks, OnlyFailed: r.OnlyFailed}.Entry(), nil
	case herder.SessionKey:
		return r.Value.(store.SessionKeyRecord).Entry(), nil
	case herder.TaskCount:
		return store.TaskCountRecord{Connector: r.Name, Tasks: r.Tasks}.Entry(), nil
	case herder.LoggerLevel:
		return store.LoggerRecord{Namespace: r.Logger, Level: r.Level}.Entry(), nil
	case herder.History:
		key := historyPrefix + strconv.FormatInt(r.Number, 10) + "-" + r.Name
		if r.Version == nil {
			return store.Entry{Key: []byte(key)}, nil
		}
		return store.EncodeOwn(key, *r.Version)
	case herder.Document:
		if r.Value == nil {
			return store.Entry{Key: []byte(documentPrefix + r.Key)}, nil
		}
		return store.EncodeOwn(documentPrefix+r.Key, r.Value)
	case herder.Done:
		return store.EncodeOwn(donePrefix+strconv.FormatInt(r.Slot(), 10), r)
	case herder.Drain:
		if !r.On {
			return store.Entry{Key: []byte(drainPrefix + r.Worker)}, nil
		}
		return store.EncodeOwn(drainPrefix+r.Worker, r)
	case herder.Leader:
		return store.EncodeOwn(leaderKey, r)
	case herder.Assignment:
		key := assignmentPrefix + r.Worker
		if r.Part > 0 {
			key = partPrefix + strconv.Itoa(r.Part) + "-" + r.Worker
		}
		if r.Incarnation == "" {
			return store.Entry{Key: []byte(key)}, nil
		}
		return store.EncodeOwn(key, r)
	case herder.Join:
		e, err = store.EncodeOwn(memberPrefix+r.Worker, r)
	case herder.Depart:
		e = store.Entry{Key: []byte(memberPrefix + r.Worker)}
	case herder.Lease:
		e, err = store.EncodeOwn(leaseKey, r)
	case herder.Ack:
		e, err = store.EncodeOwn(ackPrefix+r.Worker, r)
	case herder.Load:
		e, err = store.EncodeOwn(loadPrefix+r.Worker, r)
	case herder.Beat:
		e, err = store.EncodeOwn(beatPrefix+r.Worker, r)
	}
	e.Pinned = true // partition 0
	return e, err
}
