package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/e2e/kafka"
	"barnabas/e2e/oracle"
)

// batches describes the batches of a partition that hold the offsets from from to
// before to, control batches among them: who wrote them, in which epoch, under which sequence numbers.
func batches(ctx context.Context, c *kafka.Cluster, topic string, partition int32, from, to int64) (lines []string, err error) {
	client, err := kgo.NewClient(c.Plain()...)
	if err != nil {
		return nil, fmt.Errorf("batches of %s/%d: %w", topic, partition, err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("batches of %s/%d: %w", topic, partition, err)
	}
	leader := topics[topic].Partitions[partition].Leader
	for from < to && len(lines) < 200 {
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MaxWaitMillis = 1<<20, 1000
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, topics[topic].ID
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, 1<<20
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		answer, err := client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return lines, fmt.Errorf("batches of %s/%d: %w", topic, partition, err)
		}
		resp := answer.(*kmsg.FetchResponse)
		if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
			return lines, fmt.Errorf("batches of %s/%d: %w", topic, partition, kerr.ErrorForCode(resp.ErrorCode))
		}
		before := from
		for raw := resp.Topics[0].Partitions[0].RecordBatches; len(raw) >= 61; {
			size := 12 + (int(raw[8])<<24 | int(raw[9])<<16 | int(raw[10])<<8 | int(raw[11]))
			var b kmsg.RecordBatch
			if size > len(raw) || b.ReadFrom(raw[:size]) != nil {
				break
			}
			raw = raw[size:]
			if from = b.FirstOffset + int64(b.LastOffsetDelta) + 1; b.FirstOffset < to {
				lines = append(lines, describe(&b))
			}
		}
		if from == before {
			break
		}
	}
	return lines, nil
}

func describe(b *kmsg.RecordBatch) string {
	const transactional, control = 1 << 4, 1 << 5
	kind := ""
	if b.Attributes&transactional != 0 {
		kind += " transactional"
	}
	if b.Attributes&control != 0 {
		kind += " control"
	}
	return fmt.Sprintf("%d-%d: producer %d epoch %d sequence %d, %d records, codec %d, %d bytes, %s to %s%s", b.FirstOffset, b.FirstOffset+int64(b.LastOffsetDelta),
		b.ProducerID, b.ProducerEpoch, b.FirstSequence, b.NumRecords, b.Attributes&7, b.Length,
		clock(b.FirstTimestamp), clock(b.MaxTimestamp), kind)
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05.000") }

// explain shows what stands in the target around the places where a copy is
// not what it should be.
func (c *chaos) explain(r oracle.Report) {
	c.e.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.e.Context()), time.Minute)
	defer cancel()
	for _, turn := range r.Turns[:min(len(r.Turns), 6)] {
		// The first copies of what came again lie before the place.
		from := max(0, turn.Target-int64(max(turn.Back, 0))-50)
		lines, err := batches(ctx, c.target.cluster, turn.Topic, turn.Partition, from, turn.Target+int64(max(turn.Back, 0))+50)
		if err != nil {
			lines = append(lines, err.Error())
		}
		c.e.t.Logf("%s/%d: at target offset %d stands source offset %d, %d records back:\n%s", turn.Topic, turn.Partition, turn.Target, turn.Source, turn.Back, strings.Join(lines, "\n"))
	}
}

// told are lines of the workers' logs that tell what the data plane went
// through.
type told struct {
	sessions, anew, found, foundRecords, inexact, lost, waited int
	lines                                                      []string // of what should not be
}

var recordsFound = regexp.MustCompile(` records=(\d+)`)

// told reads the logs of a fleet for a connector.
func (f *Fleet) told(connector string) (sum told) {
	f.e.t.Helper()
	for _, w := range f.Workers {
		text, err := os.ReadFile(w.Log())
		f.e.Must(err)
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, connector) {
				continue
			}
			says := func(what string) bool { return strings.Contains(line, what) }
			switch {
			case says("msg=copying "):
				sum.sessions++
			case says("the copying begins anew"):
				sum.anew++
			case says("found in the target what was copied"):
				sum.found++
				if m := recordsFound.FindStringSubmatch(line); m != nil {
					n, _ := strconv.Atoi(m[1])
					sum.foundRecords += n
				}
			case says("does not tell how far the copy is"):
				sum.inexact++
				sum.lines = append(sum.lines, w.Name+": "+strings.TrimSpace(line))
			case says("are lost to the copy"):
				sum.lost++
				sum.lines = append(sum.lines, w.Name+": "+strings.TrimSpace(line))
			case says("waiting until the former owner's lease is over"):
				sum.waited++
			}
		}
	}
	slices.Sort(sum.lines)
	return sum
}

func (s told) String() string {
	return fmt.Sprintf("%d sessions begun, %d of them because a session broke; %d partitions reconciled with the target's tail (%d records found there); %d not exactly; %d waits for a lease; %d entries in the ledger",
		s.sessions, s.anew, s.found, s.foundRecords, s.inexact, s.waited, s.lost)
}
