package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
	"barnabas/connector/mirror"
	"barnabas/worker/registry"
)

func (c *cli) verifyCommand() *cobra.Command {
	v := verifyCommand{cli: c}
	cmd := &cobra.Command{
		Use: "verify [CONNECTOR]", Short: "Compare source and target of a mirror, record by record; exits 3 on a difference",
		Long: `Compare what the source and the target of a mirror connector hold, partition by
partition, record by record: key, value, headers in their order, timestamp. It
reads to the end that the source has when it begins, so the copy may be running;
the copy has --wait to get there. Of compacted topics the newest record of each
key is compared. Records of aborted transactions are none.

The connector's configuration comes from a running cluster (--url), or from a
file (-f). The clusters are reached with the connector's own settings; secret
references in them are resolved here, with the providers of --worker-config, or
else file, directory and env. --source-config and --target-config name client
properties to use instead.

Records that the target holds twice are counted and are no difference: after a
crash, at-least-once delivery repeats some.

--sample compares a part only. It proves that each record of the ranges that were
chosen is at the target, the same and in order; of the others it says nothing. A
fault that touches a part f of n ranges is found with a probability of 1-(1-f)^n.
With --state, a comparison that was interrupted goes on where it was, and a later
one reads only what is new.`,
		Example: `  barnabas verify orders
  barnabas verify orders --sample 1% --limit 20MB
  barnabas verify orders --state orders.state
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
	flags.IntVar(&v.parallel, "parallel", 4, "partitions compared at once; each takes about 20 MB of memory")
	flags.StringVar(&v.limit, "limit", "", "read no more than this in a second, both sides together, like 50MB or 1MiB (`size`)")
	flags.StringVar(&v.sample, "sample", "", "compare only a part, like 10% or 1/20 (`part`)")
	flags.Uint64Var(&v.seed, "seed", 0, "take the same sample as the comparison that printed this `number`")
	flags.StringVar(&v.state, "state", "", "note in a `file` what has been compared, and go on from what it notes")
	flags.BoolVar(&v.digests, "digests", false, "print a digest of the records of each side; takes several times as long")
	return cmd
}

type verifyCommand struct {
	*cli
	file, workerFile, sourceFile, targetFile string
	topics                                   []string
	wait                                     time.Duration
	parallel                                 int
	limit, sample, state                     string
	seed                                     uint64
	digests                                  bool
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
	switch {
	case report.Equal:
		return nil
	case report.Totals.Differs():
		return errDifference
	}
	return errors.New("not everything could be compared: the report says why")
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
	o := mirror.VerifyOptions{
		Config: config.Literal(written), Topics: v.topics, Wait: v.wait, Parallel: v.parallel, Seed: v.seed, State: v.state, Digests: v.digests,
	}
	if err := v.measures(&o); err != nil {
		return o, err
	}
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

// measures reads how much is to be compared, and how fast.
func (v *verifyCommand) measures(o *mirror.VerifyOptions) (err error) {
	if v.parallel < 1 {
		return usagef("--parallel %d: at least one partition has to be compared at a time", v.parallel)
	}
	if v.limit != "" {
		limit, err := humanize.ParseBytes(strings.TrimSuffix(v.limit, "/s"))
		if err != nil || limit == 0 || limit > math.MaxInt64 {
			return usagef("--limit %s: it takes a size, like 50MB or 1MiB", v.limit)
		}
		o.Limit = int64(limit)
	}
	if v.sample != "" {
		if o.Sample, err = mirror.ParseSample(v.sample); err != nil {
			return usagef("--sample: %v", err)
		}
	}
	if v.seed != 0 && v.sample == "" {
		return usagef("--seed repeats a sample: give --sample, too")
	}
	return nil
}

// resolver resolves the connector's references as its worker does, if the worker's file is given,
// or with the providers that need no settings, under their own names.
func (v *verifyCommand) resolver(ctx context.Context, worker *config.Settings) (*configprovider.Resolver, error) {
	if v.workerFile != "" {
		settings, resolver, err := v.workerSettings(ctx, v.workerFile, registry.New())
		*worker = settings
		return resolver, err
	}
	return configprovider.New(ctx, map[string]string{
		"config.providers": "file,directory,env", "config.providers.file.class": "file",
		"config.providers.directory.class": "directory", "config.providers.env.class": "env",
	}, providerKinds(v.environ))
}

// opener opens consumers with the settings of file, or else with those given.
func (v *verifyCommand) opener(ctx context.Context, file string, settings config.Settings) (func(...kgo.Opt) (*kgo.Client, error), error) {
	if file != "" {
		written, err := config.ReadFile(file)
		if err != nil {
			return nil, err
		}
		resolver, err := configprovider.New(ctx, written, providerKinds(v.environ))
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
