package clientconfig

import (
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/connector"
)

// layer is a prefix of keys in the worker's or the connector's settings.
type layer struct {
	worker bool
	prefix string
}

// precedence lists, for each role, the layers from the weakest to the strongest.
// It follows Kafka Connect (worker "producer." below "producer.override.") and
// MirrorMaker 2 (MirrorConnectorConfig: cluster, then client, then
// source/target client), which meet here because a mirror's target is written to by its
// worker's producer. The source inherits nothing from the worker: the worker's
// credentials are for its own cluster.
var precedence = map[connector.Role][]layer{
	connector.TargetProducer: {
		{true, "producer."},
		{false, "target.cluster."},
		{false, "producer."},
		{false, "target.producer."},
		{false, "producer.override."},
	},
	connector.TargetAdmin: {
		{true, "admin."},
		{false, "target.cluster."},
		{false, "admin."},
		{false, "target.admin."},
		{false, "admin.override."},
	},
	connector.SourceConsumer: {
		{false, "source.cluster."},
		{false, "consumer."},
		{false, "source.consumer."},
		{false, "consumer.override."},
	},
	connector.SourceAdmin: {
		{false, "source.cluster."},
		{false, "admin."},
		{false, "source.admin."},
	},
}

// RoleKind returns which Java client's settings a role takes.
func RoleKind(role connector.Role) Kind {
	switch role {
	case connector.TargetProducer:
		return Producer
	case connector.SourceConsumer:
		return Consumer
	default:
		return Admin
	}
}

// Layers returns the client settings of role, out of the worker's settings and
// the connector's (or task's). The target's bootstrap.servers default to the
// worker's own. An unknown role has no settings.
func Layers(role connector.Role, worker, conn config.Settings) config.Settings {
	merged := config.Settings{}
	layers := precedence[role]
	target := role == connector.TargetProducer || role == connector.TargetAdmin
	if bootstrap, ok := worker["bootstrap.servers"]; ok && target {
		merged["bootstrap.servers"] = bootstrap
	}
	for _, l := range layers {
		from := conn
		if l.worker {
			from = worker
		}
		merged = merged.Merge(clientKeys(l.prefix, from.Sub(l.prefix)))
	}
	return merged
}

// Own returns the settings of the worker's own clients, those of its internal
// topics: what stands in the worker's settings without a prefix and is a client setting (in Connect,
// KafkaBasedLog's clients get the worker's settings as they are).
func Own(worker config.Settings) config.Settings {
	own := config.Settings{}
	for key, s := range worker {
		if known, ok := knownKeys[key]; ok && known.kinds.has(Admin) {
			own[key] = s
		}
	}
	delete(own, "config.providers")
	return own
}

// engineKeys are settings of Connect and MirrorMaker themselves that only look
// like client settings of the layer they stand in.
var engineKeys = map[string][]string{
	"source.cluster.": {"alias"},
	"target.cluster.": {"alias"},
	"admin.":          {"timeout.ms", "listeners"}, // MirrorMaker's admin.timeout.ms, Connect's admin.listeners
	"consumer.":       {"poll.timeout.ms"},         // MirrorMaker's consumer.poll.timeout.ms
}

// clientKeys drops what a layer's prefix catches besides client settings: engineKeys, the client
// layers that MirrorMaker's own file nests in a cluster ("source.cluster.producer.acks"), the override
// layers ("admin." catches "admin.override.acks") and the TLS of Connect's admin listener.
func clientKeys(prefix string, s config.Settings) config.Settings {
	for key := range s {
		for _, nested := range []string{"producer.", "consumer.", "admin.", "override.", "listeners."} {
			if strings.HasPrefix(key, nested) {
				delete(s, key)
			}
		}
		if slices.Contains(engineKeys[prefix], key) {
			delete(s, key)
		}
	}
	return s
}
