package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/offsetrun"
)

// FailoverOptions says what PlanFailover looks at.
type FailoverOptions struct {
	// Settings are those of the link's source connector, with the groups' of its checkpoint connector if there is one.
	Settings config.Settings
	Clients  connector.Clients
	Log      *slog.Logger
	// MaxLag is how many records a partition's copy may be behind.
	MaxLag int64
	// Watch is how long to watch whether the logs of the source grow.
	Watch time.Duration
	// Recent is how long ago an idempotent producer may have written to count as one that still writes.
	Recent time.Duration
	// Internal names topics that are never copied.
	Internal connector.Internal
	// States are those of the link's connectors; nil: not known.
	States []ConnectorState
	// Live is what its tasks say of their progress. It is newer than their books, so more counts as copied.
	Live []connector.PartitionProgress
}

// ConnectorState is whether a connector of the link does its work.
type ConnectorState struct {
	Name  string `json:"name"`
	State string `json:"state"` // RUNNING, or what Kafka Connect or rest.Replication calls it
	Tasks int    `json:"tasks"`
	// Reason says why it is not RUNNING.
	Reason string `json:"reason,omitempty"`
}

// Verdict is what a check comes to.
type Verdict string

// The verdicts, the best first.
const (
	OK Verdict = "ok"
	// Skipped does not apply to how the plan is made, and counts nothing.
	Skipped Verdict = "skipped"
	// Todo is what belongs to the failover itself: producers and consumers to be stopped, rights to be given, or a
	// moment to wait.
	Todo Verdict = "todo"
	// Unclear could not be found out.
	Unclear Verdict = "unknown"
	// Failed is a precondition that is not met.
	Failed Verdict = "failed"
)

var verdictOrder = map[Verdict]int{OK: 0, Skipped: 0, Todo: 1, Unclear: 2, Failed: 3}

// The names of checks.
const (
	CheckConnectors      = "connectors"
	CheckTopics          = "topics"
	CheckTargetHealth    = "target-health"
	CheckLag             = "lag"
	CheckLoss            = "loss"
	CheckProducers       = "producers"
	CheckSourceConsumers = "source-consumers"
	CheckTargetConsumers = "target-consumers"
	CheckGroups          = "groups"
	CheckGroupOffsets    = "group-offsets"
	CheckSettings        = "topic-settings"
	CheckACLs            = "topic-acls"
	CheckProducerRights  = "other-acls"
)

// checkOrder is that of a plan.
var checkOrder = []string{
	CheckConnectors, CheckTopics, CheckTargetHealth, CheckLag, CheckLoss, CheckProducers, CheckSourceConsumers, CheckTargetConsumers,
	CheckGroups, CheckGroupOffsets, CheckSettings, CheckACLs, CheckProducerRights,
}

// Check is one precondition with its verdict.
type Check struct {
	Name    string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	// Details are the first of what was found, the worst first; More counts those left out.
	Details []string `json:"details,omitempty"`
	More    int      `json:"more,omitempty"`
}

// maxDetails bounds the details of a check.
const maxDetails = 20

// TopicLoss is what a failover would lose of a topic if it happened now.
type TopicLoss struct {
	Topic string `json:"topic"`
	// Records counts the offsets that the source has and the copy has not, as Kafka counts them: with the markers of
	// transactions, and what compaction has left no record of.
	Records    int64 `json:"records"`
	Partitions int   `json:"partitions"` // that lack some
	// Unknown counts the partitions of which nobody says how far they are copied.
	Unknown int `json:"unknown"`
}

// FailoverPlan says what stands in the way of a failover, as of one moment.
type FailoverPlan struct {
	Source string    `json:"source"` // aliases
	Target string    `json:"target"`
	At     time.Time `json:"at"`
	// Verdict is the worst of the checks.
	Verdict Verdict `json:"verdict"`
	Checks  []Check `json:"checks"`
	// Loss has the topics of which something would be lost.
	Loss   []TopicLoss `json:"loss"`
	Groups []GroupPlan `json:"groups"`
}

// PlanFailover looks at both ends of a link, and says of every precondition of a failover to the target whether it is met. It
// changes nothing on either cluster; its clients could not. What one check cannot find out is its verdict; an error means that
// the configuration is wrong or ctx has ended.
func PlanFailover(ctx context.Context, o FailoverOptions) (FailoverPlan, error) {
	s, err := parseSource(o.Settings)
	if err != nil {
		return FailoverPlan{}, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &failover{o: o, s: s, plan: FailoverPlan{Source: s.source, Target: s.target, At: time.Now().UTC(), Loss: []TopicLoss{}, Groups: []GroupPlan{}}}
	if err := f.open(ctx); err != nil {
		return FailoverPlan{}, err
	}
	steps := []struct {
		do     func(context.Context) error
		checks []string
	}{
		{f.topics, []string{CheckTopics, CheckTargetHealth}},
		{f.copied, []string{CheckLag, CheckLoss, CheckProducers}},
		{f.groups, []string{CheckSourceConsumers, CheckTargetConsumers, CheckGroups, CheckGroupOffsets}},
		{f.settings, []string{CheckSettings}},
		{f.acls, []string{CheckACLs, CheckProducerRights}},
		{f.connectors, []string{CheckConnectors}},
	}
	for _, step := range steps {
		err := step.do(ctx)
		var final *finalError
		switch {
		case errors.As(err, &final):
			return FailoverPlan{}, err
		case err != nil && errors.Is(ctx.Err(), context.Canceled):
			return FailoverPlan{}, ctx.Err()
		case err != nil:
			f.unclear(step.checks, err)
		}
	}
	slices.SortStableFunc(f.plan.Checks, func(a, b Check) int {
		return cmp.Compare(slices.Index(checkOrder, a.Name), slices.Index(checkOrder, b.Name))
	})
	for _, c := range f.plan.Checks {
		if verdictOrder[c.Verdict] > verdictOrder[f.plan.Verdict] {
			f.plan.Verdict = c.Verdict
		}
	}
	f.plan.Verdict = cmp.Or(f.plan.Verdict, OK)
	return f.plan, nil
}

// SameLink says whether two connectors work on the same link.
func SameLink(a, b map[string]string) bool {
	return a[keySourceAlias] == b[keySourceAlias] && a[keyTargetAlias] == b[keyTargetAlias]
}

// failover is one call of PlanFailover.
type failover struct {
	o              FailoverOptions
	s              sourceSettings
	filter         TopicFilter
	properties     propertyFilter
	source, target *cluster
	translator     *Translator
	plan           FailoverPlan
	wanted         map[string]int32 // the topics that are copied, with their partitions
	there          map[string]int32 // those of the target
	books          map[partition][]*offsetrun.Book
	starts         map[partition]int64 // where the logs of the source begin
	left           map[string]bool     // topics that the running connector leaves out
}

func (f *failover) open(ctx context.Context) error {
	var err error
	if f.filter, err = verifyFilter(f.s); err != nil {
		return err
	}
	exclude, err := newPatterns(keyPropertiesExclude, f.s.List(keyPropertiesExclude))
	if err != nil {
		return err
	}
	f.properties = propertyFilter{exclude: exclude, sourceDefaults: f.o.Settings[keyDefaultsFrom].Written == "source"}
	if f.translator, err = OpenTranslator(ctx, f.o.Settings, ReadOnly(f.o.Clients), f.o.Log); err != nil {
		return err
	}
	f.source, f.target = f.translator.source, f.translator.target
	return nil
}

func (f *failover) remote(topic string) string {
	return f.s.policy.FormatRemoteTopic(f.s.source, topic)
}

// finding is a check while it is made.
type finding struct {
	Check
	details map[Verdict][]string
}

func newFinding(name string) *finding {
	return &finding{Check: Check{Name: name, Verdict: OK}, details: map[Verdict][]string{}}
}

func (c *finding) add(v Verdict, format string, args ...any) {
	if verdictOrder[v] > verdictOrder[c.Verdict] {
		c.Verdict = v
	}
	c.details[v] = append(c.details[v], fmt.Sprintf(format, args...))
}

// found adds a check to the plan. The text is for one in which nothing was found; otherwise the first detail is.
func (f *failover) found(c *finding, format string, args ...any) {
	c.Text = fmt.Sprintf(format, args...)
	var all []string
	for _, v := range []Verdict{Failed, Unclear, Todo} {
		all = append(all, c.details[v]...)
	}
	if len(all) > 0 {
		c.Text = all[0]
		if len(all) > 1 {
			c.Text += fmt.Sprintf(" (and %d more)", len(all)-1)
			c.More = max(0, len(all)-maxDetails)
			c.Details = all[:min(len(all), maxDetails)]
		}
	}
	f.plan.Checks = append(f.plan.Checks, c.Check)
}

// unclear says of those checks that have not been made why not.
func (f *failover) unclear(names []string, err error) {
	for _, name := range names {
		made := false
		for _, c := range f.plan.Checks {
			made = made || c.Name == name
		}
		if !made {
			f.plan.Checks = append(f.plan.Checks, Check{Name: name, Verdict: Unclear, Text: err.Error()})
		}
	}
}

// connectors looks whether the link works. Where no worker was asked, its books tell whether its tasks have stopped.
func (f *failover) connectors(context.Context) error {
	c := newFinding(CheckConnectors)
	if f.o.States == nil {
		f.stopped(c)
		return nil
	}
	tasks := 0
	for _, s := range f.o.States {
		tasks += s.Tasks
		switch {
		case s.State != stateRunning:
			c.add(Failed, "%s is %s: %s", s.Name, s.State, cmp.Or(s.Reason, "no reason is known"))
		case s.Tasks == 0:
			c.add(Unclear, "%s has no tasks", s.Name)
		}
	}
	f.found(c, "%d connectors with %d tasks run", len(f.o.States), tasks)
	return nil
}

// stopped judges the link by what its tasks keep on the target: they say there when they end in good order. That they have not
// does not show that they run; how far the copy is does.
func (f *failover) stopped(c *finding) {
	at, ended := 0, 0
	for _, books := range f.books {
		for _, b := range books[:min(len(books), 1)] {
			if at++; b.State.Clean {
				ended++
			}
		}
	}
	if ended > 0 && ended == at {
		c.add(Failed, "the tasks of all %d partitions that were copied have stopped in good order: nothing is copied any more", at)
	} else {
		c.Verdict = Skipped
	}
	f.found(c, "no worker was asked, since the clusters are asked from here; lag tells how far the copy is")
}
