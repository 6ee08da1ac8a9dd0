package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/rest"
	"barnabas/worker"
	"barnabas/worker/registry"
)

func (c *cli) auditCommand() *cobra.Command {
	var since time.Duration
	var follow bool
	q := audit.Query{}
	outcome, kind := "", ""
	cmd := c.asking("audit", "Show who did what, the newest last", cobra.NoArgs, func(ctx context.Context, client *rest.Client, _ []string) error {
		q.Outcome, q.Kind = audit.Outcome(outcome), audit.Kind(kind)
		if since > 0 {
			q.Since = time.Now().Add(-since)
		}
		return c.showAudit(ctx, client, q, follow)
	})
	cmd.Long = `Show the audit trail: what was changed through the REST API, by whom, from where, and
with which outcome, and what was denied. A change has two entries: that it was attempted, which
is written before anything is done, and what became of it. Beside that stands what workers
do by themselves (--kind machine): who leads, which connectors and tasks begin and end, with which
versions of which credentials, as whom, where and for which topics; fencing; rotations.`
	cmd.Example = "  barnabas audit --since 24h --user ann\n  barnabas audit --resource 'connect:connector:orders-*' --outcome denied --follow\n  barnabas audit verify"
	flags := cmd.Flags()
	flags.DurationVar(&since, "since", 0, "only what is younger, as 24h")
	flags.StringVar(&q.User, "by", "", "only what this user did")
	flags.StringVar(&q.Action, "action", "", "only this action, as connect:PauseConnector; may hold *")
	flags.StringVar(&q.Resource, "resource", "", "only what was done to this, as connect:connector:NAME; may hold *")
	flags.StringVar(&outcome, "outcome", "", "attempted, done, refused, failed or denied")
	flags.StringVar(&kind, "kind", "", "people or machine: what workers do by themselves (default both)")
	flags.IntVar(&q.Limit, "limit", 100, "how many entries at most, of the newest")
	flags.BoolVarP(&follow, "follow", "f", false, "go on with new entries, until interrupted")
	cmd.AddCommand(c.auditVerify())
	return cmd
}

// showAudit shows entries, and with follow those that come.
func (c *cli) showAudit(ctx context.Context, client *rest.Client, q audit.Query, follow bool) error {
	page, err := client.Audit(ctx, q)
	if err != nil {
		return err
	}
	if !follow {
		return c.show(page, func(t *table) {
			t.header("OFFSET", "AT", "USER", "FROM", "ACTION", "RESOURCE", "OUTCOME", "REASON")
			for i := len(page.Entries) - 1; i >= 0; i-- {
				e := page.Entries[i]
				t.row(strconv.FormatInt(e.Offset, 10), e.At.Format(time.RFC3339), cmp.Or(e.User, machine(e.Entry)), e.Address, e.Action, resource(e.Entry), string(e.Outcome), because(e.Entry))
			}
		})
	}
	last := int64(-1)
	for {
		for i := len(page.Entries) - 1; i >= 0; i-- {
			if e := page.Entries[i]; e.Offset > last {
				last = e.Offset
				fmt.Fprintln(c.stdout, strings.TrimRight(strings.Join([]string{e.At.Format(time.RFC3339), by(cmp.Or(e.User, machine(e.Entry)), e.Address), e.Action, resource(e.Entry), string(e.Outcome), because(e.Entry)}, "  "), " "))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if page, err = newer(ctx, client, q, last); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// newer returns all entries after an offset, however many there are; -1: the newest of all.
func newer(ctx context.Context, client *rest.Client, q audit.Query, last int64) (all rest.AuditPage, err error) {
	if last < 0 {
		return client.Audit(ctx, q)
	}
	q.After = last
	for {
		page, err := client.Audit(ctx, q)
		if err != nil {
			return all, err
		}
		all.Entries = append(all.Entries, page.Entries...)
		if page.Next <= last+1 {
			return all, nil
		}
		q.Before = page.Next
	}
}

// machine names the worker that has acted by itself.
func machine(e audit.Entry) string {
	if e.Kind != audit.Machine {
		return ""
	}
	return "worker " + e.Worker
}

// resource is what was acted on, with the number of a task.
func resource(e audit.Entry) string {
	if e.Use == nil || e.Use.Task < 0 {
		return e.Resource
	}
	return e.Resource + "-" + strconv.Itoa(e.Use.Task)
}

// used is what a connector or task works with: as whom, where, by which version of what.
func used(u *audit.Use) string {
	var parts []string
	for _, c := range u.Clients {
		part := c.Principal + " at " + c.Cluster
		for _, credential := range c.Credentials {
			part += " by " + credential.Reference
			if credential.Version != "" {
				part += " version " + credential.Version
			}
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if len(u.Topics) > 0 {
		parts = append(parts, "topics "+strings.Join(u.Topics, " "))
	}
	return strings.Join(parts, "; ")
}

// because is why an entry's outcome is as it is, or what it changed.
func because(e audit.Entry) string {
	switch {
	case e.Reason != "":
		return oneLine(e.Reason)
	case e.Outcome == audit.Denied && e.Rule == "":
		return "no statement allows it"
	case e.Outcome == audit.Denied:
		return e.Rule
	case e.Use != nil:
		return used(e.Use)
	case len(e.Changed) > 0:
		why := "changes " + strings.Join(e.Changed, " ")
		for _, r := range e.References {
			why += fmt.Sprintf("; %s: %s -> %s", r.Key, cmp.Or(strings.Join(r.From, " "), "nothing"), cmp.Or(strings.Join(r.To, " "), "nothing"))
		}
		return why
	}
	return ""
}

func (c *cli) auditVerify() *cobra.Command {
	var expect string
	cmd := &cobra.Command{
		Use: "verify [FILE]", Short: "Tell whether records of the audit trail were removed, changed or put in", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var head *audit.Place
			if expect != "" {
				p, err := audit.ParsePlace(expect)
				if err != nil {
					return usagef("--expect: %w", err)
				}
				head = &p
			}
			report, err := c.verifyAudit(cmd.Context(), args, head)
			if err != nil {
				return c.wrong(err)
			}
			err = c.show(report, func(t *table) { drawReport(t, report) })
			if err == nil && !report.Whole() {
				return errTold
			}
			return err
		},
	}
	cmd.Long = `Walk over the whole audit trail and tell whether records were removed, changed or put
in. With FILE, which is a worker's, the topic is read from Kafka with the worker's settings
and its audit.key; without, a worker does it.

What is cut off at the end of a trail shows only against a record that was kept elsewhere: keep
the head that this prints, and give it to --expect the next time. The exit code is 1 if
something is wrong.`
	cmd.Flags().StringVar(&expect, "expect", "", "a `head` that was printed before, OFFSET:HASH")
	return cmd
}

func (c *cli) verifyAudit(ctx context.Context, args []string, expect *audit.Place) (audit.Report, error) {
	if len(args) == 0 {
		client, err := c.client()
		if err != nil {
			return audit.Report{}, err
		}
		return client.VerifyAudit(ctx, expect)
	}
	file, err := c.workerFile(ctx, args[0])
	if err != nil {
		return audit.Report{}, err
	}
	client, err := worker.KafkaClient(file, "audit")
	if err != nil {
		return audit.Report{}, fmt.Errorf("%s: %w", args[0], err)
	}
	trail, err := audit.Open(audit.Options{Client: client, Topic: file.AuditTopic, Cluster: file.GroupID, Key: file.AuditKey})
	if err != nil {
		return audit.Report{}, err
	}
	defer trail.Close()
	return trail.Verify(ctx, expect)
}

// workerFile reads a worker's file, its secrets resolved.
func (c *cli) workerFile(ctx context.Context, path string) (config.Worker, error) {
	settings, _, err := c.workerSettings(ctx, path, registry.New())
	if err != nil {
		return config.Worker{}, err
	}
	file, problems, _ := config.ParseWorker(settings)
	if len(problems) > 0 {
		return config.Worker{}, problemsError(path, problems)
	}
	return file, nil
}

func drawReport(t *table, r audit.Report) {
	if r.Head == nil {
		t.text("the audit trail is empty")
	} else {
		t.text("%d records of %d chains, from %s to %s", r.Records, r.Chains, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
		t.text("head %s", r.Head)
	}
	for _, f := range r.Findings {
		t.text("offset %d: %s", f.Offset, f.What)
	}
	if r.More > 0 {
		t.text("and %d more", r.More)
	}
	if r.Whole() {
		t.text("nothing was removed, changed or put in")
	}
	if !r.Coded {
		t.text("without audit.key a whole chain that somebody has put in would not show")
	}
}
