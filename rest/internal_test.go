package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"barnabas/worker"
)

// TestSignatureIsConnects was computed with Java: HmacSHA256 of the body under
// the key of bytes 0..31, base64.
func TestSignatureIsConnects(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(r, []byte(`[{"name":"x"}]`), key, "HmacSHA256"); err != nil {
		t.Fatal(err)
	}
	const java = "Efh68EwYw5Nf3O3L75sM1FzhkjazGspgOZjziyiKM3c="
	if got := r.Header.Get("X-Connect-Authorization"); got != java {
		t.Errorf("signature %s, want %s", got, java)
	}
	if got := r.Header.Get("X-Connect-Request-Signature-Algorithm"); got != "HmacSHA256" {
		t.Errorf("algorithm %s", got)
	}
	if err := Sign(r, nil, key, "HmacMD5"); err == nil {
		t.Error("signed with an unknown algorithm")
	}
}

func TestTasksArePublishedToTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	leader, follower := c.roles()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := leader.client.Create(ctx, "m", c.mirror(nil), worker.Stopped); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if _, _, ok := follower.worker.SessionKey(); !ok {
			return "no session key"
		}
		return ""
	})
	publish := Publisher(nil, follower.worker.SessionKey)
	tasks := []map[string]string{{"task": "0"}}

	// A leader that the machine holds up for seconds is replaced: then the question is asked again.
	eventually(t, func() string {
		leader, follower = c.roles()
		var elsewhere *worker.ElsewhereError
		if err := publish(ctx, follower.url, "m", 0, tasks); !errors.As(err, &elsewhere) || elsewhere.URL != leader.url {
			return fmt.Sprintf("to a follower: %v, want that %s does it", err, leader.url)
		}
		if err := publish(ctx, leader.url, "nope", 0, tasks); !errors.Is(err, worker.ErrNotFound) {
			return fmt.Sprintf("of an unknown connector: %v", err)
		}
		return ""
	})
	forged := Publisher(nil, func() ([]byte, string, bool) { return []byte("another key"), "HmacSHA256", true })
	if err := forged(ctx, leader.url, "m", 0, tasks); !errors.Is(err, worker.ErrForbidden) {
		t.Errorf("with another key: %v", err)
	}
	gone := listen(t)
	gone.Close()
	if err := publish(ctx, "http://"+gone.Addr().String(), "m", 0, tasks); !errors.Is(err, worker.ErrUnavailable) {
		t.Errorf("to nobody: %v", err)
	}
	unready := Publisher(nil, func() ([]byte, string, bool) { return nil, "", false })
	if err := unready(ctx, leader.url, "m", 0, tasks); !errors.Is(err, worker.ErrUnavailable) {
		t.Errorf("without a key: %v", err)
	}
}

func TestSignedByAnotherWorkerIsForwardedWithItsSignature(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	leader, follower := c.roles()
	if _, err := leader.client.Create(t.Context(), "m", c.mirror(nil), ""); err != nil {
		t.Fatal(err)
	}
	follower.waitFor("m", "RUNNING", 2)
	key, algorithm, _ := follower.worker.SessionKey()
	body := toJSON(t, []map[string]string{})
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(r, []byte(body), key, algorithm); err != nil {
		t.Fatal(err)
	}
	signed := map[string]string{
		"Content-Type": jsonType, headerSignature: r.Header.Get(headerSignature), headerAlgorithm: algorithm,
	}
	// Generation 0 is Kafka Connect's own: it comes without one.
	if a := ask(t, follower.url, "POST", "/connectors/m/tasks", signed, &body); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := ask(t, follower.url, "POST", "/connectors/m/tasks?generation=x", signed, &body); a.status != http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
	other := body + " "
	if a := ask(t, follower.url, "POST", "/connectors/m/tasks", signed, &other); a.status != http.StatusForbidden {
		t.Errorf("another body: %d %s", a.status, a.body)
	}
}
