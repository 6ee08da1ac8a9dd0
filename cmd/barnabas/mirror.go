package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
	"barnabas/connector/mirror/dedicated"
)

func (c *cli) mirrorCommand() *cobra.Command {
	var level, format string
	var clusters []string
	cmd := &cobra.Command{
		Use: "mirror FILE", Short: "Run MirrorMaker 2's dedicated mode", Args: cobra.MinimumNArgs(1),
		Long: `Run MirrorMaker 2's dedicated mode. FILE is an mm2.properties, taken as it is:
for each link that it enables one worker runs in this process, on the link's
target cluster, with MirrorMaker's connectors. It goes on where MirrorMaker 2
stopped, since topics, names and offsets are the same.

Several processes with the same FILE share the work; they find each other
through the internal topics. A changed FILE takes effect when the process that
leads a link has been restarted, or takes the lead.

SIGTERM and SIGINT end it in good order; a second signal ends it at once.
"barnabas import FILE" shows what each setting becomes.`,
		Example: "  barnabas mirror mm2.properties\n  barnabas mirror mm2.properties --clusters backup,archive",
		RunE: func(cmd *cobra.Command, args []string) error {
			levels, err := newLogLevels(level)
			if err != nil {
				return err
			}
			log, err := newLogger(c.stderr, format, levels)
			if err != nil {
				return err
			}
			if len(args) > 1 && len(clusters) == 0 {
				return usagef("one FILE, not %q too: usage: %s", args[1], cmd.UseLine())
			}
			// MirrorMaker's own has blanks between them: --clusters a b.
			return c.mirror(cmd.Context(), args[0], append(clusters, args[1:]...), log)
		},
	}
	cmd.Flags().StringSliceVar(&clusters, "clusters", nil, "only the links to these clusters; all by default")
	cmd.Flags().StringVar(&level, "log-level", "INFO", "ERROR, WARN, INFO, DEBUG or TRACE")
	cmd.Flags().StringVar(&format, "log-format", "auto", "text, json, or auto: text on a terminal")
	_ = cmd.RegisterFlagCompletionFunc("clusters", completeClusters)
	return cmd
}

// completeClusters offers the aliases that the file has which the line names already.
func completeClusters(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	written, err := config.ReadFile(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	file, _, _ := dedicated.Parse(written)
	before := begun[:strings.LastIndexByte(begun, ',')+1]
	var names []string
	for _, name := range file.Clusters() {
		names = append(names, before+name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// mirror runs the links of a file until ctx ends.
func (c *cli) mirror(ctx context.Context, path string, clusters []string, log *slog.Logger) error {
	written, err := config.ReadFile(path)
	if err != nil {
		return err
	}
	file, problems, warnings := dedicated.Parse(written)
	warn(log, warnings)
	if len(problems) > 0 {
		return problemsError(path, problems)
	}
	links, err := targeting(file, clusters)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m := &mirrorMaker{cli: c, file: file, path: path, log: log, id: processID()}
	if err := m.prepare(ctx, links); err != nil {
		return err
	}
	return m.run(ctx)
}

// targeting returns the links of the file to clusters, or all.
func targeting(file *dedicated.File, clusters []string) ([]dedicated.Link, error) {
	for _, name := range clusters {
		if !slices.Contains(file.Clusters(), name) {
			hint := "it has " + strings.Join(file.Clusters(), ", ")
			if near := config.Nearest(name, file.Clusters()); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			return nil, usagef("--clusters: the file has no cluster %q; %s", name, hint)
		}
	}
	links := slices.DeleteFunc(file.Links(), func(l dedicated.Link) bool {
		return len(clusters) > 0 && !slices.Contains(clusters, l.Target)
	})
	if len(links) == 0 {
		return nil, fmt.Errorf("no link to %s is enabled", strings.Join(clusters, ", "))
	}
	return links, nil
}

// processID names this process among those that share the work: no two may have the same name, and there is no
// address that would tell them apart.
func processID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	host, _ := os.Hostname()
	return cmp.Or(host, "localhost") + "-" + hex.EncodeToString(b[:])
}

// mirrorMaker is one process of the dedicated mode.
type mirrorMaker struct {
	cli   *cli
	file  *dedicated.File
	path  string
	log   *slog.Logger
	id    string
	links []*mirrorLink
	api   *mirrorAPI // nil without dedicated.mode.enable.internal.rest
}

// prepare checks the links, and opens the listeners if there are to be any, so that what is wrong with the file ends the
// process before it does anything.
func (m *mirrorMaker) prepare(ctx context.Context, links []dedicated.Link) (err error) {
	if m.file.InternalREST() {
		if m.api, err = m.openAPI(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
	}
	var wrong []error
	for _, l := range links {
		link := &mirrorLink{maker: m, Link: l, log: m.log.With("link", l.String())}
		if err := link.prepare(ctx); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", l, err))
		}
		m.links = append(m.links, link)
	}
	if len(wrong) > 0 {
		m.api.close()
		return fmt.Errorf("%s: %w", m.path, errors.Join(wrong...))
	}
	return nil
}

// run runs all links until ctx ends, and ends them in good order, within a bound.
func (m *mirrorMaker) run(ctx context.Context) error {
	names := make([]string, len(m.links))
	bound := time.Duration(0)
	for i, l := range m.links {
		names[i] = l.String()
		bound = max(bound, l.stop+stopSlack)
	}
	m.log.Info("starting", "version", version, "commit", commit, "go", runtime.Version(), "process", m.id, "links", strings.Join(names, " "))
	if m.file.Worker(m.links[0].Link)["gossip.secret"] == "" {
		m.log.Info("without gossip.secret this process gossips on loopback only: those on other machines are heard through Kafka, which is slower")
	}
	return orderly(ctx, m.log, bound, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		if m.api != nil {
			g.Go(func() error { return m.api.run(ctx) })
		}
		failed := make(chan error)
		for _, l := range m.links {
			g.Go(func() error { return l.run(ctx, failed) })
		}
		g.Go(func() error { return m.allFailed(ctx, failed) })
		return g.Wait()
	})
}

// allFailed ends the process if no link has come up at its first attempt: then the file is most likely wrong. A link that
// fails beside others that work is tried again, since an unreachable cluster must not stop the copies to the others.
func (m *mirrorMaker) allFailed(ctx context.Context, failed <-chan error) error {
	var all []error
	for {
		select {
		case err := <-failed:
			if all = append(all, err); len(all) == len(m.links) {
				return errors.Join(all...)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
