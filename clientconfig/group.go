package clientconfig

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connection"
	"barnabas/connector"
)

// balancers are Kafka's assignors. The last one is the default, where Kafka's lets Range go before it.
var balancers = map[string]func() kgo.GroupBalancer{
	"RangeAssignor":             kgo.RangeBalancer,
	"RoundRobinAssignor":        kgo.RoundRobinBalancer,
	"StickyAssignor":            kgo.StickyBalancer,
	"CooperativeStickyAssignor": kgo.CooperativeStickyBalancer,
}

const assignorPackage = "org.apache.kafka.clients.consumer."

// groupKeys are the settings of a member of a consumer group.
var groupKeys = config.NewDef(
	config.Key{Name: "group.id", Checks: []config.Check{config.NonEmpty}},
	config.Key{Name: "group.instance.id", Checks: []config.Check{config.NonEmpty}},
	config.Key{Name: "group.protocol", Default: new("classic"), Checks: []config.Check{func(v config.Value) string {
		if !strings.EqualFold(v.Text(), "classic") {
			return v.Invalid("sinks here are members of classic groups")
		}
		return ""
	}}},
	config.Key{Name: "partition.assignment.strategy", Type: config.List, Default: new("CooperativeStickyAssignor"), Checks: []config.Check{
		config.Items(false, false), func(v config.Value) string {
			for _, name := range v.Items() {
				if balancers[strings.TrimPrefix(name, assignorPackage)] == nil {
					return v.Invalid("there is no such assignor here")
				}
			}
			return ""
		},
	}},
	config.Key{Name: "session.timeout.ms", Type: config.Int, Default: new("45000"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: "heartbeat.interval.ms", Type: config.Int, Default: new("3000"), Checks: []config.Check{config.AtLeast(1)}},
	config.Key{Name: "max.poll.interval.ms", Type: config.Int, Default: new("300000"), Checks: []config.Check{config.AtLeast(1)}},
)

// Group is the consumer group of a sink (SinkUtils.consumerGroupId), which the settings of its consumer may name otherwise. Under a
// connection it begins as that says.
func Group(worker, conn config.Settings, name string) string {
	values, _ := groupKeys.Parse(Layers(connector.RecordConsumer, worker, conn))
	prefix := cmp.Or(conn[connection.SourceKey+"."+connection.PrefixKey].Written, "connect-")
	return cmp.Or(values.String("group.id"), prefix+name)
}

// GroupOptions are those of a sink's consumer, beside the ones of Build.
func GroupOptions(worker, conn config.Settings, name string) ([]kgo.Opt, error) {
	values, problems := groupKeys.Parse(Layers(connector.RecordConsumer, worker, conn))
	if len(problems) > 0 {
		return nil, errors.New(problems[0].Message)
	}
	millis := func(key string) time.Duration { return values.Duration(key) }
	if millis("heartbeat.interval.ms") >= millis("session.timeout.ms") {
		return nil, errors.New("heartbeat.interval.ms must be less than session.timeout.ms")
	}
	var by []kgo.GroupBalancer
	for _, name := range values.List("partition.assignment.strategy") {
		by = append(by, balancers[strings.TrimPrefix(name, assignorPackage)]())
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(Group(worker, conn, name)), kgo.Balancers(by...), kgo.SessionTimeout(millis("session.timeout.ms")),
		kgo.HeartbeatInterval(millis("heartbeat.interval.ms")), kgo.RebalanceTimeout(millis("max.poll.interval.ms")), kgo.DisableAutoCommit(),
	}
	if id := values.String("group.instance.id"); id != "" {
		opts = append(opts, kgo.InstanceID(id))
	}
	return opts, nil
}

// inGroup drops from what is without meaning what has one for a member of a group.
func (r Report) inGroup() Report {
	r.Meaningless = slices.DeleteFunc(slices.Clone(r.Meaningless), func(p config.Problem) bool {
		_, ok := groupKeys.Key(p.Key)
		return ok
	})
	return r
}

// For is the report as it is true for role.
func (r Report) For(role connector.Role) Report {
	if role == connector.RecordConsumer {
		return r.inGroup()
	}
	return r
}
