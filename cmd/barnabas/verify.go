package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
	"barnabas/connector/mirror"
)

func (c *cli) verifyCommand() *cobra.Command {
	v := verifyCommand{cli: c}
	cmd := &cobra.Command{
		Use: "verify [CONNECTOR]", Short: "Compare source and target of a mirror, record by record; exits 3 on a difference",
		Long: `Compare what the source and the target of a mirror connector hold, partition by
partition, record by record: key, value, headers in their order, timestamp. It
reads to the end that the source has when it begins.

The connector's configuration comes from a running cluster (--url), or from a
file (-f). The clusters are reached with the connector's own settings; secret
references in them are resolved here, with the providers of --worker-config, or
else file, directory and env. --source-config and --target-config name client
properties to use instead.

Records that the target holds twice are counted and are no difference: after a
crash, at-least-once delivery repeats some.`,
		Example: `  barnabas verify orders
  barnabas verify -f orders.json --source-config prod.properties --target-config staging.properties -o json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: c.completeConnectors, RunE: v.run,
	}
	flags := cmd.Flags()
	flags.StringVarP(&v.file, "file", "f", "", "the connector's configuration: a `file`, or - for standard input")
	flags.StringVar(&v.workerFile, "worker-config", "", "worker `file` with the config providers and the defaults of the target")
	flags.StringVar(&v.sourceFile, "source-config", "", "client properties `file` for reading the source")
	flags.StringVar(&v.targetFile, "target-config", "", "client properties `file` for reading the target")
	flags.StringSliceVar(&v.topics, "topics", nil, "compare only these topics of the source")
	flags.DurationVar(&v.wait, "wait", 10*time.Second, "how long to wait for records that are still on their way")
	flags.IntVar(&v.parallel, "parallel", 4, "partitions compared at once")
	return cmd
}

type verifyCommand struct {
	*cli
	file, workerFile, sourceFile, targetFile string
	topics                                   []string
	wait                                     time.Duration
	parallel                                 int
}

func (v *verifyCommand) run(cmd *cobra.Command, args []string) error {
	written, err := v.connector(cmd.Context(), args)
	if err != nil {
		return err
	}
	o, err := v.options(cmd.Context(), written)
	if err != nil {
		return err
	}
	bar := v.progress("comparing", "offsets")
	o.Progress = bar.set
	report, err := mirror.Verify(cmd.Context(), o)
	bar.done()
	if err != nil {
		return err
	}
	if err := v.show(report, func(t *table) { drawVerdict(t, report) }); err != nil {
		return err
	}
	if !report.Equal {
		return errDifference
	}
	return nil
}

// connector returns the configuration of the connector, references as written.
func (v *verifyCommand) connector(ctx context.Context, args []string) (map[string]string, error) {
	if (v.file == "") == (len(args) == 0) {
		return nil, usagef("name a connector, or give its configuration with -f")
	}
	if v.file != "" {
		d, err := v.readDefinition(v.file)
		if err != nil {
			return nil, err
		}
		d.config["name"] = cmp.Or(d.name, "verify")
		return d.config, nil
	}
	client, err := v.client()
	if err != nil {
		return nil, err
	}
	written, err := client.Config(ctx, args[0])
	return written, v.about(ctx, client, args[0], err)
}

// options makes the clients' settings.
func (v *verifyCommand) options(ctx context.Context, written map[string]string) (mirror.VerifyOptions, error) {
	o := mirror.VerifyOptions{Config: config.Literal(written), Topics: v.topics, Wait: v.wait, Parallel: v.parallel}
	workerSettings := config.Settings{}
	if v.sourceFile == "" || v.targetFile == "" {
		resolver, err := v.resolver(ctx, &workerSettings)
		if err != nil {
			return o, err
		}
		ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
		if o.Config, _, err = resolver.Resolve(ctx, written); err != nil {
			return o, fmt.Errorf("%w (give --worker-config with the providers, or --source-config and --target-config)", err)
		}
	}
	var err error
	if o.Source, err = v.opener(ctx, v.sourceFile, clientconfig.Layers(connector.SourceConsumer, workerSettings, o.Config)); err != nil {
		return o, fmt.Errorf("source: %w", err)
	}
	if o.Target, err = v.opener(ctx, v.targetFile, clientconfig.Layers(connector.TargetAdmin, workerSettings, o.Config)); err != nil {
		return o, fmt.Errorf("target: %w", err)
	}
	return o, nil
}

// resolver resolves the connector's references as its worker does, if the worker's file is given,
// or with the providers that need no settings, under their own names.
func (v *verifyCommand) resolver(ctx context.Context, worker *config.Settings) (*configprovider.Resolver, error) {
	if v.workerFile != "" {
		settings, resolver, err := v.workerSettings(ctx, v.workerFile)
		*worker = settings
		return resolver, err
	}
	return configprovider.New(ctx, map[string]string{
		"config.providers": "file,directory,env", "config.providers.file.class": "file",
		"config.providers.directory.class": "directory", "config.providers.env.class": "env",
	}, configprovider.Kinds(v.environ))
}

// opener opens consumers with the settings of file, or else with those given.
func (v *verifyCommand) opener(ctx context.Context, file string, settings config.Settings) (func(...kgo.Opt) (*kgo.Client, error), error) {
	if file != "" {
		written, err := config.ReadFile(file)
		if err != nil {
			return nil, err
		}
		resolver, err := configprovider.New(ctx, written, configprovider.Kinds(v.environ))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if settings, _, err = resolver.Resolve(ctx, written); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	built, err := clientconfig.Build(settings, clientconfig.Consumer)
	if err != nil {
		return nil, err
	}
	return func(extra ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append(append(append([]kgo.Opt{}, built.Opts...), kgo.Dialer(built.Dial)), extra...)...)
	}, nil
}

// maxVerdicts is how many partitions without a difference a table shows.
const maxVerdicts = 50

func drawVerdict(t *table, r mirror.VerifyReport) {
	t.header("TOPIC", "PARTITION", "SOURCE", "TARGET", "MISSING", "DIFFERENT", "EXTRA", "OUT OF ORDER", "DOUBLED", "VERDICT")
	left := 0
	row := func(topic, partition string, c mirror.VerifyCounts, verdict string) {
		t.row(topic, partition, counted(c.Source), counted(c.Target), counted(c.Missing), counted(c.Different), counted(c.Extra),
			counted(c.OutOfOrder), counted(c.Doubled), verdict)
	}
	for _, p := range r.Partitions {
		if p.Equal() && len(r.Partitions) > maxVerdicts {
			left++
			continue
		}
		row(p.Topic, fmt.Sprint(p.Partition), p.VerifyCounts, verdictWord(p.Equal()))
	}
	row("total", fmt.Sprint(len(r.Partitions)), r.Totals, verdictWord(r.Equal))
	if left > 0 {
		t.text("%s without a difference not shown", plural(left, "partition"))
	}
	for _, p := range r.Partitions {
		drawFirsts(t, p)
	}
}

func verdictWord(equal bool) string {
	if equal {
		return "equal"
	}
	return "different"
}

// drawFirsts says where to look for what is wrong with a partition.
func drawFirsts(t *table, p mirror.PartitionVerdict) {
	name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
	for _, f := range []struct {
		what   string
		offset *int64
	}{
		{"first missing: offset %d of the source", p.FirstMissing},
		{"first different: offset %d of the source", p.FirstDifferent},
		{"first extra: offset %d of the target", p.FirstExtra},
	} {
		if f.offset != nil {
			t.text("%s: "+f.what, name, *f.offset)
		}
	}
	if p.Expired > 0 {
		t.text("%s: %d records of the target are older than what the source still has", name, p.Expired)
	}
	if p.Error != "" {
		t.text("%s: not compared to the end: %s", name, p.Error)
	}
}
