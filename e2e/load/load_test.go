package load

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestWriteSpreadsRecordsOfEveryKind(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	opts := []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...)}
	g, err := New(Options{Client: opts, Topics: []string{"a", "b"}, Partitions: 3, Seed: 1, Large: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	const n = 6000
	if err := g.Write(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if g.Acked() != n {
		t.Errorf("%d records acknowledged, want %d", g.Acked(), n)
	}
	client, err := kgo.NewClient(append(opts, kgo.ConsumeTopics("a", "b"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset != n/6 {
			t.Errorf("%s/%d has %d records, want %d", o.Topic, o.Partition, o.Offset, n/6)
		}
	})
	kinds := map[string]int{}
	for read := 0; read < n; {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			read++
			count := func(kind string, is bool) {
				if is {
					kinds[kind]++
				}
			}
			count("null key", k.Key == nil)
			count("empty key", k.Key != nil && len(k.Key) == 0)
			count("null value", k.Value == nil)
			count("empty value", k.Value != nil && len(k.Value) == 0)
			count("headers", len(k.Headers) > 1)
			count("large", len(k.Value) > 10_000)
			count("codec "+string('0'+rune(k.Attrs.CompressionType())), true)
		})
	}
	for _, kind := range []string{"null key", "empty key", "null value", "empty value", "headers", "large", "codec 0", "codec 1", "codec 2", "codec 3", "codec 4"} {
		if kinds[kind] == 0 {
			t.Errorf("no record of the kind %q: %v", kind, kinds)
		}
	}
}
