package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBrokerKeepsItsRecordsOverKillAndRestart(t *testing.T) {
	t.Parallel()
	if _, err := Find(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begin := time.Now()
	b, err := Start(ctx, Spec{Name: "a", Dir: t.TempDir(), Listeners: []Listener{{Name: "CLIENT", SASL: true}}, ACLs: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Kill() })
	t.Logf("started in %s", time.Since(begin))
	admin, err := b.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	client, err := b.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("1")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("restarted in %s", time.Since(begin))
	begin = time.Now()
	b.Kill()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("run after kill in %s", time.Since(begin))
	ends, err := admin.ListEndOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup("orders", 0); end.Offset != 1 {
		t.Fatalf("end offset after kill and restart: %+v, want 1", end)
	}
}
