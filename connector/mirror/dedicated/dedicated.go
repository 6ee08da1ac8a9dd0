// Package dedicated reads an mm2.properties, the file of MirrorMaker 2's dedicated mode, as Kafka 4.3.1's
// MirrorMakerConfig does: which links it asks for, and for each of them the settings of a worker and of three
// connectors. It resolves no reference and opens nothing.
//
// A worker stands on the target of its link, under a group and internal topics that carry the source's name, so that
// several processes with the same file share the work. B->A has a worker although only A->B is enabled: it
// writes heartbeats into A, which A->B then brings to B.
//
// Easy to get wrong: which level of the file reaches what. A setting without a prefix reaches the connectors only if it
// is one of theirs, and the worker only if it begins as in topLevel; everything else of a
// worker or a client has to be written for a cluster (A.offset.flush.interval.ms).
package dedicated

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"barnabas/config"
)

// Settings of the file that are no connector's, worker's or client's.
const (
	keyClusters     = "clusters"
	keyInternalREST = "dedicated.mode.enable.internal.rest"
	keyProviders    = "config.providers"
	keyEnabled      = "enabled"
	keyHeartbeats   = "emit.heartbeats.enabled"
	keyBootstrap    = "bootstrap.servers"
)

// File is an mm2.properties.
type File struct {
	written  map[string]string
	clusters []string
	rest     bool
}

// Link is a way from one cluster to another, by their aliases.
type Link struct{ Source, Target string }

// String is how the file names the link, and MirrorMaker its threads and clients.
func (l Link) String() string { return l.Source + "->" + l.Target }

// Parse reads the settings of a file, references as written. With problems it must not be run. Warnings
// tell of settings that have no effect.
func Parse(written map[string]string) (*File, []config.Problem, []config.Warning) {
	f := &File{written: written}
	values, problems := fileDef().Parse(config.Literal(written))
	problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return config.HasReference(written[p.Key]) })
	f.clusters = slices.Compact(slices.Sorted(slices.Values(values.List(keyClusters))))
	f.rest = values.Bool(keyInternalREST)
	if len(f.clusters) > 0 {
		problems = append(problems, f.judgeLinks()...)
	}
	return f, problems, f.warnings()
}

// fileDef defines what the file has besides connectors, workers and clients.
func fileDef() *config.Def {
	no := "false"
	keys := []config.Key{
		{Name: keyClusters, Type: config.List, Required: true, Checks: []config.Check{config.Items(false, true)}},
		{Name: keyInternalREST, Type: config.Boolean, Default: &no},
		{Name: keyProviders, Type: config.List, Checks: []config.Check{config.Items(true, true)}},
	}
	for _, name := range clientNames() {
		if k, ok := workerDef().Key(name); ok && name != keyBootstrap {
			keys = append(keys, k)
		}
	}
	return config.NewDef(keys...)
}

// judgeLinks reports what MirrorMaker finds out only when it runs, or never.
func (f *File) judgeLinks() []config.Problem {
	var problems []config.Problem
	links := f.Links()
	if len(links) == 0 {
		problems = append(problems, config.Problem{Key: keyClusters, Message: "no link between two of the clusters " + strings.Join(f.clusters, ", ") +
			" is enabled: write for example " + f.example() + ".enabled=true"})
	}
	for _, cluster := range f.clusters {
		used := slices.ContainsFunc(links, func(l Link) bool { return l.Source == cluster || l.Target == cluster })
		if key := cluster + "." + keyBootstrap; used && f.written[key] == "" && f.written[keyBootstrap] == "" {
			message := fmt.Sprintf("Missing required configuration %q: where cluster %s is", key, cluster)
			if near := f.nearestKey(key); near != "" {
				message += fmt.Sprintf("; there is %q", near)
			}
			problems = append(problems, config.Problem{Key: key, Message: message})
		}
	}
	return problems
}

// nearestKey finds the key that was most likely meant to be key among those of the file that end alike.
func (f *File) nearestKey(key string) string {
	var alike []string
	for _, k := range slices.Sorted(maps.Keys(f.written)) {
		alias, ok := strings.CutSuffix(k, "."+keyBootstrap)
		if ok && !slices.Contains(f.clusters, alias) {
			alike = append(alike, k)
		}
	}
	return config.Nearest(key, alike)
}

func (f *File) example() string {
	if len(f.clusters) > 1 {
		return Link{f.clusters[0], f.clusters[1]}.String()
	}
	return Link{f.clusters[0], "OTHER"}.String()
}

// Clusters returns the aliases, sorted.
func (f *File) Clusters() []string { return slices.Clone(f.clusters) }

// InternalREST says whether workers listen for each other's requests (KIP-710).
func (f *File) InternalREST() bool { return f.rest }

// Links returns the links that need a worker, ordered by source and target: those that are enabled, and those that
// write heartbeats, which is any pair unless the file says otherwise (MirrorMakerConfig.clusterPairs).
func (f *File) Links() []Link {
	var links []Link
	heartbeats := f.parseBool(keyHeartbeats, true)
	for _, source := range f.clusters {
		for _, target := range f.clusters {
			l := Link{source, target}
			if source != target && (f.parseBool(l.String()+"."+keyEnabled, false) || f.parseBool(l.String()+"."+keyHeartbeats, heartbeats)) {
				links = append(links, l)
			}
		}
	}
	slices.SortFunc(links, func(a, b Link) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Target, b.Target))
	})
	return links
}

// parseBool is Java's Boolean.parseBoolean: anything but "true" is false.
func (f *File) parseBool(key string, otherwise bool) bool {
	text, ok := f.written[key]
	if !ok {
		return otherwise
	}
	return strings.EqualFold(text, "true")
}

// REST returns the settings of the internal REST API: those without a prefix that Kafka's RestServerConfig knows.
func (f *File) REST() map[string]string {
	settings := map[string]string{}
	for key, text := range f.written {
		if slices.Contains(restNames, key) || hasPrefix(key, restPrefixes) {
			settings[key] = text
		}
	}
	return settings
}

func hasPrefix(key string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}
