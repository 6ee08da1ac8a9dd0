package takeover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"barnabas/connector/txn"
)

const many = 12 // partitions

func partitions(n int32) []int32 {
	var all []int32
	for p := range n {
		all = append(all, p)
	}
	return all
}

func TestFormerOwnerIsShutOutOfEveryPartition(t *testing.T) {
	t.Parallel()
	b := realKafka(t)
	client := connect(t, b)
	// Fifty partitions: the markers take a while, so that to return before they stand would show.
	const wide = 50
	name := topic(t, client, "copy", wide, nil)
	for round := range 3 {
		id := fmt.Sprintf("shut-out-%d", round)
		old := takeID(t, client, id)
		for p := range int32(wide) {
			old.mustSend(name, p, "a")
		}
		begin := time.Now()
		fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: id, Expect: old.ProducerID, Partitions: map[string][]int32{name: partitions(wide)}})
		t.Logf("fenced %d partitions in %s: %+v", wide, time.Since(begin), fenced)
		if err != nil || !fenced.Expected || fenced.Identity.ProducerID != old.ProducerID || len(fenced.Left) > 0 {
			t.Fatalf("Fence: %+v, %v; want producer id %d, expected", fenced, err, old.ProducerID)
		}
		for p := int32(wide - 1); p >= 0; p-- {
			if base, err := old.send(name, p, "zombie"); !refused(err) {
				t.Fatalf("the former owner wrote to partition %d after the fence: offset %d, %v; want INVALID_PRODUCER_EPOCH", p, base, err)
			}
		}
		fresh := &writer{t: t, client: client, Identity: fenced.Identity, next: map[int32]int32{}}
		for p := range int32(wide) {
			fresh.mustSend(name, p, "b")
		}
	}
}

// Without the empty transaction the leaders of partitions do not learn of the new epoch.
func TestNewEpochAloneShutsNobodyOut(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	name := topic(t, client, "copy", 2, nil)
	old := takeID(t, client, "epoch-alone")
	old.mustSend(name, 0, "a")
	old.mustSend(name, 1, "a")
	fresh := takeID(t, client, "epoch-alone")
	if fresh.ProducerID != old.ProducerID || fresh.Epoch <= old.Epoch {
		t.Fatalf("identities %v and %v, want the same producer id and a higher epoch", old.Identity, fresh.Identity)
	}
	old.mustSend(name, 0, "zombie")
	// It is shut out of a partition once the new owner has written there, and only there.
	fresh.mustSend(name, 0, "b")
	if _, err := old.send(name, 0, "zombie"); !refused(err) {
		t.Errorf("partition 0: %v, want INVALID_PRODUCER_EPOCH", err)
	}
	old.mustSend(name, 1, "zombie")
}

// EndTxn answers before its markers stand. How long after it the former owner can still write is a matter of
// luck, so this only has to happen once in many tries.
func TestEndTxnIsAnsweredBeforeTheFormerOwnerIsShutOut(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	const wide = 50
	name := topic(t, client, "copy", wide, nil)
	tries, accepted := 20, 0
	for try := range tries {
		id := fmt.Sprintf("no-second-%d", try)
		old := takeID(t, client, id)
		for p := range int32(wide) {
			old.mustSend(name, p, "a")
		}
		f := fencing{FenceOptions: FenceOptions{Target: client, TransactionalID: id, Partitions: map[string][]int32{name: partitions(wide)}}, left: map[string]map[int32]error{}}
		first, err := f.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if added, err := f.add(t.Context(), first); err != nil || !added {
			t.Fatal(added, err)
		}
		if err := f.abort(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		for p := int32(wide - 1); p >= 0; p-- {
			if _, err := old.send(name, p, "zombie"); err == nil {
				accepted++
			}
		}
		if accepted > 0 {
			t.Logf("try %d: %d of %d partitions took a batch of the former owner after EndTxn was answered", try, accepted, wide)
			return
		}
	}
	t.Skipf("in %d tries all markers stood when EndTxn was answered: this machine is too fast to show it", tries)
}

func TestAnotherProducerIDIsNoFence(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	name := topic(t, client, "copy", many, nil)
	old := takeID(t, client, "expired")
	old.mustSend(name, 0, "a")
	for _, expect := range []int64{old.ProducerID + 1000, -1} {
		fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "expired-" + fmt.Sprint(expect), Expect: expect, Partitions: map[string][]int32{name: partitions(many)}})
		if err != nil || fenced.Expected || fenced.Identity.ProducerID < 0 {
			t.Fatalf("Fence: %+v, %v; want an identity, and nobody fenced", fenced, err)
		}
	}
	old.mustSend(name, 0, "still there")
}

func TestEveryFormerWriterIsFencedByItsOwnID(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	name := topic(t, client, "copy", many, nil)
	var writers []*writer
	for i := range 3 {
		w := takeID(t, client, fmt.Sprintf("moved-%d", i))
		w.mustSend(name, 3, fmt.Sprint("of ", i))
		writers = append(writers, w)
	}
	for i, w := range writers {
		fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: fmt.Sprintf("moved-%d", i), Expect: w.ProducerID, Partitions: map[string][]int32{name: {3}}})
		if err != nil || !fenced.Expected {
			t.Fatalf("Fence %d: %+v, %v", i, fenced, err)
		}
		for j, other := range writers {
			_, err := other.send(name, 3, "after")
			if want := j <= i; refused(err) != want {
				t.Errorf("after the fence of %d: writer %d got %v, refused wanted %v", i, j, err, want)
			}
		}
	}
}

// The former owner may have been in the middle of a transaction of its own.
func TestOpenTransactionIsAborted(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	name := topic(t, client, "copy", 2, nil)
	old := connect(t, realKafka(t), kgo.TransactionalID("in-the-middle"), kgo.DefaultProduceTopic(name), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := old.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := old.ProduceSync(t.Context(), &kgo.Record{Value: []byte("a")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	pid, _, err := old.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "in-the-middle", Expect: pid, Partitions: map[string][]int32{name: partitions(2)}})
	if err != nil || !fenced.Expected {
		t.Fatalf("Fence: %+v, %v", fenced, err)
	}
	committed, err := kadm.NewClient(client).ListCommittedOffsets(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(2) {
		stable, _ := committed.Lookup(name, p)
		end, _ := ends.Lookup(name, p)
		if stable.Offset != end.Offset || end.Offset == 0 {
			t.Errorf("partition %d: last stable offset %d of %d: a transaction is still open", p, stable.Offset, end.Offset)
		}
	}
	if err := txn.End(t.Context(), old, kgo.TryCommit); err == nil {
		t.Error("the former owner committed after the fence")
	}
}

func TestWithoutTheRightThereIsNoFence(t *testing.T) {
	t.Parallel()
	b := realKafka(t)
	name := topic(t, connect(t, b), "copy", 1, nil)
	if err := b.Allow(t.Context(), stranger, grantOn(name)); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Address("CLIENT")), kgo.SASL(plain.Auth{User: stranger, Pass: password}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	begin := time.Now()
	_, err = Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "not-allowed", Expect: -1, Partitions: map[string][]int32{name: {0}}})
	if !errors.Is(err, ErrCannotFence) || !errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		t.Fatalf("Fence: %v, want ErrCannotFence for TRANSACTIONAL_ID_AUTHORIZATION_FAILED", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s to find out", took)
	}
}

// A topic that was deleted at the target must not keep the others from being fenced.
func TestMissingPartitionsAreLeftOut(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	name := topic(t, client, "copy", 2, nil)
	old := takeID(t, client, "missing")
	old.mustSend(name, 1, "a")
	fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "missing", Expect: old.ProducerID, Partitions: map[string][]int32{name: {0, 1, 7}, "nowhere": {0}}})
	if err != nil || !fenced.Expected {
		t.Fatalf("Fence: %+v, %v", fenced, err)
	}
	if !errors.Is(fenced.Left[name][7], kerr.UnknownTopicOrPartition) || !errors.Is(fenced.Left["nowhere"][0], kerr.UnknownTopicOrPartition) || len(fenced.Left) != 2 || len(fenced.Left[name]) != 1 {
		t.Errorf("left out: %v, want partition 7 and topic nowhere", fenced.Left)
	}
	if _, err := old.send(name, 1, "zombie"); !refused(err) {
		t.Errorf("the former owner's batch: %v, want INVALID_PRODUCER_EPOCH", err)
	}
}

func TestWithoutPartitionsTheIDIsTaken(t *testing.T) {
	t.Parallel()
	client := connect(t, realKafka(t))
	fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "nothing to do", Expect: -1})
	if err != nil || fenced.Identity.ProducerID < 0 || fenced.Expected {
		t.Fatalf("Fence: %+v, %v", fenced, err)
	}
}

// broken is a fake cluster that answers requests of a kind with an error some times.
func broken(t *testing.T, key kmsg.Key, failure *kerr.Error, times int) *kgo.Client {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if times == 0 {
			return nil, nil, false
		}
		times--
		switch resp := req.ResponseKind().(type) {
		case *kmsg.InitProducerIDResponse:
			resp.ErrorCode = failure.Code
			return resp, nil, true
		case *kmsg.EndTxnResponse:
			resp.ErrorCode = failure.Code
			return resp, nil, true
		case *kmsg.AddPartitionsToTxnResponse:
			for _, t := range req.(*kmsg.AddPartitionsToTxnRequest).Topics { //nolint:forcetypeassert // its response was
				rt := kmsg.NewAddPartitionsToTxnResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p, failure.Code
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			return resp, nil, true
		}
		return nil, nil, false
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestFenceTriesAgainWhatPasses(t *testing.T) {
	t.Parallel()
	for _, failure := range []*kerr.Error{
		kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator,
	} {
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
			t.Run(key.Name()+" "+failure.Message, func(t *testing.T) {
				t.Parallel()
				client := broken(t, key, failure, 3)
				fenced, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "id", Expect: -1, Partitions: map[string][]int32{"copy": {0, 1}}, Timeout: soon})
				if err != nil || fenced.Identity.Epoch < 1 {
					t.Errorf("Fence: %+v, %v, want a second epoch", fenced, err)
				}
			})
		}
	}
}

func TestFenceGivesUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key     kmsg.Key
		failure *kerr.Error
		want    error
	}{
		"no right":                  {kmsg.InitProducerID, kerr.TransactionalIDAuthorizationFailed, ErrCannotFence},
		"no right to the cluster":   {kmsg.InitProducerID, kerr.ClusterAuthorizationFailed, ErrCannotFence},
		"right lost in the middle":  {kmsg.AddPartitionsToTxn, kerr.TransactionalIDAuthorizationFailed, ErrCannotFence},
		"right lost at the end":     {kmsg.EndTxn, kerr.TransactionalIDAuthorizationFailed, ErrCannotFence},
		"another owner came":        {kmsg.AddPartitionsToTxn, kerr.ProducerFenced, ErrSuperseded},
		"another owner, in between": {kmsg.EndTxn, kerr.InvalidProducerEpoch, ErrSuperseded},
		"another producer id":       {kmsg.AddPartitionsToTxn, kerr.InvalidProducerIDMapping, ErrSuperseded},
		"not an answer we know":     {kmsg.InitProducerID, kerr.InvalidRequest, kerr.InvalidRequest},
		"the deadline":              {kmsg.InitProducerID, kerr.ConcurrentTransactions, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := broken(t, test.key, test.failure, 1_000_000)
			timeout := soon
			if errors.Is(test.want, context.DeadlineExceeded) {
				timeout = 200 * time.Millisecond
			}
			_, err := Fence(t.Context(), FenceOptions{Target: client, TransactionalID: "id", Expect: -1, Partitions: map[string][]int32{"copy": {0, 1}}, Timeout: timeout})
			if !errors.Is(err, test.want) {
				t.Errorf("Fence: %v, want %v", err, test.want)
			}
		})
	}
}
