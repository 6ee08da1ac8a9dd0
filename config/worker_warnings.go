package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// workerPrefixes begin keys that others judge: settings of clients, providers, converters, listeners, topics.
var workerPrefixes = []string{
	"producer.", "consumer.", "admin.", "config.providers.", "listeners.https.", "admin.listeners.https.",
	"key.converter.", "value.converter.", "header.converter.", "config.storage.", "offset.storage.", "status.storage.", "metrics.context.",
}

// noMeaning are known keys that change nothing here, with the reason.
var noMeaning = map[string]string{
	"session.timeout.ms":             "gossip and worker.lease.ms tell who is alive",
	"heartbeat.interval.ms":          "gossip and worker.lease.ms tell who is alive",
	"rebalance.timeout.ms":           "there is no rebalance to wait for",
	"worker.sync.timeout.ms":         "workers follow the config topic and need not catch up together",
	"worker.unsync.backoff.ms":       "workers follow the config topic and need not catch up together",
	"connect.protocol":               "the leader assigns tasks through the config topic",
	"plugin.path":                    "connectors are part of the program",
	"plugin.discovery":               "connectors are part of the program",
	"key.converter.plugin.version":   "converters are part of the program",
	"value.converter.plugin.version": "converters are part of the program", "header.converter.plugin.version": "converters are part of the program",
	"metric.reporters":                 "metrics are at /metrics",
	"metrics.sample.window.ms":         "metrics are at /metrics",
	"metrics.num.samples":              "metrics are at /metrics",
	"metrics.recording.level":          "metrics are at /metrics",
	"ssl.provider":                     "there is one TLS implementation",
	"ssl.engine.factory.class":         "Java classes cannot be loaded",
	"ssl.keymanager.algorithm":         "there is one TLS implementation",
	"ssl.trustmanager.algorithm":       "there is one TLS implementation",
	"ssl.secure.random.implementation": "there is one source of randomness",
	"sasl.kerberos.kinit.cmd":          "tickets are fetched without kinit",
	"config.storage.partitions":        "the config topic always has one partition",
	"config.storage.cleanup.policy":    "internal topics are always compacted",
	"offset.storage.cleanup.policy":    "internal topics are always compacted",
	"status.storage.cleanup.policy":    "internal topics are always compacted",
}

// removed are keys of older Kafkas, which old files still have, with what to do instead.
var removed = map[string]string{
	"rest.host.name":                          "removed in Kafka 3.0: use listeners",
	"rest.port":                               "removed in Kafka 3.0: use listeners",
	"internal.key.converter":                  "removed in Kafka 3.0: internal topics are always JSON without schemas",
	"internal.value.converter":                "removed in Kafka 3.0: internal topics are always JSON without schemas",
	"internal.key.converter.schemas.enable":   "removed in Kafka 3.0: internal topics are always JSON without schemas",
	"internal.value.converter.schemas.enable": "removed in Kafka 3.0: internal topics are always JSON without schemas",
	"offset.storage.file.filename":            "of standalone workers only: offsets are in offset.storage.topic",
}

// workerWarnings reports unknown keys, with the nearest known one, and known
// ones without a meaning here, ordered by key.
func workerWarnings(def *Def, s Settings, more []string) []Warning {
	known := slices.Concat(def.Names(), slices.Sorted(maps.Keys(noMeaning)), more)
	var warnings []Warning
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if reason, ok := noMeaning[key]; ok {
			warnings = append(warnings, Warning{Key: key, Message: fmt.Sprintf("%s has no meaning here: %s", key, reason)})
			continue
		}
		if reason, ok := removed[key]; ok {
			warnings = append(warnings, Warning{Key: key, Message: fmt.Sprintf("%s: %s", key, reason)})
			continue
		}
		_, defined := def.Key(key)
		if defined || slices.Contains(more, key) || slices.ContainsFunc(workerPrefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			continue
		}
		message := fmt.Sprintf("unknown key %q is ignored", key)
		if near := Nearest(key, known); near != "" {
			message += fmt.Sprintf("; did you mean %q?", near)
		}
		warnings = append(warnings, Warning{Key: key, Message: message, Unknown: true})
	}
	return warnings
}

// replaceRestPort turns rest.host.name and rest.port into listeners where the file has none. Kafka 4
// ignores them, but who wrote them meant them, and the usual images still map them so.
func replaceRestPort(s Settings) (Settings, Warning) {
	_, set := s["listeners"]
	host, port := s["rest.host.name"], s["rest.port"]
	if set || host.Written == "" && port.Written == "" {
		return nil, Warning{}
	}
	url := func(host, port string) string {
		return "http://" + strings.TrimSpace(host) + ":" + cmp.Or(strings.TrimSpace(port), "8083")
	}
	listener := Setting{Written: url(host.Written, port.Written), Value: NewSecret(url(host.Value.Reveal(), port.Value.Reveal()))}
	return s.Merge(Settings{"listeners": listener}), Warning{Key: "listeners", Message: "taken from rest.host.name and rest.port: listeners=" + listener.Written}
}
