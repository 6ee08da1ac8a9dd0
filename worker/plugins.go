package worker

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/transform"
	"barnabas/connector/versionrange"
)

// This file knows the plugins that are no connectors: transforms, predicates and converters.

// recorded is what Kafka Connect 4.3.1 lists beside connectors, and answers about the settings of each (e2e/record).
//
//go:embed plugins.json
var recordedPlugins []byte

// plugin is a transform, a predicate or a converter. A converter stands there twice: once as a header converter.
type plugin struct {
	PluginInfo
	Keys []*config.KeyInfo `json:"keys"`
}

// otherPlugins are those of Connect's that are here, in its order.
var otherPlugins = sync.OnceValue(func() []plugin {
	var all []plugin
	if err := json.Unmarshal(recordedPlugins, &all); err != nil {
		panic(fmt.Sprintf("worker: embedded plugins: %v", err))
	}
	here := converter.Classes()
	for _, c := range transform.Classes() {
		here = append(here, c.Name)
	}
	return slices.DeleteFunc(all, func(p plugin) bool { return !slices.Contains(here, p.Class) })
})

// AllPlugins lists connectors, transforms, predicates and converters, as Connect orders them.
func (w *Worker) AllPlugins() []PluginInfo {
	list := w.Plugins()
	for _, p := range otherPlugins() {
		list = append(list, p.PluginInfo)
	}
	return list
}

// PluginKeys describes the settings of a transform, predicate or converter, by its class or an alias of it: the simple name, or that
// without what kind it is. found is false for all else, connectors too.
func PluginKeys(name string) (class string, keys []*config.KeyInfo, found bool) {
	for _, p := range otherPlugins() {
		simple := p.Class[strings.LastIndexByte(p.Class, '.')+1:]
		if strings.Contains(simple, "$") && name != p.Class {
			continue // Connect has no aliases of nested classes
		}
		kind, alias := map[connector.Type]string{"converter": "Converter", "header_converter": "HeaderConverter", "transformation": "Transformation", "predicate": "Predicate"}[p.Type], ""
		if alias = strings.TrimSuffix(simple, kind); alias == "" {
			alias = simple
		}
		if name == p.Class || name == simple || name == alias {
			return p.Class, p.Keys, true
		}
	}
	return "", nil, false
}

// pluginVersion is that of all plugins: they are Kafka's of this version.
const pluginVersion = "4.3.1"

// CheckPluginVersion says what is wrong with the version that is wanted of a plugin; empty: nothing.
func CheckPluginVersion(class, wanted string) string {
	message, malformed := versionrange.Check(class, wanted, pluginVersion)
	if malformed {
		return "Invalid version specification: " + wanted
	}
	return message
}
