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
	// replaced holds what was known of a unit before another worker, or the same under another generation, wrote: a
	// former owner may write after the present one.
	replaced map[statusKey]Status
}

// statusKey is a connector instance, whose task is -1, or a task.
type statusKey struct {
	connector string
	task      int
}

// NewStatuses returns an empty view.
func NewStatuses() *Statuses {
	return &Statuses{
		connectors: map[string]Status{},
		tasks:      map[string]map[int]Status{},
		topics:     map[string]map[string]TopicStatus{},
		replaced:   map[statusKey]Status{},
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
			delete(s.replaced, statusKey{r.Connector, -1})
			for task := range s.tasks[r.Connector] {
				delete(s.replaced, statusKey{r.Connector, task})
			}
			delete(s.tasks, r.Connector)
			return
		}
		if old, known := s.connectors[r.Connector]; known {
			s.keep(statusKey{r.Connector, -1}, old, *r.Status)
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
		delete(s.replaced, statusKey{r.Connector, r.Task})
		return
	}
	// A worker may report that it gave a task up after the next one has reported that it runs, since their
	// writes are not ordered; the late report must not win.
	old, known := s.tasks[r.Connector][r.Task]
	if known && r.Status.State == "UNASSIGNED" && old.State == "RUNNING" && old.Generation >= r.Status.Generation {
		return
	}
	if known {
		s.keep(statusKey{r.Connector, r.Task}, old, *r.Status)
	}
	insertInto(s.tasks, r.Connector, r.Task, *r.Status)
}

// keep remembers old, which another run's status replaces. Further ones of that other run replace only its own.
func (s *Statuses) keep(k statusKey, old, status Status) {
	if old.WorkerID != status.WorkerID || old.Generation != status.Generation {
		s.replaced[k] = old
	}
}

// SaidBy returns what a worker has last said of a unit, whose task is -1 for the connector instance, under a
// generation. Connect believes the record that was written last; who knows the owner need not: a former owner whose
// write was late must not hide what the present one says.
func (s *Statuses) SaidBy(worker string, generation int32, connector string, task int) (Status, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	newest, known := s.tasks[connector][task]
	if task < 0 {
		newest, known = s.connectors[connector]
	}
	if !known {
		return Status{}, false
	}
	for _, st := range []Status{newest, s.replaced[statusKey{connector, task}]} {
		if st.State != "" && st.WorkerID == worker && st.Generation == generation {
			return st, true
		}
	}
	return Status{}, false
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

// UsesTopic says whether it is known that a connector uses a topic.
func (s *Statuses) UsesTopic(name, topic string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.topics[name][topic]
	return ok
}

// TopicUsers returns the names of all connectors that are known to use topics, sorted.
func (s *Statuses) TopicUsers() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.topics))
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
