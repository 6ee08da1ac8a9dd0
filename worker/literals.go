package worker

import (
	"fmt"
	"strings"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

// keyLiteralPolicy says what becomes of secrets that are written out in a connector's configuration: of the worker, or of one
// connector.
const keyLiteralPolicy = "connector.secrets.literal.policy"

// literalPolicy is the policy for one configuration: its own, or else the worker's. A connector cannot allow itself what
// the worker denies.
func (w *Worker) literalPolicy(written map[string]string) (policy string, problems []config.Problem) {
	workers := w.o.File.LiteralSecretPolicy
	own, set := written[keyLiteralPolicy]
	own = strings.TrimSpace(own)
	switch {
	case !set:
		return workers, nil
	case own != "allow" && own != "warn" && own != "deny":
		return workers, []config.Problem{{Key: keyLiteralPolicy, Message: fmt.Sprintf("Invalid value %s for configuration %s: String must be one of: allow, warn, deny", own, keyLiteralPolicy)}}
	case workers == "deny" && own != "deny":
		return workers, []config.Problem{{Key: keyLiteralPolicy, Message: fmt.Sprintf("Invalid value %s for configuration %s: the worker says deny, and a connector may be stricter, not laxer: take it out", own, keyLiteralPolicy)}}
	}
	return own, nil
}

// judgeLiterals reports the keys whose secrets are written out, if that is denied.
func (w *Worker) judgeLiterals(plugin connector.Plugin, written map[string]string) []config.Problem {
	policy, problems := w.literalPolicy(written)
	if policy != "deny" {
		return problems
	}
	for _, key := range configprovider.Literals(plugin.Keys, written) {
		problems = append(problems, config.Problem{Key: key, Message: key + " holds a literal secret, which " + keyLiteralPolicy + "=deny " +
			"does not allow: put a reference like ${file:/path:key} in its place"})
	}
	return problems
}

// LiteralSecrets names the keys of a configuration whose secrets are written out, if its author is to be warned of them.
func (w *Worker) LiteralSecrets(written map[string]string) []string {
	if policy, _ := w.literalPolicy(written); policy != "warn" {
		return nil
	}
	plugin, _ := pluginFor(written["connector.class"]) // an unknown class has no keys of its own
	return configprovider.Literals(plugin.Keys, written)
}
