package task

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// errRevoked is what a run meets that registers metrics after it was given up.
var errRevoked = errors.New("the run was given up; its metrics are its successor's")

// registrations are the metrics of one run. A run that does not return is given up while it still holds
// them; without revoke the next run of the same task on this worker could not register its own, which have the same
// names and labels.
type registrations struct {
	to prometheus.Registerer

	mu      sync.Mutex
	held    []prometheus.Collector
	revoked bool
}

// Register implements prometheus.Registerer.
func (r *registrations) Register(c prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked {
		return errRevoked
	}
	if err := r.to.Register(c); err != nil {
		return err
	}
	r.held = append(r.held, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *registrations) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer. It does not touch what a
// successor has registered under the same names.
func (r *registrations) Unregister(c prometheus.Collector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, held := range r.held {
		if held == c {
			r.held = append(r.held[:i], r.held[i+1:]...)
			return r.to.Unregister(c)
		}
	}
	return false
}

// revoke takes everything back, for good.
func (r *registrations) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = true
	for _, c := range r.held {
		r.to.Unregister(c)
	}
	r.held = nil
}
