package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
	"barnabas/connector/rawcopy"
)

func jitter() float64 { return rand.Float64() } //nolint:gosec // spreads retries

// stopAtGap says whether a partition stops where the source has lost records
// (gap.policy, of the connector or else of the worker).
func (t *copying) stopAtGap() bool { return t.GapPolicy == "stop" }

// tolerates says whether a record that the target does not take is left out
// (errors.tolerance=all).
func (t *copying) tolerates() bool { return t.Settings["errors.tolerance"].Written == "all" }

const keyDeadLetters = "errors.deadletterqueue.topic.name"

// extra is a topic of the target that a task writes to besides its copies.
type extra struct {
	name       string // empty: none
	id         [16]byte
	partitions int32
}

// partitionOf is Kafka's default partitioner.
func (e extra) partitionOf(key []byte) int32 {
	return int32(kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(&kgo.Record{Key: key}, int(e.partitions)))
}

// extras looks up the topics that the task writes to besides.
func (s *session) extras(ctx context.Context) error {
	names := []string{}
	s.letter.name = s.Settings[keyDeadLetters].Written
	if s.delivery == connector.Transactional {
		v, err := s.target.metadata(ctx, []string{})
		if err != nil {
			return err
		}
		if !sharesOffsets(s.Internal, v.clusterID, s.OffsetsTopic) {
			s.global.name = s.OffsetsTopic
		}
	}
	for _, e := range []*extra{&s.letter, &s.global} {
		if e.name != "" {
			names = append(names, e.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	found, err := s.target.describe(ctx, names)
	if err != nil {
		return err
	}
	for _, e := range []*extra{&s.letter, &s.global} {
		if e.name == "" {
			continue
		}
		t, ok := found[e.name]
		if !ok {
			return s.target.wrong("look up topic "+e.name, kerr.UnknownTopicOrPartition)
		}
		e.id, e.partitions = t.id, t.partitions
	}
	return nil
}

// letters are the pointers to records that were left out, for the dead letter queue: where the record
// is, in Connect's headers (DeadLetterQueueReporter), and as JSON.
func (s *session) letters() ([]rawcopy.Write, error) {
	s.mu.Lock()
	refused := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, e := range refused {
		s.noted = append(s.noted, e.Source)
	}
	if s.letter.name == "" || len(refused) == 0 {
		return nil, nil
	}
	s.mishaps.pointers(len(refused))
	var records []rawcopy.Record
	for _, e := range refused {
		value, err := json.Marshal(map[string]any{
			"cluster": s.s.source, "topic": e.Source.Topic, "partition": e.Source.ID, "offset": e.From, "to": e.To, "cause": e.Cause, "error": fmt.Sprint(e.Err),
		})
		if err != nil {
			return nil, &finalError{err}
		}
		header := func(key, value string) rawcopy.Header {
			return rawcopy.Header{Key: []byte("__connect.errors." + key), Value: []byte(value)}
		}
		records = append(records, rawcopy.Record{
			Timestamp: time.Now().UnixMilli(), Value: value,
			Headers: []rawcopy.Header{
				header("topic", e.Source.Topic), header("partition", strconv.Itoa(int(e.Source.ID))), header("offset", strconv.FormatInt(e.From, 10)),
				header("connector.name", s.Connector), header("task.id", strconv.Itoa(s.Task)), header("stage", "TASK_PUT"),
				header("exception.message", fmt.Sprint(e.Err)),
			},
		})
	}
	var pg page
	err := pg.add(rawcopy.Partition{Topic: s.letter.name}, s.letter.id, records)
	return pg.writes, err
}

// sharesOffsets says whether a connector's topic for source offsets is the
// worker's own: then they get there as those of all connectors do.
func sharesOffsets(workers connector.Internal, clusterID, topic string) bool {
	return workers.ClusterID == clusterID && slices.Contains(workers.Topics, topic)
}

// described is a topic as metadata has it.
type described struct {
	id         [16]byte
	partitions int32
	leaders    map[int32]int32 // of the partitions; -1: none
}

// describe asks for topics by name; those that are not there are left out.
func (c *cluster) describe(ctx context.Context, names []string) (map[string]described, error) {
	found, refused, err := c.describeEach(ctx, names)
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		return nil, c.refusal("look up topic "+name, refused[name])
	}
	return found, err
}

// describeEach is describe, with an error for each topic that we may not see.
func (c *cluster) describeEach(ctx context.Context, names []string) (found map[string]described, refused map[string]error, err error) {
	found, refused = map[string]described{}, map[string]error{}
	for batch := range slices.Chunk(names, batchSize) {
		if err := c.describeSome(ctx, batch, found, refused); err != nil {
			return nil, nil, err
		}
	}
	return found, refused, nil
}

func (c *cluster) describeSome(ctx context.Context, names []string, found map[string]described, refused map[string]error) error {
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return c.wrong("look up topics", err)
	}
	for _, t := range resp.Topics {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case t.Topic == nil || errors.Is(err, kerr.UnknownTopicOrPartition):
		case classify(err) == identity:
			refused[*t.Topic] = err
		case err != nil && len(t.Partitions) == 0:
			return c.wrong("look up topic "+*t.Topic, err)
		default:
			d := described{t.TopicID, int32(len(t.Partitions)), map[int32]int32{}}
			for _, p := range t.Partitions {
				d.leaders[p.Partition] = p.Leader
			}
			found[*t.Topic] = d
		}
	}
	return nil
}

// topicIDs looks up the ids of the topics of partitions; those of topics that
// are not there, or that we may not see, are missing.
func (c *cluster) topicIDs(ctx context.Context, partitions []partition) (map[string][16]byte, error) {
	var names []string
	for _, p := range partitions {
		names = append(names, p.topic)
	}
	slices.Sort(names)
	found, _, err := c.describeEach(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	ids := map[string][16]byte{}
	for name, t := range found {
		ids[name] = t.id
	}
	return ids, nil
}

// transactionVersion is the finalized level of the feature transaction.version;
// 0 where the cluster does not know it.
func (c *cluster) transactionVersion(ctx context.Context) (int16, error) {
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return 0, c.wrong("ask which features it has", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// decisions names what was decided about the batches of a lane.
func decisions(st *rawcopy.LaneState) map[string]int64 {
	counts := map[string]int64{}
	for reason, n := range st.Decisions {
		if n == 0 {
			continue
		}
		r := rawcopy.Reason(reason)
		switch {
		case r == 0:
			counts["raw"] += n
		case r.Skips():
			counts[fmt.Sprintf("skipped: %s", r)] += n
		default:
			counts[fmt.Sprintf("decoded: %s", r)] += n
		}
	}
	if st.CameBack > 0 {
		counts["left out: came back"] = st.CameBack
	}
	return counts
}
