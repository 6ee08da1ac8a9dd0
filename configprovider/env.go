package configprovider

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"barnabas/config"
)

// envKind reads environment variables: Kafka's EnvVarConfigProvider, ${env:NAME}.
func envKind(environ []string) Kind {
	return Kind{
		Name:    "env",
		Classes: []string{"org.apache.kafka.common.config.provider.EnvVarConfigProvider"},
		Params:  []string{"allowlist.pattern"},
		Open: func(params config.Settings) (Provider, error) {
			pattern := ".*"
			if p, ok := params["allowlist.pattern"]; ok {
				pattern = p.Value.Reveal()
			}
			matches, err := wholeName(pattern)
			if err != nil {
				return nil, fmt.Errorf("allowlist.pattern=%s: not a regular expression", params["allowlist.pattern"].Written)
			}
			return newEnvProvider(environ, matches)
		},
	}
}

type envProvider struct{ variables map[string]string }

// newEnvProvider keeps of environ only what matches, so that nothing else can be asked for.
func newEnvProvider(environ []string, matches func(name string) (bool, error)) (Provider, error) {
	p := envProvider{variables: map[string]string{}}
	for _, variable := range environ {
		name, value, ok := strings.Cut(variable, "=")
		if !ok || name == "" {
			continue
		}
		allowed, err := matches(name)
		if err != nil {
			return nil, fmt.Errorf("allowlist.pattern takes too long on the name %q", name)
		}
		if allowed {
			p.variables[name] = value
		}
	}
	return p, nil
}

func (p envProvider) Read(_ context.Context, path string, keys []string) (Data, error) {
	if path != "" {
		return Data{}, errors.New("an environment variable has no path: write it as ${env:NAME}")
	}
	return pickKeys("the environment (as far as allowlist.pattern allows)", p.variables, keys), nil
}

// wholeName compiles a Java pattern that has to match a whole name. What RE2
// cannot (look-ahead and the like) a backtracking engine does, within a bound.
func wholeName(pattern string) (func(name string) (bool, error), error) {
	if re, err := regexp.Compile(`\A(?:` + pattern + `)\z`); err == nil {
		return func(name string) (bool, error) { return re.MatchString(name), nil }, nil
	}
	re, err := regexp2.Compile(`\A(?:`+pattern+`)\z`, regexp2.None)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = 100 * time.Millisecond
	return re.MatchString, nil
}
