package worker

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A leader that Kafka is out of reach of does not know whether another one has taken over, and what that one has written.
func TestALeaderThatMayBeReplacedRefusesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := c.join("a:1", nil)
	c.create("there", map[string]string{"connector.class": "test.Idle"})
	if err := w.Delete(t.Context(), "nope"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("with Kafka: %v", err)
	}
	w.kill()
	for what, order := range map[string]func(context.Context) error{
		"delete": func(ctx context.Context) error { return w.Delete(ctx, "nope") },
		"pause":  func(ctx context.Context) error { return w.SetTarget(ctx, "nope", Paused) },
		"create": func(ctx context.Context) error {
			_, err := w.Create(ctx, "there", map[string]string{"connector.class": "test.Idle"}, "")
			return err
		},
		"patch": func(ctx context.Context) error { _, err := w.Patch(ctx, "nope", nil); return err },
		"restart": func(ctx context.Context) error {
			_, err := w.RestartFlagged(ctx, "nope", true, false)
			return err
		},
		"fence": func(ctx context.Context) error { return w.Fence(ctx, "nope") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := order(ctx); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want that nobody knows", what, err)
		}
		cancel()
	}
}
