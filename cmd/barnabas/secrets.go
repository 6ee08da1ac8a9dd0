package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) secretsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secrets", Aliases: []string{"secret"}, Short: "Show who uses which secrets, and change them while tasks run", RunE: groupRun}
	cmd.AddCommand(c.secretsReferences(), c.secretsRotate(), c.secretsProveRevoked())
	return cmd
}

func (c *cli) secretsReferences() *cobra.Command {
	return &cobra.Command{
		Use: "references [REFERENCE]", Short: "Show which connectors and tasks use which references", Args: cobra.MaximumNArgs(1),
		Long: `Show which connectors and tasks use which references: with which Kafka clients, as
which principal, against which cluster, in which version, and since when. Values are
never shown. Quote references in the shell: '${file:/etc/kafka/c.properties:password}'.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.SecretReferences(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			if len(args) > 0 {
				all.References = slices.DeleteFunc(all.References, func(r worker.SecretReference) bool { return r.Reference.Reference != args[0] })
			}
			return c.show(all, func(t *table) {
				t.header("REFERENCE", "CONNECTOR", "TASK", "VERSION", "SINCE", "STATE", "CLIENTS", "WORKER")
				for _, r := range all.References {
					t.row(r.Reference.Reference, cmp.Or(r.Connector, "(the worker itself)"), unit(r.Task), orDash(r.Version), r.Since.Format(time.RFC3339), r.State, usesOf(r.Clients), r.WorkerID)
				}
				for _, r := range all.References {
					if r.Reason != "" {
						t.text("%s of %s: %s", r.State, unitOfConnector(r.Connector, r.Task), r.Reason)
					}
				}
				c.drawMissing(t, all.Missing)
			})
		},
	}
}

// unit names a task in a table; the connector itself is a dash.
func unit(task int) string {
	if task < 0 {
		return "-"
	}
	return fmt.Sprint(task)
}

func unitOfConnector(connector string, task int) string {
	if task < 0 {
		return cmp.Or(connector, "the worker itself")
	}
	return fmt.Sprintf("%s-%d", connector, task)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// usesOf says which clients use a reference, as whom, and where.
func usesOf(clients []worker.SecretClient) string {
	var all []string
	for _, c := range clients {
		one := fmt.Sprintf("%s as %s at %s", c.Role, c.Principal, c.Cluster)
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return orDash(strings.Join(all, "; "))
}

func (c *cli) drawMissing(t *table, missing []rest.MissingWorker) {
	for _, m := range missing {
		t.text("no answer from %s: %s", m.WorkerID, m.Reason)
	}
}

func (c *cli) secretsRotate() *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use: "rotate [--dry-run] REFERENCE", Short: "Have running tasks use the newest value of a reference", Args: cobra.ExactArgs(1),
		Long: `Read a reference again, prove at the brokers that its value works, and have the
running clients that use it log in with it from then on. Tasks are not restarted. Where
the value has not changed nothing happens; where it does not work the old one stays.
Workers do so by themselves when a value changes; this does not wait for that.

--dry-run lists what depends on the reference and rehearses the change: the new value is
proved, and not used. Exits with 1 if it failed anywhere.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			done, err := client.RotateSecret(cmd.Context(), args[0], dry)
			if err != nil {
				return c.wrong(err)
			}
			if err := c.show(done, func(t *table) {
				t.header("CONNECTOR", "TASK", "OUTCOME", "FROM", "TO", "SINCE", "CLIENTS", "WORKER")
				for _, r := range done.Rotations {
					t.row(r.Connector, unit(r.Task), r.Outcome, orDash(r.From), orDash(r.To), r.Since.Format(time.RFC3339), usesOf(r.Clients), r.WorkerID)
				}
				for _, r := range done.Rotations {
					if r.Reason != "" {
						t.text("%s: %s", unitOfConnector(r.Connector, r.Task), r.Reason)
					}
				}
				c.drawMissing(t, done.Missing)
			}); err != nil {
				return err
			}
			if len(done.Missing) > 0 || slices.ContainsFunc(done.Rotations, func(r worker.SecretRotation) bool { return r.Outcome == "failed" }) {
				return errTold
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "prove the new value, and change nothing")
	return cmd
}

func (c *cli) secretsProveRevoked() *cobra.Command {
	version := ""
	cmd := &cobra.Command{
		Use: "prove-revoked REFERENCE --version VERSION", Short: "Show that brokers refuse a former value of a reference", Args: cobra.ExactArgs(1),
		Long: `Log in with a former value of a reference, at every broker of the clusters where it was
used, as the clients that used it, and show that it is refused. Workers keep the last
four values that were replaced while they ran, in memory only; "secrets references" and
the log name versions. Exits with 0 if every broker refused it, with 3 if one accepted
it, with 1 if that could not be found out.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if version == "" {
				return usagef("--version is missing: the log line \"secret rotated\" names versions")
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			proof, err := client.ProveSecretRevoked(cmd.Context(), args[0], version)
			if err != nil {
				return c.wrong(err)
			}
			if err := c.show(proof, func(t *table) {
				t.header("BROKER", "PRINCIPAL", "OUTCOME", "CLUSTER", "WORKER")
				for _, p := range proof.Proofs {
					t.row(orDash(p.Broker), p.Principal, p.Outcome, p.Cluster, p.WorkerID)
				}
				c.drawMissing(t, proof.Missing)
			}); err != nil {
				return err
			}
			switch {
			case proof.Revoked:
				return nil
			case slices.ContainsFunc(proof.Proofs, func(p worker.SecretRevocation) bool { return p.Outcome == "accepted" }):
				return errDifference
			}
			return errTold
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "the version of the former value")
	return cmd
}
