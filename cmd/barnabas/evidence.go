package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"barnabas/evidence"
)

func (c *cli) evidenceCommand() *cobra.Command {
	file, strict := "", false
	cmd := &cobra.Command{
		Use: "evidence", Short: "Write what an auditor asks for, each point proven or with the step that would prove it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			facts, err := evidence.Gather(cmd.Context(), client, time.Now())
			if err != nil {
				return c.wrong(err)
			}
			report := evidence.Judge(facts)
			if err := c.writeEvidence(report, file); err != nil {
				return err
			}
			if strict && report.Unproven > 0 {
				return errDifference // the report says which
			}
			return nil
		},
	}
	cmd.Long = `Ask a cluster for its workers, connections, connectors, references to secrets and its audit trail, and
write a report: every principal with owner, scope, rotation and revocation; the listeners and what
they are for; every durable copy with its class and retention; privileged operations and whether
their trail is whole; a test of the redaction; how far migrations are and the way back. It is Markdown,
or JSON with -o json. Each point is proven, with how that was shown, or stands there unproven, with
the step that would prove it. It holds no secret: the cluster gives none away.

With --strict, the exit status is 3 if a point is unproven.`
	cmd.Example = "  barnabas evidence --file evidence.md\n  barnabas evidence -o json --strict"
	cmd.Flags().StringVar(&file, "file", "", "write it there, over nothing that is there; default: standard output")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 3 if a point is unproven")
	return cmd
}

// writeEvidence writes a report to a new file, or to standard output.
func (c *cli) writeEvidence(report evidence.Report, file string) error {
	if file != "" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		if err := c.encodeEvidence(f, report); err != nil {
			f.Close()
			return fmt.Errorf("--file: %w", err)
		}
		return f.Close()
	}
	return c.encodeEvidence(c.stdout, report)
}

func (c *cli) encodeEvidence(w io.Writer, report evidence.Report) error {
	switch c.output {
	case "json":
		return writeJSON(w, report)
	case "yaml":
		text, err := toYAML(report)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	_, err := io.WriteString(w, report.Markdown())
	return err
}
