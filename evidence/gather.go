package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/connection"
	"barnabas/rest"
)

// entriesRead bounds how many entries of the trail are counted by action.
const entriesRead = 1000

// Gather asks a cluster for the facts. What cannot be had is listed; only a cluster that does not answer at all is an error.
func Gather(ctx context.Context, client *rest.Client, now time.Time) (Facts, error) {
	f := Facts{At: now, Leaks: selfTest()}
	missing := func(what string, err error) bool {
		if err != nil {
			f.Missing = append(f.Missing, fmt.Sprintf("%s: %s", what, err))
		}
		return err != nil
	}
	if _, err := client.Server(ctx); err != nil {
		return Facts{}, err
	}
	var err error
	f.Workers, err = client.Workers(ctx)
	missing("the workers are known", err)
	setups, err := client.Setups(ctx)
	missing("the set-up of the workers is known", err)
	f.Setups = setups.Workers // those that did not answer show in what is said of f.Workers
	f.References, err = client.SecretReferences(ctx)
	missing("the references to secrets are known", err)
	for _, m := range f.References.Missing {
		f.Missing = append(f.Missing, fmt.Sprintf("the references that worker %s uses are known: %s", m.WorkerID, m.Reason))
	}
	summaries, err := client.KafkaConnections(ctx)
	missing("the connections are known", err)
	for _, s := range summaries {
		name := connection.Name{Env: s.Environment, Name: s.Name}
		if c, err := client.KafkaConnection(ctx, name); !missing("connection "+name.String()+" is known", err) {
			f.Connections = append(f.Connections, c)
		}
	}
	names, err := client.Connectors(ctx)
	missing("the connectors are known", err)
	for _, name := range names {
		if c, err := connectorFacts(ctx, client, name); !missing("connector "+name+" is known", err) {
			f.Connectors = append(f.Connectors, c)
		}
	}
	if report, err := client.VerifyAudit(ctx, nil); err == nil {
		f.Verified = &report
		page, err := client.Audit(ctx, audit.Query{Kind: audit.People, Limit: entriesRead})
		missing("the newest entries of the audit trail are known", err)
		f.Entries = page.Entries
	} else if !rest.IsNotFound(err) {
		missing("the audit trail is known", err)
	}
	return f, ctx.Err()
}

func connectorFacts(ctx context.Context, client *rest.Client, name string) (Connector, error) {
	info, err := client.Connector(ctx, name)
	if err != nil {
		return Connector{}, err
	}
	c := Connector{Name: name, Type: string(info.Type), Class: info.Config["connector.class"], Config: info.Config}
	keys, err := client.PluginConfig(ctx, c.Class)
	if err != nil {
		return Connector{}, err
	}
	types := map[string]config.Type{}
	for _, k := range keys {
		types[k.Name] = k.Type
	}
	c.Literals = literals(info.Config, types)
	history, err := client.History(ctx, name)
	if err != nil {
		return Connector{}, err
	}
	c.Versions = len(history.Versions)
	progress, err := client.Replication(ctx, name)
	if err != nil {
		return Connector{}, err
	}
	for _, t := range progress.Tasks {
		for _, p := range t.Partitions {
			if p.TargetTopic != "" && !slices.Contains(c.Targets, p.TargetTopic) {
				c.Targets = append(c.Targets, p.TargetTopic)
			}
		}
	}
	slices.Sort(c.Targets)
	gaps, err := client.Gaps(ctx, name)
	if err != nil {
		return Connector{}, err
	}
	c.Gaps = len(gaps.Gaps)
	return c, nil
}

// selfTest shows a canary in every way in which a secret could be shown by accident, and returns those in which it was.
func selfTest() (leaks []string) {
	const canary = "canary-0f8a1c"
	secret := config.NewSecret(canary)
	settings := config.Settings{"sasl.password": {Written: "${file:/etc/k:password}", Value: secret}}
	asJSON, _ := json.Marshal(map[string]any{"secret": secret, "settings": settings})
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("test", "secret", secret, "settings", settings)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("test", "secret", secret, "settings", settings)
	for way, out := range map[string]string{
		"%v": fmt.Sprintf("%v %v", secret, settings), "%+v": fmt.Sprintf("%+v %+v", secret, settings), "%#v": fmt.Sprintf("%#v %#v", secret, settings),
		"%s": fmt.Sprintf("%s %s", secret, settings), "%q": fmt.Sprintf("%q", secret), "%x": fmt.Sprintf("%x", secret), "JSON": string(asJSON), "log lines": log.String(),
	} {
		if strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
			leaks = append(leaks, way)
		}
	}
	slices.Sort(leaks)
	return leaks
}
