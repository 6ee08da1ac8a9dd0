package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"barnabas/k2k"
	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) appsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apps", Aliases: []string{"app"}, Short: "Run replication apps, which copy topics from one Kafka connection to another",
		Long: `A replication app says which topics are copied from which Kafka connection to which. It
is compiled to connectors, which "barnabas connectors list" shows, and runs until it is
paused, stopped or deleted, whoever made it.`,
		RunE: groupRun,
	}
	cmd.AddCommand(
		c.appsList(), c.appsGet(),
		c.appsPut("create", "Create a replication app and start it", worker.AppCondition{Absent: true}),
		c.appsPut("update", "Change a replication app that is there", worker.AppCondition{Present: true}),
		c.appsPut("put", "Create a replication app, or change it", worker.AppCondition{}),
		c.appsState("pause", "Pause a replication app: its tasks stay and do nothing"),
		c.appsState("resume", "Run a paused or stopped replication app"),
		c.appsState("stop", "Stop a replication app: it has no tasks then"),
		c.appsScale(), c.appsDelete(), c.appsOffsets(),
	)
	return cmd
}

// appNamed makes a command about one app, whose name the shell completes.
func (c *cli) appNamed(use, short string, more int, do func(ctx context.Context, client *rest.Client, name string, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1 + more),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
				all, err := client.Apps(ctx)
				names := make([]string, len(all))
				for i, a := range all {
					names[i] = a.Name
				}
				return names, err
			})
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.wrong(do(cmd.Context(), client, args[0], args[1:]))
		},
	}
}

func (c *cli) appsList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the replication apps", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.Apps(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			return c.show(all, func(t *table) {
				t.header("APP", "STATE", "SOURCE", "TARGET", "TOPICS", "REPLICAS", "MODIFIED BY")
				for _, a := range all {
					state := "-"
					if a.Status != nil {
						state = a.Status.State
					}
					t.row(a.Name, state, a.Source, a.Target, strings.Join(a.Topics, " "), strconv.Itoa(a.Replicas), orDash(a.Modified.By))
				}
			})
		},
	}
}

func (c *cli) appsGet() *cobra.Command {
	return c.appNamed("get NAME", "Show a replication app and what it does", 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		a, err := client.App(ctx, name)
		if err != nil {
			return err
		}
		return c.show(a, func(t *table) { drawApp(t, a) })
	})
}

func drawApp(t *table, a rest.App) {
	t.text("%s version %d, modified %s by %s", a.Name, a.Version, a.Modified.At.Format(time.RFC3339), by(a.Modified.By, a.Modified.Address))
	if st := a.Status; st != nil {
		t.text("%s", st.Says)
		if st.LagRecords >= 0 {
			t.text("lag: %d records, %s, %.1f s; %s/s", st.LagRecords, size(st.LagBytes), st.LagSeconds, size(int64(st.BytesPerSec)))
		}
		if st.LastError != "" {
			t.text("last error: %s", st.LastError)
		}
	}
	t.header("FIELD", "VALUE")
	for _, line := range [][2]string{
		{"source", a.Source},
		{"target", a.Target},
		{"namespace", a.Namespace},
		{"topics", strings.Join(a.Topics, " ")},
		{"exclude", strings.Join(a.Exclude, " ")},
		{"start", a.Start},
		{"replicas", strconv.Itoa(a.Replicas)},
		{"naming", strings.TrimSpace(a.Naming.Policy + " " + a.Naming.Prefix)},
		{"groups", strings.Join(a.Groups, " ")},
		{"state", a.State},
		{"connectors", strings.Join(a.Connectors, " ")},
	} {
		if line[1] != "" {
			t.row(line[0], line[1])
		}
	}
}

// size is a number of bytes, or a question mark for one that is not known.
func size(n int64) string {
	if n < 0 {
		return "?"
	}
	return humanize.IBytes(uint64(n))
}

func (c *cli) appsPut(verb, short string, when worker.AppCondition) *cobra.Command {
	file := ""
	cmd := c.appNamed(verb+" NAME -f FILE", short, 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		text, err := c.readTree(file)
		if err != nil {
			return err
		}
		spec, err := k2k.Decode(name, text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		a, err := client.PutApp(ctx, name, spec, when)
		if err != nil {
			return err
		}
		return c.show(a, func(t *table) { t.text("app %s is version %d, %s", a.Name, a.Version, a.State) })
	})
	cmd.Long = short + ` from JSON or YAML; "-" reads standard input.

topics and exclude are names with * for any part; new topics that match are copied, too.
start counts for what the app has not copied yet: earliest, latest, a time, or committed,
which goes on where an app of this name has stopped before. naming.policy is identity,
default (the source's name before that of the topic) or prefix with naming.prefix.`
	cmd.Example = `  barnabas apps ` + verb + ` prod-to-staging-orders -f - <<'END'
  source: prod/orders-ro
  target: staging/orders-rw
  topics: ["orders-*"]
  start: earliest
  replicas: 2
  END`
	cmd.Flags().StringVarP(&file, "file", "f", "", "the app; - is standard input")
	return cmd
}

func (c *cli) appsState(verb, short string) *cobra.Command {
	return c.appNamed(verb+" NAME", short, 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		a, err := client.SetAppState(ctx, name, verb)
		if err != nil {
			return err
		}
		return c.show(a, func(t *table) { t.text("app %s is version %d, %s", a.Name, a.Version, a.State) })
	})
}

func (c *cli) appsScale() *cobra.Command {
	return c.appNamed("scale NAME REPLICAS", "Change the number of tasks of a replication app", 1, func(ctx context.Context, client *rest.Client, name string, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			return usagef("%q is no number of replicas, 1 or more", args[0])
		}
		a, err := client.App(ctx, name)
		if err != nil {
			return err
		}
		a.Spec.Replicas = n
		if a, err = client.PutApp(ctx, name, a.Spec, worker.AppCondition{Version: a.Version}); err != nil {
			return err
		}
		return c.show(a, func(t *table) { t.text("app %s is version %d, with %d replicas", a.Name, a.Version, a.Replicas) })
	})
}

func (c *cli) appsDelete() *cobra.Command {
	cmd := c.appNamed("delete NAME", "Delete a replication app and its connectors", 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		if err := client.DeleteApp(ctx, name); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "deleted %s\n", name)
		return nil
	})
	cmd.Long = `Delete a replication app and its connectors. What it has copied stays, and so does how far
it was: an app of the same name with start=committed goes on there.`
	return cmd
}

func (c *cli) appsOffsets() *cobra.Command {
	cmd := &cobra.Command{Use: "offsets", Short: "Show or change where a replication app goes on", RunE: groupRun}
	draw := func(o rest.AppOffsets) error {
		return c.show(o, func(t *table) {
			t.header("TOPIC", "PARTITION", "OFFSET")
			for _, at := range o.Offsets {
				t.row(at.Topic, strconv.Itoa(int(at.Partition)), strconv.FormatInt(at.Offset, 10))
			}
		})
	}
	get := c.appNamed("get NAME", "Show where a replication app goes on, as it has saved last", 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		o, err := client.AppOffsets(ctx, name)
		if err != nil {
			return err
		}
		return draw(o)
	})
	move := &cobra.Command{
		Use: "move NAME TOPIC-PARTITION=OFFSET...", Short: "Have a replication app go on elsewhere", Args: cobra.MinimumNArgs(2),
		Long: `Have a replication app go on elsewhere: in each partition with the record of the given
offset of the source. It is stopped meanwhile, and started again.`,
		Example: "  barnabas apps offsets move prod-to-staging-orders orders-eu-0=1700 orders-eu-1=1650",
		RunE: func(cmd *cobra.Command, args []string) error {
			var to rest.AppOffsets
			for _, arg := range args[1:] {
				at, err := parseAppOffset(arg)
				if err != nil {
					return err
				}
				to.Offsets = append(to.Offsets, at)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			o, err := client.MoveAppOffsets(cmd.Context(), args[0], to)
			if err != nil {
				return c.wrong(err)
			}
			return draw(o)
		},
	}
	reset := c.appNamed("reset NAME", "Have a replication app begin anew where its start says", 0, func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		if err := client.ResetAppOffsets(ctx, name); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "reset %s\n", name)
		return nil
	})
	cmd.AddCommand(get, move, reset)
	return cmd
}

// parseAppOffset reads TOPIC-PARTITION=OFFSET.
func parseAppOffset(text string) (at worker.AppOffset, err error) {
	place, number, _ := strings.Cut(text, "=")
	dash := strings.LastIndex(place, "-")
	if dash > 0 {
		var partition int64
		if partition, err = strconv.ParseInt(place[dash+1:], 10, 32); err == nil {
			at.Topic, at.Partition = place[:dash], int32(partition)
			at.Offset, err = strconv.ParseInt(number, 10, 64)
		}
	}
	if dash <= 0 || err != nil || at.Partition < 0 || at.Offset < 0 {
		return at, usagef("%q is not like orders-eu-0=1700: TOPIC-PARTITION=OFFSET", text)
	}
	return at, nil
}
