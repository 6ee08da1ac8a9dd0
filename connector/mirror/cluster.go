package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
	"barnabas/connector"
)

// cluster is one end of the copy as one of its clients sees it.
type cluster struct {
	side
	client  *kgo.Client
	timeout time.Duration // of one request with all its retries
	dials   *dials
	id      string // of the cluster; empty: not asked for
	// refusal completes an error by whom the cluster refused.
	refusal func(doing string, err error) error
}

// openCluster opens a client of role. It fails only if the settings are wrong;
// nothing is connected yet.
func openCluster(ctx context.Context, s side, timeout time.Duration, settings config.Settings, clients connector.Clients, opts ...kgo.Opt) (*cluster, error) {
	c := &cluster{side: s, timeout: timeout, dials: &dials{}}
	c.refusal = func(doing string, err error) error { return s.refusedError(doing, err, settings, clients.Principal) }
	client, err := clients.Open(ctx, s.role, append(opts, kgo.WithHooks(c.dials))...)
	if err != nil {
		return nil, fmt.Errorf("client of the %s cluster %q: %w", s.cluster, s.alias, err)
	}
	c.client = client
	return c, nil
}

// wrong completes err with what was being done and where. If the time ran out
// it names what kept the client from connecting, and if the cluster refused
// us, whom.
func (c *cluster) wrong(doing string, err error) error {
	err = c.dials.refusal(err)
	if errors.Is(err, context.DeadlineExceeded) {
		if last := c.dials.lastError(); last != nil {
			err = fmt.Errorf("%w (no connection: %w)", err, last)
		}
	}
	if classify(err) == identity {
		return c.refusal(doing, err)
	}
	return fmt.Errorf("%s on the %s cluster %q: %w", doing, c.side.cluster, c.alias, err)
}

// view is what metadata says of a cluster.
type view struct {
	clusterID string
	brokers   int
	// topics has the number of partitions of each topic; refused those that we
	// may not see, unknown those asked for by name that are not there.
	topics  map[string]int32
	refused map[string]error
	unknown map[string]bool
}

// metadata looks at the topics called names, or at all that can be seen if
// names is nil. It never creates one.
func (c *cluster) metadata(ctx context.Context, names []string) (view, error) {
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	if names != nil {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return view{}, c.wrong("read topics", err)
	}
	v := view{brokers: len(resp.Brokers), topics: map[string]int32{}, refused: map[string]error{}, unknown: map[string]bool{}}
	if resp.ClusterID != nil {
		v.clusterID = *resp.ClusterID
	}
	for _, t := range resp.Topics {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case t.Topic == nil:
		case err == nil && len(t.Partitions) > 0:
			// Partitions have the numbers 0 to n-1; one without a leader counts.
			v.topics[*t.Topic] = int32(len(t.Partitions))
		case classify(err) == identity:
			v.refused[*t.Topic] = err
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			v.unknown[*t.Topic] = true
		}
	}
	return v, nil
}

// setting is one setting of a topic as its cluster describes it.
type setting struct {
	name      string
	value     *string
	source    kmsg.ConfigSource
	readOnly  bool
	sensitive bool
}

// batchSize bounds the topics in one request, so that no request grows beyond
// what a broker takes and one slow answer does not hold up all.
const batchSize = 200

// settings describes the settings of topics. Those that are not there are missing.
func (c *cluster) settings(ctx context.Context, topics []string) (map[string][]setting, error) {
	described, failed, err := c.settingsOfEach(ctx, topics)
	if err != nil {
		return nil, err
	}
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		return nil, c.wrong("describe the settings of "+topic, failed[topic])
	}
	return described, nil
}

// settingsOfEach is settings, with an error for each topic whose settings could not be described.
func (c *cluster) settingsOfEach(ctx context.Context, topics []string) (described map[string][]setting, failed map[string]error, err error) {
	described, failed = map[string][]setting{}, map[string]error{}
	for batch := range slices.Chunk(topics, batchSize) {
		req := kmsg.NewPtrDescribeConfigsRequest()
		for _, t := range batch {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, t
			req.Resources = append(req.Resources, r)
		}
		resp, err := request[*kmsg.DescribeConfigsResponse](ctx, c, req)
		if err != nil {
			return nil, nil, c.wrong("describe the settings of topics", err)
		}
		for _, r := range resp.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); errors.Is(err, kerr.UnknownTopicOrPartition) {
				continue // deleted meanwhile
			} else if err != nil {
				failed[r.ResourceName] = withText(err, r.ErrorMessage)
				continue
			}
			list := []setting{}
			for _, s := range r.Configs {
				list = append(list, setting{name: s.Name, value: s.Value, source: s.Source, readOnly: s.ReadOnly, sensitive: s.IsSensitive})
			}
			described[r.ResourceName] = list
		}
	}
	return described, failed, nil
}

// request sends one request with the cluster's deadline.
func request[R kmsg.Response](ctx context.Context, c *cluster, req kmsg.Request) (R, error) {
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	var none R
	resp, err := c.client.Request(ctx, req)
	if err != nil {
		return none, err
	}
	typed, ok := resp.(R)
	if !ok {
		return none, fmt.Errorf("answer of type %T", resp)
	}
	return typed, nil
}

// withText adds the broker's own words.
func withText(err error, text *string) error {
	if text == nil || *text == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, *text)
}

// newTopic is a topic to create.
type newTopic struct {
	name       string
	partitions int32
	settings   map[string]string
}

// create creates topics and returns the error of each that could not be. One
// that is there already is fine.
func (c *cluster) create(ctx context.Context, topics []newTopic, replicas int16) (map[string]error, error) {
	return c.createAs(ctx, topics, replicas, kmsg.NewCreateTopicsRequest())
}

// wouldCreate is create without doing it.
func (c *cluster) wouldCreate(ctx context.Context, topics []newTopic, replicas int16) (map[string]error, error) {
	req := kmsg.NewCreateTopicsRequest()
	req.ValidateOnly = true
	return c.createAs(ctx, topics, replicas, req)
}

func (c *cluster) createAs(ctx context.Context, topics []newTopic, replicas int16, like kmsg.CreateTopicsRequest) (map[string]error, error) {
	failed := map[string]error{}
	for batch := range slices.Chunk(topics, batchSize) {
		one := like
		req := &one
		req.TimeoutMillis = int32(c.timeout.Milliseconds())
		for _, t := range batch {
			r := kmsg.NewCreateTopicsRequestTopic()
			r.Topic, r.NumPartitions, r.ReplicationFactor = t.name, t.partitions, replicas
			for _, key := range slices.Sorted(maps.Keys(t.settings)) {
				s := kmsg.NewCreateTopicsRequestTopicConfig()
				s.Name, s.Value = key, kmsg.StringPtr(t.settings[key])
				r.Configs = append(r.Configs, s)
			}
			req.Topics = append(req.Topics, r)
		}
		resp, err := request[*kmsg.CreateTopicsResponse](ctx, c, req)
		if err != nil {
			return failed, c.wrong("create topics", err)
		}
		for _, t := range resp.Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				failed[t.Topic] = withText(err, t.ErrorMessage)
			}
		}
	}
	return failed, nil
}

// grow raises the number of partitions of topics and returns the error of each
// where that failed. One that has as many already is fine.
func (c *cluster) grow(ctx context.Context, topics map[string]int32) (map[string]error, error) {
	failed := map[string]error{}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(topics)), batchSize) {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = int32(c.timeout.Milliseconds())
		for _, name := range batch {
			r := kmsg.NewCreatePartitionsRequestTopic()
			r.Topic, r.Count = name, topics[name]
			req.Topics = append(req.Topics, r)
		}
		resp, err := request[*kmsg.CreatePartitionsResponse](ctx, c, req)
		if err != nil {
			return failed, c.wrong("add partitions", err)
		}
		for _, t := range resp.Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.InvalidPartitions) {
				failed[t.Topic] = withText(err, t.ErrorMessage)
			}
		}
	}
	return failed, nil
}

// alter changes settings of topics, setting by setting (KIP-339), and returns
// the error of each topic where that failed.
func (c *cluster) alter(ctx context.Context, topics map[string][]change) (map[string]error, error) {
	failed := map[string]error{}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(topics)), batchSize) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for _, name := range batch {
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
			for _, change := range topics[name] {
				s := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				s.Name, s.Op, s.Value = change.name, kmsg.IncrementalAlterConfigOpSet, change.value
				if change.value == nil {
					s.Op = kmsg.IncrementalAlterConfigOpDelete
				}
				r.Configs = append(r.Configs, s)
			}
			req.Resources = append(req.Resources, r)
		}
		resp, err := request[*kmsg.IncrementalAlterConfigsResponse](ctx, c, req)
		if err != nil {
			return failed, c.wrong("alter the settings of topics", err)
		}
		for _, r := range resp.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				failed[r.ResourceName] = withText(err, r.ErrorMessage)
			}
		}
	}
	return failed, nil
}

// Timestamps that ListOffsets knows by number.
const (
	atEnd   = -1
	atStart = -2
)

// offsets asks the leaders of partitions for an offset: atStart, atEnd, or the first one at a time. Each is asked once: a
// partition of a topic that is being made, or that has no leader just now, must not hold up the others. What
// is wrong with single partitions, or with the broker that leads them, is in the second map; the error is
// that nothing could be learned at all.
func (c *cluster) offsets(ctx context.Context, partitions []partition, timestamp int64, committed bool) (map[partition]int64, map[partition]error, error) {
	names := make([]string, len(partitions))
	for i, p := range partitions {
		names[i] = p.topic
	}
	slices.Sort(names)
	topics, refused, err := c.describeEach(ctx, slices.Compact(names))
	if err != nil {
		return nil, nil, err
	}
	o := offsetsAnswer{found: map[partition]int64{}, failed: map[partition]error{}}
	byLeader := map[int32][]partition{}
	for _, p := range partitions {
		switch t, ok := topics[p.topic]; {
		case refused[p.topic] != nil:
			o.failed[p] = refused[p.topic]
		case !ok || p.id >= t.partitions:
			o.failed[p] = kerr.UnknownTopicOrPartition
		case t.leaders[p.id] < 0:
			o.failed[p] = kerr.LeaderNotAvailable
		default:
			byLeader[t.leaders[p.id]] = append(byLeader[t.leaders[p.id]], p)
		}
	}
	var g errgroup.Group
	for leader, asked := range byLeader {
		g.Go(func() error {
			resp, err := c.askOffsets(ctx, leader, asked, timestamp, committed)
			return o.take(c, asked, resp, err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if len(o.found) == 0 && o.none != nil {
		return nil, nil, o.none
	}
	return o.found, o.failed, nil
}

// askOffsets asks one broker.
func (c *cluster) askOffsets(ctx context.Context, leader int32, partitions []partition, timestamp int64, committed bool) (*kmsg.ListOffsetsResponse, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	if committed {
		req.IsolationLevel = 1
	}
	index := map[string]int{}
	for _, p := range partitions {
		i, ok := index[p.topic]
		if !ok {
			i = len(req.Topics)
			index[p.topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = p.topic
			req.Topics = append(req.Topics, t)
		}
		r := kmsg.NewListOffsetsRequestTopicPartition()
		r.Partition, r.Timestamp, r.CurrentLeaderEpoch = p.id, timestamp, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, r)
	}
	ctx, cancel := c.dials.context(ctx, c.timeout)
	defer cancel()
	answer, err := c.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*kmsg.ListOffsetsResponse)
	if !ok {
		return nil, fmt.Errorf("answer of type %T", answer)
	}
	return resp, nil
}

// offsetsAnswer collects what the brokers say.
type offsetsAnswer struct {
	mu     sync.Mutex
	found  map[partition]int64
	failed map[partition]error
	none   error // why a broker has not answered
}

func (o *offsetsAnswer) take(c *cluster, asked []partition, resp *kmsg.ListOffsetsResponse, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.none = c.wrong("ask for offsets", err)
		if classify(err) != passing {
			return o.none
		}
		for _, p := range asked {
			o.failed[p] = err
		}
		return nil
	}
	for _, t := range resp.Topics {
		for _, r := range t.Partitions {
			p := partition{t.Topic, r.Partition}
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				o.failed[p] = err
			} else {
				o.found[p] = r.Offset
			}
		}
	}
	return nil
}
