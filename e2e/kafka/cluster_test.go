package kafka

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestClusterGoesOnWithoutOneOfThreeBrokers(t *testing.T) {
	t.Parallel()
	if _, err := Find(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	begin := time.Now()
	c, err := StartCluster(ctx, Spec{Name: "c", Dir: t.TempDir()}, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	t.Logf("started in %s", time.Since(begin))
	admin, err := c.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.CreateTopic(ctx, 1, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(c.Plain()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("1")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		topics, err := admin.ListTopics(ctx, "orders")
		if err != nil {
			t.Fatal(err)
		}
		leader := topics["orders"].Partitions[0].Leader
		i := slices.IndexFunc(c.Brokers, func(b *Broker) bool { return int32(b.node) == leader })
		c.Brokers[i].Kill()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("2")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := c.Brokers[i].Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
