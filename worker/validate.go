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
)

// Validate checks a connector configuration and describes every key of its
// plugin. Secret references are resolved to see that they work; the answer shows
// them as written.
func (w *Worker) Validate(ctx context.Context, class string, written map[string]string) (ConfigInfos, error) {
	infos, _, err := w.validate(ctx, class, written)
	return infos, err
}

func (w *Worker) validate(ctx context.Context, class string, written map[string]string) (ConfigInfos, connector.Plugin, error) {
	plugin, err := pluginFor(class)
	if err != nil {
		return ConfigInfos{}, plugin, &Error{ErrInternal, err.Error()}
	}
	var problems []config.Problem
	settings, _, resolveErr := w.o.Resolver.Resolve(ctx, written)
	if resolveErr != nil {
		settings = config.Literal(written)
		var failed *configprovider.Error
		if !errors.As(resolveErr, &failed) {
			return ConfigInfos{}, plugin, &Error{ErrUnavailable, resolveErr.Error()}
		}
		problems = append(problems, failed.Problems()...)
	}
	problems = append(problems, noTransforms(written)...)
	if plugin.Validate != nil {
		problems = append(problems, plugin.Validate(written)...)
	}
	if w.o.File.LiteralSecretPolicy == "deny" {
		for _, key := range configprovider.Literals(plugin.Keys, written) {
			problems = append(problems, config.Problem{Key: key, Message: "holds a literal secret, which connector.secrets.literal.policy=deny " +
				"does not allow: put a reference like ${file:/path:key} in its place"})
		}
	}
	infos := plugin.Keys.Infos(plugin.Class, settings, problems...)
	// Connect puts refused overrides behind all other keys.
	for _, p := range w.policy.Check(overrides(plugin, written), written) {
		infos.Configs = append(infos.Configs, config.Info{Value: config.ValueInfo{
			Name: p.Key, Value: new(config.Redact(p.Key, written[p.Key])), RecommendedValues: []string{}, Errors: []string{p.Message}, Visible: true,
		}})
		infos.ErrorCount++
	}
	return infos, plugin, nil
}

// noTransforms refuses a chain of transforms, which would otherwise be accepted and
// not run. One without a type is refused in Connect's words.
func noTransforms(written map[string]string) []config.Problem {
	var problems []config.Problem
	for name := range strings.SplitSeq(written["transforms"], ",") {
		name = strings.TrimSpace(name)
		key := "transforms." + name + ".type"
		switch {
		case name == "":
		case written[key] == "":
			problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf("Missing required configuration %q which has no default value.", key)})
		default:
			problems = append(problems, config.Problem{Key: "transforms", Message: fmt.Sprintf("Invalid value %s for configuration transforms: "+
				"this version runs no transforms, and without them the copy would not be what they promise", name)})
		}
	}
	return problems
}

// overrides returns the client kinds whose overrides are checked. A source uses an admin client if it says how
// topics are created (Connect's SourceConnectorConfig.usesTopicCreation).
func overrides(plugin connector.Plugin, written map[string]string) []string {
	for key := range written {
		if plugin.Type == connector.Source && strings.HasPrefix(key, "topic.creation.") && !slices.Contains(plugin.Overrides, "admin") {
			return append(slices.Clone(plugin.Overrides), "admin")
		}
	}
	return plugin.Overrides
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
	infos, plugin, err := w.validate(ctx, class, written)
	if err != nil {
		return &Error{ErrInvalid, err.Error()}
	}
	if w.o.File.LiteralSecretPolicy == "warn" && infos.ErrorCount == 0 {
		if keys := configprovider.Literals(plugin.Keys, written); len(keys) > 0 {
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
