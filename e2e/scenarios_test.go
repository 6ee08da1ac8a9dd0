package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/txn"
	"barnabas/e2e/differences"
	"barnabas/e2e/kafka"
)

// topic names a topic of the test as Topic does.
func (c *contender) topic(name string) string { return c.e.Prefix + "." + name }

// seeRecords tells the records of the copy of a topic, once there is one.
func seeRecords(name string) func(w world, c *contender, v differences.View) {
	return func(w world, c *contender, v differences.View) {
		copied := c.copies(c.topic(name))
		if _, there := w.target.partitions[copied]; there {
			v["records of "+name] = numbersOf(w.target.records[copied])
		}
	}
}

// seeAll is several of them.
func seeAll(see ...func(w world, c *contender, v differences.View)) func(w world, c *contender, v differences.View) {
	return func(w world, c *contender, v differences.View) {
		for _, one := range see {
			one(w, c, v)
		}
	}
}

// odd are names of topics that MirrorMaker treats in ways of its own; %s is the test's prefix.
var odd = []string{"%s.plain", "%s.under_score", "%s.a.internal", "%s.a-internal", "%s.a.replica", ".%s.dot", "__%s.under", "mm2-%s.own.internal", "mm2-%s.other"}

// topicScenarios are about which topics there are, and how they are set.
var topicScenarios = []scenario{
	{
		name: "names",
		before: func(e *Env, _ []*contender) {
			admin, err := e.Source.Admin()
			e.Must(err)
			defer admin.Close()
			for _, name := range odd {
				_, err := admin.CreateTopic(e.Context(), 1, 1, nil, fmt.Sprintf(name, e.Prefix))
				e.Must(err)
			}
		},
		see: func(w world, c *contender, v differences.View) {
			for _, name := range odd {
				topic := fmt.Sprintf(name, c.e.Prefix)
				if n, there := w.target.partitions[c.copies(topic)]; there {
					v["copy of "+fmt.Sprintf(name, "T")] = fmt.Sprintf("%d partitions", n)
				}
			}
		},
		want: differences.View{"copy of T.plain": "1 partitions", "copy of T.a.internal": "1 partitions"},
	},
	{
		name: "growth",
		before: func(e *Env, all []*contender) {
			for name, n := range map[string]int32{"grows": 1, "wide": 2, "narrow": 3} {
				e.Topic(e.Source, name, n)
			}
			admin, err := e.Target.Admin()
			e.Must(err)
			defer admin.Close()
			for _, c := range all {
				for name, n := range map[string]int32{"wide": 5, "narrow": 1} {
					_, err := admin.CreateTopic(e.Context(), n, 1, nil, c.copies(c.topic(name)))
					e.Must(err)
				}
			}
		},
		act: func(e *Env, _ []*contender) {
			admin, err := e.Source.Admin()
			e.Must(err)
			defer admin.Close()
			grows := e.Prefix + ".grows"
			e.numbers(e.Source, grows, 0, 0, 10)
			grown, err := admin.UpdatePartitions(e.Context(), 3, grows)
			e.Must(err)
			e.Must(grown.Error())
			e.numbers(e.Source, grows, 2, 10, 20)
			e.numbers(e.Source, grows, 0, 20, 30)
			e.numbers(e.Source, e.Prefix+".narrow", 2, 0, 5)
			e.numbers(e.Source, e.Prefix+".wide", 1, 0, 5)
		},
		see: seeAll(seeRecords("grows"), seeRecords("wide"), seeRecords("narrow"), func(w world, c *contender, v differences.View) {
			for _, name := range []string{"grows", "wide", "narrow"} {
				v["partitions of "+name] = fmt.Sprint(w.target.partitions[c.copies(c.topic(name))])
			}
		}),
		want: differences.View{"records of grows": "0–9, 20–29; in 2: 10–19", "partitions of wide": "5", "partitions of narrow": "3", "records of narrow": "in 2: 0–4", "records of wide": "in 1: 0–4"},
	},
	{
		name: "topics.exclude",
		before: func(e *Env, _ []*contender) {
			e.Topic(e.Source, "secret-one", 1)
			e.Topic(e.Source, "a.open", 1)
		},
		see: func(w world, c *contender, v differences.View) {
			for _, name := range []string{"secret-one", "a.open", "a.internal", "a-internal", "a.replica"} {
				for _, alias := range []string{c.east, c.north} {
					if _, there := w.target.partitions[alias+"."+c.topic(name)]; there {
						v["copy of "+name+" over the link from "+c.normal(alias)] = "there"
					}
				}
			}
		},
		want: differences.View{"copy of a.open over the link from north": "there", "copy of a.replica over the link from north": "there", "copy of secret-one over the link from east": "there"},
	},
	{
		name: "settings",
		before: func(e *Env, _ []*contender) {
			e.Topic(e.Source, "settings", 2, "cleanup.policy", "compact,delete", "retention.ms", "123456789", "min.insync.replicas", "1", "compression.type", "zstd",
				"message.timestamp.type", "LogAppendTime", "max.message.bytes", "2000000", "unclean.leader.election.enable", "true", "follower.replication.throttled.replicas", "*")
		},
		act: func(e *Env, all []*contender) {
			e.set(e.Source, e.Prefix+".settings", "retention.ms=222222222", "compression.type", "segment.bytes=1048576")
			for _, c := range all {
				e.set(e.Target, c.copies(c.topic("settings")), "delete.retention.ms=5555", "min.insync.replicas=1")
			}
		},
		see: func(w world, c *contender, v differences.View) {
			for _, alias := range []string{c.east, c.north} {
				for key, value := range w.target.settings[alias+"."+c.topic("settings")] {
					v[key+" of the copy over the link from "+c.normal(alias)] = value
				}
			}
		},
		want: differences.View{
			"retention.ms of the copy over the link from east": "222222222", "segment.bytes of the copy over the link from east": "1048576",
			"min.insync.replicas of the copy over the link from east": "1", "retention.ms of the copy over the link from north": "123456789",
		},
	},
	{
		name: "ACLs",
		before: func(e *Env, _ []*contender) {
			topic := e.Topic(e.Source, "acls", 1)
			for _, a := range rows() {
				e.grant(e.Source, topic, a)
			}
			e.grant(e.Source, e.Prefix+".absent", acl{"LITERAL", "reader", "*", "READ", "ALLOW"})
		},
		act: func(e *Env, all []*contender) {
			topic := e.Prefix + ".acls"
			e.Until(3*time.Minute, "ACLs of all copies", func() string {
				for _, c := range all {
					if n := len(e.acls(e.Target, c.copies(topic))); n < 16 {
						return fmt.Sprintf("%s has %d", c.name, n)
					}
				}
				return ""
			})
			for _, c := range all {
				e.grant(e.Target, c.copies(topic), acl{"LITERAL", "by-hand", "*", "READ", "ALLOW"})
			}
			e.take(e.Source, topic, "allow-read")
			e.grant(e.Source, topic, acl{"LITERAL", "later", "*", "READ", "ALLOW"})
		},
		see: func(w world, c *contender, v differences.View) {
			for _, name := range []string{"acls", "absent"} {
				for _, a := range w.target.acls[c.copies(c.topic(name))] {
					what := fmt.Sprintf("ACL of the copy of %s: %s %s for %s from %s, %s", name, a.Permission, a.Operation, a.Principal, a.Host, strings.ToLower(a.Pattern))
					if a.Principal == "allow-read" {
						what += ", which has been taken away at the source"
					}
					v[what] = "there"
				}
			}
		},
		want: differences.View{
			"ACL of the copy of acls: ALLOW READ for later from *, literal":    "there",
			"ACL of the copy of acls: ALLOW READ for by-hand from *, literal":  "there",
			"ACL of the copy of absent: ALLOW READ for reader from *, literal": "there",
		},
	},
	{
		name: "both ways",
		before: func(e *Env, _ []*contender) {
			for _, b := range []*kafka.Broker{e.Source, e.Target} {
				e.Topic(b, "round", 1)
			}
		},
		act: func(e *Env, _ []*contender) {
			e.numbers(e.Source, e.Prefix+".round", 0, 0, 10)
			e.numbers(e.Target, e.Prefix+".round", 0, 100, 110)
		},
		see: func(w world, c *contender, v differences.View) {
			for name, h := range map[string]holdings{"source": w.source, "target": w.target} {
				for topic := range h.partitions {
					if strings.HasSuffix(topic, ".round") && strings.Contains(topic, "-"+c.name+"-") {
						v["records of "+c.normal(topic)+" on the "+name] = numbersOf(h.records[topic])
					}
				}
			}
		},
		want: differences.View{"records of west.round on the source": "100–109", "records of east.round on the target": "0–9"},
	},
}

// nameScenarios are about names that the worker's settings decide on in the dedicated mode: through REST, a connector's do.
var nameScenarios = []scenario{
	{
		name: "replication.policy.separator",
		see: func(w world, c *contender, v differences.View) {
			for where, h := range map[string]holdings{"source": w.source, "target": w.target} {
				for topic := range h.partitions {
					if strings.Contains(topic, c.group("south")) || strings.Contains(topic, c.group("other")) {
						v[c.normal(topic)+" on the "+where] = "there"
					}
				}
			}
		},
	},
	{
		name:   "circle",
		before: func(e *Env, _ []*contender) { e.Topic(e.Source, "circle-jr", 1); e.Topic(e.Source, "circle-or", 1) },
		act: func(e *Env, all []*contender) {
			for _, c := range all {
				if c.mode != differences.REST {
					continue
				}
				topic := c.topic("circle-" + c.name)
				e.numbers(e.Source, topic, 0, 0, 1)
				e.Until(3*time.Minute, "two copies by "+c.name, func() string {
					if n := len(e.values(e.Source, topic, 0)); n < 3 {
						return fmt.Sprint(n)
					}
					return ""
				})
				if !c.java {
					e.Until(3*time.Minute, "the circle to be cut", func() string {
						log, err := os.ReadFile(c.fleet.Workers[0].Log())
						e.Must(err)
						before := len(e.values(e.Source, topic, 0)) + len(e.values(e.Target, topic, 0))
						e.Pass(time.Second)
						if after := len(e.values(e.Source, topic, 0)) + len(e.values(e.Target, topic, 0)); after != before || !strings.Contains(string(log), "topic left out") {
							return fmt.Sprint(after, " records, ", before, " before")
						}
						return ""
					})
				}
				for _, b := range []*kafka.Broker{e.Source, e.Target} {
					e.numbers(b, topic, 0, 1, 2)
				}
			}
		},
		see: func(w world, c *contender, v differences.View) {
			if c.mode != differences.REST {
				return
			}
			most := 0
			for _, h := range []holdings{w.source, w.target} {
				n := 0
				for _, r := range h.records[c.topic("circle-"+c.name)] {
					if string(r.Value) == "1" {
						n++
					}
				}
				most = max(most, n)
			}
			v["a record that is written at both ends of a circle"] = "goes round"
			if most <= 2 {
				v["a record that is written at both ends of a circle"] = "goes one way, once"
			}
		},
		after: func(e *Env, all []*contender) {
			for _, c := range all {
				if c.mode == differences.REST {
					for _, name := range []string{"circle-there", "circle-back"} {
						status, answer, err := e.ask(e.Context(), http.MethodDelete, c.url()+"/connectors/"+c.group(name), "")
						e.Must(err)
						if status != http.StatusNoContent {
							e.t.Errorf("delete %s of %s: %d %s", name, c.name, status, answer)
						}
					}
				}
			}
		},
	},
}

// recordScenarios are about what becomes of records while all is well.
var recordScenarios = []scenario{
	{
		name: "records",
		act: func(e *Env, _ []*contender) {
			e.Topic(e.Source, "records", 2)
			e.Topic(e.Source, "stamped", 1, "message.timestamp.type", "LogAppendTime")
			e.numbers(e.Source, e.Prefix+".stamped", 0, 0, 5)
			e.everyKind(e.Prefix + ".records")
			headers := e.Topic(e.Source, "headers", 1)
			e.numbers(e.Source, headers, 0, 0, 1, func(r *kgo.Record) {
				r.Headers = []kgo.RecordHeader{{Key: "h", Value: nil}, {Key: "h", Value: []byte{}}, {Key: "", Value: []byte("x")}, {Key: "h", Value: []byte("1")}, {Key: "i", Value: []byte{0xff}}}
			})
		},
		see: func(w world, c *contender, v differences.View) {
			for _, name := range []string{"records", "stamped"} {
				at, copied := w.source.records[c.topic(name)], w.target.records[c.copies(c.topic(name))]
				v["records of "+name] = sameRecords(at, copied)
				v["codecs of "+name], v["kind of timestamps of "+name] = attributes(copied)
			}
			for _, r := range w.target.records[c.copies(c.topic("headers"))] {
				var all []string
				for _, h := range r.Headers {
					all = append(all, fmt.Sprintf("%s=%q", h.Key, h.Value))
				}
				v["headers of a record, without header.converter in the configuration"] = strings.Join(all, " ")
			}
		},
		want: differences.View{"records of records": "as at the source", "records of stamped": "as at the source"},
	},
	{
		name: "transactions",
		act: func(e *Env, _ []*contender) {
			topic := e.Topic(e.Source, "transactions", 1)
			client, err := e.Source.Client(kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			e.Must(err)
			defer client.Close()
			for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
				e.Must(client.BeginTransaction())
				for n := range 10 {
					e.Must(client.ProduceSync(e.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, 10*i+n)}).FirstErr())
				}
				e.Must(txn.End(e.Context(), client, end))
			}
		},
		see: seeAll(seeRecords("transactions"), func(w world, c *contender, v differences.View) {
			v["records of transactions, of which 10–19 are aborted, over the link with isolation.level=read_committed"] = numbersOf(w.target.records[c.north+"."+c.topic("transactions")])
		}),
		want: differences.View{
			"records of transactions": "0–29", "records of transactions, of which 10–19 are aborted, over the link with isolation.level=read_committed": "0–9, 20–29",
		},
	},
}

// everyKind writes records of all kinds, in all codecs, to two partitions of a topic.
func (e *Env) everyKind(topic string) {
	e.t.Helper()
	kinds := []*kgo.Record{
		{Key: []byte("k"), Value: []byte("v")},
		{Key: nil, Value: []byte{}},
		{Key: []byte{}, Value: nil},
		{Key: []byte{0xff, 0}, Value: []byte{0xfe, 0x80}},
		{Key: nil, Value: nil},
		{Key: []byte("long"), Value: slices.Repeat([]byte("0123456789"), 2000)},
	}
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		client, err := e.Source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
		e.Must(err)
		var records []*kgo.Record
		for p := range int32(2) {
			for j, kind := range kinds {
				r := *kind
				// Times go back and forth, and begin with 1970.
				r.Topic, r.Partition, r.Timestamp = topic, p, time.UnixMilli(int64((i*7+j)*37%23)*86_400_000)
				records = append(records, &r)
			}
		}
		e.Must(client.ProduceSync(e.Context(), records...).FirstErr())
		client.Close()
	}
}

// sameRecords compares a copy with its source, record by record: partition, key, value, headers and timestamp.
func sameRecords(source, copied []*kgo.Record) string {
	text := func(r *kgo.Record) string {
		all := fmt.Sprintf("partition %d time %d key %q %t value %q %t", r.Partition, r.Timestamp.UnixMilli(), r.Key, r.Key == nil, r.Value, r.Value == nil)
		for _, h := range r.Headers {
			all += fmt.Sprintf(" %q=%q %t", h.Key, h.Value, h.Value == nil)
		}
		return all
	}
	for i := range min(len(source), len(copied)) {
		if s, c := text(source[i]), text(copied[i]); s != c {
			return fmt.Sprintf("record %d: %.200s in place of %.200s", i, c, s)
		}
	}
	if len(source) != len(copied) || len(source) == 0 {
		return fmt.Sprintf("%d of %d", len(copied), len(source))
	}
	return "as at the source"
}

// attributes tells the codecs of batches, in their order, and the kind of their timestamps.
func attributes(records []*kgo.Record) (codecs, kind string) {
	var all, kinds []string
	for _, r := range records {
		if r.Partition > 0 {
			break
		}
		all = append(all, []string{"none", "gzip", "snappy", "lz4", "zstd"}[r.Attrs.CompressionType()])
		kinds = append(kinds, map[int8]string{0: "CreateTime", 1: "LogAppendTime"}[r.Attrs.TimestampType()])
	}
	return strings.Join(slices.Compact(all), ", "), strings.Join(slices.Compact(kinds), ", ")
}
