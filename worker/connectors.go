package worker

import (
	"fmt"
	"slices"
	"strings"

	"barnabas/connector"
	"barnabas/connector/mirror"
)

// plugins is the table of connectors: a new one is one line here.
var plugins = []connector.Plugin{
	mirror.Source(),
}

// Plugins lists the kinds of connectors.
func (w *Worker) Plugins() []PluginInfo {
	list := make([]PluginInfo, 0, len(plugins))
	for _, p := range plugins {
		list = append(list, PluginInfo{Class: p.Class, Type: p.Type, Version: p.Version})
	}
	return list
}

// pluginFor finds a plugin by its class or an alias.
func pluginFor(class string) (connector.Plugin, error) {
	var names []string
	for _, p := range plugins {
		if p.Class == class || slices.Contains(p.Aliases, class) {
			return p, nil
		}
		names = append(names, p.Class)
	}
	// Connect's sentence, as Plugins.connectorClass has it.
	return connector.Plugin{}, fmt.Errorf("Failed to find any class that implements Connector and which name matches %s, "+
		"available connectors are: %s", class, strings.Join(names, ", "))
}
