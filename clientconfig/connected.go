package clientconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/connection"
	"barnabas/connector"
)

// sides says which connection, if the configuration names one, a client belongs to: a sink reads from its source, and a
// source connector writes to its target. Reports have an identity of their own.
var sides = map[connector.Role]string{
	connector.SourceConsumer: connection.SourceKey,
	connector.SourceAdmin:    connection.SourceKey,
	connector.SourceProducer: connection.SourceKey,
	connector.RecordConsumer: connection.SourceKey,
	connector.TargetProducer: connection.TargetKey,
	connector.TargetConsumer: connection.TargetKey,
	connector.TargetAdmin:    connection.TargetKey,
	connector.RecordProducer: connection.TargetKey,
	connector.RecordAdmin:    connection.TargetKey,
}

// connected returns the client settings of role that come from its connection, with the layers around it: the connection
// alone says where its clients connect to and how they log in, or its credentials could be sent to another place. ok is
// false if no connection is named.
func connected(role connector.Role, worker, conn config.Settings) (merged config.Settings, ok bool) {
	side := sides[role]
	if s, named := conn[side]; side == "" || !named || strings.TrimSpace(s.Written) == "" {
		return nil, false
	}
	of := conn.Sub(side + ".")
	delete(of, connection.PrefixKey)
	merged = config.Settings{}
	for _, strength := range []bool{true, false} { // the worker's below the connection, the connector's above it
		for _, l := range precedence[role] {
			if l.worker != strength {
				continue
			}
			from := conn
			if l.worker {
				from = worker
			}
			own := clientKeys(l.prefix, from.Sub(l.prefix))
			maps.DeleteFunc(own, func(key string, _ config.Setting) bool { return credential(key) || key == connection.HostsKey })
			merged = merged.Merge(own)
		}
		if strength {
			merged = merged.Merge(of)
		}
	}
	return merged, true
}

// alone are the prefixes of a connector that reach clients of one side only.
var alone = map[string][]string{
	connection.SourceKey: {"source.cluster.", "source.consumer.", "source.admin.", "source.producer.", "consumer.override."},
	connection.TargetKey: {"target.cluster.", "target.producer.", "target.admin.", "target.consumer.", "producer.override.", "admin.override."},
}

// Contradictions reports settings of a connector that say where a client connects to or how it logs in, which a connection
// says already. Those under a prefix that both sides share (producer., consumer., admin.) count for the other side.
func Contradictions(written map[string]string) (all []config.Problem) {
	for _, key := range slices.Sorted(maps.Keys(written)) {
		for side, prefixes := range alone {
			name := strings.TrimSpace(written[side])
			if name == "" {
				continue
			}
			for _, prefix := range prefixes {
				if rest, ok := strings.CutPrefix(key, prefix); ok && credential(rest) {
					all = append(all, config.Problem{Key: key, Message: fmt.Sprintf("%s cannot be set beside %s=%s: the connection says where its clients connect to and as whom", key, side, name)})
				}
			}
		}
	}
	return all
}

// ConnectionProblems reports keys of a connection's settings that are none of Kafka's clients.
func ConnectionProblems(written map[string]string) (all []config.Problem) {
	for _, key := range slices.Sorted(maps.Keys(written)) {
		if _, ok := knownKeys[key]; ok || strings.HasPrefix(key, "barnabas.") {
			continue
		}
		message := "is no setting of Kafka's clients"
		if near := config.Nearest(key, slices.Sorted(maps.Keys(knownKeys))); near != "" {
			message += fmt.Sprintf("; did you mean %q?", near)
		}
		all = append(all, config.Problem{Key: key, Message: message})
	}
	for key, known := range knownKeys {
		if value, ok := written[key]; ok && known.typ == passwordKey && config.LiteralSecret(key, value, true) && !config.LiteralSecret(key, value, false) {
			all = append(all, config.Problem{Key: key, Message: "holds a secret that is written out: a connection names secrets by reference, like ${file:/path:key}"})
		}
	}
	return all
}

// Owner names what the tasks of a connector own at the target, in transactional ids: the worker group and the connector, after
// the prefix of the target's connection if there is one. settings are resolved.
func Owner(group string, settings config.Settings, name string) string {
	return settings[connection.TargetKey+"."+connection.PrefixKey].Written + group + "-" + name
}
