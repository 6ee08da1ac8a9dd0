package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/offsetrun"
	"barnabas/connector/takeover"
)

// What stands in source partitions and offsets (MirrorUtils, Heartbeat and Checkpoint of 4.3.1).
const (
	fieldCluster   = "cluster"
	fieldTopic     = "topic"
	fieldPartition = "partition"
	fieldGroup     = "group"
	fieldOffset    = "offset"
)

// checkSourceOffsets judges offsets as MirrorSourceConnector.alterOffsets does.
func checkSourceOffsets(changes []connector.OffsetChange) error {
	return checkOffsets(changes, false, []string{fieldCluster, fieldTopic}, true)
}

// checkCheckpointOffsets judges offsets as MirrorCheckpointConnector.alterOffsets does.
func checkCheckpointOffsets(changes []connector.OffsetChange) error {
	return checkOffsets(changes, true, []string{fieldGroup, fieldTopic}, true)
}

// checkHeartbeatOffsets judges offsets as MirrorHeartbeatConnector.alterOffsets does.
func checkHeartbeatOffsets(changes []connector.OffsetChange) error {
	return checkOffsets(changes, true, []string{"sourceClusterAlias", "targetClusterAlias"}, false)
}

// checkOffsets lets every deletion pass, as Kafka does, so that what does not belong there can be cleaned up.
func checkOffsets(changes []connector.OffsetChange, onlyZero bool, names []string, numbered bool) error {
	for _, c := range changes {
		if c.Offset == nil {
			continue
		}
		if c.Partition == nil {
			return errors.New("Source partitions may not be null")
		}
		for _, name := range names {
			if err := checkName(c.Partition, name); err != nil {
				return err
			}
		}
		if numbered {
			if err := checkNumber(c.Partition); err != nil {
				return err
			}
		}
		if err := checkOffset(c, onlyZero); err != nil {
			return err
		}
	}
	return nil
}

func checkName(p connector.Fields, name string) error {
	value, ok := p.Get(name)
	if !ok {
		return fmt.Errorf("Source partition %s is missing the '%s' key, which is required", p, name)
	}
	if _, ok := value.(string); !ok {
		return fmt.Errorf("Source partition %s has an invalid value %s for the '%s' key, which must be a string", p, connector.JavaText(value), name)
	}
	return nil
}

func checkNumber(p connector.Fields) error {
	value, ok := p.Get(fieldPartition)
	if !ok {
		return fmt.Errorf("Source partition %s is missing the 'partition' key, which is required", p)
	}
	switch n, ok := value.(int64); {
	case !ok || n > math.MaxInt32:
		return fmt.Errorf("Source partition %s has an invalid value %s for the 'partition' key, which must be an integer", p, connector.JavaText(value))
	case int32(n) < 0: // as Java narrows it
		return fmt.Errorf("Source partition %s has an invalid value %d for the 'partition' key, which cannot be negative", p, n)
	}
	return nil
}

func checkOffset(c connector.OffsetChange, onlyZero bool) error {
	value, ok := c.Offset.Get(fieldOffset)
	if !ok {
		return fmt.Errorf("Source offset %s for source partition %s is missing the 'offset' key, which is required", c.Offset, c.Partition)
	}
	wrong := func(what string) error {
		return fmt.Errorf("Source offset %s for source partition %s has an invalid value %s for the 'offset' key%s", c.Offset, c.Partition, connector.JavaText(value), what)
	}
	switch n, ok := value.(int64); {
	case !ok:
		return wrong(", which must be an integer")
	case onlyZero && n != 0:
		return wrong("; the only accepted value is 0")
	case n < 0:
		return wrong(", which cannot be negative")
	}
	return nil
}

// ownOffset says whether a record among a source connector's offsets is what we remember there: whose ACLs are whose, which
// topics were deleted.
func ownOffset(p connector.Fields) bool {
	_, acls := p.Get("acls")
	_, deleted := p.Get("deleted")
	_, topic := p.Get(fieldTopic)
	return (acls || deleted) && !topic
}

// byHandTimeout bounds how long the target may take to hear of offsets set by hand.
const byHandTimeout = 20 * time.Second

// sourceOffsetsSet enters offsets set by hand in the books of the copies on the target. Without that the next task could not
// tell an offset that was set from one that a task, killed between its last flush and its last save, has left. First every
// task that has written the books is shut out of them: one that was given up, because its worker is cut off, would
// write over it. A partition without books has none to be entered in: its copy begins where the offset topic says.
func sourceOffsetsSet(ctx context.Context, owner string, settings config.Settings, clients connector.Clients, changes []connector.OffsetChange) error {
	ctx, cancel := context.WithTimeout(ctx, byHandTimeout)
	defer cancel()
	s, err := parseSource(settings)
	if err != nil {
		return err
	}
	next := map[offsetrun.Key]int64{}
	for _, c := range changes {
		if k, n, ok := byHand(owner, s.source, c); ok {
			next[k] = n
		}
	}
	if len(next) == 0 {
		return nil
	}
	target, err := openCluster(ctx, targetSide(connector.TargetProducer, s), byHandTimeout, settings, clients, toPartitions())
	if err != nil {
		return err
	}
	name := offsetrun.TopicName(s.source, s.policy.internal)
	found, err := target.describe(ctx, []string{name})
	if err != nil {
		return err
	}
	runs, ok := found[name]
	if !ok {
		return nil // nothing has been copied yet
	}
	reader := offsetrun.NewReader(offsetrun.ReaderOptions{
		Client: target.client, Topic: name, Partitions: allPartitions(runs.partitions),
		Keep: func(k offsetrun.Key) bool { _, wanted := next[k]; return wanted },
	})
	if err := reader.Read(ctx); err != nil {
		return target.wrong("read "+name, err)
	}
	return enterByHand(ctx, target, reader, name, runs.partitions, next)
}

func allPartitions(n int32) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// byHand is the key of the books that a change is about, and the offset at which the copy is to go on.
func byHand(owner, alias string, c connector.OffsetChange) (k offsetrun.Key, next int64, ok bool) {
	cluster, _ := c.Partition.Get(fieldCluster)
	topic, _ := c.Partition.Get(fieldTopic)
	id, _ := c.Partition.Get(fieldPartition)
	n, isNumber := id.(int64)
	if cluster != alias || !isNumber || n < 0 || n > math.MaxInt32 || len(c.Partition) != 3 {
		return k, 0, false // not what a task of this connector looks for
	}
	name, isText := topic.(string)
	if !isText {
		return k, 0, false
	}
	k.Owner, k.Topic, k.Partition = owner, name, int32(n)
	if at, ok := c.Offset.Get(fieldOffset); ok {
		if last, ok := at.(int64); ok && last >= 0 && last < math.MaxInt64 {
			return k, last + 1, true
		}
	}
	return k, offsetrun.NoOffset, true
}

// enterByHand shuts the writers of the books out and writes the records of resets.
func enterByHand(ctx context.Context, target *cluster, books *offsetrun.Reader, topic string, partitions int32, next map[offsetrun.Key]int64) error {
	var records []*kgo.Record
	writers := map[string]int64{}
	for k, n := range next {
		book, err := books.Book(k)
		if err != nil {
			return fmt.Errorf("books of %s: %w", k, err)
		}
		if book == nil {
			continue
		}
		for _, w := range book.State.Writers {
			writers[w.TransactionalID] = w.ProducerID
		}
		r := offsetrun.ResetRecord(k, n)
		records = append(records, &kgo.Record{Topic: topic, Partition: offsetrun.PartitionOf(k, partitions), Key: r.Key, Value: r.Value})
	}
	for id, producer := range writers {
		if id == "" {
			continue
		}
		_, err := takeover.Fence(ctx, takeover.FenceOptions{
			Target: target.client, TransactionalID: id, Expect: producer, Partitions: map[string][]int32{topic: allPartitions(partitions)},
		})
		if err != nil && !errors.Is(err, takeover.ErrCannotFence) && !errors.Is(err, takeover.ErrSuperseded) {
			return target.wrong("shut former tasks out", err)
		}
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int { return int(a.Partition - b.Partition) })
	if err := target.client.ProduceSync(ctx, records...).FirstErr(); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return target.wrong("write "+topic, err)
	}
	return nil
}
