package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"barnabas/connector/mirror"
	"barnabas/rest"
)

func (c *cli) offsetsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "offsets", Short: "Translate offsets of consumer groups", RunE: groupRun}
	cmd.AddCommand(c.translateCommand())
	return cmd
}

type translateCommand struct {
	linkFlags
	groups, topics []string
}

func (c *cli) translateCommand() *cobra.Command {
	o := &translateCommand{linkFlags: linkFlags{verifyCommand{cli: c, parallel: 1}}}
	cmd := &cobra.Command{
		Use: "translate [CONNECTOR]", Short: "Show where consumer groups of a mirror's source go on at its target",
		Long: `Show for each topic-partition for which a consumer group has committed an offset
at the source of a mirror where the same group goes on at the target: at the copy
of the record that it reads next ("exact"). Where that cannot be said exactly, or
not at all, the reason stands beside. A translation is never ahead of the truth.

The connector may be a mirror's source or checkpoint connector. It need not be
named if there is only one. A worker that runs it answers, with the connector's
own identity. With -f the clusters are asked from here. Nothing is changed.

Exits 1 if an offset has no translation.`,
		Example: `  barnabas offsets translate orders --group billing
  barnabas offsets translate --group billing --topic orders -o json
  barnabas offsets translate -f orders.json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: c.completeConnectors, RunE: o.run,
	}
	o.add(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&o.groups, "group", nil, "only these groups (default: all that the connector's settings choose)")
	flags.StringSliceVar(&o.topics, "topic", nil, "only these topics of the source")
	return cmd
}

func (o *translateCommand) run(cmd *cobra.Command, args []string) error {
	t, err := o.translate(cmd.Context(), args)
	if err != nil {
		return err
	}
	if err := o.show(t, func(table *table) { drawTranslations(table, t) }); err != nil {
		return err
	}
	if !t.Translated() {
		return errors.New("not every offset has a translation: the list says why")
	}
	return nil
}

func (o *translateCommand) translate(ctx context.Context, args []string) (rest.Translations, error) {
	remote, err := o.remote(args)
	if err != nil {
		return rest.Translations{}, err
	}
	if !remote {
		settings, clients, closeAll, err := o.local(ctx)
		if err != nil {
			return rest.Translations{}, err
		}
		defer closeAll()
		groups, err := mirror.TranslateGroups(ctx, settings, clients, slog.New(slog.DiscardHandler), o.groups, o.topics)
		return rest.Translations{Connector: settings["name"].Written, Groups: groups}, err
	}
	client, err := o.client()
	if err != nil {
		return rest.Translations{}, err
	}
	name, err := o.name(ctx, client, args, "MirrorCheckpoint", "MirrorSource")
	if err != nil {
		return rest.Translations{}, err
	}
	t, err := client.Translate(ctx, name, o.groups, o.topics)
	return t, o.about(ctx, client, name, err)
}

func drawTranslations(t *table, r rest.Translations) {
	t.header("GROUP", "TOPIC", "PARTITION", "OFFSET", "TARGET TOPIC", "TARGET OFFSET", "ACCURACY", "REASON")
	partitions := 0
	for _, g := range r.Groups {
		if g.Error != "" {
			t.row(g.Group, "", "", "", "", "", "unknown", oneLine(g.Error))
		}
		for _, p := range g.Partitions {
			partitions++
			t.row(g.Group, p.Topic, strconv.Itoa(int(p.Partition)), fmt.Sprint(p.Offset), p.TargetTopic, offset(p.TargetOffset), string(p.Accuracy), oneLine(p.Reason))
		}
	}
	t.text("\n%s, %s", plural(len(r.Groups), "group"), plural(partitions, "partition"))
}
