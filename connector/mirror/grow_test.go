package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

func TestPartitionsAreAddedWhileOthersFlow(t *testing.T) {
	t.Parallel()
	for _, delivery := range []connector.Delivery{connector.Fenced, connector.Transactional, connector.Plain} {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.maxTasks, r.delivery = 1, delivery
			r.createTopic(r.source, "orders", 2, nil)
			stop := r.run()
			written := r.flow("orders", 0, 1)
			eventually(t, "records flow", func() bool { return end(r.target, "A.orders") > 0 })
			r.createTopic(r.source, "orders-new", 3, nil)
			write(t, r.source, numbered("orders-new", 2, 0, 50)...)
			r.addPartitions("orders", 4)
			write(t, r.source, numbered("orders", 3, 0, 50)...)
			eventually(t, "the task has them", func() bool {
				return r.partitionProgress("orders-new", 2).CopiedOffset >= 50 && r.partitionProgress("orders", 3).CopiedOffset >= 50
			})
			written()
			write(t, r.source, numbered("orders-new", 0, 0, 10)...)
			r.waitEqual("orders-new", "A.orders-new")
			eventually(t, "all is copied", func() bool { return count(read(t, r.target, "A.orders")) >= count(read(t, r.source, "orders")) })
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Fatalf("connector: %v, tasks: %v", err, r.failed())
			}
			r.same("orders", "A.orders")
			r.same("orders-new", "A.orders-new")
			if n := locked(r, func() int { return r.starts[0] }); n != 1 {
				t.Errorf("the task started %d times", n)
			}
			if n := strings.Count(r.logged(), "msg=copying "); n != 1 {
				t.Errorf("%d sessions, want 1:\n%s", n, r.logged())
			}
			if delivery == connector.Transactional {
				return // each transaction may have an epoch of its own
			}
			all := producers(t, r.target, "A.orders")
			maps.Copy(all, producers(t, r.target, "A.orders-new"))
			if len(all) != 1 {
				t.Errorf("producer ids and epochs in the copies: %v, want one", all)
			}
		})
	}
}

func TestAPartitionThatSomebodyMayStillWriteIsFencedFirst(t *testing.T) {
	t.Parallel()
	for _, delivery := range []connector.Delivery{connector.Fenced, connector.Transactional} {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.delivery = delivery
			r.every = time.Hour // what was copied is not in the books
			r.createTopic(r.source, "orders", 2, nil)
			r.createTopic(r.target, "A.orders", 2, nil)
			other := r.startTask(1, r.assigned("orders-1"))
			eventually(t, "the other task copies", func() bool { return strings.Count(r.logged(), "msg=copying ") == 1 })
			write(t, r.source, numbered("orders", 1, 0, 30)...)
			eventually(t, "its copy is there", func() bool { return count(read(t, r.target, "A.orders")) == 30 })
			other.kill()
			<-other.done

			task := r.startTask(0, r.assigned("orders-0"))
			eventually(t, "the task copies", func() bool { return strings.Count(r.logged(), "msg=copying ") == 2 })
			task.update(r.assigned("orders-0,orders-1"))
			write(t, r.source, numbered("orders", 1, 30, 5)...)
			write(t, r.source, numbered("orders", 0, 0, 5)...)
			eventually(t, "both are copied", func() bool {
				return r.partitionProgress("orders", 0).CopiedOffset == 5 && r.partitionProgress("orders", 1).CopiedOffset == 35
			})
			task.cancel()
			<-task.done
			r.same("orders", "A.orders")
			if task.err != nil {
				t.Error(task.err)
			}
			if log := r.logged(); strings.Count(log, "msg=copying ") != 3 || !strings.Contains(log, errUnclean.Error()) {
				t.Errorf("the session was not begun anew:\n%s", log)
			}
		})
	}
}

func TestAPartitionThatWasLeftInGoodOrderIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	write(t, r.source, numbered("orders", 1, 0, 30)...)
	other := r.startTask(1, r.assigned("orders-1"))
	eventually(t, "the other task copies", func() bool { return end(r.target, "A.orders") >= 30 })
	other.cancel()
	<-other.done
	task := r.startTask(0, r.assigned("orders-0"))
	eventually(t, "the task copies", func() bool { return strings.Count(r.logged(), "msg=copying ") == 2 })
	task.update(r.assigned("orders-0,orders-1"))
	write(t, r.source, numbered("orders", 1, 30, 5)...)
	eventually(t, "the rest is copied", func() bool { return r.partitionProgress("orders", 1).CopiedOffset == 35 })
	task.cancel()
	<-task.done
	r.same("orders", "A.orders")
	if log := r.logged(); strings.Count(log, "msg=copying ") != 2 {
		t.Errorf("the session was begun anew:\n%s", log)
	}
}

func TestAnUpdateBeforeTheFirstSessionIsPartOfIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	write(t, r.source, numbered("orders", 1, 0, 30)...)
	task := r.startTask(0, r.assigned("orders-0"))
	task.update(r.assigned("orders-0,orders-1"))
	eventually(t, "all is copied", func() bool { return r.partitionProgress("orders", 1).CopiedOffset == 30 })
	task.cancel()
	<-task.done
	r.same("orders", "A.orders")
}

func TestATaskDoesNotGoOnWithWhatWasTakenFromIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	task := r.startTask(0, r.assigned("orders-0,orders-1"))
	eventually(t, "the task copies", func() bool { return strings.Contains(r.logged(), "msg=copying ") })
	task.update(r.assigned("orders-0"))
	eventually(t, "the task fails", func() bool { return len(r.failed()) == 1 })
	if err := r.failed()[0]; !strings.Contains(err.Error(), "orders-1 was taken away") {
		t.Error(err)
	}
}

func TestExtendsIsMorePartitionsAndNothingElse(t *testing.T) {
	t.Parallel()
	old := map[string]string{keyTaskPartitions: "a-0,b-1", "x": "1"}
	for name, tt := range map[string]struct {
		task map[string]string
		want bool
	}{
		"more":             {map[string]string{keyTaskPartitions: "b-0,b-1,a-0", "x": "1"}, true},
		"the same":         {map[string]string{keyTaskPartitions: "b-1,a-0", "x": "1"}, false},
		"one less":         {map[string]string{keyTaskPartitions: "a-0,c-0,d-0", "x": "1"}, false},
		"another setting":  {map[string]string{keyTaskPartitions: "a-0,b-1,c-0", "x": "2"}, false},
		"a setting more":   {map[string]string{keyTaskPartitions: "a-0,b-1,c-0", "x": "1", "y": "2"}, false},
		"a setting less":   {map[string]string{keyTaskPartitions: "a-0,b-1,c-0"}, false},
		"other partitions": {map[string]string{keyTaskPartitions: "?", "x": "1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := extends(old, tt.task); got != tt.want {
				t.Errorf("extends(%v, %v) = %v", old, tt.task, got)
			}
		})
	}
}

// assigned is the configuration of a task.
func (r *rig) assigned(partitions string) map[string]string {
	c := maps.Clone(r.config)
	c[keyTaskPartitions] = partitions
	return c
}

// flow writes to partitions without a pause, until it is told to stop.
func (r *rig) flow(topic string, partitions ...int32) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i += 5 {
			for _, p := range partitions {
				write(r.t, r.source, numbered(topic, p, i, 5)...)
			}
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) addPartitions(topic string, n int) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.source.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).UpdatePartitions(r.t.Context(), n, topic); err != nil {
		r.t.Fatal(err)
	}
}

// same compares a copy with its source, record by record.
func (r *rig) same(topic, remote string) {
	r.t.Helper()
	source, target := read(r.t, r.source, topic), committedRecords(r.t, r.target, remote)
	for _, p := range slices.Sorted(maps.Keys(source)) {
		if len(source[p]) != len(target[p]) {
			r.t.Errorf("%s-%d has %d records, its copy %d", topic, p, len(source[p]), len(target[p]))
			continue
		}
		for i := range source[p] {
			if string(source[p][i].Value) != string(target[p][i].Value) {
				r.t.Errorf("%s-%d: record %d is %s, in the copy %s", topic, p, i, source[p][i].Value, target[p][i].Value)
				break
			}
		}
	}
}

// committedRecords reads a topic as a consumer with isolation.level=read_committed does.
func committedRecords(t *testing.T, c *kfake.Cluster, topic string) map[int32][]copied {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Millisecond),
		kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	left := map[int32]int64{} // the last offset of each partition that has one
	for _, p := range c.PartitionInfos(topic) {
		if p.HighWatermark > 0 {
			left[p.Partition] = p.HighWatermark - 1
		}
	}
	all := map[int32][]copied{}
	for len(left) > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %s: %v (left: %v)", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if last, ok := left[r.Partition]; ok && r.Offset >= last {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				all[r.Partition] = append(all[r.Partition], copied{r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()})
			}
		})
	}
	return all
}

func count(all map[int32][]copied) (n int) {
	for _, records := range all {
		n += len(records)
	}
	return n
}

// producers are the producer ids and epochs of a topic's records.
func producers(t *testing.T, c *kfake.Cluster, topic string) map[string]int {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	found, left := map[string]int{}, count(read(t, c, topic))
	for left > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if err := fetches.Err0(); err != nil {
			t.Fatal(fmt.Errorf("read %s: %w", topic, err))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			found[strconv.FormatInt(r.ProducerID, 10)+"/"+strconv.Itoa(int(r.ProducerEpoch))]++
		})
	}
	return found
}

// A former owner that is just taking in a partition must not begin with it behind its successor's back: first B reads
// the books, then A writes itself into that of a partition, then B fences A in those partitions that the books had A in.
func TestWhoWritesHimselfIntoABookBeforeTheFenceIsFencedThereToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.every = time.Hour
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	write(t, r.source, numbered("orders", 1, 0, 10)...)
	former := r.startTask(0, r.assigned("orders-0"))
	eventually(t, "the former owner copies", func() bool { return strings.Count(r.logged(), "msg=copying ") == 1 })

	fenced := map[string]bool{} // the broker calls one control function at a time
	var mu sync.Mutex
	r.target.ControlKey(int16(kmsg.AddPartitionsToTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.target.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		add := req.(*kmsg.AddPartitionsToTxnRequest)
		for _, topic := range add.Topics {
			for _, p := range topic.Partitions {
				fenced[fmt.Sprint(topic.Topic, "-", p)] = true
			}
		}
		for _, txn := range add.Transactions {
			for _, topic := range txn.Topics {
				for _, p := range topic.Partitions {
					fenced[fmt.Sprint(topic.Topic, "-", p)] = true
				}
			}
		}
		return nil, nil, false
	})
	r.target.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.target.SleepControl(func() {
			former.update(r.assigned("orders-0,orders-1"))
			for began := time.Now(); r.partitionProgress("orders", 1).CopiedOffset < 10 && time.Since(began) < 20*time.Second; {
				time.Sleep(5 * time.Millisecond)
			}
		})
		return nil, nil, false
	})
	task := r.startTask(0, r.assigned("orders-0,orders-1"))
	eventually(t, "the new owner copies", func() bool { return strings.Contains(r.logged(), "msg=copying partitions=2") })
	former.kill()
	<-former.done
	task.cancel()
	<-task.done
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"A.orders-0", "A.orders-1"} {
		if !fenced[want] {
			t.Errorf("the former owner is not fenced in %s: %v", want, fenced)
		}
	}
	for p := range runsPartitions {
		if at := fmt.Sprintf("mm2-offset-runs.A.internal-%d", p); !fenced[at] {
			t.Errorf("the former owner may still write %s: %v", at, fenced)
		}
	}
	r.same("orders", "A.orders")
}
