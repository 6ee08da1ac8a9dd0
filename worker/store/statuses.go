package store

import (
	"maps"
	"slices"
	"sync"
)

// Statuses is the status topic in memory: what Connect's KafkaStatusBackingStore
// knows. Apply feeds it; readers may call it at any time.
type Statuses struct {
	mu         sync.RWMutex
	connectors map[string]Status
	tasks      map[string]map[int]Status
	topics     map[string]map[string]TopicStatus // by connector, then topic
}

// NewStatuses returns an empty view.
func NewStatuses() *Statuses {
	return &Statuses{
		connectors: map[string]Status{},
		tasks:      map[string]map[int]Status{},
		topics:     map[string]map[string]TopicStatus{},
	}
}

// Apply takes in what DecodeStatus gave for the next record of the status topic; other types
// change nothing.
func (s *Statuses) Apply(record any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r := record.(type) {
	case ConnectorStatus:
		if r.Status == nil {
			delete(s.connectors, r.Connector)
			delete(s.tasks, r.Connector)
			return
		}
		s.connectors[r.Connector] = *r.Status
	case TaskStatus:
		s.applyTask(r)
	case TopicStatus:
		if r.Deleted {
			removeFrom(s.topics, r.Connector, r.Topic)
			return
		}
		insertInto(s.topics, r.Connector, r.Topic, r)
	}
}

func (s *Statuses) applyTask(r TaskStatus) {
	if r.Status == nil {
		removeFrom(s.tasks, r.Connector, r.Task)
		return
	}
	// A worker may report that it gave a task up after the next one has reported that it runs, since their
	// writes are not ordered; the late report must not win.
	old, known := s.tasks[r.Connector][r.Task]
	if known && r.Status.State == "UNASSIGNED" && old.State == "RUNNING" && old.Generation >= r.Status.Generation {
		return
	}
	insertInto(s.tasks, r.Connector, r.Task, *r.Status)
}

func insertInto[K comparable, V any](m map[string]map[K]V, name string, k K, v V) {
	if m[name] == nil {
		m[name] = map[K]V{}
	}
	m[name][k] = v
}

func removeFrom[K comparable, V any](m map[string]map[K]V, name string, k K) {
	delete(m[name], k)
	if len(m[name]) == 0 {
		delete(m, name)
	}
}

// Connector returns the state of a connector instance.
func (s *Statuses) Connector(name string) (Status, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	status, ok := s.connectors[name]
	return status, ok
}

// Connectors returns the names of all connectors that have a status, sorted.
func (s *Statuses) Connectors() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.connectors))
}

// Task returns the state of a task.
func (s *Statuses) Task(name string, task int) (Status, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	status, ok := s.tasks[name][task]
	return status, ok
}

// Tasks returns the states of a connector's tasks by number.
func (s *Statuses) Tasks(name string) map[int]Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.tasks[name])
}

// Topics returns the topics that a connector uses, sorted by name.
func (s *Statuses) Topics(name string) []TopicStatus {
	s.mu.RLock()
	defer s.mu.RUnlock()
	topics := make([]TopicStatus, 0, len(s.topics[name]))
	for _, t := range slices.Sorted(maps.Keys(s.topics[name])) {
		topics = append(topics, s.topics[name][t])
	}
	return topics
}

// ConnectorIsOurs says whether status may replace what is known of a connector: it is our own report, or
// not from an older generation. It is the condition of Connect's putSafe, which a worker
// uses where another one may own the connector by now; a plain put asks nothing.
func (s *Statuses) ConnectorIsOurs(name string, status Status) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	old, known := s.connectors[name]
	return !known || replaces(old, status)
}

// TaskIsOurs is ConnectorIsOurs for a task.
func (s *Statuses) TaskIsOurs(name string, task int, status Status) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	old, known := s.tasks[name][task]
	return !known || replaces(old, status)
}

func replaces(old, status Status) bool {
	return old.WorkerID == status.WorkerID || old.Generation <= status.Generation
}
