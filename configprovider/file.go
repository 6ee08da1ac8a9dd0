package configprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"barnabas/config"
)

// fileKind reads properties files: Kafka's FileConfigProvider, ${file:/path:key}.
var fileKind = Kind{
	Name:    "file",
	Classes: []string{"org.apache.kafka.common.config.provider.FileConfigProvider"},
	Params:  []string{"allowed.paths"},
	Open: func(params config.Settings) (Provider, error) {
		allowed, err := newAllowedPaths(params["allowed.paths"])
		return fileProvider{allowed}, err
	},
}

type fileProvider struct{ allowed allowedPaths }

func (p fileProvider) Read(_ context.Context, path string, keys []string) (Data, error) {
	if path == "" {
		return Data{}, errors.New("that names no file: write it as ${file:/path/of/the/file:key}")
	}
	text, written, err := p.allowed.readText(path)
	if err != nil {
		return Data{}, fmt.Errorf("that file cannot be read: %w", err)
	}
	properties, err := config.ParseProperties(strings.TrimPrefix(text, "\ufeff"))
	if err != nil {
		return Data{}, fmt.Errorf("that file cannot be read: %w", err)
	}
	d := pickKeys("that file", properties, keys)
	d.Version, d.TTL = fileVersion(written), fileTTL
	return d, nil
}

// plainName is what a key looks like that may be named in a hint.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// pickKeys takes keys out of what a place holds. Names are those of the pairs
// that look like one: in a file that holds nothing but a password, the password reads as a key without a value.
func pickKeys(place string, pairs map[string]string, keys []string) Data {
	d := Data{Place: place, Values: map[string]config.Secret{}}
	for _, key := range keys {
		if value, ok := pairs[key]; ok {
			d.Values[key] = config.NewSecret(value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		if pairs[name] != "" && plainName.MatchString(name) {
			d.Names = append(d.Names, name)
		}
	}
	return d
}
