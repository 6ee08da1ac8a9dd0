package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestLogReadsFromTheBeginningAndFollows(t *testing.T) {
	t.Parallel()
	_, client := brokers(t, kfake.NumBrokers(3))
	create(t, client, "log", 5)
	a := appender(t, client, "log")
	write(t, a, "a", "b", "c", "d", "a")
	r := read(t, client, "log", nil)
	r.until("caught up", func() bool { return len(r.caughtUp) > 0 })
	got := r.keys()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a", "a", "b", "c", "d"}, got); diff != "" {
		t.Errorf("at the first CaughtUp (-want +got):\n%s", diff)
	}
	write(t, a, "e")
	if err := r.log.ReadToEnd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.keys(); got[len(got)-1] != "e" {
		t.Errorf("after ReadToEnd the last key is %s, want e", got[len(got)-1])
	}
}

func TestEmptyLogIsCaughtUpWith(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 3)
	r := read(t, client, "log", nil)
	r.freshly()
}

func TestLogWithoutIntervalAsksUntilReadOnce(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "log", 1)
	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "log", Count: -1, Observe: true})
	r := read(t, client, "log", func(o *LogOptions) { o.Interval = -1 })
	r.until("caught up", func() bool { return len(r.caughtUp) > 0 })
	for range 3 {
		if err := r.log.ReadToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Hits(); n != 4 {
		t.Errorf("asked %d times for the end, want once for the beginning and 3 times for ReadToEnd", n)
	}
}

func TestPositionPassesAbortedRecordsAndMarkers(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	end(t, transactional(t, client, "log", "one", "a", "b"), kgo.TryAbort)
	r := read(t, client, "log", nil)
	r.freshly()
	if diff := cmp.Diff([]string{"|"}, r.keys()); diff != "" {
		t.Errorf("after an abort (-want +got):\n%s", diff)
	}
	end(t, transactional(t, client, "log", "one", "c", "d"), kgo.TryCommit)
	if err := r.log.ReadToEnd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"|", "c+", "d+", "|"}, r.keys()); diff != "" {
		t.Errorf("after a commit (-want +got):\n%s", diff)
	}
	r.freshly()
}

// A transaction that hangs in front of the end must not stop the lease: nothing behind it can be read by
// anybody. But the abort before it must have been passed, whose marker stands behind the end.
func TestHangingTransactionDoesNotStopCaughtUp(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	aborted := transactional(t, client, "log", "aborted", "a")
	hanging := transactional(t, client, "log", "hanging", "b")
	end(t, aborted, kgo.TryAbort)
	write(t, appender(t, client, "log"), "c")
	r := read(t, client, "log", nil)
	r.freshly()
	if got := r.keys(); len(got) != 0 {
		t.Errorf("read %v in front of the open transaction, want nothing", got)
	}
	// ReadToEnd, however, waits for what has been acknowledged: "c".
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.log.ReadToEnd(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ReadToEnd before an open transaction: got %v, want it to wait", err)
	}
	r.freshly()
	end(t, hanging, kgo.TryCommit)
	if err := r.log.ReadToEnd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b+", "|+", "c+", "|"}, r.keys()); diff != "" {
		t.Errorf("after the commit (-want +got):\n%s", diff)
	}
}

func TestReadUncommittedReadsOpenTransactions(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	transactional(t, client, "log", "open", "a")
	r := read(t, client, "log", func(o *LogOptions) { o.ReadCommitted = false })
	r.freshly()
	if diff := cmp.Diff([]string{"a+"}, r.keys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCompactedLogIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t)
	create(t, client, "log", 1)
	a := appender(t, client, "log")
	for range 5 {
		write(t, a, "a")
		write(t, a, "b")
	}
	end(t, transactional(t, client, "log", "one", "a"), kgo.TryAbort)
	cluster.Compact()
	r := read(t, client, "log", nil)
	r.freshly()
	if got := r.keys(); len(got) >= 10 || !slices.Contains(got, "a") || !slices.Contains(got, "b") {
		t.Errorf("read %v from a compacted log, want a and b and few of them", got)
	}
}

func TestLogMayBeginBehindZero(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	a := appender(t, client, "log")
	write(t, a, "a", "b", "c")
	deleteBefore(t, client, 2)
	r := read(t, client, "log", nil)
	r.freshly()
	if diff := cmp.Diff([]string{"c"}, r.keys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	deleteBefore(t, client, 3) // all that was read: nothing is lost
	r.freshly()
	empty := read(t, client, "log", nil)
	empty.freshly()
}

// deleteBefore deletes the records of "log" below offset.
func deleteBefore(t *testing.T, client []kgo.Opt, offset int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "log", Partition: 0, At: offset})
	if _, err := admin(t, client).DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
}

// A partition that fails must not be caught up with, whatever the others do, and is
// read on when it works again.
func TestLogIsNotCaughtUpWhileReadingFails(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]*kerr.Error{
		"authorization lost": kerr.TopicAuthorizationFailed,
		"unknown topic":      kerr.UnknownTopicOrPartition,
		"corrupt":            kerr.CorruptMessage,
		"not leader":         kerr.NotLeaderForPartition,
		"not a known error":  kerr.UnknownServerError,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, client := brokers(t)
			create(t, client, "log", 2)
			a := appender(t, client, "log")
			r := read(t, client, "log", nil)
			r.freshly()
			fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Partitions: []int32{1}, Err: failure, Count: -1})
			if err := a.Append(t.Context(), []Entry{{Key: []byte("a"), Pinned: true}, {Key: []byte("b"), Pinned: true, Partition: 1}}); err != nil {
				t.Fatal(err)
			}
			written := time.Now()
			r.until("the failure shows", func() bool { return errors.Is(r.trouble, failure) && len(r.records) == 1 })
			if err := fault.Wait(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			r.mu.Lock()
			if last := r.caughtUp[len(r.caughtUp)-1]; last.After(written) {
				t.Error("caught up although partition 1 cannot be read")
			}
			r.mu.Unlock()
			fault.Remove()
			r.freshly()
			r.until("the trouble is over", func() bool { return r.trouble == nil && len(r.records) == 2 })
		})
	}
}

// While nobody says where the log ends, nothing is renewed; afterwards it is, with a
// question sent afterwards.
func TestBlockedBrokerDoesNotRenew(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.ListOffsets, kmsg.Metadata, kmsg.Fetch} {
		t.Run(key.Name(), func(t *testing.T) {
			t.Parallel()
			cluster, client := brokers(t)
			create(t, client, "log", 1)
			a := appender(t, client, "log")
			write(t, a, "warm")
			r := read(t, client, "log", func(o *LogOptions) { o.RequestTimeout = 300 * time.Millisecond })
			r.freshly()
			var blocked atomic.Bool
			blocked.Store(true)
			held := make(chan struct{}, 1000)
			cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if !blocked.Load() {
					return nil, nil, false
				}
				held <- struct{}{}
				return nil, nil, true // never answered
			})
			<-held
			write(t, a, "x")
			since := time.Now()
			r.until("the timeout shows", func() bool { return errors.Is(r.trouble, context.DeadlineExceeded) })
			<-held
			r.mu.Lock()
			if last := r.caughtUp[len(r.caughtUp)-1]; last.After(since) && r.read[len(r.read)-1] < 2 {
				t.Errorf("caught up with a question sent %v after %s was blocked", last.Sub(since), key.Name())
			}
			n := len(r.caughtUp)
			r.mu.Unlock()
			<-held
			r.mu.Lock()
			if len(r.caughtUp) > n {
				t.Errorf("renewed %d times while %s is blocked", len(r.caughtUp)-n, key.Name())
			}
			r.mu.Unlock()
			blocked.Store(false)
			r.freshly()
			if got := r.keys(); got[len(got)-1] != "x" {
				t.Errorf("read %v, want x at the end", got)
			}
			r.until("the trouble is over", func() bool { return r.trouble == nil })
		})
	}
}

// The end is asked for, then a record is written, then the question is answered, then the log reads. The
// answer holds the record, so it must not count before the record has been applied.
func TestAnswerCountsOnlyWhenApplied(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	a := appender(t, client, "log")
	applying, apply := make(chan struct{}), make(chan struct{})
	var caught atomic.Int64
	r := read(t, client, "log", func(o *LogOptions) {
		o.Apply = func(Record) { applying <- struct{}{}; <-apply }
		o.CaughtUp = func(time.Time) { caught.Add(1) }
	})
	if err := r.log.ReadToEnd(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, a, "a")
	<-applying
	before := caught.Load()
	waiting := make(chan error, 1)
	go func() { waiting <- r.log.ReadToEnd(t.Context()) }()
	select {
	case err := <-waiting:
		t.Errorf("ReadToEnd returned %v while the record was being applied", err)
	case <-time.After(100 * time.Millisecond):
	}
	if caught.Load() != before {
		t.Error("caught up while the record was being applied")
	}
	close(apply)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestLogFollowsItsLeader(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t, kfake.NumBrokers(3))
	create(t, client, "log", 1)
	a := appender(t, client, "log")
	r := read(t, client, "log", nil)
	for i, key := range []string{"a", "b", "c", "d"} {
		if err := cluster.MoveTopicPartition("log", 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
		write(t, a, key)
		if err := r.log.ReadToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.freshly()
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, r.keys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A partition whose leader is only just being made must not wait until the broker has
// held a fetch of the others for its whole time.
func TestPartitionInTroubleIsNotHeldUpByTheOthers(t *testing.T) {
	t.Parallel()
	cluster, client := brokers(t, kfake.NumBrokers(1))
	create(t, client, "log", 2)
	var refused, longest atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		asked := slices.ContainsFunc(req.Topics[0].Partitions, func(p kmsg.FetchRequestTopicPartition) bool { return p.Partition == 0 })
		if !asked {
			longest.Store(max(longest.Load(), req.MaxWaitMillis))
			return nil, nil, false
		}
		if refused.Add(1) > 3 {
			return nil, nil, false
		}
		return answerFetch(req, func(p *kmsg.FetchResponseTopicPartition) {
			if p.Partition == 0 {
				p.ErrorCode = kerr.NotLeaderForPartition.Code
			}
		}), nil, true
	})
	r := read(t, client, "log", nil)
	r.freshly()
	if got, limit := longest.Load(), int32(fetchWait/time.Millisecond); got == 0 || got >= limit {
		t.Errorf("while partition 0 waited to be asked for again, the broker was to hold a fetch for %d ms, want less than %d", got, limit)
	}
}

func TestNewPartitionsAreRead(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	r := read(t, client, "log", nil)
	r.freshly()
	if _, err := admin(t, client).UpdatePartitions(t.Context(), 3, "log"); err != nil {
		t.Fatal(err)
	}
	if err := appender(t, client, "log").Append(t.Context(), []Entry{{Key: []byte("a"), Pinned: true, Partition: 2}}); err != nil {
		t.Fatal(err)
	}
	r.freshly()
	if diff := cmp.Diff([]string{"a"}, r.keys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogWaitsForItsTopic(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	r := read(t, client, "log", nil)
	r.until("the trouble shows", func() bool { return errors.Is(r.trouble, kerr.UnknownTopicOrPartition) })
	create(t, client, "log", 1)
	r.freshly()
}

func TestLogThatMovesAwayEndsTheReading(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(t *testing.T, cluster *kfake.Cluster, client []kgo.Opt)
		want   error
	}{
		"recreated": {func(t *testing.T, _ *kfake.Cluster, client []kgo.Opt) {
			if _, err := admin(t, client).DeleteTopic(t.Context(), "log"); err != nil {
				t.Fatal(err)
			}
			create(t, client, "log", 1)
			write(t, appender(t, client, "log"), "other", "other", "other")
		}, ErrRecreated},
		"diverged": {func(t *testing.T, cluster *kfake.Cluster, _ []kgo.Opt) {
			// The new leader says where its log ends, and only then that it is another log.
			asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Nodes: []int32{1}, Topic: "log", Count: -1, Observe: true})
			cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				cluster.SleepControl(func() { _ = asked.Wait(t.Context(), 3) })
				return answerFetch(req.(*kmsg.FetchRequest), func(p *kmsg.FetchResponseTopicPartition) {
					p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = 0, 1
				}), nil, true
			})
			if err := cluster.MoveTopicPartition("log", 0, 1); err != nil { // an unclean election
				t.Fatal(err)
			}
		}, ErrTruncated},
		"shorter": {func(_ *testing.T, cluster *kfake.Cluster, _ []kgo.Opt) {
			outOfRange(cluster, func(timestamp int64) int64 { return 0 })
		}, ErrTruncated},
		"overrun": {func(_ *testing.T, cluster *kfake.Cluster, _ []kgo.Opt) {
			outOfRange(cluster, func(timestamp int64) int64 { return 9 })
		}, ErrOverrun},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, client := brokers(t, kfake.NumBrokers(2))
			create(t, client, "log", 1)
			if err := cluster.MoveTopicPartition("log", 0, 0); err != nil {
				t.Fatal(err)
			}
			write(t, appender(t, client, "log"), "a", "b")
			r := read(t, client, "log", nil)
			r.freshly()
			row.change(t, cluster, client)
			changed := time.Now()
			r.until("the reading ends", func() bool { return r.ended })
			if !errors.Is(r.err, row.want) || !strings.HasPrefix(r.err.Error(), "log of log: ") {
				t.Errorf("ended with %v, want %v", r.err, row.want)
			}
			if slices.Contains(r.keys(), "other") {
				t.Error("records of another topic were applied")
			}
			if last := r.caughtUp[len(r.caughtUp)-1]; last.After(changed) {
				t.Error("caught up with a log that is another one")
			}
			if err := r.log.ReadToEnd(t.Context()); err == nil {
				t.Error("ReadToEnd of a log that is no longer read returned nil")
			}
		})
	}
}

// answerFetch answers a fetch without records.
func answerFetch(req *kmsg.FetchRequest, set func(*kmsg.FetchResponseTopicPartition)) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, topic := range req.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition = p.Partition
			set(&rp)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// outOfRange makes a log answer that an offset is out of range, and with its bounds.
func outOfRange(cluster *kfake.Cluster, bound func(timestamp int64) int64) {
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = req.Topics[0].Topic
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		rp.Offset = bound(req.Topics[0].Partitions[0].Timestamp)
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "log", Err: kerr.OffsetOutOfRange, Count: -1})
}

func TestRunEndsQuietlyWithItsContext(t *testing.T) {
	t.Parallel()
	_, client := brokers(t)
	create(t, client, "log", 1)
	ctx, cancel := context.WithCancel(t.Context())
	l := NewLog(LogOptions{Client: client, Topic: "log", Apply: func(Record) {}, CaughtUp: func(time.Time) { cancel() }})
	if err := l.Run(ctx); err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
}
