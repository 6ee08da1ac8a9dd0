package worker

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/mirror"
	"barnabas/worker/herder"
)

// TranslateOffsets says where groups of a mirror's source go on at the target, under the identity of the connector. It is answered
// by the worker that runs the connector, where its references resolve; if nobody runs it, by any. No groups, or no topics,
// stand for all that the mirror's settings choose.
func (w *Worker) TranslateOffsets(ctx context.Context, name string, groups, topics []string) ([]mirror.GroupTranslation, error) {
	settings, err := w.linkOf(ctx, name, "Source", "Checkpoint")
	if err != nil {
		return nil, err
	}
	clients, closeAll := clientconfig.Clients(w.o.File.Settings, settings, w.o.Dialer)
	defer closeAll()
	list, err := mirror.TranslateGroups(ctx, settings, clients, w.log, groups, topics)
	if err != nil {
		return nil, &Error{ErrUnavailable, fmt.Sprintf("Offsets of %s cannot be translated: %v", name, err)}
	}
	return list, nil
}

// FailoverQuery says what a failover plan is measured by; see mirror.FailoverOptions.
type FailoverQuery struct {
	MaxLag        int64
	Watch, Recent time.Duration
	States        []mirror.ConnectorState
	Live          []connector.PartitionProgress
}

// FailoverPlan says what stands in the way of a failover to a mirror's target, under the identity of the connector. It changes nothing
// on either cluster. It is answered where TranslateOffsets is.
func (w *Worker) FailoverPlan(ctx context.Context, name string, q FailoverQuery) (mirror.FailoverPlan, error) {
	settings, err := w.linkOf(ctx, name, "Source")
	if err != nil {
		return mirror.FailoverPlan{}, err
	}
	clients, closeAll := clientconfig.Clients(w.o.File.Settings, settings, w.o.Dialer)
	defer closeAll()
	plan, err := mirror.PlanFailover(ctx, mirror.FailoverOptions{
		Settings: settings, Clients: clients, Log: w.log, MaxLag: q.MaxLag, Watch: q.Watch, Recent: q.Recent, States: q.States, Live: q.Live,
		Internal: w.internal(),
	})
	if err != nil {
		return plan, &Error{ErrUnavailable, fmt.Sprintf("The failover of %s cannot be planned: %v", name, err)}
	}
	return plan, nil
}

// linkOf returns the resolved settings of a mirror, and for a source connector what the checkpoint connector of the same link
// says of groups. The error is an *ElsewhereError if another worker runs the connector.
func (w *Worker) linkOf(ctx context.Context, name string, kinds ...string) (config.Settings, error) {
	var written map[string]string
	err := w.read(ctx, func(m *herder.Machine) error {
		config, _, ok := m.Connector(name)
		if !ok {
			return notFound("Connector %s not found", name)
		}
		if !isMirror(config, kinds...) {
			return &Error{ErrInvalid, fmt.Sprintf("Connector %s is no Mirror%sConnector", name, strings.Join(kinds, "Connector or Mirror"))}
		}
		written = maps.Clone(config)
		if isMirror(config, "Source") {
			w.addGroups(m, written)
		}
		owner, _, ok := m.Owner(herder.Unit{Connector: name, Task: herder.ConnectorUnit})
		if !ok || owner == w.self {
			return nil
		}
		joins, present := m.Members()
		for _, j := range joins {
			if j.Instance == owner && present[j.Worker] {
				return &ElsewhereError{j.URL}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	settings, _, err := w.resolve(ctx, written)
	if err != nil {
		return nil, &Error{ErrUnavailable, err.Error()}
	}
	return settings, nil
}

// addGroups takes over what the checkpoint connector of the link of a source connector says of groups.
func (w *Worker) addGroups(m *herder.Machine, source map[string]string) {
	for _, name := range m.Connectors() {
		c, _, ok := m.Connector(name)
		if !ok || !isMirror(c, "Checkpoint") || !mirror.SameLink(source, c) {
			continue
		}
		for _, key := range []string{"groups", "groups.exclude", "offset-syncs.topic.location"} {
			if v, set := c[key]; set {
				source[key] = v
			}
		}
		return
	}
}

// isMirror says whether a connector is one of MirrorMaker's of a kind: Source, Checkpoint, Heartbeat.
func isMirror(written map[string]string, kinds ...string) bool {
	p, err := pluginFor(written["connector.class"])
	for _, kind := range kinds {
		if err == nil && strings.HasSuffix(p.Class, ".Mirror"+kind+"Connector") {
			return true
		}
	}
	return false
}
