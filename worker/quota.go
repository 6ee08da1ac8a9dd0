package worker

import (
	"strings"
	"time"

	"barnabas/connection"
	"barnabas/connector"
	"barnabas/worker/herder"
)

// quota are the limits of one connection on this worker: its part of the connection's quota, by its part of the tasks that
// read or write there.
type quota struct {
	spec        connection.Quota
	read, write *connector.Limit
	// of the tasks that use the connection, how many are here.
	readers, writers share
}

// share is a part of a whole.
type share struct{ mine, all int }

// of returns this worker's part of a rate. Before anybody is known to run, each worker that asks may have it all.
func (s share) of(rate int64) float64 {
	if s.mine == 0 || s.all == 0 {
		return float64(rate)
	}
	return float64(rate) * float64(s.mine) / float64(s.all)
}

func (q *quota) set() {
	q.read.Set(q.readers.of(q.spec.Read))
	q.write.Set(q.writers.of(q.spec.Write))
}

// limits returns the limits of a connection; they stay its own when it changes.
func (c *connections) limits(name connection.Name) (read, write *connector.Limit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.quotaOf(name)
	return q.read, q.write
}

// quotaOf returns the quota of a connection. c.mu is held.
func (c *connections) quotaOf(name connection.Name) *quota {
	q := c.quotas[name]
	if q == nil {
		q = &quota{read: connector.NewLimit(0), write: connector.NewLimit(0)}
		if c.quotas == nil {
			c.quotas = map[connection.Name]*quota{}
		}
		c.quotas[name] = q
		if v, ok := c.all[name].Present(); ok {
			q.spec = v.Spec.Quota
		}
		q.set()
	}
	return q
}

// limited are the connections that have a quota.
func (c *connections) limited() map[connection.Name]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[connection.Name]bool{}
	for name, q := range c.quotas {
		if q.spec != (connection.Quota{}) {
			all[name] = true
		}
	}
	return all
}

// divide sets the parts of this worker.
func (c *connections) divide(readers, writers map[connection.Name]share) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, q := range c.quotas {
		q.readers, q.writers = readers[name], writers[name]
		q.set()
	}
}

// divideEvery is how often quotas are divided anew by who runs what.
const divideEvery = time.Second

// divideQuotas gives this worker its part of the quotas of connections. It is called in the loop.
func (w *Worker) divideQuotas() {
	if time.Since(w.divided) < divideEvery || !w.machine.Loaded() {
		return
	}
	w.divided = time.Now()
	limited := w.connections.limited()
	if len(limited) == 0 {
		return
	}
	readers, writers := map[connection.Name]share{}, map[connection.Name]share{}
	for _, name := range w.machine.Connectors() {
		written, _, _ := w.machine.Connector(name)
		if !isMirror(written, "Source") {
			continue // the others copy nothing
		}
		for key, of := range map[string]map[connection.Name]share{connection.SourceKey: readers, connection.TargetKey: writers} {
			at, err := connection.ParseName(strings.TrimSpace(written[key]))
			if err != nil || !limited[at] || w.machine.Target(name) != herder.Started {
				continue
			}
			s := of[at]
			for task := range w.machine.Tasks(name) {
				owner, _, ok := w.machine.Owner(herder.Unit{Connector: name, Task: task})
				if !ok {
					continue
				}
				s.all++
				if owner == w.self {
					s.mine++
				}
			}
			of[at] = s
		}
	}
	w.connections.divide(readers, writers)
}
