package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"barnabas/config"
)

func TestSavingOffsetsIsGivenUpAfterTheFlushTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := bounded(t.Context(), 3*time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(began); !errors.Is(err, errFlushTimeout) || took != 3*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
	if err := bounded(t.Context(), time.Minute, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestClientsOfTheWorkerAreNamedAsConnectNamesThem(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"": "g-configs", " ": "g-configs", "blue": "g-blue-configs"} {
		if got := clientID(config.Worker{GroupID: "g", Settings: config.Literal(map[string]string{"client.id": id})}, "configs"); got != want {
			t.Errorf("client.id=%q: %q, want %q", id, got, want)
		}
	}
}
