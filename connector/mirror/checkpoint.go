package mirror

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/connector"
)

// recordedCheckpoint is what Kafka Connect 4.3.1 answers to the validation of a MirrorCheckpointConnector.
//
//go:embed mirrorcheckpoint.json
var recordedCheckpoint []byte

var checkpointKeys = sync.OnceValue(func() *config.Def { return define(recordedCheckpoint) })

// Settings of checkpoints.
const (
	keyCheckpointsReplicas = "checkpoints.topic.replication.factor"
	keyEmitCheckpoints     = "emit.checkpoints.enabled"
	// aboutGroups is the kind of the notes about groups.
	aboutGroups = "group-offsets"
)

// Checkpoints returns MirrorMaker 2's checkpoint connector: its tasks write where the source's consumer groups go on at the
// target, and with sync.group.offsets.enabled set them there. Where MirrorMaker translates out of samples, this does out of the
// offset runs of our source tasks, so exactly.
func Checkpoints() connector.Plugin {
	return connector.Plugin{
		Class:        checkpointClass,
		Aliases:      []string{"MirrorCheckpoint", "MirrorCheckpointConnector"},
		Type:         connector.Source,
		Version:      "4.3.1",
		Keys:         checkpointKeys(),
		Overrides:    []string{"producer"},
		Final:        final,
		Validate:     validateCheckpoints,
		CheckOffsets: checkCheckpointOffsets,
		NewConnector: func() connector.Connector { return &checkpointConnector{first: time.Second} },
		NewTask:      func() connector.Task { return &checkpointTask{first: time.Second} },
	}
}

// validateCheckpoints reports what MirrorCheckpointConfig.validate does, and lists of patterns that cannot be used.
func validateCheckpoints(written map[string]string) []config.Problem {
	problems := notTransactional(written, "MirrorCheckpointConnector")
	add := func(key, message string) {
		problems = append(problems, config.Problem{Key: key, Message: message})
	}
	if written["enabled"] != "false" {
		if written[keyEmitCheckpoints] == "false" {
			add(keyEmitCheckpoints, "MirrorCheckpointConnector can't run with emit.checkpoints.enabled set to false")
		}
		if written[keyEmitSyncs] == "false" {
			add(keyEmitSyncs, "MirrorCheckpointConnector can't run without offset syncs")
		}
	}
	values, wrong := checkpointKeys().Parse(config.Literal(written))
	for _, key := range []string{keyGroups, keyGroupsExclude} {
		if config.HasReference(written[key]) || slices.ContainsFunc(wrong, func(p config.Problem) bool { return p.Key == key }) {
			continue
		}
		if _, err := newPatterns(key, values.List(key)); err != nil {
			add(key, err.Error())
		}
	}
	return problems
}

// checkpointConnector makes the topic and deals the groups out to tasks.
type checkpointConnector struct {
	first time.Duration // pause after a failure
}

// Run plans until ctx ends.
func (c *checkpointConnector) Run(ctx context.Context, cc connector.Context) error {
	s, err := parseLink(checkpointKeys(), cc.Settings)
	if err != nil {
		return err
	}
	p := &groupPlanner{Context: cc, s: s, published: cc.Tasks, notes: newNotebook(cc.Log, cc.Report)}
	if _, emits := period(s, "emit.checkpoints"); !emits || !s.Bool("enabled") {
		p.start()
		if err := p.publish(ctx, nil); err != nil && ctx.Err() == nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	if p.groups, err = openTranslator(ctx, s, cc.Settings, cc.Clients, cc.Log); err != nil {
		return err
	}
	return ignoreEnd(ctx, p.run(ctx, steady{log: cc.Log, warn: newThrottle(time.Minute), first: c.first, trying: p.start}))
}

// groupPlanner is one run of a checkpoint connector.
type groupPlanner struct {
	connector.Context
	s         sourceSettings
	groups    *Translator
	published []map[string]string // the tasks that stand in the config topic
	started   bool
	notes     *notebook
}

func (p *groupPlanner) start() {
	if !p.started {
		p.started = true
		p.Started()
	}
}

// run looks for groups every refresh.groups.interval.seconds.
func (p *groupPlanner) run(ctx context.Context, steady steady) error {
	topic := keptTopic{p.s.policy.CheckpointsTopic(p.s.source), int16(p.s.Int(keyCheckpointsReplicas)), keyCheckpointsReplicas}
	if err := steady.do(ctx, "create the topic of checkpoints", func() error { return topic.ensure(ctx, p.groups.target, p.Log) }); err != nil {
		return err
	}
	every, refreshes := period(p.s, "refresh.groups")
	for ctx.Err() == nil {
		if err := steady.do(ctx, "look for groups", func() error { return p.plan(ctx) }); err != nil {
			return err
		}
		if !refreshes {
			<-ctx.Done()
		} else if sleep(ctx, max(every, time.Second)) != nil {
			break
		}
	}
	return nil
}

// plan deals the groups that there are out to tasks. Groups without offsets for a topic that the settings choose are left out
// until they have some (MirrorCheckpointConnector.findConsumerGroups).
func (p *groupPlanner) plan(ctx context.Context) error {
	names, err := p.groups.Groups(ctx)
	if err != nil {
		return err
	}
	offsets, failed, err := p.groups.offsets(ctx, names)
	if err != nil {
		return err
	}
	before := assignedGroups(p.published)
	known := map[string]bool{}
	for _, task := range before {
		for _, g := range task {
			known[g.topic] = true
		}
	}
	left := map[string]string{}
	var wanted []partition
	var passes error
	for _, g := range names {
		if err := failed[g]; err != nil && classify(err) == passing {
			passes = err
		}
		switch {
		case failed[g] != nil && classify(failed[g]) == identity:
			left[g] = failed[g].Error()
		case len(offsets[g]) == 0 && !(failed[g] != nil && known[g]):
		case strings.Contains(g, ",") || strings.TrimSpace(g) != g:
			left[g] = fmt.Sprintf("group %q is left out: %s is a comma-separated list, and cannot name it", g, keyTaskGroups)
		default:
			wanted = append(wanted, partition{topic: g})
		}
	}
	p.notes.only(ctx, aboutGroups, left)
	p.start()
	err = p.publish(ctx, groupTasks(p.Settings.Written(), assign(before, wanted, max(1, p.MaxTasks)), p.published))
	return cmp.Or(err, passes)
}

// publish hands tasks to the engine unless they stand already.
func (p *groupPlanner) publish(ctx context.Context, tasks []map[string]string) error {
	if sameConfigs(p.published, tasks) {
		return nil
	}
	if err := p.SetTasks(ctx, tasks); err != nil {
		return fmt.Errorf("publish the configurations of %d tasks: %w", len(tasks), err)
	}
	p.published = tasks
	p.Log.InfoContext(ctx, "tasks planned", "tasks", len(tasks))
	return nil
}

// assignedGroups reads the groups of task configurations. They are dealt out like partitions, as topics.
func assignedGroups(configs []map[string]string) [][]partition {
	tasks := make([][]partition, len(configs))
	for i, c := range configs {
		for _, g := range groupsOf(c[keyTaskGroups]) {
			tasks[i] = append(tasks[i], partition{topic: g})
		}
	}
	return tasks
}

// groupsOf reads task.assigned.groups.
func groupsOf(written string) []string {
	var groups []string
	for g := range strings.SplitSeq(written, ",") {
		if g = strings.TrimSpace(g); g != "" {
			groups = append(groups, g)
		}
	}
	return groups
}

// groupTasks writes the configuration of each task (MirrorCheckpointConfig.taskConfigForConsumerGroups). A task with the same groups as
// before keeps their order, so that it need not restart after a take-over from MirrorMaker 2.
func groupTasks(written map[string]string, tasks [][]partition, published []map[string]string) []map[string]string {
	before := assignedGroups(published)
	configs := make([]map[string]string, len(tasks))
	for i, groups := range tasks {
		names := make([]string, len(groups))
		for j, g := range groups {
			names[j] = g.topic
		}
		c := maps.Clone(written)
		c[keyTaskGroups], c[keyTaskIndex], c[keyTaskClass] = strings.Join(names, ","), strconv.Itoa(i), checkpointTaskClass
		if i < len(before) && slices.Equal(slices.SortedFunc(slices.Values(before[i]), partition.compare), groups) {
			c[keyTaskGroups] = published[i][keyTaskGroups]
		}
		configs[i] = c
	}
	return configs
}
