package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/reporter"
	"barnabas/connector/transform"
	"barnabas/connector/versionrange"
	"barnabas/worker/herder"
)

// Validate checks a connector configuration and describes every key of its
// plugin. Secret references are resolved to see that they work; the answer shows
// them as written.
func (w *Worker) Validate(ctx context.Context, class string, written map[string]string) (ConfigInfos, error) {
	plugin, err := pluginFor(class)
	if err != nil {
		return ConfigInfos{}, &Error{ErrInternal, err.Error()}
	}
	expanded, problems := w.judgeConnections(plugin, written)
	settings, resolveErr := w.resolveOwn(ctx, written, expanded)
	if resolveErr != nil && ctx.Err() != nil {
		// A provider that is slow says nothing about the configuration.
		return ConfigInfos{}, &Error{ErrUnavailable, "The secrets of the configuration have not been told in time: " + resolveErr.Error()}
	}
	if resolveErr != nil {
		settings = config.Literal(written)
		var failed *configprovider.Error
		if !errors.As(resolveErr, &failed) {
			return ConfigInfos{}, &Error{ErrUnavailable, resolveErr.Error()}
		}
		for _, f := range failed.Failures {
			if f.Unavailable { // no mistake of this configuration: what runs it waits for it
				w.log.Warn("a secret cannot be checked: its provider cannot be asked", "key", f.Key, "reference", f.Reference, "reason", f.Reason)
				continue
			}
			problems = append(problems, config.Problem{Key: f.Key, Message: f.String()})
		}
	}
	wrongVersion, err := connectorVersion(plugin, written)
	if err != nil {
		return ConfigInfos{}, err
	}
	problems = append(append(problems, wrongVersion...), converter.CheckVersions(written)...)
	chained, refused := chainOf(plugin, written)
	problems = append(problems, refused...)
	if plugin.Validate != nil {
		problems = append(problems, plugin.Validate(written)...)
	}
	problems = append(problems, w.exactlyOnce(plugin, written, problems)...)
	for _, def := range []*config.Def{engineKeys, restartKeys} {
		_, wrong := def.Parse(settings)
		problems = append(problems, wrong...)
	}
	problems = append(problems, w.judgeLiterals(plugin, written)...)
	if _, err := herder.ParsePlacement(written[herder.PlacementKey]); err != nil {
		problems = append(problems, config.Problem{Key: herder.PlacementKey, Message: "Invalid value " + written[herder.PlacementKey] + " for configuration " + herder.PlacementKey + ": " + err.Error()})
	}
	if len(settings.Sub(reporter.Prefix)) > 0 {
		_, wrong := reporter.Keys.Parse(settings)
		problems = append(problems, wrong...)
	}
	converters, wrong := converter.Infos(settings)
	if plugin.Converts {
		problems = append(problems, wrong...)
	}
	infos := plugin.Keys.Infos(class, settings, problems...)
	for _, i := range converters {
		infos.Configs = append(infos.Configs, i)
		infos.ErrorCount += len(i.Value.Errors)
	}
	infos.Groups = append(infos.Groups, chained.Groups...)
	infos.Configs = slices.Insert(infos.Configs, ownKeys(infos), chained.Configs...) // Connect puts them before the connector's own keys
	infos.ErrorCount += chained.ErrorCount
	if len(wrongVersion) > 0 {
		infos = unversioned(infos, plugin.Version)
	}
	// Connect puts refused overrides behind all other keys.
	for _, p := range w.policy.Check(w.overrides(plugin, written), written) {
		infos.Configs = append(infos.Configs, config.Info{Value: config.ValueInfo{
			Name: p.Key, Value: new(config.Redact(p.Key, written[p.Key])), RecommendedValues: []string{}, Errors: []string{p.Message}, Visible: true,
		}})
		infos.ErrorCount++
	}
	return infos, nil
}

// connectorVersion judges which version of its class a connector wants (KIP-891): one has the version of Kafka's that it is
// like. As in Connect, what is no version at all is an error of the request.
func connectorVersion(plugin connector.Plugin, written map[string]string) ([]config.Problem, error) {
	const key = keyConnectorVersion
	wanted, ok := written[key]
	if !ok {
		return nil, nil
	}
	wrong, malformed := versionrange.Check(plugin.Class, wanted, plugin.Version)
	switch {
	case malformed:
		return nil, &Error{ErrInvalid, wrong}
	case wrong != "":
		return []config.Problem{{Key: "connector.class", Message: wrong}, {Key: key, Message: wrong}}, nil
	}
	return nil, nil
}

// commonGroups are the groups of the keys that Connect gives every connector, sourceGroups those that it gives every source.
var (
	commonGroups = []string{"Common", "Transforms", "Predicates", "Error Handling"}
	sourceGroups = []string{"Topic Creation", "Exactly Once Support", "offsets.topic"}
)

// ownKeys is the index of the first key of the connector itself.
func ownKeys(infos config.Infos) int {
	for i, info := range infos.Configs {
		d := info.Definition
		if d != nil && (d.Group == nil || !slices.Contains(commonGroups, *d.Group) && !slices.Contains(sourceGroups, *d.Group)) {
			return i
		}
	}
	return len(infos.Configs)
}

// unversioned leaves what Connect says of a connector of a version that it does not have: the keys that any has.
func unversioned(infos config.Infos, version string) config.Infos {
	infos.Groups = slices.DeleteFunc(infos.Groups, func(g string) bool { return !slices.Contains(commonGroups, g) })
	infos.Configs = slices.DeleteFunc(infos.Configs, func(i config.Info) bool {
		d := i.Definition
		return d != nil && len(i.Value.Errors) == 0 && (d.Group == nil || !slices.Contains(commonGroups, *d.Group))
	})
	for _, i := range infos.Configs {
		if i.Definition != nil && i.Definition.Name == keyConnectorVersion {
			i.Definition.DefaultValue = &version
		}
	}
	for n := range infos.Configs {
		if infos.Configs[n].Value.Name == keyConnectorVersion {
			infos.Configs[n].Value.RecommendedValues = []string{version}
		}
	}
	return infos
}

const keyConnectorVersion = "connector.plugin.version"

// chainOf describes the keys of the transforms in a configuration, with all that keeps them from running. A connector that
// runs none refuses them: they would otherwise be accepted and not run.
func chainOf(plugin connector.Plugin, written map[string]string) (config.Infos, []config.Problem) {
	infos := transform.Infos(written)
	if infos.ErrorCount > 0 {
		return infos, nil
	}
	chain, problems := transform.Parse(written)
	if chain != nil && !plugin.Transforms {
		return infos, []config.Problem{{Key: "transforms", Message: fmt.Sprintf("Invalid value %s for configuration transforms: "+
			"this connector runs no transforms, and without them its records would not be what they promise", written["transforms"])}}
	}
	return transform.Infos(written, problems...), nil
}

// engineKeys are settings of ours that every connector may have; no plugin
// describes them, since Connect's answer to a validation has none like them.
var engineKeys = config.NewDef(config.Key{Name: "gap.policy", Checks: []config.Check{config.OrNull(config.OneOf("stop", "record"))}})

// exactlyOnce judges what a source connector wants of transactions, as DistributedHerder.validateSourceConnectorConfig
// does. A plugin that has found something about exactly.once.support itself is left the word: its
// finding replaces the framework's in Connect, too.
func (w *Worker) exactlyOnce(plugin connector.Plugin, written map[string]string, found []config.Problem) []config.Problem {
	var problems []config.Problem
	if plugin.Type != connector.Source {
		return nil
	}
	const support, boundary = "exactly.once.support", "transaction.boundary"
	if strings.EqualFold(written[support], "required") && w.o.File.ExactlyOnceSource != exactlyOnceEnabled &&
		!slices.ContainsFunc(found, func(p config.Problem) bool { return p.Key == support }) {
		problems = append(problems, config.Problem{Key: support, Message: "This worker does not have exactly-once source support enabled."})
	}
	if strings.EqualFold(written[boundary], "connector") { // SourceConnector.canDefineTransactionBoundaries: no plugin here can
		problems = append(problems, config.Problem{Key: boundary, Message: "The connector does not support connector-defined transaction boundaries " +
			"with the given configuration. Please reconfigure it to use a different transaction boundary definition."})
	}
	return problems
}

// exactlyOnceEnabled is the value of exactly.once.source.support with which tasks
// write in transactions.
const exactlyOnceEnabled = "enabled"

// overrides returns the client kinds whose overrides are checked. A source uses an admin client if it says how
// topics are created (Connect's SourceConnectorConfig.usesTopicCreation), and a consumer and an admin client for offsets of
// its own (DistributedHerder.connectorUsesSeparateOffsetsTopicClients).
func (w *Worker) overrides(plugin connector.Plugin, written map[string]string) []string {
	kinds := slices.Clone(plugin.Overrides)
	add := func(kind string) {
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if plugin.Type != connector.Source {
		return kinds
	}
	if w.o.File.ExactlyOnceSource == exactlyOnceEnabled || strings.TrimSpace(written["offsets.storage.topic"]) != "" {
		add("consumer")
		add("admin")
	}
	for key := range written {
		if strings.HasPrefix(key, "topic.creation.") {
			add("admin")
		}
	}
	return kinds
}

// named settles a configuration's name: Connect takes it from the path and
// refuses another one in the body.
func (w *Worker) named(name string, written map[string]string) (map[string]string, error) {
	if in, ok := written["name"]; ok && in != name {
		return nil, &Error{ErrInvalid, fmt.Sprintf("Connector name configuration (%s) doesn't match connector name in the URL (%s)", in, name)}
	}
	written = maps.Clone(written)
	if written == nil {
		written = map[string]string{}
	}
	written["name"] = name
	return written, nil
}

// check refuses a configuration with errors, in Connect's words.
func (w *Worker) check(ctx context.Context, written map[string]string) error {
	class, ok := written["connector.class"]
	if !ok {
		return &Error{ErrInvalid, "Connector config " + shown(written) + " contains no connector type"}
	}
	infos, err := w.Validate(ctx, class, written)
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	if err != nil {
		return &Error{ErrInvalid, err.Error()}
	}
	if infos.ErrorCount == 0 {
		if keys := w.LiteralSecrets(written); len(keys) > 0 {
			w.log.Warn("a connector configuration holds literal secrets, which stand in the config topic for all to read: "+
				"put references in their place (connector.secrets.literal.policy)", "connector", written["name"], "keys", keys)
		}
	}
	if infos.ErrorCount == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Connector configuration is invalid and contains the following %d error(s):", infos.ErrorCount)
	for _, c := range infos.Configs {
		for _, e := range c.Value.Errors {
			b.WriteString("\n" + e)
		}
	}
	b.WriteString("\nYou can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`")
	return &Error{ErrInvalid, b.String()}
}

// shown lists the keys of a configuration: its values may be secrets.
func shown(written map[string]string) string {
	keys := make([]string, 0, len(written))
	for k := range written {
		keys = append(keys, k)
	}
	return fmt.Sprintf("with the keys %q", keys)
}
