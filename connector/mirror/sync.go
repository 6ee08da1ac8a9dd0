package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/connector"
)

// Kinds of notes.
const (
	aboutSettings = "topic-settings"
	aboutACLs     = "topic-acls"
	aboutDeleted  = "topic-deleted"
	aboutTarget   = "target-topic"
)

// syncer carries settings and ACLs of topics over to their copies. It works beside the planner, so that clusters with
// many of them do not hold up a new topic.
type syncer struct {
	connector.Context
	s              sourceSettings
	properties     propertyFilter
	source, target *cluster
	warn           *throttle
	notes          *notebook
	refused        *refusals
	// layout is what the planner has found out last.
	layout    func() layout
	second    time.Duration // shorter in tests
	acls      *ownACLs      // nil until they have been loaded
	unsecured bool          // told that the source has no authorizer
}

// layout is what a planner knows of the clusters. It is not modified.
type layout struct {
	copied             map[string]int32 // the topics of the source that the target has copies of
	filter             TopicFilter
	sourceID, targetID string // of the clusters
}

// Run syncs until ctx ends. An error is one of the configuration.
func (y *syncer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, do := range map[string]func(context.Context) error{"sync.topic.configs": y.syncSettings, "sync.topic.acls": y.syncACLs} {
		if every, repeats := repetition(y.s, name); repeats {
			g.Go(func() error { return y.repeat(ctx, name, every/time.Second*y.second, do) })
		}
	}
	return g.Wait()
}

// repetition says how often NAME.interval.seconds wants something to be done. As in MirrorMaker a negative
// interval is as good as NAME.enabled=false. Of 0, with which MirrorMaker fails to start, it makes a second.
func repetition(s sourceSettings, name string) (time.Duration, bool) {
	seconds := s.Int64(name + ".interval.seconds")
	return time.Duration(min(max(seconds, 1), math.MaxInt32)) * time.Second, s.Bool(name+".enabled") && seconds >= 0
}

// repeat does something now and every so often. What passes is tried again soon; what the clusters
// refuse is noted, and tried at the next turn.
func (y *syncer) repeat(ctx context.Context, name string, every time.Duration, do func(context.Context) error) error {
	for failures := 0; ; {
		err := do(ctx)
		var final *finalError
		wait := every
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &final):
			return err
		case err == nil:
			failures = 0
			if y.notes.over(name) {
				y.Log.InfoContext(ctx, name+" works again")
			}
		case classify(err) == passing:
			failures++
			wait = min(every, backoff(failures, time.Second, time.Minute))
			if y.warn.allow(name) {
				y.Log.WarnContext(ctx, name+" is tried again", "err", err)
			}
		default:
			y.refusedSync(ctx, name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// refusedSync notes that a sync cannot be done.
func (y *syncer) refusedSync(ctx context.Context, name string, err error) {
	about, what, needs := aboutSettings, "settings of topics are not synced", "DescribeConfigs on the topics of the source, AlterConfigs on those of the target"
	if name == "sync.topic.acls" {
		about, what, needs = aboutACLs, "ACLs of topics are not synced", "Describe on the source cluster, Alter on the target cluster"
	}
	if classify(err) == identity {
		err = fmt.Errorf("%w. It needs %s; %s.enabled=false says that it is not wanted", err, needs, name)
	}
	y.notes.note(ctx, name, connector.Note{About: about, Text: fmt.Sprintf("%s: %v", what, err), Degraded: y.asked(name)})
}

// asked says whether a sync is wanted by name. MirrorMaker's default wants all: of those that nobody has
// asked for it is enough to say that they cannot be done.
func (y *syncer) asked(name string) bool { return y.s.written[name+".enabled"] == "true" }

func (y *syncer) remote(topic string) string { return y.s.policy.FormatRemoteTopic(y.s.source, topic) }

// some lists a few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
