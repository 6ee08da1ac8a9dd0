package mirror

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"barnabas/connector"
)

// readingKeys are the requests that leave a cluster as it is. FindCoordinator is among them and makes the topic of groups' offsets
// where that is missing, so groups are only asked about where ListGroups has listed them.
var readingKeys = []kmsg.Key{
	kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetFetch, kmsg.FindCoordinator, kmsg.DescribeGroups, kmsg.ListGroups, kmsg.SASLHandshake,
	kmsg.ApiVersions, kmsg.OffsetForLeaderEpoch, kmsg.DescribeACLs, kmsg.DescribeConfigs, kmsg.SASLAuthenticate, kmsg.DescribeCluster,
	kmsg.DescribeProducers, kmsg.ConsumerGroupDescribe,
}

// ReadOnly returns clients that can change nothing: they know no requests but those that read, whatever is asked of them.
func ReadOnly(clients connector.Clients) connector.Clients {
	var versions kversion.Versions
	stable := kversion.Stable()
	for _, key := range readingKeys {
		if highest, ok := stable.LookupMaxKeyVersion(key.Int16()); ok {
			versions.SetMaxKeyVersion(key.Int16(), highest)
		}
	}
	versions.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 9) // see byTopicName
	open := clients.Open
	clients.Open = func(ctx context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		return open(ctx, role, append(append([]kgo.Opt{}, extra...), kgo.MaxVersions(&versions))...)
	}
	return clients
}
