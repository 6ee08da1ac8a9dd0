package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAHotPartitionMovesToATaskOfItsOwn: one partition carries more than all others together. It keeps its task, which gives the
// others away, while records come in.
func TestAHotPartitionMovesToATaskOfItsOwn(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	const partitions, hot = 4, 1
	f := e.Fleet(FleetOptions{Size: 2})
	topics := copying(e, f, "orders", partitions, 2)
	connector := e.Prefix + "-orders"
	sources, copies := names(topics)
	watch := e.Watch(e.Target, copies...)

	client, err := kgo.NewClient(append(Plain(e.Source), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	e.Must(err)
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { // 6 MB/s to the hot one, 1.5 MB/s to each of the others
		value := make([]byte, 15_000)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				written <- client.Flush(context.WithoutCancel(ctx))
				return
			case <-tick.C:
			}
			for p := range int32(partitions) {
				for i := range 4 {
					if i > 0 && p != hot {
						break
					}
					client.Produce(context.WithoutCancel(ctx), &kgo.Record{
						Topic: sources[0], Partition: p, Key: fmt.Appendf(nil, "%d-%d", n, i), Value: value,
					}, nil)
				}
			}
		}
	}()
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	standstills := watch.Standstills()
	alone := func() string {
		var tasks []struct{ Config map[string]string }
		e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/connectors/"+connector+"/tasks", "", http.StatusOK)), &tasks))
		var held []string
		for _, task := range tasks {
			held = append(held, task.Config["task.assigned.partitions"])
		}
		if slices.Contains(held, fmt.Sprintf("%s-%d", sources[0], hot)) {
			return ""
		}
		return strings.Join(held, " | ")
	}
	if why := alone(); why == "" {
		t.Fatal("the partition is alone from the beginning")
	}
	took := e.Until(2*time.Minute, "a task of its own", alone)
	f.Await(connector, "RUNNING", 2, 30*time.Second)
	watch.Fresh(partitions, time.Now(), 30*time.Second)
	t.Logf("moved after %s; longest standstill of a partition %s", took.Round(time.Second), most(standstills()).Round(time.Millisecond))
	cancel()
	e.Must(<-written)
	report := e.Copied(topics, 60*time.Second)
	t.Log(report)
	if !report.Equal() {
		t.Errorf("not an equal copy: %s", report)
	}
}
