package worker

import (
	"strings"

	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// Keys of our own records. Those of the status topic stand in its partition 0,
// so that they have one order.
const (
	leaderKey        = "barnabas-leader"
	assignmentPrefix = "barnabas-assignment-"
	memberPrefix     = "barnabas-member-"
	leaseKey         = "barnabas-lease"
	ackPrefix        = "barnabas-ack-"
	beatPrefix       = "barnabas-beat-"
	loadPrefix       = "barnabas-load-"
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
	}
	w.tell(event)
}

// meaning turns a record of the config topic into what the herder knows.
func (w *Worker) meaning(decoded any) (herder.Record, error) {
	switch r := decoded.(type) {
	case store.ConnectorRecord:
		return herder.ConnectorConfig{Name: r.Name, Config: r.Config}, nil
	case store.TaskRecord:
		return herder.TaskConfig{Unit: herder.Unit{Connector: r.Connector, Task: r.Task}, Config: r.Config}, nil
	case store.CommitRecord:
		return herder.Commit{Name: r.Connector, Tasks: r.Tasks}, nil
	case store.TargetStateRecord:
		return herder.Target{Name: r.Connector, State: herder.TargetState(r.State)}, nil
	case store.RestartRecord:
		return herder.RestartRequest{Name: r.Connector, IncludeTasks: r.IncludeTasks, OnlyFailed: r.OnlyFailed}, nil
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
	if r.Key == leaderKey && r.Value != nil {
		return own[herder.Leader](r)
	}
	return nil, nil
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
	case herder.Leader:
		return store.EncodeOwn(leaderKey, r)
	case herder.Assignment:
		if r.Incarnation == "" {
			return store.Entry{Key: []byte(assignmentPrefix + r.Worker)}, nil
		}
		return store.EncodeOwn(assignmentPrefix+r.Worker, r)
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
