package strimzi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"barnabas/connector/mirror/dedicated"
)

// defaults are what the operator gives a v1beta2 resource's workers (its KafkaMirrorMaker2Configuration).
var defaults = map[string]string{
	"group.id": "mirrormaker2-cluster", "config.storage.topic": "mirrormaker2-cluster-configs",
	"offset.storage.topic": "mirrormaker2-cluster-offsets", "status.storage.topic": "mirrormaker2-cluster-status",
	"config.providers": "directory", "config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
}

// read reads the whole resource.
func (r *reader) read() error {
	r.out.Worker = map[string]string{}
	worker := sink{part: dedicated.WorkerPart, settings: r.out.Worker}
	target, err := r.target()
	if err != nil {
		return err
	}
	maps.Copy(r.out.Worker, defaults)
	r.cluster(worker, target)
	for key, field := range map[string]string{
		"group.id": "groupId", "config.storage.topic": "configStorageTopic", "offset.storage.topic": "offsetStorageTopic", "status.storage.topic": "statusStorageTopic",
	} {
		r.move(worker, key, target+"."+field)
	}
	// The operator's own providers do not exist here; its references are replaced.
	r.out.Worker["config.providers"], r.out.Worker["config.providers.directory.class"] = defaults["config.providers"], defaults["config.providers.directory.class"]
	if r.count("spec.mirrors") == 0 {
		return errors.New("the resource has no spec.mirrors")
	}
	for i := range r.count("spec.mirrors") {
		if err := r.mirror(fmt.Sprintf("spec.mirrors[%d]", i), target); err != nil {
			return err
		}
	}
	if n := r.leaves["spec.replicas"]; n != "" && n != "1" {
		r.note("spec.replicas is " + n + ": run as many workers with the same file, and give them a gossip.secret")
	}
	return nil
}

// target is the path of the cluster that the workers stand on.
func (r *reader) target() (string, error) {
	if r.has("spec.target") {
		return "spec.target", nil
	}
	alias, ok := r.leaves["spec.connectCluster"]
	if !ok {
		return "", errors.New("the resource has neither spec.target nor spec.connectCluster")
	}
	r.uses["spec.connectCluster"] = []dedicated.Use{{Part: dedicated.WorkerPart, Key: "bootstrap.servers"}}
	return r.named(alias, "spec.connectCluster")
}

// named finds the cluster of an alias in the list of a v1beta2 resource.
func (r *reader) named(alias, by string) (string, error) {
	for i := range r.count("spec.clusters") {
		if path := fmt.Sprintf("spec.clusters[%d]", i); r.leaves[path+".alias"] == alias {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is %q, and spec.clusters has no such alias", by, alias)
}

// mirror makes the connectors of the mirror at path.
func (r *reader) mirror(path, workers string) error {
	source, target := path+".source", workers
	var err error
	if alias, ok := r.leaves[path+".sourceCluster"]; ok {
		if source, err = r.named(alias, path+".sourceCluster"); err != nil {
			return err
		}
	}
	if alias, ok := r.leaves[path+".targetCluster"]; ok {
		if target, err = r.named(alias, path+".targetCluster"); err != nil {
			return err
		}
	}
	if r.leaves[source+".alias"] == "" || r.leaves[target+".alias"] == "" {
		return fmt.Errorf("%s does not name the aliases of its source and its target", path)
	}
	link := r.leaves[source+".alias"] + "->" + r.leaves[target+".alias"]
	for _, kind := range []string{"source", "checkpoint", "heartbeat"} {
		if at := path + "." + kind + "Connector"; r.has(at) {
			r.connector(link, strings.ToUpper(kind[:1])+kind[1:], path, at, source, target)
		}
	}
	return nil
}

// connector makes the connector of a kind (Source, Checkpoint, Heartbeat) that is described at path at.
func (r *reader) connector(link, kind, mirror, at, source, target string) {
	class := "Mirror" + kind + "Connector"
	c := Connector{Name: link + "." + class, Config: map[string]string{"connector.class": javaPackage + class}}
	s := sink{link: link, part: c.Name, settings: c.Config}
	for prefix, cluster := range map[string]string{"source.cluster.": source, "target.cluster.": target} {
		side := s
		side.prefix = prefix
		r.move(side, "alias", cluster+".alias")
		r.cluster(side, cluster)
	}
	for _, field := range []string{"sourceCluster", "targetCluster"} {
		if _, ok := r.leaves[mirror+"."+field]; ok {
			r.uses[mirror+"."+field] = append(r.uses[mirror+"."+field], dedicated.Use{Link: link, Part: c.Name, Key: strings.TrimSuffix(field, "Cluster") + ".cluster.alias"})
		}
	}
	if _, empty := r.leaves[at]; empty { // with nothing but defaults
		r.uses[at] = append(r.uses[at], dedicated.Use{Link: link, Part: c.Name, Key: "connector.class"})
	}
	r.config(s, at+".config")
	r.move(s, "tasks.max", at+".tasksMax")
	for _, m := range []struct{ field, key string }{
		{"topicsBlacklistPattern", "topics.exclude"},
		{"topicsPattern", "topics"},
		{"topicsExcludePattern", "topics.exclude"},
		{"groupsBlacklistPattern", "groups.exclude"},
		{"groupsPattern", "groups"},
		{"groupsExcludePattern", "groups.exclude"},
	} {
		r.move(s, m.key, mirror+"."+m.field)
	}
	if r.leaves[at+".pause"] == "true" {
		c.InitialState = "PAUSED"
	}
	if state := strings.ToUpper(r.leaves[at+".state"]); state == "PAUSED" || state == "STOPPED" {
		c.InitialState = state
	}
	for _, field := range []string{"pause", "state"} {
		if _, ok := r.leaves[at+"."+field]; ok {
			r.uses[at+"."+field] = append(r.uses[at+"."+field], dedicated.Use{Link: link, Part: c.Name, Key: "initial_state"})
		}
	}
	for key, text := range c.Config {
		if strings.Contains(text, "strimzi") && strings.Contains(text, "${") || strings.Contains(text, "${secrets:") {
			r.note(fmt.Sprintf("%s of %s refers to a provider of Kubernetes: mount the Secret and refer to its file, ${directory:%s/SECRET:KEY}", key, c.Name, r.secrets))
		}
	}
	r.out.Connectors = append(r.out.Connectors, c)
}

// reasons say why parts of a resource become no settings, by the beginning of their path.
var reasons = []struct{ prefix, reason string }{
	{"spec.version", "the version of Kafka; connectors behave like those of 4.3.1"},
	{"spec.replicas", "run as many workers with the same file"},
	{"spec.image", "of the pods"},
	{"spec.resources", "of the pods"},
	{"spec.template", "of the pods"},
	{"spec.livenessProbe", "of the pods: ask /health"},
	{"spec.readinessProbe", "of the pods: ask /health"},
	{"spec.jvmOptions", "there is no JVM"},
	{"spec.jmxOptions", "there is no JVM"},
	{"spec.logging", "the level is --log-level, or \"barnabas loggers set\""},
	{"spec.metricsConfig", "metrics are at /metrics"},
	{"spec.tracing", "there is no tracing"},
	{"spec.clientRackInitImage", "of the pods"},
	{"spec.rack", "set consumer.client.rack in the connector by hand"},
	{"spec.externalConfiguration", "mount volumes and set variables where the worker runs; ${env:…} and ${directory:…} read them"},
}

// fieldReasons are those by the end of the path.
var fieldReasons = map[string]string{
	".autoRestart.enabled": "a task that failed is tried again by itself where that can help; see \"barnabas tasks restart\"", ".autoRestart.maxRestarts": "see autoRestart.enabled",
	".version": "connectors are part of the program", ".listOffsets": "see \"barnabas connectors offsets\"", ".alterOffsets": "see \"barnabas connectors offsets\"",
}

// outcomes tells what became of each value.
func (r *reader) outcomes() []dedicated.Outcome {
	var all []dedicated.Outcome
	for _, path := range slices.Sorted(maps.Keys(r.leaves)) {
		o := dedicated.Outcome{Key: path, Becomes: slices.Compact(r.uses[path])}
		if len(o.Becomes) == 0 {
			o.Ignored = reason(path)
			if r.leaves[path] == "{}" {
				o.Ignored = "it is empty"
			}
		}
		all = append(all, o)
	}
	return all
}

func reason(path string) string {
	for end, text := range fieldReasons {
		if strings.HasPrefix(path, "spec.mirrors[") && strings.Contains(path+".", end+".") {
			return text
		}
	}
	for _, row := range reasons {
		if strings.HasPrefix(path, row.prefix) {
			return row.reason
		}
	}
	switch {
	case strings.HasSuffix(path, ".config.config.providers") || strings.Contains(path, "config.config.providers."):
		return "references go to files: config.providers=directory"
	case strings.HasPrefix(path, "spec.clusters["), strings.Contains(path, ".tls") || strings.Contains(path, ".authentication."):
		return "not used by a mirror of the resource, or not known here"
	}
	return "not known here"
}
