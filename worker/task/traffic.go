package task

import (
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
)

// traffic counts the bytes and the connections of one client, as Kafka's clients do (consumer-metrics,
// producer-metrics, admin-client-metrics).
type traffic struct {
	kind                  clientconfig.Kind
	clientID              string
	in, out, open, opened atomic.Int64
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (t *traffic) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		t.open.Add(1)
		t.opened.Add(1)
	}
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (t *traffic) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { t.open.Add(-1) }

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (t *traffic) OnBrokerWrite(_ kgo.BrokerMetadata, _ int16, n int, _, _ time.Duration, _ error) {
	t.out.Add(int64(n))
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (t *traffic) OnBrokerRead(_ kgo.BrokerMetadata, _ int16, n int, _, _ time.Duration, _ error) {
	t.in.Add(int64(n))
}

// clientFamilies are the first parts of the names that the metrics of each kind of client have.
var clientFamilies = map[clientconfig.Kind]string{
	clientconfig.Consumer: "kafka_consumer_", clientconfig.Producer: "kafka_producer_", clientconfig.Admin: "kafka_admin_client_",
}

var clientHelp = map[string]string{
	"incoming_byte_total":       "Bytes that the client has received.",
	"outgoing_byte_total":       "Bytes that the client has sent.",
	"connection_count":          "Connections that the client has open.",
	"connection_creation_total": "Connections that the client has opened.",
}

var clientDescs = describeClients()

func describeClients() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	for _, family := range clientFamilies {
		for name, help := range clientHelp {
			all[family+name] = prometheus.NewDesc(family+name, help, []string{"clientid"}, nil)
		}
	}
	return all
}

// collectTraffic sends the metrics of all clients. Those that have one client.id share theirs.
func collectTraffic(s *series, all []*traffic) {
	type client struct{ name, id string }
	sum := map[client]int64{}
	for _, t := range all {
		family := clientFamilies[t.kind]
		sum[client{family + "incoming_byte_total", t.clientID}] += t.in.Load()
		sum[client{family + "outgoing_byte_total", t.clientID}] += t.out.Load()
		sum[client{family + "connection_count", t.clientID}] += t.open.Load()
		sum[client{family + "connection_creation_total", t.clientID}] += t.opened.Load()
	}
	for c, n := range sum {
		kind := prometheus.CounterValue
		if strings.HasSuffix(c.name, "_count") {
			kind = prometheus.GaugeValue
		}
		s.send(clientDescs[c.name], kind, float64(n), Quoted(c.id))
	}
}
