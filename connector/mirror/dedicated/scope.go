package dedicated

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// The connectors of a link, by the names that MirrorMaker gives them.
const (
	SourceConnector     = "MirrorSourceConnector"
	CheckpointConnector = "MirrorCheckpointConnector"
	HeartbeatConnector  = "MirrorHeartbeatConnector"
)

const javaPackage = "org.apache.kafka.connect.mirror."

// Connector is one of a link's connectors.
type Connector struct {
	Name   string
	Class  string // Java's
	Config map[string]string
	// Off says why the file wants nothing of it; empty: it is to run. MirrorMaker makes it all the same, without
	// tasks, or keeps what an earlier file made of it where its settings are then refused.
	Off string
}

// topLevel begins the settings that reach every worker from the top level of the file.
var topLevel = []string{
	"offset.storage", "config.storage", "status.storage", "key.converter", "value.converter", "header.converter", "task", "worker", "replication.policy",
}

// ownTopLevel are those of ours that do besides, and ownConnector those that reach every connector.
var (
	ownTopLevel  = []string{"gossip.", "lease.enforce", "connector.secrets.literal.policy"}
	ownConnector = []string{"gap.policy", "start.position", "start.offsets", "provenance.headers", "topic.deletion.policy"}
)

// stripped returns the settings that begin with prefix, without it.
func (f *File) stripped(prefix string) map[string]string {
	settings := map[string]string{}
	for key, text := range f.written {
		if rest, ok := strings.CutPrefix(key, prefix); ok && rest != "" {
			settings[rest] = text
		}
	}
	return settings
}

// take copies the settings that begin with any of prefixes.
func (f *File) take(into map[string]string, prefixes ...string) {
	for key, text := range f.written {
		if hasPrefix(key, prefixes) {
			into[key] = text
		}
	}
}

func putIfAbsent(settings map[string]string, key, text string) {
	if _, ok := settings[key]; !ok {
		settings[key] = text
	}
}

// cluster returns the settings of a cluster: those written for it, then those at the top level that all clients have in
// common, and both for each kind of client unless it has its own (MirrorMakerConfig.clusterProps).
func (f *File) cluster(alias string) map[string]string {
	settings := f.stripped(alias + ".")
	spread := func(name, text string) {
		for _, kind := range []string{"producer.", "consumer.", "admin."} {
			putIfAbsent(settings, kind+name, text)
		}
	}
	for _, name := range clientNames() {
		if text, ok := settings[name]; ok {
			spread(name, text)
		}
	}
	for _, name := range clientNames() {
		if text, ok := f.written[name]; ok {
			spread(name, text)
			putIfAbsent(settings, name, text)
		}
	}
	return settings
}

// Worker returns the settings of the worker of a link, references as written.
func (f *File) Worker(l Link) map[string]string {
	settings := f.workerWithOurs(l)
	f.placeGossip(settings, slices.Index(f.Links(), l))
	return settings
}

// workerWithOurs is worker with the settings of ours that the top level has.
func (f *File) workerWithOurs(l Link) map[string]string {
	settings, ours := f.worker(l), map[string]string{}
	f.take(ours, ownTopLevel...)
	for key, text := range ours {
		putIfAbsent(settings, key, text) // what is written for the target comes first
	}
	return settings
}

// worker is MirrorMakerConfig.workerConfig, where references are not resolved.
func (f *File) worker(l Link) map[string]string {
	settings := f.cluster(l.Target)
	f.take(settings, topLevel...)
	f.take(settings, keyProviders)
	converter := "org.apache.kafka.connect.converters.ByteArrayConverter"
	for key, text := range map[string]string{
		"client.id":            l.String(),
		"group.id":             l.Source + "-mm2",
		"offset.storage.topic": "mm2-offsets." + l.Source + ".internal",
		"status.storage.topic": "mm2-status." + l.Source + ".internal",
		"config.storage.topic": "mm2-configs." + l.Source + ".internal",
		"key.converter":        converter,
		"value.converter":      converter,
		"header.converter":     converter,
	} {
		putIfAbsent(settings, key, text)
	}
	return settings
}

// placeGossip gives each link's worker a gossip address of its own: any free port, which the others find through the
// internal topics, or where the file says one, that port plus the place of the link among all of the
// file. The same goes for the addresses of others.
func (f *File) placeGossip(settings map[string]string, place int) {
	if settings["gossip.bind"] == "" {
		host := "127.0.0.1"
		if settings["gossip.secret"] != "" {
			host = "0.0.0.0"
		}
		settings["gossip.bind"] = host + ":0"
		if settings["gossip.join"] == "" {
			return
		}
	}
	for _, key := range []string{"gossip.bind", "gossip.advertise", "gossip.join"} {
		if settings[key] == "" {
			continue
		}
		var moved []string
		for address := range strings.SplitSeq(settings[key], ",") {
			moved = append(moved, movePort(strings.TrimSpace(address), place))
		}
		settings[key] = strings.Join(moved, ",")
	}
}

// defaultGossipPort is that of an address in gossip.join without one.
const defaultGossipPort = 7946

// movePort adds n to the port of address. What is no address stays for others to judge, and so does port 0.
func movePort(address string, n int) string {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		host, text = address, strconv.Itoa(defaultGossipPort)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port == 0 || host == "" || strings.Contains(address, "$") || port+n > 65535 {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port+n))
}

// Connectors returns the connectors of a link, references as written.
//
// Different from MirrorMaker on purpose: a "name" at the top level or of the link does not rename them, since three
// connectors cannot have the same; and settings of ours at the top level reach them.
func (f *File) Connectors(l Link) []Connector {
	var all []Connector
	for _, name := range []string{SourceConnector, HeartbeatConnector, CheckpointConnector} {
		c := Connector{Name: name, Class: javaPackage + name, Config: f.connectorWithOurs(l, name)}
		c.Config["name"], c.Config["connector.class"] = name, c.Class
		c.Off = off(name, c.Config)
		all = append(all, c)
	}
	return all
}

// off says why a connector with these settings would do nothing.
func off(name string, settings map[string]string) string {
	is := func(key, text string) bool { return strings.EqualFold(strings.TrimSpace(settings[key]), text) }
	switch {
	case name == HeartbeatConnector:
		if is(keyHeartbeats, "false") {
			return keyHeartbeats + "=false"
		}
	case is(keyEnabled, "false"):
		return "the link is not enabled"
	case name == CheckpointConnector && is("emit.checkpoints.enabled", "false"):
		return "emit.checkpoints.enabled=false"
	case name == CheckpointConnector && is("emit.offset-syncs.enabled", "false"):
		return "emit.offset-syncs.enabled=false"
	}
	return ""
}

// connectorWithOurs is connector with the settings of ours that the top level has.
func (f *File) connectorWithOurs(l Link, name string) map[string]string {
	settings := f.connector(l, name)
	for _, key := range ownConnector {
		if text, ok := f.written[key]; ok {
			putIfAbsent(settings, key, text)
		}
	}
	return settings
}

// connector is MirrorMakerConfig.connectorBaseConfig.
func (f *File) connector(l Link, name string) map[string]string {
	settings := map[string]string{}
	for _, key := range connectorNames() {
		if text, ok := f.written[key]; ok {
			settings[key] = text
		}
	}
	f.take(settings, keyProviders, "replication.policy")
	lay(settings, "source.", f.cluster(l.Source))
	lay(settings, "target.", f.cluster(l.Target))
	putIfAbsent(settings, "name", name)
	putIfAbsent(settings, "connector.class", javaPackage+name)
	putIfAbsent(settings, "source.cluster.alias", l.Source)
	putIfAbsent(settings, "target.cluster.alias", l.Target)
	maps.Copy(settings, f.stripped(l.String()+"."))
	putIfAbsent(settings, keyEnabled, "false")
	return settings
}

// lay puts the settings of a cluster on those of a connector: what begins with the name of a kind of client as
// side.KEY, everything else as side.cluster.KEY.
func lay(settings map[string]string, side string, cluster map[string]string) {
	for key, text := range cluster {
		if hasPrefix(key, []string{"consumer", "producer", "admin"}) {
			settings[side+key] = text
		} else {
			settings[side+"cluster."+key] = text
		}
	}
}
