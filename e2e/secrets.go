package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

var workerPassword struct {
	once  sync.Once
	value string
	err   error
}

// searchForSecrets looks through all that the product has written and sent in
// a test: logs, answers (searched as they came), metrics, internal topics, gossip
// packets (likewise), and the files of the workers.
func (e *Env) searchForSecrets() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.t.Context()), 30*time.Second)
	defer cancel()
	if err := e.Leak.Files("file", e.Dir, func(path string) bool { return path == filepath.Join(e.Dir, "secrets") }); err != nil {
		e.t.Error(err)
	}
	for _, f := range e.fleets {
		for _, topic := range []string{"config", "offset", "status"} {
			if err := e.searchTopic(ctx, e.Hub, f.Group+"-"+topic); err != nil {
				e.t.Errorf("search for secrets: %v", err)
			}
		}
	}
	for _, found := range e.Leak.Found() {
		e.t.Errorf("secret leaked: %s", found)
	}
	e.t.Logf("searched for secrets: %v bytes", e.Leak.Scanned())
}

// Pages asks every worker for the pages that hold much of its state, so that
// they are searched for secrets.
func (f *Fleet) Pages(connectors ...string) {
	f.e.t.Helper()
	paths := []string{"/", "/metrics", "/v1/workers", "/connectors?expand=info&expand=status", "/admin/loggers"}
	for _, c := range connectors {
		for _, p := range []string{"", "/config", "/tasks", "/status"} {
			paths = append(paths, "/connectors/"+c+p)
		}
		paths = append(paths, "/v1/replication/"+c, "/v1/replication/"+c+"/gaps")
	}
	for _, w := range f.Alive() {
		for _, path := range paths {
			if status, answer := w.Ask(http.MethodGet, path, ""); status != http.StatusOK {
				f.e.t.Errorf("%s on %s: %d %s", path, w.Name, status, answer)
			}
		}
	}
}

// searchTopics looks through all topics of a cluster, Kafka's own as well.
func (e *Env) searchTopics(b *kafka.Broker) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	all, err := admin.ListTopicsWithInternal(ctx)
	e.Must(err)
	for _, topic := range all.Names() {
		e.Must(e.searchTopic(ctx, b, topic))
	}
}

// searchTopic looks through all records of a topic, raw.
func (e *Env) searchTopic(ctx context.Context, b *kafka.Broker, topic string) error {
	client, err := b.Client(kgo.ConsumeTopics(topic), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("ends of %s: %w", topic, err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			text := append(append(append([]byte{}, k.Key...), ' '), k.Value...)
			for _, h := range k.Headers {
				text = append(append(append(append(text, ' '), h.Key...), '='), h.Value...)
			}
			e.Leak.Scan("topic", topic, text)
			if k.Offset+1 >= left[k.Partition] {
				delete(left, k.Partition)
			}
		})
	}
	return nil
}
