package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) connectorsStatus() *cobra.Command {
	cmd := c.named("status NAME", "Show the state of a connector and its tasks, how far they are, and what has failed",
		func(ctx context.Context, client *rest.Client, name string, _ []string) error {
			detail, err := client.Detail(ctx, name)
			if err == nil {
				return c.show(detail, func(t *table) { drawDetail(t, detail, time.Now()) })
			}
			if !lacksDetail(err) {
				return err
			}
			status, err := client.Status(ctx, name)
			if err != nil {
				return err
			}
			return c.show(status, func(t *table) { drawStatus(t, status) })
		})
	cmd.Long = cmd.Short + `.

LAG is in records, BEHIND the age in seconds of the oldest record that is not copied, PROGRESS when a task last copied something or had nothing
left to copy, RESTARTS how often it was restarted by itself (auto.restart.*). Of Kafka Connect, which knows none of these, states are shown.`
	return cmd
}

// lacksDetail says of an error that the server may answer in Kafka Connect's way all the same: it is Connect, or one that mirrors
// Connect's paths alone, or the caller may not see more.
func lacksDetail(err error) bool {
	return rest.IsNotFound(err) || rest.HasStatus(err, http.StatusForbidden) || rest.HasStatus(err, http.StatusMethodNotAllowed)
}

func drawDetail(t *table, d rest.Detail, now time.Time) {
	t.header("NAME", "TASK", "STATE", "WORKER", "LAG", "BEHIND", "PROGRESS", "RESTARTS")
	t.row(d.Name, "-", d.Connector.State, d.Connector.WorkerID, "-", "-", "-", restarted(d.Connector))
	for _, task := range d.Tasks {
		progress := "-"
		if task.LastProgress != nil {
			progress = humanize.RelTime(*task.LastProgress, now, "ago", "ago")
		}
		t.row("", strconv.Itoa(task.ID), task.State, task.WorkerID, offset(task.LagRecords), lagSeconds(task.LagSeconds), progress, restarted(task.UnitDetail))
	}
	if d.State != d.Connector.State && d.Reason != "" {
		t.text("\n%s is %s: %s", d.Name, d.State, firstLine(d.Reason))
	}
	drawTrouble(t, d.Name, -1, d.Connector)
	for _, task := range d.Tasks {
		drawTrouble(t, d.Name, task.ID, task.UnitDetail)
	}
	for _, m := range d.Missing {
		t.text("\nworker %s did not answer: %s", m.WorkerID, m.Reason)
	}
}

func restarted(u rest.UnitDetail) string {
	if u.Restarts == nil {
		return "0"
	}
	return counted(u.Restarts.Total)
}

// drawTrouble tells why a unit has failed, or did last, and what becomes of it.
func drawTrouble(t *table, connector string, task int, u rest.UnitDetail) {
	if u.Trace != "" {
		t.text("\n%s: %s", unitName(connector, task), firstLine(u.Trace))
	}
	if u.Restarts == nil {
		return
	}
	if n := len(u.Restarts.Failures); n > 0 && u.Trace == "" {
		last := u.Restarts.Failures[n-1]
		t.text("\n%s runs again; it failed at %s: %s", unitName(connector, task), last.At.Format(time.RFC3339), firstLine(last.Reason))
	}
	drawRestart(t, connector, task, u.Restarts.Next, u.Restarts.Held)
}

// drawRestart tells whether a unit that has failed is restarted by itself.
func drawRestart(t *table, connector string, task int, next *time.Time, held string) {
	switch {
	case next != nil:
		t.text("%s is restarted at %s", unitName(connector, task), next.Format(time.RFC3339))
	case held != "":
		why := map[string]string{
			"final": "no restart mends this error", "disabled": "auto.restart.enabled is false", "exhausted": "auto.restart.max.restarts is reached",
		}[held]
		t.text("%s is not restarted by itself: %s", unitName(connector, task), why)
	}
}

func unitName(connector string, task int) string {
	if task < 0 {
		return connector
	}
	return connector + ", task " + strconv.Itoa(task)
}

func drawStatus(t *table, s worker.ConnectorStatus) {
	t.header("NAME", "TASK", "STATE", "WORKER")
	t.row(s.Name, "-", s.Connector.State, s.Connector.WorkerID)
	for _, task := range s.Tasks {
		t.row("", strconv.Itoa(task.ID), task.State, task.WorkerID)
	}
	if s.Connector.Trace != "" {
		t.text("\n%s: %s", s.Name, firstLine(s.Connector.Trace))
	}
	for _, task := range s.Tasks {
		if task.Trace != "" {
			t.text("\ntask %d: %s", task.ID, firstLine(task.Trace))
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
