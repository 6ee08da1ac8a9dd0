package worker

import (
	"context"
	"errors"
	"fmt"

	"barnabas/config"
	"barnabas/worker/herder"
	"barnabas/worker/registry"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// reload starts a run again for the new value of a setting, unless it is over.
func (w *Worker) reload(r task.Run) {
	ctx, cancel := context.WithTimeout(context.Background(), orderTimeout)
	defer cancel()
	u := herder.Unit{Connector: r.Connector, Task: r.Task}
	err := w.ask(ctx, func(m *herder.Machine) {
		if owner, generation, ok := m.Owner(u); ok && owner == w.self && generation == r.Generation && m.Target(u.Connector) == herder.Started {
			w.log.Info("started again for a setting that has changed (config.action.reload)", "connector", u.Connector, "task", u.Task)
			w.step(herder.Restart{Unit: u})
		}
	})
	if err != nil {
		w.log.Warn("not started again for a setting that has changed", "connector", u.Connector, "task", u.Task, "err", err)
	}
}

// connectSecrets makes and checks the topic of the secret registry, if there is one.
func (w *Worker) connectSecrets(ctx context.Context) error {
	r := w.o.Secrets
	if !r.Opened() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	opts, err := w.workerClient("secrets", r.Client())
	if err != nil {
		return fmt.Errorf("the secret registry: %w", err)
	}
	warnings, err := store.Ensure(ctx, store.EnsureOptions{Client: opts}, r.StoreTopic())
	if err != nil {
		return fmt.Errorf("the secret registry: %w", err)
	}
	for _, warning := range warnings {
		w.log.Warn(warning)
	}
	r.Connect(opts, w.log, w.trouble(r.Topic()))
	return nil
}

// SecretVersion describes a version of a secret of the registry. It holds no value.
type SecretVersion = registry.Version

// secretStore returns the registry once it has been read.
func (w *Worker) secretStore(ctx context.Context) (*registry.Registry, error) {
	r := w.o.Secrets
	if !r.Opened() {
		return nil, notFound("There is no secret registry: none of config.providers has the class secret")
	}
	if err := w.read(ctx, func(*herder.Machine) error { return nil }); err != nil {
		return nil, err
	}
	if err := r.Ready(ctx); err != nil {
		return nil, &Error{ErrUnavailable, err.Error()}
	}
	return r, nil
}

// Secrets describes the versions at a path and key of the registry; empty, or version 0, stands for all. None: ErrNotFound, unless
// everything was asked for.
func (w *Worker) Secrets(ctx context.Context, path, key string, version int64) ([]SecretVersion, error) {
	r, err := w.secretStore(ctx)
	if err != nil {
		return nil, err
	}
	all := r.List(path, key, version)
	if len(all) == 0 && path != "" {
		return nil, notFound("No such secret")
	}
	return all, nil
}

// PutSecret stores a new version of a secret.
func (w *Worker) PutSecret(ctx context.Context, path, key string, value config.Secret) (SecretVersion, error) {
	r, err := w.secretStore(ctx)
	if err != nil {
		return SecretVersion{}, err
	}
	v, err := r.Put(ctx, path, key, value, authorOf(ctx).User)
	if err == nil {
		w.log.Info("secret stored", "path", v.Path, "key", v.Key, "version", v.Version, "by", v.By)
	}
	return v, secretError(err)
}

// DeleteSecret deletes a version, or all of a key or path: empty, or version 0, stands for all.
func (w *Worker) DeleteSecret(ctx context.Context, path, key string, version int64) ([]SecretVersion, error) {
	r, err := w.secretStore(ctx)
	if err != nil {
		return nil, err
	}
	deleted, err := r.Delete(ctx, path, key, version)
	if err == nil {
		w.log.Info("secret deleted", "path", path, "key", key, "versions", len(deleted), "by", authorOf(ctx).User)
	}
	return deleted, secretError(err)
}

// secretError is an error of the registry as the REST API knows them.
func secretError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.ErrNotFound):
		return notFound("No such secret")
	case errors.Is(err, registry.ErrName), errors.Is(err, registry.ErrValue):
		return &Error{ErrInvalid, err.Error()}
	}
	return &Error{ErrUnavailable, "The secret could not be written: " + err.Error()}
}

// SecretClient is a Kafka client that uses a reference.
type SecretClient = task.ReferenceClient

// SecretReference is the use of a reference by a connector or task on a worker.
type SecretReference struct {
	task.Reference
	WorkerID string `json:"worker_id"`
}

// SecretRotation is what became of a change of a reference in a connector or task on a worker.
type SecretRotation struct {
	task.Rotation
	WorkerID string `json:"worker_id"`
}

// SecretRevocation is the proof, at one broker, that a former value is refused, or is not.
type SecretRevocation struct {
	task.Revocation
	WorkerID string `json:"worker_id"`
}

// SecretReferences are the references that what runs on this worker uses.
func (w *Worker) SecretReferences() []SecretReference {
	all := []SecretReference{}
	for _, r := range w.own.References() {
		all = append(all, SecretReference{r, w.ID()})
	}
	for _, r := range w.runner.References() {
		all = append(all, SecretReference{r, w.ID()})
	}
	return all
}

// RotateSecret has what runs on this worker and uses a reference take its newest value; a rehearsal (dry) only proves that it
// works. Nothing here uses it: ErrNotFound.
func (w *Worker) RotateSecret(ctx context.Context, reference string, dry bool) ([]SecretRotation, error) {
	done, err := w.runner.RotateNow(ctx, reference, dry)
	if errors.Is(err, task.ErrUnused) {
		return nil, notFound("Nothing that runs on worker %s uses that reference", w.ID())
	}
	all := []SecretRotation{}
	for _, r := range done {
		all = append(all, SecretRotation{r, w.ID()})
	}
	return all, err
}

// ProveSecretRevoked logs in with a former value of a reference at every broker where it was used. This worker does not
// have it: ErrNotFound. It is in use: ErrConflict.
func (w *Worker) ProveSecretRevoked(ctx context.Context, reference, version string) ([]SecretRevocation, error) {
	proofs, err := w.runner.ProveRevoked(ctx, reference, version)
	switch {
	case errors.Is(err, task.ErrUnused), errors.Is(err, task.ErrVersion):
		return nil, notFound("Worker %s cannot try that version of that reference: %s", w.ID(), err)
	case errors.Is(err, task.ErrInUse):
		return nil, &Error{ErrConflict, "Version " + version + " of " + reference + " is in use"}
	}
	all := []SecretRevocation{}
	for _, r := range proofs {
		all = append(all, SecretRevocation{r, w.ID()})
	}
	return all, err
}
