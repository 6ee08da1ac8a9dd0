package mirror

import (
	"context"
	_ "embed"
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// recordedHeartbeat is what Kafka Connect 4.3.1 answers to the validation of a MirrorHeartbeatConnector.
//
//go:embed mirrorheartbeat.json
var recordedHeartbeat []byte

var heartbeatKeys = sync.OnceValue(func() *config.Def { return define(recordedHeartbeat) })

// Settings of heartbeats.
const (
	keyHeartbeatsReplicas = "heartbeats.topic.replication.factor"
	// shortestBeat is the pause for an interval of 0, where MirrorMaker makes none at all.
	shortestBeat = 10 * time.Millisecond
)

// Heartbeats returns MirrorMaker 2's heartbeat connector: one task writes to the topic heartbeats of the target that
// the link is alive. The source connectors of other links copy it on, so that everybody downstream can see which clusters reach them.
func Heartbeats() connector.Plugin {
	return connector.Plugin{
		Class:        heartbeatClass,
		Aliases:      []string{"MirrorHeartbeat", "MirrorHeartbeatConnector"},
		Type:         connector.Source,
		Version:      "4.3.1",
		Keys:         heartbeatKeys(),
		Overrides:    []string{"producer"},
		Final:        final,
		Validate:     validateHeartbeats,
		CheckOffsets: checkHeartbeatOffsets,
		NewConnector: func() connector.Connector { return &heartbeatConnector{first: time.Second} },
		NewTask:      func() connector.Task { return &heartbeatTask{} },
	}
}

func validateHeartbeats(written map[string]string) []config.Problem {
	return notTransactional(written, "MirrorHeartbeatConnector")
}

// notTransactional refuses a connector that is required to write in transactions.
func notTransactional(written map[string]string, name string) []config.Problem {
	const support = "exactly.once.support"
	if !strings.EqualFold(written[support], "required") {
		return nil
	}
	return []config.Problem{{Key: support, Message: name + " does not write in transactions, and need not: its records replace each other. Set " + support + " to requested."}}
}

// heartbeatConnector makes the topic and plans the one task.
type heartbeatConnector struct {
	first time.Duration // pause after a failure
}

// Run plans until ctx ends.
func (c *heartbeatConnector) Run(ctx context.Context, cc connector.Context) error {
	s, err := parseLink(heartbeatKeys(), cc.Settings)
	if err != nil {
		return err
	}
	var tasks []map[string]string
	var started sync.Once
	if _, emits := period(s, "emit.heartbeats"); emits {
		target, err := openCluster(ctx, targetSide(connector.TargetAdmin, s), s.Duration("admin.timeout.ms"), cc.Settings, cc.Clients)
		if err != nil {
			return err
		}
		topic := keptTopic{heartbeatsTopic, int16(s.Int(keyHeartbeatsReplicas)), keyHeartbeatsReplicas}
		steady := steady{log: cc.Log, warn: newThrottle(time.Minute), first: c.first, trying: func() { started.Do(cc.Started) }}
		if err := steady.do(ctx, "create the topic of heartbeats", func() error { return topic.ensure(ctx, target, cc.Log) }); err != nil {
			return err
		}
		task := maps.Clone(cc.Settings.Written())
		task[keyTaskClass] = heartbeatTaskClass
		tasks = append(tasks, task)
	}
	started.Do(cc.Started)
	if ctx.Err() == nil && !sameConfigs(cc.Tasks, tasks) {
		if err := cc.SetTasks(ctx, tasks); err != nil && ctx.Err() == nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// period reads NAME.interval.seconds; it is false unless NAME.enabled.
func period(s sourceSettings, name string) (time.Duration, bool) {
	seconds := s.Int64(name + ".interval.seconds")
	return time.Duration(min(seconds, math.MaxInt32)) * time.Second, s.Bool(name+".enabled") && seconds >= 0
}

// heartbeatTask emits heartbeats.
type heartbeatTask struct{}

// Run emits until ctx ends.
func (*heartbeatTask) Run(ctx context.Context, tc connector.TaskContext) error {
	s, err := parseLink(heartbeatKeys(), tc.Settings)
	if err != nil {
		return err
	}
	target, err := openCluster(ctx, targetSide(connector.TargetProducer, s), requestTimeout, tc.Settings, tc.Clients, toPartitions())
	if err != nil {
		return err
	}
	every, _ := period(s, "emit.heartbeats")
	b := &beating{TaskContext: tc, target: target, link: Heartbeat{Source: s.source, Target: s.target}, warn: newThrottle(time.Minute)}
	for {
		if err := b.beat(ctx); err != nil {
			return ignoreEnd(ctx, err)
		}
		if sleep(ctx, max(every, shortestBeat)) != nil {
			return nil
		}
	}
}

// beating is one run of a heartbeat task.
type beating struct {
	connector.TaskContext
	target  *cluster
	link    Heartbeat
	warn    *throttle
	started bool
	saved   bool
}

// beat writes one heartbeat. What passes is told and left for the next one.
func (b *beating) beat(ctx context.Context) error {
	now := time.Now()
	b.link.Timestamp = now.UnixMilli()
	key, value, err := b.link.Encode()
	if err != nil {
		return &finalError{err}
	}
	err = b.target.produce(ctx, "write a heartbeat", []*kgo.Record{{Topic: heartbeatsTopic, Key: key, Value: value, Timestamp: now}})
	switch {
	case err != nil && classify(err) != passing:
		return err
	case err != nil:
		if ctx.Err() == nil && b.warn.allow("beat") {
			b.Log.WarnContext(ctx, "heartbeat not written", "err", err)
		}
		return nil
	case !b.started:
		b.started = true
		b.Started()
	}
	if b.Wrote != nil {
		b.Wrote(heartbeatsTopic)
	}
	if !b.saved {
		// It is never read. Whoever looks at the connector's offsets, or takes over from us, finds what MirrorMaker leaves.
		err := b.Offsets.Save(ctx, []connector.Offset{{Partition: heartbeatOffsetKey(b.link), Offset: offsetValue(0)}})
		b.saved = err == nil
		if err != nil && !errors.Is(err, context.Canceled) && b.warn.allow("save") {
			b.Log.WarnContext(ctx, "offset of the heartbeats not saved", "err", err)
		}
	}
	return nil
}

// heartbeatOffsetKey is the key under which MirrorMaker stores the offset of heartbeats, in the order in which Java's
// HashMap has its parts.
func heartbeatOffsetKey(h Heartbeat) []byte {
	b := appendJavaString([]byte(`{"sourceClusterAlias":`), h.Source)
	b = appendJavaString(append(b, `,"targetClusterAlias":`...), h.Target)
	return append(b, '}')
}
