package configprovider

import (
	"fmt"
	"strings"

	"barnabas/config"
)

// Fill replaces the references in written with values that are at hand, by reference as it is written. It is what
// Resolve makes of the same values.
func Fill(written map[string]string, values map[string]config.Secret) (config.Settings, error) {
	settings := make(config.Settings, len(written))
	for key, text := range written {
		var value strings.Builder
		rest := 0
		for _, ref := range References(text) {
			secret, ok := values[ref.written]
			if !ok {
				return nil, fmt.Errorf("%q names %s, which has not been resolved", key, ref)
			}
			value.WriteString(text[rest:ref.start])
			value.WriteString(secret.Reveal())
			rest = ref.start + len(ref.written)
		}
		value.WriteString(text[rest:])
		settings[key] = config.Setting{Written: text, Value: config.NewSecret(value.String())}
	}
	return settings, nil
}
