package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/e2e/kafka"
)

// world is all that the clusters hold of a test at one time.
type world struct{ source, target, hub holdings }

// holdings are what one cluster holds.
type holdings struct {
	partitions map[string]int
	settings   map[string]map[string]string // those that are set on the topic itself
	acls       map[string][]acl             // of topics
	records    map[string][]*kgo.Record     // in their order, partition by partition, without control records
	groups     map[string]map[string]map[int32]kadm.Offset
}

// look reads all of it.
func (e *Env) look(ctx context.Context) (w world, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, s := range []struct {
		b    *kafka.Broker
		into *holdings
	}{{e.Source, &w.source}, {e.Target, &w.target}, {e.Hub, &w.hub}} {
		if *s.into, err = e.lookAt(ctx, s.b); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (e *Env) lookAt(ctx context.Context, b *kafka.Broker) (s holdings, err error) {
	s = holdings{partitions: map[string]int{}, settings: map[string]map[string]string{}, acls: map[string][]acl{}, records: map[string][]*kgo.Record{}, groups: map[string]map[string]map[int32]kadm.Offset{}}
	admin, err := b.Admin()
	if err != nil {
		return s, err
	}
	defer admin.Close()
	listed, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return s, err
	}
	var topics []string
	for name, t := range listed {
		if (strings.Contains(name, e.Prefix) || name == "heartbeats") && t.Err == nil {
			topics = append(topics, name)
			s.partitions[name] = len(t.Partitions)
		}
	}
	if len(topics) == 0 {
		return s, nil
	}
	described, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return s, err
	}
	for _, t := range described {
		s.settings[t.Name] = map[string]string{}
		for _, c := range t.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig && c.Value != nil {
				s.settings[t.Name][c.Key] = *c.Value
			}
		}
	}
	if err := e.readACLs(ctx, admin, s.acls); err != nil {
		return s, err
	}
	if err := e.readGroups(ctx, admin, s.groups); err != nil {
		return s, err
	}
	return s, readRecords(ctx, b, admin, topics, s.records)
}

func (e *Env) readACLs(ctx context.Context, admin *kadm.Client, into map[string][]acl) error {
	all, err := admin.DescribeACLs(ctx, kadm.NewACLs().AnyResource().Topics().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).Allow().AllowHosts().Deny().DenyHosts())
	if err != nil {
		return err
	}
	for _, filter := range all {
		if filter.Err != nil {
			return filter.Err
		}
		for _, a := range filter.Described {
			if a.Type != kmsg.ACLResourceTypeTopic || !strings.Contains(a.Name, e.Prefix) {
				continue
			}
			into[a.Name] = append(into[a.Name], acl{a.Pattern.String(), strings.TrimPrefix(a.Principal, "User:"+e.Prefix+"-"), a.Host, a.Operation.String(), a.Permission.String()})
		}
	}
	return nil
}

func (e *Env) readGroups(ctx context.Context, admin *kadm.Client, into map[string]map[string]map[int32]kadm.Offset) error {
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	var names []string
	for name, g := range listed {
		if strings.HasPrefix(name, e.Prefix) && g.ProtocolType != "connect" { // empty: nobody was a member yet
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, g := range admin.FetchManyOffsets(ctx, names...) {
		if g.Err != nil {
			return fmt.Errorf("group %s: %w", g.Group, g.Err)
		}
		into[g.Group] = map[string]map[int32]kadm.Offset{}
		for topic, partitions := range g.Fetched {
			into[g.Group][topic] = map[int32]kadm.Offset{}
			for p, o := range partitions {
				into[g.Group][topic][p] = o.Offset
			}
		}
	}
	return nil
}

// readRecords reads topics from their beginnings to their present ends.
func readRecords(ctx context.Context, b *kafka.Broker, admin *kadm.Client, topics []string, into map[string][]*kgo.Record) error {
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	type place struct {
		topic     string
		partition int32
	}
	left := map[place]int64{}
	from := map[string]map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if end.Err != nil || !ok || end.Offset <= start.Offset {
			return
		}
		if from[end.Topic] == nil {
			from[end.Topic] = map[int32]kgo.Offset{}
		}
		from[end.Topic][end.Partition] = kgo.NewOffset().At(start.Offset)
		left[place{end.Topic, end.Partition}] = end.Offset
	})
	if len(left) == 0 {
		return nil
	}
	client, err := b.Client(kgo.ConsumePartitions(from), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return err
	}
	defer client.Close()
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, 5*time.Second)
		fetches := client.PollFetches(poll)
		cancel()
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d partitions left of %v: %w", len(left), b.Bootstrap(), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			if end, reading := left[at]; !reading || r.Offset >= end {
				return
			} else if r.Offset+1 >= end {
				delete(left, at)
			}
			if !r.Attrs.IsControl() {
				into[r.Topic] = append(into[r.Topic], r)
			}
		})
	}
	for _, records := range into {
		slices.SortStableFunc(records, func(a, b *kgo.Record) int { return int(a.Partition - b.Partition) })
	}
	return nil
}

// numbersOf tells the values of records, partition by partition; numbers that follow each other as a span.
func numbersOf(records []*kgo.Record) string {
	if len(records) == 0 {
		return "no records"
	}
	var text []string
	for i := 0; i < len(records); {
		partition := records[i].Partition
		var spans []string
		for i < len(records) && records[i].Partition == partition {
			first := short(records[i].Value)
			last, err := strconv.Atoi(first)
			for i++; err == nil && i < len(records) && records[i].Partition == partition && string(records[i].Value) == strconv.Itoa(last+1); i++ {
				last++
			}
			switch {
			case err == nil && strconv.Itoa(last) != first:
				spans = append(spans, fmt.Sprintf("%s–%d", first, last))
			default:
				spans = append(spans, first)
			}
		}
		line := strings.Join(spans, ", ")
		if partition > 0 {
			line = fmt.Sprintf("in %d: %s", partition, line)
		}
		text = append(text, line)
	}
	return strings.Join(text, "; ")
}

// short tells a value.
func short(value []byte) string {
	if len(value) > 40 {
		return fmt.Sprintf("(%d bytes)", len(value))
	}
	return string(value)
}

// latest are the newest values of the keys of a compacted topic; tombstones are left out.
func latest(records []*kgo.Record) map[string]string {
	values := map[string]string{}
	for _, r := range records {
		if r.Value == nil {
			delete(values, string(r.Key))
			continue
		}
		values[string(r.Key)] = string(r.Value)
	}
	return values
}
