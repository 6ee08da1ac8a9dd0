package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/connector"
	"barnabas/connector/creation"
)

// Bounds of the connector's own making.
const (
	// watchInterval is how often the source is asked for its topics, so that a
	// new topic or partition is copied within a second or so. MirrorMaker waits for
	// refresh.topics.interval.seconds.
	watchInterval = time.Second
	// watchedPerSecond stretches that interval where the answer is large.
	watchedPerSecond = 20_000 // partitions
	longestWatch     = time.Minute
	// longestWait bounds the pause after errors.
	longestWait = 15 * time.Second
	// brokerPatience is how long a target may have fewer brokers than
	// replication.factor asks for: at the start of a cluster they register one by one.
	brokerPatience = 10 * time.Second
)

// sourceConnector plans the copying: which topics, onto which, by which task.
type sourceConnector struct {
	// every shortens the intervals in tests.
	every time.Duration
}

// Run plans until ctx ends.
func (c *sourceConnector) Run(ctx context.Context, cc connector.Context) error {
	s, err := parseSource(cc.Settings)
	if err != nil {
		return err
	}
	p := &planner{
		Context: cc, s: s, watch: watchInterval, warn: newThrottle(time.Minute), published: cc.Tasks,
		notes: newNotebook(cc.Log, cc.Report), planned: make(chan struct{}), second: time.Second,
	}
	if creation.Written(cc.Settings) {
		cc.Log.InfoContext(ctx, "topic.creation.* change nothing: copies are made like their topics at the source, also those that RegexRouter renames")
	}
	p.hot = newHot(assigned(cc.Tasks))
	p.refused, p.wider, p.untaken = newRefusals(p.notes), map[string]bool{}, map[string]bool{}
	p.deleted = deletions{marks: cc.Settings[keyDeletionPolicy].Written == "mark", at: map[string]time.Time{}}
	if c.every > 0 {
		p.watch, p.second = c.every, c.every
	}
	if !s.Bool("enabled") {
		cc.Started()
		if err := p.publish(ctx, nil); err != nil && ctx.Err() == nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	if err := p.open(ctx); err != nil {
		return err
	}
	g, working := errgroup.WithContext(ctx)
	g.Go(func() error { return p.run(working) })
	g.Go(func() error {
		select {
		case <-working.Done():
			return nil
		case <-p.planned:
			return p.syncer().Run(working)
		}
	})
	err = g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// planner is one run of a source connector.
type planner struct {
	connector.Context
	s              sourceSettings
	topics         TopicFilter
	properties     propertyFilter
	source, target *cluster
	watch          time.Duration
	second         time.Duration // of the intervals of syncs
	warn           *throttle
	notes          *notebook
	refused        *refusals

	layout  atomic.Pointer[layout]
	planned chan struct{} // closed once there is a layout

	started   bool
	published []map[string]string // the tasks that stand in the config topic
	wanted    map[string]int32    // the source's topics that are to be copied, with their partitions
	copied    map[string]int32    // those that the target has
	// pending is set while the target does not have all that is wanted, or the
	// tasks could not be published.
	pending    bool
	incomplete int       // how often in a row the target did not have all
	retryAt    time.Time // when to try again what is pending
	fewSince   time.Time // since when the target has too few brokers
	nothing    bool      // told that nothing is to be copied
	overlooked bool      // told that internal topics were left out
	kept       bool      // the topics that tasks keep books in are there, or cannot be
	syncs      bool      // the topic of offset-syncs likewise
	deleted    deletions
	untaken    map[string]bool // topics of the target about which there is a note
	wider      map[string]bool // topics whose copy has more partitions, which has been told
	loops      loops
	hot        hot
}

// open makes the filters and clients. What fails here is the configuration.
func (p *planner) open(ctx context.Context) error {
	include, err1 := newPatterns(keyTopics, p.s.List(keyTopics))
	exclude, err2 := newPatterns(keyTopicsExclude, p.s.List(keyTopicsExclude))
	properties, err3 := newPatterns(keyPropertiesExclude, p.s.List(keyPropertiesExclude))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	p.topics = TopicFilter{
		include: include, exclude: exclude, policy: p.s.policy, target: p.s.target,
		heartbeats: p.s.Bool("heartbeats.replication.enabled"),
	}
	p.properties = propertyFilter{exclude: properties, sourceDefaults: p.Settings[keyDefaultsFrom].Written == "source"}
	timeout := p.s.Duration("admin.timeout.ms")
	var err error
	p.source, err = openCluster(ctx, sourceSide(connector.SourceAdmin, p.s), timeout, p.Settings, p.Clients)
	if err != nil {
		return err
	}
	p.target, err = openCluster(ctx, targetSide(connector.TargetAdmin, p.s), timeout, p.Settings, p.Clients)
	return err
}

func sourceSide(role connector.Role, s sourceSettings) side {
	layers := []string{"source.cluster.", "admin.", "source.admin."}
	switch role {
	case connector.SourceConsumer:
		layers = append([]string{"source.cluster."}, consumerLayers...)
	case connector.SourceProducer:
		layers = []string{"source.cluster.", "producer.", "source.producer."}
	}
	return side{cluster: "source", alias: s.source, role: role, layers: layers}
}

func targetSide(role connector.Role, s sourceSettings) side {
	layers := []string{"target.cluster.", "admin.", "target.admin.", "admin.override."}
	switch role {
	case connector.TargetProducer:
		layers = producerLayers
	case connector.TargetConsumer:
		layers = []string{"target.cluster.", "consumer.", "target.consumer."}
	}
	return side{cluster: "target", alias: s.target, role: role, layers: layers}
}

// run looks at the clusters again and again. What passes is tried again and
// told once a minute; anything else ends the connector.
func (p *planner) run(ctx context.Context) error {
	watch := time.NewTimer(0)
	defer watch.Stop()
	refresh, stopRefresh := p.interval("refresh.topics")
	defer stopRefresh()
	weigh := time.NewTicker(p.second * time.Duration(hotInterval/time.Second))
	defer weigh.Stop()

	full := true
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-refresh:
			full = true
			continue
		case <-weigh.C:
			if p.weigh(ctx) {
				watch.Reset(0)
			}
			continue
		case <-watch.C:
		}
		err := p.refresh(ctx, full)
		if err == nil {
			full = false
		}
		switch what := classify(err); {
		case err == nil:
			if failures > 0 {
				p.Log.InfoContext(ctx, "clusters answer again", "attempts", failures)
			}
			failures = 0
			watch.Reset(p.nextWatch())
		case what == identity || what == fatal:
			return err
		default:
			failures++
			p.start() // it is up, and trying
			if p.warn.allow("clusters") {
				p.Log.WarnContext(ctx, "mirror waits for its clusters", "err", err)
			}
			watch.Reset(backoff(failures, p.watch, longestWait))
		}
	}
}

// interval ticks at NAME.interval.seconds if NAME.enabled.
func (p *planner) interval(name string) (<-chan time.Time, func()) {
	every, repeats := repetition(p.s, name)
	if !repeats {
		return nil, func() {}
	}
	t := time.NewTicker(every)
	return t.C, t.Stop
}

// syncer makes what carries over settings and ACLs.
func (p *planner) syncer() *syncer {
	return &syncer{
		Context: p.Context, s: p.s, properties: p.properties, source: p.source, target: p.target, warn: p.warn, notes: p.notes, refused: p.refused,
		layout: func() layout { return *p.layout.Load() }, second: p.second,
	}
}

// nextWatch is when to look at the source again. Where MirrorMaker would not
// look at all (refresh.topics.enabled=false), this does so only for what is pending.
func (p *planner) nextWatch() time.Duration {
	if _, repeats := repetition(p.s, "refresh.topics"); !repeats && !p.pending {
		return 24 * time.Hour
	}
	partitions := 0
	for _, n := range p.wanted {
		partitions += int(n)
	}
	return min(p.watch*time.Duration(1+partitions/watchedPerSecond), longestWatch)
}

// refresh makes the target and the tasks fit the source's topics. Unless full
// it looks at the target only if the source has changed or something is pending.
func (p *planner) refresh(ctx context.Context, full bool) error {
	seen, err := p.source.metadata(ctx, nil)
	if err != nil {
		return err
	}
	p.start()
	wanted, err := p.choose(seen)
	if err != nil {
		return err
	}
	p.cutLoops(ctx, seen, wanted)
	if full && len(wanted) == 0 && len(p.loops.found) == 0 {
		if err := p.explainNothing(ctx); err != nil {
			return err
		}
	}
	if full {
		if err := p.forgetCopies(ctx); err != nil {
			return err
		}
	}
	if !full && p.wanted != nil && maps.Equal(wanted, p.wanted) && !p.loops.changed && !p.hot.changed && (!p.pending || time.Now().Before(p.retryAt)) {
		return nil
	}
	if err := p.watchDeletions(ctx, seen, p.before()); err != nil {
		return err
	}
	if p.wanted != nil && !maps.Equal(wanted, p.wanted) {
		p.Log.InfoContext(ctx, "topics of the source have changed", "topics", len(wanted), "before", len(p.wanted))
	}
	p.wanted, p.pending = wanted, true
	if err := p.makeBooks(ctx); err != nil {
		return err
	}
	target, err := p.fitTarget(ctx, wanted)
	if err != nil {
		return err
	}
	there := target.topics
	p.copied = map[string]int32{}
	complete := true
	for topic, n := range wanted {
		if have, ok := there[p.remote(topic)]; ok {
			p.copied[topic] = n
			complete = complete && have >= n
		} else {
			complete = false
		}
	}
	if first := p.layout.Swap(&layout{copied: p.copied, filter: p.topics, sourceID: seen.clusterID, targetID: target.clusterID}); first == nil {
		close(p.planned)
	}
	tasks := assignHot(assigned(p.published), ready(wanted, there, p.remote), max(1, p.MaxTasks), p.hot.found)
	configs := taskConfigs(p.Settings.Written(), tasks, p.published)
	if err := errors.Join(p.markLoops(ctx, configs), p.publish(ctx, configs)); err != nil {
		return err
	}
	p.hot.changed = false
	p.makeSyncs(ctx) // once the tasks have been told to begin
	p.pending = !complete
	p.incomplete++
	if complete {
		p.incomplete = 0
	}
	p.retryAt = time.Now().Add(backoff(p.incomplete, p.watch, longestWait))
	return nil
}

// before are the topics that the tasks have copied up to now.
func (p *planner) before() map[string]bool {
	topics := map[string]bool{}
	for topic := range p.wanted {
		topics[topic] = true
	}
	if p.wanted == nil { // a former run has planned
		for _, task := range assigned(p.published) {
			for _, part := range task {
				topics[part.topic] = true
			}
		}
	}
	return topics
}

func (p *planner) start() {
	if !p.started {
		p.started = true
		p.Started()
	}
}

func (p *planner) remote(topic string) string { return p.s.policy.FormatRemoteTopic(p.s.source, topic) }

// choose picks the topics to copy.
func (p *planner) choose(seen view) (map[string]int32, error) {
	p.topics.reserved = nil
	if seen.clusterID != "" && seen.clusterID == p.Internal.ClusterID {
		p.topics.reserved = map[string]bool{}
		for _, t := range p.Internal.Topics {
			p.topics.reserved[t] = true
		}
	}
	wanted := map[string]int32{}
	for topic, partitions := range seen.topics {
		copies, err := p.topics.Copies(topic)
		if err != nil {
			return nil, &finalError{err}
		}
		if copies {
			wanted[topic] = partitions
		}
	}
	p.cutCollisions(wanted)
	return wanted, nil
}

// topicName is what Kafka takes for a topic's name (Topic.validate), but for "." and "..".
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// cutCollisions leaves out topics whose copy has, by RegexRouter, the name of another topic's copy, or one that no topic can have:
// the offsets of a copy are those of one source. Of topics with one name the first in order is copied.
func (p *planner) cutCollisions(wanted map[string]int32) {
	if p.s.policy.chain == nil {
		return
	}
	taken, found := map[string]string{}, map[string]string{}
	for _, topic := range slices.Sorted(maps.Keys(wanted)) {
		name := p.remote(topic)
		switch first, ok := taken[name]; {
		case !topicName.MatchString(name) || name == "." || name == "..":
			found[topic] = fmt.Sprintf("topic %s is left out: transforms name its copy %q, which cannot be a topic's name", topic, name)
		case p.s.policy.IsInternalTopic(name):
			found[topic] = fmt.Sprintf("topic %s is left out: transforms name its copy %s, which is an internal topic's name", topic, name)
		case ok:
			found[topic] = fmt.Sprintf("topic %s is left out: transforms name its copy %s, as that of %s", topic, name, first)
		default:
			taken[name] = topic
			continue
		}
		delete(wanted, topic)
	}
	p.notes.only(context.Background(), "topics that transforms name alike", found)
}

// plainName is a pattern that can only be a topic's name.
func plainName(pattern string) bool {
	return pattern != "" && !strings.ContainsAny(pattern, `\^$*+?()[]{}|`)
}

// explainNothing says why no topic is copied. Topics that the principal may not
// describe are missing in the list of all topics; asked for by name, the cluster says so.
func (p *planner) explainNothing(ctx context.Context) error {
	var names []string
	for _, pattern := range p.s.List(keyTopics) {
		if plainName(pattern) {
			names = append(names, pattern)
		}
	}
	if len(names) > 0 {
		named, err := p.source.metadata(ctx, names[:min(len(names), batchSize)])
		if err != nil {
			return err
		}
		for _, topic := range slices.Sorted(maps.Keys(named.refused)) {
			return p.source.refusal("describe topic "+topic, named.refused[topic])
		}
	}
	if !p.nothing {
		p.nothing = true
		p.Log.WarnContext(ctx, "no topic of the source matches, or its principal may not see them",
			"source", p.s.source, "topics", strings.Join(p.s.List(keyTopics), ","), "principal", p.Clients.Principal(connector.SourceAdmin))
	}
	return nil
}

// publish hands tasks to the engine unless they stand already.
func (p *planner) publish(ctx context.Context, tasks []map[string]string) error {
	if sameConfigs(p.published, tasks) {
		return nil
	}
	if err := p.SetTasks(ctx, tasks); err != nil {
		return fmt.Errorf("publish the configurations of %d tasks: %w", len(tasks), err)
	}
	p.published = tasks
	p.Log.InfoContext(ctx, "tasks planned", "tasks", len(tasks), "topics", len(p.copied))
	return nil
}

// backoff doubles from first to longest, with a jitter of 20 % so that the
// tasks of a cluster do not come back all at once.
func backoff(failures int, first, longest time.Duration) time.Duration {
	d := min(first, longest)
	for range min(failures-1, 30) {
		d = min(2*d, longest)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
