package e2e

import (
	"testing"
	"time"
)

// Three workers, three clusters, two connectors, each under users of its own.
func TestMillionRecordsAreCopiedRecordForRecord(t *testing.T) {
	e := New(t, 4*time.Minute)
	const partitions, each = 4, 500_000
	topics := map[string]string{}
	f := e.Fleet(FleetOptions{Size: 3})
	begin := time.Now()
	for _, name := range []string{"orders", "payments"} {
		topic := e.Topic(e.Source, name, partitions)
		topics[topic] = "src." + topic
		e.Write([]string{topic}, partitions, each)
	}
	t.Logf("%d records written in %s", 2*each, time.Since(begin))
	begin = time.Now()
	for topic, copied := range topics {
		source, target := e.User(e.Source, topic+"-ro", ReadTopics(topic)...), e.User(e.Target, topic+"-rw", WriteTopics(copied)...)
		f.Create(topic, e.Mirror(source, target, topic, 2))
	}
	report := e.Copied(topics, 2*time.Minute)
	t.Logf("copied and compared in %s: %s", time.Since(begin), report)
	if !report.Equal() || report.Source != 2*each {
		t.Errorf("source and target differ: %s", report)
	}
	for topic := range topics {
		f.Await(topic, "RUNNING", 2, 10*time.Second)
		f.Pages(topic)
	}
}
