package worker

import (
	"fmt"
	"slices"
	"strings"

	"barnabas/connector"
	"barnabas/connector/filestream"
	"barnabas/connector/mirror"
)

// plugins is the table of connectors: a new one is one line here, in the order in which Kafka Connect lists them.
var plugins = []connector.Plugin{
	filestream.Sink(),
	filestream.Source(),
	mirror.Checkpoints(),
	mirror.Heartbeats(),
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

// fences says whether the task with this configuration can shut its former owners
// out of the target by itself.
func fences(task map[string]string) bool {
	p, err := pluginFor(task["connector.class"])
	return err == nil && p.Fences
}

// extends says whether a running task takes its new configuration without a restart.
func extends(old, task map[string]string) bool {
	p, err := pluginFor(task["connector.class"])
	return err == nil && p.Extends != nil && p.Extends(old, task)
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
