package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"barnabas/access"
	"barnabas/connection"
	"barnabas/k2k"
	"barnabas/rest"
)

// rehearsal finds out, without changing anything, why apply would fail: what the caller may not do, references that cannot be
// resolved and settings that do not fit, and rights in Kafka that the principals of connections lack.
type rehearsal struct {
	client  *rest.Client
	cluster string          // group.id
	pending map[string]bool // connections that the file makes or changes: they can be tried when they are there
	checked map[connection.Name][]string
}

func newRehearsal(ctx context.Context, client *rest.Client, all []difference) (*rehearsal, error) {
	who, err := client.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	r := &rehearsal{client: client, cluster: who.Cluster, pending: map[string]bool{}, checked: map[connection.Name][]string{}}
	for _, d := range all {
		if d.Kind == "connection" && d.Change != "none" {
			r.pending[d.Name] = true
		}
	}
	return r, nil
}

// problems are those that apply would have with m, as far as that can be told.
func (r *rehearsal) problems(ctx context.Context, m manifest, change string) (problems []string, err error) {
	if change == "none" {
		return nil, nil
	}
	if problems, err = r.denied(ctx, m, change); err != nil {
		return nil, err
	}
	var configs []map[string]string
	switch m.kind {
	case "app":
		for _, c := range k2k.Compile(m.name, m.app.Defaults()) {
			settings := maps.Clone(c.Config)
			settings["name"] = c.Name
			configs = append(configs, settings)
		}
	case "connector":
		settings := maps.Clone(m.config)
		settings["name"] = m.name
		configs = append(configs, settings)
	}
	for _, settings := range configs {
		more, err := r.works(ctx, settings)
		if err != nil {
			return nil, err
		}
		problems = append(problems, more...)
	}
	slices.Sort(problems)
	return slices.Compact(problems), nil
}

// denied tells what of m the caller may not do.
func (r *rehearsal) denied(ctx context.Context, m manifest, change string) (problems []string, err error) {
	type need struct {
		actions  []string // one of them will do
		resource string
	}
	var needs []need
	uses := func(names ...connection.Name) {
		for _, name := range names {
			needs = append(needs, need{[]string{"environments:UseKafkaConnection"}, access.Resource("environments:kafka-connection", name.String())})
		}
	}
	create := change == "create"
	switch m.kind {
	case "connection":
		needs = append(needs, need{[]string{"environments:UpsertKafkaConnection"}, access.Resource("environments:kafka-connection", m.name)})
	case "role":
		needs = append(needs, need{[]string{"admin:ManageRoles"}, access.Resource("connect:cluster", r.cluster)})
	case "app":
		action := "k2k:UpdateApp"
		if create {
			action = "k2k:CreateApp"
		}
		needs = append(needs, need{[]string{action, "k2k:UpsertApp"}, access.Resource("k2k:app", m.name)},
			need{[]string{"kubernetes:DeployApps"}, access.Resource("kubernetes:namespace", cmp.Or(m.app.Namespace, "-/-/-"))})
		for _, side := range []string{m.app.Source, m.app.Target} {
			if name, err := connection.ParseName(side); err == nil {
				uses(name)
			}
		}
	default:
		action := "connect:UpdateConnectorConfig"
		if create {
			action = "connect:CreateConnector"
		}
		needs = append(needs, need{[]string{action}, access.Resource("connect:connector", m.name)})
		uses(connection.Names(m.config)...)
	}
	for _, n := range needs {
		reason := ""
		for _, action := range n.actions {
			p, err := r.client.Can(ctx, action, n.resource)
			if err != nil {
				return nil, err
			}
			if p.Allowed {
				reason = ""
				break
			}
			reason = cmp.Or(reason, p.Reason)
		}
		if reason != "" {
			problems = append(problems, "you may not do that: "+reason)
		}
	}
	return problems, nil
}

// works tells what is wrong with a connector's configuration, and with the connections that it names, if these are there.
func (r *rehearsal) works(ctx context.Context, settings map[string]string) (problems []string, err error) {
	for _, name := range connection.Names(settings) {
		if r.pending[name.String()] {
			return nil, nil
		}
		lacks, err := r.check(ctx, name)
		if err != nil {
			return nil, err
		}
		problems = append(problems, lacks...)
	}
	infos, err := r.client.Validate(ctx, settings)
	if rest.HasStatus(err, http.StatusForbidden) {
		return problems, nil
	}
	if err != nil {
		return nil, err
	}
	for _, info := range infos.Configs {
		for _, wrong := range info.Value.Errors {
			problems = append(problems, info.Value.Name+": "+oneLine(wrong))
		}
	}
	return problems, nil
}

// check tries a connection, once.
func (r *rehearsal) check(ctx context.Context, name connection.Name) (problems []string, err error) {
	if known, ok := r.checked[name]; ok {
		return known, nil
	}
	checked, err := r.client.CheckKafkaConnection(ctx, name)
	switch {
	case rest.HasStatus(err, http.StatusForbidden): // who may use it need not see what it has
	case rest.IsNotFound(err):
		problems = append(problems, fmt.Sprintf("connection %s is not there", name))
	case err != nil:
		return nil, err
	}
	for _, step := range checked.Steps {
		if !step.OK && step.Step != "rights" {
			problems = append(problems, fmt.Sprintf("connection %s, %s: %s", name, step.Step, oneLine(step.Detail)))
		}
	}
	for _, need := range checked.Needs {
		if need.State == connection.Missing {
			problems = append(problems, fmt.Sprintf("connection %s: %s lacks %s", name, checked.Principal, need.Right))
		}
	}
	r.checked[name] = problems
	return problems, nil
}

// rehearse shows what apply would change, and why it would fail.
func (c *cli) rehearse(ctx context.Context, client *rest.Client, manifests []manifest, all []difference) error {
	r, err := newRehearsal(ctx, client, all)
	if err != nil {
		return c.wrong(err)
	}
	fails := false
	for i, m := range manifests {
		if all[i].Problems, err = r.problems(ctx, m, all[i].Change); err != nil {
			return c.wrong(fmt.Errorf("%s %s: %w", m.kind, m.name, err))
		}
		fails = fails || len(all[i].Problems) > 0
	}
	if err := c.show(all, func(t *table) { drawDifferences(t, all) }); err != nil {
		return err
	}
	if fails {
		return errTold
	}
	return nil
}
