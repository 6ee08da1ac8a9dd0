package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/config"
	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) tasksCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tasks", Aliases: []string{"task"}, Short: "List tasks and restart them", RunE: groupRun}
	cmd.AddCommand(c.named("list CONNECTOR", "List the tasks of a connector", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		tasks, err := client.Tasks(ctx, name)
		if err != nil {
			return err
		}
		status, err := client.Status(ctx, name)
		if err != nil {
			return err
		}
		return c.show(tasks, func(t *table) {
			t.header("TASK", "STATE", "WORKER", "PARTITIONS")
			for _, task := range tasks {
				state, on := "", ""
				for _, s := range status.Tasks {
					if s.ID == task.ID.Task {
						state, on = s.State, s.WorkerID
					}
				}
				t.row(strconv.Itoa(task.ID.Task), state, on, shortList(task.Config["task.assigned.partitions"]))
			}
		})
	}))
	cmd.AddCommand(c.taskCommand("status", "Show the state of one task", func(ctx context.Context, client *rest.Client, id worker.TaskID) error {
		state, err := client.TaskStatus(ctx, id)
		if err != nil {
			return err
		}
		return c.show(state, func(t *table) {
			t.header("TASK", "STATE", "WORKER")
			t.row(strconv.Itoa(state.ID), state.State, state.WorkerID)
			if state.Trace != "" {
				t.text("\n%s", state.Trace)
			}
		})
	}))
	cmd.AddCommand(c.taskCommand("restart", "Restart one task", func(ctx context.Context, client *rest.Client, id worker.TaskID) error {
		if err := client.RestartTask(ctx, id); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "task %s-%d restarted\n", id.Connector, id.Task)
		return nil
	}))
	return cmd
}

// shortList is the beginning of a list that may have thousands of elements.
func shortList(list string) string {
	items := strings.Split(list, ",")
	if len(items) <= 6 {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s, … (%d in all)", strings.Join(items[:5], ", "), len(items))
}

// taskCommand makes a command about one task: CONNECTOR TASK.
func (c *cli) taskCommand(verb, short string, do func(context.Context, *rest.Client, worker.TaskID) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " CONNECTOR TASK", Short: short, Args: cobra.ExactArgs(2), ValidArgsFunction: c.completeTasks,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return usagef("a task is a number, not %q", args[1])
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.about(cmd.Context(), client, args[0], do(cmd.Context(), client, worker.TaskID{Connector: args[0], Task: n}))
		},
	}
}

func (c *cli) completeTasks(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeConnectors(cmd, args, toComplete)
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
		info, err := client.Connector(ctx, args[0])
		var tasks []string
		for _, t := range info.Tasks {
			tasks = append(tasks, strconv.Itoa(t.Task))
		}
		return tasks, err
	})
}

func (c *cli) pluginsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plugins", Aliases: []string{"plugin"}, Short: "List the kinds of connectors and their settings", RunE: groupRun}
	all := false
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the kinds of connectors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			ask := client.Plugins
			if all {
				ask = client.AllPlugins
			}
			plugins, err := ask(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			return c.show(plugins, func(t *table) {
				t.header("CLASS", "TYPE", "VERSION")
				for _, p := range plugins {
					t.row(p.Class, string(p.Type), p.Version)
				}
			})
		},
	}
	list.Flags().BoolVar(&all, "all", false, "list transforms, predicates and converters too")
	cmd.AddCommand(list)
	cmd.AddCommand(&cobra.Command{
		Use: "config CLASS", Short: "List the settings of a kind of connector", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completePlugins,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			keys, err := client.PluginConfig(cmd.Context(), args[0])
			if err != nil {
				return c.wrong(err)
			}
			return c.show(keys, func(t *table) { drawKeys(t, keys) })
		},
	})
	var file string
	validate := &cobra.Command{
		Use: "validate CLASS -f FILE", Short: "Check a configuration for a kind of connector", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completePlugins,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := c.readDefinition(file)
			if err != nil {
				return err
			}
			d.config["connector.class"] = args[0]
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.validate(cmd.Context(), client, d)
		},
	}
	validate.Flags().StringVarP(&file, "file", "f", "", "the `file`, or - for standard input")
	cmd.AddCommand(validate)
	return cmd
}

func drawKeys(t *table, keys []config.KeyInfo) {
	t.header("KEY", "TYPE", "DEFAULT", "IMPORTANCE", "DOCUMENTATION")
	for _, k := range keys {
		value := "(none)"
		switch {
		case k.Required:
			value = "(required)"
		case k.DefaultValue != nil:
			value = shorten(*k.DefaultValue, 30)
		}
		t.row(k.Name, strings.ToLower(string(k.Type)), value, strings.ToLower(string(k.Importance)), shorten(k.Documentation, 70))
	}
}

func shorten(text string, most int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

func (c *cli) completePlugins(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
		plugins, err := client.Plugins(ctx)
		var classes []string
		for _, p := range plugins {
			classes = append(classes, p.Class)
		}
		return classes, err
	})
}

func (c *cli) workersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "workers", Short: "List the members of the cluster, and drain them", RunE: groupRun}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the members of the cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			members, err := client.Workers(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			return c.show(members, func(t *table) {
				t.header("ID", "STATE", "ROLE", "CONNECTORS", "TASKS", "LOAD", "UP", "VERSION", "LABELS")
				for _, m := range members {
					role, state := "", m.State
					if m.Leader {
						role = "leader"
					}
					if m.Drained {
						state += ", drained"
					}
					t.row(m.ID, state, role, strconv.Itoa(m.Connectors), strconv.Itoa(m.Tasks), amount(m.Load)+"/s", age(m.Joined), m.Version, drawLabels(m.Labels))
				}
			})
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use: "get ID", Short: "Show one member of the cluster", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			m, err := client.Worker(cmd.Context(), args[0])
			if err != nil {
				return c.wrong(err)
			}
			return c.show(m, func(t *table) {
				t.header("FIELD", "VALUE")
				t.row("id", m.ID)
				t.row("state", m.State)
				t.row("leader", strconv.FormatBool(m.Leader))
				t.row("url", m.URL)
				t.row("gossip", m.Gossip)
				t.row("version", m.Version)
				t.row("labels", drawLabels(m.Labels))
				t.row("connectors", strconv.Itoa(m.Connectors))
				t.row("tasks", strconv.Itoa(m.Tasks))
				t.row("load", amount(m.Load)+"/s")
				t.row("joined", m.Joined.Format(time.RFC3339))
				t.row("drained", strconv.FormatBool(m.Drained))
			})
		},
	})
	cmd.AddCommand(c.workersDrain(), c.workersUndrain())
	return cmd
}

func (c *cli) workersDrain() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "drain ID", Short: "Have a worker give away what it runs and get nothing", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completeWorkers,
		Long: `Have a worker give away what it runs, and get nothing until "barnabas workers undrain",
also after a restart. Its tasks stop in good order before they start elsewhere. What no
other worker may run (tasks.placement) stays where it is.

It waits until the worker runs nothing, and exits with 1 if that takes longer than --wait.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.DrainWorker(cmd.Context(), args[0], true); err != nil {
				return c.wrong(err)
			}
			if wait <= 0 {
				fmt.Fprintf(c.stdout, "worker %s is drained; what it runs moves\n", args[0])
				return nil
			}
			return c.drained(cmd.Context(), client, args[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait until the worker runs nothing; 0: not at all")
	return cmd
}

// drained waits until a worker runs nothing.
func (c *cli) drained(ctx context.Context, client *rest.Client, id string, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errors.New("it has taken longer than --wait"))
	defer cancel()
	for {
		m, err := client.Worker(ctx, id)
		switch {
		case rest.IsNotFound(err): // it has left
			m = worker.Member{}
		case err != nil && ctx.Err() == nil:
			return c.wrong(err)
		}
		if err == nil && m.Drained && m.Connectors+m.Tasks == 0 || rest.IsNotFound(err) {
			fmt.Fprintf(c.stdout, "worker %s is drained and runs nothing\n", id)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("worker %s is drained and still has %d connectors and %d tasks, which move, or which no other worker may run: %w",
				id, m.Connectors, m.Tasks, context.Cause(ctx))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (c *cli) workersUndrain() *cobra.Command {
	return &cobra.Command{
		Use: "undrain ID", Short: "Let a worker run something again", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.DrainWorker(cmd.Context(), args[0], false); err != nil {
				return c.wrong(err)
			}
			fmt.Fprintf(c.stdout, "worker %s takes part again\n", args[0])
			return nil
		},
	}
}

func age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	d := time.Since(since)
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func drawLabels(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

func (c *cli) completeWorkers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
		members, err := client.Workers(ctx)
		var ids []string
		for _, m := range members {
			ids = append(ids, m.ID)
		}
		return ids, err
	})
}

func (c *cli) loggersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "loggers", Aliases: []string{"logger"}, Short: "Show and set what workers log", RunE: groupRun}
	draw := func(levels map[string]rest.LoggerLevel) func(*table) {
		return func(t *table) {
			t.header("LOGGER", "LEVEL", "CHANGED")
			for _, name := range slices.Sorted(maps.Keys(levels)) {
				changed := ""
				if at := levels[name].LastModified; at != nil {
					changed = time.UnixMilli(*at).UTC().Format(time.RFC3339)
				}
				t.row(name, levels[name].Level, changed)
			}
		}
	}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the loggers of one worker with their levels", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			levels, err := client.Loggers(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			return c.show(levels, draw(levels))
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use: "get LOGGER", Short: "Show the level of one logger", Args: cobra.ExactArgs(1), ValidArgsFunction: c.completeLoggers,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			level, err := client.Logger(cmd.Context(), args[0])
			if err != nil {
				return c.wrong(err)
			}
			return c.show(level, draw(map[string]rest.LoggerLevel{args[0]: level}))
		},
	})
	var everywhere bool
	set := &cobra.Command{
		Use: "set LOGGER LEVEL", Short: "Set the level of a logger and of those below it", Args: cobra.ExactArgs(2), ValidArgsFunction: c.completeLoggers,
		Example: "  barnabas loggers set connector.orders DEBUG\n  barnabas loggers set root WARN --cluster",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			level := strings.ToUpper(args[1])
			if everywhere {
				if err := client.SetLoggerEverywhere(cmd.Context(), args[0], level); err != nil {
					return c.wrong(err)
				}
				fmt.Fprintf(c.stdout, "%s set to %s on all workers\n", args[0], level)
				return nil
			}
			changed, err := client.SetLogger(cmd.Context(), args[0], level)
			if err != nil {
				return c.wrong(err)
			}
			return c.show(changed, func(t *table) { t.text("%s set to %s", strings.Join(changed, ", "), level) })
		},
	}
	set.Flags().BoolVar(&everywhere, "cluster", false, "on all workers of the cluster")
	cmd.AddCommand(set)
	return cmd
}

func (c *cli) completeLoggers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 && cmd.Name() == "set" {
		return []string{"ERROR", "WARN", "INFO", "DEBUG", "TRACE"}, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
		levels, err := client.Loggers(ctx)
		return slices.Sorted(maps.Keys(levels)), err
	})
}

func (c *cli) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Say whether a worker does its job; exits 1 if not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			h, err := client.Health(ctx)
			if err != nil {
				return c.wrong(err)
			}
			if err := c.show(h, func(t *table) { t.text("%s: %s", h.Status, h.Message) }); err != nil {
				return err
			}
			if !h.Healthy {
				return errTold
			}
			return nil
		},
	}
}
