package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"barnabas/bundle"
)

func (c *cli) bundleCommand() *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "bundle", Short: "Collect what helps others to understand a cluster, without secrets and payloads", Args: cobra.NoArgs,
		Long: `Ask a cluster for its workers, connectors, states, gaps, histories, metrics and log
levels, and write them to an archive (tar, gzip) that may be handed on.

A bundle is redacted by construction: of configurations it holds references to secrets,
numbers, and the values of settings that are known to hold no secret. Everything else is
[hidden], also where an error repeats it. It never holds a payload. manifest.json in it
lists what it holds, what was left out and why, and what could not be had.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			now := time.Now()
			if file == "" {
				file = now.UTC().Format("barnabas-bundle-20060102T150405Z.tar.gz")
			}
			var archive bytes.Buffer
			manifest, err := bundle.Write(cmd.Context(), &archive, client, now)
			if err != nil {
				return c.wrong(err)
			}
			if file == "-" {
				_, err := c.stdout.Write(archive.Bytes())
				return err
			}
			// Not over anything that is there: nothing in it is worth another file.
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			if _, err := f.Write(archive.Bytes()); err != nil {
				f.Close()
				return fmt.Errorf("--file: %w", err)
			}
			if err := f.Close(); err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			return c.show(manifest, func(t *table) { drawManifest(t, file, manifest) })
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "write the archive there; - is standard output (default barnabas-bundle-TIME.tar.gz)")
	return cmd
}

func drawManifest(t *table, file string, m bundle.Manifest) {
	t.text("%s is written.\n", file)
	t.header("FILE", "BYTES", "HOLDS")
	for _, f := range m.Files {
		t.row(f.Name, strconv.Itoa(f.Bytes), f.What)
	}
	t.text("\nLeft out:")
	t.header("WHAT", "WHY")
	for _, l := range m.LeftOut {
		t.row(l.What, l.Why)
	}
	if len(m.Failed) > 0 {
		t.text("\nCould not be had:")
		t.header("FILE", "ERROR")
		for _, f := range m.Failed {
			t.row(f.Name, f.Error)
		}
	}
}
