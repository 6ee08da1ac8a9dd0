package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/mirror"
	"barnabas/e2e/differences"
	"barnabas/e2e/kafka"
)

// Topics of the groups: how many records they have, all in one partition.
var groupTopics = map[string]int{"long": 1000, "idle": 60, "empty": 0}

// commits are the groups of each contender that are there before anything runs, with the topic and the offset that they have committed.
var commits = map[string]struct {
	topic string
	at    int64
}{
	"g-start": {"long", 0}, "g-middle": {"long", 537}, "g-end": {"long", 1000}, "g-beyond": {"long", 5000}, "g-of-nothing": {"empty", 0},
	console + "group": {"long", 1000},
	"g-absent":        {"idle", 60}, "g-behind": {"idle", 60}, "g-ahead": {"idle", 30}, "g-active": {"idle", 60}, "g-next": {"idle", 60}, "g-left": {"idle", 60}, "g-back": {"idle", 60},
}

// groupScenarios are about MirrorMaker's own topics, and groups.
var groupScenarios = []scenario{
	{
		name: "heartbeats",
		see: func(w world, c *contender, v differences.View) {
			for where, records := range map[string][]*kgo.Record{
				"heartbeats on the source": w.source.records["heartbeats"], "heartbeats on the target": w.target.records["heartbeats"],
				"east.heartbeats on the target": w.target.records[c.east+".heartbeats"], "west.heartbeats on the source": w.source.records[c.west+".heartbeats"],
			} {
				for _, r := range records {
					if h, err := mirror.DecodeHeartbeat(r.Key, r.Value); err != nil {
						v["records of "+where] = err.Error()
					} else if h.Source == c.east || h.Target == c.east || h.Source == c.north || h.Target == c.north {
						v[fmt.Sprintf("%s of %s→%s, headers, partition", where, c.normal(h.Source), c.normal(h.Target))] = fmt.Sprint(len(r.Headers), r.Partition)
					}
				}
			}
		},
		want: differences.View{"heartbeats on the target of east→west, headers, partition": "0 0"},
	},
	{
		name:   "offset-syncs",
		before: func(e *Env, _ []*contender) { e.groupTopics() },
		see: func(w world, c *contender, v differences.View) {
			topic := "mm2-offset-syncs." + c.west + ".internal"
			v["the topic"] = fmt.Sprint(w.source.partitions[topic], " ", w.source.settings[topic])
			var first, last, wrong string
			for _, r := range w.source.records[topic] {
				o, err := mirror.DecodeOffsetSync(r.Key, r.Value)
				switch {
				case err != nil:
					wrong = err.Error()
				case o.Topic != c.topic("long"):
				default:
					if first == "" {
						first = fmt.Sprintf("%d→%d", o.Upstream, o.Downstream)
					}
					last = fmt.Sprintf("%d→%d", o.Upstream, o.Downstream)
					// The values of that topic are their offsets.
					if at := valueAt(w.target.records[c.copies(o.Topic)], o.Downstream); at != fmt.Sprint(o.Upstream) {
						wrong = fmt.Sprintf("%s is %s", last, at)
					}
				}
			}
			v["first sync of long"], v["last sync of long"], v["wrong syncs of long"] = first, last, wrong
		},
		want: differences.View{"first sync of long": "0→0", "last sync of long": "999→999", "wrong syncs of long": ""},
	},
	{
		name:   "checkpoints",
		before: func(e *Env, all []*contender) { e.commitAll(all) },
		see: func(w world, c *contender, v differences.View) {
			topic := c.east + ".checkpoints.internal"
			v["the topic"] = fmt.Sprint(w.target.partitions[topic], " ", w.target.settings[topic])
			for _, r := range w.target.records[topic] {
				k, err := mirror.DecodeCheckpoint(r.Key, r.Value)
				if err != nil {
					v["records of the topic"] = err.Error()
					continue
				}
				group := c.normal(k.Group)
				if commits[group].topic != "long" && commits[group].topic != "empty" {
					continue // of the groups whose offsets change
				}
				what := fmt.Sprintf("checkpoint of %s, at %d of %s", strings.TrimPrefix(group, "g-"), k.Upstream, c.normal(k.Topic))
				v[what] = place(w.target.records[k.Topic], k.Upstream, k.Downstream, groupTopics[commits[group].topic])
				if k.Metadata != "of "+group {
					v[what+": metadata"] = k.Metadata
				}
			}
		},
		want: differences.View{"checkpoint of end, at 1000 of east.long": "at the same record"},
	},
	{
		name:   "group sync",
		before: func(e *Env, all []*contender) { e.members(all) },
		act:    func(e *Env, all []*contender) { e.groupsMove(all) },
		see: func(w world, c *contender, v differences.View) {
			for name, of := range commits {
				copied := c.copies(c.topic(of.topic))
				at, there := w.target.groups[c.group(name)][copied][0]
				if !there {
					continue
				}
				what := fmt.Sprintf("target offset of %s, at %d of %s", strings.TrimPrefix(name, "g-"), of.at, of.topic)
				v[what] = fmt.Sprint(at.At)
				if of.topic != "idle" {
					v[what] = place(w.target.records[copied], of.at, at.At, groupTopics[of.topic])
				}
				if at.Metadata != "of "+name {
					v[what+": metadata"] = at.Metadata
				}
			}
		},
		want: differences.View{
			"target offset of absent, at 60 of idle": "60", "target offset of behind, at 60 of idle": "60", "target offset of ahead, at 30 of idle": "50",
			"target offset of left, at 60 of idle": "60", "target offset of back, at 60 of idle": "60", "target offset of end, at 1000 of long": "at the same record",
		},
	},
	{
		name: "Connect's offsets",
		see: func(w world, c *contender, v differences.View) {
			for key, value := range latest(c.internal(w, "offset", c.east)) {
				// Connectors have the names of their classes in the dedicated mode.
				key = strings.NewReplacer("MirrorSourceConnector", "source", "MirrorCheckpointConnector", "checkpoint", "MirrorHeartbeatConnector", "heartbeat").Replace(c.normal(key))
				var parts []any
				if json.Unmarshal([]byte(key), &parts) != nil || len(parts) != 2 {
					v["record with the key "+key] = value
					continue
				}
				of, _ := parts[1].(map[string]any)
				switch {
				case of["acls"] != nil:
					v["records of the source connector about ACLs"] = "there"
				case of["topic"] == nil || of["topic"] == "long" || of["topic"] == "east.long":
					v[key] = value
				}
			}
		},
		want: differences.View{`["source",{"cluster":"east","partition":0,"topic":"long"}]`: `{"offset":999}`},
	},
	{
		name: "states",
		see: func(w world, c *contender, v differences.View) {
			for name, class := range map[string]string{"source": "MirrorSourceConnector", "checkpoint": "MirrorCheckpointConnector", "heartbeat": "MirrorHeartbeatConnector"} {
				v["states of the tasks of the "+class] = c.states(w, name, class, c.east)
			}
		},
		want: differences.View{"states of the tasks of the MirrorSourceConnector": "RUNNING, RUNNING"},
	},
	{
		name: "internal topics",
		see: func(w world, c *contender, v differences.View) {
			own := regexp.MustCompile(regexp.QuoteMeta(c.e.Prefix+"-"+c.name) + "-(east|north|west|config|offset|status)([.]|$)")
			for where, h := range map[string]holdings{"source": w.source, "target": w.target, "workers' cluster": w.hub} {
				for topic, n := range h.partitions {
					if own.MatchString(topic) && !strings.Contains(topic, c.e.Prefix+".") {
						v[fmt.Sprintf("%s on the %s", c.normal(topic), where)] = fmt.Sprintf("%d partitions, %v", n, h.settings[topic])
					}
				}
			}
		},
		want: differences.View{"east.checkpoints.internal on the target": "1 partitions, map[cleanup.policy:compact]"},
	},
}

// valueAt is the value of the first record that stands at an offset or behind.
func valueAt(records []*kgo.Record, offset int64) string {
	for _, r := range records {
		if r.Offset >= offset {
			return string(r.Value)
		}
	}
	return "the end"
}

// place tells where a group that is at an offset of the source goes on: the values of its topic, n records, are their offsets.
func place(copied []*kgo.Record, upstream, downstream int64, n int) string {
	goesOn := valueAt(copied, downstream)
	switch want := fmt.Sprint(upstream); {
	case upstream > int64(n) && goesOn == "the end":
		return "at the end"
	case goesOn == want || upstream == int64(n) && goesOn == "the end":
		return "at the same record"
	case goesOn == "the end" || len(goesOn) > len(want) || len(goesOn) == len(want) && goesOn > want:
		return "behind it: leaves records out"
	}
	return "before it: records come again"
}

// groupTopics makes the topics of the groups.
func (e *Env) groupTopics() {
	e.t.Helper()
	for name, n := range groupTopics {
		e.numbers(e.Source, e.Topic(e.Source, name, 1), 0, 0, n)
	}
}

// commit commits the offset of a group in partition 0 of a topic.
func (e *Env) commit(b *kafka.Broker, group, topic string, at int64, metadata string) {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1, Metadata: metadata})
	e.Must(admin.CommitAllOffsets(e.Context(), group, offsets))
}

func (e *Env) commitAll(all []*contender) {
	e.t.Helper()
	for _, c := range all {
		for name, of := range commits {
			e.commit(e.Source, c.group(name), c.topic(of.topic), of.at, "of "+name)
		}
	}
}

// members are the groups of the target, each with a member that commits nothing, and the offsets that they all have there.
func (e *Env) members(all []*contender) {
	e.t.Helper()
	admin, err := e.Target.Admin()
	e.Must(err)
	defer admin.Close()
	for _, c := range all {
		copied := c.copies(c.topic("idle"))
		_, err := admin.CreateTopic(e.Context(), 1, 1, nil, copied)
		e.Must(err)
		for name, at := range map[string]int64{"g-behind": 10, "g-ahead": 50, "g-active": 5, "g-next": 5, "g-left": 5} {
			e.commit(e.Target, c.group(name), copied, at, "of "+name)
		}
		e.join(c.group("g-active"), copied)
		e.join(c.group("g-next"), copied, kgo.ServerSideBalancer())
		c.leave = e.join(c.group("g-left"), copied)
	}
}

// groupsMove has a group of the target lose its member, and one of the source go back once it has been translated.
func (e *Env) groupsMove(all []*contender) {
	e.t.Helper()
	for _, c := range all {
		c.leave()
		e.Until(3*time.Minute, "a translation by "+c.name, func() string {
			at, err := e.look(e.Context())
			if err != nil {
				return err.Error()
			}
			if o := at.target.groups[c.group("g-back")][c.copies(c.topic("idle"))][0]; o.At != 60 {
				return fmt.Sprint(o)
			}
			return ""
		})
		e.commit(e.Source, c.group("g-back"), c.topic("idle"), 20, "of g-back")
	}
}

// join makes a member of a group of the target that commits nothing, and returns when the group has it.
func (e *Env) join(group, topic string, opts ...kgo.Opt) (leave func()) {
	e.t.Helper()
	member, err := e.Target.Client(slices.Concat([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit()}, opts)...)
	e.Must(err)
	e.t.Cleanup(member.Close)
	e.Until(4*time.Minute, "membership of "+group, func() string {
		if id, generation := member.GroupMetadata(); id == "" || generation <= 0 {
			return fmt.Sprint("generation ", generation)
		}
		return ""
	})
	return member.Close
}
