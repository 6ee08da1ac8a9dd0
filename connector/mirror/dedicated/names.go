package dedicated

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
)

// recordedNames are the settings that the classes of MirrorMaker 4.3.1 define (testdata/Vectors.java).
//
//go:embed names.json
var recordedNames []byte

type names struct {
	// Connector are those of its three connectors, Client those that all of Kafka's clients have in common.
	Connector, Client []string
}

var known = sync.OnceValue(func() names {
	var n names
	if err := json.Unmarshal(recordedNames, &n); err != nil {
		panic(fmt.Sprintf("dedicated: embedded names: %v", err))
	}
	return n
})

var workerDef = sync.OnceValue(config.WorkerDef)

func connectorNames() []string { return known().Connector }
func clientNames() []string    { return known().Client }

// restNames and restPrefixes are the settings of the internal REST API.
var (
	restNames = []string{
		"listeners", "rest.advertised.host.name", "rest.advertised.port", "rest.advertised.listener", "admin.listeners", "ssl.client.auth",
		"response.http.headers.config", "access.control.allow.origin", "access.control.allow.methods", "rest.extension.classes",
	}
	restPrefixes = []string{"listeners.https.", "admin.listeners.https."}
)

// clientPrefixes begin the settings of one kind of client.
var clientPrefixes = []string{"producer.", "consumer.", "admin."}

// freePrefixes begin settings of a connector that no table lists.
var freePrefixes = []string{
	"source.", "target.", "producer.", "consumer.", "admin.", "transforms.", "predicates.", "topic.creation.", keyProviders, "replication.policy.",
}

// freeTopPrefixes begin settings at the top level that reach workers or connectors and that no table lists.
var freeTopPrefixes = []string{
	"offset.storage.", "config.storage.", "status.storage.", "key.converter", "value.converter", "header.converter", "replication.policy.", keyProviders,
}

// freeClusterPrefixes begin settings of a cluster that no table lists.
var freeClusterPrefixes = append([]string{
	"offset.storage.", "config.storage.", "status.storage.", "key.converter.", "value.converter.", "header.converter.", "listeners.https.", "admin.listeners.https.",
	"metrics.context.", "replication.policy.", "gossip.", keyProviders,
}, clientPrefixes...)

// warnings tells which settings have no effect, and what was most likely meant, ordered by key.
func (f *File) warnings() []config.Warning {
	var warnings []config.Warning
	for _, key := range slices.Sorted(maps.Keys(f.written)) {
		if w := f.judge(key); w != nil {
			w.Key = key
			warnings = append(warnings, *w)
		}
	}
	return append(warnings, f.circles()...)
}

// circles tells of links that would copy each other's copies: the names of topics show where they come from only under
// DefaultReplicationPolicy.
func (f *File) circles() []config.Warning {
	var warnings []config.Warning
	copies := func(l Link) bool {
		c := f.connector(l, SourceConnector)
		return strings.EqualFold(c[keyEnabled], "true") && strings.HasSuffix(c["replication.policy.class"], "IdentityReplicationPolicy")
	}
	for _, l := range f.Links() {
		back := Link{l.Target, l.Source}
		if l.Source < l.Target && copies(l) && copies(back) {
			warnings = append(warnings, config.Warning{Key: "replication.policy.class", Message: fmt.Sprintf("%s and %s both keep the names of topics: "+
				"one that both copy runs in a circle, and is left out on one of the ways once that shows", l, back)})
		}
	}
	return warnings
}

// judge tells of a setting without effect. MirrorMaker takes any without a word.
func (f *File) judge(key string) *config.Warning {
	link, rest, ok := f.linkOf(key)
	if ok {
		return f.judgeScoped(rest, link+".", linkNames(), freePrefixes)
	}
	if before, after, isLink := strings.Cut(key, "->"); isLink && len(f.clusters) > 0 {
		target, _, _ := strings.Cut(after, ".")
		return &config.Warning{Unknown: true, Message: fmt.Sprintf("%q is of the link %s->%s, and clusters has only %s", key, before, target, strings.Join(f.clusters, ", "))}
	}
	cluster, rest, ok := f.clusterOf(key)
	if ok {
		if slices.Contains(connectorNames(), rest) && !slices.Contains(clusterNames(), rest) {
			return &config.Warning{Message: fmt.Sprintf("%s has no effect: %s is of a link, not of a cluster: write %s.%s", key, rest, f.linkWith(cluster), rest)}
		}
		if _, ok := f.written[rest]; ok && hasPrefix(rest, topLevel) && !strings.HasPrefix(rest, "replication.policy") {
			return &config.Warning{Message: fmt.Sprintf("%s has no effect: %s without the name of a cluster comes first, as in MirrorMaker", key, rest)}
		}
		return f.judgeScoped(rest, cluster+".", clusterNames(), freeClusterPrefixes)
	}
	return f.judgeTop(key)
}

// linkOf splits a key of one of the file's links.
func (f *File) linkOf(key string) (link, rest string, ok bool) {
	for _, source := range f.clusters {
		for _, target := range f.clusters {
			l := Link{source, target}.String()
			if r, found := strings.CutPrefix(key, l+"."); found && source != target && len(l) > len(link) {
				link, rest, ok = l, r, true
			}
		}
	}
	return link, rest, ok
}

// clusterOf splits a key of one of the file's clusters.
func (f *File) clusterOf(key string) (cluster, rest string, ok bool) {
	for _, c := range f.clusters {
		if r, found := strings.CutPrefix(key, c+"."); found && len(c) > len(cluster) {
			cluster, rest, ok = c, r, true
		}
	}
	return cluster, rest, ok
}

// linkWith is a link of the cluster, for an example.
func (f *File) linkWith(cluster string) string {
	for _, l := range f.Links() {
		if l.Source == cluster || l.Target == cluster {
			return l.String()
		}
	}
	return f.example()
}

func (f *File) judgeScoped(rest, scope string, names, prefixes []string) *config.Warning {
	if rest != "" && (slices.Contains(names, rest) || hasPrefix(rest, prefixes)) {
		return nil
	}
	return unknown(scope+rest, scope, config.Nearest(rest, names))
}

func unknown(key, scope, near string) *config.Warning {
	message := fmt.Sprintf("unknown key %q is ignored", key)
	if near != "" {
		message += fmt.Sprintf("; did you mean %q?", scope+near)
	}
	return &config.Warning{Unknown: true, Message: message}
}

func (f *File) judgeTop(key string) *config.Warning {
	switch {
	case slices.Contains(restNames, key) && !slices.Contains(clientNames(), key), hasPrefix(key, restPrefixes):
		if !f.rest {
			return &config.Warning{Message: key + " has no effect: there is no REST API unless " + keyInternalREST + "=true"}
		}
		return nil
	case slices.Contains(topNames(), key), hasPrefix(key, freeTopPrefixes), hasPrefix(key, ownTopLevel):
		return nil
	}
	_, isWorker := workerDef().Key(key)
	if isWorker && hasPrefix(key, topLevel) {
		return nil
	}
	if isWorker || hasPrefix(key, clientPrefixes) {
		cluster := f.takes(key)
		return &config.Warning{Message: fmt.Sprintf("%s has no effect without the name of a cluster, as in MirrorMaker: write %s.%s", key, cluster, key)}
	}
	if slices.Contains(f.clusters, key) && strings.HasPrefix(f.written[key], "->") {
		return &config.Warning{Unknown: true, Message: fmt.Sprintf("a blank ends the key %q: write %s->… without blanks", key, key)}
	}
	return unknown(key, "", config.Nearest(key, f.nearTop()))
}

// takes is the cluster that a setting of a worker or client is most likely meant for: what is read comes from the source.
func (f *File) takes(key string) string {
	for _, l := range f.Links() {
		switch {
		case !f.parseBool(l.String()+"."+keyEnabled, false):
		case strings.HasPrefix(key, "consumer."):
			return l.Source
		default:
			return l.Target
		}
	}
	return "CLUSTER"
}

// nearTop are the keys that one at the top level may have been meant to be: those, and the usual ones of each cluster.
func (f *File) nearTop() []string {
	near := slices.Clone(topNames())
	for _, c := range f.clusters {
		for _, name := range clientNames() {
			near = append(near, c+"."+name)
		}
	}
	return near
}

var topNames = sync.OnceValue(func() []string {
	return slices.Concat([]string{keyClusters, keyInternalREST, keyProviders}, connectorNames(), clientNames(), ownConnector,
		[]string{"gossip.bind", "gossip.advertise", "gossip.join", "gossip.secret"})
})

var linkNames = sync.OnceValue(func() []string { return slices.Concat(connectorNames(), ownConnector) })

// clusterNames are the settings of a worker and of all clients.
var clusterNames = sync.OnceValue(func() []string {
	return slices.Concat(clientNames(), workerDef().Names(), []string{"forwarding.admin.class", "replication.policy.class", "metadata.max.age.ms", "client.rack"})
})
