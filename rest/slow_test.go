package rest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/worker"
)

// slowKind are secret providers that answer for a path when a test says so, or when the one who asks gives up.
var slowKind = configprovider.Kind{Name: "slow", Open: func(config.Settings) (configprovider.Provider, error) { return slow{}, nil }}

type slow struct{}

// slowPaths are channels by path: their end is the answer.
var slowPaths sync.Map

func (slow) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	if answer, ok := slowPaths.Load(path); ok {
		select {
		case <-answer.(chan struct{}):
		case <-ctx.Done():
			return configprovider.Data{}, ctx.Err()
		}
	}
	values := map[string]config.Secret{}
	for _, k := range keys {
		values[k] = config.NewSecret("x")
	}
	return configprovider.Data{Values: values, Place: "that path"}, nil
}

// deadCluster is an address that takes connections and never answers.
func deadCluster(t *testing.T) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { conn.Close() })
		}
	}()
	return l.Addr().String()
}

// All the while a creation waits for a secret, and connectors for clusters that do not answer, everything else goes on, on every
// worker.
func TestWhatWaitsHindersNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, map[string]string{"config.providers": "slow", "config.providers.slow.class": "slow"})
	leader, follower := c.roles()
	answer := make(chan struct{})
	slowPaths.Store(t.Name(), answer)
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	secret := c.mirror(map[string]string{"source.cluster.sasl.jaas.config": "${slow:" + t.Name() + ":key}"})
	dead := deadCluster(t)

	created := make(chan received, 2)
	for name, n := range map[string]*node{"waits-1": leader, "waits-2": follower} {
		body := toJSON(t, map[string]any{"name": name, "config": secret, "initial_state": "STOPPED"})
		go func() {
			created <- ask(t, n.url, "POST", "/connectors", map[string]string{"Content-Type": jsonType}, &body)
		}()
	}
	within := func(what string, f func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, n := range []*node{follower, leader} {
		gone := []string{"gone-0", "gone-1"}[i]
		within("create a connector of a dead cluster", func(ctx context.Context) error {
			_, err := n.client.Create(ctx, gone, c.mirror(map[string]string{"source.cluster.bootstrap.servers": dead, "target.cluster.bootstrap.servers": dead}), "")
			return err
		})
		file := []string{"file-0", "file-1"}[i]
		cfg := map[string]string{"connector.class": "FileStreamSource", "topic": "t1", "file": "/none"}
		within("create another", func(ctx context.Context) error { _, err := n.client.Create(ctx, file, cfg, ""); return err })
		n.waitFor(file, "RUNNING", 1)
		for _, name := range []string{file, gone} {
			within("get "+name, func(ctx context.Context) error { _, err := n.client.Connector(ctx, name); return err })
			within("status of "+name, func(ctx context.Context) error { _, err := n.client.Status(ctx, name); return err })
			within("offsets of "+name, func(ctx context.Context) error { _, err := n.client.Offsets(ctx, name); return err })
			within("pause "+name, func(ctx context.Context) error { return n.client.Pause(ctx, name) })
			within("resume "+name, func(ctx context.Context) error { return n.client.Resume(ctx, name) })
			within("restart "+name, func(ctx context.Context) error { return n.client.Restart(ctx, name) })
			within("stop "+name, func(ctx context.Context) error { return n.client.Stop(ctx, name) })
			within("delete "+name, func(ctx context.Context) error { return n.client.Delete(ctx, name) })
		}
		within("list", func(ctx context.Context) error { _, err := n.client.Expanded(ctx); return err })
		within("validate", func(ctx context.Context) error { _, err := n.client.Validate(ctx, cfg); return err })
		within("health", func(ctx context.Context) error { _, err := n.client.Health(ctx); return err })
	}
	release()
	for range 2 {
		if a := <-created; a.status != http.StatusCreated {
			t.Errorf("when the secret came: %d %s", a.status, a.body)
		}
	}
}

// A secret that never comes is 503 with a reason, after a bound.
func TestASecretThatDoesNotComeIs503(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, map[string]string{"config.providers": "slow", "config.providers.slow.class": "slow"})
	n := c.nodes[0]
	n.server.o.ForwardTimeout = -attemptTimeout + 500*time.Millisecond // half a second in all
	slowPaths.Store(t.Name(), make(chan struct{}))
	written := c.mirror(map[string]string{"source.cluster.sasl.jaas.config": "${slow:" + t.Name() + ":key}"})
	_, err := n.client.Create(t.Context(), "m", written, worker.Stopped)
	if !HasStatus(err, http.StatusServiceUnavailable) || !strings.Contains(err.Error(), "slow") {
		t.Errorf("%v, want 503 that names the provider", err)
	}
	n.server.o.ForwardTimeout = defaultForwardTimeout
	if _, err := n.client.Connector(t.Context(), "m"); !IsNotFound(err) {
		t.Errorf("the connector: %v", err)
	}
}
