package mirror

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/offsetrun"
)

// TestEachTaskMayReadAllBooks measures what it costs that every checkpoint task reads the books of the whole link, though its groups need
// some of them: so little that tasks do not share them, nor leave any out.
func TestEachTaskMayReadAllBooks(t *testing.T) { //nolint:paralleltest // it measures
	const partitions, runs, tasks = 5000, 100, 8
	w := newWorld(t, fake(t).ListenAddrs(), fake(t).ListenAddrs())
	topic, err := offsetrun.Ensure(t.Context(), w.target.client, offsetrun.TopicOptions{Name: "mm2-offset-runs.A.internal", Partitions: runsPartitions, ReplicationFactor: 1})
	if err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range partitions {
		k := offsetrun.Key{Owner: "g-m", Topic: fmt.Sprintf("orders-%04d", i), Partition: 0}
		book := offsetrun.NewBook(k)
		for r := range int64(runs) {
			book.Map.Append(r*20, r*10, 10)
		}
		for _, r := range book.Flush().Records {
			records = append(records, &kgo.Record{Topic: topic.Name, Partition: offsetrun.PartitionOf(k, topic.Partitions), Key: r.Key, Value: r.Value})
		}
	}
	if err := w.target.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var all []*Translator
	for range tasks {
		all = append(all, w.translator())
	}
	before, took := heap(), time.Duration(0)
	for _, tr := range all {
		began := time.Now()
		if err := tr.Read(t.Context()); err != nil || len(tr.books.Keys()) != partitions {
			t.Fatal(len(tr.books.Keys()), err)
		}
		took += time.Since(began)
	}
	again := time.Now()
	if err := all[0].Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	each := (int64(heap()) - int64(before)) / tasks
	t.Logf("of a link with %d partitions of %d runs each, a task reads the books in %v, and again in %v, and keeps them in %d KiB",
		partitions, runs, (took / tasks).Round(time.Millisecond), time.Since(again).Round(time.Millisecond), each>>10)
	runtime.KeepAlive(all)
	if each > 16<<20 || took > tasks*5*time.Second {
		t.Errorf("a task keeps %d bytes, and reads for %v", each, took/tasks)
	}
}
