package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) connectorsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "connectors", Aliases: []string{"connector"}, Short: "List, create, change and control connectors", RunE: groupRun}
	cmd.AddCommand(
		c.connectorsList(), c.connectorsGet(), c.connectorsCreate(), c.connectorsConfig(), c.connectorsPatch(), c.connectorsValidate(),
		c.connectorsStatus(), c.connectorsRestart(), c.connectorsDelete(), c.connectorsOffsets(), c.connectorsTopics(),
		c.connectorsHistory(), c.connectorsDiff(), c.connectorsRollback(),
		c.connectorAct("pause", "Pause connectors: their tasks stay and do nothing", "paused", (*rest.Client).Pause),
		c.connectorAct("resume", "Start paused or stopped connectors", "resumed", (*rest.Client).Resume),
		c.connectorAct("stop", "Stop connectors: they have no tasks then", "stopped", (*rest.Client).Stop),
	)
	return cmd
}

// named makes a command about one connector, whose name the shell completes.
func (c *cli) named(use, short string, do func(ctx context.Context, client *rest.Client, name string, args []string) error) *cobra.Command {
	args := cobra.ExactArgs(1)
	if strings.HasSuffix(use, "...") {
		args = cobra.MinimumNArgs(2)
	}
	return &cobra.Command{
		Use: use, Short: short, Args: args, ValidArgsFunction: c.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.about(cmd.Context(), client, args[0], do(cmd.Context(), client, args[0], args[1:]))
		},
	}
}

func (c *cli) connectorsList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List connectors with their states", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.Expanded(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			worst := map[string]rest.Summary{} // empty where Kafka Connect answers
			summaries, err := client.Summaries(cmd.Context())
			if err != nil && !lacksDetail(err) {
				return c.wrong(err)
			}
			for _, s := range summaries {
				worst[s.Name] = s
			}
			return c.show(all, func(t *table) {
				if len(all) == 0 {
					t.text(`There are no connectors. "barnabas connectors create -f FILE" makes one.`)
					return
				}
				t.header("NAME", "TYPE", "STATE", "TASKS", "WORKER", "CLASS")
				for _, name := range slices.Sorted(maps.Keys(all)) {
					e := all[name]
					class, kind, state, tasks, on := "", "", "", "", ""
					if e.Info != nil {
						class, kind = shortClass(e.Info.Config["connector.class"]), string(e.Info.Type)
					}
					if e.Status != nil {
						state, tasks, on = e.Status.Connector.State, taskSummary(e.Status.Tasks), e.Status.Connector.WorkerID
					}
					if worse := worst[name].State; worse != "" {
						state = worse
					}
					t.row(name, kind, state, tasks, on, class)
				}
				for _, name := range slices.Sorted(maps.Keys(worst)) {
					if reason := worst[name].Reason; reason != "" {
						t.text("\n%s: %s", name, firstLine(reason))
					}
					for _, failed := range worst[name].Failed {
						drawRestart(t, name, failed.Task, failed.Restart, failed.Held)
					}
				}
			})
		},
	}
}

// shortClass is the class without its package.
func shortClass(class string) string { return class[strings.LastIndexByte(class, '.')+1:] }

// taskSummary says how many tasks run, and what the others do.
func taskSummary(tasks []worker.TaskState) string {
	if len(tasks) == 0 {
		return "none"
	}
	states := map[string]int{}
	for _, t := range tasks {
		states[t.State]++
	}
	parts := make([]string, 0, len(states))
	for _, s := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%d %s", states[s], strings.ToLower(s)))
	}
	return strings.Join(parts, ", ")
}

func (c *cli) connectorsGet() *cobra.Command {
	return c.named("get NAME", "Show a connector with its configuration", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		info, err := client.Connector(ctx, name)
		if err != nil {
			return err
		}
		return c.show(info, func(t *table) {
			t.text("%s, a %s connector with %s", info.Name, info.Type, plural(len(info.Tasks), "task"))
			drawConfig(t, info.Config)
		})
	})
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func drawConfig(t *table, config map[string]string) {
	t.header("KEY", "VALUE")
	for _, key := range slices.Sorted(maps.Keys(config)) {
		t.row(key, config[key])
	}
}

func (c *cli) connectorsCreate() *cobra.Command {
	var file, name, state string
	cmd := &cobra.Command{
		Use: "create -f FILE", Short: "Create a connector", Args: cobra.NoArgs,
		Long: `Create a connector from a file: JSON in the shape of Kafka Connect's REST API
({"name": …, "config": {…}}), the settings alone as JSON or YAML with a "name"
among them, or .properties. "-" reads standard input.`,
		Example: "  barnabas connectors create -f orders.json\n  barnabas connectors create -f - --state stopped < orders.properties",
		RunE: func(cmd *cobra.Command, _ []string) error {
			initial, ok := map[string]worker.TargetState{
				"": "", "running": worker.Started, "paused": worker.Paused, "stopped": worker.Stopped,
			}[strings.ToLower(state)]
			if !ok {
				return usagef("--state is running, paused or stopped, not %q", state)
			}
			d, err := c.readDefinition(file)
			if err != nil {
				return err
			}
			if d, err = d.named(name, file); err != nil {
				return err
			}
			if initial == "" {
				initial = d.initial
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			info, err := client.Create(cmd.Context(), d.name, d.config, initial)
			if rest.IsConflict(err) {
				return fmt.Errorf("%w: change it with \"barnabas connectors config %s -f FILE\"", c.wrong(err), d.name)
			}
			if err != nil {
				return c.wrong(err)
			}
			return c.show(info, func(t *table) { t.text("connector %s created", info.Name) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the `file`, or - for standard input")
	cmd.Flags().StringVar(&name, "name", "", "its name, if the file has none or another one")
	cmd.Flags().StringVar(&state, "state", "", "its first state: running, paused or stopped")
	return cmd
}

func (c *cli) connectorsConfig() *cobra.Command {
	var file string
	cmd := c.named("config NAME [-f FILE]", "Show the configuration of a connector, or replace it",
		func(ctx context.Context, client *rest.Client, name string, _ []string) error {
			if file == "" {
				config, err := client.Config(ctx, name)
				if err != nil {
					return err
				}
				return c.show(config, func(t *table) { drawConfig(t, config) })
			}
			d, err := c.readDefinition(file)
			if err != nil {
				return err
			}
			if d.name != "" && d.name != name {
				return usagef("%s is the configuration of connector %q, not of %q", file, d.name, name)
			}
			info, err := client.PutConfig(ctx, name, d.config)
			if err != nil {
				return err
			}
			return c.show(info, func(t *table) { t.text("connector %s configured", info.Name) })
		})
	cmd.Flags().StringVarP(&file, "file", "f", "", "the new configuration: a `file`, or - for standard input")
	return cmd
}

func (c *cli) connectorsPatch() *cobra.Command {
	cmd := c.named("patch NAME KEY=VALUE|KEY- ...", "Set or remove single settings of a connector",
		func(ctx context.Context, client *rest.Client, name string, args []string) error {
			patch := map[string]*string{}
			for _, arg := range args {
				key, value, set := strings.Cut(arg, "=")
				switch {
				case set && key != "":
					patch[key] = &value
				case !set && len(arg) > 1 && strings.HasSuffix(arg, "-"):
					patch[strings.TrimSuffix(arg, "-")] = nil
				default:
					return usagef("%q is neither KEY=VALUE nor KEY-", arg)
				}
			}
			info, err := client.PatchConfig(ctx, name, patch)
			if err != nil {
				return err
			}
			return c.show(info, func(t *table) { t.text("connector %s configured", info.Name) })
		})
	cmd.Example = "  barnabas connectors patch orders tasks.max=4 topics.exclude-"
	return cmd
}

func (c *cli) connectorsValidate() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "validate -f FILE", Short: "Check a configuration without creating anything", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.readDefinition(file)
			if err != nil {
				return err
			}
			if d.config["connector.class"] == "" {
				return fmt.Errorf("%s: connector.class is missing: it names the kind of connector, see \"barnabas plugins list\"", file)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.validate(cmd.Context(), client, d)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the `file`, or - for standard input")
	return cmd
}

// validate shows what is wrong with a configuration.
func (c *cli) validate(ctx context.Context, client *rest.Client, d definition) error {
	if d.name != "" {
		d.config["name"] = d.name
	}
	infos, err := client.Validate(ctx, d.config)
	if err != nil {
		return c.wrong(err)
	}
	if err := c.show(infos, func(t *table) {
		if infos.ErrorCount == 0 {
			t.text("The configuration is valid.")
			return
		}
		t.header("KEY", "ERROR")
		for _, info := range infos.Configs {
			for _, e := range info.Value.Errors {
				t.row(info.Value.Name, oneLine(e))
			}
		}
	}); err != nil {
		return err
	}
	if infos.ErrorCount > 0 {
		return fmt.Errorf("the configuration has %s", plural(infos.ErrorCount, "error"))
	}
	return nil
}

// connectorAct makes a command that does one thing to connectors.
func (c *cli) connectorAct(verb, short, done string, act func(*rest.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: c.completeMany,
		RunE: func(cmd *cobra.Command, names []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := act(client, cmd.Context(), name); err != nil {
					return c.about(cmd.Context(), client, name, err)
				}
				fmt.Fprintf(c.stdout, "connector %s %s\n", name, done)
			}
			return nil
		},
	}
}

// completeMany completes every argument with the names that are not there yet.
func (c *cli) completeMany(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, directive := c.completeConnectors(cmd, nil, "")
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) }), directive
}

func (c *cli) connectorsRestart() *cobra.Command {
	var tasks, failed bool
	cmd := c.named("restart NAME", "Restart a connector", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		if !tasks && !failed {
			if err := client.Restart(ctx, name); err != nil {
				return err
			}
			fmt.Fprintf(c.stdout, "connector %s restarted\n", name)
			return nil
		}
		status, err := client.RestartFlagged(ctx, name, tasks, failed)
		if err != nil {
			return err
		}
		return c.show(status, func(t *table) { drawStatus(t, status) })
	})
	cmd.Flags().BoolVar(&tasks, "include-tasks", false, "restart its tasks too")
	cmd.Flags().BoolVar(&failed, "only-failed", false, "restart only what has failed")
	return cmd
}

func (c *cli) connectorsDelete() *cobra.Command {
	return c.connectorAct("delete", "Delete connectors; their offsets stay, as in Kafka Connect", "deleted", (*rest.Client).Delete)
}
