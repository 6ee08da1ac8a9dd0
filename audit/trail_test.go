package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const topic = "_barnabas-audit"

func broker(t *testing.T) *kfake.Cluster {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// open opens a trail and has it run.
func open(t *testing.T, k *kfake.Cluster, worker string) *Trail {
	t.Helper()
	trail, err := Open(Options{Client: []kgo.Opt{kgo.SeedBrokers(k.ListenAddrs()...)}, Topic: topic, Cluster: "c", Worker: worker})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trail.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return trail
}

// TestWorkersShareATrail has two of them write at once, and reads what they wrote.
func TestWorkersShareATrail(t *testing.T) {
	t.Parallel()
	k := broker(t)
	workers := []*Trail{open(t, k, "a"), open(t, k, "b")}
	var g sync.WaitGroup
	const each = 30
	for i, w := range workers {
		for n := range each {
			g.Go(func() {
				err := w.Write(t.Context(), Entry{User: []string{"ann", "bob"}[i], Action: "connect:PauseConnector", Resource: fmt.Sprint("connect:connector:", n), Outcome: Done})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	g.Wait()
	report, err := workers[0].Verify(t.Context(), nil)
	if err != nil || !report.Whole() || report.Records != 2*each || report.Chains != 2 {
		t.Fatalf("%+v %v", report, err)
	}
	var seen []int64
	for before := int64(0); ; {
		found, next, err := workers[1].Read(t.Context(), Query{User: "ann", Resource: "connect:connector:*", Limit: 7, Before: before})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.User != "ann" || f.Cluster != "c" || f.Worker != "a" {
				t.Errorf("%+v", f)
			}
			seen = append(seen, f.Offset)
		}
		if before = next; next == 0 {
			break
		}
	}
	if len(seen) != each {
		t.Errorf("%d entries of ann", len(seen))
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] >= seen[i-1] {
			t.Errorf("not the newest first: %v", seen)
		}
	}
	found, _, err := workers[1].Read(t.Context(), Query{Since: time.Now().Add(time.Hour)})
	if err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
}

// TestAFailedWriteBeginsANewChain has the broker refuse one.
func TestAFailedWriteBeginsANewChain(t *testing.T) {
	t.Parallel()
	k := broker(t)
	w := open(t, k, "a")
	write := func() error {
		return w.Write(t.Context(), Entry{Action: "connect:PauseConnector", Resource: "connect:connector:a", Outcome: Attempted})
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	k.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range request.(*kmsg.ProduceRequest).Topics {
			at := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				at.Partitions = append(at.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.TopicAuthorizationFailed.Code})
			}
			answer.Topics = append(answer.Topics, at)
		}
		return answer, nil, true
	})
	if err := write(); err == nil || !strings.Contains(err.Error(), "the audit trail cannot be written, topic _barnabas-audit: TOPIC_AUTHORIZATION_FAILED") {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	report, err := w.Verify(t.Context(), nil)
	if err != nil || !report.Whole() || report.Records != 2 || report.Chains != 2 {
		t.Errorf("%+v %v", report, err)
	}
}

// TestDeletedRecordsShow has somebody delete the first ones.
func TestDeletedRecordsShow(t *testing.T) {
	t.Parallel()
	k := broker(t)
	w := open(t, k, "a")
	for range 5 {
		if err := w.Write(t.Context(), Entry{Action: "a", Resource: "r", Outcome: Done}); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), kadm.Offsets{topic: {0: {Topic: topic, At: 2}}}); err != nil {
		t.Fatal(err)
	}
	report, err := w.Verify(t.Context(), nil)
	if err != nil || len(report.Findings) != 2 || !strings.Contains(report.Findings[0].What, "the records from offset 0 to 1 are gone") || !strings.Contains(report.Findings[1].What, "of which the beginning is gone") {
		t.Errorf("%+v %v", report, err)
	}
}
