package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"barnabas/connector/mirror"
	"barnabas/rest"
)

func (c *cli) failoverCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "failover", Short: "See what a failover to the target of a mirror would meet", RunE: groupRun}
	cmd.AddCommand(c.failoverPlanCommand())
	return cmd
}

type failoverPlanCommand struct {
	linkFlags
	maxLag        int64
	watch, recent time.Duration
	strict        bool
}

func (c *cli) failoverPlanCommand() *cobra.Command {
	p := &failoverPlanCommand{linkFlags: linkFlags{verifyCommand{cli: c, parallel: 1}}}
	cmd := &cobra.Command{
		Use: "plan [CONNECTOR]", Short: "Check every precondition of a failover, changing nothing; exits 3 if one is not met",
		Long: `Check every precondition of a failover to the target of a mirror, and say what
would be lost if it happened now. It changes nothing on either cluster: its clients
know only requests that read. Run it as often as you like, also under load.

  connectors        the link's connectors and all their tasks run; with -f, where no
                    worker is asked, that they have not all stopped in good order
  topics            the target has every topic that is copied, with all partitions
  target-health     its partitions have leaders, and all replicas are in sync
  lag               no partition is more than --max-lag records behind
  loss              what the source has and the copy has not, by topic
  producers         nobody writes to the source any more
  source-consumers  no group is active at the source
  target-consumers  no group of the source is active at the target already
  groups            every offset of every group has an exact translation
  group-offsets     the target has these offsets, none beyond, and none that its
                    retention has deleted already
  topic-settings    copies have the settings of their topics, by the rules of their sync
  topic-acls        the target has the ACLs of topics that are synced
  other-acls        it has those that no sync brings over: to write, of groups, of
                    transactions, of prefixes

A check is ok, skipped (it does not apply), todo (it belongs to the failover: stop
producers, wait for the rest to be copied), unknown (it could not be made), or
failed. Not looked at are quotas, users and their passwords, schema registries, and how clients find the target.

The source connector need not be named if there is only one; a worker that runs it
answers. With -f the clusters are asked from here. Exits 3 if a check failed or,
with --strict, if anything is left to do, and 1 if one could not be made.`,
		Example: `  barnabas failover plan orders
  barnabas failover plan orders --max-lag 0 --strict && echo now
  barnabas failover plan orders -o json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: c.completeConnectors, RunE: p.run,
	}
	p.add(cmd)
	flags := cmd.Flags()
	flags.Int64Var(&p.maxLag, "max-lag", rest.DefaultMaxLag, "how many `records` a partition may be behind")
	flags.DurationVar(&p.watch, "watch", rest.DefaultWatch, "how long to watch whether the source's logs grow, at most 5s")
	flags.DurationVar(&p.recent, "recent", rest.DefaultRecent, "how long ago a producer that counts as writing may have written")
	flags.BoolVar(&p.strict, "strict", false, "what is left to do counts as failed")
	return cmd
}

func (p *failoverPlanCommand) run(cmd *cobra.Command, args []string) error {
	if p.maxLag < 0 || p.watch < 0 || p.watch > rest.LongestWatch || p.recent < 0 {
		return usagef("--max-lag and --recent are not negative, and --watch is between 0s and %s", rest.LongestWatch)
	}
	plan, err := p.plan(cmd.Context(), args)
	if err != nil {
		return err
	}
	if err := p.show(plan, func(t *table) { drawPlan(t, plan) }); err != nil {
		return err
	}
	switch {
	case plan.Verdict == mirror.Failed, p.strict && plan.Verdict == mirror.Todo:
		return errDifference
	case plan.Verdict == mirror.Unclear:
		return errors.New("not every check could be made: the list says why")
	}
	return nil
}

func (p *failoverPlanCommand) plan(ctx context.Context, args []string) (rest.FailoverPlan, error) {
	remote, err := p.remote(args)
	if err != nil {
		return rest.FailoverPlan{}, err
	}
	if !remote {
		settings, clients, closeAll, err := p.local(ctx)
		if err != nil {
			return rest.FailoverPlan{}, err
		}
		defer closeAll()
		plan, err := mirror.PlanFailover(ctx, mirror.FailoverOptions{Settings: settings, Clients: clients, MaxLag: p.maxLag, Watch: p.watch, Recent: p.recent})
		return rest.FailoverPlan{Connector: settings["name"].Written, FailoverPlan: plan}, err
	}
	client, err := p.client()
	if err != nil {
		return rest.FailoverPlan{}, err
	}
	name, err := p.name(ctx, client, args, "MirrorSource")
	if err != nil {
		return rest.FailoverPlan{}, err
	}
	plan, err := client.FailoverPlan(ctx, name, p.maxLag, p.watch, p.recent)
	return plan, p.about(ctx, client, name, err)
}

// sentences say what the verdict of a plan means.
var sentences = map[mirror.Verdict]string{
	mirror.OK:      "nothing stands in the way of a failover, and nothing is left to do",
	mirror.Todo:    "a failover is possible after what is left to do",
	mirror.Unclear: "whether a failover is possible could not be found out",
	mirror.Failed:  "a failover is not possible without damage",
}

func drawPlan(t *table, p rest.FailoverPlan) {
	t.text("%s, from %s to %s: %s\n", p.Connector, p.Source, p.Target, sentences[p.Verdict])
	t.header("CHECK", "VERDICT", "")
	for _, c := range p.Checks {
		t.row(c.Name, string(c.Verdict), oneLine(c.Text))
	}
	for _, c := range p.Checks {
		if len(c.Details) == 0 {
			continue
		}
		t.text("\n%s:", c.Name)
		for _, d := range c.Details {
			t.text("  %s", oneLine(d))
		}
		if c.More > 0 {
			t.text("  %d more", c.More)
		}
	}
	lost := int64(0)
	for _, l := range p.Loss {
		lost += l.Records
	}
	t.text("\n%s", fmt.Sprintf("lost if it happened now: %s records of %s; groups: %d", counted(lost), plural(len(p.Loss), "topic"), len(p.Groups)))
}
