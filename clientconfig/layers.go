package clientconfig

import (
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/connection"
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
	// What the target's own consumers need is read with the rights of the worker's, as the copies are
	// written with those of its producer. "consumer.override." is for the source.
	connector.TargetConsumer: {
		{true, "consumer."},
		{false, "target.cluster."},
		{false, "consumer."},
		{false, "target.consumer."},
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
	connector.RecordProducer: {
		{true, "producer."},
		{false, "producer.override."},
	},
	connector.RecordConsumer: {
		{true, "consumer."},
		{false, "consumer.override."},
	},
	connector.RecordAdmin: {
		{true, "admin."},
		{false, "admin.override."},
	},
	// Reports inherit nothing: their identity is their own.
	connector.ReportProducer: {
		{false, "reporter.producer."},
	},
	connector.ReportAdmin: {
		{false, "reporter.admin."},
	},
	// "producer.override." is for the target.
	connector.SourceProducer: {
		{false, "source.cluster."},
		{false, "producer."},
		{false, "source.producer."},
	},
}

// RoleKind returns which Java client's settings a role takes.
func RoleKind(role connector.Role) Kind {
	switch role {
	case connector.TargetProducer, connector.SourceProducer, connector.RecordProducer, connector.ReportProducer:
		return Producer
	case connector.SourceConsumer, connector.TargetConsumer, connector.RecordConsumer:
		return Consumer
	default:
		return Admin
	}
}

// Layers returns the client settings of role, out of the worker's settings and
// the connector's (or task's). The bootstrap.servers of all but the source default to the
// worker's own. An unknown role has no settings.
func Layers(role connector.Role, worker, conn config.Settings) config.Settings {
	merged := config.Settings{}
	layers, known := precedence[role]
	if !known {
		return merged
	}
	if settings, ok := connected(role, worker, conn); ok {
		return guarded(settings, worker)
	}
	if bootstrap, ok := worker["bootstrap.servers"]; ok && !strings.HasPrefix(string(role), "source-") {
		merged["bootstrap.servers"] = bootstrap
	}
	if bootstrap, ok := conn["reporter.bootstrap.servers"]; ok && strings.HasPrefix(string(role), "report-") {
		merged["bootstrap.servers"] = bootstrap
	}
	for _, l := range layers {
		from := conn
		if l.worker {
			from = worker
		}
		merged = merged.Merge(clientKeys(l.prefix, from.Sub(l.prefix)))
	}
	delete(merged, connection.HostsKey)
	return guarded(merged, worker)
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
	return guarded(own, worker)
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
